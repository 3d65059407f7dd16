"""The engine in a process of its own: what of it arrives, and what its end costs."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest
import requests

from serving import create_app
from serving.engine import Engine
from serving.engineprocess import EngineProcess
from serving.errors import Busy, EngineFault, EngineLost, Stopping
from serving.jobs import Ended, Job, Made
from serving.remote import RemoteLM, RemoteMakers, RemoteModel
from serving.worker import UNREAD, Recipe
from silo.attribution import ContextSource, TokenSource
from silo.errors import BadRequest, PromptTooLong
from silo.settings import GenerationSettings
from tests.serving.conftest import NOON, MemoryStore, opt_out_on_paper, serving
from tests.serving.test_concurrency import eventually

ENGINE = Path(__file__).with_name("scripted_engine.py")


class Numerals:
    def decode(self, token_ids: list[int]) -> str:
        return " ".join(map(str, token_ids))


def _command(folder: Path) -> Callable[[int], list[str]]:
    return lambda file: [sys.executable, str(ENGINE), str(file), str(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("may_load", "n_allowed", "made"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def makers(folder: Path) -> Iterator[RemoteMakers]:
    makers = RemoteMakers(_command(folder), pauses=(0.0,))
    makers.wait_for_first()
    yield makers
    makers.close()
    makers.join(20)
    assert makers.process_id is None


@pytest.fixture
def remote(makers: RemoteMakers) -> Engine:
    model = RemoteModel(RemoteLM("numbers", 64, Numerals()), MemoryStore())
    return Engine(model, makers=makers, opt_out=opt_out_on_paper, clock=lambda: NOON)


@pytest.fixture
def web(remote: Engine):
    return create_app(remote).test_client()


@pytest.fixture
def client(remote: Engine) -> Iterator[openai.OpenAI]:
    with serving(create_app(remote)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as one:
        yield one


def _job(prompt: str | tuple[int, ...] = "a", n: int = 5) -> Job:
    return Job(prompt, GenerationSettings(max_tokens=n))


def _is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _n_made(folder: Path) -> int:
    return len((folder / "made").read_text().splitlines())


def test_what_the_engine_makes_arrives_in_order_and_whole(remote: Engine):
    with closing(remote.start([_job(n=600), _job("bc", 3)])) as run:
        events = list(run.events())
    for job, n in ((0, 600), (1, 3)):
        made = [event for event in events if isinstance(event, Made) and event.job == job]
        assert [event.token.id for event in made] == list(range(n))
        assert made[0].token.sources == (TokenSource("opinion", 0, 0.75),)
        assert {event.epoch for event in made} == {7}
    ended = {event.job: event for event in events if isinstance(event, Ended)}
    assert ended[1] == Ended(1, "length", 2, 7, (ContextSource("opinion", (0, 1), (0, 1)),))
    assert remote.makers.n_requests == 0


def test_over_http_nothing_tells_that_the_engine_is_elsewhere(client):
    stream = list(client.completions.create(model="numbers", prompt="a", max_tokens=4, logprobs=1, stream=True))
    assert "".join(chunk.choices[0].text for chunk in stream) == " 0 1 2 3"
    assert stream[-1].choices[0].finish_reason == "length"
    asked = {"model": "numbers", "prompt": "a", "max_tokens": 4, "logprobs": 1}
    whole = client.completions.create(**asked, extra_body={"attributions": True})
    assert whole.choices[0].text == " 0 1 2 3"
    assert whole.usage.completion_tokens == 4
    assert whole.choices[0].annotations[0]["document_id"] == "opinion"
    assert whole.choices[0].context_sources[0]["document_id"] == "opinion"


@pytest.mark.parametrize(
    ("jobs", "kind"),
    [([_job("a" * 65)], PromptTooLong), ([_job((5,))], BadRequest), ([_job(), _job((5,))], BadRequest)],
)
def test_what_is_wrong_with_a_request_is_raised_before_it_begins(remote: Engine, jobs, kind):
    for _ in range(5):
        with pytest.raises(kind, match="got"):
            remote.start(jobs)
    assert remote.makers.n_requests == 0
    assert len(list(remote.start([_job()]).events())) == 6, "no slot was lost"


def test_beyond_its_slots_the_engine_is_busy(remote: Engine, folder: Path):
    runs = [remote.start([_job("paced")]) for _ in range(2)]
    with pytest.raises(Busy, match="2 requests are being answered"):
        remote.start([_job()])
    assert remote.makers.n_requests == 2
    (folder / "n_allowed").write_text("9")
    assert [len(list(run.events())) for run in runs] == [6, 6]
    for run in runs:
        run.close()


def test_an_error_that_is_not_for_people_stays_in_the_engines_log(remote: Engine, web, folder: Path):
    with closing(remote.start([_job("fault")])) as run, pytest.raises(EngineFault) as caught:
        list(run.events())
    assert "secret" not in str(caught.value)
    answer = web.post("/v1/completions", json={"prompt": "fault"})
    assert (answer.status_code, answer.json["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "KeyError: 'a secret'" in (folder / "log").read_text()


def test_documents_are_added_by_the_engine_and_its_refusals_arrive(web):
    new = [{"id": "new", "text": "News."}, {"id": "late", "text": "Late."}]
    answer = web.post("/v1/documents", json={"documents": new})
    assert (answer.status_code, answer.json["n_documents"]) == (201, 2)
    assert answer.json["refused"] == [{"id": "late", "reason": "reserved"}]
    again = web.post("/v1/documents", json={"documents": [{"id": "opinion", "text": "News."}]})
    assert (again.status_code, again.json["error"]["code"]) == (409, "duplicate_document")


def test_who_reads_slowly_is_waited_for_and_gets_everything(remote: Engine, folder: Path):
    with closing(remote.start([_job(n=3000)])) as run:
        most = 0
        while (now := _n_made(folder)) > most or now == 0:
            most = now
            assert not eventually(lambda: _n_made(folder) > 4 * UNREAD, 0.3)
        assert len([event for event in run.events() if isinstance(event, Made)]) == 3000


def test_a_client_that_leaves_frees_its_slot_within_two_tokens(client, remote: Engine, folder: Path):
    (folder / "n_allowed").write_text("3")
    stream = client.completions.create(model="numbers", prompt="paced", max_tokens=1000, stream=True)
    for _, chunk in zip(range(3), stream, strict=False):
        assert chunk.choices[0].text
    stream.close()
    assert eventually(lambda: remote.makers.n_requests == 0)
    for n in range(4, 24):
        (folder / "n_allowed").write_text(str(n))
        eventually(lambda n=n: _n_made(folder) == n, 0.1)
    assert _n_made(folder) <= 5
    runs = [remote.start([_job()]) for _ in range(2)]
    assert [len(list(run.events())) for run in runs] == [6, 6], "both slots are free"
    for run in runs:
        run.close()


def _end_by_kill(makers: RemoteMakers, url: str) -> None:
    os.kill(makers.process_id, signal.SIGKILL)


def _end_by_fault(makers: RemoteMakers, url: str) -> None:
    answer = requests.post(f"{url}/v1/completions", json={"prompt": "crash"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_lost")


@pytest.mark.parametrize("end", [_end_by_kill, _end_by_fault])
def test_the_engines_end_costs_the_running_answers_and_nothing_else(remote: Engine, makers, folder: Path, end):
    with serving(create_app(remote)) as url:
        ask = {"prompt": "paced", "max_tokens": 9, "stream": True}
        (folder / "n_allowed").write_text("2")
        with requests.post(f"{url}/v1/completions", json=ask, timeout=20, stream=True) as stream:
            lines = (line.decode() for line in stream.iter_lines(1) if line)
            assert [json.loads(next(lines)[6:])["choices"][0]["text"] for _ in range(2)] == [" 0", " 1"]
            (folder / "may_load").unlink()
            before = makers.process_id
            end(makers, url)
            (last,) = lines
        problem = json.loads(last.removeprefix("data: "))
        assert (problem["status"], problem["error"]["code"]) == (503, "engine_lost")

        refused = requests.post(f"{url}/v1/completions", json={"prompt": "a"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_lost")
        assert refused.headers["Retry-After"]
        ready = requests.get(f"{url}/readyz")
        assert ready.status_code == 503
        assert ready.json()["model"]["status"] == "off"
        assert "started again" in ready.json()["model"]["reason"]
        assert requests.get(f"{url}/healthz").status_code == 200
        assert requests.get(f"{url}/v1/documents/opinion").json()["state"] == "live"
        assert requests.post(f"{url}/v1/optouts", json={"document": "opinion"}).status_code == 201
        assert requests.get(f"{url}/v1/documents/opinion").json()["state"] == "removed"
        assert "silo_engine_ready 0.0" in requests.get(f"{url}/metrics").text

        (folder / "may_load").touch()
        assert eventually(lambda: requests.get(f"{url}/readyz").status_code == 200, 20)
        assert makers.process_id != before
        again = requests.post(f"{url}/v1/completions", json={"prompt": "a", "max_tokens": 3})
        assert again.json()["choices"][0]["text"] == " 0 1 2"


def test_an_engine_that_ends_again_and_again_is_started_after_longer_and_longer_pauses(folder: Path, caplog):
    makers = RemoteMakers(_command(folder), pauses=(0.0, 0.01, 0.02))
    makers.wait_for_first()
    for n in range(1, 5):
        assert eventually(lambda: makers.trouble is None, 20)
        os.kill(makers.process_id, signal.SIGKILL)
        assert eventually(lambda n=n: len(caplog.records) == n, 20)
    makers.close()
    makers.join(20)
    assert [record.args[1] for record in caplog.records] == [0.0, 0.01, 0.02, 0.02]
    assert all("signal 9, SIGKILL" in record.getMessage() for record in caplog.records)


def test_an_engine_that_never_was_loaded_is_an_error_of_whoever_starts_the_server(folder: Path):
    makers = RemoteMakers(lambda _: [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(EngineLost, match="with status 3 before it was loaded"):
        makers.wait_for_first()
    makers.close()
    makers.join(20)


def test_at_the_end_streams_are_told_and_the_engine_ends_by_itself(remote: Engine, makers, folder: Path, monkeypatch):
    killed = []
    monkeypatch.setattr(EngineProcess, "kill", lambda self: killed.append(self._process.returncode))
    run = remote.start([_job("paced")])
    process = makers.process_id
    remote.close()
    with closing(run), pytest.raises(Stopping):
        list(run.events())
    with pytest.raises(Stopping):
        remote.start([_job()])
    (folder / "n_allowed").write_text("9")  # a token that is being made is made to its end
    makers.join(20)
    assert killed == [0]
    assert _is_gone(process)


FRONT = """
    import sys, time
    from serving.jobs import Job
    from serving.remote import RemoteMakers
    from silo.settings import GenerationSettings

    makers = RemoteMakers(lambda file: [sys.executable, sys.argv[1], str(file), sys.argv[2]])
    makers.wait_for_first()
    run = makers.start([Job("a", GenerationSettings(max_tokens=1 << 20))])
    for event, _ in zip(run.events(), range(3)):
        pass
    print(makers.process_id, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_an_engine_does_not_outlive_the_front(folder: Path, name):
    command = [sys.executable, "-c", textwrap.dedent(FRONT), str(ENGINE), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as front:
        engine = int(front.stdout.readline())
        assert not _is_gone(engine)
        front.send_signal(getattr(signal, name))
        front.wait(timeout=20)
    assert eventually(lambda: _is_gone(engine), 20)


def test_an_engine_that_is_still_being_loaded_ends_with_the_front_too():
    command = [sys.executable, "-m", "serving.worker"]
    process = EngineProcess(lambda file: [*command, str(file), Recipe("/nowhere", None).to_json()])
    process._connection.close()
    process._process.wait(timeout=50)
    assert process._process.returncode == 0
