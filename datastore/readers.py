"""The barrier: an opt-out is acknowledged when nobody still works with what was read before it.

Every process that has a store open has a file of its own in the folder ``readers``, mapped and shared: a cell for
each step that runs, with the number of the epoch at which it began, and one number that others write, the fence. A
step begins by writing its cell and ends by clearing it; neither asks the system for anything. A writer that has moved
the epoch waits until every cell that is older is clear. Whoever has not cleared it in time is fenced: the number is
written to its file, and each of its steps that began before that number raises ``ReaderFenced`` at its next question
and at its end, so that its result is never used. The end of a step and the fence are each written before the other is
read: either the step ended before the acknowledgement, or it learns of it.

A file is locked by its owner for as long as it lives. A lock that can be had is a dead process's, and the file goes. A
fork shares its parent's lock, so it gets a file of its own.

Why there is no bitmap shared by all processes: each derives its masks from the catalog when the epoch moves, in time
that grows with what was removed, not with the store. A second record on disk could fall behind the catalog in a crash,
would have to be laid out again by every ``add`` and compaction under the readers' eyes, and would make nothing faster
that is asked between two epochs.

On x86 the lock inside the queue of cells orders the write of a cell before the read of the epoch; on other processors
it is the writer who leaves time: between the two it syncs files to the disk.
"""

import fcntl
import mmap
import os
import queue
import threading
import time
import uuid
import weakref
from pathlib import Path
from types import TracebackType

from datastore.epoch import Epoch
from datastore.errors import ReaderFenced
from datastore.files import TEMPORARY_PREFIX

FOLDER = "readers"
PATIENCE = 2.0
"""Seconds that an opt-out waits for a step."""
N_CELLS = 127
"""Steps of one process that can run at once; the next one waits for one of them."""
_FENCE = N_CELLS
_BYTES = 8 * (N_CELLS + 1)
_POLL = 0.0005
_ATTEMPTS = 20


class Readers:
    """The readers of the store in ``folder``: this process as one of them, and the others as an opt-out sees them.

    ``can_be_waited_for`` turns False at the first step of a process that cannot have a file: on a disk that it may
    only read. It then reads the epoch before and after each answer, as ever, but no opt-out waits for its steps.
    """

    def __init__(self, folder: Path, epoch: Epoch) -> None:
        self._folder = folder / FOLDER
        self._epoch = epoch
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._claim: _Claim | None = None
        self.can_be_waited_for = True
        _all.add(self)

    def step(self) -> "Step":
        """A step, to be entered with ``with``."""
        return Step(self, self._epoch, self._thread)

    def check(self) -> bool:
        """Whether this thread is in a step. Raises ReaderFenced where the step was fenced."""
        number, claim = getattr(self._thread, "running", (0, None))
        if claim is not None and claim.fence > number:
            raise ReaderFenced(_FENCED)
        return hasattr(self._thread, "running")

    def wait(self, patience: float = PATIENCE) -> int:
        """Return when no step runs that began before the epoch as it is now; how many processes were fenced for that.

        ``patience`` is in seconds.
        """
        number = self._epoch.value() + 1 & ~1  # the next even one: a step that began during a change may predate it
        deadline = time.monotonic() + patience
        waiting = [path for path in _files(self._folder) if _is_behind(path, number)]
        while waiting and time.monotonic() < deadline:
            time.sleep(_POLL)
            waiting = [path for path in waiting if _is_behind(path, number)]
        return sum(_fence(path, number) for path in waiting)

    def close(self) -> None:
        """Give up this process's file."""
        with self._lock:
            claim, self._claim = self._claim, None
        if claim is not None:
            claim.path.unlink(missing_ok=True)

    def claim(self) -> "_Claim | None":
        """This process's file, made at the first step; None where there can be none."""
        if self._claim is None and self.can_be_waited_for:
            with self._lock:
                if self._claim is None:
                    self._claim = _claim(self._folder)
                    self.can_be_waited_for = self._claim is not None
        return self._claim

    def forget(self) -> None:
        """In a fork: leave the parent's file to the parent."""
        self._lock, self._thread, self._claim = threading.Lock(), threading.local(), None


class Step:
    """A stretch of work with answers of the store. Steps inside steps are the outer one's."""

    def __init__(self, readers: Readers, epoch: Epoch, thread: threading.local) -> None:
        self._readers, self._epoch, self._thread = readers, epoch, thread
        self._claim: _Claim | None = None
        self._cell = -1
        self._is_inner = False

    def __enter__(self) -> "Step":
        self._is_inner = hasattr(self._thread, "running")
        if self._is_inner:
            return self
        self._claim = claim = self._readers.claim()
        number = self._epoch.value()
        if claim is not None:
            self._cell = claim.free.get()
            claim.cells[self._cell] = number + 1
            while (later := self._epoch.value()) != number:
                number = later
                claim.cells[self._cell] = number + 1
        self._thread.running = (number, claim)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_inner:
            return
        number, claim = self._thread.running
        del self._thread.running
        if claim is not None:
            claim.cells[self._cell] = 0
            claim.free.put(self._cell)
            if claim.fence > number and kind is None:
                raise ReaderFenced(_FENCED)


class _Claim:
    """A file of cells that this process owns. Raises OSError where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            _remove_if_dead(path)
        self.path = folder / f"{os.getpid()}-{uuid.uuid4().hex}"
        temporary = folder / f"{TEMPORARY_PREFIX}{self.path.name}"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, bytes(_BYTES))  # not a hole, which a full disk could not fill later
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.rename(self.path)
            # The map keeps a descriptor of its own, so the lock lives as long as the map.
            self.cells = memoryview(mmap.mmap(descriptor, _BYTES)).cast("Q")
        finally:
            os.close(descriptor)
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for cell in range(N_CELLS):
            self.free.put(cell)

    @property
    def fence(self) -> int:
        """Steps that began before this number are fenced."""
        return self.cells[_FENCE]


_FENCED = (
    f"a document was opted out during this step, which had not ended {PATIENCE:.0f} s later. What it found is not to "
    "be used; begin the step again."
)
_all: "weakref.WeakSet[Readers]" = weakref.WeakSet()


def _forget_all() -> None:
    for readers in list(_all):
        readers.forget()


os.register_at_fork(after_in_child=_forget_all)


def _claim(folder: Path) -> _Claim | None:
    for _ in range(_ATTEMPTS):
        try:
            return _Claim(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process took the unfinished file for a dead one's
        except OSError:
            break
    return None


def _files(folder: Path) -> list[Path]:
    try:
        return [folder / entry.name for entry in os.scandir(folder) if not entry.name.startswith(TEMPORARY_PREFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_behind(path: Path, number: int) -> bool:
    """Whether a living process has a step that began before ``number`` and is not fenced."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    if len(data) != _BYTES:
        return False  # no reader's
    cells = memoryview(data).cast("Q")
    fence = cells[_FENCE] + 1  # a cell is its number and one, so that 0 can say that it is free
    return any(cell and fence <= cell <= number for cell in cells[:_FENCE]) and not _remove_if_dead(path)


def _fence(path: Path, number: int) -> bool:
    """Fence the steps of ``path`` that began before ``number``; False where there are none by now."""
    try:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), _BYTES) as mapped:
            cells = memoryview(mapped).cast("Q")
            cells[_FENCE] = max(number, cells[_FENCE])
            cells.release()
    except FileNotFoundError:
        return False
    return True


def _remove_if_dead(path: Path) -> bool:
    """Take the file away if no process holds its lock; whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
