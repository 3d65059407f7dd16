import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datastore.catalog import FILE_NAME as CATALOG
from datastore.store import SEGMENTS, Datastore

ROOT = Path(__file__).parents[2]
DEADLY = {signal.SIGKILL, signal.SIGALRM}


@pytest.fixture(scope="session")
def answers(queries: np.ndarray) -> Callable[..., list]:
    """What a store says to ``queries``, with sentences in place of entry ids, which a removal leaves gaps in."""

    def ask(store: Datastore, k: int = 64, n_probe: int = 4) -> list:
        found = store.search(queries, k, n_probe)
        rows = []
        for distances, entries, values in zip(found.squared_distances, found.entries, found.values, strict=True):
            places = store.locate(entries[entries >= 0].tolist(), found.epoch)
            rows.append((distances.tobytes(), values.tobytes(), places))
        return rows

    return ask


@pytest.fixture(scope="session")
def states() -> Callable[[Datastore], dict[str, str]]:
    return lambda store: {document.facts.id: document.state for document in store.documents()}


@pytest.fixture(scope="session")
def leftovers() -> Callable[[Datastore], list[Path]]:
    """Whatever lies in a store under a temporary name, or as a segment that the catalog does not name."""

    def look(store: Datastore) -> list[Path]:
        from sqlalchemy import select

        from datastore import tables

        with store.catalog.read() as connection:
            known = set(connection.execute(select(tables.segments.c.name)).scalars())
        strangers = [folder for folder in (store.path / SEGMENTS).iterdir() if folder.name not in known]
        return sorted({*strangers, *store.path.rglob(".tmp-*")})

    return look


@pytest.fixture(scope="session")
def keep_catalog() -> Callable[[Datastore], Path]:
    """A copy of the catalog as it is, as an operator's backup would have it."""

    def keep(store: Datastore) -> Path:
        assert store.catalog.checkpoint()
        return Path(shutil.copy(store.path / CATALOG, store.path.with_suffix(".older")))

    return keep


@pytest.fixture(scope="session")
def restore_catalog() -> Callable[[Path, Path], None]:
    """Puts a copy in the place of the catalog of the store in a folder."""

    def put_back(folder: Path, copy: Path) -> None:
        for path in folder.glob(f"{CATALOG}*"):
            path.unlink()
        shutil.copy(copy, folder / CATALOG)

    return put_back


@pytest.fixture(scope="module")
def dying():
    """Asks the process of ``dying.py`` to die in the middle of a change."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("dying.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def ask(action: str, store: Path, **how: object) -> dict:
            process.stdin.write(json.dumps({"action": action, "store": str(store), **how}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert "error" not in answer or "error" in how, answer
            assert answer["signal"] in DEADLY or "error" in how, answer
            return answer

        yield ask
        process.stdin.close()
