"""The parts of a report: sections of tables and plots, as facts.

Knows neither HTML nor Markdown nor how a plot is drawn, nor where the figures come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

QUANTILES = ("least", "median", "p90", "p99", "most")
"""As recorded runs name them, in the order in which they are shown."""


@dataclass(frozen=True)
class Cell:
    """One figure or word of a table."""

    text: str
    interval: str = ""
    """Such as ``1.672 to 1.849``; empty where none was recorded."""
    is_best: bool = False
    """Of its row."""


@dataclass(frozen=True)
class Table:
    """Rows under columns; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    is_detail: bool = False
    """For the page, which has room; left out of a README."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r} has {len(self.columns)} columns; a row has {len(row)}: "
                    f"{[cell.text for cell in row]}"
                )


@dataclass(frozen=True)
class Series:
    """Points of one kind; a plot's legend has its name."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    """Ends of the intervals of y (of x in ``dots``); none, or as many as points."""
    high: tuple[float, ...] = ()
    style: Literal["points", "line", "extrapolated"] = "points"


@dataclass(frozen=True)
class Plot:
    """Series on one pair of axes."""

    title: str
    kind: Literal["dots", "lines"]
    """``dots``: y counts the labels, from the top; x is the figure."""
    series: tuple[Series, ...]
    x_label: str
    y_label: str = ""
    labels: tuple[str, ...] = ()
    is_log_x: bool = False
    mark: float | None = None
    """A value of x in ``dots`` that a line is drawn at."""


@dataclass(frozen=True)
class Section:
    """What one recorded run says."""

    title: str
    run: str
    """Its file."""
    blocks: tuple[Table | Plot, ...]
    note: str = ""

    @property
    def tables(self) -> tuple[Table, ...]:
        """Without the plots."""
        return tuple(block for block in self.blocks if isinstance(block, Table))


def words(row: Sequence[object]) -> tuple[Cell, ...]:
    """Cells without intervals."""
    return tuple(Cell(str(one)) for one in row)


def fixed(value: float, decimals: int = 3) -> str:
    """``value`` to so many decimals, with a minus sign that is as wide as a plus; a dash where there is none."""
    if value != value:
        return "–"
    return f"{value:.{decimals}f}".replace("-", "−")


def power(value: float) -> str:
    """Two figures and a power of ten, with the same minus signs, at which no line breaks."""
    return f"{value:.1e}".replace("-", "−")


def signed(value: float, decimals: int = 3) -> str:
    """The same with its sign."""
    return "–" if value != value else f"{value:+.{decimals}f}".replace("-", "−")


def between(interval: Sequence[float], decimals: int = 3) -> str:
    """An interval in words."""
    return f"{fixed(interval[0], decimals)} to {fixed(interval[1], decimals)}"
