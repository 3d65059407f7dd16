"""One HTML page that needs nothing beside it: style and plots are in it, and it asks the network for nothing.

Knows a report; opens nothing but its template.
"""

from collections.abc import Iterator

from silo.reporting.blocks import Plot, Table
from silo.reporting.plots import check_installed, svg
from silo.reporting.sections import Report


def page(shown: Report, title: str) -> str:
    """The report as HTML. Raises NotInstalled where it has plots and matplotlib is missing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    check_installed()
    numbers: Iterator[int] = iter(range(1, 1 << 30))
    environment = Environment(
        loader=PackageLoader("silo.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["svg"] = lambda plot: svg(plot, f"plot{next(numbers)}")
    environment.tests["plot"] = lambda block: isinstance(block, Plot)
    environment.tests["wide"] = _is_wide
    return environment.get_template("page.html.jinja").render(report=shown, title=title)


def _is_wide(table: Table) -> bool:
    """Whether intervals stand under their figures, for want of room."""
    return len(table.columns) > 4
