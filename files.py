"""Files that are whole or not there: synced and renamed; folders that belong to one process; checksums."""

import errno
import hashlib
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from configurator import UserError

# From a file system that has none, or cannot sync a folder: some network and shared folders.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF)


def sha256(path) -> str:
    """The hex digest of a file."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def fsync(path) -> None:
    """Wait until a file or folder is on the disk. Does nothing for a folder where that is impossible, as on Windows."""
    folder = Path(path).is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows needs the right to write
    try:
        os.fsync(handle)
    except OSError as error:
        if not folder or error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def rename(source, target) -> None:
    """os.replace. Where it is refused, it is tried again for six seconds: on Windows virus scanners open new files."""
    for seconds in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(seconds)
    os.replace(source, target)


@contextmanager
def replacing(path) -> Iterator[Path]:
    """A temporary name to write a file under. At the end of the block the file is synced and renamed to `path`.

    So a reader sees the old content or all of the new. After any error the old content is still there, and no temporary
    file.
    """
    temporary = Path(f"{path}.writing")
    try:
        yield temporary
        fsync(temporary)
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path, data: bytes) -> None:
    """Replace a file's content as `replacing` does. Raises OSError when it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


class FolderLock(AbstractContextManager):
    """An exclusive claim on a folder, for a with block. The system ends it with the process, however that ends.

    The lock is on a file `.lock` in the folder, which also says who holds it. The file stays; only the lock matters.
    """

    def __init__(self, folder: Path):
        """Claim the folder, made if missing. Raises UserError, naming the other process, when it is taken."""
        folder.mkdir(parents=True, exist_ok=True)
        self.file = open(folder / ".lock", "a+", encoding="utf-8")
        try:
            lock_file(self.file.fileno())
        except OSError as error:
            if error.errno in NO_LOCKS:
                warnings.warn(f"{folder} cannot be locked ({error.strerror}): run nothing else on it", stacklevel=2)
                return
            self.file.seek(0)
            holder = self.file.read().strip() or "another process"
            self.file.close()
            raise UserError(f"{folder} is in use by {holder}. Wait for it, stop it, or use another --out_dir") from None
        self.file.truncate(0)
        self.file.write(f"pid {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self.file.flush()

    def __exit__(self, *error) -> None:
        self.file.close()


def lock_file(handle: int) -> None:
    """Lock an open file for this process. Raises OSError when another process holds the lock."""
    if os.name == "nt":
        import msvcrt

        os.lseek(handle, 2**30, os.SEEK_SET)  # far behind the text, which others must be able to read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
