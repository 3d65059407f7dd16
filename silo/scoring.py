"""How probable a given text is under the mixture of an LM and a datastore: what ``echo`` and evaluation ask for.

The LM reads the whole text at once, so its rounding differs in the last bits from a text that is made token by
token. The datastore is searched for stretches of the text, each as of one epoch, with opt-outs waiting as they wait
for the steps of a generation.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from datastore.errors import ReaderFenced
from datastore.store import Datastore
from silo.gate import Gate
from silo.lm import LanguageModel
from silo.prediction import Predictor
from silo.sampling import likeliest
from silo.scored import ScoredText, ScoredToken
from silo.settings import GenerationSettings
from silo.textstream import TextStream
from silo.tokenizer import tokenize

_STRETCH = 64
"""Tokens that are searched for in one step: an opt-out waits for it."""


def echoed(lm: LanguageModel, prompt: str | Sequence[int]) -> ScoredText:
    """The text of ``prompt``, without scores."""
    return ScoredText(prompt if isinstance(prompt, str) else "".join(_pieces(lm, list(prompt))), ())


def score(
    lm: LanguageModel,
    store: Datastore | None,
    prompt: str | Sequence[int],
    settings: GenerationSettings,
    gate: Gate | None,
    n_top: int,
) -> ScoredText:
    """``prompt`` with the log-probability of each token after those before it; the first one opens a text.

    Ids may begin with the token that opens a text: clients that need something before the first token put it there.
    It must fit the LM's context, and its ids the vocabulary.
    """
    if isinstance(prompt, str):
        tokens = tokenize(lm.tokenizer, prompt)
        ids = [int(token) for token in tokens.ids]
        ends = [*(int(start) for start in tokens.starts[1:]), len(prompt)]
        pieces = [prompt[start:end] for start, end in zip([0, *ends], ends, strict=False)][: len(ids)]
        text = prompt
    else:
        ids = list(prompt)
        pieces = _pieces(lm, ids)
        text = "".join(pieces)
    if not ids:
        return ScoredText(text, ())
    scored: list[ScoredToken] = []
    start = 0
    is_opened = ids[0] == lm.opening
    states = _states_before(lm, ids, is_opened)
    distributions = _distributions(lm, store, states, lambda at: ids[is_opened:at], settings, gate)
    for token, piece, logprobs in zip(ids, pieces, distributions, strict=True):
        scored.append(ScoredToken(token, piece, start, float(logprobs[token]), likeliest(logprobs, n_top)))
        start += len(piece)
    return ScoredText(text, tuple(scored))


def score_continuations(
    lm: LanguageModel,
    store: Datastore | None,
    text: Sequence[int],
    continuations: Sequence[Sequence[int]],
    settings: GenerationSettings,
    gate: Gate | None,
) -> list[float]:
    """Natural log of the probability that each of ``continuations`` follows ``text``; all of them are token ids.

    The mixture is made at the tokens of the continuations alone, and once where they begin alike. Text and the longest
    of them must fit the LM's context.
    """
    states: dict[tuple[int, ...], Tensor] = {}
    for begun in sorted({tuple(one[:-1]) for one in continuations}, key=len, reverse=True):
        if begun not in states:
            read = lm.contexts(torch.tensor([[lm.opening, *text, *begun]]))[0]
            states |= {begun[:n]: read[len(text) + n] for n in range(len(begun) + 1)}
    begun_as = list(states)
    stacked = torch.stack(list(states.values())) if states else torch.empty(0, lm.dimension)
    distributions = _distributions(lm, store, stacked, lambda at: [*text, *begun_as[at]], settings, gate)
    given = dict(zip(begun_as, distributions, strict=True))
    return [float(sum(given[tuple(one[:n])][token] for n, token in enumerate(one))) for one in continuations]


def _states_before(lm: LanguageModel, ids: list[int], is_opened: bool) -> Tensor:
    """The LM's state before each of ``ids``; where the first of them opens the text, no other one does."""
    if not is_opened:
        return lm.contexts(torch.tensor([[lm.opening, *ids[:-1]]]))[0]
    read = lm.contexts(torch.tensor([ids[:-1] or ids]))[0]
    return torch.cat([read[:1], read[: len(ids) - 1]])


def _pieces(lm: LanguageModel, ids: list[int]) -> list[str]:
    """What each token adds to the text of ``ids``."""
    stream = TextStream(lm.tokenizer, [])
    pieces = [stream.push(token) for token in ids]
    if pieces:
        pieces[-1] += stream.flush()
    return pieces


def _distributions(
    lm: LanguageModel,
    store: Datastore | None,
    states: Tensor,
    history: Callable[[int], list[int]],
    settings: GenerationSettings,
    gate: Gate | None,
) -> Iterator[np.ndarray]:
    """For each of ``states`` the log-probabilities of what may follow; ``history`` tells the tokens before it."""
    predictor = None if store is None else Predictor(store, settings, gate)
    for number, stretch in enumerate(states.split(_STRETCH)):
        lm_logprobs = lm.logprobs(stretch).cpu().numpy()
        if store is None or predictor is None or predictor.is_silent:
            yield from lm_logprobs.astype(np.float64)
        else:
            first = number * _STRETCH
            histories = [history(at) for at in range(first, first + len(stretch))]
            yield from _mixed(store, predictor, stretch.float().cpu().numpy(), lm_logprobs, histories)


def _mixed(
    store: Datastore, predictor: Predictor, contexts: np.ndarray, lm_logprobs: np.ndarray, histories: list[list[int]]
) -> list[np.ndarray]:
    """The mixture at each of ``contexts``, as of one epoch."""
    while True:
        with suppress(ReaderFenced), store.step():
            answers = predictor.ask(contexts, histories)
            return [prediction.logprobs for prediction in predictor.predict(answers, lm_logprobs, histories)]
