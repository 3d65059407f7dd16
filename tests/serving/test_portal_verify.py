"""Checking a receipt in the page: what holds, what does not, and with which evidence."""

import json
from dataclasses import replace

import pytest

from datastore.optout import opt_out
from serving import create_app
from serving.portal import Portal
from serving.portal_verify import judge
from tests.serving.portal_visitor import Visitor


@pytest.fixture
def store(make_store, documents):
    return make_store(documents)


@pytest.fixture
def visitor(engine, store) -> Visitor:
    return Visitor(create_app(engine, portal=Portal(store)))


def _text(receipt) -> str:
    return json.dumps(receipt.to_json(), indent=2)


def test_a_good_receipt_holds_pasted_or_uploaded(visitor, store, now):
    receipt = opt_out(store, "doc-3", now=now)
    for sent in ({"receipt": _text(receipt)}, {"file": _text(receipt).encode()}):
        visitor.go("/verify")
        page = visitor.submit("/verify", **sent)
        assert visitor.status == 200
        assert "It holds" in page
        assert "signature, commitment and place in the log hold" in page
        assert f"none of its {receipt.n_entries} entries can be retrieved" in page


@pytest.mark.parametrize(
    ("change", "evidence"),
    [
        ({"n_entries": 1}, "signed"),
        ({"signature": "00" * 64}, "signed"),
        ({"document": "doc-1"}, ""),
        ({"format": "silo-receipt/0"}, "silo-receipt"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_changed_receipt_does_not(store, now, change, evidence):
    changed = opt_out(store, "doc-3", now=now).to_json() | change
    verdict = judge(store, json.dumps(changed))
    assert evidence in verdict.fault
    assert verdict.fault
    assert not verdict.found


def test_a_receipt_of_another_store_holds_by_itself_alone(store, make_store, documents, now):
    verdict = judge(store, _text(opt_out(make_store(documents), "doc-3", now=now)))
    assert len(verdict.found) == 1
    assert "is of store" in verdict.fault


def test_a_store_that_kept_the_document_is_found_out(store, now, monkeypatch):
    receipt = opt_out(store, "doc-3", now=now)
    live = replace(store.document("doc-3"), state="live")
    monkeypatch.setattr(store, "document", lambda _: live)
    assert "is live in the store's catalog" in judge(store, _text(receipt)).fault


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"format": 1}', "[" * 100_000, "\ud800", "NaN"])
def test_what_is_no_receipt_is_said_to_be_none(store, text):
    verdict = judge(store, text)
    assert verdict.receipt is None
    assert verdict.fault


def test_the_page_says_what_does_not_hold_and_asks_for_something_to_check(visitor, store, now):
    receipt = opt_out(store, "doc-3", now=now).to_json() | {"n_entries": 7}
    visitor.go("/verify")
    assert "It does not hold" in visitor.submit("/verify", receipt=json.dumps(receipt))
    assert visitor.status == 422
    visitor.submit("/verify", receipt=" ")
    assert visitor.status == 400


def test_the_page_says_how_to_check_without_it(visitor):
    assert "silo datastore verify receipt.json --head head.json --growth growth.json" in visitor.go("/verify")
