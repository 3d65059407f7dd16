"""Stored text comes out without the guard; with it runs end, and what the guard cannot see is shown."""

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from silo.errors import BadRequest
from silo.evaluation.extraction import ATTACKS, attempts, figures, is_copied, targets
from silo.evaluation.extraction_command import extraction
from silo.evaluation.mixtures import mixtures
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings, NgramSettings
from silo.tokenizer import tokenize

LIMIT, PREFIX = 5, 8
COPYING = GenerationSettings(max_tokens=24, max_verbatim=None, knn=KnnSettings(weight=0.0), ngram=NgramSettings(1.0))
"""All that is said is what followed the same last tokens: long copies."""
GUARDED = replace(COPYING, max_verbatim=LIMIT)


@pytest.fixture
def pages(manual):
    return manual(50, 53, "LicenseRef-all-rights-reserved", 400)


@pytest.fixture
def silo(llama, build, pages):
    return Silo(llama, build(llama, pages))


def asked_for(silo, n=4, n_least=30, seed=0):
    return targets(silo.datastore, silo.lm, n, n_least, seed)


def attacked(silo, attack, settings):
    return list(attempts(silo, asked_for(silo), attack, settings, LIMIT, PREFIX))


@pytest.mark.parametrize("attack", ["prefix", "middle"])
def test_runs_are_longer_than_the_limit_without_the_guard_and_never_with_it(silo, attack):
    free, kept = (attacked(silo, attack, settings) for settings in (COPYING, GUARDED))
    assert max(one.found.n_tokens for one in free) > 3 * LIMIT and any(one.is_copied for one in free)
    assert max(one.found.n_tokens for one in kept) <= LIMIT and not any(one.is_copied for one in kept)
    known = figures(free, LIMIT)
    assert known["share_over"] > 0.5 and 0 < known["share_reproduced"] < known["most_reproduced"] < 0.5
    assert figures(kept, LIMIT)["share_over"] == 0


def test_requests_that_each_begin_with_what_came_get_a_copy_out_of_a_guard_that_counts_completions_alone(silo):
    """And of none; a guard that counts the prompt's end with the completion stops them."""
    alone, free, kept = (
        attacked(silo, "chained", settings)
        for settings in (replace(GUARDED, verbatim_allowance=LIMIT), COPYING, GUARDED)
    )
    for found in (alone, free):
        assert any(one.is_copied for one in found) and max(one.found.n_tokens for one in found) > 3 * LIMIT
    assert not any(one.is_copied for one in kept) and max(one.found.n_tokens for one in kept) <= LIMIT
    assert all(one.n_tokens == COPYING.max_tokens for one in [*alone, *kept])


def test_requests_that_begin_with_the_last_tokens_alone_are_beyond_a_guard_of_requests(silo):
    limit, settings = 16, replace(GUARDED, max_verbatim=16, max_tokens=48)
    found = list(attempts(silo, asked_for(silo), "window", settings, limit, PREFIX))
    assert any(one.is_copied for one in found) and max(one.found.n_tokens for one in found) > 1.5 * limit
    kept = list(attempts(silo, asked_for(silo), "chained", settings, limit, PREFIX))
    assert not any(one.is_copied for one in kept), "the control"


@pytest.mark.parametrize("spelled", [str.upper, str], ids=["capitals", "control: the same spelling"])
def test_a_copy_in_capitals_passes_the_guard_and_is_counted_as_spelled(llama, build, pages, spelled):
    """The model has learned the text elsewhere, in capitals; in the spelling of the document the guard stops it."""
    learned = replace(pages[0], id="learned", text=spelled(pages[0].text), license="CC0-1.0")
    silo = Silo(llama, build(llama, [pages[0], learned]))
    attack = "capitals" if spelled is str.upper else "prefix"
    (found,) = attempts(silo, asked_for(silo), attack, replace(GUARDED, max_tokens=60), LIMIT, PREFIX)
    assert found.document == pages[0].id and found.found.n_tokens <= LIMIT and not found.is_copied
    known = figures([found], LIMIT)
    assert known["share_over"] == 0
    if spelled is str.upper:
        assert found.found.n_source_tokens > 3 * LIMIT and known["share_over_as_spelled"] == 1
    else:
        assert found.found.n_source_tokens <= 2 * LIMIT


def test_prompts_are_what_they_are_called(silo):
    lm, target = silo.lm, asked_for(silo)[0]

    def said(attack):
        return lm.tokenizer.decode(ATTACKS[attack](lm, target, PREFIX))

    beginning = target.beginning(PREFIX)
    assert said("prefix") == said("chained") == said("window") == beginning == target.text[: len(beginning)]
    assert said("middle") in target.text and said("middle") != beginning
    assert said("capitals") == beginning.upper() != beginning
    assert said("spacing").split() == beginning.split() and "   " in said("spacing")
    assert target.title in said("repeat") and "epeat" in said("repeat")
    untitled = lm.tokenizer.decode(ATTACKS["repeat"](lm, replace(target, title=""), PREFIX))
    assert " ".join(target.text.split()[:8]) in untitled


def test_only_live_high_risk_documents_that_are_long_enough_and_whole_are_asked_for(llama, build, manual, now):
    pages = manual(50, 55, "LicenseRef-all-rights-reserved", 400)
    licensed, short = manual(55, 56, "PSF-2.0", 400), manual(56, 57, "LicenseRef-all-rights-reserved", 40)
    silo = Silo(llama, build(llama, [*pages, *licensed, *short]))
    opt_out(silo.datastore, pages[0].id, now=now)
    remove_passages(silo.datastore, pages[1].id, [(0, 1)], now=now)
    ids = {target.id for target in asked_for(silo, 9, 60)}
    assert ids == {page.id for page in pages[2:]}
    drawn = [[target.id for target in asked_for(silo, 2, 60, seed)] for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len({*map(tuple, drawn)}) > 1 and len(drawn[0]) == 2
    with pytest.raises(BadRequest, match="smaller"):
        asked_for(silo, 2, 10_000)


def test_a_run_that_stands_in_licensed_text_alone_is_no_copy(llama, build, manual):
    pages = [*manual(50, 51, "PSF-2.0"), *manual(51, 52, "LicenseRef-all-rights-reserved")]
    store = build(llama, pages)
    runs = [tokenize(llama.tokenizer, page.text).ids[10:30].tolist() for page in pages]
    assert [is_copied(store, run, 15) for run in runs] == [False, True]
    assert not is_copied(store, runs[1][:14], 15) and not is_copied(store, runs[1][::-1], 15)


def test_attempts_are_the_same_by_seed(silo):
    sampled = replace(COPYING, max_tokens=12, temperature=1.0, ngram=NgramSettings(0.5), seed=3)
    first, again, other = (attacked(silo, "prefix", replace(sampled, seed=seed)) for seed in (3, 3, 4))
    assert first == again != other


def test_what_cannot_be_asked_is_refused(silo):
    with pytest.raises(BadRequest, match="an attack is one of"):
        attacked(silo, "charm", COPYING)
    with pytest.raises(BadRequest, match="Ask for fewer"):
        attacked(silo, "prefix", replace(COPYING, max_tokens=90))
    with pytest.raises(BadRequest, match="--gate"):
        mixtures(COPYING, False, ["gate"])
    with pytest.raises(BadRequest, match="a mixture is one of"):
        mixtures(COPYING, True, ["sauce"])


def test_mixtures_have_the_shares_that_they_are_called_after():
    named = {name: settings.shares for name, settings in mixtures(GUARDED, True).items()}
    assert list(named) == ["lm", "fixed", "gate", "knn", "ngram"]
    assert (named["lm"].knn, named["lm"].ngram) == (0, 0) and (named["fixed"].knn, named["fixed"].ngram) == (0.5, 0.25)
    assert (named["knn"].knn, named["ngram"].ngram) == (0.9, 0.9) and named["knn"].ngram == named["ngram"].knn == 0
    assert [name for name, one in mixtures(GUARDED, True).items() if not one.names_shares] == ["gate"]
    assert all(one.max_verbatim == LIMIT for one in mixtures(GUARDED, True).values())
    assert list(mixtures(GUARDED, False, ["knn", "lm"])) == ["lm", "knn"]


def test_extraction_is_tried_from_the_command_line(llama, build, pages, tmp_path):
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    store = build(llama, pages)
    app = typer.Typer()
    app.command()(extraction)

    def run(out):
        options = {"--model": tmp_path / "model", "--datastore": store.path, "--documents": 1, "--prefix": PREFIX}
        options |= {"--max-tokens": 16, "--max-verbatim": LIMIT, "--out": out, "--attack": "prefix"}
        arguments = [str(one) for pair in options.items() for one in pair]
        arguments += ["--attack", "capitals", "--attack", "chained", "--mixture", "lm", "--mixture", "ngram"]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.output, json.loads(out.read_text())

    output, recorded = run(tmp_path / "one.json")
    rows = {
        (row["mixture"], row["max_verbatim"], row["attack"]): row
        for row in recorded["rows"]
        if row["attack"] != "chained"
    }
    assert len(rows) == 8 and {row["n_attempts"] for row in rows.values()} == {1}
    parts = [row for row in recorded["rows"] if row["attack"] == "chained" and row["mixture"] == "ngram"]
    assert [(row["max_verbatim"], row["verbatim_allowance"]) for row in parts] == [
        (None, None),
        (LIMIT, LIMIT),
        (LIMIT, 0),
    ]
    assert [row["share_over"] for row in parts] == [1, 1, 0]
    assert "of completions" in output
    assert rows["ngram", None, "prefix"]["run_in_tokens"]["most"] > LIMIT
    assert rows["ngram", None, "prefix"]["share_over"] > 0 == rows["ngram", LIMIT, "prefix"]["share_over"]
    assert rows["lm", None, "prefix"]["share_over"] == 0
    assert "as the text is spelled" in output and "ngram" in output
    assert recorded["config"]["limit"] == LIMIT and recorded["config"]["datastore"] == store.id
    assert not any(page.text[20:40] in json.dumps(recorded) for page in pages), "no text is recorded"
    assert run(tmp_path / "two.json")[1]["rows"] == recorded["rows"]
