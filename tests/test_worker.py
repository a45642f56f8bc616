"""The worker's queue and batches, and the models that it loads."""

import json
import os
import shutil
import threading
import weakref
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from serving import LONG, wait_for

import checkpoint
import serve
from configurator import UserError
from generation import worker as worker_module
from generation.catalog import Catalog
from generation.compiled import CompiledDecoder
from generation.completions import ApiError, Delta, parse_candidates, parse_completion
from generation.jobs import CandidatesJob, CompletionJob, Finished, Waiting
from generation.server import Api
from generation.worker import Worker

SETTINGS = serve.Settings(device="cpu", dtype="float32")


@contextmanager
def started(run: Path):
    """A worker with the model of a run."""
    worker = Worker(serve.ModelLoader(Catalog(run, run.parent), SETTINGS), max_queue=64)
    worker.start()
    worker.wait_until_ready()
    yield worker
    worker.stop()
    worker.join()


@pytest.fixture
def worker(workplace):
    with started(workplace / "out/tiny") as worker:
        yield worker


@pytest.fixture
def batches(monkeypatch):
    """The number of texts in each batch that is generated."""
    sizes, whole = [], worker_module.generate

    def generate(model, tokenizer, batch, *more):
        sizes.append(len(batch))
        return whole(model, tokenizer, batch, *more)

    monkeypatch.setattr(worker_module, "generate", generate)
    return sizes


class Client:
    """A job and what it emitted."""

    def __init__(self, parse=parse_completion, Job=CompletionJob, **body):
        request = parse(body, LONG) if parse is parse_completion else parse(body)
        self.events = []
        self.job = Job(request, self.events.append)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    @property
    def places(self) -> list[int]:
        return [event.place for event in self.events if isinstance(event, Waiting)]


def completion(prompt: str = "却说", **body) -> Client:
    return Client(prompt=prompt, **{"max_tokens": 8, **body})


def wait_behind(worker: Worker, *clients: Client) -> None:
    """Submit all while another request runs, which ends then; wait until all are finished."""
    first = completion(max_tokens=LONG, top_k=3)
    worker.submit(first.job)
    wait_for(lambda: first.text)
    for client in clients:
        worker.submit(client.job)
    worker.cancel(first.job)
    wait_for(lambda: all(client.job.finished for client in clients))


def test_waiting_requests_with_the_same_settings_are_one_batch(worker, batches):
    clients = [
        completion(n=2),
        completion(max_tokens=5, stop="。"),
        completion("且说", top_k=5),
        completion("且说", n=3),
    ]
    wait_behind(worker, *clients)
    assert batches == [1, 6, 1]
    assert [len([c for c in client.job.choices if c.done]) for client in clients] == [2, 1, 1, 3]
    assert clients[1].job.usage()["completion_tokens"] <= 5 and clients[3].job.usage()["completion_tokens"] == 24


def test_batch_is_limited(worker, batches, monkeypatch):
    monkeypatch.setattr(worker_module, "max_batch_size", lambda *_: 3)
    wait_behind(worker, completion(n=2), completion(n=2), completion(), completion(n=7))
    assert batches == [1, 3, 2, 3, 3, 1]


def test_requests_with_a_seed_or_another_prefix_have_their_own_batch(worker, batches):
    wait_behind(worker, completion(), completion(seed=1), completion(prefix="阿"), completion(prefix="青"))
    assert batches == [1, 1, 2, 1] or batches == [1, 1, 1, 2]


def test_prompts_of_very_different_length_are_not_one_batch(worker, batches):
    wait_behind(worker, completion("却说"), completion("却说阿青老道"), completion("却说阿青行至山门"))
    assert batches == [1, 2, 1]


def test_seeded_text_is_the_same_alone_and_with_others_where_a_decoder_takes_one_text(worker, batches, monkeypatch):
    class SingleText(CompiledDecoder):
        """Computes other logits for one text than the model for several."""

        def __init__(self, model):
            self.model, self.new_cache = model, model.new_cache

        def next_logits(self, idx, cache):
            return self.model.next_logits(idx, cache) * (0.5 if len(idx) == 1 else 1)

    model = worker.load("").model
    monkeypatch.setattr(model, "decoder", SingleText(model))
    clients = [completion(seed=1), completion(seed=1, n=3)]
    wait_behind(worker, *clients)
    assert batches == [1, 1, 1, 1, 1] and clients[1].job.choices[0].text == clients[0].text


def test_requests_are_served_in_their_order(worker):
    order, clients = [], [completion(seed=seed) for seed in range(6)]
    for number, client in enumerate(clients):
        client.job.emit = lambda event, number=number: isinstance(event, Finished) and order.append(number)
    wait_behind(worker, *clients)
    assert order == list(range(6))


def test_places_are_told(worker):
    clients = [completion(seed=seed) for seed in range(3)]
    wait_behind(worker, *clients)
    assert [client.places for client in clients] == [[1, 0], [2, 1, 0], [3, 2, 1, 0]]


def test_request_in_a_batch_that_is_cancelled_does_not_end_the_others(worker):
    gone, other = completion(max_tokens=LONG), completion(max_tokens=50)
    gone.job.emit = lambda event: isinstance(event, Delta) and worker.cancel(gone.job)
    wait_behind(worker, gone, other)
    assert gone.job.usage()["completion_tokens"] <= 2 and other.job.choices[0].new_tokens == 50


def test_text_that_is_done_is_finished_before_the_batch(worker):
    long, short = completion(max_tokens=LONG), completion(max_tokens=3)
    first = completion(max_tokens=LONG, top_k=3)
    for client in (first, long, short):
        worker.submit(client.job)
    worker.cancel(first.job)
    wait_for(lambda: short.job.finished)
    assert not long.job.finished
    worker.cancel(long.job)


def test_bad_prompt_does_not_end_the_batch(worker):
    good, bad = completion(), Client(prompt=[10**6], max_tokens=8)
    wait_behind(worker, good, bad)
    assert isinstance(bad.events[-1], ApiError) and isinstance(good.events[-1], Finished) and good.text


def test_error_of_the_model_ends_the_request_and_not_the_worker(worker, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "generate", lambda *_: 1 / 0)
        client = completion()
        worker.submit(client.job)
        wait_for(lambda: client.job.finished)
    assert client.events[-1].status == 500 and "ZeroDivisionError" in capsys.readouterr().err
    wait_behind(worker, again := completion())
    assert again.text


def test_lack_of_memory_is_named(worker, monkeypatch, capsys):
    def generate(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(worker_module, "generate", generate)
    worker.submit((client := completion()).job)
    wait_for(lambda: client.job.finished)
    error = client.events[-1]
    assert error.status == 503 and error.body["error"]["code"] == "out_of_memory" and not capsys.readouterr().err


def test_error_in_candidates_does_not_end_the_text(worker, monkeypatch):
    running = completion(max_tokens=LONG)
    worker.submit(running.job)
    wait_for(lambda: running.text)
    monkeypatch.setattr("generation.jobs.find_candidates", lambda *_: 1 / 0)
    bad = Client(parse_candidates, CandidatesJob, prompt="却说")
    worker.submit(bad.job)
    wait_for(lambda: bad.job.finished)
    length = len(running.text)
    wait_for(lambda: len(running.text) > length)
    assert bad.events[-1].status == 500 and not running.job.finished


def test_stop_ends_all_requests_with_an_error(worker):
    running, waiting = completion(max_tokens=LONG), completion(seed=1)
    worker.submit(running.job)
    wait_for(lambda: running.text)
    worker.submit(waiting.job)
    worker.stop()
    worker.join()
    assert running.events[-1].status == waiting.events[-1].status == 503
    with pytest.raises(ApiError, match="ended"):
        worker.submit(completion().job)


def test_full_queue_refuses(worker):
    worker.max_queue = 2
    worker.submit((first := completion(max_tokens=LONG)).job)
    wait_for(lambda: first.text)
    for seed in (1, 2):
        worker.submit(completion(seed=seed).job)
    with pytest.raises(ApiError) as caught:
        worker.submit(completion().job)
    assert caught.value.status == 429 and caught.value.headers["Retry-After"] == "5"


def test_emit_is_called_in_the_workers_thread_only_while_it_works(worker):
    threads = set()
    client = completion()
    client.job.emit = lambda event: threads.add((type(event), threading.current_thread().name))
    worker.submit(client.job)
    wait_for(lambda: client.job.finished)
    assert (Delta, "worker") in threads and (Finished, "worker") in threads


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(workplace, tmp_path, monkeypatch) -> Path:
    """out/ with two runs, the first of which is older, and a folder that is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        shutil.copytree(workplace / "out/tiny", f"out/{name}")
    for folder in checkpoint.checkpoints(tmp_path / "out/old"):
        os.utime(folder, (1, 1))
    Path("out/empty").mkdir()
    return tmp_path


def test_catalog_has_the_default_first_and_then_the_newest(runs):
    shutil.copytree("out/new", "elsewhere/third")
    catalog = Catalog(Path("elsewhere/third"), Path("out"))
    models = catalog.list()
    assert [(model["id"], model["default"]) for model in models] == [("third", True), ("new", False), ("old", False)]
    assert not any("path" in model or str(runs) in json.dumps(model) for model in models)
    assert catalog.find("") == ("third", Path("elsewhere/third")) and catalog.find("old") == ("old", Path("out/old"))


@pytest.mark.parametrize("model_id", ["none", "empty", "..", "../new", "new/ckpt-00000040", "/etc", "out/new"])
def test_catalog_has_no_other_way_to_a_folder(runs, model_id):
    with pytest.raises(ApiError, match="there is no model") as caught:
        Catalog(Path("out/new"), Path("out")).find(model_id)
    assert caught.value.status == 404


def test_catalog_names_a_checkpoint_after_its_run(runs):
    catalog = Catalog(Path("out/new/ckpt-00000040"), Path("out"))
    assert list(catalog.folders()) == ["new/ckpt-00000040", "new", "old"]


def test_catalog_leaves_out_what_cannot_be_read(runs):
    (checkpoint.checkpoints(runs / "out/old")[0] / "config.json").write_text("{")
    catalog = Catalog(Path("out/new"), Path("out"))
    assert [model["id"] for model in catalog.list()] == ["new"]
    with pytest.raises(ApiError, match="config.json") as caught:
        Api(None, catalog, max_tokens=1).model(SimpleNamespace(path_params={"model_id": "old"}))
    assert caught.value.status == 503


def test_catalog_describes_a_foreign_folder(bert_folder):
    (model,) = Catalog(bert_folder, bert_folder / "none").list()
    assert model["step"] is None and model["bits_per_char"] is None and model["context_window"] == 24


def test_loader_keeps_one_model_and_takes_a_better_checkpoint(runs, capsys):
    loader = serve.ModelLoader(Catalog(Path("out/new"), Path("out")), SETTINGS)
    first = loader("")
    assert loader("new") is first and loader("old").folder.parent.name == "old" and loader("") is not first
    better = runs / "out/new/ckpt-00000050"
    shutil.copytree(first.folder, better)
    metadata = json.loads((better / "trainer.json").read_text())
    (better / "trainer.json").write_text(json.dumps({**metadata, "val_loss": metadata["val_loss"] / 2}))
    assert loader("").folder.name == "ckpt-00000050" and capsys.readouterr().err.count("loading ") == 4


def test_request_that_waits_does_not_keep_its_model_in_memory(runs):
    loader, waiting = serve.ModelLoader(Catalog(Path("out/new"), Path("out")), SETTINGS), completion()
    waiting.job.prepare(loader("new"))
    model = weakref.ref(loader("new").model)
    model().decoder = SimpleNamespace(model=model())  # as a decoder refers to its model
    loader("old")
    assert model() is None


def test_worker_writes_with_the_model_that_is_named(runs):
    with started(Path("out/new")) as worker:
        wait_behind(worker, client := completion(model="old"))
        assert client.text and worker.load.loaded.folder.parent.name == "old"


def test_model_that_cannot_be_loaded_is_an_error_of_the_request(runs):
    (checkpoint.checkpoints("out/old")[0] / "model.safetensors").write_bytes(b"")
    with started(Path("out/new")) as worker:
        wait_behind(worker, bad := completion(model="old"), good := completion())
        assert bad.events[-1].status == 503 and "model.safetensors" in str(bad.events[-1]) and good.text


def test_worker_raises_what_its_first_model_raises(tmp_path):
    worker = Worker(serve.ModelLoader(Catalog(tmp_path / "none", tmp_path), SETTINGS), max_queue=1)
    worker.start()
    with pytest.raises(UserError, match="does not exist"):
        worker.wait_until_ready()
