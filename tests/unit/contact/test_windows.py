"""When she may be reached: local hours across the clock change, stale verifications, values that can't be read."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import vocabulary as v
from gateway.contact.windows import Window, next_open, safe_contacts

TORONTO = ZoneInfo("America/Toronto")
NOON = Window(frozenset(), time(12, 0), timedelta(hours=3))
THURSDAY = Window(frozenset({"thu"}), time(10, 0), timedelta(hours=1))


def local(*at: int) -> datetime:
    return datetime(*at, tzinfo=TORONTO).astimezone(UTC)  # type: ignore[misc,arg-type]  # year, month, day, hour, minute


def person(**parts: Any) -> dict[str, Any]:
    given_parts = {
        "channel": {"valueCode": "text"},
        "state": {"valueCode": "safe"},
        "verified-at": {"valueDateTime": "2026-03-10T12:00:00Z"},
    }
    extension = [{"url": name, **value} for name, value in {**given_parts, **parts}.items() if value]
    return {"telecom": [{"system": "sms", "value": "+1-905-555-0199", "extension": [{"url": v.EXT_SAFE_CONTACT, "extension": extension}]}]}


def test_a_window_is_open_from_its_start_until_just_before_its_end() -> None:
    assert next_open([NOON], local(2026, 3, 10, 12, 0), TORONTO) == local(2026, 3, 10, 12, 0)
    assert next_open([NOON], local(2026, 3, 10, 14, 59), TORONTO) == local(2026, 3, 10, 14, 59)
    assert next_open([NOON], local(2026, 3, 10, 15, 0), TORONTO) == local(2026, 3, 11, 12, 0)


def test_a_window_keeps_its_local_hour_over_the_change_of_clocks() -> None:
    before = local(2026, 3, 7, 16, 0)  # the Saturday before clocks go forward
    opens = next_open([NOON], before, TORONTO)
    assert opens == local(2026, 3, 8, 12, 0)
    assert opens - before == timedelta(hours=19)  # 20 on the wall


def test_a_window_over_midnight_is_open_after_it() -> None:
    late = Window(frozenset({"fri"}), time(22, 0), timedelta(hours=4))
    assert next_open([late], local(2026, 3, 14, 1, 0), TORONTO) == local(2026, 3, 14, 1, 0)


def test_the_next_thursday_is_found() -> None:
    assert next_open([THURSDAY], local(2026, 3, 12, 11, 0), TORONTO) == local(2026, 3, 19, 10, 0)


def test_no_window_is_always() -> None:
    assert next_open([], local(2026, 3, 12, 3, 0), TORONTO) == local(2026, 3, 12, 3, 0)


@pytest.mark.parametrize(
    ("parts", "usable"),
    [
        ({}, True),
        ({"state": {"valueCode": "unknown"}}, False),
        ({"state": {"valueCode": "unsafe"}}, False),
        ({"verified-at": {}}, False),
        ({"verified-at": {"valueDateTime": "2026-02-20T12:00:00Z"}}, False),  # older than fourteen days
        ({"verified-at": {"valueDateTime": "2026-04-20T12:00:00Z"}}, False),  # not yet
        ({"verified-at": {"valueDateTime": "2026-03-10"}}, False),  # no time of day
        ({"qualifier": {"valueCode": "device-watched"}}, False),
        ({"qualifier": {"valueCode": "device-shared"}}, False),
        ({"qualifier": {"valueCode": "no-voicemail"}}, True),
    ],
)
def test_what_makes_a_channel_usable(parts: dict[str, Any], usable: bool) -> None:
    contacts = safe_contacts(person(**parts))
    assert [contact.usable(datetime(2026, 3, 12, tzinfo=UTC)) for contact in contacts] == [usable]


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none()), st.sampled_from(["min", "h", "d", ""]), st.text())
def test_a_window_that_cannot_be_read_leaves_the_channel_out(duration: Any, unit: str, opens: str) -> None:
    timing = {"repeat": {"duration": duration, "durationUnit": unit, "timeOfDay": [opens]}}
    for contact in safe_contacts(person(window={"valueTiming": timing})):
        next_open(contact.windows, datetime(2026, 3, 12, tzinfo=UTC), TORONTO)
