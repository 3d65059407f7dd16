"""A real LM and datastore in a process of their own: the same answers, and opt-outs in force at once."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import torch

from datastore.store import Datastore
from serving import create_app
from serving.engine import Engine
from serving.engines import remote_engine
from serving.jobs import Ended, Job, Made, Read
from serving.remote import RemoteLM, RemoteMakers, RemoteModel
from serving.worker import Recipe
from silo.errors import BadCheckpoint
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings, NgramSettings, RetrievalSettings
from tests.serving.test_concurrency import eventually
from tests.serving.test_remote import _is_gone

PROMPT = "The objects in this"
PACED = Path(__file__).with_name("paced_engine.py")
SAMPLED = GenerationSettings(
    max_tokens=30, temperature=1, top_p=0.9, seed=5, top_logprobs=3, knn=KnnSettings(12, 0.7), ngram=NgramSettings(0.2)
)
SETTINGS = [
    SAMPLED,
    GenerationSettings(max_tokens=20, temperature=1, seed=3, logprobs=False),
    GenerationSettings(max_tokens=20, retrieval=RetrievalSettings(), max_verbatim=3),
]


@pytest.fixture
def checkpoint(llama, tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-llama"
    llama.model.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def store(llama, build, manual) -> Datastore:
    return build(llama, manual(50, 56, "LicenseRef-Proprietary"))


def _made(events: Sequence[object]) -> list[tuple]:
    """Tokens as text, since numbers that are none differ from themselves."""
    return [(event.job, event.epoch, repr(event.token)) for event in events if isinstance(event, Made)]


def test_the_engine_makes_the_same_tokens_as_this_process_does(checkpoint: Path, store: Datastore, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # which decides the last bits
    engine, own = remote_engine(str(checkpoint), store.path, "cpu", 40)
    jobs = [Job(PROMPT, settings, True, 2, True) for settings in SETTINGS]
    try:
        with closing(engine.start(jobs)) as run:
            events = list(run.events())
        answer = (
            create_app(engine).test_client().post("/v1/documents", json={"documents": [{"id": "n", "text": "A b."}]})
        )
        assert answer.status_code == 201, answer.text
        assert own.document("n").state == "live", "the front sees what the engine added"
        receipt, was_live = engine.opt_out("n")
        assert was_live
        assert receipt.to_json()["document"]
    finally:
        engine.close()
        engine.makers.join(20)
    silo = Silo.open(checkpoint, store.path, max_verbatim=40)
    assert (engine.model_name, engine.context_length) == (silo.lm.name, silo.lm.context_length)
    for number, job in enumerate(jobs):
        generation = silo.generate(PROMPT, job.settings)
        tokens = [repr(token) for token in generation]
        assert [token for n, _, token in _made(events) if n == number] == tokens
        (ended,) = (event for event in events if isinstance(event, Ended) and event.job == number)
        assert (ended.finish_reason, ended.context_sources) == (generation.finish_reason, generation.context_sources)
        (read,) = (event for event in events if isinstance(event, Read) and event.job == number)
        assert read.scored == silo.score(PROMPT, job.settings, 2)


@pytest.fixture
def paced(checkpoint: Path, store: Datastore, llama, tmp_path: Path) -> Iterator[tuple[Engine, Callable[[int], None]]]:
    """An engine that reads as many tokens as it is allowed to."""
    (tmp_path / "n_allowed").touch()
    recipe = Recipe(str(checkpoint), str(store.path)).to_json()
    makers = RemoteMakers(lambda file: [sys.executable, str(PACED), str(file), recipe, str(tmp_path)])
    makers.wait_for_first()

    def allow(n: int) -> None:
        (tmp_path / "new").write_text(str(n))
        (tmp_path / "new").rename(tmp_path / "n_allowed")

    yield Engine(RemoteModel(RemoteLM("tiny", 96, llama.tokenizer), Datastore.open(store.path)), makers=makers), allow
    allow(1000)
    makers.close()
    makers.join(20)


def _named(token) -> set[str]:
    return {source.document for source in token.sources}


def test_no_token_after_an_opt_out_was_acknowledged_is_owed_to_the_document(paced, tmp_path: Path):
    engine, allow = paced
    job = Job(PROMPT, SAMPLED, is_alone=True)
    allow(1000)
    with closing(engine.start([job])) as run:
        unbroken = [event.token for event in run.events() if isinstance(event, Made)]
    allow(0)
    n_before = 10
    n_read = len(unbroken)
    document = next(iter(_named(unbroken[n_before])))
    assert any(document in _named(token) for token in unbroken[n_before:])

    with closing(engine.start([job])) as run:
        events = (event for event in run.events() if isinstance(event, Made))
        allow(n_read + n_before)
        tokens = [next(events).token for _ in range(n_before)]
        assert tokens == unbroken[:n_before]
        # One more step is begun and has searched: the acknowledgement waits for it.
        (tmp_path / "hold").touch()
        allow(n_read + n_before + 1)
        assert eventually((tmp_path / "held").exists, 20)
        threading.Timer(0.3, (tmp_path / "hold").unlink).start()
        engine.opt_out(document)
        assert (tmp_path / "steps").read_text() == "left\n", "the acknowledgement came before the step's end"
        epoch = engine.epoch
        in_the_step = next(events)
        allow(1000)
        later = list(events)
    assert len(later) == len(unbroken) - n_before - 1
    if in_the_step.epoch == epoch:
        assert document not in _named(in_the_step.token)
    assert all(event.epoch == epoch for event in later)
    assert set().union(*(_named(event.token) for event in later)), "the others are used on"
    assert document not in set().union(*(_named(event.token) for event in later))


def test_an_opt_out_waits_for_no_engine_that_was_killed_in_a_step(paced, tmp_path: Path):
    engine, allow = paced
    allow(1000)
    (tmp_path / "hold").touch()
    with closing(engine.start([Job(PROMPT, SAMPLED, is_alone=True)])):
        assert eventually((tmp_path / "held").exists, 20)
        document = next(iter(engine.whole_store().documents())).facts.id
        killed = engine.makers.process_id
        os.kill(killed, signal.SIGKILL)
        receipt, _ = engine.opt_out(document)
    assert receipt.to_json()
    assert engine.document(document).state == "removed"
    (tmp_path / "hold").unlink()
    assert eventually(lambda: engine.makers.process_id != killed and engine.makers.trouble is None, 40)
    with closing(engine.start([Job(PROMPT, SAMPLED, is_alone=True)])) as run:
        made = [event.token for event in run.events() if isinstance(event, Made)]
    assert set().union(*map(_named, made))
    assert document not in set().union(*map(_named, made))


def test_what_keeps_a_model_from_being_loaded_is_told_by_whoever_starts_the_server(store: Datastore):
    with pytest.raises(BadCheckpoint, match="neither a checkpoint folder nor a hub id"):
        remote_engine("/no/where", store.path, "cpu", None)


@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGKILL"))]
)
def test_the_command_serves_with_an_engine_that_ends_with_it(checkpoint: Path, store: Datastore, name):
    command = [sys.executable, "-m", "silo", "serve", "--model", str(checkpoint), "--datastore", str(store.path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--port", "0"], **pipes) as front:
        url = front.stdout.readline().split(" at ")[1].split()[0]
        children = Path(f"/proc/{front.pid}/task/{front.pid}/children")
        (engine,) = [int(child) for child in children.read_text().split()] or [0]
        body = json.dumps({"prompt": PROMPT, "max_tokens": 60, "stream": True, "attributions": True}).encode()
        asked = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as stream:
            assert stream.readline().startswith(b"data: ")
            front.send_signal(getattr(signal, name))
            errors = front.stderr.read()
        status = front.wait(timeout=20)
    assert (status, errors) == ((-9, errors) if name == "SIGKILL" else (0, ""))
    assert eventually(lambda: _is_gone(engine), 20)
