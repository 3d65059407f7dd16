"""The limit on verbatim runs: never passed with it, passed without it, and not asked of licensed text."""

import pytest

from datastore.optout import opt_out
from datastore.writer import add
from silo.copyguard import CopyGuard, excerpt
from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings
from silo.tokenizer import tokenize

COPYING = KnnSettings(k=1, weight=1.0, n_probe=8)
"""All that is said is what followed the nearest context: long copies."""
LIMIT = 5


def longest_run(lm, completion, pages) -> int:
    """The most tokens in a row of ``completion`` that stand in a row in a page, by trying all."""
    texts = [tokenize(lm.tokenizer, page.text).ids.tolist() for page in pages]
    runs = {tuple(text[i : i + n]) for text in texts for n in range(1, 41) for i in range(len(text) - n + 1)}
    best = 0
    for i in range(len(completion)):
        while tuple(completion[i : i + best + 1]) in runs and i + best < len(completion):
            best += 1
    return best


def completions(silo, pages, **settings) -> list[list[int]]:
    asked = GenerationSettings(max_tokens=30, knn=COPYING, **settings)
    return [[token.id for token in silo.generate(page.text[:60], asked)] for page in pages]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_no_run_is_longer_than_the_limit_and_without_it_there_are_longer_ones(llama, build, manual, temperature):
    pages = manual(50, 54, "LicenseRef-all-rights-reserved")
    silo = Silo(llama, build(llama, pages))
    free = completions(silo, pages, temperature=temperature, max_verbatim=None)
    alone = {"max_verbatim": LIMIT, "verbatim_allowance": LIMIT}
    guarded = completions(silo, pages, temperature=temperature, **alone)
    assert max(longest_run(llama, made, pages) for made in free) > 2 * LIMIT, "the control"
    assert max(longest_run(llama, made, pages) for made in guarded) == LIMIT
    assert all(len(made) > LIMIT for made in guarded)


def test_the_policy_holds_where_a_request_asks_for_more(llama, build, manual):
    pages = manual(50, 52, "LicenseRef-all-rights-reserved")
    store = build(llama, pages)
    for limit in (None, 40):
        made = completions(Silo(llama, store, max_verbatim=LIMIT), pages, max_verbatim=limit)
        assert max(longest_run(llama, one, pages) for one in made) <= LIMIT


def test_licensed_text_in_the_store_may_be_copied(llama, build, manual):
    pages = manual(50, 53, "PSF-2.0")
    silo = Silo(llama, build(llama, pages))
    assert completions(silo, pages, max_verbatim=LIMIT) == completions(silo, pages, max_verbatim=None)


def test_the_guard_asks_what_is_live_and_remembers_nothing_of_what_left(make_store, documents, now):
    store = make_store(documents)
    tokens = documents[3].tokens.tolist()
    guard = CopyGuard(store, 3)
    assert guard.forbids(tokens[:4])
    assert not guard.forbids(tokens[:3])
    assert not guard.forbids([*tokens[:3], 49, 49])
    opt_out(store, documents[3].facts.id, now=now)
    assert not guard.forbids(tokens[:4])


def test_the_guard_looks_again_where_a_document_came_since(make_store, documents):
    store = make_store(documents[:3])
    tokens = documents[5].tokens.tolist()
    guard = CopyGuard(store, 4)
    assert not guard.forbids([49, 49, 49, *tokens[:2]]), "short runs: the next tokens would not be looked up"
    add(store, [documents[5]])
    assert guard.forbids(tokens[:5])


def test_a_run_that_grows_token_by_token_is_stopped_at_the_limit_wherever_it_begins(make_store, documents):
    store = make_store(documents)
    for start in range(5):
        guard, made = CopyGuard(store, 3), [49] * start
        for token in documents[5].tokens.tolist()[:-1]:
            if guard.forbids([*made, token]):
                break
            made.append(token)
        assert len(made) - start == 3


@pytest.mark.parametrize(
    ("n_quoted", "allowance", "n_more"),
    [
        (0, 0, 4),
        (1, 0, 3),
        (3, 0, 1),
        (4, 0, 0),
        (7, 0, 0),
        (7, 2, 2),
        (3, 2, 2),
        (1, 2, 3),
        (7, 3, 3),
        (7, 4, 4),
        (7, 9, 4),
    ],
)
def test_a_run_of_the_prompt_counts_but_for_the_allowance(make_store, documents, n_quoted, allowance, n_more):
    """The last two leave prompts out of account: the control."""
    store = make_store(documents)
    tokens = documents[5].tokens.tolist()[:-1]
    quoted, rest = tokens[:n_quoted], tokens[n_quoted:]
    for before in ([], [49, 49, 49], documents[3].tokens.tolist()[:3]):
        guard, made = CopyGuard(store, 4, [*before, *quoted], allowance), []
        while len(made) < len(rest) and not guard.forbids([*made, rest[len(made)]]):
            made.append(rest[len(made)])
        assert len(made) == n_more
        assert not guard.forbids([*made, 49]), "another token is free"


def test_the_sender_of_a_long_quote_may_get_something_else(make_store, documents):
    """What follows is no run of the quote's, so it begins at nothing."""
    store = make_store(documents)
    guard = CopyGuard(store, 4, documents[5].tokens.tolist()[:9])
    made = [49, *documents[3].tokens.tolist()[:5]]
    assert [guard.forbids(made[: n + 1]) for n in range(6)] == [False] * 5 + [True]


def chained(silo, page, **settings) -> list[int]:
    """What request after request gives out, each of them begun with all that came before."""
    prompt = tokenize(silo.lm.tokenizer, page.text[:60]).ids.tolist()
    made: list[int] = []
    for _ in range(6):
        asked = GenerationSettings(max_tokens=LIMIT, knn=COPYING, max_verbatim=LIMIT, **settings)
        made += [token.id for token in silo.generate([*prompt, *made], asked)]
    return made


def test_chained_requests_get_no_longer_run_than_one(llama, build, manual):
    pages = manual(50, 54, "LicenseRef-all-rights-reserved")
    silo = Silo(llama, build(llama, pages))
    counted, uncounted = ([chained(silo, page, verbatim_allowance=n) for page in pages] for n in (None, LIMIT))
    assert max(longest_run(llama, made, pages) for made in uncounted) > 4 * LIMIT, "the control"
    assert max(longest_run(llama, made, pages) for made in counted) <= LIMIT
    strict = Silo(llama, silo.datastore, verbatim_allowance=0)
    assert [chained(strict, page, verbatim_allowance=LIMIT) for page in pages] == counted, "the policy holds"
    lenient = Silo(llama, silo.datastore, verbatim_allowance=LIMIT)
    assert [chained(lenient, page) for page in pages] == uncounted
    assert [chained(lenient, page, verbatim_allowance=0) for page in pages] == counted


def test_an_excerpt_has_no_more_tokens_than_the_limit(llama):
    text = "A sentence of some words, which goes on and on."
    shown = excerpt(text, llama.tokenizer, 4)
    assert shown.endswith("…") and text.startswith(shown[:-1]) and len(tokenize(llama.tokenizer, shown[:-1])) <= 4
    assert excerpt(text, llama.tokenizer, 1000) == text
    assert excerpt(text, llama.tokenizer, None) == text
    assert excerpt(text, llama.tokenizer, 4, "BY") == text
