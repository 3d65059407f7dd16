"""Files are written so that a crash or a loss of power leaves them whole or absent."""

import os
from pathlib import Path

import numpy as np
import pytest

from datastore.codecs import Codec, fit_space
from datastore.errors import CorruptDatastore, WriterBusy
from datastore.files import canonical_json, load_array, locked, read_json, remove_leftovers, save_array, write_bytes
from datastore.keys import write_keys
from datastore.store import SEGMENTS
from datastore.writer import add


@pytest.fixture
def synced(monkeypatch):
    """Inodes that were forced to the disk so far."""
    inodes: set[int] = set()
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        fsync(descriptor)
        inodes.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", watch)
    return inodes


@pytest.fixture
def renamed(monkeypatch, synced):
    """For each rename: the final path, and what had not been synced when it got its name. SQLite syncs its own."""
    log: list[tuple[Path, list[str]]] = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        inside = [self, *self.rglob("*")]
        kept = [p for p in inside if p.name not in ("catalog.sqlite", "writer.lock", "epoch.lock")]
        log.append((Path(target), [p.name for p in kept if p.stat().st_ino not in synced]))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    return log


def test_a_store_and_a_segment_are_on_the_disk_before_they_get_their_names(make_store, documents, renamed, synced):
    store = make_store(documents)
    names = [target.name for target, _ in renamed]
    assert {store.path.name, "00000001", "manifest.json", "segment.json"} <= set(names)
    assert [(target, missing) for target, missing in renamed if missing] == []
    for folder in (store.path.parent, store.path / SEGMENTS):
        assert folder.stat().st_ino in synced


def test_a_rename_without_a_sync_is_noticed(tmp_path, renamed):
    """The control of the test above."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").rename(tmp_path / "b")
    assert renamed == [(tmp_path / "b", ["a"])]


def test_what_is_written_replaces_what_was_there_whole(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"first")
    before = path.stat().st_ino
    write_bytes(path, b"second", mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"second", 0o600)
    assert path.stat().st_ino != before, "a reader of the old file keeps the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_segments_are_never_written_again(make_store, documents):
    store = make_store(documents[:5])
    seen = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (store.path / SEGMENTS).rglob("*.*")}
    assert len(seen) == 12
    add(store, documents[5:])
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in seen} == seen


def test_leftovers_are_what_has_a_temporary_name(tmp_path):
    (tmp_path / ".tmp-folder").mkdir()
    (tmp_path / ".tmp-folder" / "file").write_text("")
    (tmp_path / ".tmp-file").write_text("")
    (tmp_path / "tmp-mine").write_text("")
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tmp-mine"]


def test_a_lock_is_held_by_one_and_given_back(tmp_path):
    lock = tmp_path / "lock"
    with locked(lock, wait=False), pytest.raises(WriterBusy, match="another process"), locked(lock, wait=False):
        pytest.fail("two held it")
    with locked(tmp_path / "lock", wait=False):
        pass


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": [1, 2], "a": "ü"}) == '{"a":"ü","b":[1,2]}'.encode()
    for nameless in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            canonical_json([nameless])


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b'"text"', b"\xff{}"], ids=str)
def test_what_is_no_json_object_is_refused(tmp_path, data):
    (tmp_path / "file.json").write_bytes(data)
    with pytest.raises(CorruptDatastore, match="should be a list of things"):
        read_json(tmp_path / "file.json", "a list of things")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_an_array_or_index_that_does_not_fit_on_the_disk_is_an_error():
    full, array = Path("/dev/full"), np.arange(100)
    np.save(full, array)  # the control: numpy says nothing
    with pytest.raises(OSError, match="No space left"):
        save_array(full, array)
    with pytest.raises(OSError, match="No space left"):
        write_keys(full, fit_space(np.zeros((9, 2)), 1, Codec("fp16", 2)), np.zeros((3, 2)), np.arange(3))


def test_an_array_is_saved_as_numpy_saves_it(tmp_path):
    for array in (np.arange(6).reshape(2, 3), np.empty((0, 3)), np.arange(9, dtype="uint16")):
        np.save(tmp_path / "a.npy", array)
        save_array(tmp_path / "b.npy", array)
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_arrays_are_mapped_and_pickles_are_not_read(tmp_path):
    np.save(tmp_path / "some.npy", np.arange(3))
    np.save(tmp_path / "none.npy", np.arange(0))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert isinstance(load_array(tmp_path / "some.npy"), np.memmap)
    assert len(load_array(tmp_path / "none.npy")) == 0
    with pytest.raises(ValueError, match="allow_pickle"):
        load_array(tmp_path / "objects.npy")
