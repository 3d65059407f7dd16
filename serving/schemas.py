"""The bodies of requests for completions: which fields there are, of which type, and what they mean to silo.

Strict: a field that is not listed is refused, numbers are finite, and nothing is converted quietly.
Ranges of generation settings are checked by ``silo.settings``, which owns them. Knows nothing of HTTP.

Fields that the OpenAI API has and this endpoint does not serve are listed with the one value that
means "not used", because clients send it; any other value is refused with the reason.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from serving.protocols import Prompt
from silo.settings import (
    MAX_LENGTHS,
    MAX_NEIGHBORS,
    MAX_STOPS,
    MAX_SUFFIX,
    GenerationSettings,
    KnnSettings,
    NgramSettings,
    RetrievalSettings,
)

MAX_PROMPTS = 64
MAX_PROMPT_CHARACTERS = 1 << 18
"""Of all prompts together, or tokens: far beyond any context, and still quick to turn down."""
MAX_LOGPROBS = 5
MAX_CHAT_LOGPROBS = 20
MAX_N = 16
"""Completions for one prompt."""
MAX_COMPLETIONS = 128
"""For all prompts of a request together."""
MAX_PASSAGES = 8
"""That are read before a text; each costs a run of the LM."""
MAX_MESSAGES = 256

_TOKEN_ID = {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}
_PROMPT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _TOKEN_ID, "minItems": 1}]}
_PROMPTS = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": _TOKEN_ID, "minItems": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_PROMPTS},
        {
            "type": "array",
            "items": {"type": "array", "items": _TOKEN_ID, "minItems": 1},
            "minItems": 1,
            "maxItems": MAX_PROMPTS,
        },
    ]
}
_STOP = {"type": "string", "minLength": 1, "maxLength": 1000}
_STOPS = {"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}]}


def _prompts(value: object) -> tuple[Prompt, ...]:
    """The four shapes of a prompt as one: a tuple of texts and tuples of token ids."""
    found = _shaped(value)
    if sum(map(len, found)) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"must have at most {MAX_PROMPT_CHARACTERS:,} characters or token ids in all")
    return found


def _shaped(value: object) -> tuple[Prompt, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(_is_token_id(item) for item in value):
            return (tuple(value),)
        if len(value) <= MAX_PROMPTS:
            if all(isinstance(item, str) for item in value):
                return tuple(value)
            if all(isinstance(item, list) and item and all(map(_is_token_id, item)) for item in value):
                return tuple(tuple(item) for item in value)
    raise ValueError(
        f"must be a text, a list of token ids, or a list of 1 to {MAX_PROMPTS} of either; token ids are integers from 0"
    )


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _stops(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("must be a text or a list of texts")


def _only(allowed: object, reason: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Accept the one value that means "not used"."""

    def check(value: object) -> object:
        if value != allowed:
            raise ValueError(f"must be {allowed!r} or left out: {reason}")
        return value

    return AfterValidator(check), WithJsonSchema({"const": allowed, "description": f"Not used: {reason}."})


def _range(least: float, most: float) -> Any:
    """Tell a range in the description of the API; ``silo.settings`` owns it and checks it."""
    return Field(json_schema_extra={"minimum": least, "maximum": most})


Prompts = Annotated[Any, PlainValidator(_prompts), WithJsonSchema(_PROMPTS)]
Stops = Annotated[Any, PlainValidator(_stops), WithJsonSchema(_STOPS)]
_PENALTY = "penalties would change what attributions account for"
_BIAS = "biases would change what attributions account for"


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class StreamOptions(Body):
    """What a stream carries besides text."""

    include_usage: bool = False


class KnnOptions(Body):
    """How the datastore takes part; see ``silo.settings.KnnSettings`` for units and ranges."""

    k: Annotated[int, _range(1, MAX_NEIGHBORS)] = KnnSettings.k
    weight: Annotated[float, _range(0, 1)] | None = KnnSettings.weight
    temperature: Annotated[float, _range(1e-6, 1e9)] | None = None
    n_probe: Annotated[int, _range(1, 1 << 20)] = KnnSettings.n_probe


class NgramOptions(Body):
    """How the last tokens are looked up in the datastore; see ``silo.settings.NgramSettings``."""

    weight: Annotated[float, _range(0, 1)] | None = NgramSettings.weight
    lengths: Annotated[list[Annotated[int, _range(1, MAX_SUFFIX)]], Field(min_length=1, max_length=MAX_LENGTHS)] = [
        *NgramSettings.lengths
    ]
    min_length: Annotated[int, _range(1, MAX_SUFFIX)] = NgramSettings.min_length


class RetrievalOptions(Body):
    """Which passages of the datastore the LM reads first; see ``silo.settings.RetrievalSettings``."""

    n_passages: Annotated[int, Field(ge=0, le=MAX_PASSAGES)] = RetrievalSettings.n_passages
    """0: none are read."""
    scorer: Literal["bm25", "dense", "fused"] = "bm25"
    query_tokens: Annotated[int, _range(1, 4096)] = RetrievalSettings.query_tokens
    stride: Annotated[int, _range(1, 1 << 20)] = RetrievalSettings.stride
    join: Literal["newline", "boundary"] = "newline"
    ensemble: Literal["uniform", "score"] = "uniform"


class Sampled(Body):
    """What requests for completions have in common."""

    model: str | None = None
    """None asks for whichever is served."""
    temperature: Annotated[float, _range(0, 100)] = 1.0
    top_p: Annotated[float, _range(1e-6, 1)] = 1.0
    n: Annotated[int, Field(ge=1, le=MAX_N)] = 1
    """Completions for each prompt; the one of index *i* is drawn with the seed + *i*."""
    stop: Stops = ()
    seed: Annotated[int, _range(-(1 << 63), (1 << 63) - 1)] | None = None
    """None draws one."""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: str | None = None
    """Accepted and ignored."""

    attributions: bool = False
    """Whether choices carry the sources of each sentence."""
    deterministic: bool = False
    """Whether the bits of the answer must not depend on what else is served meanwhile; slower in company."""
    knn: KnnOptions = KnnOptions()
    ngram: NgramOptions = NgramOptions()
    retrieval: RetrievalOptions = RetrievalOptions(n_passages=0)
    """Passages that the LM reads before the text; none where left out."""
    gate: bool | None = None
    """Whether the server's gate decides the shares of each token; null lets it where no share is given."""
    max_verbatim: Annotated[int, _range(1, 1 << 20)] | None = None
    """Tokens in a row that may be shared with high-risk text: the server's limit, or fewer."""
    draft: bool = False
    """Whether text that is being copied is read ahead: the same tokens, and faster where the text is read alone."""

    presence_penalty: Annotated[float, *_only(0, _PENALTY)] = 0
    frequency_penalty: Annotated[float, *_only(0, _PENALTY)] = 0
    logit_bias: Annotated[dict[str, Any], *_only({}, _BIAS)] = {}

    @model_validator(mode="after")
    def _check_gate(self) -> Self:
        if self.gate and (self.knn.weight is not None or self.ngram.weight is not None):
            raise ValueError("the gate decides the shares: leave gate out, or knn.weight and ngram.weight")
        return self

    def sampling(
        self, seed: int, max_tokens: int, stop: tuple[str, ...], n_top: int | None, *, is_ranked: bool = False
    ) -> GenerationSettings:
        """As silo takes them; ``seed`` is used where the request has none. Raises silo's BadRequest.

        ``is_ranked``: the answers are compared, so that their log-probabilities are needed though nobody sees them.
        """
        retrieval = self.retrieval.model_dump()
        settings = GenerationSettings(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=stop,
            seed=seed if self.seed is None else self.seed,
            top_logprobs=n_top or 0,
            knn=KnnSettings(**self.knn.model_dump()),
            ngram=NgramSettings(self.ngram.weight, tuple(self.ngram.lengths), self.ngram.min_length),
            retrieval=RetrievalSettings(**retrieval) if retrieval["n_passages"] else None,
            max_verbatim=self.max_verbatim,
            logprobs=n_top is not None or self.attributions or is_ranked,
            draft=self.draft,
        )
        return settings if self.gate is not False else _with_fixed_shares(settings)


def _with_fixed_shares(settings: GenerationSettings) -> GenerationSettings:
    """``settings`` that name the shares which they have anyhow, so that no gate decides them."""
    shares = settings.shares
    return replace(
        settings,
        knn=replace(settings.knn, weight=shares.knn),
        ngram=replace(settings.ngram, weight=shares.ngram),
    )


class CompletionRequest(Sampled):
    """The body of ``POST /v1/completions``."""

    prompt: Prompts
    """A tuple of ``Prompt`` once validated."""
    max_tokens: Annotated[int, _range(0, 1 << 20)] = 16
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    """How many of the likeliest tokens to report; 0 reports the chosen tokens alone."""
    echo: bool = False
    """Whether choices begin with the prompt, scored where ``logprobs`` are asked for."""
    best_of: Annotated[int, Field(ge=1, le=MAX_N)] | None = None
    """Completions made for each prompt, of which the ``n`` likeliest by token are the answer; ``n`` where left out."""
    suffix: Annotated[str, *_only("", "text is only continued, not filled in")] = ""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of must be at least n, which is {self.n}; got {self.best_of}")
        if self.stream and self.n_made > self.n:
            raise ValueError("best_of must not be above n in a stream: the best is known at the end. Leave one out")
        if len(self.prompt) * self.n_made > MAX_COMPLETIONS:
            raise ValueError(
                f"a request may make {MAX_COMPLETIONS} completions; "
                f"got {len(self.prompt)} prompts of {self.n_made} each"
            )
        if self.echo and self.logprobs is not None and self.retrieval.n_passages:
            raise ValueError("an echoed prompt is scored without passages: leave out retrieval, or echo or logprobs")
        return self

    @property
    def n_made(self) -> int:
        """Completions to make for each prompt."""
        return self.n if self.best_of is None else self.best_of

    def settings(self, seed: int) -> GenerationSettings:
        """As silo takes them. Raises silo's BadRequest."""
        return self.sampling(seed, self.max_tokens, self.stop, self.logprobs, is_ranked=self.n_made > self.n)


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(Body):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None
    """Accepted and ignored."""

    @property
    def text(self) -> str:
        """What was said."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class TextFormat(Body):
    """The one format of answers."""

    type: Literal["text"] = "text"


class ChatRequest(Sampled):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int, _range(0, 1 << 20)] | None = None
    max_completion_tokens: Annotated[int, _range(0, 1 << 20)] | None = None
    """Another name for ``max_tokens``; without either there are 256, or as many as there is room for."""
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_CHAT_LOGPROBS)] | None = None
    """How many of the likeliest tokens to report; needs ``logprobs``."""
    response_format: TextFormat = TextFormat()
    tools: Annotated[list[Any], *_only([], "no tools are called")] = []
    store: Annotated[bool, *_only(False, "answers are not kept")] = False

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        if len(self.stop) >= MAX_STOPS:
            raise ValueError(f"stop may have {MAX_STOPS - 1} texts here: the template needs one of {MAX_STOPS}")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens are one setting; leave one out")
        if sum(len(message.text) for message in self.messages) > MAX_PROMPT_CHARACTERS:
            raise ValueError(f"the messages may have {MAX_PROMPT_CHARACTERS:,} characters in all")
        return self
