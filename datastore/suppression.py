"""Standing suppressions: what was opted out does not come back, under another id or in another dress.

The transaction that accepts an opt-out stores the fingerprints of the text (``fingerprints`` says what they
reveal), and the journal repeats them; ``barred`` asks them. A text is refused where its words are those of a removed
one, or where half of it is in removed texts, or half of a removed text is in it; from a fifth on it is quarantined: not
added either, and listed for a reviewer. Works on open connections; texts reach it whole, and it stores none.

Not known again: fewer than 8 words of a longer text; a removed text of less than about 15 words inside a larger one;
a paraphrase. One bar covers each removed text alone, the
other all of them together, so a text stitched from many removed ones is refused as well.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from datastore import catalog, fingerprints, tables
from datastore.records import DocumentFacts

REFUSED_AT = 0.5
"""Containment from which on a text is refused."""
QUARANTINED_AT = 0.2
"""Containment from which on a reviewer decides."""
LEAST_SHARED = 3
"""Fingerprints of a removed text that must be in a larger one before its share counts: about 15 words.

A removed text of 8 to 11 words has one fingerprint, so that all of it would be in every text with that phrase.
"""
QUARANTINED = "quarantined:"
_NOTHING = hashlib.sha256(b"").hexdigest()
"""The digest of every text without a sign in it. It is nobody's, so opting one such document out bars no other."""
_IN_LIST = 500
"""Values in one SQL list; SQLite takes 999 in its older versions."""


@dataclass(frozen=True)
class Marks:
    """What a text is known again by."""

    digest: str
    """SHA-256, hex, of its normalized words."""
    fingerprints: NDArray[np.int64]

    @classmethod
    def of(cls, text: str) -> "Marks":
        """The marks of ``text``."""
        return cls(fingerprints.normalized_digest(text), fingerprints.fingerprints(text))


def packed(marks: Iterable[Marks]) -> str:
    """Marks as one string, for the journal."""
    return " ".join(f"{m.digest}:{b64encode(m.fingerprints.astype('<i8').tobytes()).decode()}" for m in marks)


def marks_in(bars: str) -> list[Marks]:
    """What ``packed`` was given."""
    pairs = [each.split(":") for each in bars.split()]
    return [Marks(digest, np.frombuffer(b64decode(code), "<i8").astype(np.int64)) for digest, code in pairs]


def suppress(connection: Connection, marks: Marks) -> None:
    """Bar the text of ``marks`` from coming back, from the commit of this transaction on; it may be barred already.

    A text without any sign in it is not barred.
    """
    if marks.digest == _NOTHING:
        return
    number = last_suppression(connection) + 1
    connection.execute(
        tables.suppressions.insert().values(number=number, digest=marks.digest, n_fingerprints=len(marks.fingerprints))
    )
    if rows := [{"fingerprint": value, "suppression": number} for value in marks.fingerprints.tolist()]:
        connection.execute(tables.suppressed_fingerprints.insert(), rows)


def last_suppression(connection: Connection) -> int:
    """The number of the newest suppression; 0 where there is none."""
    return int(connection.execute(select(func.coalesce(func.max(tables.suppressions.c.number), 0))).scalar_one())


def barred(known: catalog.Catalog, facts: DocumentFacts, text: str) -> str | None:
    """Why ``text`` may not enter the catalog's store, if it may not: ask before encoding it, ``add`` asks again."""
    with known.read() as connection:
        if not last_suppression(connection):
            return _opted_out(connection, facts)
        return reason(connection, facts, Marks.of(text))


def reason(connection: Connection, facts: DocumentFacts, marks: Marks, since: int = 0) -> str | None:
    """Why a text may not enter, if it may not: its id, its digest, or what it shares with removed texts.

    Of removed texts, those of the suppressions after number ``since``: a transaction that publishes many documents
    asks only what is new since they were checked, and keeps opt-outs waiting no longer than it must.
    """
    if known := _opted_out(connection, facts):
        return known
    if last_suppression(connection) <= since:
        return None
    suppressions = tables.suppressions.c
    same = select(suppressions.number).where(suppressions.digest == marks.digest, suppressions.number > since)
    if connection.execute(same).first():
        return "this text was opted out; it differs in case, spacing, signs or look-alike characters alone"
    return _resemblance(connection, marks.fingerprints, since)


def _opted_out(connection: Connection, facts: DocumentFacts) -> str | None:
    """Why ``facts`` may not enter, if its id or digest was opted out."""
    optouts = tables.optouts.c
    is_whole = optouts.sentences == ""
    if connection.execute(select(optouts.number).where(optouts.document == facts.id, is_whole)).first():
        return "a document of this id was opted out; an owner who returns submits it under a new id"
    same = select(optouts.number).where(optouts.digest == facts.digest, optouts.digest != _NOTHING, is_whole)
    if connection.execute(same).first():
        return "this text was opted out"
    return None


def _resemblance(connection: Connection, candidate: NDArray[np.int64], since: int) -> str | None:
    """Why a text with these fingerprints may not enter, if it shares too many with removed texts."""
    found: set[int] = set()
    shared: dict[int, int] = {}
    table = tables.suppressed_fingerprints.c
    for some in _runs(candidate.tolist()):
        query = select(table.fingerprint, table.suppression).where(table.fingerprint.in_(some))
        for fingerprint, suppression in connection.execute(query.where(table.suppression > since)):
            found.add(fingerprint)
            shared[suppression] = shared.get(suppression, 0) + 1
    if not found:
        return None
    of_candidate = len(found) / len(candidate)
    of_removed = 0.0
    numbers = tables.suppressions.c
    for some in _runs(list(shared)):
        sizes = connection.execute(select(numbers.number, numbers.n_fingerprints).where(numbers.number.in_(some)))
        of_removed = max([of_removed, *(shared[number] / n for number, n in sizes if shared[number] >= LEAST_SHARED)])
    if max(of_candidate, of_removed) < QUARANTINED_AT:
        return None
    said = f"{of_candidate:.0%} of it is in texts that were opted out"
    if of_removed > of_candidate:
        said = f"{of_removed:.0%} of a text that was opted out is in it"
    return said if max(of_candidate, of_removed) >= REFUSED_AT else f"{QUARANTINED} {said}; a reviewer decides"


def _runs(values: Iterable) -> Iterator[list]:
    rest = iter(values)
    while some := list(islice(rest, _IN_LIST)):
        yield some
