"""Reading a request within limits: body, media type, headers, entries of a transaction. Nothing here knows a person."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import jsonpatch
import orjson
from jsonpointer import JsonPointerException
from starlette.requests import ClientDisconnect, Request

from gateway.api.searching import SEARCHABLE, read_search
from gateway.fhir.parse import BODY_LIMIT, parse_json
from gateway.problems import Finding, IssueCode, Problem, ProblemType
from gateway.shelves.shelf import Criteria
from gateway.transfers.intake import Entry

__all__ = ["accepts_json", "apply_patch", "bundle_entries", "if_match", "if_none_exist", "read_body", "request_id"]

Json = dict[str, Any]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_ETAG: Final = re.compile(r'W/"(\d{1,9})"')
_JSON_TYPES: Final = frozenset({"application/fhir+json", "application/json"})
_ENTRY_URL: Final = re.compile(r"([A-Z][A-Za-z]{1,40})(?:/([A-Za-z0-9.-]{1,64}))?")
_PATCH_LIMIT: Final = 50
_PATCHED_LIMIT: Final = 128 * 1024
_ENTRY_LIMIT: Final = 200


async def read_body(request: Request, types: frozenset[str] = _JSON_TYPES) -> bytes:
    """The body. Raises Problem: UNSUPPORTED_MEDIA, TOO_LARGE (without reading on), BAD_REQUEST when the client went away."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in types:
        raise Problem(ProblemType.UNSUPPORTED_MEDIA, Finding(IssueCode.NOT_SUPPORTED, f"Send {' or '.join(sorted(types))}."))
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > BODY_LIMIT:
                raise Problem(ProblemType.TOO_LARGE, Finding(IssueCode.TOO_LONG, "Send at most 1 MiB."))
            chunks.append(chunk)
    except ClientDisconnect:
        raise Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.STRUCTURE, "The body ended early.")) from None
    return b"".join(chunks)


def accepts_json(request: Request) -> None:
    """R4 http.html#mime-type: JSON only. Raises Problem(NOT_ACCEPTABLE)."""
    accept = request.headers.get("accept", "*/*").lower()
    if not any(kind in accept for kind in ("json", "*/*", "application/*")):
        raise Problem(ProblemType.NOT_ACCEPTABLE, Finding(IssueCode.NOT_SUPPORTED, "Only application/fhir+json is served."))


def request_id(request: Request) -> str | None:
    """`X-Request-ID`, kept by the client on a retry. Raises Problem(BAD_REQUEST) when it can't be an id."""
    value = request.headers.get("x-request-id")
    if value is not None and _REQUEST_ID.fullmatch(value) is None:
        say = "X-Request-ID must be 1 to 64 letters, digits or . _ : -"
        raise Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.VALUE, say, "http.x-request-id"))
    return value


def if_match(value: str | None) -> int | None:
    """The version in an `If-Match` header (R4 http.html#concurrency). Raises Problem(BAD_REQUEST)."""
    if value is None:
        return None
    found = _ETAG.fullmatch(value.strip())
    if found is None:
        raise Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.VALUE, 'If-Match must be a weak ETag such as W/"3".', "http.if-match"))
    return int(found[1])


def if_none_exist(value: str | None, type_: str) -> Criteria | None:
    """The criteria of a conditional create on one's own shelf (R4 http.html#ccreate): an identifier, with its system."""
    if value is None:
        return None
    try:
        pairs = parse_qsl(value.rpartition("?")[2], keep_blank_values=True, errors="strict", max_num_fields=5)
        criteria, _, _ = read_search(type_, pairs) if type_ in SEARCHABLE else (Criteria(), 0, 0)
    except (ValueError, Problem):
        criteria = Criteria()
    if not criteria.identifiers:
        say = "If-None-Exist must name an identifier (system|value)."
        raise Problem(ProblemType.BAD_REQUEST, Finding(IssueCode.NOT_SUPPORTED, say, "http.if-none-exist"))
    return criteria


def claimed_entries(bundle: Json) -> Iterator[tuple[str, Json]]:
    """What the entries of a bundle say they are, before anything of it was checked: (method, resource), those that can be told."""
    found = bundle.get("entry")
    for item in found if isinstance(found, list) else ():
        request, resource = (item.get("request"), item.get("resource")) if isinstance(item, dict) else (None, None)
        if isinstance(request, dict) and isinstance(resource, dict) and request.get("method") in ("POST", "PUT"):
            if isinstance(resource.get("resourceType"), str):
                yield request["method"], resource


def bundle_entries(bundle: Json) -> list[Entry]:
    """The entries of a transaction. Raises Problem(UNPROCESSABLE) naming each entry that is not a create or update."""
    if bundle.get("type") != "transaction":
        say = "Send a Bundle of type transaction."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.NOT_SUPPORTED, say, "Bundle.type"))
    entries: list[Entry] = []
    findings: list[Finding] = []
    if len(bundle.get("entry") or ()) > _ENTRY_LIMIT:
        say = f"Send at most {_ENTRY_LIMIT} entries at once."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.TOO_COSTLY, say, "Bundle.entry"))
    for i, item in enumerate(bundle.get("entry") or ()):
        at = f"Bundle.entry[{i}]"
        request, resource = item.get("request") or {}, item.get("resource")
        url = _ENTRY_URL.fullmatch(str(request.get("url")))
        method = request.get("method")
        if resource is None or url is None or method not in ("POST", "PUT") or (method == "PUT") != (url[2] is not None):
            say = "Use POST with a type, or PUT with type and id, and give the resource."
            findings.append(Finding(IssueCode.NOT_SUPPORTED, say, f"{at}.request"))
        elif url[1] != resource["resourceType"] or (method == "PUT" and resource.get("id") != url[2]):
            findings.append(Finding(IssueCode.INVALID, "The url and the resource do not say the same type and id.", f"{at}.request.url"))
        else:
            entries.append(
                Entry(
                    method,
                    resource,
                    f"{at}.resource",
                    id=url[2],
                    full_url=item.get("fullUrl"),
                    if_match=if_match(request.get("ifMatch")),
                    if_none_exist=if_none_exist(request.get("ifNoneExist"), url[1]),
                )
            )
    if not entries and not findings:
        findings.append(Finding(IssueCode.REQUIRED, "A transaction has at least one entry.", "Bundle.entry"))
    if findings:
        raise Problem(ProblemType.UNPROCESSABLE, *findings)
    return entries


def apply_patch(body: bytes, resource: Json) -> Json:
    """RFC 6902. Raises Problem: MALFORMED when it is not a patch, UNPROCESSABLE when it can't be applied to this version.

    One operation at a time, each within a limit: a handful of copies of copies would fill any memory.
    """
    wrapped = parse_json(b'{"patch":' + body + b"}")  # the rules of every other body: depth, digits, no member twice
    operations = wrapped["patch"] if len(wrapped) == 1 else None
    if not isinstance(operations, list) or len(operations) > _PATCH_LIMIT or not all(isinstance(o, Mapping) for o in operations):
        say = f"Send a JSON Patch: an array of at most {_PATCH_LIMIT} operations (RFC 6902)."
        raise Problem(ProblemType.MALFORMED, Finding(IssueCode.STRUCTURE, say))
    patched: Any = resource
    kind, id_ = resource["resourceType"], resource["id"]
    try:
        for operation in operations:
            patched = jsonpatch.apply_patch(patched, [operation], in_place=True)
            if len(orjson.dumps(patched)) > _PATCHED_LIMIT:
                raise ValueError("size")
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError, ValueError):
        say = "This patch can't be applied to the current version. Read it again, then repeat the change."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.INVALID, say)) from None
    if not isinstance(patched, dict) or patched.get("resourceType") != kind or patched.get("id") != id_:
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.BUSINESS_RULE, "Type and id can't be changed."))
    return patched
