import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch
from conftest import ROOT, script, story

import checkpoint
from generation.inference import CompiledGPT
from machine import why_not_compile
from sample import Sample, Settings, load, rows_that_fit, write
from tokenizer import Tokenizer

SHORT = ["--max_new_tokens=30", "--device=cpu"]


def run(workplace, *arguments, **kwargs):
    return script("sample.py", *SHORT, *arguments, cwd=workplace, **kwargs)


def test_it_goes_on_from_the_start_and_a_seed_repeats(workplace):
    first = run(workplace, "--model=out/tiny", "--start", "却说阿青", "--seed=5").stdout
    assert first.startswith("却说阿青") and len(first) > 30
    assert run(workplace, "--model=out/tiny", "--start=却说阿青", "--seed=5").stdout == first
    assert run(workplace, "--model=out/tiny", "--start=却说阿青", "--seed=6").stdout != first


def test_the_newest_run_is_taken_and_a_checkpoint_folder_too(workplace):
    assert "ckpt-" in run(workplace, "--start=却说").stderr
    folder = checkpoint.checkpoints(workplace / "out/tiny")[-1]
    assert folder.name in run(workplace, f"--model={folder}").stderr


def test_samples_differ_are_saved_and_do_not_depend_on_how_many(workplace, tmp_path):
    run(workplace, "--model=out/tiny", "--start=却说", "--num_samples=3", "--seed=1", f"--save={tmp_path / 's.txt'}")
    samples = (tmp_path / "s.txt").read_text(encoding="utf-8")
    assert samples.count(" SAMPLE ") == 3 and f"{'=' * 40} SAMPLE 2 {'=' * 40}\n却说" in samples
    texts = [part.partition("\n")[2] for part in samples.split("=" * 40 + " SAMPLE ")[1:]]
    assert len(set(texts)) == 3
    one = run(workplace, "--model=out/tiny", "--start=却说", "--seed=1").stdout
    assert texts[0].strip() == one.strip()


def test_a_bare_save_means_samples_txt(workplace, tmp_path):
    shutil.copytree(workplace / "out/tiny", tmp_path / "out/tiny")
    run(tmp_path, "--save")
    run(tmp_path, "--save")
    assert (tmp_path / "samples.txt").read_text(encoding="utf-8").count(" SAMPLE 1 ") == 2, "nothing written is lost"


def test_starts_from_a_file(workplace, tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "gb18030"):  # as prepare.py reads files
        (tmp_path / "starts.txt").write_text("却说老道\r\n\r\n且说白狐\r\n", encoding=encoding, newline="")
        out = run(workplace, "--model=out/tiny", f"--start_file={tmp_path / 'starts.txt'}").stdout
        assert out.index("\n却说老道") < out.index("SAMPLE 2") < out.index("\n且说白狐")


@pytest.mark.parametrize("start", ["", "[CLS]第一回", "龘😀\u2028 é", "却" * 100])
def test_any_start(workplace, start):
    assert run(workplace, "--model=out/tiny", f"--start={start}").stdout.startswith(start.replace("[CLS]", ""))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model=none"], "does not exist"),
        (["--model=data"], "not a model folder"),
        (["--model=data/novel/vocab.txt"], "is a file; a model is a folder"),
        (["--start_file=none.txt"], "none.txt"),
        (["--temperature=-1"], "0.001 to 1000"),
        (["--max_new_tokens=10000001"], "1 to 10,000,000"),
        (["--temperature=1e-40"], "0.001 to 1000"),
        (["--temperature=nan"], "0.001 to 1000"),
        (["--top_p=0"], "probability"),
        (["--start=a", "--start_file=b"], "not both"),
        (["--interactive", "--num_samples=2"], "one story"),
        (["--temperature=0", "--num_samples=2"], "would be the same"),
        (["--quantize=int8", "--dtype=float32"], "bfloat16"),
        (["--repetition_window=-1"], "0 or more"),
        (["--save=no/such/folder/s.txt"], "no/such/folder"),
        (["--device=cuda:99"], "CUDA"),
    ],
)
def test_mistakes_leave_with_2_and_a_line(workplace, arguments, words):
    done = run(workplace, *(["--model=out/tiny"] if not arguments[0].startswith("--model") else []), *arguments, check=2)
    plain = [line for line in done.stderr.splitlines() if line.startswith("sample.py")]
    assert len(plain) == 1 and words in plain[0] and "Traceback" not in done.stderr


def test_no_run_at_all(tmp_path):
    assert "train.py" in run(tmp_path, check=2).stderr



class Quiet:
    """A Screen that shows nothing."""

    def begin(self, batch):
        pass

    update = begin

    def __init__(self):
        self.update = lambda: None


@pytest.fixture(scope="module")
def tiny(workplace):
    folder = checkpoint.find_checkpoint(workplace / "out/tiny")
    tokenizer, model = load(folder, Settings(dtype="float32"), torch.device("cpu"))
    return tokenizer, model


STARTS = ["却说阿青行至山门", "“", "却说老道行至竹林，望见灯火，便对小石道：“天色已晚。”却说白狐行至井边，听见钟声，便对樵夫道：“", "", "却" * 40]


@pytest.mark.parametrize("dtype, quantize", [("bfloat16", "none"), ("bfloat16", "int8")])
def test_a_sample_in_16_or_8_bits_is_the_same_in_any_batch(workplace, dtype, quantize):
    """Starts of the same length; over the window's seam."""
    tokenizer, model = load(checkpoint.find_checkpoint(workplace / "out/tiny"), Settings(dtype=dtype, quantize=quantize), torch.device("cpu"))
    s, texts = Settings(max_new_tokens=70, temperature=1.5, top_p=1.0), []
    for size in (6, 1, 4):
        samples = [Sample(tokenizer, start, s) for start in ["却说阿青行至山门"] * 3 + ["且说白狐行至井边"] * 3]
        for first in range(0, 6, size):
            write(model, tokenizer, samples[first : first + size], s, 3, first, Quiet())
        texts.append([sample.text for sample in samples])
    assert texts[0] == texts[1] == texts[2] and len(set(texts[0])) == 6


def test_different_starts_in_one_batch_are_each_as_alone(tiny):
    """In fp32, whatever the batch: together, each by itself, in twos; over the window's seam; ids and text."""
    tokenizer, model = tiny
    s = Settings(max_new_tokens=70, repetition_penalty=1.1)
    texts = []
    for size in (5, 1, 2):
        samples = [Sample(tokenizer, start, s) for start in STARTS]
        for first in range(0, 5, size):
            write(model, tokenizer, samples[first : first + size], s, 3, first, Quiet())
        assert all(sample.done and sample.written == 70 for sample in samples)
        texts.append([sample.text for sample in samples])
    assert texts[0] == texts[1] == texts[2]
    assert all(text.startswith(start) for text, start in zip(texts[0], STARTS))


@pytest.mark.parametrize("stop, last", [("paragraph", "\n"), ("，", "，"), ("chapter", "")])
def test_stops(tiny, stop, last):
    tokenizer, model = tiny
    s = Settings(max_new_tokens=3000, stop=stop, top_p=1.0, temperature=2.0 if stop == "chapter" else 0.8)
    samples = [Sample(tokenizer, start, s) for start in STARTS]
    write(model, tokenizer, samples, s, 1, 0, Quiet())
    for sample, start in zip(samples, STARTS):
        written = sample.text[len(start) :]
        assert sample.done and sample.written < s.max_new_tokens
        assert written.endswith(last) and last not in written[:-1] if last else tokenizer.cls not in sample.ids[1:-1]


def test_half_characters_never_come_out(tiny):
    """At a temperature at which bytes are as likely as anything."""
    tokenizer, model = tiny
    s = Settings(max_new_tokens=400, temperature=100.0, top_p=1.0)
    samples = [Sample(tokenizer, "却说", s) for _ in range(4)]
    write(model, tokenizer, samples, s, 1, 0, Quiet())
    for sample in samples:
        assert "\ufffd" not in sample.text and "[UNK]" not in sample.text and "\x1b" not in sample.text
        assert tokenizer.is_byte[sample.ids].sum() > 50
        assert tokenizer.decode(sample.ids).replace("[CLS]", "\n\n") == sample.text


def test_characters_are_held_back_until_they_are_whole():
    tokenizer = Tokenizer.build(Counter(story()), min_count=2)
    text = "却说龘😀é老道\n第"
    sample, shown = Sample(tokenizer, "始", Settings()), []
    for i in tokenizer.encode(text).tolist():
        before = sample.text
        sample.add(i)
        shown.append(sample.text[len(before) :])
    assert sample.text == "始" + text and not any("\ufffd" in piece for piece in shown) and "" in shown
    sample.add(tokenizer.cls)
    assert sample.text.endswith("\n\n")


def test_words_of_a_bert_vocabulary_keep_their_spaces():
    from test_tokenizer import BERT

    sample = Sample(BERT, "的hello", Settings())
    for token in ("want", "##ed", "的", "hello", "[SEP]", "hello"):
        sample.add(BERT.token_to_id(token))
    assert sample.text == "的hello wanted的hello\nhello"


def test_eight_bit_weights_write(workplace):
    assert run(workplace, "--model=out/tiny", "--start=却说", "--quantize=int8", "--seed=1").stdout.startswith("却说")


def test_where_nothing_can_be_compiled_it_writes_all_the_same(workplace, tmp_path):
    arguments = ["--model=out/tiny", "--start=却说", "--seed=1"]
    done = run(workplace, *arguments, "--compile", environment={"CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)})
    assert done.stdout == run(workplace, *arguments).stdout
    assert "torch.compile does not work here" in done.stderr and "Traceback" not in done.stderr


def test_compiled_it_writes_one_text_after_the_other(workplace, tmp_path, monkeypatch):
    """So that a text does not depend on how many there are: by themselves they are compiled, together they would not be."""
    import sample

    if reason := why_not_compile(torch.device("cpu")):
        pytest.skip(reason)
    batches, whole = [], sample.write
    monkeypatch.setattr(sample, "write", lambda model, tokenizer, batch, *more: (batches.append((type(model), len(batch))), whole(model, tokenizer, batch, *more)))
    monkeypatch.chdir(tmp_path)
    for name, compile in (("compiled", True), ("plain", False)):
        s = Settings(model=str(workplace / "out/tiny"), num_samples=3, max_new_tokens=5, seed=1, compile=compile, save=f"{name}.jsonl", device="cpu")
        sample.main(s)
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["settings"]["compile"] for line in lines] == [compile] * 3
    assert batches[:3] == [(CompiledGPT, 1)] * 3 and [n for _, n in batches[3:]] == [3]


def test_batches_are_as_large_as_memory_holds(tiny, monkeypatch):
    import sample

    tokenizer, model = tiny
    cache = 2 * 2 * 32 * 32 * 4  # keys and values of 2 layers, 32 wide, 32 positions, fp32
    for free, least, most in ((200 * cache, 10, 99), (0, 16, 16), (1, 1, 1)):
        monkeypatch.setattr(sample, "free_memory", lambda device: free)
        assert least <= rows_that_fit(model, torch.device("cpu"), 30) <= most
    monkeypatch.setattr(sample, "free_memory", lambda device: 2**30)
    assert rows_that_fit(model, torch.device("cpu"), 10**7) == 2, "ids take memory too"


def test_json_lines_say_how_a_sample_was_made(workplace, tmp_path):
    file = tmp_path / "s.jsonl"
    run(workplace, "--model=out/tiny", "--start=却说", "--start=阿青", "--num_samples=2", "--seed=7", "--top_k=9", "--stop=。", f"--save={file}")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line["prompt"] for line in lines] == ["却说", "却说", "阿青", "阿青"] and [line["sample"] for line in lines] == [1, 2, 3, 4]
    assert all(line["text"].startswith(line["prompt"]) and line["seed"] == 7 and "ckpt-" in line["model"] for line in lines)
    assert lines[0]["settings"]["top_k"] == 9 and lines[0]["settings"]["stop"] == "。"


def test_a_long_start_is_kept_and_it_says_what_the_model_sees(workplace):
    done = run(workplace, "--model=out/tiny", f"--start={'却说阿青' * 20}")
    assert done.stdout.startswith("却说阿青" * 20) and "the last 32" in done.stderr


def test_not_streaming_shows_the_same(workplace):
    arguments = ["--model=out/tiny", "--start=却说", "--start=“", "--num_samples=2", "--seed=3"]
    assert run(workplace, *arguments).stdout == run(workplace, *arguments, "--stream=False").stdout


def test_a_full_disk_says_so_and_the_text_was_shown(workplace):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = run(workplace, "--model=out/tiny", "--start=却说", "--save=/dev/full", check=2)
    assert "/dev/full: No space" in done.stderr
    assert done.stdout.startswith("却说") and len(done.stdout) > 20


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_keeps_what_was_written(workplace, tmp_path):
    command = [sys.executable, str(ROOT / "sample.py"), "--model=out/tiny", "--start=却说", "--device=cpu", "--max_new_tokens=1000000", f"--save={tmp_path / 's.txt'}"]
    process = subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert len(process.stdout.read(200)) == 200
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len((tmp_path / "s.txt").read_text(encoding="utf-8")) > 150


def talk(workplace, *lines, arguments=()):
    return run(workplace, "--model=out/tiny", "--interactive", "--seed=3", *arguments, input="\n".join(lines) + "\n")


def test_together(workplace, tmp_path):
    story_file = tmp_path / "story.txt"
    done = talk(workplace, "", "却说白狐", "/undo", "/undo", f"/save {story_file}", arguments=["--start=却说老道"])
    saved = story_file.read_text(encoding="utf-8")
    assert saved.startswith("却说老道") and len(saved) > 30 and "白狐" not in saved, "the first piece, without what was undone"
    assert "却说白狐" in done.stdout
    longer = tmp_path / "longer.txt"
    talk(workplace, "", "却说白狐\\n", "/retry", "/undo", "/nothing", "", f"/save {longer}", "/quit", "not read", arguments=["--start=却说老道"])
    text = longer.read_text(encoding="utf-8")
    assert text.startswith(saved[:-1] + "却说白狐\n"), "retry and undo took back what was written after it, nothing else"


def test_together_settings_change_and_mistakes_do_not_end_it(workplace):
    done = talk(workplace, "/set top_p 0.5", "/set top_p 7", "/set no 1", "/set temperature=0", "/set max_new_tokens 5", "/help", "")
    assert "top_p is 0.5" in done.stdout and "temperature is 0.0" in done.stdout
    assert "probability above 0" in done.stderr and "what can be set here: max_new_tokens" in done.stderr
    assert "Traceback" not in done.stderr


def test_retry_writes_otherwise_and_at_temperature_0_the_same(workplace):
    for temperature, same in (("0", True), ("0.8", False)):
        out = talk(workplace, "", "/retry", arguments=["--start=却说", f"--temperature={temperature}"]).stdout
        first, again = (piece.strip() for piece in out.split("> ")[1:3])
        assert (first == again) == same, (first, again)


def test_undo_and_retry_leave_what_was_typed(workplace, tmp_path):
    file = tmp_path / "s.txt"
    talk(workplace, "却说白狐", "/undo", "/retry", arguments=["--start=阿青", f"--save={file}"])
    kept = file.read_text(encoding="utf-8")
    assert kept.startswith("阿青却说白狐") and len(kept) > 10


def test_together_after_a_chapter_s_end_the_next_one_has_room(workplace, tmp_path):
    """And the story is what was shown: the chapter's end, two line breaks, the rest."""
    file = tmp_path / "s.txt"
    arguments = ["--start=却说", "--stop=chapter", "--temperature=3", "--top_p=1", "--max_new_tokens=3000", f"--save={file}"]
    talk(workplace, "", "第二回", arguments=arguments)
    before, *after = file.read_text(encoding="utf-8").split("\n\n第二回")
    assert before.startswith("却说") and len(after) == 1


@pytest.mark.skipif(os.name == "nt", reason="links and devices")
def test_a_story_is_not_put_in_the_place_of_a_link_or_a_device(workplace, tmp_path):
    (tmp_path / "link.txt").symlink_to("story.txt")
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR), encoding="utf-8") as pipe:
        talk(workplace, f"/save {tmp_path / 'link.txt'}", f"/save {tmp_path / 'pipe'}", arguments=["--start=却说老道"])
        assert pipe.readline() == "却说老道\n"
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "story.txt").read_text(encoding="utf-8") == "却说老道\n"


def test_together_at_a_full_disk_it_says_so_and_can_be_left(workplace):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    for last in ([], ["/quit"]):
        done = run(workplace, "--model=out/tiny", "--interactive", "--seed=3", "--start=却说", "--save=/dev/full", input="\n".join(["", *last]) + "\n", check=2)
        assert done.stderr.count("cannot write") == 1 and "/dev/full" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_together_a_turn_that_fails_costs_no_other(workplace, tmp_path, monkeypatch, capsys):
    """Out of memory: the next turn may do with less. A bug: the story up to there is kept."""
    import sample

    whole, turns = sample.write, []

    def fails(*arguments):
        turns.append(0)
        if len(turns) == 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:115] data. DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.\nmore")
        if len(turns) == 4:
            raise RuntimeError("a bug")
        whole(*arguments)

    monkeypatch.setattr(sample, "write", fails)
    lines = iter(["", "却说白狐", "", "却说阿青"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    file = tmp_path / "s.txt"
    with pytest.raises(RuntimeError, match="a bug"):
        sample.main(Settings(model=str(workplace / "out/tiny"), interactive=True, start=["却说"], seed=1, max_new_tokens=9, save=str(file), device="cpu"))
    kept = file.read_text(encoding="utf-8")
    assert kept.startswith("却说") and "却说白狐" in kept and "阿青" not in kept.rpartition("白狐")[2]
    assert "out of memory: " in capsys.readouterr().err


def test_together_keeps_the_words_that_were_typed(tmp_path):
    """Whatever a BERT vocabulary makes of them."""
    bert_folder(tmp_path / "m")
    run(tmp_path, f"--model={tmp_path / 'm'}", "--interactive", "--start=Hello 的", "--save=s.jsonl", input="龘 Want\n")
    kept = json.loads((tmp_path / "s.jsonl").read_text(encoding="utf-8"))
    assert kept["text"].startswith("Hello 的龘 Want") and kept["prompt"] == "Hello 的" and len(kept["text"]) > 20


def test_together_saves_at_the_end_when_asked_to(workplace, tmp_path):
    talk(workplace, "", arguments=["--start=却说老道", f"--save={tmp_path / 's.txt'}"])
    assert (tmp_path / "s.txt").read_text(encoding="utf-8").startswith("却说老道")


def test_together_keeps_a_story_once(workplace, tmp_path):
    """However often it is saved, after what the file held before; as a JSON line; with the slash of a Chinese keyboard."""
    file, lines = tmp_path / "s.txt", tmp_path / "s.jsonl"
    file.write_bytes("从前\r\n".encode())
    done = talk(workplace, "", f"/save {file}", "", f"／save\u3000{file}", "、undo", f"/save {file}", "/undo", "/undo", f"/save {tmp_path / 'no/such'}",
                arguments=["--start=却说老道", f"--save={lines}"])  # fmt: skip
    kept = file.read_bytes().decode()
    assert kept.startswith("从前\r\n却说老道") and kept.count("却说老道") == 1 and "save" not in kept and not (tmp_path / "s.txt.writing").exists()
    record = json.loads(lines.read_text(encoding="utf-8"))
    assert record["prompt"] == record["text"] == "却说老道" and record["seed"] == 3, "all of it was taken back"
    assert "nothing to take back" in done.stderr and f"cannot write {tmp_path / 'no/such'}: No such file" in done.stderr and "Traceback" not in done.stderr


def bert_folder(folder):
    """As people of the GPT2-Chinese line have it: pytorch_model.bin, vocab.txt."""
    from test_tokenizer import BERT_WORDS
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=len(BERT_WORDS) + 5, n_positions=24, n_embd=16, n_layer=2, n_head=2))
    other.save_pretrained(folder)
    torch.save(other.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "vocab.txt").write_text("\n".join(BERT_WORDS) + "\n", encoding="utf-8")


def test_a_transformers_folder_with_a_bert_vocabulary(tmp_path):
    """And prompts with [CLS] in them."""
    bert_folder(tmp_path / "m")
    done = run(tmp_path, f"--model={tmp_path / 'm'}", "--start=[CLS]的一", "--num_samples=2", "--seed=1")
    assert done.stdout.count("的一") >= 2 and "[UNK]" not in done.stdout and "[CLS]" not in done.stdout
