import math

import pytest
import torch

from training.config import OPTIMIZERS, ModelRecipe, OptimizerRecipe
from training.errors import BadOutput
from training.loop import build_model
from training.optimizer import build_optimizers
from training.state import Position, load_state, save_state


def run(hidden_size=16, seed=0, kind="adamw"):
    model = build_model(ModelRecipe(hidden_size, 1, 2, 32, context=8), 300, 0, seed)
    return model, build_optimizers(model, OptimizerRecipe(kind=kind))


def update(model, optimizers):
    model(input_ids=torch.arange(8)[None]).logits.square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_that_is_loaded_goes_on_as_the_one_that_was_saved(tmp_path, kind):
    model, optimizer = run(kind=kind)
    update(model, optimizer)
    position = Position(1, None, 2.5, 6.25)
    save_state(tmp_path / "state", model, optimizer, position)
    expected = torch.rand(3)
    other, other_optimizer = run(seed=1, kind=kind)
    assert load_state(tmp_path / "state", other, other_optimizer) == position
    assert (torch.rand(3) == expected).all()
    for pair in ((model, optimizer), (other, other_optimizer)):
        update(*pair)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_loss_that_is_not_there_yet_is_kept_as_such(tmp_path):
    model, optimizer = run()
    save_state(tmp_path / "state", model, optimizer, Position(0, 10, 0.0, math.nan))
    assert math.isnan(load_state(tmp_path / "state", model, optimizer).loss)


@pytest.mark.parametrize("damage", [lambda raw: raw[:100], lambda raw: b"", lambda raw: b"{}" * 50])
def test_a_torn_state_is_refused(tmp_path, damage):
    model, optimizer = run()
    path = tmp_path / "state"
    save_state(path, model, optimizer, Position(0, 10, 0.0, math.nan))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadOutput, match="is no state of this run"):
        load_state(path, model, optimizer)


def test_the_state_of_another_model_is_refused(tmp_path):
    save_state(tmp_path / "state", *run(hidden_size=32), Position(0, 10, 0.0, math.nan))
    with pytest.raises(BadOutput, match="is no state of this run"):
        load_state(tmp_path / "state", *run())
