"""How long a decision takes. The limits are several times what is measured on one quiet core, so that a busy machine does not fail them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from gateway.decision.consent import CompiledConsent, ConsentRequest, Period, compile_consent, evaluate
from gateway.decision.decide import Permit, decide
from gateway.decision.grants import actor_resolver
from gateway.decision.record import explanation_of
from tests.unit.decision.making import HOUR, NOW, POLICY, ask, consent, granted, provision, warm


def best_us(call: Callable[[], object]) -> float:
    """The quickest of several rounds, per call, in microseconds."""
    rounds = []
    for _ in range(15):
        began = time.perf_counter()
        for _ in range(300):
            call()
        rounds.append((time.perf_counter() - began) / 300)
    return min(rounds) * 1e6


def broad(count: int) -> CompiledConsent:
    """Provisions on two levels that all match in all but their last condition, so that each is read to the end; the last one permits."""

    def rule(effect: str, i: int, *nested: dict[str, object]) -> dict[str, object]:
        last = "Task/1" if i == 0 else f"Task/{i + 1}"
        return provision(
            effect,
            *nested,
            to=["Organization/harbour"],
            scope="warm-transfer",
            purposes=["COC", "victim-support"],
            classes=["alias", "needs"],
            period=(NOW - HOUR, NOW + HOUR),
            data=[{"meaning": "instance", "reference": {"reference": last}}],
        )

    top = [rule("permit", 2 * i, rule("deny", 2 * i + 1)) for i in range(count // 2)]
    made = compile_consent(consent(*top), resolve=actor_resolver(POLICY))
    assert isinstance(made, CompiledConsent)
    assert len(made.rules) == count
    return made


REQUEST = ConsentRequest(
    receiver_party="harbour",
    receiver_unit="ht",
    receiver_role="ht-cic",
    receiver_person="Practitioner/w",
    receiver_groups=frozenset(),
    scope="warm-transfer",
    purposes=frozenset({"COC"}),
    data_class="needs",
    resource_type="Task",
    codes=frozenset(),
    at=NOW,
    labels=frozenset({"R", "SDV"}),
    data_period=Period(NOW, NOW),
    data=frozenset({"instance|Task/1"}),
    patient="Patient/p",
)


@pytest.mark.ci
@pytest.mark.parametrize(("provisions", "limit_us"), [(12, 60), (100, 500)])
def test_one_consent(provisions: int, limit_us: float) -> None:
    made = broad(provisions)
    assert evaluate([made], REQUEST).permit
    took = best_us(lambda: evaluate([made], REQUEST))
    print(f"evaluate, {provisions} provisions on two levels: {took:.1f} us")
    assert took < limit_us


@pytest.mark.ci
@pytest.mark.parametrize(("nested", "limit_us"), [(False, 200), (True, 1500)])
def test_one_offer(nested: bool, limit_us: float) -> None:
    exclusion = [provision("deny", to=["PractitionerRole/harbour.ipv-cic"])] if nested else []
    other = consent(warm(to="Organization/clinic", scope="hospital-fast-track", purposes=("ERTREAT",)))
    question = ask(granted(consent(warm(*exclusion)), other))
    assert isinstance(decide(question, POLICY), Permit)
    took = best_us(lambda: decide(question, POLICY))
    print(f"decide, an offer under two grants{' with an exclusion' if nested else ''}: {took:.1f} us")
    assert took < limit_us


@pytest.mark.ci
@pytest.mark.parametrize(("nested", "limit_us"), [(False, 60), (True, 1500)])
def test_what_is_kept_of_it(nested: bool, limit_us: float) -> None:
    exclusion = [provision("deny", to=["PractitionerRole/harbour.ipv-cic"])] if nested else []
    question = ask(granted(consent(warm(*exclusion))))
    answer = decide(question, POLICY)
    took = best_us(lambda: explanation_of(question, answer, POLICY, party=question.sender.id))
    print(f"keep why, an offer under a grant{' with an exclusion' if nested else ''}: {took:.1f} us")
    assert took < limit_us
