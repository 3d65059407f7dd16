"""Which passages answer a question best: BM25, the cosine of vectors, and both rankings fused.

Works on the views of all segments at once; opens nothing. Live passages are picked out *before* anything is counted or
ranked, and every statistic is a count over them: a removed passage moves no score and no rank, and several segments
answer as one would. Terms are added up in the order of their hashes, in float64, so a score is the same to the bit
wherever its passage lies. The total order is (score falling, passage), and passages follow the order of ingestion.

BM25 is that of Robertson and Zaragoza (2009) with Lucene's idf, ``ln(1 + (N - n + 0.5) / (n + 0.5))``, never negative.
Fusion is reciprocal-rank fusion (Cormack, Clarke and Buettcher, 2009).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from datastore.errors import BadArrays
from datastore.fingerprints import hashes, words
from datastore.passages import SCALE, PassagesView, vector_codes
from datastore.records import is_text
from datastore.views import LiveMask

Scorer = Literal["bm25", "dense", "fused"]
Part = tuple[PassagesView, LiveMask]
Ranking = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Passages, counted through all views, the best first; and their scores."""

K1 = 0.9
"""How soon more of a word stops to count; this and ``B`` are what Anserini settled on for passages."""
B = 0.4
"""How much a passage's length counts."""
RANK_OFFSET = 60
"""Of fusion: rank *r*, counted from 1, gives ``1 / (60 + r)``, as in the paper."""
FUSED_DEPTH = 100
"""How far down each ranking fusion looks, where more is not asked for."""


@dataclass(frozen=True)
class Question:
    """What passages are asked: made once, answered as often as the store changes in between."""

    terms: tuple[tuple[int, int], ...]
    """Hash of each word and how many times it is asked for, in the order of the hashes."""
    codes: NDArray[np.int16] | None
    """The vector, as stored ones are."""
    k: int
    scorer: Scorer

    @classmethod
    def of(cls, query: str, k: int, scorer: Scorer, vector: NDArray[np.floating] | None, dimension: int) -> "Question":
        """Check and prepare. ``dimension`` is that of the store's passage vectors, 0 where it has none.

        Raises:
            BadArrays: ``k``, ``scorer`` or ``query`` is unusable; the vector is missing, not wanted, or not a unit
                vector of that dimension; or vectors are asked of a store without them.
        """
        if k < 1:
            raise BadArrays(f"k must be at least 1; got {k}")
        if scorer not in get_args(Scorer):
            raise BadArrays(f"scorer must be one of {', '.join(get_args(Scorer))}; got {scorer!r}")
        if not is_text(query):
            raise BadArrays("the query has half a character, which is no UTF-8")
        if scorer == "bm25":
            if vector is not None:
                raise BadArrays("bm25 compares words; leave the vector out, or ask for scorer 'dense' or 'fused'")
            return cls(_terms(query), None, k, scorer)
        if not dimension:
            raise BadArrays(
                f"scorer {scorer!r} compares vectors, and this store has none for its passages. "
                "Ask for 'bm25', or build the store with `silo datastore build --passages`."
            )
        if vector is None or vector.ndim != 1:
            got = "none" if vector is None else f"shape {vector.shape}"
            raise BadArrays(f"scorer {scorer!r} takes the query's unit vector, ({dimension},); got {got}")
        return cls(_terms(query), vector_codes(vector[None], dimension, "query")[0], k, scorer)


def rank(parts: Sequence[Part], question: Question) -> Ranking:
    """The ``k`` best live passages for ``question``; fewer where fewer are live, or have a word of it for BM25."""
    if question.scorer == "bm25":
        return bm25(parts, question.terms, question.k)
    assert question.codes is not None
    if question.scorer == "dense":
        return dense(parts, question.codes, question.k)
    depth = max(question.k, FUSED_DEPTH)
    return fuse([bm25(parts, question.terms, depth)[0], dense(parts, question.codes, depth)[0]], question.k)


def bm25(parts: Sequence[Part], terms: Sequence[tuple[int, int]], k: int) -> Ranking:
    """The ``k`` best live passages with one of ``terms``, given as (hash, times)."""
    living = [view.living(mask) for view, mask in parts]
    n = sum(part.n_passages for part in living)
    mean = sum(part.n_words for part in living) / max(n, 1) or 1.0
    scores = [np.zeros(view.n_passages) for view, _ in parts]
    norms = [K1 * (1 - B + B * (view.table[:, 4] / mean)) for view, _ in parts]
    for term, times in terms:
        postings = [view.postings(term) for view, _ in parts]
        n_with = sum(int(part.flags[having].sum()) for part, (having, _) in zip(living, postings, strict=True))
        weight = times * (K1 + 1) * math.log(1 + (n - n_with + 0.5) / (n_with + 0.5))
        for score, norm, (having, frequencies) in zip(scores, norms, postings, strict=True):
            score[having] += weight * (frequencies / (frequencies + norm[having]))
    found = np.concatenate([np.empty(0), *(np.where(part.flags, s, 0) for part, s in zip(living, scores, strict=True))])
    passages = np.flatnonzero(found)
    return _best(passages, found[passages], k)


def dense(parts: Sequence[Part], codes: NDArray[np.int16], k: int) -> Ranking:
    """The ``k`` live passages whose vectors have the largest cosine with ``codes``."""
    flags = np.concatenate([np.empty(0, bool), *(view.living(mask).flags for view, mask in parts)])
    found = np.concatenate([np.empty(0, np.float32), *(view.products(codes) for view, _ in parts)])
    passages = np.flatnonzero(flags)
    return _best(passages, found[passages].astype(np.float64) / SCALE**2, k)


def fuse(rankings: Sequence[NDArray[np.int64]], k: int) -> Ranking:
    """The ``k`` best by the sum of ``1 / (60 + rank)`` over ``rankings``, each of distinct passages, best first."""
    passages, where = np.unique(np.concatenate([np.empty(0, np.int64), *rankings]), return_inverse=True)
    scores = np.zeros(len(passages))
    start = 0
    for ranking in rankings:
        scores[where[start : start + len(ranking)]] += 1 / (RANK_OFFSET + 1 + np.arange(len(ranking)))
        start += len(ranking)
    return _best(passages, scores, k)


def _terms(query: str) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(hashes(words(query)).tolist()).items()))


def _best(passages: NDArray[np.int64], scores: NDArray[np.float64], k: int) -> Ranking:
    """The first ``k`` in the order (score falling, passage); equal scores at the end are told apart by the passage."""
    if len(scores) > k:
        is_in = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
        passages, scores = passages[is_in], scores[is_in]
    order = np.lexsort((passages, -scores))[:k]
    return passages[order], scores[order]
