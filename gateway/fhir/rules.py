"""What neither the schema nor a translated invariant says: reference targets, and the three invariants written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.fhir.logic import Context
from gateway.fhir.model import PYTHON_RULES, known_resources
from gateway.fhir.narrative import has_content, only_allowed
from gateway.problems import IssueCode

__all__ = ["ReferenceContext", "check_reference"]

Fault = tuple[str, IssueCode, str]
"""(member, code, what to do)"""

_LITERAL: Final = re.compile(r"(?:https?://.+/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_CONDITIONAL: Final = re.compile(r"([A-Z][A-Za-z]+)\?.+", re.DOTALL)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.", re.DOTALL)
_STRUCTURE: Final = "http://hl7.org/fhir/StructureDefinition/"


class ReferenceContext(Context):
    """Also knows the entries of the Bundle that the resource lies in: fullUrl -> type."""

    __slots__ = ("entries",)

    def __init__(
        self, resource: Mapping[str, Any], root: Mapping[str, Any], contained: Mapping[str, str], entries: Mapping[str, str]
    ) -> None:
        super().__init__(resource, root, contained)
        self.entries = entries


def check_reference(node: Mapping[str, Any], targets: frozenset[str] | None, context: ReferenceContext) -> Sequence[Fault]:
    """R4 references.html: a literal reference and Reference.type name a type that the element allows, and the same one."""
    literal, stated = node.get("reference"), node.get("type")
    found = None if literal is None else _target(literal, context)
    if stated is None and (not targets or found is None or found in targets) and found != "":
        return ()
    if found == "":
        return (("reference", IssueCode.VALUE, "Write a relative reference as Type/id, with a resource type of FHIR R4."),)
    faults: list[Fault] = []
    allowed = ", ".join(sorted(targets)) if targets else ""
    if found and targets and found not in targets:
        faults.append(("reference", IssueCode.VALUE, f"Refer to one of the types that FHIR allows here: {allowed}."))
    if stated is not None:
        stated = stated.removeprefix(_STRUCTURE)
        if found and stated != found:
            faults.append(("type", IssueCode.VALUE, "Reference.type must be the type of the resource that Reference.reference names."))
        elif targets and stated not in targets:
            faults.append(("type", IssueCode.VALUE, f"Name one of the types that FHIR allows here: {allowed}."))
    return faults


def _target(literal: str, context: ReferenceContext) -> str | None:
    """The type a reference points at; None when it can't be told from here; "" when it is no reference at all."""
    if literal[0] == "#":
        return context.root.get("resourceType") if literal == "#" else context.contained.get(literal[1:])
    entry = context.entries.get(literal)
    if entry is not None:
        return entry
    match = _LITERAL.fullmatch(literal) or _CONDITIONAL.fullmatch(literal)
    if match is not None and match[1] in known_resources():
        return match[1]
    return None if _ABSOLUTE.match(literal) else ""


def _dom_3(resource: Mapping[str, Any], context: Context) -> bool:
    """Each contained resource is referred to from its container, or refers to it (`#`).

    HL7's expression looks at elements of type Reference, canonical, uri and url; here any text that is exactly `#id` counts.
    """
    if "contained" not in resource:
        return True
    used = {text[1:] for text in _texts(resource) if text[0] == "#"}
    return all("id" not in inner or inner["id"] in used or "#" in set(_texts(inner)) for inner in resource["contained"])


def _texts(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        at = todo.pop()
        if isinstance(at, str):
            if at:
                yield at
        elif isinstance(at, dict):
            todo.extend(at.values())
        elif isinstance(at, list):
            todo.extend(at)


PYTHON_RULES["DomainResource:dom-3"] = _dom_3
PYTHON_RULES["Narrative.div:txt-1"] = lambda div, _: only_allowed(div)
PYTHON_RULES["Narrative.div:txt-2"] = lambda div, _: has_content(div)
