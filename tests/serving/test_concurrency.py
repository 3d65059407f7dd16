"""Many clients at once: all move on, none waits for a slot in vain, and whoever leaves frees theirs."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import openai
import pytest

from serving.engine import Engine
from serving.jobs import Job, Made
from silo.settings import GenerationSettings


def eventually(claim, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.01)
    return claim()


def test_two_requests_at_once_both_work(client):
    def ask(stream: bool) -> str:
        answer = client.completions.create(model="scripted", prompt="a", max_tokens=200, stream=stream)
        return "".join(chunk.choices[0].text for chunk in answer) if stream else answer.choices[0].text

    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(ask, [True, False, True]))
    assert len(set(texts)) == 1


def test_requests_take_turns_token_by_token(engine: Engine, silo):
    silo.before_token = lambda: time.sleep(0.001)
    order: list[str] = []
    both_begun = threading.Barrier(2)

    def follow(name: str) -> None:
        both_begun.wait(timeout=5)
        run = engine.start([Job("a", GenerationSettings(max_tokens=50))])
        with closing(run):
            order.extend(name for event in run.events() if isinstance(event, Made))

    threads = [threading.Thread(target=follow, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(order) == 100
    assert "".join(order) not in {"a" * 50 + "b" * 50, "b" * 50 + "a" * 50}


def test_the_model_is_never_entered_twice_at_once(client, silo):
    inside: list[int] = []
    most = []

    def enter() -> None:
        inside.append(0)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()

    silo.before_token = enter
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: client.completions.create(model="scripted", prompt="a", max_tokens=20), range(3)))
    assert len(most) == 60
    assert max(most) == 1


def test_a_client_that_leaves_a_stream_frees_the_generation(client, silo, engine: Engine):
    silo.before_token = lambda: time.sleep(0.001)
    stream = client.completions.create(model="scripted", prompt="a", max_tokens=1_000_000, stream=True)
    assert next(iter(stream)).choices[0].text == "The"
    assert silo.n_running == 1
    stream.close()
    assert eventually(lambda: silo.n_running == 0)
    assert eventually(lambda: _free_slots(engine) == 3)


def test_a_client_that_gives_up_waiting_frees_the_generation(client, silo, engine: Engine):
    silo.before_token = lambda: time.sleep(0.001)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).completions.create(model="scripted", prompt="a", max_tokens=1_000_000)
    assert eventually(lambda: silo.n_running == 0)
    assert eventually(lambda: _free_slots(engine) == 3)


def test_a_stream_that_nobody_began_to_read_gives_its_slot_back(app, engine: Engine):
    with app.test_request_context("/v1/completions", method="POST", json={"prompt": "a", "stream": True}):
        response = app.full_dispatch_request()
    assert _free_slots(engine) == 2
    response.close()
    assert _free_slots(engine) == 3


def test_a_prompt_that_is_refused_gives_its_slot_back(web, engine: Engine):
    for _ in range(5):
        assert web.post("/v1/completions", json={"prompt": "word " * 65}).status_code == 400
    assert _free_slots(engine) == 3


def test_beyond_the_slots_a_request_is_told_to_come_back_and_opt_outs_still_work(client, silo):
    silo.before_token = lambda: time.sleep(0.001)
    asked = {"model": "scripted", "prompt": "a", "max_tokens": 1_000_000, "stream": True}
    streams = [client.completions.create(**asked) for _ in range(3)]
    with pytest.raises(openai.RateLimitError, match="3 requests are being answered") as caught:
        client.completions.create(model="scripted", prompt="a")
    assert caught.value.response.headers["Retry-After"] == "1"
    assert client.post("/optouts", body={"document": "opinion"}, cast_to=dict[str, str])["document"] == "opinion"
    for stream in streams:
        stream.close()
    assert eventually(lambda: silo.n_running == 0)
    assert client.completions.create(model="scripted", prompt="a", max_tokens=1).choices[0].text == "The"


def test_of_many_opt_outs_at_once_one_is_new_and_all_get_the_same_receipt(app):
    def ask(_: int) -> tuple[int, str]:
        response = app.test_client().post("/v1/optouts", json={"document": "opinion"})
        return response.status_code, response.text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({text for _, text in answers}) == 1


def _free_slots(engine: Engine) -> int:
    return 3 - engine.makers.n_requests
