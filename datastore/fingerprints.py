"""Fingerprints: texts to integers, so that a text that was removed is known again when it comes back.

Pure; opens no file and knows no store. A text is normalized (NFKD, casefold; marks, zero-width characters and
hyphens dropped; look-alike letters folded into one), cut into words, and every run of 8 words, a shingle, is
hashed to 64 bits. Winnowing (Schleimer, Wilkerson and Aiken, 2003) keeps the smallest hash of every 4 in a row:
two texts that share 11 words in a row share a fingerprint, and the fingerprints of an excerpt are fingerprints of
the whole. A text of fewer than 8 words is one shingle.

Containment is measured both ways and the larger share counts: the share of the candidate's fingerprints that the
removed text has, near 1 for an excerpt; and the share of the removed text's that the candidate has, near 1 for a
larger text with the removed one inside. Either alone would let the other through.

Why hashes of removed text are kept: after erasure the text is gone, and its owner is still owed that it stays out.
What they reveal: whoever holds the hashes and guesses 8 words in a row can confirm the guess, and who guesses the
whole text can confirm that; nobody can read words off a hash. Eight words of prose are beyond guessing; a form with
one name filled in, or a text of a few words, is not. The hashes have no key. A key would have to lie beside them,
where whoever takes the hashes takes it too; and without one an owner can compute them from the text, and a store
that is rebuilt with another LM can take them over, which it must, since the text is no longer there to be hashed again.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SHINGLE = 8
"""Words in a shingle."""
WINDOW = 4
"""Shingles of which winnowing keeps one."""

# Letters that look alike, each row folded into its first. Casefolded, since case is gone by then: a capital goes
# where its small letter goes, or, where only the capitals look alike (Cyrillic В), the small one goes with it.
_ALIKE = """
aаαɑ bвьƅʙ cсᴄ dԁɗ eеєεҽ fғƒ gɡց hнһհʜ iіιlӏ1ıɩɪǀ jјϳ kкκĸᴋ mмᴍ nпηո oоοσօ0ᴏ pрρ qԛգ rгᴦ sѕꜱ tтτᴛ
uυսᴜ vνѵᴠ wԝѡωաᴡ xхχ yуүγʏ zᴢ
"""
_FILLERS = "\u115f\u1160\u3164\uffa0"
_FOLD: dict[int, str | None] = {ord(c): row[0] for row in _ALIKE.split() for c in row[1:]}
_FOLD |= dict.fromkeys(map(ord, _FILLERS))
_UNSEEN = {"Cf", "Mn", "Me"}
"""Unicode's classes of invisible format characters (zero-width, soft hyphen, direction) and of marks on letters."""
_HYPHEN = re.compile(r"(?<=\w)[-\u2010]\s*(?=\w)")
# Han, kana, Thai, Lao, Khmer and Burmese are written without spaces: there each character is a word.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def normalize(text: str) -> str:
    """``text`` with everything folded that a reader overlooks: case, marks, invisible and look-alike characters.

    For comparing only. It is coarser than reading (``résumé`` and ``resume``, ``10`` and ``lo`` become one), which
    eight words in a row make up for.
    """
    folded = text.casefold()
    if not text.isascii():
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    unseen: dict[int, str | None] = {ord(c): None for c in set(folded) if unicodedata.category(c) in _UNSEEN}
    return _HYPHEN.sub("", folded.translate(unseen | _FOLD))


def words(text: str) -> list[str]:
    """The words of ``text``, normalized: runs of letters and digits, so that line wraps and punctuation do not count.

    A hyphen joins what stands on both sides of it, across a line end too.
    """
    return _WORD.findall(normalize(text))


def shingles(text: str) -> NDArray[np.int64]:
    """``(max(1, n - 7),)``: a hash of every 8 of its ``n`` words in a row; of all of them where ``n`` is less.

    Empty for a text without words.
    """
    return shingles_of(words(text))


def fingerprints(text: str) -> NDArray[np.int64]:
    """The winnowed shingles of ``text``: sorted, each once, about 0.4 for each word."""
    return winnow(shingles(text))


def winnow(hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest of every ``WINDOW`` of ``hashes`` in a row: sorted, each once."""
    if not len(hashes):
        return hashes
    windows = np.lib.stride_tricks.sliding_window_view(hashes, min(WINDOW, len(hashes)))
    return np.unique(windows.min(axis=1))


def normalized_digest(text: str) -> str:
    """SHA-256, hex, of the words of ``text``; of its signs, without spaces, where it has no words."""
    normalized = " ".join(words(text)) or "".join(normalize(text).split())
    return hashlib.sha256(normalized.encode("utf-8")).hexdigest()


def hashes(texts: Iterable[str]) -> NDArray[np.int64]:
    """The first 64 bits of the BLAKE2b of each text: the same on every machine, in every run."""
    joined = b"".join(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, ">i8").astype(np.int64)


def containment(candidate: NDArray[np.int64], suppressed: NDArray[np.int64]) -> float:
    """How much of one text is in the other, from 0 to 1: the larger of the two shares of their fingerprints.

    0 where either text has no words.
    """
    n_shared = len(np.intersect1d(candidate, suppressed))
    return n_shared / max(1, min(len(candidate), len(suppressed)))


def shingles_of(of: list[str]) -> NDArray[np.int64]:
    """As ``shingles``, of words."""
    if not of:
        return np.empty(0, np.int64)
    return hashes(" ".join(of[i : i + SHINGLE]) for i in range(max(1, len(of) - SHINGLE + 1)))
