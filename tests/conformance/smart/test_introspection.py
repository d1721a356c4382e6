"""Token introspection as the Inferno SMART kit tests it (groups smart_token_introspection_request_group and
token_introspection_response_group), and revocation; from outside. The endpoints want the client's assertion (RFC 7662 section 2.1)."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import jwt
import orjson
import pytest

from tests.clients.hub import RSA, SmartHub
from tests.clients.wire import Answer, Wire

Json = dict[str, Any]
GARBAGE = {
    "the kit's": "invalid_token_value",
    "dots": "..",
    "not ASCII": "t\u00f6ken",
    "with CR and LF": "a\r\nb",
    "long": "a" * 9000,
    "none JSON": "e30.e30.e30",
    "escaped": "%00%ff",
}


def endpoint(hub: SmartHub, wire: Wire, name: str) -> str:
    """The path of an endpoint, as the discovery document has it."""
    found = orjson.loads(wire.request("GET", "/fhir/.well-known/smart-configuration").body)
    assert found[name].startswith(hub.origin)
    return str(urlsplit(found[name]).path)


def told(hub: SmartHub, wire: Wire, token: str, client: str = "counsellor", **more: str) -> Answer:
    form = hub.form(client, token=token, grant_type=None, scope=None, **more)
    return hub.ask(wire, form, path=endpoint(hub, wire, "introspection_endpoint"))


def gave_up(hub: SmartHub, wire: Wire, token: str, client: str = "counsellor", **more: str) -> Answer:
    form = hub.form(client, token=token, grant_type=None, scope=None, **more)
    return hub.ask(wire, form, path=endpoint(hub, wire, "revocation_endpoint"))


def inactive(answer: Answer) -> None:
    """RFC 7662 section 2.2: 200, and nothing but that it is not active. The kit: exactly one member."""
    assert (answer.status, orjson.loads(answer.body)) == (200, {"active": False})


@pytest.mark.parametrize("client", ["counsellor", RSA])
def test_token_introspection_response_for_an_active_token(client: str, smart_hub: SmartHub, wire: Wire) -> None:
    """SMART 2.2 token introspection, "Required fields": active, scope, client_id, exp as in the token response; what the token says."""
    granted = orjson.loads(smart_hub.ask(wire, smart_hub.form(client, scope="system/Task.rs transfer.read")).body)
    answer = told(smart_hub, wire, granted["access_token"], client)
    assert answer.status == 200 and (answer.header("content-type") or "").startswith("application/json")
    assert answer.header("cache-control") == "no-store"
    body = orjson.loads(answer.body)
    assert body["active"] is True and body["client_id"] == client
    assert sorted(body["scope"].split()) == sorted(granted["scope"].split())
    assert time.time() + 290 <= body["exp"] <= time.time() + 300
    said = jwt.decode(granted["access_token"], options={"verify_signature": False})
    assert {name: body[name] for name in ("iss", "sub", "aud", "jti", "iat", "exp", "party", "role")} == {
        name: said[name] for name in ("iss", "sub", "aud", "jti", "iat", "exp", "party", "role")
    }


@pytest.mark.parametrize("name", GARBAGE)
def test_token_introspection_response_for_an_invalid_token(name: str, smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 7662 section 2.2: not active, whatever the text, with a hint or without."""
    inactive(told(smart_hub, wire, GARBAGE[name]))
    inactive(told(smart_hub, wire, GARBAGE[name], token_type_hint="refresh_token"))


def test_what_is_somebody_elses_is_not_active(smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 7662 section 2.2: "the protected resource is not allowed to introspect this particular token"."""
    inactive(told(smart_hub, wire, smart_hub.token("police", "transfer.offer")))
    inactive(told(smart_hub, wire, smart_hub.assertion("counsellor")))


def test_a_revoked_token_is_not_active_and_opens_nothing(smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 7009 section 2.2: 200; and 200 again for what does not count any more. RFC 6750 section 3.1: 401."""
    token = smart_hub.token("counsellor", "system/Task.rs transfer.read")
    bearer = (("Authorization", f"Bearer {token}"),)
    assert wire.request("GET", "/fhir/Task", bearer).status == 200
    assert gave_up(smart_hub, wire, token).status == 200
    inactive(told(smart_hub, wire, token))
    assert wire.request("GET", "/fhir/Task", bearer).status == 401
    assert gave_up(smart_hub, wire, token, token_type_hint="access_token").status == 200


@pytest.mark.parametrize("name", GARBAGE)
def test_revoking_what_never_was_a_token_is_fine(name: str, smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 7009 section 2.2: invalid tokens do not cause an error response."""
    assert gave_up(smart_hub, wire, GARBAGE[name]).status == 200


def test_nobody_revokes_anothers_token(smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 7009 section 2.1: refused, and the token still counts."""
    token = smart_hub.token("counsellor", "system/Task.rs transfer.read")
    assert gave_up(smart_hub, wire, token, "police").status == 400
    assert wire.request("GET", "/fhir/Task", (("Authorization", f"Bearer {token}"),)).status == 200


@pytest.mark.parametrize("name", ["introspection_endpoint", "revocation_endpoint"])
def test_both_want_a_client_that_is_authenticated_once(name: str, smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 7662 section 2.1, RFC 7009 section 2.1: otherwise invalid_client or invalid_request, and nothing is told."""
    path, token = endpoint(smart_hub, wire, name), smart_hub.token("counsellor", "transfer.read")
    form = smart_hub.form("counsellor", token=token, grant_type=None, scope=None)
    for wrong, error in (
        ({"token": token}, "invalid_client"),
        ({**form, "client_assertion": token}, "invalid_client"),
        ({**form, "client_secret": "x"}, "invalid_request"),
        ({key: value for key, value in form.items() if key != "token"}, "invalid_request"),
    ):
        answer = smart_hub.ask(wire, wrong, path=path)
        assert (answer.status, orjson.loads(answer.body)["error"]) == (400, error)
    assert smart_hub.ask(wire, form, ("Authorization", f"Bearer {token}"), path=path).status == 400
    assert wire.request("GET", path).status == 405
    assert smart_hub.ask(wire, form, path=path).status == 200
    assert smart_hub.ask(wire, form, path=path).status == 400  # the assertion is used up
    assert smart_hub.ask(wire, {**form, "grant_type": "client_credentials", "scope": "transfer.read"}).status == 400  # everywhere
