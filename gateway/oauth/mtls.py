"""The client's certificate, for tokens bound to it (RFC 8705 section 3): from the TLS layer, or from a proxy that this hub trusts.

A header is worth as much as whoever may set it. It counts only when the connection itself comes from a configured proxy; from anybody else
it is dropped. A proxy's own certificate is never taken for its client's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.oauth.jose import b64url

__all__ = ["SCOPE_KEY", "ClientCertificates", "TrustedProxies", "thumbprint"]

SCOPE_KEY: Final = "gateway.client_certificate"
"""Where in an ASGI scope the server puts the thumbprint of the verified certificate of a TLS connection, or None."""

_LONGEST: Final = 16 * 1024
_PEM: Final = "-----BEGIN CERTIFICATE-----"


def thumbprint(der: bytes) -> str:
    """`x5t#S256` of a certificate (RFC 8705 section 3.1)."""
    return b64url(sha256(der).digest())


class TrustedProxies:
    """The proxies in front of the hub, by address or network."""

    def __init__(self, proxies: Iterable[str]) -> None:
        self._networks = tuple(ip_network(proxy) for proxy in proxies)

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._networks)

    def __contains__(self, peer: object) -> bool:
        """Whether a connection's other end is one of them. A peer without an address is not."""
        if not self._networks or not isinstance(peer, str):
            return False
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class ClientCertificates:
    """Finds the certificate that a request's client proved to hold."""

    def __init__(self, proxies: TrustedProxies, header: str | None, *, from_tls: bool) -> None:
        """`header`: in which a trusted proxy says it; None = no proxy ends TLS. `from_tls`: whether this server asks for certificates."""
        self.header = header.lower() if header is not None else None
        self._proxies = proxies
        self._from_tls = from_tls

    @property
    def possible(self) -> bool:
        """Whether a client of this hub can show a certificate at all."""
        return self._from_tls or self.header is not None

    def shown(self, peer: str | None, from_tls: str | None, header: Sequence[str]) -> str | None:
        """The thumbprint, or None. `peer`: the other end of the connection; `header`: each value of the header of that name."""
        if self.header is None or peer not in self._proxies:
            return from_tls
        if len(header) != 1:
            return None
        der = _certificate(header[0])
        return thumbprint(der) if der is not None else None


def _certificate(value: str) -> bytes | None:
    """A certificate as proxies write one: RFC 9440 (`:base64 DER:`), or percent-encoded PEM."""
    if len(value) > _LONGEST:
        return None
    try:
        if value.startswith(":") and value.endswith(":"):
            der = base64.b64decode(value[1:-1], validate=True)
            return x509.load_der_x509_certificate(der).public_bytes(Encoding.DER)
        pem = unquote(value, errors="strict")
        if not pem.startswith(_PEM) or pem.count(_PEM) != 1:
            return None
        return x509.load_pem_x509_certificate(pem.encode("ascii")).public_bytes(Encoding.DER)
    except (ValueError, binascii.Error, UnicodeError):
        return None
