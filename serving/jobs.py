"""What a request for completions is to those who make them, and what they tell while they do.

Facts alone: knows neither HTTP nor models, nor whether the maker is a thread or another process.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from serving.protocols import Prompt
from silo.attribution import ContextSource, GeneratedToken
from silo.documents import Document
from silo.scored import ScoredText
from silo.settings import GenerationSettings

if TYPE_CHECKING:
    from silo.ingested import Ingested


@dataclass(frozen=True)
class Job:
    """One completion to be made."""

    prompt: Prompt
    settings: GenerationSettings
    is_echoed: bool = False
    """Whether the prompt is told before its continuation."""
    n_echoed_top: int | None = None
    """With ``is_echoed``: how many of the likeliest tokens to tell in each place; None scores nothing."""
    is_alone: bool = False
    """Whether its bits must not depend on what else is made meanwhile."""


@dataclass(frozen=True)
class Read:
    """The prompt of a job has been read; told only where the job asks for it."""

    job: int
    scored: ScoredText


@dataclass(frozen=True)
class Made:
    """A token of a job."""

    job: int
    token: GeneratedToken
    epoch: int | None
    """The version of the datastore that it was made with; None without one."""
    context_sources: tuple[ContextSource, ...] = ()
    """What the LM read before the text so far; told only where that has grown."""


@dataclass(frozen=True)
class Ended:
    """A job is done."""

    job: int
    finish_reason: str | None
    n_prompt_tokens: int
    epoch: int | None
    context_sources: tuple[ContextSource, ...] = ()
    """What the LM read before the text."""


Event: TypeAlias = Read | Made | Ended


class Run(Protocol):
    """The jobs of one request in the making."""

    def events(self) -> Iterator[Event]:
        """What happens to the jobs, in order for each of them and mixed among them; raises what a job raised.

        Ends early when the client has left.
        """
        ...

    def close(self) -> None:
        """Stop what is still being made. Once is enough, more does no harm."""
        ...


class Makers(Protocol):
    """Whoever makes completions: threads here, or another process."""

    def start(self, jobs: Sequence[Job], has_left: Callable[[], bool] = lambda: False) -> Run:
        """Check the jobs of a request and begin them. Raises Busy, Stopping, PromptTooLong and BadRequest."""
        ...

    def ingest(self, documents: Sequence[Document]) -> "Ingested":
        """Encode and add documents. Raises DuplicateDocument and WriterBusy."""
        ...

    def close(self) -> None:
        """Begin no more, and end what is being made soon; waits for nothing."""
        ...

    def join(self, seconds: float) -> None:
        """After ``close``, wait until nothing is made any more."""
        ...

    @property
    def n_requests(self) -> int:
        """Requests that are being answered or wait."""
        ...

    @property
    def n_waiting(self) -> int:
        """Completions that wait to be begun."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why no completions can be made; None where they can."""
        ...

    @property
    def store_trouble(self) -> str | None:
        """Why they make completions without the datastore that they were given; None where they do not."""
        ...
