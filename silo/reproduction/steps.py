"""Steps that run once: a command, what it reads and what it makes, all by content.

Knows no command by name. For what a step makes there is a note of what was typed, of the digests of everything that it
read, and of what it made. A step is passed over when all three are still so; whatever else is the case, it runs anew,
and so does, by the digests, every later step that reads something which came out differently.
"""

import hashlib
import json
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from silo.errors import ReproductionStopped
from silo.files import file_digest, new_file

Run = Callable[[Sequence[str]], int]
"""Runs a command, given as it would be typed, and returns its exit status."""
_UNFINISHED = ".unfinished"
_OF_READERS = ("readers", "catalog.sqlite-wal", "catalog.sqlite-shm")
"""What comes and goes in a datastore with those who read it."""


@dataclass(frozen=True)
class Step:
    """One command."""

    title: str
    command: tuple[str, ...]
    """As a reader would type it."""
    makes: Path
    """The file or folder that is there when it has succeeded; its name is its own among the steps."""
    reads: tuple[Path, ...] = ()
    """Files and folders that its outcome depends on."""

    @property
    def unfinished(self) -> Path:
        """What a command that was interrupted may leave, to go on from."""
        return self.makes.with_name(self.makes.name + _UNFINISHED)


@dataclass(frozen=True)
class Note:
    """How something was made."""

    command: tuple[str, ...]
    read: Mapping[str, str]
    """Digests by path."""
    made: str
    """Its digest; empty as long as the command has not succeeded."""
    seconds: float = 0.0


class Steps:
    """Runs steps in the order in which they are given, with notes in a folder, and keeps what each one took."""

    def __init__(self, notes: Path, run: Run, say: Callable[[str], None]) -> None:
        self._notes, self._run, self._say = notes, run, say
        self.seconds: dict[str, float] = {}
        """Of the steps that ran, by title."""
        self.passed_over: list[str] = []

    def step(self, step: Step) -> None:
        """Run ``step``, unless what it makes is there already, from the same command and the same inputs.

        Raises:
            ReproductionStopped: something that it reads is not there, the command failed or made nothing, or what it
                would make is there and was made by someone else.
        """
        self._say(f"\n== {step.title}\n$ {shlex.join(step.command)}")
        if missing := [str(path) for path in step.reads if not path.exists()]:
            raise ReproductionStopped(f"“{step.title}” reads {', '.join(missing)}, which is not there")
        read = {str(path): content_digest(path) for path in step.reads}
        note = self._notes / f"{step.makes.name}.json"
        noted = _read_note(note)
        is_same = noted is not None and (noted.command, noted.read) == (step.command, read)
        is_made = noted is not None and is_same and bool(noted.made) and step.makes.exists()
        if noted is not None and is_made and content_digest(step.makes) == noted.made:
            self._say(f"{step.makes} is there already, from this command and the same inputs.")
            self.passed_over.append(step.title)
            return
        if noted is None and step.makes.exists():
            raise ReproductionStopped(
                f"{step.makes} is there and no step made it. Move it away, or give another --out."
            )
        _take_away(step.makes)
        if noted is not None and not is_same:
            _take_away(step.unfinished)
        _write_note(note, Note(step.command, read, ""))
        step.makes.parent.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        status = self._run(step.command)
        seconds = time.monotonic() - begun
        if status or not step.makes.exists():
            reason = f"exit status {status}" if status else f"no {step.makes}"
            raise ReproductionStopped(
                f"“{step.title}” stopped with {reason}:\n  {shlex.join(step.command)}\n"
                "The reason is above. Mend it and run the same command again: what is finished is kept."
            )
        _write_note(note, Note(step.command, read, content_digest(step.makes), round(seconds, 1)))
        self.seconds[step.title] = seconds


def content_digest(path: Path) -> str:
    """SHA-256, hex, of a file, or of the names and digests of all files below a folder, which reading leaves alone."""
    if path.is_file():
        return file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not set(name.parts) & set(_OF_READERS):
            digest.update(f"{name.as_posix()}\n{file_digest(file)}\n".encode())
    return digest.hexdigest()


def _take_away(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read_note(path: Path) -> Note | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Note(**facts | {"command": tuple(facts["command"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(path: Path, note: Note) -> None:
    with new_file(path) as stream:
        stream.write(json.dumps(asdict(note), indent=1).encode("utf-8") + b"\n")
