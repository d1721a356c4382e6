"""FHIRPath's three values and its comparison of times, against a table."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.fhir import logic

VALUES = (True, False, None)


@pytest.mark.parametrize(("left", "right"), list(product(VALUES, VALUES)))
def test_connectives_follow_the_truth_tables(left: bool | None, right: bool | None) -> None:
    """FHIRPath N1, boolean logic."""
    pair = {left, right}
    assert logic.and_(left, right) is (False if False in pair else None if None in pair else True)
    assert logic.or_(left, right) is (True if True in pair else None if None in pair else False)
    assert logic.implies(left, right) is (True if left is False or right is True else None if None in pair else False)
    assert logic.not_(left) is (None if left is None else not left)
    assert logic.eq(left, right) is (None if None in pair else left == right)
    assert logic.ne(left, right) is (None if None in pair else left != right)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("2026", "2026", True),
        ("2026", "2027", True),
        ("2027", "2026", False),
        ("2026", "2026-05", None),
        ("2026-06", "2026-05-30", False),
        ("2026-05-30", "2026-05-30T10:00:00Z", None),
        ("2026-05-31", "2026-05-30T10:00:00Z", False),
        ("2026-05-30T10:00:00Z", "2026-05-30T10:00:00Z", True),
        ("2026-05-30T10:00:00-05:00", "2026-05-30T14:59:59Z", False),
        ("2026-05-30T10:00:00-05:00", "2026-05-30T15:00:00Z", True),
        ("2026-05-30T10:00:00.5Z", "2026-05-30T10:00:00.25Z", False),
        ("2026-05-30T10:00:00.123456789Z", "2026-05-30T10:00:00Z", False),
        ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z", True),
        ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", True),
        (None, "2026", None),
        ("2026", None, None),
    ],
)
def test_times_are_compared_as_far_as_they_tell(left: str | None, right: str | None, expected: bool | None) -> None:
    assert logic.le_time(left, right) is expected
    assert logic.ge_time(right, left) is expected


def test_quantities_are_compared_only_in_one_unit() -> None:
    assert logic.le_quantity({"value": 1, "unit": "h"}, {"value": 2, "unit": "h"}) is True
    assert logic.le_quantity({"value": 2, "unit": "h"}, {"value": 1, "unit": "h"}) is False
    assert logic.le_quantity({"value": 2, "unit": "h"}, {"value": 1, "unit": "d"}) is None
    assert logic.le_quantity({"unit": "h"}, {"value": 1, "unit": "h"}) is None


def test_small_operations() -> None:
    assert logic.substring("#a", 1) == "a"
    assert logic.substring("#", 1) is None
    assert logic.is_in(None, ("a",)) is None
    assert logic.first(()) == {}
    assert logic.is_type(None, "Patient") is False
    assert logic.all_false([False, None]) is True
    assert logic.is_distinct(["a", "a"]) is False
    assert logic.to_string(1.0) == "1.0"
