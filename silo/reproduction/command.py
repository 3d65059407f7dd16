"""`silo reproduce`: every step of the reproduction, one command after another.

Thin: reads arguments, runs the steps, prints what each took.
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer


def reproduce(
    scale: Annotated[str, typer.Option(help="smoke: seconds, on stand-in text. laptop: 1.5 hours, with --corpora.")],
    out: Annotated[Path | None, typer.Option(help="Where everything goes; else reproduction/SCALE.")] = None,
    corpora: Annotated[Path | None, typer.Option(help="A folder of corpora, with low/ and high/.")] = None,
) -> None:
    """Corpora, LM, datastore, tuning, tests, experiments and the report. Asked again, it does only what has changed.

    Every step is a command that is printed before it runs, and that one can run alone.
    """
    from silo.errors import BadRequest
    from silo.reporting.plots import check_installed
    from silo.reproduction.plan import SCALES, Places, corpora_step, plan
    from silo.reproduction.steps import Steps

    if scale not in SCALES:
        raise BadRequest(f"--scale is one of {', '.join(SCALES)}; got {scale!r}")
    check_installed()
    chosen, places = SCALES[scale], Places(out or Path("reproduction") / scale)
    steps = Steps(places.out / "steps", call if chosen.calls else run, lambda text: print(text, flush=True))
    steps.step(corpora_step(chosen, places, corpora))
    commands = {point.name for point in entry_points(group="silo.commands")}
    for step in plan(chosen, places).steps(commands):
        steps.step(step)
    for title, seconds in steps.seconds.items():
        print(f"{seconds:8.1f} s  {title}")
    print(f"{sum(steps.seconds.values()):8.1f} s  in all; {len(steps.passed_over)} steps were there already")
    print(places.out / "report.html")


def run(command: Sequence[str]) -> int:
    """Run ``silo …`` or ``python …`` in a process of its own, in the terminal that we are in."""
    sys.stdout.flush()
    prefix = [sys.executable, "-m", "silo"] if command[0] == "silo" else [sys.executable]
    return subprocess.run([*prefix, *command[1:]], check=False).returncode


def call(command: Sequence[str]) -> int:
    """Run ``silo …`` in this process, and ``python …`` in one of its own; errors for people are printed, as always."""
    from silo import cli

    if command[0] != "silo":
        return run(command)
    before, sys.argv = sys.argv, list(command)
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return 0
