"""Sections for `silo eval extraction` and `silo eval generation`: what comes out of a model that is left to write.

Works on rows of figures; knows no file and draws nothing.
"""

from silo.reporting.blocks import Cell, Table, between, fixed, words
from silo.reporting.runs import Row, Run

_RUNS = {"run_in_tokens": "tokens", "run_as_spelled": "as the text is spelled", "run_in_letters": "letters"}
_OVER = {"share_over": "over, tokens", "share_over_as_spelled": "over, as spelled"}
_FIGURES = (
    *(f"rep_{n}" for n in (2, 3, 4)),
    *(f"distinct_{n}" for n in (1, 2, 3)),
    "likeness",
)


def extraction_blocks(run: Run) -> tuple[Table, ...]:
    """A run of `silo eval extraction`: one table for each mixture."""
    columns = ("attack", "guard", *(f"longest run, {said}" for said in _RUNS.values()), "reproduced", *_OVER.values())
    note = (
        "A run is over where it is longer than the limit, in tokens as they were chosen or in the tokens that the same "
        "letters have in the stored text; the guard counts the former, in one request with its prompt, or in the "
        "completion alone where that is said."
    )
    by_mixture: dict[str, list[Row]] = {}
    for row in run.rows:
        by_mixture.setdefault(row["mixture"], []).append(row)
    return tuple(
        Table(f"Stored text that came out: {name}", columns, tuple(_attacked(row) for row in rows), note)
        for name, rows in by_mixture.items()
    )


def generation_blocks(run: Run) -> tuple[Table, ...]:
    """A run of `silo eval generation`: the mixtures side by side."""
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
    return (Table("Free generation", ("figure", *(row["mixture"] for row in run.rows)), tuple(lines), note),)


def _attacked(row: Row) -> tuple[Cell, ...]:
    guard = "no" if row["max_verbatim"] is None else f"{row['max_verbatim']:,} tokens"
    if row.get("verbatim_allowance"):
        guard += " of a completion"
    longest = (f"{row[name]['most']:,.0f}" for name in _RUNS)
    low, high = row["share_reproduced_interval"]
    reproduced = Cell(_percent(row["share_reproduced"]), between((100 * low, 100 * high), 1))
    before = words((row["attack"], guard, *longest))
    return (*before, reproduced, *words([_percent(row[name]) for name in _OVER]))


def _figure(row: Row, name: str) -> Cell:
    return Cell(fixed(row[name]), between(row[f"{name}_interval"]))


def _percent(share: float) -> str:
    return f"{fixed(100 * share, 1)} %"
