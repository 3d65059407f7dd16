"""Sections for `silo eval ppl`: bits per byte by domain, for models or predictors, and what was gained and tuned.

Works on rows of figures; knows no file and draws nothing.
"""

from collections.abc import Sequence

from silo.reporting.blocks import Cell, Plot, Series, Table, between, fixed, signed, words
from silo.reporting.runs import Row, Run

_N_HEX = 12


def perplexity_blocks(run: Run) -> tuple[Table | Plot, ...]:
    """Everything that a run of `silo eval ppl` says; rows that are no figures of a domain are left to others."""
    rows = [row for row in run.rows if "domain" in row and "bits_per_byte" in row]
    if not rows:
        return ()
    blocks: list[Table | Plot] = [_bits(rows), _plot(rows), *_gains(rows), *_choices(rows), *_texts(rows)]
    return tuple(blocks)


def column(row: Row, rows: Sequence[Row]) -> str:
    """How a row is told apart from those of the same domain: by its model, its predictor, or both."""
    model, predictor = short(row.get("model", "")), row.get("predictor", "")
    several = len({one.get("model", "") for one in rows}) > 1
    if {one.get("predictor", "") for one in rows} == {"lm"} and model:
        return model
    if several and predictor and len({one.get("predictor") for one in rows}) > 1:
        return f"{model}, {predictor}"
    return model if several or not predictor else predictor


def short(value: object) -> str:
    """A digest by its first digits; anything else as it is."""
    text = str(value)
    is_digest = len(text) >= 32 and set(text) <= set("0123456789abcdef")
    return f"{text[:_N_HEX]}…" if is_digest else text


def _bits(rows: Sequence[Row]) -> Table:
    columns, domains, found = _grid(rows)
    best = {d: min(found[d, c]["bits_per_byte"] for c in columns if (d, c) in found) for d in domains}
    lines = []
    for domain in domains:
        cells = [Cell(domain)]
        for name in columns:
            if (row := found.get((domain, name))) is None:
                cells.append(Cell("–"))
                continue
            bits = row["bits_per_byte"]
            is_best = len(columns) > 1 and bits == best[domain]
            cells.append(Cell(fixed(bits), _interval(row), is_best))
        lines.append(tuple(cells))
    whole = [name for name in columns if all((domain, name) in found for domain in domains)]
    if len(domains) > 1:
        means = {name: sum(found[d, name]["bits_per_byte"] for d in domains) / len(domains) for name in whole}
        mean = [Cell(fixed(means[name]) if name in means else "–") for name in columns]
        lines.append((Cell(f"mean over {len(domains)} domains"), *mean))
    bold = "; bold: best of the row" if len(columns) > 1 else ""
    note = f"Lower is better{bold}. 95 % intervals by drawing the documents anew; none for one document."
    return Table("Bits per byte by domain", ("domain", *columns), tuple(lines), note)


def _gains(rows: Sequence[Row]) -> list[Table]:
    tables = []
    columns, domains, found = _grid(rows)
    for key, over, own in (("gain_over_lm", "the LM", "lm"), ("gain_over_knn", "the tuned kNN-LM", "knn")):
        shown = [name for name in columns if any(key in found.get((d, name), {}) for d in domains) and name != own]
        if not shown:
            continue
        lines = []
        for domain in domains:
            gains = [found.get((domain, name), {}).get(key) for name in shown]
            cells = [Cell(signed(g["nats_per_token"]), between(g["interval"])) if g else Cell("–") for g in gains]
            lines.append((Cell(domain), *cells))
        note = "Positive where the predictor is better; an interval without zero is a difference that would repeat."
        title = f"Gain over {over}, nats per token"
        tables.append(Table(title, ("domain", *shown), tuple(lines), note, is_detail=True))
    return tables


def _choices(rows: Sequence[Row]) -> list[Table]:
    lines = []
    for row in rows:
        if choice := row.get("choice"):
            k = f"{choice['k']:,}" if choice.get("k") else "–"
            factor = fixed(choice["factor"], 2) if choice.get("factor") else "–"
            shares = ", ".join(fixed(share, 2) for share in choice.get("shares", ()))
            lines.append(words((row["domain"], column(row, rows), k, factor, shares)))
    columns = ("domain", "predictor", "k", "temperature, times the store's", "shares, the LM's first")
    note = "Chosen on validation text and frozen before the test was read."
    return [Table("What was tuned", columns, tuple(lines), note, is_detail=True)] if lines else []


def _texts(rows: Sequence[Row]) -> list[Table]:
    """Which documents, and what was asked about them."""
    texts: dict[tuple[str, ...], None] = {}
    setups: dict[tuple[str, ...], None] = {}
    for row in rows:
        counts = tuple(f"{row[name]:,}" if name in row else "–" for name in ("n_documents", "n_tokens", "n_bytes"))
        texts[(str(row["domain"]), *counts, short(row.get("documents", "")) or "not recorded")] = None
        store = f"{short(row['datastore'])}, epoch {row['epoch']}" if row.get("datastore") else "–"
        lm = (str(row.get("model", "–")), str(row.get("fingerprint") or row.get("model", "–")))
        setups[(*map(short, lm), store, short(row.get("gate", "")) or "–")] = None
    columns = ("domain", "documents", "tokens", "bytes", "SHA-256 of the documents")
    models = ("model", "fingerprint of the LM", "datastore", "SHA-256 of the gate")
    return [
        Table("Texts", columns, tuple(map(words, texts)), is_detail=True),
        Table("Models", models, tuple(map(words, setups)), is_detail=True),
    ]


def _plot(rows: Sequence[Row]) -> Plot:
    columns, domains, found = _grid(rows)
    series = []
    for name in columns:
        there = [(i, found[domain, name]) for i, domain in enumerate(domains) if (domain, name) in found]
        ends = [row.get("bits_per_byte_interval") or (row["bits_per_byte"],) * 2 for _, row in there]
        x, y = tuple(row["bits_per_byte"] for _, row in there), tuple(float(i) for i, _ in there)
        low, high = tuple(float(end[0]) for end in ends), tuple(float(end[1]) for end in ends)
        series.append(Series(name, x, y, low, high))
    return Plot("Bits per byte by domain", "dots", tuple(series), "bits per byte (lower is better)", labels=domains)


def _interval(row: Row) -> str:
    """None where there is one document, which cannot be drawn anew."""
    ends = row.get("bits_per_byte_interval")
    return between(ends) if ends and row.get("n_documents") != 1 else ""


def _grid(rows: Sequence[Row]) -> tuple[tuple[str, ...], tuple[str, ...], dict[tuple[str, str], Row]]:
    columns = tuple(dict.fromkeys(column(row, rows) for row in rows))
    domains = tuple(dict.fromkeys(str(row["domain"]) for row in rows))
    return columns, domains, {(str(row["domain"]), column(row, rows)): row for row in rows}
