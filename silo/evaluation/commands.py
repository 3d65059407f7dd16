"""`silo eval`: how well models predict text.

Thin: reads arguments, calls the library, prints and writes figures.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

_SPLITS = ("train", "validation", "test", "datastore")


def ppl(
    locations: Annotated[list[str], typer.Argument(help="Documents, one domain each: DOMAIN=LOCATION or LOCATION.")],
    model: Annotated[list[str], typer.Option(help="A checkpoint folder or a hub id; may be repeated.")],
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Stop a domain after so many bytes of text.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON lines.")] = None,
    device: Annotated[str, typer.Option(help="A torch device: cpu, cuda, …")] = "cpu",
) -> None:
    """Bits per byte by domain and model, each document read alone, with 95 % intervals over documents."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from silo.corpora import read_documents
    from silo.evaluation.likelihood import likelihood_of
    from silo.files import new_file
    from silo.lm import LanguageModel

    domains = [_named(location) for location in locations]
    found: dict[tuple[str, str], str] = {}
    rows = []
    for name in model:
        lm = LanguageModel.load(name, device, to_measure=True)
        for domain, location in domains:
            figures = likelihood_of(lm, read_documents(location), max_bytes)
            low, high = figures.bits_per_byte_interval
            found[domain, name] = f"{figures.bits_per_byte:.3f} ({low:.3f}–{high:.3f})"
            rows.append({"model": lm.name, "fingerprint": lm.fingerprint, "domain": domain} | asdict(figures))
    table = Table("bits per byte", *(Path(name).name for name in model))
    for domain, _ in domains:
        table.add_row(domain, *(found[domain, name] for name in model))
    Console().print(table)
    if out is not None:
        with new_file(out) as file:
            file.writelines(json.dumps(row).encode("utf-8") + b"\n" for row in rows)


def _named(location: str) -> tuple[str, str]:
    """Domain and location. A file that is called after its split is named by the folder that it lies in."""
    name, separator, rest = location.partition("=")
    if separator:
        return name, rest
    path = Path(location)
    stem = path.name.split(".")[0]
    return (path.parent.name if stem in _SPLITS else stem), location
