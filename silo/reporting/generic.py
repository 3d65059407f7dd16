"""Tables for runs of a kind that nobody described: every value of every row, under its dotted name.

Knows no kind of run; so a new command has a report before anyone writes one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from silo.reporting.blocks import Table, between, words
from silo.reporting.predictors import short
from silo.reporting.runs import Row

_LONGEST = 60
_MOST_COLUMNS = 9


def generic_tables(rows: Sequence[Row]) -> tuple[Table, ...]:
    """One table for rows with the same names; one with many names stands on its side, a name to each line."""
    by_names: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        flat = dict(_flat(row, ""))
        by_names.setdefault(tuple(flat), []).append(flat)
    return tuple(_table(names, group) for names, group in by_names.items())


def shown(value: Any) -> str:
    """One value for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(one, int | float) for one in value):
            return between(value)
        text = ", ".join(map(shown, value))
        return text if len(text) <= _LONGEST else f"{len(value):,} values"
    text = " ".join(short(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return [pair for i, item in enumerate(value, start=1) for pair in _flat(item, f"{name}.{i}")]
    return [(name, shown(value))]


def _table(names: tuple[str, ...], rows: Sequence[Mapping[str, str]]) -> Table:
    heads = tuple(name.replace("_", " ") for name in names)
    if len(names) <= _MOST_COLUMNS or len(rows) > _MOST_COLUMNS:
        return Table("Figures", heads, tuple(words([row[name] for name in names]) for row in rows))
    turned = tuple(words((head, *(row[name] for row in rows))) for head, name in zip(heads, names, strict=True))
    return Table("Figures", ("figure", *(f"row {i}" for i in range(1, len(rows) + 1))), turned)
