"""Restoring a store from a snapshot: what was opted out since stays out, or there is no restore.

A snapshot is as old as it is; whether a document was opted out since, it cannot know. So the newest journal or signed
head must be named. The log that snapshot and journal make together must be whole, as long as every head and keys file
that is shown, and the one that was signed. Documents in it, those whose keys were destroyed, and passages that were
taken out are left out before a segment is written, so the restored segments equal, byte for byte, those of a store
that never had them. Every part of the snapshot is checked and decrypted before anything is written; the store appears
whole, by one rename, or not at all.
"""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, update

from datastore import backup_keys, catalog_rows, tables
from datastore.backups import (
    DOCUMENTS,
    INDEX,
    NO_LIST,
    RECORDS,
    Backup,
    StoredPieces,
    decrypt,
    read_backup,
    unpacked,
)
from datastore.catalog import Catalog
from datastore.codecs import read_space
from datastore.errors import CorruptDatastore, DatastoreError, VerificationFailed
from datastore.files import TEMPORARY_PREFIX, check_files, locked, publish_folder
from datastore.heads import TreeHead, check_head
from datastore.journal import bars_in, receipts_in
from datastore.key_chain import KeyChain, check_chain, check_signer
from datastore.keyring import DESTROYED, DOCUMENT, Key, Keyring
from datastore.manifest import Manifest, read_manifest, write_manifest
from datastore.merkle import Tree
from datastore.pieces import Pieces
from datastore.receipts import Receipt, check_receipt, receipt_from_json
from datastore.records import DocumentFacts
from datastore.redaction import Ranges, merged
from datastore.segment_files import Part, WrittenSegment, copy_segment, cut
from datastore.signing import FILE_NAME as SIGNING_KEY
from datastore.signing import public_hex, write_key
from datastore.store import SEGMENTS, Datastore
from datastore.suppression import marks_in, suppress
from datastore.tables import ERASED, HIDDEN, LIVE, WIPED
from datastore.writer import WRITER_LOCK, clear_killed, record_segment


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    store: Datastore
    n_documents: int
    """That are live in it, or hidden."""
    opted_out: tuple[str, ...]
    """Documents of the snapshot that were opted out since and are not in the store."""
    n_without_key: int
    """Documents of the snapshot whose keys were destroyed: nobody can read them."""
    unreached: tuple[str, ...]
    """Copies of the keys file in which keys of opted-out documents could not be destroyed."""


@dataclass(frozen=True)
class _Blob:
    """One line of the index, with its key."""

    number: int
    key: Key
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class _Known:
    """What the checks found out of one document that can be read."""

    blob: _Blob
    facts: DocumentFacts
    n_positions: int
    n_entries: int
    n_sentences: int
    removed: Ranges
    """Sentences that went out, since or before, of a document that stays."""
    is_out: bool
    """Whether it was opted out as a whole."""


def restore(
    folder: Path,
    path: Path,
    *,
    keys: Path,
    journal: Path | None = None,
    head: TreeHead | None = None,
    chain: KeyChain | None = None,
) -> Restored:
    """Make at ``path``, which must not exist, the store that the snapshot in ``folder`` was taken of.

    ``keys`` is the newest keys file. ``journal`` is the newest journal and ``head`` the newest signed head; one of
    both is needed. ``chain`` is needed where the store's key was rotated since.

    Raises:
        DatastoreError: ``path`` exists, or neither journal nor head is named.
        CorruptDatastore: a file of the snapshot was changed, or the log is shorter than it must be.
        VerificationFailed: the keys, journal, head or chain are another store's, or were edited.
    """
    if path.exists():
        raise DatastoreError(f"{path} exists. A restore never writes over a store; name a new folder.")
    if journal is None and head is None:
        raise DatastoreError(
            "a snapshot does not know what was opted out since. Name the newest journal with --journal, or the newest "
            "signed head of the log with --head."
        )
    backup = read_backup(folder)
    check_files(folder, backup.files)
    ring = Keyring(keys, backup.store)
    manifest = _manifest(folder, backup, ring, chain)
    records = json.loads(decrypt(ring.records_key().secret, (folder / RECORDS).read_bytes(), backup.store, RECORDS))
    receipts = _whole_log(backup, records, journal, head, ring, manifest.chain)
    bars = bars_in(journal) if journal is not None else {}
    bars |= {row["number"]: row["bars"] for row in records["optouts"]}
    index, n_without_key = _index(folder, ring)
    known = list(_read_all(folder, backup.store, index, receipts))
    clear_killed(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        with locked(temporary / WRITER_LOCK, wait=False):
            _write(temporary, folder, backup, manifest, ring, records, receipts, bars, known)
            publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    unreached = backup_keys.destroy(path, backup.store, _older_keys(receipts), len(receipts))
    opted_out = tuple(document.facts.id for document in known if document.is_out)
    return Restored(Datastore(path), len(known) - len(opted_out), opted_out, n_without_key, tuple(unreached))


def _manifest(folder: Path, backup: Backup, ring: Keyring, chain: KeyChain | None) -> Manifest:
    """The manifest of the restored store: the snapshot's, with the key that is in the keys file now."""
    manifest = read_manifest(folder)
    if (manifest.store, manifest.public_key) != (backup.store, backup.public_key):
        raise VerificationFailed(f"the manifest in {folder} is of store {manifest.store} or of another key of it")
    whole = manifest.chain if chain is None else chain
    check_chain(whole)
    n_known = len(manifest.rotations)
    if (whole.store, whole.first_key, whole.rotations[:n_known]) != (
        backup.store,
        manifest.chain.first_key,
        manifest.rotations,
    ):
        raise VerificationFailed(
            f"the key chain of store {whole.store} does not begin as the snapshot's: another store's"
        )
    public_key = public_hex(ring.signing_key())
    if whole.keys[-1] != public_key:
        raise VerificationFailed(
            f"the keys file signs with {public_key:.16}…; the chain ends with {whole.keys[-1]:.16}…. Give the newest "
            "chain (`silo datastore log STORE --chain`) with --chain, and the newest keys file with --keys."
        )
    return replace(manifest, public_key=public_key, rotations=whole.rotations)


def _whole_log(
    backup: Backup,
    records: Mapping[str, list[dict[str, Any]]],
    journal: Path | None,
    head: TreeHead | None,
    ring: Keyring,
    chain: KeyChain,
) -> list[Receipt]:
    """The receipts of snapshot and journal together, which are the log that was signed, and long enough."""
    receipts = [receipt_from_json(json.loads(row["receipt"])) for row in records["optouts"]]
    by_leaf: dict[int, Receipt] = {}
    for receipt in [*receipts, *(receipts_in(journal) if journal is not None else [])]:
        if receipt.store != backup.store:
            raise VerificationFailed(f"the journal has an opt-out from store {receipt.store}; wanted is {backup.store}")
        if by_leaf.setdefault(receipt.leaf_index, receipt) != receipt:
            raise VerificationFailed(
                f"snapshot and journal have different opt-outs at place {receipt.leaf_index} of the log: they are of "
                "two histories. Name this store's own journal."
            )
    wanted = max(backup.log_size, ring.n_leaves, 0 if head is None else head.size)
    wanted = max([wanted, *(receipt.head.size for receipt in by_leaf.values())])
    if sorted(by_leaf) != list(range(wanted)):
        raise CorruptDatastore(
            f"snapshot and journal have {len(by_leaf)} opt-outs; a signed head or a destroyed key shows that there "
            f"were {wanted}, so a document that was opted out might be served. Name the newest journal with --journal."
        )
    log = [by_leaf[leaf] for leaf in range(wanted)]
    tree = Tree(bytes.fromhex(receipt.commitment) for receipt in log)
    for receipt in log:
        check_receipt(receipt)
        signed = receipt.head
        check_signer(chain, signed.public_key, signed.size, signed.root, f"the receipt at place {receipt.leaf_index}")
    heads = [(backup.log_size, backup.log_root)]
    heads += [(log[-1].head.size, log[-1].head.root)] if log else []
    if head is not None:
        check_head(head)
        if head.store != backup.store:
            raise VerificationFailed(f"the head is of store {head.store}; the snapshot is of {backup.store}")
        check_signer(chain, head.public_key, head.size, head.root, "the head")
        heads.append((head.size, head.root))
    for size, expected in heads:
        if tree.root(size).hex() != expected:
            raise VerificationFailed(f"the log of snapshot and journal is not the one of {size} leaves that was signed")
    return log


def _index(folder: Path, ring: Keyring) -> tuple[list[_Blob], int]:
    """The documents that have a key, in order, and how many had theirs destroyed.

    Raises CorruptDatastore where a key is missing: the keys file is too old.
    """
    by_name = ring.by_name()
    blobs, n_destroyed, n_missing = [], 0, 0
    for row in json.loads((folder / INDEX).read_bytes()):
        key = by_name.get(bytes.fromhex(row["key"]))
        if key is not None and key.kind == DOCUMENT:
            blobs.append(_Blob(row["number"], key, row["offset"], row["bytes"]))
        elif key is not None and key.kind == DESTROYED:
            n_destroyed += 1
        else:
            n_missing += 1
    if n_missing:
        raise CorruptDatastore(
            f"{ring.path} lacks the keys of {n_missing} documents of the snapshot: it is older than the snapshot, or "
            "torn. Name the newest keys file."
        )
    return blobs, n_destroyed


def _older_keys(receipts: Sequence[Receipt]) -> dict[str, int]:
    """For each document in ``receipts``, the size of the log that a key of it must not be older than."""
    sizes = {receipt.document: receipt.leaf_index + 1 for receipt in receipts}
    return sizes | {receipt.document: len(receipts) + 1 for receipt in receipts if not receipt.sentences}


def _read_all(folder: Path, store: str, index: Sequence[_Blob], receipts: Sequence[Receipt]) -> Iterator[_Known]:
    """Decrypt every document once, before anything is written; yields what is to be remembered of each."""
    barred = {receipt.document for receipt in receipts if not receipt.sentences}
    taken: dict[str, list[Receipt]] = {}
    for receipt in receipts:
        taken.setdefault(receipt.document, []).append(receipt)
    for blob in index:
        stored = _read(folder, store, blob)
        is_out = stored.facts.id in barred
        ranges = [pair for receipt in taken.get(stored.facts.id, ()) for pair in receipt.sentences]
        removed = () if is_out else merged(ranges)
        left = stored.pieces.redacted(removed)
        n_kept = int(left.is_kept.sum())
        yield _Known(blob, stored.facts, n_kept, left.n_entries, stored.n_sentences, removed, is_out)


def _read(folder: Path, store: str, blob: _Blob) -> StoredPieces:
    with (folder / DOCUMENTS).open("rb") as file:
        file.seek(blob.offset)
        return unpacked(decrypt(blob.key.secret, file.read(blob.n_bytes), store, blob.number))


class _Source:
    """One document as what ``copy_segment`` copies from."""

    def __init__(self, name: str, stored: StoredPieces) -> None:
        self.name = name
        self.n_positions = len(stored.pieces.tokens)
        self._stored = stored

    @property
    def keys(self) -> "_Source":
        return self

    def span(self, ordinal: int) -> tuple[int, int]:
        assert ordinal == 0
        return 0, self.n_positions

    def raw(self, ordinal: int) -> Pieces:
        assert ordinal == 0
        return self._stored.pieces

    def lists(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
        """Its entries by list, each in order of position, as they were added."""
        entries = np.flatnonzero(self._stored.lists != NO_LIST)
        lists = self._stored.lists[entries]
        for number in np.unique(lists).tolist():
            rows = np.flatnonzero(lists == number)
            yield number, entries[rows].astype(np.int64), self._stored.codes[rows]


def _write(
    temporary: Path,
    folder: Path,
    backup: Backup,
    manifest: Manifest,
    ring: Keyring,
    records: dict[str, list[dict[str, Any]]],
    receipts: Sequence[Receipt],
    bars: Mapping[int, str],
    known: Sequence[_Known],
) -> None:
    """Everything of a store, its manifest last."""
    (temporary / SEGMENTS).mkdir()
    for name in manifest.files:
        shutil.copyfile(folder / name, temporary / name)
    ring.copy_to(temporary / backup_keys.FILE_NAME)
    mine = Keyring(temporary / backup_keys.FILE_NAME, backup.store)
    mine.destroy(_older_keys(receipts), len(receipts))
    backup_keys.remember_copy(temporary, ring.path)
    write_key(temporary / SIGNING_KEY, ring.signing_key())
    write_manifest(temporary, manifest, ring.signing_key())
    live = [document for document in known if not document.is_out]
    space = read_space(temporary, manifest.codec, manifest.is_projected)
    written: list[tuple[WrittenSegment, list[_Known]]] = []
    first = records["state"][0]["next_segment"]
    for a, b in cut([document.n_positions for document in live], manifest.max_segment_positions):
        sources = [
            Part(_Source(str(d.blob.number), _read(folder, backup.store, d.blob)), 0, d.removed) for d in live[a:b]
        ]
        name = f"{first + len(written):08d}"
        segment = copy_segment(
            temporary / SEGMENTS, name, space, manifest.token_type, manifest.passage_settings, sources
        )
        written.append((segment, list(live[a:b])))
    Catalog.create(temporary)
    made = Catalog(temporary, lambda: manifest.chain)
    with made.change() as connection:
        epoch = max([backup.epoch, *(receipt.epoch for receipt in receipts)])
        _fill(connection, records, receipts, bars, known, written, epoch)
        for receipt in receipts[backup.log_size :]:  # what bars the others is in the tables of the snapshot
            for marks in marks_in(bars.get(receipt.leaf_index, "")):
                suppress(connection, marks)
    made.checkpoint()
    made.close()
    Datastore(temporary).close()  # every file is checked, as whoever opens it will


def _fill(
    connection: Connection,
    records: dict[str, list[dict[str, Any]]],
    receipts: Sequence[Receipt],
    bars: Mapping[int, str],
    known: Sequence[_Known],
    written: Sequence[tuple[WrittenSegment, list[_Known]]],
    epoch: int,
) -> None:
    """Enter in the empty catalog what the snapshot and the log know."""
    aside = {tables.documents, tables.segments, tables.state, tables.optouts, tables.removals, tables.log}
    for table in tables.every():
        if table not in aside and records.get(table.name):
            connection.execute(table.insert(), records[table.name])
    connection.execute(update(tables.state).values(epoch=epoch, next_segment=records["state"][0]["next_segment"]))
    gone = {"state": ERASED, "segment": None, "removed_epoch": epoch + 1, "ordinal": 0, **WIPED}
    for receipt in receipts:  # before the documents, whose rows are made as they are without what went
        catalog_rows.record_opt_out(connection, receipt, bars.get(receipt.leaf_index, ""))
    connection.execute(update(tables.removals).values(is_erased=True))
    rows = [*records["documents"], *(_row(document) | gone for document in known if document.is_out)]
    hidden = {row["number"] for row in records[HIDDEN]}
    for segment, documents in written:
        record_segment(connection, segment)
        for ordinal, document in enumerate(documents):
            is_hidden = document.blob.number in hidden
            service = {"state": HIDDEN if is_hidden else LIVE, "removed_epoch": epoch + 1 if is_hidden else None}
            rows.append(_row(document) | service | {"segment": segment.name, "ordinal": ordinal})
    if rows:
        connection.execute(tables.documents.insert(), rows)
    mentioned = {row["id"] for row in rows}
    # Their ids are taken, and so are those of documents that lost passages and cannot be read any longer.
    for document_id, receipt in {receipt.document: receipt for receipt in receipts}.items():
        if document_id not in mentioned:
            nothing = {"id": document_id, "digest": receipt.digest, "risk": "", "n_sentences": 0}
            numbers = {"n_positions": receipt.n_entries + 1, "n_entries": receipt.n_entries}
            connection.execute(tables.documents.insert().values(**nothing | numbers | gone))


def _row(document: _Known) -> dict[str, Any]:
    numbers = {name: getattr(document, name) for name in ("n_positions", "n_entries", "n_sentences")}
    return {
        **catalog_rows.columns_of(document.facts),
        **numbers,
        "number": document.blob.number,
        "released_epoch": None,
    }
