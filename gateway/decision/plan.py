"""A Policy made ready for decisions: the matrix by sender kind, receiver kind and service, with each class narrowed once.

Built once for a Policy and kept while that Policy is in use. Nothing in here is mutable, and the same Policy always gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gateway.decision.agreement import AgreementIndex, index_agreements
from gateway.parties.model import ClassRule, DataClass, MatrixRow, Policy, Service

__all__ = ["GOES_WITH_ANY", "PolicyIndex", "RowPlan", "index_of"]

GOES_WITH_ANY: Final = ("envelope", "pid", "urgency")
"""Classes that say only that there is a transfer: with those the policy adds (made by the hub), they go with any permit, ungranted."""

_NEEDS: Final = "needs"
_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class RowPlan:
    """One matrix row for one service. `classes` are those that need a grant's word, `always` those that go with any permit."""

    row: MatrixRow
    classes: Mapping[str, ClassRule]
    always: Mapping[str, ClassRule]


@dataclass(frozen=True, slots=True)
class PolicyIndex:
    """What `decide` looks up. `labels` are the default security labels of each class."""

    agreements: AgreementIndex
    rows: Mapping[tuple[str, str, str], tuple[RowPlan, ...]]
    labels: Mapping[str, frozenset[str]]


_indexes: dict[int, tuple[Policy, PolicyIndex]] = {}


def index_of(policy: Policy) -> PolicyIndex:
    """The index of a Policy, built at its first use. Told apart by identity: a Policy is never changed, only replaced."""
    known = _indexes.get(id(policy))
    if known is not None and known[0] is policy:
        return known[1]
    made = _build(policy)
    while len(_indexes) >= _KEPT:
        _indexes.pop(next(iter(_indexes)), None)
    _indexes[id(policy)] = (policy, made)
    return made


def _build(policy: Policy) -> PolicyIndex:
    always = {c: ClassRule(c) for c in sorted({*GOES_WITH_ANY, *policy.always})}
    rows: dict[tuple[str, str, str], tuple[RowPlan, ...]] = {}
    for row in policy.rows:
        for name in row.services:
            service = policy.services.get(name)
            if service is not None:
                key = (row.sender_kind, row.receiver_kind, name)
                rows[key] = (*rows.get(key, ()), _plan(row, service, always))
    return PolicyIndex(index_agreements(policy.agreements), rows, {c.id: _labels(c) for c in policy.classes.values()})


def _plan(row: MatrixRow, service: Service, always: Mapping[str, ClassRule]) -> RowPlan:
    """A service is told of needs that concern it and that the row lets through; both lists narrow."""
    classes = {name: rule for name, rule in row.classes.items() if name not in always}
    if _NEEDS in classes:
        only = classes[_NEEDS].only
        classes[_NEEDS] = replace(classes[_NEEDS], only=service.needs if only is None else only & service.needs)
    return RowPlan(row, classes, {**always, **{n: row.classes[n] for n in always if n in row.classes}})


def _labels(data_class: DataClass) -> frozenset[str]:
    return frozenset((data_class.confidentiality, *data_class.sensitivity))
