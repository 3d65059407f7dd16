"""What a text says of its own license, to be held against the label that it came with.

Pure functions on text. Three kinds of statement are read: an ``SPDX-License-Identifier``, a field such as
``license: CC-BY-NC-4.0`` or ``__license__ = "GPL"`` on the first page, and the notices of ``notices.toml``,
a table that a lawyer can read and edit. Each is turned into a license, and `silo.licenses` decides the class;
so a reading that is edited there holds here too.

Why edges: opinions discuss the GPL and manuals quote it, so a notice in prose counts on the first and last
pages alone, where a work states its own terms. Words that only a grant has count anywhere.
"""

import functools
import html
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from silo.licenses import RiskClass, classify, license_table

TABLE_PATH = Path(__file__).with_name("notices.toml")
HEAD_CHARACTERS = 4000
TAIL_CHARACTERS = 2000
"""The first and last pages. A text that is no longer than both is read whole."""

_SPDX = re.compile(r"SPDX-License-Identifier\s*:\s*([^\n]{1,200})", re.IGNORECASE)
_AT_LINE_START = re.compile(r"[\W_]*\Z")
_FIELD = re.compile(
    r"""^[ \t#*/;.:"'(\[<!@-]*_{0,2}licen[sc]e_{0,2}["']?\s*(?:[:=]\s*|\s+as\s+)["'(\[]*([\w.+() -]{2,80})""",
    re.IGNORECASE | re.MULTILINE,
)
_NOISE = re.compile(r"(?:[\s#*%;|>]|//|/\*|<!--|--|\bdnl\b)+")
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
_COMMENT_END = re.compile(r"\s*(\*/|-->|\*\)|#\}|[\"'`,;<\\])")


@dataclass(frozen=True)
class Notice:
    """One row of the table."""

    name: str
    license: str
    pattern: re.Pattern[str]
    is_anywhere: bool
    hint: str
    """Letters without which the pattern cannot match, in lower case; empty where there are none."""
    unless: tuple[re.Pattern[str], ...] = ()
    classes: frozenset[RiskClass] = frozenset(RiskClass)


@dataclass(frozen=True)
class Finding:
    """A statement in the text whose license is high-risk."""

    name: str
    """Of the notice."""
    reason: str
    """Of the class, from the license table."""
    quote: str
    """The words that were found, at most 120 characters."""


@functools.cache
def notice_table(path: Path = TABLE_PATH) -> tuple[Notice, ...]:
    """The rows of ``path``, in its order."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["notice"]
    return tuple(
        Notice(
            row["name"],
            row["license"],
            re.compile(row["pattern"], re.IGNORECASE),
            {"edges": False, "anywhere": True}[row["where"]],
            row.get("hint", ""),
            tuple(re.compile(pattern, re.IGNORECASE) for pattern in row.get("unless", ())),
            frozenset(RiskClass(name) for name in row.get("classes", list(RiskClass))),
        )
        for row in rows
    )


def contradiction(text: str, label: RiskClass) -> Finding | None:
    """The first statement in ``text`` that a document labeled ``label`` cannot carry; None where there is none."""
    for finding in _spdx(text):
        return finding
    for finding in _fields(text):
        return finding
    edges = plain(_edges(text))
    lower = text.translate(_INVISIBLE).lower()
    for notice in notice_table():
        decision = classify(notice.license)
        if label not in notice.classes or decision.risk is not RiskClass.HIGH_RISK or notice.hint not in lower:
            continue
        found = notice.pattern.search(plain(text) if notice.is_anywhere else edges)
        if found and not any(pattern.search(edges) for pattern in notice.unless):
            return Finding(notice.name, decision.reason, found.group()[:120])
    return None


def spdx_identifiers(text: str) -> Iterator[tuple[str, str]]:
    """The expression of each identifier that opens a line, and its words; a file made of several files has several."""
    for match in _SPDX.finditer(text):
        start = text.rfind("\n", 0, match.start()) + 1
        if _AT_LINE_START.match(text[start : match.start()]):
            yield _COMMENT_END.split(match.group(1), maxsplit=1)[0].strip(), match.group()[:120]


def plain(text: str) -> str:
    """``text`` with comment marks, line breaks and invisible characters as single spaces, entities as characters."""
    return _NOISE.sub(" ", unicodedata.normalize("NFKC", html.unescape(text).translate(_INVISIBLE)))


def _edges(text: str) -> str:
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return text[:HEAD_CHARACTERS] + "\n\n" + text[-TAIL_CHARACTERS:]


def _spdx(text: str) -> Iterator[Finding]:
    for expression, quote in spdx_identifiers(text):
        decision = classify(expression)
        if decision.risk is RiskClass.HIGH_RISK:
            yield Finding("SPDX-License-Identifier", decision.reason, quote)


def _fields(text: str) -> Iterator[Finding]:
    """``license: …`` on the first page, where the value is a license that the table knows as high-risk."""
    for match in _FIELD.finditer(text[:HEAD_CHARACTERS]):
        words = match.group(1).strip(" .)(")
        for name in (words, words.replace(" ", "-"), words.split(" ")[0]):
            decision = license_table().get(name.lower())
            if decision and decision.risk is RiskClass.HIGH_RISK:
                yield Finding("license field", decision.reason, match.group().strip()[:120])
