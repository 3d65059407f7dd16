"""``manifest.json``: what a store is, fixed when it is made but for its keys, and signed with the store's key.

Knows formats and checksums; opens only its own file. Everything that search depends on besides
the segments is named here: the encoder, the shape, and what was fitted, on which licensed text.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore.errors import CorruptDatastore, NotADatastore, VerificationFailed
from datastore.files import canonical_json, read_json, write_bytes
from datastore.key_chain import KeyChain, Rotation, check_chain, rotations_from_json
from datastore.passages import PassageSettings
from datastore.signing import check_signature

FILE_NAME = "manifest.json"
FORMAT = 3
"""2: the public log and the journal of opt-outs."""


@dataclass(frozen=True)
class Manifest:
    """The fixed facts of a store."""

    store: str
    """Random id of this store, 32 hex digits."""
    created_at: str
    """UTC, ISO 8601."""
    encoder: str
    """Fingerprint of the LM and tokenizer that made the keys."""
    encoder_name: str
    dimension: int
    """Of a key."""
    token_type: str
    """numpy name of the stored tokens' type: ``uint16`` or ``uint32``."""
    knn_temperature: float
    """tau that was fitted on licensed text, in units of squared L2."""
    n_lists: int
    """Inverted lists of the ``keys`` view."""
    codec: str
    """How keys are written: one of ``codecs.KINDS``."""
    stored_dimension: int
    """Of a key in the store; less than ``dimension`` where a projection leaves out the others."""
    exact_below: int
    """With fewer live entries than this, a search scans all lists, whatever it was asked."""
    max_segment_positions: int
    """A segment is cut before the document that would exceed this many tokens."""
    passage_tokens: int
    """A passage is cut before the sentence that would exceed this many tokens."""
    passage_encoder: str
    """Fingerprint of what makes the passages' vectors; empty where there are none."""
    passage_encoder_name: str
    passage_dimension: int
    """Of a passage's vector; 0 where there are none."""
    n_fitted_documents: int
    """Licensed documents that centroids and temperature were fitted on; named in ``fitted-on.jsonl``."""
    files: Mapping[str, Mapping[str, Any]]
    """Size and SHA-256 of the files beside this one that never change."""
    public_key: str
    """Ed25519, hex; signs this manifest and every receipt from now on."""
    rotations: tuple[Rotation, ...] = ()
    """How the store came to that key from the one that it was made with."""
    format: int = FORMAT

    @property
    def chain(self) -> KeyChain:
        """All keys that signed for this store."""
        first = self.rotations[0].old_key if self.rotations else self.public_key
        return KeyChain(self.store, first, self.rotations)

    @property
    def is_projected(self) -> bool:
        """Whether dimensions of the keys are left out."""
        return self.stored_dimension < self.dimension

    @property
    def passage_settings(self) -> PassageSettings:
        """How the store cuts passages, and what made their vectors."""
        return PassageSettings(
            self.passage_tokens, self.passage_encoder, self.passage_encoder_name, self.passage_dimension
        )


def write_manifest(folder: Path, manifest: Manifest, key: Ed25519PrivateKey) -> None:
    """Sign ``manifest`` and write it: the last file of a new store."""
    facts = asdict(manifest)
    signed = facts | {"signature": key.sign(canonical_json(facts)).hex()}
    write_bytes(folder / FILE_NAME, canonical_json(signed))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the store in ``folder``.

    Raises:
        NotADatastore: there is none, or its format is not ours.
        CorruptDatastore: it was edited or torn.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise NotADatastore(
            f"{folder} holds no datastore: {FILE_NAME} is missing. Make one with `silo datastore build`."
        )
    facts = read_json(path, "the manifest of a datastore")
    if facts.get("format") != FORMAT:
        raise NotADatastore(f"{path} has format {facts.get('format')!r}; this version reads format {FORMAT}.")
    signature = facts.pop("signature", "")
    try:
        check_signature(str(facts.get("public_key")), str(signature), canonical_json(facts), str(path))
        manifest = Manifest(**facts | {"rotations": rotations_from_json(facts.get("rotations", []))})
        check_chain(manifest.chain)
        if manifest.chain.keys[-1] != manifest.public_key:
            raise VerificationFailed(f"{path} is signed by a key that its own chain does not end with")
        return manifest
    except (VerificationFailed, TypeError) as error:
        raise CorruptDatastore(f"{error}. Restore the store from a snapshot.") from None
