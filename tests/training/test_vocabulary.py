import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from silo.tokenizer import boundary_token, opening_token, tokenize
from training.vocabulary import BOUNDARY, train_vocabulary


@pytest.fixture(scope="module")
def texts(documents):
    return [document.text for document in documents if document.id.startswith("python/")]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_vocabulary(texts, 400, 32)


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_from_its_tokens(tokenizer, text):
    assert tokenizer.decode(tokenize(tokenizer, text).ids.tolist()) == text


def test_one_special_token_is_bos_eos_and_pad(tokenizer):
    assert tokenizer.all_special_tokens == [BOUNDARY]
    assert boundary_token(tokenizer) == opening_token(tokenizer) == tokenizer.pad_token_id == 0
    assert len(tokenizer) == 400


def test_the_same_texts_give_the_same_tokenizer(texts, tokenizer):
    again = train_vocabulary(iter(texts), 400, 32)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_transformers_loads_what_was_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast
    assert loaded.eos_token == loaded.bos_token == loaded.pad_token == BOUNDARY
    assert (tokenize(loaded, "def f(x): ...").ids == tokenize(tokenizer, "def f(x): ...").ids).all()
