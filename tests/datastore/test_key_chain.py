"""Key rotation: the old key names the new one, what it signed keeps verifying, and no other chain is believed."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore import backup_keys
from datastore.backups import take_snapshot
from datastore.compaction import compact
from datastore.errors import CorruptDatastore, NotADatastore, VerificationFailed
from datastore.files import canonical_json
from datastore.heads import check_growth, parse_chain, prove_growth, sign_head
from datastore.key_chain import KeyChain, Rotation, chain_from_json, check_chain, check_signer, sign_rotation
from datastore.keyring import SIGNING, Keyring
from datastore.merkle import Tree
from datastore.optout import opt_out
from datastore.public_log import growth_since, signed_head
from datastore.receipts import check_in_log, check_receipt, edge_of, sign_receipt
from datastore.rotation import rotate_key
from datastore.signing import FILE_NAME, NEXT_FILE_NAME, load_key, public_hex
from datastore.store import Datastore
from datastore.verification import verify
from datastore.writer import add

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(5)]
PUBLIC = [public_hex(key) for key in KEYS]
STORE, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
LEAVES = [bytes([i]) * 32 for i in range(9)]


def roots(size: int) -> str:
    return Tree(LEAVES[:size]).root().hex()


def step(chain: KeyChain, old: int, new: int, size: int, now, log_root: str | None = None) -> KeyChain:
    return sign_rotation(chain, KEYS[old], KEYS[new], log_size=size, log_root=log_root or roots(size), now=now)


@pytest.fixture
def chain(now) -> KeyChain:
    """Three keys: 0 until the log had 2 leaves, 1 until it had 5, then 2."""
    return step(step(KeyChain(STORE, PUBLIC[0]), 0, 1, 2, now), 1, 2, 5, now)


def head(size: int, key: int, now, store: str = STORE):
    return sign_head(store, size, Tree(LEAVES[:size]).root(), KEYS[key], now=now)


def growth(old: int, new: int):
    return prove_growth(Tree(LEAVES[:new]), old)


def test_a_chain_holds_and_is_read_back_as_it_was(chain):
    check_chain(chain)
    assert chain.keys == (PUBLIC[0], PUBLIC[1], PUBLIC[2])
    assert parse_chain(json.dumps(chain.to_json(), indent=1).encode()) == chain
    check_chain(KeyChain(STORE, PUBLIC[0]))


def _with(chain: KeyChain, *rotations: Rotation) -> KeyChain:
    return replace(chain, rotations=rotations)


BAD = {
    "another first key": lambda c, now: replace(c, first_key=PUBLIC[3]),
    "the first statement missing": lambda c, now: _with(c, c.rotations[1]),
    "the statements in another order": lambda c, now: _with(c, *reversed(c.rotations)),
    "a statement twice": lambda c, now: _with(c, c.rotations[0], *c.rotations),
    "another store's name": lambda c, now: replace(c, store=OTHER),
    "a statement of another store": lambda c, now: _with(
        c, c.rotations[0], step(_with(replace(c, store=OTHER), c.rotations[0]), 1, 2, 5, now).rotations[1]
    ),
    "a statement by a key that never was in it": lambda c, now: step(c, 3, 4, 6, now),
    "a statement by a key that was retired": lambda c, now: step(c, 0, 3, 6, now),
    "a key that comes back": lambda c, now: step(c, 2, 0, 6, now),
    "a key that follows itself": lambda c, now: step(c, 2, 2, 6, now),
    "a log that shrank": lambda c, now: step(c, 2, 3, 4, now),
    "another log of the same size": lambda c, now: step(c, 2, 3, 5, now, "ab" * 32),
    "a new key put in another's place": lambda c, now: _with(
        c, replace(c.rotations[0], new_key=PUBLIC[3]), c.rotations[1]
    ),
    "no signature by the old key": lambda c, now: _with(c, replace(c.rotations[0], old_signature="")),
    "no signature by the new key": lambda c, now: _with(
        c, replace(c.rotations[0], new_signature=c.rotations[0].old_signature)
    ),
    "another time": lambda c, now: _with(c, replace(c.rotations[0], rotated_at="2020-01-01T00:00:00+00:00")),
    "another size": lambda c, now: _with(c, replace(c.rotations[0], log_size=9)),
    "another root": lambda c, now: _with(c, replace(c.rotations[0], log_root="00" * 32)),
    "another number": lambda c, now: _with(c, replace(c.rotations[0], number=2)),
    "a first key in upper case": lambda c, now: replace(c, first_key=PUBLIC[0].upper()),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
def test_a_chain_is_refused_with(chain, now, spoil):
    with pytest.raises(VerificationFailed):
        check_chain(spoil(chain, now))
    with pytest.raises(VerificationFailed):
        check_in_log(_receipt(now), head(7, 2, now), growth(1, 7), spoil(chain, now))
    check_in_log(_receipt(now), head(7, 2, now), growth(1, 7), chain)


ILL = {
    "null": lambda v: None,
    "a list": lambda v: [v],
    "no format": lambda v: {k: x for k, x in v.items() if k != "format"},
    "another format": lambda v: v | {"format": "silo-key-chain/2"},
    "a field more": lambda v: v | {"more": 1},
    "no rotations": lambda v: v | {"rotations": None},
    "a text for a rotation": lambda v: v | {"rotations": ["x"]},
    "a rotation without a key": lambda v: (
        v | {"rotations": [{k: x for k, x in v["rotations"][0].items() if k[:3] != "new"}]}
    ),
    "a number that is true": lambda v: v | {"rotations": [v["rotations"][0] | {"number": True}]},
    "a fraction of a leaf": lambda v: v | {"rotations": [v["rotations"][0] | {"log_size": 2.0}]},
}


@pytest.mark.parametrize("spoil", ILL.values(), ids=ILL.keys())
def test_no_chain_is_read_from(chain, spoil):
    with pytest.raises(VerificationFailed):
        chain_from_json(spoil(chain.to_json()))


def _receipt(now, key: int = 0, n_before: int = 0):
    """A receipt at place ``n_before`` of the log ``LEAVES``, whose own leaf stands in that log."""
    facts = {"store": STORE, "document": "d", "digest": "ab" * 32, "n_entries": 3, "accepted_at": now.isoformat()}
    receipt = sign_receipt(facts | {"epoch": 1}, "5a" * 32, KEYS[key], [leaf.hex() for leaf in LEAVES[:n_before]])
    LEAVES[n_before] = bytes.fromhex(receipt.commitment)
    return receipt


@pytest.fixture(autouse=True)
def _the_log_has_the_receipt(now):
    _receipt(now)


def test_a_receipt_by_a_retired_key_is_checked_against_a_head_by_a_later_one(chain, now):
    receipt = _receipt(now)
    check_receipt(receipt)
    check_in_log(receipt, head(2, 0, now), growth(1, 2))
    for size, key in ((2, 1), (5, 1), (5, 2), (9, 2)):
        check_in_log(receipt, head(size, key, now), growth(1, size), chain)
        with pytest.raises(VerificationFailed, match="give it with --chain"):
            check_in_log(receipt, head(size, key, now), growth(1, size))


HEADS = {
    "by a retired key, of a later log": (3, 0, STORE),
    "by a key that did not sign yet": (4, 2, STORE),
    "by a key that is not in the chain": (7, 3, STORE),
    "of another store": (7, 2, OTHER),
}


@pytest.mark.parametrize(("size", "key", "store"), HEADS.values(), ids=HEADS.keys())
def test_a_head_is_refused_that_is(chain, now, size, key, store):
    with pytest.raises(VerificationFailed):
        check_in_log(_receipt(now), head(size, key, now, store), growth(1, size), chain)


def test_an_earlier_head_by_a_later_key_and_a_chain_of_another_store_are_refused(chain, now):
    check_growth(head(2, 0, now), head(2, 1, now), None, chain)
    with pytest.raises(VerificationFailed, match="retired before"):
        check_growth(head(2, 1, now), head(2, 0, now), None, chain)
    with pytest.raises(VerificationFailed, match="is of store"):
        check_in_log(_receipt(now), head(1, 0, now), None, KeyChain(OTHER, PUBLIC[0]))


def test_at_the_size_of_a_rotation_both_keys_sign_one_root(chain):
    assert [check_signer(chain, PUBLIC[i], 2, roots(2), "it") for i in (0, 1)] == [0, 1]
    for i in (0, 1):
        with pytest.raises(VerificationFailed, match="another log"):
            check_signer(chain, PUBLIC[i], 2, "00" * 32, "it")


@pytest.fixture
def rotated(make_store, documents, now):
    """A store whose key changed between its first and its second opt-out, and both receipts."""
    store = make_store(documents)
    first = opt_out(store, "doc-1", now=now)
    private = (store.path / FILE_NAME).read_bytes()
    rotate_key(store, now=now)
    return store, first, opt_out(store, "doc-2", now=now), private


def test_receipts_by_both_keys_verify_in_the_store_and_offline(rotated, now):
    store, first, second, _ = rotated
    assert first.public_key != second.public_key == store.manifest.public_key
    for receipt in (first, second):
        verify(store, receipt)
        verify(Datastore.open(store.path), receipt)
        shown = signed_head(store, now=now)
        check_in_log(receipt, shown, growth_since(store, receipt.head.size), store.manifest.chain)
    assert shown.public_key == second.public_key
    assert opt_out(store, "doc-1", now=now) == first


def test_a_process_that_opened_the_store_before_signs_with_the_new_key(make_store, documents, now):
    store = make_store(documents)
    early = Datastore.open(store.path)
    rotate_key(store, now=now)
    receipt = opt_out(early, "doc-3", now=now)
    assert receipt.public_key == signed_head(early, now=now).public_key == store.manifest.public_key
    verify(store, receipt)
    verify(early, receipt)


def test_the_old_private_key_is_nowhere_in_the_store_or_in_the_keys(make_store, documents, tmp_path, now):
    store = make_store(documents)
    take_snapshot(store, tmp_path / "snapshot", now=now, keys_copy=tmp_path / "keys")
    old = load_key(store.path, store.manifest.public_key)
    pem = (store.path / FILE_NAME).read_bytes().splitlines()[1]

    def holders(needle: bytes) -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.is_file() and needle in path.read_bytes()]

    assert len(holders(pem)) == 1 and len(holders(old.private_bytes_raw())) == 2, "the control"
    rotate_key(store, now=now)
    assert holders(pem) == holders(old.private_bytes_raw()) == []
    new = load_key(store.path, store.manifest.public_key)
    assert len(holders(new.private_bytes_raw())) == 2
    assert (store.path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert not (store.path / NEXT_FILE_NAME).exists()


def test_a_copy_of_the_keys_out_of_reach_is_said_and_taken_up_by_the_next_compaction(
    make_store, documents, tmp_path, now
):
    store = make_store(documents)
    take_snapshot(store, tmp_path / "snapshot", now=now, keys_copy=tmp_path / "keys")
    (tmp_path / "keys").rename(tmp_path / "unplugged")
    assert rotate_key(store, now=now)[1] == [str(tmp_path / "keys")]
    (tmp_path / "unplugged").rename(tmp_path / "keys")
    compact(store)
    take_snapshot(store, tmp_path / "second", now=now)
    kinds = [key.kind for key in Keyring(tmp_path / "keys", store.id).by_name().values()]
    assert kinds.count(SIGNING) == 1
    assert public_hex(Keyring(tmp_path / "keys", store.id).signing_key()) == store.manifest.public_key
    assert backup_keys.n_keys(store.path, store.id, "doc-1") == 2


def test_a_store_is_opened_after_many_rotations_and_goes_on(make_store, documents, answers, now):
    store = make_store(documents[:5])
    receipts = []
    for i in range(4):
        receipts.append(opt_out(store, f"doc-{i}", now=now))
        rotate_key(store, now=now)
        rotate_key(store, now=now)
    again = Datastore.open(store.path)
    assert len(again.manifest.chain.keys) == 9
    add(again, documents[5:])
    compact(again)
    for receipt in receipts:
        verify(again, receipt)
    assert answers(again) == answers(make_store(documents[4:]))


def _edited(store: Datastore, change, key: Ed25519PrivateKey | None = None) -> None:
    """Write the manifest anew with its facts changed, signed by ``key`` or the store's own."""
    path = store.path / "manifest.json"
    facts = json.loads(path.read_text())
    facts.pop("signature")
    key = key or load_key(store.path, facts["public_key"])
    facts = change(facts)
    path.write_bytes(canonical_json(facts | {"signature": key.sign(canonical_json(facts)).hex()}))


def test_a_manifest_by_a_key_that_the_chain_does_not_lead_to_is_refused(rotated):
    store, first, _, _ = rotated
    good = (store.path / "manifest.json").read_bytes()
    cases = [
        (lambda f: f | {"public_key": PUBLIC[0]}, KEYS[0]),
        (lambda f: f | {"rotations": f["rotations"] * 2}, None),
        (lambda f: f | {"rotations": [f["rotations"][0] | {"log_size": 7}]}, None),
        (lambda f: f | {"rotations": [3]}, None),
    ]
    for change, key in cases:
        _edited(store, change, key)
        with pytest.raises((CorruptDatastore, NotADatastore)):
            Datastore.open(store.path)
        (store.path / "manifest.json").write_bytes(good)
    verify(Datastore.open(store.path), first)
    _edited(store, lambda f: f | {"rotations": []})  # the store disowns its past: whoever has a receipt finds out
    with pytest.raises(VerificationFailed, match="none of the 1 keys"):
        verify(Datastore.open(store.path), first)


def test_a_journal_line_by_a_key_of_another_time_is_refused(rotated, now):
    """Whoever finds the retired key cannot sign a log that is later than its time."""
    store, _, second, private = rotated
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    old = load_pem_private_key(private, None)
    facts = {name: getattr(second, name) for name in ("store", "digest", "n_entries", "accepted_at")}
    facts |= {"document": "doc-5", "epoch": second.epoch + 1}
    forged = sign_receipt(facts, "00" * 32, old, edge_of(second), 2)
    check_receipt(forged)
    with (store.path / "journal.jsonl").open("ab") as file:
        file.write(canonical_json(forged.to_json()) + b"\n")
    with pytest.raises(CorruptDatastore, match="which signed from"):
        Datastore.open(store.path)
    with pytest.raises(VerificationFailed, match="which signed from"):
        verify(store, dataclasses.replace(forged))
