"""The bodies of requests: which fields there are, of which type, and what they mean to silo.

Strict: a field that is not listed is refused, numbers are finite, and nothing is converted quietly.
Ranges of generation settings are checked by ``silo.settings``, which owns them. Knows nothing of HTTP.

Fields that the OpenAI API has and this endpoint does not serve are listed with the one value that
means "not used", because clients send it; any other value is refused with the reason.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from serving.protocols import Prompt
from silo.documents import MAX_ID_CHARACTERS
from silo.settings import GenerationSettings, KnnSettings

MAX_PROMPTS = 64
MAX_LOGPROBS = 5


def _prompts(value: object) -> tuple[Prompt, ...]:
    """The four shapes of a prompt as one: a tuple of texts and tuples of token ids."""
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


def _only(allowed: object, reason: str) -> AfterValidator:
    """Accept the one value that means "not used"."""

    def check(value: object) -> object:
        if value != allowed:
            raise ValueError(f"must be {allowed!r} or left out: {reason}")
        return value

    return AfterValidator(check)


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class StreamOptions(Body):
    """What a stream carries besides text."""

    include_usage: bool = False


class KnnOptions(Body):
    """How the datastore takes part; see ``silo.settings.KnnSettings`` for units and ranges."""

    k: int = KnnSettings.k
    weight: float | None = KnnSettings.weight
    temperature: float | None = None
    n_probe: int = KnnSettings.n_probe


class CompletionRequest(Body):
    """The body of ``POST /v1/completions``."""

    prompt: Annotated[Any, PlainValidator(_prompts)]
    """A tuple of ``Prompt`` once validated."""
    model: str | None = None
    """None asks for whichever is served."""
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    stop: Annotated[Any, PlainValidator(_stops)] = ()
    seed: int | None = None
    """None draws one."""
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    """How many of the likeliest tokens to report; 0 reports the chosen tokens alone."""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: str | None = None
    """Accepted and ignored."""

    attributions: bool = False
    """Whether choices carry the sources of each sentence."""
    knn: KnnOptions = KnnOptions()

    n: Annotated[int, _only(1, "one completion a prompt")] = 1
    best_of: Annotated[int, _only(1, "one completion a prompt")] = 1
    echo: Annotated[bool, _only(False, "the prompt is not repeated or scored")] = False
    suffix: Annotated[str, _only("", "text is only continued, not filled in")] = ""
    presence_penalty: Annotated[float, _only(0, "penalties would change what attributions account for")] = 0
    frequency_penalty: Annotated[float, _only(0, "penalties would change what attributions account for")] = 0
    logit_bias: Annotated[dict[str, Any], _only({}, "biases would change what attributions account for")] = {}

    def settings(self, seed: int) -> GenerationSettings:
        """As silo takes them; ``seed`` is used where the request has none. Raises silo's BadRequest."""
        return GenerationSettings(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=self.stop,
            seed=seed if self.seed is None else self.seed,
            top_logprobs=self.logprobs or 0,
            knn=KnnSettings(**self.knn.model_dump()),
        )


class OptOutRequest(Body):
    """The body of ``POST /v1/optouts``."""

    document: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS)]
