"""
Turn a text into what train.py reads: data/NAME/{train.bin,val.bin,vocab.txt,meta.json}.

    python prepare.py                         data/novel/ if it holds a text, else a classic
    python prepare.py book.txt                your own novel
    python prepare.py books/ "*.epub" --out_dir=data/mine --vocab=vocab/chinese.txt

Reads text, Markdown, HTML, EPUB, .docx, .odt, .fb2, .json and .jsonl, also compressed and in
archives. The encoding is detected. Paragraphs are kept, chapters are found by their headings,
copies of chapters are left out, and some chapters are held out for validation. A large text is
never in memory whole.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from configurator import PathStr, UserError, configure, quote, run, select


@dataclass
class Settings:
    inputs: list[PathStr] = field(default_factory=list)  # files, folders, or globs
    out_dir: PathStr = "data/novel"  # where the bins go
    encoding: str = "auto"  # of the files: utf-8, gb18030, big5, ...
    errors: str = "strict"  # strict: refuse bytes that do not fit the encoding; replace: read on, and count them
    strict: bool = False  # stop where the report would only warn
    # cleaning; what each step removes is counted in the report
    clean: bool = True  # remove control characters, indents and blank lines
    unwrap: bool = False  # join lines that were cut at a fixed width
    drop_lines: list[str] = field(default_factory=list)  # remove lines in which this regular expression is found
    simplify: bool = False  # traditional to simplified characters (needs the package opencc)
    # chapters
    heading: str = ""  # lines in which this regular expression is found are the headings; empty: they are detected
    val_fraction: float = 0.05  # share of the text to hold out, in whole chapters
    seed: int = 1337  # chooses the chapters held out
    report: bool = False  # list all headings that were found
    # the vocabulary
    vocab: PathStr = "auto"  # a vocabulary file; auto: made from this text
    min_count: int = 2  # for vocab=auto: characters rarer than this are spelled in bytes
    split_digits: bool = False  # with a BERT vocabulary: each digit is a token, as in GPT2-Chinese

    REPLACED: ClassVar[dict[str, str]] = {"control": "--clean", "indent": "--clean", "blank_lines": "--clean"}

    def __post_init__(self):
        for is_right, message in (
            (0 < self.val_fraction < 1, f"--val_fraction={self.val_fraction}: a share between 0 and 1 is needed"),
            (self.out_dir, "--out_dir needs a folder's name"),
            (self.seed >= 0, f"--seed={self.seed}: 0 or more is needed"),
            (self.min_count >= 1, f"--min_count={self.min_count}: at least 1 is needed"),
        ):
            if not is_right:
                raise UserError(message)


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import json
import re
import time
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from files import write_atomic
from text import quality
from text.bins import build_vocabulary, hold_out, remove_overlap, staging_folder, write_bins
from text.book import BookFile
from text.chapters import HeadingFinder, Headings, find_headings, plan
from text.classic import fetch_classic
from text.cleaning import Cleaner, CleaningOptions, regular_expression
from text.copies import CopyFinder
from text.readers import Document, Source, find_sources, holds_files
from tokenizer import Tokenizer

ENOUGH = 300_000  # characters for GPT-2 small: it memorizes a shorter text


def main(s: Settings) -> None:
    """Text files -> clean -> chapters -> vocabulary -> ids -> bins."""
    began = time.perf_counter()
    inputs = s.inputs or (["data/novel"] if holds_files("data/novel") else [str(fetch_classic())])
    skipped = Counter()
    sources = find_sources(inputs, s.encoding, s.errors, skipped)
    given = Tokenizer.load(s.vocab, s.split_digits) if s.vocab != "auto" else None
    cleaner, heading = Cleaner(select(CleaningOptions, s)), regular_expression("heading", s.heading)
    with staging_folder(Path(s.out_dir)) as staging, BookFile(staging / "book.txt") as book:
        headings, copies = read_book(sources, cleaner, heading, book)
        validation = hold_out(book, copies, s.val_fraction, s.seed)
        if not validation:
            raise UserError(
                f"{sources[0].name} is too short: of {book.characters} characters none can be held out to validate on"
            )
        overlap = remove_overlap(book, copies, validation)
        warnings = quality.warnings(book)
        if warnings and s.strict:
            raise UserError("\n".join(warnings))
        tokenizer = given or build_vocabulary(book, validation, s.min_count)
        meta = write_bins(staging, book, validation, tokenizer) | {
            "sources": [{"path": source.name, "encoding": source.encoding} for source in sources],
            "notes": {source.name: source.notes for source in sources if source.notes},
            "skipped": skipped,
            "removed": cleaner.removed,
            "copies": copies.removed,
            "overlap": overlap,
            "warnings": warnings,
            "headings": describe_headings(headings),
            "settings": asdict(s),
        }
        write_atomic(staging / "meta.json", json.dumps(meta, ensure_ascii=False, indent=2).encode() + b"\n")
    print_sources(meta)
    print_chapters(meta, book, list_all=s.report)
    for warning in warnings:
        print(f"warning    {warning}")
    print_vocabulary(meta, tokenizer, "made from the text" if s.vocab == "auto" else s.vocab)
    print_output(meta, Path(s.out_dir), time.perf_counter() - began)


def read_book(
    sources: list[Source], cleaner: Cleaner, heading: re.Pattern | None, book: BookFile
) -> tuple[Headings, CopyFinder]:
    """Read and clean all sources, find the chapters, leave out copies. Raises UserError when there is no text."""
    finder = HeadingFinder(heading)
    for source in tqdm(sources, "read", unit=" files", leave=False, delay=1.0):
        for number, document in enumerate(source.documents()):
            finder.begin_document(first_of_file=number == 0)
            read_document(document, cleaner, finder, book)
    headings = find_headings(finder.lines, finder.size)
    if heading and not headings.lines:
        raise UserError(f"--heading={heading.pattern} is found in no line of the text")
    book.cut(plan(headings, finder.documents, finder.size))
    if book.characters < 2:
        names = ", ".join(source.name for source in sources[:3])
        raise UserError(f"there is no text in {names}: empty, or cleaned away")
    if len(book.chapters) == 1 and not book.chapters[0].headings:
        book.cut_single()
    copies = CopyFinder(book)
    copies.remove()
    return headings.inside([(chapter.start, chapter.end) for chapter in book.chapters]), copies


def read_document(document: Document, cleaner: Cleaner, finder: HeadingFinder, book: BookFile) -> None:
    start = book.size
    for block in cleaner.blocks(document):
        finder.feed(block)
        book.write(block)
    if document.titles and not finder.heading:
        other = Cleaner(cleaner.options)  # what it removes from the titles is not counted
        titles = {"".join(other.blocks([title])).strip() for title in document.titles}
        finder.add_titles(start, book.text(start, book.size), titles - {""})


# -- the report ------------------------------------------------------------------------------------------------------


def print_sources(meta: dict) -> None:
    sources, notes = meta["sources"], meta["notes"]
    for source in sources[:5]:
        print(f"read       {source['path']}, {source['encoding']}")
        for note in notes.get(source["path"], [])[:5]:
            print(f"           {note}")
    if len(sources) > 5:
        print(f"           and {len(sources) - 5:,} more files")
        later = {name: notes[name] for source in sources[5:] if (name := source["path"]) in notes}
        for name, own in list(later.items())[:5]:
            print(f"           {name}: {'; '.join(own)}")
        if len(later) > 5:
            print(f"           and notes on {len(later) - 5:,} more files: see meta.json")
    if meta["skipped"]:
        kinds = sorted(meta["skipped"].items(), key=lambda item: -item[1])
        print(
            f"not read   {', '.join(f'{n:,} {kind}' for kind, n in kinds[:10])}" + (" ..." if len(kinds) > 10 else "")
        )
    removed = ", ".join(f"{n:,} {name}" for name, n in meta["removed"].items() if n)
    print(f"cleaned    {total_characters(meta):,} characters stay; removed {removed or 'nothing'}")
    if meta["settings"]["unwrap"] and not meta["removed"]["line breaks inside paragraphs"]:
        print("           --unwrap joined no lines: no width was found at which they were cut")


def describe_headings(headings: Headings) -> list[dict]:
    """For each form of heading: an example, how many there are, what is missing and doubled in the count."""
    forms = [
        {
            "form": count.form,
            "example": count.lines[0].text,
            "count": len(count.lines),
            "first": count.lines[0].value,
            "last": max(line.value for line in count.lines),
            "restarts": count.restarts,
            "backwards": count.is_backwards,
            "missing": count.missing,
            "doubled": count.doubled,
        }
        for count in headings.counts
    ]
    numbered = {line.start for count in headings.counts for line in count.lines}
    others = [line for line in headings.lines if line.start not in numbered]
    parts = [line.text for line in others if line.value is None or line.is_marked]
    contents = [line.text for line in others if line.value is not None and not line.is_marked]
    kinds = {"parts": parts, "contents": contents}
    return forms + [{"form": name, "example": lines[0], "count": len(lines)} for name, lines in kinds.items() if lines]


def print_chapters(meta: dict, book: BookFile, list_all: bool) -> None:
    copies = meta["copies"]
    if copies:
        print(
            f"copies     left out {len(copies):,} chapters of which all or most stands in others:"
            f" {', '.join(copies[:3])}" + (" ..." if len(copies) > 3 else "")
        )
    headed = sum(bool(chapter.headings) for chapter in book.chapters)
    if headed:
        titles = [chapter.title for chapter in book.chapters if chapter.begins]
        print(f"chapters   {meta['chapters']:,}, {headed:,} of them with a heading: {titles[0]} ... {titles[-1]}")
        for form in meta["headings"]:
            print(f"           {form_sentence(form)}")
    elif len(meta["sources"]) > 1 and len(meta["sources"]) == len(book.chapters):
        print(f"chapters   {meta['chapters']:,}: no headings found, so each file is one")
    else:
        ends = "paragraphs" if book.counts[ord("\n")] else "the ends of sentences"
        print(f"chapters   no headings found, so the text was cut into {meta['chapters']:,} pieces at {ends}")
    if list_all:
        for chapter in book.chapters:
            print(f"           {chapter.length:>8,}  {' / '.join(chapter.headings) or chapter.title}")


def form_sentence(form: dict) -> str:
    kinds = {"parts": "without a number", "contents": "in a table of contents"}
    if form["form"] in kinds:
        return f"{form['count']:,} {kinds[form['form']]}, such as {form['example'][:40]}"
    text = f"{form['count']:,} such as {form['example'][:40]}, numbered {form['first']} to {form['last']}"
    if form["backwards"]:
        return text + ", and they go down: the book is in reverse order"
    if form["restarts"]:
        text += f", begun again {form['restarts']:,} times"
    if form["missing"]:
        text += f"; missing: {ranges(form['missing'])}"
    if form["doubled"]:
        text += f"; twice in a row: {ranges(form['doubled'])}"
    return text


def ranges(numbers: list[int], at_most: int = 10) -> str:
    """[3, 7, 8, 9] -> 3, 7-9."""
    by_distance = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])  # the same for those in a row
    runs = [[n for _, n in run] for _, run in by_distance]
    shown = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:at_most]]
    return ", ".join(shown) + (f" and {len(runs) - at_most:,} more" if len(runs) > at_most else "")


def print_vocabulary(meta: dict, tokenizer: Tokenizer, origin: str) -> None:
    share = meta["unknown_characters"] / total_characters(meta)
    how = "spelled in bytes" if tokenizer.native else "[UNK]"
    rare = "".join(list(meta["unknown"])[:30])
    print(
        f"vocabulary {tokenizer.vocab_size:,} tokens, {origin}; {share:.3%} of the characters are {how}"
        + (f": {rare}" if rare else "")
    )


def print_output(meta: dict, out: Path, seconds: float) -> None:
    n, titles = meta["val_characters"], meta["held_out"]
    print(
        f"held out   {len(titles)} chapters, {n:,} characters ({n / total_characters(meta):.1%}):"
        f" {', '.join(titles[:3])}" + (" ..." if len(titles) > 3 else "")
    )
    if meta["overlap"]:
        print(f"           without {meta['overlap']:,} characters of sentences that are in the training text too")
    little = total_characters(meta) < ENOUGH
    if little:
        print(
            f"little     {total_characters(meta):,} characters are little for config/novel.py (wanted: {ENOUGH:,}): it"
            " will copy them. Add text, or use config/laptop.py, a smaller model"
        )
    print(
        f"wrote      {out.as_posix()}: train.bin {meta['train_tokens']:,} tokens, val.bin {meta['val_tokens']:,},"
        f" vocab.txt, meta.json, in {seconds:.1f} s"
    )
    places = (
        "" if out == Path("data/novel") else f" --data_dir={quote(out.as_posix())} --out_dir={quote(f'out/{out.name}')}"
    )
    without_gpu = "" if little else "   (or config/laptop.py without a GPU)"
    print(f"next: python train.py config/{'laptop' if little else 'novel'}.py{places}{without_gpu}")


def total_characters(meta: dict) -> int:
    return meta["train_characters"] + meta["val_characters"]


if __name__ == "__main__":
    run(main, settings)
