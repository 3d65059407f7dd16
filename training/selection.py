"""The way of a document from a corpus to the training text: licenses, cleaning, evaluations, duplicates.

One pass, in order, without randomness. Each document is refused by the first stage that has something against
it, and listed with the reason. Duplicates come last, so a copy of a refused text is judged for itself and the
first that is left stays.
"""

from collections.abc import Iterable, Iterator, Sequence

from silo.documents import Document
from silo.overlap import Evaluation, contaminated
from training.admission import Refusal, Tally, decide, passing
from training.cleaning import fault
from training.config import Recipe
from training.dedup import Duplicates


def select(
    documents: Iterable[Document], recipe: Recipe, evaluations: Sequence[Evaluation], tally: Tally
) -> Iterator[Document]:
    """The documents that train or validate, in order; ``tally`` keeps count and the list of refusals."""
    duplicates = Duplicates(recipe.deduplication)
    return passing(documents, lambda document: _refusal(document, recipe, evaluations, duplicates), tally)


def _refusal(
    document: Document, recipe: Recipe, evaluations: Sequence[Evaluation], duplicates: Duplicates
) -> Refusal | None:
    if refusal := decide(document, recipe.admission):
        return refusal
    if not document.text.strip():
        return None  # counted apart, as text that has nothing to learn
    if found := fault(document.text, recipe.cleaning):
        return Refusal.of(document, found)
    limits = recipe.decontamination
    if leak := contaminated(document.text, evaluations, limits.max_share, limits.max_words):
        seen = f"{leak.share:.1%} of it, at most {leak.n_words} words on end"
        return Refusal.of(document, f"contamination: repeats {leak.evaluation}", seen)
    if copy := duplicates.add(document.id, document.text):
        return Refusal.of(document, f"duplicate: {'near' if copy.startswith('nearly') else 'exact'}", copy)
    return None
