"""A Consent as Cedar policies: a second, independent reading of the rules of `gateway.decision.consent`.

Nothing of the product's compiler or evaluator is used. Cedar's own rule, that one `forbid` overrides every `permit`, stands for the
combination of several consents; what is deeper wins because a `forbid` holds only unless a deeper permit of the same consent matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.decision.consent import ConsentRequest

__all__ = ["ACTORS", "context_of", "policies_of"]

Json = Mapping[str, Any]

ACTORS: Final[Mapping[str, Mapping[str, str]]] = {
    "Organization/harbour": {"party": "harbour"},
    "Organization/clinic": {"party": "clinic"},
    "HealthcareService/harbour.ht": {"party": "harbour", "unit": "ht"},
    "PractitionerRole/harbour.cic": {"party": "harbour", "role": "cic"},
    "Practitioner/w": {"person": "Practitioner/w"},
    "Group/g": {"group": "Group/g"},
}
"""Whom each reference names."""

_BELOW: Final = {"TREAT": ("COC", "ETREAT", "ERTREAT"), "ETREAT": ("ERTREAT",), "SPI": ("BH", "MH", "SUD")}
"""Of HL7's code hierarchies, as much as these consents use; a denial reaches what is below its code."""

_CONFIDENTIALITY: Final = ("U", "L", "M", "N", "R", "V")
_SCOPES: Final = "warm-transfer", "income-support"
_NEVER: Final = "false"


def _ms(value: str) -> int:
    return round(datetime.fromisoformat(value).timestamp() * 1000)


def _strings(values: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _any(parts: Sequence[str]) -> str:
    return "(" + " || ".join(parts) + ")" if parts else _NEVER


def _all(parts: Sequence[str]) -> str:
    return "(" + " && ".join(parts) + ")" if parts else "true"


@dataclass(frozen=True)
class _Reading:
    """How a condition on something the request may not say is read: surely met, or possibly met."""

    surely: bool

    def known(self, name: str, test: str) -> str:
        return f"(context has {name} && {test})" if self.surely else f"(!(context has {name}) || {test})"

    def members(self, name: str, values: Sequence[str], *, all_: bool = False) -> str:
        test = f"{_strings(values)}.containsAll(context.{name})" if all_ else f"context.{name}.containsAny({_strings(values)})"
        return self.known(name, test)

    def one(self, name: str, values: Sequence[str]) -> str:
        return self.known(name, f"{_strings(values)}.contains(context.{name})")


def _widened(codes: Sequence[str], deny: bool) -> list[str]:
    return [*codes, *(below for code in codes for below in _BELOW.get(code, ()))] if deny else list(codes)


def _codes(items: Sequence[Json]) -> list[str]:
    return [c["code"] for item in items for c in item.get("coding", [item])]


def _time(span: Json) -> str:
    parts = [f"context.at >= {_ms(span['start'])}"] if "start" in span else []
    return _all(parts + ([f"context.at <= {_ms(span['end'])}"] if "end" in span else []))


def _labels(codes: Sequence[str], deny: bool, read: _Reading) -> str:
    sensitive = _widened([c for c in codes if c not in _CONFIDENTIALITY], deny)
    ranks = [_CONFIDENTIALITY.index(c) for c in codes if c in _CONFIDENTIALITY]
    tests = [f"context.labels.containsAny({_strings(sensitive)})"] if sensitive else []
    if ranks and deny:
        tests.append(f"context.labels.containsAny({_strings(_CONFIDENTIALITY[min(ranks) :])})")
        if not read.surely:
            tests.append(f"!context.labels.containsAny({_strings(_CONFIDENTIALITY)})")
    elif ranks:
        said = f"context.labels.containsAny({_strings(_CONFIDENTIALITY)})"
        tests.append(_all([said, f"!context.labels.containsAny({_strings(_CONFIDENTIALITY[max(ranks) + 1 :])})"]))
    return read.known("labels", _any(tests))


def _data_period(span: Json, read: _Reading) -> str:
    starts, ends = (_ms(span[k]) if k in span else None for k in ("start", "end"))
    parts = []
    if starts is not None:
        inner = f"(context.dataPeriod has starts && context.dataPeriod.starts >= {starts})"
        parts.append(inner if read.surely else f"(!(context.dataPeriod has ends) || context.dataPeriod.ends >= {starts})")
    if ends is not None:
        inner = f"(context.dataPeriod has ends && context.dataPeriod.ends <= {ends})"
        parts.append(inner if read.surely else f"(!(context.dataPeriod has starts) || context.dataPeriod.starts <= {ends})")
    return read.known("dataPeriod", _all(parts))


def _holds(p: Json, *, deny: bool, surely: bool) -> str:
    """All conditions of one provision."""
    read = _Reading(surely)
    parts: list[str] = []
    if "period" in p:
        parts.append(_time(p["period"]))
    if "actor" in p:
        named = [ACTORS[a["reference"]["reference"]] for a in p["actor"]]
        tests = [[read.members("groups", [v]) if n == "group" else read.one(n, [v]) for n, v in a.items()] for a in named]
        parts.append(_any([_all(test) for test in tests]))
    if "action" in p:
        parts.append(read.one("action", _codes(p["action"])))
    if "purpose" in p:
        parts.append(read.members("purposes", _widened(_codes(p["purpose"]), deny), all_=surely))
    if "class" in p:
        kinds = {"resourceType": [c["code"] for c in p["class"] if c["system"].endswith("resource-types")]}
        kinds["dataClass"] = [c["code"] for c in p["class"] if not c["system"].endswith("resource-types")]
        parts.append(_any([read.one(name, codes) for name, codes in kinds.items() if codes]))
    if "code" in p:
        scopes = [c["code"] for item in p["code"] for c in item["coding"] if c["code"] in _SCOPES]
        content = [f"{c['system']}|{c['code']}" for item in p["code"] for c in item["coding"] if c["code"] not in _SCOPES]
        parts.append(_any([read.one("scope", scopes)] * bool(scopes) + [read.members("codes", content)] * bool(content)))
    if "securityLabel" in p:
        parts.append(_labels(_codes(p["securityLabel"]), deny, read))
    if "dataPeriod" in p:
        parts.append(_data_period(p["dataPeriod"], read))
    if "data" in p:
        parts.append(read.members("data", [f"{d['meaning']}|{d['reference']['reference']}" for d in p["data"]]))
    return _all(parts)


@dataclass(frozen=True)
class _Found:
    depth: int
    deny: bool
    test: str


def _walk(p: Json, depth: int, around: Sequence[str]) -> list[_Found]:
    found: list[_Found] = []
    for nested in p.get("provision", ()):
        deny = nested["type"] == "deny"
        surely = _holds(nested, deny=deny, surely=True)
        test = _holds(nested, deny=True, surely=False) if deny else _all([*around, surely])
        found += [_Found(depth, deny, test), *_walk(nested, depth + 1, [*around, surely])]
    return found


def _guard(consent: Json, all_: Sequence[Json]) -> str:
    """When a Consent counts at all: its subject, its time, and no later one under the same identifier that has begun."""
    parts = [f'(!(context has patient) || context.patient == "{consent["patient"]["reference"]}")']
    if "period" in consent["provision"]:
        parts.append(_time(consent["provision"]["period"]))
    mine = {i["value"] for i in consent.get("identifier", ())}
    for other in all_:
        later = _ms(other["dateTime"]) > _ms(consent["dateTime"]) and mine & {i["value"] for i in other.get("identifier", ())}
        if later and other["status"] in ("active", "inactive", "rejected"):
            start = other["provision"].get("period", {}).get("start")
            parts.append(f"context.at < {_ms(start)}" if start else _NEVER)
    return _all(parts)


def policies_of(consents: Sequence[Json]) -> str:
    """The policies of all of a person's Consents together."""
    made: list[str] = []
    for consent in consents:
        if consent["status"] != "active":
            continue
        guard, root = _guard(consent, consents), consent["provision"]
        rule = consent["policyRule"]["coding"][0]["code"] if "policyRule" in consent else None
        found = _walk(root, 1, [])
        permits = [f for f in found if not f.deny]
        for f in found:
            over = _any([p.test for p in permits if p.depth > f.depth])
            made.append(f"forbid (principal, action, resource) when {{ {guard} && {f.test} && !{over} }};" if f.deny else "")
            made.append("" if f.deny else f"permit (principal, action, resource) when {{ {guard} && {f.test} }};")
        if root.get("type", "permit" if rule == "OPTIN" else "deny") == "permit":
            made.append(f"permit (principal, action, resource) when {{ {guard} && {_holds(root, deny=False, surely=True)} }};")
        elif rule in ("OPTOUT", "OPTOUTE") or ("type" in root and rule is None):
            test = _holds(root, deny=True, surely=False)
            made.append(f"forbid (principal, action, resource) when {{ {guard} && {test} && !{_any([p.test for p in permits])} }};")
    return "\n".join(m for m in made if m)


def context_of(r: ConsentRequest) -> dict[str, Any]:
    """What is asked, as Cedar's context; what the request does not say is absent."""
    values: dict[str, Any] = {
        "party": r.receiver_party,
        "unit": r.receiver_unit,
        "role": r.receiver_role,
        "person": r.receiver_person,
        "groups": None if r.receiver_groups is None else sorted(r.receiver_groups),
        "scope": r.scope,
        "purposes": sorted(r.purposes) or None,
        "dataClass": r.data_class,
        "resourceType": r.resource_type,
        "codes": None if r.codes is None else sorted(r.codes),
        "action": r.action,
        "at": r.at,
        "labels": None if r.labels is None else sorted(r.labels),
        "data": None if r.data is None else sorted(r.data),
        "patient": r.patient,
    }
    if r.data_period is not None:
        span = {"starts": r.data_period.starts, "ends": r.data_period.ends}
        values["dataPeriod"] = {name: at for name, at in span.items() if at is not None}
    return {name: value for name, value in values.items() if value is not None}
