import gc
import json
import sys

import pytest
import typer
from typer.testing import CliRunner

from silo.errors import BadRequest, NotInstalled, ReproductionStopped
from silo.evaluation import traces
from silo.reproduction.command import call, reproduce, run
from silo.reproduction.plan import SCALES


def invoke(*arguments):
    app = typer.Typer()
    app.command()(reproduce)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, BadRequest | NotInstalled | ReproductionStopped):
        raise result.exception
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.output


def interrupted(monkeypatch, out):
    """A run that is stopped in the middle of tuning; how many steps it had finished."""
    trace, left = traces.trace, 3

    def stopping(*arguments):
        nonlocal left
        left -= (out / "gate.safetensors").exists()
        if left < 0:
            raise KeyboardInterrupt
        return trace(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(traces, "trace", stopping)
        with pytest.raises(ReproductionStopped, match="Tune on validation text"):
            invoke("--scale", "smoke", "--out", out)
    return sum(bool(json.loads(note.read_text())["made"]) for note in (out / "steps").glob("*.json"))


@pytest.mark.timeout(400)
def test_an_interrupted_smoke_scale_goes_on_from_corpora_to_the_report_and_a_third_time_does_nothing(
    tmp_path, monkeypatch
):
    pytest.importorskip("matplotlib", reason="the report needs the extra `report`")
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "smoke"
    first = interrupted(monkeypatch, out)
    seen = {path: path.stat().st_mtime_ns for path in (out / "traces").rglob("*.safetensors")}
    assert len(seen) > 3 and not (out / "frozen.json").exists()
    output = invoke("--scale", "smoke", "--out", out)
    assert f"{first} steps were there already" in output and first >= 6, "what was finished is kept"
    assert seen == {path: path.stat().st_mtime_ns for path in seen}, "and so is what the interrupted step had seen"
    page = (out / "report.html").read_text()
    recorded = {path.stem: json.loads(path.read_text()) for path in (out / "results").glob("*.json")}
    measured = {"predictors", "specialist", "gap-gate", "gap-knn", "scaling", "optout", "attribution", "tasks"}
    assert set(recorded) == measured | {"extraction", "generation"}
    for name, facts in recorded.items():
        assert name in page
        assert facts["argv"][:2] == ["silo", "eval"] and facts["argv"][-2:] == ["--out", f"{out}/results/{name}.json"]
        assert "$ " + " ".join(facts["argv"]) in output, "what is recorded is what was printed"
    by = {(row["domain"], row["predictor"]): row["bits_per_byte"] for row in recorded["predictors"]["rows"]}
    assert by["modules", "knn"] < by["modules", "lm"], "the datastore holds other parts of these modules"
    assert f"{by['modules', 'gate']:.3f}" in page and f"{by['modules', 'gate']:.3f}" in (out / "report.md").read_text()

    gc.collect()  # a store that nobody holds is closed, which takes its write-ahead log away
    before = {
        path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and "readers" not in path.parts
    }
    again = invoke("--scale", "smoke", "--out", out)
    assert "0.0 s  in all" in again and "0 steps" not in again
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_command_that_is_called_ends_as_in_a_process_of_its_own(capfd):
    argv = list(sys.argv)
    wrong = ["silo", "report", "nowhere", "--markdown", "x.md"]
    assert call(wrong) == run(wrong) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 2 and errors[0] == errors[1] and errors[0].startswith("silo: there is no file or folder")
    assert call(["silo", "report", "--help"]) == 0
    assert call(["silo", "report", "--nonsense"]) == 2
    assert sys.argv == argv


def test_an_unknown_scale_is_refused_and_so_is_a_report_that_could_not_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(BadRequest, match=f"one of {', '.join(SCALES)}"):
        invoke("--scale", "moon")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NotInstalled, match=r"silo-lm\[report\]"):
        invoke("--scale", "smoke", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
