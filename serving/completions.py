"""``POST /v1/completions``: the OpenAI completions endpoint, with attributions for those who ask.

A request is checked as a whole before the first token: whatever is wrong with it is answered as a
problem, also when it asked for a stream. What fails later in a stream is its last event, an error.
Sources are looked up when their sentence is rendered, so a removal in between shows.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, request

from serving.bodies import received
from serving.engine import Engine, Run
from serving.problems import describe, problem_of
from serving.protocols import Generation
from serving.rendering import SentenceFeed, logprobs_json
from serving.schemas import CompletionRequest
from silo.attribution import GeneratedToken


def blueprint(engine: Engine) -> Blueprint:
    """The endpoint, answering from ``engine``."""
    routes = Blueprint("completions", __name__)

    @routes.post("/v1/completions")
    def complete() -> Response:
        asked = received(CompletionRequest)
        engine.check_model(asked.model)
        run = engine.start(asked.prompt, asked.settings(seed=secrets.randbits(31)), _has_left())
        answer = _Answer(engine, run, asked, f"cmpl-{secrets.token_hex(12)}", int(engine.now().timestamp()))
        if asked.stream:
            response = Response(answer.events(), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
            # Not left to the generator: one that was never begun does not run its `finally`.
            response.call_on_close(run.close)
            return response
        with run:
            return jsonify(answer.whole())

    return routes


@dataclass(frozen=True)
class _Answer:
    """One request's answer, whole or event by event."""

    engine: Engine
    run: Run
    asked: CompletionRequest
    id: str
    created: int

    def whole(self) -> dict[str, Any]:
        choices = []
        for index, generation in enumerate(self.run.generations):
            tokens = list(self.run.tokens(generation))
            annotations = self._feed(generation).rest() if self.asked.attributions else None
            choices.append(self._choice(index, generation.text, tokens, annotations, generation.finish_reason))
        return self._frame(choices) | {"usage": self._usage()}

    def events(self) -> Iterator[str]:
        """Server-sent events: a token each, then the finish reason, the usage if asked for, and ``[DONE]``."""
        try:
            for index, generation in enumerate(self.run.generations):
                for choice in self._growing(index, generation):
                    yield self._event([choice], usage=None)
            if self.asked.stream_options.include_usage:
                yield self._event([], usage=self._usage())
            yield "data: [DONE]\n\n"
        except Exception as error:
            yield f"data: {_dumps(describe(error, problem_of(error)))}\n\n"

    def _growing(self, index: int, generation: Generation) -> Iterator[dict[str, Any]]:
        feed = self._feed(generation) if self.asked.attributions else None
        n_sent = 0
        for token in self.run.tokens(generation):
            text = generation.text[n_sent:]
            n_sent += len(text)
            yield self._choice(index, text, [token], feed.so_far() if feed else None, None)
        rest = feed.rest() if feed else None
        yield self._choice(index, generation.text[n_sent:], [], rest, generation.finish_reason)

    def _choice(
        self,
        index: int,
        text: str,
        tokens: list[GeneratedToken],
        annotations: list[dict[str, Any]] | None,
        finish_reason: str | None,
    ) -> dict[str, Any]:
        n_top = self.asked.logprobs
        logprobs = None if n_top is None else logprobs_json(tokens, self.engine.token_text, n_top)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
        if annotations is None:
            return choice
        masses = [1 - token.parametric_mass for token in tokens]
        return choice | {"annotations": annotations, "datastore_mass": masses}

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> str:
        frame = self._frame(choices)
        if self.asked.stream_options.include_usage:
            frame["usage"] = usage
        return f"data: {_dumps(frame)}\n\n"

    def _frame(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        epochs = [generation.datastore_epoch for generation in self.run.generations]
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.engine.model_name,
            "system_fingerprint": self.engine.fingerprint,
            "choices": choices,
            "datastore_version": max((epoch for epoch in epochs if epoch is not None), default=None),
        }

    def _usage(self) -> dict[str, int]:
        n_prompt = sum(generation.n_prompt_tokens for generation in self.run.generations)
        n_completion = sum(len(generation.tokens) for generation in self.run.generations)
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_completion,
            "total_tokens": n_prompt + n_completion,
        }

    def _feed(self, generation: Generation) -> SentenceFeed:
        return SentenceFeed(generation, self.engine.passage)


def _has_left() -> Callable[[], bool]:
    """Whether the client of the current request hung up, where the server can tell."""
    return request.environ.get("waitress.client_disconnected", lambda: False)


def _dumps(value: dict[str, Any]) -> str:
    """JSON on one line, as an event needs it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
