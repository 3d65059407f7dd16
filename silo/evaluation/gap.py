"""How much of a gap a datastore closes: between the licensed LM and one that was trained on the text itself.

Pure functions on figures. Min et al. (2023) compare averages of perplexities over domains, which two domains carry:
their 91 % is 76 % where each domain counts at most as closed, and their average. So here the gap of a domain is in
nats per token, closed at most wholly, and the mean is over domains; the other two are given beside it, by their names.

A domain where the reference is not better than the LM has no gap. It counts as closed where the datastore does no harm,
and is listed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from silo.errors import BadRequest


@dataclass(frozen=True)
class Gap:
    """One domain."""

    domain: str
    lm: float
    """Nats per token of the licensed LM; likewise the two that follow."""
    mixed: float
    reference: float
    has_gap: bool
    closed: float
    """Share of the gap; more than one where the datastore does better than the reference."""
    capped: float
    """The same, from 0 to 1."""


@dataclass(frozen=True)
class Gaps:
    """All domains against one reference."""

    domains: tuple[Gap, ...]
    mean_capped: float
    """The figure to quote."""
    mean_uncapped: float
    """Over domains with a gap; one that overshoots makes up for others."""
    by_mean_perplexity: float
    """The paper's: of perplexities averaged over domains first."""


def gap(domain: str, lm: float, mixed: float, reference: float) -> Gap:
    """The gap of one domain, from nats per token."""
    has_gap = reference < lm
    closed = (lm - mixed) / (lm - reference) if has_gap else float(mixed <= lm)
    return Gap(domain, lm, mixed, reference, has_gap, closed, min(1.0, max(0.0, closed)))


def gaps(found: Sequence[Gap]) -> Gaps:
    """What ``found`` come to. Raises BadRequest where there are none."""
    if not found:
        raise BadRequest("a gap needs at least one domain")
    n = len(found)
    lm, mixed, reference = (
        sum(math.exp(getattr(one, name)) for one in found) / n for name in ("lm", "mixed", "reference")
    )
    open_ = [one.closed for one in found if one.has_gap]
    return Gaps(
        tuple(found),
        sum(one.capped for one in found) / n,
        sum(open_) / len(open_) if open_ else math.nan,
        (lm - mixed) / (lm - reference) if reference < lm else math.nan,
    )


def gaps_of(
    measured: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]], predictor: str
) -> tuple[Gaps, tuple[float, ...]]:
    """The gaps between rows of `silo eval ppl`, and the reference's lead over ``predictor`` in each domain, in nats.

    Raises:
        BadRequest: the rows are not of the same documents by models with one tokenizer, or a predictor is missing.
    """
    by_domain = {row["domain"]: row for row in reference if row["predictor"] == "lm"}
    lm = {row["domain"]: row for row in measured if row["predictor"] == "lm"}
    mixed = {row["domain"]: row for row in measured if row["predictor"] == predictor}
    if missing := sorted(set(mixed) ^ set(lm)) or sorted(set(mixed) - set(by_domain)):
        raise BadRequest(f"{predictor!r}, 'lm' and the reference must be measured on one set of domains; see {missing}")
    found = []
    for domain, row in mixed.items():
        other = by_domain[domain]
        if (row["documents"], row["n_tokens"]) != (other["documents"], other["n_tokens"]):
            raise BadRequest(f"{domain!r}: the reference was measured on other documents, or by another tokenizer")
        found.append(gap(domain, lm[domain]["nats_per_token"], row["nats_per_token"], other["nats_per_token"]))
    return gaps(found), tuple(one.mixed - one.reference for one in found)
