"""Completions that are read side by side: the same within rounding, and with the bits of batch 1 on request."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from serving.batching import SharedSilo
from serving.jobs import Job, Made
from serving.runners import Runners
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings

SETTINGS = GenerationSettings(max_tokens=24, knn=KnnSettings(k=12, weight=0.5))
PROMPTS = ["The objects in this", "A", "Näheres folgt in Kürze, wenn", "class Foo:\n    def"]


@pytest.fixture
def alone(lm, build, manual) -> Silo:
    return Silo(lm, build(lm, manual(50, 53, "LicenseRef-Proprietary")))


@pytest.fixture
def shared(alone):
    shared = SharedSilo(alone, 4)
    yield shared
    shared.close()


@pytest.fixture
def runners(shared):
    runners = Runners(shared, slots=4, alone=shared.alone)
    yield runners
    runners.close()
    runners.join(5)


def _made(runners, jobs) -> list[list]:
    run = runners.start(jobs)
    tokens: list[list] = [[] for _ in jobs]
    for event in run.events():
        if isinstance(event, Made):
            tokens[event.job].append(event.token)
    run.close()
    return tokens


def test_side_by_side_the_same_is_said_within_rounding(runners, shared, alone):
    together = _made(runners, [Job(prompt, SETTINGS) for prompt in PROMPTS])
    for prompt, tokens in zip(PROMPTS, together, strict=True):
        by_itself = list(alone.generate(prompt, SETTINGS))
        assert [token.id for token in tokens] == [token.id for token in by_itself]
        assert [t.logprob for t in tokens] == pytest.approx([t.logprob for t in by_itself], abs=1e-3)
    assert shared.batch.n_read > shared.batch.n_steps, "nothing was read side by side"


def test_what_must_not_depend_on_company_has_the_bits_of_batch_1(runners, alone):
    jobs = [Job(prompt, SETTINGS, is_alone=i % 2 == 0) for i, prompt in enumerate(PROMPTS)]
    together = _made(runners, jobs)
    for job, tokens in zip(jobs[::2], together[::2], strict=True):
        assert tokens == list(alone.generate(job.prompt, SETTINGS))


def test_more_requests_than_slots_are_all_answered(runners):
    with ThreadPoolExecutor(9) as pool:
        made = list(pool.map(lambda i: _made(runners, [Job(PROMPTS[i % 4], SETTINGS)]), range(9)))
    assert [len(tokens) for (tokens,) in made] == [len(made[i % 4][0]) for i in range(9)]


def test_a_completion_that_nobody_wants_leaves_the_batch(runners, shared):
    run = runners.start([Job("A", GenerationSettings(max_tokens=90)), Job("The", SETTINGS)])
    next(run.events())
    run.close()
    deadline = time.monotonic() + 5
    while shared.batch._decoder.n_free < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shared.batch._decoder.n_free == 4


def test_a_failure_of_the_lm_reaches_every_request_and_the_next_one_is_answered(runners, shared, monkeypatch):
    step = shared.batch._decoder.step

    def fail(tokens):
        monkeypatch.setattr(shared.batch._decoder, "step", step)
        raise ArithmeticError("the LM failed")

    monkeypatch.setattr(shared.batch._decoder, "step", fail)
    with pytest.raises(ArithmeticError):
        _made(runners, [Job("A", SETTINGS)])
    assert _made(runners, [Job("A", SETTINGS)])[0]


def test_after_the_end_nobody_waits(shared):
    errors = []

    def read() -> None:
        try:
            with closing(shared.sequence()) as sequence:
                sequence.advance_all([1, 2])
                shared.close()
                sequence.advance_all([3])
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert len(errors) == 1
