"""The bodies of requests about documents: to add them, and to take them out. As strict as ``schemas``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.schemas import Body
from silo.documents import MAX_ID_CHARACTERS

MAX_DOCUMENTS = 64
"""Added by one request."""
DocumentId = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS)]
Token = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class OptOutRequest(Body):
    """The body of ``POST /v1/optouts``."""

    document: DocumentId


class OptOutOpening(Body):
    """The body of ``POST /v1/opt-outs``."""

    document: DocumentId
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The same key opens the same request; without one each call opens another."""


class ChallengeRequest(Body):
    """The body of ``POST /v1/opt-outs/{id}/challenge``."""

    method: Literal["key", "dns", "file"]


class ProofRequest(Body):
    """The body of ``POST /v1/opt-outs/{id}/proof``."""

    method: Literal["key", "dns", "file", "possession"]
    token: Token | None = None
    """The challenge's; for all but ``possession``."""
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")] | None = None
    """Of the challenge's message, by the submitter's Ed25519 key; for ``key``."""
    text: Annotated[str, Field(min_length=1)] | None = None
    """The document's; for ``possession``."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        needed = {"key": ("token", "signature"), "possession": ("text",)}.get(self.method, ("token",))
        if missing := [name for name in needed if getattr(self, name) is None]:
            raise ValueError(f"a proof by {self.method} needs {' and '.join(missing)}")
        return self


class DecisionRequest(Body):
    """The body of ``POST /v1/opt-outs/{id}/decision``."""

    decision: Literal["accepted", "rejected", "disputed"]
    note: Annotated[str, Field(max_length=2000)] = ""


class NewDocument(Body):
    """A document to be added."""

    id: DocumentId
    text: Annotated[str, Field(min_length=1)]
    license: Annotated[str, Field(max_length=200)] = ""
    """SPDX expression or ``LicenseRef-…``; empty means that nobody said, which is high-risk."""
    source: Annotated[str, Field(max_length=200)] = ""
    title: Annotated[str, Field(max_length=1000)] = ""
    owner: Annotated[str, Field(max_length=1000)] = ""
    url: Annotated[str, Field(max_length=2000)] = ""
    submitter_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """An Ed25519 public key, whose owner may take the document out."""


class IngestRequest(Body):
    """The body of ``POST /v1/documents``."""

    documents: Annotated[list[NewDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)]
