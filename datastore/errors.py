"""The exceptions of the datastore.

    DatastoreError
    ├── NotADatastore          the folder holds no datastore, or one of an unknown format
    ├── CorruptDatastore       a file is missing, torn or edited: its SHA-256 is not the manifest's
    ├── DuplicateDocument      a document id is in the store already, or twice in one batch
    ├── SuppressedDocument     the text was opted out and may not come back
    ├── UnknownDocument        no document of that id was ever in this store
    ├── BadArrays              keys, tokens or spans of the wrong shape, type or range
    ├── WriterBusy             another process is writing to this store
    ├── CannotWrite            the disk is full, read-only or failing
    ├── ReaderFenced           an opt-out did not wait longer for this step; its result is not to be used
    ├── UnknownRequest         no opt-out request of that id
    ├── RequestConflict        a request is in a state, or has a body, that does not allow what is asked
    ├── ProofRefused           a proof of ownership does not show what it should
    │   └── BadHost            a host that no proof of control is asked of
    ├── QuotaExceeded          too many documents would be hidden without a proof of ownership
    └── VerificationFailed     a receipt, signature or store does not show what it should

Each message says what was expected, what arrived, and what to do next.
"""


class DatastoreError(Exception):
    """Base of everything that the datastore raises on purpose."""


class NotADatastore(DatastoreError):
    """The folder holds no datastore, or one of an unknown format."""


class CorruptDatastore(DatastoreError):
    """A file is missing, torn or edited."""


class DuplicateDocument(DatastoreError):
    """A document id is in the store already, or twice in one batch."""


class SuppressedDocument(DatastoreError):
    """The text was opted out and may not come back."""


class UnknownDocument(DatastoreError):
    """No document of that id was ever in this store."""


class BadArrays(DatastoreError):
    """Keys, tokens or spans of the wrong shape, type or range."""


class WriterBusy(DatastoreError):
    """Another process is writing to this store."""


class CannotWrite(DatastoreError):
    """The disk is full, read-only or failing."""


class ReaderFenced(DatastoreError):
    """An opt-out did not wait longer for this step; its result is not to be used."""


class UnknownRequest(DatastoreError):
    """No opt-out request of that id."""


class RequestConflict(DatastoreError):
    """A request is in a state, or has a body, that does not allow what is asked."""


class ProofRefused(DatastoreError):
    """A proof of ownership does not show what it should."""


class BadHost(ProofRefused):
    """A host that no proof of control is asked of."""


class QuotaExceeded(DatastoreError):
    """Too many documents would be hidden without a proof of ownership."""


class VerificationFailed(DatastoreError):
    """A receipt, signature or store does not show what it should; the message carries the evidence."""
