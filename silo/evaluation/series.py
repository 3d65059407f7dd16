"""Which documents of a store belong together: by one author, of one thread, of one book.

Works on a document's facts; reads no text. A series is named by a field and, where only a part of the field names it,
by a pattern: titles ``Re: lunch`` and ``lunch`` are one thread by ``(?:Re: )*(.*)``, and chapters are those of one
book by ``([^:]*):``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datastore.records import DocumentFacts
from datastore.store import Datastore
from silo.errors import BadRequest

FIELDS = ("owner", "title", "source", "license", "url")


@dataclass(frozen=True)
class SeriesRule:
    """How a document's series is named."""

    field: str = "owner"
    """One of ``FIELDS``, or ``metadata.NAME``."""
    pattern: str = ""
    """A regular expression that matches from the beginning of the field. Its first group, or the whole match, is the
    name; without a pattern the field is. Where it does not match, a document is of no series."""

    def __post_init__(self) -> None:
        if self.field not in FIELDS and not self.field.removeprefix("metadata.") != self.field:
            raise BadRequest(f"a series is named by one of {', '.join(FIELDS)} or metadata.NAME; got {self.field!r}")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise BadRequest(f"the pattern {self.pattern!r} is no regular expression: {error}") from error

    def name_of(self, facts: DocumentFacts) -> str:
        """The series of a document; empty where it is of none."""
        if self.field in FIELDS:
            value = str(getattr(facts, self.field))
        else:
            value = str(facts.metadata.get(self.field.removeprefix("metadata."), ""))
        if not self.pattern:
            return value
        found = re.match(self.pattern, value)
        return "" if found is None else (found.group(1) or "" if found.re.groups else found.group())


def series_in(store: Datastore, rule: SeriesRule, at_least: int = 2) -> dict[str, tuple[str, ...]]:
    """The live documents of each series with ``at_least`` so many that have an entry; the largest series first."""
    found: dict[str, list[str]] = {}
    for document in store.documents("live"):
        name = rule.name_of(document.facts)
        if name and document.n_entries:
            found.setdefault(name, []).append(document.facts.id)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name: tuple(ids) for name, ids in ordered if len(ids) >= at_least}


def choose(series: Mapping[str, Sequence[str]], names: Sequence[str], n: int) -> dict[str, tuple[str, ...]]:
    """Those of ``series`` called ``names``, or without names the first ``n``.

    Raises:
        BadRequest: there is none, or none of that name.
    """
    if unknown := [name for name in names if name not in series]:
        raise BadRequest(f"no series {unknown[0]!r} with enough documents; there are {_listed(series)}")
    if not series:
        raise BadRequest("no series has enough documents; name another --field, a --pattern, or fewer --at-least")
    return {name: tuple(series[name]) for name in (names or list(series)[:n])}


def _listed(series: Mapping[str, Sequence[str]]) -> str:
    some = [f"{name!r} ({len(ids)})" for name, ids in list(series.items())[:8]]
    return ", ".join(some) + (f" and {len(series) - 8} more" if len(series) > 8 else "") if some else "none"
