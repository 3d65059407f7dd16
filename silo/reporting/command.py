"""`silo report`: recorded runs in; one page, Markdown, or the results section of a README out.

Thin: reads arguments and files, calls the library, writes.
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[list[Path], typer.Argument(help="Recorded runs and a checkpoint's metrics.jsonl, or folders.")],
    out: Annotated[Path | None, typer.Option(help="The page: one HTML file with everything in it.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="The tables as Markdown.")] = None,
    readme: Annotated[
        Path | None, typer.Option(help="A README whose results section is written anew, between its markers.")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = "SILO, measured",
) -> None:
    """Tables, plots, protocol and provenance from recorded runs. What is none is listed."""
    from silo.errors import BadRequest
    from silo.files import new_file
    from silo.reporting.markdown import markdown as as_markdown
    from silo.reporting.page import page
    from silo.reporting.readme import section, with_section
    from silo.reporting.runs import read_runs
    from silo.reporting.sections import report as reported

    if out is None and markdown is None and readme is None:
        raise BadRequest("say what to write: --out report.html, --markdown FILE or --readme README.md")
    runs, others = read_runs(results)
    if not runs:
        raise BadRequest(
            f"there is no recorded run in {', '.join(map(str, results))}; make one with `silo eval … --out`"
        )
    shown = reported(runs, others)
    written: list[tuple[Path, str]] = []
    if out is not None:
        written.append((out, page(shown, title)))
    if markdown is not None:
        written.append((markdown, as_markdown(shown)))
    if readme is not None:
        typed = shlex.join(["silo", "report", *map(str, results), "--readme", str(readme)])
        written.append((readme, with_section(readme.read_text(encoding="utf-8"), section(runs, typed))))
    for path, text in written:
        with new_file(path) as stream:
            stream.write(text.encode("utf-8"))
        print(f"{path}: {len(runs)} recorded runs")
    for other in others:
        print(f"not a recorded run: {other.name}: {other.reason}")
