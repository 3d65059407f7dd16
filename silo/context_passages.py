"""Retrieval in context: passages of the datastore that the LM reads before the text it continues.

The passages that answer the last tokens best are fetched anew every few tokens (Ram et al. 2023, In-Context RALM), and
whenever the store has changed. One passage comes before the text; of several, each gets a run of the LM of its own, and
their distributions are averaged (Shi et al. 2024, REPLUG). What an LM read is in no sum, so a passage has no mass: it
is named on the generation, as ``context_sources``.

A passage that left the store takes its keys and values in the LM's cache with it. The reading is as of one epoch: the
caller compares it with the store's in the step in which it uses it, and reads again where they differ.

Why passages are joined with a blank line: training lets each document see itself alone, so an LM has never looked
across the token that ends one; after a blank line the text reads on as in one document. ``boundary`` puts the end and
the opening token there instead, for an LM that was trained otherwise.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from datastore.errors import ReaderFenced, UnknownDocument
from datastore.ranking import Scorer
from datastore.store import Datastore
from silo.drafting import Drafter
from silo.lm import LanguageModel
from silo.passages import PassageEncoder
from silo.settings import RetrievalSettings
from silo.tokenizer import tokenize

MAX_WAITING = 8
"""Tokens that the LM may leave unread."""


@dataclass(frozen=True)
class ContextPassage:
    """A passage that was fetched."""

    document: str
    sentences: tuple[int, int]
    """Half-open range of sentences of the document."""
    score: float
    text: str


class PassageFinder:
    """Asks ``store`` for passages; ``encoder`` makes the vectors that all scorers but BM25 compare."""

    def __init__(
        self, store: Datastore, lm: LanguageModel, settings: RetrievalSettings, encoder: PassageEncoder | None = None
    ) -> None:
        self._store = store
        self._lm = lm
        self.settings = settings
        self._encoder = encoder

    @property
    def epoch(self) -> int:
        """The store's now."""
        return self._store.epoch

    def find(self, tokens: Sequence[int]) -> tuple[tuple[ContextPassage, ...], int]:
        """What answers the last of ``tokens`` best, and the epoch that this is as of."""
        settings = self.settings
        query = self._lm.tokenizer.decode(list(tokens[-settings.query_tokens :]), skip_special_tokens=True)
        vector = None
        if self._encoder is not None and settings.scorer != "bm25":
            vector = self._encoder.encode([query])[0]
        while True:
            with suppress(ReaderFenced, UnknownDocument), self._store.step():
                found = self._store.passages(query, settings.n_passages, cast(Scorer, settings.scorer), vector)
                texts = [
                    self._store.passage_text(document, number)
                    for document, number in zip(found.documents, found.numbers.tolist(), strict=True)
                ]
                if self._store.epoch == found.epoch:
                    spans = [(int(a), int(b)) for a, b in found.sentences]
                    facts = zip(found.documents, spans, found.scores.tolist(), texts, strict=True)
                    return tuple(ContextPassage(*fact) for fact in facts), found.epoch


def joint(lm: LanguageModel, join: str) -> list[int]:
    """The tokens between a passage and the text; ``join`` as ``RetrievalSettings`` has it."""
    if join == "newline":
        return [int(token) for token in tokenize(lm.tokenizer, "\n\n").ids]
    return list(dict.fromkeys([lm.boundary, lm.opening]))


def opened_by(lm: LanguageModel, passage: ContextPassage, join: str, room: int) -> list[int]:
    """What the LM reads before a text: its opening, as much of ``passage`` as ``room`` has tokens for with what joins
    it to the text, and that.
    """
    between = joint(lm, join)
    ids = tokenize(lm.tokenizer, passage.text.strip()).ids[: room - len(between)].tolist()
    return [lm.opening, *ids, *between]


def run_weights(passages: Sequence[ContextPassage], ensemble: str) -> Float[np.ndarray, " runs"]:
    """What share each run has in the average; one run where there is no passage."""
    weights = np.ones(max(len(passages), 1))
    if ensemble == "score" and passages:
        weights = np.maximum([passage.score for passage in passages], 1e-9)
    return weights / weights.sum()


@runtime_checkable
class Reader(Protocol):
    """A sequence that is read on; ``decoder.Decoder`` is one."""

    @property
    def length(self) -> int:
        """Tokens that were read."""
        ...

    def advance_all(self, tokens: Sequence[int]) -> Float[Tensor, "tokens dimension"]:
        """Read ``tokens``; the context vector after each, or after the last alone."""
        ...

    def logprobs(self, contexts: Float[Tensor, "tokens dimension"]) -> Float[Tensor, "tokens vocabulary"]:
        """Log-probabilities after the last of the tokens that were read last, of which ``contexts`` are."""
        ...

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        ...

    def close(self) -> None:
        """Give back what it holds; it is read no further."""
        ...


class GrowingText:
    """The LM over a text that grows: one run of it, or one for each passage that comes before the text.

    ``begin`` begins a run. ``room`` is how many tokens of the LM's context are left for a passage; without ``finder``
    there is none. What ``drafter`` proposes is read ahead; it is used where the text grows by those very tokens, and
    forgotten otherwise.
    """

    def __init__(
        self,
        lm: LanguageModel,
        begin: Callable[[], Reader],
        n_prompt: int,
        room: int = 0,
        finder: PassageFinder | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self._lm = lm
        self._begin = begin
        self._n_prompt = n_prompt
        self._room = room
        self._finder = finder
        self._drafter = drafter
        self._anchor = -1
        self._readers: list[Reader] = []
        self._rows: list[Tensor] = []
        """Of each run the context vectors after the last token that was no draft, and after each that was."""
        self._logprobs: list[Tensor] | None = None
        self._draft: list[int] = []
        self._n_ahead = 0
        """How many tokens of the draft the text has grown by."""
        self._n_read = -1
        self.passages: tuple[ContextPassage, ...] = ()
        self.epoch: int | None = None
        """Of the passages; None without a finder."""

    def read(self, tokens: Sequence[int]) -> None:
        """Read of ``tokens``, which only grow, what was not read yet; fetch passages first where that is due."""
        if self._finder is not None:
            self._fetch(self._finder, tokens)
        if not self._readers:
            self._readers = [self._begin() for _ in self.passages or (None,)]
            heads = [self._head(passage) for passage in self.passages] or [[self._lm.opening]]
            runs = zip(self._readers, heads, strict=True)
            self._take([reader.advance_all([*head, *tokens])[-1:] for reader, head in runs], [])
            self._n_read = len(tokens)
        self.catch_up(tokens)

    def may_wait(self, tokens: Sequence[int]) -> bool:
        """Whether the last of ``tokens`` may be read with later ones: they are few, and no passage depends on them."""
        is_plain = self._finder is None and self._drafter is None
        return is_plain and self._n_read >= 0 and len(tokens) - self._n_read < MAX_WAITING

    def catch_up(self, tokens: Sequence[int]) -> None:
        """Read what was left of ``tokens``; fetches no passage."""
        if len(tokens) > self._n_read:
            self._read_on(tokens)
            self._n_read = len(tokens)

    @property
    def context(self) -> Float[np.ndarray, " dimension"]:
        """The LM's context vector after the last token; of several runs that with the best passage."""
        vector: np.ndarray = self._rows[0][self._n_ahead].float().cpu().numpy()
        return vector

    def logprobs(self) -> Float[np.ndarray, " vocabulary"]:
        """Natural log of the LM's next-token probabilities; of several runs the average of the probabilities."""
        if self._logprobs is None:
            runs = zip(self._readers, self._rows, strict=True)
            self._logprobs = [reader.logprobs(rows if len(rows) > 1 else rows[0]) for reader, rows in runs]
        each = [(rows if rows.dim() == 1 else rows[self._n_ahead]).cpu().numpy() for rows in self._logprobs]
        if len(each) == 1:
            return each[0]
        assert self._finder is not None, "without passages there is one run"
        weights = run_weights(self.passages, self._finder.settings.ensemble)
        terms = np.stack(each).astype(np.float64) + np.log(weights)[:, None]
        mixed: np.ndarray = np.logaddexp.reduce(terms, axis=0)
        return mixed.astype(np.float32)

    def close(self) -> None:
        """Give the runs back."""
        for reader in self._readers:
            reader.close()
        self._readers, self._rows = [], []

    def _read_on(self, tokens: Sequence[int]) -> None:
        """Take what was read ahead as far as ``tokens`` agree with it, and read the rest, with a new draft."""
        new = list(tokens[self._n_read :])
        drafter = self._drafter
        is_of_now = drafter is not None and drafter.is_of_now
        before = self._n_ahead
        while new and is_of_now and self._draft[self._n_ahead : self._n_ahead + 1] == new[:1]:
            self._n_ahead += 1
            new.pop(0)
        n_wrong = len(self._draft) - self._n_ahead
        if drafter is not None and self._draft and (new if n_wrong else self._n_ahead > before):
            drafter.judged(len(self._draft), self._n_ahead)
        if not new:
            return
        draft = drafter.propose(len(tokens)) if drafter is not None else []
        for reader in self._readers if n_wrong else ():
            reader.rewind(reader.length - n_wrong)
        run = [*new, *draft]
        self._take([reader.advance_all(run)[-1 - len(draft) :] for reader in self._readers], draft)

    def _take(self, rows: list[Tensor], draft: list[int]) -> None:
        self._rows, self._logprobs, self._draft, self._n_ahead = rows, None, draft, 0

    def _fetch(self, finder: PassageFinder, tokens: Sequence[int]) -> None:
        anchor = len(tokens) - (len(tokens) - self._n_prompt) % finder.settings.stride
        if anchor == self._anchor and finder.epoch == self.epoch:
            return
        found, self.epoch = finder.find(tokens[:anchor])
        self._anchor = anchor
        found = found if self._room - len(joint(self._lm, finder.settings.join)) > 0 else ()
        if found != self.passages:
            self.passages = found
            self.close()

    def _head(self, passage: ContextPassage) -> list[int]:
        assert self._finder is not None
        return opened_by(self._lm, passage, self._finder.settings.join, self._room)
