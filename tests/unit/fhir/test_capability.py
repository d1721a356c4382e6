"""The capability statement says what the table says, and is itself valid."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.capability import (
    Interaction,
    OauthUris,
    Operation,
    SearchParam,
    SearchParamType,
    SystemInteraction,
    TypeCapability,
    capability_statement,
)
from gateway.fhir.oracle import parse_r4b
from gateway.fhir.validate import validate
from tests.unit.fhir.samples import RESOURCES

BASE = "https://hub.example/fhir"
OAUTH = OauthUris(token="https://hub.example/oauth/token")
TASK = TypeCapability(
    (Interaction.READ, Interaction.VREAD, Interaction.PATCH, Interaction.SEARCH),
    (SearchParam("status", SearchParamType.TOKEN), SearchParam("_lastUpdated", SearchParamType.DATE, "with ge or lt")),
)

_capabilities = st.builds(
    TypeCapability,
    st.lists(st.sampled_from(Interaction), unique=True).map(tuple),
    st.lists(
        st.builds(SearchParam, st.sampled_from(["_id", "status", "subject"]), st.sampled_from(SearchParamType)), unique_by=lambda p: p.name
    ).map(tuple),
    st.booleans(),
)


def statement(table: dict[str, TypeCapability], **more: Any) -> dict[str, Any]:
    return capability_statement(table, url=BASE, software_version="1.0", date="2026-01-02", oauth=OAUTH, **more)


@given(st.dictionaries(st.sampled_from(RESOURCES), _capabilities, max_size=4))
def test_any_table_gives_a_valid_statement_of_exactly_that_table(table: dict[str, TypeCapability]) -> None:
    made = statement(
        table, system=[SystemInteraction.TRANSACTION], operations=[Operation("process-message", f"{BASE}/OperationDefinition/m")]
    )
    assert validate(made) == []
    assert parse_r4b(made) == []
    listed = {r["type"]: r for r in made["rest"][0].get("resource", [])}
    assert list(listed) == sorted(table)
    for name, capability in table.items():
        assert [i["code"] for i in listed[name].get("interaction", [])] == list(capability.interactions)
        assert [(p["name"], p["type"]) for p in listed[name].get("searchParam", [])] == [(p.name, p.type) for p in capability.search]


def test_it_says_how_to_get_a_token() -> None:
    security = statement({"Task": TASK})["rest"][0]["security"]
    uris = {e["url"]: e["valueUri"] for e in security["extension"][0]["extension"]}
    assert uris == {"token": OAUTH.token}
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"


def test_it_names_version_and_formats() -> None:
    made = statement({"Task": TASK})
    assert made["fhirVersion"] == "4.0.1"
    assert made["format"] == ["application/fhir+json"]
    assert made["patchFormat"] == ["application/json-patch+json"]
    assert made["implementation"]["url"] == BASE
