"""A process that changes a store is killed, at every call that touches the disk and at moments in between.

Whatever the moment, the store opens, answers as before the change or as after it, and takes the change when it is
asked again.
"""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from datastore import backup_keys
from datastore import requests as asked
from datastore.backups import take_snapshot
from datastore.catalog import FILE_NAME as CATALOG
from datastore.compaction import compact
from datastore.errors import VerificationFailed
from datastore.keyring import DOCUMENT, Keyring
from datastore.optout import given_receipt, opt_out
from datastore.ownership import Possession
from datastore.passage_optout import remove_passages
from datastore.public_log import signed_head
from datastore.receipts import check_receipt, receipt_from_json
from datastore.redaction import without_sentences
from datastore.request_states import State
from datastore.restore import restore
from datastore.rotation import rotate_key
from datastore.store import Datastore
from datastore.verification import scan, verify, verify_files
from datastore.writer import add

N_POINTS, N_MOMENTS = 14, 3


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


def _forgetful(path: Path, template: Path, answers) -> list:
    """What the store at ``path`` answers when its catalog is replaced by the one from before the opt-out."""
    copy = path.with_name("forgetful")
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns(f"{CATALOG}*"))
    shutil.copy(template / CATALOG, copy)
    store = Datastore.open(copy)
    answer = answers(store)
    store.close()
    return answer


def test_a_kill_during_an_opt_out_leaves_it_in_force_or_not_begun(
    make_store, documents, answers, states, leftovers, deaths, now
):
    old, new = make_store(documents), make_store(documents[:3] + documents[4:])
    before, after = answers(old), answers(new)
    assert old.catalog.checkpoint()
    old.close()
    outcomes = set()
    for case, path, told in deaths("opt_out", old.path):
        if told.get("receipt"):
            assert _forgetful(path, old.path, answers) == after, case
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
        if told.get("receipt"):
            assert _forgetful(path, old.path, answers) == after, case
        store = Datastore.open(path)
        is_out = store.n_entries == never.n_entries
        assert (store.n_entries, answers(store)) == ((never.n_entries, after) if is_out else (n_entries, before)), case
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


KILLED = {  # how many documents the store has, those removed from it beforehand, and those that are after the change
    "opt_out": (10, (), {3}),
    "add": (6, (), set()),
    "compact": (10, ("doc-1", "doc-7"), {1, 7}),
}


@pytest.mark.parametrize("n", [100, pytest.param(334, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
@pytest.mark.parametrize("action", KILLED)
def test_kills_at_random_moments_lose_no_acknowledged_change(
    make_store, documents, answers, leftovers, dying, tmp_path, now, action, n
):
    """Half at a random moment, half before a random system call, SQLite's and FAISS's among them."""
    n_before, gone_before, gone_after = KILLED[action]
    old = make_store(documents[:n_before])
    for name in gone_before:
        opt_out(old, name, now=now)
    before, after = answers(old), answers(make_store([d for i, d in enumerate(documents) if i not in gone_after]))
    old.close()

    def die(name: str, **how: object) -> tuple[Path, dict]:
        shutil.copytree(old.path, tmp_path / name / "store")
        return tmp_path / name / "store", dying(action, tmp_path / name / "store", **how)

    trace = str(tmp_path / "events.json")
    typical = sorted(die(f"whole-{i}", seconds=50)[1]["seconds"] for i in range(5))[2]
    n_calls = die("traced", trace=trace)[1]["traced"]
    assert n_calls > 20
    moments, outcomes, n_acknowledged = random.Random(n), Counter(), 0
    for i in range(n):
        how = {"seconds": max(1e-5, 1.2 * typical * moments.random())}
        if i % 2:
            how = {"trace": trace, "fail": moments.randint(1, n_calls + 1)}
        path, told = die(f"case-{i}", **how)
        store = Datastore.open(path)
        answer = answers(store)
        assert answer in (before, after), how
        if told.get("receipt"):
            n_acknowledged += 1
            assert (answer, opt_out(store, "doc-3", now=now)) == (after, receipt_from_json(told["receipt"])), how
        outcomes[answer == after] += 1
        if i % 10 == 0:
            if answer == before != after:
                add(store, documents[6:]) if action == "add" else opt_out(store, "doc-3", now=now)
            compact(store)
            assert (answers(store), leftovers(store)) == (after, []), how
            verify_files(store)
        store.close()
        shutil.rmtree(path.parent)
    assert action == "compact" or min(outcomes[False], outcomes[True]) >= n // 20, outcomes
    assert (n_acknowledged > 0) == (action == "opt_out")


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


def _holders(folder: Path, needle: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_a_kill_during_a_snapshot_leaves_a_whole_one_or_none_and_no_key_that_is_not_destroyed_later(
    make_store, documents, answers, leftovers, deaths, now
):
    old, without = make_store(documents[:5], documents[5:]), make_store(documents[:3] + documents[4:])
    before, after = answers(old), answers(without)
    old.close()
    outcomes = set()
    for case, path, _ in deaths("snapshot", old.path):
        home, snapshot, keys = path.parent, path.with_name("snapshot"), path.with_name("keys")
        store = Datastore.open(path)
        assert answers(store) == before, case
        outcomes.add(snapshot.exists())
        if snapshot.exists():
            shutil.copy(keys, home / "keys-then")
            restored = restore(snapshot, home / "then", keys=home / "keys-then", head=signed_head(store, now=now))
            assert answers(restored.store) == before, case
            restored.store.close()
            shutil.rmtree(home / "then")
            (home / "keys-then").unlink()
            snapshot = path.with_name("another")
        take_snapshot(store, snapshot, now=now, keys_copy=keys)
        own = Keyring(path / backup_keys.FILE_NAME, store.id)
        secrets = {name: key.secret for name, key in own.by_name().items() if key.kind == DOCUMENT}
        assert len(secrets) == 10 and all(len(_holders(home, secret)) == 2 for secret in secrets.values()), case
        opt_out(store, "doc-3", now=now)
        assert compact(store).unreached == (), case
        assert sorted(len(_holders(home, secret)) for secret in secrets.values()) == [0] + 9 * [2], case
        done = restore(snapshot, home / "restored", keys=keys, journal=path / "journal.jsonl")
        assert (answers(done.store), done.n_without_key, leftovers(store)) == (after, 1, []), case
        done.store.close()
        store.close()
    assert outcomes == {False, True}


def test_a_kill_during_a_restore_leaves_a_whole_store_or_none(
    make_store, documents, answers, leftovers, deaths, dying, tmp_path, now
):
    old, kept = make_store(documents[:5], documents[5:]), tmp_path / "kept"
    kept.mkdir()
    take_snapshot(old, kept / "snapshot", now=now, keys_copy=kept / "keys")
    receipt = opt_out(old, "doc-3", now=now)
    shutil.copy(old.path / "journal.jsonl", kept)
    expected = answers(old)
    old.close()
    outcomes = set()
    for case, path, _ in deaths("restore", kept):
        outcomes.add((path / "restored").exists())
        if not (path / "restored").exists():
            dying("restore", path)
        assert sorted(file.name for file in path.iterdir()) == ["journal.jsonl", "keys", "restored", "snapshot"], case
        store = Datastore.open(path / "restored")
        compact(store)
        assert (answers(store), leftovers(store)) == (expected, []), case
        verify(store, receipt, documents[3].text)
        assert backup_keys.n_keys(store.path, store.id, "doc-3") == 0, case
        store.close()
    assert outcomes == {False, True}


def test_a_kill_during_a_rotation_leaves_one_key_in_force_and_the_next_one_destroys_the_others(
    make_store, documents, leftovers, deaths, now
):
    old = make_store(documents)
    take_snapshot(old, old.path.with_name("first-snapshot"), now=now)
    receipt = opt_out(old, "doc-1", now=now)
    first = old.manifest.public_key
    old.close()
    outcomes = set()
    for case, path, _ in deaths("rotate", old.path):
        store = Datastore.open(path)
        outcomes.add(store.manifest.public_key == first)
        verify(store, receipt)
        later = opt_out(store, "doc-2", now=now)
        assert later.public_key == store.manifest.public_key, case
        compact(store)
        assert len(_holders(path, b"PRIVATE KEY")) == 1, case
        rotate_key(store, now=now)
        secret = store.signing_key().private_bytes_raw()
        assert (len(_holders(path, b"PRIVATE KEY")), len(_holders(path, secret))) == (1, 1), case
        assert leftovers(store) == [], case
        for given in (receipt, later):
            verify(store, given)
        store.close()
    assert outcomes == {False, True}


def test_a_kill_during_compaction_leaves_no_key_of_a_backup_that_the_next_one_does_not_destroy(
    make_store, documents, deaths, tmp_path, now
):
    old = make_store(documents[:5], documents[5:])
    take_snapshot(old, tmp_path / "snapshot", now=now)
    opt_out(old, "doc-1", now=now)
    assert backup_keys.n_keys(old.path, old.id, "doc-1") == 1
    old.close()
    outcomes = set()
    for case, path, _ in deaths("compact", old.path):
        store = Datastore.open(path)
        left = [backup_keys.n_keys(path, store.id, f"doc-{i}") for i in (1, 2)]
        outcomes.add(left[0])
        compact(store)
        assert left[1] == 1 and backup_keys.n_keys(path, store.id, "doc-1") == 0, case
        store.close()
    assert outcomes == {0, 1}


@pytest.fixture
def requested(make_store, documents, now):
    """A store with a request for one document, which is hidden if ``is_hidden``; closed, to be copied."""

    def make(is_hidden: bool) -> Path:
        store = make_store(documents)
        id_ = asked.open_request(store, "doc-3", key="k", now=now).id
        if is_hidden:
            asked.prove(store, id_, Possession(documents[3].text), now=now, requester="someone")
        assert store.catalog.checkpoint()
        store.close()
        return store.path

    return make


def test_a_kill_during_an_acceptance_neither_shows_it_early_nor_loses_it(
    make_store, documents, answers, states, requested, deaths, now
):
    after = answers(make_store(documents[:3] + documents[4:]))
    outcomes = set()
    for case, path, told in deaths("accepted", requested(is_hidden=True)):
        store = Datastore.open(path)
        (request,) = asked.requests(store)
        is_out = given_receipt(store, "doc-3") is not None
        assert (request.state is State.ACCEPTED) == is_out, case
        assert is_out or not told.get("receipt"), case
        assert (states(store)["doc-3"], answers(store)) == ("removed" if is_out else "hidden", after), case
        outcomes.add((bool(request.accepted_at), is_out))
        resumed = asked.resume(store, now=now)
        assert [one.state for one in resumed] == [State.ACCEPTED] * (bool(request.accepted_at) and not is_out), case
        assert asked.decide(store, request.id, State.ACCEPTED, now=now).state is State.ACCEPTED, case
        assert (states(store)["doc-3"], answers(store)) == ("removed", after), case
        store.close()
    assert outcomes == {(False, False), (True, False), (True, True)}, "before, between and after must all be met"


@pytest.mark.parametrize(("action", "start", "end"), [("hide", "live", "hidden"), ("rejected", "hidden", "live")])
def test_a_kill_while_a_document_is_hidden_or_given_back_leaves_request_and_document_of_one_mind(
    make_store, documents, answers, states, requested, deaths, action, start, end
):
    answer = {"live": answers(make_store(documents)), "hidden": answers(make_store(documents[:3] + documents[4:]))}
    shown = {"hide": (State.RECEIVED, State.PROVISIONAL), "rejected": (State.PROVISIONAL, State.REJECTED)}[action]
    outcomes = set()
    for case, path, _ in deaths(action, requested(is_hidden=start == "hidden")):
        store = Datastore.open(path)
        (request,) = asked.requests(store)
        state = states(store)["doc-3"]
        assert (state, request.state) in zip((start, end), shown, strict=True), case
        assert answers(store) == answer[state], case
        outcomes.add(state)
        store.close()
    assert outcomes == {start, end}
