"""Which risk class a license puts a text in.

The decision is a table that a lawyer can read and edit, ``licenses.toml`` beside this file,
and one rule for everything that the table does not settle: **not wholly permissive means
HIGH_RISK**. So unknown, missing and malformed licenses are high-risk, and so is a compound
expression with any part that is not in the table as PD, SW or BY: ``MIT OR GPL-3.0-only`` too,
because a choice that somebody has to make is not a license that we hold.
Classes are those of Min et al. (2023), section 3.1.
"""

import enum
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TABLE_PATH = Path(__file__).with_name("licenses.toml")


class RiskClass(enum.StrEnum):
    """Where a text may live. ``PD``, ``SW`` and ``BY`` may train; ``HIGH_RISK`` never does."""

    PD = "PD"
    """Public domain: no restriction."""
    SW = "SW"
    """Permissive software licenses: MIT, Apache, BSD and their like."""
    BY = "BY"
    """Attribution is the only duty."""
    HIGH_RISK = "HIGH_RISK"
    """Everything else: the datastore only."""


PERMISSIVE = (RiskClass.PD, RiskClass.SW, RiskClass.BY)
"""From the least demanding class to the most: a compound license takes the last one among its parts."""


@dataclass(frozen=True)
class Decision:
    """A risk class and the reason for it, in words for an auditor."""

    risk: RiskClass
    reason: str


@functools.cache
def license_table(path: Path = TABLE_PATH) -> Mapping[str, Decision]:
    """The rows of ``path``, keyed by lower-cased license id (SPDX ids ignore case)."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name.lower(): Decision(RiskClass(row["class"]), row["reason"]) for name, row in rows.items()}


def classify(license: str, table: Mapping[str, Decision] | None = None) -> Decision:  # noqa: A002
    """Decide the class of an SPDX expression. Never raises: whatever cannot be read is high-risk."""
    table = license_table() if table is None else table
    expression = license.strip() if isinstance(license, str) else ""
    if not expression:
        return Decision(RiskClass.HIGH_RISK, "no license is stated")
    if found := table.get(expression.lower()):
        return found
    symbols = _symbols(expression)
    if symbols is None:
        return Decision(RiskClass.HIGH_RISK, f"{expression!r} is not an SPDX license expression")
    parts = {symbol: table.get(symbol.lower()) for symbol in symbols}
    for symbol, decision in parts.items():
        if decision is None:
            return Decision(RiskClass.HIGH_RISK, f"license {symbol!r} is not in the table")
        if decision.risk is RiskClass.HIGH_RISK:
            return Decision(RiskClass.HIGH_RISK, f"{symbol}: {decision.reason}")
    risk = max((decision.risk for decision in parts.values() if decision), key=PERMISSIVE.index)
    return Decision(risk, f"every part of {expression!r} is permissive; the most demanding is {risk}")


def _symbols(expression: str) -> list[str] | None:
    """License ids in ``expression`` in order, ``A WITH B`` as one; None where it does not parse."""
    from license_expression import Licensing

    licensing = Licensing()
    try:
        parsed = licensing.parse(expression)
    except Exception:  # its parser raises its own errors, and IndexError for "MIT AND ()"
        return None
    if parsed is None:
        return None
    return list(dict.fromkeys(symbol.render() for symbol in licensing.license_symbols(parsed, decompose=False)))
