"""Copies of a text among the documents of a store, so that its owner can be shown them.

Reads every live text: time grows with the store. Runs no search and changes nothing.
"""

from dataclasses import dataclass

from datastore.catalog import LIVE
from datastore.fingerprints import containment, fingerprints
from datastore.store import Datastore
from datastore.suppression import QUARANTINED_AT


@dataclass(frozen=True)
class Copy:
    """A live document that shares much with a text."""

    document: str
    containment: float
    """From 0 to 1: how much of one is in the other, the larger of both ways."""


def find_copies(store: Datastore, text: str) -> list[Copy]:
    """The live documents of ``store`` whose containment with ``text`` is at least 0.2, the largest first."""
    sought = fingerprints(text)
    found = []
    for document in [document.facts.id for document in store.documents(LIVE)]:
        stored = store.stored_text(document)
        if stored is not None and (share := containment(fingerprints(stored), sought)) >= QUARANTINED_AT:
            found.append(Copy(document, share))
    live = [copy for copy in found if store.document(copy.document).state == LIVE]
    return sorted(live, key=lambda copy: (-copy.containment, copy.document))
