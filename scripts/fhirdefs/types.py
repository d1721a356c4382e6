"""What the StructureDefinitions say about each type, in the shape that the rest of the build needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from .sources import Sources

__all__ = ["Constraint", "Element", "Type", "read_types"]

_SYSTEM: Final = "http://hl7.org/fhirpath/System."
_FHIR_TYPE: Final = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
_TARGET: Final = "http://hl7.org/fhir/StructureDefinition/"
_DECIDES: Final = ("min", "max", "type", "binding", "contentReference", "definition")
_BINDING_LIMIT: Final = "required"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One FHIRPath invariant of severity error, where it is declared."""

    key: str
    path: str
    human: str
    expression: str

    @property
    def rule_id(self) -> str:
        """Unique: HL7 uses the key `inv-1` for two different rules."""
        return f"{self.path}:{self.key}"


@dataclass(frozen=True, slots=True)
class Element:
    """One element; a choice such as `value[x]` is one Element with several types and `choice` set."""

    name: str
    path: str
    min: int
    max: str
    types: tuple[str, ...]
    choice: bool
    attribute: bool  # a FHIRPath system type: Element.id, Extension.url; it can have no `_` sibling
    value_set: str | None
    targets: frozenset[str] | None  # None: not a Reference, or to any resource
    constraints: tuple[Constraint, ...]
    definition: str

    @property
    def is_array(self) -> bool:
        return self.max != "1"

    def keys(self) -> Iterator[tuple[str, str]]:
        """(JSON property, type) for each type that the element may have."""
        for type_name in self.types:
            yield (self.name + type_name[0].upper() + type_name[1:] if self.choice else self.name), type_name


@dataclass(slots=True)
class Type:
    """A resource, data type, backbone element (named by its path) or primitive."""

    name: str
    kind: str  # resource, complex-type, primitive-type, backbone
    elements: dict[str, Element] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    primitive: dict[str, Any] = field(default_factory=dict)
    definition: str = ""
    extensible: bool = False  # a primitive whose `_` sibling may be there; xhtml has none


def read_types(sources: Sources, supported: tuple[str, ...]) -> tuple[dict[str, Type], list[str]]:
    """`supported` and every data type they reach, with Resource and DomainResource (needed to read invariants).

    Also the paths of the elements that the carrier of the definitions has altered, which are read as HL7 published them.
    """
    altered: list[str] = []
    types: dict[str, Type] = {}
    todo = [*supported, "Resource", "DomainResource", "Element", "Extension"]
    while todo:
        name = todo.pop()
        if name in types:
            continue
        for read in _read(sources.structures[name], sources, altered):
            types[read.name] = read
            for element in read.elements.values():
                todo += [t for t in element.types if t in sources.structures and t not in types]
    return types, sorted(altered)


def _read(structure: dict[str, Any], sources: Sources, altered: list[str]) -> Iterator[Type]:
    name = structure["type"]
    elements = structure["snapshot"]["element"]
    kind = structure["kind"]
    parents = {e["path"].rpartition(".")[0] for e in elements if "." in e["path"]}
    types = {name: Type(name, kind)}
    for raw in elements:
        path = raw["path"]
        if kind != "primitive-type" and path in sources.data_elements:
            published = {k: sources.data_elements[path].get(k) for k in _DECIDES}
            if any(raw.get(k) != published[k] for k in _DECIDES):
                altered.append(path)
                raw = {**raw, **{k: v for k, v in published.items() if v is not None}}
        constraints = _constraints(raw, name)
        if path == name:
            types[name].constraints = constraints
            types[name].definition = raw["definition"]
            continue
        if kind == "primitive-type":
            if path.endswith(".value"):
                types[name].primitive = raw
            elif path.endswith(".extension"):
                types[name].extensible = raw["max"] != "0"
            continue
        if path in parents:  # a backbone: its own type, and an element of its parent
            types[path] = Type(path, "backbone", constraints=constraints, definition=raw["definition"])
            constraints = ()
        parent, _, leaf = path.rpartition(".")
        constraints += _profiled(raw, sources)
        types[parent].elements[leaf.removesuffix("[x]")] = _element(raw, path, leaf, path in parents, constraints)
    yield from types.values()


def _element(raw: dict[str, Any], path: str, leaf: str, backbone: bool, constraints: tuple[Constraint, ...]) -> Element:
    attribute = False
    names: list[str] = []
    targets: set[str] = set()
    for entry in raw.get("type", []):
        code = entry["code"]
        if code.startswith(_SYSTEM):
            attribute = True
            code = next(x["valueUrl"] for x in entry["extension"] if x["url"] == _FHIR_TYPE)
        names.append(code)
        targets |= {t.removeprefix(_TARGET) for t in entry.get("targetProfile", []) if code == "Reference"}
    if backbone:
        names = [path]
    elif "contentReference" in raw:
        names = [raw["contentReference"].removeprefix("#")]
    binding = raw.get("binding", {})
    return Element(
        name=leaf.removesuffix("[x]"),
        path=path,
        min=raw["min"],
        max=raw["max"],
        types=tuple(names),
        choice=leaf.endswith("[x]"),
        attribute=attribute,
        value_set=binding["valueSet"] if binding.get("strength") == _BINDING_LIMIT else None,
        targets=frozenset(targets) if targets and "Resource" not in targets else None,
        constraints=constraints,
        definition=raw["definition"],
    )


def _constraints(raw: dict[str, Any], owner: str) -> tuple[Constraint, ...]:
    """Only those declared here: a snapshot repeats ele-1 and ext-1 of the element's data type."""
    found = []
    for c in raw.get("constraint", []):
        source = c.get("source", "").rpartition("/")[2] or owner
        repeated = source in ("Element", "Extension") and raw["path"] != source
        if c["severity"] == "error" and not repeated:
            base = raw["path"] if source == owner else source
            found.append(Constraint(c["key"], base, c["human"], c["expression"]))
    return tuple(found)


def _profiled(raw: dict[str, Any], sources: Sources) -> tuple[Constraint, ...]:
    """The invariants of a profile that the element's type names, such as SimpleQuantity (sqty-1)."""
    found: list[Constraint] = []
    for entry in raw.get("type", []):
        for url in entry.get("profile", []):
            profile = sources.structures[url.removeprefix(_TARGET)]
            root = profile["snapshot"]["element"][0]
            own = [c for c in root["constraint"] if c.get("source", "").endswith("/" + profile["name"]) or "source" not in c]
            found += [Constraint(c["key"], profile["name"], c["human"], c["expression"]) for c in own if c["severity"] == "error"]
    return tuple(found)
