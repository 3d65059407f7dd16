"""Sections for gaps, scaling, ablations and training curves.

Works on rows of figures; knows no file and draws nothing.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from silo.reporting.blocks import Cell, Plot, Series, Table, between, fixed, signed, words
from silo.reporting.runs import Row, Run

_MEANS = {
    "mean_capped": "mean over domains, capped at 1",
    "mean_uncapped": "mean over domains with a gap, uncapped",
    "by_mean_perplexity": "of averaged perplexities, as in Min et al. (2023)",
}


def gap_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """A run of `silo eval gap`: one table for each reference, and all of them in a plot."""
    blocks: list[Table | Plot] = []
    for row in run.rows:
        reference, predictor, domains = row["reference"], row["predictor"], row["domains"]
        lines = []
        for one in domains:
            closed = fixed(one["closed"], 2) if one["has_gap"] else "no gap"
            nats = (fixed(one[name]) for name in ("lm", "mixed", "reference"))
            lines.append(words((one["domain"], *nats, closed, fixed(one["capped"], 2))))
        lines += [words((said, "", "", "", *_last_two(key, row[key]))) for key, said in _MEANS.items()]
        columns = ("domain", "LM", predictor, reference, "closed", "capped at 1")
        note = "Nats per token. Closed: the share of the way from the LM to the reference."
        if ahead := [value for name, value in row.items() if name.startswith("nats_per_token_ahead")]:
            note += f" Mean lead of {predictor} over {reference}: {signed(ahead[0])} nats per token."
        blocks.append(Table(f"Gap to {reference}, closed by {predictor}", columns, tuple(lines), note))
        names = tuple(one["domain"] for one in domains)
        there = [(i, one["closed"]) for i, one in enumerate(domains) if one["has_gap"]]
        series = Series(predictor, tuple(closed for _, closed in there), tuple(float(i) for i, _ in there))
        axis = "share of the gap closed (1: as good as the reference)"
        blocks.append(Plot(f"Gap to {reference}, closed", "dots", (series,), axis, labels=names, mark=1.0))
    return tuple(blocks)


def quality_gap_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """The gaps that research/quality.py keeps beside the figures of a reference."""
    blocks: list[Table | Plot] = []
    for row in run.rows:
        found: Mapping[str, Any] = row.get("gaps", {})
        if not found:
            continue
        reference = run.config.get("reference", "the reference")
        predictors = tuple(found)
        domains = tuple(dict.fromkeys(name for one in found.values() for name in one["domains"]))
        lines = []
        for domain in domains:
            cells = [Cell(domain)]
            for name in predictors:
                facts = found[name]["domains"][domain]
                cells += [Cell(fixed(facts["closed"], 2)), Cell(signed(facts["nats_ahead"]))]
            lines.append(tuple(cells))
        for key, said in _MEANS.items():
            means = [part for name in predictors for part in (fixed(found[name][key], 2), "")]
            lines.append(words((said, *means)))
        leads = [part for name in predictors for part in ("", signed(found[name]["mean_nats_ahead"]))]
        lines.append(words(("mean lead, nats per token", *leads)))
        columns = ("domain", *(part for name in predictors for part in (f"{name}, closed", f"{name}, nats ahead")))
        blocks.append(Table(f"Gap to {reference}", columns, tuple(lines), "Closed: the share of the gap, uncapped."))
        series = []
        for name in predictors:
            closed = tuple(found[name]["domains"][domain]["closed"] for domain in domains)
            series.append(Series(name, closed, tuple(float(i) for i in range(len(domains)))))
        axis = "share of the gap closed (1: as good as the reference)"
        blocks.append(Plot(f"Gap to {reference}, closed", "dots", tuple(series), axis, labels=domains, mark=1.0))
    return tuple(blocks)


def scaling_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """A run of `silo eval scaling`: figures by size, and the line through them."""
    rows = [row for row in run.rows if "n_entries" in row]
    line = next((row for row in run.rows if "slope" in row), None)
    lines = []
    for row in rows:
        choice = row.get("choice", {})
        nats = Cell(fixed(row["nats_per_token"]), between(row["nats_per_token_interval"]))
        counts = words((f"{row['n_entries']:,}", f"{row['n_store_bytes']:,}"))
        perplexity, share = fixed(row["perplexity_per_token"], 2), fixed(choice["shares"][1], 2) if choice else "–"
        rest = (fixed(row["bits_per_byte"]), perplexity, choice.get("k", "–"), share, f"{row['short_of_k']:.1%}")
        lines.append((*counts, nats, *words(rest)))
    columns = (
        "entries",
        "store bytes",
        "nats per token",
        "bits per byte",
        "perplexity",
        "k",
        "share",
        "short of k",
    )
    note = "From one search; a smaller store is a part of each larger one. Intervals: 95 %, by drawing documents anew."
    if line is not None:
        slope, further = line["slope"], line["extrapolated"]
        low, high = (signed(end, 4) for end in slope["interval"])
        note += (
            f" Each doubling: {signed(slope['nats_per_doubling'], 4)} nats per token, 95 % from {low} to {high}."
            f" Extrapolated, not measured: {fixed(further['nats_per_token'])} nats per token at"
            f" {further['n_entries']:,} entries."
        )
    tables = Table("Against the size of the datastore", columns, tuple(lines), note)
    return (tables, _scaling_plot(rows, line)) if rows else ()


def scaling_together(runs: Sequence[Run]) -> tuple[Table | Plot, ...]:
    """Several runs of `silo eval scaling`: what each doubling gives, and their curves on one pair of axes."""
    lines, series = [], []
    for run in runs:
        name = PurePosixPath(run.name).stem.removeprefix("scaling-")
        rows = [row for row in run.rows if "n_entries" in row]
        if not rows:
            continue
        series.append(_measured(name, rows))
        for slope in (row["slope"] for row in run.rows if "slope" in row):
            low, high = (signed(end, 4) for end in slope["interval"])
            smallest, largest = rows[0], rows[-1]
            sizes = (f"{one['n_entries']:,}" for one in (smallest, largest))
            nats = (fixed(one["nats_per_token"]) for one in (smallest, largest))
            doubling = Cell(signed(slope["nats_per_doubling"], 4), f"{low} to {high}")
            lines.append((*words((name, *sizes, *nats)), doubling))
    columns = ("run", "smallest", "largest", "nats, smallest", "nats, largest", "each doubling")
    note = "Entries, nats per token, and the change of nats per token with each doubling of the store."
    table = Table("Slopes side by side", columns, tuple(lines), note)
    axes = ("entries", "nats per token")
    return (table, Plot("Nats per token against entries, all runs", "lines", tuple(series), *axes, is_log_x=True))


def ablation_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """Variants of a recipe at equal compute, the best first."""
    rows = sorted(run.rows, key=lambda row: row["validation_bits_per_byte"])
    lines = []
    for i, row in enumerate(rows):
        bits = Cell(fixed(row["validation_bits_per_byte"], 4), is_best=not i and len(rows) > 1)
        counts = (f"{row.get('n_tokens', 0):,}", f"{row.get('n_parameters', 0):,}", f"{row.get('seconds', 0):,.0f}")
        origin = (row.get("seed", "not recorded"), str(row.get("commit", "not recorded"))[:12])
        lines.append((Cell(row["variant"]), bits, *words((*counts, *origin))))
    columns = ("variant", "validation, bits per byte", "tokens", "parameters", "seconds", "seed", "commit")
    note = "One seed each: differences of a few thousandths may be chance."
    return (Table("Variants of the recipe, at equal compute", columns, tuple(lines), note),)


def training_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """The course of one training run: loss against tokens, and where it came to."""
    rows = run.rows
    curves = []
    for name, key, style in (("training", "loss", "line"), ("validation", "validation_loss", "points")):
        there = [row for row in rows if key in row and "tokens" in row]
        if there:
            x, y = tuple(float(row["tokens"]) for row in there), tuple(float(row[key]) for row in there)
            curves.append(Series(name, x, y, style=style))  # type: ignore[arg-type]
    last = rows[-1]
    held = [row["validation_loss"] for row in rows if "validation_loss" in row]
    facts = {
        "steps": f"{last['step']:,}",
        "tokens": f"{last['tokens']:,}" if "tokens" in last else "–",
        "training loss, nats per token": fixed(last["loss"]),
        "validation loss, nats per token": fixed(held[-1]) if held else "not recorded",
    }
    table = Table("Where training came to", tuple(facts), (words(tuple(facts.values())),), "The last of each.")
    axes = ("tokens", "nats per token")
    return (table, Plot("Loss in training", "lines", tuple(curves), *axes)) if curves else (table,)


def _last_two(key: str, value: float) -> tuple[str, str]:
    """A mean stands under what it is the mean of."""
    shown = fixed(value, 2)
    return ("", shown) if key == "mean_capped" else (shown, "")


def _measured(name: str, rows: Sequence[Row]) -> Series:
    sizes, nats = (tuple(float(row[key]) for row in rows) for key in ("n_entries", "nats_per_token"))
    low, high = (tuple(float(row["nats_per_token_interval"][end]) for row in rows) for end in (0, 1))
    return Series(name, sizes, nats, low, high)


def _scaling_plot(rows: list[Row], line: Row | None) -> Plot:
    sizes = tuple(float(row["n_entries"]) for row in rows)
    series = [_measured("measured", rows)]
    if line is not None:
        slope, further = line["slope"], line["extrapolated"]
        at = [slope["intercept"] + slope["nats_per_doubling"] * math.log2(size) for size in (sizes[0], sizes[-1])]
        series.append(Series("least squares", (sizes[0], sizes[-1]), tuple(at), style="line"))
        x, y = (sizes[-1], float(further["n_entries"])), (at[1], further["nats_per_token"])
        series.append(Series("extrapolated", x, y, style="extrapolated"))
    title = "Nats per token against entries in the datastore"
    return Plot(title, "lines", tuple(series), "entries", "nats per token", is_log_x=True)
