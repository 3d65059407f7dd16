"""Drafts change how many tokens are read at once, and nothing else."""

import numpy as np
import pytest

from datastore.optout import opt_out
from silo.decoder import Decoder
from silo.drafting import MIN_RUN, SIZES, Drafter
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings, NgramSettings

COPYING = {"knn": KnnSettings(k=8, weight=0.5), "ngram": NgramSettings(weight=0.45)}
SETTINGS = {
    "greedy": COPYING,
    "sampled": {"temperature": 0.9, "seed": 3} | COPYING,
    "neighbors alone": {"knn": KnnSettings(k=4, weight=0.9), "ngram": NgramSettings(weight=0.0)},
    "top_p": {"temperature": 1.0, "top_p": 0.8, "seed": 5} | COPYING,
}


@pytest.fixture
def pages(manual):
    return manual(50, 56, "LicenseRef-all-rights-reserved")


@pytest.fixture
def silo(llama, build, pages) -> Silo:
    return Silo(llama, build(llama, pages))


@pytest.fixture
def drafts(monkeypatch) -> list[tuple[int, int]]:
    """The drafts that were judged: how many tokens, and how many of them were kept."""
    seen: list[tuple[int, int]] = []
    judged = Drafter.judged

    def note(self, n_drafted, n_kept):
        seen.append((n_drafted, n_kept))
        judged(self, n_drafted, n_kept)

    monkeypatch.setattr(Drafter, "judged", note)
    return seen


def tokens(silo: Silo, page, draft: bool, **settings):
    """Some that follow the first ones of a page, as they stand in the store."""
    asked = GenerationSettings(max_tokens=60, draft=draft, max_verbatim=None, **settings)
    return list(silo.generate(beginning(silo, page), asked))


def beginning(silo: Silo, page) -> list[int]:
    return silo.lm.tokenizer(page.text, add_special_tokens=False).input_ids[:10]


@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_and_sources_are_the_same_with_drafts_and_without(silo, pages, drafts, name):
    for page in pages:
        plain = tokens(silo, page, False, **SETTINGS[name])
        drafted = tokens(silo, page, True, **SETTINGS[name])
        assert [token.id for token in drafted] == [token.id for token in plain]
        assert [token.logprob for token in drafted] == pytest.approx([token.logprob for token in plain], abs=1e-4)
        for one, other in zip(drafted, plain, strict=True):
            assert {(s.document, s.sentence) for s in one.sources} == {(s.document, s.sentence) for s in other.sources}
    assert any(kept for _, kept in drafts), "the control: there must have been drafts that came true"


def test_while_copying_there_are_fewer_passes_and_they_grow(silo, pages, drafts, monkeypatch):
    n_passes = []
    read = Decoder.advance_all
    monkeypatch.setattr(Decoder, "advance_all", lambda self, t: n_passes.append(len(t)) or read(self, t))
    found = tokens(silo, pages[1], True, ngram=NgramSettings(weight=1.0), knn=KnnSettings(weight=0.0))
    assert len(n_passes) < len(found) / 2
    assert [n for n, _ in drafts][:3] == list(SIZES)


class Line:
    """A store with one document of a hundred tokens, its entry ``i`` followed by the token ``i``."""

    epoch = 0

    def following(self, entry, n, epoch):
        return np.arange(entry, min(entry + n, 100)) if epoch == self.epoch else None


def followed(n: int, start: int = 0) -> Drafter:
    drafter = Drafter(Line(), 1000)
    for entry in range(start, start + n):
        drafter.chose([entry, 500 - 2 * entry], 0)
    return drafter


def test_nothing_is_drafted_before_a_source_was_followed_for_some_tokens():
    assert followed(MIN_RUN - 1).propose(9) == []
    assert followed(MIN_RUN).propose(9) == [4, 5, 6, 7]
    assert followed(9, start=90).propose(9) == [99]


def test_nothing_is_drafted_for_the_last_token_or_beyond():
    assert followed(MIN_RUN).propose(997) == [4, 5]
    assert followed(MIN_RUN).propose(999) == []


def test_a_change_of_the_store_ends_every_run():
    drafter = followed(20)
    drafter.chose([20], 1)
    assert drafter.propose(9) == []
    drafter = followed(20)
    drafter._store.epoch = 1
    assert not drafter.is_of_now
    assert drafter.propose(9) == []


def test_drafts_that_fail_are_tried_less_and_less_often():
    drafter, tried = followed(20), []
    for step in range(20, 320):
        if draft := drafter.propose(9):
            tried.append(step)
            drafter.judged(len(draft), 0)
        drafter.chose([step % 80 + 1 if step % 80 else 500], 0)
    gaps = np.diff(tried)
    assert 2 <= len(tried) < 10
    assert gaps[-1] > gaps[0]


def test_what_has_left_is_not_drafted_and_a_store_without_it_answers_as_one_that_never_had_it(
    silo, llama, build, pages, now, drafts
):
    opt_out(silo.datastore, pages[1].id, now=now)
    never = Silo(llama, build(llama, [pages[0], *pages[2:]]))
    for page in pages[:3]:
        n_before = len(drafts)
        found = tokens(silo, page, True, **COPYING)
        mine, n_between = drafts[n_before:], len(drafts)
        assert found == tokens(never, page, True, **COPYING)
        assert mine == drafts[n_between:]
    assert drafts


def test_an_opt_out_in_the_middle_is_in_force_for_the_next_token(silo, pages, now, drafts):
    settings = GenerationSettings(max_tokens=50, draft=True, max_verbatim=None, **COPYING)
    running = iter(silo.generate(beginning(silo, pages[1]), settings))
    first = [next(running) for _ in range(14)]
    assert any(source.document == pages[1].id for source in first[-1].sources)
    opt_out(silo.datastore, pages[1].id, now=now)
    assert pages[1].id not in {source.document for token in running for source in token.sources}


def test_following_ends_with_the_document_and_before_what_is_not_live(silo, pages, now):
    store = silo.datastore
    ids = silo.lm.tokenizer(pages[2].text, add_special_tokens=False).input_ids
    found = store.occurrences(ids[:6], 1)
    entry = int(found.entries[0])
    assert store.following(entry, 5, found.epoch).tolist() == ids[6:11]
    rest = store.following(entry, 10_000, found.epoch).tolist()
    assert rest == [*ids[6:], silo.lm.boundary]
    opt_out(store, pages[2].id, now=now)
    assert store.following(entry, 5, found.epoch) is None
    assert store.following(entry, 5, store.epoch).tolist() == []
