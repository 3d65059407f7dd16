"""The demo's text: what it is, whose it is, and why we say so.

Three licensed domains and two high-risk ones, straight from published packages, so that nothing is
committed and every byte is pinned. **A package's license is not the license of the text inside it**:
the license stands at each source, with the evidence, in ``sources/packages.toml``. Trains and stores nothing.

    python -m silo.demo_corpus .demo
"""

import hashlib
import json
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from silo.corpora import write_documents
from silo.declarations import declared
from silo.demo_texts import read_library
from silo.documents import Document
from silo.errors import SiloError, UnreadableCorpus
from silo.files import file_digest, new_file
from silo.loaders import PACKAGE_READERS, package_of
from silo.packages import Package, fetch

NEWS_BYTES = 1_200_000
CODE_BYTES = 500_000
"""How much high-risk text the demo stores: each entry costs a step of the LM, and minutes are few."""


@dataclass(frozen=True)
class Source:
    """One collection of texts, under the license that it declares or under those that its texts state."""

    name: str
    """As in `Document.source`."""
    file: str
    """Where `write_demo_corpus` puts it: ``licensed/`` may train, ``high-risk/`` never does."""
    license: str
    """Of the texts that state none of their own."""
    evidence: str
    """Why this is the license of the text, in words for an auditor."""
    read: Callable[[Path], Iterable[Document]]
    """Documents of the fetched file, or of the folder of Python's library."""
    package: Package | None = None
    """None: the text is Python's own library, which is there already."""
    max_bytes: int | None = None
    """Take documents in the order of a hash of their ids until this much text; None takes all."""


def read_source(source: Source, cache: Path) -> tuple[Document, ...]:
    """The documents of a source, sorted by id; the same on every machine for the same files.

    A text that occurs twice is taken once, so that opting it out leaves no twin behind.

    Raises:
        BadPackage: the package did not arrive or is not the pinned one.
        UnreadableCorpus: no text was found where it should be.
    """
    where = fetch(source.package, cache) if source.package else Path(sysconfig.get_paths()["stdlib"])
    unique: dict[str, Document] = {}
    for document in sorted(source.read(where), key=lambda document: document.id):
        if document.digest not in unique:
            unique[document.digest] = replace(document, source=source.name, license=document.license or source.license)
    if not unique:
        raise UnreadableCorpus(
            f"expected the texts of {source.name} in {where}; found none. Is Python's library there?"
        )
    return choose(unique.values(), source.max_bytes)


def choose(documents: Iterable[Document], max_bytes: int | None) -> tuple[Document, ...]:
    """A fixed sample of at most ``max_bytes`` of text, sorted by id.

    Documents are taken in the order of the SHA-256 of their ids, so the sample does not depend on
    the order of the files, and a larger one contains a smaller one.
    """
    chosen = []
    n_bytes = 0
    for document in sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).digest()):
        n_bytes += len(document.text.encode())
        if max_bytes is not None and n_bytes > max_bytes:
            break
        chosen.append(document)
    return tuple(sorted(chosen, key=lambda document: document.id))


def write_demo_corpus(folder: Path, cache: Path, sources: Sequence[Source] | None = None) -> Path:
    """Write every source under ``folder`` as gzipped JSON lines, and then ``corpus.json``, which is returned.

    The manifest names each file with its SHA-256, license, evidence and package. It is written last, so
    a folder that has one is complete.
    """
    manifest = folder / "corpus.json"
    manifest.unlink(missing_ok=True)
    rows = []
    for source in SOURCES if sources is None else sources:
        documents = read_source(source, cache)
        path = folder / source.file
        write_documents(path, documents)
        n_bytes = sum(len(document.text.encode()) for document in documents)
        licenses = sorted({document.license for document in documents})
        rows.append(
            {
                "source": source.name,
                "file": source.file,
                "sha256": file_digest(path),
                "n_documents": len(documents),
                "text_bytes": n_bytes,
                "licenses": licenses,
                "evidence": source.evidence,
                "package": source.package.requirement if source.package else f"Python {platform.python_version()}",
                "package_sha256": source.package.sha256 if source.package else None,
            }
        )
        print(
            f"{source.file:<24} {len(documents):>5} documents  {n_bytes / 1e6:5.1f} MB  {', '.join(licenses)}",
            flush=True,
        )
    with new_file(manifest) as file:
        file.write((json.dumps(rows, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
    return manifest


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds a demo corpus whose every file is as its manifest says."""
    try:
        rows = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        return all(file_digest(folder / row["file"]) == row["sha256"] for row in rows)
    except (OSError, ValueError):
        return False


def _declared(name: str, file: str, max_bytes: int | None = None) -> Source:
    """A source of ``sources/packages.toml``, which holds its license, its evidence and its pin."""
    found = declared(f"packages/{name}")
    reader = PACKAGE_READERS[found.reader]
    return Source(name, file, found.license, found.evidence, reader, package_of(found), max_bytes)


SOURCES = (
    _declared("speeches_sotu", "licensed/pd.jsonl.gz"),
    Source(
        name="code_python",
        file="licensed/sw.jsonl.gz",
        license="PSF-2.0",
        evidence="LICENSE of Python; parts under other terms are permissive too (its documentation, "
        "History and License).",
        read=read_library,
    ),
    _declared("science_plos", "licensed/by.jsonl.gz"),
    _declared("news_bbc", "high-risk/news.jsonl.gz", NEWS_BYTES),
    _declared("code_ansible", "high-risk/code.jsonl.gz", CODE_BYTES),
)


def main(arguments: Sequence[str]) -> None:
    """``FOLDER``: write the demo's corpus there; the packages are kept in ``FOLDER/packages``."""
    if len(arguments) != 1:
        sys.exit("expected one folder, as in: python -m silo.demo_corpus .demo")
    try:
        write_demo_corpus(Path(arguments[0]), Path(arguments[0]) / "packages")
    except (SiloError, OSError) as error:
        sys.exit(f"silo: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
