import gzip
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from silo import corpora, jsonl
from silo.corpora import Location, read_documents, write_documents
from silo.documents import Document
from silo.errors import BadDocument, DuplicateDocument, UnreadableCorpus
from silo.jsonl import JSONL_SUFFIXES

DOCUMENTS = [
    Document("a", "First text.\n", "MIT", "code", "Title", "Owner", "https://example.org/a", {"year": 1999}),
    Document("b/é", "Zweiter Text: äöü 😀", "CC-BY-4.0"),
    Document("c", ""),
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("suffix", JSONL_SUFFIXES)
def test_documents_that_are_written_are_read_back(tmp_path, suffix):
    path = tmp_path / f"texts{suffix}"
    assert write_documents(path, DOCUMENTS) == 3
    assert list(read_documents(path)) == DOCUMENTS


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), suffix=st.sampled_from(JSONL_SUFFIXES))
def test_any_text_survives_writing_and_reading(tmp_path_factory, texts, suffix):
    path = tmp_path_factory.mktemp("any") / f"texts{suffix}"
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    write_documents(path, documents)
    assert list(read_documents(path)) == documents


@pytest.mark.parametrize("suffix", JSONL_SUFFIXES)
def test_the_same_documents_give_the_same_bytes(tmp_path, suffix):
    one, other = tmp_path / f"one{suffix}", tmp_path / "folder" / f"other{suffix}"
    write_documents(one, DOCUMENTS)
    write_documents(other, DOCUMENTS)
    assert one.read_bytes() == other.read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "texts.jsonl.gz"
    write_documents(path, DOCUMENTS)
    before = path.read_bytes()

    def failing():
        yield DOCUMENTS[0]
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError):
        write_documents(path, failing())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_documents_are_not_written_to_a_name_that_says_nothing_of_the_format(tmp_path):
    with pytest.raises(UnreadableCorpus, match="jsonl"):
        write_documents(tmp_path / "texts.csv", DOCUMENTS)


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (b'{"id": "b", "text": "cut', UnreadableCorpus, "line 3: not a JSON object"),
        (b"[1, 2]", UnreadableCorpus, "line 3: expected a JSON object; got list"),
        (b"[" * 100_000, UnreadableCorpus, "line 3: not a JSON object"),
        (b'{"id": "b", "text": "caf\xe9"}', UnreadableCorpus, "line 3: not UTF-8: byte 0xe9 at offset 24"),
        (b'{"id": "b", "text": "\\ud83d"}', BadDocument, "line 3: .*lone surrogate"),
        (b'{"id": "b", "text": "x", "metadata": {"a": "\\ud83d"}}', BadDocument, "line 3: the metadata is not valid"),
        (b'{"id": "b"}', BadDocument, "line 3: the field 'text' is missing"),
        (b'{"text": "x"}', BadDocument, "line 3: the field 'id' is missing"),
        (b'{"id": "b", "text": null}', BadDocument, "line 3: the field 'text' is missing"),
        (b'{"id": "b", "text": ["x"]}', BadDocument, "line 3: .*text must be a string; got list"),
        (b'{"id": 7, "text": "x"}', BadDocument, "line 3: .*id must be a string; got int"),
        (b'{"id": "", "text": "x"}', BadDocument, "line 3: .*1 to 512 characters"),
        (b'{"id": "b", "text": "x", "license": ["MIT"]}', BadDocument, "line 3: .*license must be a string"),
        (b'{"id": "b", "text": "x", "metadata": "none"}', BadDocument, "line 3: metadata must be an object"),
        (b'{"id": "b", "text": "x", "license": "GPL-3.0-only", "license": "MIT"}', UnreadableCorpus, "comes twice"),
        (b'{"id": "a", "text": "x"}', DuplicateDocument, "line 3: the id 'a' was used before, at .*line 1"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, error, message):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'{"id": "a", "text": "Good."}\n\n' + line + b"\n")
    with pytest.raises(error, match=message) as caught:
        list(read_documents(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"not compressed"])
def test_a_torn_file_is_an_error_and_not_a_shorter_corpus(tmp_path, suffix, damage):
    path = tmp_path / f"texts.jsonl{suffix}"
    rows = "".join(json.dumps({"id": str(n), "text": f"Text number {n * 7919}."}) + "\n" for n in range(500)).encode()
    whole = gzip.compress(rows) if suffix == ".gz" else zstandard.compress(rows)
    path.write_bytes(damage(whole))
    with pytest.raises(UnreadableCorpus, match=r"torn or not what its suffix says"):
        list(read_documents(path))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_parts_that_were_joined_are_read_whole(tmp_path, suffix):
    parts = [b'{"id": "a", "text": "One."}\n', b'{"id": "b", "text": "Two."}\n']
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    (tmp_path / f"texts.jsonl{suffix}").write_bytes(b"".join(compress(part) for part in parts))
    assert [d.text for d in read_documents(tmp_path / f"texts.jsonl{suffix}")] == ["One.", "Two."]


def test_an_id_that_two_locations_claim_is_refused(tmp_path):
    for name in ("one", "two"):
        write_documents(tmp_path / f"{name}.jsonl", [DOCUMENTS[0]])
    with pytest.raises(DuplicateDocument, match=r"two\.jsonl, line 1.*one\.jsonl, line 1"):
        list(read_documents(tmp_path / "one.jsonl", tmp_path / "two.jsonl"))


def test_an_enormous_line_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 100)
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "x" * 200}))
    with pytest.raises(UnreadableCorpus, match="line 1: longer than 100 bytes"):
        list(read_documents(path))


def test_other_keys_go_into_the_metadata_and_a_byte_order_mark_goes_away(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('\ufeff{"id": "a", "text": "x", "year": 1999, "title": null, "metadata": {"kept": true}}\n')
    assert list(read_documents(path)) == [Document("a", "x", metadata={"year": 1999, "kept": True})]


def test_what_the_caller_gives_never_overrides_what_a_document_says(tmp_path):
    path = tmp_path / "texts.jsonl"
    write_documents(path, [Document("a", "x", license="GPL-3.0-only"), Document("b", "y")])
    licenses = [d.license for d in read_documents(path, license="MIT")]
    assert licenses == ["GPL-3.0-only", "MIT"]


def test_each_file_of_a_text_folder_is_a_document(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "b.md").write_bytes(b"Two\r\nlines.")
    (tmp_path / "part" / "a.txt").write_text("Deep.")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    found = list(read_documents(tmp_path, license="MIT", source="notes", owner="Us"))
    assert found == [
        Document("b.md", "Two\r\nlines.", "MIT", "notes", owner="Us"),
        Document("part/a.txt", "Deep.", "MIT", "notes", owner="Us"),
    ]


def test_one_text_file_is_one_document(tmp_path):
    path = tmp_path / "LICENSE"
    path.write_text("Permission is granted.")
    assert list(read_documents(str(path))) == [Document("LICENSE", "Permission is granted.")]


def test_a_text_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Café".encode("latin-1"))
    with pytest.raises(UnreadableCorpus, match=r"latin\.txt: not UTF-8: byte 0xe9 at offset 3"):
        list(read_documents(tmp_path))


def test_an_enormous_text_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "MAX_TEXT_BYTES", 4)
    (tmp_path / "long.txt").write_text("Too long.")
    with pytest.raises(BadDocument, match="has 9 bytes; the limit for a text is 4"):
        list(read_documents(tmp_path))


@pytest.mark.parametrize("name", ["nothing", "nothing.jsonl", "owner/name"])
def test_a_location_that_is_not_there_is_an_error_and_no_request(tmp_path, name):
    with pytest.raises(UnreadableCorpus, match="neither a file nor a folder"):
        list(read_documents(tmp_path / name))


def test_a_folder_without_documents_says_what_was_expected(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(UnreadableCorpus, match=r"holds no documents \(1 files\).*\.jsonl"):
        list(read_documents(tmp_path))


def test_a_folder_of_jsonl_files_is_read_in_order(tmp_path):
    write_documents(tmp_path / "2.jsonl.gz", [DOCUMENTS[1]])
    write_documents(tmp_path / "1.jsonl.zst", [DOCUMENTS[0]])
    assert [d.id for d in read_documents(tmp_path)] == ["a", "b/é"]


@pytest.fixture(scope="module")
def table():
    from datasets import Dataset

    return Dataset.from_dict({"body": ["First.", "Second."], "license": ["MIT", ""], "score": [1, 2]})


def test_a_saved_dataset_is_read_and_rows_without_an_id_are_numbered(tmp_path, table):
    table.save_to_disk(str(tmp_path / "saved"))
    found = list(read_documents(Location(tmp_path / "saved", text_field="body", license="CC0-1.0")))
    assert found == [
        Document("saved/0", "First.", "MIT", metadata={"score": 1}),
        Document("saved/1", "Second.", "CC0-1.0", metadata={"score": 2}),
    ]


def test_a_folder_of_parquet_files_is_read(tmp_path, table):
    folder = tmp_path / "tables"
    folder.mkdir()
    table.to_parquet(str(folder / "part.parquet"))
    assert [d.text for d in read_documents(folder, text_field="body")] == ["First.", "Second."]


def test_a_folder_of_json_tables_is_read(tmp_path, table):
    folder = tmp_path / "tables"
    folder.mkdir()
    table.to_json(str(folder / "part.json"))
    assert [d.text for d in read_documents(folder, text_field="body")] == ["First.", "Second."]


def test_a_dataset_without_the_text_column_names_those_that_it_has(tmp_path, table):
    table.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(BadDocument, match=r"row 1: the field 'text' is missing; .*'body'"):
        list(read_documents(tmp_path / "saved"))


def test_the_split_of_a_saved_dataset_is_asked_for_by_name(tmp_path, table):
    from datasets import DatasetDict

    DatasetDict({"test": table}).save_to_disk(str(tmp_path / "saved"))
    assert len(list(read_documents(tmp_path / "saved", text_field="body", split="test"))) == 2
    with pytest.raises(UnreadableCorpus, match="has the splits test; asked for 'train'"):
        list(read_documents(tmp_path / "saved", text_field="body"))


def test_a_hub_dataset_is_streamed(monkeypatch, table):
    calls = []

    def load(name: str, subset: str | None, **options):
        calls.append((name, subset, options))
        return iter(table)

    monkeypatch.setattr("datasets.load_dataset", load)
    found = list(read_documents("hf:owner/name", text_field="body", subset="en"))
    assert [d.id for d in found] == ["owner/name/0", "owner/name/1"]
    assert calls == [("owner/name", "en", {"split": "train", "streaming": True})]


def test_a_hub_dataset_that_cannot_be_opened_is_a_clear_error(monkeypatch):
    def load(*_: object, **__: object):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(UnreadableCorpus, match=r"'owner/name' .* cannot be opened: no network"):
        list(read_documents("hf:owner/name"))


def test_reading_is_lazy(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": "a", "text": "Good."}\nbroken\n')
    assert next(read_documents(Path(path))).id == "a"


ROWS = [
    {"id": "a", "text": "One.", "created": "2020-01-02T03:04:05", "metadata": {"license": "MIT", "day": "2020-01-02"}},
    {"id": "b", "text": "Two.", "created": None, "metadata": {"license": "MIT", "authors": ["A", "B"]}},
]


def test_a_copy_of_a_hub_dataset_is_read_in_place_of_the_hub(tmp_path):
    (tmp_path / "data" / "pd_law").mkdir(parents=True)
    (tmp_path / "data" / "pd_law" / "train-0.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())
    )
    location = Location("hf:owner/name", mirror=tmp_path, files="data/pd_law/*.jsonl.gz")
    found = list(read_documents(location))
    assert [d.id for d in found] == ["a", "b"]
    assert found == list(read_documents(Location("hf:owner/name", mirror=tmp_path)))


def test_dates_that_a_table_made_are_text_again_and_what_no_row_states_is_left_out(tmp_path):
    (tmp_path / "part.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    first, second = read_documents(tmp_path)
    assert first.metadata["created"].startswith("2020-01-02T03:04:05")
    assert first.metadata["day"].startswith("2020-01-02") and first.metadata["license"] == "MIT"
    assert dict(second.metadata) == {"license": "MIT", "authors": ["A", "B"]}
    json.dumps(dict(first.metadata))


@pytest.mark.parametrize(("files", "expected"), [("", "owner/name"), ("data/*.parquet", "parquet")])
def test_the_hub_is_asked_for_a_revision_and_for_named_files(monkeypatch, files, expected):
    import datasets

    calls = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **options: calls.append((given, options)) or [])
    assert list(read_documents(Location("hf:owner/name", revision="abc", files=files))) == []
    [(given, options)] = calls
    assert given[0] == expected and options["streaming"]
    stated = options["data_files"] if files else options["revision"]
    assert stated == ("hf://datasets/owner/name@abc/data/*.parquet" if files else "abc")
