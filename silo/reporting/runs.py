"""Recorded runs, read from the files that `silo eval`, `silo train` and research/ write.

Opens files; knows the forms that they have and nothing of what is shown. What is no recorded run is returned with the
reason, never passed over.

    {"config": {"command": "eval ppl", …}, "commit": …, "seed": …, "rows": […]}    one run, in FILE.json
    rows alone, one a line                                           older runs, ablations, training, other figures
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from silo.errors import BadRequest

Row = Mapping[str, Any]
PERPLEXITY, GAP, SCALING = "eval ppl", "eval gap", "eval scaling"
OPTOUT, ATTRIBUTION = "eval optout", "eval attribution"
TASKS, EXTRACTION, GENERATION = "eval tasks", "eval extraction", "eval generation"
ABLATION, TRAINING = "ablation", "train"
FACTS = ("argv", "date", "commit", "seed", "machine", "versions")
"""What a run says of how it was made; runs of older forms lack some or all of it."""
_FORMS: dict[str, frozenset[str]] = {
    ABLATION: frozenset({"variant", "validation_bits_per_byte"}),
    TRAINING: frozenset({"step", "loss"}),
    PERPLEXITY: frozenset({"domain", "bits_per_byte", "nats_per_token"}),
}
"""By kind, what every row of a run without a command has."""


@dataclass(frozen=True)
class Run:
    """One file of figures."""

    name: str
    """Its path as it was given."""
    digest: str
    """SHA-256 of the file."""
    kind: str
    """The command that wrote it; empty where nobody says."""
    config: Row
    facts: Row
    """Of ``FACTS``, those that it states."""
    rows: tuple[Row, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What it should say of how it was made and does not."""
        there = {*self.facts, *(["config"] if self.config else [])}
        return tuple(name for name in ("config", "commit", "seed", "date", "versions") if name not in there)


@dataclass(frozen=True)
class Unrecognized:
    """A file that is no recorded run."""

    name: str
    reason: str


def read_runs(locations: Sequence[str | Path]) -> tuple[tuple[Run, ...], tuple[Unrecognized, ...]]:
    """All runs in files and below folders, in the order given and by name, and the files that are none.

    Raises:
        BadRequest: a location is not there.
    """
    runs: list[Run] = []
    others: list[Unrecognized] = []
    for path in dict.fromkeys(_files(locations)):
        try:
            runs.append(read_run(path))
        except (ValueError, KeyError, TypeError) as error:
            others.append(Unrecognized(path.as_posix(), str(error)))
    return tuple(runs), tuple(others)


def read_run(path: Path) -> Run:
    """The run in one file. Raises ValueError where it is none, with the reason."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if path.suffix == ".json":
        return _whole(path, digest, json.loads(data))
    if path.suffix == ".jsonl":
        return _lines(path, digest, [json.loads(line) for line in data.splitlines()])
    raise ValueError("a recorded run is a file .json or .jsonl")


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no object, with its dotted name; lists of numbers item by item under the list's name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item, name)
    else:
        yield name, value


def _files(locations: Iterable[str | Path]) -> Iterator[Path]:
    for location in map(Path, locations):
        if not location.exists():
            raise BadRequest(f"there is no file or folder {location}; give recorded runs, or folders of them")
        below = sorted(path for path in location.rglob("*") if path.is_file()) if location.is_dir() else [location]
        yield from below


def _whole(path: Path, digest: str, facts: Any) -> Run:
    if not isinstance(facts, Mapping) or not isinstance(facts.get("rows"), list):
        raise ValueError("it has no list named rows")
    rows, config = _checked(facts["rows"]), facts.get("config", {})
    if not isinstance(config, Mapping):
        raise ValueError(f"config must be an object; got {config!r:.80}")
    kind = config.get("command") or _form([row for row in rows if "gaps" not in row]) or ""
    return Run(path.as_posix(), digest, kind, config, _stated(facts), rows)


def _lines(path: Path, digest: str, lines: Sequence[Any]) -> Run:
    rows = _checked(lines)
    if (kind := _form(rows)) is None:
        if not all(any(isinstance(value, int | float) for _, value in leaves(row)) for row in rows):
            raise ValueError(f"its rows have no figures; the first has {', '.join(rows[0])}")
        kind = ""
    stated: dict[str, Any] = {}
    for name in FACTS:
        found = {json.dumps(row[name], sort_keys=True) for row in rows if name in row}
        if len(found) == 1 and all(name in row for row in rows):
            stated[name] = json.loads(found.pop())
    config: Row = {}
    if kind == TRAINING:
        config, beside = _checkpoint(path.with_name("silo-manifest.json"))
        stated |= beside
    return Run(path.as_posix(), digest, kind, config, stated, rows)


def _checkpoint(manifest: Path) -> tuple[Row, Row]:
    """What the checkpoint whose metrics these are says of how it was made; nothing where there is none."""
    if not manifest.is_file():
        return {}, {}
    facts = json.loads(manifest.read_bytes())
    recipe = facts.get("recipe", {})
    return recipe, _stated({"seed": recipe.get("loop", {}).get("seed"), "versions": facts.get("versions")})


def _checked(rows: Sequence[Any]) -> tuple[Row, ...]:
    if not rows:
        raise ValueError("it has no rows")
    for row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"each row must be an object; got {row!r:.80}")
    return tuple(rows)


def _form(rows: Sequence[Row]) -> str | None:
    return next((kind for kind, names in _FORMS.items() if rows and all(names <= set(row) for row in rows)), None)


def _stated(facts: Row) -> dict[str, Any]:
    return {name: facts[name] for name in FACTS if facts.get(name) not in (None, "", {}, [])}
