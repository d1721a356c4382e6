"""Token buckets, and whose they are."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.api.limits import Limits, Rates, Sources, named_client
from gateway.api.rates import Buckets, Rate
from gateway.oauth.mtls import TrustedProxies
from gateway.problems import Problem, ProblemType


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_a_burst_passes_and_then_so_many_a_second() -> None:
    clock = Clock()
    buckets = Buckets(Rate(2, 5), clock, room=10)
    assert [buckets.take("a") for _ in range(5)] == [0.0] * 5
    assert buckets.take("a") == pytest.approx(0.5) == buckets.wait("a")
    assert buckets.take("b") == 0.0
    clock.at += 0.5
    assert buckets.wait("a") == 0.0 and buckets.take("a") == 0.0
    assert buckets.take("a") == pytest.approx(0.5)
    clock.at += 100  # rest fills it, and no further than full
    assert [bool(buckets.take("a")) for _ in range(6)] == [False] * 5 + [True]


def test_being_refused_takes_nothing() -> None:
    clock = Clock()
    buckets = Buckets(Rate(1, 1), clock, room=10)
    buckets.take("a")
    assert {round(buckets.take("a"), 6) for _ in range(100)} == {1.0}


def test_what_was_given_back_can_be_taken_and_a_debt_has_an_end() -> None:
    clock = Clock()
    buckets = Buckets(Rate(1, 2), clock, room=10)
    for _ in range(50):
        assert buckets.take("a") == 0.0
        buckets.give_back("a")
    buckets.give_back("never-used")
    buckets.charge("a", 1000)
    assert buckets.wait("a") == pytest.approx(3.0)


def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    buckets = Buckets(Rate(1, 1), Clock(), room=100)
    buckets.take("kept")
    for number in range(10_000):
        buckets.take(number)
        buckets.charge("kept", 0)
    assert len(buckets) == 100
    assert buckets.wait("kept") > 0 and buckets.wait(9_999) > 0 and buckets.wait(1) == 0


def source(peer: str | None, *forwarded: str, proxies: tuple[str, ...] = ()) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return Sources(TrustedProxies(proxies)).of({"type": "http", "client": (peer, 1) if peer else None, "headers": headers})


def test_a_source_is_an_address_or_the_least_block_that_one_host_is_given() -> None:
    assert source("192.0.2.7") == "192.0.2.7" == source("::ffff:192.0.2.7")
    assert source("2001:db8:1:2::1") == source("2001:db8:1:2:ffff::9") == "2001:0db8:0001:0002"
    assert source("2001:db8:1:3::1") != source("2001:db8:1:2::1")
    assert source(None) == source("/run/hub.sock") == "unknown"


def test_a_forwarded_address_counts_from_a_trusted_proxy_alone() -> None:
    assert source("192.0.2.7", "198.51.100.1") == "192.0.2.7"
    assert source("192.0.2.7", "198.51.100.1", proxies=("10.0.0.0/8",)) == "192.0.2.7"
    near = ("10.0.0.0/8",)
    assert source("10.0.0.1", "198.51.100.1", proxies=near) == "198.51.100.1"
    assert source("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", proxies=near) == "198.51.100.1"  # what the client wrote comes first
    assert source("10.0.0.1", "203.0.113.9", "198.51.100.1:4711", proxies=near) == "198.51.100.1"
    assert source("10.0.0.1", "[2001:db8:1:2::1]:4711", proxies=near) == "2001:0db8:0001:0002"
    assert source("10.0.0.1", proxies=near) == source("10.0.0.1", "198.51.100.1, unknown", proxies=near) == "10.0.0.1"


def assertion(claims: Any) -> str:
    return "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".c2ln"


@pytest.mark.parametrize(
    ("form", "named"),
    [
        (f"client_assertion={assertion({'iss': 'a'})}", "a"),
        (f"client_id=b&client_assertion={assertion({'iss': 'a'})}", "a"),
        (f"client_id=b&client_assertion={assertion({'iss': 7})}", "b"),
        (f"client_id=b&client_assertion={assertion(['iss'])}", "b"),
        ("client_id=b&client_assertion=x", "b"),
        ("client_id=b&client_assertion=x.%00.y", "b"),
        ("client_id=b&client_assertion=x.é.y", ""),
        ("&" * 100, ""),
        ("", ""),
    ],
)
def test_the_client_that_a_form_names(form: str, named: str) -> None:
    assert named_client(form.encode()) == named


def test_a_refusal_says_when_and_is_counted() -> None:
    clock = Clock()
    limits = Limits(Rates(1, 1, 60, 60), Sources(TrustedProxies(())), clock)
    for _ in range(5):
        limits.call("a")
    limits.call("b")
    for _ in range(3):
        with pytest.raises(Problem) as caught:
            limits.call("a")
        assert (caught.value.type, caught.value.retry_after) == (ProblemType.THROTTLED, 1)
    assert limits.refused == {"client": 3}
