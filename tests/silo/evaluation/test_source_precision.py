import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from datastore.fingerprints import words
from datastore.passage_optout import remove_passages
from datastore.ranking import K1, B
from silo.attribution import TokenSource
from silo.corpora import write_documents
from silo.errors import BadRequest
from silo.evaluation.attribution_commands import attribution
from silo.evaluation.planted_facts import plant
from silo.evaluation.sentence_search import SentenceSearch
from silo.evaluation.served import Served
from silo.evaluation.source_precision import agreement, answers, compared, deviation, precision
from silo.sentences import sentence_spans
from silo.settings import GenerationSettings, KnnSettings, NgramSettings

SETTINGS = GenerationSettings(knn=KnnSettings(k=16, weight=0.2), ngram=NgramSettings(weight=0.6))


@pytest.fixture
def documents(manual):
    return manual(50, 55, "LicenseRef-test", 220)


def sentences_of(documents):
    return {(d.id, i): d.text[a:b] for d in documents for i, (a, b) in enumerate(sentence_spans(d.text))}


@pytest.mark.parametrize("seed", range(8))
def test_a_planted_fact_is_one_sentence_of_its_document_and_stands_nowhere_else(seed):
    documents, facts = plant(11, seed, per_document=4)
    assert len(documents) == 3 and len(facts) == 11 and len({fact.prompt for fact in facts}) == 11
    sentences = sentences_of(documents)
    for fact in facts:
        assert sentences[fact.document, fact.sentence].strip() == f"{fact.prompt}{fact.answer}."
        assert sum(text.count(fact.prompt) for text in sentences.values()) == 1
    assert plant(11, seed, per_document=4) == (documents, facts)
    assert plant(11, seed + 1)[1] != facts
    with pytest.raises(BadRequest, match="at least one"):
        plant(0)


def test_sentences_are_ranked_as_bm25_by_hand_ranks_them(llama, build, documents, now):
    store = build(llama, documents)
    remove_passages(store, documents[1].id, [(1, 2)], now=now)
    sentences = sentences_of(documents)
    del sentences[documents[1].id, 1]
    bags = {place: Counter(words(text)) for place, text in sentences.items()}
    mean = sum(bag.total() for bag in bags.values()) / len(bags)
    query = sentences[documents[3].id, 0] + " " + documents[1].text

    def by_hand(bag):
        total = 0.0
        for word, times in Counter(words(query)).items():
            n = sum(word in other for other in bags.values())
            idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
            total += times * idf * (K1 + 1) * bag[word] / (bag[word] + K1 * (1 - B + B * bag.total() / mean))
        return total

    scores = {place: by_hand(bag) for place, bag in bags.items()}
    with SentenceSearch(store) as search:
        found = search.best(query, 5)
        assert search.best("zzzzzz") == []
    assert [scores[place] for place in found] == pytest.approx(sorted(scores.values(), reverse=True)[:5])
    assert (documents[1].id, 1) not in found


def test_facts_are_told_from_the_planted_sentence_and_not_without_it(llama, build, documents):
    served = Served(llama, SETTINGS)
    planted, facts = plant(6, seed=1, per_document=3)
    store = build(llama, [*documents[:3], *planted, *documents[3:]])
    with SentenceSearch(store) as search:
        found = list(answers(served, store, facts, search))
    known = precision(found)
    assert known["n_whole"] >= 5 and known["n_fact_tokens"] >= 20
    assert known["precision"] > 0.9 and known["mean_mass_of_planted"] > 0.5
    assert known["baseline_precision"] == 1.0
    assert deviation(token for one in found for token in one.tokens) < 1e-9
    for one in found:
        assert "".join(token.text for token in one.tokens) == one.fact.answer or not one.is_whole
    without = precision(list(answers(served, build(llama, documents), facts)))  # the control
    assert without["n_whole"] == 0 and without["n_fact_tokens"] <= 2
    assert without["baseline_precision"] is None
    elsewhere = [replace(one, fact=replace(one.fact, sentence=one.fact.sentence + 1)) for one in found]
    assert precision(elsewhere)["precision"] < 0.2
    assert precision([]) | {"n_facts": 0} == precision([]) and precision([])["precision"] is None


def test_masses_that_do_not_sum_to_one_are_found_out(llama, build, documents):
    served = Served(llama, SETTINGS)
    _, facts = plant(1)
    (one,) = answers(served, build(llama, documents), facts)
    token = (*one.tokens, *one.others)[0]
    assert deviation([token]) < 1e-9
    more = (*token.sources, TokenSource("x", 0, 0.25))
    assert deviation([token, replace(token, sources=more)]) == pytest.approx(0.25)


def test_what_is_copied_is_found_by_both_and_agreement_is_counted(llama, build, documents):
    served = Served(llama, SETTINGS)
    store = build(llama, documents)
    readings = [served.read(document) for document in documents[:3]]
    with SentenceSearch(store) as search:
        found = list(compared(served, store, readings, search, n_prompt=30, n_generated=20))
    known = agreement(found)
    assert known["n_sentences"] == len(found) >= 3
    assert known["first"] <= known["among_ranked"] and known["same_document"] > 0.5
    wrong = [replace(one, owed=("nowhere", 0)) for one in found]
    assert agreement(wrong)["among_ranked"] == agreement(wrong)["same_document"] == 0
    assert agreement([])["first"] is None


def run(*arguments):
    app = typer.Typer()
    app.command()(attribution)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    if isinstance(result.exception, BadRequest):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_attribution_is_checked_from_the_command_line(llama, build, documents, tmp_path):
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    store = build(llama, documents)
    texts, out = tmp_path / "texts.jsonl", tmp_path / "out.json"
    write_documents(texts, documents[:2])
    common = ("--model", tmp_path / "model", "--datastore", store.path)
    few = (
        "--knn-weight",
        0.2,
        "--ngram-weight",
        0.6,
        "--positions",
        6,
        "--max-tokens",
        40,
        "--removed",
        2,
        "--facts",
        3,
        "--generated",
        8,
    )
    output = run(texts, *common, *few, "--out", out)
    recorded = json.loads(out.read_text())
    rows = {row["check"]: row for row in recorded["rows"]}
    assert recorded["config"]["datastore"] == store.id and recorded["config"]["epoch"] == store.epoch
    assert rows["masses"]["n_tokens"] == 12 and rows["masses"]["largest_deviation"] < 1e-9
    fall = rows["counterfactual"]
    assert fall["n_tokens"] == 24 and fall["n_cited"] >= 5 and fall["held_largest_deviation"] < 1e-9
    assert fall["not_heard_n_changed"] == 0
    assert set(recorded["config"]["removed"]) == {document.id for document in documents[:2]}
    assert rows["planted facts"]["n_whole"] == 3 and rows["planted facts"]["n_whole_after_removal"] == 0
    assert rows["agreement with BM25"]["n_sentences"] >= 1
    assert f"{rows['planted facts']['n_whole']} of 3 planted facts" in output
    assert "12 tokens sum to one" in output.replace("masses of ", "")
    assert len(list(store.documents())) == len(documents) and store.epoch == recorded["config"]["epoch"]
    write_documents(texts, [replace(documents[0], text=" ")])
    with pytest.raises(BadRequest, match="has a text"):
        run(texts, *common)
