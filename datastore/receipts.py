"""Receipts: what the owner of a removed document holds in hand.

Plain facts, one signature, no files. The receipt commits to the document by a salted hash, so the
commitment can be shown in public without telling what was removed; the receipt, which the owner alone has,
opens it. The commitment is a leaf of the store's public log, and the receipt brings the proof that it is in the log
and the log's signed head (RFC 6962). Anyone who trusts the store's public key can check a receipt offline, and with
any later head that the log grew from the one in the receipt: a store that drops a removal from its log is found out.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore.errors import VerificationFailed
from datastore.fields import hash_of, hashes_of, read_fields, signed_bytes
from datastore.files import canonical_json
from datastore.heads import Growth, TreeHead, check_growth, check_head, head_from_json, parse, sign_head
from datastore.key_chain import KeyChain
from datastore.log import check_inclusion, edge_after, root_from_inclusion
from datastore.signing import check_signature, public_hex

FORMAT = "silo-receipt/2"


@dataclass(frozen=True)
class Receipt:
    """A signed record that a document, or some sentences of one, are out of a store."""

    store: str
    document: str
    digest: str
    """SHA-256 of the document's normalized text."""
    sentences: tuple[tuple[int, int], ...]
    """Half-open ranges of the sentences that are out, in order; empty where the whole document is."""
    n_entries: int
    """Entries that went out of service with it."""
    accepted_at: str
    """UTC, ISO 8601."""
    epoch: int
    """The first epoch of the store without the document."""
    salt: str
    """256 random bits, hex."""
    commitment: str
    """SHA-256 over salt, document, digest and sentences; as 32 bytes it is the leaf in the log."""
    leaf_index: int
    """The leaf's place in the log, from 0."""
    proof: tuple[str, ...]
    """Inclusion proof (RFC 6962, section 2.1.1) of that leaf under ``head``, hashes in hex."""
    head: TreeHead
    """The log's head with this leaf as its last; its size is the tree's."""
    public_key: str
    """Of the store, hex."""
    signature: str = ""
    """Ed25519 over the canonical JSON of the other fields, hex."""
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The receipt as a JSON object."""
        return asdict(self) | {"proof": list(self.proof), "sentences": [list(pair) for pair in self.sentences]}


def commit(salt: str, document: str, digest: str, sentences: Sequence[Sequence[int]] = ()) -> str:
    """SHA-256, hex, that binds to a document, or to sentences of it, and hides it from whoever lacks the salt."""
    return hashlib.sha256(canonical_json([salt, document, digest, [list(pair) for pair in sentences]])).hexdigest()


def sign_receipt(
    facts: Mapping[str, Any], salt: str, key: Ed25519PrivateKey, edge: Sequence[bytes] = (), size: int = 0
) -> Receipt:
    """A signed receipt of ``facts``: store, document, digest, n_entries, accepted_at, epoch; and sentences, where not
    the whole document went.

    ``edge`` and ``size`` are of the log before it (``edge_of`` the receipt before it).
    """
    commitment = commit(salt, facts["document"], facts["digest"], facts.get("sentences", ()))
    proof = edge[::-1]
    root = root_from_inclusion(bytes.fromhex(commitment), size, size + 1, proof)
    unsigned = Receipt(
        **{"sentences": (), **facts},
        salt=salt,
        commitment=commitment,
        leaf_index=size,
        proof=tuple(node.hex() for node in proof),
        head=sign_head(facts["store"], size + 1, root, key, now=facts["accepted_at"]),
        public_key=public_hex(key),
    )
    return replace(unsigned, signature=key.sign(_message(unsigned)).hex())


def edge_of(receipt: Receipt) -> list[bytes]:
    """The right edge of the log whose last leaf is that of ``receipt``, as every receipt's is when it is signed.

    The receipt's own proof has all of it, so that nothing else must be kept for the log to grow.
    Raises VerificationFailed where leaf, proof and head do not fit each other.
    """
    leaf, proof = bytes.fromhex(receipt.commitment), [bytes.fromhex(node) for node in receipt.proof]
    size = receipt.leaf_index + 1
    check_inclusion(leaf, receipt.leaf_index, size, proof, bytes.fromhex(receipt.head.root))
    return edge_after(proof[::-1], receipt.leaf_index, leaf)


def parse_receipt(text: bytes) -> Receipt:
    """Read the bytes of a receipt. Raises VerificationFailed where they are not JSON, or as ``receipt_from_json``."""
    return receipt_from_json(parse(text, "receipt"))


def receipt_from_json(value: object) -> Receipt:
    """Read a receipt. Raises VerificationFailed where fields are missing, unknown or of the wrong type."""
    found = read_fields(value, _KINDS, "receipt", FORMAT)
    hashes_of(found["proof"], "receipt's inclusion proof")
    sentences = _ranges(found["sentences"])
    head = head_from_json(found["head"])
    return Receipt(**found | {"proof": tuple(found["proof"]), "head": head, "sentences": sentences})


def check_receipt(receipt: Receipt) -> None:
    """Raise VerificationFailed unless signature, commitment and place in the log hold. Needs no store."""
    check_signature(receipt.public_key, receipt.signature, _message(receipt), "the receipt")
    if commit(receipt.salt, receipt.document, receipt.digest, receipt.sentences) != receipt.commitment:
        raise VerificationFailed("the receipt's commitment is not that of its document")
    head = receipt.head
    check_head(head)
    if (head.store, head.public_key) != (receipt.store, receipt.public_key):
        raise VerificationFailed(f"the receipt is of store {receipt.store}; the head in it is of {head.store}")
    leaf, proof = (
        hash_of(receipt.commitment, "receipt's commitment"),
        hashes_of(receipt.proof, "inclusion proof's hash"),
    )
    check_inclusion(leaf, receipt.leaf_index, head.size, proof, bytes.fromhex(head.root))


def check_in_log(receipt: Receipt, head: TreeHead, growth: Growth | None = None, chain: KeyChain | None = None) -> None:
    """Raise VerificationFailed unless ``receipt`` is good and its leaf is in the log of ``head``.

    ``growth`` is needed where ``head`` is later than the one in the receipt, ``chain`` where it is by a later key.
    """
    check_receipt(receipt)
    check_growth(receipt.head, head, growth, chain)


_NUMBERS = ("n_entries", "epoch", "leaf_index")
_KINDS: dict[str, type] = {
    **{field.name: str for field in fields(Receipt)},
    **dict.fromkeys(_NUMBERS, int),
    "proof": list,
    "sentences": list,
    "head": dict,
}


def _ranges(value: Sequence[object]) -> tuple[tuple[int, int], ...]:
    """Ranges of sentences in the one spelling that they have: increasing, apart from each other."""
    last = -1
    found = []
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)):
            raise VerificationFailed(f"the receipt's sentences should be pairs of whole numbers; got {pair!r:.80}")
        if not last < pair[0] < pair[1]:
            raise VerificationFailed(f"the receipt's ranges of sentences should increase; got {value!r:.80}")
        last = pair[1]
        found.append((pair[0], pair[1]))
    return tuple(found)


def _message(receipt: Receipt) -> bytes:
    return signed_bytes(receipt.to_json())
