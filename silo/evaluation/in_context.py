"""What the LM gives to each token of a document when it reads passages of a store first, as the decode loop does.

Every ``stride`` tokens the passages that answer the last ``query_tokens`` best are fetched, by the finder that serves;
the LM reads one of them, what joins it to a text, and as much of the document before the stride as its context has
room for. Of several passages each gets a run, and their probabilities are averaged (``silo.context_passages``). Where
nothing is found the LM reads the document alone.

A stride costs a whole window, some sixteen times what a token costs otherwise; so these are kept beside the traces and
not in them. What is compared with the LM alone: there a token sees between half of the LM's context and all of it, here
all of it less passage and stride.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from datastore.store import Datastore
from silo.context_passages import ContextPassage, PassageFinder, opened_by, run_weights
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.kept import keep, kept
from silo.evaluation.traces import folder_of
from silo.lm import LanguageModel
from silo.settings import RetrievalSettings
from silo.tokenizer import tokenize

PREDICTORS = {
    "ric": "the LM after passages that answer the last tokens best, as in Ram et al. (2023)",
    "ric+lm": "the LM after passages and the LM alone; one share tuned",
}
RIC = RetrievalSettings(stride=32, query_tokens=32)
_BATCH_TOKENS = 4096
_SHARES = np.round(np.linspace(0.0, 1.0, 21), 2)


@dataclass(frozen=True)
class InContext:
    """What was seen of *n* tokens: of one document, or of several end to end."""

    gold: Float[np.ndarray, " n"]
    """Natural log of the probability of each token that came."""
    has_passage: Bool[np.ndarray, " n"]
    """Whether any passage was read before it."""


@dataclass(frozen=True)
class Window:
    """One run of the LM over one stride."""

    tokens: tuple[int, ...]
    """All that it reads: the last token of the stride is predicted and not read."""
    n_before: int
    """Of them, before the first token of the stride."""


def windows(
    lm: LanguageModel, tokens: Sequence[int], start: int, settings: RetrievalSettings, found: Sequence[ContextPassage]
) -> list[Window]:
    """The runs over the stride of ``tokens`` that begins at ``start``, one for each of ``found``, or one without.

    A passage is cut to half of the LM's context, and the document before the stride to what is left.
    """
    stride = list(tokens[start : start + settings.stride - 1])[: len(tokens) - start - 1]
    made = []
    for head in [opened_by(lm, one, settings.join, lm.context_length // 2) for one in found] or [[lm.opening]]:
        room = lm.context_length - len(head) - len(stride)
        before = [*head, *tokens[max(0, start - room) : start]]
        made.append(Window((*before, *stride), len(before)))
    return made


def in_context(lm: LanguageModel, store: Datastore, document: Document, settings: RetrievalSettings) -> InContext:
    """Read ``document`` alone, its end predicted too, stride by stride.

    Raises:
        BadRequest: a stride and a passage leave little room for the document, or vectors are to be compared.
    """
    _check(lm, settings)
    finder = PassageFinder(store, lm, settings)
    tokens = [*tokenize(lm.tokenizer, document.text).ids.tolist(), lm.boundary]
    starts = range(0, len(tokens), settings.stride)
    passages = [finder.find(tokens[:start])[0] for start in starts]
    runs = [
        (number, window)
        for number, start in enumerate(starts)
        for window in windows(lm, tokens, start, settings, passages[number])
    ]
    terms: list[list[np.ndarray]] = [[] for _ in starts]
    for number, logprobs in _read(lm, tokens, settings.stride, runs):
        terms[number].append(logprobs)
    gold = [_mixed(some, run_weights(found, settings.ensemble)) for some, found in zip(terms, passages, strict=True)]
    has = [np.full(len(some), bool(found)) for some, found in zip(gold, passages, strict=True)]
    return InContext(np.concatenate(gold).astype(np.float32), np.concatenate(has))


def all_in_context(
    lm: LanguageModel,
    store: Datastore,
    documents: Iterable[Document],
    settings: RetrievalSettings,
    cache: Path | None = None,
) -> Iterator[InContext]:
    """``in_context`` of each of ``documents``, from ``cache`` where it was made before; as ``traces`` keeps them."""
    folder = None
    if cache is not None:
        made_of = json.dumps([lm.fingerprint, asdict(settings)], sort_keys=True)
        folder = folder_of(cache, store) / f"in-context-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    for document in documents:
        path = None if folder is None else folder / f"{document.digest}.safetensors"
        found = None if path is None else kept(path, InContext)
        if found is None:
            found = in_context(lm, store, document, settings)
            if path is not None:
                keep(path, found)
        yield found


def joined(found: Iterable[InContext]) -> InContext:
    """Several documents' as one. Raises BadRequest where there are none."""
    parts = list(found)
    if not parts:
        raise BadRequest("there is no document to look at; expected at least one")
    return InContext(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(InContext)))


def best_share(lm_gold: Float[np.ndarray, " n"], seen: InContext) -> float:
    """The share of the LM after passages, of 0, 0.05, …, 1, with which both predict best; the first among equals."""
    return float(max(_SHARES.tolist(), key=lambda share: float(with_lm(lm_gold, seen, share).mean())))


def with_lm(lm_gold: Float[np.ndarray, " n"], seen: InContext, share: float) -> Float[np.ndarray, " n"]:
    """Natural log of what the mixture of the LM alone and after passages gives to each token that came."""
    terms = [np.asarray(part, dtype=np.float64) for part in (lm_gold, seen.gold)]
    return _mixed(terms, np.array([1 - share, share]))


def _read(
    lm: LanguageModel, tokens: Sequence[int], stride: int, runs: Sequence[tuple[int, Window]]
) -> Iterator[tuple[int, np.ndarray]]:
    """For each run the number of its stride, and the log-probability of each token of that.

    Runs are read side by side, the shorter ones filled up at their end, which no token before it sees.
    """
    at_once = max(1, _BATCH_TOKENS // lm.context_length)
    for first in range(0, len(runs), at_once):
        some = runs[first : first + at_once]
        longest = max(len(window.tokens) for _, window in some)
        filled = [[*window.tokens, *[lm.boundary] * (longest - len(window.tokens))] for _, window in some]
        states = lm.contexts(torch.tensor(filled))
        for row, (number, window) in zip(states, some, strict=True):
            gold = torch.tensor(tokens[number * stride : (number + 1) * stride], device=lm.device)
            logprobs = lm.logprobs(row[window.n_before - 1 : len(window.tokens)])
            yield number, logprobs.gather(1, gold[:, None])[:, 0].cpu().numpy().astype(np.float64)


def _mixed(terms: Sequence[np.ndarray], weights: Float[np.ndarray, " runs"]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        shares = np.log(weights)
    found: np.ndarray = np.logaddexp.reduce(np.stack(terms) + shares[:, None], axis=0)
    return found


def _check(lm: LanguageModel, settings: RetrievalSettings) -> None:
    if settings.scorer != "bm25":
        raise BadRequest(f"passages are looked at with bm25 alone; got scorer {settings.scorer!r}")
    if settings.stride > lm.context_length // 3:
        raise BadRequest(
            f"a stride must be at most a third of the LM's context, {lm.context_length // 3} tokens; "
            f"got {settings.stride}"
        )
