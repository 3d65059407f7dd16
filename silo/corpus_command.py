"""`silo corpus info` and `silo corpus sources`: what a corpus holds, by source, license and risk class, and what is
declared of sources that may be read.

Reads and reports, and writes normalized JSONL on request. Trains on nothing and stores nothing else.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from silo.declarations import Declaration
    from silo.documents import Document


def info(
    locations: Annotated[
        list[str] | None,
        typer.Argument(help="JSONL files (.jsonl, .gz, .zst), text files, folders, saved datasets, or hf:owner/name."),
    ] = None,
    declared: Annotated[
        list[str] | None,
        typer.Option(help="Read this declared source, as collection/name; see `silo corpus sources`."),
    ] = None,
    data: Annotated[Path, typer.Option(help="The folder that declared sources lie in.")] = Path(),
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many documents.")] = None,
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

    from silo import declarations
    from silo.corpora import read_documents, write_documents
    from silo.loaders import read_source

    if not locations and not declared:
        raise typer.BadParameter("give a location, or --declared with a source that `silo corpus sources` lists")
    console = Console()
    chosen = [declarations.declared(name, data / "sources") for name in declared or ()]
    for declaration in chosen:
        console.print(f"{declaration.name}: {declaration.evidence}", highlight=False, markup=False)
    read = (read_source(declaration, data) for declaration in chosen)
    found = read_documents(
        *(locations or ()), *read, license=license, source=source, owner=owner, text_field=text_field
    )
    census = Census()
    documents = census.watch(itertools.islice(found, limit))
    if out is None:
        for _ in documents:
            pass
    else:
        write_documents(out, documents)
    console.print(census.table())
    if out is not None:
        console.print(f"{census.documents.total():,} documents written to {out}", highlight=False)


def sources(
    names: Annotated[
        list[str] | None, typer.Argument(help="A collection, or sources as collection/name; all of them without it.")
    ] = None,
    data: Annotated[Path, typer.Option(help="The folder whose sources/*.toml are listed too.")] = Path(),
) -> None:
    """List the declared sources: their license, the class that our table gives it, and the evidence."""
    from rich.console import Console

    from silo import declarations

    listed = [
        declaration
        for declaration in declarations.declarations(data / "sources")
        if not names or declaration.name in names or declaration.collection in names
    ]
    if unknown := [name for name in names or () if all(name not in (d.name, d.collection) for d in listed)]:
        declarations.declared(unknown[0], data / "sources")
    Console().print(source_table(listed))


def source_table(listed: "Iterable[Declaration]") -> "Table":
    """One row for each declaration. A class that its author did not expect is marked."""
    from rich.table import Table

    from silo.licenses import classify

    table = Table("source", "domain", "license", "class", "evidence", show_lines=True)
    for declaration in listed:
        stated = declaration.license or declaration.license_field or "as its files state"
        risk = str(classify(declaration.license).risk) if declaration.license else ""
        expected = ", ".join(declaration.expected)
        risk = expected if risk in ("", expected) else f"{risk} (expected {expected})"
        if declaration.excluded:
            risk, evidence = "never read", f"{declaration.evidence} Excluded: {declaration.excluded}."
        else:
            evidence = declaration.evidence
        table.add_row(declaration.name, declaration.domain, stated, risk, evidence)
    return table


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
