"""Letting a text go: everything is checked again at send time, not only when it was written (R13)."""

from __future__ import annotations

import orjson

from gateway.adapter_api import NeedsPerson, Transport, TryAgain
from gateway.contact.windows import next_open
from gateway.identity import ShelfId, ThreadId, shelf_party
from gateway.problems import Refusal
from gateway.shelves.copies import put_copy
from gateway.transfers.messages import channel_for, zone_of
from gateway.transfers.work import Parts, Work

__all__ = ["Texts"]


class Texts:
    """Sends texts through the text service, and writes what became of each on its sender's shelf."""

    def __init__(self, parts: Parts, transport: Transport | None) -> None:
        self._parts = parts
        self._transport = transport

    async def send(self, key: str, thread: ThreadId, shelf: ShelfId, parts: str) -> tuple[str, str | None]:
        """Send, or say why not. Raises TryAgain until the window opens, NeedsPerson when there is no text service."""
        found = await self._parts.release.message(thread, shelf, _message(parts))
        if found is None:
            return "cancelled", "closed"
        copy, patient = found
        party, now = shelf_party(shelf), self._parts.clock.now()
        contact = channel_for(patient, now)
        if contact is None or not contact.address:
            return "cancelled", Refusal.UNSAFE_CHANNEL.value
        opens = next_open(contact.windows, now, zone_of(self._parts.policy(), party))
        if opens is None:
            return "cancelled", Refusal.UNSAFE_CHANNEL.value
        if opens > now:
            raise TryAgain("window-closed", opens - now)
        if self._transport is None:
            raise NeedsPerson("no-text-service")
        body = orjson.dumps({"to": contact.address, "text": copy.resource()["payload"][0]["contentString"]})
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        reply = await self._transport.send("POST", "", body=body, headers=headers)
        if reply.status >= 500 or reply.status == 429:
            raise TryAgain("answered-error")
        return ("delivered", None) if reply.status < 300 else ("dead", "refused")

    async def settle(self, work: Work, thread: ThreadId, shelf: ShelfId, parts: str, *, went: bool) -> None:
        """The message's new status on the shelf: completed, or not-done for the worker to see."""
        found = await self._parts.release.message(thread, shelf, _message(parts))
        if found is None:
            return
        copy, _ = found
        resource = {**copy.resource(), "status": "completed" if went else "not-done"}
        key = await self._parts.keyring.get(thread, shelf)
        put_copy(work.ws, self._parts.keyring, key, resource, shelf=shelf, thread=thread, version=copy.version + 1, at=work.at)


def _message(parts: str) -> str:
    return str(orjson.loads(parts)[0][1])
