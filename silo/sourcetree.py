"""Source code as documents: a folder, each file of it under the license that its package and its own header state.

Walks a folder and reads its files; the license of each is decided by what they say, and admission to training by
`silo.licenses` afterwards. A file gets

- the license of the nearest package above it that states one, or ``license`` of the caller where none does;
- that of the SPDX identifiers in the file, where they are stricter, or where no package states any;
- in a vendored folder, which holds what others wrote, that of its own SPDX identifiers alone. Without them it is
  ``LicenseRef-Vendored``, which is high-risk, so that the gate refuses it and lists it.

Several statements in one place hold together. What decided stands in the document's metadata, for an auditor.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from silo.corpora import TEXT_SUFFIXES
from silo.documents import MAX_TEXT_BYTES, Document
from silo.errors import UnreadableCorpus
from silo.licenses import PERMISSIVE, RiskClass, classify
from silo.notices import spdx_identifiers
from silo.packagemetadata import METADATA_FILES, PackageMetadata, read_metadata

VENDORED = "LicenseRef-Vendored"
VENDORED_FOLDERS = frozenset(
    "vendor vendored _vendor _vendored third_party third-party thirdparty 3rdparty node_modules bower_components "
    "external externals extern bundled _bundled".split()
)
"""Folders of these names, in any case, hold what others wrote."""
_LEGAL_STEMS = frozenset("license licence copying copyright notice authors unlicense".split())
_COPYRIGHT = re.compile(r"SPDX-FileCopyrightText\s*:\s*(?:©|\(c\)|copyright)?[\s\d,–-]*([^\n]{1,200})", re.IGNORECASE)
_STRICTNESS = (*PERMISSIVE, RiskClass.HIGH_RISK)


@dataclass(frozen=True)
class _Package:
    folder: PurePosixPath
    facts: PackageMetadata
    file: str


def read_tree(folder: Path, license: str = "", owner: str = "") -> Iterator[Document]:  # noqa: A002
    """The text files under ``folder`` in order of their paths; ids are the paths. Hidden files, links and license
    files are passed over; bytes that are no UTF-8 become U+FFFD, which the cleaning before training counts.

    Raises:
        UnreadableCorpus: the folder is missing or holds no text file.
    """
    if not folder.is_dir():
        raise UnreadableCorpus(f"{folder} is not a folder. A source tree is a folder of source files.")
    files = sorted(_files(folder))
    packages = [package for path in files if path.name in METADATA_FILES for package in _packages(folder, path)]
    n_read = 0
    for path in files:
        if path.suffix.lower() not in TEXT_SUFFIXES or path.stem.lower() in _LEGAL_STEMS:
            continue
        if (folder / path).stat().st_size > MAX_TEXT_BYTES:
            continue
        n_read += 1
        text = (folder / path).read_bytes().decode("utf-8", errors="replace").removeprefix("\ufeff")
        yield _document(path, text, packages, license, owner)
    if not n_read:
        raise UnreadableCorpus(f"{folder} holds no source files. Expected one of {' '.join(sorted(TEXT_SUFFIXES))}.")


def stricter(first: str, second: str) -> str:
    """Of two licenses the one whose class demands more; the first where they demand the same."""
    return max(first, second, key=lambda stated: _STRICTNESS.index(classify(stated).risk))


def _document(path: PurePosixPath, text: str, packages: list[_Package], given: str, owner: str) -> Document:
    found = list(dict.fromkeys(expression for expression, _ in spdx_identifiers(text)))
    own = _together(found)
    holder = match.group(1).strip(" *#/-") if (match := _COPYRIGHT.search(text)) else ""
    if vendor := _vendored(path):
        evidence = f"SPDX-License-Identifier: {own}" if own else f"no SPDX identifier, in {vendor}"
        metadata = {"license_evidence": evidence}
        return Document(str(path), text, own or VENDORED, title=str(path), owner=holder, metadata=metadata)
    above = [package for package in packages if package.folder in path.parents]
    nearest = max((len(p.folder.parts) for p in above if p.facts.license), default=-1)
    stating = [p for p in above if p.facts.license and len(p.folder.parts) == nearest]
    packaged = _together(list(dict.fromkeys(p.facts.license for p in stating))) or given
    evidence = "; ".join(f"{p.file}: {p.facts.evidence}" for p in stating) or ("the declaration" if given else "")
    decided = stricter(own, packaged) if own and packaged else own or packaged
    if own and decided == own:
        evidence = f"SPDX-License-Identifier: {own}"
    innermost = sorted(above, key=lambda package: -len(package.folder.parts))
    name = next((p.facts.name for p in innermost if p.facts.name), "")
    by = holder or next((p.facts.owner for p in innermost if p.facts.owner), "") or owner or name
    url = next((p.facts.url for p in innermost if p.facts.url), "")
    metadata = {"license_evidence": evidence or "nothing states a license", **({"package": name} if name else {})}
    return Document(str(path), text, decided, title=str(path), owner=by, url=url, metadata=metadata)


def _files(folder: Path) -> Iterator[PurePosixPath]:
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(at) / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield PurePosixPath(path.relative_to(folder).as_posix())


def _packages(folder: Path, path: PurePosixPath) -> Iterator[_Package]:
    """The package whose metadata is at ``path``. ``name.dist-info/METADATA`` is of the folder that holds it."""
    if _vendored(path):
        return
    text = (folder / path).read_bytes().decode("utf-8", errors="replace")
    if (facts := read_metadata(path.name, text)) is not None:
        is_beside = path.parent.name.endswith((".dist-info", ".egg-info"))
        yield _Package(path.parent.parent if is_beside else path.parent, facts, str(path))


def _vendored(path: PurePosixPath) -> str:
    """The outermost vendored folder that ``path`` is in; empty where it is in none."""
    for index, name in enumerate(path.parts[:-1]):
        if name.lower() in VENDORED_FOLDERS:
            return "/".join(path.parts[: index + 1])
    return ""


def _together(expressions: list[str]) -> str:
    if len(expressions) < 2:
        return "".join(expressions)
    return " AND ".join(f"({one})" for one in expressions)
