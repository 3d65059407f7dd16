"""Leaving a series out: how well a new document of it is predicted with all others in the store, with fewer, with none.

The experiment of Min et al. (2023) with the seven Harry Potter books, on any series of a store. Each document is held
out in its turn: it is opted out of a copy of the store, and so are the others, one after the other in an order drawn
from a seed. The document itself is never in the store while it is measured, so what is seen is what the rest of the
series is worth, and that it goes. What happens to a text that *was* stored is asked in ``removal``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datastore.optout import opt_out
from datastore.store import Datastore
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.likelihood import DocumentScore, difference, likelihood
from silo.evaluation.resuming import Done
from silo.evaluation.served import Served
from silo.evaluation.working_copies import live_document, working_copy


@dataclass(frozen=True)
class HeldOut:
    """One document of a series, measured while the others leave."""

    document: str
    digest: str
    """Of its text."""
    n_left: tuple[int, ...]
    """How many others of the series were in the store; falling, from all of them to none."""
    scores: tuple[DocumentScore, ...]
    """With so many of them."""
    alone: DocumentScore
    """By the LM without a store."""
    removed: tuple[str, ...]
    """The others, in the order in which they left."""


def steps(n_others: int, n_steps: int) -> tuple[int, ...]:
    """How many of ``n_others`` are left at each of about ``n_steps`` steps, from all of them to none."""
    if n_others < 1 or n_steps < 1:
        raise BadRequest(f"leaving out needs another document of the series and a step; got {n_others} and {n_steps}")
    found = np.linspace(n_others, 0, min(n_steps, n_others) + 1).round().astype(int)
    return tuple(found.tolist())


def leave_out(
    served: Served,
    store: Datastore,
    series: Sequence[str],
    *,
    now: datetime,
    n_held_out: int | None = None,
    n_steps: int = 6,
    max_tokens: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
    cache: Path | None = None,
) -> Iterator[HeldOut]:
    """Hold out each document of ``series``, or ``n_held_out`` of them drawn by ``seed``, and take the others away.

    ``store`` is copied, never changed; copies lie in ``folder``. Of a document the first ``max_tokens`` tokens are
    measured. What ``cache`` has of the same LM, mixture, store and order is not measured again.
    """
    random = np.random.default_rng(seed)
    left = steps(len(series) - 1, n_steps)
    done = Done.of(cache, served, store, left, max_tokens)
    for held_out in random.permutation(list(series))[:n_held_out].tolist():
        others = random.permutation([name for name in series if name != held_out]).tolist()
        document = live_document(store, held_out)
        measure = partial(_held_out, served, store, document, others, left, max_tokens, now, folder)
        yield _read(done.part("held-out", measure, document.digest, others))


def summary(found: Sequence[HeldOut], seed: int = 0) -> dict[str, Any]:
    """What the held-out documents of one series come to: perplexity by how many others are left.

    ``lost`` is the part of the datastore's gain over the LM that goes with the series, of nats per token: 0 where the
    rest of the store does as well, 1 where the series was all that helped, and none where nothing helped.
    """
    curve = [
        {"n_left": n_left} | asdict(likelihood([one.scores[i] for one in found], seed))
        for i, n_left in enumerate(found[0].n_left)
    ]
    alone = [one.alone for one in found]
    with_all, with_none = ([one.scores[i] for one in found] for i in (0, -1))
    gain = difference(with_all, alone, seed).nats_per_token
    fall = difference(with_all, with_none, seed)
    return {
        "n_held_out": len(found),
        "curve": curve,
        "lm": asdict(likelihood(alone, seed)),
        "worth_of_the_others": asdict(fall),
        "lost": fall.nats_per_token / gain if gain > 0 else None,
    }


def _held_out(
    served: Served,
    store: Datastore,
    document: Document,
    others: Sequence[str],
    left: tuple[int, ...],
    max_tokens: int | None,
    now: datetime,
    folder: Path | None,
) -> dict[str, Any]:
    """A ``HeldOut`` as plain facts."""
    reading = served.read(document, max_tokens)
    scores: list[DocumentScore] = []
    with working_copy(store, folder) as copy:
        opt_out(copy, document.id, now=now)
        for n_left, n_before in zip(left, (len(others), *left), strict=False):
            for name in others[len(others) - n_before : len(others) - n_left]:
                opt_out(copy, name, now=now)
            scores.append(reading.score(served.logprobs(copy, reading)))
    return asdict(HeldOut(document.id, document.digest, left, tuple(scores), reading.lm_score, tuple(others)))


def _read(facts: dict[str, Any]) -> HeldOut:
    """As ``asdict`` wrote it."""
    facts |= {name: tuple(facts[name]) for name in ("n_left", "removed")}
    facts["scores"] = tuple(DocumentScore(**score) for score in facts["scores"])
    return HeldOut(**facts | {"alone": DocumentScore(**facts["alone"])})
