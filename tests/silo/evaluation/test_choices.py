"""Answers are judged as texts are scored; a store that holds the answers helps, and shuffled answers are chance."""

import math
from dataclasses import replace

import numpy as np
import pytest

from silo.errors import BadRequest
from silo.evaluation.choices import (
    RULES,
    Judged,
    accuracy,
    continuation,
    judge,
    lead,
    marks,
    rules_for,
)
from silo.evaluation.items import Item, cloze_items, exercise_items
from silo.generation import Silo
from silo.scoring import score_continuations
from silo.settings import GenerationSettings, KnnSettings, NgramSettings

ALONE = GenerationSettings(max_tokens=0)
PAIR = GenerationSettings(max_tokens=0, knn=KnnSettings(k=8, weight=0.4), ngram=NgramSettings(weight=0.4))
TWO = Item("i", "g", "Some text\nTopic:", ((" law", " court"), (" code", " in python")), 0, "Topic:")


def judged(given, neutral=None, item=TWO) -> Judged:
    return Judged(item, given, neutral or tuple(tuple(0.0 for _ in words) for words in given))


def test_continuations_are_scored_as_the_whole_text_is(lm, build, manual):
    silo = Silo(lm, build(lm, manual(50, 53, "LicenseRef-Proprietary")))
    text = "The objects in this"
    for words in ([" case", " cases", " module are", ""], [" case"]):
        split = [continuation(silo, text, word) for word in words]
        assert all(before == split[0][0] for before, _ in split)
        found = score_continuations(lm, silo.datastore, split[0][0], [after for _, after in split], PAIR, None)
        for logprob, (before, after) in zip(found, split, strict=True):
            scored = silo.score(before + after, PAIR, 0).tokens[len(before) :]
            assert logprob == pytest.approx(sum(token.logprob for token in scored), abs=1e-4)
    assert score_continuations(lm, silo.datastore, split[0][0], [], PAIR, None) == []


def test_every_rule_is_its_formula():
    one = judged(((-1.0, -2.0), (-3.0, -0.5)), ((-4.0, -1.0), (-3.5, -2.5)))
    assert RULES["probability"](one) == [-1, -3]
    assert RULES["per byte"](one) == pytest.approx([-1 / 3, -3 / 4])
    assert RULES["pmi"](one) == [3, 0.5]
    fuzzy = [math.log(math.exp(-1) + math.exp(-2)), math.log(math.exp(-3) + math.exp(-0.5))]
    assert RULES["fuzzy"](one) == pytest.approx(fuzzy)
    neutral = [math.log(math.exp(-4) + math.exp(-1)), math.log(math.exp(-3.5) + math.exp(-2.5))]
    assert RULES["fuzzy pmi"](one) == pytest.approx([a - b for a, b in zip(fuzzy, neutral, strict=True)])
    impossible = judged(((-math.inf,), (-1.0,)), ((-math.inf,), (-2.0,)))
    assert RULES["pmi"](impossible) == [-math.inf, 1]


def test_ties_are_shared_and_intervals_hold_the_accuracy():
    items = [judged(((-1.0,), (-2.0,)))] * 6 + [judged(((-3.0,), (-2.0,)))] * 3 + [judged(((-2.0,), (-2.0,)))]
    assert marks(items, "probability").tolist() == [1.0] * 6 + [0.0] * 3 + [0.5]
    found = accuracy(items, "probability")
    assert (found.n_items, found.accuracy, found.chance) == (10, 0.65, 0.5)
    assert 0 < found.interval[0] < 0.65 < found.interval[1] < 1
    better = lead([judged(((0.0,), (-2.0,)))] * 10, items, "probability")
    assert better.accuracy == pytest.approx(0.35) and better.interval[0] > 0
    with pytest.raises(BadRequest, match="the same items"):
        lead(items[:3], items, "probability")
    with pytest.raises(BadRequest, match="at least one item"):
        accuracy([], "pmi")


def test_words_that_say_an_answer_and_the_neutral_prompt_come_from_the_same_predictor(llama, build, manual):
    silo = Silo(llama, build(llama, manual(50, 53, "LicenseRef-Proprietary")))
    (found,) = judge(silo, [TWO], PAIR)
    for given, text in ((found.given, TWO.text), (found.neutral, TWO.neutral)):
        for logprobs, words in zip(given, TWO.answers, strict=True):
            for logprob, word in zip(logprobs, words, strict=True):
                before, after = continuation(silo, text, word)
                scored = silo.score(before + after, PAIR, 0).tokens[len(before) :]
                assert logprob == pytest.approx(sum(token.logprob for token in scored), abs=1e-4)
    assert rules_for([TWO]) == tuple(RULES)
    assert rules_for(list(exercise_items(3, 0))) == ("probability", "per byte", "pmi")


def test_a_store_with_the_answers_raises_accuracy_and_shuffled_answers_are_chance(llama, build, manual):
    documents = manual(50, 66, "LicenseRef-Proprietary", 900)
    items = cloze_items("manual", documents, 30, seed=0)
    assert len(items) >= 6
    with_answers = list(judge(Silo(llama, build(llama, documents)), items, PAIR))
    with_others = list(judge(Silo(llama, build(llama, manual(0, 5, "PSF-2.0"))), items, PAIR))
    alone = list(judge(Silo(llama), items, ALONE))
    assert accuracy(with_answers, "probability").accuracy > 0.9
    assert lead(with_answers, alone, "probability").interval[0] > 0.2
    assert lead(with_answers, with_others, "probability").interval[0] > 0.2
    random = np.random.default_rng(0)
    shuffled = [
        Judged(replace(one.item, right=int(random.integers(4))), one.given, one.neutral)
        for one in with_answers
        for _ in range(40)
    ]
    assert accuracy(shuffled, "probability").accuracy == pytest.approx(0.25, abs=3 * math.sqrt(0.19 / len(shuffled)))


def test_the_beginning_of_a_long_text_is_not_shown(llama):
    silo = Silo(llama)
    words = " ".join(f"w{i}" for i in range(200))
    one, other = (Item("i", "g", f"{start} {words}", ((" a",), (" b",)), 0) for start in ("Some", "Other"))
    first, second = judge(silo, [one, other], ALONE)
    assert first.given == second.given
    with pytest.raises(BadRequest, match="must have 1 to"):
        list(judge(silo, [Item("i", "g", "x", ((f" {words}",), (" b",)), 0)], ALONE))
