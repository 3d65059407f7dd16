"""Tables for runs of a kind that nobody described: every value of every row, under its dotted name.

Knows no kind of run; so a new command has a report before anyone writes one. A list of objects in a row becomes a
table of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from silo.reporting.blocks import Table, between, words
from silo.reporting.predictors import short
from silo.reporting.runs import Row

_LONGEST = 60
_MOST_COLUMNS = 9


def generic_tables(rows: Sequence[Row], title: str = "", is_detail: bool = False) -> tuple[Table, ...]:
    """One table for rows with the same names; one with many names stands on its side, a name to each line.

    A table is called by the words that all its rows have in common.
    """
    by_names: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        by_names.setdefault(tuple(_flat(row)), []).append(row)
    tables: list[Table] = []
    for names, group in by_names.items():
        named = ", ".join([*([title] if title else []), *_common(group)]) or "Figures"
        tables.append(_table(named, names, [_flat(row) for row in group], is_detail))
        for row in group:
            for name, items in _lists(row, ""):
                inner = ", ".join([*_common([row]), _said(name)]) if not title else f"{title}, {_said(name)}"
                tables += generic_tables(items, inner, is_detail=True)
    return tuple(tables)


def shown(value: Any) -> str:
    """One value for people."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(one, float) for one in value):
            return between(value)
        text = ", ".join(map(shown, value))
        return text if len(text) <= _LONGEST else f"{len(value):,} values"
    text = " ".join(short(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Each value by its dotted name; lists of objects by their length."""
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _flat(item, f"{name}.{key}" if name else str(key))
        return found
    return {name: f"{len(value):,} below" if _is_list_of_objects(value) else shown(value)}


def _lists(value: Any, name: str) -> Iterator[tuple[str, list[Row]]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _lists(item, f"{name}.{key}" if name else str(key))
    elif _is_list_of_objects(value):
        yield name, value


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _common(rows: Sequence[Row]) -> list[str]:
    """Short words that all of ``rows`` have under one name; what sort of rows they are."""
    found = []
    for name, value in rows[0].items():
        is_word = isinstance(value, str) and value and len(value) <= _LONGEST // 2
        if is_word and all(row.get(name) == value for row in rows):
            found.append(value)
    return found[:3]


def _said(name: str) -> str:
    return name.replace("_", " ")


def _table(title: str, names: tuple[str, ...], rows: Sequence[Mapping[str, str]], is_detail: bool) -> Table:
    heads = tuple(map(_said, names))
    if len(names) <= _MOST_COLUMNS or len(rows) > _MOST_COLUMNS:
        lines = tuple(words([row[name] for name in names]) for row in rows)
        return Table(title, heads, lines, is_detail=is_detail)
    turned = tuple(words((head, *(row[name] for row in rows))) for head, name in zip(heads, names, strict=True))
    columns = ("figure", *(f"row {i}" for i in range(1, len(rows) + 1))) if len(rows) > 1 else ("figure", "value")
    return Table(title, columns, turned, is_detail=is_detail)
