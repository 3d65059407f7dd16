"""``/playground``: one page on which a prompt is continued, each token shaded by what the datastore gave to it.

The page is a client of the API like any other. Its settings are ``CONTROLS``, each with the path of the request's field
that it sets; a control whose field the API does not have is not shown, nor the gate where there is none, so a new
component of the mixture is a line here and nothing else. Examples are openings of documents that are live when the
page is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from flask import Blueprint, Response
from pydantic import BaseModel

from datastore.errors import UnknownDocument
from datastore.store import Datastore
from datastore.tables import LIVE
from serving.engine import Engine
from serving.pages import page, page_blueprint
from serving.schemas import MAX_PASSAGES, CompletionRequest, KnnOptions
from silo.settings import Shares

N_EXAMPLES = 4
N_EXAMPLE_WORDS = 12
_SHARES = Shares.of(None, None)

Kind = Literal["share", "number", "switch", "choice"]


@dataclass(frozen=True)
class Control:
    """A setting on the page."""

    path: str
    """Of the field in the request: ``knn.weight``."""
    label: str
    hint: str
    kind: Kind
    default: float | int | str | bool | None
    low: float | None = None
    high: float | None = None
    step: float | str = "any"
    options: Sequence[str] = ()
    is_component: bool = False
    """Whether it turns a part of the mixture on and off; ``off`` is then what the field is when it is off."""
    is_on: bool = True
    """Whether that part is on at first."""
    decides: Sequence[str] = ()
    """Paths of the fields that are left out of the request while it is on."""
    off: float | int | str | bool | None = None
    is_fine: bool = False
    """Whether few will touch it."""
    is_shared: bool = False
    """Whether both answers of a comparison have the same."""


CONTROLS = (
    Control("max_tokens", "Length", "Tokens to add", "number", 64, 1, 512, 1, is_shared=True),
    Control("temperature", "Temperature", "0 takes the likeliest token", "number", 0.0, 0, 2, 0.1, is_shared=True),
    Control("top_p", "Top p", "Nucleus of sampling", "number", 1.0, 0.05, 1, 0.05, is_shared=True),
    Control("seed", "Seed", "The same seed draws the same answer", "number", 1, 0, 2**31 - 1, 1, is_shared=True),
    Control(
        "knn.weight",
        "Nearest contexts",
        "Share of each token's probability that is given to entries with a similar context (kNN-LM)",
        "share",
        _SHARES.knn,
        0,
        1,
        0.05,
        is_component=True,
        off=0.0,
    ),
    Control(
        "ngram.weight",
        "Longest match",
        "Share given to what followed the longest run of words that occurs in the datastore (∞-gram)",
        "share",
        _SHARES.ngram,
        0,
        1,
        0.05,
        is_component=True,
        off=0.0,
    ),
    Control(
        "retrieval.n_passages",
        "Retrieved passages",
        "Passages that the LM reads before the text; of more than one each gets a run of its own",
        "number",
        1,
        1,
        MAX_PASSAGES,
        1,
        is_component=True,
        off=0,
        is_on=False,
    ),
    Control(
        "gate",
        "Gate",
        "A small network sets the shares for each token",
        "switch",
        True,
        is_component=True,
        off=False,
        decides=("knn.weight", "ngram.weight"),
    ),
    Control(
        "knn.k",
        "Neighbors",
        "Entries that are looked at for each token",
        "number",
        KnnOptions().k,
        1,
        512,
        1,
        is_fine=True,
    ),
    Control(
        "knn.temperature",
        "Sharpness",
        "Smaller trusts the nearest entries more; empty takes what was fitted with the datastore",
        "number",
        KnnOptions().temperature,
        0.01,
        1000,
        is_fine=True,
    ),
    Control(
        "knn.n_probe",
        "Lists searched",
        "Inverted lists for each search",
        "number",
        KnnOptions().n_probe,
        1,
        512,
        1,
        is_fine=True,
    ),
)


def blueprint(engine: Engine, store: Datastore | None) -> Blueprint:
    """The page. ``store`` is where examples come from."""
    routes = page_blueprint("playground")

    @routes.get("/playground")
    def show() -> Response:
        return page(
            "playground.html",
            model=engine.model_name,
            has_datastore=engine.epoch is not None,
            controls=[control for control in CONTROLS if _is_shown(control, engine)],
            examples=[] if store is None else examples(store),
        )

    return routes


def _is_shown(control: Control, engine: Engine) -> bool:
    return has_field(CompletionRequest, control.path) and (control.path != "gate" or engine.has_gate)


def has_field(schema: type[BaseModel], path: str) -> bool:
    """Whether a request of ``schema`` may have the field at ``path``."""
    first, _, rest = path.partition(".")
    if first not in schema.model_fields:
        return False
    inner = schema.model_fields[first].annotation
    if not rest:
        return True
    return isinstance(inner, type) and issubclass(inner, BaseModel) and has_field(inner, rest)


def examples(store: Datastore) -> list[str]:
    """The first words of a few live documents."""
    found = []
    for document in islice(store.documents(LIVE), N_EXAMPLES):
        try:
            words = store.sentence_text(document.facts.id, 0).split()
        except UnknownDocument:
            continue
        if words:
            found.append(" ".join(words[:N_EXAMPLE_WORDS]))
    return found
