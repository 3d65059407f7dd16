"""Opt-out requests: the steps between their states, what they do to the store, and who may take them."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from datastore import requests as asked
from datastore.backups import take_snapshot
from datastore.compaction import compact
from datastore.errors import ProofRefused, QuotaExceeded, RequestConflict, UnknownDocument, UnknownRequest
from datastore.optout import given_receipt, opt_out
from datastore.ownership import SUBMITTER_KEY, KeyProof, Method, Possession
from datastore.passage_optout import remove_passages
from datastore.rationing import Quota
from datastore.request_states import NEXT, State, check_step
from datastore.request_tables import hides
from datastore.signing import public_hex
from datastore.store import Datastore

OWNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOOSE = Quota(1000, 1.0)


@pytest.fixture
def owned(documents) -> list:
    """The documents, each submitted with the owner's key and with words enough that nobody guesses them."""
    return [
        replace(
            d, facts=replace(d.facts, url="https://press.example.org/a", metadata={SUBMITTER_KEY: public_hex(OWNER)})
        )
        for d in documents
    ]


def prove_by_key(store: Datastore, id: str, now: datetime) -> asked.Request:  # noqa: A002
    given = asked.challenge(store, id, Method.KEY, now=now)
    return asked.prove(store, id, KeyProof(given.token, OWNER.sign(given.message).hex()), now=now)


def verified(store: Datastore, document: str, now: datetime, key: str = "") -> str:
    id_ = asked.open_request(store, document, key=key or document, now=now).id
    assert prove_by_key(store, id_, now).state is State.VERIFIED
    return id_


def hidden(store: Datastore, documents: list, i: int, now: datetime, key: str = "", requester: str = "someone") -> str:
    id_ = asked.open_request(store, f"doc-{i}", key=key or f"hide-{i}", now=now).id
    text = Possession(documents[i].text)
    asked.prove(store, id_, text, now=now, requester=requester, quota=LOOSE)
    return id_


def state_of(store: Datastore, document: str) -> str:
    return store.document(document).state


# --- the table of states


@given(st.lists(st.sampled_from(State)))
def test_no_walk_through_the_states_leaves_an_acceptance_or_takes_a_step_that_is_not_listed(wishes):
    after = (State.ACCEPTED, State.ERASED_LIVE, State.ERASED_BACKUPS)
    state = State.RECEIVED
    for wish in wishes:
        if wish in NEXT[state]:
            check_step(state, wish)
            assert state not in after or after.index(wish) == after.index(state) + 1
            state = wish
        else:
            with pytest.raises(RequestConflict, match=f"{state} cannot become {wish}"):
                check_step(state, wish)


def test_every_state_can_be_reached_and_only_a_decision_ends_in_acceptance():
    """The control: a table without steps would pass the walk."""
    reached, edge = {State.RECEIVED}, [State.RECEIVED]
    while edge:
        edge = [new for state in edge for new in NEXT[state] if new not in reached]
        reached.update(edge)
    assert reached == set(State)
    before = {state for state in State if State.ACCEPTED in NEXT[state]}
    assert before == {State.VERIFIED, State.PROVISIONAL, State.DISPUTED}


# --- from asking to erasure


def test_a_request_goes_from_asking_to_erasure_and_says_where_it_is(make_store, owned, now):
    store = make_store(owned)
    kept: set[str] = {"doc-3"}

    def look() -> State:
        return asked.request(store, id_, has_backups=kept.__contains__).state

    id_ = asked.open_request(store, "doc-3", key="k", now=now).id
    assert look() is State.RECEIVED
    given = asked.challenge(store, id_, Method.KEY, now=now)
    assert look() is State.CHALLENGED
    asked.prove(store, id_, KeyProof(given.token, OWNER.sign(given.message).hex()), now=now)
    assert (look(), state_of(store, "doc-3")) == (State.VERIFIED, "live")
    done = asked.decide(store, id_, State.ACCEPTED, now=now, note="seen")
    assert (done.state, done.method, done.note, done.accepted_at) == (State.ACCEPTED, "key", "seen", now.isoformat())
    assert (state_of(store, "doc-3"), store.live_entries("doc-3")) == ("removed", 0)
    assert given_receipt(store, "doc-3") == opt_out(store, "doc-3", now=now)
    compact(store)
    assert look() is State.ERASED_LIVE
    kept.clear()
    assert look() is State.ERASED_BACKUPS
    assert asked.request(store, id_).state is State.ERASED_BACKUPS, "there never was a backup"
    store.close()
    assert asked.request(Datastore.open(store.path), id_, lambda _: False).state is State.ERASED_BACKUPS


def test_what_the_keys_of_backups_say_is_the_last_step(make_store, owned, tmp_path, now):
    store, keys = make_store(owned), tmp_path / "keys"
    take_snapshot(store, tmp_path / "snapshot", now=now, keys_copy=keys)
    id_ = asked.open_request(store, "doc-3", key="k", now=now).id
    given = asked.challenge(store, id_, Method.KEY, now=now)
    asked.prove(store, id_, KeyProof(given.token, OWNER.sign(given.message).hex()), now=now)
    asked.decide(store, id_, State.ACCEPTED, now=now)
    keys.rename(tmp_path / "unplugged")
    compact(store)
    assert asked.request(store, id_).state is State.ERASED_LIVE, "a copy of the keys is out of reach"
    (tmp_path / "unplugged").rename(keys)
    assert [one.state for one in asked.requests(store)] == [State.ERASED_LIVE], "the key is in that copy"
    compact(store)
    assert [one.state for one in asked.requests(store, State.ERASED_BACKUPS)] == [State.ERASED_BACKUPS]
    assert asked.request(store, id_).state is State.ERASED_BACKUPS


def test_a_request_is_not_accepted_by_a_removal_of_passages(make_store, owned, now):
    store = make_store(owned)
    id_ = asked.open_request(store, "doc-3", key="k", now=now).id
    given = asked.challenge(store, id_, Method.KEY, now=now)
    asked.prove(store, id_, KeyProof(given.token, OWNER.sign(given.message).hex()), now=now)
    remove_passages(store, "doc-3", [(1, 3)], now=now)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(TypeError):
        patched.setattr(asked, "opt_out", None)
        asked.decide(store, id_, State.ACCEPTED, now=now)
    assert asked.request(store, id_).state is State.VERIFIED
    assert [one.state for one in asked.resume(store, now=now)] == [State.ACCEPTED]
    assert state_of(store, "doc-3") == "removed"


def test_requests_are_listed_in_order_and_by_the_state_that_they_show(make_store, owned, now):
    store = make_store(owned)
    ids = [asked.open_request(store, f"doc-{i}", key=str(i), now=now).id for i in (4, 2, 7)]
    prove_by_key(store, ids[1], now)
    asked.decide(store, ids[1], State.ACCEPTED, now=now)
    assert [one.id for one in asked.requests(store)] == ids
    assert [one.id for one in asked.requests(store, State.RECEIVED)] == [ids[0], ids[2]]
    assert [one.document for one in asked.requests(store, State.ACCEPTED)] == ["doc-2"]


def test_one_idempotency_key_opens_one_request(make_store, owned, now):
    store = make_store(owned)
    first = asked.open_request(store, "doc-1", key="k", now=now)
    assert asked.open_request(store, "doc-1", key="k", now=now + timedelta(days=1)) == first
    assert asked.open_request(store, "doc-1", key="another", now=now).id != first.id
    with pytest.raises(RequestConflict, match="another document"):
        asked.open_request(store, "doc-2", key="k", now=now)
    for key in ("", "k" * 513):
        with pytest.raises(RequestConflict, match="1 to 512"):
            asked.open_request(store, "doc-2", key=key, now=now)
    assert len(asked.requests(store)) == 2


def test_what_was_never_there_is_said_so(make_store, owned, now):
    store = make_store(owned)
    with pytest.raises(UnknownDocument):
        asked.open_request(store, "doc-99", key="k", now=now)
    for ask in (
        lambda: asked.request(store, "0" * 32),
        lambda: asked.challenge(store, "0" * 32, Method.KEY, now=now),
        lambda: asked.decide(store, "0" * 32, State.REJECTED, now=now),
        lambda: asked.decide(store, "0" * 32, State.ACCEPTED, now=now),
    ):
        with pytest.raises(UnknownRequest):
            ask()


def test_nothing_is_decided_before_ownership_is_shown_nor_after_a_decision(make_store, owned, now):
    store = make_store(owned)
    id_ = asked.open_request(store, "doc-1", key="k", now=now).id
    for decision in (State.ACCEPTED, State.DISPUTED, State.VERIFIED, State.ERASED_LIVE):
        with pytest.raises(RequestConflict):
            asked.decide(store, id_, decision, now=now)
    prove_by_key(store, id_, now)
    asked.decide(store, id_, State.DISPUTED, now=now)
    asked.decide(store, id_, State.REJECTED, now=now)
    for decision in (State.ACCEPTED, State.REJECTED):
        with pytest.raises(RequestConflict):
            asked.decide(store, id_, decision, now=now)
    assert state_of(store, "doc-1") == "live"
    other = verified(store, "doc-1", now, key="again")
    accepted = asked.decide(store, other, State.ACCEPTED, now=now)
    assert asked.decide(store, other, State.ACCEPTED, now=now + timedelta(hours=1)) == accepted
    for decision in (State.REJECTED, State.DISPUTED):
        with pytest.raises(RequestConflict):
            asked.decide(store, other, decision, now=now)
    with pytest.raises(RequestConflict):
        asked.challenge(store, other, Method.KEY, now=now)
    assert (asked.request(store, other), state_of(store, "doc-1")) == (accepted, "removed")


def test_what_asks_and_what_is_challenged_moves_no_epoch(make_store, owned, now):
    store = make_store(owned)
    before = store.epoch
    id_ = verified(store, "doc-1", now)
    asked.decide(store, id_, State.DISPUTED, now=now)
    assert store.epoch == before
    asked.decide(store, id_, State.ACCEPTED, now=now)
    assert store.epoch == before + 1, "the control"


# --- hidden while reviewed


def test_a_hidden_document_answers_as_if_it_had_never_been_there_and_comes_back_whole(make_store, owned, answers, now):
    store, never = make_store(owned[:5], owned[5:]), make_store(owned[:3] + owned[4:])
    other = Datastore.open(store.path)
    before, without = answers(store), answers(never)
    contexts = [owned[3].tokens[:n].tolist() for n in range(1, 8)]

    def grams(one: Datastore) -> tuple:
        found = one.continuations(contexts)
        return tuple(a.tobytes() for a in (found.lengths, found.counts, found.tokens, found.token_counts))

    grams_before, grams_without = grams(store), grams(never)
    assert before != without and grams_before != grams_without, "the control"
    id_ = hidden(store, owned, 3, now)
    for one in (store, other, Datastore.open(store.path)):
        assert (answers(one), grams(one), one.live_entries("doc-3")) == (without, grams_without, 0)
    assert (asked.request(store, id_).state, state_of(store, "doc-3")) == (State.PROVISIONAL, "hidden")
    with pytest.raises(UnknownDocument):
        store.sentence_text("doc-3", 0)
    compact(store)
    for one in (store, other):
        assert (answers(one), grams(one)) == (without, grams_without)
    asked.decide(store, id_, State.REJECTED, now=now)
    for one in (store, other, Datastore.open(store.path)):
        assert (answers(one), grams(one), state_of(one, "doc-3")) == (before, grams_before, "live")
    assert store.sentence_text("doc-3", 0) == owned[3].text[: owned[3].sentences[0, 1]]


def test_a_reader_that_slept_through_hiding_and_release_knows_both(make_store, owned, answers, now):
    store = make_store(owned)
    before = answers(sleeper := Datastore.open(store.path))
    id_ = hidden(store, owned, 3, now)
    asked.decide(store, id_, State.REJECTED, now=now)
    hidden(store, owned, 5, now)
    assert answers(sleeper) == answers(make_store(owned[:5] + owned[6:])) != before


def test_an_appeal_puts_a_rejected_request_before_a_reviewer_and_hides_nothing_again(make_store, owned, now):
    store = make_store(owned)
    id_ = hidden(store, owned, 3, now)
    asked.decide(store, id_, State.REJECTED, now=now, note="not yours")
    appealed = asked.decide(store, id_, State.DISPUTED, now=now, note="it is")
    assert (appealed.state, appealed.note, state_of(store, "doc-3")) == (State.DISPUTED, "it is", "live")
    with pytest.raises(RequestConflict, match="cannot hide it again"):
        hidden(store, owned, 3, now, key="meanwhile")
    assert asked.decide(store, id_, State.ACCEPTED, now=now).state is State.ACCEPTED
    assert state_of(store, "doc-3") == "removed"


def test_compaction_erases_what_was_opted_out_and_nothing_that_is_hidden(make_store, owned, files_of, now):
    store = make_store(owned)
    hidden(store, owned, 3, now)
    opt_out(store, "doc-5", now=now)
    assert compact(store).n_erased == 1
    assert (state_of(store, "doc-3"), state_of(store, "doc-5")) == ("hidden", "erased")
    assert store.stored_text("doc-3") == owned[3].text
    assert files_of(store) == files_of(make_store(owned[:5] + owned[6:]))


@pytest.fixture
def files_of() -> Callable[[Datastore], list]:
    def look(store: Datastore) -> list:
        folders = sorted((store.path / "segments").iterdir())
        return [{f.name: f.read_bytes() for f in sorted(folder.iterdir())} for folder in folders]

    return look


def test_a_hidden_document_that_is_accepted_is_out_for_good(make_store, owned, answers, now):
    store = make_store(owned)
    first = hidden(store, owned, 3, now)
    second = hidden(store, owned, 3, now, key="another")
    asked.decide(store, first, State.ACCEPTED, now=now)
    asked.decide(store, second, State.REJECTED, now=now)
    assert state_of(store, "doc-3") == "removed"
    compact(store)
    assert answers(store) == answers(make_store(owned[:3] + owned[4:]))


def test_a_document_stays_hidden_for_as_long_as_one_request_asks_it(make_store, owned, now):
    store = make_store(owned)
    ids = [hidden(store, owned, 3, now, key=str(n)) for n in range(3)]
    for id_ in ids[:2]:
        asked.decide(store, id_, State.REJECTED, now=now)
        assert state_of(store, "doc-3") == "hidden"
    asked.decide(store, ids[2], State.REJECTED, now=now)
    assert state_of(store, "doc-3") == "live"


def test_an_operators_opt_out_takes_a_hidden_document_out(make_store, owned, now):
    store = make_store(owned)
    id_ = hidden(store, owned, 3, now)
    opt_out(store, "doc-3", now=now)
    asked.decide(store, id_, State.REJECTED, now=now)
    assert (state_of(store, "doc-3"), store.live_entries("doc-3")) == ("removed", 0)


def test_what_a_reviewer_gave_back_is_not_hidden_again_on_its_text_alone(make_store, owned, now):
    store = make_store(owned)
    asked.decide(store, hidden(store, owned, 3, now), State.REJECTED, now=now)
    with pytest.raises(RequestConflict, match="gave this document back"):
        hidden(store, owned, 3, now, key="again")
    assert asked.decide(store, verified(store, "doc-3", now), State.ACCEPTED, now=now).state is State.ACCEPTED


def test_hiding_is_rationed_by_requester_and_day(make_store, owned, now):
    store = make_store(owned)
    quota = Quota(3, 1.0)
    ids = [asked.open_request(store, f"doc-{i}", key=str(i), now=now).id for i in range(6)]

    def hide(i: int, requester: str, when: datetime = now, text: str | None = None) -> None:
        proof = Possession(owned[i].text if text is None else text)
        asked.prove(store, ids[i], proof, now=when, requester=requester, quota=quota)

    with pytest.raises(ProofRefused):
        hide(0, "a", text="a guess of no use to anyone who makes it")
    hide(0, "a")
    hide(1, "a")
    with pytest.raises(QuotaExceeded, match="3 documents"):
        hide(2, "a")
    hide(2, "b")
    hide(3, "a", now + timedelta(days=1))
    with pytest.raises(QuotaExceeded, match="name one"):
        hide(4, "")
    hidden_now = [i for i in range(6) if state_of(store, f"doc-{i}") == "hidden"]
    assert hidden_now == [0, 1, 2, 3]


def test_only_a_share_of_the_store_is_hidden_on_texts_alone(make_store, owned, now):
    store = make_store(owned)
    quota = Quota(1000, 0.2)
    ids = [asked.open_request(store, f"doc-{i}", key=str(i), now=now).id for i in range(10)]
    done = []
    for i, id_ in enumerate(ids):
        try:
            asked.prove(store, id_, Possession(owned[i].text), now=now, requester=str(i), quota=quota)
            done.append(len(owned[i].tokens))
        except QuotaExceeded:
            assert asked.request(store, id_).state is State.RECEIVED
    assert 0.1 < sum(done) / sum(len(d.tokens) for d in owned) <= 0.2
    tight = make_store(owned)
    id_ = asked.open_request(tight, "doc-9", key="k", now=now).id
    first = asked.prove(tight, id_, Possession(owned[9].text), now=now, requester="a", quota=Quota(1, 0.0))
    assert first.state is State.PROVISIONAL, "one may always be hidden"


def test_no_requester_is_on_disk_beyond_a_salted_hash_that_the_next_day_overwrites(make_store, owned, now):
    store = make_store(owned)
    hidden(store, owned, 3, now, key="key-of-a-client", requester="someone@a-host")
    with store.catalog.read() as connection:
        today = {row.requester for row in connection.execute(select(hides))}
    assert len(today) == 2
    hidden(store, owned, 4, now + timedelta(days=1), requester="someone@a-host")
    with store.catalog.read() as connection:
        tomorrow = {row.requester for row in connection.execute(select(hides))}
    assert today & tomorrow == {""}
    assert store.catalog.checkpoint()
    on_disk = b"".join(path.read_bytes() for path in store.path.rglob("*") if path.is_file())
    assert b"doc-3" in on_disk, "the control"
    for secret in (b"someone@a-host", b"key-of-a-client", *(name.encode() for name in today - {""})):
        assert secret not in on_disk


# --- two at once, and crashes


def both(*calls: Callable[[], object]) -> list:
    """What each of ``calls`` returns or raises, made at the same moment."""
    gate, results = threading.Barrier(len(calls)), {}

    def run(i: int) -> None:
        gate.wait()
        try:
            results[i] = calls[i]()
        except RequestConflict as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[i] for i in range(len(calls))]


@pytest.mark.parametrize("by", ["key", "text"])
def test_of_two_decisions_at_once_one_is_made_and_the_other_is_told(make_store, owned, now, by):
    store = make_store(owned)
    winners = []
    for i in range(10):
        id_ = verified(store, f"doc-{i}", now) if by == "key" else hidden(store, owned, i, now)
        stores = [Datastore.open(store.path) for _ in range(2)]
        wishes = (State.ACCEPTED, State.REJECTED)
        calls = [
            lambda one=one, wish=wish, id_=id_: asked.decide(one, id_, wish, now=now)
            for one, wish in zip(stores, wishes, strict=True)
        ]
        results = both(*(calls if i % 2 else calls[::-1]))
        made = [result for result in results if not isinstance(result, RequestConflict)]
        assert len(made) == 1
        end = asked.request(store, id_)
        assert made[0] == end
        assert state_of(store, f"doc-{i}") == {State.ACCEPTED: "removed", State.REJECTED: "live"}[end.state]
        winners.append(end.state)
        for one in stores:
            one.close()
    assert set(winners) <= set(wishes)


def test_an_acceptance_that_a_crash_came_between_is_not_shown_and_not_lost(make_store, owned, now, monkeypatch):
    store = make_store(owned)
    ids = [verified(store, "doc-3", now), hidden(store, owned, 4, now)]
    with monkeypatch.context() as patched:
        patched.setattr(asked, "opt_out", SimpleNamespace(side_effect=None))
        for id_ in ids:
            with pytest.raises(TypeError):  # it is no function: the process ends before the document is out
                asked.decide(store, id_, State.ACCEPTED, now=now)
    store.close()
    store = Datastore.open(store.path)
    waiting = [asked.request(store, id_) for id_ in ids]
    assert [one.state for one in waiting] == [State.VERIFIED, State.PROVISIONAL]
    assert [one.accepted_at for one in waiting] == [now.isoformat()] * 2
    assert [state_of(store, f"doc-{i}") for i in (3, 4)] == ["live", "hidden"]
    for id_ in ids:
        for decision in (State.REJECTED, State.DISPUTED):
            with pytest.raises(RequestConflict):
                asked.decide(store, id_, decision, now=now)
    assert [one.id for one in asked.resume(store, now=now)] == ids
    assert [asked.request(store, id_).state for id_ in ids] == [State.ACCEPTED] * 2
    assert [state_of(store, f"doc-{i}") for i in (3, 4)] == ["removed"] * 2
    assert asked.resume(store, now=now) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "challenge", "key", "text", "accept", "reject", "dispute", "opt out", "compact"]),
        st.integers(0, 2),
    ),
    max_size=14,
)


@given(STEPS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_in_whatever_order_the_states_of_requests_and_documents_agree(make_store, owned, now, steps):
    store = make_store(owned[:3])
    ids: list[str] = []
    seen: dict[str, State] = {}
    decisions = {"accept": State.ACCEPTED, "reject": State.REJECTED, "dispute": State.DISPUTED}
    for number, (step, i) in enumerate(steps):
        id_ = ids[i % len(ids)] if ids else None
        try:
            if step == "open":
                ids.append(asked.open_request(store, f"doc-{i}", key=str(number), now=now).id)
            elif step == "opt out":
                opt_out(store, f"doc-{i}", now=now)
            elif step == "compact":
                compact(store)
            elif id_ is None:
                continue
            elif step == "challenge":
                asked.challenge(store, id_, Method.KEY, now=now)
            elif step == "key":
                prove_by_key(store, id_, now)
            elif step == "text":
                text = owned[int(asked.request(store, id_).document[-1])].text
                asked.prove(store, id_, Possession(text), now=now, requester="a", quota=LOOSE)
            else:
                asked.decide(store, id_, decisions[step], now=now)
        except (RequestConflict, ProofRefused):
            pass
        found = {one.id: one for one in asked.requests(store)}
        for one in found.values():
            assert one.state is seen.get(one.id, State.RECEIVED) or _is_path(seen.get(one.id), one.state), one
        seen = {name: one.state for name, one in found.items()}
        for n in range(3):
            mine = [one.state for one in found.values() if one.document == f"doc-{n}"]
            state = state_of(store, f"doc-{n}")
            assert (state == "hidden") == (State.PROVISIONAL in mine and given_receipt(store, f"doc-{n}") is None)
            assert state in ("removed", "erased") or State.ACCEPTED not in mine
            assert json.dumps([state, store.live_entries(f"doc-{n}") > 0]) in (
                '["live", true]', '["hidden", false]', '["removed", false]', '["erased", false]'
            )  # fmt: skip


def _is_path(start: State | None, end: State) -> bool:
    """Whether listed steps lead from ``start`` to ``end``."""
    reached = {start or State.RECEIVED}
    for _ in State:
        reached |= {new for state in reached for new in NEXT[state]}
    return end in reached
