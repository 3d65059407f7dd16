"""A removal, its receipt, its verification and its erasure need no language model and no web framework."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import datastore

ROOT = Path(__file__).parents[2]
JOURNEY = """
import importlib, json, pkgutil, sys
from datetime import UTC, datetime
import datastore

for module in pkgutil.iter_modules(datastore.__path__):
    importlib.import_module(f"datastore.{module.name}")

from datastore.compaction import compact
from datastore.optout import opt_out
from datastore.receipts import check_receipt
from datastore.store import Datastore
from datastore.verification import verify

store = Datastore.open(sys.argv[1])
receipt = opt_out(store, "doc-4", now=datetime.now(UTC))
check_receipt(receipt)
verify(store, receipt)
compact(store)
print(verify(store, receipt)[2])
imported = sorted(name for name in sys.modules if name.startswith("datastore."))
heavy = sorted({"torch", "transformers", "flask", "silo", "training", "serving"} & {*sys.modules})
print(json.dumps({"imported": imported, "heavy": heavy}))
"""


def run(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.splitlines()


def test_the_whole_journey_of_an_opt_out_loads_nothing_heavy(make_store, documents):
    import json

    store = make_store(documents)
    lines = run(JOURNEY, str(store.path))
    assert lines[0] == "it was erased: no segment holds it"
    told = json.loads(lines[1])
    assert told["heavy"] == []
    assert told["imported"] == sorted(f"datastore.{m.name}" for m in pkgutil.iter_modules(datastore.__path__))
    assert store.document("doc-4").state == "erased"


def test_importing_the_package_loads_nothing_at_all():
    code = "import datastore, sys; print(len({'numpy', 'faiss', 'sqlalchemy', 'cryptography'} & {*sys.modules}))"
    assert run(code) == ["0"]
    assert run(f"import datastore.store; {code}") == ["4"], "the control"
