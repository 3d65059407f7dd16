import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from silo.errors import BadCheckpoint
from silo.tokenizer import boundary_token, load_tokenizer, opening_token, tokenize

BOUNDARY = "<|endoftext|>"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def byte_level(**special_tokens: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[BOUNDARY, "<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog sat on the log"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=8, **special_tokens)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level(eos_token=BOUNDARY)


@settings(deadline=None)
@given(text=TEXTS)
def test_offsets_cover_every_character_in_order(tokenizer, text):
    tokens = tokenize(tokenizer, text)
    assert len(tokens) == len(tokens.ids) == len(tokens.starts) == len(tokens.ends)
    assert (np.diff(tokens.starts) >= 0).all()
    covered = {c for a, b in zip(tokens.starts, tokens.ends, strict=True) for c in range(a, b)}
    assert covered == set(range(len(text)))


@pytest.mark.parametrize("text", [BOUNDARY, f"the cat{BOUNDARY}the dog", "<s>"])
def test_a_text_cannot_forge_the_boundary_between_documents(tokenizer, text):
    tokens = tokenize(tokenizer, text)
    assert not {0, 1} & set(tokens.ids.tolist())


def test_no_special_token_is_added_and_long_texts_are_not_cut(tokenizer):
    assert len(tokenize(tokenizer, "")) == 0
    assert len(tokenize(tokenizer, "the cat " * 100)) >= 200


def test_the_boundary_is_the_end_of_text_and_stands_in_for_a_missing_bos(tokenizer):
    assert boundary_token(tokenizer) == opening_token(tokenizer) == 0
    assert opening_token(byte_level(eos_token=BOUNDARY, bos_token="<s>")) == 1


def test_a_tokenizer_without_end_of_text_is_refused():
    with pytest.raises(BadCheckpoint, match="names no eos_token"):
        boundary_token(byte_level())


def test_a_tokenizer_without_offsets_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda self: False))
    with pytest.raises(BadCheckpoint, match="no character offsets"):
        tokenize(tokenizer, "the cat")


def test_a_saved_tokenizer_is_loaded_again(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (tokenize(loaded, "the cat é").ids == tokenize(tokenizer, "the cat é").ids).all()


@pytest.mark.parametrize("content", [None, "{torn"])
def test_a_folder_without_a_whole_tokenizer_is_refused(tmp_path, content):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(BadCheckpoint, match="no tokenizer can be loaded"):
        load_tokenizer(folder)
