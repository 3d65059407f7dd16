"""The recipe of a training run: one TOML file, read into the dataclass that owns each part.

Facts and their ranges; opens one file and knows nothing of how they are used. Keys are strict:
a misspelled one is an error that names the allowed ones, never a default that nobody asked for.

Why a time budget needs the ``wsd`` schedule: until its decay begins, its learning rate does not depend
on how long the run will be. So a run bounded by ``minutes`` chooses its length when the decay begins,
from the speed that it had, and a run with the token count that came out repeats it exactly.
"""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from silo import overlap
from silo.licenses import PERMISSIVE, RiskClass
from training.errors import BadRecipe

SCHEDULES = ("cosine", "wsd")
OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class AdmissionRecipe:
    """Which licensed text trains."""

    classes: tuple[str, ...]
    """Risk classes that are admitted, of PD, SW and BY."""
    validation_share: float = 0.02
    """Share of the admitted documents that is held out, chosen by digest; none where the recipe lists validation."""
    baseline: str = ""
    """Why HIGH_RISK trains too, where it does: only for a model that others are measured against. Its manifest
    says so, and nothing serves it or builds a datastore with it."""

    def __post_init__(self) -> None:
        allowed = [str(risk) for risk in PERMISSIVE]
        if self.baseline:
            allowed.append(str(RiskClass.HIGH_RISK))
        elif str(RiskClass.HIGH_RISK) in self.classes:
            raise BadRecipe(
                "admission.classes names HIGH_RISK. High-risk text may never train what is served: put it into a "
                f"datastore instead. Allowed: {', '.join(allowed)}. A baseline, which is only measured, may have it "
                "and says why in admission.baseline."
            )
        if not self.classes or not set(self.classes) <= set(allowed):
            raise BadRecipe(f"admission.classes must name one or more of {', '.join(allowed)}; got {self.classes!r}")
        _within("admission.validation_share", self.validation_share, 0.0, 0.5)


@dataclass(frozen=True)
class CleaningRecipe:
    """Which admitted text is worth learning from; see `training.cleaning`. The defaults pass prose, code and math."""

    min_characters: int = 64
    max_broken_share: float = 0.001
    """Of the characters, those that stand for bytes that could not be decoded."""
    max_symbol_share: float = 0.6
    """Of the visible characters, those that are neither letters nor digits."""
    max_encoded_share: float = 0.2
    """Of the characters, those in runs of 200 or more without white space."""
    max_repeated_line_share: float = 0.6
    """Of the characters in lines, those in lines that came before in the document."""
    max_repeated_run_share: float = 0.6
    """Of the runs of eight words, those that came before in the document."""
    max_other_script_share: float = 0.2
    """Of the letters, those that are neither Latin nor Greek."""
    max_foreign_share: float = 0.08
    """Of the words, function words of other languages, where they outnumber the English ones."""

    def __post_init__(self) -> None:
        _within("cleaning.min_characters", self.min_characters, 0, 1 << 20)
        for item in dataclasses.fields(self):
            if item.name.endswith("_share"):
                _within(f"cleaning.{item.name}", getattr(self, item.name), 0.0, 1.0)


@dataclass(frozen=True)
class DeduplicationRecipe:
    """When a text repeats an earlier one, in the order of the recipe's data."""

    threshold: float = 0.8
    """Jaccard similarity of the sets of word runs, as MinHash estimates it, from which a text is dropped."""
    n: int = 5
    """Words in a run."""
    min_runs: int = 20
    """Texts with fewer distinct runs are compared exactly only: so small a set says little."""

    def __post_init__(self) -> None:
        _within("deduplication.threshold", self.threshold, 0.5, 1.0)
        _within("deduplication.n", self.n, 1, 64)
        _within("deduplication.min_runs", self.min_runs, 1, 1 << 20)


@dataclass(frozen=True)
class DecontaminationRecipe:
    """Which evaluations the training text may not repeat; see `silo.overlap`."""

    evaluations: tuple[str, ...] = ()
    """Locations of evaluation text, as in ``data``. It trains nothing."""
    n: int = overlap.N
    """Words in a run."""
    max_share: float = overlap.MAX_SHARE
    """Of a document's runs, those that occur in one evaluation."""
    max_words: int = overlap.MAX_WORDS
    """Length of one passage that occurs there."""

    def __post_init__(self) -> None:
        _within("decontamination.n", self.n, 1, 1000)
        _within("decontamination.max_share", self.max_share, 0.0, 1.0)
        _within("decontamination.max_words", self.max_words, 0, 1 << 31)


@dataclass(frozen=True)
class DataRecipe:
    """One place that documents are read from, and what they get where they state nothing; or a declared source."""

    location: str = ""
    """Relative to the data folder, where ``*`` stands for any name; or ``hf:owner/name``."""
    license: str = ""
    source: str = ""
    owner: str = ""
    text_field: str = "text"
    split: str = "train"
    declared: str | None = None
    """``collection/name`` of a source that is declared; see `silo.declarations`. It states all that is above."""

    def __post_init__(self) -> None:
        if self.declared is None and not self.location:
            raise BadRecipe("[[data]] needs a location, or names a source in declared")
        others = [item for item in dataclasses.fields(self) if item.name != "declared"]
        if self.declared is not None and any(getattr(self, item.name) != item.default for item in others):
            raise BadRecipe(f"[[data]] with declared = {self.declared!r} has no other key; its declaration states them")


@dataclass(frozen=True)
class VocabularyRecipe:
    """The tokenizer: a byte-level BPE."""

    size: int = 4096
    """Tokens, of which 256 are the bytes and one is the document boundary."""
    checkpoint: str = ""
    """A checkpoint whose tokenizer is taken instead of training one, so that models can be compared token by token;
    relative to the new checkpoint's folder. ``size`` must be its size."""

    def __post_init__(self) -> None:
        _within("vocabulary.size", self.size, 257, 1 << 20)


@dataclass(frozen=True)
class ModelRecipe:
    """The LM's shape: LLaMA with tied embeddings and no biases."""

    hidden_size: int
    n_layers: int
    n_heads: int
    intermediate_size: int
    n_kv_heads: int | None = None
    """Key-value heads of grouped-query attention; without it as many as ``n_heads``."""
    context: int = 512
    """Tokens that the LM sees at once."""
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "n_layers", "n_heads", "intermediate_size", "context"):
            _within(f"model.{name}", getattr(self, name), 1, 1 << 20)
        if self.hidden_size % self.n_heads or (self.hidden_size // self.n_heads) % 2:
            raise BadRecipe(
                "model.hidden_size must be an even multiple of model.n_heads; "
                f"got {self.hidden_size} and {self.n_heads}"
            )
        if self.n_kv_heads is not None and (self.n_kv_heads < 1 or self.n_heads % self.n_kv_heads):
            raise BadRecipe(f"model.n_kv_heads must divide n_heads = {self.n_heads}; got {self.n_kv_heads}")


@dataclass(frozen=True)
class StartRecipe:
    """What training begins with, where it is not random weights."""

    checkpoint: str = ""
    """A checkpoint of the same shape that is trained further, relative to the new checkpoint's folder. Only for a
    baseline: a licensed checkpoint's data card would lack what trained this one."""


@dataclass(frozen=True)
class OptimizerRecipe:
    """How gradients become updates, and the course of the learning rate."""

    learning_rate: float = 1e-3
    """At its highest."""
    schedule: str = "cosine"
    """``cosine``, or ``wsd``: warm-up, stable, decay in a straight line."""
    warmup_steps: int = 100
    decay_share: float = 0.3
    """Share of the steps in which ``wsd`` decays."""
    final_share: float = 0.1
    """Last learning rate as a share of the highest."""
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    """Of matrices; norms have none."""
    max_gradient_norm: float = 1.0
    kind: str = "adamw"
    """``adamw`` (Loshchilov and Hutter 2019), or ``muon`` (Jordan et al. 2024) for the matrices between the
    embeddings, with AdamW for the rest. Muon's updates are scaled to AdamW's size, so both take one learning rate."""

    def __post_init__(self) -> None:
        if self.kind not in OPTIMIZERS:
            raise BadRecipe(f"optimizer.kind must be one of {', '.join(OPTIMIZERS)}; got {self.kind!r}")
        if self.schedule not in SCHEDULES:
            raise BadRecipe(f"optimizer.schedule must be one of {', '.join(SCHEDULES)}; got {self.schedule!r}")
        _within("optimizer.learning_rate", self.learning_rate, 1e-9, 10.0)
        _within("optimizer.warmup_steps", self.warmup_steps, 0, 1 << 31)
        _within("optimizer.decay_share", self.decay_share, 0.01, 0.99)
        _within("optimizer.final_share", self.final_share, 0.0, 1.0)
        _within("optimizer.beta1", self.beta1, 0.0, 0.99999)
        _within("optimizer.beta2", self.beta2, 0.0, 0.99999)
        _within("optimizer.weight_decay", self.weight_decay, 0.0, 10.0)
        _within("optimizer.max_gradient_norm", self.max_gradient_norm, 1e-6, 1e6)


@dataclass(frozen=True)
class LoopRecipe:
    """How long, in what pieces, from which seed. Exactly one of ``tokens`` and ``minutes`` is given."""

    batch_size: int
    """Windows of ``model.context`` tokens in a step."""
    tokens: int | None = None
    """Stop after so many training tokens, rounded up to a step. Repeats bit for bit on one machine's CPU."""
    minutes: float | None = None
    """Stop after so much training time. How many tokens that is depends on the machine; the manifest says."""
    precision: str = "fp32"
    """Of the matrix products in training: ``fp32``, or ``bf16``, faster where the processor has it. Weights,
    optimizer and losses are float32 in both."""
    seed: int = 0
    checkpoint_seconds: float = 60.0
    """A killed run loses at most this much."""
    checkpoint_steps: int | None = None
    validate_steps: int | None = None
    """Steps between validations; without it only at the end."""
    validation_windows: int = 64
    """Windows of held-out text in a validation, at most."""
    patience: int | None = None
    """Stop after so many validations in a row without a lower loss, and keep the weights that had the lowest."""

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.minutes is None):
            raise BadRecipe(
                "loop must give exactly one of tokens and minutes; "
                f"got tokens = {self.tokens} and minutes = {self.minutes}"
            )
        if self.precision not in PRECISIONS:
            raise BadRecipe(f"loop.precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        for name in ("batch_size", "tokens", "checkpoint_steps", "validate_steps", "validation_windows", "patience"):
            if (value := getattr(self, name)) is not None:
                _within(f"loop.{name}", value, 1, 1 << 62)
        if self.minutes is not None:
            _within("loop.minutes", self.minutes, 1e-3, 1e6)
        _within("loop.seed", self.seed, 0, (1 << 63) - 1)
        _within("loop.checkpoint_seconds", self.checkpoint_seconds, 0.0, 1e9)
        if self.patience is not None and self.validate_steps is None:
            raise BadRecipe("loop.patience counts validations: give loop.validate_steps too")


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    name: str
    admission: AdmissionRecipe
    data: tuple[DataRecipe, ...]
    model: ModelRecipe
    loop: LoopRecipe
    cleaning: CleaningRecipe = field(default_factory=CleaningRecipe)
    deduplication: DeduplicationRecipe = field(default_factory=DeduplicationRecipe)
    decontamination: DecontaminationRecipe = field(default_factory=DecontaminationRecipe)
    vocabulary: VocabularyRecipe = field(default_factory=VocabularyRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    start: StartRecipe = field(default_factory=StartRecipe)
    validation: tuple[DataRecipe, ...] = ()
    """Documents that only validate, through the same gate; without any, a share of the admitted ones does."""

    def __post_init__(self) -> None:
        if not self.data:
            raise BadRecipe("a recipe needs at least one [[data]] with a location")
        if self.loop.minutes is not None and self.optimizer.schedule != "wsd":
            raise BadRecipe(
                'a run bounded by minutes needs optimizer.schedule = "wsd", whose length is open until it decays; '
                f"got {self.optimizer.schedule!r}"
            )
        if self.start.checkpoint and not self.admission.baseline:
            raise BadRecipe("start.checkpoint is for baselines: say why in admission.baseline, or leave it out")
        if self.start.checkpoint and self.vocabulary.checkpoint != self.start.checkpoint:
            raise BadRecipe(
                f"what starts from {self.start.checkpoint!r} has its tokenizer: give vocabulary.checkpoint the same"
            )

    @property
    def tokens_per_step(self) -> int:
        """Training tokens in one step."""
        return self.loop.batch_size * self.model.context


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file ``path``.

    Raises:
        BadRecipe: the file is missing or no TOML, or a key is unknown, missing, or of a wrong type or range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecipe(f"no recipe at {path}: {error.strerror}. Recipes of this package: training/recipes/") from error
    except ValueError as error:
        raise BadRecipe(f"{path} is not TOML: {error}") from error
    try:
        return parse_recipe(table)
    except BadRecipe as error:
        raise BadRecipe(f"{path}: {error}") from None


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """The recipe in a parsed TOML ``table``. Raises BadRecipe as ``read_recipe`` does."""
    return _parse(Recipe, table, "")


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values, defaults included; ``parse_recipe`` reads it back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items() if item is not None}
        return [plain(item) for item in value] if isinstance(value, tuple | list) else value

    return plain(dataclasses.asdict(recipe))


_T = TypeVar("_T")


def _parse(kind: type[_T], table: Any, place: str) -> _T:
    """An instance of the dataclass ``kind`` from ``table``, every key and type checked."""
    if not isinstance(table, Mapping):
        raise BadRecipe(f"{place or 'a recipe'} must be a table; got {table!r:.80}")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(fields)):
        raise BadRecipe(f"unknown key {_dotted(place, unknown[0])!r}; allowed here: {', '.join(fields)}")
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in table]:
        raise BadRecipe(f"the key {_dotted(place, missing[0])!r} is missing; required here: {', '.join(required)}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, _dotted(place, name)) for name, value in table.items()})


def _value(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _parse(typing.cast(type, hint), value, place)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise BadRecipe(f"{place} must be a list; got {value!r:.80}")
        return tuple(_value(typing.get_args(hint)[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds if kind is not types.NoneType)
        raise BadRecipe(f"{place} must be {names}; got {value!r:.80}")
    return value


def _dotted(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _within(name: str, value: int | float, low: int | float, high: int | float) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise BadRecipe(f"{name} must be from {low:g} to {high:g}; got {value!r}")
