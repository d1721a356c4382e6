"""The server process: uvicorn, its TLS, and the client's certificate, which uvicorn keeps to itself."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.oauth.mtls import SCOPE_KEY, thumbprint
from gateway.settings import Settings

__all__ = ["TlsFileError", "server_config"]


class TlsFileError(Exception):
    """A file that TLS needs can't be used. Names the setting, never the content."""


class _PeerProtocol(HttpToolsProtocol):
    """Puts the thumbprint of the connection's verified client certificate into the scope of each request."""

    _certificate: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own narrows it
        """Look once: a connection has one certificate for as long as it lives (TLS 1.3 has no renegotiation; under 1.2 it is off here)."""
        super().connection_made(transport)
        session = transport.get_extra_info("ssl_object")
        der = session.getpeercert(binary_form=True) if session is not None else None
        self._certificate = thumbprint(der) if der else None

    def on_message_begin(self) -> None:
        """A new request's scope."""
        super().on_message_begin()
        self.scope[SCOPE_KEY] = self._certificate  # type: ignore[typeddict-unknown-key]  # a server may add keys of its own


def server_config(app: Any, settings: Settings) -> uvicorn.Config:
    """How `gateway serve` serves. uvicorn reads no `X-Forwarded-For`: a client's header does not become its address."""
    tls: dict[str, Any] = {}
    if settings.tls_certificate is not None:
        _check_files(settings)
        required = ssl.CERT_REQUIRED if settings.tls_client_required else ssl.CERT_OPTIONAL
        tls = {
            "ssl_certfile": settings.tls_certificate,
            "ssl_keyfile": settings.tls_key,
            "ssl_ca_certs": settings.tls_client_ca,
            "ssl_cert_reqs": required if settings.tls_client_ca is not None else ssl.CERT_NONE,
            "ssl_context_factory": _context,
        }
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=_PeerProtocol,
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        **tls,
    )


def _check_files(settings: Settings) -> None:
    """Raises `TlsFileError`: what TLS can't use is said before the database is opened."""
    for name in ("tls_certificate", "tls_key", "tls_client_ca"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise TlsFileError(f"GATEWAY_{name.upper()}: there is no such file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(settings.tls_certificate), settings.tls_key, password="")
    except (OSError, ValueError):
        raise TlsFileError("GATEWAY_TLS_CERTIFICATE, GATEWAY_TLS_KEY: not a PEM certificate and its own unencrypted key") from None
    try:
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
    except (OSError, ValueError):
        raise TlsFileError("GATEWAY_TLS_CLIENT_CA: not PEM certificates") from None


def _context(config: uvicorn.Config, default: Any) -> ssl.SSLContext:
    """uvicorn's, with TLS 1.2 as the oldest version and no renegotiation."""
    context: ssl.SSLContext = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context
