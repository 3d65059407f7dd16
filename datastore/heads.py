"""Signed tree heads: what a store says its public log is, in a form that it cannot take back.

Plain facts and one signature, no files. A head names a size and a root (RFC 6962 section 3.5). Two heads of one
size and different roots, both signed, prove that the store showed two logs; a head that did not grow from an
earlier one proves that it changed what it had shown.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore.errors import VerificationFailed
from datastore.fields import hash_of, hashes_of, read_fields, signed_bytes
from datastore.key_chain import KeyChain, chain_from_json, check_chain, check_signer
from datastore.log import check_consistency
from datastore.merkle import Tree
from datastore.signing import check_signature, public_hex

FORMAT = "silo-log-head/1"
GROWTH_FORMAT = "silo-log-growth/1"


@dataclass(frozen=True)
class TreeHead:
    """The public log of a store at one size."""

    store: str
    size: int
    """Leaves in the log: documents that were opted out so far."""
    root: str
    """Of the Merkle tree, 64 hex digits."""
    timestamp: str
    """When it was signed; UTC, ISO 8601."""
    public_key: str
    """Of the store, hex."""
    signature: str = ""
    """Ed25519 over the canonical JSON of the other fields, hex."""
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The head as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Growth:
    """A consistency proof: the log of ``new_size`` leaves began as the one of ``old_size``."""

    old_size: int
    new_size: int
    proof: tuple[str, ...]
    """Hashes of RFC 6962 section 2.1.2, in hex."""
    format: str = GROWTH_FORMAT

    def to_json(self) -> dict[str, Any]:
        """The proof as a JSON object."""
        return asdict(self) | {"proof": list(self.proof)}


def sign_head(store: str, size: int, root: bytes, key: Ed25519PrivateKey, *, now: datetime | str) -> TreeHead:
    """The signed head of a log of ``size`` leaves; ``now`` may be ISO 8601 already."""
    timestamp = now if isinstance(now, str) else now.isoformat()
    unsigned = TreeHead(store, size, root.hex(), timestamp, public_hex(key))
    return TreeHead(**{**asdict(unsigned), "signature": key.sign(_message(unsigned)).hex()})


def prove_growth(tree: Tree, old_size: int, new_size: int | None = None) -> Growth:
    """That the log of the first ``new_size`` leaves of ``tree``, or of all, grew from the first ``old_size``.

    Raises ValueError where it never had such a size.
    """
    new_size = len(tree) if new_size is None else new_size
    return Growth(old_size, new_size, tuple(node.hex() for node in tree.consistency_proof(old_size, new_size)))


def head_from_json(value: object) -> TreeHead:
    """Read a head. Raises VerificationFailed where fields are missing, unknown or of the wrong type."""
    names = ("store", "root", "timestamp", "public_key", "signature", "format")
    return TreeHead(**read_fields(value, dict.fromkeys(names, str) | {"size": int}, "tree head", FORMAT))


def growth_from_json(value: object) -> Growth:
    """Read a consistency proof. Raises VerificationFailed as ``head_from_json``."""
    kinds = {"old_size": int, "new_size": int, "proof": list, "format": str}
    found = read_fields(value, kinds, "consistency proof", GROWTH_FORMAT)
    hashes_of(found["proof"], "consistency proof's hash")
    return Growth(**found | {"proof": tuple(found["proof"])})


def parse_head(text: bytes) -> TreeHead:
    """Read the bytes of a head. Raises VerificationFailed where they are not JSON, or as ``head_from_json``."""
    return head_from_json(parse(text, "tree head"))


def parse_growth(text: bytes) -> Growth:
    """Read the bytes of a consistency proof. Raises VerificationFailed as ``growth_from_json``."""
    return growth_from_json(parse(text, "consistency proof"))


def parse_chain(text: bytes) -> KeyChain:
    """Read the bytes of a key chain. Raises VerificationFailed as ``chain_from_json``."""
    return chain_from_json(parse(text, "key chain"))


def parse(text: bytes, what: str) -> object:
    """The JSON in ``text``. Raises VerificationFailed where it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise VerificationFailed(f"a {what} is a JSON object; this is no JSON at all: {error}") from None


def check_head(head: TreeHead) -> None:
    """Raise VerificationFailed unless the signature holds and the size and root can be a log's."""
    check_signature(head.public_key, head.signature, _message(head), "the tree head")
    hash_of(head.root, "tree head's root")
    if head.size < 0:
        raise VerificationFailed(f"a log has no {head.size} leaves")


def check_growth(old: TreeHead, new: TreeHead, growth: Growth | None = None, chain: KeyChain | None = None) -> None:
    """Raise VerificationFailed unless ``new`` is a head of the same log as ``old``, at that time or later.

    Heads of one size need no ``growth``; others cannot be compared without it. Heads by two keys need the ``chain``
    that leads from one to the other.
    """
    check_head(old)
    check_head(new)
    if old.store != new.store:
        raise VerificationFailed(f"the heads are of two stores, {old.store} and {new.store}")
    _check_same_signer(old, new, chain)
    if growth is None and new.size > old.size > 0:
        raise VerificationFailed(
            f"the head has {new.size} leaves and the receipt's log had {old.size}; that one grew from the other is not "
            f"shown. Ask for the proof (`silo datastore log STORE --since {old.size}`) and give it with --growth."
        )
    if growth is not None and (growth.old_size, growth.new_size) != (old.size, new.size):
        raise VerificationFailed(
            f"the consistency proof is from {growth.old_size} to {growth.new_size} leaves; "
            f"wanted is one from {old.size} to {new.size}"
        )
    proof = hashes_of(growth.proof, "consistency proof's hash") if growth is not None else []
    check_consistency(old.size, new.size, proof, bytes.fromhex(old.root), bytes.fromhex(new.root))


def _check_same_signer(old: TreeHead, new: TreeHead, chain: KeyChain | None) -> None:
    """Raise VerificationFailed unless both heads are by one key, or ``chain`` leads from that of ``old`` to ``new``."""
    if chain is not None:
        check_chain(chain)
        if chain.store != new.store:
            raise VerificationFailed(f"the key chain is of store {chain.store}; the heads are of {new.store}")
        places = [check_signer(chain, h.public_key, h.size, h.root, "the tree head") for h in (old, new)]
        if places[0] > places[1]:
            raise VerificationFailed("the later head is by a key that was retired before the earlier one was signed")
    elif old.public_key != new.public_key:
        raise VerificationFailed(
            f"the heads are by two keys, {old.public_key:.16}… and {new.public_key:.16}…: of two stores, or the key "
            "was rotated. Ask for the chain (`silo datastore log STORE --chain`) and give it with --chain."
        )


def _message(head: TreeHead) -> bytes:
    return signed_bytes(head.to_json())
