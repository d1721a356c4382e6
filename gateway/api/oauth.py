"""The OAuth endpoints as Starlette routes: reading a form within limits, and writing JSON. What it means is in `gateway.oauth`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.nowhere import AnyMethod
from gateway.api.shown import Showing
from gateway.oauth.authentication import NO_STORE, OAuthError, invalid_request
from gateway.oauth.introspection import Answer, TokenControl
from gateway.oauth.keys import SigningKeys
from gateway.oauth.metadata import OAuthUrls, authorization_server_metadata, smart_configuration
from gateway.oauth.server import TokenService

__all__ = ["FORM_LIMIT", "routes"]

FORM_LIMIT: Final = 16 * 1024
"""Bytes of a token request's body."""

_FIELDS_LIMIT: Final = 32
_FORM_TYPE: Final = "application/x-www-form-urlencoded"

Handler = Callable[[Request], Awaitable[Response]]


def routes(
    service: TokenService,
    control: TokenControl,
    showing: Showing,
    keys: SigningKeys,
    urls: OAuthUrls,
    *,
    scopes: Callable[[], Sequence[str]],
    smart_paths: Iterable[str],
    document_age: int,
    certificates: bool,
) -> list[Route]:
    """The routes of the authorization server.

    `certificates`: whether clients can show one. `scopes`: those advertised now. `smart_paths`: prefixes under which
    ``.well-known/smart-configuration`` is served (``""`` and the path of the FHIR base). `document_age`:
    seconds a caller may keep a discovery document or the key set.
    """

    def smart() -> bytes:
        return orjson.dumps(smart_configuration(urls, scopes(), certificates=certificates))

    def server() -> bytes:
        return orjson.dumps(authorization_server_metadata(urls, scopes(), certificates=certificates))

    kept = {"Cache-Control": f"public, max-age={document_age}"}

    async def token(request: Request) -> Response:
        form = await _form(request)
        if isinstance(form, OAuthError):
            return _json(form.body, form.status, form.headers)
        answer = await service.token(form, request.headers, showing.of(request))
        return _json(answer.body, answer.status, answer.headers)

    def about_a_token(ask: Callable[[Mapping[str, str], Mapping[str, str]], Awaitable[Answer | OAuthError]]) -> Handler:
        async def serve(request: Request) -> Response:
            form = await _form(request)
            answer = form if isinstance(form, OAuthError) else await ask(form, request.headers)
            if isinstance(answer, OAuthError):
                return _json(answer.body, answer.status, answer.headers)
            return _json(answer.body, 200, answer.headers) if answer.body is not None else Response(headers=dict(answer.headers))

        return serve

    def document(content: Callable[[], bytes]) -> Handler:
        async def serve(request: Request) -> Response:
            # JSON whatever Accept says: SMART App Launch 2, "Using well-known"
            return Response(content(), headers=kept, media_type="application/json")

        return serve

    return [
        _route("/oauth/token", token, ("POST",)),
        _route("/oauth/introspect", about_a_token(control.introspect), ("POST",)),
        _route("/oauth/revoke", about_a_token(control.revoke), ("POST",)),
        _route("/oauth/jwks", document(lambda: orjson.dumps(keys.jwks)), ("GET", "HEAD")),
        _route(urls.metadata_path, document(server), ("GET", "HEAD")),
        *(_route(f"{prefix}/.well-known/smart-configuration", document(smart), ("GET", "HEAD")) for prefix in smart_paths),
    ]


def _route(path: str, handler: Handler, allowed: tuple[str, ...]) -> Route:
    """A route that answers a method it does not have in the same form as everything else here."""

    async def endpoint(request: Request) -> Response:
        if request.method not in allowed:
            refusal = invalid_request(f"Use {allowed[0]}.", 405)
            return _json(refusal.body, refusal.status, (*refusal.headers, ("Allow", ", ".join(allowed))))
        return await handler(request)

    return Route(path, AnyMethod(endpoint))


async def _form(request: Request) -> dict[str, str] | OAuthError:
    """The parameters of a request (RFC 6749 section 3.2 and appendix B): in the body only, each at most once, empty ones left out.

    `resource` alone may come several times (RFC 8707 section 2); its values are joined by spaces, which no URI holds.
    """
    if request.url.query:
        return invalid_request("Send the parameters in the body, not in the URL.")
    if not _is_form(request.headers.getlist("content-type")):
        return invalid_request(f"Send the parameters as {_FORM_TYPE}.")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > FORM_LIMIT:
                return invalid_request("The body is too large.", 413)
    except ClientDisconnect:
        return invalid_request("The body is incomplete.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=_FIELDS_LIMIT)
    except ValueError:
        return invalid_request("The body is not a form.")
    form = dict(pairs)
    resources = [value for name, value in pairs if name == "resource" and value]
    if len(form) - ("resource" in form) != sum(name != "resource" for name, _ in pairs):
        return invalid_request("A parameter is repeated.")
    if resources:
        form["resource"] = " ".join(resources)
    return {name: value for name, value in form.items() if value}


def _is_form(content_types: list[str]) -> bool:
    if len(content_types) != 1:
        return False
    media_type, _, parameters = content_types[0].partition(";")
    return media_type.strip().lower() == _FORM_TYPE and parameters.strip().lower().replace('"', "") in ("", "charset=utf-8")


def _json(body: Mapping[str, Any], status: int, headers: Iterable[tuple[str, str]] = NO_STORE) -> Response:
    return Response(orjson.dumps(dict(body)), status, headers=dict(headers), media_type="application/json")
