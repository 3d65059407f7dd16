"""``POST /v1/completions``: the OpenAI completions endpoint, with attributions for those who ask.

Choice *i* of a prompt is drawn with the request's seed + *i*. An echoed prompt begins its choice, and with ``logprobs``
it is scored, as evaluation harnesses ask for (``max_tokens`` of 0 or 1, token ids).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, Response

from serving.access import Reader, needs
from serving.answers import Plan, answered, drawn_seed
from serving.bodies import received
from serving.drafts import Draft
from serving.engine import Engine
from serving.jobs import Ended, Event, Job, Made, Read
from serving.keys import Scope
from serving.rendering import echo_logprobs_json, logprobs_json, shifted
from serving.schemas import CompletionRequest
from silo.attribution import GeneratedToken
from silo.settings import GenerationSettings


def blueprint(engine: Engine) -> Blueprint:
    """The endpoint, answering from ``engine``."""
    routes = Blueprint("completions", __name__)

    @routes.post("/v1/completions")
    @needs(Scope.GENERATE)
    def complete() -> Response:
        asked = received(CompletionRequest)
        engine.check_model(asked.model)
        return answered(engine, asked, plan_of(asked), _Text(engine, Reader.of_request(engine), asked))

    return routes


def plan_of(asked: CompletionRequest) -> Plan:
    """The jobs of a request. Raises silo's BadRequest."""
    settings = asked.settings(drawn_seed())
    n_made = 1 if settings.temperature == 0 and asked.n == 1 else asked.n_made  # greedy ones are all the same
    jobs = [
        Job(prompt, seeded(settings, i), asked.echo, asked.logprobs if asked.echo else None, asked.deterministic)
        for prompt in asked.prompt
        for i in range(n_made)
    ]
    return Plan(jobs, n_made, asked.n)


def seeded(settings: GenerationSettings, index: int) -> GenerationSettings:
    """``settings`` for the completion of that index."""
    seed = settings.seed + index
    return replace(settings, seed=seed if seed < 1 << 63 else seed - (1 << 64))


@dataclass(frozen=True)
class _Text:
    """Choices as texts."""

    engine: Engine
    reader: Reader
    asked: CompletionRequest
    prefix: str = "cmpl-"
    name: str = "text_completion"
    chunk_name: str = "text_completion"

    def whole(self, index: int, draft: Draft) -> dict[str, Any]:
        before = draft.prompt.text if draft.prompt else ""
        notes = draft.feed(self.reader.passage).rest() if self.asked.attributions else None
        logprobs = self._logprobs(draft, draft.tokens)
        if logprobs is not None and draft.prompt:
            echoed = echo_logprobs_json(draft.prompt, self.engine.token_text)
            logprobs = {name: echoed[name] + column for name, column in logprobs.items()}
        choice = _choice(index, before + draft.text, logprobs, notes, len(before), draft.finish_reason)
        return choice | _shading(notes, draft.tokens)

    def growing(self, index: int) -> Callable[[Draft, Event], Iterator[dict[str, Any]]]:
        feed = None

        def grow(draft: Draft, event: Event) -> Iterator[dict[str, Any]]:
            nonlocal feed
            if feed is None and self.asked.attributions:
                feed = draft.feed(self.reader.passage)
            n_before = len(draft.prompt.text) if draft.prompt else 0
            none: list[dict[str, Any]] | None = [] if feed else None
            match event:
                case Read():
                    is_scored = self.asked.logprobs is not None
                    logprobs = echo_logprobs_json(event.scored, self.engine.token_text) if is_scored else None
                    yield _choice(index, event.scored.text, logprobs, none, 0, None) | _shading(none, [])
                case Made():
                    notes = feed.so_far() if feed else None
                    logprobs = self._logprobs(draft, [event.token])
                    choice = _choice(index, event.token.text, logprobs, notes, n_before, None)
                    yield choice | _shading(notes, [event.token])
                case Ended():
                    notes = feed.rest() if feed else None
                    choice = _choice(index, "", self._logprobs(draft, []), notes, n_before, event.finish_reason)
                    yield choice | _shading(notes, [])

        return grow

    def _logprobs(self, draft: Draft, tokens: list[Any]) -> dict[str, Any] | None:
        if self.asked.logprobs is None:
            return None
        start = len(draft.prompt.text) if draft.prompt else 0
        return logprobs_json(tokens, self.engine.token_text, self.asked.logprobs, start)


def _shading(notes: list[dict[str, Any]] | None, tokens: Sequence[GeneratedToken]) -> dict[str, list[float]]:
    """Which share of each token is the datastore's, where attributions are told."""
    return {} if notes is None else {"datastore_mass": [1 - float(token.parametric_mass) for token in tokens]}


def _choice(
    index: int,
    text: str,
    logprobs: dict[str, Any] | None,
    notes: list[dict[str, Any]] | None,
    n_before: int,
    finish_reason: str | None,
) -> dict[str, Any]:
    """A choice, or what a stream tells of it; ``n_before`` characters of it stand before what the notes are about."""
    choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
    return choice if notes is None else choice | {"annotations": shifted(notes, n_before)}
