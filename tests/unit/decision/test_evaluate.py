"""The evaluation rules of R4 Consent provisions, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gateway.decision.consent import Actor, CompiledConsent, ConsentRequest, Period, Rejected, RejectReason, Why, compile_consent, evaluate
from gateway.decision.grants import actor_resolver
from gateway.vocabulary import V3_ACT_CODE, V3_CONFIDENTIALITY
from tests.unit.decision.making import HOUR, NOW, POLICY, concept, consent, evidence, provision

HARBOUR = "Organization/harbour"
SHIP = concept("http://loinc.org", "57133-1")


def compiled(resource: Mapping[str, Any]) -> CompiledConsent:
    made = compile_consent(resource, resolve=actor_resolver(POLICY))
    assert isinstance(made, CompiledConsent), made
    assert CompiledConsent.from_json(made.to_json()) == made
    return made


def request(**more: Any) -> ConsentRequest:
    fields: dict[str, Any] = {
        "receiver_party": "harbour",
        "receiver_unit": "ht",
        "receiver_role": "ht-cic",
        "receiver_person": "Practitioner/w",
        "receiver_groups": frozenset(),
        "scope": "warm-transfer",
        "purposes": frozenset({"COC"}),
        "data_class": "needs",
        "resource_type": "Task",
        "codes": frozenset(),
        "at": NOW,
        "labels": frozenset({"R"}),
        "data_period": Period(NOW - HOUR, NOW - HOUR),
        "data": frozenset({"instance|Task/1"}),
    }
    return ConsentRequest(**(fields | more))


def label(code: str) -> list[dict[str, str]]:
    system = V3_CONFIDENTIALITY if code in "ULMNRV" else V3_ACT_CODE
    return [{"system": system, "code": code}]


FULL = provision("permit", to=[HARBOUR], scope="warm-transfer", purposes=["COC"], classes=["needs"], period=(NOW - HOUR, NOW + HOUR))

CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # attribute: (the condition, request that meets it and all else, request that is known not to)
    "receiver": (provision("x", to=[HARBOUR]), {}, {"receiver_party": "clinic"}),
    "unit": (
        provision("x", to=["HealthcareService/constable.north"]),
        {"receiver_party": "constable", "receiver_unit": "north"},
        {"receiver_party": "constable", "receiver_unit": "south"},
    ),
    "role": (provision("x", to=["PractitionerRole/harbour.ht-cic"]), {}, {"receiver_role": "cic"}),
    "scope": (provision("x", scope="warm-transfer"), {}, {"scope": "income-support"}),
    "content code": (provision("x", code=[SHIP]), {"codes": frozenset({"http://loinc.org|57133-1"})}, {}),
    "purpose": (provision("x", purposes=["COC"]), {}, {"purposes": frozenset({"HRESCH"})}),
    "class": (provision("x", classes=["needs"]), {}, {"data_class": "reason"}),
    "resource type": (
        provision("x") | {"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Task"}]},
        {},
        {"resource_type": "Patient"},
    ),
    "action": (provision("x", action=[concept("http://terminology.hl7.org/CodeSystem/consentaction", "disclose")]), {}, {"action": "use"}),
    "sensitivity": (provision("x", securityLabel=label("SDV")), {"labels": frozenset({"R", "SDV"})}, {"labels": frozenset({"R"})}),
    "data period": (provision("x", dataPeriod={"start": "2027-01-01"}), {}, {"data_period": Period(0, 1)}),
    "data": (
        provision("x", data=[{"meaning": "instance", "reference": {"reference": "Task/1"}}]),
        {},
        {"data": frozenset({"instance|Task/2"})},
    ),
}
LACKING: dict[str, dict[str, Any]] = {
    "receiver": {"receiver_party": None},
    "unit": {"receiver_party": "constable", "receiver_unit": None},
    "role": {"receiver_role": None},
    "scope": {"scope": None},
    "content code": {"codes": None},
    "purpose": {"purposes": frozenset()},
    "class": {"data_class": None},
    "resource type": {"resource_type": None},
    "action": {"action": None},
    "sensitivity": {"labels": None},
    "data period": {"data_period": None},
    "data": {"data": None},
}


@pytest.mark.parametrize("attribute", CONDITIONS)
def test_one_attribute_decides_a_permit(attribute: str) -> None:
    condition, meets, misses = CONDITIONS[attribute]
    only = compiled(consent(condition | {"type": "permit"}))
    assert evaluate([only], request(**meets)).permit
    assert not evaluate([only], request(**misses)).permit
    assert not evaluate([only], request(**LACKING[attribute])).permit, "a permit never matches what is not known"


@pytest.mark.parametrize("attribute", CONDITIONS)
def test_one_attribute_decides_a_deny(attribute: str) -> None:
    condition, meets, misses = CONDITIONS[attribute]
    unless = compiled(consent(provision("permit"), condition | {"type": "deny"}))
    assert not evaluate([unless], request(**meets)).permit
    assert evaluate([unless], request(**misses)).permit
    assert not evaluate([unless], request(**LACKING[attribute])).permit, "a deny always matches what is not known"


def test_values_of_one_attribute_are_alternatives_and_attributes_must_all_hold() -> None:
    either = compiled(consent(provision("permit", to=[HARBOUR, "Organization/clinic"], classes=["needs", "alias"])))
    assert evaluate([either], request(receiver_party="clinic", data_class="alias")).permit
    assert not evaluate([either], request(receiver_party="clinic", data_class="reason")).permit
    assert not evaluate([either], request(receiver_party="pantry", data_class="alias")).permit


def test_a_permit_must_cover_every_purpose_asked_and_a_deny_needs_one() -> None:
    both = request(purposes=frozenset({"COC", "HRESCH"}))
    assert not evaluate([compiled(consent(provision("permit", purposes=["COC"])))], both).permit
    assert evaluate([compiled(consent(provision("permit", purposes=["COC", "HRESCH"])))], both).permit
    assert not evaluate([compiled(consent(provision("permit"), provision("deny", purposes=["HRESCH"])))], both).permit


def test_a_deny_covers_what_lies_below_its_code_and_a_permit_does_not() -> None:
    emergency = request(purposes=frozenset({"BTG"}))
    assert not evaluate([compiled(consent(provision("permit", purposes=["TREAT"])))], emergency).permit
    assert not evaluate([compiled(consent(provision("permit"), provision("deny", purposes=["TREAT"])))], emergency).permit
    alcohol = request(labels=frozenset({"R", "ETHUD"}))
    assert not evaluate([compiled(consent(provision("permit"), provision("deny", securityLabel=label("SUD"))))], alcohol).permit


@pytest.mark.parametrize(
    ("effect", "code", "labels", "permit"),
    [
        ("permit", "N", {"N"}, True),
        ("permit", "N", {"L"}, True),
        ("permit", "N", {"R"}, False),
        ("permit", "N", {"N", "R"}, False),  # the high-water mark counts
        ("permit", "R", {"N", "R"}, True),
        ("permit", "N", {"SDV"}, False),  # not labelled with a confidentiality: not known
        ("deny", "R", {"N"}, True),
        ("deny", "R", {"R"}, False),
        ("deny", "R", {"V"}, False),
        ("deny", "R", {"SDV"}, False),
    ],
)
def test_confidentiality_is_a_ceiling_for_a_permit_and_a_floor_for_a_deny(effect: str, code: str, labels: set[str], permit: bool) -> None:
    rules = [provision(effect, securityLabel=label(code))] + ([provision("permit")] if effect == "deny" else [])
    assert evaluate([compiled(consent(*rules))], request(labels=frozenset(labels))).permit is permit


def test_of_several_confidentiality_codes_a_permit_takes_the_highest_and_a_deny_the_lowest() -> None:
    both = [*label("N"), *label("V")]
    restricted = request(labels=frozenset({"R"}))
    assert evaluate([compiled(consent(provision("permit", securityLabel=both)))], restricted).permit
    assert not evaluate([compiled(consent(provision("permit"), provision("deny", securityLabel=both)))], restricted).permit


def test_a_deny_under_a_permit_wins_where_it_matches() -> None:
    made = compiled(consent(provision("permit", provision("deny", classes=["reason"]), to=[HARBOUR])))
    assert evaluate([made], request()).permit
    refused = evaluate([made], request(data_class="reason"))
    assert (refused.permit, refused.why, refused.rule) == (False, Why.RULE_DENIES, "Consent.provision.provision[0].provision[0]")


def test_a_permit_under_a_deny_wins_at_depth_three() -> None:
    exception = provision("permit", purposes=["COC"])
    made = compiled(consent(provision("permit", provision("deny", exception, classes=["reason"]), to=[HARBOUR])))
    allowed = evaluate([made], request(data_class="reason"))
    assert (allowed.permit, allowed.rule) == (True, "Consent.provision.provision[0].provision[0].provision[0]")
    assert not evaluate([made], request(data_class="reason", purposes=frozenset({"HLEGAL"}))).permit


def test_an_exception_reaches_no_further_than_what_it_is_an_exception_to() -> None:
    exception = provision("permit", purposes=["COC"])
    made = compiled(consent(provision("permit", provision("deny", exception, classes=["reason"]), to=[HARBOUR])))
    assert not evaluate([made], request(receiver_party="clinic", data_class="reason")).permit, "the permit around it names another"
    beside = compiled(consent(provision("permit", provision("deny", exception, classes=["reason"])), provision("deny", to=[HARBOUR])))
    assert not evaluate([beside], request(data_class="needs")).permit, "the deny around it is about another class"
    assert evaluate([beside], request(data_class="reason")).permit, "deeper beats shallower"


def test_at_one_depth_deny_beats_permit_in_any_order() -> None:
    permit, deny = provision("permit", to=[HARBOUR]), provision("deny", classes=["needs"])
    for rules in ((permit, deny), (deny, permit)):
        assert not evaluate([compiled(consent(*rules))], request()).permit


def test_a_deny_needs_only_its_own_conditions() -> None:
    made = compiled(
        consent(provision("permit", to=[HARBOUR]), provision("permit", provision("deny", classes=["needs"]), to=["Organization/clinic"]))
    )
    assert not evaluate([made], request()).permit


@pytest.mark.parametrize(
    ("policy_rule", "root", "base"),
    [
        ("OPTIN", {}, True),
        ("OPTINR", {}, False),
        ("OPTOUT", {}, False),
        ("OPTOUTE", {}, False),
        ("OPTIN", {"type": "permit"}, True),
        ("OPTOUT", {"type": "deny"}, False),
        (None, {"type": "permit"}, True),
        (None, {"type": "deny"}, False),
    ],
)
def test_the_base_is_the_root_type_else_the_policy_rule(policy_rule: str | None, root: dict[str, Any], base: bool) -> None:
    resource = consent(policy_rule=policy_rule or "", provision=root) if root else consent(policy_rule=policy_rule or "")
    if not root:
        del resource["provision"]
    if policy_rule is None:
        del resource["policyRule"]
    assert evaluate([compiled(resource)], request()).permit is base


def test_root_conditions_bound_the_base_and_not_the_nested_rules() -> None:
    root = {
        "type": "permit",
        "purpose": provision("x", purposes=["COC"])["purpose"],
        "provision": [provision("permit", purposes=["HLEGAL"])],
    }
    made = compiled(consent(policy_rule="OPTIN", provision=root))
    assert evaluate([made], request()).why is Why.BASE_PERMITS
    assert evaluate([made], request(purposes=frozenset({"HLEGAL"}))).why is Why.RULE_PERMITS
    assert not evaluate([made], request(purposes=frozenset({"HRESCH"}))).permit


@pytest.mark.parametrize("status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"])
def test_a_consent_that_is_not_active_permits_nothing(status: str) -> None:
    verdict = evaluate([compiled(consent(FULL, status=status))], request())
    assert (verdict.permit, verdict.why) == (False, Why.NOT_ACTIVE)


def test_a_consent_about_another_person_permits_nothing() -> None:
    assert evaluate([compiled(consent(FULL))], request(patient="Patient/other")).why is Why.OTHER_SUBJECT
    assert evaluate([compiled(consent(FULL))], request(patient="Patient/p")).permit


@pytest.mark.parametrize(("at", "permit"), [(NOW - HOUR - 1, False), (NOW - HOUR, True), (NOW + HOUR, True), (NOW + HOUR + 1, False)])
def test_both_ends_of_a_period_belong_to_it(at: int, permit: bool) -> None:
    assert evaluate([compiled(consent(FULL))], request(at=at)).permit is permit
    bounded = consent(provision("permit"))
    bounded["provision"]["period"] = FULL["period"]
    assert evaluate([compiled(bounded)], request(at=at)).permit is permit


def test_no_consent_at_all_denies() -> None:
    assert evaluate([], request()).why is Why.NO_CONSENT


def test_of_several_consents_a_denial_wins_and_silence_does_not() -> None:
    permits = compiled(consent(FULL))
    elsewhere = compiled(consent(provision("permit", to=["Organization/clinic"])))
    excludes_harbour = compiled(consent(provision("deny", to=[HARBOUR])))
    refuses = compiled(consent(policy_rule="OPTOUT"))
    for order in (list, lambda x: list(reversed(x))):
        assert evaluate(order([permits, elsewhere]), request()).permit, "a consent for another receiver is silent"
        assert evaluate(order([permits, excludes_harbour]), request()).why is Why.RULE_DENIES
        assert evaluate(order([permits, refuses]), request()).why is Why.STANDING_REFUSAL


def _numbered(resource: dict[str, Any], given: str, **more: Any) -> CompiledConsent:
    return compiled(resource | {"identifier": [{"system": "urn:x", "value": "7"}], "dateTime": given} | more)


def test_a_later_consent_with_the_same_identifier_replaces_the_earlier() -> None:
    refusal = _numbered(consent(policy_rule="OPTOUT"), "2026-01-01")
    permit = _numbered(consent(FULL), "2026-02-01")
    assert evaluate([refusal, permit], request()).permit
    assert not evaluate([permit, _numbered(consent(policy_rule="OPTOUT"), "2026-03-01")], request()).permit
    ended = _numbered(consent(FULL), "2026-03-01", status="inactive")
    assert not evaluate([permit, ended], request()).permit, "an inactive successor revives nothing"
    mistaken = _numbered(consent(policy_rule="OPTOUT"), "2026-03-01", status="entered-in-error")
    assert evaluate([permit, mistaken], request()).permit, "what was entered in error replaces nothing"


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda c: c.pop(name)


def _deep(c: dict[str, Any]) -> None:
    inner = provision("permit")
    for _ in range(20):
        inner = provision("permit", inner)
    c["provision"] = {"provision": [inner]}


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(c: dict[str, Any]) -> None:
        target: Any = c
        *way, last = path.split(".")
        for step in way:
            target = target[int(step)] if step.isdigit() else target[step]
        target[last] = value

    return change


NESTED = "provision.provision.0."
NOT_UNDERSTOOD = [
    ("modifier extension at the root", _set("modifierExtension", [{"url": "x"}]), RejectReason.MODIFIER_EXTENSION),
    ("modifier extension in a provision", _set(NESTED + "modifierExtension", [{"url": "x"}]), RejectReason.MODIFIER_EXTENSION),
    ("modifier extension in an actor", _set(NESTED + "actor.0.modifierExtension", [{"url": "x"}]), RejectReason.MODIFIER_EXTENSION),
    ("implicit rules", _set("implicitRules", "http://x"), RejectReason.IMPLICIT_RULES),
    ("unknown status", _set("status", "revoked"), RejectReason.UNKNOWN_STATUS),
    ("no status", _without("status"), RejectReason.UNKNOWN_STATUS),
    ("another scope", _set("scope", concept("http://terminology.hl7.org/CodeSystem/consentscope", "research")), RejectReason.NOT_PRIVACY),
    ("no base", _without("policyRule"), RejectReason.NO_BASE),
    ("another policy rule", _set("policyRule", concept(V3_ACT_CODE, "EMRGONLY")), RejectReason.UNKNOWN_POLICY_RULE),
    (
        "two policy rules",
        _set("policyRule", {"coding": [*concept(V3_ACT_CODE, "OPTIN")["coding"], *concept(V3_ACT_CODE, "OPTOUT")["coding"]]}),
        RejectReason.UNKNOWN_POLICY_RULE,
    ),
    ("root permit under opt-out", _set("provision.type", "permit"), RejectReason.CONTRADICTORY_ROOT),
    ("unknown root type", _set("provision.type", "perhaps"), RejectReason.UNKNOWN_TYPE),
    ("nested rule without a type", lambda c: c["provision"]["provision"][0].pop("type"), RejectReason.UNKNOWN_TYPE),
    ("a type only hinted at", _set(NESTED + "_type", {"extension": []}), RejectReason.UNKNOWN_ELEMENT),
    ("an element not in R4", _set(NESTED + "expression", {}), RejectReason.UNKNOWN_ELEMENT),
    ("unknown actor", _set(NESTED + "actor.0.reference.reference", "Organization/nobody"), RejectReason.UNKNOWN_ACTOR),
    ("actor by identifier", _set(NESTED + "actor.0.reference", {"identifier": {"value": "x"}}), RejectReason.UNKNOWN_ACTOR),
    ("actor in another role", _set(NESTED + "actor.0.role", concept(V3_ACT_CODE, "CST")), RejectReason.UNKNOWN_ACTOR_ROLE),
    ("purpose of another system", _set(NESTED + "purpose.0.system", "urn:x"), RejectReason.UNKNOWN_CODE),
    ("class of another system", _set(NESTED + "class.0.system", "urn:x"), RejectReason.UNKNOWN_CODE),
    (
        "deprecated confidentiality",
        _set(NESTED + "securityLabel", [{"system": V3_CONFIDENTIALITY, "code": "HIV"}]),
        RejectReason.UNKNOWN_CODE,
    ),
    ("code as text only", _set(NESTED + "code", [{"text": "x"}]), RejectReason.UNKNOWN_CODE),
    ("empty list", _set(NESTED + "purpose", []), RejectReason.MALFORMED),
    ("period that ends before it starts", _set(NESTED + "period", {"start": "2026-02-01", "end": "2026-01-01"}), RejectReason.BAD_PERIOD),
    ("impossible date", _set(NESTED + "period", {"end": "2026-02-30"}), RejectReason.BAD_PERIOD),
    ("an end only hinted at", _set(NESTED + "period", {"start": "2026-01-01", "_end": {}}), RejectReason.BAD_PERIOD),
    (
        "data of an unknown meaning",
        _set(NESTED + "data", [{"meaning": ["x"], "reference": {"reference": "Task/1"}}]),
        RejectReason.UNKNOWN_CODE,
    ),
    ("too deep", _deep, RejectReason.TOO_DEEP),
    ("another resource", _set("resourceType", "Contract"), RejectReason.MALFORMED),
]


@pytest.mark.parametrize(("change", "reason"), [c[1:] for c in NOT_UNDERSTOOD], ids=[c[0] for c in NOT_UNDERSTOOD])
def test_what_is_not_understood_rejects_the_consent(change: Callable[[dict[str, Any]], None], reason: RejectReason) -> None:
    resource = consent(
        provision("permit", to=[HARBOUR], scope="warm-transfer", purposes=["COC"], classes=["needs"]), extension=[evidence()]
    )
    if reason is RejectReason.CONTRADICTORY_ROOT:
        resource["policyRule"] = concept(V3_ACT_CODE, "OPTOUTE")
    assert isinstance(compile_consent(resource, resolve=actor_resolver(POLICY)), CompiledConsent)
    change(resource)
    rejected = compile_consent(resource, resolve=actor_resolver(POLICY))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason
    assert rejected.expression.startswith("Consent")


def test_an_actor_that_says_nothing_is_not_everybody() -> None:
    rejected = compile_consent(consent(provision("permit", to=[HARBOUR])), resolve=lambda _: Actor())
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.UNKNOWN_ACTOR


def test_a_stored_consent_of_another_format_is_refused() -> None:
    stored = compiled(consent(FULL)).to_json() | {"format": 99}
    with pytest.raises(ValueError, match="another format"):
        CompiledConsent.from_json(stored)
