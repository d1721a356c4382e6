"""A decision as it is kept: who asked whom for what, every gate, consent and rule that decided, what went and what stayed. Pure.

All of it is codes, class names and ids. `explanation_of` writes it, in one JSON text beside the audit entry; `sentences` reads it out to
the hub's own people; `narrowed` is what of it the asking party's privacy officer may read: no more than that party was told or wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.audit.explanation import Explanation
from gateway.decision.ask import Ask
from gateway.decision.consent import Why, evaluate
from gateway.decision.decide import Denial, Permit
from gateway.decision.explain import Gate, Note, sentence, told
from gateway.decision.live import excluding_rule, in_force, request_for
from gateway.decision.plan import index_of
from gateway.identity import shelf_party
from gateway.parties.model import Policy
from gateway.problems import Refusal

__all__ = ["explanation_of", "narrowed", "sentences"]

Json = dict[str, Any]

FORMAT: Final = 1
_RULES: Final = 60
"""Rules of consents that are listed: a Consent has few, and one with hundreds is no easier to read."""

_OWN: Final = frozenset(
    note.value for note in (Note.GRANT_OTHER_RECEIVER, Note.GRANT_OTHER_UNIT, Note.GRANT_OTHER_SCOPE, Note.GRANT_OTHER_PURPOSE)
)
"""What its recorder wrote into a consent itself, whatever has become of that consent since."""

_PLAIN: Final[Mapping[str, str]] = {Note.CLASS_DENIED_BY_CONSENT.value: Note.CLASS_NOT_GRANTED.value}
"""An exclusion may stand in a consent that another party recorded: to the sender it is a class that was not granted."""


def explanation_of(ask: Ask, answer: Permit | Denial, policy: Policy, *, party: str | None, transfer: str | None = None) -> Explanation:
    """The whole of one decision. `party` is the party whose own request it answers, None when only the hub may read it."""
    document: Json = {
        "format": FORMAT,
        "policy": policy.version,
        "from": ask.sender.shelf_of(ask.sender_unit),
        "to": ask.receiver.id,
        "unit": ask.receiver_unit,
        "role": ask.receiver_role,
        "service": ask.service.id,
        "purposes": sorted(ask.purposes),
        "state": ask.state,
        "at": ask.at,
        "basis": ask.basis,
        "transfer": transfer,
        "steps": [f"{step.gate}:{step.note}{'|' + step.about if step.about else ''}" for step in answer.trace],
    }
    if isinstance(answer, Permit):
        document |= {
            "outcome": "permit",
            "row": answer.row.id,
            "agreement": answer.agreement.id,
            "legal-basis": answer.basis.id,
            "purpose": answer.purpose,
            "ends": answer.ends,
            "classes": {name: sorted(rule.only) if rule.only is not None else None for name, rule in answer.classes.items()},
            "withheld": dict(answer.withheld),
        }
    else:
        document |= {"outcome": "deny", "refusal": answer.refusal.value, "gate": answer.gate.value}
    named = {step.about for step in answer.trace if step.gate is Gate.CONSENT}
    document["grants"] = {
        g.id: [g.consent_id, g.consent_version, g.recorder, g.receiver_party, g.scope] for g in ask.grants if g.id in named
    }
    if any(grant.rule is not None for grant in ask.grants):
        document["rules"] = [list(each) for _, each in zip(range(_RULES), _rules(ask, answer, policy), strict=False)]
    return Explanation.of(document, party=party, target=ask.receiver.id, denied=isinstance(answer, Denial))


def _rules(ask: Ask, answer: Permit | Denial, policy: Policy) -> Iterator[tuple[str, int, str, str, str | None]]:
    """(consent, version, class, why, rule): what each consent with rules of its own says of each class, matched or lost."""
    index = index_of(policy)
    purposes = [answer.purpose] if isinstance(answer, Permit) else sorted(ask.purposes)
    scope = answer.row.scope if isinstance(answer, Permit) else None
    seen: set[tuple[str, str, str]] = set()
    for grant in ask.grants:
        if grant.rule is None or not in_force(grant, ask.at):
            continue
        mine = grant.receiver_party == ask.receiver.id and scope in (None, grant.scope)
        for name in sorted(ask.present):
            for purpose in purposes:
                request = request_for(ask, grant, name, purpose, index)
                verdict = evaluate((grant.rule,), request)
                shut = excluding_rule(grant.rule, request)
                if not (mine and name in grant.classes) and shut is None:
                    continue
                why, rule = (Why.RULE_DENIES, shut) if shut is not None else (verdict.why, verdict.rule)
                if (grant.consent_id, name, why) not in seen:
                    seen.add((grant.consent_id, name, why))
                    yield grant.consent_id, grant.consent_version, name, why.value, rule


def sentences(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each gate's finding: (gate, sentence with what it is about)."""
    grants = document.get("grants", {})
    for step in document["steps"]:
        gate, note, about = _parts(step)
        if about in grants:
            consent, version, recorder, receiver, scope = grants[about]
            about = f"Consent/{consent} version {version}, recorded by {recorder}, {scope} for {receiver}"
        yield gate, sentence(Note(note)) + (f" [{about}]" if about else "")
    for consent, version, name, why, rule in document.get("rules", ()):
        yield Gate.CONSENT.value, f"Class {name}: {why} [Consent/{consent} version {version}{', ' + rule if rule else ''}]"


def narrowed(document: Mapping[str, Any], party: str) -> Json:
    """A decision as the party that asked may read it: the gates that rest on configuration, what is wrong with consents it recorded
    itself, the classes. Never what became of a consent, never another party's: beyond that it reads the refusal, as it was told it."""
    if shelf_party(document["from"]) != party:
        return _addressed(document)
    grants: Mapping[str, Any] = document.get("grants", {})
    own = {id_ for id_, (_, _, recorder, _, _) in grants.items() if shelf_party(recorder) == party}
    steps = []
    for step in document["steps"]:
        gate, note, about = _parts(step)
        if gate != Gate.CONSENT.value or note in (Note.CONSENT_NOT_NEEDED.value, Note.NO_GRANT.value):
            steps.append(f"{gate}:{_PLAIN.get(note, note)}{'|' + about if about else ''}")
        elif note == Note.GRANT_USED.value or (note in _OWN and about in own):
            steps.append(f"{gate}:{note}{'|' + about if about in own else ''}")
    kept = {name: document[name] for name in document if name not in ("steps", "grants", "rules", "withheld", "gate", "transfer")}
    kept["steps"] = list(dict.fromkeys(steps))
    kept["grants"] = {id_: grants[id_] for id_ in own if any(step.endswith("|" + id_) for step in steps)}
    if "withheld" in document:
        kept["withheld"] = {name: _PLAIN.get(note, note) for name, note in document["withheld"].items()}
    if "refusal" in document:
        kept["told"] = told(Refusal(document["refusal"]))
    return kept


def _addressed(document: Mapping[str, Any]) -> Json:
    """What the party that a request named may know of it: that it was made, for what, and that it was refused."""
    kept = {name: document[name] for name in ("format", "to", "unit", "role", "service", "at", "outcome")}
    return {**kept, "from": shelf_party(document["from"]), "steps": [], "grants": {}}


def _parts(step: str) -> tuple[str, str, str | None]:
    head, _, about = step.partition("|")
    gate, _, note = head.partition(":")
    return gate, note, about or None
