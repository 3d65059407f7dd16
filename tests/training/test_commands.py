import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from silo.checkpoint import verify_checkpoint
from training.commands import train
from training.errors import BadRecipe
from training.loop import Progress
from training.pipeline import train_checkpoint
from training.progress import describe, progress_line

app = typer.Typer()
app.command()(train)


def test_a_recipe_of_the_package_is_trained_by_its_name(recipe, data, tmp_path):
    out = tmp_path / "checkpoint"
    arguments = ["smoke", "--data", str(data), "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    manifest = verify_checkpoint(out)
    train_checkpoint(recipe, data=data, out=tmp_path / "plain")
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "plain" / "model.safetensors").read_bytes()
    assert "admitted 40 documents, refused 2" in result.output
    assert "1 x HIGH_RISK: GPL-3.0-only: copyleft" in result.output
    assert "tokens/s, loss" in result.output
    assert f"{manifest.n_tokens:,} tokens in {manifest.n_steps:,} steps" in result.output


def test_a_recipe_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(BadRecipe, match=r"no recipe at .*nothing\.toml"):
        CliRunner().invoke(app, [str(tmp_path / "nothing.toml")], catch_exceptions=False)


def test_progress_says_speed_loss_and_time_left():
    step = Progress(step=10, done=0.5, loss=4.25, tokens_per_second=12345.6, seconds_left=61.2)
    assert describe(step) == "12,346 tokens/s, loss 4.250, 1:01 left"


def test_a_terminal_gets_one_moving_line(tmp_path):
    with (tmp_path / "out").open("w+") as file:
        console = Console(file=file, force_terminal=True, width=120)
        with progress_line(console) as report:
            report(Progress(1, 0.5, 4.0, 100.0, 5.0, validation_loss=4.5))
            report(Progress(2, 1.0, 3.0, 100.0, 0.0))
        file.seek(0)
        text = file.read()
    assert "step 1: validation loss 4.500" in text
    assert "loss 3.000" in text
