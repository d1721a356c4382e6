"""The record of what a policy lets flow, and of who agreed whenever it let more flow than before (R27).

``consent_profiles/flows.lock`` says what flows, and its history; ``consent_profiles/approvals/`` holds one approval for each widening:
what is widened, line by line, the survivor advisory panel, the privacy officer of each party whose data it is, and a counsel reference
when a legal basis was switched on. All of it is text that a pull request shows; digests hold it together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.decision.flows import ANYBODY, Flow

__all__ = [
    "APPROVALS",
    "LOCK",
    "Change",
    "Lock",
    "LockError",
    "change",
    "describe",
    "digest_of",
    "draft",
    "faults",
    "read_lock",
    "write_lock",
]

LOCK: Final = "consent_profiles/flows.lock"
APPROVALS: Final = "consent_profiles/approvals"
BASELINE: Final = "baseline"
_SWITCHED: Final = "is switched on"
_HEAD: Final = """\
# Everything that this configuration lets flow, as `gateway policy check --write` wrote it. Read it in a pull request: a line that is new
# lets something more flow, a line that is gone lets less; for lines under `guards` it is the other way round. A line is
#   services ; consent or legal basis ; what the request says, and from which state on ; purposes ; element ; codes
# Don't edit it: `make check` compares it with the configuration.
"""
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ANY: Final = "-"


class LockError(Exception):
    """The record can't be read. The text says what is wrong with which file."""


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between two policies: what widens and what narrows, each in order."""

    widens: tuple[Flow, ...]
    narrows: tuple[Flow, ...]

    @property
    def holders(self) -> tuple[str, ...]:
        """The parties whose data more of flows; * when it is everybody's."""
        return tuple(sorted({flow.sender for flow in self.widens}))

    @property
    def switches_on(self) -> bool:
        """Whether a legal basis is switched on, or may be invoked by more."""
        return any(flow.by.startswith("basis ") and flow.sender == ANYBODY for flow in self.widens)


@dataclass(frozen=True, slots=True)
class Lock:
    """What was recorded last, and how it came to that: each step's digest of all flows, and its approval."""

    flows: frozenset[Flow]
    history: tuple[Mapping[str, str], ...]


def change(old: frozenset[Flow], new: frozenset[Flow]) -> Change:
    """What newly flows, and what no longer does. A guard that is gone widens, one that is new narrows."""
    added, gone = new - old, old - new
    widens = sorted([f for f in added if not f.guard] + [f for f in gone if f.guard])
    narrows = sorted([f for f in gone if not f.guard] + [f for f in added if f.guard])
    return Change(tuple(widens), tuple(narrows))


def describe(flows: Iterable[Flow], *, sign: str = "") -> list[str]:
    """Lines for a person: for each pair what a line of the record says, with what differs in one thing alone on one line."""
    pairs: dict[tuple[str, str, bool], list[tuple[str, ...]]] = {}
    for flow in flows:
        pairs.setdefault((flow.sender, flow.receiver, flow.guard), []).append(_said(flow))
    lines = []
    for (sender, receiver, guard), found in pairs.items():
        for line in _merged(found):
            lines.append(f"{sign}{sender} -> {receiver}: {'guard: ' if guard else ''}{line}")
    return sorted(lines)


def _said(flow: Flow) -> tuple[str, ...]:
    """What a flow says beside its pair, in the order of a line; a part that says nothing is a dash."""
    return tuple(part or _ANY for part in (flow.service, flow.by, flow.when, flow.purpose, flow.what, flow.code))


_GLUE: Final = (" ", None, " | ", " ", None, " ")
"""How alternatives stand in each part of a line; None where there is one only."""


def _merged(lines: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines that differ in one part alone are one line, with the alternatives there: codes first, then purposes, services, states."""
    found = sorted(set(lines))
    for column in (5, 3, 0, 2):
        glue = _GLUE[column] or " "
        alike: dict[tuple[str, ...], list[str]] = {}
        for line in found:
            alike.setdefault((*line[:column], *line[column + 1 :]), []).append(line[column])
        found = sorted((*key[:column], glue.join(each), *key[column:]) for key, each in alike.items())
    return [" ; ".join(line) for line in found]


def _spread(line: str) -> Iterator[tuple[str, ...]]:
    """What `_merged` made one line of."""
    parts = line.split(" ; ")
    ways = [part.split(glue) if glue is not None else [part] for part, glue in zip(parts, _GLUE, strict=True)]
    return product(*([("" if each == _ANY else each) for each in way] for way in ways))


def digest_of(flows: Iterable[Flow]) -> str:
    """What stands for a set of flows."""
    text = "\n".join("\x1f".join(map(str, flow)) for flow in sorted(flows))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_lock(root: Path, flows: frozenset[Flow], history: Sequence[Mapping[str, str]]) -> None:
    """Pairs that let the same flow share one block, so that a party that joins its peers is one word in a diff."""
    pairs: dict[tuple[str, str], set[Flow]] = {}
    for flow in flows:
        pairs.setdefault((flow.sender, flow.receiver), set()).add(flow)
    blocks: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for pair, found in sorted(pairs.items()):
        texts = tuple(tuple(_merged(_said(flow) for flow in found if flow.guard is guard)) for guard in (False, True))
        blocks.setdefault((texts[0], texts[1]), []).append(" -> ".join(pair))
    document = {
        "history": [dict(step) for step in history],
        "blocks": [
            {"pairs": names, **({"flows": list(flow)} if flow else {}), **({"guards": list(guards)} if guards else {})}
            for (flow, guards), names in blocks.items()
        ],
    }
    (root / LOCK).write_text(_HEAD + yaml.safe_dump(document, sort_keys=False, width=10**6), encoding="utf-8")


def read_lock(root: Path) -> Lock | None:
    """What is recorded; None when nothing is. Raises LockError."""
    file = root / LOCK
    if not file.exists():
        return None
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506  # a safe loader, the fast one if there is one
        flows = set()
        for block in document["blocks"]:
            pairs = [pair.split(" -> ") for pair in block["pairs"]]
            for guard, name in ((False, "flows"), (True, "guards")):
                said = [way for line in block.get(name, ()) for way in _spread(line)]
                flows |= {Flow._make((sender, receiver, *way, guard)) for sender, receiver in pairs for way in said}
        return Lock(frozenset(flows), tuple(document["history"]))
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        raise LockError(f"{LOCK}: this is not what `gateway policy check --write` wrote") from None


def draft(root: Path, made: Change, before: str, after: str) -> Path:
    """Write the form of an approval, for people to fill in; their names stay empty, and so it does not count. Returns the file."""
    folder = root / APPROVALS
    folder.mkdir(exist_ok=True)
    file = folder / f"{after[:12]}.yaml"
    blank = {"by": "", "date": ""}
    form: dict[str, Any] = {
        "from": before,
        "to": after,
        "widens": digest_of(made.widens),
        "why": "",
        "survivor-advisory-panel": dict(blank),
        "privacy-officers": {party: dict(blank) for party in made.holders},
    }
    if made.switches_on:
        form["counsel"] = {"reference": "", "date": ""}
    form["what"] = describe(made.widens)
    file.write_text(yaml.safe_dump(form, sort_keys=False, width=10**6), encoding="utf-8")
    return file


def approved(root: Path, made: Change, before: str, after: str) -> list[str]:
    """What an approval of this change lacks; nothing when it is whole."""
    file = root / APPROVALS / f"{after[:12]}.yaml"
    if not file.exists():
        return [f"no approval: {APPROVALS}/{file.name} is missing"]
    form = yaml.safe_load(file.read_text(encoding="utf-8"))
    lacking = _unsigned(form)
    if {name: form.get(name) for name in ("from", "to", "widens")} != {"from": before, "to": after, "widens": digest_of(made.widens)}:
        lacking.append("it approves another change")
    if not set(made.holders) <= set(form.get("privacy-officers") or ()):
        lacking.append("a privacy officer of a party whose data it is")
    if made.switches_on and "counsel" not in form:
        lacking.append("the counsel reference: a legal basis is switched on")
    if form.get("what") != describe(made.widens):
        lacking.append("the lines under `what` are not those of the change")
    return [f"{APPROVALS}/{file.name}: {each}" for each in lacking]


def _unsigned(form: Mapping[str, Any]) -> list[str]:
    officers = form.get("privacy-officers") or {}
    signed = {
        "the survivor advisory panel": form.get("survivor-advisory-panel"),
        **{f"the privacy officer of {p}": officers[p] for p in officers},
    }
    lacking = [name for name, each in signed.items() if not _signed(each, "by")]
    if "counsel" in form and not _signed(form["counsel"], "reference"):
        lacking.append("the counsel reference")
    if not form.get("why"):
        lacking.append("why")
    return [f"{name} is not filled in" for name in lacking]


def _signed(entry: Any, name: str) -> bool:
    return isinstance(entry, Mapping) and bool(entry.get(name)) and isinstance(entry.get("date"), date)


def faults(root: Path, flows: frozenset[Flow]) -> list[str]:
    """Why the configuration may not go on as it stands: the record is not of it, or a widening in its history carries no approval."""
    lock = read_lock(root)
    if lock is None:
        return [f"{LOCK} is missing: write it with `gateway policy check --baseline`"]
    made = change(lock.flows, flows)
    found = [*describe(made.widens, sign="+ "), *describe(made.narrows, sign="- ")]
    if found:
        found.insert(
            0, f"{LOCK} is not what the configuration lets flow; + widens, - narrows. Record it with `gateway policy check --write`."
        )
    if not lock.history or lock.history[-1].get("flows") != digest_of(lock.flows):
        found.append(f"{LOCK}: its lines and its history do not agree")
    for before, step in zip(("", *(each.get("flows", "") for each in lock.history)), lock.history, strict=False):
        approval = step.get("approval")
        if approval in (BASELINE, None) or approval == "narrows":
            continue
        file = root / APPROVALS / f"{approval}.yaml"
        if not file.exists():
            found.append(f"{APPROVALS}/{approval}.yaml is missing")
            continue
        form = yaml.safe_load(file.read_text(encoding="utf-8"))
        if (form.get("from"), form.get("to"), form.get("widens")) != (before, step["flows"], step.get("widens")):
            found.append(f"{APPROVALS}/{file.name}: it approves another change")
        found += [f"{APPROVALS}/{file.name}: {each}" for each in _unsigned(form)]
    return found
