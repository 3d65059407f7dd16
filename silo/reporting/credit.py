"""Sections for `silo eval attribution`: whose masses they are, whether they are causes, and whether the right source
is named.

Works on rows of figures; knows no file and draws nothing.
"""

from silo.reporting.blocks import QUANTILES, Plot, Table, fixed, power, words
from silo.reporting.runs import Row, Run

_FALLS = {
    "cited_fall": "what was credited to the sources",
    "held_fall": "fall with all else held",
    "served_fall": "fall as served",
    "served_less_cited": "fall as served, less what was credited",
    "heard_not_cited_served_fall": "fall of tokens that they were asked about and had no credit for",
}


def credit_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """A run of `silo eval attribution`."""
    tables = {"masses": _masses, "counterfactual": _counterfactual, "planted facts": _planted}
    tables["agreement with BM25"] = _agreement
    return tuple(tables[row["check"]](row) for row in run.rows if row.get("check") in tables)


def _masses(row: Row) -> Table:
    shares = (row[f"mean_{name}"] for name in ("parametric", "named", "unnamed"))
    line = (f"{row['n_tokens']:,}", *(_percent(share) for share in shares), power(row["largest_deviation"]))
    columns = ("tokens", "the LM's own, mean", "named sources, mean", "unnamed, mean", "largest deviation from one")
    return Table("Masses of a token", columns, (words(line),))


def _counterfactual(row: Row) -> Table:
    lines = []
    for name, said in _FALLS.items():
        found = row[name]
        lines.append(words((said, *(f"{found[q]:.2e}".replace("-", "−") if q in found else "–" for q in QUANTILES))))
    note = (
        f"{row['n_removed']:,} sources were taken out; of {row['n_tokens']:,} tokens they were credited in "
        f"{row['n_cited']:,}. Largest deviation with all else held: {power(row['held_largest_deviation'])}. Of "
        f"{row['n_not_heard']:,} tokens in which they had no part, {row['not_heard_n_changed']:,} changed, by "
        f"{power(row['not_heard_largest_change'])} at most."
    )
    return Table("Probability that goes with a source", ("of the token that came", *QUANTILES), tuple(lines), note)


def _planted(row: Row) -> Table:
    facts = {
        "facts": f"{row['n_facts']:,}",
        "told in full": f"{row['n_whole']:,}",
        "tokens that owe most to the planted sentence": _percent(row["precision"]),
        "BM25 names it first": _percent(row["baseline_precision"]),
        "their mass from it, mean": _percent(row["mean_mass_of_planted"]),
        "told in full once removed": f"{row['n_whole_after_removal']:,}",
    }
    return Table("Planted facts", ("what", "figure"), tuple(map(words, facts.items())))


def _agreement(row: Row) -> Table:
    facts = {
        "generated sentences": f"{row['n_sentences']:,}",
        "BM25 names the largest source first": _percent(row["first"]),
        "BM25 has it among those it ranks highest": _percent(row["among_ranked"]),
        "BM25 names the same document first": _percent(row["same_document"]),
        "mass of the largest source, mean": _percent(row["mean_mass_of_first_source"]),
    }
    return Table("Beside a search after the fact", ("what", "figure"), tuple(map(words, facts.items())))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{fixed(100 * share, 1)} %"
