"""Checking a receipt against a store. Raises with its evidence; returns what was checked, in words.

Trusts nothing that the store says of itself where a file can be asked: the receipt by its signature and its place in
the log, every file by its checksum, and, where the owner brings the text, every byte on disk.
"""

from pathlib import Path

from sqlalchemy import func, select

from datastore import catalog
from datastore.catalog import ERASED, LIVE
from datastore.errors import VerificationFailed
from datastore.files import check_files
from datastore.key_chain import check_signer
from datastore.manifest import read_manifest
from datastore.public_log import check_kept
from datastore.receipts import Receipt, check_receipt
from datastore.store import SEGMENTS, Datastore

PROBE_BYTES = 48
"""A run of this many bytes of a text, found in a file, counts as the text being there."""
MIN_TEXT_BYTES = 12
"""Shorter texts are not searched for: other documents and tables of numbers hold them too."""


def verify(store: Datastore, receipt: Receipt, text: str | None = None) -> list[str]:
    """Check that what ``receipt`` says holds in ``store`` now; lines of what was found, for people.

    ``text`` is the owner's copy of the document. Without it, files are not searched for its bytes.

    Raises:
        VerificationFailed: something does not hold; the message carries the evidence.
    """
    check_receipt(receipt)
    if receipt.store != store.id:
        raise VerificationFailed(f"the receipt is of store {receipt.store}; this one is {store.id}")
    head = receipt.head
    check_signer(read_manifest(store.path).chain, receipt.public_key, head.size, head.root, "the receipt")
    found = ["the receipt's signature and commitment are valid, by this store's key"]
    document = store.document(receipt.document)
    if document.facts.digest != receipt.digest:
        raise VerificationFailed(f"the store knows {receipt.document!r} by another digest, {document.facts.digest}")
    if document.state == LIVE:
        raise VerificationFailed(f"{receipt.document!r} is live in the store's catalog")
    if n := store.live_entries(receipt.document):
        raise VerificationFailed(f"{n} entries of {receipt.document!r} can still be retrieved")
    if twins := _live_twins(store, receipt.digest):
        raise VerificationFailed(f"the same text is live under other ids: {', '.join(twins)}")
    found.append(f"none of its {receipt.n_entries:,} entries can be retrieved; the store is at epoch {store.epoch}")
    check_kept(store, receipt)
    if document.state == ERASED:
        _check_segments_are_known(store)
        found.append("it was erased: no segment holds it")
    else:
        found.append("its bytes are still in the files, out of service, until `silo datastore compact`")
    if text is not None and document.state == ERASED:
        if len(text.encode("utf-8")) < MIN_TEXT_BYTES:
            found.append(f"files were not searched: a text under {MIN_TEXT_BYTES} bytes is found anywhere by chance")
        else:
            scan(store.path, text)
            found.append(f"no file of the store holds {PROBE_BYTES} bytes in a row of the text")
    return found


def scan(folder: Path, text: str) -> None:
    """Raise VerificationFailed if a file under ``folder`` holds a run of ``PROBE_BYTES`` bytes of ``text``.

    Looks for windows half that far apart, so that every run of twice the length is found; shorter texts whole.
    """
    data = text.encode("utf-8")
    step = PROBE_BYTES // 2
    windows = [data[i : i + PROBE_BYTES] for i in range(0, max(1, len(data) - PROBE_BYTES + 1), step)]
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        for window in windows:
            if window.strip() and (at := content.find(window)) >= 0:
                raise VerificationFailed(f"{path} holds {window!r} at byte {at}")


def verify_files(store: Datastore) -> list[str]:
    """Check every file that never changes against its checksum. Raises CorruptDatastore."""
    check_files(store.path, read_manifest(store.path).files)
    with store.catalog.read() as connection:
        names = list(connection.execute(select(catalog.segments.c.name).order_by(catalog.segments.c.number)).scalars())
    for name in names:
        store.open_segment(name)
    return [f"manifest, centroids and {len(names)} segments in {store.path / SEGMENTS} are the files that were written"]


def _check_segments_are_known(store: Datastore) -> None:
    """Raise VerificationFailed if a segment holds more than the documents of the catalog, or was to be gone.

    A compaction that was killed leaves the old segments behind; the next writer clears them.
    """
    with store.catalog.read() as connection:
        names = list(connection.execute(select(catalog.segments.c.name)).scalars())
        next_segment: int = connection.execute(select(catalog.state.c.next_segment)).scalar_one()
        column = catalog.documents.c.segment
        rows = connection.execute(select(column, func.count()).group_by(column))
        listed: dict[str, int] = {row[0]: row[1] for row in rows}
    for folder in sorted((store.path / SEGMENTS).iterdir()):
        if folder.name.isdecimal() and int(folder.name) < next_segment and folder.name not in names:
            raise VerificationFailed(f"{folder} was left behind; run `silo datastore compact`, then verify again")
    for name in names:
        if (n := store.open_segment(name).n_documents) != listed.get(name, 0):
            raise VerificationFailed(f"segment {name} holds {n} documents; the catalog knows {listed.get(name, 0)}")


def _live_twins(store: Datastore, digest: str) -> list[str]:
    d = catalog.documents.c
    with store.catalog.read() as connection:
        return list(connection.execute(select(d.id).where(d.digest == digest, d.state == LIVE)).scalars())
