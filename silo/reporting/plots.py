"""Plots as SVG, by matplotlib: black text, colors that color-blind readers can tell apart, markers that differ.

Knows facts to draw; knows no run. matplotlib is the extra ``report``. The same facts give the same SVG.
"""

import io
import itertools
import re
from typing import Any

from silo.errors import NotInstalled
from silo.reporting.blocks import Plot, Series

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito (2008), the darker ones first."""
MARKERS = "osD^vPX*"
_WIDTH = 7.0
"""Inches: an A4 page between its margins."""
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.edgecolor": "black",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "silo",
}
_NAMES = re.compile(r'(\bid="|href="#|url\(#)')


def check_installed() -> None:
    """Raise NotInstalled where plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NotInstalled(
            "plots need matplotlib, which is not here. Install it with `pip install 'silo-lm[report]'`; "
            "--markdown and --readme need no plots."
        ) from error


def svg(plot: Plot, prefix: str) -> str:
    """``plot`` as an SVG element; ``prefix`` keeps its names apart from those of others on one page.

    Raises:
        NotInstalled: matplotlib is missing.
    """
    check_installed()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        height = 0.7 + 0.21 * len(plot.labels) * _spread(plot) if plot.kind == "dots" else 3.2
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        (_dots if plot.kind == "dots" else _lines)(plot, axes)
        axes.set_xlabel(plot.x_label)
        if len(plot.series) > 1:
            figure.legend(loc="outside upper left", ncols=_n_columns(len(plot.series)), handletextpad=0.4)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    drawn = drawn[drawn.index("<svg") :].rstrip()
    return _NAMES.sub(lambda found: f"{found[1]}{prefix}-", drawn)


def _n_columns(n: int) -> int:
    """Of a legend: all on a line, or lines of about one length."""
    return n if n <= 5 else min(4, -(-n // 2))


def _spread(plot: Plot) -> float:
    """Room for a row of dots: more where several stand under each other."""
    return max(1.0, 0.55 * len(plot.series))


def _dots(plot: Plot, axes: Any) -> None:
    n = len(plot.series)
    for i, (one, color, marker) in enumerate(zip(plot.series, itertools.cycle(COLORS), itertools.cycle(MARKERS))):
        y = [row + 0.7 * ((i + 0.5) / n - 0.5) for row in one.y]
        axes.errorbar(one.x, y, xerr=_ends(one, one.x), fmt=marker, color=color, label=one.name, **_THIN)
    axes.set_yticks(range(len(plot.labels)), plot.labels)
    axes.set_ylim(len(plot.labels) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    if n > 1:
        for row in range(1, len(plot.labels)):
            axes.axhline(row - 0.5, color="#eeeeee", linewidth=0.5, zorder=0)
    if plot.mark is not None:
        axes.axvline(plot.mark, color="black", linewidth=0.8, linestyle="--", zorder=0)


def _lines(plot: Plot, axes: Any) -> None:
    is_joined = sum(one.style == "points" for one in plot.series) > 1  # whose points are whose
    for one, color, marker in zip(plot.series, itertools.cycle(COLORS), itertools.cycle(MARKERS)):
        if one.style == "points":
            form = f"{marker}-" if is_joined else marker
            ends = _ends(one, one.y)
            axes.errorbar(one.x, one.y, yerr=ends, fmt=form, linewidth=0.8, color=color, label=one.name, **_THIN)
        else:
            style = "-" if one.style == "line" else ":"
            axes.plot(one.x, one.y, style, color=color, linewidth=1.2, label=one.name)
    if plot.is_log_x:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if min((x for one in plot.series for x in one.x), default=0) > 0:
            axes.set_xlim(left=0)
    axes.grid()
    axes.set_ylabel(plot.y_label)


_THIN = {"markersize": 4, "elinewidth": 1, "capsize": 1.5}


def _ends(one: Series, values: tuple[float, ...]) -> list[list[float]] | None:
    """How far the intervals reach, as matplotlib asks."""
    if not one.low:
        return None
    below = [max(0.0, value - low) for value, low in zip(values, one.low, strict=True)]
    return [below, [max(0.0, high - value) for value, high in zip(values, one.high, strict=True)]]
