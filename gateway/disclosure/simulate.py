"""What would somebody see of this referral, under that consent? From values alone: nothing is stored, sent or recorded.

The same compiler of consents, decision, minimizer and views as a real offer; only ids are made up. So what is shown here as the receiver's
resources is what would lie on its shelf (a test holds the two together).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway import vocabulary as v
from gateway.audit.explanation import Explanation
from gateway.decision.ask import Ask, Said
from gateway.decision.coalition import check_coalition_consent
from gateway.decision.decide import Denial, Permit, decide
from gateway.decision.grants import Grant, compile_grants, compile_recorded
from gateway.decision.record import explanation_of
from gateway.disclosure import views
from gateway.disclosure.closing import onward
from gateway.disclosure.minimize import Plan, Source, age_band_of, classes_in, codes_of, minimize, yes_in
from gateway.identity import PartyId, ShelfId, ThreadId, TransferId, shelf_party
from gateway.parties.model import Address, Party, Policy
from gateway.shelves.copies import reference_id
from gateway.transfers.model import Attempt, State, Transfer

__all__ = ["NotSimulated", "Setting", "Simulated", "simulate"]

Json = dict[str, Any]
_THREAD: Final = ThreadId("simulated")
_URGENCY: Final = ("routine", "urgent", "asap", "stat")


class NotSimulated(Exception):
    """What was given can't be a referral. The text names elements and what the caller asked for, never a value of the Bundle."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Under what it is asked. `sender` is a shelf; `purposes` those of its token, None for all that there are."""

    policy: Policy
    plan: Plan
    sender: ShelfId
    at: int
    purposes: frozenset[str] | None = None
    state: str = State.OFFERED.value
    basis: str | None = None


@dataclass(frozen=True, slots=True)
class Simulated:
    """One Task, one receiver. `resources` are what would lie on the receiver's shelf; none when nothing may go."""

    address: Address
    service: str
    answer: Permit | Denial
    why: Explanation
    resources: tuple[Json, ...]
    refused: tuple[str, ...]  # why a Consent would not be taken, or gives nothing: codes and element paths


def simulate(
    bundle: Mapping[str, Any], setting: Setting, *, receivers: Sequence[str] = (), consents: Sequence[Json] | None = None
) -> list[Simulated]:
    """What each receiver would see: those that the Tasks are put to, or `receivers` (addresses or parties) in their place.

    With `consents` these count instead of the Bundle's. Raises NotSimulated.
    """
    resources = _resources(bundle)
    patients = [r for r in resources if r.get("resourceType") == "Patient"]
    tasks = [r for r in resources if r.get("resourceType") == "Task"]
    if len(patients) != 1 or not tasks:
        raise NotSimulated("the Bundle must hold one Patient and at least one Task")
    given = [r for r in resources if r.get("resourceType") == "Consent"] if consents is None else list(consents)
    grants, refused = _register(given, setting, patients[0])
    requests = {r["id"]: r for r in resources if r.get("resourceType") == "ServiceRequest"}
    found = []
    for number, task in enumerate(tasks):
        request = requests.get(reference_id(task.get("focus")) or "")
        if request is None:
            raise NotSimulated(f"Task {number + 1}: its focus must be a ServiceRequest of the Bundle")
        for address in _addresses(task, request, setting.policy, receivers):
            found.append(_one(Source(patients[0], request, task), address, grants, refused, setting))
    return found


def _resources(bundle: Mapping[str, Any]) -> list[Json]:
    """The Bundle's resources, each with an id, and with what names it inside replaced by that id."""
    entries = [e for e in bundle.get("entry") or () if isinstance(e, dict) and isinstance(e.get("resource"), dict)]
    numbers = itertools.count(1)
    names: dict[str, str] = {}
    resources = []
    for entry in entries:
        resource = copy.deepcopy(entry["resource"])
        resource["id"] = f"simulated-{next(numbers)}"
        for name in (entry.get("fullUrl"), f"{resource.get('resourceType')}/{entry['resource'].get('id')}"):
            if isinstance(name, str):
                names[name] = f"{resource.get('resourceType')}/{resource['id']}"
        resources.append(resource)
    for holder in _holders(resources):
        holder["reference"] = names.get(holder["reference"], holder["reference"])
    return resources


def _holders(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for inner in value.values():
            yield from _holders(inner)
    elif isinstance(value, list):
        for item in value:
            yield from _holders(item)


def _register(consents: Sequence[Json], setting: Setting, patient: Json) -> tuple[tuple[Grant, ...], tuple[str, ...]]:
    """The grants that the sender would have recorded, and why a Consent would be refused or give less than it says."""
    policy, party = setting.policy, shelf_party(setting.sender)
    numbers = itertools.count(1)
    grants: list[Grant] = []
    refused: list[str] = []
    for index, consent in enumerate(consents, 1):
        compiled = compile_recorded(consent, policy, party)
        band = age_band_of(Source(patient, {}, {}), setting.plan, setting.at)
        kind = policy.parties[party].kind
        findings = check_coalition_consent(
            consent, caller_kind=kind, caller_party=party, policy=policy, age_band=band, base="Consent", compiled=compiled
        )
        refused += [f"Consent {index}: {each.refusal or each.code} at {each.expression}" for each in findings]
        if findings:
            continue  # it would be refused, and nothing with it stored
        made, rejected = compile_grants(
            consent,
            consent_id=f"consent-{index}",
            version=1,
            thread=_THREAD,
            recorder=setting.sender,
            policy=policy,
            at=setting.at,
            new_id=lambda: f"grant-{next(numbers)}",
            compiled=compiled,
        )
        grants += made
        refused += [f"Consent {index}: {each.reason} at {each.expression}" for each in rejected]
    return tuple(grants), tuple(refused)


def _addresses(task: Json, request: Json, policy: Policy, receivers: Sequence[str]) -> list[Address]:
    """To whom it is put. A party stands for the address that its route for the service begins with."""
    named = receivers or [reference_id(task.get("owner")) or ""]
    service = _service(request)
    found = []
    for name in named:
        address = policy.addresses.get(name)
        party = policy.parties.get(PartyId(name))
        if address is None and party is not None:
            routes = [r for r in party.routes if r.service == service]
            address = policy.addresses.get(routes[0].first) if routes else next(iter(party.addresses), None)
        if address is None:
            raise NotSimulated(f"{name}: neither an address nor a party with one" if receivers else "Task.owner: not a known address")
        found.append(address)
    return found


def _one(source: Source, address: Address, grants: tuple[Grant, ...], refused: tuple[str, ...], setting: Setting) -> Simulated:
    policy, plan = setting.policy, setting.plan
    service = policy.services.get(_service(source.request))
    if service is None:
        raise NotSimulated("ServiceRequest.code: not a service that is offered here")
    sender: Party = policy.parties[shelf_party(setting.sender)]
    ask = Ask(
        sender=sender,
        sender_unit=setting.sender.partition("/")[2] or None,
        receiver=policy.parties[address.party],
        receiver_unit=address.unit,
        receiver_role=address.role,
        service=service,
        purposes=frozenset(policy.purposes) if setting.purposes is None else setting.purposes,
        at=setting.at,
        grants=grants,
        present=classes_in(source, plan),
        state=setting.state,
        basis=setting.basis,
        needs=codes_of("needs", plan, source),
        said=Said(age_band_of(source, plan, setting.at), yes_in(source, plan)),
    )
    answer = decide(ask, policy)
    why = explanation_of(ask, answer, policy, party=None)
    resources: tuple[Json, ...] = ()
    if isinstance(answer, Permit):
        resources = tuple(_shown(source, address, answer, grants, setting))
    return Simulated(address, service.id, answer, why, resources, refused)


def _shown(source: Source, address: Address, permit: Permit, grants: Sequence[Grant], setting: Setting) -> Iterator[Json]:
    """The receiver's resources, as a release puts them on its shelf."""
    policy, sender = setting.policy, shelf_party(setting.sender)
    transfer = _transfer(source, address, permit, setting)
    needs = policy.services[transfer.service].needs
    release = minimize(source, permit, setting.plan, thread=_THREAD, shelf=ShelfId(address.shelf), needs=needs)
    allowed = onward(policy, policy.parties[address.party], grants, setting.at)
    yield views.patient_copy(release, transfer.attempt.patient)
    yield views.receiver_request(release, transfer, address, sender)
    yield views.receiver_task(release.inputs, views.receiver_meta(release), transfer, address, sender, permit.ends)
    yield views.provenance_copy(transfer, sender)
    yield views.consent_copy(transfer.attempt.consent, transfer.attempt.patient, allowed, setting.at)


def _transfer(source: Source, address: Address, permit: Permit, setting: Setting) -> Transfer:
    party = shelf_party(setting.sender)
    attempt = Attempt(
        number=1,
        party=address.party,
        shelf=ShelfId(address.shelf),
        address=address.id,
        task="simulated-task",
        request="simulated-request",
        patient="simulated-patient",
        consent="simulated-consent",
        provenance="simulated-provenance",
        row=permit.row.id,
        agreement=permit.agreement.id,
        basis=permit.basis.id,
        offered=setting.at,
    )
    said = (source.request.get("priority"), source.task.get("priority"))
    return Transfer(
        id=TransferId("simulated"),
        thread=_THREAD,
        version=1,
        state=State(setting.state),
        responsible=party,
        sender_shelf=setting.sender,
        sender_task=str(source.task["id"]),
        sender_request=str(source.request["id"]),
        service=_service(source.request),
        priority=max((p for p in said if p in _URGENCY), key=_URGENCY.index, default="routine"),
        purposes=frozenset(),
        opened=setting.at,
        closed=None,
        attempt=attempt,
    )


def _service(request: Json) -> str:
    code = request.get("code")
    for coding in (code.get("coding") or ()) if isinstance(code, dict) else ():
        if coding.get("system") == v.SERVICE and isinstance(coding.get("code"), str):
            return str(coding["code"])
    return ""
