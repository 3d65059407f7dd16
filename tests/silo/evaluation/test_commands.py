import json

import pytest
import typer
from typer.testing import CliRunner

from silo.corpora import write_documents
from silo.documents import Document
from silo.errors import BadDocument, BadRequest
from silo.evaluation.commands import fit_gate, named_location, ppl
from silo.evaluation.likelihood import likelihood_of
from silo.gate import Gate


@pytest.fixture
def checkpoint(llama, tmp_path):
    folder = tmp_path / "model"
    llama.model.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def texts(tmp_path, manual):
    """A folder with the splits of two domains."""
    for domain, first in (("mail", 50), ("news", 70)):
        for split, n in (("validation", 3), ("test", 3)):
            write_documents(tmp_path / domain / f"{split}.jsonl", manual(first, first + n, "GPL-3.0-only", 300))
            first += n
    return tmp_path


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, BadRequest | BadDocument):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("low/pd_books/validation.jsonl.gz", ("pd_books", "low/pd_books/validation.jsonl.gz")),
        ("texts/news.jsonl", ("news", "texts/news.jsonl")),
        ("mail=a/b.jsonl", ("mail", "a/b.jsonl")),
        ("folder", ("folder", "folder")),
    ],
)
def test_a_domain_is_named_by_its_file_or_by_the_folder_of_its_split(location, expected):
    assert named_location(location) == expected


def test_models_are_compared_by_domain(llama, checkpoint, tmp_path):
    documents = {name: [Document(f"{name}/{i}", f"Some {name}. " * 9) for i in range(3)] for name in ("mail", "news")}
    for name, some in documents.items():
        write_documents(tmp_path / f"{name}.jsonl", some)
    out = tmp_path / "figures.json"
    output = run(ppl, tmp_path / "mail.jsonl", tmp_path / "news.jsonl", "--model", checkpoint, "--out", out)
    recorded = json.loads(out.read_text())
    assert [row["domain"] for row in recorded["rows"]] == ["mail", "news"]
    for row in recorded["rows"]:
        expected = likelihood_of(llama, documents[row["domain"]])
        assert row["bits_per_byte"] == pytest.approx(expected.bits_per_byte, rel=1e-5)
        assert f"{row['bits_per_byte']:.3f}" in output
    assert recorded["config"]["locations"] == [str(tmp_path / "mail.jsonl"), str(tmp_path / "news.jsonl")]
    assert {"commit", "seed", "versions", "date"} <= set(recorded)


def test_a_gate_is_fitted_and_validation_tunes_before_test_is_read(llama, build, manual, checkpoint, texts, tmp_path):
    licensed = build(llama, manual(20, 26, "PSF-2.0"))
    write_documents(tmp_path / "licensed.jsonl", manual(26, 34, "PSF-2.0", 300))
    gate = tmp_path / "gate.safetensors"
    common = ("--model", checkpoint)
    run(fit_gate, gate, *common, "--datastore", licensed.path, "--licensed", tmp_path / "licensed.jsonl")
    assert len(Gate.load(gate).facts.trained_on) == 6 + 8

    store = build(llama, manual(40, 50, "GPL-3.0-only"))
    frozen, out, cache = tmp_path / "frozen.json", tmp_path / "out.json", tmp_path / "cache"
    common = (*common, "--datastore", store.path, "--gate", gate, "--k", 16, "--cache", cache, "--passages", 1)
    tests = [texts / domain / "test.jsonl" for domain in ("mail", "news")]
    with pytest.raises(BadRequest, match="is a test"):
        run(ppl, *tests, *common, "--tune", frozen)
    run(ppl, *(path.with_name("validation.jsonl") for path in tests), *common, "--tune", frozen)
    run(ppl, *tests, *common, "--frozen", frozen, "--out", out)
    rows = {(row["domain"], row["predictor"]): row for row in json.loads(out.read_text())["rows"]}
    measured = {"lm", "knn", "infini", "ngram", "pair", "gate", "gate-knn", "ric", "ric+lm"}
    assert {predictor for _, predictor in rows} >= measured
    choices = json.loads(frozen.read_text())["domains"]
    for (domain, predictor), row in rows.items():
        low, high = row["nats_per_token_interval"]
        assert low <= row["nats_per_token"] <= high
        gain = rows[domain, "lm"]["nats_per_token"] - row["nats_per_token"]
        assert row["gain_over_lm"]["nats_per_token"] == pytest.approx(gain)
        if predictor in choices[domain]["choices"]:
            assert row["choice"] == choices[domain]["choices"][predictor]
    assert all(row["datastore"] == store.id for row in rows.values())

    for attempt, message in (
        (("--frozen", tmp_path / "none.json"), "no frozen run"),
        (("--frozen", frozen, "--n-probe", 3), "another settings"),
        (("--frozen", frozen, "--passages", 2), "another retrieval"),
        (("--frozen", frozen, "--tune", frozen), "one of them"),
    ):
        with pytest.raises(BadRequest, match=message):
            run(ppl, *tests, *common, *attempt)
    with pytest.raises(BadRequest, match="were tuned on"):
        run(ppl, f"mail={texts / 'news' / 'validation.jsonl'}", *common, "--frozen", frozen)
    with pytest.raises(BadRequest, match="'moon' was not tuned"):
        run(ppl, f"moon={tests[0]}", *common, "--frozen", frozen)


def test_documents_are_kept_apart_or_merged(llama, build, manual, checkpoint, texts, tmp_path):
    out = tmp_path / "out.json"
    counts = {}
    for name, arguments in (("apart", ()), ("merged", ("--merge",))):
        run(ppl, texts / "mail" / "test.jsonl", "--model", checkpoint, "--out", out, *arguments)
        counts[name] = json.loads(out.read_text())["rows"][0]
    assert counts["merged"]["n_documents"] == 1 and counts["apart"]["n_documents"] == 3
    assert counts["merged"]["n_bytes"] == counts["apart"]["n_bytes"]


def test_what_must_be_tuned_is_not_reported_untuned(llama, build, manual, checkpoint, texts):
    store = build(llama, manual(40, 44, "GPL-3.0-only"))
    arguments = (texts / "mail" / "test.jsonl", "--model", checkpoint, "--datastore", store.path)
    with pytest.raises(BadRequest, match="--frozen"):
        run(ppl, *arguments, "--predictor", "knn")
    with pytest.raises(BadRequest, match="can be measured here"):
        run(ppl, *arguments, "--predictor", "gate")
    assert "mail" in run(ppl, *arguments, "--predictor", "lm")


def test_high_risk_text_fits_no_gate(llama, build, manual, checkpoint, texts, tmp_path):
    store = build(llama, manual(20, 24, "PSF-2.0"))
    gate = tmp_path / "gate"
    risky = texts / "mail" / "test.jsonl"
    with pytest.raises(BadDocument, match="high-risk"):
        run(fit_gate, gate, "--model", checkpoint, "--datastore", store.path, "--licensed", risky)
    assert not gate.exists()
