"""The state of a store as one number in a mapped file, shared by all processes that read it.

Works like a seqlock: a writer makes the number odd, commits its change to the catalog, then makes
it even. A reader that finds the number it knows may go on with what it knows; a new number
sends it to the catalog; an odd one sends it there at every step, since a change may be in force
already. So a writer that dies in the middle leaves readers slow, never wrong, and the next change
mends the number. Reading it asks the system for nothing.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datastore.errors import CorruptDatastore
from datastore.files import is_read_only, locked, write_bytes

FILE_NAME = "epoch"
_FORMAT = struct.Struct("<8sQ")
_MAGIC = b"siloepo1"


class Epoch:
    """The shared counter of the store in ``folder``.

    Raises:
        CorruptDatastore: the file is missing or is not a counter.
    """

    def __init__(self, folder: Path) -> None:
        self._lock_path = folder / "epoch.lock"
        path = folder / FILE_NAME
        if not path.is_file() or path.stat().st_size != _FORMAT.size:
            raise CorruptDatastore(
                f"{path} should be a counter of {_FORMAT.size} bytes. Restore the store from a snapshot."
            )
        # Where the file may only be read, so may the number.
        is_mine = not is_read_only(folder) and os.access(path, os.W_OK)
        with path.open("r+b" if is_mine else "rb") as file:
            access = mmap.ACCESS_WRITE if is_mine else mmap.ACCESS_READ
            self._map = mmap.mmap(file.fileno(), _FORMAT.size, access=access)
        if self._map[:8] != _MAGIC:
            raise CorruptDatastore(f"{path} is not the counter of a store. Restore the store from a snapshot.")

    @staticmethod
    def create(folder: Path) -> None:
        """Write the counter of a new store."""
        write_bytes(folder / FILE_NAME, _FORMAT.pack(_MAGIC, 0))

    def value(self) -> int:
        """Twice the epoch that the catalog reached; odd while a change is under way or after its writer died."""
        number: int = _FORMAT.unpack(self._map)[1]
        return number

    @contextmanager
    def change(self, committed: Callable[[], int]) -> Iterator[None]:
        """Hold the right to change the catalog, one process at a time; others wait.

        ``committed`` tells the catalog's epoch afterward, whether the change was committed or taken back.
        """
        with locked(self._lock_path, wait=True):
            before = self.value() & ~1
            self._set(before | 1)
            try:
                yield
            finally:
                # Never back to a number that a reader may know, even where the catalog was restored from an older copy.
                self._set(max(before, 2 * committed()))

    def _set(self, number: int) -> None:
        self._map[8:16] = struct.pack("<Q", number)
