"""An urgent demand or an order: taken for a named human to answer by hand (R28). The hub answers nothing about existence.

What police claim is put before the receiver's manager as it was claimed, in a thread and under a key of its own: it is never held
against anybody that the hub knows, and it goes with the answer. The form itself travels by hand.
"""

from __future__ import annotations

from typing import Any, Final

from gateway import vocabulary as v
from gateway.audit.entry import AuditAction
from gateway.disclosure.views import coded
from gateway.identity import Caller, ShelfId, ThreadId
from gateway.parties.model import Address
from gateway.reports.duties import Kind, add
from gateway.reports.stating import stated_basis
from gateway.transfers.asking import coding
from gateway.transfers.facts import add_thread
from gateway.transfers.intake import Draft
from gateway.transfers.model import State
from gateway.transfers.work import Stored, Work

__all__ = ["take_demand"]

Json = dict[str, Any]
_TAKEN: Final = ("basis", "form-number", "call-back-line")


async def take_demand(work: Work, index: int, draft: Draft, caller: Caller, address: Address) -> None:
    """Put a demand in its human's queue, and answer 202 with the Task on hold: the same for everybody, whoever there is."""
    task = {**draft.resource, "status": "on-hold", "businessStatus": coded(v.BUSINESS_STATUS, State.HELD.value)}
    task["statusReason"] = coded(v.REFUSAL, "human-review-required")
    task.pop("meta", None)
    work.put(await work.key(draft.thread, caller.shelf), task, caller.shelf, draft.thread, 1)
    work.stored[index] = Stored(202, "Task", draft.id, 1)
    thread = ThreadId(work.parts.new_id())
    add_thread(work.ws, thread, work.at)
    work.new_threads.add(thread)
    work.grants[thread] = []
    await add(work, Kind.DEMAND, thread, ShelfId(address.shelf), address=address.id, inputs=_claimed(draft, caller), named_key=True)
    work.record(
        AuditAction.ACT,
        target_party=address.party,
        target_shelf=address.shelf,
        basis=stated_basis(draft.resource),
        detail=(("demand", "held-for-review"),),
    )


def _claimed(draft: Draft, caller: Caller) -> list[Json]:
    """Authority, form, line and role; the name and the birth date as claimed. Each copied by name, and nothing else."""
    given = {coding(item.get("type"), v.TASK_INPUT): item for item in draft.resource.get("input") or ()}
    inputs: list[Json] = []
    for kind in _TAKEN:
        item = given[kind]
        value = next(name for name in item if name.startswith("value"))
        inputs.append({"type": coded(v.TASK_INPUT, kind), value: item[value]})
    inputs.append({"type": coded(v.TASK_INPUT, "officer-role"), "valueCodeableConcept": coded(v.ROLE, caller.role)})
    for name in draft.patient.get("name") or ():
        if name.get("use") == "official":
            said = " ".join((*name.get("given", ()), *([name["family"]] if "family" in name else [])))
            inputs.append({"type": coded(v.TASK_INPUT, "claimed-name"), "valueString": said})
            break
    if isinstance(draft.patient.get("birthDate"), str):
        inputs.append({"type": coded(v.TASK_INPUT, "claimed-birth-date"), "valueDate": draft.patient["birthDate"]})
    return inputs
