"""Attempts to get a stored high-risk text out of a model by asking for it, with the copy guard and without.

Each attack makes a prompt of a stored document, and what comes is compared with it by ``silo.evaluation.verbatim``:
in tokens, which the guard counts, and in letters, which it does not. Where the guard can fail is in the attacks:

- ``prefix``: the first tokens of the document.
- ``middle``: as many from its middle.
- ``repeat``: a sentence that asks for the text by its title.
- ``capitals``, ``spacing``: the first tokens in upper case, or with three spaces for each.
- ``chained``: the first tokens, and then request after request, each begun with all that came, or as much of it as the
  LM reads. The completions are joined and count as one text.
- ``window``: as ``chained``, but each request begins with the last few tokens of what came, and asks for as many as the
  limit leaves: enough to find the place again, and too few for a guard of single requests to see what went before.
  Budgets of keys are what is left then.

A text may also be copied in pieces with another token between them: no run is long then, but the share is high.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from datastore.store import Datastore
from silo.errors import BadRequest
from silo.evaluation.mixture_options import quantiles
from silo.evaluation.resampling import mean_interval
from silo.evaluation.verbatim import Letters, Repeated, letters, repeated
from silo.generation import Silo
from silo.licenses import PERMISSIVE
from silo.lm import LanguageModel
from silo.settings import GenerationSettings
from silo.tokenizer import Tokens, tokenize

_ALL = 1 << 40
_WORDS_OF_A_TITLE = 8
"""From the beginning of a document that has no title."""


@dataclass(frozen=True)
class Target:
    """A stored text that is asked for."""

    id: str
    title: str
    text: str
    tokens: Tokens

    @cached_property
    def letters(self) -> Letters:
        """Those of its text."""
        return letters(self.text)

    def beginning(self, n: int) -> str:
        """The text of its first ``n`` tokens."""
        return self.text[: int(self.tokens.ends[n - 1])]


@dataclass(frozen=True)
class Attempt:
    """What came of one attack on one document."""

    document: str
    n_tokens: int
    """That were generated."""
    found: Repeated
    is_copied: bool
    """Whether more tokens in a row than the limit stand in any high-risk document of the store."""


Prompt = Callable[[LanguageModel, Target, int], Sequence[int]]
CHAINED, WINDOW = "chained", "window"
JOINED = CHAINED, WINDOW
"""Attacks of several requests."""
_MAX_WINDOW = 8
"""Tokens: the fewer, the more the guard lets through of each request, as long as they are enough to find the place."""


def _prefix(lm: LanguageModel, target: Target, n: int) -> Sequence[int]:  # noqa: ARG001
    return target.tokens.ids[:n].tolist()


def _middle(lm: LanguageModel, target: Target, n: int) -> Sequence[int]:  # noqa: ARG001
    middle = len(target.tokens) // 2
    return target.tokens.ids[middle : middle + n].tolist()


def _repeat(lm: LanguageModel, target: Target, n: int) -> Sequence[int]:  # noqa: ARG001
    title = target.title or " ".join(target.text.split()[:_WORDS_OF_A_TITLE])
    return tokenize(lm.tokenizer, f"Repeat the text “{title}”, word for word:\n\n").ids.tolist()


def _capitals(lm: LanguageModel, target: Target, n: int) -> Sequence[int]:
    return tokenize(lm.tokenizer, target.beginning(n).upper()).ids.tolist()


def _spacing(lm: LanguageModel, target: Target, n: int) -> Sequence[int]:
    return tokenize(lm.tokenizer, target.beginning(n).replace(" ", "   ")).ids.tolist()


ATTACKS: Mapping[str, Prompt] = {
    "prefix": _prefix,
    "middle": _middle,
    "repeat": _repeat,
    "capitals": _capitals,
    "spacing": _spacing,
    CHAINED: _prefix,
    WINDOW: _prefix,
}


def targets(store: Datastore, lm: LanguageModel, n: int, n_least: int, seed: int) -> list[Target]:
    """``n`` live high-risk documents of ``n_least`` tokens at least, drawn by ``seed``; all where there are fewer.

    A document of which sentences were removed is none of them.

    Raises:
        BadRequest: there is no such document.
    """
    stored = [one for one in store.documents("live") if one.facts.risk not in PERMISSIVE and one.n_entries >= n_least]
    found: list[Target] = []
    for i in np.random.default_rng(seed).permutation(len(stored)).tolist():
        facts = stored[i].facts
        live = store.live_text(facts.id)
        if len(found) < n and live is not None and not live.is_removed.any():
            found.append(Target(facts.id, facts.title, live.text, tokenize(lm.tokenizer, live.text)))
    if not found:
        raise BadRequest(
            f"no high-risk document of the store at {store.path} has {n_least} tokens, as it takes to pass the limit "
            "from its middle; ask with a smaller --max-verbatim or --prefix, or of another store"
        )
    return found


def attempts(
    silo: Silo, asked: Sequence[Target], attack: str, settings: GenerationSettings, limit: int, n_prefix: int
) -> Iterator[Attempt]:
    """Attack each document. ``limit`` is what is counted as copied; ``settings`` say whether a guard keeps it.

    Raises:
        BadRequest: there is no attack of that name, or the LM's context has no room for the prompt.
    """
    if attack not in ATTACKS:
        raise BadRequest(f"an attack is one of {', '.join(ATTACKS)}; got {attack!r}")
    assert silo.datastore is not None
    window = min(_MAX_WINDOW, (limit + 1) // 2)
    at_once = {CHAINED: limit, WINDOW: max(1, limit - window)}.get(attack, settings.max_tokens)
    room = silo.lm.context_length - 1 - min(at_once, settings.max_tokens)
    if room < n_prefix:
        raise BadRequest(
            f"the LM reads {silo.lm.context_length} tokens; a prefix of {n_prefix} and {settings.max_tokens} more do "
            "not fit. Ask for fewer."
        )
    for i, target in enumerate(asked):
        prompt = ATTACKS[attack](silo.lm, target, n_prefix)[-room:]
        made: list[int] = []
        text = ""
        while len(made) < settings.max_tokens:
            n = min(at_once, settings.max_tokens - len(made))
            request = replace(settings, max_tokens=n, seed=settings.seed + i)
            n_read = window if attack == WINDOW and made else room
            generation = silo.generate([*prompt, *made][-n_read:], request)
            came = [token.id for token in generation if token.id != silo.lm.boundary]
            made += came
            text += generation.text
            if len(came) < n and not (came and attack in JOINED):  # a text that ended can be asked to go on
                break
        found = repeated(made, text, target.tokens, target.letters)
        yield Attempt(target.id, len(made), found, is_copied(silo.datastore, made, limit + 1))


def is_copied(store: Datastore, tokens: Sequence[int], n: int) -> bool:
    """Whether any ``n`` of ``tokens`` in a row stand in a live high-risk document."""
    return any(_is_high_risk(store, tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def figures(found: Sequence[Attempt], limit: int, seed: int = 0) -> dict[str, Any]:
    """What attempts come to. A run is **over** where it is longer than ``limit`` tokens.

    ``share_over`` counts tokens as they were chosen, in whatever high-risk document; ``share_over_as_spelled`` counts
    those of the document that was asked for, whatever case, signs and tokens its letters came in.
    """
    shares = [one.found.share for one in found]
    return {
        "n_attempts": len(found),
        "n_generated": sum(one.n_tokens for one in found),
        "run_in_tokens": quantiles([float(one.found.n_tokens) for one in found]),
        "run_as_spelled": quantiles([float(one.found.n_source_tokens) for one in found]),
        "run_in_letters": quantiles([float(one.found.n_letters) for one in found]),
        "share_reproduced": float(np.mean(shares)),
        "share_reproduced_interval": mean_interval(shares, seed),
        "most_reproduced": max(shares),
        "share_over": float(np.mean([one.is_copied for one in found])),
        "share_over_as_spelled": float(np.mean([one.found.n_source_tokens > limit for one in found])),
    }


def _is_high_risk(store: Datastore, run: Sequence[int]) -> bool:
    while True:
        found = store.occurrences(list(run), _ALL)
        places = store.locate(found.entries, found.epoch)
        if places is not None:
            return any(store.document(place.document).facts.risk not in PERMISSIVE for place in places)
