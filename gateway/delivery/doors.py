"""The ways out that need no code of a party's own: push FHIR copies, send a content-free notice, hand a text to the text service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import httpx
import orjson

from gateway.adapter_api import Final as Refused
from gateway.adapter_api import NeedsPerson, OutboundAdapter, Receipt, Release, Reply, Transport, TryAgain
from gateway.oauth.answers import NoAnswer, ask
from gateway.oauth.outbound import Outbound, UnusableKey
from gateway.oauth.smart_tokens import SmartClientError
from gateway.parties.model import Endpoint
from gateway.parties.model import Transport as Kind

__all__ = ["BUILT_IN", "FhirPush", "HttpTransport", "Nudge", "check_reply"]

ANSWER_LIMIT: Final = 65_536
SECONDS: Final = 10.0


class HttpTransport:
    """`gateway.adapter_api.Transport` bound to one registered address. Follows no redirect; logs nothing of what it carries."""

    def __init__(self, http: httpx.AsyncClient, endpoint: Endpoint, outbound: Outbound) -> None:
        """`outbound` knows who we are to this endpoint."""
        self._http = http
        self._endpoint = endpoint
        self._outbound = outbound

    async def send(self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """One request, and after a 401 one more if a newer token can be had."""
        if path and (not path.startswith("/") or "//" in path or ".." in path):
            raise NeedsPerson("path-outside-address")
        url = self._endpoint.address.rstrip("/") + path
        try:
            credential = self._outbound.credential(self._endpoint)
            bearer = await credential.bearer()
            reply = await self._once(method, url, body, headers, bearer)
            if reply.status == httpx.codes.UNAUTHORIZED:
                newer = await credential.bearer(instead_of=bearer)
                if newer is not None:
                    reply = await self._once(method, url, body, headers, newer)
        except UnusableKey:
            raise NeedsPerson("no-key") from None
        except SmartClientError as error:
            raise (NeedsPerson("no-token") if error.refused else TryAgain("no-token")) from None
        except NoAnswer:
            raise TryAgain("no-answer") from None
        return reply

    async def _once(self, method: str, url: str, body: bytes, headers: Mapping[str, str] | None, bearer: str | None) -> Reply:
        sent = httpx.Headers(headers)
        sent["Authorization"] = f"Bearer {bearer}"
        answer = await ask(self._http, method, url, seconds=SECONDS, size=ANSWER_LIMIT, content=body, headers=sent, cut=True)
        return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.body)


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
