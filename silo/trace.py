"""Whether a document trained a checkpoint, from the lists beside the weights; offline, and without a model.

A text is known by the digest of its normalized form. What is asked is whether *this text* trained it: an edited
copy has another digest, and is not found. White space at the ends, which files gain and lose, makes no difference.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from silo.checkpoint import (
    HELD_OUT_NAME,
    TOKENIZER_TRAINED_ON_NAME,
    TRAINED_ON_NAME,
    TrainingDocument,
    read_training_documents,
    verify_files,
)
from silo.documents import text_digest


class Part(enum.StrEnum):
    """What a document was to a checkpoint."""

    TRAINED = "trained"
    """Its weights, and its tokenizer unless that came from another checkpoint."""
    TOKENIZER = "trained the tokenizer"
    """The tokenizer alone, in the checkpoint that it came from."""
    HELD_OUT = "held out"
    NONE = "none"


@dataclass(frozen=True)
class Answer:
    """What is known of one document."""

    part: Part
    documents: tuple[TrainingDocument, ...] = ()
    """The entries that were found, in the order of the lists."""


@dataclass(frozen=True)
class Register:
    """The documents of a checkpoint, by digest and by id."""

    entries: Sequence[tuple[Part, TrainingDocument]]
    by_name: Mapping[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        by_name: dict[str, list[int]] = {}
        for index, (_, document) in enumerate(self.entries):
            for name in {document.digest, document.id}:
                by_name.setdefault(name, []).append(index)
        object.__setattr__(self, "by_name", by_name)

    @classmethod
    def of(cls, checkpoint: Path) -> "Register":
        """The register of a checkpoint folder, every file checked against its manifest first.

        Raises:
            silo.errors.BadCheckpoint: the folder is not as it was written, so it answers nothing.
        """
        manifest = verify_files(checkpoint)
        parts = [(Part.TRAINED, TRAINED_ON_NAME), (Part.HELD_OUT, HELD_OUT_NAME)]
        if TOKENIZER_TRAINED_ON_NAME in manifest.files:
            parts.append((Part.TOKENIZER, TOKENIZER_TRAINED_ON_NAME))
        return cls([(part, row) for part, name in parts for row in read_training_documents(checkpoint / name)])

    def find(self, name: str) -> Answer:
        """By id or by digest in hex."""
        return self._answer([name])

    def find_text(self, text: str) -> Answer:
        """By the text itself, with or without the white space at its ends."""
        bare = text.strip()
        return self._answer(dict.fromkeys(text_digest(form) for form in (text, bare, f"{bare}\n")))

    def _answer(self, names: Iterable[str]) -> Answer:
        found = sorted({index for name in names for index in self.by_name.get(name, ())})
        parts = {self.entries[index][0] for index in found}
        part = next((part for part in Part if part in parts), Part.NONE)
        return Answer(part, tuple(dict.fromkeys(self.entries[index][1] for index in found)))
