"""A token by SMART Backend Services, with nothing but PyJWT and the standard library.

    python docs/examples/get_token.py FHIR_BASE CLIENT_ID KEY_FILE SCOPE...

KEY_FILE holds the client's private key as a JWK (EC P-384 or RSA). Prints the access token, which lives five minutes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import jwt

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
THUMBPRINT = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}


def form(client_id: str, token_url: str, jwk: dict[str, Any], scope: str) -> dict[str, str]:
    """The token request: who we are, proven by a signature that is good once and for four minutes."""
    alg = "ES384" if jwk["kty"] == "EC" else "RS384"
    claims = {"iss": client_id, "sub": client_id, "aud": token_url, "exp": int(time.time()) + 240, "jti": str(uuid.uuid4())}
    headers = {"typ": "JWT", "kid": jwk.get("kid") or thumbprint(jwk)}
    assertion = jwt.encode(claims, jwt.PyJWK(jwk, algorithm=alg).key, algorithm=alg, headers=headers)
    return {"grant_type": "client_credentials", "scope": scope, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638: a name for a key that both sides can work out."""
    canonical = json.dumps({name: jwk[name] for name in THUMBPRINT[jwk["kty"]]}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def main(fhir_base: str, client_id: str, key_file: str, *scopes: str) -> None:
    """Discover the token endpoint, ask, print."""
    with urllib.request.urlopen(f"{fhir_base}/.well-known/smart-configuration") as answer:
        token_url = json.load(answer)["token_endpoint"]
    asked = form(client_id, token_url, json.loads(Path(key_file).read_text()), " ".join(scopes))
    with urllib.request.urlopen(token_url, data=urllib.parse.urlencode(asked).encode()) as answer:
        print(json.load(answer)["access_token"])


if __name__ == "__main__":
    main(*sys.argv[1:])
