"""What a request shows beside its token: its DPoP proofs and its client's certificate, read from where they may be read."""

from __future__ import annotations

from starlette.requests import Request

from gateway.oauth.confirmation import Shown
from gateway.oauth.mtls import SCOPE_KEY, ClientCertificates

__all__ = ["Showing"]


class Showing:
    """Reads it. One for all routes."""

    def __init__(self, origin: str, certificates: ClientCertificates) -> None:
        """`origin`: where the hub is known from outside. A `Host` header does not decide what address a proof must name."""
        self._origin = origin
        self._certificates = certificates

    def of(self, request: Request) -> Shown:
        """What this request shows."""
        scope, name = request.scope, self._certificates.header
        peer = scope.get("client")
        return Shown(
            method=request.method,
            url=self._origin + scope["raw_path"].decode("ascii", "replace"),
            proofs=tuple(request.headers.getlist("dpop")),
            certificate=self._certificates.shown(
                peer[0] if peer else None,
                scope.get(SCOPE_KEY),
                request.headers.getlist(name) if name is not None else (),
            ),
        )
