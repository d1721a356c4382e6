"""Admission: what an API client sent against the allow-list of `mappings/data-classes.yaml` (R14).

Nothing here knows a person or a party; it looks at shape alone. Run it after the resource has been found valid FHIR: the element names in
a finding are then FHIR's own, never a word of the sender's. Free text is not read, it is refused where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from jsonschema_rs import Draft202012Validator

from gateway.parties.ingest_schema import compile_schema
from gateway.parties.model import ElementRule, Policy, Treatment
from gateway.problems import FINDINGS_LIMIT, Finding, IssueCode, Refusal

__all__ = ["Admission", "Gate"]

_NARRATIVE: Final = "This element holds free text, which a referral cannot carry. Leave it out; send a code where there is one."
_FORBIDDEN: Final = "This element may not be sent through the hub. Leave it out."
_UNKNOWN: Final = "This code, or its code system, is not one that the hub knows here. Use a code of the published code system."
_EXTENSION: Final = "This extension is not one that the hub knows here. Leave it out."
_TOO_LONG: Final = "This text is longer than is allowed here, which makes it a narrative. Shorten it."
_TYPE: Final = "Resources of this type cannot be sent through the hub."
_MEANING: Final = frozenset({"extension", "modifierExtension", "implicitRules"})


@dataclass(slots=True)
class Admission:
    """What was found, and how many elements that nothing depends on were taken out."""

    findings: list[Finding] = field(default_factory=list)
    dropped: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Gate:
    """The allow-list of one policy."""

    types: Mapping[str, Mapping[str, ElementRule]]
    forbidden: Mapping[str, str]
    forbidden_elements: Mapping[str, str]
    narrative: frozenset[str]
    clean: Mapping[str, Draft202012Validator]

    @classmethod
    def of(cls, policy: Policy) -> Gate:
        """The gate of a policy."""
        return cls(policy.ingest, policy.forbidden, policy.forbidden_elements, policy.narrative, compile_schema(policy.ingest))

    def admit(self, resource: dict[str, Any], at: str) -> Admission:
        """Everything in `resource` that may not be sent, as findings under the path `at`; what is to be dropped is taken out of it.

        Total: a shape that no rule expects is refused, never passed over.
        """
        result = Admission()
        kind = resource.get("resourceType")
        clean = self.clean.get(kind) if isinstance(kind, str) else None
        if clean is None:
            return self.examine(resource, at)
        try:
            return result if clean.is_valid(resource) else self.examine(resource, at)
        except ValueError:  # a number that was kept as it was written (gateway.fhir.parse); none is that telling here
            plain = orjson.loads(orjson.dumps(resource))
            resource.clear()
            resource.update(plain)
            return self.examine(resource, at)

    def examine(self, resource: dict[str, Any], at: str) -> Admission:
        """The same by walking the resource: what `admit` does when a resource is not clean at first sight."""
        result = Admission()
        rules = self.types.get(str(resource.get("resourceType")))
        if rules is None:
            result.findings.append(Finding(IssueCode.NOT_SUPPORTED, _TYPE, at))
            return result
        self._members(resource, rules, at, str(resource["resourceType"]), result)
        del result.findings[FINDINGS_LIMIT:]
        return result

    def _members(self, item: dict[str, Any], rules: Mapping[str, ElementRule], at: str, type_: str, result: Admission) -> None:
        for name in tuple(item):
            rule = rules.get(name)
            if rule is None:
                if name != "resourceType" or not type_:
                    result.findings.append(self._refused(name, f"{at}.{name}", type_))
                continue
            if rule.treatment is Treatment.KEEP:
                value = item[name]
                if type(value) is str and rule.codes is None and not rule.max_length and not rule.children and not rule.by:
                    continue
                self._value(value, rule, f"{at}.{name}", result)
                if value == {} or value == []:
                    del item[name]
            elif rule.treatment is Treatment.DROP:
                del item[name]
                result.dropped += 1
            elif rule.treatment is Treatment.NARRATIVE:
                result.findings.append(Finding(IssueCode.BUSINESS_RULE, _NARRATIVE, f"{at}.{name}", Refusal.NARRATIVE_NOT_ALLOWED))
            else:
                result.findings.append(Finding(IssueCode.BUSINESS_RULE, _FORBIDDEN, f"{at}.{name}", Refusal.FORBIDDEN_ELEMENT))

    def _value(self, value: Any, rule: ElementRule, at: str, result: Admission) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._item(item, rule, f"{at}[{index}]", result)
            value[:] = [item for item in value if item != {}]
        else:
            self._item(value, rule, at, result)

    def _item(self, item: Any, rule: ElementRule, at: str, result: Admission) -> None:
        if rule.by:
            inner = self._slice(item, rule, at, result)
            if inner is not None:
                self._members(item, inner.children, at, "", result)
        elif rule.children:
            if not isinstance(item, dict):
                result.findings.append(Finding(IssueCode.STRUCTURE, _FORBIDDEN, at, Refusal.FORBIDDEN_ELEMENT))
                return
            self._members(item, rule.children, at, "", result)
            if rule.systems:
                self._coding(item, rule.systems, at, result)
        elif isinstance(item, dict | list):
            result.findings.append(Finding(IssueCode.STRUCTURE, _FORBIDDEN, at, Refusal.FORBIDDEN_ELEMENT))
        elif rule.codes is not None and item not in rule.codes:
            result.findings.append(Finding(IssueCode.CODE_INVALID, _UNKNOWN, at, Refusal.UNKNOWN_CODE))
        elif rule.max_length and (not isinstance(item, str) or len(item) > rule.max_length):
            result.findings.append(Finding(IssueCode.TOO_LONG, _TOO_LONG, at, Refusal.NARRATIVE_NOT_ALLOWED))

    def _slice(self, item: Any, rule: ElementRule, at: str, result: Admission) -> ElementRule | None:
        """The rule of an item of a list whose items are told apart by `rule.by`; exactly one of them must fit."""
        found = frozenset(_at(item, rule.by.split("."))) if isinstance(item, dict) else frozenset()
        inner = rule.items.get(next(iter(found))) if len(found) == 1 else None
        if inner is not None:
            return inner
        names = {self.forbidden[code] for code in found if code in self.forbidden}
        if names:
            result.findings.append(_finding("narrative" in names, at))
        elif rule.by == "url":
            result.findings.append(Finding(IssueCode.EXTENSION, _EXTENSION, at, Refusal.UNKNOWN_CODE))
        elif rule.otherwise == Refusal.UNKNOWN_CODE:
            result.findings.append(Finding(IssueCode.CODE_INVALID, _UNKNOWN, at, Refusal.UNKNOWN_CODE))
        else:
            result.findings.append(_finding(False, at))
        return None

    def _coding(self, item: dict[str, Any], systems: Mapping[str, frozenset[str]], at: str, result: Admission) -> None:
        system, code = item.get("system"), item.get("code")
        known = systems.get(system) if isinstance(system, str) else None
        if known is None or not isinstance(code, str) or code not in known:
            result.findings.append(Finding(IssueCode.CODE_INVALID, _UNKNOWN, at, Refusal.UNKNOWN_CODE))

    def _refused(self, name: str, at: str, type_: str) -> Finding:
        if name in _MEANING:
            return Finding(IssueCode.EXTENSION, _EXTENSION, at, Refusal.UNKNOWN_CODE)
        plain = name.removeprefix("_")
        narrative = plain in self.narrative or self.forbidden_elements.get(f"{type_}.{plain}") == "narrative"
        return _finding(narrative, at)


def _finding(narrative: bool, at: str) -> Finding:
    if narrative:
        return Finding(IssueCode.BUSINESS_RULE, _NARRATIVE, at, Refusal.NARRATIVE_NOT_ALLOWED)
    return Finding(IssueCode.BUSINESS_RULE, _FORBIDDEN, at, Refusal.FORBIDDEN_ELEMENT)


def _at(value: Any, path: list[str]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        if isinstance(value, str):
            yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])
