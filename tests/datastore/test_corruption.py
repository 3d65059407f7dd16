"""Files that were torn, edited or lost are refused by a checksum before anything native reads them."""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
import pytest

from datastore import segments
from datastore.catalog import FILE_NAME as CATALOG
from datastore.codecs import CENTROIDS, CODEC
from datastore.errors import CorruptDatastore, DatastoreError, NotADatastore
from datastore.files import canonical_json, read_json
from datastore.journal import FILE_NAME as JOURNAL
from datastore.keys import FILE_NAME as KEYS
from datastore.manifest import FILE_NAME as MANIFEST
from datastore.optout import opt_out
from datastore.signing import FILE_NAME as SIGNING_KEY
from datastore.signing import create_key, load_key
from datastore.store import SEGMENTS, Datastore
from datastore.writer import FITTED_ON, add

IMMUTABLE = {MANIFEST, CENTROIDS, CODEC, FITTED_ON}
N_FLIPS, N_CUTS = 45, 20


def mutants(data: bytes, rng: random.Random) -> dict[str, bytes | None]:
    """What a crash, a disk or a hand may have made of a file; None where it is gone."""
    made: dict[str, bytes | None] = {"removed": None}
    if data:
        half = max(1, len(data) // 2)
        made |= {"emptied": b"", "without its last byte": data[:-1], "half of it": data[: len(data) - half]}
        made |= {"with a zeroed tail": data[:-half] + bytes(half), "one byte longer": data + b"\0"}
    for length in rng.sample(range(len(data)), min(len(data), N_CUTS)):
        made[f"cut after {length}"] = data[:length]
        made[f"zeroed from {length}"] = data[:length].ljust(len(data), b"\0")
    for bit in sorted(rng.sample(range(8 * len(data)), min(8 * len(data), N_FLIPS))):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        made[f"with bit {bit} flipped"] = bytes(flipped)
    return {name: mutant for name, mutant in made.items() if mutant != data}


@pytest.fixture
def read_natively(monkeypatch):
    """The files that FAISS or numpy were given to read."""
    paths: set[Path] = set()
    read_index, load, memmap = faiss.read_index, np.load, np.memmap

    def watch(read):
        def watched(path, *arguments, **options):
            paths.add(Path(path))
            return read(path, *arguments, **options)

        return watched

    monkeypatch.setattr(faiss, "read_index", watch(read_index))
    monkeypatch.setattr(np, "load", watch(load))
    monkeypatch.setattr(segments.np, "memmap", watch(memmap))
    return paths


def test_every_mutant_of_every_immutable_file_is_refused_before_a_native_reader_sees_it(
    make_store, documents, answers, read_natively
):
    store = make_store(documents[:5], documents[5:])
    expected = answers(store)
    store.close()
    files = [path for path in sorted(store.path.rglob("*")) if path.parent != store.path or path.name in IMMUTABLE]
    files = [path for path in files if path.is_file()]
    assert len(files) >= len(IMMUTABLE) + 2 * 12
    read_natively.clear()
    Datastore.open(store.path).close()
    assert {path for path in files if path.suffix in (".npy", ".faiss")} <= read_natively, "the control"
    rng, n_refused = random.Random(0), 0
    contents = {path: path.read_bytes() for path in files}
    for path, data in contents.items():
        others = {f"swapped with {p.parent.name}/{p.name}": contents[p] for p in files if contents[p] != data}
        for what, mutant in (mutants(data, rng) | others).items():
            path.unlink() if mutant is None else path.write_bytes(mutant)
            read_natively.clear()
            with pytest.raises((CorruptDatastore, NotADatastore)):
                Datastore.open(store.path).close()
                pytest.fail(f"{path.name} was read {what}")
            assert path not in read_natively, what
            n_refused += 1
            path.write_bytes(data)
    assert n_refused >= 2000
    assert answers(Datastore.open(store.path)) == expected


@pytest.mark.parametrize("n", [250, pytest.param(3000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_no_bit_that_flips_in_the_catalog_brings_a_removed_document_back(make_store, documents, answers, now, n):
    """SQLite has no checksums: a flip may go unnoticed where it changes what nobody asks, and nowhere else."""
    store = make_store(documents)
    for name in ("doc-3", "doc-0"):
        opt_out(store, name, now=now)
    assert store.catalog.checkpoint()
    store.close()
    path, rng, outcomes = store.path / CATALOG, random.Random(n), Counter()
    data = path.read_bytes()
    filled = [at for at, byte in enumerate(data) if byte]
    index = store_pages(path, "documents_by_state")
    for at in [*rng.sample(filled, n), *rng.sample(index, min(len(index), n // 5))]:
        mutant = bytearray(data)
        mutant[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(mutant))
        for suffix in ("-wal", "-shm"):
            path.with_name(f"{CATALOG}{suffix}").unlink(missing_ok=True)
        try:
            opened = Datastore.open(store.path)
            served = {place.document for row in answers(opened) for place in row[2]}
            assert not served & {"doc-3", "doc-0"}, f"bit of byte {at}"
            opened.close()
            outcomes["harmless"] += 1
        except DatastoreError:
            outcomes["refused"] += 1
    assert min(outcomes["harmless"], outcomes["refused"]) > n // 10, outcomes


def store_pages(catalog: Path, name: str) -> list[int]:
    """The bytes of the root page of a table or index that hold something."""
    with closing(sqlite3.connect(catalog)) as connection:
        number = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
    data = catalog.read_bytes()
    return [at for at in range(4096 * (number - 1), 4096 * number) if data[at]]


def test_faiss_itself_reads_a_zeroed_tail_in_silence(make_store, documents):
    """The control: without the checksum the store would open and answer wrongly."""
    store = make_store(documents)
    path = next((store.path / SEGMENTS).rglob(KEYS))
    whole = faiss.read_index(str(path))
    data = path.read_bytes()
    path.write_bytes(data[:-80] + bytes(80))
    torn = faiss.read_index(str(path))
    queries = np.zeros((1, 4), np.float32)
    assert torn.ntotal == whole.ntotal
    torn.nprobe = whole.nprobe = 4
    assert whole.search(queries, 90)[1].tolist() != torn.search(queries, 90)[1].tolist()
    with pytest.raises(CorruptDatastore, match=r"keys\.faiss was changed after it was written"):
        Datastore.open(store.path)


def test_a_running_reader_refuses_a_torn_new_segment_and_serves_again_when_it_is_whole(make_store, documents, queries):
    store = make_store(documents[:5])
    reader = Datastore.open(store.path)
    add(store, documents[5:])
    path = max((store.path / SEGMENTS).iterdir()) / "tokens.npy"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptDatastore):
        reader.search(queries, 3)
    path.write_bytes(data)
    assert reader.search(queries, 3, 4).entries.tobytes() == store.search(queries, 3, 4).entries.tobytes()


def _spoil(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


SPOILED = {
    "no catalog": lambda folder: (folder / CATALOG).unlink(),
    "an empty catalog": _spoil(CATALOG, lambda _: b""),
    "garbage for a catalog": _spoil(CATALOG, lambda data: b"garbage " * (len(data) // 8)),
    "half a catalog": _spoil(CATALOG, lambda data: data[: len(data) // 2]),
    "one page of a catalog": _spoil(CATALOG, lambda data: data[:4096]),
    "a catalog without its last page": _spoil(CATALOG, lambda data: data[:-4096]),
    "a catalog with zeroed pages": _spoil(CATALOG, lambda data: data[:4096] + bytes(len(data) - 4096)),
    "no epoch": lambda folder: (folder / "epoch").unlink(),
    "an empty epoch": _spoil("epoch", lambda _: b""),
    "half an epoch": _spoil("epoch", lambda data: data[:8]),
    "an epoch that is something else": _spoil("epoch", lambda data: b"\xff" + data[1:]),
    "no journal": lambda folder: (folder / JOURNAL).unlink(),
    "a journal that is a folder": lambda folder: ((folder / JOURNAL).unlink(), (folder / JOURNAL).mkdir()),
    "no segments": lambda folder: shutil.rmtree(folder / SEGMENTS),
    "a manifest that is a list": _spoil(MANIFEST, lambda data: b"[" + data + b"]"),
    "a manifest that is not UTF-8": _spoil(MANIFEST, lambda data: b"\xff" + data),
    "a manifest that is signed by another key": lambda folder: _sign_anew(folder),
}


def _sign_anew(folder: Path) -> None:
    facts = read_json(folder / MANIFEST, "a manifest")
    key = create_key(folder)
    facts["signature"] = key.sign(canonical_json({k: v for k, v in facts.items() if k != "signature"})).hex()
    (folder / MANIFEST).write_bytes(canonical_json(facts))


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_a_store_is_refused_with(make_store, documents, spoil):
    store = make_store(documents)
    store.close()
    Datastore.open(store.path).close()
    spoil(store.path)
    with pytest.raises(CorruptDatastore):
        Datastore.open(store.path)


@pytest.mark.parametrize("format", [0, 1, 2, 4, "3", None, [3]], ids=str)
def test_a_store_of_an_unknown_format_is_none_of_ours(make_store, format):  # noqa: A002
    folder = make_store().path
    (folder / MANIFEST).write_bytes(canonical_json(read_json(folder / MANIFEST, "a manifest") | {"format": format}))
    with pytest.raises(NotADatastore, match="this version reads format 3"):
        Datastore.open(folder)


@pytest.mark.parametrize("field", ["extra", "encoder"])
def test_a_signed_manifest_with_a_field_too_many_or_too_few_is_refused(make_store, field):
    folder = make_store().path
    facts = read_json(folder / MANIFEST, "a manifest")
    del facts["signature"]
    if field in facts:
        del facts[field]
    else:
        facts[field] = 1
    signature = load_key(folder, facts["public_key"]).sign(canonical_json(facts)).hex()
    (folder / MANIFEST).write_bytes(canonical_json(facts | {"signature": signature}))
    with pytest.raises(CorruptDatastore):
        Datastore.open(folder)


def test_a_folder_that_is_no_store_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(NotADatastore, match="silo datastore build"):
            Datastore.open(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"], "opening writes nothing"


KEYS_OF_OTHERS = {
    "missing": lambda path: path.unlink(),
    "garbage": lambda path: path.write_bytes(b"garbage"),
    "another store's": lambda path: create_key(path.parent),
}


@pytest.mark.parametrize("spoil", KEYS_OF_OTHERS.values(), ids=KEYS_OF_OTHERS.keys())
def test_no_receipt_is_signed_with_a_key_that_is(make_store, documents, now, spoil):
    store = make_store(documents)
    spoil(store.path / SIGNING_KEY)
    with pytest.raises(DatastoreError, match=SIGNING_KEY):
        opt_out(store, "doc-3", now=now)
    assert store.document("doc-3").state == "live"
