"""A process that changes a store is killed, at every call that touches the disk and at moments in between.

Whatever the moment, the store opens, answers as before the change or as after it, and takes the change when it is
asked again.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datastore.catalog import FILE_NAME as CATALOG
from datastore.compaction import compact
from datastore.errors import VerificationFailed
from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from datastore.receipts import check_receipt, receipt_from_json
from datastore.redaction import without_sentences
from datastore.store import Datastore
from datastore.verification import scan, verify, verify_files
from datastore.writer import add

ROOT = Path(__file__).parents[2]
DEADLY = {signal.SIGKILL, signal.SIGALRM}
N_POINTS, N_MOMENTS = 14, 3


@pytest.fixture(scope="module")
def dying():
    """Asks the process of ``dying.py`` to die in the middle of a change."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("dying.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def ask(action: str, store: Path, **when: float) -> dict:
            process.stdin.write(json.dumps({"action": action, "store": str(store), **when}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert "error" not in answer, answer
            assert answer["signal"] in DEADLY, answer
            return answer

        yield ask
        process.stdin.close()


@pytest.fixture(params=["a sample", pytest.param("every call", marks=pytest.mark.slow)])
def deaths(request, dying, tmp_path):
    """Copies of a store, or of none, each left by a process that died in the middle of ``action``."""

    def sweep(action: str, template: Path | None):
        def fresh(name: str) -> Path:
            (tmp_path / name).mkdir()
            if template is not None:
                shutil.copytree(template, tmp_path / name / "store")
            return tmp_path / name / "store"

        whole = dying(action, fresh("whole"))
        assert whole["calls"] >= 20, "the sweep must see the calls that touch the disk"
        stride = 1 if request.param == "every call" else max(1, whole["calls"] // N_POINTS)
        moments = random.Random(0)
        cases = [{"call": n} for n in range(1, whole["calls"] + 1, stride)]
        cases += [{"call": whole["calls"]}]
        cases += [{"seconds": max(1e-5, moments.random() * whole["seconds"])} for _ in range(N_MOMENTS)]
        for i, case in enumerate(cases):
            path = fresh(f"case-{i}")
            yield case, path, dying(action, path, **case)
            shutil.rmtree(path.parent)

    return sweep


def test_a_kill_during_add_leaves_all_of_it_or_nothing(make_store, documents, answers, states, leftovers, deaths):
    old, new = make_store(documents[:6]), make_store(documents[:6], documents[6:])
    before, after = answers(old), answers(new)
    assert before != after
    old.close()
    outcomes = set()
    for case, path, _ in deaths("add", old.path):
        store = Datastore.open(path)
        answer = answers(store)
        assert answer in (before, after), case
        outcomes.add(answer == after)
        if answer == before:
            assert set(states(store)) == {f"doc-{i}" for i in range(6)}, case
            add(store, documents[6:])
        compact(store)
        assert (answers(store), leftovers(store)) == (after, []), case
        verify_files(store)
        store.close()
    assert outcomes == {False, True}


def test_a_kill_during_an_opt_out_leaves_it_in_force_or_not_begun(
    make_store, documents, answers, states, leftovers, deaths, now
):
    old, new = make_store(documents), make_store(documents[:3] + documents[4:])
    before, after = answers(old), answers(new)

    def forgetful(path: Path, template: Path) -> list:
        """What the store at ``path`` answers when its catalog is replaced by the one from before the opt-out."""
        copy = path.with_name("forgetful")
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns(f"{CATALOG}*"))
        shutil.copy(template / CATALOG, copy)
        store = Datastore.open(copy)
        answer = answers(store)
        store.close()
        return answer

    assert old.catalog.checkpoint()
    old.close()
    outcomes = set()
    for case, path, told in deaths("opt_out", old.path):
        if told.get("receipt"):
            assert forgetful(path, old.path) == after, case
        store = Datastore.open(path)
        answer = answers(store)
        assert answer in (before, after), case
        assert states(store)["doc-3"] == ("removed" if answer == after else "live"), case
        outcomes.add(answer == after)
        receipt = opt_out(store, "doc-3", now=now)
        if said := told.get("receipt"):
            assert (answer == after, receipt_from_json(said)) == (True, receipt), case
        check_receipt(receipt)
        compact(store)
        assert (answers(store), leftovers(store)) == (after, []), case
        verify(store, receipt, documents[3].text)
        store.close()
    assert outcomes == {False, True}


def test_a_kill_while_passages_are_taken_out_leaves_them_out_or_in(make_store, documents, answers, deaths, now):
    gone = [(2, 5), (7, 8)]
    old = make_store(documents)
    before, n_entries = answers(old), old.n_entries
    never = make_store([*documents[:3], without_sentences(documents[3], gone), *documents[4:]])
    after = answers(never)
    assert old.catalog.checkpoint()
    old.close()
    outcomes = set()
    for case, path, told in deaths("remove_passages", old.path):
        store = Datastore.open(path)
        is_out = store.n_entries == never.n_entries
        assert is_out or (store.n_entries, answers(store)) == (n_entries, before), case
        assert is_out or not told.get("receipt"), case
        outcomes.add(is_out)
        receipt = remove_passages(store, "doc-3", gone, now=now)
        assert not told.get("receipt") or receipt_from_json(told["receipt"]) == receipt, case
        assert store.catalog.journal.has(receipt.leaf_index), case
        compact(store)
        assert answers(store) == after, case
        verify(store, receipt, "".join(f"w3{i}. " for i in range(2, 5)))
        store.close()
    assert outcomes == {False, True}


def test_a_kill_during_compaction_brings_nothing_back_and_the_next_one_erases(
    make_store, documents, answers, leftovers, deaths, now
):
    old = make_store(documents[:5], documents[5:])
    receipts = {name: opt_out(old, name, now=now) for name in ("doc-1", "doc-7")}
    expected = answers(old)
    assert expected == answers(make_store(documents[:1] + documents[2:7] + documents[8:]))
    old.close()
    for case, path, _ in deaths("compact", old.path):
        store = Datastore.open(path)
        assert answers(store) == expected, case
        compact(store)
        assert (answers(store), leftovers(store)) == (expected, []), case
        for i in (1, 7):
            verify(store, receipts[f"doc-{i}"], documents[i].text)
            with pytest.raises(VerificationFailed, match="holds"):  # the control: a document that stays is found
                scan(path, documents[i + 1].text)
        store.close()


def test_a_kill_during_create_leaves_no_store_or_an_empty_one(documents, deaths, dying):
    outcomes = set()
    for case, path, _ in deaths("create", None):
        outcomes.add(path.exists())
        if not path.exists():
            dying("create", path)
            assert list(path.parent.iterdir()) == [path], case
        store = Datastore.open(path)
        assert store.n_entries == 0, case
        add(store, documents[:2])
        assert store.n_entries == sum(len(d.keys) for d in documents[:2]), case
        store.close()
    assert outcomes == {False, True}
