import shutil
from collections import Counter

import pytest
from conftest import script, story

import checkpoint
from sample import Speller
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
    (tmp_path / "starts.txt").write_text("却说老道\n\n且说白狐\n", encoding="utf-8")
    out = run(workplace, "--model=out/tiny", f"--start_file={tmp_path / 'starts.txt'}").stdout
    assert out.index("却说老道") < out.index("SAMPLE 2") < out.index("且说白狐")


@pytest.mark.parametrize("start", ["", "[CLS]第一回", "龘😀\u2028 é", "却" * 100])
def test_any_start(workplace, start):
    assert run(workplace, "--model=out/tiny", f"--start={start}").stdout.startswith(start.replace("[CLS]", ""))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model=none"], "does not exist"),
        (["--model=data"], "not a model folder"),
        (["--start_file=none.txt"], "none.txt"),
        (["--temperature=-1"], "0.001 to 1000"),
        (["--temperature=1e-40"], "0.001 to 1000"),
        (["--temperature=nan"], "0.001 to 1000"),
        (["--top_p=0"], "probability"),
        (["--start=a", "--start_file=b"], "not both"),
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


def test_the_speller_holds_back_half_characters():
    tokenizer = Tokenizer.build(Counter(story()), min_count=2)
    text = "却说龘😀é老道\n第"
    speller = Speller(tokenizer)
    pieces = [speller.add(int(i)) for i in tokenizer.encode(text)]
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)
    assert speller.add(tokenizer.cls) == "\n\n"
    broken = [tokenizer.token_to_id(t) for t in ("<0xE4>", "<0xE4>", "却")]
    assert "".join(map(speller.add, broken)).endswith("却")
