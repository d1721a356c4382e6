"""IHE Privacy Consent on FHIR: every published case, release by release (CC-BY-4.0; see tests/data/consent-cases/README.md)."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.decision.consent import Actor, CompiledConsent, ConsentRequest, Period, compile_consent, evaluate
from gateway.decision.reading import boundary

PCF: Final = Path(__file__).parents[2] / "data" / "consent-cases" / "pcf"
CASES: Final[list[dict[str, Any]]] = json.loads((PCF / "cases.json").read_text())["cases"]
ASKED: Final = ("ex-alcoholUse", "ex-bloodSugar", "ex-bloodPressure", "ex-weight", "ex-weight-2", "ex-encounter")


def _read(folder: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PCF / folder / f"{name}.json").read_text())
    return found


GROUPS: Final = {
    "Group/ex-privilegedUsers": frozenset(m["entity"]["reference"] for m in _read("resources", "ex-privilegedUsers")["member"]),
}


def _resolve(reference: str) -> Actor | None:
    kind = reference.partition("/")[0]
    return Actor(group=reference) if kind == "Group" else Actor(person=reference) if kind == "Practitioner" else None


def _utc(value: str, end: bool = False) -> int:
    found = boundary(value, UTC, end=end)
    assert found is not None
    return found


def _request(case: dict[str, Any], resource: dict[str, Any]) -> ConsentRequest:
    """The facts of one resource. IHE's `related` counts an encounter's own resource and those that refer to it."""
    reference = f"{resource['resourceType']}/{resource['id']}"
    related = {reference, *((resource["encounter"]["reference"],) if "encounter" in resource else ())}
    authors = {p["reference"] for p in resource.get("performer", ())}
    when = resource.get("effectiveDateTime")
    query = case["query"]
    return ConsentRequest(
        receiver_party="somewhere",
        receiver_person=query["actor"],
        receiver_groups=frozenset(g for g, members in GROUPS.items() if query["actor"] in members),
        purposes=frozenset(query["purposeOfUse"]),
        resource_type=resource["resourceType"],
        at=_utc(query["now"]),
        labels=frozenset(s["code"] for s in resource["meta"]["security"] if not s["system"].endswith("v3-ActReason")),
        data_period=Period(_utc(when), _utc(when, end=True)) if when else None,
        data=frozenset(
            [f"instance|{reference}", *(f"related|{r}" for r in related), *(f"authoredby|{a}" for a in authors)],
        ),
    )


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_published_case(case: dict[str, Any]) -> None:
    compiled = compile_consent(_read("consents", Path(case["consent"]).stem), resolve=_resolve)
    assert isinstance(compiled, CompiledConsent), compiled
    resources = [_read("resources", name) for name in ASKED]
    released = {f"{r['resourceType']}/{r['id']}" for r in resources if evaluate([compiled], _request(case, r)).permit}
    assert released == set(case["derived_release"])


def test_who_is_refused_a_token_by_the_guide_is_released_nothing() -> None:
    """No declared difference: what is derived never exceeds what IHE states."""
    stated = {c["id"]: (c["stated_by_ihe"]["token"], bool(c["derived_release"])) for c in CASES}
    assert {token for token, _ in stated.values()} == {"issued", "refused"}
    assert [id_ for id_, (token, released) in stated.items() if token == "refused" and released] == []
