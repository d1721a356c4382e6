"""Whatever is sent: a status that says whose mistake it is, an outcome that names the element, nothing of the input, nothing stored."""

from __future__ import annotations

import json

import pytest

from gateway import vocabulary as v
from tests.integration.bad_cases import CANARY, Case, changed, played, raw
from tests.integration.checks import assert_outcome, row_counts
from tests.integration.night import NOW, contact, offer, offered, resource
from tests.integration.world import World, coded, input_, night_offer, output, patient

DEEP = raw('{"resourceType":"Bundle","type":"transaction","x":' + "[" * 200 + f'"{CANARY}"' + "]" * 200 + "}")
BODIES = [
    Case("not JSON", 400, raw(f"{{{CANARY}")),
    Case("not UTF-8", 400, b'{"resourceType":"' + CANARY.encode() + b'\xff"}'),
    Case("a byte order mark", 400, b"\xef\xbb\xbf" + json.dumps({"resourceType": CANARY}).encode()),
    Case("an array", 400, json.dumps([CANARY]).encode()),
    Case("a string", 400, json.dumps(CANARY).encode()),
    Case("empty", 400, b"", headers={"Content-Type": "application/fhir+json", "X-Correlation-ID": CANARY}),
    Case("too deep", 400, DEEP),
    Case("far too deep", 400, raw('{"x":' * 500 + f'"{CANARY}"' + "}" * 500)),
    Case("too large", 413, raw('{"resourceType":"Bundle","x":"' + CANARY * 100_000 + '"}')),
    Case("a member twice", 400, raw(f'{{"resourceType":"Bundle","type":"transaction","{CANARY}":1,"{CANARY}":2}}')),
    Case("a long number", 400, raw(f'{{"resourceType":"Bundle","{CANARY}":{"9" * 300}}}')),
    Case("NaN", 400, raw(f'{{"resourceType":"Bundle","{CANARY}":NaN}}')),
    Case("no resource type", 422, {"type": CANARY}, "Bundle"),
    Case("a resource where a Bundle belongs", 422, {**patient(CANARY)}, "Bundle"),
    Case("an unknown resource type", 422, {"resourceType": CANARY}, "Bundle"),
    Case("a batch", 422, changed("type", "batch", changed("entry.0.resource.name.0.given.0", CANARY)), "Bundle.type"),
    Case("a Bundle type that is no code", 422, changed("type", CANARY), "Bundle.type"),
    Case("no entries", 422, {"resourceType": "Bundle", "type": "transaction", "id": CANARY}, "Bundle.entry"),
    Case("an empty array of entries", 422, {"resourceType": "Bundle", "type": "transaction", "id": CANARY, "entry": []}, "Bundle.entry"),
    Case("a delete", 422, changed("entry.0.request", {"method": "DELETE", "url": f"Patient/{CANARY}"}), "Bundle.entry[0].request"),
    Case(
        "a conditional update",
        422,
        changed("entry.0.request", {"method": "PUT", "url": f"Patient?name={CANARY}"}),
        "Bundle.entry[0].request",
    ),
    Case("a url of another type", 422, changed("entry.0.request.url", "Consent"), "Bundle.entry[0].request.url"),
    Case("a url that is none", 422, changed("entry.0.request.url", f"../{CANARY}"), "Bundle.entry[0].request"),
    Case(
        "too many entries",
        422,
        {
            **night_offer(NOW),
            "entry": [
                {
                    "fullUrl": f"urn:uuid:00000000-0000-4000-8000-{i:012}",
                    "resource": patient(CANARY),
                    "request": {"method": "POST", "url": "Patient"},
                }
                for i in range(201)
            ],
        },
        "Bundle.entry",
    ),
    Case("an unknown member at the top", 422, changed(CANARY, 1), "Bundle"),
    Case(
        "an unknown member deep down",
        422,
        changed(f"entry.3.resource.code.coding.0.{CANARY}", 1),
        "Bundle.entry[3].resource.code.coding[0]",
    ),
    Case("the third entry wrong", 422, changed("entry.2.resource.status", CANARY), "Bundle.entry[2].resource.status"),
    Case("a boolean as text", 422, changed("entry.0.resource.active", f"true{CANARY}"), "Bundle.entry[0].resource.active"),
    Case("an impossible date", 422, changed("entry.0.resource.birthDate", f"2003-02-30{CANARY}"), "Bundle.entry[0].resource.birthDate"),
    Case("an empty object", 422, changed("entry.0.resource.maritalStatus", {}), "Bundle.entry[0].resource.maritalStatus"),
    Case("narrative", 422, changed("entry.3.resource.note", [{"text": CANARY}]), "Bundle.entry[3].resource.note", "narrative-not-allowed"),
    Case(
        "a display text", 422, changed("entry.3.resource.code.text", CANARY), "Bundle.entry[3].resource.code.text", "narrative-not-allowed"
    ),
    Case(
        "a forbidden element",
        422,
        changed("entry.0.resource.contact", [{"name": {"text": CANARY}}]),
        "Bundle.entry[0].resource.contact",
        "forbidden-element",
    ),
    Case(
        "a family name beside an alias",
        422,
        changed("entry.0.resource.name.0.family", CANARY),
        "Bundle.entry[0].resource.name[0].family",
        "forbidden-element",
    ),
    Case(
        "a police file number",
        422,
        changed("entry.4.resource.input.0", {"type": coded(v.TASK_INPUT, "occurrence-no"), "valueString": CANARY}),
        "Bundle.entry[4].resource.input[0]",
        "forbidden-element",
    ),
    Case(
        "a need that is no code",
        422,
        changed("entry.4.resource.input.0", input_("need", valueCodeableConcept=coded(v.NEED, CANARY))),
        None,
        "unknown-code",
    ),
    Case(
        "an unknown extension",
        422,
        changed("entry.0.resource.extension.0", {"url": f"http://example.org/{CANARY}", "valueCode": "x"}),
        "Bundle.entry[0].resource.extension[0]",
        "unknown-code",
    ),
    Case(
        "a modifier extension",
        422,
        changed("entry.3.resource.modifierExtension", [{"url": f"http://example.org/{CANARY}", "valueBoolean": True}]),
        None,
        "unknown-code",
    ),
    Case(
        "a promise",
        422,
        changed("entry.4.resource.output", [output("offer", valueCodeableConcept=coded(v.OFFER, "hotel-night"))], changed("id", CANARY)),
        None,
        "not-owner-of-offer",
    ),
    Case(
        "an unknown recipient",
        422,
        changed("entry.4.resource.owner.reference", f"PractitionerRole/{CANARY}"),
        "Bundle.entry[4].resource.owner",
    ),
    Case(
        "a bare organization as recipient",
        422,
        changed("entry.4.resource.owner.reference", "Organization/vsdr", changed("id", CANARY)),
        "Bundle.entry[4].resource.owner",
    ),
    Case(
        "a mixed unit as recipient",
        422,
        changed("entry.4.resource.owner.reference", "Organization/CARE", changed("id", CANARY)),
        "Bundle.entry[4].resource.owner",
        "mixed-unit-address",
    ),
    Case(
        "a mixed unit of a party",
        422,
        changed("entry.4.resource.owner.reference", "HealthcareService/vsdr.halt", changed("id", CANARY)),
        "Bundle.entry[4].resource.owner",
        "mixed-unit-address",
    ),
    Case(
        "a reference to nothing",
        422,
        changed("entry.3.resource.requester.reference", f"Organization/{CANARY}"),
        "Bundle.entry[3].resource.requester.reference",
    ),
    Case("a reference with a zero byte", 422, changed("entry.3.resource.subject.reference", f"Patient/\x00{CANARY}"), None),
    Case(
        "a subject that is no person", 422, changed("entry.3.resource.subject.reference", "Organization/drps", changed("id", CANARY)), None
    ),
    Case("an unknown service", 422, changed("entry.3.resource.code", coded(v.SERVICE, CANARY)), None, "unknown-code"),
    Case("ifNoneExist without an identifier", 400, changed("entry.0.request.ifNoneExist", f"name={CANARY}"), "http.if-none-exist"),
]
REQUESTS = [
    Case("a wrong content type", 415, raw(CANARY), headers={"Content-Type": "application/fhir+xml"}),
    Case("no content type", 415, raw(CANARY), headers={"Content-Type": ""}),
    Case("a wanted type that is not served", 406, patient(CANARY), path="/fhir/Patient", headers={"Accept": f"application/{CANARY}+xml"}),
    Case(
        "a request id that is none",
        400,
        patient(CANARY),
        "http.x-request-id",
        path="/fhir/Patient",
        headers={"X-Request-ID": f"{CANARY} {CANARY}"},
    ),
    Case("a long request id", 400, patient(CANARY), "http.x-request-id", path="/fhir/Patient", headers={"X-Request-ID": CANARY * 20}),
    Case(
        "a type in the address that differs", 422, {"resourceType": "Consent", "id": CANARY}, "Patient.resourceType", path="/fhir/Patient"
    ),
    Case("an unknown type", 404, {"resourceType": CANARY}, path=f"/fhir/{CANARY}"),
    Case(
        "a type that is only read",
        403,
        {"resourceType": "Provenance"},
        None,
        "scope-missing",
        path="/fhir/Provenance",
        headers={"X-Correlation-ID": CANARY},
    ),
    Case(
        "If-None-Exist without an identifier",
        400,
        patient(CANARY),
        "http.if-none-exist",
        path="/fhir/Patient",
        headers={"If-None-Exist": f"name={CANARY}"},
    ),
    Case("an update of an unknown id", 404, {**patient(CANARY), "id": CANARY}, method="PUT", path=f"/fhir/Patient/{CANARY}"),
    Case("an update whose id differs", 422, {**patient(CANARY), "id": "other"}, "Patient.id", method="PUT", path=f"/fhir/Patient/{CANARY}"),
    Case("a patch of an unknown id", 404, [], method="PATCH", path=f"/fhir/Task/{CANARY}"),
    Case(
        "a patch of what can't be patched", 404, [{"op": "add", "path": "/active", "value": CANARY}], method="PATCH", path="/fhir/Patient/x"
    ),
    Case("a delete", 404, method="DELETE", path=f"/fhir/Patient/{CANARY}"),
    Case("options", 404, method="OPTIONS", path=f"/fhir/Patient/{CANARY}"),
    Case("a method of nobody", 404, method="ZZCANARY7F3A", path="/fhir/Patient/x"),
    Case("a history of an instance", 404, method="GET", path=f"/fhir/Patient/{CANARY}/_history"),
    Case("a compartment", 404, method="GET", path=f"/fhir/Patient/{CANARY}/Task/x/y"),
    Case("a version that is none", 404, method="GET", path=f"/fhir/Task/x/_history/{CANARY}"),
    Case(
        "a version beyond counting",
        404,
        method="GET",
        path="/fhir/Task/x/_history/99999999999999999999999",
        headers={"X-Correlation-ID": CANARY},
    ),
    Case("an id with a zero byte", 404, method="GET", path=f"/fhir/Task/%00{CANARY}"),
    Case("an id of another form", 404, method="GET", path=f"/fhir/Task/%27{CANARY}%22%20OR%201"),
    Case("a long id", 404, method="GET", path="/fhir/Task/" + CANARY * 20),
]
SEARCHES = [
    Case("an unknown parameter", 400, path=f"/fhir/Task?{CANARY}=1"),
    Case("a modifier", 400, path=f"/fhir/Task?status:not={CANARY}"),
    Case("a chain", 400, path=f"/fhir/Task?patient.name={CANARY}"),
    Case("a count that is no number", 400, None, "http._count", path=f"/fhir/Task?_count={CANARY}"),
    Case("an order that is not served", 400, path=f"/fhir/Task?_sort={CANARY}"),
    Case("a time that is none", 400, None, "http._lastUpdated", path=f"/fhir/Task?_lastUpdated=ge{CANARY}"),
    Case(
        "a time without a comparison",
        400,
        None,
        "http._lastUpdated",
        path="/fhir/Task?_lastUpdated=2026-03-14",
        headers={"X-Correlation-ID": CANARY},
    ),
    Case("a parameter twice", 400, None, "http.status", path=f"/fhir/Task?status=requested&status={CANARY}"),
    Case("a thousand values", 400, None, "http.status", path="/fhir/Task?status=" + f"{CANARY}," * 1000),
    Case("a zero byte", 400, None, "http.status", path=f"/fhir/Task?status=%00{CANARY}"),
    Case("another format", 400, path=f"/fhir/Task?_format={CANARY}"),
    Case("a person in an address", 400, path=f"/fhir/Patient?identifier={CANARY}"),
    Case("everybody", 403, None, None, "bulk-query-refused", path="/fhir/Patient?_count=500", headers={"X-Correlation-ID": CANARY}),
    Case("a list of people", 403, None, None, "bulk-query-refused", path=f"/fhir/Patient?_id={CANARY},b"),
    Case("a wildcard", 403, None, None, "bulk-query-refused", path=f"/fhir/Patient?identifier={CANARY}*"),
    Case("an unknown type", 403, None, None, "scope-missing", path=f"/fhir/{CANARY}?_id=x"),
    Case("an unknown parameter of the directory", 400, path=f"/fhir/Organization?{CANARY}=1"),
    Case(
        "too many form fields",
        400,
        b"&".join(b"_id=" + CANARY.encode() for _ in range(60)),
        method="POST",
        path="/fhir/Task/_search",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    Case(
        "a form that is none",
        400,
        b"\xff\xfe" + CANARY.encode(),
        method="POST",
        path="/fhir/Task/_search",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    Case("a search as JSON", 415, {CANARY: 1}, method="POST", path="/fhir/Task/_search"),
]


async def test_bodies_that_are_not_what_can_be_taken(world: World, loud: pytest.CaptureFixture[str]) -> None:
    await played(world, BODIES, loud)


async def test_requests_that_are_not_what_can_be_answered(world: World, loud: pytest.CaptureFixture[str]) -> None:
    await played(world, REQUESTS, loud)


async def test_searches_that_are_not_served(world: World, loud: pytest.CaptureFixture[str]) -> None:
    wrong = [Case(**{**case.__dict__, "who": "counsellor", "method": "GET" if case.body is None else case.method}) for case in SEARCHES]
    await played(world, wrong, loud)


async def test_a_reference_to_another_partys_id_is_a_reference_to_nothing(world: World) -> None:
    """The same finding and the same text, whether the id lives on another shelf or nowhere."""
    ids, received = await offered(world)
    theirs = received["for"]["reference"]
    before = await row_counts(world)
    for target in ("subject", "for"):
        answers = []
        for reference in (theirs, "Patient/" + "0" * 32):
            bundle = offer()
            place = 2 if target == "subject" else 3
            bundle["entry"][place]["resource"][target]["reference"] = reference
            refused = await world.call("police", "POST", "/fhir", bundle)
            body = assert_outcome(refused, 422, expression=f"Bundle.entry[{place}].resource.{target}.reference", canaries=[theirs])
            answers.append(body["issue"])
        assert answers[0] == answers[1]
    after = await row_counts(world)
    assert after == {**before, "audit_entries": before["audit_entries"] + 4}
    assert ids["Patient"] not in theirs


async def test_many_references_to_nothing_cost_little(world: World) -> None:
    bundle = night_offer(NOW)
    bundle["entry"][3]["resource"]["performer"] = [{"reference": f"PractitionerRole/{i:032}"} for i in range(10_000)]
    refused = await world.call("police", "POST", "/fhir", bundle)
    body = assert_outcome(refused, 422)
    assert len(body["issue"]) <= 20


async def test_no_token_an_old_one_and_a_strangers_are_refused_alike_and_leave_no_trace(world: World) -> None:
    before = await row_counts(world)
    good = world.token("police")
    algs = 'algs="ES256 ES384"'
    for header in (
        None,
        "Basic " + CANARY,
        "Bearer",
        f"Bearer {CANARY}",
        f"Bearer {good}x",
        "Bearer " + CANARY * 2000,
        f"Bearer ü{CANARY}".encode(),
    ):
        headers = {"Authorization": header} if header is not None else {}
        response = await world.http.get("/fhir/Task", headers=headers)  # type: ignore[arg-type]  # bytes are what a client may send
        assert_outcome(response, 401, canaries=[CANARY, good])
        sent = header is not None and str(header).find("Basic") < 0
        said = f'Bearer error="invalid_token", DPoP error="invalid_token", {algs}' if sent else f"Bearer, DPoP {algs}"
        assert response.headers["www-authenticate"] == said
    assert await row_counts(world) == before


async def test_an_expired_token_is_told_so_and_nothing_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = world.token("police")
    before = await row_counts(world)
    real = world.hub.tokens._now
    monkeypatch.setattr(world.hub.tokens, "_now", lambda: real() + 301)
    refused = await world.call("police", "POST", "/fhir", night_offer(NOW))
    body = assert_outcome(refused, 401, canaries=[token])
    assert body["issue"][0]["code"] == "expired"
    assert await row_counts(world) == before


async def test_a_scope_too_small_is_refused_before_the_body_is_looked_at(world: World) -> None:
    for without in (("transfer.offer", "consent.record", "report.send"), ("system/Patient",)):
        caller = world.narrowed("police", *without)
        for method, path in (("POST", "/fhir/Patient"), ("PUT", "/fhir/Patient/x")):
            refused = await world.call(caller, method, path, raw(f"{{{CANARY}"))
            assert_outcome(refused, 403, refusal="scope-missing", canaries=[CANARY])
            assert refused.headers["www-authenticate"].startswith('Bearer error="insufficient_scope", DPoP error="insufficient_scope"')


async def test_safe_contact_needs_codes_and_no_more(world: World) -> None:
    bundle = night_offer(NOW)
    bundle["entry"][0]["resource"]["telecom"] = [contact(NOW, state=CANARY)]
    refused = await world.call("police", "POST", "/fhir", bundle)
    assert_outcome(refused, 422, refusal="unknown-code", canaries=[CANARY])


async def test_a_person_can_be_sent_without_any_identity(world: World) -> None:
    """R8: an alias is enough; and so is less than that, as long as a Patient is there to hang the rest on."""
    bundle = night_offer(NOW)
    bundle["entry"][0]["resource"] = {"resourceType": "Patient", "name": [{"use": "anonymous", "given": ["A"]}]}
    sent = await world.call("police", "POST", "/fhir", bundle)
    assert sent.status_code == 200, sent.text
    [received] = await world.tasks("counsellor")
    person = await resource(world, "counsellor", received["for"]["reference"])
    assert person["name"] == [{"use": "anonymous", "given": ["A"]}]
