"""Sentences as character spans of a text.

Works on strings alone. The spans are half-open, in order, and cover the text without a gap,
so that every character, and so every token, has exactly one sentence. A span keeps the white
space that follows its sentence. Splitting never looks past a paragraph break, so what a text
says later cannot change how an earlier paragraph was split.

Why our own: the attribution needs exact offsets, and the splitters that keep them break legal
citations ("Smith v. Jones, 410 U.S. 113") and initials apart.
"""

import bisect
import itertools
import re

Span = tuple[int, int]

MAX_SENTENCE_CHARACTERS = 1000
"""A longer run (a table, minified code) is cut at white space, or mid-word where it has none."""

_ABBREVIATIONS = frozenset(
    # titles
    "mr mrs ms dr prof rev hon sr jr st gen col lt sgt capt gov sen rep pres messrs "
    # reference and Latin
    "vs v cf al etc eg ie e.g i.e viz ibid no nos vol vols ed eds p pp ch sec art fig figs eq eqs approx ca "
    # law
    "u.s u.s.c f fed supp cir ct dist app cal civ crim proc evid const amend stat reg rev para cl "
    # companies, places, months
    "inc ltd co corp bros dept univ assn ave blvd rd mt ft jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[」』）]*")
_WORD_BEFORE = re.compile(r"([\w.&]+)$")


def sentence_spans(text: str) -> list[Span]:
    """Half-open character spans of the sentences of ``text``; their concatenation is ``text``."""
    spans: list[Span] = []
    start = 0
    for gap in _PARAGRAPH.finditer(text):
        spans += _split_paragraph(text, start, gap.end())
        start = gap.end()
    spans += _split_paragraph(text, start, len(text))
    return spans


def sentence_of(spans: list[Span], character: int) -> int:
    """Index of the span that holds ``character``. Raises ValueError outside the text."""
    index = bisect.bisect_right(spans, character, key=lambda span: span[0]) - 1
    if index < 0 or character >= spans[index][1]:
        raise ValueError(f"character {character} lies in none of {len(spans)} sentences")
    return index


def _split_paragraph(text: str, start: int, end: int) -> list[Span]:
    """Spans of ``text[start:end]``, which has no paragraph break inside."""
    cuts = [start]
    for mark in _END.finditer(text, start, end):
        if _ends_sentence(text, mark, start):
            after = mark.end()
            while after < end and text[after].isspace():
                after += 1
            if cuts[-1] < after < end:
                cuts.append(after)
    cuts.append(end)
    return [piece for a, b in itertools.pairwise(cuts) if a < b for piece in _cut_long(text, a, b)]


def _ends_sentence(text: str, mark: re.Match[str], start: int) -> bool:
    """Whether the punctuation at ``mark`` ends a sentence rather than an abbreviation."""
    rest = text[mark.end() : mark.end() + 80].lstrip()
    if rest and (rest[0].islower() or rest[0] in ",;:"):
        return False
    if mark.group().rstrip("\"'”’)]") != ".":
        return True
    before = _WORD_BEFORE.search(text[max(start, mark.start() - 24) : mark.start()])
    if before is None:
        return True
    word = before.group(1)
    is_initial = len(word) == 1 and word.isupper() and word != "I"
    is_dotted = bool(re.fullmatch(r"(?:[A-Za-z]\.)+[A-Za-z]", word))
    if is_initial or is_dotted:
        return False
    if word.lower() in _ABBREVIATIONS:
        return word.lower() == "no" and not rest[:1].isdigit()
    return True


def _cut_long(text: str, start: int, end: int) -> list[Span]:
    """Pieces of at most ``MAX_SENTENCE_CHARACTERS``, cut after a line or a space where there is one."""
    pieces: list[Span] = []
    while end - start > MAX_SENTENCE_CHARACTERS:
        limit = start + MAX_SENTENCE_CHARACTERS
        cut = max(text.rfind("\n", start, limit), text.rfind(" ", start, limit)) + 1
        cut = cut if cut > start else limit
        pieces.append((start, cut))
        start = cut
    pieces.append((start, end))
    return pieces
