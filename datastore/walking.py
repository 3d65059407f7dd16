"""The searches of ``ngrams`` for one sequence at a time, in plain Python.

What ``ngrams`` does with arrays costs the same for one sequence as for hundreds; a text that is made token by token
asks for one. Here a step of a binary search is a few looks at memory, so that one sequence costs a small part of that.
The answers are the same, to the integer. Works on ranks, positions and tokens; knows no documents but where they begin.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Walk:
    """The suffix array ``order`` of ``tokens``, in documents that begin at ``starts``: see ``ngrams.NgramsView``."""

    def __init__(self, order: NDArray[np.int32], tokens: NDArray[Any], starts: NDArray[np.int64]) -> None:
        self._order = _plain(order)
        self._tokens = _plain(tokens)
        self._starts = _plain(starts)

    def place(self, sequence: Sequence[int], below: int, above: int, *, is_after: bool = False) -> tuple[int, int, int]:
        """The rank before which ``sequence`` belongs, and how many tokens it shares with the entries on both sides.

        It belongs between ``below`` and ``above``, all entries between which share its last token. Entries that it
        ends at come after that rank; where ``is_after``, before it. The tokens which both ends of a range share need
        not be compared again (Manber and Myers, 1993).
        """
        matched_below = matched_above = 0
        while above - below > 1:
            middle = (below + above) // 2
            known = max(1, min(matched_below, matched_above))
            matched, order = self.compare(self._order[middle], sequence, known)
            if order < 0 or (is_after and order == 0):
                below, matched_below = middle, matched
            else:
                above, matched_above = middle, matched
        return above, matched_below, matched_above

    def ranges(self, sequence: Sequence[int], lengths: Sequence[int], below: int, above: int) -> list[tuple[int, int]]:
        """For each of ``lengths``, which do not increase, the ranks of the entries that so many last tokens end at.

        ``below`` and ``above`` as for ``place``. The range of a shorter run lies around that of a longer one.
        """
        found: list[tuple[int, int]] = []
        for i, length in enumerate(lengths):
            if length == 0:
                found.append((0, 0))
            elif i and length == lengths[i - 1]:
                found.append(found[-1])
            else:
                tail = sequence[len(sequence) - length :]
                first, last = found[-1] if found else (0, 0)
                if first == last:
                    first = self.place(tail, below, above)[0]
                    last = self.place(tail, first - 1, above, is_after=True)[0]
                else:
                    wanted = list(tail)
                    first = self._edge(wanted, first, below, -1)
                    last = self._edge(wanted, last - 1, above, 1) + 1
                found.append((first, last))
        return found

    def _edge(self, tail: list[int], inside: int, outside: int, way: int) -> int:
        """The last rank from ``inside`` on that ends with ``tail``, on the way to ``outside``, which does not."""
        step = 1
        while abs(outside - inside) > 1:
            middle = inside + way * min(step, abs(outside - inside) // 2)
            if self._ends_with(self._order[middle], tail):
                inside, step = middle, 2 * step
            else:
                outside, step = middle, abs(middle - inside)
        return inside

    def _ends_with(self, position: int, tail: list[int]) -> bool:
        first = position + 1 - len(tail)
        return (
            first >= 0
            and self._tokens[first : position + 1].tolist() == tail
            and self._starts[bisect_right(self._starts, position) - 1] <= first
        )

    def compare(self, position: int, sequence: Sequence[int], known: int = 0) -> tuple[int, int]:
        """How many tokens before and at ``position`` match the last ones of ``sequence``, ``known`` of them for sure.

        And the order of the two: -1 where the entry comes first, 0 where the sequence ends at it, 1 otherwise.
        """
        tokens, n = self._tokens, len(sequence)
        room = position + 1 - self._starts[bisect_right(self._starts, position) - 1]
        stop, i = min(n, room), known
        while i < stop and tokens[position - i] == sequence[-1 - i]:
            i += 1
        if i == n:
            return i, 0
        return i, -1 if i == room or tokens[position - i] < sequence[-1 - i] else 1


def _plain(array: NDArray[Any]) -> Any:
    """The same memory, of which an item is a Python number: several times faster to look at."""
    return memoryview(array)  # type: ignore[arg-type]
