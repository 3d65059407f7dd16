"""``POST /v1/chat/completions``: a conversation, for clients that speak nothing else.

The template is plain: ``User: …`` and ``Assistant: …``, a blank line between turns, what the system is told first, and
the answer ends where the next turn of a user would begin. The model was not taught to follow it; it continues text.
White space at the beginning of an answer belongs to the template and is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response

from serving.access import Reader, needs
from serving.answers import Plan, answered, drawn_seed
from serving.bodies import received
from serving.completions import seeded
from serving.drafts import Draft
from serving.engine import Engine
from serving.jobs import Ended, Event, Job, Made
from serving.keys import Scope
from serving.rendering import chat_logprobs_json, context_json, shifted
from serving.schemas import ChatRequest, Message

DEFAULT_TOKENS = 256
END_OF_TURN = "\nUser:"
_NAMES = {"user": "User: ", "assistant": "Assistant: ", "system": "", "developer": ""}


def blueprint(engine: Engine) -> Blueprint:
    """The endpoint, answering from ``engine``."""
    routes = Blueprint("chat", __name__)

    @routes.post("/v1/chat/completions")
    @needs(Scope.GENERATE)
    def chat() -> Response:
        asked = received(ChatRequest)
        engine.check_model(asked.model)
        engine.check_components(gate=asked.gate, max_verbatim=asked.max_verbatim)
        return answered(
            engine, asked, plan_of(asked, engine.context_length), _Turn(engine, Reader.of_request(engine), asked)
        )

    return routes


def template(messages: Sequence[Message]) -> str:
    """The conversation as a text that an answer continues."""
    turns = [f"{_NAMES[message.role]}{message.text.strip()}\n\n" for message in messages]
    return "".join(turns) + "Assistant:"


def plan_of(asked: ChatRequest, context_length: int) -> Plan:
    """The jobs of a request. Raises silo's BadRequest."""
    wanted = asked.max_tokens if asked.max_tokens is not None else asked.max_completion_tokens
    if wanted is None:
        wanted = min(DEFAULT_TOKENS, context_length // 2)
    n_top = asked.top_logprobs or 0 if asked.logprobs else None
    settings = asked.sampling(drawn_seed(), wanted, (*asked.stop, END_OF_TURN), n_top)
    prompt = template(asked.messages)
    return Plan(
        [Job(prompt, seeded(settings, i), is_alone=asked.deterministic) for i in range(asked.n)], asked.n, asked.n
    )


@dataclass(frozen=True)
class _Turn:
    """Choices as turns of a conversation."""

    engine: Engine
    reader: Reader
    asked: ChatRequest
    prefix: str = "chatcmpl-"
    name: str = "chat.completion"
    chunk_name: str = "chat.completion.chunk"

    def whole(self, index: int, draft: Draft) -> dict[str, Any]:
        content = draft.text.lstrip()
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.asked.attributions:
            notes = draft.feed(self.reader.passage).rest()
            message["annotations"] = shifted(notes, len(content) - len(draft.text))
            message["context_sources"] = self._context(draft)
        logprobs = self._logprobs(draft.tokens)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": draft.finish_reason}

    def growing(self, index: int) -> Callable[[Draft, Event], Iterator[dict[str, Any]]]:
        feed = None
        n_sent = -1

        def chunk(delta: dict[str, Any], tokens: list[Any], finish_reason: str | None = None) -> dict[str, Any]:
            same = {"logprobs": self._logprobs(tokens), "finish_reason": finish_reason}
            return {"index": index, "delta": delta} | same

        def grow(draft: Draft, event: Event) -> Iterator[dict[str, Any]]:
            nonlocal feed, n_sent
            if n_sent < 0:
                n_sent = 0
                yield chunk({"role": "assistant", "content": "", "refusal": None}, [])
                if self.asked.attributions:
                    feed = draft.feed(self.reader.passage)
            content = draft.text.lstrip()
            delta: dict[str, Any] = {}
            match event:
                case Made():
                    delta["content"] = content[n_sent:]
                    n_sent = len(content)
                    notes = feed.so_far() if feed else []
                case _:
                    notes = feed.rest() if feed else []
                    if feed and draft.context_sources:
                        delta["context_sources"] = self._context(draft)
            if notes:
                delta["annotations"] = shifted(notes, len(content) - len(draft.text))
            tokens = [event.token] if isinstance(event, Made) else []
            yield chunk(delta, tokens, event.finish_reason if isinstance(event, Ended) else None)

        return grow

    def _context(self, draft: Draft) -> list[dict[str, Any]]:
        found = context_json(draft.context_sources, draft.tokens, self.reader.passage)
        return shifted(found, len(draft.text.lstrip()) - len(draft.text))

    def _logprobs(self, tokens: list[Any]) -> dict[str, Any] | None:
        if not self.asked.logprobs:
            return None
        return chat_logprobs_json(tokens, self.engine.token_text, self.asked.top_logprobs or 0)
