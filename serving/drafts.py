"""A completion as it grows from the events of its job, and what choices are made of it.

Knows nothing of HTTP or of the shape of an answer: that is the endpoint's.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serving.jobs import Ended, Event, Made, Read
from serving.rendering import PassageOf, SentenceFeed
from silo.attribution import AttributedSentence, ContextSource, GeneratedToken, attribute_sentences
from silo.scored import ScoredText


class Draft:
    """One completion, so far."""

    def __init__(self) -> None:
        self.prompt: ScoredText | None = None
        """Where it is echoed."""
        self.tokens: list[GeneratedToken] = []
        self.text = ""
        """Of the completion alone."""
        self.finish_reason: str | None = None
        self.n_prompt_tokens = 0
        self.epoch: int | None = None
        self.context_sources: tuple[ContextSource, ...] = ()
        """So far; until the end, those that were there last go on."""

    def take(self, event: Event) -> None:
        """Grow by what happened."""
        match event:
            case Read():
                self.prompt = event.scored
            case Made():
                self.tokens.append(event.token)
                self.text += event.token.text
                self.epoch = event.epoch
                self.context_sources = event.context_sources or self.context_sources
            case Ended():
                self.finish_reason = event.finish_reason
                self.n_prompt_tokens = event.n_prompt_tokens
                self.context_sources = event.context_sources
                self.epoch = event.epoch

    def cut(self, job: int) -> Ended:
        """The end of a completion that may not go on."""
        last = max((source.tokens[1] for source in self.context_sources), default=0)
        read = tuple(
            replace(source, tokens=(source.tokens[0], len(self.tokens))) if source.tokens[1] == last else source
            for source in self.context_sources
        )
        return Ended(job, "content_filter", self.n_prompt_tokens, self.epoch, read)

    def sentences(self) -> Sequence[AttributedSentence]:
        """The sentences so far with their sources."""
        return attribute_sentences(self.text, self.tokens)

    def feed(self, passage_of: PassageOf) -> SentenceFeed:
        """The annotations, as they become final."""
        return SentenceFeed(self, passage_of)

    @property
    def logprob_per_token(self) -> float:
        """By which the best of several completions are found; minus infinity without tokens."""
        if not self.tokens:
            return -math.inf
        return sum(token.logprob for token in self.tokens) / len(self.tokens)


def usage_of(drafts: Sequence[Draft], n_per_prompt: int) -> dict[str, Any]:
    """What was read and made; a prompt is read once for all of its completions."""
    n_prompt = sum(draft.n_prompt_tokens for draft in drafts[::n_per_prompt])
    n_completion = sum(len(draft.tokens) for draft in drafts)
    return {"prompt_tokens": n_prompt, "completion_tokens": n_completion, "total_tokens": n_prompt + n_completion}
