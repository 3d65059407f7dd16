"""Sections for `silo eval extraction` and `silo eval generation`: what comes out of a model that is left to write.

Works on rows of figures; knows no file and draws nothing.
"""

from collections.abc import Sequence

from silo.reporting.blocks import Cell, Plot, Series, Table, between, fixed, words
from silo.reporting.runs import Row, Run

_RUNS = {"run_in_tokens": "tokens", "run_as_spelled": "as the text is spelled", "run_in_letters": "letters"}
_OVER = {"share_over": "over, tokens", "share_over_as_spelled": "over, as spelled"}
_FIGURES = (
    *(f"rep_{n}" for n in (2, 3, 4)),
    *(f"distinct_{n}" for n in (1, 2, 3)),
    "likeness",
)


def extraction_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """A run of `silo eval extraction`: one table for each mixture, and how much came of each attack in a plot."""
    columns = ("attack", "guard", *(f"longest run, {said}" for said in _RUNS.values()), "reproduced", *_OVER.values())
    note = (
        "A run is over where it is longer than the limit, in tokens as they were chosen or in the tokens that the same "
        "letters have in the stored text; the guard counts the former, in one request with its prompt, or in the "
        "completion alone where that is said."
    )
    by_mixture: dict[str, list[Row]] = {}
    for row in run.rows:
        by_mixture.setdefault(row["mixture"], []).append(row)
    tables = (
        Table(f"Stored text that came out: {name}", columns, tuple(_attacked(row) for row in rows), note)
        for name, rows in by_mixture.items()
    )
    return (*tables, _extraction_plot(run.rows))


def generation_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """A run of `silo eval generation`: the mixtures side by side, and as dots."""
    lines = [
        (Cell(name.replace("_", "-")), *(_figure(row, name) for row in run.rows))
        for name in _FIGURES
        if all(name in row for row in run.rows)
    ]
    for name, said in (("n_tokens", "tokens"), ("n_ended", "ended early")):
        lines.append(words((said, *(f"{row[name]:,}" for row in run.rows))))
    note = (
        "Means over prompts of repeated n-grams; the share of different n-grams in all texts; likeness to what people "
        "wrote is a score like MAUVE, to be compared within this table only."
    )
    table = Table("Free generation", ("figure", *(row["mixture"] for row in run.rows)), tuple(lines), note)
    return (table, _generation_plot(run.rows))


def _attacked(row: Row) -> tuple[Cell, ...]:
    guard = "no" if row["max_verbatim"] is None else f"{row['max_verbatim']:,}\u00a0tokens"
    if row.get("verbatim_allowance"):
        guard += " of a completion"
    longest = (f"{row[name]['most']:,.0f}" for name in _RUNS)
    low, high = row["share_reproduced_interval"]
    reproduced = Cell(_percent(row["share_reproduced"]), between((100 * low, 100 * high), 1))
    before = words((row["attack"], guard, *longest))
    return (*before, reproduced, *words([_percent(row[name]) for name in _OVER]))


def _extraction_plot(rows: Sequence[Row]) -> Plot:
    attacks = tuple(dict.fromkeys(row["attack"] for row in rows))
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        guard = "no guard" if row["max_verbatim"] is None else "guard"
        by_name.setdefault(f"{row['mixture']}, {guard}", []).append(row)
    series = []
    for name, some in by_name.items():
        x = tuple(100 * float(row["share_reproduced"]) for row in some)
        y = tuple(float(attacks.index(row["attack"])) for row in some)
        low, high = (tuple(100 * float(row["share_reproduced_interval"][end]) for row in some) for end in (0, 1))
        series.append(Series(name, x, y, low, high))
    axis = "% of the letters of a stored document that were reproduced"
    return Plot("Stored text that came out, by attack", "dots", tuple(series), axis, labels=attacks)


def _generation_plot(rows: Sequence[Row]) -> Plot:
    names = tuple(name for name in _FIGURES if all(name in row for row in rows))
    y = tuple(map(float, range(len(names))))
    series = []
    for row in rows:
        ends = [row[f"{name}_interval"] for name in names]
        low, high = (tuple(float(end[i]) for end in ends) for i in (0, 1))
        series.append(Series(str(row["mixture"]), tuple(float(row[name]) for name in names), y, low, high))
    labels = tuple(name.replace("_", "-") for name in names)
    axis = "repetition: lower is better; distinct and likeness: higher is"
    return Plot("Free generation", "dots", tuple(series), axis, labels=labels)


def _figure(row: Row, name: str) -> Cell:
    return Cell(fixed(row[name]), between(row[f"{name}_interval"]))


def _percent(share: float) -> str:
    return f"{fixed(100 * share, 1)} %"
