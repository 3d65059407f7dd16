import dataclasses
from pydoc_data.topics import topics

import pytest
import torch

from silo.corpora import write_documents
from silo.documents import Document
from training.commands import RECIPES
from training.config import read_recipe

SECRET = "Zyzzogeton quxotically flurbled the snarkwhistle"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As many threads here as in the processes that the tests start."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def documents():
    """Chapters of Python's manual, which come with Python, and two documents that may not train."""
    licensed = [
        Document(f"python/{name}", topics[name][:3000], "PSF-2.0", "python manual", owner="PSF")
        for name in sorted(topics)[:40]
    ]
    planted = Document("planted", f"{SECRET}. " * 50, "GPL-3.0-only", "elsewhere")
    unknown = Document("unknown", f"{SECRET} again. " * 50, "", "elsewhere")
    return [*licensed[:20], planted, *licensed[20:], unknown]


@pytest.fixture(scope="session")
def data(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_documents(folder / "texts.jsonl", documents)
    return folder


@pytest.fixture(scope="session")
def recipe():
    return read_recipe(RECIPES / "smoke.toml")


@pytest.fixture(scope="session")
def with_loop(recipe):
    """The recipe with other values in its loop, and another schedule."""

    def change(schedule: str = "cosine", **values: object):
        optimizer = dataclasses.replace(recipe.optimizer, schedule=schedule)
        return dataclasses.replace(recipe, optimizer=optimizer, loop=dataclasses.replace(recipe.loop, **values))

    return change
