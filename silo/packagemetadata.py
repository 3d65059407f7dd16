"""What the metadata of a source package states: its license, its name and its owner.

Reads ``pyproject.toml`` (PEP 621, PEP 639), ``METADATA`` and ``PKG-INFO``, ``package.json`` and ``Cargo.toml``. Works
on the text of one file; opens none and decides nothing: what a license is worth, `silo.licenses` says.

Why a license file is not read here: it is often the license of a part, and its text names no version that a program
could be sure of. A package that states its license in words that are no SPDX expression, and has no classifier that
names one license, keeps those words, which are an unknown license.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import Any


@dataclass(frozen=True)
class PackageMetadata:
    """What one metadata file states; empty where it states nothing."""

    license: str = ""
    """As written; an SPDX expression where the author kept to the rules."""
    name: str = ""
    owner: str = ""
    url: str = ""
    evidence: str = ""
    """The words that state the license."""


_EXPRESSION = re.compile(r"[\w.+()-]+(\s+(AND|OR|WITH)\s+[\w.+()-]+)*")
UNREADABLE = "LicenseRef-Unreadable-Metadata"
CLASSIFIERS = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "License :: OSI Approved :: zlib/libpng License": "Zlib",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "License :: OSI Approved :: GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "License :: CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
}
"""Classifiers that name one license. Others, "BSD License" among them, leave open which."""


def read_metadata(file_name: str, text: str) -> PackageMetadata | None:
    """What ``text``, of a metadata file called ``file_name``, states; None where it is the metadata of no package.

    A file that cannot be parsed is of a package whose license is unknown.
    """
    reader = METADATA_FILES[file_name]
    try:
        return reader(text)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return PackageMetadata(UNREADABLE, evidence="cannot be parsed")


def _pyproject(text: str) -> PackageMetadata | None:
    project = tomllib.loads(text).get("project")
    if project is None:
        return None
    stated = project.get("license", "")
    if isinstance(stated, str):
        license_, evidence = stated, f"license = {stated!r}" if stated else ""
    else:
        license_, evidence = _legacy(stated.get("text", ""), project.get("classifiers", ()))
    if not license_:
        license_, evidence = _legacy("", project.get("classifiers", ()))
    people = [*project.get("authors", ()), *project.get("maintainers", ())]
    urls = {name.lower(): url for name, url in project.get("urls", {}).items()}
    url = next((urls[name] for name in ("homepage", "repository", "source") if name in urls), "")
    return PackageMetadata(license_, _text(project.get("name")), _people(people), url, evidence)


def _core_metadata(text: str) -> PackageMetadata:
    fields = HeaderParser().parsestr(text)
    license_ = fields.get("License-Expression", "").strip()
    evidence = f"License-Expression: {license_}" if license_ else ""
    if not license_:
        license_, evidence = _legacy(fields.get("License", ""), fields.get_all("Classifier", []))
    names = [fields.get(name, "") for name in ("Author", "Author-email", "Maintainer", "Maintainer-email")]
    owner = next((name for name in names if name), "")
    return PackageMetadata(license_, fields.get("Name", ""), owner, fields.get("Home-page", ""), evidence)


def _package_json(text: str) -> PackageMetadata:
    package = json.loads(text)
    stated = package.get("license") or package.get("licenses") or ""
    kinds = stated if isinstance(stated, list) else [stated]
    names = [_text(kind.get("type") if isinstance(kind, Mapping) else kind) for kind in kinds]
    license_ = names[0] if len(names) == 1 else " OR ".join(f"({name})" for name in names)
    people = [package.get("author"), *package.get("contributors", [])]
    url = _text(package.get("homepage"))
    return PackageMetadata(
        license_, _text(package.get("name")), _people(people), url, f"license: {json.dumps(stated)}" if license_ else ""
    )


def _cargo(text: str) -> PackageMetadata | None:
    table = tomllib.loads(text)
    package = table.get("package") or table.get("workspace", {}).get("package")
    if package is None:
        return None
    stated = package.get("license", "")
    license_ = " OR ".join(_text(stated).split("/"))
    people = package.get("authors", [])
    url = _text(package.get("repository")) or _text(package.get("homepage"))
    evidence = f"license = {stated!r}" if license_ else ""
    return PackageMetadata(
        license_, _text(package.get("name")), _people(people if isinstance(people, list) else []), url, evidence
    )


METADATA_FILES: Mapping[str, Callable[[str], PackageMetadata | None]] = {
    "pyproject.toml": _pyproject,
    "METADATA": _core_metadata,
    "PKG-INFO": _core_metadata,
    "package.json": _package_json,
    "Cargo.toml": _cargo,
}
"""Readers by the name of the file."""


def _legacy(words: str, classifiers: Sequence[str]) -> tuple[str, str]:
    """The license, and what states it, of a package from before license expressions: words that have the form of an
    expression, else the one classifier that names a license, else a line of words."""
    line = "" if "\n" in words.strip() or words.strip().upper() == "UNKNOWN" else words.strip()
    if _EXPRESSION.fullmatch(line):
        return line, f"License: {line}"
    stated = [text for text in classifiers if text.startswith("License ::") and text != "License :: OSI Approved"]
    if len(stated) == 1 and stated[0] in CLASSIFIERS:
        return CLASSIFIERS[stated[0]], stated[0]
    return line, f"License: {line:.120}" if line else ""


def _people(people: Any) -> str:
    """The names of ``people``, who are strings or have a name or an address."""
    named = [_text(one.get("name") or one.get("email")) if isinstance(one, Mapping) else _text(one) for one in people]
    return ", ".join(dict.fromkeys(name for name in named if name))


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
