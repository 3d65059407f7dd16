"""Not a test: a process that makes one change per line of input, each in a fork that dies at a chosen moment.

Everything is imported and nothing of FAISS has run before the first fork, so that a case costs
milliseconds and no fork inherits threads. A case is JSON: ``action``, ``store``, and either ``call``, the number of
the call that touches the disk before which the fork kills itself, or ``seconds`` until the kernel kills it
wherever it is, inside SQLite too. The answer is JSON: the signal it died of, the calls made, the receipt it printed.
"""

import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import numpy as np

from datastore import verification, writer  # noqa: F401
from datastore.compaction import compact
from datastore.optout import opt_out
from datastore.passage_optout import remove_passages
from datastore.records import DocumentFacts
from datastore.store import Datastore

TOUCHING = set("fsync rename replace unlink rmdir mkdir open write writelines tofile execute commit flock".split())

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
    store = Datastore.open(path)
    begin()
    if action == "add":
        writer.add(store, documents(6, 10))
    elif action == "opt_out":
        say(opt_out(store, "doc-3", now=lattice.NOON).to_json())
    elif action == "remove_passages":
        say(remove_passages(store, "doc-3", [(2, 5), (7, 8)], now=lattice.NOON).to_json())
    elif action == "compact":
        compact(store)
    return None


def live_and_die(case: dict, answer: Path) -> None:
    signal.alarm(60)
    calls = 0
    said: dict = {}
    started = 0.0

    def report() -> None:
        seconds = time.perf_counter() - started
        answer.write_text(json.dumps({"calls": calls, "receipt": said or None, "seconds": seconds}))

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
        if "seconds" in case:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, case["seconds"])
        else:
            sys.setprofile(count)

    def say(receipt: dict) -> None:
        said.update(receipt)
        sys.setprofile(None)
        report()

    act(case["action"], Path(case["store"]), begin, say)
    sys.setprofile(None)
    report()
    os.kill(os.getpid(), signal.SIGKILL)  # at the end, too, nothing is put in order first


def main() -> None:
    answer = Path(tempfile.mkdtemp()) / "answer.json"
    for line in sys.stdin:
        answer.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                live_and_die(json.loads(line), answer)
            except BaseException as error:
                answer.write_text(json.dumps({"error": repr(error)}))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        told = json.loads(answer.read_text()) if answer.exists() else {}
        print(json.dumps({"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0} | told), flush=True)
    answer.unlink(missing_ok=True)
    answer.parent.rmdir()


if __name__ == "__main__":
    main()
