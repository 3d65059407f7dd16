"""The barrier: an opt-out returns when no step that began before it runs, or none whose result may still be used."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from datastore import readers
from datastore.errors import ReaderFenced
from datastore.optout import opt_out
from datastore.store import Datastore

IN_A_STEP = """
import sys
from datastore.store import Datastore
store = Datastore.open(sys.argv[1])
with store.step():
    n = store.live_entries("doc-3")
    print("in", flush=True)
    sys.stdin.readline()
    try:
        print("asked", store.live_entries("doc-3") - n, flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
print("out", flush=True)
"""


@pytest.fixture
def stalled(make_store, documents):
    """A store, and another process that is in the middle of a step, until it is told to go on."""
    store = make_store(documents)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-c", IN_A_STEP, str(store.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "in\n"
        yield store, process
        process.kill()


def timed(*arguments, **options) -> float:
    started = time.monotonic()
    opt_out(*arguments, **options)
    return time.monotonic() - started


def test_an_opt_out_waits_for_another_process_s_step(stalled, now):
    store, process = stalled
    opted_out = threading.Thread(target=opt_out, args=(store, "doc-3"), kwargs={"now": now, "patience": 60})
    opted_out.start()
    opted_out.join(0.3)
    assert opted_out.is_alive(), "the step has not ended"
    assert store.live_entries("doc-3") == 0, "in force it is already"
    process.stdin.write("go on\n"), process.stdin.flush()
    opted_out.join(60)
    assert not opted_out.is_alive()
    assert process.stdout.read() == f"asked {-11}\nout\n", "its next question was answered without the document"


def test_a_step_that_does_not_end_is_fenced_and_its_next_question_raises(stalled, now):
    store, process = stalled
    assert timed(store, "doc-3", now=now, patience=0.2) >= 0.2
    assert timed(store, "doc-5", now=now, patience=60) < 30, "who is fenced is not waited for again"
    process.stdin.write("go on\n"), process.stdin.flush()
    told, error = process.communicate()
    assert told == "ReaderFenced\n"
    assert "ReaderFenced: a document was opted out during this step" in error, "and its end, too"


def test_without_the_barrier_a_step_goes_on_with_what_was_removed(stalled, now, monkeypatch):
    """The control."""
    store, process = stalled
    monkeypatch.setattr(readers.Readers, "wait", lambda self, patience: 0)
    opt_out(store, "doc-3", now=now)
    process.stdin.write("go on\n"), process.stdin.flush()
    told, error = process.communicate()
    assert (told, error) == ("asked -11\nout\n", ""), "it ended well after the acknowledgement"


def test_a_process_that_died_in_a_step_is_not_waited_for(stalled, now):
    store, process = stalled
    (path,) = (store.path / readers.FOLDER).iterdir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert timed(store, "doc-3", now=now, patience=60) < 30
    assert not path.exists()


def test_the_same_opt_out_again_waits_too(stalled, now):
    """The first one may have died before its barrier."""
    store, _ = stalled
    opt_out(store, "doc-3", now=now, patience=0)
    (path,) = (store.path / readers.FOLDER).iterdir()
    data = bytearray(path.read_bytes())
    data[-8:] = bytes(8)  # as if nobody had set the fence
    path.write_bytes(data)
    assert timed(store, "doc-3", now=now, patience=0.2) >= 0.2


def test_a_step_that_begins_after_the_commit_is_not_waited_for(make_store, documents, now):
    store, other = make_store(documents), Datastore.open(make_store(documents).path)
    opt_out(store, "doc-3", now=now)
    with store.step(), store.step():
        assert store.live_entries("doc-3") == 0
        assert store.readers.wait(60) == 0
    with other.step():
        assert timed(store, "doc-4", now=now, patience=60) < 30, "another store's readers are of no concern"


def test_threads_have_steps_of_their_own(make_store, documents, now):
    store = make_store(documents)
    began, go_on, results = threading.Event(), threading.Event(), []

    def late():
        with pytest.raises(ReaderFenced), store.step():
            began.set()
            assert go_on.wait(60)
        results.append("fenced")

    thread = threading.Thread(target=late)
    thread.start()
    assert began.wait(60)
    opt_out(store, "doc-3", now=now, patience=0)
    with store.step():
        assert store.live_entries("doc-3") == 0
        results.append("began later")
    go_on.set()
    thread.join(60)
    assert results == ["began later", "fenced"]


def test_an_answer_outside_of_steps_is_asked_again_and_never_raises(make_store, documents, now):
    store = make_store(documents)
    asked = []

    def question(snapshot):
        asked.append(snapshot.epoch)
        if len(asked) == 1:
            opt_out(Datastore.open(store.path), "doc-3", now=now, patience=0)
        return snapshot.epoch

    assert store._answer(question) == 2
    assert asked == [1, 2]


def test_a_fork_is_a_reader_of_its_own(make_store, documents):
    store = make_store(documents)
    with store.step():
        pass
    child = os.fork()
    if child == 0:
        with store.step():
            os._exit(len(list((store.path / readers.FOLDER).iterdir())))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


def test_a_reader_that_can_have_no_file_reads_all_the_same_and_says_so(make_store, documents, answers, now):
    store = make_store(documents)
    (store.path / readers.FOLDER).write_bytes(b"")  # in the folder's place, as nothing can be made on a read-only disk
    reader = Datastore.open(store.path)
    expected = answers(make_store(documents))
    assert reader.readers.can_be_waited_for
    assert answers(reader) == expected
    assert not reader.readers.can_be_waited_for
    opt_out(store, "doc-3", now=now)
    assert answers(reader) == answers(make_store(documents[:3] + documents[4:])) != expected


def test_files_of_the_dead_are_cleared_and_strange_ones_are_no_readers(make_store, documents, now):
    store = make_store(documents)
    folder = store.path / readers.FOLDER
    folder.mkdir()
    for name in ("1-dead", ".tmp-2-dead"):
        (folder / name).write_bytes(b"\1" * 1024)
    (folder / "note").write_bytes(b"not a reader")
    assert timed(store, "doc-3", now=now, patience=60) < 30
    with store.step():
        assert len(list(folder.iterdir())) == 1
    store.close()
    assert list(folder.iterdir()) == []


ON_A_READ_ONLY_DISK = """
import subprocess, sys
from datetime import UTC, datetime
from pathlib import Path
from datastore.optout import opt_out
from datastore.store import Datastore

there, here = Path(sys.argv[1]), Path(sys.argv[2])
mounted = subprocess.run(["mount", "--bind", there, here]).returncode == 0
if not mounted or subprocess.run(["mount", "-o", "remount,bind,ro", here]).returncode:
    sys.exit(77)
reader = Datastore.open(here)
print(reader.live_entries("doc-3"), reader.live_entries("doc-5"), reader.readers.can_be_waited_for)
for name in ("doc-4", "doc-5"):
    try:
        opt_out(reader, name, now=datetime.now(UTC))
    except Exception as error:
        print("refused")
    writer = Datastore.open(there)
    opt_out(writer, name, now=datetime.now(UTC))
    print(reader.live_entries(name), reader.live_entries("doc-0"))
    writer.close()
    print(reader.live_entries(name), Datastore.open(here).live_entries(name))
"""


def test_on_a_disk_that_may_only_be_read_a_store_is_read_and_follows_who_writes_elsewhere(make_store, documents, now):
    store = make_store(documents)
    opt_out(store, "doc-3", now=now)
    store.close()
    here = store.path.with_name("mounted")
    here.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-W", "ignore", "-c", ON_A_READ_ONLY_DISK]
    try:
        run = subprocess.run([*command, store.path, here], env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip(f"this process may not mount: {run.stderr}")
    assert run.stdout.splitlines() == ["0 13 False", *["refused", "0 8", "0 0"] * 2], run.stderr
