"""The data card of a checkpoint: what went into it, for people and for machines.

Adds up the lists of documents that stand beside the weights, so a reader can add them up again; knows nothing
of models. Two files: ``data-card.md``, and ``croissant.json``, the same lists described in Croissant 1.0
(https://docs.mlcommons.org/croissant/docs/croissant-spec.html) for tools that load data sets. The checkpoint's
manifest names both by SHA-256. The texts themselves are not distributed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from silo.checkpoint import HELD_OUT_NAME, REFUSED_NAME, TRAINED_ON_NAME, TrainingDocument, read_training_documents
from silo.files import file_digest, new_file

PAGE_NAME = "data-card.md"
CROISSANT_NAME = "croissant.json"
_COUNTED = ("documents", "bytes", "tokens")
_FIELDS = {
    "id": ("sc:Text", "The document's name in its corpus"),
    "digest": ("sc:Text", "SHA-256 of the normalized text"),
    "license": ("sc:Text", "SPDX expression"),
    "risk": ("sc:Text", "PD, SW or BY"),
    "source": ("sc:Text", "The collection that it came from"),
    "owner": ("sc:Text", "Whom to credit"),
    "n_bytes": ("sc:Integer", "Of text, in UTF-8"),
    "n_tokens": ("sc:Integer", "Of text, by the checkpoint's tokenizer"),
}


@dataclass
class Sums:
    """Documents, bytes and tokens by (source, class, license)."""

    documents: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    n_bytes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    n_tokens: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, documents: Iterable[TrainingDocument]) -> "Sums":
        """The sums over ``documents``."""
        sums = cls()
        for document in documents:
            kind = (document.source, document.risk, document.license)
            sums.documents[kind] += 1
            sums.n_bytes[kind] += document.n_bytes
            sums.n_tokens[kind] += document.n_tokens
        return sums

    def by(self, index: int) -> list[tuple[str, int, int, int]]:
        """Name, documents, bytes and tokens for each source (0), class (1) or license (2), sorted by name."""
        rows: dict[str, list[int]] = {}
        for kind, n_documents in self.documents.items():
            row = rows.setdefault(kind[index], [0, 0, 0])
            for column, count in enumerate((n_documents, self.n_bytes[kind], self.n_tokens[kind])):
                row[column] += count
        return [(name or "not stated", row[0], row[1], row[2]) for name, row in sorted(rows.items())]


def write_card(
    folder: Path, name: str, refused: Mapping[str, int], overlap: Mapping[str, Mapping[str, float]], today: date
) -> None:
    """Write both files into a checkpoint's ``folder``, whose lists of documents are there already.

    ``refused``: documents by reason. ``overlap``: as `silo.overlap.shares` gives it, empty where no evaluation
    was named.
    """
    trained = Sums.of(read_training_documents(folder / TRAINED_ON_NAME))
    held_out = Sums.of(read_training_documents(folder / HELD_OUT_NAME))
    digests = {file: file_digest(folder / file) for file in (TRAINED_ON_NAME, HELD_OUT_NAME, REFUSED_NAME)}
    with new_file(folder / PAGE_NAME) as stream:
        stream.write(page(name, trained, held_out, refused, overlap, digests).encode("utf-8"))
    with new_file(folder / CROISSANT_NAME) as stream:
        described = croissant(name, trained, digests, today)
        stream.write(json.dumps(described, indent=1, ensure_ascii=False).encode("utf-8") + b"\n")


def page(
    name: str,
    trained: Sums,
    held_out: Sums,
    refused: Mapping[str, int],
    overlap: Mapping[str, Mapping[str, float]],
    digests: Mapping[str, str],
) -> str:
    """The card in Markdown."""
    n_documents = trained.documents.total()
    lines = [
        f"# Data card of {name}",
        "",
        f"{n_documents:,} documents trained the tokenizer and the LM: {trained.n_bytes.total():,} bytes of text, "
        f"{trained.n_tokens.total():,} tokens. {held_out.documents.total():,} more were held out for validation. "
        f"{sum(refused.values()):,} were refused. Classes: PD, public domain; SW, permissive software licenses; "
        "BY, attribution is the only duty; HIGH_RISK, everything else, which trains baselines alone.",
        "",
        f"Every document is named, with its digest, in `{TRAINED_ON_NAME}`, `{HELD_OUT_NAME}` and `{REFUSED_NAME}`. "
        "`silo corpus trace CHECKPOINT DOCUMENT` asks whether one trained it.",
    ]
    for title, index in (("class", 1), ("license", 2), ("source", 0)):
        rows = [[name, *(f"{n:,}" for n in counts)] for name, *counts in trained.by(index)]
        lines += ["", f"## By {title}", "", *_table([title, *_COUNTED], rows)]
    lines += ["", "## Refused", ""]
    reasons = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
    lines += _table(["reason", "documents"], [[reason, f"{n:,}"] for reason, n in reasons]) if reasons else ["None."]
    lines += ["", "## Overlap with evaluations", ""]
    if overlap:
        domains = list(next(iter(overlap.values())))
        lines += ["Share of each evaluation's runs of words that occur in the text that was kept, by source.", ""]
        cells = [[evaluation, *(f"{row[d]:.3%}" for d in domains)] for evaluation, row in overlap.items()]
        lines += _table(["evaluation", *domains], cells)
    else:
        lines += ["The recipe names no evaluation, so none was looked for."]
    lines += ["", "## Files", "", *_table(["file", "SHA-256"], [[f"`{f}`", f"`{d}`"] for f, d in digests.items()])]
    return "\n".join(lines) + "\n"


def croissant(name: str, trained: Sums, digests: Mapping[str, str], today: date) -> dict[str, object]:
    """The lists of documents as a Croissant 1.0 data set, in JSON-LD."""
    licenses = [license_url(license_id) for license_id, *_ in trained.by(2)]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"training-documents-of-{name}",
        "description": (
            f"Id, digest, license and source of the {trained.documents.total():,} documents "
            f"({trained.n_tokens.total():,} tokens) that trained the checkpoint {name}. The texts are not included."
        ),
        "license": licenses,
        "url": f"urn:sha256:{digests[TRAINED_ON_NAME]}",
        "citeAs": f"Training documents of the SILO checkpoint {name}, {today.year}",
        "version": "1.0.0",
        "datePublished": today.isoformat(),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file,
                "name": file,
                "contentUrl": file,
                "encodingFormat": "application/jsonlines",
                "sha256": digest,
            }
            for file, digest in digests.items()
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": record_set,
                "name": record_set,
                "key": {"@id": f"{record_set}/id"},
                "field": [_field(record_set, file, *described) for described in _FIELDS.items()],
            }
            for record_set, file in (("trained-on", TRAINED_ON_NAME), ("held-out", HELD_OUT_NAME))
        ],
    }


def license_url(license_id: str) -> str:
    """Where SPDX describes a license; expressions and ``LicenseRef-…`` stay as they are."""
    is_listed = " " not in license_id and not license_id.startswith("LicenseRef-")
    return f"https://spdx.org/licenses/{license_id}" if is_listed else license_id


def _field(record_set: str, file: str, name: str, described: tuple[str, str]) -> dict[str, object]:
    data_type, description = described
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
        "source": {"fileObject": {"@id": file}, "extract": {"column": name}},
    }


def _table(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    """A Markdown table; a bar inside a cell would end it."""
    cells = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""As the specification's appendix 1 asks for."""
