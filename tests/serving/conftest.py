"""A scripted model and a real server: the double says the same words to every prompt, with known sources."""

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient
from waitress import wasyncore

from datastore.errors import UnknownDocument
from datastore.records import DocumentFacts, StoredDocument
from serving import create_app
from serving.engine import Engine
from serving.runners import Runners
from serving.server import listen
from silo.attribution import AttributedSentence, ContextSource, GeneratedToken, TokenSource, attribute_sentences
from silo.errors import BadRequest, PromptTooLong
from silo.scored import ScoredText, ScoredToken
from silo.settings import GenerationSettings

WORDS = ("The", " court", " ruled", ".", " It", " was", " late", ".", " Näheres", " folgt", ".")
SOURCES = (TokenSource("opinion", 0, 0.5), TokenSource("https://news.example/a", 1, 0.25))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class ScriptedTokenizer:
    def decode(self, token_ids: list[int]) -> str:
        return "".join(WORDS[i] for i in token_ids)


@dataclass(frozen=True)
class ScriptedLM:
    name: str = "scripted"
    context_length: int = 64
    tokenizer: ScriptedTokenizer = field(default_factory=ScriptedTokenizer)


class MemoryStore:
    """Two documents of two sentences each."""

    id = "memory"

    def __init__(self) -> None:
        self.epoch = 7
        self.texts = {
            "opinion": ["The court ruled. ", "Costs follow. "],
            "https://news.example/a": ["Rain today. ", "It was late. " + "x" * 1000],
        }
        self.removed: set[str] = set()

    def document(self, id: str) -> StoredDocument:  # noqa: A002
        if id not in self.texts:
            raise UnknownDocument(f"no document {id!r} was ever in this store")
        facts = DocumentFacts(
            id,
            digest="d" * 64,
            license="LicenseRef-Proprietary",
            source="press",
            title=f"Title of {id}",
            owner="The Owner",
            url="https://news.example/",
            metadata={"secret": "not for show"},
        )
        return StoredDocument(facts, "removed" if id in self.removed else "live", n_entries=9, n_sentences=2)

    def sentence_text(self, document: str, sentence: int) -> str:
        if document in self.removed or document not in self.texts:
            raise UnknownDocument(f"document {document!r} is not served by this store")
        return self.texts[document][sentence]


@dataclass(frozen=True)
class PaperReceipt:
    document: str
    accepted_at: str

    def to_json(self) -> dict[str, object]:
        return {"document": self.document, "accepted_at": self.accepted_at, "signature": "00"}


class ScriptedGeneration:
    """Says ``WORDS`` over and over, until a stop or ``max_tokens``."""

    def __init__(self, model: "ScriptedSilo", n_prompt_tokens: int, settings: GenerationSettings) -> None:
        self.n_prompt_tokens = n_prompt_tokens
        self.tokens: tuple[GeneratedToken, ...] = ()
        self.text = ""
        self.finish_reason: str | None = None
        self.context_sources: tuple[ContextSource, ...] = model.context_sources
        self._model = model
        self._settings = settings

    @property
    def datastore_epoch(self) -> int | None:
        return self._model.datastore.epoch if self._model.datastore else None

    def sentences(self) -> tuple[AttributedSentence, ...]:
        return attribute_sentences(self.text, self.tokens)

    def __iter__(self) -> Iterator[GeneratedToken]:
        self._model.n_running += 1
        try:
            for number, word in itertools.islice(itertools.cycle(enumerate(WORDS)), self._settings.max_tokens):
                self._model.before_token()
                if any(stop in word for stop in self._settings.stop):
                    self.finish_reason = "stop"
                    return
                top = ((number, -0.1), ((number + 1) % len(WORDS), float("-inf")))[: self._settings.top_logprobs]
                token = GeneratedToken(number, word, len(self.text), -0.1, top, 0.25, SOURCES)
                self.tokens += (token,)
                self.text += word
                yield token
            self.finish_reason = "length"
        finally:
            self._model.n_running -= 1


class ScriptedSilo:
    """What ``serving.protocols.Model`` asks for."""

    def __init__(self, datastore: MemoryStore | None) -> None:
        self.lm = ScriptedLM()
        self.datastore = datastore
        self.gate: object | None = None
        self.max_verbatim: int | None = None
        self.context_sources: tuple[ContextSource, ...] = ()
        self.asked: list[tuple[str | Sequence[int], GenerationSettings]] = []
        self.n_running = 0
        self.before_token: Callable[[], None] = lambda: None

    def generate(self, prompt: str | Sequence[int], settings: GenerationSettings) -> ScriptedGeneration:
        self.asked.append((prompt, settings))
        n_prompt_tokens = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
        if n_prompt_tokens > self.lm.context_length:
            raise PromptTooLong(f"the prompt must fit {self.lm.context_length} tokens; got {n_prompt_tokens}")
        if not isinstance(prompt, str) and max(prompt) >= len(WORDS):
            raise BadRequest(f"token ids must be below {len(WORDS)}; got {max(prompt)}")
        return ScriptedGeneration(self, n_prompt_tokens, settings)

    def score(self, prompt: str | Sequence[int], settings: GenerationSettings, n_top: int | None) -> ScoredText:
        """Words are tokens; each costs as many nats as there are words before it."""
        pieces = re.findall(r"\s*\S+", prompt) if isinstance(prompt, str) else [WORDS[i] for i in prompt]
        starts = [0, *itertools.accumulate(map(len, pieces))]
        tokens = [
            ScoredToken(i % len(WORDS), piece, start, -float(i), ((0, -0.5), (1, -1.0))[:n_top])
            for i, (piece, start) in enumerate(zip(pieces, starts, strict=False))
        ]
        return ScoredText("".join(pieces), () if n_top is None else tuple(tokens))


def opt_out_on_paper(store: MemoryStore, document: str, now: datetime) -> PaperReceipt:
    store.document(document)
    store.epoch += document not in store.removed
    store.removed.add(document)
    return PaperReceipt(document, now.isoformat())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def silo(store: MemoryStore) -> ScriptedSilo:
    return ScriptedSilo(store)


@pytest.fixture
def engine(silo: ScriptedSilo) -> Engine:
    runners = Runners(silo, slots=3, waiting=0)
    return Engine(silo, makers=runners, opt_out=opt_out_on_paper, clock=lambda: NOON)


@pytest.fixture
def app(engine: Engine) -> Flask:
    return create_app(engine)


@pytest.fixture
def web(app: Flask) -> FlaskClient:
    """Calls the application without a socket."""
    return app.test_client()


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """A real server for ``app`` on a free port; its URL."""
    server = listen(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        # The loop closes its own sockets, between two rounds; it may do so before the call that wakes it is through.
        with suppress(OSError):
            server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map, ignore_all=True))
        thread.join(timeout=10)
        server.task_dispatcher.shutdown()


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with serving(app) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """The official client, pointed at the server."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client
