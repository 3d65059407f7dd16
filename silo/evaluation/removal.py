"""Removing what is stored: what the store knew of a text, and that nothing of it is left.

Min et al. (2023) leave out documents that resemble the test; here the test is the removed text itself. Each text is
probed as it stands and reworded (``rewordings``): its log-probability, the longest run of its tokens that is live, and
the longest run of it that generation reproduces from its beginning, with the copy guard off. Documents are removed one
by one, each probed the moment it is gone; in another copy of the store all at once, in the opposite order; and a third
store is built that never had them. **After a removal all three must say the same, to the bit.** What they say need not
be what the LM says alone: the documents that stay still speak.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from datastore.compaction import compact
from datastore.optout import opt_out
from datastore.store import SEGMENTS, Datastore
from silo.documents import Document
from silo.evaluation.likelihood import DocumentScore
from silo.evaluation.resuming import Done
from silo.evaluation.rewordings import REWORDINGS
from silo.evaluation.served import Reading, Served
from silo.evaluation.working_copies import live_document, never_had, working_copy
from silo.generation import Silo
from silo.settings import GenerationSettings

VERBATIM = "verbatim"


@dataclass(frozen=True)
class ProbeSettings:
    """How a text is probed."""

    max_tokens: int | None = None
    """Of the beginning of a text that are read; None: all."""
    n_prompt: int = 32
    """Tokens of a text from which generation goes on."""
    n_generated: int = 32


@dataclass(frozen=True)
class Probed:
    """What a store does for one text."""

    logprobs: Float[np.ndarray, " n"]
    """Natural log of each token's probability in the mixture."""
    n_live_run: int
    """The most of its tokens in a row that are live."""
    n_reproduced: int
    """The most tokens of the text in a row, as it was stored, that were generated after its beginning in this form."""

    @property
    def mean(self) -> float:
        """Mean log-probability of a token."""
        return float(self.logprobs.mean(dtype=np.float64))


@dataclass(frozen=True)
class Probes:
    """One text in one form, at the stages of its removal."""

    document: str
    form: str
    """``verbatim``, or the name of a rewording."""
    lm: Probed
    """Without a store; no run can be live."""
    before: Probed
    """While it is stored."""
    at_once: Probed
    """When it was removed, and those that come later were not."""
    after: Probed
    """When all were removed."""
    in_bulk: Probed
    """When all were removed in the other copy, and erased."""
    never: Probed
    """In the store that never had them."""

    @property
    def deviation(self) -> float:
        """The largest difference to the store that never had it, of any token's log-probability, that is left."""
        others = (self.after.logprobs, self.in_bulk.logprobs)
        return max(float(np.abs(other - self.never.logprobs).max()) for other in others)

    @property
    def is_as_never(self) -> bool:
        """Whether nothing tells the removed text from one that never was there, to the bit."""
        facts = {(p.logprobs.tobytes(), p.n_live_run, p.n_reproduced) for p in (self.after, self.in_bulk, self.never)}
        return len(facts) == 1


@dataclass(frozen=True)
class Removal:
    """All that was seen of removing some documents."""

    probes: tuple[Probes, ...]
    """Of each document in each form."""
    sequential_ms: tuple[float, ...]
    """Of each opt-out, with probes in between, to its receipt."""
    bulk_ms: tuple[float, ...]
    """Of each opt-out of those that followed at once, in their order."""
    compaction_ms: float
    """Of erasing all of them."""
    n_live_entries: int
    """Of the removed documents, that could still be retrieved; counted after each opt-out."""
    are_files_equal: bool
    """Whether the files of the erased store's segments are, byte for byte, those of the one that never had them."""
    kept_before: tuple[DocumentScore, ...]
    """Of texts that stay, or that never were there."""
    kept_after: tuple[DocumentScore, ...]


def remove(
    served: Served,
    store: Datastore,
    documents: Sequence[str],
    kept: Sequence[Document],
    *,
    now: datetime,
    probing: ProbeSettings = ProbeSettings(),
    seed: int = 0,
    folder: Path | None = None,
    cache: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Removal:
    """Take ``documents`` out of copies of ``store``, which is left as it is, and look what becomes of them.

    ``kept`` are texts whose likelihood is measured before and after. ``note`` is told how far it has come. What
    ``cache`` has of it is not measured again.
    """
    texts = [live_document(store, name) for name in documents]
    readings = {
        (text.id, form): served.read(variant, probing.max_tokens)
        for text in texts
        for form, variant in _forms(text, seed).items()
    }
    others = [served.read(document, probing.max_tokens) for document in kept]
    look = _Probe(served, probing)
    done = Done.of(
        cache, served, store, asdict(probing), seed, [text.digest for text in texts], [text.digest for text in kept]
    )
    note("what the LM makes of them")
    alone = done.part("alone", lambda: _facts(look.all(None, readings)))
    with working_copy(store, folder) as copy:
        note("what the store makes of them")
        before = done.part("before", lambda: look.with_kept(copy, readings, others))
        at_once: list[dict[str, Any]] = []
        for i, name in enumerate(documents):
            note(f"{i + 1} removed")
            of_one = {key: reading for key, reading in readings.items() if key[0] == name}
            at_once.append(done.part(f"at-once-{i}", partial(_taken_out, copy, look, documents[: i + 1], of_one, now)))
        _take_out(copy, documents, now)
        after = done.part("after", lambda: look.with_kept(copy, readings, others))
    note("removed in bulk, and erased")
    bulk = done.part("in-bulk", lambda: _in_bulk(store, look, documents, readings, now, folder))
    note("a store that never had them")
    never = done.part("never", lambda: _never(served, store, look, documents, readings, folder))
    stages = (alone, before["probed"], [one for part in at_once for one in part["probed"]], after["probed"])
    columns = [_read(stage) for stage in (*stages, bulk["probed"], never["probed"])]
    probes = tuple(Probes(*key, *(column[i] for column in columns)) for i, key in enumerate(readings))
    kept_scores = (tuple(DocumentScore(**one) for one in stage["kept"]) for stage in (before, after))
    return Removal(
        probes,
        tuple(part["ms"] for part in at_once),
        tuple(bulk["ms"]),
        bulk["compaction_ms"],
        sum(part["n_live"] for part in at_once) + bulk["n_live"],
        bulk["files"] == never["files"],
        *kept_scores,
    )


def segment_digests(store: Datastore) -> list[dict[str, str]]:
    """SHA-256 of the files of each segment, by name."""
    folders = [path for path in sorted((store.path / SEGMENTS).iterdir()) if path.is_dir()]
    return [{f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(path.iterdir())} for path in folders]


def longest_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the longest run of tokens that both have."""
    other = np.asarray(second, dtype=np.int64)
    runs, longest = np.zeros(len(other) + 1, dtype=np.int64), 0
    for token in first:
        runs[1:] = np.where(other == token, runs[:-1] + 1, 0)
        longest = max(longest, int(runs.max(initial=0)))
    return longest


class _Probe:
    """Asks stores about texts."""

    def __init__(self, served: Served, settings: ProbeSettings) -> None:
        self._served, self._settings = served, settings
        self._generating = GenerationSettings(
            max_tokens=settings.n_generated,
            knn=served.settings.knn,
            ngram=served.settings.ngram,
            max_verbatim=None,
        )

    def all(self, store: Datastore | None, readings: dict[tuple[str, str], Reading]) -> dict[tuple[str, str], Probed]:
        """What ``store`` does for each text; without a store, what the LM does."""
        return {key: self._one(store, reading, readings[key[0], VERBATIM]) for key, reading in readings.items()}

    def with_kept(
        self, store: Datastore, readings: dict[tuple[str, str], Reading], kept: Sequence[Reading]
    ) -> dict[str, Any]:
        """The same, and the likelihood of each text that is kept, as plain facts."""
        scores = [asdict(reading.score(self._served.logprobs(store, reading))) for reading in kept]
        return {"probed": _facts(self.all(store, readings)), "kept": scores}

    def _one(self, store: Datastore | None, reading: Reading, original: Reading) -> Probed:
        lm = self._served.lm
        tokens, stored = (one.tokens[one.tokens != lm.boundary].tolist() for one in (reading, original))
        logprobs = reading.lm_logprobs.astype(np.float64) if store is None else self._served.logprobs(store, reading)
        n_live = 0
        if store is not None:
            run = store.longest_run(tokens, 1)
            n_live = run.stop - run.start
        room = lm.context_length - 1 - self._settings.n_generated
        n_prompt = max(1, min(self._settings.n_prompt, room, len(tokens) // 2))
        generation = Silo(lm, store, self._served.gate).generate(tokens[:n_prompt], self._generating)
        said = [token.id for token in generation if token.id != lm.boundary]
        return Probed(logprobs, n_live, longest_shared(said, stored))


def _taken_out(
    copy: Datastore, look: _Probe, documents: Sequence[str], readings: dict[tuple[str, str], Reading], now: datetime
) -> dict[str, Any]:
    """What is left of the last of ``documents`` the moment it is gone, all before it being gone already."""
    _take_out(copy, documents[:-1], now)
    ms = _timed(copy, documents[-1], now)
    return {"ms": ms, "n_live": copy.live_entries(documents[-1]), "probed": _facts(look.all(copy, readings))}


def _in_bulk(
    store: Datastore,
    look: _Probe,
    documents: Sequence[str],
    readings: dict[tuple[str, str], Reading],
    now: datetime,
    folder: Path | None,
) -> dict[str, Any]:
    """All of them gone from another copy, the last one first, and erased there."""
    with working_copy(store, folder) as copy:
        ms = [_timed(copy, name, now) for name in reversed(documents)]
        begun = time.perf_counter_ns()
        compact(copy)
        compaction_ms = (time.perf_counter_ns() - begun) / 1e6
        n_live = sum(copy.live_entries(name) for name in documents)
        probed = _facts(look.all(copy, readings))
        return {
            "ms": ms,
            "compaction_ms": compaction_ms,
            "n_live": n_live,
            "probed": probed,
            "files": segment_digests(copy),
        }


def _never(
    served: Served,
    store: Datastore,
    look: _Probe,
    documents: Sequence[str],
    readings: dict[tuple[str, str], Reading],
    folder: Path | None,
) -> dict[str, Any]:
    with never_had(store, served.lm, set(documents), folder) as never:
        return {"probed": _facts(look.all(never, readings)), "files": segment_digests(never)}


def _take_out(store: Datastore, documents: Sequence[str], now: datetime) -> None:
    """Opt out those that are live yet."""
    for name in documents:
        if store.document(name).state == "live":
            opt_out(store, name, now=now)


def _facts(probed: dict[tuple[str, str], Probed]) -> list[dict[str, Any]]:
    """As JSON has it, in its order."""
    return [asdict(one) | {"logprobs": one.logprobs.tolist()} for one in probed.values()]


def _read(facts: Sequence[dict[str, Any]]) -> list[Probed]:
    return [Probed(**one | {"logprobs": np.array(one["logprobs"], dtype=np.float64)}) for one in facts]


def _forms(document: Document, seed: int) -> dict[str, Document]:
    """The text as it stands, and reworded."""
    found = {VERBATIM: document}
    for number, (form, reword) in enumerate(REWORDINGS.items()):
        random = np.random.default_rng([seed, number, *document.digest.encode()])
        found[form] = Document(f"{document.id} {form}"[:512], reword(document.text, random))
    return found


def _timed(store: Datastore, document: str, now: datetime) -> float:
    """Opt ``document`` out; the milliseconds to its receipt."""
    begun = time.perf_counter_ns()
    opt_out(store, document, now=now)
    return (time.perf_counter_ns() - begun) / 1e6
