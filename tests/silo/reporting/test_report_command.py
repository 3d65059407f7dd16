import pytest
import typer
from typer.testing import CliRunner

from silo.errors import BadRequest
from silo.reporting.command import report


def run(*arguments):
    app = typer.Typer()
    app.command()(report)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, BadRequest):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_page_markdown_and_a_readme_are_written_and_what_is_no_run_is_told(record_run, results, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need the extra `report`")
    record_run("eval ppl")
    (results / "note.txt").write_text("")
    (tmp_path / "README.md").write_text("a\n<!-- results -->\n<!-- /results -->\nb\n")
    out = [tmp_path / name for name in ("report.html", "report.md", "README.md")]
    output = run(results, "--out", out[0], "--markdown", out[1], "--readme", out[2])
    assert all("1.377" in path.read_text() for path in out)
    assert f"not a recorded run: {results / 'note.txt'}" in output
    assert "note.txt" in out[0].read_text() and "note.txt" in out[1].read_text()


def test_a_readme_needs_no_plots(record_run, results, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    record_run("eval ppl")
    run(results, "--markdown", tmp_path / "report.md")


@pytest.mark.parametrize(
    ("arguments", "message"), [((), "say what to write"), (("--markdown", "x.md"), "no recorded run")]
)
def test_nothing_to_do_is_an_error(results, arguments, message):
    results.mkdir()
    (results / "note.txt").write_text("")
    with pytest.raises(BadRequest, match=message):
        run(results, *arguments)
