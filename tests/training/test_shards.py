import numpy as np
import pytest

from silo.tokenizer import tokenize
from training.errors import BadOutput
from training.shards import has_shard, open_shard, write_shard
from training.vocabulary import train_vocabulary

TEXTS = ["The first text.", "", "Ein zweiter: äöü."]


@pytest.fixture(scope="module")
def tokenizer():
    return train_vocabulary(TEXTS, 300, 32)


def test_every_document_stands_between_two_boundaries(tmp_path, tokenizer):
    facts = write_shard(tmp_path / "train.npy", TEXTS, tokenizer)
    tokens, opened = open_shard(tmp_path / "train.npy")
    parts = [tokenize(tokenizer, text).ids.tolist() for text in TEXTS]
    assert tokens.tolist() == [0, *parts[0], 0, *parts[1], 0, *parts[2], 0]
    assert tokens.dtype == np.uint16
    assert isinstance(tokens, np.memmap)
    assert opened == facts
    assert (facts.n_documents, facts.n_tokens) == (3, len(tokens))
    assert facts.n_bytes == sum(len(text.encode()) for text in TEXTS)


def test_no_text_gives_a_stream_of_one_boundary(tmp_path, tokenizer):
    write_shard(tmp_path / "train.npy", [], tokenizer)
    assert open_shard(tmp_path / "train.npy")[0].tolist() == [0]


def test_an_edited_shard_is_refused(tmp_path, tokenizer):
    path = tmp_path / "train.npy"
    write_shard(path, TEXTS, tokenizer)
    raw = path.read_bytes()
    path.write_bytes(raw[:-2] + b"\1\0")
    with pytest.raises(BadOutput, match="has SHA-256"):
        open_shard(path)


def test_a_shard_that_was_interrupted_is_not_there(tmp_path, tokenizer):
    def interrupted():
        yield TEXTS[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "train.npy", interrupted(), tokenizer)
    assert not has_shard(tmp_path / "train.npy")
    assert list(tmp_path.iterdir()) == []
