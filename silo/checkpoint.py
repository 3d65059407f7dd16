"""What a checkpoint was trained on, and proof that its files are the ones that were written.

A checkpoint is a folder that transformers loads, and beside its files

- ``silo-manifest.json``: SHA-256 of every other file, the resolved recipe, counts, versions;
- ``trained-on.jsonl.gz``: id, digest, license and risk class of every document that trained the
  tokenizer or the LM;
- ``held-out.jsonl.gz``: the same of the licensed documents kept for validation;
- ``tokenizer-trained-on.jsonl.gz``: the same of those that trained the tokenizer, where another checkpoint gave it;
- ``refused.jsonl.gz``: id, license and reason of every document that was turned away;
- ``data-card.md`` and ``croissant.json``: what these lists add up to, see `silo.datacard`.

Knows nothing of models or tensors: an auditor reads all of it without torch.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from silo.documents import Document
from silo.errors import BadCheckpoint, UnreadableCorpus
from silo.files import file_digest, new_file
from silo.jsonl import read_jsonl, write_jsonl
from silo.licenses import PERMISSIVE, classify

FORMAT = 1
MANIFEST_NAME = "silo-manifest.json"
TRAINED_ON_NAME = "trained-on.jsonl.gz"
HELD_OUT_NAME = "held-out.jsonl.gz"
REFUSED_NAME = "refused.jsonl.gz"
TOKENIZER_TRAINED_ON_NAME = "tokenizer-trained-on.jsonl.gz"


@dataclass(frozen=True)
class TrainingDocument:
    """One document that trained the checkpoint, or was held out; its text is not kept."""

    id: str
    digest: str
    """SHA-256, in hex, of the normalized text."""
    license: str
    risk: str
    source: str = ""
    owner: str = ""
    n_bytes: int = 0
    """Of text, in UTF-8."""
    n_tokens: int = 0

    @classmethod
    def of(cls, document: Document, n_tokens: int = 0) -> "TrainingDocument":
        """The facts of ``document`` that an auditor needs, its class decided anew."""
        risk = str(classify(document.license).risk)
        n_bytes = len(document.text.encode("utf-8"))
        facts = (document.license, risk, document.source, document.owner)
        return cls(document.id, document.digest, *facts, n_bytes, n_tokens)


@dataclass(frozen=True)
class Manifest:
    """The facts of a checkpoint. Everything in it is plain JSON."""

    recipe: Mapping[str, object]
    """The resolved recipe: every value that training used, defaults included."""
    admitted: Mapping[str, int]
    """Documents that trained it, by risk class."""
    refused: Mapping[str, int]
    """Documents that were turned away, by reason."""
    n_held_out: int
    """Licensed documents kept for validation."""
    n_tokens: int
    """Tokens seen in training, repeats included."""
    n_steps: int
    losses: Mapping[str, float]
    """``train`` and ``validation`` in nats per token, ``validation_bits_per_byte``."""
    versions: Mapping[str, str]
    """Of Python and the packages whose numbers went into it."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What a reader should know, such as that a run bounded by time is repeated by its token count."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256, in hex, of every file but the manifest, by path relative to the checkpoint."""
    format: int = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest`` into ``folder`` with the digests of the files that are there; return it so."""
    files = {name: file_digest(folder / name) for name in _files(folder)}
    complete = dataclasses.replace(manifest, files=files)
    with new_file(folder / MANIFEST_NAME) as stream:
        stream.write(json.dumps(dataclasses.asdict(complete), indent=1, sort_keys=True).encode("utf-8") + b"\n")
    return complete


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the checkpoint in ``folder``; the files are not checked.

    Raises:
        BadCheckpoint: there is no manifest, it is torn, or its format is another one.
    """
    path = folder / MANIFEST_NAME
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadCheckpoint(
            f"{folder} has no {MANIFEST_NAME} ({error.strerror}). Expected a checkpoint that `silo train` wrote."
        ) from error
    except ValueError as error:
        raise BadCheckpoint(f"{path} is torn or edited: {error}. Copy the checkpoint again.") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise BadCheckpoint(f"{path} has format {found!r}; this version reads format {FORMAT}")
    expected = {field.name for field in dataclasses.fields(Manifest)}
    if set(facts) != expected:
        raise BadCheckpoint(
            f"{path} is edited: its fields differ from format {FORMAT} by {sorted(expected ^ set(facts))}"
        )
    return Manifest(**facts)


def verify_files(folder: Path) -> Manifest:
    """Check every file against the manifest, whatever trained the checkpoint.

    Raises:
        BadCheckpoint: a file is missing, added or changed; the message names which, with the digests.
    """
    manifest = read_manifest(folder)
    present = set(_files(folder))
    faults = [f"{name} is missing" for name in sorted(set(manifest.files) - present)]
    faults += [f"{name} is not in the manifest" for name in sorted(present - set(manifest.files))]
    for name in sorted(present & set(manifest.files)):
        if (found := file_digest(folder / name)) != manifest.files[name]:
            faults.append(f"{name} has SHA-256 {found}, the manifest says {manifest.files[name]}")
    if faults:
        raise BadCheckpoint(f"{folder} is not as it was written: {'; '.join(faults)}. Copy the checkpoint again.")
    return manifest


def verify_checkpoint(folder: Path) -> Manifest:
    """Check every file against the manifest, and every document that trained it against the promise.

    Raises:
        BadCheckpoint: as `verify_files`, or a document in ``trained-on.jsonl.gz`` is not of a permissive class.
    """
    manifest = verify_files(folder)
    permissive = {str(risk) for risk in PERMISSIVE}
    for name in (TRAINED_ON_NAME, TOKENIZER_TRAINED_ON_NAME):
        if name not in manifest.files:
            continue
        for document in read_training_documents(folder / name):
            if document.risk not in permissive:
                raise BadCheckpoint(f"{folder} was trained on {document.id!r}, {document.license!r}: {document.risk}")
    return manifest


def refuse_baseline(folder: Path) -> None:
    """Raise BadCheckpoint where ``folder`` is a checkpoint that was trained on high-risk text to measure against.

    A model of another maker has no manifest of ours and passes: what trained it is for its user to know.
    """
    if not (folder / MANIFEST_NAME).exists():
        return
    admission = read_manifest(folder).recipe.get("admission")
    reason = admission.get("baseline") if isinstance(admission, Mapping) else None
    if reason:
        raise BadCheckpoint(
            f"{folder} was trained on high-risk text, as a baseline ({reason}). It may be measured, with `silo eval`, "
            "and neither serve nor build a datastore. Load a licensed checkpoint."
        )


def write_training_documents(path: Path, documents: Iterable[TrainingDocument]) -> int:
    """Write ``documents`` as gzipped JSONL, the same bytes for the same documents; return how many."""
    return write_jsonl(path, map(dataclasses.asdict, documents))


def read_training_documents(path: Path) -> Iterator[TrainingDocument]:
    """The documents that ``write_training_documents`` wrote to ``path``.

    Raises:
        BadCheckpoint: the file is missing, torn or of another shape.
    """
    try:
        for _, row in read_jsonl(path):
            yield TrainingDocument(**row)
    except (UnreadableCorpus, TypeError) as error:
        raise BadCheckpoint(f"the list of training documents cannot be read: {error}") from error


def _files(folder: Path) -> list[str]:
    """Relative paths of the checkpoint's files but the manifest; hidden ones are other programs' notes."""
    relative = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        name.as_posix()
        for name in relative
        if name.as_posix() != MANIFEST_NAME and not any(part.startswith(".") for part in name.parts)
    ]
