"""The public log on its page: every proof that it gives is checked by somebody else's rules."""

import json

import pytest
from typer.testing import CliRunner

from datastore.heads import check_head, head_from_json
from datastore.key_chain import chain_from_json, check_chain
from datastore.log import check_consistency, check_inclusion
from datastore.optout import opt_out
from serving import create_app
from serving.portal import Portal
from silo.cli import build_app


@pytest.fixture
def store(make_store, documents, now):
    store = make_store(documents)
    store.receipts = [opt_out(store, f"doc-{i}", now=now) for i in range(5)]
    return store


@pytest.fixture
def web(engine, store):
    return create_app(engine, portal=Portal(store)).test_client()


def test_the_head_is_signed_and_of_the_log(web, store):
    head = head_from_json(web.get("/transparency/head.json").json)
    check_head(head)
    assert (head.size, head.root) == (5, store.receipts[-1].head.root)
    assert head.root in web.get("/transparency").text


def test_every_leaf_has_a_proof_in_every_log_since(web, store):
    for receipt in store.receipts:
        for size in range(receipt.leaf_index + 1, 6):
            for leaf in (receipt.leaf_index, receipt.commitment):
                shown = web.get(f"/transparency/inclusion.json?leaf={leaf}&size={size}").json
                assert shown["leaf"] == receipt.commitment
                proof = [bytes.fromhex(node) for node in shown["proof"]]
                root = bytes.fromhex(store.receipts[size - 1].head.root)
                check_inclusion(bytes.fromhex(shown["leaf"]), shown["leaf_index"], size, proof, root)


def test_every_log_grew_from_every_earlier_one(web, store):
    for old in range(1, 6):
        for new in range(old, 6):
            shown = web.get(f"/transparency/growth.json?old={old}&new={new}").json
            roots = [bytes.fromhex(store.receipts[size - 1].head.root) for size in (old, new)]
            assert [shown["old_root"], shown["new_root"]] == [root.hex() for root in roots]
            check_consistency(old, new, [bytes.fromhex(node) for node in shown["proof"]], *roots)


def test_head_and_growth_are_what_the_offline_verifier_reads(web, store, tmp_path):
    receipt = store.receipts[1]
    (tmp_path / "receipt.json").write_text(json.dumps(receipt.to_json()))
    (tmp_path / "head.json").write_text(web.get("/transparency/head.json").text)
    (tmp_path / "growth.json").write_text(web.get(f"/transparency/growth.json?old={receipt.head.size}&bare=1").text)
    command = ["datastore", "verify", *(str(tmp_path / name) for name in ("receipt.json",))]
    command += ["--head", str(tmp_path / "head.json"), "--growth", str(tmp_path / "growth.json")]
    ran = CliRunner().invoke(build_app(), command)
    assert ran.exit_code == 0, ran.output
    assert "it is leaf 1 of the log of 5" in ran.output


def test_the_keys_are_a_chain(web, store):
    chain = chain_from_json(web.get("/transparency/keys.json").json)
    check_chain(chain)
    assert chain.keys[-1] == store.manifest.public_key


def test_the_counts_are_those_of_the_store_and_name_nobody(web, store):
    counts = web.get("/transparency/counts.json").json
    assert counts["documents"] == {"live": 5, "hidden": 0, "removed": 5, "erased": 0}
    assert sum(counts["requests"].values()) == 0
    page = web.get("/transparency").text
    assert not any(receipt.document in page or receipt.digest in page for receipt in store.receipts)


@pytest.mark.parametrize(
    "asked",
    [
        "inclusion.json",
        "inclusion.json?leaf=5",
        "inclusion.json?leaf=-1",
        "inclusion.json?leaf=1e0",
        "inclusion.json?leaf=٣",
        "inclusion.json?leaf=0&size=9",
        "inclusion.json?leaf=4&size=2",
        "inclusion.json?leaf=" + "0" * 64,
        "inclusion.json?leaf=" + "z" * 64,
        "inclusion.json?leaf=" + "9" * 5000,
        "growth.json",
        "growth.json?old=6",
        "growth.json?old=3&new=2",
        "growth.json?old=1&new=6",
    ],
)
def test_what_the_log_has_not_is_refused(web, asked):
    assert web.get(f"/transparency/{asked}").status_code == 400


def test_an_empty_log_has_a_page_and_no_proofs(engine, make_store, documents):
    web = create_app(engine, portal=Portal(make_store(documents))).test_client()
    assert "The log is empty" in web.get("/transparency").text
    assert web.get("/transparency/inclusion.json?leaf=0").status_code == 400
    assert web.get("/transparency/growth.json?old=0").status_code == 200
