"""`silo corpus card`, `silo corpus overlap`, `silo corpus trace`: what an auditor asks of training text.

Thin: reads arguments, calls the library, prints. None of them needs a model or a network.
"""

from pathlib import Path
from typing import Annotated

import typer


def card(checkpoint: Annotated[Path, typer.Argument(help="A folder that `silo train` wrote.")]) -> None:
    """Print what a checkpoint was trained on, after checking every file against its manifest."""
    from silo.checkpoint import verify_files
    from silo.datacard import PAGE_NAME
    from silo.errors import BadCheckpoint

    if PAGE_NAME not in verify_files(checkpoint).files:
        raise BadCheckpoint(f"{checkpoint} has no {PAGE_NAME}. Expected a checkpoint that `silo train` wrote.")
    print((checkpoint / PAGE_NAME).read_text(encoding="utf-8"), end="")


def overlap(
    train: Annotated[list[str], typer.Option(help="Training or datastore text; one column each. May be repeated.")],
    evaluation: Annotated[list[str], typer.Option("--eval", help="Evaluation text; one row each. May be repeated.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Words in a run.")] = 13,
) -> None:
    """Share of each evaluation's runs of words that occur in training text."""
    from rich.console import Console
    from rich.table import Table

    from silo.corpora import read_documents
    from silo.overlap import read_evaluations, shares

    evaluations = list(read_evaluations(evaluation, n))
    found = shares(((at, document) for at in train for document in read_documents(at)), evaluations)
    domains = [*dict.fromkeys(train), "all"]
    table = Table("evaluation", f"runs of {n} words", *domains)
    for column in table.columns[1:]:
        column.justify = "right"
    for held in evaluations:
        cells = (f"{found[held.name].get(domain, 0.0):.3%}" for domain in domains)
        table.add_row(held.name, f"{len(held.ngrams):,}", *cells)
    Console().print(table)


def trace(
    checkpoint: Annotated[Path, typer.Argument(help="A folder that `silo train` wrote.")],
    document: Annotated[
        str, typer.Argument(help="A file with the text (JSONL: each of its documents), an id, or a digest.")
    ],
) -> None:
    """Whether a document trained a checkpoint. Exit status 0: it did; 1: it did not; 2: it cannot be told."""
    from silo.corpora import read_documents
    from silo.trace import Part, Register

    register = Register.of(checkpoint)
    if Path(document).is_file():
        answers = [(found.id, register.find_text(found.text)) for found in read_documents(document)]
    else:
        answers = [(document, register.find(document))]
    said = {
        Part.TRAINED: "trained it",
        Part.TOKENIZER: "trained its tokenizer, not its weights",
        Part.HELD_OUT: "did not train it; was held out for validation",
        Part.NONE: "did not train it",
    }
    for name, answer in answers:
        print(f"{name}: {said[answer.part]}")
        for entry in answer.documents:
            print(
                f"  {entry.id}, {entry.license} ({entry.risk}), {entry.source or 'source not stated'}, {entry.digest}"
            )
    if not any(answer.part in (Part.TRAINED, Part.TOKENIZER) for _, answer in answers):
        raise typer.Exit(1)
