import dataclasses
import itertools
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from silo.checkpoint import (
    HELD_OUT_NAME,
    REFUSED_NAME,
    TOKENIZER_TRAINED_ON_NAME,
    TRAINED_ON_NAME,
    read_training_documents,
    verify_checkpoint,
)
from silo.corpora import write_documents
from silo.datacard import CROISSANT_NAME, PAGE_NAME
from silo.documents import Document
from silo.errors import BadCheckpoint, UnreadableCorpus
from silo.files import file_digest
from silo.jsonl import read_jsonl
from silo.lm import LanguageModel
from silo.shingles import words
from training.branching import RECIPE_NAME, STATE_NAME
from training.config import (
    AdmissionRecipe,
    CleaningRecipe,
    DataRecipe,
    DecontaminationRecipe,
    StartRecipe,
    VocabularyRecipe,
)
from training.errors import BadOutput, BadRecipe, Diverged, NothingAdmitted
from training.loop import build_model
from training.metrics import FILE_NAME as METRICS_NAME
from training.pipeline import UNFINISHED_SUFFIX, train_checkpoint

SECRET = "snarkwhistle"


class Stopped(Exception):
    """Stands in for a kill inside the test's own process."""


def stop_after(n_calls):
    calls = itertools.count(1)

    def callback(_: object) -> None:
        if next(calls) == n_calls:
            raise Stopped

    return callback


def unfinished(out):
    return out.with_name(out.name + UNFINISHED_SUFFIX)


@pytest.fixture(scope="module")
def checkpoint(recipe, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("checkpoints") / "unbroken"
    train_checkpoint(recipe, data=data, out=out)
    return out


def weights(out):
    return (out / "model.safetensors").read_bytes()


def test_a_checkpoint_says_what_trained_it(checkpoint, documents, recipe):
    manifest = verify_checkpoint(checkpoint)
    trained_on = list(read_training_documents(checkpoint / TRAINED_ON_NAME))
    held_out = list(read_training_documents(checkpoint / HELD_OUT_NAME))
    licensed = {d.id: d for d in documents if d.id.startswith("python/")}
    assert {d.id for d in trained_on} | {d.id for d in held_out} == set(licensed)
    assert not {d.id for d in trained_on} & {d.id for d in held_out}
    assert all(d.digest == licensed[d.id].digest and d.risk == "SW" for d in trained_on)
    assert manifest.admitted == {"SW": len(trained_on)}
    assert manifest.n_held_out == len(held_out) > 0
    assert manifest.n_tokens == 3072 == manifest.n_steps * recipe.tokens_per_step
    assert manifest.recipe["vocabulary"] == {"size": 320, "checkpoint": ""}
    assert set(manifest.losses) == {"train", "validation", "validation_bits_per_byte"}
    assert all(math.isfinite(loss) for loss in manifest.losses.values())
    assert manifest.versions["torch"] == torch.__version__


def test_the_manifest_points_to_the_card_and_the_lists(checkpoint, documents):
    manifest = verify_checkpoint(checkpoint)
    for name in (PAGE_NAME, CROISSANT_NAME, TRAINED_ON_NAME, HELD_OUT_NAME, REFUSED_NAME):
        assert manifest.files[name] == file_digest(checkpoint / name)
    refused = [row for _, row in read_jsonl(checkpoint / REFUSED_NAME)]
    assert [(row["id"], row["reason"]) for row in refused] == [
        ("planted", "HIGH_RISK: GPL-3.0-only: copyleft"),
        ("unknown", "HIGH_RISK: no license: no license is stated"),
    ]
    assert not any(SECRET in (checkpoint / name).read_text() for name in (PAGE_NAME, CROISSANT_NAME))
    texts = {document.id: document.text for document in documents}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for document in read_training_documents(checkpoint / TRAINED_ON_NAME):
        assert document.n_bytes == len(texts[document.id].encode())
        assert document.n_tokens == len(tokenizer(texts[document.id])["input_ids"])


def test_text_of_an_evaluation_does_not_train(recipe, documents, data, tmp_path):
    leaked = documents[0]
    # Case and line breaks of its own, so that the words and not the bytes are what is compared.
    write_documents(tmp_path / "held.jsonl", [Document("test/1", " ".join(words(leaked.text)).upper())])
    careful = dataclasses.replace(recipe, decontamination=DecontaminationRecipe((str(tmp_path / "held.jsonl"),)))
    out = tmp_path / "out"
    manifest = train_checkpoint(careful, data=data, out=out)
    assert manifest.refused[f"contamination: repeats {tmp_path / 'held.jsonl'}"] == 1
    parts = [d.id for name in (TRAINED_ON_NAME, HELD_OUT_NAME) for d in read_training_documents(out / name)]
    assert len(parts) == 39
    assert leaked.id not in parts
    assert "python manual" in (out / PAGE_NAME).read_text().split("## Overlap with evaluations")[1]


def test_the_planted_documents_reach_nothing(checkpoint, recipe, data, tmp_path):
    assert verify_checkpoint(checkpoint).refused == {
        "HIGH_RISK: GPL-3.0-only: copyleft": 1,
        "HIGH_RISK: no license: no license is stated": 1,
    }
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train_checkpoint(recipe, data=data, out=out, report=stop_after(8))
    vocabulary = AutoTokenizer.from_pretrained(checkpoint).get_vocab()
    assert not any("narkw" in token or "quxo" in token for token in vocabulary)
    clean = tmp_path / "clean"
    licensed = [d for d in _documents(data) if d.license]
    write_documents(clean / "texts.jsonl", [d for d in licensed if d.license != "GPL-3.0-only"])
    train_checkpoint(recipe, data=clean, out=tmp_path / "without")
    for name in ("model.safetensors", "tokenizer.json", TRAINED_ON_NAME, HELD_OUT_NAME):
        assert (tmp_path / "without" / name).read_bytes() == (checkpoint / name).read_bytes()
    from silo.corpora import read_documents

    kept = list(read_documents(unfinished(out) / "admitted.jsonl.zst"))
    assert kept == [d for d in licensed if d.license != "GPL-3.0-only"]
    assert not any(SECRET in d.text for d in kept)


def _documents(data):
    from silo.corpora import read_documents

    return list(read_documents(data / "texts.jsonl"))


def test_transformers_loads_the_checkpoint_without_a_word(checkpoint):
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger = logging.getLogger("transformers")
    logger.addHandler(listener)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        prompt = tokenizer("The assert statement", return_tensors="pt")
        generated = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    finally:
        logger.removeHandler(listener)
    assert said == []
    assert not any(report.values())
    assert isinstance(model, LlamaForCausalLM)
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not any(name.endswith("bias") for name, _ in model.named_parameters())
    assert generated.shape[1] > prompt["input_ids"].shape[1]


@pytest.mark.parametrize("n_steps", [1, 4, 9, 23])
def test_a_run_that_was_stopped_ends_with_the_bits_of_the_unbroken_run(checkpoint, recipe, data, tmp_path, n_steps):
    out = tmp_path / "resumed"
    with pytest.raises(Stopped):
        train_checkpoint(recipe, data=data, out=out, report=stop_after(n_steps))
    assert not out.exists()
    train_checkpoint(recipe, data=data, out=out)
    assert weights(out) == weights(checkpoint)
    assert not unfinished(out).exists()


@pytest.mark.parametrize("n_stages", [1, 2, 3, 4])
def test_a_run_that_was_stopped_between_stages_ends_the_same(checkpoint, recipe, data, tmp_path, n_stages):
    out = tmp_path / "resumed"
    with pytest.raises(Stopped):
        train_checkpoint(recipe, data=data, out=out, announce=stop_after(n_stages))
    train_checkpoint(recipe, data=data, out=out)
    assert weights(out) == weights(checkpoint)


def test_a_killed_process_is_resumed_to_the_same_bits(with_loop, data, tmp_path):
    recipe = with_loop(tokens=60_000, checkpoint_steps=2)
    out = tmp_path / "killed"
    script = f"""
from pathlib import Path
import dataclasses, torch
from training.commands import RECIPES
from training.config import read_recipe
from training.pipeline import train_checkpoint
torch.set_num_threads(1)
recipe = read_recipe(RECIPES / "smoke.toml")
recipe = dataclasses.replace(recipe, loop=dataclasses.replace(recipe.loop, tokens=60_000, checkpoint_steps=2))
train_checkpoint(recipe, data=Path({str(data)!r}), out=Path({str(out)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not (unfinished(out) / "state.safetensors").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    train_checkpoint(recipe, data=data, out=out)
    train_checkpoint(recipe, data=data, out=tmp_path / "unbroken")
    assert weights(out) == weights(tmp_path / "unbroken")


def test_a_run_bounded_by_time_is_repeated_by_its_token_count(with_loop, data, tmp_path):
    by_time = with_loop("wsd", tokens=None, minutes=1.0)
    seconds = itertools.count(0.0, 1.7)
    manifest = train_checkpoint(by_time, data=data, out=tmp_path / "by-time", clock=lambda: next(seconds))
    assert f"loop.tokens = {manifest.n_tokens}" in manifest.notes["repeating"]
    assert 10 < manifest.n_steps < 60
    train_checkpoint(with_loop("wsd", tokens=manifest.n_tokens), data=data, out=tmp_path / "by-tokens")
    assert weights(tmp_path / "by-time") == weights(tmp_path / "by-tokens")


def test_a_run_bounded_by_time_that_was_stopped_keeps_the_time_it_had(with_loop, data, tmp_path):
    recipe = with_loop("wsd", tokens=None, minutes=1.0, checkpoint_steps=1)
    seconds = itertools.count(0.0, 2.0)
    for _ in range(4):
        with pytest.raises(Stopped):
            train_checkpoint(recipe, data=data, out=tmp_path / "out", clock=lambda: next(seconds), report=stop_after(3))
    manifest = train_checkpoint(recipe, data=data, out=tmp_path / "out", clock=lambda: next(seconds))
    assert 10 < manifest.n_steps < 40
    train_checkpoint(with_loop("wsd", tokens=manifest.n_tokens), data=data, out=tmp_path / "by-tokens")
    assert weights(tmp_path / "out") == weights(tmp_path / "by-tokens")


def test_a_finished_run_that_is_asked_for_again_changes_nothing(checkpoint, recipe, data):
    before = {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()}
    train_checkpoint(recipe, data=data, out=checkpoint)
    assert before == {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()}


def test_neither_a_checkpoint_nor_an_unfinished_run_of_another_recipe_is_touched(
    checkpoint, recipe, with_loop, data, tmp_path
):
    other = with_loop(seed=1)
    with pytest.raises(BadOutput, match="holds a checkpoint of another recipe"):
        train_checkpoint(other, data=data, out=checkpoint)
    with pytest.raises(Stopped):
        train_checkpoint(recipe, data=data, out=tmp_path / "out", report=stop_after(5))
    with pytest.raises(BadOutput, match="unfinished run of another recipe"):
        train_checkpoint(other, data=data, out=tmp_path / "out")
    (tmp_path / "papers").mkdir()
    with pytest.raises(BadOutput, match="is no checkpoint"):
        train_checkpoint(recipe, data=data, out=tmp_path / "papers")


def test_another_seed_gives_another_model(checkpoint, with_loop, data, tmp_path):
    train_checkpoint(with_loop(seed=1), data=data, out=tmp_path / "other")
    assert weights(tmp_path / "other") != weights(checkpoint)


def test_text_that_states_no_license_has_the_one_that_the_recipe_gives_it(recipe, tmp_path):
    pages = [f"{' '.join(f'word{m % n}' for m in range(99))}." for n in range(50, 80)]
    write_documents(tmp_path / "texts.jsonl", [Document(str(n), page) for n, page in enumerate(pages)])
    licensed = dataclasses.replace(recipe, data=(DataRecipe("texts.jsonl", license="CC0-1.0"),))
    manifest = train_checkpoint(licensed, data=tmp_path, out=tmp_path / "out")
    assert set(manifest.admitted) == {"PD"}


EXERCISES = """
[[source]]
name = "exercises"
loader = "mathematics"
domain = "mathematics"
expected = "SW"
evidence = "Made here."
attribution = "Us"
n_documents = 33
"""


def test_a_recipe_that_names_declared_sources_trains_on_them(recipe, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "sources").mkdir()
    (tmp_path / "data" / "sources" / "ours.toml").write_text(EXERCISES)
    mixed = dataclasses.replace(recipe, data=(*recipe.data, DataRecipe(declared="ours/exercises")))
    before = train_checkpoint(recipe, data=data, out=tmp_path / "before")
    manifest = train_checkpoint(mixed, data=tmp_path / "data", out=tmp_path / "out")
    assert manifest.admitted == {**before.admitted, "SW": before.admitted.get("SW", 0) + 33}
    assert manifest.recipe["data"][-1]["declared"] == "ours/exercises"


def test_a_recipe_that_names_an_excluded_source_is_refused(recipe, data, tmp_path):
    excluded = dataclasses.replace(recipe, data=(DataRecipe(declared="olc/sw_hackernews"),))
    with pytest.raises(UnreadableCorpus, match="is never read"):
        train_checkpoint(excluded, data=data, out=tmp_path / "out")


def test_nothing_admitted_says_what_was_refused_and_why(recipe, data, tmp_path):
    only_by = dataclasses.replace(recipe, admission=AdmissionRecipe(("BY",)))
    with pytest.raises(NothingAdmitted, match=r"classes BY; refused 42:(.|\n)*the recipe admits BY only"):
        train_checkpoint(only_by, data=data, out=tmp_path / "out")


def test_too_little_text_is_an_error_before_any_step(recipe, tmp_path):
    write_documents(tmp_path / "texts.jsonl", [Document("a", "Short.", "MIT")])
    any_length = dataclasses.replace(recipe, cleaning=CleaningRecipe(min_characters=0))
    with pytest.raises(NothingAdmitted, match="a window needs 33"):
        train_checkpoint(any_length, data=tmp_path, out=tmp_path / "out")


def test_without_held_out_text_there_is_no_validation_loss(recipe, data, tmp_path):
    all_of_it = dataclasses.replace(recipe, admission=AdmissionRecipe(("SW",), validation_share=0.0))
    manifest = train_checkpoint(all_of_it, data=data, out=tmp_path / "out")
    assert manifest.n_held_out == 0
    assert set(manifest.losses) == {"train"}


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(recipe, data, tmp_path, monkeypatch):
    calls = itertools.count()

    def explode(*_: object):
        return torch.tensor(math.nan) if next(calls) == 6 else original(*_)

    from training import loop

    original = loop._loss
    monkeypatch.setattr(loop, "_loss", explode)
    with pytest.raises(Diverged, match=r"the loss of step 6 is nan; lower optimizer\.learning_rate"):
        train_checkpoint(recipe, data=data, out=tmp_path / "out")
    assert (unfinished(tmp_path / "out") / "state.safetensors").exists()


def test_the_token_that_opens_every_text_learns_as_the_others_do(recipe):
    model = build_model(recipe.model, 320, 0, seed=1)
    embedding = model.get_input_embeddings()
    embedding(torch.tensor([0])).sum().backward()
    assert embedding.weight.grad[0].abs().sum() > 0


@pytest.fixture(scope="module")
def split(data, tmp_path_factory):
    """The licensed documents as one file to train on and one to validate on, which share a document."""
    folder = tmp_path_factory.mktemp("split")
    licensed = [d for d in _documents(data) if d.license == "PSF-2.0"]
    write_documents(folder / "texts.jsonl", licensed[:30])
    write_documents(folder / "validation.jsonl", licensed[29:])
    write_documents(folder / "high.jsonl", [d for d in _documents(data) if d.license != "PSF-2.0"])
    return folder


def test_documents_that_validate_do_not_train_even_where_both_lists_have_them(recipe, split, tmp_path):
    recipe = dataclasses.replace(recipe, validation=(DataRecipe("validation.jsonl"),))
    train_checkpoint(recipe, data=split, out=tmp_path / "out")
    trained_on = {d.digest for d in read_training_documents(tmp_path / "out" / TRAINED_ON_NAME)}
    held_out = {d.digest for d in read_training_documents(tmp_path / "out" / HELD_OUT_NAME)}
    assert (len(trained_on), len(held_out)) == (29, 11)
    assert not trained_on & held_out


def test_a_tokenizer_comes_from_another_checkpoint_with_the_list_of_what_trained_it(recipe, split, data, tmp_path):
    vocabulary = dataclasses.replace(recipe.vocabulary, checkpoint="first")
    train_checkpoint(recipe, data=data, out=tmp_path / "first")
    train_checkpoint(dataclasses.replace(recipe, vocabulary=vocabulary), data=split, out=tmp_path / "second")
    first, second = (tmp_path / name for name in ("first", "second"))
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    assert (first / TRAINED_ON_NAME).read_bytes() == (second / TOKENIZER_TRAINED_ON_NAME).read_bytes()
    verify_checkpoint(second)
    with pytest.raises(BadRecipe, match=r"vocabulary\.size is 321; the tokenizer of .* has 320"):
        larger = dataclasses.replace(recipe, vocabulary=dataclasses.replace(vocabulary, size=321))
        train_checkpoint(larger, data=split, out=tmp_path / "third")


def test_a_baseline_trains_on_high_risk_text_and_is_good_for_nothing_but_measuring(recipe, split, tmp_path):
    admission = AdmissionRecipe(("PD", "SW", "BY", "HIGH_RISK"), validation_share=0.1, baseline="the gap to close")
    as_it_is = CleaningRecipe(max_repeated_run_share=1.0)
    data = (DataRecipe("texts.jsonl"), DataRecipe("high.jsonl"))
    recipe = dataclasses.replace(recipe, admission=admission, cleaning=as_it_is, data=data)
    out = tmp_path / "all"
    assert train_checkpoint(recipe, data=split, out=out).admitted["HIGH_RISK"] == 2
    with pytest.raises(BadCheckpoint, match=r"as a baseline \(the gap to close\)"):
        LanguageModel.load(out)
    assert LanguageModel.load(out, to_measure=True).name == "all"
    with pytest.raises(BadCheckpoint, match="was trained on 'planted'"):
        verify_checkpoint(out)


@pytest.mark.parametrize("n_steps", [1, 8, 16])
def test_a_longer_run_that_goes_on_from_a_shorter_one_ends_with_the_bits_of_the_unbroken_run(
    with_loop, data, tmp_path, n_steps
):
    shorter, longer = (with_loop("wsd", tokens=128 * n, checkpoint_steps=1) for n in (24, 40))  # decays from 17, 28
    with pytest.raises(Stopped):
        train_checkpoint(shorter, data=data, out=tmp_path / "shorter", report=stop_after(n_steps + 1))
    before = weights_of_state(tmp_path / "shorter")
    work = unfinished(tmp_path / "shorter")
    train_checkpoint(longer, data=data, out=tmp_path / "longer", longer_than=work)
    train_checkpoint(longer, data=data, out=tmp_path / "unbroken")
    assert weights(tmp_path / "longer") == weights(tmp_path / "unbroken")
    assert (tmp_path / "longer" / METRICS_NAME).read_text().count("\n") == 4
    assert weights_of_state(tmp_path / "shorter") == before
    train_checkpoint(shorter, data=data, out=tmp_path / "shorter")
    assert weights(tmp_path / "shorter") != weights(tmp_path / "longer")


def weights_of_state(out):
    return (unfinished(out) / STATE_NAME).read_bytes()


def test_a_run_branches_from_the_stable_phase_of_its_own_recipe_only(with_loop, data, tmp_path):
    shorter, longer = (with_loop("wsd", tokens=128 * n, checkpoint_steps=1) for n in (24, 40))
    work, out = unfinished(tmp_path / "shorter"), tmp_path / "longer"
    with pytest.raises(BadOutput, match="no unfinished run"):
        train_checkpoint(longer, data=data, out=out, longer_than=work)
    with pytest.raises(Stopped):
        train_checkpoint(shorter, data=data, out=tmp_path / "shorter", announce=stop_after(4))
    with pytest.raises(BadOutput, match="no saved state yet"):
        train_checkpoint(longer, data=data, out=out, longer_than=work)
    with pytest.raises(Stopped):
        train_checkpoint(shorter, data=data, out=tmp_path / "shorter", report=stop_after(19))
    other = with_loop("wsd", tokens=128 * 40, checkpoint_steps=1, seed=1)
    with pytest.raises(BadOutput, match=r"in more than name and loop\.tokens"):
        train_checkpoint(other, data=data, out=out, longer_than=work)
    with pytest.raises(BadOutput, match="at step 18; the two runs are the same up to step 17 only"):
        train_checkpoint(longer, data=data, out=out, longer_than=work)
    (work / RECIPE_NAME).write_text("{")
    with pytest.raises(BadOutput, match="no unfinished run of this version"):
        train_checkpoint(longer, data=data, out=out, longer_than=work)
    assert not out.exists() and not unfinished(out).exists()


def baseline_of(recipe, start, **changes):
    return dataclasses.replace(
        recipe,
        admission=AdmissionRecipe(("SW", "HIGH_RISK"), 0.1, "to measure against"),
        vocabulary=VocabularyRecipe(320, start),
        start=StartRecipe(start),
        **changes,
    )


def test_a_specialist_begins_with_the_weights_of_the_checkpoint_that_it_is_made_of(checkpoint, recipe, data):
    still = dataclasses.replace(recipe.optimizer, learning_rate=1e-9)
    out = checkpoint.parent / "specialist"
    manifest = train_checkpoint(baseline_of(recipe, checkpoint.name, optimizer=still), data=data, out=out)
    assert manifest.recipe["start"] == {"checkpoint": checkpoint.name}
    before, after = (LlamaForCausalLM.from_pretrained(folder).state_dict() for folder in (checkpoint, out))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    with pytest.raises(BadCheckpoint, match="as a baseline"):
        LanguageModel.load(out)


def test_a_checkpoint_of_another_shape_is_no_start(checkpoint, recipe, data):
    wide = dataclasses.replace(recipe.model, intermediate_size=96)
    with pytest.raises(BadRecipe, match="another shape"):
        train_checkpoint(baseline_of(recipe, checkpoint.name, model=wide), data=data, out=checkpoint.parent / "wide")


def test_a_run_that_goes_on_while_it_is_copied_is_judged_by_the_copy(with_loop, data, tmp_path, monkeypatch):
    shorter, longer = (with_loop("wsd", tokens=128 * n, checkpoint_steps=1) for n in (24, 40))
    work, out = unfinished(tmp_path / "shorter"), tmp_path / "longer"
    with pytest.raises(Stopped):
        train_checkpoint(shorter, data=data, out=tmp_path / "shorter", report=stop_after(9))
    copytree = shutil.copytree

    def go_on_first(*places, **how):
        monkeypatch.undo()
        with pytest.raises(Stopped):
            train_checkpoint(shorter, data=data, out=tmp_path / "shorter", report=stop_after(12))
        return copytree(*places, **how)

    monkeypatch.setattr(shutil, "copytree", go_on_first)
    with pytest.raises(BadOutput, match="the same up to step 17 only"):
        train_checkpoint(longer, data=data, out=out, longer_than=work)
