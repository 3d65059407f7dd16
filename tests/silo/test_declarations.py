from pathlib import Path

import pytest

from silo.declarations import FOLDER, declarations, declared, read_collection
from silo.errors import BadDeclaration
from silo.licenses import RiskClass, classify

SOURCE = """
[[source]]
name = "notes"
loader = "jsonl"
location = "notes.jsonl"
domain = "notes"
expected = "SW"
license = "MIT"
evidence = "We wrote them."
attribution = "Us"
"""
ALL = list(declarations())


def collection(folder: Path, text: str, name: str = "ours") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_collections_of_the_papers_are_declared() -> None:
    counts = {name: sum(d.collection == name for d in ALL) for name in ("olc", "common-pile")}
    assert counts == {"olc": 16, "common-pile": 31}
    assert {d.location for d in ALL if d.collection == "olc"} == {"kernelmachine/open-license-corpus"}
    for declaration in ALL:
        if declaration.collection == "common-pile":
            name = declaration.name.partition("/")[2]
            assert declaration.location == f"common-pile/{name}_filtered"
            assert declaration.revision and declaration.license_field == "metadata.license"


@pytest.mark.parametrize("declaration", ALL, ids=lambda declaration: declaration.name)
def test_every_declared_license_has_the_class_that_is_expected(declaration) -> None:
    assert declaration.is_expected
    assert len(declaration.evidence) > 20
    for word, meaning in declaration.words.items():
        decision = classify(meaning)
        assert "not in the table" not in decision.reason and "not an SPDX" not in decision.reason, word


def test_share_alike_and_public_domain_in_one_country_are_high_risk() -> None:
    names = ("olc/ccby_wikipedia", "olc/pd_books", "common-pile/wikimedia", "common-pile/pre_1929_books")
    assert {declared(name).expected for name in names} == {(RiskClass.HIGH_RISK,)}
    assert classify(declared("common-pile/project_gutenberg").spdx("Public Domain")).risk is RiskClass.HIGH_RISK
    assert classify(declared("common-pile/ubuntu_irc").spdx("Public Domain")).risk is RiskClass.PD


def test_hackernews_is_excluded_and_says_why() -> None:
    assert [d.name for d in ALL if d.excluded] == ["olc/sw_hackernews"]
    assert "unclear" in declared("olc/sw_hackernews").excluded


@pytest.mark.parametrize(
    ("stated", "expected", "risk"),
    [
        ("Public Domain", "LicenseRef-PublicDomain", RiskClass.PD),
        ("public domain ", "LicenseRef-PublicDomain", RiskClass.PD),
        ("Creative Commons - Attribution - https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0", RiskClass.BY),
        (
            "Creative Commons - Attribution Share-Alike - https://creativecommons.org/licenses/by-sa/4.0/",
            "CC-BY-SA-4.0",
            RiskClass.HIGH_RISK,
        ),
        ("MIT,Apache-2.0", "MIT AND Apache-2.0", RiskClass.SW),
        ("MIT,GPL-3.0-only", "MIT AND GPL-3.0-only", RiskClass.HIGH_RISK),
        (["MIT License", "ISC License", "MIT License"], "MIT AND ISC", RiskClass.SW),
        (["MIT License", ""], "MIT AND LicenseRef-Unstated", RiskClass.HIGH_RISK),
        (["MIT License", "Some License"], "MIT AND (Some License)", RiskClass.HIGH_RISK),
        ("free to all", "free to all", RiskClass.HIGH_RISK),
        ("", "", RiskClass.HIGH_RISK),
        (None, "", RiskClass.HIGH_RISK),
        ([], "", RiskClass.HIGH_RISK),
    ],
)
def test_words_become_spdx_and_what_is_not_known_stays_unknown(stated, expected: str, risk: RiskClass) -> None:
    found = declared("common-pile/stackv2_edu").spdx(stated)
    assert (found, classify(found).risk) == (expected, risk)


def test_declarations_of_ones_own_are_found_beside_those_of_the_package(tmp_path: Path) -> None:
    collection(tmp_path, SOURCE)
    assert declared("ours/notes", tmp_path).location == "notes.jsonl"
    assert "ours/notes" in {d.name for d in declarations(tmp_path)}


def test_nobody_replaces_a_declaration_of_the_package_from_outside(tmp_path: Path) -> None:
    collection(tmp_path, SOURCE.replace("notes", "pd_law"), "olc")
    assert declared("olc/pd_law", tmp_path) == declared("olc/pd_law")


def test_a_source_may_read_a_word_more_strictly_than_its_collection(tmp_path: Path) -> None:
    words = '[words]\n"Free" = "MIT"\n' + SOURCE + '[source.words]\n"free" = "GPL-3.0-only"\n'
    [declaration] = read_collection(collection(tmp_path, words))
    assert declaration.spdx("Free") == "GPL-3.0-only"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("olc/pd_lore", r"no source 'olc/pd_lore' is declared in .*; declared there: olc/pd_law, olc/pd_books"),
        ("ocl/pd_law", r"no collection of the source 'ocl/pd_law'.*collections: common-pile, mathematics, olc"),
        ("pd_law", r"A source is named collection/name"),
        ("../olc/pd_law", r"no collection of the source"),
    ],
)
def test_a_source_that_is_not_declared_names_those_that_are(name: str, message: str) -> None:
    with pytest.raises(BadDeclaration, match=message):
        declared(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[source]", r"ours.toml cannot be read as TOML"),
        ("[sources]\n", r"unknown table 'sources'; allowed: collection, words, source"),
        (SOURCE.replace("notes.jsonl", ""), r"loader jsonl, which needs a location"),
        (SOURCE.replace('license = "MIT"', ""), r"needs a license, or a license_field"),
        (SOURCE.replace("We wrote them.", ""), r"ours/notes states no evidence"),
        (SOURCE.replace('attribution = "Us"', ""), r"ours/notes states no attribution"),
        (SOURCE.replace('"SW"', '"MIT"'), r"expected of the source notes must be one or more of PD, SW, BY, HIGH_RISK"),
        (SOURCE.replace('expected = "SW"', ""), r"states no expected"),
        (
            SOURCE.replace('"jsonl"', '"csv"'),
            r"needs a loader out of hub, jsonl, text, tree, package, mathematics; got 'csv'",
        ),
        (SOURCE.replace('"jsonl"', '"package"'), r"needs a package as in name==1.0; got ''"),
        (SOURCE + 'licence = "MIT"\n', r"unknown key 'licence' of the source notes; allowed: name, loader"),
        (SOURCE + 'kind = "egg"\n', r"needs a kind out of wheel, sdist; got 'egg'"),
        (SOURCE + "split = 3\n", r"split of the source notes must be str; got 3"),
        (SOURCE + 'seed = "a"\n', r"seed of the source notes must be int; got 'a'"),
        (SOURCE + 'id_field = ""\n', r"needs an id_field; only the rows of a hub dataset"),
        (SOURCE.replace('name = "notes"', 'name = "a/b"'), r"needs a name of letters.*got 'a/b'"),
        (SOURCE + SOURCE, r"ours/notes is declared twice"),
    ],
)
def test_a_declaration_that_is_wrong_says_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadDeclaration, match=message) as caught:
        read_collection(collection(tmp_path, text))
    assert "ours.toml" in str(caught.value)


def test_the_files_are_in_the_package() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == {"olc", "common-pile", "mathematics", "packages"}
