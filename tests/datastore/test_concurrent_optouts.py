"""Many opt-outs at once and one after another: what is acknowledged is out of every search that begins later."""

import dataclasses
import json
import multiprocessing
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from datastore import optout
from datastore.journal import Journal
from datastore.merkle import Tree
from datastore.optout import opt_out
from datastore.public_log import signed_head
from datastore.store import Datastore

N_WRITERS, N_READERS = 2, 2


@pytest.fixture
def many(documents):
    """``n`` documents of three entries each, with keys that tell them apart."""

    def make(n: int) -> list:
        random = np.random.default_rng(5)
        return [
            dataclasses.replace(
                documents[0],
                facts=dataclasses.replace(documents[0].facts, id=f"doc-{i}", digest=f"{i:064x}"),
                text=f"document number {i} has a text of its own",
                tokens=random.integers(0, 50, 4),
                keys=random.integers(-9, 10, (3, 4)).astype(np.float16),
                sentences=np.array([[0, 10]]),
                token_sentences=np.zeros(4, int),
            )
            for i in range(n)
        ]

    return make


def acknowledge(path: Path, names: list[str], said, is_wrong: bool) -> None:
    """Opt ``names`` out; the time of each acknowledgement goes to ``said``."""
    store = Datastore.open(path)
    for name in names:
        if is_wrong:  # says yes first and does it then
            said.put((name, time.monotonic()))
            time.sleep(0.02)
        opt_out(store, name, now=datetime.now(UTC))
        if not is_wrong:
            said.put((name, time.monotonic()))
    store.close()


def watch(path: Path, done, seen) -> None:
    """Ask for everything that is near, again and again; when each search began, and the documents that it found."""
    store, random = Datastore.open(path), np.random.default_rng()
    last: dict[str, float] = {}
    n_searches = 0
    while not done.is_set():
        queries = random.integers(-9, 10, (1, 4)).astype(np.float32)
        began = time.monotonic()
        with store.step():
            found = store.search(queries, 200, 4)
            places = store.locate(found.entries[found.entries >= 0], found.epoch)
        n_searches += 1
        last.update((place.document, began) for place in places or ())
    seen.put((n_searches, last))
    store.close()


def race(path: Path, n: int, *, is_wrong: bool = False) -> tuple[dict[str, float], list[tuple[int, dict[str, float]]]]:
    """When each of ``n`` opt-outs was acknowledged, and for each reader when its last search began that found it."""
    spawn = multiprocessing.get_context("spawn")
    said, seen, done = spawn.Queue(), spawn.Queue(), spawn.Event()
    readers = [spawn.Process(target=watch, args=(path, done, seen)) for _ in range(N_READERS)]
    names = [f"doc-{i}" for i in range(n)]
    writers = [
        spawn.Process(target=acknowledge, args=(path, names[i::N_WRITERS], said, is_wrong)) for i in range(N_WRITERS)
    ]
    for process in (*readers, *writers):
        process.start()
    acknowledged = dict(said.get(timeout=100) for _ in range(n))
    for writer in writers:
        writer.join(100)
    done.set()
    found = [seen.get(timeout=100) for _ in readers]
    for process in (*readers, *writers):
        process.join(100)
        assert process.exitcode == 0
    return acknowledged, found


def too_late(acknowledged: dict[str, float], found: list[tuple[int, dict[str, float]]]) -> list[str]:
    """The documents that a search found which began after their removal was acknowledged."""
    return [name for _, last in found for name, began in last.items() if began > acknowledged.get(name, np.inf)]


def test_no_search_that_begins_after_an_acknowledgement_finds_what_was_removed(make_store, many, now):
    documents = many(1200)
    store = make_store(documents)
    acknowledged, found = race(store.path, 1000)
    assert too_late(acknowledged, found) == []
    assert all(n > 50 for n, _ in found), "they searched meanwhile"
    assert sum(name in last for _, last in found for name in acknowledged) > 300, "what they found did go"
    receipts = Journal(store.path).receipts(range(1000))
    assert {receipt.document for receipt in receipts} == set(acknowledged)
    leaves = [bytes.fromhex(receipt.commitment) for receipt in receipts]
    assert (signed_head(store, now=now).root, receipts[-1].head.root) == (Tree(leaves).root().hex(),) * 2


def test_whoever_acknowledges_before_it_is_done_is_found_out(make_store, many):
    """The control: the same readers, the same check, the order wrong."""
    store = make_store(many(80))
    assert too_late(*race(store.path, 60, is_wrong=True)) != []


@pytest.mark.parametrize("n", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_opt_outs_one_after_another_leave_what_a_rebuild_of_the_rest_has(
    make_store, many, answers, now, monkeypatch, n
):
    documents = many(n + 100)
    store = make_store(documents, max_segment_positions=n)
    read = []
    real = optout.log_rows.log_edge
    monkeypatch.setattr(optout.log_rows, "log_edge", lambda connection: read.append(real(connection)) or read[-1])
    before = answers(store)
    for document in documents[:n]:
        opt_out(store, document.facts.id, now=now)
    rest = documents[n:]
    assert answers(store) == answers(Datastore.open(store.path)) == answers(make_store(rest)) != before
    assert max(len(edge) for edge, _ in read) <= 10, "what an opt-out reads of the log grows with its logarithm"
    assert json.loads((store.path / "journal.jsonl").read_text().splitlines()[-1])["leaf_index"] == n - 1


def test_one_opt_out_less_is_another_answer(make_store, many, answers, now):
    """The control."""
    documents = many(30)
    store = make_store(documents)
    for document in documents[:19]:
        opt_out(store, document.facts.id, now=now)
    assert answers(store) != answers(make_store(documents[20:]))
