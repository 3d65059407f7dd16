"""The tree that keeps its whole subtrees, against the definition word for word, and what it reads and hashes."""

import random

import pytest

from datastore import log_rows, merkle
from datastore.log import EMPTY_ROOT, check_inclusion, leaf_hash, node_hash
from datastore.merkle import Tree
from datastore.optout import opt_out
from datastore.public_log import growth_since, included, signed_head
from datastore.receipts import check_in_log
from datastore.store import Datastore


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH, word for word as in RFC 6962 section 2.1."""
    if len(leaves) < 2:
        return leaf_hash(leaves[0]) if leaves else EMPTY_ROOT
    k = split(len(leaves))
    return node_hash(defined_root(leaves[:k]), defined_root(leaves[k:]))


def defined_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH, as in section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*defined_path(m, leaves[:k]), defined_root(leaves[k:])]
    return [*defined_path(m - k, leaves[k:]), defined_root(leaves[:k])]


def defined_subproof(m: int, leaves: list[bytes], is_known: bool = True) -> list[bytes]:
    """SUBPROOF, as in section 2.1.2."""
    if m == len(leaves):
        return [] if is_known else [defined_root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*defined_subproof(m, leaves[:k], is_known), defined_root(leaves[k:])]
    return [*defined_subproof(m - k, leaves[k:], False), defined_root(leaves[:k])]


def numbered(size: int) -> list[bytes]:
    return [i.to_bytes(3, "big") for i in range(size)]


SIZES = [*range(41), 63, 64, 65, 127, 128, 129, 200, 255, 257, 511, 513, 700, 1000]


def test_roots_and_proofs_are_those_of_the_definition_at_every_size_that_the_tree_had():
    tree, leaves = Tree(numbered(SIZES[-1])), numbered(SIZES[-1])
    chosen = random.Random(0)
    for size in SIZES:
        ours = leaves[:size]
        assert tree.root(size) == Tree(ours).root() == defined_root(ours)
        few = range(size) if size < 30 else [0, size - 1, *chosen.sample(range(size), 8)]
        for index in few:
            assert tree.inclusion_proof(index, size) == defined_path(index, ours)
            assert tree.consistency_proof(index + 1, size) == defined_subproof(index + 1, ours)
        assert tree.consistency_proof(0, size) == []


class Counting(Tree):
    n_read = 0

    def whole(self, level: int, index: int) -> bytes:
        self.n_read += 1
        return super().whole(level, index)


def cost(ask, monkeypatch) -> tuple[int, int]:
    """Of what ``ask`` does with a tree of its own: the kept hashes that it reads, and the hashes that it makes."""
    made = []
    with monkeypatch.context() as patched:
        patched.setattr(merkle, "leaf_hash", lambda leaf: made.append(leaf) or leaf_hash(leaf))
        patched.setattr(merkle, "node_hash", lambda *of: made.append(of) or node_hash(*of))
        tree = ask()
    return tree.n_read, len(made)


@pytest.mark.parametrize("size", [1, 2, 1000, 1023, 1024, 1025, 65_535, 99_999])
def test_a_root_and_a_proof_read_and_make_as_many_hashes_as_the_tree_has_levels(size, monkeypatch):
    whole = Counting(numbered(size))
    levels = size.bit_length()
    chosen = random.Random(size)
    asked = [lambda: whole.root()]
    for index in [0, size - 1, size // 2, *(chosen.randrange(size) for _ in range(20))]:
        asked.append(lambda index=index: whole.inclusion_proof(index))
        asked.append(lambda index=index: whole.consistency_proof(index + 1))
    for ask in asked:
        whole.n_read = 0
        n_read, n_made = cost(lambda ask=ask: ask() is None or whole, monkeypatch)
        assert n_read <= 2 * levels and n_made < levels, (size, n_read, n_made)


def test_a_leaf_that_is_appended_makes_the_hashes_of_the_subtrees_that_it_makes_whole(monkeypatch):
    tree = Counting(numbered(1023))
    assert cost(lambda: tree.append(b"last") or tree, monkeypatch) == (0, 11)
    assert cost(lambda: tree.append(b"more") or tree, monkeypatch) == (0, 1)
    assert len(tree) == 1025 and tree.root(1023) == defined_root(numbered(1023))


@pytest.mark.parametrize(
    "ask",
    [
        lambda tree: tree.root(4),
        lambda tree: tree.root(-1),
        lambda tree: tree.inclusion_proof(0, 4),
        lambda tree: tree.inclusion_proof(2, 2),
        lambda tree: tree.consistency_proof(3, 2),
    ],
)
def test_a_size_that_the_tree_never_had_is_refused(ask):
    with pytest.raises(ValueError, match=r"a log of . leaves (never had|has no leaf)"):
        ask(Tree(numbered(3)))


def test_a_store_reads_each_leaf_of_its_log_once(make_store, documents, now, monkeypatch):
    """When it is opened, or when it is new; heads and proofs are then made of what is kept."""
    store = make_store(documents)
    receipts = [opt_out(store, f"doc-{i}", now=now) for i in range(6)]
    reader = Datastore.open(store.path)
    read, made = [], []
    leaves_from = log_rows.commitments

    def counted(*asked, **since):
        read.append(leaves_from(*asked, **since))
        return read[-1]

    monkeypatch.setattr(log_rows, "commitments", counted)
    monkeypatch.setattr(merkle, "leaf_hash", lambda leaf: made.append(leaf) or leaf_hash(leaf))
    for n_more in (0, 2, 1):
        read.clear()
        made.clear()
        first = len(receipts)
        receipts += [opt_out(store, f"doc-{i}", now=now) for i in range(first, first + n_more)]
        for _ in range(3):
            head = signed_head(reader, now=now)
            assert (head.size, head.root) == (len(receipts), receipts[-1].head.root)
            for receipt in receipts:
                check_in_log(receipt, head, growth_since(reader, receipt.head.size))
                shown = included(reader, receipt.leaf_index, head.size)
                proof = [bytes.fromhex(node) for node in shown.proof]
                assert (shown.leaf, shown.root) == (receipt.commitment, head.root)
                check_inclusion(
                    bytes.fromhex(shown.leaf), shown.leaf_index, shown.size, proof, bytes.fromhex(head.root)
                )
        assert [len(some) for some in read] == ([n_more] if n_more else [])
        assert len(made) == n_more
