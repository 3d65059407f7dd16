"""Documents from files, folders and Hugging Face datasets, and back into JSONL.

Streams: no corpus is held in memory, only the ids that were seen. Decides nothing about
licenses and knows no tokens. A **location** is one of

- ``texts.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``: one JSON object a line with ``id`` and ``text``,
  and optionally ``source, title, owner, license, url, metadata``; other keys go into the metadata;
- a folder of text files, each one document whose id is its relative path, or of JSONL files;
- one text file; its id is its name;
- a folder that ``datasets`` wrote with ``save_to_disk``, or one of ``.parquet`` or ``.json`` files;
- ``hf:owner/name``, a dataset of the Hugging Face hub, streamed. The prefix is asked for so that a
  mistyped path never becomes a request to the network.

A ``license``, ``source`` or ``owner`` given by the caller fills in for documents that state none; it
never overrides what a document says of itself.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from silo.documents import MAX_TEXT_BYTES, Document
from silo.errors import BadDocument, DuplicateDocument, UnreadableCorpus
from silo.jsonl import JSONL_SUFFIXES, decode, read_jsonl, write_jsonl

_PROSE = ".txt .text .md .markdown .rst .adoc .org .tex .html .htm .xml .csv .tsv .srt"
_CODE = ".py .pyi .c .h .cc .cpp .hpp .java .js .ts .go .rs .rb .php .pl .sh .sql .r .jl .scala .swift .kt .cs"
TEXT_SUFFIXES = frozenset(f"{_PROSE} {_CODE}".split())
"""Files of a text folder with another suffix are passed over."""
HUB_PREFIX = "hf:"

_FIELDS = ("id", "text", "license", "source", "title", "owner", "url", "metadata")
_Placed = tuple[str, Document]
"""Where a document was found, for people, and the document."""


@dataclass(frozen=True)
class Location:
    """Where documents are, which fields they are read from, and what they get where they state nothing."""

    at: str | Path
    license: str = ""
    source: str = ""
    owner: str = ""
    text_field: str = "text"
    id_field: str = "id"
    split: str = "train"
    """Of a Hugging Face dataset."""
    subset: str | None = None
    """Of a Hugging Face dataset that has several configurations."""
    revision: str | None = None
    """Commit or branch of a dataset on the hub."""
    files: str = ""
    """Read these files of a dataset on the hub, ``*`` allowed, instead of those that its card or script names."""
    mirror: Path | None = None
    """A folder with a copy of the dataset's repository, which is read in place of the hub."""


def read_documents(
    *locations: str | Path | Location | Iterator[Document],
    license: str = "",  # noqa: A002
    source: str = "",
    owner: str = "",
    text_field: str = "text",
    id_field: str = "id",
    split: str = "train",
    subset: str | None = None,
) -> Iterator[Document]:
    """The documents of all ``locations`` in order, each id once.

    The keywords complete the locations that are given as bare paths; a ``Location`` has its own, and documents that
    come from elsewhere are taken as they are.

    Raises:
        UnreadableCorpus: a location is missing, empty, torn, not UTF-8 or not JSON; says file and line.
        BadDocument: a field is missing or cannot be used; says file and line.
        DuplicateDocument: an id came twice, in one location or in two; says both places.
    """
    places: dict[str, str] = {}
    for given in locations:
        if not isinstance(given, Location | Iterator):
            given = Location(given, license, source, owner, text_field, id_field, split, subset)
        for place, document in _read(given):
            if first := places.get(document.id):
                raise DuplicateDocument(
                    f"{place}: the id {document.id!r} was used before, at {first}. "
                    "An id names one document: rename or drop one of them."
                )
            places[document.id] = place
            yield document


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write ``documents`` as JSONL, compressed as the suffix of ``path`` says; return how many.

    The file appears whole or not at all, and the same documents give the same bytes.

    Raises:
        UnreadableCorpus: the suffix is none of ``JSONL_SUFFIXES``.
    """
    return write_jsonl(path, map(document_row, documents))


def document_row(document: Document) -> dict[str, object]:
    """The JSON object of ``document``; fields that are empty are left out."""
    row: dict[str, object] = {name: getattr(document, name) for name in _FIELDS if name != "metadata"}
    row["metadata"] = dict(document.metadata)
    return {name: value for name, value in row.items() if value or name in ("id", "text")}


def _read(location: Location | Iterator[Document]) -> Iterator[_Placed]:
    if isinstance(location, Iterator):
        return ((f"the source {document.source!r}", document) for document in location)
    if isinstance(location.at, str) and location.at.startswith(HUB_PREFIX):
        return _read_hub(location.at.removeprefix(HUB_PREFIX), location)
    path = Path(location.at)
    if path.is_dir():
        return _read_folder(path, location)
    if not path.exists():
        raise UnreadableCorpus(
            f"{path} is neither a file nor a folder. Give a path that exists, or {HUB_PREFIX}owner/name for the hub."
        )
    return _read_jsonl(path, location) if path.name.endswith(JSONL_SUFFIXES) else _read_text(path, path.name, location)


def _read_folder(folder: Path, location: Location) -> Iterator[_Placed]:
    if any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
        return _read_saved_dataset(folder, location)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(folder)))
    if any(file.name.endswith(JSONL_SUFFIXES) for file in files):
        return (placed for f in files if f.name.endswith(JSONL_SUFFIXES) for placed in _read_jsonl(f, location))
    for builder in ("parquet", "json"):
        if tables := [str(file) for file in files if file.suffix == f".{builder}"]:
            return _read_tables(builder, tables, folder, location)
    texts = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    if not texts:
        raise UnreadableCorpus(
            f"{folder} holds no documents ({len(files)} files). Expected {', '.join(JSONL_SUFFIXES)}, .parquet or "
            f".json files, a dataset saved to disk, or text files ({' '.join(sorted(TEXT_SUFFIXES))})."
        )
    return (placed for file in texts for placed in _read_text(file, file.relative_to(folder).as_posix(), location))


def _read_text(path: Path, name: str, location: Location) -> Iterator[_Placed]:
    if (n_bytes := path.stat().st_size) > MAX_TEXT_BYTES:
        raise BadDocument(f"{path} has {n_bytes:,} bytes; the limit for a text is {MAX_TEXT_BYTES:,}. Split it.")
    text = decode(path.read_bytes(), str(path)).removeprefix("\ufeff")
    yield str(path), _build({"id": name, "text": text}, str(path), location)


def _read_jsonl(path: Path, location: Location) -> Iterator[_Placed]:
    for number, row in read_jsonl(path):
        place = f"{path}, line {number}"
        yield place, _document(row, place, location)


def _read_saved_dataset(folder: Path, location: Location) -> Iterator[_Placed]:
    from datasets import DatasetDict, load_from_disk

    data = load_from_disk(str(folder))
    if isinstance(data, DatasetDict):
        if location.split not in data:
            raise UnreadableCorpus(f"{folder} has the splits {', '.join(data)}; asked for {location.split!r}")
        data = data[location.split]
    return _read_rows(data, str(folder), folder.name, location)


def _read_tables(builder: str, files: list[str], folder: Path, location: Location) -> Iterator[_Placed]:
    from datasets import load_dataset

    data = load_dataset(builder, data_files=files, split="train", streaming=True)
    return _read_rows(data, str(folder), folder.name, location)


def _read_hub(name: str, location: Location) -> Iterator[_Placed]:
    from datasets import load_dataset

    at_revision = f"@{location.revision}" if location.revision else ""
    root = location.mirror or f"hf://datasets/{name}{at_revision}"
    try:
        if location.files:
            builder = "parquet" if location.files.endswith(".parquet") else "json"
            data = load_dataset(builder, data_files=f"{root}/{location.files}", split="train", streaming=True)
        else:
            at = {"revision": location.revision} if location.revision and not location.mirror else {}
            where = str(location.mirror or name)
            data = load_dataset(where, location.subset, split=location.split, streaming=True, **at)
    except Exception as error:
        raise UnreadableCorpus(
            f"the dataset {str(location.mirror or name)!r} (subset {location.subset}, split {location.split}) "
            f"cannot be opened: {error}"
        ) from error
    return _read_rows(data, str(location.at), name, location)


def _read_rows(data: Iterable[Mapping[str, Any]], place: str, name: str, location: Location) -> Iterator[_Placed]:
    """Rows of a Hugging Face dataset; one without an id column is named by the number of its row."""
    rows = iter(data)
    number = 0
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise UnreadableCorpus(f"{place}, after row {number}: {error}") from error
        if row is None:
            return
        kept = {
            k: _plain(v) for k, v in row.items() if isinstance(v, str | int | float | bool | date) or k == "metadata"
        }
        named = kept if location.id_field in row else {location.id_field: f"{name}/{number}", **kept}
        identified = {**named, location.id_field: str(named.get(location.id_field, ""))}
        number += 1
        row_place = f"{place}, row {number}"
        yield row_place, _document(identified, row_place, location)


def _document(row: Mapping[str, Any], place: str, location: Location) -> Document:
    """A document from a JSON object or a dataset's row, with everything that it does not know in its metadata."""
    for field in (location.id_field, location.text_field):
        if row.get(field) is None:
            raise BadDocument(
                f"{place}: the field {field!r} is missing; the object has {', '.join(map(repr, row)) or 'no fields'}. "
                "Name the right field with --text-field, or mend the file."
            )
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise BadDocument(f"{place}: metadata must be an object; got {type(metadata).__name__}")
    renamed = {**row, "id": row[location.id_field], "text": row[location.text_field]}
    consumed = {*_FIELDS, location.id_field, location.text_field}
    fields = {name: renamed[name] for name in _FIELDS if name != "metadata" and renamed.get(name) is not None}
    extra = {name: value for name, value in row.items() if name not in consumed}
    return _build({**fields, "metadata": {**extra, **metadata}}, place, location)


def _plain(value: Any) -> Any:
    """``value`` as JSON has it: a table's dates become ISO 8601, and what a row does not state is left out."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _build(fields: dict[str, Any], place: str, location: Location) -> Document:
    for name, value in fields.items():
        if name != "metadata" and not isinstance(value, str):
            raise BadDocument(f"{place}: {name} must be a string; got {type(value).__name__}: {value!r:.80}")
    given = {name: getattr(location, name) for name in ("license", "source", "owner")}
    filled = {**fields, **{name: value for name, value in given.items() if not fields.get(name)}}
    try:
        json.dumps(filled.get("metadata", {}), ensure_ascii=False).encode("utf-8")
        return Document(**filled)
    except UnicodeEncodeError:
        raise BadDocument(f"{place}: the metadata is not valid Unicode: lone surrogate") from None
    except BadDocument as error:
        raise BadDocument(f"{place}: {error}") from None


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
