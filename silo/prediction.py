"""What the datastore says of the next token, and whose text said it.

Asks a store, inside a step of its caller's; knows no LM, only its context vectors and log-probabilities. Takes one
position or several, so that a pass over several tokens of a draft asks once. All that is asked together is answered
as of one epoch; a token is traced to its sources as of that epoch, or the caller is told to begin again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from datastore.records import Continuations, Neighbors
from datastore.store import Datastore
from silo.attribution import TokenSource, gather
from silo.backoff import Level, backoff_candidates, level_masses, level_shares, levels
from silo.evidence import evidence
from silo.gate import Gate
from silo.mixture import Proposal, candidates, interpolate, neighbor_logprobs, neighbor_masses, token_masses
from silo.recent import Recollection
from silo.sampling import choose, pick
from silo.settings import GenerationSettings

MAX_NAMED = 64
"""Occurrences of one suffix and token that are named, the first in the order of ingestion. A frequent phrase has
thousands, and each would be owed next to nothing."""


@dataclass(frozen=True)
class Answers:
    """What a store answered at some positions, as of one epoch. None for what was not asked."""

    neighbors: Neighbors | None
    continuations: Continuations | None
    epoch: int
    recent: Float[np.ndarray, "n r"] | None = None
    """The features of ``silo.recent``, for a gate."""


@dataclass(frozen=True)
class Prediction:
    """The distribution of one token, and what it was made of."""

    logprobs: Float[np.ndarray, " vocabulary"]
    """Natural log of the mixture."""
    lm_logprobs: Float[np.ndarray, " vocabulary"]
    proposals: tuple[Proposal, ...] = ()
    """One for each of ``neighbor_shares``, then one for each of ``suffixes``; none without a datastore."""
    entries: Int[np.ndarray, " k"] | None = None
    values: Int[np.ndarray, " k"] | None = None
    """The neighbors, and what followed them."""
    neighbor_shares: tuple[Float[np.ndarray, " k"], ...] = ()
    """Natural log of each neighbor's share of p_kNN, at one temperature or several."""
    suffixes: tuple[tuple[Level, ...], ...] = ()
    """The levels of p_∞gram; where a gate weighs each of them, as many of one level."""
    history: tuple[int, ...] = ()
    """The last tokens that were looked up."""
    epoch: int | None = None

    @classmethod
    def of_lm(cls, lm_logprobs: Float[np.ndarray, " vocabulary"]) -> "Prediction":
        """The LM's alone."""
        return cls(lm_logprobs.astype(np.float64), lm_logprobs)

    def masses(self, token: int) -> tuple[float, tuple[float, ...]]:
        """Of the LM, and of each of ``proposals``; they sum to one."""
        return token_masses(token, float(self.lm_logprobs[token]), self.proposals)


@dataclass(frozen=True)
class Trace:
    """To whom a token is owed; masses sum to one."""

    parametric_mass: float
    sources: tuple[TokenSource, ...] = ()
    unnamed_mass: float = 0.0
    """Owed to occurrences in the datastore beyond ``MAX_NAMED``, and to those at which a document ends."""
    entries: tuple[int, ...] = ()
    """Of the sources, as of the epoch of the answer."""


class Predictor:
    """Asks ``store`` as ``settings`` say; with ``gate``, as the gate was fitted, unless they name shares."""

    def __init__(self, store: Datastore, settings: GenerationSettings, gate: Gate | None = None) -> None:
        self._store = store
        self._gate = None if settings.names_shares else gate
        self._shares = settings.shares
        self._temperature = settings.knn.temperature or store.manifest.knn_temperature
        self._n_probe = settings.knn.n_probe
        if self._gate is None:
            self._k = settings.knn.k if self._shares.knn else 0
            self._lengths = settings.ngram.lengths if self._shares.ngram else ()
            self._min_length = settings.ngram.min_length
        else:
            self._k = self._gate.components.k
            self._lengths = self._gate.components.limits
            self._min_length = 1
            self._recollection = Recollection(store, self._lengths)

    @property
    def is_silent(self) -> bool:
        """Whether the datastore has no share at all."""
        return not self._k and not self._lengths

    def ask(self, contexts: Float[np.ndarray, "n dimension"], histories: Sequence[Sequence[int]]) -> Answers:
        """What the store has after each of ``contexts``, of which ``histories`` are the tokens. Raises ReaderFenced."""
        while True:
            epoch = self._store.epoch
            neighbors = self._store.search(contexts, self._k, self._n_probe) if self._k else None
            found = None
            if self._lengths:
                tails = [list(history[-self._lengths[0] :]) for history in histories]
                found = self._store.continuations(tails, self._lengths)
            if not {answer.epoch for answer in (neighbors, found) if answer is not None} <= {epoch}:
                continue
            if self._gate is None or found is None:
                return Answers(neighbors, found, epoch)
            if (recent := self._recollection.features(histories, found)) is not None:
                return Answers(neighbors, found, epoch, recent)

    def predict(
        self,
        answers: Answers,
        lm_logprobs: Float[np.ndarray, "n vocabulary"],
        histories: Sequence[Sequence[int]],
    ) -> list[Prediction]:
        """The mixture at each position that was asked about."""
        weights = None
        if self._gate is not None:
            neighbors, found = answers.neighbors, answers.continuations
            known = evidence(self._gate.components, lm_logprobs, neighbors, found, self._temperature, answers.recent)
            weights = self._gate.shares(known)
        return [
            self._predict(answers, row, lm_logprobs[row], history, None if weights is None else weights[row])
            for row, history in enumerate(histories)
        ]

    def _predict(
        self,
        answers: Answers,
        row: int,
        lm_logprobs: Float[np.ndarray, " vocabulary"],
        history: Sequence[int],
        weights: Float[np.ndarray, " c"] | None,
    ) -> Prediction:
        proposals: list[Proposal] = []
        entries = values = None
        shares: list[np.ndarray] = []
        suffixes: list[tuple[Level, ...]] = []
        components = None if self._gate is None else self._gate.components
        if answers.neighbors is not None:
            entries, values = answers.neighbors.entries[row], answers.neighbors.values[row]
            factors = (1.0,) if components is None else components.temperatures
            parts = [self._shares.knn] if components is None or weights is None else weights[components.knn].tolist()
            for factor, weight in zip(factors, parts, strict=True):
                shares.append(neighbor_logprobs(answers.neighbors.squared_distances[row], factor * self._temperature))
                proposals.append(Proposal(candidates(values, shares[-1]), weight))
        if answers.continuations is not None:
            following = [answers.continuations.following(row, limit) for limit in range(len(self._lengths))]
            lengths = answers.continuations.lengths[row]
            if components is None or weights is None:
                suffixes.append(levels(lengths, following, self._min_length))
                proposals.append(Proposal(backoff_candidates(suffixes[-1]), self._shares.ngram))
            else:
                for limit, weight in enumerate(weights[components.ngram].tolist()):
                    suffixes.append(levels(lengths[limit : limit + 1], following[limit : limit + 1], self._min_length))
                    proposals.append(Proposal(backoff_candidates(suffixes[-1]), weight))
        longest = max((level.length for found in suffixes for level in found), default=0)
        return Prediction(
            interpolate(lm_logprobs, proposals),
            lm_logprobs,
            tuple(proposals),
            entries,
            values,
            tuple(shares),
            tuple(suffixes),
            tuple(history[len(history) - longest :]),
            answers.epoch,
        )

    def trace(self, prediction: Prediction, token: int) -> Trace | None:
        """Whose ``token`` is; None where the store has changed since it was asked. Raises ReaderFenced."""
        parametric, masses = prediction.masses(token)
        n_knn = len(prediction.neighbor_shares)
        owed: list[tuple[np.ndarray, np.ndarray]] = []
        for mass, shares in zip(masses[:n_knn], prediction.neighbor_shares, strict=True):
            assert prediction.entries is not None and prediction.values is not None
            proposers, parts = neighbor_masses(token, prediction.values, shares)
            owed.append((prediction.entries[proposers], mass * parts))
        by_level = _masses_by_level(token, masses[n_knn:], prediction.suffixes)
        named = self._occurrences(prediction, token, list(by_level))
        if named is None:
            return None
        unnamed = 0.0
        for (_, count), mass, at in zip(by_level, by_level.values(), named, strict=True):
            owed.append((at, np.full(len(at), mass / count)))
            unnamed += mass * (count - len(at)) / count
        entries = np.concatenate([np.empty(0, np.int64), *(at for at, _ in owed)])
        each = np.concatenate([np.empty(0), *(parts for _, parts in owed)])
        assert prediction.epoch is not None
        places = self._store.locate(entries, prediction.epoch)
        if places is None:
            return None
        sources = gather((p.document, p.sentence, m) for p, m in zip(places, each.tolist(), strict=True))
        return Trace(parametric, sources, unnamed, tuple(entries.tolist()))

    @property
    def can_branch(self) -> bool:
        """Whether the shares are known before anything is asked."""
        return self._gate is None

    def draw(
        self,
        context: Callable[[], Float[np.ndarray, " dimension"]],
        lm_logprobs: Callable[[], Float[np.ndarray, " vocabulary"]],
        history: Sequence[int],
        random: np.random.Generator,
    ) -> tuple[int, Trace, int] | None:
        """A token drawn from the mixture, the source that it was drawn from, and the epoch. Raises ReaderFenced.

        Who speaks is drawn first, by the shares, and nobody else is asked: a search is made for the neighbors alone, of
        the LM's ``context``, and ``lm_logprobs`` are computed for the LM alone. Who has nothing to say leaves it to the
        LM, as in the mixture. None where the store has changed.
        """
        speaker = random.random()
        if speaker < self._shares.knn:
            found = self._store.search(context()[None], self._k, self._n_probe)
            shares = np.exp(neighbor_logprobs(found.squared_distances[0], self._temperature))
            if shares.any():
                i = pick(shares, random.random())
                return self._drawn(int(found.values[0, i]), found.entries[0, i : i + 1], found.epoch)
        elif speaker < self._shares.knn + self._shares.ngram:
            answer = self._store.continuations([list(history[-self._lengths[0] :])], self._lengths)
            following = [answer.following(0, limit) for limit in range(len(self._lengths))]
            if chain := levels(answer.lengths[0], following, self._min_length):
                level = chain[pick(level_shares(chain), random.random())]
                i = pick(level.counts.astype(np.float64), random.random())
                token, nth = int(level.tokens[i]), int(random.random() * level.counts[i])
                places = self._store.occurrences([*history[-level.length :], token], nth + 1)
                if places.epoch != answer.epoch:
                    return None
                return self._drawn(token, places.entries[nth : nth + 1] - 1, places.epoch)
        epoch = self._store.epoch
        return choose(lm_logprobs(), 1.0, 1.0, random.random()), Trace(1.0), epoch

    def _drawn(self, token: int, entries: Int[np.ndarray, " _"], epoch: int) -> tuple[int, Trace, int] | None:
        """``token`` with its one source; without an entry, at the end of a document, that has no name."""
        places = self._store.locate(entries, epoch)
        if places is None:
            return None
        sources = gather((place.document, place.sentence, 1.0) for place in places)
        return token, Trace(0.0, sources, 0.0 if sources else 1.0, tuple(entries.tolist())), epoch

    def _occurrences(
        self, prediction: Prediction, token: int, suffixes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray] | None:
        """For each suffix, given by its length and how often ``token`` followed it, the entries before ``token``.

        Those that are named: the first of them. A longer suffix that ``token`` followed as often as a shorter one is
        followed by it at the same places. None where the store has changed.
        """
        found: list[np.ndarray] = []
        for i, (length, count) in enumerate(suffixes):
            if i and suffixes[i - 1][1] == count:
                found.append(found[-1])
                continue
            answer = self._store.occurrences([*prediction.history[-length:], token], min(MAX_NAMED, count))
            if answer.epoch != prediction.epoch:
                return None
            found.append(answer.entries - 1)
        return found


def _masses_by_level(
    token: int, masses: Sequence[float], suffixes: Sequence[tuple[Level, ...]]
) -> dict[tuple[int, int], float]:
    """The mass of each suffix that ``token`` followed, by its length and how often; the longest first."""
    found: dict[tuple[int, int], float] = {}
    for mass, chain in zip(masses, suffixes, strict=True):
        for level, part in zip(chain, level_masses(token, chain).tolist(), strict=True):
            if count := level.count(token):
                key = (level.length, count)
                found[key] = found.get(key, 0.0) + mass * part
    return dict(sorted(found.items(), reverse=True))
