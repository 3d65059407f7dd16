"""The second record of every accepted opt-out: ``journal.jsonl``, appended to and synced, never rewritten.

A catalog that is restored from an older copy has forgotten the removals since; the journal has not. A store trusts
the union of both: what either knows to be out is out. Each opt-out is a line with its receipt, as canonical JSON, and
before it a line with what keeps the text from coming back (``suppression.packed``), which is not read until it is
needed: once the text is erased, only a catalog of that time and this file know it.

What it keeps of a document: its id, the SHA-256 of its normalized text, the salted commitment to both, how many
entries it had, all of which the receipt needs, and hashes of its words, of which ``fingerprints`` says what they
reveal. No title, owner, URL, license or text. Compaction does not touch it.

A crash can tear the last line. It was never acknowledged then, and the catalog, which commits first, has it: it is
ignored, and the next change writes it again. Opening reads; writing is for whoever holds the epoch's lock.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datastore.errors import CorruptDatastore, VerificationFailed
from datastore.files import canonical_json, write_bytes
from datastore.heads import TreeHead, check_head, head_from_json
from datastore.key_chain import KeyChain, check_signer
from datastore.merkle import Tree
from datastore.receipts import Receipt, check_receipt, parse_receipt, receipt_from_json

FILE_NAME = "journal.jsonl"


class Journal:
    """The journal in ``folder``, which other processes may be appending to.

    Raises:
        CorruptDatastore: the file is missing or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._forget()
        self.refresh()

    @staticmethod
    def create(folder: Path) -> None:
        """Write the empty journal of a new store."""
        write_bytes(folder / FILE_NAME, b"")

    def refresh(self) -> None:
        """Read what was appended since the last look. Raises CorruptDatastore."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    if os.fstat(file.fileno()).st_size < self._n_read:
                        self._forget()
                    file.seek(self._n_read)
                    data = file.read()
            except OSError as error:
                raise CorruptDatastore(
                    f"{self.path} cannot be read: {error}. Put its newest copy back. Where there is none, an empty "
                    "file will do, if the catalog is the newest: `silo datastore recover` fills it from there."
                ) from None
            lines = data.split(b"\n")
            for line in lines[:-1]:
                self._take(line)
            self._n_read += len(data) - len(lines[-1])
            self._tail = lines[-1]
            self._take(self._tail)  # it may lack nothing but its end

    @property
    def commitments(self) -> dict[int, str]:
        """Commitment by leaf index: all that the journal has whole lines for."""
        with self._lock:
            return dict(self._commitments)

    @property
    def head(self) -> dict[str, Any] | None:
        """The largest head in a line, as it was read, unchecked; None where there is none."""
        return self._head

    @property
    def n_leaves(self) -> int:
        """The size that the log has at least, as of the last look."""
        return self._n_leaves

    @property
    def n_whole(self) -> int:
        """How many leaves from the first on have a line, none left out, as of the last look."""
        return self._n_whole

    def has(self, leaf_index: int) -> bool:
        """Whether the opt-out at ``leaf_index`` is in the file, as of the last look."""
        return leaf_index in self._commitments

    def receipts(self, leaves: Sequence[int]) -> list[Receipt]:
        """The receipts at ``leaves``, in that order.

        Raises VerificationFailed where one of them does not hold, which a crash cannot bring about.
        """
        wanted = set(leaves)
        found: dict[int, Receipt] = {}
        for line in self.path.read_bytes().split(b"\n"):
            value = _parsed(line)
            if value is not None and value["leaf_index"] in wanted:
                found[value["leaf_index"]] = receipt = receipt_from_json(value)
                check_receipt(receipt)
        return [found[leaf] for leaf in leaves]

    def bars(self) -> dict[int, str]:
        """As ``bars_in``. Raises CorruptDatastore where a whole line of them is not what was written."""
        try:
            return bars_in(self.path)
        except VerificationFailed as error:
            raise CorruptDatastore(f"{error}. Restore the newest copy of {self.path}.") from None

    def append(self, optouts: Sequence[tuple[Receipt, str]]) -> None:
        """Add lines for each of ``optouts``, receipts and bars, durably; what a crash tore at the end goes first.

        Raises OSError where the disk is full or read-only. Only for the holder of the epoch's lock.
        """
        lines = b"".join(_lines(receipt, bars) for receipt, bars in optouts)
        self.refresh()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "wb") as file:
            if self._tail and _parsed(self._tail) is None:
                os.ftruncate(file.fileno(), self._n_read)
            elif self._tail:
                lines = b"\n" + lines
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self.refresh()

    def _forget(self) -> None:
        self._n_read, self._tail = 0, b""
        self._commitments: dict[int, str] = {}
        self._n_leaves = self._n_whole = 0
        self._head: dict[str, Any] | None = None

    def _take(self, line: bytes) -> None:
        value = _parsed(line)
        if value is None:
            return
        leaf, commitment = value["leaf_index"], value["commitment"]
        if self._commitments.setdefault(leaf, commitment) != commitment:
            raise CorruptDatastore(f"{self.path} has two opt-outs at place {leaf} of the log. Restore its newest copy.")
        self._n_leaves = max(self._n_leaves, leaf + 1)
        while self._n_whole in self._commitments:
            self._n_whole += 1
        if self._head is None or value["head"]["size"] > self._head["size"]:
            self._head = value["head"]


def lost_leaves(
    journal: Journal, known: Sequence[str], latest: Mapping[str, Any] | None, chain: KeyChain
) -> tuple[list[int], Tree]:
    """The places in the log that ``journal`` has and a catalog lacks that knows the commitments ``known``.

    And the tree of both together, which must be the one that the largest signed head names. ``latest`` is the head in
    the catalog's newest receipt.

    Raises:
        CorruptDatastore: they contradict each other, a leaf is in neither, or a signed head has another root.
    """
    ours = journal.commitments
    for leaf, commitment in ours.items():
        if leaf < len(known) and known[leaf] != commitment:
            raise CorruptDatastore(
                f"catalog and {journal.path} have different opt-outs at place {leaf} of the log: one of them is of "
                "another store or another history. Restore the newest copies of both."
            )
    lost = sorted(leaf for leaf in ours if leaf >= len(known))
    commitments = [*known, *(ours[leaf] for leaf in lost)]
    head = _largest(journal, latest, chain)
    n_signed = head.size if head is not None else 0
    if lost != list(range(len(known), len(commitments))) or len(commitments) < n_signed:
        raise CorruptDatastore(
            f"the log is shorter than its signed head of {n_signed} leaves: catalog and {journal.path} together have "
            f"{len(commitments)}, so an opt-out is lost and might be served. Restore the newest copies of both."
        )
    tree = Tree(map(bytes.fromhex, commitments))
    if len(tree) > n_signed or (head is not None and tree.root().hex() != head.root):
        raise CorruptDatastore(
            f"the log of {len(tree)} opt-outs is not the one that was signed: a commitment in the catalog or in "
            f"{journal.path} was changed. Restore the newest copies of both."
        )
    return lost, tree


def _largest(journal: Journal, latest: Mapping[str, Any] | None, chain: KeyChain) -> TreeHead | None:
    """The largest head of both, checked."""
    heads = [head for head in (journal.head, latest) if head is not None]
    if not heads:
        return None
    try:
        head = head_from_json(max(heads, key=lambda head: head["size"]))
        check_head(head)
    except VerificationFailed as error:
        raise CorruptDatastore(
            f"the newest head of the log, in the catalog or in {journal.path}, does not hold: {error}. "
            "Restore the newest copies of both."
        ) from None
    try:
        check_signer(chain, head.public_key, head.size, head.root, "the newest head of the log")
    except VerificationFailed as error:
        raise CorruptDatastore(
            f"{journal.path} is of another store, {head.store}: {error}. Restore this store's own."
        ) from None
    return head


def receipts_in(path: Path) -> list[Receipt]:
    """Every receipt in the journal at ``path``, which may be a copy of any age; a torn last line is left out.

    Raises:
        VerificationFailed: a line is not whole, or a receipt does not hold.
        OSError: the file cannot be read.
    """
    lines = path.read_bytes().split(b"\n")
    if _parsed(lines[-1]) is None:
        lines.pop()
    receipts = []
    for line in lines:
        if line and not line.startswith(_BARS):
            receipts.append(parse_receipt(line))
            check_receipt(receipts[-1])
    return receipts


def bars_in(path: Path) -> dict[int, str]:
    """What keeps the texts of opt-outs from coming back, by their places in the log, in the journal at ``path``.

    Raises VerificationFailed where a whole line of it is not what was written.
    """
    found: dict[int, str] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:
        if line.startswith(_BARS):
            try:
                value = json.loads(line)
                leaf, bars, checksum = value["leaf"], value["bars"], value["sha256"]
            except (ValueError, LookupError):
                raise VerificationFailed(
                    f"a line of {path} is torn: {line[:80]!r}. Put its newest copy back."
                ) from None
            if checksum != _checksum(leaf, bars):
                raise VerificationFailed(f"what bars the text of opt-out {leaf} in {path} was changed")
            found[leaf] = bars
    return found


_BARS = b'{"bars":'


def _lines(receipt: Receipt, bars: str) -> bytes:
    leaf = receipt.leaf_index
    line = canonical_json({"bars": bars, "leaf": leaf, "sha256": _checksum(leaf, bars)}) + b"\n" if bars else b""
    return line + canonical_json(receipt.to_json()) + b"\n"


def _checksum(leaf: int, bars: str) -> str:
    return hashlib.sha256(canonical_json([leaf, bars])).hexdigest()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line as a receipt's JSON; None where it is torn, or is no receipt."""
    if line.startswith(_BARS):
        return None
    try:
        value = json.loads(line)
        leaf, commitment, size = value["leaf_index"], value["commitment"], value["head"]["size"]
        is_whole = type(leaf) is int and type(size) is int and len(bytes.fromhex(commitment)) == 32
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return value if is_whole and leaf >= 0 else None
