import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.licenses import PERMISSIVE, RiskClass, classify, license_table


@pytest.mark.parametrize(
    ("expression", "risk"),
    [
        ("CC0-1.0", RiskClass.PD),
        ("LicenseRef-USGov-PublicDomain", RiskClass.PD),
        ("MIT", RiskClass.SW),
        ("mit", RiskClass.SW),
        ("  Apache-2.0\n", RiskClass.SW),
        ("CC-BY-4.0", RiskClass.BY),
        ("cc-by-4.0", RiskClass.BY),
        ("MIT OR Apache-2.0", RiskClass.SW),
        ("MIT AND CC0-1.0", RiskClass.SW),
        ("CC0-1.0 OR CC-BY-4.0", RiskClass.BY),
        ("(MIT AND BSD-3-Clause) OR CC-BY-4.0", RiskClass.BY),
    ],
)
def test_a_wholly_permissive_license_has_the_class_of_its_most_demanding_part(expression, risk):
    assert classify(expression).risk is risk


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "no license is stated"),
        ("   ", "no license is stated"),
        ("CC-BY-NC-4.0", "non-commercial"),
        ("CC-BY-ND-4.0", "no derivatives"),
        ("CC-BY-SA-4.0", "share-alike"),
        ("GPL-3.0-only", "copyleft"),
        ("LicenseRef-Nobody-Knows", "not in the table"),
        ("All rights reserved", "not in the table"),
        ("MIT OR GPL-3.0-only", "GPL-3.0-only: copyleft"),
        ("MIT AND CC-BY-NC-4.0", "CC-BY-NC-4.0: non-commercial"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "not in the table"),
        ("Apache-2.0 WITH LLVM-exception", "not in the table"),
        ("MIT OR", "not an SPDX license expression"),
        ("(MIT", "not an SPDX license expression"),
        ("MIT MIT", "not in the table"),
        ("MIT / Apache-2.0", "not an SPDX license expression"),
        ("MIT; GPL-3.0-only", "not an SPDX license expression"),
        ("https://creativecommons.org/licenses/by/4.0/", ""),
    ],
)
def test_whatever_is_not_wholly_permissive_is_high_risk_and_says_why(expression, reason):
    decision = classify(expression)
    assert decision.risk is RiskClass.HIGH_RISK
    assert reason in decision.reason


@given(st.text(max_size=60))
def test_no_text_makes_the_decision_raise(text):
    assert classify(text).risk in RiskClass


@given(st.lists(st.sampled_from(["MIT", "GPL-3.0-only", "AND", "OR", "WITH", "(", ")", "()", "+"]), max_size=7))
def test_no_heap_of_the_parts_of_an_expression_makes_the_decision_raise(parts):
    decision = classify(" ".join(parts))
    assert decision.reason
    if "GPL-3.0-only" in parts:
        assert decision.risk is RiskClass.HIGH_RISK


@given(
    st.lists(st.sampled_from(sorted(license_table())), min_size=1, max_size=4),
    st.sampled_from([" OR ", " AND "]),
)
def test_an_expression_is_permissive_only_where_each_of_its_parts_is(parts, joint):
    is_permissive = classify(joint.join(parts)).risk in PERMISSIVE
    assert is_permissive == all(license_table()[part].risk in PERMISSIVE for part in parts)


def test_every_row_of_the_table_gives_a_reason():
    assert all(decision.reason for decision in license_table().values())
