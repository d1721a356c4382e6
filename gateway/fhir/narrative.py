"""Narrative.div (R4 narrative.html): well-formed XHTML of a few elements and attributes, with something to read in it.

FHIR names the rules txt-1 and txt-2 and gives them as `htmlChecks()`, without an expression. The names below are those of the chapters
of HTML 4.0 that txt-1 cites ("7-11 (except section 4 of chapter 9) and 15"), links, images and style attributes. Parsed with expat; a
document type, and so any entity of the caller's own, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

__all__ = ["has_content", "only_allowed"]

_XHTML: Final = "http://www.w3.org/1999/xhtml"
_XML: Final = "http://www.w3.org/XML/1998/namespace"

_ELEMENTS: Final = frozenset(
    "a abbr acronym address b bdo big blockquote br caption cite code col colgroup dd del dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins"
    " kbd li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var".split()
)
_ATTRIBUTES: Final = frozenset(
    "abbr accesskey align alt axis border cellpadding cellspacing char charoff cite class colspan datetime dir frame headers height href"
    " hreflang id lang longdesc name nowrap rel rev rowspan rules scope span src start style summary tabindex title type valign value"
    " width".split()
) | {f"{_XML} lang", f"{_XML} space"}
_REMOTE_OR_ACTIVE: Final = ("javascript:", "vbscript:", "data:text")


@dataclass(slots=True)
class _Reader:
    allowed: bool = True
    content: bool = False
    depth: int = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        self.depth += 1
        if namespace != _XHTML or local not in _ELEMENTS or (self.depth == 1 and local != "div"):
            self.allowed = False
        for attribute, value in attributes.items():
            if attribute not in _ATTRIBUTES or value.strip().lower().startswith(_REMOTE_OR_ACTIVE):
                self.allowed = False
        if local == "img":
            self.content = True

    def end(self, _: str) -> None:
        self.depth -= 1

    def text(self, data: str) -> None:
        if data.strip():
            self.content = True

    def refuse(self, *_: object) -> None:
        self.allowed = False
        raise expat.ExpatError("document types are not allowed")


def _read(div: str) -> _Reader | None:
    """None when it isn't well-formed."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.ProcessingInstructionHandler = reader.refuse
    try:
        parser.Parse(div, True)
    except expat.ExpatError:
        return None
    return reader


def only_allowed(div: str) -> bool:
    """txt-1; false also for what is not well-formed."""
    reader = _read(div)
    return reader is not None and reader.allowed


def has_content(div: str) -> bool:
    """txt-2: some text that is not white space, or an image. Left to txt-1 when it can't be read."""
    reader = _read(div)
    return reader is None or reader.content
