"""Which documents may train: the one gate between a corpus and the weights.

Decides on the license, on its publisher's machine-readable signals and on what the text says of its own license; opens
no file.
``HIGH_RISK`` is refused unless the recipe is of a baseline, which says so for good, and each refusal keeps its reason.
Everything after this module sees admitted documents only.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from silo.documents import Document
from silo.licenses import RiskClass, classify
from silo.notices import contradiction
from silo.preferences import preference
from training.config import AdmissionRecipe


@dataclass(frozen=True)
class Refusal:
    """A document that may not train, and why."""

    id: str
    license: str
    risk: RiskClass
    reason: str
    """Counted: the same words for the same kind of fault."""
    detail: str = ""
    """Of this document: the words that were found, or what it is a copy of."""
    source: str = ""

    @classmethod
    def of(cls, document: Document, reason: str, detail: str = "") -> "Refusal":
        """The refusal of ``document``, its class decided by its label."""
        risk = classify(document.license).risk
        return cls(document.id, document.license, risk, reason, detail, document.source)


@dataclass
class Tally:
    """Counts of what passed the gate and what did not; grows while the documents stream by."""

    admitted: Counter[str] = field(default_factory=Counter)
    """By risk class."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason, which begins with the stage or, where the license is the reason, with class and license."""
    n_empty: int = 0
    """Documents of white space, which have nothing to learn."""
    refusals: list[Refusal] = field(default_factory=list)
    """All of them, in order: an auditor asks for each, so they are kept and written beside the checkpoint."""

    def refuse(self, refusal: Refusal) -> None:
        """Count and list ``refusal``."""
        self.refused[refusal.reason] += 1
        self.refusals.append(refusal)


def decide(document: Document, recipe: AdmissionRecipe) -> Refusal | None:
    """The refusal of ``document``, or None where it is admitted."""
    decision = classify(document.license)
    named = f"{decision.risk}: {document.license or 'no license'}"
    if decision.risk is RiskClass.HIGH_RISK and not recipe.baseline:
        return Refusal.of(document, f"{named}: {decision.reason}")
    if str(decision.risk) not in recipe.classes:
        return Refusal.of(document, f"{named}: the recipe admits {', '.join(recipe.classes)} only")
    if not (preferred := preference(document)).allowed:
        return Refusal.of(document, f"its publisher reserves it: {preferred.signal}", preferred.evidence)
    if recipe.baseline:
        return None
    if found := contradiction(document.text, decision.risk):
        return Refusal.of(document, f"its text contradicts its label: {found.name}: {found.reason}", found.quote)
    return None


def admit(documents: Iterable[Document], recipe: AdmissionRecipe, tally: Tally) -> Iterator[Document]:
    """The documents that pass the gate, in order; ``tally`` counts both kinds."""
    return passing(documents, lambda document: decide(document, recipe), tally)


def passing(
    documents: Iterable[Document], refusal_of: Callable[[Document], Refusal | None], tally: Tally
) -> Iterator[Document]:
    """The documents with text that ``refusal_of`` has nothing against, in order; ``tally`` counts all kinds."""
    for document in documents:
        if refusal := refusal_of(document):
            tally.refuse(refusal)
        elif not document.text.strip():
            tally.n_empty += 1
        else:
            tally.admitted[str(classify(document.license).risk)] += 1
            yield document


def is_held_out(document: Document, recipe: AdmissionRecipe) -> bool:
    """Whether ``document`` validates instead of training: by its digest, so that copies fall on one side."""
    return int(document.digest[:13], 16) / 16**13 < recipe.validation_share
