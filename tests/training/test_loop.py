import dataclasses

import numpy as np
import pytest
import torch

from training.batches import Batches, document_positions
from training.config import OPTIMIZERS, ModelRecipe
from training.errors import BadOutput
from training.loop import build_model, evaluate, fit
from training.optimizer import build_optimizers

BOUNDARY = 0
CONTEXT = 24


@pytest.fixture(scope="module")
def model():
    return build_model(ModelRecipe(32, 2, 2, 64, context=CONTEXT), 300, BOUNDARY, seed=3).eval()


def states(model, tokens, positions):
    return model.model(input_ids=torch.tensor([tokens]), position_ids=positions, use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("as_training_does", [True, False])
def test_a_document_is_read_alone_whatever_precedes_it_in_its_window(model, as_training_does):
    first, second = [BOUNDARY, 7, 8, 9, 10], [BOUNDARY, 21, 22, 23]
    window = [*first, *second]
    positions = torch.from_numpy(document_positions(np.array([window]), BOUNDARY)) if as_training_does else None
    alone, packed = states(model, second, None), states(model, window, positions)[len(first) :]
    assert torch.allclose(alone, packed, atol=1e-5) == as_training_does


def train(recipe, tmp_path, text, **loop):
    recipe = dataclasses.replace(recipe, loop=dataclasses.replace(recipe.loop, **loop))
    model = build_model(recipe.model, 300, BOUNDARY, recipe.loop.seed)
    context, size = recipe.model.context, recipe.loop.batch_size
    outcome = fit(
        model,
        Batches(text, context, size, recipe.loop.seed),
        np.empty((0, context + 1), np.int64),
        recipe,
        tmp_path / "state",
        device="cpu",
        report=lambda _: None,
    )
    return outcome, model


@pytest.fixture(scope="module")
def text():
    """A text that repeats itself, so that anything that learns at all brings the loss down."""
    return np.tile(np.r_[BOUNDARY, np.random.default_rng(0).integers(1, 300, 40)], 60).astype(np.uint16)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_each_optimizer_learns(recipe, tmp_path, text, kind):
    recipe = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, kind=kind))
    outcome, _ = train(recipe, tmp_path, text, tokens=12_288)
    assert outcome.train_loss < 3.5 < np.log(300) - 2


def test_bf16_products_leave_float32_weights_and_nearly_the_same_loss(recipe, tmp_path, text):
    exact, exact_model = train(recipe, tmp_path / "fp32", text)
    rounded, rounded_model = train(recipe, tmp_path / "bf16", text, precision="bf16")
    assert rounded.train_loss == pytest.approx(exact.train_loss, rel=0.02)
    assert {p.dtype for p in rounded_model.parameters()} == {torch.float32}
    pairs = zip(exact_model.parameters(), rounded_model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_muon_takes_the_matrices_between_the_embeddings(model, recipe):
    adamw, muon = build_optimizers(model, dataclasses.replace(recipe.optimizer, kind="muon"))
    by_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in by_muon}
    assert names == {name for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    n_adamw = sum(len(group["params"]) for group in adamw.param_groups)
    assert n_adamw + len(by_muon) == len(list(model.parameters()))


def other_text():
    """Text that the training text says nothing of: learning makes its loss fall a little, then rise."""
    return np.r_[BOUNDARY, np.random.default_rng(9).integers(1, 300, 24)][None].astype(np.int64)


def patient(recipe, tmp_path, text, report=lambda _: None, **loop):
    loop = {"tokens": 40_960, "validate_steps": 4, "patience": 3, "checkpoint_steps": 3} | loop
    recipe = dataclasses.replace(recipe, loop=dataclasses.replace(recipe.loop, **loop))
    model = build_model(recipe.model, 300, BOUNDARY, 0)
    context = recipe.model.context
    batches = Batches(text, context, recipe.loop.batch_size, 0)
    return fit(model, batches, other_text(), recipe, tmp_path / "state", device="cpu", report=report), model, recipe


def test_a_run_with_patience_stops_and_keeps_the_weights_with_the_lowest_validation_loss(recipe, tmp_path, text):
    seen = []
    outcome, model, recipe = patient(
        recipe, tmp_path, text, lambda progress: seen.append((progress.step, progress.validation_loss))
    )
    losses = [loss for _, loss in seen if loss is not None]
    assert outcome.n_steps < 40_960 // recipe.tokens_per_step
    assert min(losses[:-3]) < min(losses[-3:])
    assert outcome.n_steps == 4 * len(losses)
    assert outcome.validation_loss == min(losses) == evaluate(model, other_text(), recipe.loop)


def test_a_patient_run_that_was_killed_ends_with_the_bits_of_the_unbroken_one(recipe, tmp_path, text):
    class Killed(Exception):
        pass

    def killed_at(step):
        def report(progress):
            if progress.step == step:
                raise Killed

        return report

    unbroken, whole, _ = patient(recipe, tmp_path, text)
    again = tmp_path / "again"
    again.mkdir()
    for step in (unbroken.n_steps - 13, unbroken.n_steps - 2):
        with pytest.raises(Killed):
            patient(recipe, again, text, killed_at(step))
    resumed, model, _ = patient(recipe, again, text)
    assert (resumed.n_steps, resumed.validation_loss) == (unbroken.n_steps, unbroken.validation_loss)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))


def test_torn_weights_are_an_error_that_says_what_to_do(recipe, tmp_path, text):
    def tear(progress):
        if progress.step == 8:
            (tmp_path / "lowest.safetensors").write_bytes(b"torn")

    with pytest.raises(BadOutput, match="Remove"):
        patient(recipe, tmp_path, text, tear, tokens=8 * 4 * recipe.model.context)
