import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.errors import BadRequest
from silo.evaluation.gap import gap, gaps, gaps_of

PAPER = {  # perplexities of Min et al. (2023), Table 4: PDSW, PDSW with kNN-LM, Pythia
    "Github": (2.7, 2.4, 2.4),
    "NIH": (19.2, 15.0, 11.1),
    "Wikipedia": (20.3, 14.5, 9.1),
    "CC News": (23.3, 8.0, 12.0),
    "Books3": (19.3, 17.4, 12.6),
    "Enron": (13.2, 5.9, 6.9),
    "Amazon": (34.8, 26.0, 22.9),
    "MIMIC": (19.0, 6.6, 13.1),
}


def test_the_papers_own_figure_comes_out_of_its_table_and_so_does_what_it_hides():
    found = gaps([gap(domain, *map(math.log, row)) for domain, row in PAPER.items()])
    assert found.by_mean_perplexity == pytest.approx(0.91, abs=0.01)
    assert {one.domain for one in found.domains if one.closed > 1.01} == {"CC News", "Enron", "MIMIC"}
    assert found.mean_capped < 0.8 < found.mean_uncapped


nats = st.floats(0.1, 9)


@given(nats, nats, nats)
def test_a_closed_gap_is_one_and_an_untouched_one_is_nothing(lm, mixed, reference):
    found = gap("mail", lm, mixed, reference)
    assert 0 <= found.capped <= 1
    if reference < lm:
        assert gap("mail", lm, reference, reference).closed == pytest.approx(1)
        assert gap("mail", lm, lm, reference).closed == 0
        assert (found.closed > 1) == (mixed < reference) or mixed == pytest.approx(reference)
    else:
        assert not found.has_gap
        assert found.capped == (mixed <= lm)


def test_without_any_gap_the_papers_mean_is_not_a_number():
    found = gaps([gap("mail", 2.0, 1.9, 2.5)])
    assert found.mean_capped == 1
    assert math.isnan(found.mean_uncapped) and math.isnan(found.by_mean_perplexity)


def row(domain, predictor, nats_per_token, documents="d", n_tokens=5):
    named = {"domain": domain, "predictor": predictor, "documents": documents, "n_tokens": n_tokens}
    return named | {"nats_per_token": nats_per_token}


ROWS = [row("mail", "lm", 4.0), row("mail", "gate", 3.0), row("news", "lm", 4.0), row("news", "gate", 3.5)]


def test_gaps_of_measured_rows():
    found, leads = gaps_of(ROWS, [row("news", "lm", 3.0), row("mail", "lm", 3.2)], "gate")
    assert [one.closed for one in found.domains] == pytest.approx([1.25, 0.5])
    assert found.mean_capped == pytest.approx(0.75)
    assert leads == pytest.approx((-0.2, 0.5))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ([row("mail", "lm", 3.2)], "one set of domains"),
        ([row("mail", "lm", 3.2), row("news", "lm", 3.0, documents="e")], "other documents"),
        ([row("mail", "lm", 3.2), row("news", "lm", 3.0, n_tokens=6)], "another tokenizer"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(reference, message):
    with pytest.raises(BadRequest, match=message):
        gaps_of(ROWS, reference, "gate")


def test_no_domain_is_no_gap():
    with pytest.raises(BadRequest, match="at least one"):
        gaps([])
