"""A report as Markdown: its tables, without plots and details.

Knows a report; opens no file. The same report gives the same text.
"""

from silo.reporting.blocks import Cell, Table
from silo.reporting.sections import Report

_MOST_WITH_INTERVALS = 4
"""Columns of a table whose intervals fit on a line; wider ones have them on the page alone."""


def markdown(shown: Report) -> str:
    """All sections, the protocol, and how each run was made."""
    parts = []
    for section in shown.sections:
        parts += [f"### {section.title}", *(_table(table) for table in section.tables if not table.is_detail)]
        if section.note:
            parts.append(section.note)
    parts += ["### How it was measured", "\n".join(f"- {line}" for line in shown.protocol), _table(shown.runs)]
    if shown.unrecognized is not None:
        parts.append(_table(shown.unrecognized))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> str:
    has_room = len(table.columns) <= _MOST_WITH_INTERVALS
    lines = [f"**{table.title}**", ""]
    lines.append(_line([_escaped(name) for name in table.columns]))
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += [_line([_cell(cell, has_room) for cell in row]) for row in table.rows]
    note = table.note
    if not has_room and any(cell.interval for row in table.rows for cell in row):
        note = f"{note} The intervals are in the report.".strip()
    return "\n".join([*lines, *(["", note] if note else [])])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell, has_room: bool) -> str:
    text = _escaped(cell.text)
    text = f"**{text}**" if cell.is_best else text
    return f"{text} ({cell.interval})" if cell.interval and has_room else text


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
