"""Text that a model makes freely from the beginnings of documents, beside what people wrote next.

A document's first tokens are the prompt, the next ones are the **human** continuation, and what comes after these is as
much text again of the same author: as near to the human continuation as text can be expected to be. Figures are
reported whatever they show. Intervals are over prompts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.frontier import Quantized, quantize
from silo.evaluation.repetition import Distinct, repetition
from silo.evaluation.resampling import mean_interval, share_interval
from silo.generation import Silo
from silo.lm import LanguageModel
from silo.settings import GenerationSettings
from silo.tokenizer import tokenize

REPETITIONS, DISTINCT = (2, 3, 4), (1, 2, 3)
Encode = Callable[[Sequence[str]], np.ndarray]
"""A vector of each text."""
Compare = Callable[[Sequence[str]], Quantized]
"""Clusters texts together with the human continuations, which come first."""


@dataclass(frozen=True)
class Continuation:
    """What follows a prompt."""

    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Prompt:
    """The beginning of a document, and what is in it afterwards."""

    tokens: tuple[int, ...]
    human: Continuation
    later: Continuation


def prompts(
    lm: LanguageModel, documents: Iterable[Document], n: int, n_prompt: int, n_continued: int
) -> tuple[list[Prompt], list[str]]:
    """The first ``n`` documents that are long enough for a prompt and two continuations, and their digests.

    Raises:
        BadRequest: fewer than two are.
    """
    found, digests = [], []
    for document in documents:
        tokens = tokenize(lm.tokenizer, document.text)
        if len(tokens) < n_prompt + 2 * n_continued:
            continue
        cuts = [n_prompt + i * n_continued for i in range(3)]
        human, later = (
            Continuation(
                tuple(tokens.ids[a:b].tolist()), document.text[int(tokens.starts[a]) : int(tokens.ends[b - 1])]
            )
            for a, b in pairwise(cuts)
        )
        found.append(Prompt(tuple(tokens.ids[:n_prompt].tolist()), human, later))
        digests.append(document.digest)
        if len(found) == n:
            break
    if len(found) < 2:
        raise BadRequest(
            f"two documents of {n_prompt + 2 * n_continued} tokens are needed, a prompt and two continuations; "
            f"found {len(found)}. Name longer ones, or ask for fewer tokens."
        )
    return found, digests


def continued(silo: Silo, asked: Sequence[Prompt], settings: GenerationSettings) -> list[Continuation]:
    """What the model makes of each prompt; of prompt i with the seed ``settings.seed`` + i.

    Raises:
        PromptTooLong: prompt and continuation do not fit the LM's context.
    """
    found = []
    for i, prompt in enumerate(asked):
        generation = silo.generate(prompt.tokens, replace(settings, seed=settings.seed + i))
        made = tuple(token.id for token in generation if token.id != silo.lm.boundary)
        found.append(Continuation(made, generation.text))
    return found


def comparing(encode: Encode, asked: Sequence[Prompt], seed: int = 0) -> Compare:
    """Comparison with the human continuations by the vectors that ``encode`` makes."""
    human = encode([prompt.human.text for prompt in asked])
    return lambda texts: quantize(human, encode(texts), seed)


def figures(
    made: Sequence[Continuation], asked: Sequence[Prompt], compare: Compare | None = None, seed: int = 0
) -> dict[str, Any]:
    """Repetition, distinct n-grams, and with ``compare`` how near to the human continuations, each with its interval.

    The clusters of the last stay as they are while prompts are drawn anew: its interval is narrower than it would be
    if texts were clustered each time.
    """
    n = len(made)
    found: dict[str, Any] = {"n_prompts": n, "n_tokens": sum(len(one.tokens) for one in made)}
    found["n_ended"] = sum(len(one.tokens) < len(prompt.human.tokens) for one, prompt in zip(made, asked, strict=True))
    for length in REPETITIONS:
        each = [repetition(one.tokens, length) for one in made]
        found[f"rep_{length}"] = float(np.mean(each))
        found[f"rep_{length}_interval"] = mean_interval(each, seed)
    for length in DISTINCT:
        distinct = Distinct([one.tokens for one in made], length)
        found[f"distinct_{length}"] = distinct(np.arange(n))
        found[f"distinct_{length}_interval"] = share_interval(distinct, n, seed)
    if compare is not None:
        quantized = compare([one.text for one in made])
        found["likeness"] = quantized.score()
        found["likeness_interval"] = share_interval(lambda rows: quantized.score(rows, rows), n, seed)
        found["n_clusters"] = quantized.n_clusters
    return found
