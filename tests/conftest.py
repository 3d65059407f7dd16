import os

# Before torch and faiss are imported: spinning OpenMP threads starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest

from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import Datastore
from datastore.writer import Encoder, create

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIMENSION = 4
VOCABULARY = 50


@pytest.fixture
def now() -> datetime:
    return NOON


def lattice_document(name: str, seed: int, n: int = 12, spread: int = 2) -> EncodedDocument:
    """A made-up document with small whole numbers as keys: fp16 and float32 arithmetic on them is
    exact, so distances have many true ties and two implementations must agree to the bit."""
    random = np.random.default_rng(seed)
    text = "".join(f"w{seed}{i}. " for i in range(n))
    ends = np.cumsum([len(f"w{seed}{i}. ") for i in range(n)])
    spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).reshape(n, 2)
    return EncodedDocument(
        DocumentFacts(name, digest=f"{seed:064x}", license="LicenseRef-test", owner=f"owner of {name}"),
        text,
        tokens=random.integers(0, VOCABULARY, n + 1),
        keys=random.integers(-spread, spread + 1, (n, DIMENSION)).astype(np.float16),
        sentences=spans,
        token_sentences=np.minimum(np.arange(n + 1), max(n - 1, 0)),
    )


@pytest.fixture
def documents() -> list[EncodedDocument]:
    return [lattice_document(f"doc-{i}", seed=i, n=8 + i) for i in range(10)]


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Datastore]:
    """Stores on the lattice, all with the same centroids; each call makes a new folder."""
    count = iter(range(1000))

    def make(
        *batches: Sequence[EncodedDocument], n_lists: int = 4, max_segment_positions: int = 1 << 20, **settings: Any
    ) -> Datastore:
        from datastore.writer import add

        licensed = np.random.default_rng(99).integers(-2, 3, (300, DIMENSION)).astype(np.float32)
        facts = [DocumentFacts("licensed", digest="0" * 64, license="CC0-1.0", risk="PD")]
        store = create(
            tmp_path / f"store-{next(count)}",
            Encoder("made-up", "made-up", DIMENSION, VOCABULARY),
            licensed,
            facts,
            n_lists=n_lists,
            knn_temperature=1.0,
            now=NOON,
            max_segment_positions=max_segment_positions,
            **settings,
        )
        for batch in batches:
            add(store, batch)
        return store

    return make


@pytest.fixture(scope="session")
def queries() -> np.ndarray:
    return np.random.default_rng(7).integers(-2, 3, (20, DIMENSION)).astype(np.float32)


TOPICS = sorted(topics)


def manual_pages(first: int, last: int, license: str, characters: int = 700):  # noqa: A002
    """Chapters of Python's manual, which come with Python, under a license that the test needs."""
    from silo.documents import Document

    return [
        Document(f"manual/{n}", topics[n][:characters], license, "manual", title=n, owner=f"author of {n}")
        for n in TOPICS[first:last]
    ]


@pytest.fixture(scope="session")
def manual() -> Callable[..., list]:
    return manual_pages


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def lm(request: pytest.FixtureRequest):
    """A small LM of each of two architectures, its weights made at random and its tokenizer trained on the manual."""
    return _make_lm(request.param)


@pytest.fixture(scope="session")
def llama():
    """The small LLaMA alone, where the architecture makes no difference."""
    return _make_lm("llama")


def _make_lm(architecture: str):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    from silo.lm import LanguageModel
    from training.vocabulary import train_vocabulary

    torch.set_num_threads(1)
    tokenizer = train_vocabulary((page.text for page in manual_pages(0, 40, "PSF-2.0")), 400, 96)
    torch.manual_seed(3)
    if architecture == "llama":
        config = LlamaConfig(
            vocab_size=400,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=96,
            initializer_range=0.2,
        )
        model = LlamaForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=96, initializer_range=0.2, bos_token_id=0
        )
        model = GPT2LMHeadModel(config)
    return LanguageModel(model, tokenizer, f"tiny-{architecture}")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Datastore]:
    """Real stores: documents encoded by an LM, centroids fitted on licensed pages."""
    count = iter(range(1000))

    def make(lm, documents, n_lists: int = 8) -> Datastore:
        from datastore.writer import add
        from silo.encoding import encode_document
        from silo.fitting import fit

        fitted = fit(lm, manual_pages(40, 50, "PSF-2.0"), n_lists)
        store = create(
            tmp_path / f"real-{next(count)}",
            Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size),
            fitted.keys,
            fitted.documents,
            n_lists=n_lists,
            knn_temperature=fitted.knn_temperature,
            now=NOON,
        )
        add(store, [encode_document(lm, document) for document in documents])
        return store

    return make
