"""The evaluator agrees with Cedar, an authorization engine of others' making, on random consents and requests."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import cedarpy
import pytest

from gateway.clock import instant
from gateway.decision.consent import Actor, CompiledConsent, ConsentRequest, Period, Why, compile_consent, evaluate
from gateway.vocabulary import V3_ACT_CODE, V3_CONFIDENTIALITY
from tests.unit.decision.cedar import ACTORS, context_of, policies_of
from tests.unit.decision.making import HOUR, NOW, concept, consent, provision

SEED: Final = 20_260_314
PER_CONSENT: Final = 20
SHIP: Final = "http://loinc.org|57133-1"
OTHER: Final = "http://loinc.org|11488-4"
TIMES: Final = (NOW - 2 * HOUR, NOW - HOUR, NOW, NOW + HOUR)
NAMED: Final = (*ACTORS, "HealthcareService/harbour.ht", "PractitionerRole/harbour.cic")

VALUES: Final[Mapping[str, Sequence[Any]]] = {
    "receiver_party": ("harbour", "harbour", "harbour", "clinic", None),
    "receiver_unit": ("ht", "ht", "ht", "ht", "ipv", None),
    "receiver_role": ("cic", "cic", "cic", "cic", "nurse", None),
    "receiver_person": ("Practitioner/w", "Practitioner/w", "Practitioner/w", "Practitioner/x", None),
    "receiver_groups": (frozenset({"Group/g"}), frozenset({"Group/g", "Group/h"}), frozenset(), None),
    "scope": ("warm-transfer", "warm-transfer", "warm-transfer", "income-support", None),
    "purposes": tuple(map(frozenset, (["COC"], ["COC"], ["COC"], ["ERTREAT"], ["COC", "HRESCH"], ["TREAT"], []))),
    "data_class": ("needs", "needs", "needs", "alias", None),
    "resource_type": ("Task", "Task", "Task", "Patient", None),
    "codes": (frozenset({SHIP}), frozenset({SHIP}), frozenset({OTHER}), frozenset(), None),
    "action": ("disclose", "disclose", "disclose", "collect", None),
    "at": (NOW, NOW, NOW, *TIMES),
    "labels": tuple(frozenset(s.split()) if s is not None else None for s in ("R", "R SDV", "N", "V MH", "N BH", "SDV", "", None)),
    "data_period": (Period(NOW, NOW), Period(NOW, NOW + HOUR), Period(NOW - 2 * HOUR, NOW), Period(NOW, None), Period(None, NOW), None),
    "data": tuple(
        frozenset(s.split()) if s is not None else None
        for s in ("instance|Task/1", "instance|Task/1 related|Encounter/2", "instance|Task/1", "authoredby|Practitioner/3", "", None)
    ),
    "patient": (*["Patient/p"] * 18, None, "Patient/q"),
}
"""What a request may say of each attribute; None is unknown. The first is what the generated consents mostly name."""

CHANGES: Final = {name: tuple(dict.fromkeys(values)) for name, values in VALUES.items()}


def _resolve(reference: str) -> Actor | None:
    return Actor(**ACTORS[reference]) if reference in ACTORS else None


def _span(rng: random.Random) -> dict[str, str]:
    starts, ends = sorted(rng.choices(TIMES, k=2))
    found = {"start": instant(starts), "end": instant(ends)}
    if rng.random() < 0.4:
        del found[rng.choice(("start", "end"))]
    return found


def _conditions(rng: random.Random, chance: float) -> dict[str, Any]:
    """A random choice of the attributes of a provision."""
    made: dict[str, Any] = {}
    if rng.random() < chance * 2:
        made["to"] = rng.sample(NAMED, k=rng.choice((1, 1, 2)))
    if rng.random() < chance:
        made["period"] = _span(rng)
    if rng.random() < chance:
        made["purposes"] = rng.choice((["COC"], ["COC", "HRESCH"], ["TREAT"], ["ERTREAT", "COC"]))
    if rng.random() < chance:
        made["classes"] = rng.choice((["needs"], ["needs", "alias"], ["alias"]))
    elif rng.random() < chance:
        made["class"] = [{"system": "http://hl7.org/fhir/resource-types", "code": rng.choice(("Task", "Task", "Patient"))}]
    if rng.random() < chance:
        made["scope"] = rng.choice(("warm-transfer", "warm-transfer", "income-support"))
    elif rng.random() < chance:
        made["code"] = [concept(*rng.choice((SHIP, SHIP, OTHER)).split("|"))]
    if rng.random() < chance:
        action = rng.choice(("disclose", "disclose", "collect"))
        made["action"] = [concept("http://terminology.hl7.org/CodeSystem/consentaction", action)]
    if rng.random() < chance:
        codes = rng.choice((["R"], ["N"], ["SDV"], ["SPI"], ["N", "SDV"], ["V"]))
        made["securityLabel"] = [{"system": V3_CONFIDENTIALITY if c in "NRV" else V3_ACT_CODE, "code": c} for c in codes]
    if rng.random() < chance:
        made["dataPeriod"] = _span(rng)
    if rng.random() < chance:
        meaning, named = rng.choice(("instance|Task/1", "instance|Task/1", "related|Encounter/2")).split("|")
        made["data"] = [{"meaning": meaning, "reference": {"reference": named}}]
    return made


def _provision(rng: random.Random, effect: str, depth: int) -> dict[str, Any]:
    """One provision and, below it, mostly its exceptions."""
    nested = []
    if depth < 4:
        opposite = "deny" if effect == "permit" else "permit"
        nested = [_provision(rng, rng.choice((opposite, opposite, effect)), depth + 1) for _ in range(rng.choice((0, 0, 1, 2)))]
    made = _conditions(rng, 0.12 if effect == "permit" else 0.4)
    period = {"period": made.pop("period")} if "period" in made else {}
    return provision(effect, *nested, **made) | period


def _consent(rng: random.Random) -> dict[str, Any]:
    """Opting in or out, at the root or by policy, with up to three provisions."""
    rule = rng.choice(("OPTIN", "OPTIN", "OPTINR", "OPTINR", "OPTOUT", None))
    rules = [_provision(rng, rng.choice(("permit", "permit", "permit", "deny")), 1) for _ in range(rng.choice((1, 2, 3)))]
    made = consent(*rules, policy_rule=rule or "OPTINR", dateTime=instant(rng.choice(TIMES)))
    if rule is None:
        del made["policyRule"]
        made["provision"]["type"] = rng.choice(("permit", "permit", "deny"))
    root = _conditions(rng, 0.07)
    if "period" in root:
        made["provision"]["period"] = root["period"]
    if rng.random() < 0.1:
        made["status"] = rng.choice(("inactive", "rejected", "proposed"))
    if rng.random() < 0.4:
        made["identifier"] = [{"system": "urn:ietf:rfc:3986", "value": "one"}]
    bounds = {k: v for k, v in provision("x", **{k: v for k, v in root.items() if k != "period"}).items() if k != "type"}
    made["provision"] |= bounds
    return made


def _request(rng: random.Random) -> ConsentRequest:
    return ConsentRequest(**{name: rng.choice(values) for name, values in VALUES.items()})


def _compiled(resource: dict[str, Any]) -> CompiledConsent:
    made = compile_consent(resource, resolve=_resolve)
    assert isinstance(made, CompiledConsent), made
    return made


def _cedar(consents: Sequence[dict[str, Any]], requests: Sequence[ConsentRequest]) -> list[bool]:
    asked = [{"principal": 'A::"a"', "action": 'Action::"a"', "resource": 'R::"r"', "context": context_of(r)} for r in requests]
    answers = cedarpy.is_authorized_batch(asked, policies_of(consents), [])
    assert not any(a.diagnostics.errors for a in answers), [a.diagnostics.errors for a in answers]
    return [a.allowed for a in answers]


def _compare(total: int) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Ask both about `total` requests; how often each verdict came, each attribute decided, and each depth did."""
    rng = random.Random(SEED)  # not for secrets: drawn again in the same order each time
    verdicts: Counter[str] = Counter()
    attributes: Counter[str] = Counter()
    depths: Counter[str] = Counter()
    for number in range(total // PER_CONSENT):
        resources = [_consent(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        compiled = [_compiled(r) for r in resources]
        requests = [_request(rng) for _ in range(PER_CONSENT)]
        for request, theirs in zip(requests, _cedar(resources, requests), strict=True):
            ours = evaluate(compiled, request)
            assert ours.permit is theirs, (number, ours, request)
            verdicts["permit" if ours.permit else "deny"] += 1
            verdicts[ours.why] += 1
            depths[str((ours.rule or "").count(".provision["))] += 1
            for name, values in CHANGES.items():
                changed = rng.choice([v for v in values if v != getattr(request, name)])
                attributes[name] += evaluate(compiled, replace(request, **{name: changed})).permit is not ours.permit
    return verdicts, attributes, depths


def _report(total: int, verdicts: Counter[str], attributes: Counter[str], depths: Counter[str]) -> None:
    print(f"\nseed {SEED}: {total} requests, {100 * verdicts['permit'] / total:.1f}% permitted")
    for title, counts in (("verdicts", verdicts), ("decided by", attributes), ("depth of what decided", depths)):
        print(f"  {title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))


@pytest.mark.parametrize("total", [1_000, pytest.param(20_000, marks=pytest.mark.ci)])
def test_cedar_agrees(total: int) -> None:
    """On as many permits as denials, roughly; with every attribute deciding some of them, and exceptions three deep."""
    verdicts, attributes, depths = _compare(total)
    _report(total, verdicts, attributes, depths)
    assert 0.3 <= verdicts["permit"] / total <= 0.7
    assert {name: attributes[name] for name in VALUES if attributes[name] * 100 < total} == {}
    assert depths["3"] * 100 >= total
    assert total < 20_000 or set(Why) - {Why.NO_CONSENT} <= verdicts.keys()
