"""Sections for `silo eval tasks`: how often the right answer is chosen, by predictor and by how answers are scored.

Works on rows of figures; knows no file and draws nothing.
"""

from collections.abc import Callable, Sequence

from silo.reporting.blocks import Cell, Plot, Series, Table, between, fixed, signed, words
from silo.reporting.predictors import column
from silo.reporting.runs import Row, Run

_NOTE = (
    "Shares of right answers. In brackets how an answer is scored: by its probability, by that for each byte, or by "
    "how much likelier the question makes it (pmi); fuzzy where several words say it. 95 % intervals by drawing the "
    "items anew."
)

_FEWEST = 8
"""Items of a group that has a line; the recorded run has the smaller ones."""


def task_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """A run of `silo eval tasks`: all items in tables and a plot, and larger groups in a table for the page."""
    rows = [row for row in run.rows if "task" in row and "accuracy" in row]
    whole = [row for row in rows if not row["group"]] or rows
    if not whole:
        return ()
    blocks: list[Table | Plot] = [_accuracies("Right answers", whole), _plot(whole)]
    if leads := [row for row in whole if "lead_over_lm" in row]:
        note = "Positive where it is right more often than its LM; an interval without zero would repeat."
        blocks.append(_table("Lead over the LM alone", leads, _lead, note))
    if groups := [row for row in rows if row["group"] and row not in whole and row["n_items"] >= _FEWEST]:
        blocks.append(_accuracies("Right answers by group", groups, is_detail=True))
    return tuple(blocks)


def _accuracies(title: str, rows: Sequence[Row], is_detail: bool = False) -> Table:
    return _table(title, rows, lambda row: Cell(fixed(row["accuracy"]), between(row["interval"])), _NOTE, is_detail)


def _lead(row: Row) -> Cell:
    lead = row["lead_over_lm"]
    low, high = (signed(end) for end in lead["interval"])
    return Cell(signed(lead["accuracy"]), f"{low} to {high}")


def _table(title: str, rows: Sequence[Row], figure: Callable[[Row], Cell], note: str, is_detail: bool = False) -> Table:
    columns = tuple(dict.fromkeys(column(row, rows) for row in rows))
    by_line: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_line.setdefault(_asked(row), {})[column(row, rows)] = row
    lines = []
    for name, found in by_line.items():
        first = next(iter(found.values()))
        cells = (figure(found[one]) if one in found else Cell("–") for one in columns)
        lines.append((*words((name, f"{first['n_items']:,}", fixed(first["chance"]))), *cells))
    return Table(title, ("task", "items", "by chance", *columns), tuple(lines), note, is_detail)


def _asked(row: Row) -> str:
    group = f", {row['group']}" if row["group"] else ""
    return f"{row['task']}{group} ({row['rule']})"


def _plot(rows: Sequence[Row]) -> Plot:
    labels = tuple(dict.fromkeys(map(_asked, rows)))
    chances = {_asked(row): float(row["chance"]) for row in rows}
    series = []
    for name in dict.fromkeys(column(row, rows) for row in rows):
        some = [row for row in rows if column(row, rows) == name]
        x, y = (tuple(float(row["accuracy"]) for row in some), tuple(float(labels.index(_asked(row))) for row in some))
        low, high = (tuple(float(row["interval"][end]) for row in some) for end in (0, 1))
        series.append(Series(name, x, y, low, high))
    by_chance = Series("by chance", tuple(chances[label] for label in labels), tuple(map(float, range(len(labels)))))
    return Plot("Right answers", "dots", (*series, by_chance), "share of right answers", labels=labels)
