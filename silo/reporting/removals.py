"""Sections for `silo eval optout`: what a series is worth, what is left of a text that was removed, and what it took.

Works on rows of figures; knows no file and draws nothing.
"""

from collections.abc import Sequence

from silo.reporting.blocks import QUANTILES, Cell, Plot, Series, Table, between, fixed, signed, words
from silo.reporting.runs import Row, Run

STAGES = {
    "lm": "LM alone",
    "before": "stored",
    "at_once": "at once after",
    "after": "after all of them",
    "in_bulk": "removed in bulk",
    "never": "never stored",
}


def removal_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """A run of `silo eval optout`."""
    by_experiment: dict[str, list[Row]] = {}
    for row in run.rows:
        by_experiment.setdefault(str(row["experiment"]), []).append(row)
    blocks: list[Table | Plot] = []
    if left_out := by_experiment.get("leave out"):
        blocks += [*map(_left_out, left_out), _left_out_plot(left_out)]
    if probes := by_experiment.get("probe"):
        blocks += _probes(probes)
    blocks += [_latency(row) for row in by_experiment.get("latency", ())]
    blocks += [_erasure(row) for row in by_experiment.get("erasure", ())]
    blocks += [_utility(row) for row in by_experiment.get("utility", ())]
    return tuple(blocks)


def _left_out(row: Row) -> Table:
    lines = []
    for name, point in ((f"{point['n_left']:,} others stored", point) for point in row["curve"]):
        lines.append(_figures(name, point))
    lines.append(_figures("LM alone", row["lm"]))
    worth = row["worth_of_the_others"]
    low, high = (signed(end) for end in worth["interval"])
    note = (
        f"{row['n_held_out']} of {row['n_documents']} documents held out in turn. The others are worth "
        f"{signed(worth['nats_per_token'])} nats per token, 95 % from {low} to {high}"
    )
    note += (
        f"; with them goes {round(100 * row['lost'])} % of what the datastore gains."
        if row["lost"] is not None
        else "."
    )
    return Table(f"Series {row['series']!r}, left out", _COLUMNS, tuple(lines), note)


_COLUMNS = ("what the held-out text was predicted with", "nats per token", "bits per byte", "perplexity")


def _figures(name: str, facts: Row) -> tuple[Cell, ...]:
    interval = between(facts["nats_per_token_interval"]) if facts["n_documents"] > 1 else ""
    nats = Cell(fixed(facts["nats_per_token"]), interval)
    return (Cell(name), nats, *words((fixed(facts["bits_per_byte"]), fixed(facts["perplexity_per_token"], 2))))


def _left_out_plot(rows: Sequence[Row]) -> Plot:
    series = []
    for row in rows:
        curve = row["curve"]
        x, y = tuple(float(one["n_left"]) for one in curve), tuple(float(one["nats_per_token"]) for one in curve)
        ends = [one["nats_per_token_interval"] for one in curve]
        low, high = tuple(float(end[0]) for end in ends), tuple(float(end[1]) for end in ends)
        series.append(Series(str(row["series"]), x, y, low, high))
    return Plot(
        "What a series is worth",
        "lines",
        tuple(series),
        "other documents of the series in the store",
        "nats per token",
    )


def _probes(rows: Sequence[Row]) -> list[Table]:
    """Means over the removed documents, by the form in which their text is asked for."""
    forms = dict.fromkeys(str(row["form"]) for row in rows)
    of_form = {form: [row for row in rows if row["form"] == form] for form in forms}
    tables = []
    for title, key, how, decimals in (
        ("Log-probability of a removed text, nats per token, mean", "logprob", _mean, 3),
        ("Tokens of it in a row that are live, most", "n_live_run", max, 0),
        ("Tokens of it in a row that are generated, most", "n_reproduced", max, 0),
    ):
        lines = []
        for form, group in of_form.items():
            values = [how([float(row[stage][key]) for row in group]) for stage in STAGES]
            lines.append(words((form, f"{len(group):,}", *(fixed(value, decimals) for value in values))))
        tables.append(Table(title, ("form", "documents", *STAGES.values()), tuple(lines)))
    n_same = sum(bool(row["is_as_never"]) for row in rows)
    most = max(float(row["largest_deviation_from_never"]) for row in rows)
    note = f"{n_same:,} of {len(rows):,} probes as in a store that never had the text; largest deviation {most:g}."
    tables[0] = Table(tables[0].title, tables[0].columns, tables[0].rows, note)
    return tables


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _latency(row: Row) -> Table:
    lines = []
    for name in ("sequential", "bulk"):
        found = row[f"{name}_ms_quantiles"]
        values = (fixed(found[quantile], 1) for quantile in QUANTILES)
        lines.append(words((name, f"{len(row[f'{name}_ms']):,}", *values)))
    note = f"Compaction of all of them: {fixed(row['compaction_ms'], 1)} ms."
    return Table("Milliseconds to an opt-out in force", ("removal", "documents", *QUANTILES), tuple(lines), note)


def _erasure(row: Row) -> Table:
    facts = {
        "live entries left": f"{row['n_live_entries_left']:,}",
        "files equal those of a store that never had them": "yes" if row["are_files_equal"] else "no",
        "answers equal its answers": "yes" if row["is_as_never"] else "no",
        "largest deviation": f"{row['largest_deviation_from_never']:g}",
    }
    return Table("What is left", tuple(facts), (words(tuple(facts.values())),))


def _utility(row: Row) -> Table:
    lines = (_figures("before the removals", row["before"]), _figures("after them", row["after"]))
    change = row["worth_of_what_was_removed"]
    low, high = (signed(end) for end in change["interval"])
    worth = signed(change["nats_per_token"])
    note = f"What was removed was worth {worth} nats per token to it, 95 % from {low} to {high}."
    return Table("Text that was kept", ("when", *_COLUMNS[1:]), lines, note)
