import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from silo.corpora import write_documents
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.optout_commands import optout
from silo.evaluation.removal import ProbeSettings, longest_shared, remove
from silo.evaluation.rewordings import REWORDINGS, reordered, substituted
from silo.evaluation.served import Served
from silo.settings import GenerationSettings, KnnSettings

PROBING = ProbeSettings(max_tokens=60, n_prompt=20, n_generated=10)


@pytest.fixture
def documents(manual):
    return manual(50, 56, "LicenseRef-test", 180)


def run(*arguments):
    app = typer.Typer()
    app.command()(optout)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    if isinstance(result.exception, BadRequest):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_nothing_is_left_of_a_removed_text_and_while_it_is_stored_every_probe_finds_it(
    llama, build, documents, manual, now, tmp_path
):
    served = Served(llama, GenerationSettings(knn=KnnSettings(k=16)))
    store = build(llama, documents)
    epoch, gone = store.epoch, [documents[i].id for i in (2, 4)]
    kept = [documents[0], *manual(60, 61, "LicenseRef-test", 260)]
    found = remove(served, store, gone, kept, now=now, probing=PROBING, folder=tmp_path)
    assert store.epoch == epoch and not list(tmp_path.glob("silo-*")), "copies alone are changed, and go"
    assert [(one.document, one.form) for one in found.probes] == [
        (name, form) for name in gone for form in ("verbatim", *REWORDINGS)
    ]
    for one in found.probes:
        assert one.is_as_never and one.deviation == 0
        assert one.lm.n_live_run == 0
        if one.form == "verbatim":  # the control
            n_tokens = len(one.before.logprobs)
            assert one.before.n_live_run >= n_tokens - 1 > one.after.n_live_run + 10
            assert one.before.mean > one.after.mean + 1
            assert one.before.n_reproduced >= 8 > one.after.n_reproduced
            assert one.at_once.n_live_run < n_tokens - 10 and one.at_once.mean < one.before.mean - 1
    assert len(found.sequential_ms) == len(found.bulk_ms) == 2 and min(*found.sequential_ms, *found.bulk_ms) > 0
    assert found.n_live_entries == 0 and found.are_files_equal
    assert found.kept_before[0].nats < found.kept_after[0].nats + 5, "a text that is stored stays known"
    assert [score.id for score in found.kept_before] == [document.id for document in kept] and len(kept) == 2
    assert found.kept_before != found.kept_after


def test_a_store_that_is_emptied_says_what_the_lm_says(llama, build, documents, now):
    served = Served(llama, GenerationSettings(knn=KnnSettings(k=16)))
    gone = [document.id for document in documents[:2]]
    found = remove(served, build(llama, documents[:2]), gone, [], now=now, probing=PROBING)
    for one in found.probes:
        stages = [one.at_once, one.after, one.in_bulk, one.never]
        assert [(stage.logprobs == one.lm.logprobs).all() for stage in stages[1:]] == [True] * 3
        assert [stage.n_reproduced == one.lm.n_reproduced for stage in stages[1:]] == [True] * 3
        assert (one.at_once.logprobs == one.lm.logprobs).all() == (one.document == gone[1]), "the other is there yet"
        assert not (one.before.logprobs == one.lm.logprobs).all()
    assert found.are_files_equal and found.kept_before == ()


def test_a_removal_that_takes_nothing_out_is_found_out(llama, build, documents, now, monkeypatch):
    """The control of the controls: were an opt-out to do nothing, each check would say so."""
    from silo.evaluation import removal

    monkeypatch.setattr(removal, "opt_out", lambda store, document, now: None)
    monkeypatch.setattr(removal, "compact", lambda store: None)
    served = Served(llama, GenerationSettings(knn=KnnSettings(k=16)))
    found = remove(served, build(llama, documents), [documents[2].id], [], now=now, probing=PROBING)
    (verbatim,) = [one for one in found.probes if one.form == "verbatim"]
    assert not verbatim.is_as_never and verbatim.deviation > 0.5
    assert found.n_live_entries > 20 and not found.are_files_equal


def test_a_text_is_reworded_by_rule():
    text = "The keeper counts lanterns. A storm arrives over Velmora before Anselm returns! Nobody waits for harbors.\n"
    random = np.random.default_rng(0)
    other = reordered(text, random)
    sentences = ["The keeper counts lanterns.", "A storm arrives over Velmora before Anselm returns!"]
    assert other != text and all(sentence in other for sentence in sentences)
    assert sorted(other.split()) == sorted(text.split())
    changed = substituted(text, random, share=1.0)
    pairs = [(a, b) for a, b in zip(text.split(), changed.split(), strict=True) if len(a.strip(".!")) >= 4]
    assert all(a != b for a, b in pairs) and changed.startswith("The ")
    assert {b.strip(".!") for _, b in pairs} <= {a.strip(".!") for a, _ in pairs}
    assert substituted(text, random, share=0.0) == text
    assert substituted("One.", random, share=1.0) == "One."
    once, again = (substituted(text, np.random.default_rng(5)) for _ in range(2))
    assert once == again


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([], [1], 0), ([1, 2, 3], [9, 2, 3, 1], 2), ([1, 1, 1], [1, 1], 2), ([4], [5], 0), ([1, 2, 3], [1, 2, 3], 3)],
)
def test_the_longest_shared_run_is_found(first, second, expected):
    assert longest_shared(first, second) == longest_shared(second, first) == expected


def test_series_are_left_out_and_removed_from_the_command_line(llama, build, documents, manual, tmp_path):
    llama.model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    author = [Document(page.id, page.text, page.license, owner="one author") for page in documents[:3]]
    store = build(llama, [*author, *documents[3:]])
    write_documents(tmp_path / "kept.jsonl", manual(60, 62, "LicenseRef-test", 200))
    before = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file() and "segments" in path.parts}
    out = tmp_path / "out.json"
    common = ("--model", tmp_path / "model", "--datastore", store.path, "--max-tokens", 40, "--generated", 4)
    output = run(
        *common,
        "--held-out",
        1,
        "--steps",
        2,
        "--removed",
        2,
        "--kept",
        tmp_path / "kept.jsonl",
        "--out",
        out,
        "--seed",
        4,
    )
    recorded = json.loads(out.read_text())
    rows = {row["experiment"]: row for row in recorded["rows"]}
    assert recorded["seed"] == 4 and recorded["config"]["datastore"] == store.id
    assert rows["leave out"]["series"] == "one author" and rows["leave out"]["curve"][0]["n_left"] == 2
    assert len([row for row in recorded["rows"] if row["experiment"] == "probe"]) == 2 * 3
    assert rows["erasure"]["is_as_never"] and rows["erasure"]["are_files_equal"]
    assert len(rows["latency"]["sequential_ms"]) == 2
    assert rows["latency"]["bulk_ms_quantiles"]["most"] == max(rows["latency"]["bulk_ms"])
    assert rows["utility"]["before"]["n_documents"] == 2
    assert "that of a store that never had them, to the bit" in output and "erased files equal" in output
    assert f"{rows['leave out']['curve'][0]['perplexity_per_token']:.2f}" in output
    assert {path: path.read_bytes() for path in before} == before and len(list(store.documents("live"))) == 6
    with pytest.raises(BadRequest, match="no series 'nobody'"):
        run(*common, "--series", "nobody")
