"""The HTTP API: a real uvicorn on loopback, the official openai client, raw sockets."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys

import httpx
import openai
import pytest
import torch
from conftest import ENVIRONMENT, ROOT, WHOLE
from serving import LONG, copy_of_one_run, read_until, running_server, wait_for

import checkpoint
import serve
from configurator import UserError
from generation.security import Access
from model import filter_logits


@pytest.fixture(scope="module")
def workplace(workplace, tmp_path_factory):
    return copy_of_one_run(workplace, tmp_path_factory.mktemp("one-run"))


@pytest.fixture(scope="module")
def server(workplace):
    with running_server(workplace / "out/tiny") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def guarded(workplace):
    """A server with a key, which a page of another origin may use."""
    with running_server(workplace / "out/tiny", api_key="secret", allow_origin=("https://lite.example/",)) as running:
        yield running


def events(text: str) -> list[dict]:
    """The objects of a stream, without [DONE]."""
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


# -- the openai client -------------------------------------------------------------------------------------------------


def test_client_lists_the_models(client, server):
    (model,) = client.models.list().data
    assert model.id == "tiny" and model.object == "model" and client.models.retrieve("tiny") == model
    assert model.parameters == checkpoint.load_pretrained(server.catalog.default).num_params()
    assert model.context_window == 32
    assert model.default and model.step == 40 and 0 < model.bits_per_char < 10


def test_client_gets_what_generate_makes(client, server):
    answer = client.completions.create(model="tiny", prompt="却说阿青", max_tokens=40, seed=5)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-") and answer.model == "tiny"
    assert answer.choices[0].text == server.reference("却说阿青", 5, max_new_tokens=40)[0]
    assert answer.choices[0].finish_reason == "length" and answer.choices[0].logprobs is None
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 40, 44)


def test_client_streams_the_same_text(client, server):
    stream = client.completions.create(
        model="tiny", prompt="却说阿青", max_tokens=40, seed=5, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 44
    assert len({chunk.id for chunk in chunks}) == 1 and len(chunks) > 30
    texts = [chunk.choices[0].text for chunk in chunks[:-1]]
    assert "".join(texts) == server.reference("却说阿青", 5, max_new_tokens=40)[0] and max(map(len, texts)) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "length"]


def test_several_texts_are_rows_of_one_batch(client, server):
    answer = client.completions.create(model="tiny", prompt="却说", max_tokens=30, n=3, seed=5)
    texts = [choice.text for choice in answer.choices]
    assert texts == server.reference("却说", 5, n=3, max_new_tokens=30) and len(set(texts)) == 3
    assert [choice.index for choice in answer.choices] == [0, 1, 2] and answer.usage.completion_tokens == 90


def test_seed_gives_the_same_text_alone_and_in_a_batch(server):
    alone = server.text("却说", max_tokens=30, seed=5)
    assert server.text("却说", max_tokens=30, seed=5, n=4) == server.text("却说", max_tokens=30, seed=5) == alone
    assert server.text("却说", max_tokens=30, seed=6) != alone


def test_more_texts_than_fit_into_a_batch_are_the_same(server, monkeypatch):
    monkeypatch.setattr("generation.worker.max_batch_size", lambda *_: 2)
    answer = server.post(prompt="却说", max_tokens=20, n=5, seed=5, logprobs=0, temperature=WHOLE)
    expected = server.reference("却说", 5, n=5, max_new_tokens=20, temperature=WHOLE)
    assert [c["text"] for c in answer["choices"]] == expected
    assert all(len(c["logprobs"]["tokens"]) == 20 for c in answer["choices"])


def test_several_prompts_have_their_own_texts(client):
    answer = client.completions.create(model="tiny", prompt=["却说", "且说老道"], max_tokens=10, n=2, seed=5, echo=True)
    texts = [choice.text for choice in answer.choices]
    assert all(text.startswith("却说") for text in texts[:2]) and all(text.startswith("且说老道") for text in texts[2:])
    assert answer.usage.prompt_tokens == 2 + 4 and answer.usage.completion_tokens == 40


def test_token_ids_are_a_prompt(client, server):
    ids = server.worker.load("").tokenizer.encode("却说阿青").tolist()
    answer = client.completions.create(model="tiny", prompt=ids, max_tokens=10, seed=5, echo=True)
    assert answer.choices[0].text == "却说阿青" + server.text("却说阿青", max_tokens=10, seed=5)


def test_stop_is_not_returned(client, server):
    whole = server.text("却说", max_tokens=60, seed=5)
    stop = whole[20:22]
    for stream in (False, True):
        answer = client.completions.create(
            model="tiny", prompt="却说", max_tokens=60, seed=5, stop=[stop, "不在此处"], stream=stream
        )
        choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
        assert "".join(choice.text for choice in choices) == whole[: whole.index(stop)]
        assert choices[-1].finish_reason == "stop"


def test_stop_ends_the_work(server):
    answer = server.post(prompt="却说", max_tokens=LONG, seed=5, stop="，")
    assert answer["usage"]["completion_tokens"] < 1000


def test_stop_at_the_end_of_a_chapter_or_a_paragraph(server):
    settings = {"temperature": 2.0, "top_p": 1.0}
    for seed in range(20):  # until one has several paragraphs
        (whole,) = server.reference("却说", seed, max_new_tokens=5000, stop="chapter", **settings)
        if "\n" in whole:
            break
    body = {"prompt": "却说", "max_tokens": 5000, "seed": seed, **settings}
    for stop, text in (("[CLS]", whole), ("\n", whole.partition("\n")[0])):
        (choice,) = server.post(**body, stop=stop)["choices"]
        assert choice["text"] == text and choice["finish_reason"] == "stop"
    assert "\n" in whole and len(whole) < 5000


def test_logprobs_are_those_of_the_model(client, server):
    loaded = server.worker.load("")
    answer = client.completions.create(
        model="tiny", prompt=["却说", "却说阿青"], max_tokens=12, n=2, seed=5, logprobs=3, temperature=WHOLE
    )
    for choice in answer.choices:
        prompt, given = "却说" if choice.index < 2 else "却说阿青", choice.logprobs
        assert "".join(given.tokens) == choice.text and given.text_offset == list(range(12))
        ids = loaded.tokenizer.encode(prompt + choice.text).tolist()
        with torch.inference_mode():
            expected = loaded.model(torch.tensor([ids[:-1]]))[0][0, len(prompt) - 1 :].log_softmax(-1)
        own = expected.gather(1, torch.tensor(ids[len(prompt) :])[:, None])[:, 0]
        assert given.token_logprobs == pytest.approx(own.tolist(), abs=1e-4)
        for row, top, token in zip(expected, given.top_logprobs, given.tokens):
            best = row.topk(3)
            most_likely = {loaded.tokenizer.decode([i]): value for i, value in zip(best.indices, best.values.tolist())}
            assert top.keys() == most_likely.keys() | {token}
            assert all(top[text] == pytest.approx(value, abs=1e-4) for text, value in most_likely.items())


def test_stream_has_the_same_logprobs(server):
    body = {"prompt": "却说", "max_tokens": 12, "n": 2, "seed": 5, "logprobs": 2, "echo": True, "stop": "，"}
    expected = server.post(**body)["choices"]
    chunks = events(server.request("POST", "/v1/completions", {**body, "stream": True})[2])
    for choice in expected:
        parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        for name, values in choice["logprobs"].items():
            assert [value for part in parts for value in part["logprobs"][name]] == values
        assert "".join(part["text"] for part in parts) == choice["text"]


def test_echo_scores_the_prompt_and_the_text(client, server):
    settings = {"max_tokens": 5, "seed": 5, "temperature": WHOLE}
    answer = client.completions.create(model="tiny", prompt="却说阿青", logprobs=0, echo=True, **settings)
    (choice,) = answer.choices
    assert choice.text == "却说阿青" + server.text("却说阿青", **settings)
    assert choice.logprobs.token_logprobs[0] is None and choice.logprobs.top_logprobs[0] is None
    assert "".join(choice.logprobs.tokens) == choice.text and choice.logprobs.text_offset == list(range(9))
    again = client.completions.create(model="tiny", prompt=choice.text, max_tokens=0, logprobs=0, echo=True)
    assert again.choices[0].logprobs.token_logprobs[1:] == pytest.approx(choice.logprobs.token_logprobs[1:], abs=1e-4)
    assert again.usage.completion_tokens == 0 and again.choices[0].finish_reason == "length"


@pytest.mark.parametrize("prefix", ["", "白狐县令"])
def test_long_prompt_is_scored_with_half_a_window_of_context(server, prefix):
    loaded, prompt = server.worker.load(""), "却说阿青行至山门，听见钟声，便对老道道：“此去无妨。”" * 3
    (choice,) = server.post(prompt=prompt, prefix=prefix, max_tokens=0, echo=True, logprobs=0)["choices"]
    given, (fixed, ids) = choice["logprobs"]["token_logprobs"], map(loaded.tokenizer.encode, (prefix, prompt))
    assert len(given) == len(ids) == len(prompt) and (given[0] is None) == (prefix == "")
    room = 32 - len(fixed)
    for place in range(1, len(ids)):
        possible = []
        for start in range(max(0, place - room), max(0, place - room // 2) + 1):
            read = torch.tensor([[*fixed, *ids[start:place]]], dtype=torch.long)
            with torch.inference_mode():
                possible.append(loaded.model(read)[0][0, -1].log_softmax(-1)[int(ids[place])].item())
        assert any(given[place] == pytest.approx(value, abs=1e-4) for value in possible)


# -- context window and prefix -----------------------------------------------------------------------------------------


def test_prompt_longer_than_the_window_slides(server):
    prompt = "却说阿青行至山门，" * 10
    answer = server.post(prompt=prompt, max_tokens=40, seed=5)
    assert answer["choices"][0]["text"] == server.reference(prompt, 5, max_new_tokens=40)[0]
    assert answer["usage"]["prompt_tokens"] == 90


def test_prefix_stays_in_the_window(server):
    prefix, prompt = "白狐县令", "却说阿青行至山门，" * 10
    text = server.text(prompt, prefix=prefix, max_tokens=60, seed=5)
    assert text == server.reference(prefix + prompt, 5, keep=4, max_new_tokens=60)[0]
    assert text != server.text(prompt, max_tokens=60, seed=5)


def test_prefix_that_is_cut_is_named(server):
    answer = server.post(prompt="却说", prefix="白狐" * 20, max_tokens=5, logprobs=0, echo=True)
    assert "last 16 tokens" in answer["warnings"][0] and answer["choices"][0]["text"].startswith("却说")
    chunks = events(
        server.request("POST", "/v1/completions", {"prefix": "白狐" * 20, "stream": True, "presence_penalty": 1})[2]
    )
    assert len(chunks[0]["warnings"]) == 2 and not any("warnings" in chunk for chunk in chunks[1:])


def test_warnings_of_all_prompts_are_named(server):
    ids = server.worker.load("").tokenizer.encode("却说龘").tolist()
    for prompts in ([ids[:-1], ids], [ids, ids[:-1]]):
        assert len(server.post(prompt=prompts, max_tokens=3)["warnings"]) == 1


# -- candidates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.5, "top_k": 7, "top_p": 0.6, "min_p": 0.1, "repetition_penalty": 1.3},
        {"temperature": 3.0, "top_p": 1.0},
    ],
)
def test_candidates_are_what_filter_logits_leaves(server, params):
    loaded, prompt = server.worker.load(""), "却说阿青行至山门，" * 4
    given = server.post("/v1/candidates", prompt=prompt, count=50, **params)["candidates"]
    window = torch.tensor([loaded.tokenizer.encode(prompt)[-32:].tolist()])
    with torch.inference_mode():
        logits = loaded.model(window)[0][:, -1]
    allowed = torch.from_numpy(loaded.tokenizer.utf8_constraint(logits.size(1))[0][0])
    settings = {"temperature": 1.0, "top_p": 0.95, **params}
    filtered = filter_logits(logits.masked_fill(~allowed, -torch.inf), window, **settings).softmax(-1)[0]
    probability = logits.softmax(-1)[0]
    assert len(given) == 50 and [c["probability"] for c in given] == sorted(c["probability"] for c in given)[::-1]
    for candidate in given:
        i = candidate["token_id"]
        assert candidate["probability"] == pytest.approx(probability[i].item(), abs=1e-6)
        assert candidate["filtered"] == pytest.approx(filtered[i].item(), abs=1e-6)
        assert allowed[i]
    assert sum(c["filtered"] > 0 for c in given) == min(50, (filtered > 0).sum())


def test_candidates_are_texts(server):
    texts = {c["text"] for c in server.post("/v1/candidates", prompt="却说", count=50, temperature=0)["candidates"]}
    assert {"，", "道", "\n"} <= texts and len(texts) == 50


def test_candidates_at_temperature_0_are_one(server):
    given = server.post("/v1/candidates", prompt="却说", temperature=0)["candidates"]
    assert [candidate["filtered"] for candidate in given] == [1.0] + [0.0] * 9


def test_candidates_do_not_wait_for_a_text(server):
    with server.open_stream(seed=1) as stream:
        read_until(stream, "data: {")
        assert server.post("/v1/candidates", prompt="却说")["candidates"]
        assert server.worker.running
    server.wait_until_idle()


# -- clients that go away, queue ---------------------------------------------------------------------------------------


def test_client_that_goes_away_ends_the_work(server):
    with server.open_stream(seed=1, n=2) as stream:
        read_until(stream, "data: {")
    server.wait_until_idle()
    job = server.jobs[-1]
    assert job.cancelled and 0 < job.usage()["completion_tokens"] < LONG


def test_client_that_goes_away_without_a_stream_ends_the_work(server):
    with server.open_stream(stream=False):
        wait_for(lambda: server.worker.running)
    server.wait_until_idle()
    assert server.jobs[-1].cancelled and server.jobs[-1].usage()["completion_tokens"] < LONG


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_goes_away_while_it_waits_costs_nothing(server, stream):
    with server.open_stream(seed=1) as first:
        read_until(first, "data: {")
        with server.open_stream(seed=2, stream=stream):
            wait_for(lambda: server.worker.waiting)
            waiting = server.jobs[-1]
        wait_for(lambda: not server.worker.waiting)
        assert server.worker.running and waiting.cancelled and waiting.encoded_for is None
    server.wait_until_idle()


def test_client_that_goes_away_while_its_prompt_is_read_gets_one_token(server, monkeypatch):
    """The connection is closed in the forward pass over the prompt."""
    loaded, stream = server.worker.load(""), server.open_stream(prompt="", max_tokens=1)
    read_until(stream, "[DONE]")
    prefill = loaded.model.next_logits

    def close_and_read(idx, cache):
        if idx.size(1) == 7:
            stream.close()
            wait_for(lambda: server.jobs[-1].cancelled)
        return prefill(idx, cache)

    monkeypatch.setattr(loaded.model, "next_logits", close_and_read)
    stream = server.open_stream(prompt="却说阿青老道，")
    wait_for(lambda: server.jobs[-1].cancelled)
    server.wait_until_idle()
    assert server.jobs[-1].usage()["completion_tokens"] == 1


def test_client_that_goes_away_while_its_prompt_is_scored_ends_the_work(server):
    with server.open_stream(prompt="却说" * 15000, max_tokens=0, echo=True, logprobs=1, stream=False):
        wait_for(lambda: server.worker.running)
    server.wait_until_idle()
    assert server.jobs[-1].cancelled and not server.jobs[-1].finished


def test_place_in_the_queue_is_told(server):
    with server.open_stream(seed=1) as first:
        read_until(first, "data: {")
        with server.open_stream(seed=2) as second:
            assert read_until(second, ": queue 1\n\n").startswith("HTTP/1.1 200 OK")
            with server.open_stream(seed=3) as third:
                read_until(third, ": queue 2\n\n")
                second.close()
                read_until(third, ": queue 1\n\n")
                health = json.loads(server.request("GET", "/health")[2])
                assert (health["queue"], health["running"]) == (1, 1) and health["tokens_per_s"] > 0
                first.close()
                read_until(third, "data: {")
    server.wait_until_idle()


def test_full_queue_sends_clients_away(server, client, monkeypatch):
    monkeypatch.setattr(server.worker, "max_queue", 1)
    with server.open_stream(seed=1) as first:
        read_until(first, "data: {")
        second = server.open_stream(seed=2)
        wait_for(lambda: server.worker.waiting)
        with second, pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(model="tiny", prompt="却说")
    assert int(caught.value.response.headers["Retry-After"]) > 0 and caught.value.code == "queue_full"
    server.wait_until_idle()
    assert server.text("却说")


def test_fifty_clients_at_once_get_their_own_texts(server):
    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def ask(seed: int) -> str:
                settings = {"model": "tiny", "prompt": "却说", "max_tokens": 10, "seed": seed}
                if seed % 2:
                    return (await client.completions.create(**settings)).choices[0].text
                stream = await client.completions.create(**settings, stream=True)
                return "".join([chunk.choices[0].text async for chunk in stream])

            return await asyncio.gather(*map(ask, range(50)))

    assert asyncio.run(ask_all()) == [server.reference("却说", seed, max_new_tokens=10)[0] for seed in range(50)]
    assert not server.worker.running and not server.worker.waiting


def test_stream_is_not_buffered_by_proxies(server):
    _, headers, _ = server.request("POST", "/v1/completions", {"prompt": "却", "max_tokens": 1, "stream": True})
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no" and headers["cache-control"] == "no-cache"


# -- errors ------------------------------------------------------------------------------------------------------------


def test_client_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'; there are tiny") as caught:
        client.completions.create(model="gpt", prompt="却说")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt="却说", temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("../tiny")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "?"}])


@pytest.mark.parametrize(
    "method, path, body, headers, status",
    [
        ("GET", "/v1/completions", None, {}, 405),
        ("POST", "/health", {}, {}, 405),
        ("GET", "/nothing", None, {}, 404),
        ("GET", "/v1/models/nothing", None, {}, 404),
        ("POST", "/v1/completions", b"{}", {}, 415),
        ("POST", "/v1/completions", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/v1/candidates", b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/v1/completions", b"{", {"Content-Type": "application/json"}, 400),
        ("POST", "/v1/completions", b"", {"Content-Type": "application/json"}, 400),
        ("POST", "/v1/completions", b"[" * 100000, {"Content-Type": "application/json"}, 400),
        ("POST", "/v1/completions", "却说".encode("gb18030"), {"Content-Type": "application/json"}, 400),
        ("POST", "/v1/completions", b" " * (4 * 2**20 + 1), {"Content-Type": "application/json"}, 413),
        ("POST", "/v1/completions", {"prompt": [10**6]}, {}, 400),
        ("POST", "/v1/candidates", {"count": "all"}, {}, 400),
    ],
)
def test_errors_are_objects(server, method, path, body, headers, status):
    given, _, text = server.request(method, path, body, headers)
    error = json.loads(text)["error"]
    assert given == status and error["message"] and error.keys() == {"message", "type", "param", "code"}


def test_error_in_a_stream_is_an_event(server, client):
    stream = client.completions.create(model="tiny", prompt=[10**6], stream=True)
    with pytest.raises(openai.APIError, match="token ids are 0 to"):
        list(stream)


def test_long_prompt_is_not_scored_for_ever(server):
    status, _, text = server.request("POST", "/v1/completions", {"prompt": "却" * 65537, "echo": True, "logprobs": 1})
    assert status == 400 and "65,536 are scored" in text


# -- security ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost", 200),
        ("127.0.0.1:{port}", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.0.1", 403),
        ("", 403),
    ],
)
def test_foreign_host_headers_are_refused(server, host, status):
    given, _, text = server.request("GET", "/health", headers={"Host": host.format(port=server.port)})
    assert given == status and ("error" in json.loads(text)) == (status == 403)


@pytest.mark.parametrize("path", ["/health", "/nothing", "/", "/v1/models"])
def test_security_headers_are_in_every_answer(server, path):
    _, headers, _ = server.request("GET", path)
    assert "default-src 'self'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers and not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    "path",
    [
        "/web/../serve.py",
        "/web/%2e%2e/serve.py",
        "/web/..%2fserve.py",
        "/web/..%5cserve.py",
        "/web//etc/passwd",
        "/web/%2fetc%2fpasswd",
        "/web/....//serve.py",
        "/web/C:/Windows/win.ini",
        "/web/",
        "/web/index.html%00.js",
        "//etc/passwd",
        "/serve.py",
        "/v1/models/..%2f..",
    ],
)
def test_no_other_file_is_reached(server, path):
    status, _, text = server.request("GET", path)
    assert status == 404 and json.loads(text)["error"]


def test_page_is_served(server):
    status, headers, text = server.request("GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html") and "<html" in text
    for path in re.findall(r'(?:src|href)="/?(web/[^"]+)"', text):
        status, headers, _ = server.request("GET", f"/{path}")
        assert status == 200
        if path.endswith(".js"):
            assert headers["content-type"].startswith("text/javascript")


def test_other_origins_get_no_permission(server):
    origin = {"Origin": "https://lite.example", "Access-Control-Request-Method": "POST"}
    status, headers, _ = server.request("OPTIONS", "/v1/completions", headers=origin)
    assert status == 405 and not any(name.startswith("access-control") for name in headers)


def test_allowed_origin_may_use_the_api_with_its_key(guarded):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    for origin, allowed in (("https://lite.example", True), ("https://evil.example", False)):
        status, headers, _ = guarded.request("OPTIONS", "/v1/completions", headers={"Origin": origin, **asked})
        assert (status == 200) == allowed == ("access-control-allow-origin" in headers)
    status, headers, _ = guarded.request("POST", "/v1/completions", {}, {"Origin": "https://lite.example"})
    assert status == 401 and headers["access-control-allow-origin"] == "https://lite.example"


def test_key_is_needed_for_the_api(guarded):
    for key in ("wrong", "", "secre", "密"):
        with pytest.raises(openai.AuthenticationError):
            httpx_client = httpx.Client(headers={"Authorization": f"Bearer {key}".encode()})
            openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="x", http_client=httpx_client).models.list()
    for path in ("/v1/models", "/v1/models/tiny", "/v1/nothing"):
        status, headers, _ = guarded.request("GET", path)
        assert status == 401 and headers["www-authenticate"] == "Bearer"
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="secret")
    assert client.completions.create(model="tiny", prompt="却说", max_tokens=3).choices[0].text


def test_key_may_be_any_text():
    for key, header in (("密", "Bearer 密"), ("a b", "Bearer a b")):
        assert access("127.0.0.1", api_key=key).allows_key(header.encode().decode("latin-1"))


def test_health_needs_no_key(guarded):
    state = json.loads(guarded.request("GET", "/health")[2])
    numbers = {"queue": 0, "running": 0, "tokens_per_s": state["tokens_per_s"], "max_tokens": 10**6}
    assert state == {"status": "ok", "model": "tiny", **numbers}


def access(host: str, api_key: str = "", insecure: bool = False) -> Access:
    return Access(host, api_key, insecure, ())


def test_network_needs_a_key_or_a_word():
    for host in ("0.0.0.0", "::", "192.168.0.5", "example.com"):
        with pytest.raises(UserError, match="--api_key=SECRET.*--insecure"):
            access(host)
        assert access(host, api_key="k") and access(host, insecure=True)
    for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1"):
        assert access(host).is_local


def test_host_header_on_a_network():
    assert access("0.0.0.0", api_key="k").allows_host("novel.example")
    assert access("0.0.0.0", insecure=True).allows_host("192.168.0.5:8000")
    assert access("0.0.0.0", insecure=True).allows_host("[fe80::1]:8000")
    assert access("novel.lan", insecure=True).allows_host("novel.lan:8000")
    assert not access("0.0.0.0", insecure=True).allows_host("evil.example")
    assert not access("127.0.0.1", api_key="k").allows_host("evil.example")


# -- the script --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("sent, status", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_killed_server_ends_clean_in_the_middle_of_a_stream(workplace, sent, status):
    command = [sys.executable, str(ROOT / "serve.py"), "--open=False", "--device=cpu", "--port=0", "--max_tokens=1e6"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=workplace, env=ENVIRONMENT, text=True, encoding="utf-8", **pipes)
    address = process.stdout.readline().split()[0]
    body = {"prompt": "却说", "max_tokens": LONG, "stream": True}
    with httpx.stream("POST", f"{address}v1/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if line.startswith("data: "))
        process.send_signal(sent)
        *_, error, _, done, _ = lines
        assert "server_ended" in error and done == "data: [DONE]"
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert errors.startswith("loading out/tiny/ckpt") and len(errors.splitlines()) == 1


def test_port_in_use_is_named(workplace, server, monkeypatch):
    monkeypatch.chdir(workplace)
    with pytest.raises(UserError, match=f"port {server.port} is in use; choose another with --port"):
        serve.main(serve.Settings(port=server.port, open=False))


def test_address_that_is_not_here_is_named():
    with pytest.raises(UserError, match="cannot listen at --host=192.0.2.1 --port=0"):
        serve.listen("192.0.2.1", 0)


def test_model_that_is_not_there_is_named(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    with pytest.raises(UserError, match="out/none does not exist"):
        serve.main(serve.Settings(model="out/none", port=0, open=False))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"port": 65536}, "0 to 65535"),
        ({"max_queue": 0}, "1 or more"),
        ({"max_tokens": 0}, "1 or more"),
        ({"quantize": "int8", "dtype": "float32"}, "bfloat16"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        serve.Settings(**settings)


@pytest.mark.parametrize("host, address", [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "127")])
def test_address_is_one_for_this_computer(host, address):
    with serve.listen(host, 0) as listener:
        assert serve.page_address(listener).startswith(f"http://{address}")
