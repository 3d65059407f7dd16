import json
from pathlib import Path

import pytest

from silo.errors import UnreadableCorpus
from silo.licenses import RiskClass, classify
from silo.sourcetree import VENDORED, read_tree, stricter
from training.admission import decide
from training.config import AdmissionRecipe

PYPROJECT = (
    '[project]\nname = "tool"\nlicense = "MIT"\nauthors = [{name = "Ann"}]\nurls = {Homepage = "https://tool"}\n'
)


def spdx(license: str, rest: str = "x = 1\n") -> str:  # noqa: A002
    # In two parts, so that this file states nothing of the kind of itself.
    return f"# SPDX-License-{'Identifier'}: {license}\n{rest}"


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def licenses(tmp_path: Path):
    def read(files: dict[str, str], **options: str) -> dict[str, str]:
        return {document.id: document.license for document in read_tree(tree(tmp_path, files), **options)}

    return read


def test_a_file_has_its_packages_license_owner_and_evidence(tmp_path: Path) -> None:
    [document] = read_tree(tree(tmp_path, {"pyproject.toml": PYPROJECT, "src/tool/a.py": "x = 1\n"}))
    assert (document.id, document.text, document.license) == ("src/tool/a.py", "x = 1\n", "MIT")
    assert (document.title, document.owner, document.url) == ("src/tool/a.py", "Ann", "https://tool")
    assert document.metadata == {"license_evidence": "pyproject.toml: license = 'MIT'", "package": "tool"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("MIT", "MIT"),
        ("Apache-2.0", "Apache-2.0"),
        ("CC0-1.0", "MIT"),
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("GPL-3.0-only", "GPL-3.0-only"),
        ("MIT OR GPL-3.0-only", "MIT OR GPL-3.0-only"),
        ("nobody knows", "nobody knows"),
    ],
)
def test_a_header_wins_where_it_is_stricter(licenses, header: str, expected: str) -> None:
    assert licenses({"pyproject.toml": PYPROJECT, "a.py": spdx(header)})["a.py"] == expected


def test_a_permissive_header_frees_no_file_of_a_copyleft_package(licenses) -> None:
    files = {"package.json": json.dumps({"license": "GPL-3.0-only"}), "a.js": "// SPDX-License-Identifier: MIT\n"}
    assert licenses(files)["a.js"] == "GPL-3.0-only"


def test_where_no_package_states_a_license_the_header_does_and_else_nothing(licenses) -> None:
    assert licenses({"a.py": spdx("MIT"), "b.py": "x = 1\n"}) == {"a.py": "MIT", "b.py": ""}
    assert licenses({}, license="ISC") == {"a.py": "MIT", "b.py": "ISC"}


def test_all_identifiers_of_a_file_hold_together(licenses) -> None:
    found = licenses({"a.py": spdx("MIT", spdx("GPL-2.0-only")), "b.py": spdx("MIT", spdx("Apache-2.0"))})
    assert found == {"a.py": "(MIT) AND (GPL-2.0-only)", "b.py": "(MIT) AND (Apache-2.0)"}
    assert [classify(license_).risk for license_ in found.values()] == [RiskClass.HIGH_RISK, RiskClass.SW]


@pytest.mark.parametrize(
    "folder", ["vendor", "src/_vendor/lib", "node_modules/left-pad", "Third_Party", "pkg/third-party"]
)
def test_vendored_files_are_judged_by_their_own_headers_or_refused(licenses, folder: str) -> None:
    found = licenses(
        {
            "pyproject.toml": PYPROJECT,
            f"{folder}/package.json": json.dumps({"license": "MIT"}),
            f"{folder}/with.py": spdx("BSD-3-Clause"),
            f"{folder}/without.py": "x = 1\n",
            "own.py": "x = 2\n",
        },
        license="MIT",
    )
    assert found == {f"{folder}/with.py": "BSD-3-Clause", f"{folder}/without.py": VENDORED, "own.py": "MIT"}


def test_the_gate_refuses_a_vendored_file_and_says_why(tmp_path: Path) -> None:
    [document] = read_tree(tree(tmp_path, {"pyproject.toml": PYPROJECT, "vendor/a.py": "x = 1\n"}))
    refusal = decide(document, AdmissionRecipe(("PD", "SW", "BY")))
    assert refusal is not None and "copied from elsewhere" in refusal.reason
    assert document.metadata["license_evidence"] == "no SPDX identifier, in vendor"


def test_the_nearest_package_that_states_a_license_decides(licenses) -> None:
    files = {
        "pyproject.toml": PYPROJECT,
        "a.py": "x = 1\n",
        "crates/fast/Cargo.toml": '[package]\nname = "fast"\nlicense = "MPL-2.0"\n',
        "crates/fast/src/lib.rs": "fn a() {}\n",
        "web/package.json": json.dumps({"private": True}),
        "web/a.js": "let x\n",
        "broken/package.json": "{",
        "broken/a.js": "let x\n",
    }
    found = licenses(files)
    assert (found["a.py"], found["crates/fast/src/lib.rs"], found["web/a.js"]) == ("MIT", "MPL-2.0", "MIT")
    assert classify(found["broken/a.js"]).risk is RiskClass.HIGH_RISK


def test_statements_in_one_folder_hold_together(licenses) -> None:
    cargo = '[package]\nname = "fast"\nlicense = "GPL-2.0-only"\n'
    assert (
        licenses({"pyproject.toml": PYPROJECT, "Cargo.toml": cargo, "a.py": ""})["a.py"] == "(GPL-2.0-only) AND (MIT)"
    )


def test_the_metadata_of_an_installed_package_is_of_the_folder_that_holds_it(licenses) -> None:
    metadata = "Name: tool\nLicense-Expression: Apache-2.0\n"
    assert licenses({"tool-1.0.dist-info/METADATA": metadata, "tool/a.py": "x = 1\n"}) == {"tool/a.py": "Apache-2.0"}


def test_who_holds_the_copyright_by_the_header_is_the_owner(tmp_path: Path) -> None:
    text = spdx("MIT", f"# SPDX-FileCopyright{'Text'}: © 2021, 2023 Bob & Co <bob@example.org>\n")
    files = {"pyproject.toml": PYPROJECT, "a.py": text, "vendor/b.py": text, "c.py": ""}
    owners = {document.id: document.owner for document in read_tree(tree(tmp_path, files))}
    assert owners == {"a.py": "Bob & Co <bob@example.org>", "vendor/b.py": "Bob & Co <bob@example.org>", "c.py": "Ann"}


def test_what_is_no_source_text_is_passed_over(tmp_path: Path) -> None:
    tree(
        tmp_path, {"pyproject.toml": PYPROJECT, "a.py": "x = 1\n", "LICENSE.md": "terms", ".git/b.py": "", "c.bin": ""}
    )
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    assert {d.id: d.text for d in read_tree(tmp_path)} == {"a.py": "x = 1\n", "latin.py": "# caf\ufffd\n"}


def test_a_folder_without_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCorpus, match="holds no source files"):
        list(read_tree(tmp_path))
    with pytest.raises(UnreadableCorpus, match="is not a folder"):
        list(read_tree(tmp_path / "missing"))


def test_of_two_licenses_of_one_class_the_first_is_kept() -> None:
    assert stricter("MIT", "Apache-2.0") == "MIT"
    assert stricter("MIT", "CC-BY-4.0") == stricter("CC-BY-4.0", "MIT") == "CC-BY-4.0"
