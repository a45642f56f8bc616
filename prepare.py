"""
Turn a text into what train.py reads: data/NAME/{train.bin,val.bin,vocab.txt,meta.json}.

    python prepare.py                         data/novel/*.txt if there are any, else a public-domain classic
    python prepare.py book.txt                your own novel
    python prepare.py books/ "*.epub" --out_dir=data/mine --vocab=vocab/chinese.txt

Reads .txt, .json (a list of strings), .jsonl ({"text": ...}) and .epub, each also as .gz or .xz or
in a .zip. UTF-8, UTF-16, GB18030/GBK and Big5 are detected. Paragraphs are kept, chapters are
found by their headings, and some whole chapters are held out for validation. A large text is never
in memory whole.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from configurator import UserError, configure, run, select


@dataclass
class Settings:
    inputs: list[str] = field(default_factory=list)  # files, folders, or globs
    out_dir: str = "data/novel"  # where the bins go
    encoding: str = "auto"  # of the files: utf-8, gb18030, big5, ...
    # cleaning; what each step removes is counted in the report
    clean: bool = True  # remove control characters, indents and blank lines
    drop_lines: str = ""  # remove lines in which this regular expression is found (a site's advertisements)
    simplify: bool = False  # traditional to simplified characters (needs the package opencc)
    # chapters
    val_fraction: float = 0.05  # share of the text to hold out, in whole chapters
    seed: int = 1337  # chooses the chapters held out
    report: bool = False  # list all headings that were found
    # the vocabulary
    vocab: str = "auto"  # a vocabulary file; auto: made from this text
    min_count: int = 2  # for vocab=auto: characters rarer than this are spelled in bytes
    split_digits: bool = False  # with a BERT vocabulary: each digit is a token, as in GPT2-Chinese

    REPLACED: ClassVar[dict[str, str]] = {"control": "--clean", "indent": "--clean", "blank_lines": "--clean"}

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
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from dataset import write_atomic
from text.bins import ChapterFile, build_vocabulary, split_validation, staging_folder, write_bins
from text.chapters import ChapterSplitter
from text.classic import fetch_classic
from text.cleaning import Cleaner, CleaningOptions
from text.readers import Source, find_sources, texts_in
from tokenizer import Tokenizer


def main(s: Settings) -> None:
    """Text files -> clean -> chapters -> vocabulary -> ids -> bins."""
    began = time.perf_counter()
    out = Path(s.out_dir)
    inputs = s.inputs or [file.as_posix() for file in texts_in("data/novel")] or [str(fetch_classic())]
    sources = find_sources(inputs, s.encoding)
    given = Tokenizer.load(s.vocab, s.split_digits) if s.vocab != "auto" else None
    cleaner = Cleaner(select(CleaningOptions, s))
    with staging_folder(out) as staging, ChapterFile(staging / "chapters.txt") as book:
        read_chapters(sources, cleaner, book)
        validation = split_validation(book.lengths, s.val_fraction, s.seed)
        tokenizer = given or build_vocabulary(book, validation, s.min_count)
        meta = write_bins(staging, book, validation, tokenizer)
        meta["sources"] = [{"path": source.name, "encoding": source.encoding} for source in sources]
        meta["removed"] = dict(cleaner.removed)
        meta["settings"] = asdict(s)
        write_atomic(staging / "meta.json", json.dumps(meta, ensure_ascii=False, indent=2).encode() + b"\n")
    print_report(s, meta, book, tokenizer, time.perf_counter() - began)


def read_chapters(sources: list[Source], cleaner: Cleaner, book: ChapterFile) -> None:
    """Read, clean and cut all sources into the book. Raises UserError when that is too little to hold some out."""
    for source in tqdm(sources, desc="read", unit=" files", delay=1, leave=False):
        for document in source.documents():
            splitter = ChapterSplitter()
            for block in cleaner.blocks(document):
                book.add(splitter.feed(block))
            book.add(splitter.flush())
    if sum(book.lengths) < 2:
        names = ", ".join(source.name for source in sources[:3])
        raise UserError(f"there is no text in {names}: empty, or cleaned away")
    if len(book.lengths) == 1:
        book.cut_single()
    if len(book.lengths) == 1:
        raise UserError(
            f"{sources[0].name} is too short: of {book.lengths[0]} characters none can be held out to validate on"
        )


# -- the report ------------------------------------------------------------------------------------------------------


def print_report(s: Settings, meta: dict, book: ChapterFile, tokenizer: Tokenizer, seconds: float) -> None:
    """What was read, removed, found and written, in a few lines."""
    print_sources(meta)
    print_chapters(book, list_all=s.report)
    print_vocabulary(meta, tokenizer, "made from the text" if s.vocab == "auto" else s.vocab)
    print_validation(meta)
    print_output(meta, Path(s.out_dir), seconds)


def print_sources(meta: dict) -> None:
    for source in meta["sources"][:5]:
        print(f"read       {source['path']}, {source['encoding']}")
    if len(meta["sources"]) > 5:
        print(f"           and {len(meta['sources']) - 5:,} more files")
    removed = ", ".join(f"{n:,} {name}" for name, n in meta["removed"].items() if n)
    print(f"cleaned    {total_characters(meta):,} characters stay; removed {removed or 'nothing'}")


def print_chapters(book: ChapterFile, list_all: bool) -> None:
    n = len(book.lengths)
    if book.headings:
        print(f"chapters   {n:,}, {book.headings:,} of them with a heading: {book.titles[0]} ... {book.titles[-1]}")
    else:
        print(f"chapters   no headings found, so the text was cut into {n:,} pieces at paragraphs")
    if list_all:
        for title, length in zip(book.titles, book.lengths):
            print(f"           {length:>8,}  {title}")


def print_vocabulary(meta: dict, tokenizer: Tokenizer, origin: str) -> None:
    share = meta["unknown_characters"] / total_characters(meta)
    how = "spelled in bytes" if tokenizer.native else "[UNK]"
    rare = "".join(list(meta["unknown"])[:30])
    print(
        f"vocabulary {tokenizer.vocab_size:,} tokens, {origin}; {share:.3%} of the characters are {how}"
        + (f": {rare}" if rare else "")
    )


def print_validation(meta: dict) -> None:
    n, titles = meta["val_characters"], meta["held_out"]
    print(
        f"held out   {len(titles)} chapters, {n:,} characters ({n / total_characters(meta):.1%}):"
        f" {', '.join(titles[:3])}" + (" ..." if len(titles) > 3 else "")
    )


def print_output(meta: dict, out: Path, seconds: float) -> None:
    print(
        f"wrote      {out.as_posix()}: train.bin {meta['train_tokens']:,} tokens, val.bin {meta['val_tokens']:,},"
        f" vocab.txt, meta.json, in {seconds:.1f} s"
    )
    places = "" if out == Path("data/novel") else f" --data_dir={out.as_posix()} --out_dir=out/{out.name}"
    print(f"next: python train.py config/novel.py{places}   (or config/laptop.py without a GPU)")


def total_characters(meta: dict) -> int:
    return meta["train_characters"] + meta["val_characters"]


if __name__ == "__main__":
    run(main, settings)
