import json

import pytest
import typer
from typer.testing import CliRunner

from silo.corpora import write_documents
from silo.errors import BadRequest
from silo.evaluation.task_commands import tasks
from silo.lm import LanguageModel


@pytest.fixture
def checkpoint(llama, tmp_path):
    folder = tmp_path / "model"
    llama.model.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def other(llama, tmp_path):
    """Another LM with the same tokenizer."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(4)
    folder = tmp_path / "other"
    LlamaForCausalLM(llama.model.config).save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def mail(tmp_path, manual):
    write_documents(tmp_path / "mail" / "test.jsonl", manual(50, 62, "GPL-3.0-only", 900))
    return tmp_path / "mail" / "test.jsonl"


def run(*arguments):
    app = typer.Typer()
    app.command()(tasks)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, BadRequest):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_store_that_knows_the_documents_answers_and_every_figure_is_recorded(
    llama, build, manual, checkpoint, mail, tmp_path
):
    store = build(llama, manual(50, 62, "GPL-3.0-only", 900))
    out = tmp_path / "run.json"
    arguments = ("--model", checkpoint, "--datastore", store.path, "--task", "cloze", "--out", out)
    with pytest.raises(BadRequest, match="12 documents of 'mail' lie in the datastore"):
        run(mail, *arguments)
    output = run(mail, *arguments, "--stored", "--knn-weight", "0.4", "--ngram-weight", "0.4")
    recorded = json.loads(out.read_text())
    rows = {(row["predictor"], row["rule"]): row for row in recorded["rows"]}
    assert set(rows) == {(p, r) for p in ("lm", "knn", "ngram", "pair") for r in ("probability", "per byte", "pmi")}
    for row in rows.values():
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1] and row["chance"] == 0.25
        assert row["fingerprint"] == llama.fingerprint and row["group"] == "" and row["task"] == "cloze"
        assert f"{row['accuracy']:.3f}" in output
    assert rows["pair", "probability"]["lead_over_lm"]["interval"][0] > 0
    assert rows["pair", "probability"]["datastore"] == store.id
    assert rows["knn", "pmi"]["shares"] == {"knn": 0.4, "ngram": 0}
    assert "datastore" not in rows["lm", "pmi"]
    assert recorded["config"]["command"] == "eval tasks" and recorded["config"]["stored"] is True
    assert {"argv", "commit", "seed", "versions", "date"} <= set(recorded)


def test_exercises_and_domains_are_asked_of_several_models(checkpoint, other, mail, manual, tmp_path):
    news, out = tmp_path / "news.jsonl", tmp_path / "run.json"
    write_documents(news, manual(70, 75, "", 900))
    run(
        mail, news, *("--model", checkpoint, "--model", other), *("--task", "domains", "--task", "exercises"),
        *("--n", 4, "--shots", 0, "--words", "mail=mail,letters,post", "--out", out),
    )  # fmt: skip
    rows = json.loads(out.read_text())["rows"]
    figures = {(r["fingerprint"], r["task"], r["group"], r["rule"]): r["accuracy"] for r in rows}
    one, two = (LanguageModel.load(path).fingerprint for path in (checkpoint, other))
    assert {rule for _, task, _, rule in figures if task == "domains"} == {
        "probability", "per byte", "pmi", "fuzzy", "fuzzy pmi",
    }  # fmt: skip
    parts = [figures[one, "domains", domain, "pmi"] for domain in ("mail", "news")]
    assert figures[one, "domains", "", "pmi"] == pytest.approx(sum(parts) / 2)
    assert {key[1:] for key in figures if key[0] == one} == {key[1:] for key in figures if key[0] == two}
    assert {r["items"] for r in rows if r["fingerprint"] == one} == {
        r["items"] for r in rows if r["fingerprint"] == two
    }


def test_what_cannot_be_asked_is_refused(llama, build, manual, checkpoint, other, mail):
    store = build(llama, manual(0, 3, "PSF-2.0"))
    for arguments, message in (
        ((checkpoint, "--task", "moon"), "tasks are exercises, cloze, domains"),
        ((checkpoint, "--task", "cloze"), "no item for cloze"),
        ((checkpoint, "--task", "domains"), "needs two of them"),
        ((checkpoint, "--words", "moon=a"), "--words is DOMAIN"),
        ((other, "--datastore", store.path), "none of the models"),
        ((checkpoint, "--datastore", store.path, "--predictor", "gate"), "can be measured here; got gate"),
    ):
        with pytest.raises(BadRequest, match=message):
            run("--n", 2, "--model", *arguments)
