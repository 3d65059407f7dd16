import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.documents import Document
from silo.licenses import PERMISSIVE, classify, license_table
from training.admission import Tally, admit, decide, is_held_out
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
        ("", ("PD", "SW", "BY"), "no license is stated"),
        ("GPL-3.0-only", ("PD", "SW", "BY"), "copyleft"),
        ("CC-BY-NC-4.0", ("PD", "SW", "BY"), "non-commercial"),
        ("MIT OR GPL-3.0-only", ("PD", "SW", "BY"), "GPL-3.0-only: copyleft"),
        ("CC-BY-4.0", ("PD", "SW"), "the recipe admits PD, SW only"),
    ],
)
def test_a_refusal_gives_its_reason(license_text, classes, reason):
    refusal = decide(Document("a", "text", license_text), AdmissionRecipe(classes))
    assert refusal is not None
    assert refusal.reason == reason


def test_the_tally_counts_both_sides_of_the_gate(documents):
    tally = Tally()
    blank = Document("blank", " \n", "MIT")
    admitted = list(admit([*documents, blank], ALL, tally))
    assert [d.id for d in admitted] == [d.id for d in documents if d.id.startswith("python/")]
    assert tally.admitted == {"SW": 40}
    assert tally.refused == {
        "HIGH_RISK: GPL-3.0-only: copyleft": 1,
        "HIGH_RISK: no license: no license is stated": 1,
    }
    assert [refusal.id for refusal in tally.examples] == ["planted", "unknown"]
    assert tally.n_empty == 1


def test_copies_of_a_text_fall_on_one_side_of_the_validation_split():
    recipe = AdmissionRecipe(("PD",), validation_share=0.3)
    sides = [is_held_out(Document("a", f"Text {n}."), recipe) for n in range(1000)]
    assert sides == [is_held_out(Document("b", f"Text {n}."), recipe) for n in range(1000)]
    assert 250 < sum(sides) < 350
