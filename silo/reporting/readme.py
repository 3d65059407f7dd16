"""The results section of a README, and the rule that no figure stands in it which no recorded run gave.

Works on texts and runs; opens no file.

What looks like a measurement: a number with one of the units in ``UNITS``. It is backed when some recorded value whose
name fits the unit is that number, at the decimals that are given. Other numbers (counts, versions, settings, sizes)
are not judged; whoever writes a measurement in another unit adds the unit here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from silo.errors import BadRequest
from silo.reporting.markdown import markdown
from silo.reporting.runs import Run, leaves
from silo.reporting.sections import report

BEGIN, END = "<!-- results -->", "<!-- /results -->"


@dataclass(frozen=True)
class Unit:
    """How a kind of measurement is written, and where a run keeps it."""

    pattern: str
    """A regular expression; its group is the number."""
    names: tuple[str, ...]
    """Of which the dotted name of a recorded value must have one in it."""
    factor: float = 1.0
    """What the recorded value is multiplied by where it is written."""


_NUMBER = r"(?<![\w.])[-−+]?(\d[\d,]*(?:\.\d+)?)"
_SPACE = r"(?:\s|&nbsp;|-|\*)*"
_TIMES = r"×(?!\s*\d)|times (?:as|faster|slower|better|worse|more|less)\b|fold\b"
UNITS = (
    Unit(rf"{_NUMBER}{_SPACE}(?:bits?(?: per |/)(?:byte|character)|bpb\b)", ("bits_per_byte",)),
    Unit(rf"{_NUMBER}{_SPACE}nats?\b", ("nats", "loss")),
    Unit(rf"perplexity(?: \w+){{0,3}} {_NUMBER}", ("perplexity",)),
    Unit(rf"{_NUMBER}{_SPACE}perplexity\b", ("perplexity",)),
    Unit(rf"{_NUMBER}{_SPACE}tokens?(?:/s\b| (?:per|a) second)", ("tokens_per_second", "speed")),
    Unit(
        rf"{_NUMBER}{_SPACE}(?:×(?!\s*\d)|times (?:as|faster|slower|better|worse|more|less)\b|fold\b)",
        ("ratio", "speed"),
    ),
    Unit(rf"{_NUMBER}{_SPACE}%(?: of)? (?:the )?gap", ("closed", "capped", "by_mean_perplexity"), 100.0),
)


def section(runs: Sequence[Run], command: str) -> str:
    """The results section, markers included."""
    how = f"Written by `{command}` from recorded runs; do not edit by hand. A test compares."
    return f"{BEGIN}\n{how}\n\n{markdown(report(runs))}{END}"


def with_section(text: str, written: str) -> str:
    """``text`` with the results section replaced. Raises BadRequest where it has no place for one."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found or BEGIN in after:
        raise BadRequest(f"the README needs one line {BEGIN} and after it one {END}; the results go between them")
    return before + written + after


def unbacked(text: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """Measurements in ``text``, outside of its results section, that no recorded run gave; as they are written."""
    before, _, rest = text.partition(BEGIN)
    outside = before + rest.partition(END)[2]
    recorded = [(name, float(value)) for run in runs for name, value in _numbers(run)]
    found = []
    for unit in UNITS:
        values = [value * unit.factor for name, value in recorded if any(part in name for part in unit.names)]
        for match in re.finditer(unit.pattern, outside, re.IGNORECASE):
            if not is_one_of(match[1], values):
                found.append(" ".join(match[0].split()))
    return tuple(found)


def is_one_of(written: str, values: Sequence[float]) -> bool:
    """Whether one of ``values`` is ``written`` when it is rounded as that is; signs are not compared."""
    plain = written.replace(",", "")
    decimals = len(plain.partition(".")[2])
    return any(f"{abs(value):.{decimals}f}" == plain for value in values)


def _numbers(run: Run) -> Iterator[tuple[str, int | float]]:
    for row in run.rows:
        for name, value in leaves(row):
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, value
