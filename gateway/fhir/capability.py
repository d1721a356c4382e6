"""The CapabilityStatement, made from what the API layer routes, so that it can't promise more (R4 capabilitystatement.html).

The API layer passes one table to its router and to this function; nothing about a resource type is written down twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "Interaction",
    "InteractionTable",
    "OauthUris",
    "Operation",
    "SearchParam",
    "SearchParamType",
    "SystemInteraction",
    "TypeCapability",
    "capability_statement",
]

_NAME: Final = "Coalition gateway"
_DESCRIPTION: Final = "A hub through which the members of a coalition refer a person to each other, with consent."
_SERVICES: Final = ("SMART-on-FHIR",)
_FHIR_VERSION: Final = "4.0.1"
_FHIR_JSON: Final = "application/fhir+json"
_JSON_PATCH: Final = "application/json-patch+json"
_OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SECURITY_SERVICE: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"


class Interaction(StrEnum):
    """R4 type-restful-interaction, as far as the hub has them."""

    READ = "read"
    VREAD = "vread"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    HISTORY_INSTANCE = "history-instance"
    CREATE = "create"
    SEARCH = "search-type"


class SystemInteraction(StrEnum):
    """R4 system-restful-interaction."""

    TRANSACTION = "transaction"
    BATCH = "batch"


class SearchParamType(StrEnum):
    """R4 search-param-type."""

    NUMBER = "number"
    DATE = "date"
    STRING = "string"
    TOKEN = "token"
    REFERENCE = "reference"
    COMPOSITE = "composite"
    QUANTITY = "quantity"
    URI = "uri"
    SPECIAL = "special"


@dataclass(frozen=True, slots=True)
class SearchParam:
    name: str
    type: SearchParamType
    documentation: str | None = None


@dataclass(frozen=True, slots=True)
class TypeCapability:
    """What can be done with one resource type."""

    interactions: tuple[Interaction, ...]
    search: tuple[SearchParam, ...] = ()
    conditional_create: bool = False
    documentation: str | None = None
    profiles: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the system, such as process-message, or of a type's instances."""

    name: str
    definition: str
    documentation: str | None = None


@dataclass(frozen=True, slots=True)
class OauthUris:
    """The endpoints for the SMART `oauth-uris` extension; a backend client needs only `token`."""

    token: str
    introspect: str | None = None
    revoke: str | None = None
    authorize: str | None = None


InteractionTable = Mapping[str, TypeCapability]


def capability_statement(
    table: InteractionTable,
    *,
    url: str,
    software_version: str,
    date: str,
    oauth: OauthUris,
    system: Sequence[SystemInteraction] = (),
    operations: Sequence[Operation] = (),
) -> dict[str, Any]:
    """A valid R4 CapabilityStatement of kind `instance`.

    `url` is the FHIR base address, `date` a FHIR dateTime of when the software last changed what it can do (not of this request: the
    statement is the same every time). Types are in alphabetical order.
    """
    rest: dict[str, Any] = {"mode": "server", "security": _security(oauth)}
    if table:
        rest["resource"] = [_resource(name, table[name]) for name in sorted(table)]
    if system:
        rest["interaction"] = [{"code": interaction.value} for interaction in system]
    if operations:
        rest["operation"] = _operations(operations)
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": _NAME, "version": software_version},
        "implementation": {"description": _DESCRIPTION, "url": url},
        "fhirVersion": _FHIR_VERSION,
        "format": [_FHIR_JSON],
        "patchFormat": [_JSON_PATCH],
        "rest": [rest],
    }


def _operations(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    return [_sparse({"name": op.name, "definition": op.definition, "documentation": op.documentation}) for op in operations]


def _resource(name: str, capability: TypeCapability) -> dict[str, Any]:
    search = [_sparse({"name": param.name, "type": param.type.value, "documentation": param.documentation}) for param in capability.search]
    versioned = Interaction.VREAD in capability.interactions
    return _sparse(
        {
            "type": name,
            "supportedProfile": list(capability.profiles),
            "documentation": capability.documentation,
            "interaction": [{"code": interaction.value} for interaction in capability.interactions],
            "versioning": "versioned-update" if versioned and Interaction.UPDATE in capability.interactions else None,
            "readHistory": versioned or None,
            "updateCreate": False if Interaction.UPDATE in capability.interactions else None,
            "conditionalCreate": capability.conditional_create,
            "searchParam": search,
            "operation": _operations(capability.operations),
        }
    )


def _security(oauth: OauthUris) -> dict[str, Any]:
    named = {"token": oauth.token, "authorize": oauth.authorize, "introspect": oauth.introspect, "revoke": oauth.revoke}
    uris = [{"url": name, "valueUri": uri} for name, uri in named.items() if uri]
    return {
        "extension": [{"url": _OAUTH_URIS, "extension": uris}],
        "cors": False,
        "service": [{"coding": [{"system": _SECURITY_SERVICE, "code": code}]} for code in _SERVICES],
    }


def _sparse(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is not there: FHIR has no empty arrays and no nulls."""
    return {key: value for key, value in values.items() if value is not None and value != []}
