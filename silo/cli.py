"""The command `silo`: finds the subcommands that the packages register and runs one.

Knows no subcommand by name. Errors that were raised for people print as one line, without a
traceback, and exit with status 2; set ``SILO_DEBUG=1`` to see where they came from.
"""

import os
import sys
from importlib.metadata import entry_points

import typer

# Spinning OpenMP threads of torch and faiss starve each other on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

GROUP = "silo.commands"


def build_app() -> typer.Typer:
    """The application with every registered command; ``a.b`` becomes ``b`` in the group ``a``."""
    app = typer.Typer(
        name="silo",
        help="A language model that keeps legal risk out of its weights.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    groups: dict[str, typer.Typer] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        group, _, name = point.name.rpartition(".")
        if group and group not in groups:
            groups[group] = typer.Typer(no_args_is_help=True, help=f"Work with the {group}.", rich_markup_mode=None)
            app.add_typer(groups[group], name=group)
        (groups[group] if group else app).command(name)(point.load())
    return app


def main() -> None:
    """Entry point of the console script."""
    try:
        build_app()()
    except Exception as error:
        if os.environ.get("SILO_DEBUG") or not _is_for_people(error):
            raise
        print(f"silo: {error}", file=sys.stderr)
        sys.exit(2)


def _is_for_people(error: Exception) -> bool:
    """Our own exceptions and the operating system's say enough without a traceback."""
    package = type(error).__module__.split(".")[0]
    return isinstance(error, OSError) or package in {"silo", "datastore", "training", "serving"}
