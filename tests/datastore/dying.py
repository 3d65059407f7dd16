"""Not a test: a process that makes one change per line of input, each in a fork that dies at a chosen moment.

Everything is imported and nothing of FAISS has run before the first fork, so that a case costs
milliseconds and no fork inherits threads. A case is JSON: ``action``, ``store``, and either ``call``, the number of
the call that touches the disk before which the fork kills itself, or ``seconds`` until the kernel kills it
wherever it is, inside SQLite too. The answer is JSON: the signal it died of, the calls made, the receipt it printed.

With ``trace``, a file, the fork is watched from outside instead (``tracing``), its events go there, and ``fail`` and
``error`` break one system call. ``weaken`` takes out what makes records durable: ``catalog``, ``journal`` or both.
"""

import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import numpy as np
import tracing

from datastore import journal, requests, verification, writer  # noqa: F401
from datastore.backups import take_snapshot
from datastore.compaction import compact
from datastore.errors import DatastoreError
from datastore.optout import opt_out
from datastore.ownership import Possession
from datastore.passage_optout import remove_passages
from datastore.records import DocumentFacts
from datastore.request_states import State
from datastore.restore import restore
from datastore.rotation import rotate_key
from datastore.store import Datastore

TOUCHING = set("fsync rename replace unlink rmdir mkdir open write writelines tofile execute commit flock".split())

STORY = [
    ("opt_out", 3),
    ("opt_out", 0),
    ("remove_passages", 4),
    ("add", 6),
    ("opt_out", 7),
    ("compact", 0),
    ("opt_out", 1),
    ("compact", 0),
]
PASSAGES = ((2, 5), (7, 8))
"""Changes to a store of documents 0 to 5, one after the other, each told once it is acknowledged."""

_spec = importlib.util.spec_from_file_location("lattice", Path(__file__).parents[1] / "conftest.py")
lattice = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lattice)


def documents(first: int, last: int) -> list:
    return [lattice.lattice_document(f"doc-{i}", seed=i, n=8 + i) for i in range(first, last)]


def create(path: Path) -> None:
    licensed = np.random.default_rng(99).integers(-2, 3, (64, lattice.DIMENSION)).astype(np.float32)
    facts = [DocumentFacts("licensed", digest="0" * 64, license="CC0-1.0", risk="PD")]
    encoder = writer.Encoder("made-up", "made-up", lattice.DIMENSION, lattice.VOCABULARY)
    writer.create(path, encoder, licensed, facts, n_lists=4, knn_temperature=1.0, now=lattice.NOON)


def act(action: str, path: Path, begin, say) -> None:
    if action == "create":
        begin()
        return create(path)
    if action == "restore":
        begin()
        restore(path / "snapshot", path / "restored", keys=path / "keys", journal=path / "journal.jsonl")
        return None
    store = Datastore.open(path)
    begin()
    if action == "add":
        writer.add(store, documents(6, 10))
    elif action == "opt_out":
        say(opt_out(store, "doc-3", now=lattice.NOON).to_json())
    elif action == "remove_passages":
        say(remove_passages(store, "doc-3", PASSAGES, now=lattice.NOON).to_json())
    elif action == "compact":
        compact(store)
    elif action == "snapshot":
        take_snapshot(store, path.with_name("snapshot"), now=lattice.NOON, keys_copy=path.with_name("keys"))
    elif action == "rotate":
        rotate_key(store, now=lattice.NOON)
    elif action == "hide":
        (request,) = requests.requests(store)
        proof = Possession(documents(3, 4)[0].text)
        requests.prove(store, request.id, proof, now=lattice.NOON, requester="someone")
    elif action in ("accepted", "rejected"):
        (request,) = requests.requests(store)
        say(asdict(requests.decide(store, request.id, State(action), now=lattice.NOON)))
    elif action == "story":
        for i, (what, number) in enumerate(STORY):
            receipt = change(store, what, number)
            say({"step": i + 1, "receipt": receipt and receipt.to_json()})
    return None


def change(store: Datastore, what: str, number: int):
    if what == "opt_out":
        return opt_out(store, f"doc-{number}", now=lattice.NOON)
    if what == "remove_passages":
        return remove_passages(store, f"doc-{number}", PASSAGES, now=lattice.NOON)
    return writer.add(store, documents(number, 10)) and None if what == "add" else compact(store) and None


def weaken(which: list[str], open_store=Datastore.open) -> None:
    """The controls: the promise without what keeps it through a loss of power."""

    def opened(path: Path) -> Datastore:
        store = open_store(path)
        connection = store.catalog._writer.raw_connection()
        connection.cursor().execute("PRAGMA synchronous=NORMAL")
        connection.close()
        return store

    if "catalog" in which:
        Datastore.open = opened
    if "journal" in which:
        journal.os = type("os", (), vars(os) | {"fsync": staticmethod(lambda descriptor: None)})


def live_and_die(case: dict, answer: Path) -> None:
    signal.alarm(60)
    calls = 0
    said: dict = {}
    started = 0.0

    def report() -> None:
        seconds = time.perf_counter() - started
        text = json.dumps({"calls": calls, "receipt": said or None, "seconds": seconds})
        if "trace" in case:  # whoever watches from outside knows what was said by the write to this very file
            answer.write_text(text)
        else:  # a kill by the clock may fall into the saying too, and tear it
            answer.with_suffix(".new").write_text(text)
            answer.with_suffix(".new").replace(answer)

    def count(frame: FrameType, event: str, function: object) -> None:
        nonlocal calls
        name = getattr(function, "__name__", "")
        if event == "c_call" and (name in TOUCHING or name.startswith("write_index")):
            calls += 1
            if calls == case.get("call"):
                os.kill(os.getpid(), signal.SIGKILL)

    def begin() -> None:
        nonlocal started
        started = time.perf_counter()
        if "trace" in case:
            return
        if "seconds" in case:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, case["seconds"])
        else:
            sys.setprofile(count)

    def say(receipt: dict) -> None:
        said.update(receipt)
        sys.setprofile(None)
        report()

    weaken(case.get("weaken", []))
    if "trace" in case:
        tracing.ask_to_be_traced()
    act(case["action"], Path(case["store"]), begin, say)
    sys.setprofile(None)
    report()
    os.kill(os.getpid(), signal.SIGKILL)  # at the end, too, nothing is put in order first


def main() -> None:
    answer = Path(tempfile.mkdtemp()) / "answer.json"
    for line in sys.stdin:
        answer.unlink(missing_ok=True)
        case = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                live_and_die(case, answer)
            except BaseException as error:
                told = json.loads(answer.read_text()) if answer.exists() else {}
                is_clear = isinstance(error, DatastoreError | OSError)
                answer.write_text(json.dumps(told | {"error": repr(error), "is_clear": is_clear}))
            finally:
                os._exit(1)
        if "trace" in case:
            breaking = {name: case[name] for name in ("fail", "error", "lasting") if name in case}
            events, n_calls, status = tracing.trace(child, Path(case["store"]).parent, answer, **breaking)
            Path(case["trace"]).write_text(json.dumps(events))
        else:
            n_calls, (_, status) = 0, os.waitpid(child, 0)
        told = {"traced": n_calls} | (json.loads(answer.read_text()) if answer.exists() else {})
        print(json.dumps({"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0} | told), flush=True)
    shutil.rmtree(answer.parent)


if __name__ == "__main__":
    main()
