"""The Merkle tree of the public log as it grows: its root, and its proofs, at every size that it has had.

Pure: bytes in, bytes out; knows nothing of receipts, stores or files. The tree is that of RFC 6962 section 2.1. The
hash of every whole subtree, of 2**k leaves from a multiple of 2**k on, is kept: no later leaf changes it, and they
take 64 bytes a leaf. A root is made of one of them for each bit that is set in its size, and a proof of at most two for
each level, so that both take time that is logarithmic in the log.
"""

from collections.abc import Iterable

from datastore.log import EMPTY_ROOT, leaf_hash, node_hash

_HASH = 32
"""Bytes of a hash."""


class Tree:
    """A tree that leaves are appended to, and from which nothing is taken.

    Whoever asks for a size that it had before may do so while another thread appends.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels = [bytearray()]
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        """How many leaves it has."""
        return len(self._levels[0]) // _HASH

    def append(self, leaf: bytes) -> None:
        """Add ``leaf`` as the last, and the hash of every subtree that it makes whole."""
        node = leaf_hash(leaf)
        for hashes in self._levels:
            hashes += node
            if len(hashes) // _HASH % 2:
                return
            node = node_hash(bytes(hashes[-2 * _HASH : -_HASH]), node)
        self._levels.append(bytearray(node))

    def root(self, size: int | None = None) -> bytes:
        """The hash of the tree of the first ``size`` leaves; of all where none is given. Raises ValueError."""
        size = self._had(size)
        return self._hash(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH of RFC 6962 section 2.1.1: the siblings on the way from leaf ``index`` up to ``root(size)``.

        Raises ValueError where there is no such leaf.
        """
        size = self._had(size)
        if not 0 <= index < size:
            raise ValueError(f"a log of {size} leaves has no leaf {index}")
        proof: list[bytes] = []
        first, stop = 0, size
        while stop - first > 1:
            middle = first + _left(stop - first)
            if index < middle:
                proof.append(self._hash(middle, stop))
                stop = middle
            else:
                proof.append(self._hash(first, middle))
                first = middle
        return proof[::-1]

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """PROOF of RFC 6962 section 2.1.2: that the tree of ``old_size`` leaves is the beginning of that of ``size``.

        Raises ValueError where the tree was never of that size.
        """
        size = self._had(size)
        if not 0 <= old_size <= size:
            raise ValueError(f"a log of {size} leaves never had {old_size}")
        if old_size == 0:
            return []
        proof: list[bytes] = []
        first, stop = 0, size
        while old_size < stop:
            middle = first + _left(stop - first)
            if old_size <= middle:
                proof.append(self._hash(middle, stop))
                stop = middle
            else:
                proof.append(self._hash(first, middle))
                first = middle
        if first > 0:  # else it is the old root, which whoever asks has
            proof.append(self._hash(first, stop))
        return proof[::-1]

    def whole(self, level: int, index: int) -> bytes:
        """The hash that is kept of the ``index``-th subtree of ``2**level`` leaves."""
        return bytes(self._levels[level][index * _HASH : (index + 1) * _HASH])

    def _hash(self, first: int, stop: int) -> bytes:
        """The hash of the leaves in ``[first, stop)``, a subtree of the tree of some size."""
        n = stop - first
        if n & (n - 1) == 0:
            return self.whole(n.bit_length() - 1, first // n)
        middle = first + _left(n)
        return node_hash(self._hash(first, middle), self._hash(middle, stop))

    def _had(self, size: int | None) -> int:
        if size is None:
            return len(self)
        if not 0 <= size <= len(self):
            raise ValueError(f"a log of {len(self)} leaves never had {size}")
        return size


def _left(n: int) -> int:
    """How many of ``n`` leaves, two or more, lie under the left child: the largest power of two that is less."""
    return 1 << (n - 1).bit_length() - 1
