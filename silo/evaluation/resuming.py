"""Parts of an experiment that are done, so that one which was stopped goes on where it was.

A part is kept as JSON under the content of all that made it: LM, mixture and store as they are, and whatever the
experiment names. Knows files; knows nothing of what is measured.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datastore.store import Datastore
from silo.evaluation.traces import folder_of
from silo.files import new_file

if TYPE_CHECKING:
    from silo.evaluation.served import Served


@dataclass(frozen=True)
class Done:
    """What is done of one experiment."""

    folder: Path | None
    """Where parts are kept; None: nowhere, and each is made."""
    made_of: str
    """All that every part depends on, as JSON."""

    @classmethod
    def of(cls, cache: Path | None, served: "Served", store: Datastore, *made_of: object) -> "Done":
        """Of an experiment with ``made_of``. What was made with another epoch of the store is taken away."""
        gate = "" if served.gate is None else served.gate.digest
        facts = [served.lm.fingerprint, asdict(served.settings), gate, *made_of]
        folder = None if cache is None else folder_of(cache, store)
        return cls(folder, json.dumps(facts, sort_keys=True))

    def part(self, name: str, make: Callable[[], Any], *made_of: object) -> Any:
        """What ``make`` gave, now or before, as JSON has it: lists for tuples, the bits of each number kept."""
        path = self._path(name, made_of)
        if (found := _load(path)) is not None:
            return found
        text = json.dumps(make())
        if path is not None:
            with new_file(path) as stream:
                stream.write(text.encode("utf-8"))
        return json.loads(text)

    def has(self, name: str, *made_of: object) -> bool:
        """Whether the part is there, and whole."""
        return _load(self._path(name, made_of)) is not None

    def _path(self, name: str, made_of: tuple[object, ...]) -> Path | None:
        if self.folder is None:
            return None
        key = hashlib.sha256(json.dumps([name, self.made_of, *made_of], sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name}-{key[:32]}.json"


def _load(path: Path | None) -> Any:
    """None where there is none, or it is torn."""
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
