"""Which documents may train: the one gate between a corpus and the weights.

Decides on licenses alone and opens no file. ``HIGH_RISK`` is refused unless the recipe is of a baseline, which says
so for good, and each refusal keeps its reason. Everything after this module sees admitted documents only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from silo.documents import Document
from silo.licenses import RiskClass, classify
from training.config import AdmissionRecipe


@dataclass(frozen=True)
class Refusal:
    """A document that may not train, and why."""

    id: str
    license: str
    risk: RiskClass
    reason: str


@dataclass
class Tally:
    """Counts of what passed the gate and what did not; grows while the documents stream by."""

    admitted: Counter[str] = field(default_factory=Counter)
    """By risk class."""
    refused: Counter[str] = field(default_factory=Counter)
    """By risk class, license and reason."""
    n_empty: int = 0
    """Documents of white space, which have nothing to learn."""
    examples: list[Refusal] = field(default_factory=list)
    """The first refusal of each reason."""


def decide(document: Document, recipe: AdmissionRecipe) -> Refusal | None:
    """The refusal of ``document``, or None where it is admitted."""
    decision = classify(document.license)
    if decision.risk is RiskClass.HIGH_RISK and not recipe.baseline:
        return Refusal(document.id, document.license, decision.risk, decision.reason)
    if str(decision.risk) not in recipe.classes:
        reason = f"the recipe admits {', '.join(recipe.classes)} only"
        return Refusal(document.id, document.license, decision.risk, reason)
    return None


def admit(documents: Iterable[Document], recipe: AdmissionRecipe, tally: Tally) -> Iterator[Document]:
    """The documents that may train, in order; ``tally`` counts both kinds."""
    for document in documents:
        if refusal := decide(document, recipe):
            key = f"{refusal.risk}: {refusal.license or 'no license'}: {refusal.reason}"
            if key not in tally.refused:
                tally.examples.append(refusal)
            tally.refused[key] += 1
        elif not document.text.strip():
            tally.n_empty += 1
        else:
            tally.admitted[str(classify(document.license).risk)] += 1
            yield document


def is_held_out(document: Document, recipe: AdmissionRecipe) -> bool:
    """Whether ``document`` validates instead of training: by its digest, so that copies fall on one side."""
    return int(document.digest[:13], 16) / 16**13 < recipe.validation_share
