import json
from datetime import date

import pytest

from silo.checkpoint import (
    HELD_OUT_NAME,
    REFUSED_NAME,
    TRAINED_ON_NAME,
    TrainingDocument,
    write_training_documents,
)
from silo.datacard import CROISSANT_NAME, PAGE_NAME, license_url, write_card
from silo.documents import Document
from silo.files import file_digest
from silo.jsonl import write_jsonl

TRAINED = [
    TrainingDocument.of(Document("a", "é", "MIT", "code"), 3),
    TrainingDocument.of(Document("b", "xyz", "CC-BY-4.0", "web"), 4),
    TrainingDocument.of(Document("c", "pq", "MIT OR Apache-2.0", "code"), 5),
    TrainingDocument.of(Document("d", "r", "LicenseRef-PublicDomain"), 1),
]


@pytest.fixture
def folder(tmp_path):
    write_training_documents(tmp_path / TRAINED_ON_NAME, TRAINED)
    write_training_documents(tmp_path / HELD_OUT_NAME, TRAINED[:1])
    write_jsonl(tmp_path / REFUSED_NAME, [{"id": "x", "reason": "no license is stated"}])
    refused = {"language: not English": 2, "a | b": 1}
    write_card(tmp_path, "tiny", refused, {"news": {"code": 0.25, "all": 0.5}}, date(2026, 1, 2))
    return tmp_path


def rows(page, title):
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")] for line in lines[2:]]


def test_the_page_adds_up_what_went_in(folder):
    page = (folder / PAGE_NAME).read_text(encoding="utf-8")
    assert "4 documents trained the tokenizer and the LM: 8 bytes of text, 13 tokens. 1 more" in page
    assert "3 were refused" in page
    assert rows(page, "By class") == [["BY", "1", "3", "4"], ["PD", "1", "1", "1"], ["SW", "2", "4", "8"]]
    assert rows(page, "By source") == [["not stated", "1", "1", "1"], ["code", "2", "4", "8"], ["web", "1", "3", "4"]]
    assert [row[0] for row in rows(page, "By license")] == sorted(d.license for d in TRAINED)
    assert rows(page, "Refused") == [["language: not English", "2"], ["a ¦ b", "1"]]
    assert rows(page, "Overlap with evaluations") == [["news", "25.000%", "50.000%"]]
    assert rows(page, "Files")[0] == [f"`{TRAINED_ON_NAME}`", f"`{file_digest(folder / TRAINED_ON_NAME)}`"]


def test_the_metadata_have_what_croissant_requires(folder):
    facts = json.loads((folder / CROISSANT_NAME).read_text(encoding="utf-8"))
    required = {"@context", "@type", "conformsTo", "name", "description", "license", "url", "datePublished"}
    assert required | {"distribution", "recordSet"} <= set(facts)
    assert facts["@type"] == "sc:Dataset"
    assert facts["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert facts["datePublished"] == "2026-01-02"
    assert {file["@id"]: file["sha256"] for file in facts["distribution"]} == {
        name: file_digest(folder / name) for name in (TRAINED_ON_NAME, HELD_OUT_NAME, REFUSED_NAME)
    }
    files = {file["@id"] for file in facts["distribution"]}
    for record_set in facts["recordSet"]:
        names = {field["source"]["extract"]["column"] for field in record_set["field"]}
        assert names == set(TrainingDocument.__dataclass_fields__)
        assert {field["source"]["fileObject"]["@id"] for field in record_set["field"]} <= files
        assert record_set["key"]["@id"] in {field["@id"] for field in record_set["field"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library's own
def test_the_metadata_are_read_by_the_croissant_library(folder):
    croissant = pytest.importorskip("mlcroissant")
    dataset = croissant.Dataset(jsonld=str(folder / CROISSANT_NAME))
    assert not dataset.metadata.issues.errors
    found = [record["trained-on/id"].decode() for record in dataset.records("trained-on")]
    assert found == [document.id for document in TRAINED]


@pytest.mark.parametrize(
    ("license_id", "url"),
    [
        ("MIT", "https://spdx.org/licenses/MIT"),
        ("MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("LicenseRef-PublicDomain", "LicenseRef-PublicDomain"),
    ],
)
def test_a_license_that_spdx_lists_has_an_address(license_id, url):
    assert license_url(license_id) == url
