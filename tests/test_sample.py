import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ENVIRONMENT, ROOT, script

import checkpoint
import sample
from configurator import UserError, parse
from generation import optimize

SHORT = ["--max_new_tokens=30", "--device=cpu"]


def run(workplace, *arguments, **kwargs):
    return script("sample.py", *SHORT, *arguments, cwd=workplace, **kwargs)


@pytest.fixture
def call(workplace, tmp_path, monkeypatch, capsys):
    """A function that runs sample.py's main in this process and returns (stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        model = [] if any(a.startswith("--model") for a in arguments) else [f"--model={workplace / 'out/tiny'}"]
        sample.main(parse(sample.Settings, [*SHORT, *model, *arguments]))
        return capsys.readouterr()

    return call


def test_sample_continues_the_start_and_repeats_with_a_seed(call):
    first = call("--start", "却说阿青", "--seed=5").out
    assert first.startswith("却说阿青") and len(first) > 20
    assert call("--start=却说阿青", "--seed=5").out == first
    assert call("--start=却说阿青", "--seed=6").out != first


def test_sample_takes_the_best_checkpoint_of_the_newest_run(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(workplace / "out/tiny", "out/old")
    shutil.copytree(workplace / "out/tiny", "out/new")
    for folder in checkpoint.checkpoints(tmp_path / "out/old"):
        os.utime(folder, (1, 1))
    sample.main(parse(sample.Settings, [*SHORT, "--seed=1"]))
    assert capsys.readouterr().err.startswith("out/new/ckpt-")


def test_sample_takes_a_checkpoint_folder(workplace, call):
    folder = checkpoint.checkpoints(workplace / "out/tiny")[-1]
    assert folder.name in call(f"--model={folder}", "--seed=1").err


def test_samples_are_saved_under_headings_and_differ(call, tmp_path):
    call("--start=却说", "--num_samples=3", "--seed=1", "--save=s.txt")
    samples = (tmp_path / "s.txt").read_text(encoding="utf-8")
    assert samples.count(" SAMPLE ") == 3 and f"{'=' * 40} SAMPLE 2 {'=' * 40}\n却说" in samples
    texts = [part.partition("\n")[2] for part in samples.split("=" * 40 + " SAMPLE ")[1:]]
    assert len(set(texts)) == 3


def test_first_sample_does_not_depend_on_how_many_there_are(call):
    many = call("--start=却说", "--num_samples=3", "--seed=1", "--quantize=int8").out
    one = call("--start=却说", "--seed=1", "--quantize=int8").out
    assert many.partition("\n")[2].startswith(one)


def test_stop_at_a_line_break_is_typed_like_one_in_the_start(call):
    assert sample.Settings(stop="。\\n").stop == "。\n"
    out = call("--start=却说", "--seed=1", "--max_new_tokens=2000", "--stop=\\n").out
    assert out.startswith("却说") and out.find("\n") == len(out) - 2  # and the line break at the end


def test_bare_save_appends_to_samples_txt(call, tmp_path):
    call("--save", "--seed=1")
    call("--save", "--seed=1")
    assert (tmp_path / "samples.txt").read_text(encoding="utf-8").count(" SAMPLE 1 ") == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_start_file_is_read_like_a_text(call, tmp_path, encoding):
    (tmp_path / "starts.txt").write_text("却说老道\r\n\r\n\u3000\u3000且说白狐\r\n", encoding=encoding, newline="")
    out = call("--start_file=starts.txt", "--seed=1").out
    assert out.index("\n却说老道") < out.index("SAMPLE 2") < out.index("\n且说白狐")


@pytest.mark.parametrize(
    "start, shown",
    [
        ("", ""),
        ("[CLS]第一回", "第一回"),
        ("老道完。[CLS]第一回", "老道完。\n\n第一回"),
        ("龘😀 é", "龘😀 é"),
        ("却" * 100, "却" * 100),
        ("\u3000\u3000却说", "却说"),
        ("却说\r\n老道", "却说\n老道"),
        ("却说\\n老道", "却说\n老道"),
    ],
)
def test_start_is_cleaned_as_a_text_and_shown(call, start, shown):
    assert call(f"--start={start}", "--seed=1").out.startswith(shown)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model=none"], "does not exist"),
        (["--start=FILE:prompt.txt"], "use --start_file"),
        (["--model=../data"], "does not exist"),
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
        (["--compile", "--quantize=none"], "--compile is for int8 weights"),
        (["--compile", "--dtype=float32"], "--compile is for int8 weights"),
        (["--repetition_window=1"], "use --repetition_penalty"),
        (["--topk=5"], "use --top_k"),
        (["--seed=-1"], "0 or more"),
        (["--device=cuda:99"], "CUDA"),
    ],
)
def test_mistakes_are_named(call, arguments, message):
    with pytest.raises(UserError, match=message):
        call(*arguments)


def test_model_that_is_a_file_names_the_folder(call, workplace):
    with pytest.raises(UserError, match="is a file; a model is a folder"):
        call(f"--model={workplace / 'data/novel/vocab.txt'}")


def test_mistake_exits_with_status_2_and_one_line(tmp_path):
    done = run(tmp_path, check=2)
    assert "train.py" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_save_that_cannot_be_written_fails_before_generating(workplace):
    done = run(workplace, "--model=out/tiny", "--save=no/such/folder/s.txt", "--seed=1", check=2)
    assert "no/such/folder" in done.stderr.splitlines()[-1] and not done.stdout


def test_int8_weights_generate(call):
    assert call("--start=却说", "--quantize=int8", "--seed=1").out.startswith("却说")


def test_compile_without_a_compiler_warns_and_generates_the_same(workplace, tmp_path):
    arguments = ["--model=out/tiny", "--start=却说", "--seed=1", "--quantize=int8"]
    environment = {"CXX": "/no/compiler", "XDG_CACHE_HOME": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = run(workplace, *arguments, "--compile", environment=environment)
    assert done.stdout == run(workplace, *arguments).stdout
    assert "torch.compile does not work here" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("compiled, sizes", [(True, [1, 1, 1]), (False, [3])])
def test_compiled_samples_are_generated_one_by_one(call, monkeypatch, compiled, sizes):
    """The compiled step is for one text; so a text does not depend on how many there are."""
    batches, whole = [], sample.generate

    def generate(model, tokenizer, batch, *more):
        batches.append(len(batch))
        return whole(model, tokenizer, batch, *more)

    class Plain:
        def __init__(self, model):
            self.new_cache, self.next_logits = model.new_cache, model.next_logits

    monkeypatch.setattr(sample, "generate", generate)
    monkeypatch.setattr(optimize, "CompiledDecoder", Plain)
    call("--num_samples=3", "--seed=1", "--quantize=int8", *(["--compile"] if compiled else []))
    assert batches == sizes


def test_json_lines_say_how_a_sample_was_made(call, tmp_path):
    starts = ["--start=却说", "--start=阿青", "--num_samples=2"]
    call(*starts, "--seed=7", "--top_k=9", "--stop=。", "--save=s.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["prompt"] for line in lines] == ["却说", "却说", "阿青", "阿青"]
    assert [line["sample"] for line in lines] == [1, 2, 3, 4]
    assert all(line["text"].startswith(line["prompt"]) and line["seed"] == 7 for line in lines)
    assert lines[0]["settings"]["top_k"] == 9 and lines[0]["settings"]["stop"] == "。" and "ckpt-" in lines[0]["model"]


def test_long_start_is_kept_and_the_visible_part_is_named(call):
    shown = call(f"--start={'却说阿青' * 20}", "--seed=1")
    assert shown.out.startswith("却说阿青" * 20) and "the last 32" in shown.err


def test_stream_false_shows_the_same(call):
    arguments = ["--start=却说", "--start=“", "--num_samples=2", "--seed=3"]
    assert call(*arguments).out == call(*arguments, "--stream=False").out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk_is_named_and_the_text_was_shown(workplace):
    done = run(workplace, "--model=out/tiny", "--start=却说", "--save=/dev/full", "--seed=5", check=2)
    assert "/dev/full: No space" in done.stderr and done.stdout.startswith("却说") and len(done.stdout) > 3


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_saves_what_was_generated(workplace, tmp_path):
    arguments = ["--model=out/tiny", "--start=却说", "--device=cpu", "--max_new_tokens=1000000", "--seed=1"]
    command = [sys.executable, str(ROOT / "sample.py"), *arguments, f"--save={tmp_path / 's.txt'}"]
    process = subprocess.Popen(command, cwd=workplace, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert len(process.stdout.read(200)) == 200
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len((tmp_path / "s.txt").read_text(encoding="utf-8")) > 60


def test_transformers_folder_with_a_bert_vocabulary_and_cls_in_the_prompt(bert_folder, call):
    out = call(f"--model={bert_folder}", "--start=[CLS]的一", "--num_samples=2", "--seed=1").out
    assert out.count("的一") >= 2 and "[UNK]" not in out and "[CLS]" not in out
