"""The shape of each configuration file, by its JSON Schema (draft 2020-12) in `mappings/schemas`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson
from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from gateway.parties.errors import Mistakes
from gateway.parties.yaml_lines import Document, Place

__all__ = ["SCHEMAS", "Checker", "checker"]

SCHEMAS: Final = ("codes", "data-classes", "terms", "profile", "manifest", "registry")

Checker = Callable[[Document, Mistakes], None]


def checker(folder: Path, name: str) -> Checker:
    """What checks a document against `<name>.schema.json`. Reasons name members and expectations, never a value."""
    validator = Draft202012Validator(orjson.loads((folder / f"{name}.schema.json").read_bytes()), mask="this value")

    def check(document: Document, mistakes: Mistakes) -> None:
        for outer in validator.iter_errors(document.data):
            error = _deepest(outer)
            place: Place = tuple(error.instance_path)
            match error.kind:
                case ValidationErrorKind.AdditionalProperties(unexpected=unexpected):
                    for member in unexpected:
                        mistakes.add(document.file, document.key_line((*place, member)), f"{_at(place)}has no member {member!r}")
                case _:
                    mistakes.add(document.file, document.line(place), f"{_at(place)}{_reason(error)}")

    return check


def _at(place: Place) -> str:
    shown = ""
    for step in place:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return f"{shown}: " if shown else ""


def _deepest(error: ValidationError) -> ValidationError:
    """Of a choice that no branch fits, the complaint of the branch that the writer meant.

    That is the only one whose type and fixed members fit, or else the one whose complaint lies deepest.
    """
    match error.kind:
        case ValidationErrorKind.AnyOf(context=branches) | ValidationErrorKind.OneOfNotValid(context=branches):
            top = len(error.instance_path)
            meant = [branch for branch in branches if branch and not any(_other_form(each, top) for each in branch)]
            if len(meant) == 1:
                return max(map(_deepest, meant[0]), key=_depth)
            best = max((_deepest(each) for branch in branches for each in branch), key=_depth, default=error)
            return best if _depth(best) > top else error
        case _:
            return error


def _depth(error: ValidationError) -> int:
    return len(error.instance_path)


def _other_form(error: ValidationError, top: int) -> bool:
    """Whether this complaint says that another branch was meant: the type is another, or a fixed member has another value."""
    match error.kind:
        case ValidationErrorKind.Type():
            return _depth(error) == top
        case ValidationErrorKind.Constant():
            return _depth(error) <= top + 1
        case _:
            return False


def _reason(error: ValidationError) -> str:
    match error.kind:
        case ValidationErrorKind.Required(property=name):
            return f"the member {name!r} is missing"
        case ValidationErrorKind.Type(types=types):
            return f"must be {' or '.join(types)}"
        case ValidationErrorKind.Enum(options=options):
            return f"must be one of {', '.join(map(str, options))}"
        case ValidationErrorKind.Pattern(pattern=pattern):
            return f"must match {pattern}"
        case ValidationErrorKind.UniqueItems():
            return "holds the same thing twice"
        case ValidationErrorKind.PropertyNames(error=inner):
            return f"has a member whose name is not allowed ({_reason(inner)})"
        case ValidationErrorKind.AnyOf() | ValidationErrorKind.OneOfNotValid() | ValidationErrorKind.OneOfMultipleValid():
            return "is none of the forms allowed here"
        case _:
            return error.message
