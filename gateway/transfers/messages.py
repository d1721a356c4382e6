"""A text to a survivor: checked when it is written and again when it is sent; held until the window opens (R12, R13)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from gateway.clock import millis, when
from gateway.contact.text import CALL_ME, LIMIT, telling
from gateway.contact.windows import SafeContact, next_open, safe_contacts
from gateway.decision.grants import Grant, GrantState
from gateway.delivery.ledger import INSERT_DELIVERY
from gateway.identity import Caller, PartyId, ShelfId, ThreadId
from gateway.parties.model import Policy
from gateway.problems import Finding, IssueCode, Problem, ProblemType, Refusal
from gateway.transfers.asking import refused
from gateway.transfers.intake import Draft
from gateway.transfers.work import Stored, Work

__all__ = ["FOLLOW_UP", "channel_for", "may_follow_up", "take_message", "unsent"]

FOLLOW_UP: Final = "contact-follow-up"
_CHANNEL: Final = "text"


async def take_message(work: Work, index: int, draft: Draft, caller: Caller) -> None:
    """Accept a Communication to the person it is about. Raises Problem; a message held for its window is accepted as `on-hold`."""
    at = draft.entry.at
    if draft.before is not None:
        say = "A message can't be changed. Send another."
        raise Problem(ProblemType.CONFLICT, Finding(IssueCode.CONFLICT, say, at, Refusal.ILLEGAL_MOVE))
    text = _text(draft.resource, at)
    if telling(text, work.policy, _family_names(draft.patient)):
        say = "Take out names, titles, agencies and services. An alias, or no name, is enough."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.BUSINESS_RULE, say, f"{at}.payload", Refusal.NAME_OR_TITLE_IN_MESSAGE))
    if not may_follow_up(await work.known_grants(draft.thread), caller.party, work.at):
        raise refused(Refusal.NO_CONSENT, at)
    await work.own(draft.thread)  # a withdrawal decided on how the thread stands now must see this text
    now = when(work.at)
    contact = channel_for(draft.patient, now)
    if contact is None:
        say = "There is no channel known to be safe now. Arrange it through her worker, in person."
        raise Problem(ProblemType.CONFLICT, Finding(IssueCode.BUSINESS_RULE, say, at, Refusal.UNSAFE_CHANNEL))
    if "no-text-content" in contact.qualifiers and CALL_ME.fullmatch(text.strip()) is None:
        say = "Only a 'call me' may be sent to this phone."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.BUSINESS_RULE, say, f"{at}.payload", Refusal.MESSAGE_NOT_ALLOWED))
    due = next_open(contact.windows, now, zone_of(work.policy, caller.party))
    if due is None:
        say = "The window in which she may be contacted does not open in the next days."
        raise Problem(ProblemType.CONFLICT, Finding(IssueCode.BUSINESS_RULE, say, at, Refusal.UNSAFE_CHANNEL))
    message = {**draft.resource, "status": "in-progress" if due <= now else "on-hold"}
    message.pop("meta", None)
    key = await work.key(draft.thread, caller.shelf)
    work.put(key, message, caller.shelf, draft.thread, 1)
    id_ = work.parts.new_id()
    parts = orjson.dumps([["Communication", draft.id, 1]]).decode()
    work.ws.add(
        INSERT_DELIVERY,
        *(id_, caller.shelf, "text", f"text|{draft.id}", work.at, "text", draft.thread, None, parts),
        *("routine", "queued", millis(due), 0, 0, None, None, work.at, None),
    )
    work.deliveries.append(id_)
    work.stored[index] = Stored(201, "Communication", draft.id, 1)


async def unsent(work: Work, thread: ThreadId, shelf: ShelfId, parts: str) -> None:
    """A text that will not go, as its sender sees it."""
    found = await work.parts.release.message(thread, shelf, str(orjson.loads(parts)[0][1]))
    if found is not None:
        copy, _ = found
        key = await work.key(thread, shelf)
        work.put(key, {**copy.resource(), "status": "not-done"}, shelf, thread, copy.version + 1)


def may_follow_up(grants: list[Grant], party: PartyId, at: int) -> bool:
    """Whether she agreed that this party may contact her, and has not taken it back."""
    return any(
        grant.scope == FOLLOW_UP
        and grant.receiver_party == party
        and grant.state is GrantState.ACTIVE
        and grant.starts <= at
        and (grant.ends is None or at <= grant.ends)
        for grant in grants
    )


def channel_for(patient: dict[str, Any], now: datetime) -> SafeContact | None:
    """The text channel that may be used now, if every channel she named leaves it safe."""
    contacts = safe_contacts(patient)
    found = [contact for contact in contacts if contact.channel == _CHANNEL and contact.usable(now)]
    if not found:
        return None
    same = [contact for contact in contacts if contact.address == found[0].address]
    return found[0] if all(contact.usable(now) for contact in same) else None


def zone_of(policy: Policy, party: PartyId) -> ZoneInfo:
    """The local time of a party's region."""
    return ZoneInfo(policy.timezones[policy.parties[party].region])


def _text(resource: dict[str, Any], at: str) -> str:
    payload = resource.get("payload")
    text = payload[0].get("contentString") if isinstance(payload, list) and len(payload) == 1 and isinstance(payload[0], dict) else None
    if not isinstance(text, str) or not text.strip() or len(text) > LIMIT:
        say = f"Give one payload with a contentString of at most {LIMIT} characters."
        raise Problem(ProblemType.UNPROCESSABLE, Finding(IssueCode.REQUIRED, say, f"{at}.payload"))
    return text


def _family_names(patient: dict[str, Any]) -> list[str]:
    return [name["family"] for name in patient.get("name") or () if isinstance(name.get("family"), str)]
