import json

import pytest

from silo.checkpoint import (
    HELD_OUT_NAME,
    MANIFEST_NAME,
    TRAINED_ON_NAME,
    Manifest,
    TrainingDocument,
    read_manifest,
    read_training_documents,
    verify_checkpoint,
    write_manifest,
    write_training_documents,
)
from silo.documents import Document
from silo.errors import BadCheckpoint

TRAINED_ON = [
    TrainingDocument.of(Document("a", "First.", "MIT", "code", owner="Us")),
    TrainingDocument.of(Document("b", "Zweiter.", "CC0-1.0")),
]


def manifest() -> Manifest:
    return Manifest(
        recipe={"name": "none", "classes": ["PD", "SW"]},
        admitted={"PD": 1, "SW": 1},
        refused={"HIGH_RISK: no license is stated": 2},
        n_held_out=0,
        n_tokens=1024,
        n_steps=4,
        losses={"train": 3.5},
        versions={"python": "3.11"},
    )


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    (folder / "part").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "part" / "notes.txt").write_text("deep")
    write_training_documents(folder / TRAINED_ON_NAME, TRAINED_ON)
    write_training_documents(folder / HELD_OUT_NAME, [])
    write_manifest(folder, manifest())
    return folder


def test_a_checkpoint_as_it_was_written_is_verified(checkpoint):
    verified = verify_checkpoint(checkpoint)
    assert verified == read_manifest(checkpoint)
    assert set(verified.files) == {"model.safetensors", "part/notes.txt", TRAINED_ON_NAME, HELD_OUT_NAME}
    assert list(read_training_documents(checkpoint / TRAINED_ON_NAME)) == TRAINED_ON


def test_the_facts_of_a_training_document_are_its_own():
    assert TRAINED_ON[0].risk == "SW"
    assert TRAINED_ON[0].digest == Document("other", "First.").digest


def edit_weights(folder):
    (folder / "model.safetensors").write_bytes(b"weighty")


def zero_tail(folder):
    (folder / "model.safetensors").write_bytes(b"weig\0\0\0")


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


def add_weights(folder):
    (folder / "adapter.safetensors").write_bytes(b"more")


def edit_list(folder):
    write_training_documents(folder / TRAINED_ON_NAME, TRAINED_ON[:1])


def list_high_risk(folder):
    planted = TrainingDocument.of(Document("planted", "Secret.", "GPL-3.0-only"))
    write_training_documents(folder / TRAINED_ON_NAME, [*TRAINED_ON, planted])
    write_manifest(folder, manifest())


def tear_list(folder):
    (folder / TRAINED_ON_NAME).write_bytes((folder / TRAINED_ON_NAME).read_bytes()[:-20])
    write_manifest(folder, manifest())


@pytest.mark.parametrize(
    ("damage", "evidence"),
    [
        (edit_weights, r"model\.safetensors has SHA-256 [0-9a-f]{64}, the manifest says [0-9a-f]{64}"),
        (zero_tail, r"model\.safetensors has SHA-256"),
        (remove_weights, r"model\.safetensors is missing"),
        (add_weights, r"adapter\.safetensors is not in the manifest"),
        (edit_list, r"trained-on\.jsonl\.gz has SHA-256"),
        (list_high_risk, r"was trained on 'planted', 'GPL-3\.0-only': HIGH_RISK"),
        (tear_list, r"list of training documents cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_the_evidence(checkpoint, damage, evidence):
    damage(checkpoint)
    with pytest.raises(BadCheckpoint, match=evidence):
        verify_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:50], "torn or edited"),
        (lambda text: "[]", "format 'list'"),
        (lambda text: json.dumps({**json.loads(text), "format": 99}), "format 99; this version reads format 1"),
        (lambda text: json.dumps({**json.loads(text), "extra": 1}), r"differ from format 1 by \['extra'\]"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(checkpoint, change, message):
    path = checkpoint / MANIFEST_NAME
    path.write_text(change(path.read_text()))
    with pytest.raises(BadCheckpoint, match=message):
        read_manifest(checkpoint)


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path):
    with pytest.raises(BadCheckpoint, match="has no silo-manifest"):
        verify_checkpoint(tmp_path)
