"""Runs of words as numbers, to compare texts without keeping them.

Pure functions on text and arrays. A word is a run of letters, digits and underscores, its case folded; what
stands between words does not count. The same text has the same numbers in every process.

Not those of `datastore.fingerprints`, which training cannot reach, and which also sees through look-alike letters and
invisible signs, as whoever hides a copy would use; here copies are honest and there are many more texts.
"""

import functools
import hashlib
import re
import unicodedata

import numpy as np
from jaxtyping import UInt64

_WORD = re.compile(r"\w+")
_BASE = 0x9E3779B97F4A7C15  # odd, so that no power of it vanishes modulo 2**64


def words(text: str) -> list[str]:
    """The words of ``text`` in order, with compatibility forms and case folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def ngrams(tokens: list[str], n: int) -> UInt64[np.ndarray, " ngrams"]:
    """A number for each run of ``n`` words, in order: none where there are fewer than ``n`` words.

    The number is a polynomial in 64-bit hashes of the words, so equal runs have equal numbers, and unequal
    ones do with a chance of about 2**-64.
    """
    if n < 1:
        raise ValueError(f"an n-gram has at least one word; got n = {n}")
    hashes = np.fromiter(map(_word_hash, tokens), dtype=np.uint64, count=len(tokens))
    total = np.zeros(max(len(tokens) - n + 1, 0), dtype=np.uint64)
    for offset in range(n if len(total) else 0):
        total = total * np.uint64(_BASE) + hashes[offset : offset + len(total)]
    return total


@functools.lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
