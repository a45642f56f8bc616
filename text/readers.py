"""
Files -> text.

    for source in find_sources(["book.txt", "more/"]):
        for document in source.documents():      # a .txt file, a JSON string, an .epub
            for block in document.blocks: ...    # str, so that a large file is never in memory whole
        print(source.notes)                      # what was left out, replaced or guessed

Text (.txt, .md), HTML, JSON, EPUB, .docx, .odt and .fb2 are read, also compressed (.gz, .bz2, .xz, .zst), in .zip and
.tar archives, and in an archive in an archive. A file's first bytes say what it is, its name only where they do not.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from configurator import UserError
from dataset import FILES
from text import containers, kinds
from text.containers import COMPRESSED, DAMAGE, File, Unreadable, file_on_disk
from text.encodings import check_encoding
from text.natural import natural_key
from text.sources import READERS, Document, Source

__all__ = ["Document", "Source", "find_sources", "holds_files"]

READABLE = ".txt .md .html .json .jsonl .epub .docx .odt .fb2, also as .gz .bz2 .xz .zst, or in a .zip or .tar"
MAX_ARCHIVES = 2  # an archive in an archive


def find_sources(
    names: list[str], encoding: str = "auto", errors: str = "strict", skipped: Counter | None = None
) -> list[Source]:
    """The texts that files, folders and globs stand for; folders and archives in natural order.

    skipped: counts by kind (".jpg", ".docx (damaged)") what folders, globs and archives hold and is not read.
    Raises UserError for a name that stands for no text, and for a file that is named and cannot be read.
    """
    if encoding != "auto":
        check_encoding(encoding)
    if errors not in ("strict", "replace"):
        raise UserError(f"--errors={errors}: strict or replace is needed")
    finder = Finder(encoding, errors, Counter() if skipped is None else skipped)
    sources = [source for name in names for source in finder.named(name)]
    if names and not sources:
        raise finder.nothing_in(", ".join(names[:3]))
    return sources


def holds_files(folder: Path | str) -> bool:
    """Does a folder hold anything but hidden files and what prepare.py writes there?"""
    return any(not is_about(path.name) for path in files_in(Path(folder), Counter()))


def files_in(folder: Path, skipped: Counter) -> Iterator[Path]:
    """The files in a folder and below, in natural order, without hidden ones and what prepare.py itself writes."""
    found, seen = [], set()
    for parent, folders, files in os.walk(
        folder, onerror=lambda _: skipped.update(["unreadable folder"]), followlinks=True
    ):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder around it, or to one that was seen
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(parent, name) for name in files if not is_hidden(name) and name not in FILES]
    found.sort(key=lambda path: natural_key(path.relative_to(folder).as_posix()))
    for path in found:
        if os.path.realpath(path) not in seen:
            seen.add(os.path.realpath(path))
            yield path


def is_own(path: Path) -> bool:
    """Is it one of the four files that prepare.py wrote, with the other three in the same folder?"""
    return path.name in FILES and all((path.parent / name).is_file() for name in FILES)


def is_hidden(name: str) -> bool:
    """Files that no one means as text: hidden ones, and what macOS and Windows add to folders."""
    hidden = name.startswith(".") and name.strip(".") != ""
    return hidden or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN")


ABOUT = frozenset("readme license licence copying changelog contributing makefile mimetype".split())


def is_about(name: str) -> bool:
    """README, LICENSE ...: about what a folder holds."""
    return Path(name).stem.lower() in ABOUT


@dataclass
class Finder:
    """Finds the sources in files, folders and archives."""

    encoding: str
    errors: str
    skipped: Counter

    def named(self, name: str) -> list[Source]:
        """The sources that a name on the command line stands for."""
        path = Path(name)
        if (path / "META-INF" / "container.xml").is_file():
            raise UserError(f"{path} is an unpacked EPUB; pack what is in it into a .zip, and give that")
        if os.path.isdir(path):
            sources = self.several(files_in(path, self.skipped))
        elif is_own(path):  # the shell may have named it for a glob
            self.skipped[f"{path.name} (made by prepare.py)"] += 1
            return []
        elif os.path.isfile(path):
            sources = self.sources(file_on_disk(path), named=True)
        elif os.path.exists(path):
            raise UserError(f"{path} is not a file")
        else:
            sources = self.several(self.matching(name))
        if not sources:
            raise self.nothing_in(name)
        return sources

    def nothing_in(self, name: str) -> UserError:
        held = ", ".join(f"{n:,} {kind}" for kind, n in self.skipped.most_common(5))
        return UserError(
            f"there is no file to read in {name}" + (f", only {held}" if held else "") + f"; {READABLE} can be read"
        )

    def matching(self, pattern: str) -> Iterator[Path]:
        """The files that match a glob, or are in a folder that does. Raises UserError when nothing matches.

        Brackets are those of a name, such as 书[精校], if that exists, and else stand for one of several characters.
        """
        folder, name = (part.replace("[", "[[]") for part in os.path.split(pattern))
        patterns = (os.path.join(folder, name), os.path.join(folder, os.path.basename(pattern)), pattern)
        matches = next(filter(None, (glob.glob(each, recursive=True) for each in patterns)), [])
        if not matches:
            raise UserError(f"{pattern} " + ("matches no file" if glob.has_magic(pattern) else "does not exist"))
        for path in map(Path, sorted(matches, key=natural_key)):
            if path.is_dir():
                yield from files_in(path, self.skipped)
            elif not is_hidden(path.name) and path.name not in FILES:
                yield path

    def several(self, paths: Iterable[Path]) -> list[Source]:
        """The sources in files of which some may not be meant: what cannot be read is counted."""
        sources = []
        for path in paths:
            if is_about(path.name) or not path.is_file():
                self.skipped[path.name if path.is_file() else "no plain file"] += 1
                continue
            sources += self.counted(file_on_disk(path))
        return sources

    def counted(self, file: File) -> list[Source]:
        try:
            return self.sources(file, named=False)
        except Unreadable as error:
            self.skipped[(file.ending or "no ending") + (f" ({error.reason})" if error.reason else "")] += 1
            return []

    def sources(self, file: File, named: bool) -> list[Source]:
        """The sources in a file. named: the user named it, so it is read whatever its ending, or refused.

        Raises Unreadable for a kind that is not read, a damaged archive, an encrypted book.
        """
        try:
            kind = kinds.kind_of(file)
            if kind in COMPRESSED:
                return self.sources(containers.decompressed(file, kind), named)
            if kind in (".zip", ".tar"):
                return self.in_archive(file, kind)
            if kind == ".epub":
                from text.epub import check_book  # it imports lxml, which a .txt does not need

                check_book(file)
            if kind == "" and (named or (file.ending == "" and kinds.is_text(file))):
                kind = ".txt"
        except DAMAGE as error:
            raise containers.damage(file.name, error) from None
        if kind in READERS:
            return [Source(file, kind, self.encoding, self.errors)]
        if not named:
            raise Unreadable(f"{file.name} is not read")
        raise Unreadable(
            f"{file.name} is {'a ' + kind if kind[:1] == '.' else kind}, which is not read: {kinds.advice(kind)}"
        )

    def in_archive(self, file: File, kind: str) -> list[Source]:
        if file.archives >= MAX_ARCHIVES:
            raise Unreadable(f"{file.name} is an archive in an archive in an archive: unpack it", "nested too deeply")
        members = containers.zip_members(file) if kind == ".zip" else containers.tar_members(file)
        sources, start = [], len(file.name) + 1  # of the path inside the archive
        for member in sorted(members, key=lambda member: natural_key(member.name[start:])):
            parts = member.name[start:].split("/")
            if any(map(is_hidden, parts)) or parts[-1] in FILES:
                continue
            if is_about(parts[-1]):
                self.skipped[parts[-1]] += 1
            else:
                sources += self.counted(member)
        return sources
