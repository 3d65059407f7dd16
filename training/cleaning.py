"""Whether a text is worth learning from: English, and neither broken, boilerplate nor encoded data.

Pure functions on text; the thresholds are the recipe's. They ask for evidence *against* a text and not for a
resemblance to prose, so that code, mathematics, chat and statutes pass. Each fault has a name that is counted.
"""

import re
from collections import Counter

import numpy as np

from silo.shingles import ngrams, words
from training.config import CleaningRecipe

_ENGLISH = frozenset(
    "the of and to in a is that it for was on are as with be this by from at or have not you which but his they "
    "were an what how if then there their we i he she can will one all so no do my your has had".split()
)
_FOREIGN = frozenset(
    # German, French, Spanish, Portuguese, Italian, Dutch, Polish, Swedish, Turkish, Indonesian; no word that is
    # English, a keyword or a common name in code ("die", "den", "do", "per", "del", "in", "os", "com", "van" …).
    "der das und ist nicht ein eine mit sich auf für von dem des auch wird sind oder werden zum zur wurde "
    "le les des est et une dans que qui pour pas sur avec ce sont aux ou mais nous vous leur cette été "
    "el los las una por con para es como más pero sus este está fue porque entre muy sin sobre "
    "um uma não dos das ao pelo pela são mais foi isso também "
    "il che di è sono della nel alla gli anche più questo delle "
    "het een niet zijn dat voor aan ook werd naar wordt "
    "nie się jest na że jak przez "
    "och att som är det inte av på med "
    "ve bir bu için ile olarak "
    "yang dan dengan untuk tidak dari ini".split()
)
_SYMBOL = re.compile(r"[^\w\s]|_")
_LETTER = re.compile(r"[^\W\d_]")
_OTHER_SCRIPT = re.compile("[\u0400-\u1dff\u2e80-\ud7ff]")
_LONG_WORD = re.compile(r"\S{200,}")
_LONG_LINE = 20
"""Shorter lines repeat in every program."""
_REPEATED_RUN = 8
"""Words."""


def fault(text: str, recipe: CleaningRecipe) -> str | None:
    """Why ``text`` is refused, as a short name for the tally; None where it may train."""
    n = len(text.strip())
    if n < recipe.min_characters:
        return f"quality: shorter than {recipe.min_characters} characters"
    if "\ufffd" in text and text.count("\ufffd") > recipe.max_broken_share * n:
        return "quality: characters that a wrong encoding broke"
    if symbol_share(text) > recipe.max_symbol_share:
        return "quality: symbols in place of words"
    if encoded_share(text) > recipe.max_encoded_share:
        return "quality: encoded data"
    if repeated_line_share(text) > recipe.max_repeated_line_share:
        return "quality: lines that repeat"
    tokens = words(text)
    if repeated_run_share(tokens) > recipe.max_repeated_run_share:
        return "quality: passages that repeat"
    if other_script_share(text) > recipe.max_other_script_share or foreign_share(tokens) > recipe.max_foreign_share:
        return "language: not English"
    return None


def symbol_share(text: str) -> float:
    """Of the characters that are not white space, those that are neither letters nor digits."""
    return len(_SYMBOL.findall(text)) / max(sum(map(len, text.split())), 1)


def encoded_share(text: str) -> float:
    """Characters in runs of 200 or more without white space: base64, minified code, hex."""
    return sum(len(run) for run in _LONG_WORD.findall(text)) / max(len(text), 1)


def repeated_line_share(text: str) -> float:
    """Characters in lines of 20 or more that came before, as a share of the characters in all lines."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    counts = Counter(line for line in lines if len(line) >= _LONG_LINE)
    return sum(len(line) * (count - 1) for line, count in counts.items()) / max(sum(map(len, lines)), 1)


def repeated_run_share(tokens: list[str]) -> float:
    """Runs of eight words that came before, as a share of all such runs."""
    runs = ngrams(tokens, _REPEATED_RUN)
    return 1 - len(np.unique(runs)) / len(runs) if len(runs) else 0.0


def other_script_share(text: str) -> float:
    """Of the letters, those past Latin and Greek (U+0400 on); Greek is what mathematics is written in."""
    other = len(_OTHER_SCRIPT.findall(text))
    return other / max(len(_LETTER.findall(text)), 1) if other else 0.0


def foreign_share(tokens: list[str]) -> float:
    """Function words of ten other languages as a share of all words; 0 where English ones are as many.

    Code and formulas have few of either, so they pass.
    """
    english = sum(token in _ENGLISH for token in tokens)
    foreign = sum(token in _FOREIGN for token in tokens)
    return 0.0 if foreign <= english else foreign / len(tokens)
