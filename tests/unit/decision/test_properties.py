"""Nothing raises, whatever is in a Consent; and the evaluator agrees with a slow reading of the same rules straight from the JSON."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import instant
from gateway.decision.coalition import check_coalition_consent
from gateway.decision.compiling import Rejected
from gateway.decision.consent import CompiledConsent, ConsentRequest, compile_consent, evaluate
from gateway.decision.decide import Denial, Permit, decide
from gateway.decision.grants import Grant, actor_resolver
from gateway.problems import Finding
from tests.unit.decision.making import CLASSES, HOUR, NOW, PARTIES, POLICE, POLICY, ask, consent, grants_of, provision, warm

RECEIVERS = ("Organization/harbour", "Organization/clinic", "PractitionerRole/harbour.ht-cic", "HealthcareService/constable.north")
SCOPES = ("warm-transfer", "hospital-fast-track", "income-support")
PURPOSES = ("COC", "ERTREAT", "victim-support", "TREAT")
NAMES = ("alias", "needs", "reason")
TIMES = (NOW - 2 * HOUR, NOW - HOUR, NOW, NOW + HOUR)


def some(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.one_of(st.just([]), st.just([]), st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True))


def spans() -> st.SearchStrategy[tuple[int, int] | None]:
    pairs = st.tuples(st.sampled_from(TIMES), st.sampled_from(TIMES)).map(lambda t: (min(t), max(t)))
    return st.one_of(st.none(), st.none(), pairs)


@st.composite
def provisions(draw: st.DrawFn, depth: int = 3) -> dict[str, Any]:
    nested = draw(st.lists(provisions(depth - 1), max_size=2)) if depth > 1 else []
    return provision(
        draw(st.sampled_from(("permit", "permit", "deny"))),
        *nested,
        to=draw(some(RECEIVERS)),
        scope=draw(some(SCOPES)),
        purposes=draw(some(PURPOSES)),
        classes=draw(some(NAMES)),
        period=draw(spans()),
    )


@st.composite
def consents(draw: st.DrawFn) -> dict[str, Any]:
    rules = draw(st.lists(provisions(), min_size=1, max_size=3))
    made = consent(*rules, policy_rule=draw(st.sampled_from(("OPTIN", "OPTINR", "OPTOUT", "OPTOUTE"))))
    if draw(st.booleans()):
        made["status"] = draw(st.sampled_from(("active", "inactive")))
    return made


requests = st.builds(
    ConsentRequest,
    receiver_party=st.sampled_from(("harbour", "harbour", "clinic", "constable", None)),
    receiver_unit=st.sampled_from(("ht", "ht", "north", None)),
    receiver_role=st.sampled_from(("ht-cic", "ht-cic", "cic", None)),
    scope=st.sampled_from((*SCOPES, *SCOPES, None)),
    purposes=st.frozensets(st.sampled_from(PURPOSES), max_size=2),
    data_class=st.sampled_from((*NAMES, *NAMES, None)),
    at=st.sampled_from(TIMES),
)

Truth = bool | None


def _slow(resource: Mapping[str, Any], request: ConsentRequest) -> bool:
    """The rules of `gateway.decision.consent`, read as its docstring says and in no other order."""
    if resource["status"] != "active":
        return False
    matching: list[tuple[int, str]] = []

    def visit(rule: Mapping[str, Any], depth: int, around: bool) -> None:
        for nested in rule.get("provision", ()):
            holds = _holds(nested, request)
            if nested["type"] == "deny" and holds is not False:
                matching.append((depth, "deny"))
            if nested["type"] == "permit" and holds is True and around:
                matching.append((depth, "permit"))
            surely = _holds(nested, request, surely=True)  # what stands around a permit matches as a permit does
            visit(nested, depth + 1, around and surely is True)

    visit(resource["provision"], 1, True)
    if matching:
        deepest = max(depth for depth, _ in matching)
        return (deepest, "deny") not in matching
    return bool(resource["policyRule"]["coding"][0]["code"] == "OPTIN")


def _holds(rule: Mapping[str, Any], r: ConsentRequest, *, surely: bool = False) -> Truth:
    """All attributes of one provision: False beats unknown beats True."""
    parts: list[Truth] = []
    deny = rule["type"] == "deny"
    if "actor" in rule:
        actors = [actor_resolver(POLICY)(a["reference"]["reference"]) for a in rule["actor"]]
        known = [
            _all(
                [
                    None if got is None else want == got
                    for want, got in ((a.party, r.receiver_party), (a.unit, r.receiver_unit), (a.role, r.receiver_role))
                    if want is not None
                ]
            )
            for a in actors
            if a is not None
        ]
        parts.append(True if True in known else None if None in known else False)
    for name, value in (("code", r.scope), ("class", r.data_class)):
        if name in rule:
            codes = {c["code"] for item in rule[name] for c in item.get("coding", [item])}
            parts.append(None if value is None else value in codes)
    if "purpose" in rule:
        codes = {c["code"] for c in rule["purpose"]}
        if deny and "TREAT" in codes:
            codes |= {"COC", "ERTREAT"}
        meets = bool(r.purposes & codes) if deny and not surely else r.purposes <= codes
        parts.append(None if not r.purposes else meets)
    if "period" in rule:
        starts, ends = (rule["period"].get(k) for k in ("start", "end"))
        parts.append(starts <= instant(r.at) <= ends)
    return _all(parts)


def _all(parts: list[Truth]) -> Truth:
    return False if False in parts else None if None in parts else True


@settings(max_examples=300)
@given(consents(), requests)
def test_the_evaluator_agrees_with_the_slow_reading(resource: dict[str, Any], request: ConsentRequest) -> None:
    compiled = compile_consent(resource, resolve=actor_resolver(POLICY))
    assert isinstance(compiled, CompiledConsent)
    assert CompiledConsent.from_json(compiled.to_json()) == compiled
    assert evaluate([compiled], request).permit is _slow(resource, request)


@settings(max_examples=150)
@given(consents(), requests)
def test_knowing_less_of_a_request_never_opens_it(resource: dict[str, Any], request: ConsentRequest) -> None:
    """Under a consent of one level whose base is deny, taking an attribute away from a denied request leaves it denied."""
    for rule in resource["provision"]["provision"]:
        rule.pop("provision", None)
    compiled = compile_consent(resource, resolve=actor_resolver(POLICY))
    assert isinstance(compiled, CompiledConsent)
    if not evaluate([compiled], request).permit and resource["policyRule"]["coding"][0]["code"] != "OPTIN":
        for name in ("receiver_party", "receiver_unit", "receiver_role", "scope", "data_class"):
            fields = {f: getattr(request, f) for f in ConsentRequest.__dataclass_fields__} | {name: None}
            assert not evaluate([compiled], ConsentRequest(**fields)).permit


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
anything = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3))
)
PATHS = (
    ("status",),
    ("scope",),
    ("category",),
    ("patient",),
    ("dateTime",),
    ("performer",),
    ("organization",),
    ("policyRule",),
    ("extension",),
    ("identifier",),
    ("provision",),
    ("provision", "period"),
    ("provision", "provision"),
    ("provision", "provision", 0),
    *(
        ("provision", "provision", 0, n)
        for n in ("type", "period", "actor", "action", "securityLabel", "purpose", "class", "code", "dataPeriod", "data", "provision")
    ),
    ("provision", "provision", 0, "actor", 0),
    ("provision", "provision", 0, "actor", 0, "role"),
    ("provision", "provision", 0, "period", "end"),
    ("provision", "provision", 0, "code", 0, "coding"),
    ("extension", 0, "extension"),
)


@settings(max_examples=300)
@given(st.sampled_from(PATHS), anything)
def test_nothing_raises_whatever_stands_in_a_consent(path: tuple[str | int, ...], value: Any) -> None:
    resource = consent(warm())
    target: Any = resource
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    compiled = compile_consent(resource, resolve=actor_resolver(POLICY))
    assert isinstance(compiled, CompiledConsent | Rejected)
    grants, rejected = grants_of(resource)
    assert all(isinstance(g, Grant) for g in grants)
    assert all(isinstance(r, Rejected) for r in rejected)
    assert all(isinstance(f, Finding) for f in check_coalition_consent(resource, "police", POLICE, POLICY))
    if grants:
        assert isinstance(decide(ask(tuple(grants)), POLICY), Permit | Denial)


@settings(max_examples=150)
@given(
    st.lists(consents(), max_size=3),
    st.sampled_from(sorted(PARTIES)),
    st.sampled_from(sorted(PARTIES)),
    st.sampled_from(sorted(POLICY.services)),
    st.frozensets(st.sampled_from(CLASSES), max_size=5),
    st.sampled_from((None, "serious-harm", "alleged-duty", "no-such-basis")),
    st.sampled_from(("offered", "introduced", "no-such-state")),
)
def test_a_permit_never_exceeds_its_row_its_grants_or_what_is_present(
    resources: list[dict[str, Any]], sender: Any, receiver: Any, service: str, present: frozenset[str], basis: str | None, state: str
) -> None:
    numbers = itertools.count()
    grants = tuple(g for resource in (*resources, consent(warm())) for g in grants_of(resource)[0])
    grants = tuple(Grant(**{f: getattr(g, f) for f in Grant.__dataclass_fields__} | {"id": str(next(numbers))}) for g in grants)
    question = ask(
        grants,
        sender=PARTIES[sender],
        receiver=PARTIES[receiver],
        receiver_unit=None,
        service=POLICY.services[service],
        purposes=frozenset({"COC", "ERTREAT", "ELIGDTRM", "THREAT"}),
        present=present,
        basis=basis,
        state=state,
    )
    answer = decide(question, POLICY)
    if isinstance(answer, Denial):
        assert answer.trace
        return
    own = set(answer.classes) - POLICY.always
    assert own <= present & answer.row.classes.keys()
    assert own.isdisjoint(answer.withheld)
    used = [g for g in grants if g.id in answer.grants]
    if answer.row.scope is not None:
        assert used
        assert own <= {c for g in used for c in g.classes}
        assert all(g.receiver_party == receiver and g.starts <= NOW and (g.ends is None or g.ends >= NOW) for g in used)
        assert all(answer.purpose in g.purposes for g in used)
