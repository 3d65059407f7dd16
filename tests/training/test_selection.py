import dataclasses

from silo.documents import Document
from silo.overlap import Evaluation
from training.admission import Tally
from training.config import DeduplicationRecipe
from training.selection import select

GERMAN = "Der Hafen wurde nicht vor dem Winter fertig, und auch die Brücke ist für das Dorf noch nicht gebaut."


def run(documents, recipe, evaluations=()):
    tally = Tally()
    return [document.id for document in select(documents, recipe, evaluations, tally)], tally


def test_each_stage_refuses_what_is_its_own_and_the_rest_passes_in_order(documents, recipe):
    pages = [document for document in documents if document.id.startswith("python/")]
    evaluation = Evaluation.of("held", [Document("e", pages[3].text)])
    planted = [
        *documents[:5],
        Document("blank", " \n", "MIT"),
        Document("notice", f"{pages[6].text}\nReleased under the GPL v3.", "MIT"),
        Document("german", GERMAN, "MIT"),
        Document("copy", pages[0].text + "\n", "MIT", "another domain"),
        Document("near", pages[1].text + " One more sentence.", "MIT"),
        *documents[5:],
    ]
    kept, tally = run(planted, recipe, [evaluation])
    assert kept == [page.id for page in pages if page is not pages[3]]
    assert tally.admitted == {"SW": 39}
    assert tally.n_empty == 1
    assert tally.refused == {
        "HIGH_RISK: GPL-3.0-only: copyleft": 1,
        "HIGH_RISK: no license: no license is stated": 1,
        "its text contradicts its label: GPL, LGPL or AGPL: copyleft": 1,
        "language: not English": 1,
        "contamination: repeats held": 1,
        "duplicate: exact": 1,
        "duplicate: near": 1,
    }
    listed = {refusal.id: refusal for refusal in tally.refusals}
    assert list(listed) == [pages[3].id, "notice", "german", "copy", "near", "planted", "unknown"]
    assert listed["copy"].detail == f"a copy of {pages[0].id}"
    assert listed["copy"].source == "another domain"
    assert listed["near"].detail == f"nearly {pages[1].id}"
    assert listed[pages[3].id].detail.startswith("100.0% of it")


def test_a_copy_of_a_refused_text_is_judged_for_itself(documents, recipe):
    text = documents[0].text
    kept, _ = run([Document("a", text, "GPL-3.0-only"), Document("b", text, "MIT")], recipe)
    assert kept == ["b"]


def test_the_threshold_of_the_recipe_is_followed(documents, recipe):
    pair = [documents[0], dataclasses.replace(documents[0], id="near", text=documents[0].text + " One more sentence.")]
    strict = dataclasses.replace(recipe, deduplication=DeduplicationRecipe(threshold=1.0))
    assert len(run(pair, recipe)[0]) == 1
    assert len(run(pair, strict)[0]) == 2
