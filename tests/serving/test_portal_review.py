"""The reviewer's pages: who may see them, and what a decision does."""

import time

import pytest

from datastore import requests as asked
from datastore.ownership import Possession
from datastore.request_states import State
from serving import create_app
from serving.errors import BadReviewerToken
from serving.portal import Portal
from serving.portal_review import LIFETIME_S, is_session, read_token, session
from tests.serving.portal_visitor import TOKEN, Visitor, owned


@pytest.fixture
def store(make_store, documents):
    return make_store([owned(document) for document in documents])


@pytest.fixture
def case(store, documents, now) -> str:
    id_ = asked.open_request(store, "doc-4", key="k", now=now).id
    asked.prove(store, id_, Possession(documents[4].text), now=now, requester="someone", quota=asked.Quota(9, 1.0))
    return id_


@pytest.fixture
def app(engine, store):
    return create_app(engine, portal=Portal(store, None, TOKEN))


@pytest.fixture
def reviewer(app) -> Visitor:
    visitor = Visitor(app)
    visitor.go("/review")
    visitor.submit("/review/sign-in", token=TOKEN)
    return visitor


def test_without_a_token_there_are_no_pages(engine, store, case):
    visitor = Visitor(create_app(engine, portal=Portal(store)))
    assert "For reviewers" not in visitor.go("/")
    for path in ("/review", f"/review/{case}", "/review/sign-in"):
        visitor.go(path)
        assert visitor.status == 404


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä" * 40])
def test_another_token_opens_nothing(app, case, token):
    visitor = Visitor(app)
    visitor.go("/review")
    visitor.submit("/review/sign-in", token=token)
    assert visitor.status == 403
    visitor.go(f"/review/{case}")
    assert "Reviewer’s token" in visitor.page
    assert case not in visitor.page.replace(visitor.at, "")


def test_whoever_is_not_signed_in_decides_nothing(app, reviewer, store, case):
    stranger = Visitor(app)
    reviewer.go(f"/review/{case}")
    stranger.go("/owners")
    stranger.page, own = reviewer.page, stranger.page
    token = own.split('name="form_token" value="')[1].split('"')[0]
    stranger.submit(f"/review/{case}", decision="accepted", note="mine", form_token=token)
    assert stranger.status == 403
    assert asked.request(store, case).state is State.PROVISIONAL


def test_an_accepted_case_is_out_and_a_rejected_one_is_back(reviewer, store, case):
    assert "A title" in reviewer.go("/review")
    reviewer.go(f"/review/{case}")
    reviewer.submit(f"/review/{case}", decision="rejected", note="It is <b>free</b>.")
    assert "Nothing waits" in reviewer.page
    known = asked.request(store, case)
    assert (known.state, known.note) == (State.REJECTED, "It is <b>free</b>.")
    assert store.document("doc-4").state == "live"


def test_accepting_takes_it_out(reviewer, store, case):
    reviewer.go(f"/review/{case}")
    reviewer.submit(f"/review/{case}", decision="accepted", note="Theirs.")
    assert asked.request(store, case).state is State.ACCEPTED
    assert store.live_entries("doc-4") == 0


@pytest.mark.parametrize(
    ("decision", "note", "status"),
    [("accepted", " ", 409), ("disputed", "x", 400), ("", "x", 400), ("erased_live", "x", 400)],
)
def test_a_decision_is_one_of_two_and_has_a_reason(reviewer, store, case, decision, note, status):
    reviewer.go(f"/review/{case}")
    reviewer.submit(f"/review/{case}", decision=decision, note=note)
    assert (reviewer.status, asked.request(store, case).state) == (status, State.PROVISIONAL)


def test_of_two_reviewers_the_second_is_told(reviewer, store, case, now):
    reviewer.go(f"/review/{case}")
    asked.decide(store, case, State.ACCEPTED, now=now)
    assert "is accepted by now" in reviewer.submit(f"/review/{case}", decision="rejected", note="No.")
    assert asked.request(store, case).state is State.ACCEPTED


def test_an_unknown_case_is_not_found(reviewer):
    reviewer.go("/review/" + "0" * 32)
    assert reviewer.status == 404


def test_signing_out_ends_it(reviewer, case):
    reviewer.go("/review")
    reviewer.submit("/review/sign-out")
    assert "Reviewer’s token" in reviewer.go("/review")


def test_the_cookie_is_strict_and_tells_no_token(reviewer):
    cookie = reviewer.web.get_cookie("silo-reviewer")
    assert cookie.http_only
    assert cookie.same_site == "Strict"
    assert TOKEN not in cookie.value


def test_a_session_ends_and_is_of_one_token():
    now = time.time()
    cookie = session(TOKEN, int(now) + LIFETIME_S)
    assert is_session(TOKEN, cookie, now=now)
    assert not is_session(TOKEN, cookie, now=now + LIFETIME_S + 1)
    assert not is_session(TOKEN + "x", cookie, now=now)
    later = cookie.replace(cookie.split(".")[0], str(int(now) + 9 * LIFETIME_S))
    for bad in (later, "", ".", "٣.x", "9" * 20 + ".x", cookie[:-1], cookie + "\ud800"):
        assert not is_session(TOKEN, bad, now=now)


def test_a_token_is_read_from_a_file_and_is_long(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token(path) == TOKEN
    path.write_text("short")
    with pytest.raises(BadReviewerToken, match=r"at least 32 characters; .* has 5.*Make one with"):
        read_token(path)
    with pytest.raises(BadReviewerToken, match="cannot be read"):
        read_token(tmp_path / "none")
