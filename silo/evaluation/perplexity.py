"""Any LM with any predictors on any domain: traces in, tuned choices or figures out.

Reads documents one at a time and shows how far it has come; what was traced before is not traced again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from datastore.store import Datastore
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation import in_context
from silo.evaluation.in_context import InContext
from silo.evaluation.likelihood import DocumentScore, difference, likelihood
from silo.evaluation.protocol import Setup, Tuned
from silo.evaluation.traces import Trace, TraceSettings, joined, traces
from silo.evaluation.tuning import GATED, PREDICTORS, TUNED, Choice, gate_logprobs, logprobs, tune
from silo.gate import Gate
from silo.lm import LanguageModel
from silo.settings import RetrievalSettings

Seen = TypeVar("Seen", Trace, InContext)


@dataclass(frozen=True)
class Measured:
    """An LM, alone or with a store and a gate, and what a pass looks at."""

    lm: LanguageModel
    store: Datastore | None = None
    gate: Gate | None = None
    settings: TraceSettings = TraceSettings()  # noqa: RUF009, frozen
    cache: Path | None = None
    retrieval: RetrievalSettings | None = None
    """How the LM reads passages first, where that is measured too: it costs far more than the rest."""

    def __post_init__(self) -> None:
        if self.store is not None and self.store.manifest.encoder != self.lm.fingerprint:
            raise BadRequest(f"the store at {self.store.path} was written by another LM than {self.lm.name!r}")
        if self.gate is not None:
            self.gate.check_encoder(self.lm.fingerprint)
            if self.gate.components != self.settings.components:
                raise BadRequest("a gate is measured with the components that it was fitted for")

    @property
    def setup(self) -> Setup:
        """As a frozen run names it."""
        store, epoch = ("", 0) if self.store is None else (self.store.id, self.store.epoch)
        gate = "" if self.gate is None else self.gate.digest
        return Setup(self.lm.fingerprint, store, epoch, gate, self.settings, self.retrieval)

    @property
    def predictors(self) -> tuple[str, ...]:
        """All that can be measured: the LM's alone without a store, and the gate's only with a gate."""
        if self.store is None:
            return ("lm",)
        known = tuple(name for name in PREDICTORS if self.gate is not None or name not in GATED)
        return known if self.retrieval is None else (*known, *in_context.PREDICTORS)


def look(measured: Measured, documents: Iterable[Document], name: str) -> tuple[Trace, tuple[str, ...]]:
    """The trace of ``documents``, and their digests; a line tells how far it has come."""
    digests: list[str] = []

    def noted() -> Iterator[Document]:
        for document in documents:
            digests.append(document.digest)
            yield document

    found = traces(measured.lm, measured.store, noted(), measured.settings, measured.cache)
    return joined(list(_shown(found, name))), tuple(digests)


def look_in_context(measured: Measured, documents: Iterable[Document], name: str) -> InContext | None:
    """What the LM gave to the tokens of ``documents`` after passages; None where that is not measured."""
    if measured.retrieval is None or measured.store is None:
        return None
    found = in_context.all_in_context(measured.lm, measured.store, documents, measured.retrieval, measured.cache)
    return in_context.joined(_shown(found, f"{name}, after passages"))


def tuned(
    measured: Measured,
    seen: Trace,
    digests: Sequence[str],
    predictors: Sequence[str],
    after_passages: InContext | None = None,
) -> Tuned:
    """What ``seen`` chooses for those of ``predictors`` that are tuned."""
    choices = {name: tune(name, seen, measured.settings) for name in predictors if name in TUNED}
    if after_passages is not None and "ric+lm" in predictors:
        share = in_context.best_share(seen.lm_gold, after_passages)
        choices["ric+lm"] = Choice("ric+lm", shares=(1 - share, share))
    return Tuned(choices, tuple(digests))


def figures(
    measured: Measured,
    seen: Trace,
    predictors: Sequence[str],
    choices: Mapping[str, Choice],
    seed: int = 0,
    after_passages: InContext | None = None,
) -> list[dict[str, Any]]:
    """A row of figures for each predictor, with its gain over the LM and over the tuned kNN-LM.

    Raises:
        BadRequest: a predictor is unknown, cannot be measured here, or needs a choice that nobody made.
    """
    scores: dict[str, list[DocumentScore]] = {}
    for name in dict.fromkeys(chain(["lm"], predictors)):
        if name not in measured.predictors:
            raise BadRequest(f"predictors that can be measured here: {', '.join(measured.predictors)}; got {name!r}")
        if name in GATED:
            assert measured.gate is not None
            scores[name] = seen.scores(gate_logprobs(measured.gate, name, seen))
        elif name == "ric" and after_passages is not None:
            scores[name] = seen.scores(after_passages.gold)
        elif name == "ric+lm" and name in choices and after_passages is not None:
            scores[name] = seen.scores(in_context.with_lm(seen.lm_gold, after_passages, choices[name].shares[1]))
        elif name == "lm":
            scores[name] = seen.scores(logprobs(Choice("lm"), seen, measured.settings))
        elif name in choices and name in TUNED:
            scores[name] = seen.scores(logprobs(choices[name], seen, measured.settings))
        else:
            raise BadRequest(f"{name!r} is tuned: give a frozen run with --frozen, or tune it on validation text")
    rows = []
    for name in predictors:
        row: dict[str, Any] = {"predictor": name} | asdict(likelihood(scores[name], seed))
        if name in choices:
            row["choice"] = asdict(choices[name])
        row["gain_over_lm"] = asdict(difference(scores[name], scores["lm"], seed))
        if "knn" in scores:
            row["gain_over_knn"] = asdict(difference(scores[name], scores["knn"], seed))
        rows.append(row)
    return rows


def merged(documents: Iterable[Document], domain: str) -> list[Document]:
    """All of them as one text without separators, as the paper evaluates; for comparison only."""
    return [Document(f"{domain}/merged", "".join(document.text for document in documents))]


def _shown(found: Iterator[Seen], name: str) -> Iterator[Seen]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True) as progress:
        task = progress.add_task(name)
        n_tokens = 0
        for n, one in enumerate(found, start=1):
            yield one
            n_tokens += len(one.lm_gold if isinstance(one, Trace) else one.gold)
            progress.update(task, description=f"{name}: {n:,} documents, {n_tokens:,} tokens")
