import pytest

from silo.checkpoint import (
    HELD_OUT_NAME,
    TOKENIZER_TRAINED_ON_NAME,
    TRAINED_ON_NAME,
    Manifest,
    TrainingDocument,
    write_manifest,
    write_training_documents,
)
from silo.documents import Document
from silo.errors import BadCheckpoint
from silo.trace import Part, Register

TEXT = "The bridge was built by the town.\nIt was opened in spring."


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    trained = [Document("a", TEXT, "MIT", "code"), Document("b", "Café.\n", "CC0-1.0"), Document("twin", TEXT, "MIT")]
    write_training_documents(folder / TRAINED_ON_NAME, map(TrainingDocument.of, trained))
    write_training_documents(folder / HELD_OUT_NAME, [TrainingDocument.of(Document("h", "Held out.", "MIT"))])
    tokenizer = [Document("t", "For the tokenizer.", "MIT"), Document("a", TEXT, "MIT", "code")]
    write_training_documents(folder / TOKENIZER_TRAINED_ON_NAME, map(TrainingDocument.of, tokenizer))
    write_manifest(folder, Manifest({}, {}, {}, 1, 0, 0, {}, {}))
    return folder


@pytest.mark.parametrize(
    ("text", "part", "names"),
    [
        (TEXT, Part.TRAINED, ["a", "twin"]),
        ("For the tokenizer.", Part.TOKENIZER, ["t"]),
        (TEXT.replace("\n", "\r\n"), Part.TRAINED, ["a", "twin"]),
        (f"{TEXT}\n", Part.TRAINED, ["a", "twin"]),
        ("Cafe\u0301.", Part.TRAINED, ["b"]),
        ("Held out.", Part.HELD_OUT, ["h"]),
        (TEXT.replace("spring", "autumn"), Part.NONE, []),
        (TEXT[:-1], Part.NONE, []),
        ("", Part.NONE, []),
    ],
)
def test_a_text_is_found_by_its_normalized_form(checkpoint, text, part, names):
    answer = Register.of(checkpoint).find_text(text)
    assert answer.part is part
    assert [document.id for document in answer.documents] == names


def test_an_id_and_a_digest_find_the_same_entry(checkpoint):
    register = Register.of(checkpoint)
    by_id = register.find("b")
    assert by_id == register.find(by_id.documents[0].digest)
    assert by_id.part is Part.TRAINED
    assert register.find("nobody").part is Part.NONE


def test_an_edited_list_answers_nothing(checkpoint):
    write_training_documents(checkpoint / TRAINED_ON_NAME, [])
    with pytest.raises(BadCheckpoint, match=r"trained-on\.jsonl\.gz has SHA-256"):
        Register.of(checkpoint)
