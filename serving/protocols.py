"""What serving needs of a model and its datastore, and no more.

``silo.generation.Silo`` with ``datastore.store.Datastore`` is the real one; the tests have a scripted
one. What is not written here, the endpoints do not use.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from datastore.records import StoredDocument
from silo.attribution import AttributedSentence, ContextSource, GeneratedToken
from silo.scored import ScoredText
from silo.settings import GenerationSettings

Prompt = str | tuple[int, ...]


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that names single tokens."""

    def decode(self, token_ids: list[int]) -> str:
        """The text of some tokens."""
        ...


class LanguageModel(Protocol):
    """The parametric half."""

    @property
    def name(self) -> str:
        """What clients call it."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Names its tokens."""
        ...


class Store(Protocol):
    """The datastore, as far as it is shown to anybody."""

    @property
    def id(self) -> str:
        """Which datastore this is."""
        ...

    @property
    def epoch(self) -> int:
        """Its version: rises with every change."""
        ...

    def document(self, id: str) -> StoredDocument:  # noqa: A002
        """Facts and state. Raises UnknownDocument."""
        ...

    def sentence_text(self, document: str, sentence: int) -> str:
        """One sentence. Raises UnknownDocument where the document was removed."""
        ...


class Generation(Protocol):
    """One completion in the making; iterating it makes it, once."""

    def __iter__(self) -> Iterator[GeneratedToken]: ...

    @property
    def n_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        ...

    @property
    def text(self) -> str:
        """The completion so far."""
        ...

    @property
    def tokens(self) -> Sequence[GeneratedToken]:
        """The tokens so far."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """``stop`` or ``length`` after the end."""
        ...

    @property
    def datastore_epoch(self) -> int | None:
        """The version of the datastore that answered last; None without one."""
        ...

    @property
    def context_sources(self) -> Sequence[ContextSource]:
        """What the LM read before the text so far."""
        ...

    def sentences(self) -> Sequence[AttributedSentence]:
        """The sentences so far with their sources."""
        ...


class Served(Protocol):
    """What is told of a model and its datastore, whoever makes the completions."""

    @property
    def lm(self) -> LanguageModel:
        """The parametric half."""
        ...

    @property
    def datastore(self) -> Store | None:
        """The other half, where there is one."""
        ...

    @property
    def gate(self) -> object | None:
        """What decides the shares of each token, where there is one."""
        ...

    @property
    def max_verbatim(self) -> int | None:
        """Tokens in a row that may be shared with high-risk text; None: as a request says."""
        ...


class Model(Served, Protocol):
    """The LM joined with a datastore."""

    def generate(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generation:
        """Begin a completion. Raises PromptTooLong and BadRequest before the first token."""
        ...

    def score(self, prompt: str | Sequence[int], settings: GenerationSettings, n_top: int | None) -> ScoredText:
        """The text of a prompt, and unless ``n_top`` is None its tokens' log-probabilities. Raises as ``generate``."""
        ...


class Receipt(Protocol):
    """The signed record of a removal."""

    def to_json(self) -> dict[str, Any]:
        """The receipt as its verifier reads it."""
        ...
