"""The public log of a store, as anyone may see it: its signed head, and the proof that it only ever grew.

Reads the store and writes nothing. What it shows are hashes of salted commitments: no id, text, name or URL.
"""

from datetime import datetime

from datastore import catalog
from datastore.errors import VerificationFailed
from datastore.heads import Growth, TreeHead, prove_growth, sign_head
from datastore.log import root
from datastore.manifest import read_manifest
from datastore.receipts import Receipt
from datastore.signing import public_hex
from datastore.store import Datastore


def signed_head(store: Datastore, *, now: datetime) -> TreeHead:
    """The head of the log as it is, signed ``now``. Raises CorruptDatastore where the key is not the store's own."""
    while True:
        key = store.signing_key()
        leaves = _leaves(store)
        if read_manifest(store.path).public_key == public_hex(key):  # else these leaves may be of the next key's time
            return sign_head(store.id, len(leaves), root(leaves), key, now=now)


def growth_since(store: Datastore, size: int) -> Growth:
    """The proof that the log began as the one that had ``size`` leaves. Raises VerificationFailed if it never did."""
    leaves = _leaves(store)
    if not 0 <= size <= len(leaves):
        raise VerificationFailed(f"the log of store {store.id} has {len(leaves)} leaves; it never had {size}")
    return prove_growth(leaves, size)


def check_kept(store: Datastore, receipt: Receipt) -> None:
    """Raise VerificationFailed unless the log of ``store`` grew from the one that ``receipt`` was given in."""
    leaves = _leaves(store)
    old = receipt.head
    if old.size > len(leaves) or root(leaves[: old.size]).hex() != old.root:
        raise VerificationFailed(
            f"the receipt is leaf {receipt.leaf_index} of a log of {old.size} with root {old.root:.16}…; the store's "
            f"log has {len(leaves)} leaves and did not grow from that one"
        )


def _leaves(store: Datastore) -> list[bytes]:
    with store.catalog.read() as connection:
        return catalog.leaves(connection)
