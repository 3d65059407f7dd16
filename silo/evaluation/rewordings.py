"""A text said otherwise, by rule and from a seed: what a store may still know of it when no run of it stands there.

These are stand-ins, not paraphrases as a person writes them, and mean nothing of the kind. ``reordered`` has the same
sentences in another order: every run within a sentence is as it was. ``substituted`` has a part of its longer words
replaced by other words of the same text: the topic's words stay, runs are short, and the sense is lost.
"""

import re

import numpy as np

from silo.sentences import sentence_spans

_WORD = re.compile(r"[^\W\d_]{4,}")
SHARE = 0.3
"""Of the longer words that are replaced."""


def reordered(text: str, random: np.random.Generator) -> str:
    """``text`` with its sentences in an order that is drawn; each ends in white space of its own."""
    sentences = [text[start:end] for start, end in sentence_spans(text)]
    return "".join(sentence if sentence[-1:].isspace() else f"{sentence} " for sentence in _drawn(sentences, random))


def substituted(text: str, random: np.random.Generator, share: float = SHARE) -> str:
    """``text`` with a ``share`` of its words of at least four letters replaced by others of them, drawn alike.

    A word that begins with a capital is replaced by one that does, where there is another.
    """
    words = list(dict.fromkeys(_WORD.findall(text)))
    alike = {is_capital: [w for w in words if w[0].isupper() == is_capital] for is_capital in (False, True)}

    def other(found: re.Match[str]) -> str:
        word = found.group()
        if random.random() >= share:
            return word
        others = [w for w in alike[word[0].isupper()] if w.casefold() != word.casefold()]
        return others[int(random.integers(len(others)))] if others else word

    return _WORD.sub(other, text)


REWORDINGS = {"reordered": reordered, "substituted": substituted}
"""By name; each takes a text and a source of randomness."""


def _drawn(sentences: list[str], random: np.random.Generator) -> list[str]:
    return [sentences[i] for i in random.permutation(len(sentences)).tolist()]
