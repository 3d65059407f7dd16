"""Validation tunes, test reports: what was tuned is written down before a test is read, and never tuned again.

A **frozen run** is a JSON file: the LM, the store and its epoch, the gate, what was looked at, and for each domain the
choices and the digests of the documents that they were tuned on. It is refused for another LM, store or gate, and for
text that it was tuned on. There is no way to write over it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from silo.errors import BadRequest
from silo.evaluation.traces import TraceSettings
from silo.evaluation.tuning import Choice
from silo.evidence import Components
from silo.files import new_file
from silo.settings import RetrievalSettings

FORMAT = 1


@dataclass(frozen=True)
class Setup:
    """What a run measures."""

    encoder: str
    """Fingerprint of the LM."""
    store: str
    """Its id; empty without one."""
    epoch: int
    gate: str
    """SHA-256 of its file; empty without one."""
    settings: TraceSettings
    retrieval: RetrievalSettings | None = None
    """How the LM reads passages first, where that is measured."""


@dataclass(frozen=True)
class Tuned:
    """What one domain's validation text chose."""

    choices: Mapping[str, Choice]
    """By predictor."""
    digests: tuple[str, ...]
    """Of the documents that chose."""


def freeze(path: Path, setup: Setup, domains: Mapping[str, Tuned]) -> None:
    """Write a frozen run.

    Raises:
        BadRequest: there is one already: what was tuned stays as it was.
    """
    _check_new(path)
    facts = {"format": FORMAT, "setup": asdict(setup), "domains": {name: asdict(t) for name, t in domains.items()}}
    with new_file(path) as stream:
        stream.write(json.dumps(facts, indent=1, sort_keys=True).encode("utf-8") + b"\n")


def read_frozen(path: Path) -> tuple[Setup, dict[str, Tuned]]:
    """The frozen run in ``path``. Raises BadRequest where there is none, or it is torn or of another format."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise BadRequest(f"{path} has format {facts['format']!r}; this version reads format {FORMAT}")
        named = facts["setup"]["settings"]
        parts = Components(**{key: _plain(value) for key, value in named.pop("components").items()})
        settings = TraceSettings(parts, **{key: _plain(value) for key, value in named.items()})
        read = facts["setup"].get("retrieval")
        retrieval = None if read is None else RetrievalSettings(**read)
        setup = Setup(**facts["setup"] | {"settings": settings, "retrieval": retrieval})
        return setup, {name: _tuned(value) for name, value in facts["domains"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{path} is no frozen run: {error}. Make one on validation text with --tune.") from error


def check_same(frozen: Setup, setup: Setup) -> None:
    """Raise BadRequest where ``frozen`` was tuned for something else than ``setup``."""
    before, now = asdict(frozen), asdict(setup)
    if changed := sorted(name for name in before if before[name] != now[name]):
        raise BadRequest(
            f"the frozen run was tuned with another {', '.join(changed)}: {[before[name] for name in changed]}, now "
            f"{[now[name] for name in changed]}. Tune again on validation text, into another file."
        )


def check_apart(tuned: Mapping[str, Tuned], domain: str, digests: Iterable[str]) -> None:
    """Raise BadRequest where a document to be reported took part in tuning any domain."""
    used = {digest for one in tuned.values() for digest in one.digests}
    if shared := sorted(used & set(digests)):
        raise BadRequest(
            f"{len(shared)} documents of {domain!r} were tuned on, the first with digest {shared[0]:.12}…. "
            "Report on text that chose nothing."
        )


def check_may_tune(locations: Sequence[str], path: Path) -> None:
    """Raise BadRequest where a file that is called a test would choose something, or ``path`` is frozen already."""
    _check_new(path)
    for location in locations:
        if Path(location.partition("=")[2] or location).name.split(".")[0] == "test":
            raise BadRequest(f"{location} is a test: it may not tune. Give the validation text to --tune.")


def _check_new(path: Path) -> None:
    if path.exists():
        raise BadRequest(f"{path} is frozen: test figures may rest on it. Name another file to tune anew.")


def _tuned(facts: Mapping[str, Any]) -> Tuned:
    choices = {
        name: Choice(**{key: _plain(item) for key, item in value.items()}) for name, value in facts["choices"].items()
    }
    return Tuned(choices, tuple(facts["digests"]))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
