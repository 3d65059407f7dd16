"""A document: one text with its license and its owner.

Works on facts; opens no file and knows neither tokens nor vectors. Everything that SILO
trains on, retrieves, attributes or removes is one of these, never a slice of a joined stream.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from silo.errors import BadDocument

MAX_ID_CHARACTERS = 512
MAX_TEXT_BYTES = 64 * 1024 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Document:
    """One text, whole, with what is needed to credit it and to let it go.

    Raises:
        BadDocument: the id is empty, too long or has control characters; a field is no string;
            the text is larger than ``MAX_TEXT_BYTES`` or is not valid Unicode (a lone surrogate).
    """

    id: str
    """Unique in a corpus and in a datastore; chosen by whoever submits the document."""
    text: str
    license: str = ""
    """SPDX expression or ``LicenseRef-…``; empty means that nobody said, which is high-risk."""
    source: str = ""
    """The collection that it came from, for example ``news_bbc``."""
    title: str = ""
    owner: str = ""
    """Whom an opt-out request would name."""
    url: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "text", "license", "source", "title", "owner", "url"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise BadDocument(f"a document's {name} must be a string; got {type(value).__name__}: {value!r:.80}")
            try:
                n_bytes = len(value.encode("utf-8"))
            except UnicodeEncodeError as error:
                raise BadDocument(
                    f"the {name} of document {self.id!r:.80} is not valid Unicode: lone surrogate at character "
                    f"{error.start}. Decode the source as UTF-8 and submit it again."
                ) from None
            if name == "text" and n_bytes > MAX_TEXT_BYTES:
                raise BadDocument(
                    f"document {self.id!r} has {n_bytes:,} bytes of text; the limit is {MAX_TEXT_BYTES:,}. Split it."
                )
        if not self.id or len(self.id) > MAX_ID_CHARACTERS or _CONTROL.search(self.id):
            raise BadDocument(
                f"a document id must be 1 to {MAX_ID_CHARACTERS} characters without control characters; "
                f"got {self.id!r:.80}"
            )
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the normalized text in UTF-8."""
        return text_digest(self.text)


def text_digest(text: str) -> str:
    """SHA-256, in hex, of ``text`` in UTF-8 after NFC and with line ends as ``\\n``.

    Two files that differ in composed accents or in line ends alone are one text.
    """
    normalized = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return hashlib.sha256(normalized.encode("utf-8")).hexdigest()
