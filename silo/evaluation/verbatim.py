"""How much of a text another one repeats: runs of tokens, and runs of letters whatever their case and punctuation.

Pure functions on tokens and strings; knows no LM and no store. A run of tokens is what the copy guard counts, so a copy
in capitals, or one that spells its words in other tokens, is none. The same copy is one run of **letters**: letters and
digits in compatibility form with their case folded, and nothing of what stands between them. How long that is in the
guard's terms is said in the tokens of the text that is repeated, as it spells them.
"""

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer

from silo.tokenizer import Tokens

MIN_LETTERS = 32
"""A shorter run of letters is not counted as reproduced: any two texts of a language have such in common."""


@dataclass(frozen=True)
class Letters:
    """The letters and digits of a text, folded."""

    codes: Int[np.ndarray, " n"]
    """Code points."""
    positions: Int[np.ndarray, " n"]
    """Of the character that each comes from, in the text."""

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Repeated:
    """What a text repeats of another one, the **source**."""

    n_tokens: int
    """The longest run of tokens that both have."""
    n_letters: int
    """The longest run of letters that both have."""
    n_source_tokens: int
    """Tokens of the source from the first to the last one whose letters all stand in that run; ``n_tokens`` at least,
    which also counts signs at its ends."""
    share: float
    """Of the source's letters, those that stand in runs of ``MIN_LETTERS`` at least."""


def repeated(tokens: Sequence[int], text: str, source: Tokens, source_letters: Letters) -> Repeated:
    """What ``text``, which is spelled in ``tokens``, repeats of ``source``, whose letters come with it."""
    by_token = _longest_ending_at(np.asarray(tokens, dtype=np.int64), source.ids)
    runs = _longest_ending_at(letters(text).codes, source_letters.codes)
    n_tokens = int(by_token.max(initial=0))
    longest = int(runs.max(initial=0))
    n_source_tokens = 0
    if longest:
        end = int(runs.argmax()) + 1
        n_source_tokens = _n_whole_tokens(source, source_letters, end - longest, end)
    share = float(_covered(runs, MIN_LETTERS).mean()) if len(runs) else 0.0
    return Repeated(n_tokens, longest, max(n_tokens, n_source_tokens), share)


def letters(text: str) -> Letters:
    """The letters and digits of ``text``."""
    found = [(ord(folded), i) for i, character in enumerate(text) for folded in _folded(character)]
    codes, positions = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return Letters(codes, positions)


def _longest_ending_at(text: Integer[np.ndarray, " n"], source: Integer[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """For each place of ``source`` the length of the longest run that ends there and stands in ``text``."""
    best = np.zeros(len(source), dtype=np.int64)
    before = np.zeros(len(source) + 1, dtype=np.int64)
    for one in text:
        now = np.zeros_like(before)
        now[1:] = np.where(source == one, before[:-1] + 1, 0)
        np.maximum(best, now[1:], out=best)
        before = now
    return best


def _covered(runs: Int[np.ndarray, " m"], least: int) -> np.ndarray:
    """Which places stand in a run of ``least`` at least; ``runs`` has the length of the longest that ends at each."""
    edges = np.zeros(len(runs) + 1, dtype=np.int64)
    (ends,) = np.nonzero(runs >= least)
    np.add.at(edges, ends + 1 - runs[ends], 1)
    np.add.at(edges, ends + 1, -1)
    return np.cumsum(edges)[:-1] > 0


def _n_whole_tokens(source: Tokens, found: Letters, start: int, end: int) -> int:
    """Tokens from the first to the last one with letters, all of which are among those from ``start`` to ``end``."""
    token_of = np.searchsorted(source.starts, found.positions, side="right") - 1
    inside = token_of[start:end]
    if start > 0:
        inside = inside[inside != token_of[start - 1]]
    if end < len(token_of):
        inside = inside[inside != token_of[end]]
    return int(inside[-1] - inside[0]) + 1 if len(inside) else 0


@functools.lru_cache(maxsize=1 << 16)
def _folded(character: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFKC", character).casefold() if one.isalnum())
