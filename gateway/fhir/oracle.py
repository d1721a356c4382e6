"""What fhir.resources says of a resource: the second opinion that tests hold the validator against.

The only importer of fhir.resources, R4B models only (the package root is R5), and only when called: the import takes seconds. It checks
structure and types, not codes, invariants or reference targets. Its messages hold input values, so only element paths are returned.
"""

from __future__ import annotations

from typing import Any

__all__ = ["parse_r4b"]


def parse_r4b(resource: dict[str, Any]) -> list[str]:
    """The element paths that the R4B model refuses, such as `Consent.provision.0.type`; empty when it takes the resource.

    `?` alone: the model refuses the resource as a whole (unknown type, nested too deeply). Never raises for any JSON value.
    """
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    name = resource.get("resourceType")
    if not isinstance(name, str):
        return ["?"]
    try:
        get_fhir_model_class(name).model_validate(resource)
    except ValidationError as refused:
        errors = refused.errors(include_input=False, include_url=False, include_context=False)
        return sorted({".".join((name, *(str(step) for step in error["loc"]))) for error in errors})
    except (RecursionError, LookupError, TypeError, ValueError, AttributeError):
        return ["?"]
    return []
