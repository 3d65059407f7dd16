"""Files that are there whole or not at all.

A file is written under a temporary name, flushed to the disk and renamed, and then its folder
is flushed; so a reader, or a machine that lost power, finds the old content or the new one.
Knows nothing of what the files mean.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that replaces ``path`` when the block ends, and leaves it alone when the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield cast(BinaryIO, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder that becomes ``path`` when the block ends, and is removed when the block raises.

    Raises:
        FileExistsError: ``path`` is there already; what is published is never written over.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; choose another name or move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            if entry.is_file():
                entry.chmod(0o666 & ~_umask())
                with entry.open("rb") as stream:
                    os.fsync(stream.fileno())
            else:
                flush_folder(entry)
        flush_folder(temporary)
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    flush_folder(path.parent)


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def flush_folder(path: Path) -> None:
    """Make the folder's entries durable, where the platform can."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """Temporary files are made private; a published one gets the permissions that a plain ``open`` gives."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
