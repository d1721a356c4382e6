"""Where everything is: the discovery documents (SMART App Launch 2 conformance, RFC 8414)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.oauth.dpop import PROOF_ALGS
from gateway.oauth.partner_keys import AssertionAlg

__all__ = ["GRANT_TYPE", "OAuthUrls", "authorization_server_metadata", "smart_configuration"]

GRANT_TYPE: Final = "client_credentials"


@dataclass(frozen=True, slots=True)
class OAuthUrls:
    """The absolute addresses under which the hub is known from outside."""

    issuer: str
    token: str
    introspection: str
    revocation: str
    jwks: str
    fhir_base: str

    @classmethod
    def under(cls, origin: str) -> OAuthUrls:
        """The usual addresses of a hub at `origin` (scheme, host and port, no trailing slash)."""
        return cls(
            issuer=origin,
            token=f"{origin}/oauth/token",
            introspection=f"{origin}/oauth/introspect",
            revocation=f"{origin}/oauth/revoke",
            jwks=f"{origin}/oauth/jwks",
            fhir_base=f"{origin}/fhir",
        )

    @property
    def metadata_path(self) -> str:
        """RFC 8414 section 3: the well-known part goes between the host and the path of the issuer."""
        return "/.well-known/oauth-authorization-server" + urlsplit(self.issuer).path.rstrip("/")


def smart_configuration(urls: OAuthUrls, scopes: Iterable[str], *, certificates: bool) -> dict[str, Any]:
    """``.well-known/smart-configuration`` of a Backend Services server (SMART App Launch 2, "Conformance": metadata).

    `certificates` as for RFC 8414. No authorization endpoint: the hub offers no user launch.
    `code_challenge_methods_supported` is required by SMART all the same.
    """
    return {**_shared(urls, scopes, certificates), "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"]}


def authorization_server_metadata(urls: OAuthUrls, scopes: Iterable[str], *, certificates: bool) -> dict[str, Any]:
    """RFC 8414 section 2. `certificates`: whether a client can show one (RFC 8705 section 3.3).
    `response_types_supported` is required and may not be empty; without an authorization endpoint it is ``none``,
    the registered response type that returns nothing."""
    return {**_shared(urls, scopes, certificates), "response_types_supported": ["none"]}


def _shared(urls: OAuthUrls, scopes: Iterable[str], certificates: bool) -> dict[str, Any]:
    methods, algs = ["private_key_jwt"], [alg.value for alg in AssertionAlg]
    return {
        "issuer": urls.issuer,
        "jwks_uri": urls.jwks,
        "token_endpoint": urls.token,
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algs,
        "introspection_endpoint": urls.introspection,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algs,
        "revocation_endpoint": urls.revocation,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algs,
        "dpop_signing_alg_values_supported": list(PROOF_ALGS),
        "tls_client_certificate_bound_access_tokens": certificates,
        "grant_types_supported": [GRANT_TYPE],
        "scopes_supported": sorted(scopes),
        "code_challenge_methods_supported": ["S256"],
    }
