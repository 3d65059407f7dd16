"""What a request may ask of the LM and the datastore.

Facts with their ranges; a value outside its range raises ``BadRequest`` and names the range.
A whole number may be given where a real one is meant; it is kept as a float.
"""

from dataclasses import dataclass, field

from silo.errors import BadRequest

MAX_NEIGHBORS = 4096
MAX_STOPS = 4
MAX_SUFFIX = 4096
"""Tokens of the context that are looked up at most."""
MAX_LENGTHS = 8
DEFAULT_MAX_VERBATIM = 50
DEFAULT_KNN_SHARE = 0.5
DEFAULT_CODEC = "sq8"
DEFAULT_PCA = 64
"""How `silo datastore build` stores keys; chosen with ``tests/benchmarks/bench_bytes.py`` on an LM of 256 dimensions.

An LM with wider keys, or one that has barely learned, needs more dimensions: measure it."""


@dataclass(frozen=True)
class KnnSettings:
    """How the datastore is searched and mixed in (Khandelwal et al. 2020, equations 2 and 3)."""

    k: int = 32
    """Neighbors per token."""
    weight: float | int | None = None
    """Share of probability given to the neighbors, 0 to 1; lambda in Khandelwal et al. None: see ``Shares``."""
    temperature: float | int | None = None
    """tau in exp(-d / tau), in units of squared L2; None takes the one fitted with the datastore."""
    n_probe: int = 8
    """Inverted lists scanned per query."""

    def __post_init__(self) -> None:
        _integer("k", self.k, 1, MAX_NEIGHBORS)
        if self.weight is not None:
            _number(self, "weight", 0.0, 1.0)
        _integer("n_probe", self.n_probe, 1, 1 << 20)
        if self.temperature is not None:
            _number(self, "temperature", 1e-6, 1e9, called="knn temperature")


@dataclass(frozen=True)
class NgramSettings:
    """How the last tokens are looked up in the datastore, and what followed them mixed in; see ``silo.backoff``."""

    weight: float | int | None = None
    """Share of probability given to what followed, 0 to 1. None: see ``Shares``."""
    lengths: tuple[int, ...] = (64, 8, 4, 2)
    """The longest suffix of at most so many tokens is looked up, once for each; decreasing."""
    min_length: int = 2
    """A suffix of fewer tokens says nothing."""

    def __post_init__(self) -> None:
        if self.weight is not None:
            _number(self, "weight", 0.0, 1.0, called="ngram weight")
        if not 1 <= len(self.lengths) <= MAX_LENGTHS:
            raise BadRequest(f"ngram lengths must be 1 to {MAX_LENGTHS} numbers; got {len(self.lengths)}")
        for length in self.lengths:
            _integer("ngram length", length, 1, MAX_SUFFIX)
        if list(self.lengths) != sorted(set(self.lengths), reverse=True):
            raise BadRequest(f"ngram lengths must decrease; got {self.lengths!r:.80}")
        _integer("ngram min_length", self.min_length, 1, MAX_SUFFIX)


@dataclass(frozen=True)
class RetrievalSettings:
    """Which passages the LM reads before the text; see ``silo.context_passages``."""

    n_passages: int = 1
    """Of more than one each gets a run of the LM, and the runs are averaged."""
    scorer: str = "bm25"
    """``bm25``, ``dense`` or ``fused``."""
    query_tokens: int = 32
    """The last tokens, whose text is the question."""
    stride: int = 16
    """Tokens after which passages are fetched anew."""
    join: str = "newline"
    """What stands between a passage and the text: ``newline`` or ``boundary``."""
    ensemble: str = "uniform"
    """How runs are averaged: ``uniform``, or by the ``score`` of each passage."""

    def __post_init__(self) -> None:
        _integer("n_passages", self.n_passages, 1, 64)
        _integer("query_tokens", self.query_tokens, 1, 4096)
        _integer("stride", self.stride, 1, 1 << 20)
        for name, known in (
            ("scorer", ("bm25", "dense", "fused")),
            ("join", ("newline", "boundary")),
            ("ensemble", ("uniform", "score")),
        ):
            if (value := getattr(self, name)) not in known:
                raise BadRequest(f"passage {name} must be one of {', '.join(known)}; got {value!r:.80}")


@dataclass(frozen=True)
class Shares:
    """Fixed shares of probability of the datastore's two predictors; the rest is the LM's."""

    knn: float
    ngram: float

    @classmethod
    def of(cls, knn: float | None, ngram: float | None) -> "Shares":
        """From those that were given; None stands for one that was not.

        Neighbors get half by default, and n-grams half of the smaller of the neighbors' share and the rest: so
        whoever gives the neighbors 0 gets the LM alone, and whoever gives them 1 gets nothing else. Where only the
        share of n-grams is given, neighbors get half or what is left.

        Raises:
            BadRequest: they sum to more than one.
        """
        if knn is None:
            knn = DEFAULT_KNN_SHARE if ngram is None else min(DEFAULT_KNN_SHARE, 1 - ngram)
        if ngram is None:
            ngram = min(knn, 1 - knn) / 2
        if knn + ngram > 1:
            raise BadRequest(f"the shares of knn and ngram must not sum to more than 1; got {knn:g} and {ngram:g}")
        return cls(knn, ngram)


@dataclass(frozen=True)
class GenerationSettings:
    """How tokens are chosen and when to stop."""

    max_tokens: int = 64
    temperature: float | int = 0.0
    """Of sampling; 0 is greedy."""
    top_p: float | int = 1.0
    """Nucleus: the smallest set of tokens with at least this share of probability."""
    stop: tuple[str, ...] = ()
    """Texts that end the completion; they are not part of it."""
    seed: int = 0
    top_logprobs: int = 0
    """How many of the likeliest tokens to report with each token."""
    knn: KnnSettings = field(default_factory=KnnSettings)
    ngram: NgramSettings = field(default_factory=NgramSettings)
    retrieval: RetrievalSettings | None = None
    """None: the LM reads no passages."""
    max_verbatim: int | None = DEFAULT_MAX_VERBATIM
    """Tokens in a row that a completion, with the prompt that it continues, may share with a stored high-risk document;
    None: no limit."""
    verbatim_allowance: int | None = None
    """Tokens by which a completion may go on with such a run that the prompt has brought to the limit; None: 0, or what
    the ``Silo`` allows. One of ``max_verbatim`` leaves prompts out of account; see ``silo.copyguard``."""
    logprobs: bool = True
    """Whether every token comes with its log-probability and all that it is owed to. Without, a sample at temperature
    1 and top_p 1 draws who speaks first and then the token: the same distribution for less work. Such a token names
    the one source that it was drawn from, which is drawn with the probability of that source's mass."""
    draft: bool = False
    """Whether text that is being copied from the datastore is read several tokens at a time: the same tokens, faster
    where text repeats, and log-probabilities to float rounding; see ``silo.drafting``."""

    def __post_init__(self) -> None:
        _integer("max_tokens", self.max_tokens, 0, 1 << 20)
        _number(self, "temperature", 0.0, 100.0)
        _number(self, "top_p", 1e-6, 1.0)
        _integer("seed", self.seed, -(1 << 63), (1 << 63) - 1)
        _integer("top_logprobs", self.top_logprobs, 0, 20)
        if len(self.stop) > MAX_STOPS or not all(isinstance(s, str) and 0 < len(s) <= 1000 for s in self.stop):
            raise BadRequest(f"stop must be at most {MAX_STOPS} texts of 1 to 1000 characters; got {self.stop!r:.80}")
        if self.max_verbatim is not None:
            _integer("max_verbatim", self.max_verbatim, 1, 1 << 20)
        if self.verbatim_allowance is not None:
            _integer("verbatim_allowance", self.verbatim_allowance, 0, 1 << 20)
        assert self.shares

    @property
    def shares(self) -> Shares:
        """The shares that hold where no gate decides."""
        return Shares.of(self.knn.weight, self.ngram.weight)

    @property
    def can_branch(self) -> bool:
        """Whether a token may be drawn from one of the mixture's parts, since nothing is asked of the whole."""
        is_plain = self.temperature == 1 and self.top_p == 1
        return is_plain and not self.logprobs and self.top_logprobs == 0

    @property
    def names_shares(self) -> bool:
        """Whether a share was given, so that it is not the gate's to decide."""
        return self.knn.weight is not None or self.ngram.weight is not None


def _integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"{name} must be an integer from {low} to {high}; got {value!r:.80}")


def _number(settings: object, name: str, low: float, high: float, called: str = "") -> None:
    """Check the range of a field, and make it the float that it is used as."""
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequest(f"{called or name} must be a number from {low:g} to {high:g}; got {value!r:.80}")
    object.__setattr__(settings, name, float(value))
