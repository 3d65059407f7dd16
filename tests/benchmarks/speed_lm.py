"""LMs for measuring speed alone, which does not depend on what they know, with a store of Python's own manual."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from pydoc_data.topics import topics

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from datastore.store import Datastore
from datastore.writer import Encoder, add, create
from silo.documents import Document
from silo.encoding import encode_document
from silo.fitting import fit
from silo.generation import Silo
from silo.lm import LanguageModel
from silo.settings import GenerationSettings
from training.vocabulary import train_vocabulary

SHAPES = {"5M": (256, 640, 4, 0), "20M": (512, 1280, 5, 0), "110M": (768, 2048, 12, 32000)}
"""Hidden size, intermediate size, layers, and the vocabulary where it is larger than the tokenizer's."""
CONTEXT = 512
N_LISTS = 512
_TOKENIZER = 8192


def pages() -> list[Document]:
    """The chapters of the manual."""
    return [Document(name, text, "PSF-2.0") for name, text in sorted(topics.items())]


def make_lm(texts: Sequence[Document], size: str, model: str = "") -> LanguageModel:
    """The LM in the folder ``model``; where that is empty, a LLaMA of about ``size`` with random weights."""
    if model:
        return LanguageModel.load(model)
    torch.manual_seed(0)
    tokenizer = train_vocabulary([page.text for page in texts], _TOKENIZER, CONTEXT)
    hidden, intermediate, layers, vocabulary = SHAPES[size]
    config = LlamaConfig(
        vocab_size=max(vocabulary, len(tokenizer)),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    return LanguageModel(LlamaForCausalLM(config), tokenizer, f"bench-{size}")


def make_store(path: Path, lm: LanguageModel, stored: Sequence[Document], others: Sequence[Document]) -> Datastore:
    """A store of ``stored``, fitted on ``others``."""
    fitted = fit(lm, list(others), N_LISTS)
    store = create(
        path,
        Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size),
        fitted.keys,
        fitted.documents,
        n_lists=N_LISTS,
        knn_temperature=fitted.knn_temperature,
        now=datetime.now(UTC),
    )
    add(store, (encode_document(lm, page) for page in stored))
    return store


def run(silo: Silo, prompt: str, settings: GenerationSettings) -> tuple[list[tuple[int, float]], float]:
    """Tokens with log-probabilities, and the seconds for each token."""
    started = time.perf_counter()
    tokens = [(token.id, token.logprob) for token in silo.generate(prompt, settings)]
    return tokens, (time.perf_counter() - started) / max(1, len(tokens))
