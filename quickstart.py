"""
From a fresh clone to a generated text, or to the tests, in one command. Needs Python 3.10 or newer and a network.

    python quickstart.py         set up .venv, prepare a text, train, generate
    python quickstart.py test    set up .venv, run the tests

Safe to run again: finished steps are skipped, interrupted training is resumed.
An installed torch (a CUDA build, for example) is used, not replaced. Standard library only.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
LONG_TEXT = 1_000_000  # characters: GPT-2 small memorizes a shorter text, and an ensemble is better (docs/recipe.md)
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main():
    if sys.version_info < (3, 10):
        sys.exit(f"quickstart.py: Python 3.10 or newer is needed, this is {sys.version.split()[0]}")
    if sys.argv[1:] not in ([], ["test"]):
        asked = sys.argv[1:] in (["--help"], ["-h"])
        print(__doc__.strip(), file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    os.chdir(HERE)
    if sys.argv[1:] == ["test"]:
        install("requirements-dev.txt")
        run("-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "tests")  # in two processes
        return
    install("requirements.txt")
    cuda = ask("import torch; print(torch.cuda.is_available())") == "True"
    if not cuda and shutil.which("nvidia-smi"):
        say(
            "There is an NVIDIA GPU here, but this torch cannot use it. pytorch.org (Get started) has the command\n"
            f"that installs a CUDA build. Run it with {PYTHON.relative_to(HERE)} -m pip and --force-reinstall added,\n"
            "then run this again."
        )
    meta = HERE / "data/novel/meta.json"
    if meta.exists() and not newer_texts(meta):
        say("data/novel is prepared already. (python prepare.py prepares it again.)")
    else:
        run("prepare.py")
    name = "laptop" if not cuda else "novel" if characters(meta) >= LONG_TEXT else "desktop"
    memory = ["--batch_size=auto"] if name == "novel" else []
    run("train.py", f"config/{name}.py", *memory, "--resume")  # starts, resumes, or finds the run finished
    run("sample.py", f"--model=out/{name}")
    say(f"To write with it in the browser: {PYTHON.relative_to(HERE)} serve.py --model=out/{name}")


def characters(meta: Path) -> int:
    return json.loads(meta.read_text(encoding="utf-8"))["train_characters"]


def newer_texts(meta: Path) -> bool:
    """Does the folder hold a text that meta.json does not list, or that came later?"""
    sources = json.loads(meta.read_text(encoding="utf-8"))["sources"]
    parts = {part for source in sources for part in source["path"].split("/")}
    known = parts | {part.partition(":")[0] for part in parts}  # a.zip:b.txt
    made_by_prepare = ("train.bin", "val.bin", "vocab.txt", "meta.json")
    texts = [p for p in meta.parent.iterdir() if p.name not in made_by_prepare and not p.name.startswith(".")]
    # ctime, too: a file that is copied or unpacked can keep an older date.
    came = max((max(p.stat().st_mtime, p.stat().st_ctime) for p in texts), default=0)
    return came > meta.stat().st_mtime or any(p.name not in known for p in texts)


def install(requirements: str) -> None:
    """Make .venv and install the packages, unless that was done for these requirement files."""
    files = [HERE / requirements, HERE / "requirements.txt", HERE / "constraints.txt"]
    stamp = VENV / ("installed-" + hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16])
    if stamp.exists():
        return
    if not ask("import pip; print(1)"):  # pip is what a venv lacks that was not finished
        say("making .venv")
        command = [sys.executable, "-m", "venv", "--system-site-packages", str(VENV)]
        if subprocess.run(command).returncode:
            sys.exit("quickstart.py: could not make .venv (on Debian and Ubuntu: apt install python3-venv)")
        if sys.prefix != sys.base_prefix:  # started from a virtual environment: make its packages visible too
            site_packages = ask("import sysconfig; print(sysconfig.get_paths()['purelib'])")
            lines = [f"import sys; sys.path.append({path!a})" for path in sys.path if path.endswith("site-packages")]
            # ASCII, because Python reads the file in the locale's encoding.
            (Path(site_packages) / "outer.pth").write_text("\n".join(lines) + "\n", encoding="ascii")
    say(f"installing {requirements} (torch is large: this can take some minutes)")
    constraints = (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    present = ask("import torch; print(torch.__version__)")
    if present and tuple(int(part) for part in present.split(".")[:2]) >= (2, 11):
        say(f"using the installed torch {present}")
        constraints = [line for line in constraints if not line.startswith("torch==")]
    pinned = VENV / "constraints.txt"
    pinned.write_text("\n".join(constraints) + "\n", encoding="utf-8")
    try:
        run("-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", requirements, "-c", str(pinned))
    except SystemExit:
        say("The packages could not be installed. Check the network (or set a mirror for pip), then run this again.")
        raise
    stamp.touch()


def run(*arguments: str) -> None:
    """Run a command with .venv's Python. Exits with its status when it fails."""
    say("> python " + " ".join(arguments))
    process, status = subprocess.Popen([str(PYTHON), *arguments]), None
    while status is None:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            pass  # the command received Ctrl-C too; wait until it has saved
    if status in (130, 143):
        say("stopped. To continue: " + " ".join([Path(sys.executable).name, "quickstart.py", *sys.argv[1:]]))
    if status:
        sys.exit(status)


def ask(code: str) -> str:
    """What a line of Python prints in .venv; "" when it fails, or there is none."""
    command = [str(PYTHON), "-c", code]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() if PYTHON.exists() else ""


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
