import copy
import tomllib

import pytest

from training.commands import RECIPES
from training.config import parse_recipe, read_recipe, resolved
from training.errors import BadRecipe

SMOKE = tomllib.loads((RECIPES / "smoke.toml").read_text())


def changed(*path_and_value):
    *path, name, value = path_and_value
    table = copy.deepcopy(SMOKE)
    place = table
    for step in path:
        place = place[step]
    if value is None:
        del place[name]
    else:
        place[name] = value
    return table


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_every_recipe_that_comes_with_the_package_is_valid(path):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert parse_recipe(resolved(recipe)) == recipe


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed("modle", {}), r"unknown key 'modle'; allowed here: name, admission, data, model"),
        (changed("model", "layers", 3), r"unknown key 'model.layers'; allowed here: hidden_size, n_layers"),
        (changed("data", 0, "licence", "MIT"), r"unknown key 'data\[0\].licence'; allowed here: location, license"),
        (changed("model", None), r"the key 'model' is missing"),
        (changed("model", "n_layers", None), r"the key 'model.n_layers' is missing"),
        (changed("model", "n_layers", "two"), r"model.n_layers must be int; got 'two'"),
        (changed("model", "n_layers", True), r"model.n_layers must be int; got True"),
        (changed("model", "n_layers", 2.5), r"model.n_layers must be int; got 2.5"),
        (changed("model", "n_layers", 0), r"model.n_layers must be from 1"),
        (changed("model", "n_heads", 3), r"must be an even multiple of model.n_heads; got 32 and 3"),
        (changed("model", "n_kv_heads", 3), r"n_kv_heads must divide n_heads = 2; got 3"),
        (changed("model", 3), r"model must be a table; got 3"),
        (changed("data", []), r"at least one \[\[data\]\]"),
        (changed("data", [{}]), r"needs a location, or names a source in declared"),
        (changed("data", [{"declared": "olc/pd_law", "license": "MIT"}]), r"'olc/pd_law' has no other key"),
        (changed("data", [{"declared": "olc/pd_law", "location": "a.jsonl"}]), r"'olc/pd_law' has no other key"),
        (changed("data", "texts.jsonl"), r"data must be a list"),
        (changed("admission", "classes", ["PD", "HIGH_RISK"]), r"High-risk text may never train"),
        (changed("loop", "patience", 3), r"loop.patience counts validations"),
        (changed("start", {"checkpoint": "smoke"}), r"start.checkpoint is for baselines"),
        (changed("optimizer", "kind", "sgd"), r"optimizer.kind must be one of adamw, muon; got 'sgd'"),
        (changed("loop", "precision", "fp8"), r"loop.precision must be one of fp32, bf16; got 'fp8'"),
        (changed("admission", "classes", ["PD", "NC"]), r"must name one or more of PD, SW, BY"),
        (changed("admission", "classes", []), r"must name one or more of PD, SW, BY"),
        (changed("admission", "validation_share", 0.9), r"validation_share must be from 0 to 0.5"),
        (changed("cleaning", {"max_symbol_share": 2}), r"cleaning.max_symbol_share must be from 0 to 1"),
        (changed("cleaning", {"min_words": 2}), r"unknown key 'cleaning.min_words'; allowed here: min_characters"),
        (changed("deduplication", {"threshold": 0.1}), r"deduplication.threshold must be from 0.5 to 1"),
        (changed("decontamination", {"n": 0}), r"decontamination.n must be from 1"),
        (changed("decontamination", {"evaluations": "a"}), r"decontamination.evaluations must be a list"),
        (changed("vocabulary", "size", 10), r"vocabulary.size must be from 257"),
        (changed("optimizer", "learning_rate", float("nan")), r"learning_rate must be from"),
        (changed("optimizer", "schedule", "linear"), r"schedule must be one of cosine, wsd; got 'linear'"),
        (changed("loop", "tokens", None), r"exactly one of tokens and minutes"),
        (changed("loop", "minutes", 1), r"exactly one of tokens and minutes"),
        (changed("loop", "batch_size", 0), r"loop.batch_size must be from 1"),
        (changed("loop", {"batch_size": 1, "minutes": 1}), r"bounded by minutes needs optimizer.schedule = \"wsd\""),
    ],
)
def test_a_recipe_that_is_wrong_says_which_key_and_what_is_allowed(table, message):
    with pytest.raises(BadRecipe, match=message):
        parse_recipe(table)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "torn.toml"
    path.write_bytes(content)
    with pytest.raises(BadRecipe, match=r"torn\.toml is not TOML"):
        read_recipe(path)


def test_a_recipe_that_is_not_there_says_where_to_look(tmp_path):
    with pytest.raises(BadRecipe, match=r"no recipe at .*training/recipes"):
        read_recipe(tmp_path / "none.toml")


def test_a_recipe_may_name_declared_sources_and_says_so_when_it_is_saved():
    recipe = parse_recipe(changed("data", [{"declared": "olc/pd_law"}, {"location": "a.jsonl"}]))
    assert [entry.declared for entry in recipe.data] == ["olc/pd_law", None]
    saved = resolved(recipe)
    assert parse_recipe(saved) == recipe
    assert "declared" not in saved["data"][1]
