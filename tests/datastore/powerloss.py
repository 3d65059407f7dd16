"""Not a test: what a disk may hold after a loss of power, given the system calls that came before it.

Strict: what was not forced to the disk may be lost wholly, kept wholly, cut off anywhere, torn at a sector, or
kept without what was written before it; a name is forced by a sync of its folder only, and the names of one folder
are independent of those of another. A rename is done or not done.
"""

import itertools
import random
from dataclasses import dataclass, field
from pathlib import Path

SECTOR, PAGE = 512, 4096
VOLATILE = "-shm"
"""SQLite makes these files anew from its log."""


@dataclass
class File:
    durable: bytes = b""
    pending: list[list] = field(default_factory=list)
    """``["write", offset, data]`` and ``["truncate", size]``, in order."""


@dataclass
class Folder:
    durable: dict = field(default_factory=dict)
    """Name -> File or Folder."""
    pending: list[dict] = field(default_factory=list)
    """Each a change of names, None where the name goes."""

    @property
    def now(self) -> dict:
        return _names(self.durable, self.pending)


class Disk:
    """A folder of files that is on the disk at first, and changes as ``happen`` is told."""

    def __init__(self, root: Path) -> None:
        self.files: dict[str, File] = {}
        self.root = self._load(root, root)
        self.n_unsynced = 0

    def happen(self, event: list) -> None:
        """One event, as ``tracing`` tells it."""
        name, *arguments = event
        if name == "create":
            self.files[arguments[1]] = File()
            self._change({arguments[0]: self.files[arguments[1]]})
        elif name == "mkdir":
            self._change({arguments[0]: Folder()})
        elif name == "rename":
            old, new = arguments
            self._change({old: None, new: self._at(old)})
        elif name in ("unlink", "rmdir"):
            self._change({arguments[0]: None})
        elif name == "write":
            self.files[arguments[0]].pending.append(["write", arguments[1], arguments[2].encode("latin-1")])
        elif name == "truncate":
            self.files[arguments[0]].pending.append(["truncate", arguments[1]])
        elif name == "sync":
            file = self.files[arguments[0]]
            file.durable, file.pending = _contents(file.durable, file.pending), []
        elif name == "syncdir":
            folder = self._at(arguments[0])
            folder.durable, folder.pending = folder.now, []

    def lose(self, rng: random.Random, kept: str) -> dict[str, bytes | None]:
        """What is found after a loss of power: bytes by path, None for a folder.

        ``kept`` of what was not synced: ``nothing``, ``all``, or ``some`` as ``rng`` chooses.
        """
        found: dict[str, bytes | None] = {}
        self._find(self.root, "", rng, kept, found)
        return found

    def _load(self, path: Path, root: Path) -> File | Folder:
        if path.is_dir():
            return Folder({inner.name: self._load(inner, root) for inner in sorted(path.iterdir())})
        return self.files.setdefault(str(path.relative_to(root)), File(path.read_bytes()))

    def _at(self, path: str) -> Folder:
        here = self.root
        for part in Path(path).parts:
            here = here.now[part]
        return here

    def _change(self, names: dict) -> None:
        folders = {str(Path(path).parent) for path in names}
        assert len(folders) == 1, f"a rename between folders is not simulated: {list(names)}"
        self._at(folders.pop()).pending.append({Path(path).name: node for path, node in names.items()})

    def _find(self, folder: Folder, prefix: str, rng: random.Random, kept: str, found: dict) -> None:
        for name, node in sorted(_names(folder.durable, _some(folder.pending, rng, kept)).items()):
            path = f"{prefix}{name}"
            if isinstance(node, Folder):
                found[path] = None
                self._find(node, f"{path}/", rng, kept, found)
            elif not name.endswith(VOLATILE):
                found[path] = _contents(node.durable, _torn(_some(node.pending, rng, kept), rng, kept))


def put(found: dict[str, bytes | None], folder: Path) -> None:
    """Write what was found to ``folder``, which is made."""
    folder.mkdir()
    for path, data in found.items():
        (folder / path).mkdir() if data is None else (folder / path).write_bytes(data)


def _names(durable: dict, changes: list[dict]) -> dict:
    names = dict(durable)
    for change in changes:
        names |= change
    return {name: node for name, node in names.items() if node is not None}


def _contents(data: bytes, changes: list[list]) -> bytes:
    held = bytearray(data)
    for what, *rest in changes:
        if what == "truncate":
            held = held[: rest[0]].ljust(rest[0], b"\0")
        else:
            offset, written = rest
            held = held.ljust(offset, b"\0")
            held[offset : offset + len(written)] = written
    return bytes(held)


def _some(pending: list, rng: random.Random, kept: str) -> list:
    how = rng.choice(["nothing", "all", "first", "any"]) if kept == "some" and pending else kept
    if how == "first":
        return pending[: rng.randrange(len(pending) + 1)]
    if how == "any":
        return [change for change in pending if rng.random() < 0.5]
    return pending if how == "all" else []


def _torn(changes: list, rng: random.Random, kept: str) -> list:
    """With the last write cut at a sector, or left out in pages, half of the time."""
    if kept != "some" or not changes or changes[-1][0] != "write" or rng.random() < 0.5:
        return changes
    _, offset, data = changes[-1]
    unit = rng.choice([1, SECTOR, PAGE])
    starts = [0, *range(unit - offset % unit, len(data), unit), len(data)]
    if rng.random() < 0.5:
        return [*changes[:-1], ["write", offset, data[: rng.choice(starts)]]]
    pieces = [(a, b) for a, b in itertools.pairwise(starts) if rng.random() < 0.5]
    return [*changes[:-1], *(["write", offset + a, data[a:b]] for a, b in pieces)]
