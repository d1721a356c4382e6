"""The partner's side of the hub's FHIR API: a SMART backend client that reads and writes its own shelf."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from gateway import vocabulary as v
from gateway.oauth.client import SmartBackendClient

__all__ = ["Answer", "Hub"]

Json = dict[str, Any]

_FHIR: Final = "application/fhir+json"
_PATCH: Final = "application/json-patch+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub answered: its status, and its body when that is a JSON object."""

    status: int
    body: Json

    @property
    def refusals(self) -> list[str]:
        """The coalition's own refusal codes in an OperationOutcome."""
        codings = (c for issue in self._issues for c in issue.get("details", {}).get("coding", ()))
        return [str(c["code"]) for c in codings if c.get("system") == v.REFUSAL]

    @property
    def elements(self) -> list[str]:
        """The elements that an OperationOutcome names."""
        return [str(e) for issue in self._issues for e in issue.get("expression", ())]

    @property
    def says(self) -> list[str]:
        """The sentences of an OperationOutcome."""
        return [str(issue.get("details", {}).get("text") or issue.get("diagnostics") or "") for issue in self._issues]

    @property
    def _issues(self) -> list[Json]:
        issues: list[Json] = self.body.get("issue", []) if self.body.get("resourceType") == "OperationOutcome" else []
        return issues


class Hub:
    """Calls the hub. Whatever it answers is returned; only no answer at all raises (what httpx raises)."""

    def __init__(self, client: SmartBackendClient) -> None:
        self._client = client

    async def token(self) -> str:
        """A live access token of this system."""
        return await self._client.access_token()

    async def send(self, method: str, path: str, content: bytes, *, version: str | None = None) -> Answer:
        """A write, under a request id of its own. `version`: only if it is still that one."""
        headers = {"content-type": _PATCH if method == "PATCH" else _FHIR, "x-request-id": secrets.token_urlsafe(18)}
        if version is not None:
            headers["if-match"] = f'W/"{version}"'
        return _answer(await self._client.request(method, path, content=content, headers=headers))

    async def read(self, path: str) -> Answer:
        """A read, vread or search."""
        return _answer(await self._client.request("GET", path))

    async def search(self, type_: str, params: Mapping[str, str]) -> list[Json]:
        """Everything a search finds, page by page. A refused search finds nothing."""
        query = str(httpx.QueryParams({"_count": "100", **params}))
        path: str | None = f"{type_}?{query}"
        found: list[Json] = []
        while path is not None:
            answer = await self.read(path)
            found += [entry["resource"] for entry in answer.body.get("entry", ()) if "resource" in entry]
            path = next((link["url"] for link in answer.body.get("link", ()) if link.get("relation") == "next"), None)
        return found


def _answer(response: httpx.Response) -> Answer:
    try:
        body = response.json() if response.content else {}
    except ValueError:
        body = {}
    return Answer(response.status_code, body if isinstance(body, dict) else {})
