"""Fitting the gate: which component to trust, learned where the answer is known, on licensed text.

What is predicted and what is stored are both licensed, and neither is in the other. One store teaches what a store is
worth that has text of the same source; a second one, of other sources, what it is worth without: the gate must know
both, since a datastore serves questions that it has nothing about. Kinds of retrieval are left out of some examples,
so that the gate holds for a store that has only one of them.

The loss is that of the mixture, minus the log of Σ share · p(token that came). Documents are held out to stop in time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from torch import Tensor

from datastore.store import Datastore
from silo.documents import Document
from silo.errors import BadDocument, BadRequest
from silo.evaluation.traces import Trace
from silo.evidence import Components, Evidence, feature_names, without
from silo.gate import CLIP, Gate, GateFacts
from silo.licenses import RiskClass, classify

_TINY = 1e-12


@dataclass(frozen=True)
class FitSettings:
    """How a gate is fitted. The defaults were chosen on licensed text."""

    n_hidden: int = 32
    n_epochs: int = 30
    batch_size: int = 1024
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    left_out_share: float = 0.1
    """Of the examples, those without one kind of retrieval; so many for each kind."""
    held_out_share: float = 0.15
    """Of the documents."""
    seed: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name != "seed" and not getattr(self, item.name) >= 0:
                raise BadRequest(f"{item.name} must not be negative; got {getattr(self, item.name)!r}")


def check_licensed(asked: Iterable[Document], stores: Iterable[Datastore]) -> tuple[dict[str, str], ...]:
    """Id, digest and license of each document that is to teach a gate, those of the stores too.

    Raises:
        BadDocument: one is high-risk, or one that is asked is stored: it would teach that stores know every answer.
    """
    rows = []
    stored = [document.facts for store in stores for document in store.documents("live")]
    digests = {facts.digest for facts in stored}
    for document in asked:
        if document.digest in digests:
            raise BadDocument(
                f"document {document.id!r} is in the store that it is to be predicted with. Ask other documents."
            )
        rows.append((document.id, document.digest, document.license))
    rows += [(facts.id, facts.digest, facts.license) for facts in stored]
    for id_, _, license_ in rows:
        decision = classify(license_)
        if decision.risk is RiskClass.HIGH_RISK:
            raise BadDocument(
                f"document {id_!r} is high-risk: {decision.reason}. A gate is fitted on licensed text, with stores of "
                "licensed text: what it learned cannot be taken out of it."
            )
    return tuple({"id": id_, "digest": digest, "license": license_} for id_, digest, license_ in rows)


def fit_gate(
    seen: Trace,
    components: Components,
    encoder: str,
    trained_on: Sequence[dict[str, str]],
    settings: FitSettings = FitSettings(),
    n_stores: int = 1,
    report: Callable[[int, float, float], None] = lambda *_: None,
) -> Gate:
    """A gate for ``components`` from ``seen``: the same documents, asked with each of ``n_stores``, one after another.

    ``report`` is told the epoch and both losses, in nats per token.

    Of all epochs the one with the lowest loss on held-out documents is kept.
    """
    random = np.random.default_rng(settings.seed)
    is_held_out = _drawn(seen, settings, n_stores, random)
    known = Evidence(seen.features, seen.is_present)
    training, validation = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if not len(training) or not len(validation):
        raise BadRequest(f"a gate needs documents to learn from and others to stop by; got {len(seen.lengths)} in all")
    mean, scale = seen.features[training].mean(axis=0), seen.features[training].std(axis=0) + 1e-3
    kinds = {kind: without(known, components, kind) for kind in ("knn", "ngram")}

    def batch(rows: np.ndarray, kind: str | None) -> tuple[Tensor, Tensor, Tensor]:
        asked = known if kind is None else kinds[kind]
        x = np.clip((asked.features[rows] - mean) / scale, -CLIP, CLIP).astype(np.float32)
        arrays = (x, asked.is_present[rows], seen.gold[rows])
        x_, present, gold = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        return x_, present, gold

    net = _Network(len(feature_names(components)), settings.n_hidden, len(components), settings.seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    n_steps = settings.n_epochs * -(-len(training) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, n_steps)
    whole = batch(validation, None)
    best, kept = np.inf, net.arrays()
    losses: list[float] = []
    for epoch in range(settings.n_epochs):
        order = random.permutation(training)
        total = 0.0
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            u = random.random()
            kind = "knn" if u < settings.left_out_share else "ngram" if u > 1 - settings.left_out_share else None
            loss = net.loss(*batch(rows, kind))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        with torch.inference_mode():
            now = float(net.loss(*whole))
        losses.append(now)
        report(epoch, total / len(order), now)
        if now < best:
            best, kept = now, net.arrays()
    facts = asdict(settings) | {"held_out_loss": best, "n_tokens": len(training), "torch": torch.__version__}
    return Gate(components, GateFacts(encoder, tuple(trained_on), facts), mean, scale, *kept)


class _Network(torch.nn.Module):
    """The gate's equation in torch."""

    def __init__(self, n_features: int, n_hidden: int, n_components: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(n_features, n_hidden, generator=generator) / n_features**0.5
        self.first = torch.nn.Parameter(first)
        self.first_bias = torch.nn.Parameter(torch.zeros(n_hidden))
        self.second = torch.nn.Parameter(torch.zeros(n_hidden, n_components))
        self.second_bias = torch.nn.Parameter(torch.zeros(n_components))

    def loss(self, x: Tensor, is_present: Tensor, gold: Tensor) -> Tensor:
        """Nats per token of the mixture."""
        logits = torch.tanh(x @ self.first + self.first_bias) @ self.second + self.second_bias
        shares = torch.softmax(logits.masked_fill(~is_present, -1e30), dim=1)
        return -((shares * gold).sum(dim=1) + _TINY).log().mean()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Copies of the weights."""
        found = (self.first, self.first_bias, self.second, self.second_bias)
        a, b, c, d = (parameter.detach().numpy().copy() for parameter in found)
        return a, b, c, d


def _drawn(seen: Trace, settings: FitSettings, n_stores: int, random: np.random.Generator) -> np.ndarray:
    """Which tokens are of held-out documents; a document is held out with all stores or with none."""
    n = len(seen.lengths) // n_stores
    n_held_out = min(n - 1, max(1, round(settings.held_out_share * n)))
    return np.isin(seen.documents % n, random.permutation(n)[:n_held_out])
