"""Fewer dimensions for keys: a principal component analysis whose result for a row depends on that row alone.

Works on arrays; opens no file. A matrix product in floating point rounds a row differently with the shape of the
batch, the number of threads and the machine. This one does not round at all: keys are whole multiples of a step
that is a power of two, the matrix has whole multiples of another, and both are so short that every product and
every partial sum is exact in float64. So the order of the additions, whatever BLAS makes it, is of no matter, and
the only rounding is the last one, to float32.

The mean is not subtracted: it is the same for every key, and distances do not see it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datastore.errors import BadArrays

_KEY_BITS = 20
"""Of a key's component, without its sign, at the end of its range."""
_MARGIN = 16.0
"""How far beyond the largest licensed value of its dimension a component may lie; further out it is clipped."""
_ROWS = 4096


@dataclass(frozen=True)
class Projection:
    """From keys of ``d`` dimensions to ``p``."""

    steps: NDArray[np.float64]
    """``(d,)``: of what each component of a key is a multiple; powers of two."""
    matrix: NDArray[np.float64]
    """``(d, p)``: takes components counted in steps."""

    def __call__(self, keys: NDArray[np.floating]) -> NDArray[np.float32]:
        """``keys`` ``(n, d)``, finite, as ``(n, p)``; a row has the same bits in whatever batch it comes."""
        projected = np.empty((len(keys), self.matrix.shape[1]), dtype=np.float32)
        per_step, largest = 1 / self.steps, float(1 << _KEY_BITS)
        for start in range(0, len(keys), _ROWS):
            rows = slice(start, start + _ROWS)
            counted = keys[rows] * per_step  # float64
            np.rint(counted, out=counted)
            np.clip(counted, -largest, largest, out=counted)
            projected[rows] = counted @ self.matrix
        return projected


def fit_projection(keys: NDArray[np.floating], dimension: int) -> Projection:
    """The ``dimension`` principal directions of ``keys`` ``(m, d)``, which must be of licensed text.

    Raises:
        BadArrays: there are no keys, or not more dimensions than are to be left.
    """
    n, d = keys.shape
    if not 0 < dimension < d or n == 0:
        raise BadArrays(f"a projection to {dimension} dimensions needs keys of more than those; got shape {keys.shape}")
    keys = keys.astype(np.float64)
    centered = keys - keys.mean(axis=0)
    _, directions = np.linalg.eigh(centered.T @ centered)
    directions = directions[:, ::-1][:, :dimension]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(dimension)]
    directions = directions * np.sign(largest)  # which of the two signs comes out is LAPACK's affair, not ours
    ranges = np.exp2(np.ceil(np.log2(np.maximum(np.abs(keys).max(axis=0), 2.0**-20) * _MARGIN)))
    steps = ranges / (1 << _KEY_BITS)
    matrix = steps[:, None] * directions
    # The largest sum of magnitudes in any column; one bit is left over for the rounding of the matrix itself.
    bound = float((np.abs(matrix).sum(axis=0) * (1 << _KEY_BITS)).max())
    grid = 2.0 ** (np.ceil(np.log2(bound)) - 51)
    return Projection(steps, np.rint(matrix / grid) * grid)
