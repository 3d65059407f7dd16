"""A snapshot of a store on another disk: each document is encrypted under its own key, which stays behind.

So a document leaves every copy of every snapshot, wherever they are, when its key is destroyed (``keyring``), which
compaction does with what it erases. ``restore`` is the way back; a snapshot that was only made proves nothing.

A document that lost passages is written without them, under a new key; compaction destroys the older one, and with it
the rest of the document in older snapshots. So take a snapshot before the compaction that follows such a removal.

``manifest.json`` and the files it names  as in the store; of licensed text alone
``documents.bin``   live and hidden documents, one encrypted blob after another: facts, and what a segment copies
``documents.json``  of each blob its number in order of ingestion, name of its key, offset, and bytes
``records.bin``     encrypted: log, receipts, suppressions, and what the catalog knows of documents that are out
``snapshot.json``   size and SHA-256 of the others, signed with the store's key

Views that are made of the pieces alone (n-grams) are made again. Who holds a snapshot and no key reads off it the
encoder, the licensed documents that it was fitted on, how many documents there are and how long each is, and how many
were opted out. Who holds the keys file too reads everything, and can sign for the store: keep the two apart.
"""

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray
from sqlalchemy import Connection, RowMapping, select

from datastore import backup_keys, catalog_rows, tables
from datastore.errors import CorruptDatastore, DatastoreError
from datastore.fields import read_fields, signed_bytes
from datastore.files import TEMPORARY_PREFIX, canonical_json, checksums, publish_folder, remove_leftovers, write_bytes
from datastore.heads import parse
from datastore.keyring import Key, Keyring
from datastore.manifest import FILE_NAME as MANIFEST
from datastore.manifest import read_manifest
from datastore.optout import recover
from datastore.pieces import Pieces
from datastore.records import DocumentFacts
from datastore.redaction import Ranges
from datastore.segments import Segment
from datastore.signing import check_signature, load_key
from datastore.store import Datastore
from datastore.tables import ERASED, HIDDEN, LIVE, WIPED
from datastore.writer import writing

FORMAT = "silo-snapshot/1"
FILE_NAME = "snapshot.json"
DOCUMENTS, INDEX, RECORDS = "documents.bin", "documents.json", "records.bin"
_NONCE = 12
"""Bytes of a nonce of AES-GCM; random, since a key encrypts its document only a few times."""
NO_LIST = -1
"""Of a position that has no entry."""


@dataclass(frozen=True)
class Backup:
    """What a snapshot says of itself."""

    store: str
    created_at: str
    """UTC, ISO 8601."""
    epoch: int
    """Of the store, when it was taken."""
    n_documents: int
    """Live or hidden then."""
    log_size: int
    log_root: str
    """Of the log of opt-outs then, 64 hex digits."""
    files: Mapping[str, Mapping[str, Any]]
    """Size and SHA-256 by name."""
    public_key: str
    """Of the store then, hex."""
    signature: str = ""
    """Ed25519 over the canonical JSON of the other fields, hex."""
    format: str = FORMAT


@dataclass(frozen=True)
class StoredPieces:
    """One document as a snapshot holds it, decrypted."""

    facts: DocumentFacts
    n_sentences: int
    pieces: Pieces
    lists: NDArray[np.int32]
    """``(n + 1,)``: the inverted list of each position's entry; -1 where it has none."""
    codes: NDArray[np.uint8]
    """``(entries, code size)``: keys as they are stored, in order of position."""


def take_snapshot(store: Datastore, folder: Path, *, now: datetime, keys_copy: Path | None = None) -> Backup:
    """Write a snapshot of ``store`` to ``folder``, which must not exist; whole or not at all.

    ``keys_copy`` makes or renews a copy of the keys file, without which no snapshot can be restored. The store
    remembers it and destroys keys there too; of copies that are made by other means it knows nothing.

    Raises:
        DatastoreError: ``folder`` exists.
        WriterBusy: another process is writing; opt-outs and searches go on meanwhile.
    """
    if folder.exists():
        raise DatastoreError(f"{folder} exists. Name a new folder for each snapshot.")
    if keys_copy is not None and keys_copy.resolve().is_relative_to(folder.resolve()):
        raise DatastoreError(f"{keys_copy} would lie in the snapshot, which its keys are to be kept apart from.")
    temporary = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-{store.id}")
    with writing(store):
        recover(store)  # what only the journal knows is barred in the snapshot too
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            with store.catalog.read() as connection:
                epoch = catalog_rows.epoch_of(connection)
                tree, n_leaves = store.catalog.tree(connection)
                kept = _kept(connection)
                records = _records(connection)
                changed = catalog_rows.changed_at(connection, erased=False)
                holes = {name: catalog_rows.removed_sentences(connection, name, pending=True) for name in changed}
            ring = _ready_keys(store)
            keys = ring.keys_for({row["id"]: changed.get(row["id"], 0) for row in kept}, n_leaves)
            _copy_keys(store, ring, keys_copy)
            _write_documents(store, temporary, kept, holes, keys)
            key = ring.records_key()
            data = canonical_json(records)
            write_bytes(temporary / RECORDS, encrypt(key.secret, data, store.id, RECORDS))
            for name in (MANIFEST, *store.manifest.files):
                shutil.copyfile(store.path / name, temporary / name)
            facts = Backup(
                store=store.id,
                created_at=now.isoformat(),
                epoch=epoch,
                n_documents=len(kept),
                log_size=n_leaves,
                log_root=tree.root(n_leaves).hex(),
                files=checksums(temporary),
                public_key=read_manifest(store.path).public_key,
            )
            signed = asdict(facts) | {"signature": store.signing_key().sign(signed_bytes(asdict(facts))).hex()}
            write_bytes(temporary / FILE_NAME, canonical_json(signed))
            publish_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Backup(**signed)


def read_backup(folder: Path) -> Backup:
    """What the snapshot in ``folder`` says of itself, by a signature that holds.

    Raises:
        DatastoreError: there is none.
        VerificationFailed: it was edited or torn, or is of another format.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise DatastoreError(
            f"{folder} holds no snapshot: {FILE_NAME} is missing. Make one with `silo datastore snapshot`."
        )
    kinds: dict[str, type] = {field.name: str for field in fields(Backup)}
    kinds |= dict.fromkeys(("epoch", "n_documents", "log_size"), int) | {"files": dict}
    backup = Backup(**read_fields(parse(path.read_bytes(), "snapshot's list of files"), kinds, "snapshot", FORMAT))
    check_signature(backup.public_key, backup.signature, signed_bytes(asdict(backup)), str(path))
    return backup


def encrypt(key: bytes, data: bytes, store: str, place: int | str) -> bytes:
    """``data`` under AES-256-GCM after a fresh nonce; it decrypts only as the ``place`` of a backup of ``store``."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, data, _place(store, place))


def decrypt(key: bytes, data: bytes, store: str, place: int | str) -> bytes:
    """What ``encrypt`` was given. Raises CorruptDatastore where it was not given just that."""
    try:
        return AESGCM(key).decrypt(data[:_NONCE], data[_NONCE:], _place(store, place))
    except (InvalidTag, ValueError):
        raise CorruptDatastore(
            f"part {place} of the snapshot of store {store} is not what its key encrypted. Restore another copy of it."
        ) from None


def unpacked(data: bytes) -> StoredPieces:
    """A document of a snapshot, decrypted."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        said = json.loads(arrays["facts"].tobytes())
        pieces = Pieces(**{field.name: arrays[field.name] for field in fields(Pieces)})
        return StoredPieces(
            DocumentFacts(**said["facts"]), said["n_sentences"], pieces, arrays["lists"], arrays["codes"]
        )


def _ready_keys(store: Datastore) -> Keyring:
    """The keys file with every key but those of documents, durably."""
    remove_leftovers(store.path)
    ring = backup_keys.open_keyring(store.path, store.id)
    ring = ring or Keyring.create(store.path / backup_keys.FILE_NAME, store.id)
    ring.add_records_key()
    ring.add_signing_key(load_key(store.path, read_manifest(store.path).public_key))
    return ring


def _copy_keys(store: Datastore, ring: Keyring, keys_copy: Path | None) -> None:
    """Make the copies of the keys file hold what it holds, durably."""
    if keys_copy is not None:
        backup_keys.remember_copy(store.path, keys_copy)
        ring.copy_to(keys_copy)
    for copy in backup_keys.copies(store.path):
        if copy.exists():
            ring.copy_to(copy)


def _write_documents(
    store: Datastore, folder: Path, kept: list[RowMapping], holes: Mapping[str, Ranges], keys: Mapping[str, Key]
) -> None:
    index = []
    with (folder / DOCUMENTS).open("wb") as file:
        for row, data in _packed(store, kept, holes):
            key = keys[row["id"]]
            blob = encrypt(key.secret, data, store.id, row["number"])
            index.append({"number": row["number"], "key": key.name.hex(), "offset": file.tell(), "bytes": len(blob)})
            file.write(blob)
    write_bytes(folder / INDEX, canonical_json(index))


def _packed(
    store: Datastore, kept: list[RowMapping], holes: Mapping[str, Ranges]
) -> Iterator[tuple[RowMapping, bytes]]:
    """Each document of ``kept``, in order, with all that there is of it; without the sentences in ``holes``."""
    name, held = "", None
    for row in kept:
        if held is None or row["segment"] != name:
            name, held = row["segment"], _Entries(store.open_segment(row["segment"]))
        removed = holes.get(row["id"], ())
        lists, codes = held.of(row["ordinal"], removed)
        facts = catalog_rows.facts_of(row)
        names = [field.name for field in fields(facts) if field.name != "metadata"]
        known = {name: getattr(facts, name) for name in names} | {"metadata": dict(facts.metadata)}
        said = json.dumps({"facts": known, "n_sentences": row["n_sentences"]}).encode()
        pieces = held.segment.raw(row["ordinal"]).without(removed)
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(pieces, field.name)) for field in fields(Pieces)}
        data = io.BytesIO()
        np.savez(data, facts=np.frombuffer(said, np.uint8), lists=lists, codes=codes, **arrays)
        yield row, data.getvalue()


class _Entries:
    """The entries of a segment's ``keys`` view by position; it has them by list."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._lists = np.full(segment.n_positions, NO_LIST, np.int32)
        self._places = np.zeros(segment.n_positions, np.int64)
        self._codes: dict[int, NDArray[np.uint8]] = {}
        for number, positions, codes in segment.keys.lists():
            self._lists[positions] = number
            self._places[positions] = np.arange(len(positions))
            self._codes[number] = codes

    def of(self, ordinal: int, removed: Ranges) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """``lists`` and ``codes`` of ``StoredPieces``, without the sentences in ``removed``."""
        here, left = slice(*self.segment.span(ordinal)), self.segment.redacted(ordinal, removed)
        lists = np.where(left.is_entry, self._lists[here], NO_LIST)[left.is_kept].astype(np.int32)
        places = self._places[here][left.is_kept]
        rows = [
            self._codes[number][place]
            for number, place in zip(lists.tolist(), places.tolist(), strict=True)
            if number >= 0
        ]
        width = next((codes.shape[1] for codes in self._codes.values()), 0)
        return lists, np.array(rows, np.uint8).reshape(len(rows), width)


def _kept(connection: Connection) -> list[RowMapping]:
    """The documents that a snapshot keeps: those in service, and those that are hidden and may come back."""
    here = tables.documents.c.state.in_((LIVE, HIDDEN))
    query = select(tables.documents).where(here).order_by(tables.documents.c.number)
    return list(connection.execute(query).mappings())


def _records(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table, without segments, documents that are kept, and what compaction wipes of the others."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for table in tables.every():
        if table is tables.segments:
            continue
        found = [dict(row) for row in connection.execute(select(table)).mappings()]
        if table is tables.documents:
            gone = {"state": ERASED, "segment": None, **WIPED}
            rows[HIDDEN] = [{"number": row["number"]} for row in found if row["state"] == HIDDEN]
            found = [row | gone for row in found if row["state"] not in (LIVE, HIDDEN)]
        rows[table.name] = found
    return rows


def _place(store: str, place: int | str) -> bytes:
    return canonical_json([FORMAT, store, place])
