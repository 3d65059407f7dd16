"""`silo eval attribution`: whether masses add up, whether they are causes, and whether the right source is named.

Thin: reads arguments, calls the library, prints and writes figures.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from silo.evaluation.commands import Cache, Device, Out
from silo.evaluation.mixture_options import (
    Gate,
    K,
    KnnWeight,
    Model,
    NgramWeight,
    Seed,
    Store,
    Work,
    noting,
    opened,
    quantiles,
    setup,
    write,
)

if TYPE_CHECKING:
    from datastore.store import Datastore
    from silo.evaluation.counterfactual import Fall, Position
    from silo.evaluation.resuming import Done
    from silo.evaluation.served import Reading, Served


def attribution(
    text: Annotated[list[str], typer.Argument(help="Documents whose tokens are predicted and traced.")],
    model: Model,
    datastore: Store,
    n_texts: Annotated[int, typer.Option(min=1, help="Texts that are traced, the first ones.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=2, help="Of each text, its first so many tokens.")] = 512,
    positions: Annotated[int, typer.Option(min=1, help="Tokens of each text that are traced, drawn by the seed.")] = 32,
    removed: Annotated[int, typer.Option(min=1, help="Documents to take out, those that are owed most.")] = 4,
    facts: Annotated[int, typer.Option(min=1, help="Facts to plant.")] = 32,
    generated: Annotated[int, typer.Option(min=1, help="Tokens to generate after the beginning of each text.")] = 32,
    gate: Gate = None,
    k: K = 32,
    knn_weight: KnnWeight = None,
    ngram_weight: NgramWeight = None,
    seed: Seed = 0,
    work: Work = None,
    cache: Cache = None,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Check attribution: masses that sum to one, sources taken out, facts planted, and a search after the fact."""
    from itertools import chain, islice

    import numpy as np

    from silo.corpora import read_documents
    from silo.errors import BadRequest
    from silo.evaluation.counterfactual import positions as traced
    from silo.evaluation.recording import digest_of
    from silo.evaluation.resuming import Done

    store, served = opened(model, datastore, gate, k, knn_weight, ngram_weight, device)
    found = chain.from_iterable(read_documents(place) for place in text)
    documents = list(islice((document for document in found if document.text.strip()), n_texts))
    if not documents:
        raise BadRequest(f"no document of {', '.join(text)} has a text; name others")
    readings = [served.read(document, max_tokens) for document in documents]
    random = np.random.default_rng(seed)
    rows = [tuple(sorted(random.permutation(len(reading.tokens))[:positions].tolist())) for reading in readings]
    digests = [document.digest for document in documents]
    done = Done.of(cache, served, store, digests, max_tokens, rows)
    with noting("attribution") as note:
        note("masses")
        masses = done.part("masses", lambda: _masses(traced(served, store, readings, rows), removed), removed)
        gone = masses.pop("most_cited")
        note(f"{len(gone)} sources taken out")
        fallen = list(_fallen(done, served, store, readings, rows, gone, work))
        results = [masses, _falls(fallen, gone)]
        note(f"{facts} facts planted")
        results += _generated(done, served, store, readings, facts, generated, seed, work)
    _print(results)
    config: dict[str, Any] = {"command": "eval attribution", "texts": text, "positions": positions, "removed": gone}
    config |= {"facts": facts, "generated": generated, "max_tokens": max_tokens}
    config |= {"documents": digest_of(digests)}
    write(out, config | setup(store, served), results, seed)


def _masses(found: "Sequence[Position]", removed: int) -> dict[str, Any]:
    """Whether the masses of each token sum to one, and whose they are."""
    import numpy as np

    from silo.evaluation.counterfactual import most_cited

    parametric, unnamed = (
        float(np.mean([getattr(one.trace, name) for one in found])) for name in ("parametric_mass", "unnamed_mass")
    )
    return {
        "check": "masses",
        "n_tokens": len(found),
        "largest_deviation": max(abs(one.total_mass - 1) for one in found),
        "mean_parametric": parametric,
        "mean_unnamed": unnamed,
        "mean_named": float(np.mean([sum(s.mass for s in one.trace.sources) for one in found])),
        "most_cited": most_cited(found, removed),
    }


def _fallen(
    done: "Done",
    served: "Served",
    store: "Datastore",
    readings: "Sequence[Reading]",
    rows: Sequence[tuple[int, ...]],
    gone: list[str],
    work: Path | None,
) -> "Iterator[Fall]":
    """What became of each token as ``gone`` left a copy, one after the other; those that are done are not taken out
    again, but where one is not."""
    from silo.evaluation.counterfactual import Fall, falls
    from silo.evaluation.working_copies import working_copy

    n_known = next((i for i in range(len(gone)) if not done.has("fall", gone[: i + 1])), len(gone))
    with nullcontext() if n_known == len(gone) else working_copy(store, work) as copy:
        found = (
            iter(())
            if copy is None
            else falls(served, copy, readings, rows, gone, now=datetime.now(UTC), n_known=n_known)
        )
        for i in range(len(gone)):
            part = done.part("fall", lambda: [asdict(one) for one in islice(found, sum(map(len, rows)))], gone[: i + 1])
            yield from (Fall(**one) for one in part)


def _falls(found: "Sequence[Fall]", gone: list[str]) -> dict[str, Any]:
    """What was cited beside what fell: with all else held, and as it is served."""
    cited = [one for one in found if one.cited > 0]
    unheard = [one for one in found if not one.is_heard]
    heard = [one for one in found if one.is_heard and one.cited == 0]
    return {
        "check": "counterfactual",
        "n_removed": len(gone),
        "n_tokens": len(found),
        "n_cited": len(cited),
        "n_cited_with_all_named": sum(one.unnamed == 0 for one in cited),
        "cited_fall": quantiles([one.before * one.cited for one in cited]),
        "held_fall": quantiles([one.held for one in cited]),
        "held_largest_deviation": max((one.deviation for one in found), default=0.0),
        "served_fall": quantiles([one.served for one in cited]),
        "served_less_cited": quantiles([one.served - one.before * one.cited for one in cited]),
        "n_heard_not_cited": len(heard),
        "heard_not_cited_served_fall": quantiles([one.served for one in heard]),
        "n_not_heard": len(unheard),
        "not_heard_n_changed": sum(one.before != one.after for one in unheard),
        "not_heard_largest_change": max((abs(one.served) for one in unheard), default=0.0),
    }


def _generated(
    done: "Done",
    served: "Served",
    store: "Datastore",
    readings: "Sequence[Reading]",
    n_facts: int,
    n_generated: int,
    seed: int,
    work: Path | None,
) -> list[dict[str, Any]]:
    """Figures of planted facts and of free generation; a copy gets the facts and loses them."""
    from silo.evaluation.working_copies import working_copy

    free = done.part("free", lambda: _free(served, store, readings, n_generated), n_generated)

    def planted() -> dict[str, Any]:
        with working_copy(store, work) as copy:
            return _planted(served, copy, n_facts, seed)

    asked = done.part("planted", planted, n_facts, seed)
    largest = max(one.pop("largest_deviation") for one in (asked, free))
    n_tokens = sum(one.pop("n_tokens") for one in (asked, free))
    of_all = {"generated_largest_deviation": largest, "n_generated": n_tokens}
    return [{"check": "planted facts"} | asked | of_all, {"check": "agreement with BM25"} | free]


def _free(served: "Served", store: "Datastore", readings: "Sequence[Reading]", n_generated: int) -> dict[str, Any]:
    """Figures of free generation."""
    from silo.evaluation.sentence_search import SentenceSearch
    from silo.evaluation.source_precision import agreement, compared, deviation

    with SentenceSearch(store) as search:
        found = list(compared(served, store, readings, search, n_generated=n_generated))
    tokens = [token for one in found for token in one.tokens]
    return agreement(found) | {"largest_deviation": deviation(tokens), "n_tokens": len(tokens)}


def _planted(served: "Served", copy: "Datastore", n_facts: int, seed: int) -> dict[str, Any]:
    """Figures of facts that ``copy`` gets, is asked for, and loses."""
    from datastore.optout import opt_out
    from silo.evaluation.planted_facts import plant
    from silo.evaluation.sentence_search import SentenceSearch
    from silo.evaluation.source_precision import answers, deviation, precision
    from silo.ingestion import Ingester

    planted, facts = plant(n_facts, seed)
    Ingester(served.lm, copy, str(served.lm.device)).ingest(planted)
    with SentenceSearch(copy) as search:
        asked = list(answers(served, copy, facts, search))
    for document in planted:
        opt_out(copy, document.id, now=datetime.now(UTC))
    without = precision(list(answers(served, copy, facts)))
    tokens = [token for one in asked for token in (*one.tokens, *one.others)]
    after = {"n_whole_after_removal": without["n_whole"], "n_fact_tokens_after_removal": without["n_fact_tokens"]}
    return precision(asked) | after | {"largest_deviation": deviation(tokens), "n_tokens": len(tokens)}


def _print(results: list[dict[str, Any]]) -> None:
    masses, fall, planted, agreed = results
    print(
        f"masses of {masses['n_tokens']:,} tokens sum to one but for {masses['largest_deviation']:.1e} at most: "
        f"{masses['mean_parametric']:.1%} parametric, {masses['mean_named']:.1%} named, "
        f"{masses['mean_unnamed']:.1%} unnamed; of {planted['n_generated']:,} generated ones but for "
        f"{planted['generated_largest_deviation']:.1e}"
    )
    print(
        f"{fall['n_removed']} documents taken out, {fall['n_cited']:,} tokens that cited them: with all else held the "
        f"probability falls by what was cited but for {fall['held_largest_deviation']:.1e} at most"
    )
    if fall["n_cited"]:
        print(f"  cited        {_quantiles(fall['cited_fall'])}")
        print(f"  as served    {_quantiles(fall['served_fall'])}")
        print(f"  difference   {_quantiles(fall['served_less_cited'])}")
    print(
        f"{fall['n_not_heard']:,} tokens in which they had no part: {fall['not_heard_n_changed']} changed, by "
        f"{fall['not_heard_largest_change']:.1e} at most"
    )
    if fall["n_heard_not_cited"]:
        served = _quantiles(fall["heard_not_cited_served_fall"])
        print(f"{fall['n_heard_not_cited']:,} tokens against which they spoke fall, as served, by {served}")
    print(
        f"{planted['n_whole']} of {planted['n_facts']} planted facts told in full; of {planted['n_fact_tokens']} fact "
        f"tokens {_share(planted['precision'])} owe most to the planted sentence, "
        f"{_share(planted['mean_mass_of_planted'])} of their mass on average; BM25 names it first for "
        f"{_share(planted['baseline_precision'])}; {planted['n_whole_after_removal']} told once they were removed"
    )
    print(
        f"{agreed['n_sentences']} generated sentences: BM25 names what is owed most first for "
        f"{_share(agreed['first'])}, among ten for {_share(agreed['among_ranked'])}, in the same document for "
        f"{_share(agreed['same_document'])}"
    )


def _quantiles(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:+.2e}" for name, value in found.items())


def _share(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"
