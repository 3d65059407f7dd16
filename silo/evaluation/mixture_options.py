"""What commands have in common that measure an LM and a datastore together, as they are served.

Options, opening, progress and records; measures nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datastore.store import Datastore
    from silo.evaluation.served import Served

Model = Annotated[str, typer.Option(help="The LM that wrote the datastore: a checkpoint folder or a hub id.")]
Store = Annotated[Path, typer.Option(help="A datastore; it is copied and never changed.")]
Gate = Annotated[Path | None, typer.Option(help="A gate that was fitted with the LM; else the one beside store or LM.")]
K = Annotated[int, typer.Option(min=1, help="Neighbors per token; with a gate its own number.")]
KnnWeight = Annotated[float | None, typer.Option(help="Share of the neighbors; as in `silo generate`.")]
NgramWeight = Annotated[float | None, typer.Option(help="Share of what followed the same last tokens.")]
Seed = Annotated[int, typer.Option(help="Of every choice and order.")]
Work = Annotated[Path | None, typer.Option(help="Where copies are made; else where temporary files go.")]


def opened(
    model: str,
    datastore: Path,
    gate: Path | None,
    k: int,
    knn_weight: float | None,
    ngram_weight: float | None,
    device: str,
) -> "tuple[Datastore, Served]":
    """The store, and the LM as it is mixed with it: with ``gate``, or the one that lies beside either of them.

    Raises:
        EncoderMismatch: another LM wrote the store.
    """
    from silo.evaluation.served import Served
    from silo.gate import Gate
    from silo.generation import Silo
    from silo.settings import GenerationSettings, KnnSettings, NgramSettings

    joined = Silo.open(model, datastore, device)
    assert joined.datastore is not None
    settings = GenerationSettings(knn=KnnSettings(k=k, weight=knn_weight), ngram=NgramSettings(weight=ngram_weight))
    return joined.datastore, Served(joined.lm, settings, joined.gate if gate is None else Gate.load(gate))


def setup(store: "Datastore", served: "Served") -> dict[str, Any]:
    """What a recorded run says of LM, store and mixture."""
    gate = "" if served.gate is None else served.gate.digest
    shares = asdict(served.settings.shares) if served.gate is None or served.settings.names_shares else {}
    facts = {"model": served.lm.fingerprint, "datastore": store.id, "epoch": store.epoch, "n_entries": store.n_entries}
    return facts | {"gate": gate, "shares": shares, "knn": asdict(served.settings.knn)}


def write(out: Path | None, config: dict[str, Any], rows: list[dict[str, Any]], seed: int) -> None:
    """Record a run, where that is asked for."""
    from silo.evaluation.recording import record, write_record

    if out is not None:
        write_record(out, record(config, rows, seed=seed, now=datetime.now(UTC)))


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 90th and 99th percentile and the extremes."""
    import numpy as np

    names = ("least", "median", "p90", "p99", "most")
    return dict(zip(names, np.quantile(values, [0, 0.5, 0.9, 0.99, 1]).tolist(), strict=True)) if len(values) else {}


@contextmanager
def noting(name: str) -> Iterator[Callable[[str], None]]:
    """A line that tells how far something has come, by what it is told; gone after the block."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True) as progress:
        task = progress.add_task(name)
        yield lambda what: progress.update(task, description=f"{name}: {what}")
