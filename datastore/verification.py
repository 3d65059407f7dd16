"""Checking a receipt against a store. Raises with its evidence; returns what was checked, in words.

Trusts nothing that the store says of itself where a file can be asked: the receipt by its signature and its place in
the log, every view of every segment, every file by its checksum, and, where the owner brings the text, every byte on
disk and every live text. What the LM thinks of the text is asked elsewhere (`silo.probe`): nothing here needs one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import func, select

from datastore import catalog_rows, tables
from datastore.copies import Copy, find_copies
from datastore.errors import VerificationFailed
from datastore.files import check_files
from datastore.key_chain import check_signer
from datastore.manifest import read_manifest
from datastore.public_log import check_kept
from datastore.receipts import Receipt, check_receipt
from datastore.redaction import lies_in, merged
from datastore.segments import Segment
from datastore.store import SEGMENTS, Datastore
from datastore.tables import ERASED, HIDDEN, LIVE
from datastore.verbatim import longest_run

PROBE_BYTES = 48
"""A run of this many bytes of a text, found in a file, counts as the text being there."""
MIN_TEXT_BYTES = 12
"""Shorter texts are not searched for: other documents and tables of numbers hold them too."""
MAX_LIVE_RUN = 200
"""Characters of a removed text that may be live in a row in a document that copies it; about 35 words, a quotation."""
_BLOCK = 1 << 22
"""Bytes of a file that are held at a time."""


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
    n_views = check_views(store)
    if receipt.sentences and document.state in (LIVE, HIDDEN):
        found += _check_passages(store, receipt)
        is_erased = not _pending(store, receipt)
    else:
        found += _check_document(store, receipt)
        is_erased = document.state == ERASED
    check_kept(store, receipt)
    if is_erased:
        _check_segments_are_known(store)
        found.append("it was erased: no segment holds it" if document.state == ERASED else "their bytes are erased")
    else:
        found.append("its bytes are still in the files, out of service, until `silo datastore compact`")
    if text is not None and len(text.encode("utf-8")) < MIN_TEXT_BYTES:
        found.append(f"files were not searched: a text under {MIN_TEXT_BYTES} bytes is found anywhere by chance")
    elif text is not None:
        if is_erased:
            n_live = scan(store.path, text, _live_bytes(store))
            besides = f", but for {n_live:,} places in live documents" if n_live else ""
            found.append(f"no file of the store holds {PROBE_BYTES} bytes in a row of the text{besides}")
        found += check_live_texts(store, text)
    found.append(f"each of {n_views} views holds the entries of the catalog's documents and no others")
    return found


def check_live_texts(store: Datastore, text: str) -> list[str]:
    """What of ``text`` is live, in lines for people.

    Raises:
        VerificationFailed: a document that copies it (``copies``) has more than ``MAX_LIVE_RUN`` characters of it in
            a row. Shorter runs are told: they may be anyone's words.
    """
    run = longest_run(store, text)
    if run is None:
        return ["no character of the text is in a live document"]
    quoted = text[run.text_start : run.text_start + min(run.length, PROBE_BYTES)]
    lines = [f"its longest run in live documents: {run.length} characters, {run.document!r} at {run.start}, {quoted!r}"]
    copies = find_copies(store, text)
    for copy in copies:
        longest = longest_run(store, text, [copy.document])
        if longest is not None and longest.length > MAX_LIVE_RUN:
            raise VerificationFailed(
                f"{copy.document!r} is live and has {longest.length} characters in a row of the text, from character "
                f"{longest.start}; at most {MAX_LIVE_RUN} may be. {_told(store, copy)}. To take them out: `silo "
                f"datastore remove-passages STORE {copy.document}`."
            )
        lines.append(_told(store, copy))
    if not copies:
        lines.append("no live document copies it: 0 live entries can be attributed to it")
    return lines


def check_views(store: Datastore) -> int:
    """How many views the segments have. Raises VerificationFailed where one holds more than its documents' entries."""
    with store.catalog.read() as connection:
        names = list(connection.execute(select(tables.segments.c.name)).scalars())
    n_views = 0
    for name in names:
        segment = store.segment(name)
        for view in segment.views:
            beyond = view.holds(segment.n_positions, 1 << 62)
            held = view.holds(0, segment.n_positions) + beyond
            if beyond or held > segment.n_entries:
                raise VerificationFailed(
                    f"the view {type(view).__name__} of segment {name} holds {held} entries, {beyond} of them at no "
                    f"position of a document; its documents have {segment.n_entries}"
                )
            n_views += 1
    return n_views


def _check_document(store: Datastore, receipt: Receipt) -> list[str]:
    document = store.document(receipt.document)
    if document.state in (LIVE, HIDDEN):
        raise VerificationFailed(f"{receipt.document!r} is {document.state} in the store's catalog")
    if n := store.live_entries(receipt.document):
        raise VerificationFailed(f"{n} entries of {receipt.document!r} can still be retrieved")
    if twins := _live_twins(store, receipt.digest):
        raise VerificationFailed(f"the same text is live under other ids: {', '.join(twins)}")
    return [f"none of its {receipt.n_entries:,} entries can be retrieved; the store is at epoch {store.epoch}"]


def _check_passages(store: Datastore, receipt: Receipt) -> list[str]:
    with store.catalog.read() as connection:
        removed = catalog_rows.removed_sentences(connection, receipt.document)
    if merged([*removed, *receipt.sentences]) != removed:
        raise VerificationFailed(
            f"the receipt takes sentences {receipt.sentences} out of {receipt.document!r}; the catalog knows {removed}"
        )
    if n := store.live_entries(receipt.document, receipt.sentences):
        raise VerificationFailed(f"{n} entries of the passages in {receipt.document!r} can still be retrieved")
    return [
        f"none of the {receipt.n_entries:,} entries of the passages in {receipt.document!r} can be retrieved; "
        f"the store is at epoch {store.epoch}"
    ]


def _pending(store: Datastore, receipt: Receipt) -> bool:
    """Whether the segment of the document still has text or tokens of the receipt's sentences."""
    with store.catalog.read() as connection:
        d = tables.documents.c
        row = connection.execute(select(d.segment, d.ordinal).where(d.id == receipt.document)).one()
    segment = store.segment(row.segment)
    spans = segment.sentences(row.ordinal)[:, 1:]
    has_text = any((spans[a:b, 1] > spans[a:b, 0]).any() for a, b in receipt.sentences)
    return has_text or bool(segment.redacted(row.ordinal, receipt.sentences).holes())


def _told(store: Datastore, copy: Copy) -> str:
    n = store.live_entries(copy.document, copy.sentences)
    where = ", ".join(f"{first}-{last - 1}" for first, last in copy.sentences)
    return (
        f"{copy.document!r} resembles it: {copy.containment:.0%}, {copy.n_words} words in a row, sentences {where}, "
        f"{n:,} live entries"
    )


def _live_bytes(store: Datastore) -> Callable[[Path, int], bool]:
    """Whether the byte at an offset of a file may be there: in the text of a document that is live or may be again."""
    with store.catalog.read() as connection:
        d = tables.documents.c
        rows = connection.execute(select(d.segment, d.ordinal, d.id).where(d.state.in_((LIVE, HIDDEN)))).all()
        names = connection.execute(select(tables.removals.c.document).distinct()).scalars().all()
        removed = {name: catalog_rows.removed_sentences(connection, name) for name in names}
    live = {(row.segment, row.ordinal): removed.get(row.id, ()) for row in rows}
    segments: dict[Path, Segment] = {
        store.path / SEGMENTS / name / "text.bin": store.segment(name) for name in {row.segment for row in rows}
    }

    def is_live(path: Path, at: int) -> bool:
        if path not in segments:
            return False
        segment = segments[path]
        ordinal, character = segment.place_of_byte(at)
        if (segment.name, ordinal) not in live:
            return False
        ends = segment.sentences(ordinal)[:, 2]
        sentence = ends.searchsorted([character], side="right")
        return not lies_in(sentence, live[segment.name, ordinal]).any()

    return is_live


def scan(folder: Path, text: str, may_hold: Callable[[Path, int], bool] = lambda path, at: False) -> int:  # noqa: ARG005
    """Raise VerificationFailed if a file under ``folder`` holds a run of ``PROBE_BYTES`` bytes of ``text``.

    Looks for windows half that far apart, so that every run of twice the length is found; shorter texts whole.
    ``may_hold`` says of a path and an offset whether the run may be there; returns how many such were met.
    """
    data = text.encode("utf-8")
    step = PROBE_BYTES // 2
    n_allowed = 0
    windows = [data[i : i + PROBE_BYTES] for i in range(0, max(1, len(data) - PROBE_BYTES + 1), step)]
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        for start, block in _blocks(path, PROBE_BYTES):
            for window in windows:
                at = block.find(window) if window.strip() else -1
                while at >= 0:
                    if not may_hold(path, start + at):
                        raise VerificationFailed(f"{path} holds {window!r} at byte {start + at}")
                    n_allowed += 1
                    at = block.find(window, at + 1)
    return n_allowed


def _blocks(path: Path, overlap: int) -> Iterator[tuple[int, bytes]]:
    """The bytes of a file in blocks that overlap by one less than ``overlap``, each with its offset."""
    with path.open("rb") as file:
        block, start = file.read(_BLOCK), 0
        while block:
            yield start, block
            kept = block[-(overlap - 1) :]
            start += len(block) - len(kept)
            more = file.read(_BLOCK)
            block = kept + more if more else b""


def verify_files(store: Datastore) -> list[str]:
    """Check every file that never changes against its checksum. Raises CorruptDatastore."""
    check_files(store.path, read_manifest(store.path).files)
    with store.catalog.read() as connection:
        names = list(connection.execute(select(tables.segments.c.name).order_by(tables.segments.c.number)).scalars())
    for name in names:
        store.open_segment(name)
    return [f"manifest, centroids and {len(names)} segments in {store.path / SEGMENTS} are the files that were written"]


def _check_segments_are_known(store: Datastore) -> None:
    """Raise VerificationFailed if a segment holds more than the documents of the catalog, or was to be gone.

    A compaction that was killed leaves the old segments behind; the next writer clears them.
    """
    with store.catalog.read() as connection:
        names = list(connection.execute(select(tables.segments.c.name)).scalars())
        next_segment: int = connection.execute(select(tables.state.c.next_segment)).scalar_one()
        column = tables.documents.c.segment
        rows = connection.execute(select(column, func.count()).group_by(column))
        listed: dict[str, int] = {row[0]: row[1] for row in rows}
    for folder in sorted((store.path / SEGMENTS).iterdir()):
        if folder.name.isdecimal() and int(folder.name) < next_segment and folder.name not in names:
            raise VerificationFailed(f"{folder} was left behind; run `silo datastore compact`, then verify again")
    for name in names:
        if (n := store.open_segment(name).n_documents) != listed.get(name, 0):
            raise VerificationFailed(f"segment {name} holds {n} documents; the catalog knows {listed.get(name, 0)}")


def _live_twins(store: Datastore, digest: str) -> list[str]:
    d = tables.documents.c
    with store.catalog.read() as connection:
        return list(connection.execute(select(d.id).where(d.digest == digest, d.state == LIVE)).scalars())
