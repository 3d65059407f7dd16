"""The gate: how much of each position's probability goes to the LM, to the neighbors and to the suffixes.

A network of two small layers over the features of ``silo.evidence``, evaluated with numpy; knows neither models nor
stores. It is fitted on licensed text alone (``silo.gate_fitting``), like everything that mixing depends on: fitted on
text that can be removed it would keep a trace of it. Its file names that text.

    shares = softmax(W_2 tanh(W_1 (x - mean) / scale + b_1) + b_2), absent components masked out
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from silo.errors import BadGate, EncoderMismatch
from silo.evidence import Components, Evidence, feature_names
from silo.files import file_digest, new_file

GATE_NAME = "gate.safetensors"
"""Of a gate's file, in the folder of a datastore or of a checkpoint."""
FORMAT = 1
_HEADER = "silo-gate"
_FIRST = np.float32(-1e30)
CLIP = 8.0
"""Standard deviations beyond which a feature says no more: stores of other text reach further than licensed text."""


@dataclass(frozen=True)
class GateFacts:
    """Where a gate comes from. Everything in it is plain JSON."""

    encoder: str
    """Fingerprint of the LM whose features it was fitted on."""
    trained_on: tuple[Mapping[str, str], ...]
    """Id, digest and license of every document, all of permissive classes: of those predicted and those stored."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it was fitted: seed, steps, versions, losses."""


@dataclass(frozen=True)
class Gate:
    """Weights for the components of a mixture, by position."""

    components: Components
    facts: GateFacts
    mean: Float[np.ndarray, " f"]
    scale: Float[np.ndarray, " f"]
    first: Float[np.ndarray, "f h"]
    first_bias: Float[np.ndarray, " h"]
    second: Float[np.ndarray, "h c"]
    second_bias: Float[np.ndarray, " c"]
    digest: str = ""
    """SHA-256 of the file that it was loaded from, hex."""

    def shares(self, evidence: Evidence) -> Float[np.ndarray, "n c"]:
        """The weight of each component, in the order of ``components.names``; rows sum to one.

        An absent component gets zero. A position's shares depend on that position alone, whatever else is asked with
        it.
        """
        x = np.clip((evidence.features - self.mean) / self.scale, -CLIP, CLIP)
        # einsum, not a matrix product: BLAS rounds a row differently with the number of rows
        hidden = np.tanh(np.einsum("nf,fh->nh", x, self.first) + self.first_bias)
        logits = np.einsum("nh,hc->nc", hidden, self.second) + self.second_bias
        logits = np.where(evidence.is_present, logits, _FIRST).astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def check_encoder(self, fingerprint: str) -> None:
        """Raise EncoderMismatch unless the gate was fitted with the LM of this fingerprint."""
        if self.facts.encoder != fingerprint:
            raise EncoderMismatch(
                f"this gate was fitted with the LM {self.facts.encoder:.12}…; the loaded one is {fingerprint:.12}…. "
                "Load the checkpoint that it was fitted with, or fit another with `silo datastore fit-gate`."
            )

    def save(self, path: Path) -> None:
        """Write the gate to ``path``, one safetensors file whose header tells where it comes from."""
        header = {"format": FORMAT, "components": asdict(self.components), "facts": asdict(self.facts)}
        header["features"] = feature_names(self.components)
        with new_file(path) as stream:
            stream.write(save(self._arrays(), {_HEADER: json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> "Gate":
        """The gate in ``path``.

        Raises:
            BadGate: it is missing, torn, of another format, or its features are not those of this version.
        """
        try:
            with safe_open(path, "np") as file:
                header = json.loads((file.metadata() or {})[_HEADER])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header["format"] != FORMAT:
                raise BadGate(f"{path} has format {header['format']!r}; this version reads format {FORMAT}")
            named = header["components"]
            components = Components(named["k"], tuple(named["temperatures"]), tuple(named["limits"]))
            facts = GateFacts(**header["facts"] | {"trained_on": tuple(header["facts"]["trained_on"])})
            features = tuple(header["features"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise BadGate(f"{path} is no gate: {error}. Expected a file of `silo datastore fit-gate`.") from error
        if features != feature_names(components):
            raise BadGate(f"{path} was fitted on other features than this version computes; fit it again.")
        f, h, c = len(features), len(arrays.get("first_bias", ())), len(components)
        expected = {"mean": (f,), "scale": (f,), "first": (f, h), "first_bias": (h,), "second": (h, c)}
        expected["second_bias"] = (c,)
        if (found := {name: array.shape for name, array in arrays.items()}) != expected:
            raise BadGate(f"{path} should have arrays of the shapes {expected}; it has {found}")
        return cls(components, facts, digest=file_digest(path), **arrays)

    def _arrays(self) -> dict[str, np.ndarray]:
        names = ("mean", "scale", "first", "first_bias", "second", "second_bias")
        return {name: np.ascontiguousarray(getattr(self, name), dtype=np.float32) for name in names}


def fixed(components: Components, shares: Float[np.ndarray, " c"], evidence: Evidence) -> Float[np.ndarray, "n c"]:
    """The baseline: the same ``shares`` everywhere. Those of absent components go to the LM."""
    found = np.where(evidence.is_present, shares, 0.0)
    found[:, 0] += 1 - found.sum(axis=1)
    assert found.shape[1] == len(components)
    return found
