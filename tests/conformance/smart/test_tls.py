"""The Inferno kits' test of the transport: ``smart_backend_services_token_tls_version`` and ``bulk_token_tls_version``."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.serving import Authority, Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`gateway serve` with a certificate."""
    folder: Path = tmp_path_factory.mktemp("tls")
    with serving(folder / "hub", {"counsellor": {}}, authority=Authority(folder, "server")) as running:
        yield running


def spoken(served: Served, version: ssl.TLSVersion) -> str | None:
    """What a client that speaks only this version ends up speaking to the hub. It would take any cipher, so a refusal is the hub's."""
    context = ssl.create_default_context(cafile=served.authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # asking for an old version is the point
        context.minimum_version = version
        context.maximum_version = version
    host, port = urlsplit(served.origin).hostname, urlsplit(served.origin).port
    with socket.create_connection((host, port), 10) as connection, context.wrap_socket(connection, server_hostname=host) as session:
        return session.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_smart_backend_services_token_tls_version(version: ssl.TLSVersion, served: Served) -> None:
    """Backend services, "Request": TLS 1.2 or a more recent version."""
    assert spoken(served, version) == version.name.replace("_", ".")


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_bulk_token_tls_version(version: str, served: Served) -> None:
    """The same, from the other side: nothing older. The hub says so by an alert, or ends the connection; this client would go on."""
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version|EOF occurred"):
        spoken(served, ssl.TLSVersion[version])


def test_the_token_endpoint_is_published_as_https_and_answers_there(served: Served) -> None:
    with served.connect() as http:
        found = http.get("/fhir/.well-known/smart-configuration").json()
        assert found["token_endpoint"] == f"{served.origin}/oauth/token" and served.origin.startswith("https://")
        assert served.ask(http, "counsellor").status_code == 200
