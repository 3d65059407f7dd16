"""The log's proofs against published vectors, and against whoever changes a bit."""

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore import heads, log
from datastore.errors import VerificationFailed
from datastore.heads import Growth, TreeHead
from datastore.merkle import Tree
from datastore.receipts import check_in_log, sign_receipt

# The tree that the tests of certificate-transparency implementations share.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
_5F = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_6B = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_96 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_BC = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
_CA = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
_0E = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = {
    (0, 1): [],
    (0, 8): [_96, _5F, _6B],
    (5, 8): [_BC, _CA, ROOTS[4]],
    (2, 3): [ROOTS[2]],
    (1, 5): [ROOTS[1], _5F, _BC],
}
CONSISTENCY = {(1, 1): [], (1, 8): [_96, _5F, _6B], (6, 8): [_0E, _CA, ROOTS[4]], (2, 5): [_5F, _BC]}


@pytest.mark.parametrize("size", range(9))
def test_the_root_of_the_reference_tree_is_the_published_one_at_size(size):
    assert root(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_published_inclusion_proof_is_made_and_accepted(index, size):
    proof = Tree(LEAVES[:size]).inclusion_proof(index)
    assert [node.hex() for node in proof] == INCLUSION[index, size]
    log.check_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_the_published_consistency_proof_is_made_and_accepted(old, new):
    proof = Tree(LEAVES[:new]).consistency_proof(old)
    assert [node.hex() for node in proof] == CONSISTENCY[old, new]
    log.check_consistency(old, new, proof, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


def root(leaves: list[bytes]) -> bytes:
    return Tree(leaves).root()


def numbered(size: int) -> list[bytes]:
    return [i.to_bytes(2, "big") for i in range(size)]


def edge_of(leaves: list[bytes]) -> list[bytes]:
    edge: list[bytes] = []
    for size, leaf in enumerate(leaves):
        edge = log.edge_after(edge, size, leaf)
    return edge


def test_a_log_that_grows_by_its_right_edge_gives_the_roots_and_proofs_that_its_leaves_give():
    edge: list[bytes] = []
    for size, leaf in enumerate(numbered(70)):
        proof = edge[::-1]
        leaves = numbered(size + 1)
        assert proof == Tree(leaves).inclusion_proof(size)
        assert log.root_from_inclusion(leaf, size, size + 1, proof) == root(leaves)
        edge = log.edge_after(edge, size, leaf)
    for wrong in (edge[1:], [*edge, edge[0]]):
        with pytest.raises(ValueError, match="a tree of 70 leaves has 3 subtrees"):
            log.edge_after(wrong, 70, b"leaf")


def test_every_leaf_of_every_tree_is_proven_and_no_other_in_its_place():
    for size in range(1, 40):
        leaves = numbered(size)
        whole = root(leaves)
        for index, leaf in enumerate(leaves):
            proof = Tree(leaves).inclusion_proof(index)
            log.check_inclusion(leaf, index, size, proof, whole)
            for wrong in {(index + 1) % size, (index - 1) % size} - {index}:
                with pytest.raises(VerificationFailed):
                    log.check_inclusion(leaf, wrong, size, proof, whole)
            for spoiled in (proof[:-1], [*proof, whole]):
                if spoiled != proof:
                    with pytest.raises(VerificationFailed):
                        log.check_inclusion(leaf, index, size, spoiled, whole)


def test_every_tree_grew_from_every_smaller_one_and_from_none_with_another_leaf():
    for new in range(25):
        leaves = numbered(new)
        for old in range(new + 1):
            proof = Tree(leaves).consistency_proof(old)
            before, after = root(leaves[:old]), root(leaves)
            log.check_consistency(old, new, proof, before, after)
            if old > 0:
                other = root([*leaves[: old - 1], b"another"])
                with pytest.raises(VerificationFailed, match="not shown to have grown"):
                    log.check_consistency(old, new, proof, other, after)
            for spoiled in (proof[:-1], [*proof, after]):
                if spoiled != proof:
                    with pytest.raises(VerificationFailed):
                        log.check_consistency(old, new, spoiled, before, after)
            if old < new:
                with pytest.raises(VerificationFailed, match="leaves were lost"):
                    log.check_consistency(new, old, proof, after, before)


@given(data=st.data(), leaves=st.lists(st.binary(max_size=8), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_changed_bit_in_leaf_proof_or_root_is_noticed(data, leaves):
    index = data.draw(st.integers(0, len(leaves) - 1))
    parts = [leaves[index], *Tree(leaves).inclusion_proof(index), root(leaves)]
    log.check_inclusion(parts[0], index, len(leaves), parts[1:-1], parts[-1])
    which = data.draw(st.sampled_from([i for i, part in enumerate(parts) if part]))
    bit = data.draw(st.integers(0, 8 * len(parts[which]) - 1))
    changed = bytearray(parts[which])
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    with pytest.raises(VerificationFailed):
        log.check_inclusion(parts[0], index, len(leaves), parts[1:-1], parts[-1])


@given(data=st.data(), leaves=st.lists(st.binary(max_size=8), min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_changed_bit_in_a_consistency_proof_is_noticed(data, leaves):
    old = data.draw(st.integers(1, len(leaves) - 1))
    parts = [root(leaves[:old]), *Tree(leaves).consistency_proof(old), root(leaves)]
    log.check_consistency(old, len(leaves), parts[1:-1], parts[0], parts[-1])
    which, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[which] = (int.from_bytes(parts[which], "big") ^ 1 << bit).to_bytes(32, "big")
    with pytest.raises(VerificationFailed):
        log.check_consistency(old, len(leaves), parts[1:-1], parts[0], parts[-1])


def test_a_leaf_cannot_be_passed_off_as_an_inner_node():
    left, right = log.leaf_hash(b"a"), log.leaf_hash(b"b")
    assert root([left + right]) != root([b"a", b"b"])


@pytest.mark.parametrize("index", [-1, 3])
def test_what_never_was_cannot_be_proven(index):
    with pytest.raises(ValueError, match="a log of 3 leaves has no leaf"):
        Tree(numbered(3)).inclusion_proof(index)
    with pytest.raises(ValueError, match="a log of 3 leaves never had"):
        Tree(numbered(3)).consistency_proof(index if index < 0 else 4)


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STORE = "0123456789abcdef" * 2
HASHES = [bytes([i]) * 32 for i in range(9)]


def head(size: int, leaves: list[bytes] = HASHES, key: Ed25519PrivateKey = KEY, store: str = STORE) -> TreeHead:
    return heads.sign_head(store, size, root(leaves[:size]), key, now="2026-01-01T12:00:00+00:00")


def growth(old: int, new: int) -> Growth:
    return heads.prove_growth(Tree(HASHES[:new]), old)


def test_a_head_and_a_proof_are_read_back_as_they_were():
    for size in (0, 1, 9):
        heads.check_head(head(size))
        assert heads.head_from_json(head(size).to_json()) == head(size)
        assert heads.growth_from_json(growth(size // 2, size).to_json()) == growth(size // 2, size)
        heads.check_growth(head(size // 2), head(size), growth(size // 2, size))
    heads.check_growth(head(0), head(9))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TreeHead)])
def test_a_change_of_a_head_is_noticed_in(name):
    value = getattr(head(4), name)
    other = value + 1 if isinstance(value, int) else value[:-1] + ("0" if value[-1] != "0" else "1")
    with pytest.raises(VerificationFailed):
        heads.check_head(heads.head_from_json(head(4).to_json() | {name: other}))


NOT_GROWN = {
    "two logs of one size": (head(4), head(4, HASHES[::-1]), None, "not shown to have grown"),
    "a shorter log": (head(4), head(3), None, "leaves were lost"),
    "a longer log and no proof": (head(4), head(5), None, r"log STORE --since 4"),
    "another log": (head(4), head(5, HASHES[::-1]), growth(4, 5), "not shown to have grown"),
    "a proof of other sizes": (head(4), head(5), growth(3, 5), "from 3 to 5 leaves; wanted is one from 4 to 5"),
    "another store": (head(4), head(4, store="f" * 32), None, "of two stores"),
    "another key": (head(4), head(4, key=Ed25519PrivateKey.from_private_bytes(bytes(32))), None, "by two keys"),
    "a proof that is no hash": (head(4), head(5), Growth(4, 5, ("x",)), "64 lower-case hex digits"),
    "an unsigned head": (head(4), dataclasses.replace(head(4), signature=""), None, "was edited"),
}


@pytest.mark.parametrize(("old", "new", "proof", "message"), NOT_GROWN.values(), ids=NOT_GROWN.keys())
def test_a_head_is_refused_that_is(old, new, proof, message):
    with pytest.raises(VerificationFailed, match=message):
        heads.check_growth(old, new, proof)


ILL = {
    "a list": [],
    "no format": {"size": 3},
    "a truth for a size": head(1).to_json() | {"size": True},
    "a field more": head(1).to_json() | {"x": 1},
}


@pytest.mark.parametrize("value", ILL.values(), ids=ILL.keys())
def test_what_is_no_head_is_refused(value):
    with pytest.raises(VerificationFailed, match="tree head"):
        heads.head_from_json(value)
    with pytest.raises(VerificationFailed, match="consistency proof"):
        heads.growth_from_json(value)


def test_a_receipt_and_a_later_head_are_enough_and_a_log_that_lost_it_is_found_out():
    facts = {"store": STORE, "document": "d", "digest": "ab" * 32, "n_entries": 1, "accepted_at": "now", "epoch": 1}
    receipt = sign_receipt(facts, "5a" * 32, KEY, edge_of(HASHES[:3]), 3)
    assert (receipt.leaf_index, receipt.head.size) == (3, 4)
    kept = [*HASHES[:3], bytes.fromhex(receipt.commitment), *HASHES[4:]]
    check_in_log(receipt, receipt.head)
    check_in_log(receipt, head(9, kept), heads.prove_growth(Tree(kept), 4))
    with pytest.raises(VerificationFailed):
        check_in_log(receipt, head(9), growth(4, 9))
    signed_by_itself = dataclasses.replace(receipt.head, store="f" * 32)
    with pytest.raises(VerificationFailed):
        check_in_log(dataclasses.replace(receipt, head=signed_by_itself), head(9))
