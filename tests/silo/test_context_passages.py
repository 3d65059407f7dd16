"""Retrieval in context: what the LM reads before the text, who is named for it, and that it leaves."""

import numpy as np
import pytest

from datastore.optout import opt_out
from silo.context_passages import ContextPassage, GrowingText, PassageFinder
from silo.errors import BadRequest
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings, RetrievalSettings
from silo.tokenizer import tokenize

ALONE = KnnSettings(weight=0.0)
"""Of the mixture the LM's part alone, so that passages are all that the store has a say in."""


@pytest.fixture
def pages(manual):
    return manual(50, 58, "LicenseRef-all-rights-reserved")


@pytest.fixture
def silo(llama, build, pages):
    return Silo(llama, build(llama, pages))


def settings(n_tokens: int = 8, **retrieval) -> GenerationSettings:
    return GenerationSettings(max_tokens=n_tokens, top_logprobs=2, knn=ALONE, retrieval=RetrievalSettings(**retrieval))


def ids(lm, text: str) -> list[int]:
    return [int(token) for token in tokenize(lm.tokenizer, text).ids]


@pytest.mark.parametrize("join", ["newline", "boundary"])
def test_the_lm_reads_the_best_passage_and_then_the_text(silo, pages, join):
    lm, prompt = silo.lm, ids(silo.lm, pages[2].text[100:130])
    reading = silo.reading(len(prompt), settings(join=join))
    reading.read(prompt)
    (passage,) = reading.passages
    joint = ids(lm, "\n\n") if join == "newline" else list(dict.fromkeys([lm.boundary, lm.opening]))
    room = lm.context_length - 1 - len(prompt) - 8
    head = ids(lm, passage.text.strip())[: room - len(joint)]
    context, logprobs = lm.decoder().read([lm.opening, *head, *joint, *prompt])
    assert np.array_equal(reading.context, context.numpy())
    assert np.array_equal(reading.logprobs(), logprobs.numpy())


@pytest.mark.parametrize("ensemble", ["uniform", "score"])
def test_runs_with_several_passages_are_averaged(silo, pages, ensemble):
    prompt = ids(silo.lm, pages[2].text[100:130])
    reading = silo.reading(len(prompt), settings(n_passages=3, ensemble=ensemble))
    reading.read(prompt)
    assert len(reading.passages) == 3
    runs = [np.exp(silo.lm.logprobs(rows[0]).numpy().astype(float)) for rows in reading._rows]
    weights = np.array([1.0] * 3 if ensemble == "uniform" else [passage.score for passage in reading.passages])
    assert np.exp(reading.logprobs()) == pytest.approx(np.average(runs, axis=0, weights=weights), abs=1e-6)


def test_passages_are_named_with_the_tokens_that_they_were_read_for(silo, pages):
    generation = silo.generate(pages[2].text[100:130], settings(10, stride=4))
    tokens = list(generation)
    covered = [0] * len(tokens)
    for source in generation.context_sources:
        assert source.document in {page.id for page in pages}
        for i in range(*source.tokens):
            covered[i] += 1
    assert covered == [1] * len(tokens)
    for token in tokens:
        assert token.parametric_mass == 1 and token.sources == ()


def test_passages_change_what_is_said_and_without_room_there_are_none(silo, pages):
    prompt = ids(silo.lm, pages[2].text[100:130])
    alone = tuple(silo.generate(prompt, GenerationSettings(max_tokens=8, top_logprobs=2, knn=ALONE)))
    assert tuple(silo.generate(prompt, settings(8))) != alone
    no_room = silo.generate(prompt, settings(silo.lm.context_length - 1 - len(prompt)))
    list(no_room)
    assert no_room.context_sources == ()


def test_what_is_read_in_parts_is_what_is_read_at_once(silo, pages):
    prompt = ids(silo.lm, pages[2].text[100:130])
    parts, whole = (silo.reading(len(prompt), settings(30, stride=100)) for _ in range(2))
    more = prompt[:12]
    parts.read(prompt)
    for n in range(1, len(more) + 1):
        parts.read([*prompt, *more[:n]])
    whole.read([*prompt])
    whole.read([*prompt, *more])
    assert parts.passages == whole.passages
    assert parts.logprobs() == pytest.approx(whole.logprobs(), abs=1e-4)


def test_a_passage_that_leaves_takes_what_the_lm_made_of_it_along(silo, pages, now):
    prompt = ids(silo.lm, pages[2].text[100:130])
    asked = settings(12, stride=100)
    generation = silo.generate(prompt, asked)
    tokens = iter(generation)
    before = [next(tokens).id for _ in range(5)]
    (first,) = generation.context_sources
    opt_out(silo.datastore, first.document, now=now)
    after = list(tokens)
    reread = silo.reading(len(prompt), asked)
    reread.read([*prompt])  # fetches for the prompt, as the stride was not over
    reread.read([*prompt, *before])
    history = [*prompt, *before]
    for token in after:
        assert token.logprob == pytest.approx(float(reread.logprobs()[token.id]), abs=1e-4)
        history.append(token.id)
        reread.read(history)
    assert first.document not in {source.document for source in generation.context_sources if source.tokens[1] > 5}
    assert generation.context_sources[0] == first
    assert first.tokens == (0, 5)


class LeavingFinder(PassageFinder):
    """Answers, and then the document of the passage is opted out before the answer is used."""

    def __init__(self, *args, leave) -> None:
        super().__init__(*args)
        self._leave = leave
        self.found: list[tuple[ContextPassage, ...]] = []

    def find(self, tokens):
        answer = super().find(tokens)
        self.found.append(answer[0])
        if len(self.found) == 1:
            self._leave(answer[0][0].document)
        return answer


def test_a_passage_that_leaves_between_its_retrieval_and_its_use_is_not_used(silo, pages, now, monkeypatch):
    prompt = ids(silo.lm, pages[2].text[100:130])
    asked = settings(4)
    finder = LeavingFinder(
        silo.datastore, silo.lm, asked.retrieval, leave=lambda name: opt_out(silo.datastore, name, now=now)
    )
    room = silo.lm.context_length - 1 - len(prompt) - 4
    monkeypatch.setattr(
        silo, "reading", lambda n_prompt, *_: GrowingText(silo.lm, silo.sequence, n_prompt, room, finder)
    )
    generation = silo.generate(prompt, asked)
    made = list(generation)
    (gone,) = finder.found[0]
    assert gone.document not in {source.document for source in generation.context_sources}
    monkeypatch.undo()
    assert made == list(silo.generate(prompt, asked))


def test_vectors_are_not_asked_of_a_store_without_them(silo, pages):
    with pytest.raises(BadRequest, match="keeps none"):
        list(silo.generate("x", settings(scorer="dense")))
