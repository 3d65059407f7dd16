"""`silo datastore verify`: the datastore's own verification, and with ``--model`` what the LM makes of the text.

The first half needs no LM and loads none; it is `datastore.commands.verify`, whose options this command has too.
"""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from datastore import commands

Model = Annotated[str | None, typer.Option(help="The LM that wrote the datastore: probe it with --text.")]
Device = Annotated[str, typer.Option(help="A torch device: cpu, cuda, …")]


def verify(*, model: Model = None, device: Device = "cpu", **options: Any) -> None:
    """Check a receipt, and that the store does what it says."""
    store, text = options["store"], options["text"]
    if model is not None and (store is None or text is None):
        raise typer.BadParameter("--model is asked about a --text in a --store; name both")
    commands.verify(**options)
    if model is not None:
        _probe(model, store, text.read_text(encoding="utf-8"), device)


_base = inspect.signature(commands.verify)
_own = [p for p in inspect.signature(verify).parameters.values() if p.name in ("model", "device")]
# typer reads what it offers from the signature: one list of options serves both commands.
verify.__signature__ = _base.replace(parameters=[*_base.parameters.values(), *_own])  # type: ignore[attr-defined]
verify.__annotations__ = {**commands.verify.__annotations__, "model": Model, "device": Device}


def _probe(model: str, store: Path, text: str, device: str) -> None:
    """Print the longest run of the text's tokens that is live, and what the datastore adds to its probability."""
    from silo.generation import Silo
    from silo.probe import probe, token_ids

    joined = Silo.open(model, store, device)
    assert joined.datastore is not None
    ids = token_ids(joined.lm, text)
    found = probe(joined, text)
    run = joined.datastore.longest_run(ids)
    places = joined.datastore.locate(run.entries, run.epoch) or []
    where = ", ".join(dict.fromkeys(f"{place.document} #{place.sentence}" for place in places[:3]))
    print(f"probed: of its {len(ids):,} tokens {run.stop - run.start} in a row are live, {run.count:,} times: {where}")
    print(
        f"probed: mean log-probability of a token {found.lm_logprob:.4f} by the LM alone, {found.mixture_logprob:.4f} "
        f"with the datastore: {found.gain:+.4f} nats"
    )
