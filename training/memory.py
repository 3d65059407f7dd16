"""Keeps freed memory in the process, so that the next training step need not ask the system for it again.

Knows nothing of training. Why: a step allocates the same large arrays as the one before. The C library's
allocator returns those above 32 MB to the system each time, which must then hand out zeroed pages anew. What that
costs is measured by ``tests/benchmarks/bench_train.py``.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEPT_BYTES = 2_000_000_000
_GROWTH_BYTES = 64 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to 2 GB of freed memory; False where there is no glibc and nothing was changed.

    Holds for the whole process, so it is for a command to call and not for a library.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEPT_BYTES), (_M_TOP_PAD, _GROWTH_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
