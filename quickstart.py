"""
From a fresh clone to a text, and to the tests, in one command each. Needs Python 3.10 or newer and a network.

    python quickstart.py         set up .venv, prepare a text, train, let the model write
    python quickstart.py test    set up .venv, run the tests

Safe to run again: what is done is not done again, an interrupted training goes on where it was.
A torch that is installed already (a CUDA build, say) is used, not replaced. Standard library only.
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
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main():
    if sys.version_info < (3, 10):
        sys.exit("quickstart.py: Python 3.10 or newer is needed, this is %d.%d" % sys.version_info[:2])
    if sys.argv[1:] not in ([], ["test"]):
        print(__doc__.strip(), file=sys.stdout if sys.argv[1:] in (["--help"], ["-h"]) else sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["--help"], ["-h"]) else 2)
    os.chdir(HERE)
    if sys.argv[1:] == ["test"]:
        install("requirements-dev.txt")
        run("-m", "pytest", "-q", "tests")
        return
    install("requirements.txt")
    cuda = ask("import torch; print(torch.cuda.is_available())") == "True"
    if not cuda and shutil.which("nvidia-smi"):
        say("There is an NVIDIA GPU here, but this torch cannot use it. pytorch.org (Get started) has the command that")
        say("installs a CUDA build; run it with %s -m pip and --force-reinstall added, then run this again." % PYTHON.relative_to(HERE))
    meta = HERE / "data/novel/meta.json"
    if meta.exists() and not newer_texts(meta):
        say("data/novel is prepared already. (python prepare.py prepares it anew.)")
    else:
        run("prepare.py")
    name = "novel" if cuda else "laptop"
    run("train.py", f"config/{name}.py", "--resume")  # from the start, from where it stopped, or done already
    run("sample.py", f"--model=out/{name}")


def newer_texts(meta: Path) -> bool:
    """Is there a text beside meta.json that it does not know, or that is newer than it?"""
    known = [source["path"] for source in json.loads(meta.read_text(encoding="utf-8"))["sources"]]
    texts = [path for path in meta.parent.iterdir() if path.name not in ("train.bin", "val.bin", "vocab.txt", "meta.json") and not path.name.startswith(".")]
    return any(path.stat().st_mtime > meta.stat().st_mtime or not any(path.name in name for name in known) for path in texts)


def install(requirements: str) -> None:
    """Make .venv and put the packages into it, unless that has been done for these very files."""
    files = [HERE / requirements, HERE / "requirements.txt", HERE / "constraints.txt"]
    stamp = VENV / ("installed-" + hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16])
    if stamp.exists():
        return
    if not PYTHON.exists():
        say("making .venv")
        command = [sys.executable, "-m", "venv", "--system-site-packages", str(VENV)]
        if subprocess.run(command).returncode:
            sys.exit("quickstart.py: could not make .venv (on Debian and Ubuntu: apt install python3-venv)")
        if sys.prefix != sys.base_prefix:  # run from a virtual environment: see its packages too
            site_packages = ask("import sysconfig; print(sysconfig.get_paths()['purelib'])")
            outer = [path for path in sys.path if path.endswith("site-packages")]
            lines = [f"import sys; sys.path.append({path!a})" for path in outer]  # ASCII, for it is read in the locale's encoding
            (Path(site_packages) / "outer.pth").write_text("\n".join(lines) + "\n", encoding="ascii")
    say(f"installing {requirements} (torch is large: this can take some minutes)")
    constraints = (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    present = ask("import torch; print(torch.__version__)")
    if present and tuple(int(part) for part in present.split(".")[:2]) >= (2, 11):
        say(f"using the torch {present} that is here")
        constraints = [line for line in constraints if not line.startswith("torch==")]
    pinned = VENV / "constraints.txt"
    pinned.write_text("\n".join(constraints) + "\n", encoding="utf-8")
    run("-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", requirements, "-c", str(pinned))
    stamp.touch()


def run(*arguments: str) -> None:
    """A command of .venv's Python, its output on the terminal. Leaves with its status when it fails."""
    say("> python " + " ".join(arguments))
    process, status = subprocess.Popen([str(PYTHON), *arguments]), None
    while status is None:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            pass  # the command has had it too: let it save, and wait
    if status:
        sys.exit(status)


def ask(code: str) -> str:
    """What a line of Python prints in .venv; "" where it fails."""
    return subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True).stdout.strip()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
