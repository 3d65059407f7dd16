import hashlib
import json

import pytest

from silo.errors import BadRequest
from silo.reporting.runs import ABLATION, PERPLEXITY, TRAINING, read_run, read_runs


def test_a_recorded_run_is_read_with_how_it_was_made(record_run):
    path = record_run("eval ppl")
    run = read_run(path)
    assert (run.kind, run.facts["seed"], run.facts["commit"][:6], len(run.rows)) == ("eval ppl", 7, "c0ffee", 4)
    assert run.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert run.missing == ()


def test_a_run_says_what_it_does_not_state(record_run):
    run = read_run(record_run("eval ppl", commit="", versions={}))
    assert run.missing == ("commit", "versions")
    assert read_run(record_run("eval ppl", seed=0)).missing == (), "a seed of zero is a seed"


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"domain": "a", "bits_per_byte": 1.0, "nats_per_token": 2.0}], PERPLEXITY),
        ([{"variant": "a", "validation_bits_per_byte": 2.5, "seed": 3}], ABLATION),
        ([{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0}], TRAINING),
        ([{"step": 1, "loss": 2.5}, {"speed": {"tokens": 3}}], ""),
    ],
)
def test_rows_alone_are_known_by_their_form(tmp_path, rows, kind):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(path).kind == kind


def test_what_rows_state_alike_holds_for_their_run(tmp_path):
    rows = [{"variant": "a", "validation_bits_per_byte": 2.5, "seed": 3, "commit": name} for name in ("x", "y")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(path).facts == {"seed": 3}


def test_metrics_beside_a_checkpoint_have_its_recipe(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
    assert "seed" in read_run(tmp_path / "metrics.jsonl").missing
    (tmp_path / "silo-manifest.json").write_text(json.dumps({"recipe": {"loop": {"seed": 5}}, "versions": {"a": "1"}}))
    run = read_run(tmp_path / "metrics.jsonl")
    assert run.facts == {"seed": 5, "versions": {"a": "1"}}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("note.txt", "text", "a file .json or .jsonl"),
        ("torn.json", '{"rows": [', "Expecting value"),
        ("other.json", '{"format": 1}', "no list named rows"),
        ("list.json", "[1, 2]", "no list named rows"),
        ("empty.json", '{"rows": []}', "no rows"),
        ("numbers.json", '{"rows": [1]}', "must be an object"),
        ("config.json", '{"config": 1, "rows": [{"a": 1}]}', "config must be an object"),
        ("texts.jsonl", '{"id": "a", "text": "b"}\n', "no figures; the first has id, text"),
        ("empty.jsonl", "", "no rows"),
        ("binary.json", "\x00", "Expecting value"),
    ],
)
def test_a_file_that_is_no_run_is_returned_with_the_reason(record_run, results, name, content, reason):
    record_run("eval ppl")
    (results / name).write_text(content)
    runs, others = read_runs([results])
    assert [run.kind for run in runs] == ["eval ppl"]
    assert [one.name for one in others] == [(results / name).as_posix()]
    assert reason in others[0].reason


def test_a_file_named_twice_is_read_once_and_one_that_is_missing_is_an_error(record_run, results):
    path = record_run("eval ppl")
    assert len(read_runs([path, results])[0]) == 1
    with pytest.raises(BadRequest, match="no file or folder"):
        read_runs([results / "none.json"])
