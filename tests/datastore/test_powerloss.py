"""The power goes at any moment: what was acknowledged stays in force, and nothing that was removed comes back.

The system calls of opt-outs, an add and compactions are recorded, SQLite's own too, and replayed on a simulated disk
(``powerloss``) that loses what nobody had forced to it. Each state that it may be left in is opened as a store.
"""

import importlib.util
import itertools
import json
import platform
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from datastore.errors import DatastoreError
from datastore.journal import Journal
from datastore.optout import given_receipt, recover
from datastore.receipts import receipt_from_json
from datastore.redaction import without_sentences
from datastore.store import Datastore

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="traces system calls of x86-64 Linux"
)
_spec = importlib.util.spec_from_file_location("powerloss", Path(__file__).with_name("powerloss.py"))
powerloss = sys.modules["powerloss"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(powerloss)

N_STEPS = 8
GONE = [{3}, {0, 3}, {0, 3}, {0, 3}, {0, 3, 7}, {0, 3, 7}, {0, 1, 3, 7}, {0, 1, 3, 7}]
"""The documents that are opted out after each step of the story that ``dying`` tells."""
TAKEN_IN, ADDED_IN, ERASING = 3, 4, (6, 8)
PASSAGES = ((2, 5), (7, 8))
"""What ``dying`` takes out of document 4."""


class State(NamedTuple):
    """What a disk held after a loss of power, and what had been acknowledged by then."""

    found: dict[str, bytes | None]
    n_steps: int
    receipts: dict[str, dict]
    where: tuple


@pytest.fixture
def recorded(dying, make_store, documents, tmp_path):
    """The story's events, told against a copy of a store of six documents."""
    template = make_store(documents[:6])
    template.close()

    def record(*weaken: str) -> tuple[Path, list[list]]:
        root = tmp_path / f"told-{'-'.join(weaken)}"
        shutil.copytree(template.path, root / "store")
        before = tmp_path / f"before-{root.name}"
        shutil.copytree(root, before)
        dying("story", root / "store", trace=str(tmp_path / "events.json"), weaken=list(weaken))
        events = json.loads((tmp_path / "events.json").read_text())
        assert sum(name == "say" and "step" in rest[0] for name, *rest in events) == N_STEPS + 1
        return before, events

    return record


@pytest.fixture
def expected(make_store, documents, answers):
    """What a store answers that never had what was removed, after each number of steps."""
    made = []
    for n in range(N_STEPS + 1):
        gone = GONE[n - 1] if n else set()
        last = 10 if n >= ADDED_IN else 6
        kept = [d for i, d in enumerate(documents[:last]) if i not in gone]
        is_taken = n >= TAKEN_IN
        store = make_store([without_sentences(d, PASSAGES) if d is documents[4] and is_taken else d for d in kept])
        made.append(answers(store))
        store.close()
    return made


def states(before: Path, events: list[list], n_random: int) -> Iterator[State]:
    """At every boundary: nothing kept of what was not synced, all of it, and ``n_random`` choices between."""
    disk, rng = powerloss.Disk(before), random.Random(0)
    n_steps, receipts = 0, {}
    for number, event in enumerate(events):
        if event[0] == "say":
            told = json.loads(event[1]).get("receipt") or {}
            n_steps = told.get("step", n_steps)
            if told.get("receipt"):
                receipts = receipts | {told["receipt"]["document"]: told["receipt"]}
        disk.happen(event)
        seen = []
        for kept in ["nothing", "all", *["some"] * n_random]:
            found = disk.lose(rng, kept)
            if found not in seen:
                seen.append(found)
                yield State(found, n_steps, receipts, (number, event[0], kept))


def what_is_lost(state: State, folder: Path, documents, answers, expected) -> list[str]:
    """Which of the promises the store in ``state`` breaks."""
    powerloss.put(state.found, folder)
    n, broken = state.n_steps, []
    try:
        store = Datastore.open(folder / "store")
        if answers(store) not in expected[n : n + 2]:
            broken.append("in force")
        with store.catalog.read() as connection:
            kept = set(connection.exec_driver_sql("SELECT document FROM main.optouts").scalars())
        if not {*state.receipts} <= kept:
            broken.append("in the catalog")
        journal = Journal(folder / "store")
        if not {r["leaf_index"] for r in state.receipts.values()} <= {*journal.commitments}:
            broken.append("in the journal")
        given = [receipt_from_json(told) for told in state.receipts.values()]
        if any(given_receipt(store, receipt.document, receipt.sentences) != receipt for receipt in given):
            broken.append("its receipt")
        recover(store)
        if answers(store) not in expected[n : n + 2]:
            broken.append("in force once recovered")
        store.close()
    except DatastoreError as error:
        broken.append(f"opens: {error}")
    if n in ERASING:
        data = b"".join(data for data in state.found.values() if data)
        gone = [documents[i].text[:30] for i in GONE[n - 1]]
        gone += [documents[4].text[slice(*documents[4].sentences[[a, b - 1], [0, 1]])] for a, b in PASSAGES]
        broken += ["erased" for text in gone if text.encode() in data]
    shutil.rmtree(folder)
    return broken


@pytest.fixture(
    params=["a sample", pytest.param("every boundary", marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def losses(request, recorded, tmp_path, documents, answers, expected):
    """How often each promise is broken, in the states that the disk may be left in."""

    def count(*weaken: str) -> Counter:
        n_random, share = (1, 10 if weaken else 4) if request.param == "a sample" else (6, 3 if weaken else 1)
        some = list(states(*recorded(*weaken), n_random))[::share]
        assert weaken or {state.n_steps for state in some} == {*range(N_STEPS + 1)}
        assert weaken or len(some) >= (200 if request.param == "a sample" else 2000)
        broken = [what_is_lost(state, tmp_path / "state", documents, answers, expected) for state in some]
        return Counter(itertools.chain.from_iterable(broken))

    return count


def test_no_loss_of_power_takes_an_acknowledged_opt_out_back_or_what_was_erased_brings_again(losses):
    assert losses() == {}


# What is taken out of the child, and the promises that this breaks, at least.
CONTROLS = {
    "SQLite syncs as for synchronous=NORMAL": (["catalog"], {"in the catalog"}),
    "the journal is not synced": (["journal"], {"in the journal"}),
    "neither is synced": (["catalog", "journal"], {"in force", "in force once recovered", "its receipt"}),
}


@pytest.mark.parametrize(("weaken", "lost"), CONTROLS.values(), ids=CONTROLS.keys())
def test_the_power_takes_acknowledged_opt_outs_where(losses, weaken, lost):
    """The control: each of the two records must be durable of its own, and is not without its sync."""
    broken = losses(*weaken)
    assert lost <= {*broken}, broken
    if weaken == ["journal"]:
        assert {*broken} == lost, "the catalog has what the journal lost"
