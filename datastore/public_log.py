"""The public log of a store, as anyone may see it: its signed head, and the proofs that a leaf is in it and that it
only ever grew.

Reads the store and writes nothing. What it shows are hashes of salted commitments: no id, text, name or URL. The tree
is kept while the store is open (``Catalog.tree``), so that heads and proofs take time that is logarithmic in the log.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from datastore import log_rows
from datastore.errors import VerificationFailed
from datastore.heads import Growth, TreeHead, prove_growth, sign_head
from datastore.manifest import read_manifest
from datastore.merkle import Tree
from datastore.receipts import Receipt
from datastore.signing import public_hex
from datastore.store import Datastore

INCLUSION_FORMAT = "silo-log-inclusion/1"


@dataclass(frozen=True)
class Inclusion:
    """The proof that a leaf is in the log of some size, with all that its check needs."""

    leaf: str
    """The commitment, hex."""
    leaf_index: int
    size: int
    root: str
    """Of the tree of ``size`` leaves, hex."""
    proof: tuple[str, ...]
    """Hashes of RFC 6962 section 2.1.1, in hex."""
    format: str = INCLUSION_FORMAT

    def to_json(self) -> dict[str, Any]:
        """The proof as a JSON object."""
        return asdict(self) | {"proof": list(self.proof)}


def signed_head(store: Datastore, *, now: datetime) -> TreeHead:
    """The head of the log as it is, signed ``now``. Raises CorruptDatastore where the key is not the store's own."""
    while True:
        key = store.signing_key()
        tree, size = tree_of(store)
        if read_manifest(store.path).public_key == public_hex(key):  # else these leaves may be of the next key's time
            return sign_head(store.id, size, tree.root(size), key, now=now)


def included(store: Datastore, leaf: int, size: int) -> Inclusion:
    """The proof that leaf number ``leaf`` is in the log of ``size``. Raises ValueError where it never was."""
    with store.catalog.read() as connection:
        tree, _ = store.catalog.tree(connection)
        proof = tree.inclusion_proof(leaf, size)
        commitment = log_rows.commitment_at(connection, leaf)
    return Inclusion(commitment, leaf, size, tree.root(size).hex(), tuple(node.hex() for node in proof))


def growth_since(store: Datastore, size: int) -> Growth:
    """The proof that the log began as the one that had ``size`` leaves. Raises VerificationFailed if it never did."""
    tree, n_leaves = tree_of(store)
    if not 0 <= size <= n_leaves:
        raise VerificationFailed(f"the log of store {store.id} has {n_leaves} leaves; it never had {size}")
    return prove_growth(tree, size, n_leaves)


def check_kept(store: Datastore, receipt: Receipt) -> None:
    """Raise VerificationFailed unless the log of ``store`` grew from the one that ``receipt`` was given in.

    Asks the leaves themselves, all of them, not the tree that is kept: they may have been changed since it was made.
    """
    with store.catalog.read() as connection:
        tree = Tree(bytes.fromhex(leaf) for leaf in log_rows.commitments(connection))
    n_leaves = len(tree)
    old = receipt.head
    if old.size > n_leaves or tree.root(old.size).hex() != old.root:
        raise VerificationFailed(
            f"the receipt is leaf {receipt.leaf_index} of a log of {old.size} with root {old.root:.16}…; the store's "
            f"log has {n_leaves} leaves and did not grow from that one"
        )


def tree_of(store: Datastore) -> tuple[Tree, int]:
    """The log's tree, and the size that the log has now."""
    with store.catalog.read() as connection:
        return store.catalog.tree(connection)
