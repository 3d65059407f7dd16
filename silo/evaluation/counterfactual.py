"""Whether a mass means what it says: all of them sum to one, and a source that is taken out takes its mass along.

The probability of a token is a sum of terms, and the mass of a source is the part of the sum that its terms make
(`silo.attribution`). So two statements hold exactly, and both are checked against a store that a document has left:

- **All else held**, the shares, the normalizers and the lengths of the suffixes, the probability falls by the cited
  mass times the probability. Where an occurrence is not named (``prediction.MAX_NAMED``), by that and at most the
  unnamed mass more.
- A document that has no part in a token, no neighbor and no occurrence of a suffix that was used, changes nothing of
  it, to the bit; unless its leaving brings the store below the size from which on a search looks at every list.

What is **served** afterwards falls by another amount, and is reported, not predicted: neighbors are renormalized over
those that are left, others move up to the freed places, a suffix that occurs no more gives way to a shorter one, and a
gate thinks again. A document that proposed other tokens was *heard*: without it this token may be likelier.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from datastore.optout import opt_out
from datastore.store import Datastore
from silo.backoff import level_shares
from silo.errors import BadRequest
from silo.evaluation.served import Asked, Reading, Served
from silo.prediction import Prediction, Trace


@dataclass(frozen=True)
class Position:
    """A token of a text and who is owed it, at one epoch."""

    text: int
    """Index of the text."""
    row: int
    """Of the token in it."""
    token: int
    history: tuple[int, ...]
    prediction: Prediction
    trace: Trace
    heard: frozenset[str]
    """Every document with a neighbor, or an occurrence of a suffix that was used, whatever it proposed."""

    @property
    def probability(self) -> float:
        """Of the token in the mixture."""
        return float(np.exp(self.prediction.logprobs[self.token]))

    @property
    def total_mass(self) -> float:
        """Parametric, named and unnamed together: one."""
        named = math.fsum(source.mass for source in self.trace.sources)
        return self.trace.parametric_mass + named + self.trace.unnamed_mass


@dataclass(frozen=True)
class Fall:
    """What became of one token when one document left the store."""

    document: str
    text: int
    row: int
    before: float
    """Its probability."""
    after: float
    """Its probability as it is served then."""
    cited: float
    """Mass that the document was owed of it."""
    unnamed: float
    """Mass that was owed to places without a name, the document's among them or not."""
    held: float
    """By how much its probability falls where all else is held."""
    is_heard: bool
    """Whether the document had any part in it."""

    @property
    def deviation(self) -> float:
        """How far the fall, all else held, lies outside of what was cited, or that and what was unnamed."""
        low, high = self.before * self.cited, self.before * (self.cited + self.unnamed)
        return max(low - self.held, self.held - high, 0.0)

    @property
    def served(self) -> float:
        """By how much its probability falls as it is served."""
        return self.before - self.after


def positions(
    served: Served, store: Datastore, readings: Sequence[Reading], rows: Sequence[tuple[int, ...]]
) -> list[Position]:
    """The tokens at ``rows`` of each text, traced to their sources.

    Raises:
        BadRequest: the store has changed meanwhile.
    """
    found: list[Position] = []
    for text, (reading, wanted) in enumerate(zip(readings, rows, strict=True)):
        for asked in served.ask(store, reading, wanted):
            for i, row in enumerate(asked.rows):
                token, prediction = int(reading.tokens[row]), asked.predictions[i]
                trace, heard = asked.predictor.trace(prediction, token), _heard(store, asked, i)
                if trace is None or heard is None:
                    raise BadRequest(f"the store at {store.path} has changed while it was asked; begin again")
                found.append(Position(text, row, token, asked.histories[i], prediction, trace, heard))
    return found


def falls(
    served: Served,
    copy: Datastore,
    readings: Sequence[Reading],
    rows: Sequence[tuple[int, ...]],
    documents: Sequence[str],
    *,
    now: datetime,
    n_known: int = 0,
) -> Iterator[Fall]:
    """Take ``documents`` out of ``copy``, one after the other, and look at each token before and after.

    The first ``n_known`` of them are taken out without a look. ``copy`` is changed: give a working copy.
    """
    for document in documents[:n_known]:
        opt_out(copy, document, now=now)
    before = positions(served, copy, readings, rows)
    for document in documents[n_known:]:
        opt_out(copy, document, now=now)
        after = positions(served, copy, readings, rows)
        for old, new in zip(before, after, strict=True):
            cited = math.fsum(source.mass for source in old.trace.sources if source.document == document)
            yield Fall(
                document,
                old.text,
                old.row,
                old.probability,
                new.probability,
                cited,
                old.trace.unnamed_mass,
                held_fall(copy, old, new.prediction),
                document in old.heard,
            )
        before = after


def most_cited(found: Sequence[Position], n: int) -> list[str]:
    """The ``n`` documents that are owed most of all tokens together, the most first."""
    owed: dict[str, float] = {}
    for source in itertools.chain.from_iterable(position.trace.sources for position in found):
        owed[source.document] = owed.get(source.document, 0.0) + source.mass
    return sorted(owed, key=lambda name: (-owed[name], name))[:n]


def held_fall(store: Datastore, before: Position, after: Prediction) -> float:
    """By how much ``before`` falls without what has left ``store`` since, with all else as it was.

    Of the neighbors those are gone that are no neighbors any more: all others have only moved up. Suffixes are counted
    again in the store as it is now.
    """
    old, token, fall = before.prediction, before.token, 0.0
    n_knn = len(old.neighbor_shares)
    if old.entries is not None and old.values is not None:
        stays = np.isin(old.entries, np.empty(0) if after.entries is None else after.entries)
        gone = (old.values == token) & ~stays & (old.entries >= 0)
        for proposal, shares in zip(old.proposals[:n_knn], old.neighbor_shares, strict=True):
            if not proposal.is_empty:
                fall += proposal.weight * float(np.exp(shares[gone]).sum())
    for proposal, chain in zip(old.proposals[n_knn:], old.suffixes, strict=True):
        if proposal.is_empty:
            continue
        for level, share in zip(chain, level_shares(chain).tolist(), strict=True):
            if count := level.count(token):
                n_gone = count - _count(store, before.history[-level.length :], token)
                fall += proposal.weight * share * n_gone / level.n
    return fall


def _count(store: Datastore, suffix: Sequence[int], token: int) -> int:
    """How often ``token`` follows ``suffix`` in the store as it is now."""
    answer = store.continuations([list(suffix)], [len(suffix)])
    tokens, counts = answer.following(0)
    return int(counts[tokens == token].sum()) if answer.lengths[0, 0] == len(suffix) else 0


def _heard(store: Datastore, asked: Asked, i: int) -> frozenset[str] | None:
    """The documents with a part in a prediction; None where the store has changed.

    A longer suffix occurs where a shorter one does, so the shortest that was used has all places.
    """
    prediction = asked.predictions[i]
    entries = [np.empty(0, np.int64) if prediction.entries is None else prediction.entries[prediction.entries >= 0]]
    used = [level for chain in prediction.suffixes for level in chain]
    if used:
        shortest = min(used, key=lambda level: level.length)
        suffix = list(asked.histories[i][-shortest.length :])
        answer = store.occurrences(suffix, shortest.n)
        if answer.epoch != prediction.epoch:
            return None
        entries.append(answer.entries)
    epoch = store.epoch if prediction.epoch is None else prediction.epoch
    places = store.locate(np.unique(np.concatenate(entries)), epoch)
    return None if places is None else frozenset(place.document for place in places)
