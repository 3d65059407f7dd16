import math
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.likelihood import DocumentScore, difference, likelihood, likelihood_of, score, token_logprobs
from silo.lm import LanguageModel
from training.vocabulary import train_vocabulary

CONTEXT = 16


@pytest.fixture(scope="module")
def lm():
    tokenizer = train_vocabulary(list(topics.values())[:5], 300, CONTEXT)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    return LanguageModel(LlamaForCausalLM(config), tokenizer, "tiny")


@pytest.mark.parametrize("n", [1, 2, CONTEXT, CONTEXT + 1, 3 * CONTEXT + 5])
def test_each_token_is_predicted_from_what_precedes_it(lm, n):
    tokens = np.random.default_rng(n).integers(1, 300, n)
    found = token_logprobs(lm, tokens)
    sequence = [lm.opening, *tokens.tolist()]
    for position in {0, n // 2, n - 1}:
        preceding = sequence[: position + 1]
        if position >= CONTEXT:  # windows overlap by half: the first that holds the token begins at a multiple of it
            start = min((position - CONTEXT) // (CONTEXT // 2) + 1, -(-(n - CONTEXT) // (CONTEXT // 2)))
            preceding = preceding[min(start * (CONTEXT // 2), n - CONTEXT) :]
        logits = lm.model(input_ids=torch.tensor([preceding])).logits[0, -1]
        expected = torch.log_softmax(logits, -1)[int(tokens[position])].item()
        assert found[position] == pytest.approx(expected, abs=1e-5)


def test_the_probabilities_of_all_texts_of_one_token_sum_to_one(lm):
    total = sum(math.exp(token_logprobs(lm, np.array([token]))[0]) for token in range(lm.vocab_size))
    assert total == pytest.approx(1, abs=1e-4)


def test_a_document_is_scored_with_its_end(lm):
    document = Document("one", "The assert statement", "CC0-1.0")
    scored = score(lm, document)
    ids = lm.tokenizer("The assert statement")["input_ids"]
    assert scored.n_tokens == len(ids) + 1
    assert scored.n_bytes == 20
    assert scored.nats == pytest.approx(-token_logprobs(lm, np.array([*ids, lm.boundary])).sum(), rel=1e-6)


def test_figures_are_ratios_of_sums_and_intervals_hold_them():
    scores = [DocumentScore(str(i), nats=100.0 + i, n_tokens=50, n_bytes=200 + i) for i in range(40)]
    figures = likelihood(scores)
    assert figures.nats_per_token == pytest.approx(sum(100 + i for i in range(40)) / 2000)
    assert figures.bits_per_byte == pytest.approx(
        sum(100 + i for i in range(40)) / sum(200 + i for i in range(40)) / math.log(2)
    )
    low, high = figures.bits_per_byte_interval
    assert low < figures.bits_per_byte < high
    assert likelihood(scores) == figures
    assert likelihood(scores, seed=1).bits_per_byte_interval != figures.bits_per_byte_interval


def test_perplexities_and_nats_per_byte_are_other_units_of_the_same_sum():
    figures = likelihood([DocumentScore("a", 30.0, 10, 40, 8), DocumentScore("b", 10.0, 10, 40, 2)])
    assert figures.nats_per_token == pytest.approx(2.0)
    assert figures.perplexity_per_token == pytest.approx(math.exp(2))
    assert figures.perplexity_per_word == pytest.approx(math.exp(4))
    assert figures.nats_per_byte == pytest.approx(0.5)
    low, high = figures.nats_per_token_interval
    assert low == pytest.approx(1) and high == pytest.approx(3)
    assert likelihood([DocumentScore("one word", 9999.0, 10, 40, 1)]).perplexity_per_word == math.inf


def test_a_difference_is_paired_by_document():
    random = np.random.default_rng(0)
    hard = random.uniform(10, 1000, 50)
    second = [DocumentScore(str(i), nats, 10, 40) for i, nats in enumerate(hard)]
    first = [DocumentScore(str(i), nats - 1 - 0.1 * (i % 3), 10, 40) for i, nats in enumerate(hard)]
    found = difference(first, second)
    assert found.nats_per_token == pytest.approx(sum(1 + 0.1 * (i % 3) for i in range(50)) / 500)
    low, high = found.interval
    assert 0.1 < low < found.nats_per_token < high < 0.12  # though documents differ a hundred times as much
    with pytest.raises(BadRequest, match="same documents"):
        difference(first[1:], second)


def test_one_document_has_an_interval_of_no_width():
    figures = likelihood([DocumentScore("one", 10.0, 5, 20)])
    assert figures.bits_per_byte_interval == pytest.approx((figures.bits_per_byte,) * 2)


@pytest.mark.parametrize("scores", [[], [DocumentScore("empty", 2.0, 1, 0)]])
def test_nothing_to_score_is_an_error(scores):
    with pytest.raises(BadRequest, match="at least one document with text"):
        likelihood(scores)


def test_scoring_stops_after_so_many_bytes(lm):
    documents = [Document(str(i), "The assert statement", "CC0-1.0") for i in range(9)]
    assert likelihood_of(lm, documents, max_bytes=41).n_documents == 3
    assert likelihood_of(lm, documents).n_documents == 9
