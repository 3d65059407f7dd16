"""Snapshots hold no plaintext, die with their keys, and bring nothing back that was opted out."""

import dataclasses
import hashlib
import itertools
import json
import shutil
from pathlib import Path

import pytest

from datastore import backup_keys, requests
from datastore.backups import DOCUMENTS, INDEX, take_snapshot
from datastore.compaction import compact
from datastore.errors import CorruptDatastore, DatastoreError, DuplicateDocument, VerificationFailed
from datastore.keyring import DOCUMENT, Keyring
from datastore.optout import opt_out
from datastore.ownership import Possession
from datastore.passage_optout import remove_passages
from datastore.public_log import signed_head
from datastore.records import EncodedDocument
from datastore.redaction import without_sentences
from datastore.request_states import State
from datastore.restore import restore
from datastore.rotation import rotate_key
from datastore.store import SEGMENTS, Datastore
from datastore.suppression import barred
from datastore.verification import scan, verify, verify_files
from datastore.writer import add


def segment_bytes(store: Datastore) -> list[tuple[str, str]]:
    """Name and hash of every file of every segment, in order; the numbers of segments count how often one was made."""
    folders = sorted((store.path / SEGMENTS).iterdir())
    files = [(i, file) for i, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    return [(f"{i}/{file.name}", hashlib.sha256(file.read_bytes()).hexdigest()) for i, file in files]


def holders(folder: Path, needle: bytes) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and needle in path.read_bytes()]


def secret_of(path: Path, store: Datastore, document: str) -> bytes:
    (key,) = [
        key for key in Keyring(path, store.id).by_name().values() if key.tag == Keyring(path, store.id)._tag(document)
    ]
    assert key.kind == DOCUMENT
    return key.secret


@pytest.fixture
def titled(documents) -> list[EncodedDocument]:
    """The documents with facts that would give them away, and long enough to be searched for."""
    return [
        dataclasses.replace(
            document,
            facts=dataclasses.replace(
                document.facts,
                id=f"secret-id-{i}",
                title=f"secret-title-{i}",
                owner=f"secret-owner-{i}",
                url=f"https://secret.example/{i}",
                source=f"secret-source-{i}",
                metadata={"note": f"secret-note-{i}"},
            ),
        )
        for i, document in enumerate(documents)
    ]


@pytest.fixture
def backed(make_store, titled, tmp_path, now):
    """A store of two segments, its snapshot, and a copy of its keys."""
    store = make_store(titled[:5], titled[5:])
    keys = tmp_path / "vault" / "keys"
    keys.parent.mkdir()
    take_snapshot(store, tmp_path / "snapshot", now=now, keys_copy=keys)
    return store, tmp_path / "snapshot", keys


def test_a_restored_store_is_the_one_that_was_lost(backed, answers, tmp_path, titled, now):
    store, snapshot, keys = backed
    head = signed_head(store, now=now)
    before, facts = answers(store), [document.facts for document in store.documents()]
    (compacted,) = [shutil.copytree(store.path, tmp_path / "compacted")]
    shutil.rmtree(store.path)
    done = restore(snapshot, tmp_path / "restored", keys=keys, head=head)
    assert (done.n_documents, done.opted_out, done.n_without_key) == (10, (), 0)
    assert answers(done.store) == before
    assert [document.facts for document in done.store.documents()] == facts
    assert done.store.stored_text("secret-id-3") == titled[3].text
    compact(lost := Datastore(compacted))
    assert segment_bytes(done.store) == segment_bytes(lost)
    verify_files(done.store)


def test_a_restored_store_lives_on(backed, make_store, answers, documents, titled, tmp_path, now):
    store, snapshot, keys = backed
    head = signed_head(store, now=now)
    restored = restore(snapshot, tmp_path / "restored", keys=keys, head=head).store
    add(restored, [dataclasses.replace(documents[0], facts=dataclasses.replace(documents[0].facts, id="new"))])
    receipt = opt_out(restored, "secret-id-1", now=now)
    compact(restored)
    verify(restored, receipt, titled[1].text)
    take_snapshot(restored, tmp_path / "second", now=now, keys_copy=keys)
    again = restore(tmp_path / "second", tmp_path / "again", keys=keys, journal=restored.path / "journal.jsonl").store
    assert answers(again) == answers(restored)
    assert segment_bytes(again) == segment_bytes(restored)
    verify(again, receipt, titled[1].text)


def test_a_snapshot_of_an_empty_store_is_restored(make_store, documents, tmp_path, now):
    store = make_store()
    take_snapshot(store, tmp_path / "snapshot", now=now, keys_copy=tmp_path / "keys")
    restored = restore(
        tmp_path / "snapshot", tmp_path / "restored", keys=tmp_path / "keys", head=signed_head(store, now=now)
    ).store
    assert restored.n_entries == 0
    assert add(restored, documents).n_documents == 10


def test_no_file_of_a_snapshot_holds_plaintext_of_a_document(backed, titled):
    store, snapshot, _ = backed
    segment = store.open_segment("00000001")
    lists = [codes.tobytes() for _, _, codes in segment.keys.lists()]
    assert len(lists) == 4
    for codes in lists:
        assert holders(store.path, codes) and not holders(snapshot, codes[: 8 * 3])
    for document in titled[1:]:  # the first one's digest is that of the licensed document, which is named
        facts = document.facts
        needles = [document.text.encode(), document.tokens.astype("uint16").tobytes()]
        needles += [value.encode() for value in (facts.id, facts.title, facts.owner, facts.url, facts.source)]
        needles += [facts.metadata["note"].encode(), facts.digest.encode()]
        for needle in needles:
            assert holders(snapshot, needle) == [], needle[:40]
        assert all(holders(store.path, needle) for needle in needles), "the control: the store has them"
        scan(snapshot, document.text)
        with pytest.raises(VerificationFailed, match="holds"):
            scan(store.path, document.text)


def test_equal_texts_are_not_seen_to_be_equal_and_each_snapshot_is_encrypted_anew(backed, tmp_path, now):
    store, snapshot, _ = backed
    take_snapshot(store, tmp_path / "second", now=now)
    blobs = [(folder / DOCUMENTS).read_bytes() for folder in (snapshot, tmp_path / "second")]
    nonces = [
        data[row["offset"] : row["offset"] + 12]
        for data, folder in zip(blobs, (snapshot, tmp_path / "second"), strict=True)
        for row in json.loads((folder / INDEX).read_bytes())
    ]
    assert len(nonces) == len(set(nonces)) == 20


def test_compaction_destroys_the_key_in_every_file_and_the_old_snapshot_is_restored_without_it(
    backed, make_store, titled, answers, tmp_path, now
):
    store, snapshot, keys = backed
    secret, other = (secret_of(keys, store, f"secret-id-{i}") for i in (3, 4))
    n_keys = lambda i: backup_keys.n_keys(store.path, store.id, f"secret-id-{i}")  # noqa: E731
    assert (n_keys(3), n_keys(4)) == (2, 2)
    opt_out(store, "secret-id-3", now=now)
    assert n_keys(3) == 2 and holders(store.path, secret), "the control: until it is compacted the key is there"
    assert compact(store).unreached == ()
    assert (n_keys(3), n_keys(4)) == (0, 2)
    assert holders(store.path, secret) == holders(keys.parent, secret) == []
    assert holders(store.path, other) and holders(keys.parent, other), "the control: another document's key is found"
    done = restore(snapshot, tmp_path / "restored", keys=keys, journal=store.path / "journal.jsonl")
    assert (done.n_documents, done.opted_out, done.n_without_key) == (9, (), 1)
    without = make_store(titled[:3] + titled[4:])
    assert answers(done.store) == answers(without)
    assert segment_bytes(done.store) == segment_bytes(without)
    with pytest.raises(VerificationFailed):
        scan(done.store.path, titled[4].text)
    scan(done.store.path, titled[3].text)
    assert done.store.document("secret-id-3").state == "erased"


def test_a_copy_of_the_keys_that_is_out_of_reach_is_said_and_counted_and_taken_up_later(backed, now):
    store, _, keys = backed
    keys.rename(keys.with_name("unplugged"))
    opt_out(store, "secret-id-3", now=now)
    assert compact(store).unreached == (str(keys),)
    assert backup_keys.n_keys(store.path, store.id, "secret-id-3") == 1
    keys.with_name("unplugged").rename(keys)
    assert backup_keys.n_keys(store.path, store.id, "secret-id-3") == 1
    assert compact(store).unreached == ()
    assert backup_keys.n_keys(store.path, store.id, "secret-id-3") == 0


def test_an_opt_out_since_the_snapshot_stays_out_in_every_order(backed, make_store, titled, answers, tmp_path, now):
    """Opted out before it, opted out after it, and erased or not when the store was lost."""
    store, _, keys = backed
    opt_out(store, "secret-id-0", now=now)
    take_snapshot(store, tmp_path / "later", now=now)
    opt_out(store, "secret-id-5", now=now)
    without = make_store([titled[i] for i in range(10) if i not in (0, 5)])
    for is_erased in (False, True):
        if is_erased:
            compact(store)
        for name in ("snapshot", "later"):
            copy = tmp_path / f"keys-{name}-{is_erased}"
            shutil.copy(keys, copy)
            journal = store.path / "journal.jsonl"
            done = restore(tmp_path / name, tmp_path / f"{name}-{is_erased}", keys=copy, journal=journal)
            assert (answers(done.store), segment_bytes(done.store)) == (answers(without), segment_bytes(without))
            expected = ["secret-id-0", "secret-id-5"][name == "later" :]
            assert done.opted_out == (() if is_erased else tuple(expected))
            assert done.n_without_key == (len(expected) if is_erased else 0)
            for i in (0, 5):
                scan(done.store.path, titled[i].text)
                assert done.store.document(f"secret-id-{i}").state == "erased"
                assert barred(done.store.catalog, titled[i].facts, titled[i].text)
                assert backup_keys.n_keys(done.store.path, store.id, f"secret-id-{i}") == 0
            other_dress = dataclasses.replace(titled[5].facts, id="other", digest="e" * 64)
            assert barred(done.store.catalog, other_dress, titled[5].text.upper()), "its fingerprints are barred too"
            assert (done.store.path / "journal.jsonl").read_bytes() == journal.read_bytes()


PASSAGES = ((2, 5), (7, 8))


def taken(document: EncodedDocument) -> list[str]:
    """The texts of ``PASSAGES``."""
    return [document.text[slice(*document.sentences[[a, b - 1], [0, 1]])] for a, b in PASSAGES]


def test_passages_taken_out_since_the_snapshot_stay_out_in_every_order(
    backed, make_store, titled, answers, tmp_path, now
):
    """Taken out of one document before it and of another after it, and erased or not when the store was lost."""
    store, _, keys = backed
    receipts = [remove_passages(store, "secret-id-4", PASSAGES, now=now)]
    take_snapshot(store, tmp_path / "later", now=now)
    receipts.append(remove_passages(store, "secret-id-6", PASSAGES, now=now))
    left = [without_sentences(d, PASSAGES) if d.facts.id[-1] in "46" else d for d in titled]
    for is_erased in (False, True):
        if is_erased:
            compact(store)
        for name in ("snapshot", "later"):
            copy = tmp_path / f"keys-{name}-{is_erased}"
            shutil.copy(keys, copy)
            journal = store.path / "journal.jsonl"
            done = restore(tmp_path / name, tmp_path / f"{name}-{is_erased}", keys=copy, journal=journal)
            # A document goes with the key that had encrypted the passage too; the later snapshot has another key.
            lost = ({"snapshot": "46", "later": "6"} if is_erased else {}).get(name, "")
            never = make_store([d for d in left if d.facts.id[-1] not in lost])
            assert (answers(done.store), segment_bytes(done.store)) == (answers(never), segment_bytes(never))
            assert (done.store.n_entries, done.n_documents) == (never.n_entries, 10 - len(lost))
            assert (done.opted_out, done.n_without_key) == ((), len(lost))
            for receipt, i in zip(receipts, (4, 6), strict=True):
                verify(done.store, receipt)
                for text in taken(titled[i]):
                    assert holders(done.store.path, text.encode()) == []
                facts = dataclasses.replace(titled[i].facts, id="alone", digest="e" * 64)
                assert all(barred(done.store.catalog, facts, text.upper()) for text in taken(titled[i]))
                if str(i) not in lost:
                    assert remove_passages(done.store, f"secret-id-{i}", PASSAGES, now=now) == receipt
            for i in lost:
                with pytest.raises(DuplicateDocument):
                    add(done.store, [dataclasses.replace(titled[0], facts=titled[int(i)].facts)])
            assert (done.store.path / "journal.jsonl").read_bytes() == journal.read_bytes()
            compact(done.store)
            assert segment_bytes(done.store) == segment_bytes(never)


def test_compaction_destroys_the_keys_that_had_encrypted_a_passage_and_no_others(backed, titled, tmp_path, now):
    store, _, keys = backed
    old, other = (secret_of(keys, store, f"secret-id-{i}") for i in (4, 5))
    remove_passages(store, "secret-id-4", PASSAGES, now=now)
    take_snapshot(store, tmp_path / "later", now=now)
    ring = Keyring(keys, store.id)
    n_before = len(ring.by_name())
    assert ring.n_keys("secret-id-4") == 2, "the control: the passage is not encrypted with the key that it had before"
    assert holders(store.path, old) and holders(keys.parent, old)
    for _ in range(2):
        assert compact(store).unreached == ()
        assert holders(store.path, old) == holders(keys.parent, old) == []
        assert holders(store.path, other) and holders(keys.parent, other)
        assert Keyring(keys, store.id).n_keys("secret-id-4") == 1
    take_snapshot(store, tmp_path / "last", now=now)
    assert len(Keyring(keys, store.id).by_name()) == n_before, "the new key goes on"
    done = restore(tmp_path / "last", tmp_path / "restored", keys=keys, journal=store.path / "journal.jsonl")
    assert done.store.stored_text("secret-id-4") == without_sentences(titled[4], PASSAGES).text


def test_a_document_that_lost_passages_and_was_opted_out_then_is_out_and_all_its_keys_go(
    backed, make_store, titled, answers, tmp_path, now
):
    store, snapshot, keys = backed
    remove_passages(store, "secret-id-4", PASSAGES, now=now)
    take_snapshot(store, tmp_path / "later", now=now)
    opt_out(store, "secret-id-4", now=now)
    journal = shutil.copy(store.path / "journal.jsonl", tmp_path / "journal")
    never = make_store(titled[:4] + titled[5:])
    for folder in (snapshot, tmp_path / "later"):
        copy = shutil.copy(keys, tmp_path / f"keys-{folder.name}")
        done = restore(folder, tmp_path / f"from-{folder.name}", keys=copy, journal=journal)
        assert (done.opted_out, answers(done.store)) == (("secret-id-4",), answers(never))
        assert backup_keys.n_keys(done.store.path, store.id, "secret-id-4") == 0
    compact(store)
    assert backup_keys.n_keys(store.path, store.id, "secret-id-4") == 0


def test_a_hidden_document_that_lost_passages_comes_back_without_them(make_store, titled, answers, tmp_path, now):
    store = make_store(titled)
    asked = requests.open_request(store, titled[4].facts.id, key="k", now=now)
    requests.prove(store, asked.id, Possession(titled[4].text), now=now, requester="someone")
    receipt = remove_passages(store, titled[4].facts.id, PASSAGES, now=now)
    verify(store, receipt)
    without = answers(make_store(titled[:4] + titled[5:]))
    assert answers(store) == without
    take_snapshot(store, tmp_path / "snapshot", now=now, keys_copy=tmp_path / "keys")
    journal = store.path / "journal.jsonl"
    restored = restore(tmp_path / "snapshot", tmp_path / "restored", keys=tmp_path / "keys", journal=journal).store
    compact(compacted := Datastore.open(shutil.copytree(store.path, tmp_path / "compacted")))
    never = make_store([*titled[:4], without_sentences(titled[4], PASSAGES), *titled[5:]])
    for handle in (store, compacted, restored):
        assert answers(handle) == without
        requests.decide(handle, asked.id, State.REJECTED, now=now)
        assert (answers(handle), handle.n_entries) == (answers(never), never.n_entries)


def test_a_log_that_is_too_short_is_refused(backed, tmp_path, now):
    store, snapshot, keys = backed
    stale_keys = shutil.copy(keys, tmp_path / "stale-keys")
    old_head = signed_head(store, now=now)
    opt_out(store, "secret-id-0", now=now)
    old = shutil.copy(store.path / "journal.jsonl", tmp_path / "old.jsonl")
    opt_out(store, "secret-id-5", now=now)
    head = signed_head(store, now=now)
    target = tmp_path / "restored"
    refused = [
        {"journal": old, "head": head, "keys": keys},  # an older journal, but the newest head
        {"head": head, "keys": keys},
    ]
    for case in refused:
        with pytest.raises(CorruptDatastore, match="Name the newest journal"):
            restore(snapshot, target, **case)
    with pytest.raises(DatastoreError, match="Name the newest journal"):
        restore(snapshot, target, keys=keys)
    compact(store)
    for case in ({"journal": old}, {"head": old_head}):
        with pytest.raises(CorruptDatastore, match="a destroyed key shows that there were 2"):
            restore(snapshot, target, keys=keys, **case)
    assert not target.exists()
    restore(snapshot, target, keys=stale_keys, journal=store.path / "journal.jsonl", head=head)
    assert Datastore(target).document("secret-id-5").state == "erased", "older keys open it, and it stays out"


def test_another_store_s_keys_journal_head_and_chain_are_refused(backed, make_store, titled, tmp_path, now):
    store, snapshot, keys = backed
    other = make_store(titled)
    take_snapshot(other, tmp_path / "other", now=now, keys_copy=tmp_path / "other-keys")
    opt_out(other, "secret-id-1", now=now)
    head, journal = signed_head(store, now=now), other.path / "journal.jsonl"
    rotate_key(other, now=now)
    cases = {
        "backup keys of store": {"keys": tmp_path / "other-keys", "head": head},
        "an opt-out from store": {"keys": keys, "journal": journal},
        "the head is of store": {
            "keys": keys,
            "journal": store.path / "journal.jsonl",
            "head": dataclasses.replace(signed_head(make_store(), now=now)),
        },
        "does not begin as the snapshot's": {"keys": keys, "head": head, "chain": other.manifest.chain},
    }
    for message, case in cases.items():
        with pytest.raises(VerificationFailed, match=message):
            restore(snapshot, tmp_path / "restored", **case)
    assert not list(tmp_path.glob("*restored*"))
    restore(snapshot, tmp_path / "restored", keys=keys, head=head)


def test_keys_older_than_the_snapshot_are_refused_and_not_taken_for_destroyed(backed, documents, tmp_path, now):
    store, _, keys = backed
    old = shutil.copy(keys, tmp_path / "old-keys")
    add(store, [dataclasses.replace(documents[0], facts=dataclasses.replace(documents[0].facts, id="new"))])
    take_snapshot(store, tmp_path / "later", now=now)
    with pytest.raises(CorruptDatastore, match="lacks the keys of 1 documents"):
        restore(tmp_path / "later", tmp_path / "restored", keys=old, head=signed_head(store, now=now))
    restore(tmp_path / "later", tmp_path / "restored", keys=keys, head=signed_head(store, now=now))


def test_a_flipped_byte_in_any_file_is_refused_before_anything_is_written(backed, tmp_path, now):
    store, snapshot, keys = backed
    opt_out(store, "secret-id-0", now=now)
    journal = shutil.copy(store.path / "journal.jsonl", tmp_path / "journal.jsonl")
    files = [*sorted(snapshot.iterdir()), Path(journal)]
    assert len(files) == 9
    n_refused = 0
    for file in files:
        data = file.read_bytes()
        for at in {0, len(data) // 3, len(data) // 2, len(data) - 2}:
            file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(DatastoreError):
                restore(snapshot, tmp_path / "restored", keys=keys, journal=journal)
            n_refused += 1
        file.write_bytes(data[: len(data) // 2])
        if file != Path(journal):  # half a line of a journal is what a crash leaves: its log is then too short, or not
            with pytest.raises(DatastoreError):
                restore(snapshot, tmp_path / "restored", keys=keys, journal=journal)
        file.write_bytes(data)
        if file != Path(journal):
            file.unlink()
            with pytest.raises(DatastoreError):
                restore(snapshot, tmp_path / "restored", keys=keys, journal=journal)
            file.write_bytes(data)
    assert n_refused == 36
    assert not list(tmp_path.glob("*restored*"))
    restore(snapshot, tmp_path / "restored", keys=keys, journal=journal)


def test_a_flipped_byte_in_the_keys_is_refused_or_changes_nothing(backed, answers, tmp_path, now):
    store, snapshot, keys = backed
    head, data = signed_head(store, now=now), keys.read_bytes()
    for n, at in enumerate(range(5, len(data), 61)):
        keys.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(DatastoreError):
            restore(snapshot, tmp_path / f"restored-{n}", keys=keys, head=head)
    keys.write_bytes(data)
    assert answers(restore(snapshot, tmp_path / "restored", keys=keys, head=head).store) == answers(store)


def test_blobs_that_change_places_do_not_decrypt(backed):
    from datastore.backups import decrypt

    store, snapshot, keys = backed
    by_name = Keyring(keys, store.id).by_name()
    data, rows = (snapshot / DOCUMENTS).read_bytes(), json.loads((snapshot / INDEX).read_bytes())
    blobs = [data[row["offset"] : row["offset"] + row["bytes"]] for row in rows]
    secrets = [by_name[bytes.fromhex(row["key"])].secret for row in rows]
    for i, j in itertools.product(range(3), range(3)):
        if i == j:
            decrypt(secrets[i], blobs[i], store.id, rows[i]["number"])
        else:
            for secret, number in ((secrets[i], rows[j]["number"]), (secrets[j], rows[i]["number"])):
                with pytest.raises(CorruptDatastore, match="not what its key encrypted"):
                    decrypt(secret, blobs[i], store.id, number)
    with pytest.raises(CorruptDatastore):
        decrypt(secrets[0], blobs[0], "00" * 16, rows[0]["number"])


def test_a_snapshot_and_a_restore_never_write_over_what_is_there(backed, tmp_path, now):
    store, snapshot, keys = backed
    with pytest.raises(DatastoreError, match="exists"):
        take_snapshot(store, snapshot, now=now)
    with pytest.raises(DatastoreError, match="exists"):
        restore(snapshot, store.path, keys=keys, head=signed_head(store, now=now))
    with pytest.raises(DatastoreError, match="kept apart"):
        take_snapshot(store, tmp_path / "new", now=now, keys_copy=tmp_path / "new" / "keys")
    with pytest.raises(DatastoreError, match="holds no snapshot"):
        restore(store.path, tmp_path / "new", keys=keys, head=signed_head(store, now=now))


def test_the_keys_files_are_their_owner_s_alone(backed):
    store, _, keys = backed
    assert {path.stat().st_mode & 0o777 for path in (keys, store.path / backup_keys.FILE_NAME)} == {0o600}


def test_a_torn_record_at_the_end_of_the_keys_is_ignored_and_written_over(backed, documents, tmp_path, now):
    store, _, _ = backed
    path = store.path / backup_keys.FILE_NAME
    whole = path.read_bytes()
    for torn in (b"\0" * 128, b"\1" + b"\7" * 50, b"\0" * 300):
        path.write_bytes(whole + torn)
        ring = Keyring(path, store.id)
        assert ring.by_name() == Keyring(shutil.copy(path, tmp_path / "copy"), store.id).by_name()
        ring.keys_for({"another": 0}, 0)
        assert len(path.read_bytes()) == len(whole) + 128
        assert Keyring(path, store.id).n_keys("another") == 1


def test_a_snapshot_after_a_rotation_and_one_before_it_are_both_restored(backed, answers, tmp_path, now):
    store, snapshot, keys = backed
    receipt = opt_out(store, "secret-id-2", now=now)
    rotate_key(store, now=now)
    take_snapshot(store, tmp_path / "later", now=now)
    journal, head, chain = store.path / "journal.jsonl", signed_head(store, now=now), store.manifest.chain
    with pytest.raises(VerificationFailed, match="with --chain"):
        restore(snapshot, tmp_path / "restored", keys=keys, journal=journal)
    for name, case in (("snapshot", {"chain": chain}), ("later", {})):
        done = restore(tmp_path / name, tmp_path / f"from-{name}", keys=keys, journal=journal, head=head, **case)
        assert answers(done.store) == answers(store)
        assert done.store.manifest.public_key == store.manifest.public_key
        verify(done.store, receipt)
        assert opt_out(done.store, "secret-id-3", now=now).public_key == store.manifest.public_key


def test_a_hidden_document_stays_hidden_through_a_restore_and_may_come_back(make_store, titled, answers, tmp_path, now):
    store = make_store(titled)
    shown = answers(store)
    asked = requests.open_request(store, titled[3].facts.id, key="k", now=now)
    requests.prove(store, asked.id, Possession(titled[3].text), now=now, requester="someone")
    hidden = answers(store)
    assert hidden != shown
    take_snapshot(store, tmp_path / "snapshot", now=now, keys_copy=tmp_path / "keys")
    done = restore(
        tmp_path / "snapshot", tmp_path / "restored", keys=tmp_path / "keys", head=signed_head(store, now=now)
    )
    assert answers(done.store) == hidden
    assert requests.requests(done.store)[0].state is State.PROVISIONAL
    requests.decide(done.store, asked.id, State.REJECTED, now=now)
    assert answers(done.store) == shown
