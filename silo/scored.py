"""A text whose tokens were scored instead of chosen. Facts alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoredToken:
    """A token of a given text, and how probable it was after those before it."""

    id: int
    text: str
    """Its characters; empty where a character is completed by a later token."""
    start: int
    """Character offset of ``text`` in the whole."""
    logprob: float
    """Natural log of the token's probability in the mixture."""
    top_logprobs: tuple[tuple[int, float], ...]
    """The likeliest tokens in its place and their log-probabilities, likeliest first."""


@dataclass(frozen=True)
class ScoredText:
    """A text, token by token."""

    text: str
    tokens: tuple[ScoredToken, ...]
    """Empty where scores were not asked for."""
