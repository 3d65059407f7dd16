import json

import pytest
import typer
from typer.testing import CliRunner

from silo.corpora import write_documents
from silo.errors import BadRequest
from silo.evaluation.comparison_commands import gap, scaling
from silo.evaluation.recording import digest_of


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    if isinstance(result.exception, BadRequest):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def recorded(path, *rows):
    facts = {"documents": "d", "n_tokens": 5}
    table = [facts | {"domain": d, "predictor": p, "nats_per_token": nats} for d, p, nats in rows]
    path.write_text(json.dumps({"rows": table}))
    return path


def test_gaps_to_several_references_are_shown_and_recorded(tmp_path):
    ours = [("mail", "lm", 4.0), ("mail", "gate", 3.0), ("news", "lm", 4.0), ("news", "gate", 3.5)]
    mine = recorded(tmp_path / "run.json", *ours)
    everything = recorded(tmp_path / "all.json", ("mail", "lm", 3.2), ("news", "lm", 3.0))
    special = recorded(tmp_path / "special.json", ("mail", "lm", 2.5), ("news", "lm", 4.5))
    out = tmp_path / "out.json"
    output = run(gap, mine, "--reference", everything, "--reference", f"specialist={special}", "--out", out)
    rows = {row["reference"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["all"]["mean_capped"] == pytest.approx(0.75)
    assert rows["all"]["nats_per_token_ahead_of_all"] == pytest.approx(-0.15)
    assert rows["specialist"]["mean_capped"] == pytest.approx((2 / 3 + 1) / 2)
    assert "no gap" in output and "averaged perplexities" in output


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_what_is_no_recorded_run_is_refused(tmp_path, content):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadRequest, match="no recorded run"):
        run(gap, path, "--reference", path)


def test_sizes_are_compared_from_the_command_line(llama, build, manual, tmp_path):
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    store = build(llama, manual(50, 60, "GPL-3.0-only", characters=300))
    for split, first in (("validation", 70), ("test", 73)):
        write_documents(tmp_path / f"{split}.jsonl", manual(first, first + 2, "GPL-3.0-only", 200))
    out = tmp_path / "out.json"
    common = ("--model", tmp_path / "model", "--datastore", store.path, "--searched", 64)
    validation, test = tmp_path / "validation.jsonl", tmp_path / "test.jsonl"
    output = run(scaling, validation, test, *common, "--size", 50, "--size", store.n_entries, "--out", out)
    recorded = json.loads(out.read_text())
    asked = {name: recorded["config"][f"{name}_documents"] for name in ("validation", "test")}
    assert asked["test"] == digest_of(document.digest for document in manual(73, 75, "GPL-3.0-only", 200))
    assert asked["validation"] != asked["test"]
    rows = recorded["rows"]
    assert [row.get("n_entries", 0) for row in rows][1] == store.n_entries
    assert rows[0]["n_entries"] >= 50
    assert rows[0]["n_store_bytes"] < rows[1]["n_store_bytes"] and rows[0]["n_bytes"] == rows[1]["n_bytes"]
    assert "extrapolated, not measured" in output
    assert rows[2]["extrapolated"]["n_entries"] == 10 * store.n_entries
    doubling = rows[2]["slope"]["nats_per_doubling"]
    assert (doubling < 0) == (rows[1]["nats_per_token"] < rows[0]["nats_per_token"])
    with pytest.raises(BadRequest, match="is a test"):
        run(scaling, test, validation, *common, "--out", tmp_path / "other.json")
