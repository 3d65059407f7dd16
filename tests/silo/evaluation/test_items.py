"""Items made by rule: right answers are right, wrong ones are wrong and give nothing away."""

import random
import re
from collections import Counter

import pytest

from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.items import Item, cloze_items, domain_items, exercise_items, near_misses, words_of
from silo.mathematics import exercises


def test_an_exercise_is_one_of_the_generator_with_its_answer_among_near_misses():
    texts = {document.id: document.text for document in exercises(30, seed=5)}
    items = list(exercise_items(20, seed=5, n_shots=2))
    assert len({item.id for item in items}) == 20
    for item in items:
        (right,) = item.answers[item.right]
        assert f"{item.text}{right}\n" in texts[item.id]
        assert item.text.count("Question:") == 3
        assert len(set(item.answers)) == 4
    assert {item.group for item in items} >= {"arithmetic", "linear-system", "polynomials", "quadratics"}
    assert "bases" not in {item.group for item in items}


def test_exercises_of_a_seed_are_the_same_and_a_larger_set_holds_the_smaller():
    assert list(exercise_items(5, seed=1)) == list(exercise_items(9, seed=1))[:5]
    assert list(exercise_items(5, seed=1)) != list(exercise_items(5, seed=2))


def test_no_place_is_the_right_one_more_often():
    counts = Counter(item.right for item in exercise_items(400, seed=3))
    assert all(70 <= counts[place] <= 130 for place in range(4)), counts


def test_a_near_miss_changes_one_number_a_little():
    for miss in near_misses("x = -3, y = 14", random.Random(0)):
        changed = re.fullmatch(r"x = -(\d+), y = (\d+)", miss)
        first, second = int(changed[1]), int(changed[2])
        assert (first == 3) != (second == 14)
        assert 0 < abs(first - 3) + abs(second - 14) <= 10
    assert near_misses("Yes", random.Random(0)) == []
    assert not any(re.search(r"/0", miss) for miss in near_misses("3/2", random.Random(0)))


@pytest.mark.parametrize("n_shots", [-1, 24])
def test_more_solved_exercises_than_a_document_has_are_refused(n_shots):
    with pytest.raises(BadRequest, match="0 to 23"):
        list(exercise_items(1, 0, n_shots))


def test_a_cloze_asks_for_the_last_word_of_a_sentence_that_was_not_shown(manual):
    documents = manual(50, 75, "GPL-3.0-only", 3000)
    texts = {document.id: document.text for document in documents}
    items = cloze_items("manual", documents, 20, seed=1)
    assert len(items) >= 10 and len({item.id for item in items}) == len(items)
    for item in items:
        assert item.group == "manual" and len(item.text) <= 1500
        place = texts[item.id].index(item.text)
        word = item.answers[item.right][0]
        assert re.match(rf"{word}[.!?]", texts[item.id][place + len(item.text) :])
        shown = set(re.findall(r"[a-z]+", item.text.lower()))
        assert not shown & {answer.strip().lower() for (answer,) in item.answers}
        assert len(set(item.answers)) == 4
        assert len({answer.strip().istitle() for (answer,) in item.answers}) == 1
    assert items == cloze_items("manual", documents, 20, seed=1)


def test_documents_without_a_sentence_to_ask_for_give_no_cloze():
    assert cloze_items("x", [Document("a", "Short. 1, 2, 3."), Document("b", "")], 5, seed=0) == []


def test_passages_are_to_be_told_apart_by_domain(manual):
    domains = {"code": manual(50, 54, ""), "news_bbc": manual(60, 65, "")}
    items = domain_items(domains, {"code": ("code", "python"), "news_bbc": words_of("news_bbc")}, 3, seed=0)
    assert [item.group for item in items] == ["code"] * 3 + ["news_bbc"] * 3
    texts = {document.id: document.text for documents in domains.values() for document in documents}
    for item in items:
        passage, asked = item.text.rsplit("\n", 1)
        assert asked == item.neutral == "Topic:" and passage in texts[item.id]
        assert item.answers == ((" code", " python"), (" news", " bbc"))
        assert item.answers[item.right][0].strip() in item.group


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a",), {"a": ("one",)}),
        (("a", "b"), {"a": ("one",)}),
        (("a", "b"), {"a": ("one",), "b": ()}),
        (("a", "b"), {"a": ("one", "two"), "b": ("two",)}),
    ],
)
def test_domains_that_no_word_tells_apart_are_refused(names, said):
    with pytest.raises(BadRequest, match="words of its own"):
        domain_items({name: [Document(name, "A text.")] for name in names}, said, 3, 0)


@pytest.mark.parametrize(("answers", "right"), [(((" a",),), 0), (((" a",), (" b",)), 2), (((" a",), ()), 0)])
def test_an_item_without_a_choice_is_refused(answers, right):
    with pytest.raises(BadRequest, match="two answers"):
        Item("x", "g", "text", answers, right)
