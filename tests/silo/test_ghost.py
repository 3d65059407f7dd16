"""The ghost test: whatever was removed, everything answers as in a store that never had it, to the bit.

Neighbors, continuations, passages, and what an LM generates with all of them, the copy guard watching; and after
compaction every file is the same. The documents are encoded once; each store is made of the same arrays.
"""

import hashlib
import random
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from datastore.compaction import compact
from datastore.optout import opt_out
from datastore.store import SEGMENTS, Datastore
from datastore.writer import Encoder, add, create
from silo.documents import Document
from silo.encoding import encode_document
from silo.fitting import fit
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings, NgramSettings, RetrievalSettings
from silo.tokenizer import tokenize

N_SETS, N_PARTS = 200, 4
N_PAGES = 10
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = GenerationSettings(
    max_tokens=4,
    top_logprobs=3,
    knn=KnnSettings(k=16, weight=0.5),
    ngram=NgramSettings(weight=0.3, min_length=1),
    retrieval=RetrievalSettings(2, stride=2),
    max_verbatim=2,
)
SAMPLED = GenerationSettings(max_tokens=3, temperature=0.9, seed=4, knn=KnnSettings(k=16, weight=0.5))
BRANCHED = GenerationSettings(max_tokens=3, temperature=1, seed=5, logprobs=False)


class World:
    """Documents, encoded once by one LM, and stores of any of them."""

    def __init__(self, lm, manual, folder: Path) -> None:
        self.lm = lm
        pages = manual(50, 50 + N_PAGES, "LicenseRef-all-rights-reserved", 260)
        pages[6] = Document("longest", "".join(page.text for page in pages[:3]), "LicenseRef-all-rights-reserved")
        pages.insert(3, Document("empty", "", "LicenseRef-all-rights-reserved"))
        self.documents = [encode_document(lm, page) for page in pages]
        self.names = [page.id for page in pages]
        self.texts = {page.id: page.text for page in pages}
        self.fitted = fit(lm, manual(40, 44, "PSF-2.0"), 4)
        self.folder = folder
        self.n_stores = 0
        encoder = Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size)
        self.empty = create(
            self.path(),
            encoder,
            self.fitted.keys,
            self.fitted.documents,
            n_lists=4,
            knn_temperature=self.fitted.knn_temperature,
            now=NOON,
            max_segment_positions=1000,
        )
        self.full = self.store(self.names)
        for store in (self.empty, self.full):
            store.close()

    def prompts(self, name: str) -> list[str]:
        """Passages of a document, each long enough to be found again."""
        text = self.texts[name]
        return [text[start : start + 40] for start in range(20, len(text) - 80, 60)][:3]

    def path(self) -> Path:
        self.n_stores += 1
        return self.folder / f"store-{self.n_stores}"

    def store(self, names: Sequence[str]) -> Datastore:
        """A store that never had any other document."""
        store = self.copy(self.empty)
        add(store, [d for d in self.documents if d.facts.id in names])
        return store

    def copy(self, store: Datastore) -> Datastore:
        return Datastore.open(shutil.copytree(store.path, self.path()))

    def answers(self, store: Datastore, prompts: Sequence[str]) -> list:
        """All that ``store`` says to ``prompts``, to the bit."""
        said = []
        contexts = [tokenize(self.lm.tokenizer, prompt).ids for prompt in prompts]
        keys = np.concatenate([self.lm.encode(ids) for ids in contexts]).astype(np.float32)
        found = store.search(keys, 24, 3)
        for row, entries in enumerate(found.entries):
            places = store.locate(entries[entries >= 0], found.epoch)
            said.append((found.squared_distances[row].tobytes(), found.values[row].tobytes(), places))
        grams = store.continuations(contexts, [64, 3, 1])
        said += [array.tobytes() for array in (grams.lengths, grams.counts, grams.bounds, grams.tokens)]
        said.append(grams.token_counts.tobytes())
        for prompt in prompts:
            ranked = store.passages(prompt, 8)
            places = (ranked.documents, ranked.numbers.tolist(), ranked.characters.tolist())
            said.append((*places, ranked.scores.tobytes()))
        silo = Silo(self.lm, store)
        for prompt in prompts:
            generation = silo.generate(prompt, SETTINGS)
            said.append((tuple(generation), generation.context_sources))
        said += [tuple(silo.generate(prompts[0], SAMPLED))]
        said += [[(t.id, t.sources, t.unnamed_mass) for t in silo.generate(prompts[0], BRANCHED)]]
        return said


@pytest.fixture(scope="module")
def world(llama, manual, tmp_path_factory) -> World:
    return World(llama, manual, tmp_path_factory.mktemp("ghosts"))


def removal_sets(names: Sequence[str]) -> list[list[str]]:
    """None, each alone, a tenth, all, all but one, the same twice; then at random, in any order."""
    sets = [[], list(names), [names[0], names[-1]], ["longest", "empty"], ["longest"] * 2, [*names, *names]]
    sets += [[name] for name in names] + [[n for n in names if n != name] for name in names]
    rng = random.Random(0)
    while len(sets) < N_SETS:
        chosen = rng.sample(names, rng.randint(1, len(names) // 2))
        sets.append(chosen + rng.sample(chosen, rng.randint(0, 1)))
    return sets


def files(store: Datastore) -> list[dict[str, str]]:
    folders = sorted((store.path / SEGMENTS).iterdir())
    return [{f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(d.iterdir())} for d in folders]


@pytest.mark.parametrize("part", range(N_PARTS))
def test_a_removed_document_leaves_no_trace_in_any_answer_or_file(world, now, part):
    sets = removal_sets(world.names)
    assert len(sets) >= 200 and {"empty", "longest"} <= {*world.names}
    for number, gone in list(enumerate(sets))[part::N_PARTS]:
        rng = random.Random(number)
        asked = sorted({*gone} - {"empty"}) or ["longest"]
        prompts = [rng.choice(world.prompts(rng.choice(asked))) for _ in range(2)]
        store = world.copy(world.full)
        for name in gone:
            opt_out(store, name, now=now)
        never = world.store([name for name in world.names if name not in gone])
        expected = world.answers(never, prompts)
        assert world.answers(store, prompts) == expected, gone
        compact(store)
        if number % 8 == 0:  # of stores of the same files one in eight is asked again
            assert world.answers(store, prompts) == expected, gone
        assert files(store) == files(never), gone
        for used in (store, never):
            used.close()
            shutil.rmtree(used.path)


def test_while_a_document_is_live_nearly_all_prompts_taken_from_it_show_it(world):
    """The control: tokens and log-probabilities, of the LM's mixture and nothing else."""
    store = world.copy(world.full)
    differ = []
    for name in world.names:
        never = Silo(world.lm, world.store([other for other in world.names if other != name]))
        for prompt in world.prompts(name):
            live, gone = (
                [(t.id, t.logprob, t.top_logprobs) for t in silo.generate(prompt, SETTINGS)]
                for silo in (Silo(world.lm, store), never)
            )
            differ.append(live != gone)
        never.datastore.close()
    assert len(differ) >= 25
    assert sum(differ) >= 0.95 * len(differ)
