"""The only maker of a Release: copies what a permit allows of what the sender wrote. Pure.

It copies allowed elements, found by `gateway.disclosure.selecting`; it never deletes forbidden ones. What goes is labelled anew for each
receiver, by what of it went.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.adapter_api import Operation
from gateway.decision.decide import Permit
from gateway.disclosure.selecting import (
    Plan,
    Source,
    age_band_of,
    by_kind,
    classes_in,
    codes_of,
    compile_plan,
    copy_age,
    copy_values,
    inputs_of,
    yes_in,
)
from gateway.identity import ShelfId, ThreadId
from gateway.parties.model import DataClass, SelectorKind

__all__ = [
    "OBLIGATIONS",
    "Part",
    "Plan",
    "Release",
    "Source",
    "age_band_of",
    "classes_in",
    "codes_of",
    "compile_plan",
    "forward",
    "labels_of",
    "minimize",
    "yes_in",
]

Json = dict[str, Any]

_CONFIDENTIALITY: Final = ("N", "R", "V")  # v3-Confidentiality, low to high
OBLIGATIONS: Final = ("MINEC", "CPLYCD", "NORDSCLCDS", "NOREUSE", "NORELINK")
"""What every receiver takes on with a copy (v3-ActCode): encrypt, comply, do not pass on, reuse or relink."""


@dataclass(frozen=True, slots=True)
class Part:
    """One copy going out as it lies on the receiver's shelf (for an adapter)."""

    type: str
    id: str
    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Release:
    """What one receiver may learn, and why. Built only in this module; everything after it only arranges what is here."""

    thread: ThreadId
    shelf: ShelfId
    row: str
    basis: str
    grants: tuple[str, ...]
    classes: tuple[str, ...]
    confidentiality: str
    sensitivity: tuple[str, ...]
    patient: Mapping[str, Any]
    request: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...]
    parts: tuple[Part, ...] = ()
    operation: Operation = Operation.PUT
    version: int = 0
    idempotency_key: str = ""
    correlation_id: str = ""
    obligations: tuple[str, ...] = OBLIGATIONS


def minimize(
    source: Source, permit: Permit, plan: Plan, *, thread: ThreadId, shelf: ShelfId, needs: frozenset[str] | None = None
) -> Release:
    """The allowed values of `source` for the receiver of `permit`.

    `needs` narrows coded needs to those of the service asked for. Never raises: a value of an unexpected shape is not copied.
    """
    patient: dict[str, Any] = {}
    request: dict[str, Any] = {}
    inputs: list[Mapping[str, Any]] = []
    went: list[str] = []
    given = by_kind(source.task)
    row = permit.row
    # Whatever has become of her age since it was offered: nothing goes by a row that is not for it.
    fits = row.age_bands is None or age_band_of(source, plan, permit.at) in row.age_bands
    for name, rule in permit.classes.items() if fits else ():
        only = rule.only
        if name == "needs" and needs is not None:
            only = needs if only is None else only & needs
        some = False
        for step in plan.steps.get(name, ()):
            if step.selector.kind is SelectorKind.INPUT:
                values = list(inputs_of(given, step, only))
                inputs += values
                some |= bool(values)
            elif step.selector.kind is SelectorKind.AGE:
                some |= copy_age(source, step, only, permit.at, patient)
            elif step.selector.resource == "Patient":
                some |= copy_values(source.patient, step, only, patient)
            else:
                some |= copy_values(source.request, step, only, request)
        if some:
            went.append(name)
    confidentiality, sensitivity = labels_of(went, plan.classes)
    sensitivity = _of_values(sensitivity, went, plan, source, permit)
    return Release(
        thread=thread,
        shelf=shelf,
        row=permit.row.id,
        basis=permit.basis.id,
        grants=permit.grants,
        classes=tuple(went),
        confidentiality=confidentiality,
        sensitivity=sensitivity,
        patient=patient,
        request=request,
        inputs=tuple(inputs),
        obligations=(*OBLIGATIONS, *row.obligations),
    )


def _of_values(usual: tuple[str, ...], went: Sequence[str], plan: Plan, source: Source, permit: Permit) -> tuple[str, ...]:
    """The sensitivity codes of what went, with those that its values bring and without those that they take away."""
    labels: dict[str, None] = {}
    brought: dict[str, None] = {}
    for name in went:
        data_class = plan.classes[name]
        if not any(_only_these(other, values, plan, source) for other, values in data_class.unlabelled_with.items()):
            labels.update(dict.fromkeys(data_class.sensitivity))
        for label, values in data_class.sensitivity_of.items():
            if values & (codes_of(name, plan, source) or _derived(name, plan, source, permit.at)):
                brought[label] = None
    kept = [label for label in usual if label in labels] + [label for label in brought if label not in labels]
    return tuple(label for label in kept if label not in permit.row.without_labels)


def _derived(name: str, plan: Plan, source: Source, at: int) -> frozenset[str]:
    """The band of a class that was made from a birth date."""
    found: dict[str, Any] = {}
    for step in plan.steps.get(name, ()):
        if step.selector.kind is SelectorKind.AGE:
            copy_age(source, step, None, at, found)
    return frozenset(value for extension in found.get("extension", ()) for value in extension.values())


def _only_these(name: str, values: frozenset[str], plan: Plan, source: Source) -> bool:
    found = codes_of(name, plan, source)
    return bool(found) and found <= values


def forward(
    permit: Permit | None, parts: Sequence[Part], *, thread: ThreadId, shelf: ShelfId, version: int, key: str, recall: bool = False
) -> Release:
    """What an adapter is given to send: copies that already lie on the receiver's shelf, after the decision was taken again.

    `key` is the delivery's id: the idempotency key and, being used for this shelf alone, the correlation id.
    """
    return Release(
        thread=thread,
        shelf=shelf,
        row=permit.row.id if permit else "",
        basis=permit.basis.id if permit else "",
        grants=permit.grants if permit else (),
        classes=tuple(permit.classes) if permit else (),
        confidentiality="V",
        sensitivity=(),
        patient={},
        request={},
        inputs=(),
        parts=tuple(parts),
        operation=Operation.RECALL if recall else Operation.PUT,
        version=version,
        idempotency_key=key,
        correlation_id=key,
    )


def labels_of(names: Sequence[str], classes: Mapping[str, DataClass]) -> tuple[str, tuple[str, ...]]:
    """The high-water mark of confidentiality and the sensitivity codes of a set of classes."""
    level = 0
    sensitivity: dict[str, None] = {}
    for name in names:
        data_class = classes[name]
        level = max(level, _CONFIDENTIALITY.index(data_class.confidentiality))
        sensitivity.update(dict.fromkeys(data_class.sensitivity))
    return _CONFIDENTIALITY[level], tuple(sensitivity)
