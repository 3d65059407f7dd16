"""Corpora for a reproduction: text that this machine has, or a sample of a folder of corpora.

    python -m silo.reproduction.corpora stand-in OUT
    python -m silo.reproduction.corpora sample IN OUT --train-bytes 4000000 --store-bytes 1000000 …

Both make ``low/DOMAIN/{train,gate,validation,test}.jsonl.gz``, where ``gate`` is a part of ``train``, and
``high/DOMAIN/{datastore,validation,test}.jsonl.gz``.
Reads and writes documents; trains and stores nothing.

The **stand-in** needs no network: exercises of our generator and chapters of Python's manual are the licensed text;
more exercises and modules of Python's library stand in for high-risk text, under a license name that says so. They
show that everything works and measure nothing about real text.
"""

import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Annotated

import typer

from silo.corpora import read_documents, write_documents
from silo.documents import Document
from silo.errors import UnreadableCorpus
from silo.files import new_folder
from silo.mathematics import exercises

LOW, HIGH = ("train", "validation", "test"), ("datastore", "validation", "test")
GATE = "gate"
"""Of a licensed domain, the part of ``train`` that is stored where a gate is fitted."""
STAND_IN = "LicenseRef-stand-in-for-high-risk-text"
_MODULES = (
    "argparse",
    "calendar",
    "csv",
    "datetime",
    "difflib",
    "fractions",
    "logging",
    "optparse",
    "textwrap",
    "zipfile",
)
_PIECE = 900
"""Characters of a stand-in document: few, so that a tiny store has many documents."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command("stand-in")
def stand_in(out: Annotated[Path, typer.Argument(help="The folder to make.")]) -> None:
    """Corpora of text that comes with SILO and Python."""
    manual = list(_manual())
    library = list(_library(Path(sysconfig.get_paths()["stdlib"])))
    licensed, others = ([_shorter(one) for one in exercises(n, seed)] for n, seed in ((60, 0), (48, 1)))
    series = [replace(one, license=STAND_IN, owner=f"series {i % 4}") for i, one in enumerate(others)]
    with new_folder(out) as folder:
        _write(folder / "low" / "exercises", LOW, _split(licensed, 12), 20 * _PIECE)
        _write(folder / "low" / "manual", LOW, _split(manual, 12), 20 * _PIECE)
        _write(folder / "high" / "series", HIGH, _split(series, 12))
        _write(folder / "high" / "modules", HIGH, _split(library, 12))


@app.command("sample")
def sample(
    corpora: Annotated[Path, typer.Argument(help="A folder of corpora, laid out as the one to make.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    train_bytes: Annotated[int, typer.Option(min=1, help="Of each licensed domain that trains.")],
    store_bytes: Annotated[int, typer.Option(min=1, help="Of each high-risk domain that is stored.")],
    gate_bytes: Annotated[int, typer.Option(min=1, help="Of each licensed domain that is stored for a gate.")],
    eval_bytes: Annotated[int, typer.Option(min=1, help="Of each validation and test text.")],
) -> None:
    """A smaller part of a folder of corpora: documents in the order of their digests, so that nobody chose which."""
    with new_folder(out) as folder:
        for kind, splits in (("low", LOW), ("high", HIGH)):
            domains = sorted(path.name for path in (corpora / kind).glob("*") if path.is_dir())
            if not domains:
                raise UnreadableCorpus(f"expected folders of domains in {corpora / kind}; found none")
            for domain in domains:
                limits = {"train": train_bytes, "datastore": store_bytes}
                places = (next((corpora / kind / domain).glob(f"{split}.jsonl*"), None) for split in splits)
                found = []
                for split, place in zip(splits, places, strict=True):
                    if place is None:
                        raise UnreadableCorpus(f"expected {split}.jsonl.gz in {corpora / kind / domain}; found none")
                    found.append(list(_first(read_documents(str(place)), limits.get(split, eval_bytes))))
                _write(folder / kind / domain, splits, found, gate_bytes if kind == "low" else 0)


def _first(documents: Iterable[Document], n_bytes: int) -> Iterator[Document]:
    taken = 0
    for document in sorted(documents, key=lambda one: (one.digest, one.id)):
        if taken >= n_bytes:
            return
        yield document
        taken += len(document.text.encode("utf-8"))


def _manual() -> Iterator[Document]:
    """Chapters; those that stand under two names once."""
    texts = {topics[name][:_PIECE]: name for name in sorted(topics, reverse=True)}
    for text, name in sorted(texts.items(), key=lambda item: item[1]):
        if len(text) > _PIECE // 3:
            yield Document(f"manual/{name}", text, "PSF-2.0", "manual", name, "Python Software Foundation")


def _library(folder: Path) -> Iterator[Document]:
    """Pieces of modules; a module is a series."""
    for name in _MODULES:
        path = next((p for p in (folder / f"{name}.py", folder / name / "__init__.py") if p.exists()), None)
        text = "" if path is None else path.read_text(encoding="utf-8")
        for i, start in enumerate(range(0, min(len(text) - _PIECE, 6 * _PIECE), _PIECE)):
            piece = text[start : start + _PIECE]
            yield Document(f"modules/{name}-{i}", piece, STAND_IN, "modules", f"{name}, part {i}", f"module {name}")


def _shorter(document: Document) -> Document:
    """The first whole exercises."""
    return replace(document, text=document.text[:_PIECE].rpartition("\n\n")[0] + "\n")


def _split(documents: Sequence[Document], every: int) -> list[list[Document]]:
    """Of each ``every`` in a row, the last two: one validates and one tests."""
    parts: list[list[Document]] = [[], [], []]
    for i, document in enumerate(documents):
        parts[max(0, i % every - (every - 3))].append(document)
    return parts


def _write(folder: Path, splits: Sequence[str], parts: Sequence[Sequence[Document]], gate_bytes: int = 0) -> None:
    folder.mkdir(parents=True)
    gate = {GATE: list(_first(parts[0], gate_bytes))} if gate_bytes else {}
    for split, documents in (dict(zip(splits, parts, strict=True)) | gate).items():
        write_documents(folder / f"{split}.jsonl.gz", sorted(documents, key=lambda one: one.id))


if __name__ == "__main__":
    sys.exit(app())
