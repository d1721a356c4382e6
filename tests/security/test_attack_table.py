"""Every attack of the table against a running hub: refused as its row says, never a failure of the hub's, in less than 200 ms.

And beside each: an assertion that fails uses up no `jti`, no failure of authentication tells which check failed, nothing of what was
sent comes back, and no address that came with a token is ever called.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from tests.clients.hub import BOUND, SmartHub, running_hub
from tests.clients.wire import Answer, Wire
from tests.security.attack_assertions import ASSERTION_ATTACKS
from tests.security.attack_proofs import PROOF_ATTACKS, bound_token, proof
from tests.security.attack_requests import REQUEST_ATTACKS
from tests.security.attack_tokens import TOKEN_ATTACKS
from tests.security.forging import Attack, Forger

ATTACKS = (*ASSERTION_ATTACKS, *REQUEST_ATTACKS, *TOKEN_ATTACKS, *PROOF_ATTACKS)
LONGEST_MICROS = 200_000
CANARIES = (b"X-Evil", b"x-evil", b"police", b"other.example", b"Traceback", b"evil")


@pytest.fixture
def smart_hub(attacked_hub: SmartHub) -> SmartHub:
    """The hub that is attacked."""
    return attacked_hub


@pytest.fixture
def wire(smart_hub: SmartHub) -> Iterator[Wire]:
    """A connection to it."""
    opened = smart_hub.wire()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def trap() -> Iterator[socket.socket]:
    """A server that nobody may call; it would see the connection without accepting it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


def address(trap: socket.socket) -> str:
    return f"http://127.0.0.1:{trap.getsockname()[1]}/jwks"


def sent(wire: Wire, raw: bytes) -> Answer:
    """Sent, and once or twice more when the machine and not the hub was slow. A refusal may close the connection."""
    answer = wire.send(raw, bodiless=raw.startswith(b"HEAD"))
    for _ in range(2):
        if answer.micros < LONGEST_MICROS:
            break
        answer = wire.send(raw, bodiless=raw.startswith(b"HEAD"))
    return answer


def test_the_table_has_no_row_twice() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names)) > 300


def test_what_the_attacks_differ_from_is_good(smart_hub: SmartHub, wire: Wire, trap: socket.socket) -> None:
    """Without this, a table of refusals shows nothing."""
    forger = Forger(smart_hub, address(trap))
    assert wire.send(forger.form(forger.good())).status == 200
    assert wire.send(forger.read(forger.token())).status == 200
    bound = bound_token(forger)
    shown = (("Authorization", f"DPoP {bound}"), ("DPoP", proof("GET", f"{smart_hub.fhir}/Task", bound)))
    assert wire.request("GET", "/fhir/Task", shown).status == 200


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name.encode("unicode_escape").decode() for attack in ATTACKS])
def test_it_is_refused(attack: Attack, smart_hub: SmartHub, wire: Wire, trap: socket.socket) -> None:
    forger = Forger(smart_hub, address(trap))
    raw = attack.send(forger)
    answer = sent(wire, raw)
    assert answer.status in attack.status, (answer.status, answer.body[:300])
    assert answer.micros < LONGEST_MICROS
    assert not [canary for canary in CANARIES if canary in answer.body]
    assert not [name for name, _ in answer.headers if name == "x-evil"]
    if attack.error is not None:
        assert answer.header("content-type") == "application/json" and answer.header("cache-control") == "no-store"
        assert orjson.loads(answer.body)["error"] == attack.error
    if answer.status == 401 and raw.split(b" ", 2)[1].startswith(b"/fhir"):
        assert (answer.header("www-authenticate") or "").startswith(("Bearer", "DPoP"))  # RFC 6750 section 3, RFC 9449 section 7.1
        assert orjson.loads(answer.body)["resourceType"] == "OperationOutcome"
    if attack.spares:
        again = wire.send(forger.request(forger.assertion()))
        assert again.status == 200, "the jti was used up by an assertion that failed"


def test_every_failure_of_authentication_has_one_answer(smart_hub: SmartHub, wire: Wire, trap: socket.socket) -> None:
    answers = {wire.send(attack.send(Forger(smart_hub, address(trap)))).lasting() for attack in ASSERTION_ATTACKS}
    assert len(answers) == 1
    tokens = set()
    for attack in TOKEN_ATTACKS:
        raw = attack.send(Forger(smart_hub, address(trap)))
        shown = raw.count(b"Authorization: Bearer ") == 1  # RFC 6750 section 3.1: without a token, the challenge has no error code
        if shown and attack.status == {401} and "exp" not in attack.name:  # one that was good and has expired is told so
            tokens.add(wire.send(raw).lasting("x-correlation-id"))
    assert len(tokens) == 1


def test_nothing_that_came_with_a_token_was_ever_called(smart_hub: SmartHub, wire: Wire, trap: socket.socket) -> None:
    for attack in ATTACKS:
        if any(word in attack.name for word in ("jku", "x5u")):
            wire.send(attack.send(Forger(smart_hub, address(trap))))
    with contextlib.suppress(BlockingIOError):
        trap.accept()
        pytest.fail("the address in a header was called")


def test_what_is_asked_for_beyond_the_registration_is_not_given(smart_hub: SmartHub, wire: Wire) -> None:
    """Widening that is answered with a token: never more than is registered, in the token or in what it says it is."""
    registered = set(smart_hub.clients["counsellor"].scopes)
    letters = {scope.partition(".")[0]: scope.rpartition(".")[2] for scope in registered if scope.startswith("system/")}
    everything = f"{' '.join(registered)} stats.read"
    for asked in ("system/*.*", "system/*.cruds", "system/*.write system/*.read", "system/Task.cruds emergency.review", everything):
        answer = smart_hub.ask(wire, smart_hub.form("counsellor", scope=asked))
        assert answer.status == 200
        for scope in orjson.loads(answer.body)["scope"].split():
            kind, _, granted = scope.rpartition(".")
            assert scope in registered or set(granted) <= set(letters[kind]), scope


@pytest.mark.ci
def test_memory_stays_flat_over_500_repeats_of_the_table(tmp_path: Path, trap: socket.socket) -> None:
    """What is refused leaves nothing behind. Measured on the server's own process."""
    with running_hub(tmp_path / "hub", {}, {BOUND: {"binding": "dpop"}}) as hub, contextlib.closing(hub.wire()) as wire:
        rows = [(attack.send(Forger(hub, address(trap))), attack) for attack in ATTACKS if 200 not in attack.status]
        process = psutil.Process(hub.process.pid)

        def repeat(times: int) -> float:
            for _ in range(times):
                for raw, attack in rows:
                    answer = wire.send(raw, bodiless=raw.startswith(b"HEAD"))
                    assert 400 <= answer.status < 500, attack.name
            return process.memory_info().rss / 2**20

        readings = [repeat(100) for _ in range(5)]
    print(f"RSS in MiB after each 100 repeats of {len(rows)} attacks: {[round(reading, 1) for reading in readings]}")
    assert readings[-1] - readings[0] < 4, readings
