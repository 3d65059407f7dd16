"""The answer to a request for completions, whole or as server-sent events, whatever its shape.

A request is checked as a whole before the first token: whatever is wrong with it is answered as a
problem, also when it asked for a stream. What fails later in a stream is its last event, an error.
Sources are looked up when their sentence is rendered, so a removal in between shows.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flask import Response, jsonify, request

from serving.access import Reader, begin
from serving.drafts import Draft, usage_of
from serving.engine import Engine
from serving.guard import Guard
from serving.jobs import Ended, Event, Job, Made, Run
from serving.metrics import current_metrics
from serving.problems import describe, problem_of
from serving.schemas import Sampled


class Shape(Protocol):
    """What tells the answers of one endpoint from those of another."""

    @property
    def prefix(self) -> str:
        """Of the answer's id."""
        ...

    @property
    def name(self) -> str:
        """Of the object: ``text_completion``."""
        ...

    @property
    def chunk_name(self) -> str:
        """Of the objects of a stream."""
        ...

    def whole(self, index: int, draft: Draft) -> dict[str, Any]:
        """The choice that a finished draft makes."""
        ...

    def growing(self, index: int) -> Callable[[Draft, Event], Iterator[dict[str, Any]]]:
        """Called with a draft after each event that it took: what a stream tells of it then."""
        ...


@dataclass(frozen=True)
class Plan:
    """Which jobs a request makes, and which of them are its answer."""

    jobs: Sequence[Job]
    n_made: int
    """Jobs for each prompt."""
    n: int
    """Choices for each prompt; the best, where there are more jobs."""

    def watched(self) -> "Plan":
        """The same, with every source of every token told, as whoever counts what is read out needs it."""
        jobs = [replace(job, settings=replace(job.settings, logprobs=True)) for job in self.jobs]
        return replace(self, jobs=jobs)


def answered(engine: Engine, asked: Sampled, plan: Plan, shape: Shape) -> Response:
    """The response to the current request."""
    begin(sum(job.settings.max_tokens for job in plan.jobs))
    reader = Reader.of_request(engine)
    if reader.has_budget:
        plan = plan.watched()
    run = engine.start(plan.jobs, _has_left())
    answer = _Answer(engine, run, asked, plan, shape, reader)
    if asked.stream:
        response = Response(answer.events(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
        # Not left to the generator: one that was never begun does not run its `finally`.
        response.call_on_close(run.close)
        return response
    try:
        return jsonify(answer.whole())
    finally:
        run.close()


class _Answer:
    """One request's answer."""

    def __init__(self, engine: Engine, run: Run, asked: Sampled, plan: Plan, shape: Shape, reader: Reader) -> None:
        self._engine, self._run, self._asked, self._plan, self._shape = engine, run, asked, plan, shape
        self._reader = reader
        self._metrics, self._began = current_metrics(), time.monotonic()
        self._drafts = [Draft() for _ in plan.jobs]
        self._guards = [
            Guard(draft, reader, engine.text_of(job.prompt) if reader.has_budget else "")
            for draft, job in zip(self._drafts, plan.jobs, strict=True)
        ]
        name = shape.prefix + secrets.token_hex(12)
        self._same = {"id": name, "created": int(engine.now().timestamp()), "model": engine.model_name}

    def whole(self) -> dict[str, Any]:
        try:
            for _ in self._taken():
                pass
        finally:
            self._reader.used(self._usage()["total_tokens"])
        choices = [self._shape.whole(index, draft) for index, draft in enumerate(self._best())]
        return self._frame(self._shape.name, choices) | {"usage": self._usage()}

    def events(self) -> Iterator[str]:
        """Server-sent events: a token each, then the finish reason, the usage if asked for, and ``[DONE]``."""
        growing = [self._shape.growing(index) for index in range(len(self._drafts))]
        n_left = len(self._drafts)
        try:
            for event in self._taken():
                n_left -= isinstance(event, Ended)
                for choice in growing[event.job](self._drafts[event.job], event):
                    yield self._event([choice], usage=None)
            if n_left:
                return  # the client has left
            if self._asked.stream_options.include_usage:
                yield self._event([], usage=self._usage())
            yield "data: [DONE]\n\n"
        except Exception as error:
            yield f"data: {_dumps(describe(error, problem_of(error)))}\n\n"
        finally:
            self._reader.used(self._usage()["total_tokens"])

    def _taken(self) -> Iterator[Event]:
        """The events of the jobs, after their drafts took them. A job whose draft may not go on ends there."""
        ended: set[int] = set()
        for event in self._run.events():
            draft = self._drafts[event.job]
            if event.job in ended:
                continue
            if isinstance(event, Made) and self._guards[event.job].forbids(event):
                event = draft.cut(event.job)
                ended.add(event.job)
            draft.take(event)
            self._count(event, draft)
            yield event
            if len(ended) == len(self._drafts):
                return

    def _count(self, event: Event, draft: Draft) -> None:
        if self._metrics is None:
            return
        if isinstance(event, Made):
            self._metrics.made(event.token)
            if len(draft.tokens) == 1:
                self._metrics.first_token(time.monotonic() - self._began)
        elif isinstance(event, Ended) and event.job % self._plan.n_made == 0:
            self._metrics.read(event.n_prompt_tokens)

    def _best(self) -> Iterator[Draft]:
        """The drafts that are the answer: for each prompt the likeliest by token, in the order of their seeds."""
        n_made, n = self._plan.n_made, self._plan.n
        for start in range(0, len(self._drafts), n_made):
            made = self._drafts[start : start + n_made]
            yield from made if n == n_made else sorted(made, key=lambda draft: -draft.logprob_per_token)[:n]

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> str:
        frame = self._frame(self._shape.chunk_name, choices)
        if self._asked.stream_options.include_usage:
            frame["usage"] = usage
        return f"data: {_dumps(frame)}\n\n"

    def _frame(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        epochs = [draft.epoch for draft in self._drafts if draft.epoch is not None]
        return self._same | {
            "object": name,
            "system_fingerprint": self._engine.fingerprint,
            "choices": choices,
            "datastore_version": max(epochs, default=None if self._engine.store_trouble else self._engine.epoch),
        }

    def _usage(self) -> dict[str, Any]:
        return usage_of(self._drafts, self._plan.n_made)


def drawn_seed() -> int:
    """A seed for a request that has none."""
    return secrets.randbits(31)


def _has_left() -> Callable[[], bool]:
    """Whether the client of the current request hung up, where the server can tell."""
    has_left: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return has_left


def _dumps(value: dict[str, Any]) -> str:
    """JSON on one line, as an event needs it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
