"""The shape of a coalition Consent (DOMAIN 4e): what is refused when it is written, before anyone looks at a person.

Every rule here is about the form of the consent, who gave it and who records it, so the answer is the same for every person, real or
not. Findings name elements, never values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.decision.compiling import Rejected, RejectReason
from gateway.decision.grants import compile_recorded, permits_of, receiver_problem, terms_of
from gateway.decision.reading import codings, evidence, items_of, reference_of
from gateway.decision.rules import CompiledConsent, Rule
from gateway.identity import PartyId
from gateway.parties.model import Policy
from gateway.problems import Finding, IssueCode, Refusal
from gateway.vocabulary import V3_ACT_CODE

__all__ = ["check_coalition_consent"]

MINORS: Final = frozenset({"u12", "12-15", "16-17", "unknown-maybe-minor"})
"""Age bands for which someone else than the survivor may give consent; for an adult, and where no age is said, nobody may."""

_SURVIVOR: Final = "survivor"
_DEPUTIES: Final = frozenset({"guardian", "substitute"})
_MODES: Final = frozenset({"verbal", "written"})

_SAY: Final[Mapping[RejectReason, tuple[IssueCode, str, Refusal | None]]] = {
    RejectReason.MODIFIER_EXTENSION: (IssueCode.EXTENSION, "leave modifier extensions out", Refusal.UNKNOWN_CODE),
    RejectReason.IMPLICIT_RULES: (IssueCode.NOT_SUPPORTED, "leave implicitRules out", Refusal.UNKNOWN_CODE),
    RejectReason.NOT_PRIVACY: (IssueCode.CODE_INVALID, "scope is patient-privacy", Refusal.UNKNOWN_CODE),
    RejectReason.NO_BASE: (IssueCode.REQUIRED, "state policyRule OPTINR", None),
    RejectReason.UNKNOWN_POLICY_RULE: (
        IssueCode.CODE_INVALID,
        "policyRule is OPTINR, or OPTOUT for a withdrawal",
        Refusal.UNKNOWN_CODE,
    ),
    RejectReason.CONTRADICTORY_ROOT: (IssueCode.BUSINESS_RULE, "the root type contradicts policyRule: leave it out", None),
    RejectReason.UNKNOWN_TYPE: (IssueCode.REQUIRED, "every nested provision says permit or deny", None),
    RejectReason.UNKNOWN_ELEMENT: (IssueCode.NOT_SUPPORTED, "this provision has a member that is not understood", Refusal.UNKNOWN_CODE),
    RejectReason.UNKNOWN_CODE: (IssueCode.CODE_INVALID, "use a code of the coalition's code systems", Refusal.UNKNOWN_CODE),
    RejectReason.UNKNOWN_ACTOR: (IssueCode.VALUE, "name a party, role or team of the directory", None),
    RejectReason.UNKNOWN_ACTOR_ROLE: (IssueCode.CODE_INVALID, "an actor's role is IRCP (information recipient)", Refusal.UNKNOWN_CODE),
    RejectReason.BAD_PERIOD: (IssueCode.VALUE, "give a start or an end, and an end not before the start", None),
    RejectReason.TOO_DEEP: (IssueCode.TOO_COSTLY, "too many provisions, or nested too deeply", None),
    RejectReason.NO_RECEIVER: (IssueCode.REQUIRED, "name the receiver: actor", None),
    RejectReason.NO_UNIT: (IssueCode.REQUIRED, "this consent scope needs one unit of the receiver: name its role or team", None),
    RejectReason.NO_SCOPE: (IssueCode.REQUIRED, "name one consent scope: code", None),
    RejectReason.NO_CLASSES: (IssueCode.REQUIRED, "name the data classes: class", None),
    RejectReason.NO_PURPOSE: (IssueCode.VALUE, "no purpose named here is a purpose of this consent scope", Refusal.PURPOSE_MISMATCH),
    RejectReason.NO_END: (IssueCode.REQUIRED, "say when it ends: period.end", None),
    RejectReason.SELF_SERVING: (
        IssueCode.BUSINESS_RULE,
        "a party cannot record a consent that lets others' data reach itself",
        Refusal.SELF_SERVING_CONSENT,
    ),
}


def check_coalition_consent(
    consent: Mapping[str, Any],
    caller_kind: str,
    caller_party: PartyId,
    policy: Policy,
    *,
    age_band: str | None = None,
    others: frozenset[str] = frozenset(),
    base: str = "Consent",
    compiled: CompiledConsent | Rejected | None = None,
) -> list[Finding]:
    """Everything that is wrong with a Consent as this party records it; an empty list when it may be kept.

    `age_band` is the survivor's as the same sender gives it; `others` are the references under which the other Consents of the request
    can be named; `base` is the path of the Consent in the request; `compiled` is what `compile_recorded` made of it, if that is at hand.
    """
    found: list[Finding] = []
    references = _references(consent)
    if any(r.partition("/")[2].lower() in policy.mixed_units for r in references):
        say = "address the member organisation, not the mixed unit"
        found.append(_finding(IssueCode.BUSINESS_RULE, say, "Consent.provision", Refusal.MIXED_UNIT_ADDRESS))
    if compiled is None:
        compiled = compile_recorded(consent, policy, caller_party)
    if isinstance(compiled, Rejected):
        if not found or compiled.reason is not RejectReason.UNKNOWN_ACTOR:
            found.append(_rejected(compiled))
    else:
        found += _about_form(consent, caller_party)
        if any(r.startswith("Consent/") or "/Consent/" in r or r in others for r in references):
            say = "a consent stands for itself: do not make it depend on another"
            found.append(_finding(IssueCode.BUSINESS_RULE, say, "Consent.provision", Refusal.CONDITIONAL_SUPPORT))
        found += _about_permits(compiled, caller_kind, caller_party, policy)
        found += _about_evidence(consent, compiled, policy, age_band)
    return [Finding(f.code, f.say, base + (f.expression or "Consent").removeprefix("Consent"), f.refusal) for f in found]


def _about_form(consent: Mapping[str, Any], caller_party: PartyId) -> list[Finding]:
    found = []
    if not any("IDSCL" in codings(c, V3_ACT_CODE) for c in items_of(consent.get("category"))):
        say = "one category is IDSCL (information disclosure)"
        found.append(_finding(IssueCode.CODE_INVALID, say, "Consent.category", Refusal.UNKNOWN_CODE))
    if any(reference_of(o) != f"Organization/{caller_party}" for o in items_of(consent.get("organization"))):
        found.append(_finding(IssueCode.VALUE, "organization is the recording party: your own", "Consent.organization"))
    return found


def _about_permits(compiled: CompiledConsent, caller_kind: str, caller_party: PartyId, policy: Policy) -> list[Finding]:
    """One scope, one receiver, and each permit complete. A consent that is not active, or records a withdrawal, gives nothing to check."""
    found: list[Finding] = []
    if compiled.status != "active" or compiled.policy_rule == "OPTOUT":
        return found
    permits = permits_of(compiled)
    if not permits:
        found.append(_finding(IssueCode.REQUIRED, "a consent permits something: a nested provision of type permit", "Consent.provision"))
    if len({code for p in permits for code in p.codes or ()}) > 1:
        say = "each consent scope is a Consent of its own, so that none depends on another"
        found.append(_finding(IssueCode.BUSINESS_RULE, say, "Consent.provision", Refusal.CONDITIONAL_SUPPORT))
    elif len({(a.party, a.unit) for p in permits for a in p.actors or ()}) > 1:
        found.append(_finding(IssueCode.BUSINESS_RULE, "each receiver is a Consent of its own", "Consent.provision"))
    for permit in permits:
        found += _about_permit(permit, compiled, caller_kind, caller_party, policy)
    return found


def _about_permit(permit: Rule, compiled: CompiledConsent, caller_kind: str, caller_party: PartyId, policy: Policy) -> list[Finding]:
    if permit.codes is not None and len(permit.codes) > 1:
        return []  # said once for the whole consent
    terms = terms_of(permit, compiled, policy, 0)
    if isinstance(terms, Rejected):
        return [_rejected(terms)]
    scope = policy.scopes[terms.scope]
    reasons = (receiver_problem(a, scope, policy, caller_party, caller_kind) for a in permit.actors or ())
    found = [_rejected(Rejected(reason, permit.path + ".actor")) for reason in reasons if reason is not None]
    if permit.purposes is not None and not permit.purposes <= scope.purposes:
        found.append(_rejected(Rejected(RejectReason.NO_PURPOSE, permit.path + ".purpose")))
    return found


def _about_evidence(consent: Mapping[str, Any], compiled: CompiledConsent, policy: Policy, age_band: str | None) -> list[Finding]:
    """How it was given, what she was told, and by whom it was given."""
    found = []
    said = evidence(consent)
    if len(said.get("mode", ())) != 1 or not _MODES.issuperset(said["mode"]):
        found.append(_finding(IssueCode.REQUIRED, "consent-evidence says the mode, verbal or written", "Consent.extension"))
    if len(said.get("recorder-role", ())) != 1:
        found.append(_finding(IssueCode.REQUIRED, "consent-evidence says the role of the recorder: recorder-role", "Consent.extension"))
    named = {code for p in permits_of(compiled) for code in p.codes or ()}
    needed = {notice for code in named if code in policy.scopes for notice in policy.scopes[code].notices}
    receivers = {PartyId(a.party) for p in permits_of(compiled) for a in p.actors or () if a.party is not None}
    needed |= {notice for party in receivers & policy.parties.keys() for notice in policy.parties[party].notices}
    if compiled.status == "active" and not needed <= compiled.notices:
        say = "show the notices that this consent scope and this receiver need, and record each"
        found.append(_finding(IssueCode.REQUIRED, say, "Consent.extension", Refusal.NOTICE_MISSING))
    givers = said.get("giver", ())
    performers = [reference_of(p) for p in items_of(consent.get("performer"))]
    valid = givers == (_SURVIVOR,) and compiled.patient is not None and performers == [compiled.patient]
    if compiled.policy_rule == "OPTOUT" and len(givers) == 1 and givers[0] in _DEPUTIES:
        valid = True  # nothing ends by it: a human looks first
    elif len(givers) == 1 and givers[0] in _DEPUTIES:
        valid = age_band in MINORS and len(performers) == 1 and performers[0] not in (None, compiled.patient)
    if not valid:
        say = "the survivor gives consent herself; a guardian or substitute only for a minor; nobody else"
        found.append(_finding(IssueCode.BUSINESS_RULE, say, "Consent.performer", Refusal.GIVER_NOT_VALID))
    return found


def _references(consent: Mapping[str, Any]) -> list[str]:
    """Every Reference.reference in it, at any depth."""
    found: list[str] = []
    waiting: list[Any] = [consent]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            reference = value.get("reference")
            if isinstance(reference, str) and reference:
                found.append(reference)
            value = value.values()
        elif not isinstance(value, list):
            continue
        waiting += [inner for inner in value if isinstance(inner, (dict, list))]
    return found


def _rejected(rejected: Rejected) -> Finding:
    code, say, refusal = _SAY.get(rejected.reason, (IssueCode.INVALID, "this Consent is not understood", None))
    return _finding(code, say, rejected.expression, refusal)


def _finding(code: IssueCode, say: str, expression: str, refusal: Refusal | None = None) -> Finding:
    return Finding(code, say, expression, refusal)
