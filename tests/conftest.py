"""Shared by the tests: a generated story, a way to run the scripts, a small prepared text and a small trained run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two test processes share two cores

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

NAMES = "阿青 老道 小石 白狐 樵夫 渔翁 县令 书生".split()
PLACES = "山门 渡口 古寺 集市 竹林 井边".split()
DEEDS = "听见钟声 拾得一剑 遇着大雨 问起归路 取出干粮 望见灯火".split()
WORDS = "此去无妨 天色已晚 且慢动手 你我同行 莫要多言 后会有期".split()


def story(chapters: int = 12, paragraphs: int = 12) -> str:
    """A book with headings, paragraphs and dialogue. The same at every call."""
    state, book = 7, []

    def pick(words):
        nonlocal state
        state = (state * 1103515245 + 12345) % 2**31
        return words[(state >> 16) % len(words)]

    for number in range(1, chapters + 1):
        book.append(f"第{number}回 {pick(NAMES)}{pick(DEEDS)}")
        for _ in range(paragraphs):
            book.append(f"却说{pick(NAMES)}行至{pick(PLACES)}，{pick(DEEDS)}，便对{pick(NAMES)}道：“{pick(WORDS)}。”")
        book.append("")
    return "\n".join(book)


WHOLE = 0.7  # a temperature at which the tiny model writes no character in several bytes: an id is a character
ENVIRONMENT = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def script(
    name: str, *arguments, cwd, check: int | None = 0, environment: dict | None = None, **kwargs
) -> subprocess.CompletedProcess:
    """Run a script of the project as a user does. check: the exit status that it must have."""
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    environment = {**ENVIRONMENT, **(environment or {})}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300, **kwargs
    )
    if check is not None:
        assert done.returncode == check, f"{name} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


TINY = (
    "--n_layer=2 --n_head=2 --n_embd=32 --block_size=32 --batch_size=8 --gradient_accumulation_steps=1"
    " --warmup_iters=5 --log_interval=5 --compile=False --device=cpu --seed=1337"
).split()


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder with a prepared text in data/novel and a short run in out/tiny, which tests only read."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "data/novel").mkdir(parents=True)
    (folder / "data/novel/book.txt").write_text(story(), encoding="utf-8")
    script("prepare.py", cwd=folder)
    recipe = ["--decay_epochs=0", "--beta2=0.95", "--learning_rate=2e-3"]  # the texts of tests are of this model
    limits = ["--max_iters=40", "--eval_interval=20"]
    script("train.py", *TINY, *recipe, *limits, "--out_dir=out/tiny", cwd=folder)
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory) -> Path:
    """A folder as users of the GPT2-Chinese line have it: pytorch_model.bin and vocab.txt of a BERT vocabulary."""
    import torch
    from test_wordpiece import TOKENS
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(TOKENS) + 5, n_positions=24, n_embd=16, n_layer=2, n_head=2))
    model.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    return folder


def pytest_make_parametrize_id(config, val, argname):
    """Name bytes by their argument: those of archives hold the time at which they were made."""
    return argname if isinstance(val, bytes) else None
