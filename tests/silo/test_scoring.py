"""Texts that are scored: what they say must be what a generation of the same tokens says."""

import numpy as np
import pytest

from datastore.optout import opt_out
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings
from silo.tokenizer import tokenize

KNN = KnnSettings(k=12, weight=0.9)
PROMPT = "The objects in this"


@pytest.fixture
def joined(llama, build, manual) -> Silo:
    return Silo(llama, build(llama, manual(50, 53, "LicenseRef-Proprietary")))


@pytest.mark.parametrize("weight", [0.0, 0.9])
def test_a_completion_is_scored_as_it_was_made(joined, weight):
    settings = GenerationSettings(max_tokens=12, top_logprobs=3, knn=KnnSettings(k=12, weight=weight))
    prompt = [int(token) for token in tokenize(joined.lm.tokenizer, PROMPT).ids]
    made = list(joined.generate(prompt, settings))
    ids = prompt + [token.id for token in made]
    scored = joined.score(ids, GenerationSettings(max_tokens=0, knn=settings.knn), 3)
    for token, same in zip(made, scored.tokens[len(prompt) :], strict=True):
        assert (same.id, same.text) == (token.id, token.text)
        assert same.logprob == pytest.approx(token.logprob, abs=1e-3)
        assert [id_ for id_, _ in same.top_logprobs] == [id_ for id_, _ in token.top_logprobs]


@pytest.mark.parametrize("text", [PROMPT, "Näheres — 漢字 🙂 folgt", "", " x", "<s> and </s>"])
def test_tokens_of_a_text_add_up_to_it(joined, text):
    scored = joined.score(text, GenerationSettings(max_tokens=0), 0)
    assert scored.text == text == "".join(token.text for token in scored.tokens)
    assert [text[token.start :].startswith(token.text) for token in scored.tokens] == [True] * len(scored.tokens)
    assert joined.score(text, GenerationSettings(), None).tokens == ()


def test_ids_that_say_the_token_that_opens_a_text_are_scored_as_that_text(joined):
    settings = GenerationSettings(max_tokens=0, knn=KNN)
    ids = [int(token) for token in tokenize(joined.lm.tokenizer, PROMPT).ids]
    plain, opened = joined.score(ids, settings, 2), joined.score([joined.lm.opening, *ids], settings, 2)
    facts = [[(token.id, token.logprob, token.top_logprobs) for token in one.tokens] for one in (plain, opened)]
    assert facts[1][1:] == facts[0] and opened.tokens[0].id == joined.lm.opening
    assert len(joined.score([joined.lm.opening], settings, 0).tokens) == 1


def test_distributions_sum_to_one(joined):
    scored = joined.score(PROMPT, GenerationSettings(max_tokens=0, knn=KNN), joined.lm.vocab_size)
    for token in scored.tokens:
        assert np.exp([logprob for _, logprob in token.top_logprobs]).sum() == pytest.approx(1)


def test_a_text_is_scored_without_a_document_that_was_opted_out(joined, llama, build, manual, now):
    settings = GenerationSettings(max_tokens=0, knn=KNN)
    pages = manual(50, 53, "LicenseRef-Proprietary")
    text = pages[0].text[:80]
    before = joined.score(text, settings, 0)
    opt_out(joined.datastore, pages[0].id, now=now)
    never = Silo(llama, build(llama, pages[1:]))
    assert joined.score(text, settings, 0) == never.score(text, settings, 0) != before
