"""A limit on how many tokens in a row a completion may share with high-risk text.

Asks a datastore where a run of tokens stands, in O(log N) for a token; knows no LM. Only the store's own text counts:
what an LM learned is licensed. A run that stands in a document of a permissive license alone is free. It is counted in
tokens as they were chosen, so a copy that spells a word in other tokens, or in capitals, begins a new run.

A run that begins in the prompt counts whole. Its sender has the prompt already, but has it perhaps from the request
before: if only the completion counted, requests that each begin with all that came so far would read a document out,
``limit`` tokens at a time. So a prompt that ends in ``limit`` tokens of a document is not continued as the document
goes on, save by an ``allowance``.

Why no more: the guard sees one request. A prompt of the last eight tokens of what came so far ends in a run of eight,
and gets the rest of the limit, again and again. That takes a memory of who was told what: ``serving.guard`` has it.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from datastore.store import Datastore
from silo.licenses import PERMISSIVE
from silo.tokenizer import tokenize

_ALL = 1 << 40


class CopyGuard:
    """Watches one completion of ``prompt`` grow. Ask it inside a step of ``store``, with the completion and one token
    more.

    Of a run that begins in the prompt the first ``allowance`` tokens of the completion are not held against it, so one
    of at least ``limit`` leaves the prompt out of account.
    """

    def __init__(self, store: Datastore, limit: int, prompt: Sequence[int] = (), allowance: int = 0) -> None:
        self._store = store
        self._limit = limit
        self._allowance = min(allowance, limit)
        self._prompt = list(prompt[-limit:])
        self._safe = 0, -1
        """Up to what length no completion can break the limit, and the epoch at which that was so."""
        self._is_free: dict[str, bool] = {}

    def forbids(self, completion: Sequence[int]) -> bool:
        """Whether its last ``limit`` + 1 tokens, with those of the prompt before them, stand in a row in a live
        high-risk document. Raises ReaderFenced.

        The run grows by one token at most with each: where the longest one that ends here is short, the next ones
        need not be looked up.
        """
        length, epoch = self._safe
        if len(completion) <= self._allowance or (epoch == self._store.epoch and len(completion) <= length):
            return False
        run = [*self._prompt, *completion[-(self._limit + 1) :]][-(self._limit + 1) :]
        if len(run) <= self._limit:
            return False
        while True:
            longest = self._store.continuations([run])
            matched = int(longest.lengths[0, 0])
            if matched < len(run):
                self._safe = len(completion) + self._limit - matched, longest.epoch
                return False
            found = self._store.occurrences(run, _ALL)
            places = self._store.locate(found.entries, found.epoch)
            if places is not None:
                return not all(self._free(name) for name in {place.document for place in places})

    def _free(self, document: str) -> bool:
        if document not in self._is_free:
            self._is_free[document] = self._store.document(document).facts.risk in PERMISSIVE
        return self._is_free[document]


def excerpt(text: str, tokenizer: PreTrainedTokenizerBase, limit: int | None, risk: str = "HIGH_RISK") -> str:
    """What of ``text``, of a document of class ``risk``, may be shown as an excerpt: its first ``limit`` tokens.

    All of it where the class is permissive or there is no limit; an ellipsis stands for what is left out.
    """
    if limit is None or risk in PERMISSIVE:
        return text
    tokens = tokenize(tokenizer, text)
    return text if len(tokens) <= limit else text[: int(tokens.starts[limit])].rstrip() + "…"
