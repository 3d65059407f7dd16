"""The progress of training for a person to watch: a moving line on a terminal, a line now and then elsewhere.

Knows numbers; knows neither model nor data.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from training.loop import Progress as Step

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress_line(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[Step], None]]:
    """A function that shows each step that it is given."""
    if not console.is_terminal:
        yield _printer(console, clock)
        return
    columns = (TextColumn("training"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=1.0, facts="")

        def show(step: Step) -> None:
            bar.update(task, completed=step.done, facts=describe(step))
            if step.validation_loss is not None:
                bar.console.print(f"step {step.step:,}: validation loss {step.validation_loss:.3f}", highlight=False)

        yield show


def describe(step: Step) -> str:
    """Speed, loss and time left, in words."""
    minutes, seconds = divmod(round(step.seconds_left), 60)
    text = f"{step.tokens_per_second:,.0f} tokens/s, loss {step.loss:.3f}, {minutes}:{seconds:02d} left"
    return text if step.validation_loss is None else f"{text}, validation loss {step.validation_loss:.3f}"


def _printer(console: Console, clock: Callable[[], float]) -> Callable[[Step], None]:
    next_line = clock()

    def show(step: Step) -> None:
        nonlocal next_line
        if clock() >= next_line or step.done >= 1 or step.validation_loss is not None:
            next_line = clock() + SECONDS_BETWEEN_LINES
            console.print(f"step {step.step:,} ({step.done:.0%}): {describe(step)}", highlight=False)

    return show
