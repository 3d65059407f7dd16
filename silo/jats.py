"""Scientific articles in JATS XML: their title, paragraphs, authors and license.

Works on bytes of one article; opens no file. Formulas, tables, figures and footnotes are left out,
since what remains of them as plain text is noise. Knows nothing of packages and documents.
"""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from silo.errors import BadDocument

_MATH = "{http://www.w3.org/1998/Math/MathML}math"
_HREF = "{http://www.w3.org/1999/xlink}href"
_LEFT_OUT = {
    "alternatives", "disp-formula", "fig", "fig-group", "fn", "graphic", "inline-formula", "inline-graphic", "label",
    "object-id", "supplementary-material", "table-wrap", "tex-math", _MATH,
}  # fmt: skip
_CC_BY_URL = re.compile(r"^https?://creativecommons\.org/licenses/by/(\d\.\d)/?$")
_CC_BY_NAME = re.compile(r"creative commons attribution licen[sc]e")
_MORE_THAN_BY = re.compile(r"non-?\s?commercial|no-?\s?deriv|share-?\s?alike")


@dataclass(frozen=True)
class Article:
    """What a reader would call the article, and whom to credit."""

    doi: str
    title: str
    authors: tuple[str, ...]
    license: str
    """SPDX id of a Creative Commons Attribution license; empty where the article states another or none."""
    paragraphs: tuple[str, ...]
    """Abstract, then body, with section titles as paragraphs of their own."""


def parse_article(xml: bytes) -> Article:
    """Read one article.

    Raises:
        BadDocument: the bytes are not well-formed XML, or have no article title.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise BadDocument(f"expected an article in JATS XML; the XML is not well-formed: {error}") from None
    title = root.find("./front/article-meta/title-group/article-title")
    if title is None:
        raise BadDocument(f"expected an article in JATS XML; found <{root.tag}> without an article title")
    blocks = [*root.findall("./front/article-meta/abstract"), *root.findall("./body")]
    return Article(
        doi=root.findtext("./front/article-meta/article-id[@pub-id-type='doi']", "").strip(),
        title=_inline(title),
        authors=tuple(_authors(root)),
        license=_license(root.find("./front/article-meta/permissions/license")),
        paragraphs=tuple(text for block in blocks for text in _paragraphs(block)),
    )


def _license(element: ElementTree.Element | None) -> str:
    """The version where a link names it; the words alone, as older articles have them, leave it unstated."""
    if element is None:
        return ""
    text = " ".join("".join(element.itertext()).split()).lower()
    links = [link for node in element.iter() if (link := node.get(_HREF))]
    versions = {match[1] for link in links if (match := _CC_BY_URL.match(link))}
    if _MORE_THAN_BY.search(text) or len(versions) > 1 or any(not _CC_BY_URL.match(link) for link in links):
        return ""
    if versions:
        return f"CC-BY-{versions.pop()}"
    return "LicenseRef-CC-BY-version-unstated" if _CC_BY_NAME.search(text) else ""


def _authors(root: ElementTree.Element) -> list[str]:
    names = []
    for contributor in root.findall("./front/article-meta/contrib-group/contrib[@contrib-type='author']"):
        parts = (contributor.findtext("name/given-names", ""), contributor.findtext("name/surname", ""))
        name = " ".join(" ".join(parts).split()) or " ".join(contributor.findtext("collab", "").split())
        if name:
            names.append(name)
    return names


def _paragraphs(element: ElementTree.Element) -> list[str]:
    if element.tag in ("title", "p"):
        text = _inline(element)
        return [text] if text else []
    if element.tag in _LEFT_OUT:
        return []
    return [text for child in element for text in _paragraphs(child)]


def _inline(element: ElementTree.Element) -> str:
    """The element's text on one line, without the parts that are left out."""
    text = " ".join(_flatten(element).split())
    return re.sub(r" ([,.;:)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", text))


def _flatten(element: ElementTree.Element) -> str:
    parts = [element.text or ""]
    for child in element:
        parts.append("" if child.tag in _LEFT_OUT else _flatten(child))
        parts.append(child.tail or "")
    return "".join(parts)
