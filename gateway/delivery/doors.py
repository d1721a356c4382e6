"""The ways out that need no code of a party's own: push FHIR copies, send a content-free notice, hand a text to the text service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

import httpx
import orjson

from gateway.adapter_api import Final as Refused
from gateway.adapter_api import NeedsPerson, OutboundAdapter, Receipt, Release, Reply, Transport, TryAgain
from gateway.parties.model import Endpoint
from gateway.parties.model import Transport as Kind

__all__ = ["BUILT_IN", "FhirPush", "HttpTransport", "Nudge", "check_reply"]

ANSWER_LIMIT: Final = 65_536
TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)


class HttpTransport:
    """`gateway.adapter_api.Transport` bound to one registered address. Follows no redirect; logs nothing of what it carries."""

    def __init__(self, http: httpx.AsyncClient, endpoint: Endpoint, token: Callable[[str], str]) -> None:
        """`token` signs a short-lived statement of who we are for one audience."""
        self._http = http
        self._endpoint = endpoint
        self._token = token

    async def send(self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        if path and (not path.startswith("/") or "//" in path or ".." in path):
            raise NeedsPerson("path-outside-address")
        url = self._endpoint.address.rstrip("/") + path
        sent = {**(headers or {}), "Authorization": f"Bearer {self._token(self._endpoint.address)}"}
        try:
            request = self._http.build_request(method, url, content=body, headers=sent, timeout=TIMEOUT)
            response = await self._http.send(request, follow_redirects=False, stream=True)
            try:
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk[: ANSWER_LIMIT - len(answer)]
                    if len(answer) >= ANSWER_LIMIT:
                        break
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise TryAgain("no-answer") from error
        return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, answer)


def check_reply(reply: Reply) -> Receipt:
    """What a status means for a delivery. Raises the three kinds of failure."""
    if 200 <= reply.status < 300:
        return Receipt(duplicate=reply.status == 208)
    if reply.status in (408, 425, 429) or reply.status >= 500:
        after = reply.headers.get("retry-after", "")
        raise TryAgain(
            f"answered-{'busy' if reply.status == 429 else 'error'}", timedelta(seconds=int(after)) if after.isdecimal() else None
        )
    if reply.status in (401, 403, 404):
        raise NeedsPerson("not-let-in")
    raise Refused("refused")


class FhirPush:
    """A transaction of updates to the partner's FHIR server: applying it again changes nothing."""

    async def deliver(self, release: Release, transport: Transport) -> Receipt:
        entries = [
            {"resource": orjson.Fragment(part.body), "request": {"method": "PUT", "url": f"{part.type}/{part.id}"}}
            for part in release.parts
        ]
        body = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        headers = {
            "Content-Type": "application/fhir+json",
            "Idempotency-Key": release.idempotency_key,
            "X-Request-ID": release.idempotency_key,
            "X-Correlation-ID": release.correlation_id,
        }
        return check_reply(await transport.send("POST", "", body=body, headers=headers))


class Nudge:
    """A notice that something is new on the shelf: no resource, id, type or time of it."""

    async def deliver(self, release: Release, transport: Transport) -> Receipt:
        headers = {"Content-Type": "application/json", "Idempotency-Key": release.idempotency_key}
        return check_reply(await transport.send("POST", "", body=b'{"event":"shelf-changed"}', headers=headers))


BUILT_IN: Final[Mapping[Kind, OutboundAdapter]] = {Kind.FHIR_PUSH: FhirPush(), Kind.NUDGE: Nudge()}
