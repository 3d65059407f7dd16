"""`silo corpus info`: what a corpus holds, by source, license and risk class.

Reads and reports, and writes normalized JSONL on request. Trains on nothing and stores nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from silo.documents import Document


def info(
    locations: Annotated[
        list[str],
        typer.Argument(help="JSONL files (.jsonl, .gz, .zst), text files, folders, saved datasets, or hf:owner/name."),
    ],
    license: Annotated[  # noqa: A002
        str, typer.Option(help="SPDX license of documents that state none. Without it they are high-risk.")
    ] = "",
    source: Annotated[str, typer.Option(help="Collection of documents that name none.")] = "",
    owner: Annotated[str, typer.Option(help="Owner of documents that name none.")] = "",
    text_field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    out: Annotated[Path | None, typer.Option(help="Write the documents here: .jsonl, .jsonl.gz or .jsonl.zst.")] = None,
) -> None:
    """Count documents by source, license and risk class, and say why each class."""
    from rich.console import Console

    from silo.corpora import read_documents, write_documents

    census = Census()
    documents = census.watch(
        read_documents(*locations, license=license, source=source, owner=owner, text_field=text_field)
    )
    if out is None:
        for _ in documents:
            pass
    else:
        write_documents(out, documents)
    console = Console()
    console.print(census.table())
    if out is not None:
        console.print(f"{census.documents.total():,} documents written to {out}", highlight=False)


@dataclass(frozen=True)
class Census:
    """Documents and bytes of text, counted by (source, license) as they pass."""

    documents: Counter[tuple[str, str]] = field(default_factory=Counter)
    n_bytes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def watch(self, documents: "Iterable[Document]") -> "Iterator[Document]":
        """The same documents; each is counted when it passes."""
        for document in documents:
            kind = (document.source, document.license)
            self.documents[kind] += 1
            self.n_bytes[kind] += len(document.text.encode("utf-8"))
            yield document

    def table(self) -> "Table":
        """One row for each source and license, with the class and its reason."""
        from rich.table import Table

        from silo.licenses import classify

        table = Table("source", "license", "class", "documents", "bytes", "reason")
        for index in (3, 4):
            table.columns[index].justify = "right"
        for kind in sorted(self.documents):
            decision = classify(kind[1])
            counts = (f"{self.documents[kind]:,}", f"{self.n_bytes[kind]:,}")
            table.add_row(kind[0] or "–", kind[1] or "–", str(decision.risk), *counts, decision.reason)
        table.add_section()
        table.add_row("all", "", "", f"{self.documents.total():,}", f"{self.n_bytes.total():,}", "")
        return table
