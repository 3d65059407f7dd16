import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.documents import Document
from silo.licenses import PERMISSIVE, classify, license_table
from training.admission import decide, is_held_out
from training.config import AdmissionRecipe

ALL = AdmissionRecipe(("PD", "SW", "BY"))
LICENSES = st.one_of(st.sampled_from([*sorted(license_table()), "", "MIT OR GPL-3.0-only"]), st.text(max_size=20))


@given(license_text=LICENSES, classes=st.sets(st.sampled_from(["PD", "SW", "BY"]), min_size=1))
def test_a_document_is_admitted_only_where_its_class_is_permissive_and_named(license_text, classes):
    recipe = AdmissionRecipe(tuple(classes))
    refusal = decide(Document("a", "text", license_text), recipe)
    risk = classify(license_text).risk
    assert (refusal is None) == (risk in PERMISSIVE and str(risk) in classes)


@pytest.mark.parametrize(
    ("license_text", "classes", "reason"),
    [
        ("", ("PD", "SW", "BY"), "HIGH_RISK: no license: no license is stated"),
        ("GPL-3.0-only", ("PD", "SW", "BY"), "HIGH_RISK: GPL-3.0-only: copyleft"),
        ("CC-BY-NC-4.0", ("PD", "SW", "BY"), "HIGH_RISK: CC-BY-NC-4.0: non-commercial"),
        ("MIT OR GPL-3.0-only", ("PD", "SW", "BY"), "HIGH_RISK: MIT OR GPL-3.0-only: GPL-3.0-only: copyleft"),
        ("CC-BY-4.0", ("PD", "SW"), "BY: CC-BY-4.0: the recipe admits PD, SW only"),
    ],
)
def test_a_refusal_gives_its_reason(license_text, classes, reason):
    refusal = decide(Document("a", "text", license_text), AdmissionRecipe(classes))
    assert refusal is not None
    assert refusal.reason == reason


def test_a_text_that_contradicts_its_label_is_refused_with_the_words():
    refusal = decide(Document("a", "SPDX-License-Identifier: GPL-2.0-only\n", "MIT", "web"), ALL)
    assert refusal is not None
    assert refusal.reason == "its text contradicts its label: SPDX-License-Identifier: copyleft"
    assert (refusal.detail, refusal.source) == ("SPDX-License-Identifier: GPL-2.0-only", "web")


@pytest.mark.parametrize("recipe", [ALL, AdmissionRecipe(("PD", "SW", "BY"), baseline="to measure")])
def test_what_its_publisher_reserves_does_not_train_whatever_its_license(recipe):
    reserved = Document("a", "text", "MIT", metadata={"headers": {"TDM-Reservation": "1"}})
    refusal = decide(reserved, recipe)
    assert refusal is not None
    assert (refusal.reason, refusal.detail) == ("its publisher reserves it: TDMRep", "header tdm-reservation: 1")
    assert decide(dataclasses.replace(reserved, metadata={"headers": {"TDM-Reservation": "0"}}), recipe) is None


def test_a_baseline_admits_what_its_recipe_names_whatever_the_text_says():
    baseline = AdmissionRecipe(("SW", "HIGH_RISK"), baseline="to measure against")
    notice = "SPDX-License-Identifier: GPL-2.0-only\n"
    assert decide(Document("a", notice, "MIT"), baseline) is None
    assert decide(Document("a", notice, "GPL-2.0-only"), baseline) is None
    assert decide(Document("a", notice, "CC0-1.0"), baseline) is not None


def test_copies_of_a_text_fall_on_one_side_of_the_validation_split():
    recipe = AdmissionRecipe(("PD",), validation_share=0.3)
    sides = [is_held_out(Document("a", f"Text {n}."), recipe) for n in range(1000)]
    assert sides == [is_held_out(Document("b", f"Text {n}."), recipe) for n in range(1000)]
    assert 250 < sum(sides) < 350
