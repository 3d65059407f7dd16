"""The steps of a reproduction, in order, for every scale: from corpora to the report.

Facts and paths; runs nothing. Another experiment is one more entry in `Plan.experiments`, whose ``--out`` is a file
below ``results``: the report has it then, with generic tables at first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from silo.errors import BadRequest
from silo.reproduction.corpora import GATE, HIGH, LOW
from silo.reproduction.steps import Step


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    recipe: str
    """Of the LM; with ``-specialist`` that of the reference."""
    lists: int
    """Inverted lists of the stores."""
    pca: int
    k: int
    n_probe: int
    searched: int
    """Neighbors of the one search of the scaling experiment."""
    optout: tuple[str, ...]
    """Options of `silo eval optout`."""
    attribution: tuple[str, ...]
    """Options of `silo eval attribution`."""
    tasks: tuple[str, ...]
    extraction: tuple[str, ...]
    generation: tuple[str, ...]
    sample: tuple[str, ...] = ()
    """What is taken of a folder of corpora; without it, the stand-in is made."""
    calls: bool = False
    """Whether commands run in this process, because loading torch anew would take longer than they do."""


SCALES = {
    "smoke": Scale(
        "reproduce-smoke",
        lists=32,
        pca=32,
        k=16,
        n_probe=4,
        searched=128,
        optout=("--n-series", "1", "--held-out", "1", "--steps", "1", "--removed", "1", "--n-kept", "1",
                "--max-tokens", "64", "--generated", "4"),
        attribution=("--n-texts", "2", "--max-tokens", "64", "--positions", "4", "--removed", "1", "--facts", "2",
                     "--generated", "4"),
        tasks=("--task", "exercises", "--n", "2", "--shots", "1"),
        extraction=("--documents", "1", "--max-tokens", "8", "--prefix", "8", "--max-verbatim", "8",
                    "--attack", "prefix"),
        generation=("--prompts", "2", "--max-tokens", "8", "--prompt-tokens", "8", "--passages", "none"),
        calls=True,
    ),
    "laptop": Scale(
        "reproduce-laptop",
        lists=1024,
        pca=64,
        k=64,
        n_probe=16,
        searched=1024,
        optout=("--n-series", "2", "--held-out", "3", "--steps", "3", "--removed", "2", "--n-kept", "4",
                "--max-tokens", "256"),
        attribution=("--max-tokens", "256", "--positions", "24", "--removed", "3", "--facts", "16"),
        tasks=("--n", "24"),
        extraction=("--documents", "6", "--max-tokens", "96", "--mixture", "lm", "--mixture", "fixed",
                    "--mixture", "gate"),
        generation=("--prompts", "100", "--max-tokens", "48", "--passages", "none"),
        sample=("--train-bytes", "1500000", "--store-bytes", "300000", "--gate-bytes", "100000",
                "--eval-bytes", "20000"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Places:
    """Where everything lies, below one folder."""

    out: Path

    @property
    def corpora(self) -> Path:
        """The texts."""
        return self.out / "corpora"

    @property
    def lm(self) -> Path:
        """The licensed LM."""
        return self.out / "lm"

    @property
    def specialist(self) -> Path:
        """The reference: the LM trained further on the datastore's text."""
        return self.out / "specialist"

    @property
    def store(self) -> Path:
        """The datastore of high-risk text."""
        return self.out / "store"

    @property
    def gate(self) -> Path:
        """Fitted on licensed text."""
        return self.out / "gate.safetensors"

    @property
    def frozen(self) -> Path:
        """What validation text chose."""
        return self.out / "frozen.json"

    @property
    def results(self) -> Path:
        """Recorded runs, and nothing else."""
        return self.out / "results"

    def texts(self, kind: str, split: str, domains: Collection[str]) -> list[Path]:
        """One split of each domain."""
        return [self.corpora / kind / domain / f"{split}.jsonl.gz" for domain in domains]


def corpora_step(scale: Scale, places: Places, corpora: Path | None) -> Step:
    """The first step; the others depend on what domains there are.

    Raises:
        BadRequest: the scale needs a folder of corpora and there is none, or takes none and there is one.
    """
    program = ("python", "-m", "silo.reproduction.corpora")
    if bool(scale.sample) != (corpora is not None):
        raise BadRequest(
            "this scale needs --corpora, a folder with low/DOMAIN/{train,validation,test}.jsonl.gz and "
            "high/DOMAIN/{datastore,validation,test}.jsonl.gz"
            if scale.sample
            else "this scale makes its own corpora; leave --corpora out, or choose --scale laptop"
        )
    if corpora is None:
        return Step("Write the stand-in corpora", (*program, "stand-in", str(places.corpora)), places.corpora)
    command = (*program, "sample", str(corpora), str(places.corpora), *scale.sample)
    return Step("Take a sample of the corpora", command, places.corpora, (corpora,))


@dataclass(frozen=True)
class Plan:
    """All steps after the first, which made the corpora."""

    scale: Scale
    at: Places
    low: tuple[str, ...]
    """Licensed domains."""
    high: tuple[str, ...]

    def steps(self, commands: Collection[str]) -> list[Step]:
        """In order; of the experiments, those whose commands are among ``commands``."""
        experiments = [step for name, step in self.experiments() if name in commands]
        return [*self.models(), *self.stores(), *self.predictions(), *experiments, self.report()]

    def models(self) -> list[Step]:
        """The licensed LM, and the reference that has seen what is stored."""
        lm, specialist = "Train the LM on licensed text", "Train a reference further on the stored text"
        return [
            self._trained(self.scale.recipe, self.at.lm, lm),
            self._trained(f"{self.scale.recipe}-specialist", self.at.specialist, specialist, self.at.lm),
        ]

    def stores(self) -> list[Step]:
        """The datastore; and a gate, fitted with two stores of half of the licensed domains each."""
        at, stored = self.at, self.at.texts("low", GATE, self.low)
        halves = [at.out / f"licensed-{i}" for i in (0, 1)]
        fit = ("silo", "datastore", "fit-gate", str(at.gate), *self._model, *_options("--datastore", halves))
        fit += (*_options("--licensed", at.texts("low", "validation", self.low)), *self._cache)
        return [
            self._built(at.store, at.texts("high", HIGH[0], self.high), "Store the high-risk text"),
            self._built(halves[0], stored[::2], "Store half of the licensed domains, for the gate"),
            self._built(halves[1], stored[1::2], "Store the other half"),
            Step("Fit the gate on licensed text", fit, at.gate, (at.lm, at.corpora, *halves)),
        ]

    def predictions(self) -> list[Step]:
        """Tuned on validation text, frozen, and only then measured on the tests."""
        at, look = self.at, ("--k", str(self.scale.k), "--n-probe", str(self.scale.n_probe))
        setup = (*self._mixture, *look, *self._cache)
        tune = ("silo", "eval", "ppl", *self._texts("validation"), *setup, "--tune", str(at.frozen))
        test = ("eval", "ppl", *self._texts("test"))
        predictors = (*test, *setup, "--frozen", str(at.frozen))
        reference = (*test, *_options("--model", [at.specialist]), *self._cache)
        return [
            Step("Tune on validation text, and freeze", tune, at.frozen, self._read),
            self._recorded("Measure every predictor on the tests", "predictors", predictors, *self._read, at.frozen),
            self._recorded("Measure the reference alone", "specialist", reference, at.specialist, at.corpora),
        ]

    def experiments(self) -> list[tuple[str, Step]]:
        """By the entry point of their command."""
        at, scale = self.at, self.scale
        runs = [at.results / f"{name}.json" for name in ("predictors", "specialist")]
        found = []
        for name in ("gate", "knn"):
            gap = ("eval", "gap", str(runs[0]), "--reference", f"specialist={runs[1]}", "--predictor", name)
            found.append(("eval.gap", self._recorded(f"How much of the gap {name} closes", f"gap-{name}", gap, *runs)))
        one = [str(path) for split in ("validation", "test") for path in at.texts("high", split, self.high[:1])]
        scaling = ("eval", "scaling", *one, *self._model, *_options("--datastore", [at.store]))
        scaling += ("--searched", str(scale.searched), "--n-probe", str(scale.n_probe))
        title = "Perplexity against the size of the datastore"
        found.append(("eval.scaling", self._recorded(title, "scaling", scaling, at.lm, at.store, at.corpora)))
        optout = ("eval", "optout", *self._mixture, *self._cache, *scale.optout)
        title = "Leave series out, and look for what was removed"
        found.append(("eval.optout", self._recorded(title, "optout", optout, *self._read)))
        tests = tuple(map(str, at.texts("high", "test", self.high)))
        attribution = ("eval", "attribution", *tests, *self._mixture, *self._cache, *scale.attribution)
        title = "Check whom answers are credited to"
        found.append(("eval.attribution", self._recorded(title, "attribution", attribution, *self._read)))
        reference = _options("--model", [at.specialist])
        tasks = ("eval", "tasks", *tests, *self._mixture, *reference, *scale.tasks)
        title = "Ask for right answers"
        found.append(("eval.tasks", self._recorded(title, "tasks", tasks, *self._read, at.specialist)))
        extraction = ("eval", "extraction", *self._mixture, *self._cache, *scale.extraction)
        title = "Try to extract stored text"
        found.append(("eval.extraction", self._recorded(title, "extraction", extraction, *self._read)))
        generation = ("eval", "generation", *tests, *self._mixture, *self._cache, *scale.generation)
        title = "Generate freely"
        found.append(("eval.generation", self._recorded(title, "generation", generation, *self._read)))
        return found

    def report(self) -> Step:
        """Whatever was recorded."""
        at, page = self.at, self.at.out / "report.html"
        runs = (at.results, *(folder / "metrics.jsonl" for folder in (at.lm, at.specialist)))
        written = (*_options("--out", [page]), *_options("--markdown", [at.out / "report.md"]))
        return Step("Report", ("silo", "report", *map(str, runs), *written), page, (at.results, at.lm, at.specialist))

    @property
    def _model(self) -> tuple[str, ...]:
        return _options("--model", [self.at.lm])

    @property
    def _mixture(self) -> tuple[str, ...]:
        at = self.at
        return (*self._model, *_options("--datastore", [at.store]), *_options("--gate", [at.gate]))

    @property
    def _cache(self) -> tuple[str, ...]:
        return _options("--cache", [self.at.out / "traces"])

    @property
    def _read(self) -> tuple[Path, ...]:
        """What a measurement of the mixture depends on."""
        return (self.at.lm, self.at.store, self.at.gate, self.at.corpora)

    def _texts(self, split: str) -> tuple[str, ...]:
        places = [*self.at.texts("high", split, self.high), *self.at.texts("low", split, self.low)]
        return tuple(map(str, places))

    def _trained(self, recipe: str, out: Path, title: str, *reads: Path) -> Step:
        command = ("silo", "train", recipe, "--data", str(self.at.corpora), "--out", str(out))
        return Step(title, command, out, (self.at.corpora, *reads))

    def _built(self, out: Path, documents: Sequence[Path], title: str) -> Step:
        fitted = ("--lists", str(self.scale.lists), "--pca", str(self.scale.pca))
        licensed = _options("--licensed", self.at.texts("low", LOW[0], self.low))
        apart = _options("--decontaminate", [*self._texts("validation"), *self._texts("test")])
        command = ("silo", "datastore", "build", str(out), *self._model, *fitted, *licensed, *apart)
        return Step(title, (*command, *_options("--documents", documents)), out, (self.at.lm, self.at.corpora))

    def _recorded(self, title: str, name: str, command: Sequence[str], *reads: Path) -> Step:
        out = self.at.results / f"{name}.json"
        return Step(title, ("silo", *command, "--out", str(out)), out, reads)


def plan(scale: Scale, places: Places) -> Plan:
    """For the corpora that are there.

    Raises:
        BadRequest: they have too few licensed domains for a gate, or two domains of one name.
    """
    low, high = (tuple(sorted(path.name for path in (places.corpora / kind).iterdir())) for kind in ("low", "high"))
    if shared := sorted(set(low) & set(high)):
        raise BadRequest(f"a domain has one name in all tables; low/ and high/ both have {', '.join(shared)}")
    if len(low) < 2:
        raise BadRequest(f"a gate needs two licensed domains, one that is stored and one that is not; got {low}")
    return Plan(scale, places, low, high)


def _options(name: str, values: Sequence[Path | str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in (name, str(value)))
