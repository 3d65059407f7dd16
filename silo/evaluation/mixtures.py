"""The mixtures that experiments with generated text compare, by name. Knows settings; knows no LM and no store."""

from collections.abc import Sequence
from dataclasses import replace

from silo.errors import BadRequest
from silo.settings import DEFAULT_KNN_SHARE, GenerationSettings

LM, FIXED, GATE, KNN, NGRAM = "lm", "fixed", "gate", "knn", "ngram"
HEAVY = 0.9
"""The share of the one predictor that speaks in ``knn`` and in ``ngram``."""
_SHARES: dict[str, tuple[float | None, float | None]] = {
    LM: (0.0, 0.0),
    FIXED: (DEFAULT_KNN_SHARE, None),
    GATE: (None, None),
    KNN: (HEAVY, 0.0),
    NGRAM: (0.0, HEAVY),
}


def mixtures(settings: GenerationSettings, has_gate: bool, wanted: Sequence[str] = ()) -> dict[str, GenerationSettings]:
    """``settings`` with the shares of each mixture, or of those that are ``wanted``, in the order above.

    ``lm`` is the LM alone, ``fixed`` has the shares that hold where nobody names one, ``gate`` leaves them to the gate.

    Raises:
        BadRequest: there is no mixture of that name, or it is the gate's and there is none.
    """
    known = [name for name in _SHARES if has_gate or name != GATE]
    if strange := [name for name in wanted if name not in known]:
        why = "; there is no gate beside the datastore or the LM: name one with --gate" if strange[0] == GATE else ""
        raise BadRequest(f"a mixture is one of {', '.join(known)}; got {strange[0]!r}{why}")
    return {name: _with_shares(settings, *_SHARES[name]) for name in known if name in wanted or not wanted}


def _with_shares(settings: GenerationSettings, knn: float | None, ngram: float | None) -> GenerationSettings:
    return replace(settings, knn=replace(settings.knn, weight=knn), ngram=replace(settings.ngram, weight=ngram))
