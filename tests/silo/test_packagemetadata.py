import json

import pytest

from silo.licenses import RiskClass, classify
from silo.packagemetadata import METADATA_FILES, UNREADABLE, read_metadata

MIT = "License :: OSI Approved :: MIT License"


def pyproject(**project: object) -> str:
    lines = [
        f"{name} = {value if isinstance(value, str) and value[:1] in '[{' else json.dumps(value)}"
        for name, value in project.items()
    ]
    return "[project]\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("file", "text", "license"),
    [
        ("pyproject.toml", pyproject(license="MIT OR Apache-2.0"), "MIT OR Apache-2.0"),
        ("pyproject.toml", pyproject(license='{text = "BSD-3-Clause"}'), "BSD-3-Clause"),
        ("pyproject.toml", pyproject(license='{file = "LICENSE"}'), ""),
        ("pyproject.toml", pyproject(license='{file = "LICENSE"}', classifiers=[MIT]), "MIT"),
        ("pyproject.toml", pyproject(classifiers=[MIT, "License :: OSI Approved"]), "MIT"),
        ("pyproject.toml", pyproject(classifiers=[MIT, "License :: Public Domain"]), ""),
        ("pyproject.toml", pyproject(classifiers=["License :: OSI Approved :: BSD License"]), ""),
        ("pyproject.toml", pyproject(license="GPL-3.0-only", classifiers=[MIT]), "GPL-3.0-only"),
        ("pyproject.toml", "[project\n", UNREADABLE),
        ("METADATA", "Name: a\nLicense-Expression: Apache-2.0\nLicense: GPL\n\nbody", "Apache-2.0"),
        ("METADATA", "Name: a\nLicense: MIT\n", "MIT"),
        ("METADATA", f"Name: a\nLicense: MIT License\nClassifier: {MIT}\n", "MIT"),
        ("METADATA", "Name: a\nLicense: a free license\n", "a free license"),
        ("METADATA", f"Name: a\nLicense: UNKNOWN\nClassifier: {MIT}\n", "MIT"),
        ("METADATA", f"Name: a\nLicense: GPL-2.0-only\nClassifier: {MIT}\n", "GPL-2.0-only"),
        ("PKG-INFO", "Name: a\nLicense: A long text\n        of many lines\n", ""),
        ("PKG-INFO", "Name: a\n\nLicense-Expression: MIT\n", ""),
        ("package.json", json.dumps({"license": "ISC"}), "ISC"),
        ("package.json", json.dumps({"license": {"type": "MIT", "url": "x"}}), "MIT"),
        ("package.json", json.dumps({"licenses": [{"type": "MIT"}, {"type": "GPL-3.0"}]}), "(MIT) OR (GPL-3.0)"),
        ("package.json", json.dumps({"license": "SEE LICENSE IN x"}), "SEE LICENSE IN x"),
        ("package.json", json.dumps({"private": True}), ""),
        ("package.json", "[]", UNREADABLE),
        ("Cargo.toml", '[package]\nname = "a"\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("Cargo.toml", '[workspace.package]\nlicense = "MPL-2.0"\n', "MPL-2.0"),
        ("Cargo.toml", '[package]\nname = "a"\nlicense.workspace = true\n', ""),
    ],
)
def test_the_license_is_the_one_that_is_stated(file: str, text: str, license: str) -> None:  # noqa: A002
    metadata = read_metadata(file, text)
    assert metadata is not None and metadata.license == license
    assert bool(metadata.evidence) == bool(license)


@pytest.mark.parametrize("words", ["a free license", "SEE LICENSE IN x", UNREADABLE, "(MIT) OR (GPL-3.0)"])
def test_words_that_name_no_permissive_license_are_high_risk(words: str) -> None:
    assert classify(words).risk is RiskClass.HIGH_RISK


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "pyproject.toml",
            pyproject(
                name="a", authors='[{name = "Ann"}, {email = "bob@example.org"}]', urls='{Homepage = "https://a"}'
            ),
        ),
        ("METADATA", "Name: a\nAuthor-email: Ann, bob@example.org\nHome-page: https://a\n"),
        (
            "package.json",
            json.dumps(
                {"name": "a", "author": "Ann", "contributors": [{"name": "bob@example.org"}], "homepage": "https://a"}
            ),
        ),
        ("Cargo.toml", '[package]\nname = "a"\nauthors = ["Ann", "bob@example.org"]\nrepository = "https://a"\n'),
    ],
)
def test_name_owner_and_address_are_read(file: str, text: str) -> None:
    metadata = read_metadata(file, text)
    assert metadata is not None
    assert (metadata.name, metadata.owner, metadata.url) == ("a", "Ann, bob@example.org", "https://a")


def test_a_file_that_describes_no_package_is_none() -> None:
    assert read_metadata("pyproject.toml", "[tool.ruff]\nline-length = 120\n") is None
    assert read_metadata("Cargo.toml", "[profile.release]\nlto = true\n") is None
    assert set(METADATA_FILES) == {"pyproject.toml", "METADATA", "PKG-INFO", "package.json", "Cargo.toml"}
