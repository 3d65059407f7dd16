"""Runs a command of the bench that dies, as of SIGKILL, when the LM or a store is asked for the n-th time.

python dying_run.py N COMMAND ARGUMENTS…
"""

import os
import signal
import sys

import typer

from silo.evaluation.attribution_commands import attribution
from silo.evaluation.optout_commands import optout
from silo.evaluation.served import Served

COMMANDS = {"attribution": attribution, "optout": optout}


def main() -> None:
    left, ask = int(sys.argv[1]), Served.ask

    def dying(*arguments):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return ask(*arguments)

    Served.ask = dying
    app = typer.Typer()
    app.command()(COMMANDS[sys.argv[2]])
    app(sys.argv[3:])


if __name__ == "__main__":
    main()
