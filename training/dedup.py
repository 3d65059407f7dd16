"""Which documents repeat an earlier one: exactly, or nearly.

Near means that MinHash estimates a Jaccard similarity of the sets of word runs at or above the recipe's
threshold (Broder 1997; Lee et al. 2022). Candidates come from locality-sensitive hashing; each is then
compared, so a chance collision of a band costs time and no document. One instance sees all domains, so a copy
in another domain is found; the first in order stays. Deterministic: the hashes have fixed seeds.

Why the bands are ours: rensa sketches runs that are hashed already, but its own index takes no such sketch one document
at a time. Each document that stays takes memory for its 256 numbers and its 32 bands.
"""

import hashlib
import re
from collections import defaultdict

import numpy as np
from jaxtyping import UInt32, UInt64
from rensa import RMinHash

from silo.shingles import ngrams, words
from training.config import DeduplicationRecipe

PERMUTATIONS = 256
ROWS = 8
"""In a band. A pair at similarity s is compared with chance 1 - (1 - s**8)**32: 0.997 at 0.8, 0.12 at 0.5."""
SEED = 42
_SPACE = re.compile(r"\s+")
_ODD = np.random.default_rng(SEED).integers(0, 1 << 63, ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


class Duplicates:
    """The documents that stayed so far."""

    def __init__(self, recipe: DeduplicationRecipe) -> None:
        self._recipe = recipe
        self._exact: dict[bytes, str] = {}
        self._ids: list[str] = []
        self._signatures: list[UInt32[np.ndarray, " permutations"]] = []
        self._bands: dict[int, list[int]] = defaultdict(list)

    def add(self, name: str, text: str) -> str | None:
        """What ``text`` is a copy of, in words; or None: then it stays, as ``name``."""
        digest = hashlib.sha256(_SPACE.sub(" ", text).strip().encode()).digest()
        if first := self._exact.get(digest):
            return f"a copy of {first}"
        runs = np.unique(ngrams(words(text), self._recipe.n))
        if len(runs) >= self._recipe.min_runs:
            signature = _signature(runs)
            bands = _bands(signature)
            for key in sorted({key for band in bands for key in self._bands.get(band, ())}):
                if float((self._signatures[key] == signature).mean()) >= self._recipe.threshold:
                    return f"nearly {self._ids[key]}"
            for band in bands:
                self._bands[band].append(len(self._ids))
            self._ids.append(name)
            self._signatures.append(signature)
        self._exact[digest] = name
        return None


def _signature(runs: UInt64[np.ndarray, " runs"]) -> UInt32[np.ndarray, " permutations"]:
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(runs, [0, len(runs)], PERMUTATIONS, SEED)
    return np.asarray(matrix.to_rows()[0], dtype=np.uint32)


def _bands(signature: UInt32[np.ndarray, " permutations"]) -> list[int]:
    """One number for each band of rows, in which the band's place is mixed."""
    rows = signature.astype(np.uint64).reshape(-1, ROWS)
    mixed = (rows * _ODD).sum(axis=1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return [int(value) for value in mixed + np.arange(len(rows), dtype=np.uint64)]
