import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.config import SCHEDULES, OptimizerRecipe
from training.optimizer import build_optimizers, decay_start, learning_rate, length_with_decay_at

RECIPES = st.builds(
    OptimizerRecipe,
    schedule=st.sampled_from(SCHEDULES),
    warmup_steps=st.integers(0, 30),
    decay_share=st.floats(0.05, 0.9),
    final_share=st.floats(0, 1),
)


@given(RECIPES, st.integers(1, 200), st.data())
def test_the_learning_rate_stays_between_zero_and_its_highest(recipe, n_steps, data):
    step = data.draw(st.integers(0, n_steps - 1))
    assert 0 <= learning_rate(step, n_steps, recipe) <= recipe.learning_rate * (1 + 1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_warms_up_and_comes_down(schedule):
    recipe = OptimizerRecipe(1.0, schedule, warmup_steps=10, final_share=0.1)
    rates = [learning_rate(step, 100, recipe) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


@given(RECIPES.map(lambda r: dataclasses.replace(r, schedule="wsd")), st.integers(1, 2000))
def test_an_open_run_closes_without_having_used_another_learning_rate(recipe, step):
    n_steps = length_with_decay_at(step, recipe)
    assert decay_start(n_steps, recipe) == step
    assert all(learning_rate(s, None, recipe) == learning_rate(s, n_steps, recipe) for s in range(step))


def test_matrices_decay_and_norms_do_not():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.LayerNorm(3))
    (optimizer,) = build_optimizers(model, OptimizerRecipe(weight_decay=0.1))
    matrices, vectors = optimizer.param_groups
    assert [p.ndim for p in matrices["params"]] == [2]
    assert matrices["weight_decay"] == 0.1
    assert [p.ndim for p in vectors["params"]] == [1, 1]
    assert vectors["weight_decay"] == 0.0
