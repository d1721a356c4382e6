"""Discovery as the Inferno kits test it, from outside: SMART's well-known document, RFC 8414, and the keys."""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson
import pytest

from tests.clients.hub import SmartHub
from tests.clients.wire import Wire

SMART = "/fhir/.well-known/smart-configuration"
SERVER = "/.well-known/oauth-authorization-server"


@pytest.mark.parametrize("accept", ["application/json", "application/fhir+json", "text/html", None])
def test_well_known_endpoint(accept: str | None, smart_hub: SmartHub, wire: Wire) -> None:
    """Conformance, "Using Well-Known": 200 and application/json, without a token and whatever is accepted."""
    answer = wire.request("GET", SMART, (("Accept", accept),) if accept else ())
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("application/json")
    assert isinstance(orjson.loads(answer.body), dict)


def test_well_known_capabilities_stu2(smart_hub: SmartHub, wire: Wire) -> None:
    """Conformance, "Metadata". All but the authorization endpoint and its grant, which a server without user launches does not have; and
    `issuer`, of which the kit warns: docs/DIVERGENCES.md."""
    found = orjson.loads(wire.request("GET", SMART).body)
    for name, kind in (
        ("token_endpoint", str),
        ("capabilities", list),
        ("grant_types_supported", list),
        ("code_challenge_methods_supported", list),
    ):
        assert isinstance(found[name], kind) and found[name], name
    assert "S256" in found["code_challenge_methods_supported"] and "plain" not in found["code_challenge_methods_supported"]
    assert all(isinstance(one, str) for one in found["capabilities"])
    assert "client-confidential-asymmetric" in found["capabilities"]
    assert found["grant_types_supported"] == ["client_credentials"]
    assert "authorization_endpoint" not in found
    assert "sso-openid-connect" not in found["capabilities"]


def test_bulk_data_smart_discovery_v101_contents(smart_hub: SmartHub, wire: Wire) -> None:
    """Bulk Data 1.0.1, "Advertising Server Conformance with SMART Backend Services"; the same of SMART 2.2."""
    found = orjson.loads(wire.request("GET", SMART).body)
    assert found["token_endpoint"] == smart_hub.token_url
    assert "private_key_jwt" in found["token_endpoint_auth_methods_supported"]
    assert set(found["token_endpoint_auth_signing_alg_values_supported"]) >= {"RS384", "ES384"}
    assert "system/Task.crus" in found["scopes_supported"]


def test_every_address_is_absolute(smart_hub: SmartHub, wire: Wire) -> None:
    """SMART 2.2 conformance: URLs SHALL be absolute. RFC 8414 section 2: the issuer has no query and no fragment."""
    for path in (SMART, SERVER):
        found = orjson.loads(wire.request("GET", path).body)
        addresses = {name: value for name, value in found.items() if name.endswith(("_endpoint", "_uri")) or name == "issuer"}
        assert {"issuer", "token_endpoint", "jwks_uri"} <= set(addresses)
        for name, value in addresses.items():
            parts = urlsplit(value)
            assert parts.scheme and parts.netloc and not parts.query and not parts.fragment, name
            assert value.startswith(smart_hub.origin)


def test_the_two_documents_agree(smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 8414 sections 2 and 3.3: the issuer is the address asked; what both documents say is the same."""
    smart, server = (orjson.loads(wire.request("GET", path).body) for path in (SMART, SERVER))
    assert server["issuer"] == smart_hub.origin
    assert server["response_types_supported"]  # REQUIRED
    assert {name: server[name] for name in smart.keys() & server.keys()} == {name: smart[name] for name in smart.keys() & server.keys()}


def test_the_keys_are_public_and_may_be_kept(smart_hub: SmartHub, wire: Wire) -> None:
    """RFC 7517 section 5; RFC 9111: a max-age that means something."""
    jwks = orjson.loads(wire.request("GET", "/.well-known/smart-configuration").body)["jwks_uri"]
    answer = wire.request("GET", urlsplit(jwks).path)
    keys = orjson.loads(answer.body)["keys"]
    assert keys and len({key["kid"] for key in keys}) == len(keys)
    assert all(not {"d", "k", "p", "q"} & key.keys() for key in keys)
    assert int((answer.header("cache-control") or "").partition("max-age=")[2]) > 0


def test_the_capability_statement_points_to_the_token_endpoint(smart_hub: SmartHub, wire: Wire) -> None:
    """Conformance, "Declaring support for OAuth2 endpoints": the oauth-uris extension, the same address."""
    [rest] = orjson.loads(wire.request("GET", "/fhir/metadata").body)["rest"]
    assert rest["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    [uris] = [one for one in rest["security"]["extension"] if one["url"].endswith("/oauth-uris")]
    assert {one["url"]: one["valueUri"] for one in uris["extension"]}["token"] == smart_hub.token_url
