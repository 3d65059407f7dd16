"""Receipts: one spelling, one signature, and nothing that can be changed unnoticed."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.errors import VerificationFailed
from datastore.files import canonical_json
from datastore.heads import TreeHead
from datastore.log import edge_after
from datastore.optout import opt_out
from datastore.receipts import Receipt, check_receipt, commit, parse_receipt, receipt_from_json, sign_receipt
from datastore.signing import public_hex

GOLDEN = Path(__file__).parents[1] / "golden" / "receipt.json"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FACTS = {
    "store": "0123456789abcdef" * 2,
    "document": "novels/Müller „Ein Tag“",
    "digest": "ab" * 32,
    "n_entries": 1234,
    "accepted_at": "2026-01-01T12:00:00+00:00",
    "epoch": 7,
}
LOG = [f"{leaf:064x}" for leaf in (1, 2, 3, 4, 5)]


def grown(log: list[str]) -> tuple[list[bytes], int]:
    edge: list[bytes] = []
    for size, leaf in enumerate(log):
        edge = edge_after(edge, size, bytes.fromhex(leaf))
    return edge, len(log)


@pytest.fixture
def receipt() -> Receipt:
    return sign_receipt(FACTS, "5a" * 32, KEY, *grown(LOG))


def test_the_golden_receipt_is_the_one_that_this_code_signs(receipt):
    """With ``SILO_GOLDEN=write`` it is written anew, to be read as a diff."""
    text = json.dumps(receipt.to_json(), indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("SILO_GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == text
    check_receipt(parse_receipt(GOLDEN.read_bytes()))


def test_a_receipt_is_read_back_as_it_was_whatever_the_layout_of_its_json(receipt):
    for layout in ({}, {"indent": 4}, {"sort_keys": True}, {"ensure_ascii": False}):
        assert parse_receipt(json.dumps(receipt.to_json(), **layout).encode()) == receipt


def _other(value: object) -> object:
    if isinstance(value, tuple):
        return [*value, "00" * 32]
    if isinstance(value, TreeHead):
        return value.to_json() | {"timestamp": "2027-01-01T12:00:00+00:00"}
    return value + 1 if isinstance(value, int) else value[:-1] + ("0" if value[-1:] != "0" else "1")


FIELDS = [field.name for field in dataclasses.fields(Receipt)]


@pytest.mark.parametrize("name", FIELDS)
def test_a_change_is_noticed_in(receipt, name):
    check_receipt(receipt)
    forged = receipt.to_json() | {name: _other(getattr(receipt, name))}
    with pytest.raises(VerificationFailed):
        check_receipt(receipt_from_json(forged))


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_change_of_any_one_character_is_noticed(data):
    whole = sign_receipt(FACTS, "5a" * 32, KEY, *grown(LOG))
    name = data.draw(st.sampled_from([field for field in FIELDS if isinstance(getattr(whole, field), str)]))
    value = getattr(whole, name)
    at = data.draw(st.integers(0, len(value)))
    any_character = st.characters(categories=["L", "N", "P", "Zs"])
    character = data.draw(any_character | st.sampled_from([value[at - 1].upper(), ""]))
    changed = value[:at] + character + value[at + data.draw(st.integers(0, 1)) :]
    if changed == value:
        return
    with pytest.raises(VerificationFailed):
        check_receipt(receipt_from_json(whole.to_json() | {name: changed}))


def test_a_commitment_that_is_not_the_document_s_is_refused_even_when_it_is_signed(receipt):
    wrong = dataclasses.replace(receipt, commitment=commit("00" * 32, receipt.document, receipt.digest), signature="")
    facts = wrong.to_json()
    del facts["signature"]
    signed = dataclasses.replace(wrong, signature=KEY.sign(canonical_json(facts)).hex())
    with pytest.raises(VerificationFailed, match="commitment"):
        check_receipt(signed)


def test_a_receipt_signed_by_another_key_names_that_key_and_says_so(receipt):
    other = sign_receipt(FACTS, "5a" * 32, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    check_receipt(other)
    assert other.public_key != public_hex(KEY)
    with pytest.raises(VerificationFailed, match="signed by another store"):
        check_receipt(dataclasses.replace(other, public_key=receipt.public_key))


def test_the_commitment_hides_the_document_and_the_salt_is_fresh(make_store, documents, now):
    store = make_store(documents)
    one, other = (opt_out(store, name, now=now) for name in ("doc-1", "doc-2"))
    assert len({one.salt, other.salt}) == 2 and len(bytes.fromhex(one.salt)) == 32
    assert one.commitment != commit("", one.document, one.digest)
    assert one.commitment == commit(one.salt, one.document, one.digest)


ILL = {
    "a list": lambda r: [r],
    "nothing": lambda r: None,
    "a number": lambda r: 1,
    "no format": lambda r: {k: v for k, v in r.items() if k != "format"},
    "a format to come": lambda r: r | {"format": "silo-receipt/3"},
    "no salt": lambda r: {k: v for k, v in r.items() if k != "salt"},
    "one field more": lambda r: r | {"note": "also delete the others"},
    "a number for text": lambda r: r | {"document": 5},
    "text for a number": lambda r: r | {"epoch": "7"},
    "a truth for a number": lambda r: r | {"epoch": True},
    "a fraction for a number": lambda r: r | {"n_entries": 1234.0},
    "no number": lambda r: r | {"n_entries": float("nan")},
    "an endless number": lambda r: r | {"epoch": float("inf")},
    "null": lambda r: r | {"signature": None},
    "half a character": lambda r: r | {"document": "\ud800"},
    "no head": lambda r: r | {"head": None},
    "a list for a head": lambda r: r | {"head": [r["head"]]},
    "a text for a proof": lambda r: r | {"proof": r["proof"][0]},
    "a number in the proof": lambda r: r | {"proof": [1]},
    "half a hash in the proof": lambda r: r | {"proof": [r["proof"][0][:32]]},
    "an upper-case hash in the proof": lambda r: r | {"proof": [r["proof"][0].upper()]},
}


@pytest.mark.parametrize("spoil", ILL.values(), ids=ILL.keys())
def test_a_receipt_is_refused_that_is_or_has(receipt, spoil):
    value = spoil(receipt.to_json())
    for read in (receipt_from_json, lambda v: parse_receipt(json.dumps(v).encode())):
        with pytest.raises(VerificationFailed, match="receipt"):
            read(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"receipt", b"{}"], ids=str)
def test_bytes_that_are_no_receipt_are_refused_in_words(data):
    with pytest.raises(VerificationFailed, match="a receipt is a JSON object"):
        parse_receipt(data)


SIGNATURES = {
    "upper case": str.upper,
    "spaces": lambda s: s[:2] + " " + s[2:],
    "nothing": lambda s: "",
    "no hex": lambda s: "x" * len(s),
    "half of it": lambda s: s[:64],
    "a byte more": lambda s: s + "00",
    "a group order more": lambda s: s[:64] + _plus_order(s[64:]),
}


def _plus_order(half: str) -> str:
    """The same scalar modulo the order of the group: a signature that careless verifiers accept."""
    order = 2**252 + 27742317777372353535851937790883648493
    return (int.from_bytes(bytes.fromhex(half), "little") + order).to_bytes(32, "little").hex()


@pytest.mark.parametrize("respell", SIGNATURES.values(), ids=SIGNATURES.keys())
def test_a_signature_has_one_spelling_and_is_not_accepted_with(receipt, respell):
    with pytest.raises(VerificationFailed, match="was edited, torn"):
        check_receipt(dataclasses.replace(receipt, signature=respell(receipt.signature)))
