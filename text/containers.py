"""
Files on the disk, inside archives, and compressed.

Nothing is unpacked to a named file, so paths inside an archive do no harm. What unpacks to a hundred times its size is
refused.
"""

import bz2
import gzip
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from configurator import UserError
from text.encodings import NotText, detect_encoding

MAX_RATIO = 100  # unpacked size to packed size; a novel has about 3
MAX_UNCHECKED = 2**26  # bytes that may be unpacked at any ratio
MAX_LAYERS = 3  # of compression
HEAD = 2**16  # bytes by which the kind of a file is known

DAMAGE = (  # what the standard library and lxml raise for a damaged, encrypted or forged file
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    OverflowError,
    AttributeError,
    TypeError,
    MemoryError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    SyntaxError,  # such are lxml's
)


class Unreadable(UserError):
    """A file that is not read. reason: in a word, for files that are only counted."""

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason


@dataclass(eq=False)
class File:
    """A file on the disk or inside another."""

    name: str  # as it is shown: a path, and after ":" a path inside the archive
    open: Callable[[], IO[bytes]]
    packed_size: int  # of the compressed bytes that it comes from
    path: Path | None = None  # where it lies on the disk as it is
    archives: int = 0  # how many are around it
    layers: int = 0  # how often it is compressed
    inner: str = ""  # the name by which its kind is known, where that is not the end of `name`

    @property
    def ending(self) -> str:
        """ ".txt"; "" for none. An ending has one to eight Latin letters and digits, and is not all digits."""
        found = re.search(r"\.([A-Za-z0-9]{1,8})$", self.inner or self.name)
        return "." + found[1].lower() if found and not found[1].isdigit() else ""

    @property
    def max_size(self) -> int:
        return max(MAX_UNCHECKED, MAX_RATIO * self.packed_size)

    def head(self) -> bytes:
        with self.open() as file:
            return file.read(HEAD)

    def too_large(self) -> Unreadable:
        return Unreadable(
            f"{self.name} unpacks to more than {MAX_RATIO} times its size: not a text, so it was not read", "too large"
        )

    def chunks(self, stream: IO[bytes], size: int) -> Iterator[bytes]:
        """The bytes of the file, or of a file in it, so many at a time. Raises Unreadable for a decompression bomb."""
        total = 0
        with stream:
            while chunk := stream.read(size):
                total += len(chunk)
                if total > self.max_size:
                    raise self.too_large()
                yield chunk

    def seekable(self) -> IO[bytes]:
        """The file, for reading at any place: a copy when it is compressed. Raises Unreadable for a bomb."""
        if self.path:
            return open(self.path, "rb")
        copy = tempfile.SpooledTemporaryFile(max_size=MAX_UNCHECKED)
        copy.writelines(self.chunks(self.open(), 2**20))
        copy.seek(0)
        return copy


def damage(name: str, error: Exception) -> UserError:
    """The sentence for an error of DAMAGE. A UserError has one already."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, PermissionError):
        return Unreadable(f"cannot read {name}: permission denied", "permission denied")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, (zipfile.BadZipFile, EOFError)):
        reason = f"the archive is damaged or cut short, so get it again ({reason})"
    if isinstance(error, (LookupError, AttributeError, TypeError)):
        reason = f"its structure is wrong ({reason})"
    return Unreadable(f"cannot read {name}: {reason.splitlines()[0][:200]}", "damaged")


def printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def file_on_disk(path: Path) -> File:
    return File(printable(path.as_posix()), lambda: open(path, "rb"), path.stat().st_size, path)


# -- compressed files ------------------------------------------------------------------------------------------------


def open_zst(file: IO[bytes]) -> IO[bytes]:
    with suppress(ImportError):
        from compression import zstd  # Python 3.14

        return zstd.ZstdFile(file)
    try:
        import zstandard  # an optional package
    except ImportError:
        message = "a .zst file is read with the package zstandard: pip install zstandard, or unpack it"
        raise Unreadable(message, "needs the package zstandard") from None
    return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)


COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": open_zst}


def decompressed(file: File, kind: str) -> File:
    """What is in a compressed file. Its kind is known by the name without the ending."""
    ending = {".tgz": ".tar", ".tbz2": ".tar", ".tbz": ".tar", ".txz": ".tar", ".tzst": ".tar"}.get(file.ending, "")
    known = file.ending in (".gz", ".bz2", ".xz", ".zst", ".lzma") or ending
    inner = re.sub(r"\.[^.]*$", ending, file.inner or file.name) if known else file.inner
    opener = COMPRESSED[kind]
    if file.layers == MAX_LAYERS:
        raise Unreadable(f"{file.name} is compressed more than {MAX_LAYERS} times: unpack it", "nested too deeply")
    return File(file.name, lambda: opener(file.open()), file.packed_size, None, file.archives, file.layers + 1, inner)


# -- archives ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def open_zip(file: File) -> zipfile.ZipFile:
    return zipfile.ZipFile(file.seekable())


@lru_cache(maxsize=8)
def open_tar(file: File) -> tarfile.TarFile:
    return tarfile.open(fileobj=file.seekable(), mode="r:")


def zip_members(file: File) -> list[File]:
    """The files in a .zip. Raises Unreadable when it is encrypted or a bomb, an error of DAMAGE when it is damaged."""
    infos = [info for info in open_zip(file).infolist() if not info.is_dir()]
    if any(info.flag_bits & 1 for info in infos):
        raise Unreadable(f"{file.name} is encrypted: unpack it with its password, and give what is in it", "encrypted")
    if sum(info.file_size for info in infos) > file.max_size:
        raise file.too_large()
    return [
        member(file, name, lambda info=info: open_zip(file).open(info), info.compress_size)
        for name, info in zip(member_names(infos), infos)
    ]


def member_names(infos: list[zipfile.ZipInfo]) -> list[str]:
    """The names in a .zip. One that is not in cp437 is in Unicode already (from Python 3.12 on, also by its field)."""
    names, raw = [info.filename for info in infos], {}
    for i, info in enumerate(infos):
        with suppress(UnicodeEncodeError):
            if not info.flag_bits & 0x800:
                raw[i] = info.filename.encode("cp437")
    try:
        encoding = detect_encoding(b"\n".join(raw.values()))
    except NotText:
        encoding = "cp437"
    for i, name in raw.items():
        names[i] = name.decode(encoding, "replace")
    return [name.replace("\\", "/") for name in names]


def tar_members(file: File) -> list[File]:
    """The files in a .tar. Raises an error of DAMAGE when it is damaged."""
    return [
        member(file, tar_name(info), lambda info=info: open_tar(file).extractfile(info), info.size)
        for info in open_tar(file).getmembers()
        if info.isreg() and not info.issparse()
    ]


def tar_name(info: tarfile.TarInfo) -> str:
    raw = info.name.encode("utf-8", "surrogateescape")
    try:
        return raw.decode(detect_encoding(raw), "replace")
    except NotText:
        return raw.decode("utf-8", "replace")


def member(archive: File, name: str, opener: Callable[[], IO[bytes]], packed_size: int) -> File:
    return File(f"{archive.name}:{printable(name)}", opener, packed_size, archives=archive.archives + 1)
