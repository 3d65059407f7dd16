"""A disk that is full, read-only or failing: a clear error, nothing promised, and all is well once it is mended.

From one of its system calls on, SQLite's and FAISS's own among them, a change finds that nothing can be written.
"""

import errno
import platform
import shutil
import sys
from collections import Counter

import pytest

from datastore.compaction import compact
from datastore.optout import opt_out
from datastore.receipts import receipt_from_json
from datastore.store import Datastore
from datastore.verification import verify_files
from datastore.writer import add

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="breaks system calls of x86-64 Linux"
)
N_POINTS = 16
CHANGES = {"opt_out": (10, (), {3}), "add": (6, (), set()), "compact": (10, ("doc-1", "doc-7"), {1, 7})}
"""How many documents the store has, those removed from it beforehand, and those that are after the change."""
BROKEN = {"full": (errno.ENOSPC, True), "read-only": (errno.EROFS, True), "failing once": (errno.EIO, False)}


@pytest.mark.parametrize(
    "every",
    [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
    ids=["a sample", "every call"],
)
@pytest.mark.parametrize("action", CHANGES)
@pytest.mark.parametrize(("error", "lasting"), BROKEN.values(), ids=BROKEN.keys())
def test_a_change_that_finds_the_disk(
    make_store, documents, answers, leftovers, dying, tmp_path, now, error, lasting, action, every
):
    n_before, gone_before, gone_after = CHANGES[action]
    old = make_store(documents[:n_before])
    for name in gone_before:
        opt_out(old, name, now=now)
    before, after = answers(old), answers(make_store([d for i, d in enumerate(documents) if i not in gone_after]))
    old.close()

    def attempt(name: str, **how: object) -> tuple:
        path = shutil.copytree(old.path, tmp_path / name / "store")
        return path, dying(action, path, trace=str(tmp_path / "events.json"), error=error, lasting=lasting, **how)

    n_calls = attempt("whole", fail=0)[1]["traced"]
    assert n_calls > N_POINTS
    outcomes = Counter()
    for fail in range(1, n_calls + 1, 1 if every else n_calls // N_POINTS):
        path, told = attempt(f"case-{fail}", fail=fail)
        assert told.get("is_clear", True), told
        said = told.get("receipt")
        store = Datastore.open(path)
        answer = answers(store)
        assert answer in ([after] if said or "error" not in told else [before, after]), (fail, told)
        outcomes["error" in told] += 1
        if action == "opt_out":
            receipt = opt_out(store, "doc-3", now=now)
            assert not said or receipt_from_json(said) == receipt, fail
        elif action == "add" and answer == before:
            add(store, documents[6:])
        compact(store)
        assert (answers(store), leftovers(store)) == (after, []), (fail, told)
        verify_files(store)
        store.close()
        shutil.rmtree(path.parent)
    assert outcomes[True] >= N_POINTS // 2, "the control: most points break the change"
