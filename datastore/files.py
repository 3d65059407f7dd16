"""Files that survive a crash: written under another name, synced, renamed, their folder synced.

Works on paths and bytes; knows nothing of documents. A reader sees a file whole or not at all.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.errors import CorruptDatastore, WriterBusy

TEMPORARY_PREFIX = ".tmp-"


def sync_file(path: Path) -> None:
    """Force the bytes of ``path`` to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Force the names in ``path`` to the disk; without it a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` whole and durably, replacing what was there."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def publish_folder(temporary: Path, final: Path) -> None:
    """Sync every file and folder in ``temporary`` and rename it to ``final`` durably."""
    for path in sorted(temporary.iterdir()):
        sync_folder(path) if path.is_dir() else sync_file(path)
    sync_folder(temporary)
    temporary.rename(final)
    sync_folder(final.parent)


def is_read_only(folder: Path) -> bool:
    """Whether ``folder`` lies on a disk that this process can only read, as it is mounted here."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def remove_leftovers(folder: Path) -> None:
    """Take away what a killed writer left under temporary names."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sha256_file(path: Path) -> str:
    """SHA-256, in hex, of the bytes at ``path``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file in ``folder``, by name."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in sorted(folder.iterdir())}


def check_files(folder: Path, expected: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise CorruptDatastore unless each named file has the size and SHA-256 that were recorded.

    Runs before any native reader sees a file: FAISS files have no checksum of their own, and a
    zeroed tail loads silently and answers wrongly.
    """
    for name, facts in expected.items():
        path = folder / name
        if not path.is_file():
            raise CorruptDatastore(f"{path} is missing. Restore the store from a snapshot, or build it again.")
        if path.stat().st_size != facts["bytes"] or sha256_file(path) != facts["sha256"]:
            raise CorruptDatastore(
                f"{path} was changed after it was written: expected {facts['bytes']} bytes with SHA-256 "
                f"{facts['sha256']}, found {path.stat().st_size} bytes. "
                "Restore the store from a snapshot, or build it again."
            )


def canonical_json(value: object) -> bytes:
    """The one encoding of ``value`` that is hashed and signed: sorted keys, no spaces, UTF-8.

    Raises ValueError for NaN and infinities, which JSON has no word for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The JSON object at ``path``. Raises CorruptDatastore where it is missing or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptDatastore(f"{path} should be {what}, but it cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise CorruptDatastore(f"{path} should be {what}; it holds a JSON {type(value).__name__}")
    return value


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write ``array`` to ``path`` as ``numpy.save`` does. Raises OSError where the disk is full or failing.

    Through a plain ``write``: given a real file, numpy hands it to C, where an error of the last bytes is lost.
    """
    with path.open("wb") as file:
        np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


def load_array(path: Path) -> NDArray[Any]:
    """The array at ``path``, memory-mapped; an empty one is read, since it cannot be mapped."""
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False) if array.size else array


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the advisory lock at ``path``; it dies with the process. Raises WriterBusy if not ``wait``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise WriterBusy(
                f"another process is writing to {path.parent}. Wait until it has finished, then try again."
            ) from None
        yield
    finally:
        os.close(descriptor)
