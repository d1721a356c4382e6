"""Random parties, consents, transfers, acts, withdrawals, clock moves and crashes: the hub shows each side what a small model says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from gateway import vocabulary as v
from gateway.testing.model import Given, Person, Referral
from tests.integration.night import HOUR, business, fast_track, made, offer, with_consent
from tests.integration.test_withdrawal import withdrawal
from tests.integration.world import BASE_CLASSES, coded, input_
from tests.stateful.rig import Rig

Json = dict[str, Any]
SEED: Final = 20_260_314
STEPS: Final = 50
EVERYTHING: Final = 1_000
"""With `MODEL_NIGHTS` set to this, 50,000 steps, everything that the model knows must occur."""
NIGHTS: Final = int(os.environ.get("MODEL_NIGHTS", "12"))
RIG: Rig | None = None

ACTS: Final = (
    *("acknowledged", "accepted", "accepted", "en-route", "introduced", "introduced", "handed-over", "closed", "stopped-by-survivor"),
    *("paused-by-survivor", "unreachable", "unsafe-to-contact"),
    *("declined-no-capacity", "declined-not-eligible", "declined-out-of-area", "redirect-suggested"),
)
TERMS: Final = ("all", "warm-transfer", "hospital-fast-track", "lakeridge", "guardian")
NURSE_CLASSES: Final = [*BASE_CLASSES, "eta", "support-person", "safety-flag"]


@dataclass
class Known:
    """A referral as the two sides know it: ids, and the model of it."""

    sender: str
    receiver: str
    sent: str
    received: str
    model: Referral


def _offers(at: int, hours: int, second: bool) -> dict[str, tuple[Json, str | None]]:
    """What police may send, and the refusal that answers it."""
    plain = with_consent(start=at - HOUR, end=at + hours * HOUR)
    nurse = with_consent(
        receiver="Organization/lakeridge", scope="hospital-fast-track", classes=NURSE_CLASSES, purposes=["ERTREAT"],
        start=at - HOUR, end=at + hours * HOUR,
    )  # fmt: skip
    unsaid = with_consent(start=at - HOUR, end=at + HOUR)
    unsaid["extension"][0]["extension"] = [p for p in unsaid["extension"][0]["extension"] if p["url"] != "notice"]
    noted = offer(consents=[plain])
    noted["entry"][-1]["resource"]["note"] = [{"text": "x"}]
    contact = offer(consents=[plain])
    contact["entry"][0]["resource"]["contact"] = [{"name": {"text": "x"}}]
    mixed = offer(consents=[plain], owner="HealthcareService/vsdr.halt")
    return {
        "good": (offer(consents=[plain, nurse] if second else [plain]), None),
        "no consent": (offer(consents=[]), "no-consent"),
        "for another": (offer(consents=[nurse]), "no-consent"),
        "over": (offer(consents=[with_consent(start=at - 2 * HOUR, end=at - HOUR)]), "no-consent"),
        "no notice": (offer(consents=[unsaid]), "notice-missing"),
        "a note": (noted, "narrative-not-allowed"),
        "a contact": (contact, "forbidden-element"),
        "a mixed unit": (mixed, "mixed-unit-address"),
        "a need that is none": (
            offer(consents=[plain], inputs=[input_("need", valueCodeableConcept=coded(v.NEED, "x"))]),
            "unknown-code",
        ),
    }


KINDS: Final = tuple(_offers(1_000 * HOUR, 1, False))


def _choice(model: Referral, pick: int) -> str:
    possible = [act for act in ACTS if model.may(act)]
    return possible[pick % len(possible)] if pick < 700 and possible else ACTS[pick % len(ACTS)]


class Night(RuleBasedStateMachine):
    """One person and all that happens to her. The hub has many others, from the nights before."""

    def __init__(self) -> None:
        super().__init__()
        assert RIG is not None
        self.rig = RIG
        self.person = Person()
        self.known: list[Known] = []
        self.patients: dict[str, str] = {}

    def _count(self, what: str) -> None:
        self.rig.counts[what] += 1

    def _refused(self, answer: Any, status: int, refusal: str | None) -> None:
        told = answer.json()
        codes = [c["code"] for issue in told["issue"] for c in issue.get("details", {}).get("coding", ())]
        assert (answer.status_code, refusal in codes or refusal is None) == (status, True), (answer.status_code, codes, refusal)
        self._count(f"refusal {refusal or status}")

    def _look(self, known: Known) -> None:
        """Both sides see what the model says."""
        mine = self.rig.call(known.sender, "GET", f"/fhir/Task/{known.sent}").json()
        answer = self.rig.call(known.receiver, "GET", f"/fhir/Task/{known.received}")
        if not known.model.readable(self.rig.at):
            assert (answer.status_code, business(mine)) == (404, known.model.sender_sees())
            self._count("no longer readable than the consent")
            return
        theirs = answer.json()
        seen = (business(mine), business(theirs), v.CLOSED in theirs["meta"].get("tag", ()))
        assert seen == (known.model.sender_sees(), known.model.receiver_sees(), known.model.shut)

    @initialize(
        kind=st.sampled_from((*["good"] * 30, *KINDS)), hours=st.sampled_from((48, 48, 2)), second=st.sampled_from((True, True, False))
    )
    def she_meets_police(self, kind: str, hours: int, second: bool) -> None:
        self._offer(kind, hours, second)

    def _offer(self, kind: str, hours: int, second: bool) -> None:
        body, refusal = _offers(self.rig.at, hours, second)[kind]
        answer = self.rig.call("police", "POST", "/fhir", body)
        self._count(f"offer: {kind}")
        if refusal is not None:
            self._refused(answer, answer.status_code, refusal)
            assert answer.status_code in (403, 422)
            return
        ids = made(answer)
        task, patient = self.rig.received("drps/htu", ids["Task"])
        ends = self.rig.at + hours * HOUR
        self.person.given.append(Given("warm-transfer", "vsdr", ends))
        if second:
            self.person.given.append(Given("hospital-fast-track", "lakeridge", ends))
        self.person.referrals.append(Referral("vsdr", "warm-transfer", True, ends))
        self.patients = {"police": ids["Patient"], "counsellor": patient}
        self.known.append(Known("police", "counsellor", ids["Task"], task, self.person.referrals[-1]))
        self._look(self.known[-1])

    @precondition(lambda self: len(self.known) == 1)
    @rule()
    def counsellor_asks_the_hospital(self) -> None:
        first = self.known[0].model
        allowed = self.person.allows("hospital-fast-track", "lakeridge", self.rig.at)
        answer = self.rig.call("counsellor", "POST", "/fhir", fast_track(self.patients["counsellor"]))
        if not allowed or first.recalled:
            self._count("onward refused")
            assert answer.status_code in (403, 404, 409, 422), answer.status_code
            return
        ids = made(answer)
        task, self.patients["nurse"] = self.rig.received("vsdr", ids["Task"])
        self.person.referrals.append(Referral("lakeridge", "hospital-fast-track", False, self.person.given[1].ends))
        self.known.append(Known("counsellor", "nurse", ids["Task"], task, self.person.referrals[-1]))
        self._count("onward")
        self._look(self.known[-1])

    @precondition(lambda self: self.known)
    @rule(pick=st.integers(0, 999), named=st.sampled_from((True, True, True, False)))
    def counsellor_says(self, pick: int, named: bool) -> None:
        self._says(self.known[0], pick, named)

    @precondition(lambda self: self.known)
    @rule(pick=st.integers(0, 999))
    def counsellor_goes_on(self, pick: int) -> None:
        self._says(self.known[0], pick, True)

    @precondition(lambda self: len(self.known) > 1)
    @rule(pick=st.integers(0, 999), named=st.sampled_from((True, True, True, False)))
    def nurse_says(self, pick: int, named: bool) -> None:
        self._says(self.known[1], pick, named)

    def _says(self, known: Known, pick: int, named: bool) -> None:
        """Mostly something that it may say, so that nights get somewhere."""
        model, before, target = known.model, known.model.receiver_sees(), _choice(known.model, pick)
        more: Json = {"worker": "Sam"} if target == "accepted" and named else {}
        if target.startswith("declined"):
            more["statusReason"] = coded(v.DECLINE_REASON, "no-capacity")
        answer = self.rig.move(known.receiver, known.received, target, **more)
        if not model.readable(self.rig.at):
            self._refused(answer, 404, None)
            return
        if target == "accepted" and not named and not model.accepted and model.ending is None and not model.recalled:
            self._refused(answer, 422, None)
        elif target == before and target != "closed":
            assert answer.status_code in (200, 409), answer.status_code
            self._count("said again")
            return
        elif not model.may(target):
            assert answer.status_code in (409, 422), (answer.status_code, target, model)
            self._count("refusal illegal-move")
        else:
            assert answer.status_code == 200, (answer.status_code, target, model, answer.text[:300])
            model.says(target)
            self._count(f"move {before} -> {target}" if model.ending in (None, target) else f"answer {target} after {model.ending}")
        self._look(known)

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 1), really=st.integers(0, 19))
    def sender_stops(self, which: int, really: int) -> None:
        known = self.known[which % len(self.known)]
        if really:
            self._look(known)
            return
        again, may = known.model.ending is not None, known.model.may_stop()
        answer = self.rig.move(known.sender, known.sent, "stopped-by-survivor")
        if not may:
            assert answer.status_code in (200, 409)
            self._count("stop refused")
        else:
            assert answer.status_code == 200, (answer.status_code, known.model, answer.text[:300])
            self._count("stop, said again" if again else f"stop by sender at {known.model.state}")
            known.model.ends("stopped-by-survivor")
        self._look(known)

    @precondition(lambda self: self.known)
    @rule(
        who=st.sampled_from(("police", "counsellor", "nurse")),
        terms=st.sampled_from(TERMS),
        really=st.integers(0, 15),
    )
    def she_takes_it_back(self, who: str, terms: str, really: int) -> None:
        if really or who not in self.patients:
            return self._look(self.known[-1])
        party = {"police": "drps", "counsellor": "vsdr", "nurse": "lakeridge"}[who]
        asked: Json = {}
        if terms in ("warm-transfer", "hospital-fast-track"):
            asked["scopes"] = [terms]
        elif terms == "lakeridge":
            asked["receiver"] = "Organization/lakeridge"
        elif terms == "guardian":
            asked["giver"] = "guardian"
        answer = self.rig.call(who, "POST", "/fhir/Consent", withdrawal(f"Patient/{self.patients[who]}", party, **asked))
        assert answer.status_code in (201, 202), (answer.status_code, answer.text[:300])
        self._count(f"withdrawal of {terms} through {who}")
        if terms != "guardian":
            ended = self.person.takes_back(asked.get("scopes", [None])[0], "lakeridge" if terms == "lakeridge" else None)
            self.rig.counts.update({f"withdrawn from one {kind}": n for kind, n in ended.items()})
        for known in self.known:
            self._look(known)

    @precondition(lambda self: all(known.model.accepted or known.model.dealt_with for known in self.known))
    @rule(minutes=st.sampled_from((1, 10, 45)))
    def time_passes(self, minutes: int) -> None:
        """What a named human has accepted stays where it is, whatever the time; but what she allowed may end."""
        self.rig.pass_time(minutes)
        self._count("clock")
        for known in self.known:
            self._look(known)

    @precondition(lambda self: len(self.known) == 1 and not self.known[0].model.accepted and not self.known[0].model.dealt_with)
    @rule(really=st.integers(0, 9))
    def nobody_answers(self, really: int) -> None:
        """R6: with nobody at all the offer ends at the line that always answers; also, to police, one that she has ended unseen."""
        if really == 0:
            for _ in range(3):
                self.rig.pass_time(11)
            self._count(f"the line, from {self.known[0].model.state}")
            self.known[0].model.is_left_alone()
        self._look(self.known[0])

    @precondition(lambda self: not self.known)
    @rule(kind=st.sampled_from(KINDS[1:]))
    def police_offer_again(self, kind: str) -> None:
        self._offer(kind, 48, True)

    @rule(really=st.integers(0, 3))
    def the_hub_crashes(self, really: int) -> None:
        """Not each time: to start a hub takes as long as a hundred steps."""
        if really == 0 and self.rig.due_to_crash():
            self.rig.crash()
            self._count("crash")
        for known in self.known:
            self._look(known)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made_ = Rig(tmp_path)
    globals()["RIG"] = made_
    try:
        yield made_
    finally:
        globals()["RIG"] = None
        made_.close()


def _run(nights: int) -> None:
    chosen = settings(
        max_examples=nights,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(hypothesis.Phase.generate,),
        print_blob=False,
    )
    hypothesis.seed(SEED)(Night)
    run_state_machine_as_test(Night, settings=chosen)


STATES: Final = sorted({"offered", "line-given"} | set(ACTS) - {"closed", "stopped-by-survivor", "handed-over"})
ENDINGS: Final = ("consent-withdrawn", "stopped-by-survivor")
MUST_OCCUR: Final = frozenset(
    {
        *(f"move {s} -> {t}" for s in STATES for t in ACTS if s != t and Referral("r", "s", True, state=s).may(t)),
        *(f"offer: {kind}" for kind in KINDS),
        *(f"refusal {refusal}" for _, refusal in _offers(1_000 * HOUR, 1, False).values() if refusal),
        *(f"withdrawal of {what} through {who}" for what in TERMS for who in ("police", "counsellor", "nurse")),
        *(
            f"answer {said} after {ending}"
            for said in ("acknowledged", "closed")
            for ending in ("consent-withdrawn", "stopped-by-survivor")
        ),
        *("withdrawn from one met", "withdrawn from one unmet", "onward", "onward refused", "refusal illegal-move", "clock", "crash"),
        *(
            "the line, from offered",
            "the line, from acknowledged",
            "stop refused",
            "stop, said again",
            "said again",
            "refusal 422",
            "refusal 404",
            "no longer readable than the consent",
        ),
    }
)
"""Each transition, refusal and withdrawal kind that the model knows; a run that never met one has not shown it."""


@pytest.mark.parametrize("nights", [NIGHTS, pytest.param(60, marks=pytest.mark.ci)])
def test_the_hub_agrees_with_the_model(rig: Rig, nights: int) -> None:
    try:
        _run(nights)
    finally:
        print(f"\nseed {SEED}, {nights} nights of {STEPS} steps")
        print("\n".join(f"{n:6} {what}" for what, n in sorted(rig.counts.items())))
    assert nights < EVERYTHING or MUST_OCCUR - rig.counts.keys() == set()
