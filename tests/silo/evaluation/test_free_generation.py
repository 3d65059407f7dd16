"""Free generation: loops are seen as repetition, people's own text is like itself, and prompts are beginnings."""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from silo.corpora import write_documents
from silo.errors import BadRequest
from silo.evaluation.free_generation import Continuation, comparing, continued, figures, prompts
from silo.evaluation.generation_command import generation
from silo.evaluation.repetition import Distinct, repetition
from silo.evaluation.resampling import mean_interval, share_interval
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings
from silo.tokenizer import tokenize

N_PROMPT, N_CONTINUED = 8, 20


@pytest.fixture
def documents(manual):
    return manual(60, 72, "PSF-2.0", 400)


@pytest.fixture
def asked(llama, documents):
    return prompts(llama, documents, 10, N_PROMPT, N_CONTINUED)[0]


def by_letters(texts):
    """Vectors that tell texts apart: how often each letter occurs."""
    return np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32)


def looping(asked):
    return [Continuation((7, 8) * (N_CONTINUED // 2), "zz" * N_CONTINUED) for _ in asked]


def test_prompts_are_beginnings_and_continuations_what_follows(llama, documents):
    short = replace(documents[0], id="short", text="Too short.")
    found, digests = prompts(llama, [short, *documents], 5, N_PROMPT, N_CONTINUED)
    assert digests == [document.digest for document in documents[:5]]
    for prompt, document in zip(found, documents, strict=False):
        ids = tokenize(llama.tokenizer, document.text).ids.tolist()
        assert [*prompt.tokens, *prompt.human.tokens, *prompt.later.tokens] == ids[: N_PROMPT + 2 * N_CONTINUED]
        assert llama.tokenizer.decode(prompt.human.tokens) == prompt.human.text
        assert prompt.human.text + prompt.later.text in document.text
    with pytest.raises(BadRequest, match="two documents of 48 tokens"):
        prompts(llama, [short, documents[0]], 5, N_PROMPT, N_CONTINUED)


def test_repetition_is_the_share_of_n_grams_that_came_before():
    assert repetition([1, 2, 3, 4, 5], 2) == 0
    assert repetition([1, 1, 1, 1, 1], 2) == pytest.approx(3 / 4)
    assert repetition([1, 2, 1, 2, 3], 2) == pytest.approx(1 / 4)
    assert repetition([1], 2) == repetition([], 2) == 0


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=1, max_size=5), st.integers(1, 3))
def test_distinct_n_of_one_text_is_what_does_not_repeat(texts, n):
    distinct = Distinct(texts, n)
    for i, text in enumerate(texts):
        if len(text) >= n:
            assert distinct(np.array([i])) == pytest.approx(1 - repetition(text, n))
    runs = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    assert distinct(np.arange(len(texts))) == pytest.approx(len(set(runs)) / len(runs) if runs else 0)


def test_a_generator_that_loops_repeats_itself_and_people_hardly_do(asked):
    compare = comparing(by_letters, asked)
    loop, human = (figures(made, asked, compare) for made in (looping(asked), [prompt.human for prompt in asked]))
    assert loop["rep_4"] == pytest.approx(1 - 2 / (N_CONTINUED - 3)) and human["rep_4"] < 0.3
    assert loop["distinct_2"] == pytest.approx(2 / (len(asked) * (N_CONTINUED - 1)))
    assert loop["distinct_2"] < human["distinct_2"]
    assert human["likeness"] == pytest.approx(1) and human["likeness_interval"] == pytest.approx((1, 1))
    assert loop["likeness"] < 0.1
    for name in ("rep_2", "rep_3", "rep_4", "distinct_1", "distinct_2", "distinct_3"):
        low, high = human[f"{name}_interval"]
        assert low - 1e-9 <= human[name] <= high + 1e-9


def test_without_an_encoder_there_is_no_likeness(asked):
    assert "likeness" not in figures(looping(asked), asked)


def test_intervals_are_narrower_for_more_and_nothing_is_drawn_twice_where_that_is_a_bias():
    values = np.random.default_rng(0).normal(0, 1, 400).tolist()
    wide, narrow = (np.subtract(*mean_interval(some)[::-1]) for some in (values[:25], values))
    assert 2.5 < wide / narrow < 6
    numbers = np.random.default_rng(1).uniform(0, 1, 200)
    found = share_interval(lambda rows: float(numbers[rows].mean()), 200)
    assert found == pytest.approx(mean_interval(numbers.tolist()), abs=0.01)
    assert share_interval(lambda rows: len(set(rows.tolist())) / len(rows), 50) == pytest.approx((1, 1))
    assert mean_interval(values) == mean_interval(values) != mean_interval(values, seed=1)


def test_texts_are_made_by_seed_and_end_where_the_model_ends_them(llama, build, manual, asked):
    silo = Silo(llama, build(llama, manual(50, 52, "LicenseRef-all-rights-reserved")))
    settings = GenerationSettings(max_tokens=N_CONTINUED, temperature=1.0, knn=KnnSettings(weight=0.5), seed=2)
    first, again = (continued(silo, asked[:3], settings) for _ in range(2))
    assert first == again != continued(silo, asked[:3], replace(settings, seed=3))
    assert all(0 < len(one.tokens) <= N_CONTINUED and llama.boundary not in one.tokens for one in first)
    known = figures([Continuation(one.tokens[:5], one.text) for one in first], asked[:3])
    assert known["n_ended"] == 3


def test_generation_is_measured_from_the_command_line(llama, build, manual, documents, tmp_path):
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    store = build(llama, manual(50, 52, "LicenseRef-all-rights-reserved"))
    texts, out = tmp_path / "texts.jsonl", tmp_path / "out.json"
    write_documents(texts, documents)
    app = typer.Typer()
    app.command()(generation)
    options = {"--model": tmp_path / "model", "--datastore": store.path, "--prompts": 4, "--prompt-tokens": N_PROMPT}
    options |= {"--max-tokens": 12, "--out": out}
    arguments = [str(texts), *(str(one) for pair in options.items() for one in pair)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    recorded = json.loads(out.read_text())
    rows = {row["mixture"]: row for row in recorded["rows"]}
    assert list(rows) == ["lm", "fixed", "human, later"]
    assert {row["n_prompts"] for row in rows.values()} == {4} and rows["human, later"]["n_ended"] == 0
    assert all(0 <= row["likeness"] <= 1 for row in rows.values())
    assert recorded["config"]["passage_encoder"] and recorded["config"]["datastore"] == store.id
    assert "rep-4" in result.output and "compare within this table only" in result.output
