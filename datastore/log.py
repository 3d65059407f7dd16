"""The hashes of the public log's Merkle tree, and the checks of its proofs that anyone can make.

Pure: bytes in, bytes out; knows nothing of receipts, stores or files; ``merkle`` makes the proofs. The tree is that of
RFC 6962 section 2.1, and its checks are those of RFC 9162, sections 2.1.3.2 and 2.1.4.2. A leaf and an inner node are
hashed with different prefixes, so that neither can be passed off as the other.
"""

import hashlib
from collections.abc import Sequence

from datastore.errors import VerificationFailed

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256 over a zero byte and the leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 over a one byte and the hashes of both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def edge_after(edge: Sequence[bytes], size: int, leaf: bytes) -> list[bytes]:
    """The right edge of a tree that had ``size`` leaves and the right edge ``edge``, once ``leaf`` is appended.

    The edge is the roots of the whole subtrees that the tree is made of, the largest first: one for each bit that is
    set in its size. From the lowest up it is the inclusion proof of the next leaf, so a log grows, and proves every
    leaf that it takes, in time that is logarithmic in its size. Raises ValueError for an edge of another size.
    """
    if len(edge) != size.bit_count():
        raise ValueError(f"a tree of {size} leaves has {size.bit_count()} subtrees at its edge; got {len(edge)}")
    grown, node = list(edge), leaf_hash(leaf)
    while size & 1:
        node = node_hash(grown.pop(), node)
        size >>= 1
    return [*grown, node]


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of the tree of ``size`` leaves that ``proof`` leads to from ``leaf``.

    Raises VerificationFailed where a proof of that length cannot belong to that place.
    """
    if not 0 <= index < size:
        raise VerificationFailed(f"a log of {size} leaves has no leaf {index}")
    at, last, found = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0:
            raise VerificationFailed(f"the inclusion proof of leaf {index} of {size} is too long")
        is_right = at & 1 or at == last
        found = node_hash(sibling, found) if is_right else node_hash(found, sibling)
        at, last = _parent(at, last) if is_right else (at >> 1, last >> 1)
    if last != 0:
        raise VerificationFailed(f"the inclusion proof of leaf {index} of {size} is too short")
    return found


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> None:
    """Raise VerificationFailed unless ``proof`` shows ``leaf`` at ``index`` of the tree with that size and root."""
    if (found := root_from_inclusion(leaf, index, size, proof)) != expected_root:
        raise VerificationFailed(
            f"the inclusion proof of leaf {index} leads to root {found.hex()}; the log's head has {expected_root.hex()}"
        )


def check_consistency(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Raise VerificationFailed unless ``proof`` shows that the new tree is the old one with leaves appended."""
    if not 0 <= old_size <= new_size:
        raise VerificationFailed(f"a log of {new_size} leaves did not grow from one of {old_size}: leaves were lost")
    if old_size in (0, new_size):
        old, new = (EMPTY_ROOT, new_root) if old_size == 0 else (new_root, new_root)
        is_valid = not proof and old_root == old and (new_size > 0 or new == EMPTY_ROOT)
    else:
        is_valid = _roots_from_consistency(old_size, new_size, proof, old_root) == (old_root, new_root)
    if not is_valid:
        raise VerificationFailed(
            f"the log of {new_size} leaves with root {new_root.hex()} is not shown to have grown from the one of "
            f"{old_size} with root {old_root.hex()}: a leaf was changed, or the proof is another's"
        )


def _roots_from_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes] | None:
    """The old and the new root that ``proof`` leads to; None where its length is wrong."""
    is_whole_subtree = old_size & (old_size - 1) == 0
    path = [old_root, *proof] if is_whole_subtree else list(proof)
    if not path:
        return None
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            at, last = _parent(at, last)
        else:
            new = node_hash(new, sibling)
            at, last = at >> 1, last >> 1
    return (old, new) if last == 0 else None


def _parent(at: int, last: int) -> tuple[int, int]:
    """One level up from a right child; from a node without a sibling, as many as it is handed up unchanged."""
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at >> 1, last >> 1
