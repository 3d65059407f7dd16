"""Documents become the same entries whatever else is encoded, and every token knows its sentence."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from silo.documents import Document
from silo.encoding import encode_document
from silo.lm import _window_starts
from silo.sentences import sentence_spans
from silo.tokenizer import tokenize


def same(a, b) -> bool:
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in ("keys", "tokens", "sentences", "token_sentences")
    )


def test_encoding_twice_gives_the_same_bytes_in_whatever_company(lm, manual):
    pages = manual(0, 6, "PSF-2.0", characters=1500)
    alone = [encode_document(lm, page) for page in pages]
    again = [encode_document(lm, page) for page in reversed(pages)][::-1]
    assert all(map(same, alone, again))


def test_keys_are_the_hidden_states_that_transformers_gives(lm, manual):
    page = manual(3, 4, "PSF-2.0", characters=150)[0]
    ids = torch.tensor([[lm.opening, *tokenize(lm.tokenizer, page.text).ids]])
    assert ids.shape[1] <= lm.context_length
    with torch.inference_mode():
        expected = lm.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, 1:]
    assert torch.equal(torch.from_numpy(encode_document(lm, page).keys), expected.to(torch.float16))


def test_every_key_of_a_long_document_sees_at_least_half_a_window(llama, manual):
    page = manual(5, 6, "PSF-2.0", characters=3000)[0]
    keys = encode_document(llama, page).keys
    ids = [llama.opening, *tokenize(llama.tokenizer, page.text).ids]
    window = llama.context_length
    for position in (window, 2 * window + 5, len(ids) - 1):
        start = max(0, position // (window // 2) - 1) * (window // 2)
        start = min(start, len(ids) - window)
        with torch.inference_mode():
            states = llama.contexts(torch.tensor([ids[start : start + window]]))[0]
        assert np.allclose(keys[position - 1], states[position - start].numpy(), atol=2e-2)


@given(length=st.integers(1, 500), window=st.integers(1, 64))
def test_windows_cover_the_text_and_overlap_by_half(length, window):
    window = min(window, length)
    starts = _window_starts(length, window)
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert all(0 < b - a <= max(1, window // 2) for a, b in itertools.pairwise(starts))


def test_every_token_knows_the_sentence_in_which_it_begins(lm):
    text = "One fish. Two fish, said Dr. Seuss.\n\nRed fish… Blue – ünïcödé – fish!"
    encoded = encode_document(lm, Document("d", text, "CC0-1.0"))
    spans, tokens = sentence_spans(text), tokenize(lm.tokenizer, text)
    assert len(encoded.tokens) == len(encoded.keys) + 1 == len(tokens) + 1
    assert encoded.tokens[-1] == lm.boundary
    for sentence, start in zip(encoded.token_sentences, tokens.starts, strict=False):
        assert spans[sentence][0] <= start < spans[sentence][1]
    assert encoded.token_sentences[-1] == len(spans) - 1


@pytest.mark.parametrize("text", ["", "a", " ", "\n\n", "x" * 3000, "é" * 50])
def test_odd_texts_encode(lm, text):
    encoded = encode_document(lm, Document("d", text))
    assert len(encoded.keys) == len(encoded.tokens) - 1
    assert encoded.facts.risk == "HIGH_RISK"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
@settings(max_examples=40, deadline=None)
def test_any_text_encodes_with_tokens_that_decode_to_it(llama, text):
    encoded = encode_document(llama, Document("d", text))
    assert llama.tokenizer.decode(encoded.tokens[:-1], clean_up_tokenization_spaces=False) == text


def test_the_first_word_of_a_sentence_is_in_its_own_sentence_though_its_token_begins_with_the_space_before(llama):
    text = "The store is open. The model is closed.\n\nThe end."
    encoded = encode_document(llama, Document("d", text, "LicenseRef-test"))
    tokens = tokenize(llama.tokenizer, text)
    spans = encoded.sentences.tolist()
    assert any(text[a].isspace() and text[a:b].strip() for a, b in zip(tokens.starts, tokens.ends, strict=True))
    for a, b, sentence in zip(tokens.starts, tokens.ends, encoded.token_sentences, strict=False):
        word = text[a:b].strip()
        at = a if not word else a + text[a:b].index(word[0])
        assert spans[sentence][0] <= at < spans[sentence][1]
