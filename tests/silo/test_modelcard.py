import dataclasses

import pytest

from silo.checkpoint import Manifest
from silo.modelcard import model_card
from training.commands import RECIPES
from training.config import read_recipe, resolved


@pytest.fixture
def manifest():
    return Manifest(
        recipe=resolved(read_recipe(RECIPES / "pd-sw.toml")),
        admitted={"SW": 12, "PD": 3456},
        refused={},
        n_held_out=1,
        n_tokens=8_400_896,
        n_steps=2051,
        losses={"train": 3.25, "validation": 3.5, "validation_bits_per_byte": 1.625},
        versions={"torch": "2.13.0"},
        notes={"training_seconds": "7.5"},
    )


def test_a_card_says_what_trained_the_model_and_how_well_it_learned(manifest):
    card = model_card(manifest, 5_795_072)
    head, _, page = card.removeprefix("---\n").partition("---\n")
    assert 'license: "apache-2.0"\n' in head
    for fact in (
        "# pd-sw\n",
        "license classes PD, SW alone",
        "| Documents | 3,456 PD, 12 SW |",
        "| Tokens seen | 8,400,896 in 2,051 steps |",
        "| Parameters | 5,795,072 |",
        "| Training seconds | 7.5 |",
        "| Validation, nats per token | 3.5000 |",
        "| Validation, bits per byte | 1.6250 |",
    ):
        assert fact in page


def test_the_card_of_a_baseline_keeps_it_from_being_distributed(manifest):
    baseline = dataclasses.replace(manifest, recipe=resolved(read_recipe(RECIPES / "all.toml")))
    card = model_card(baseline, 5_795_072)
    assert 'license: "other"\n' in card
    assert "never distributed or served" in card
    assert "alone" not in card.partition("## Shape")[0]
