"""Small logs, made as the hub makes them: entries of several writers, chained, put in a tree, sealed now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.checkpoint import Checkpoint, Signer, sign
from gateway.audit.entry import AuditAction, AuditEntry, AuditOutcome, Chain, SealedEntry
from gateway.audit.export import ExportEntry, ExportHeader, export_lines
from gateway.audit.merkle import Frontier

ORIGIN = "hub.example/audit"
KEY = Signer.of(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER_KEY = Signer.of(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
VKEY = str(KEY.verifier)

PLAIN = AuditEntry(at="2026-01-05T02:03:04.005Z", action=AuditAction.READ, outcome=AuditOutcome.PERMIT)
FULL = AuditEntry(
    at="2026-01-05T02:03:04.005Z",
    action=AuditAction.RELEASE,
    outcome=AuditOutcome.PERMIT,
    actor_party="alpha",
    actor_shelf="alpha/unit",
    actor_role="worker",
    client_id="alpha-system",
    token_jti="Zk3vQm0T7nq1xkLb2aYw9A",
    resource_type="ServiceRequest",
    resource_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    version="3",
    thread="th-0a1b2c3d",
    transfer="tr-0a1b2c3d",
    attempt="2",
    target_party="beta",
    target_shelf="beta/unit",
    basis="consent",
    consents=("c-1", "c-2"),
    agreement="agreement-1",
    policy_version="sha256:0a1b2c3d",
    classes=("alias", "age-band"),
    refusal=None,
    correlation_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    detail=(("scope", "transfer.offer"), ("route", "fhir/ServiceRequest")),
)


@dataclass
class Log:
    """Entries in tree order, and the checkpoints signed on the way."""

    entries: list[SealedEntry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    key: Signer = KEY

    def seal(self, key: Signer | None = None) -> str:
        """Sign the present tree."""
        tree = Frontier()
        for entry in self.entries:
            tree.append(entry.hash)
        note = sign(Checkpoint(ORIGIN, tree.size, tree.root()), key or self.key)
        self.notes.append(note)
        return note

    def lines(self) -> list[bytes]:
        """The export, line by line."""
        return export(self.entries, self.notes, self.key)


def export(entries: Sequence[SealedEntry], notes: Sequence[str], key: Signer = KEY) -> list[bytes]:
    async def stored() -> AsyncIterator[ExportEntry]:
        for entry in entries:
            yield ExportEntry(entry.hash, entry.body)

    async def collect() -> list[bytes]:
        return [line async for line in export_lines(ExportHeader(ORIGIN, (key.verifier,)), notes, stored())]

    return asyncio.run(collect())


def make_log(writers: Sequence[str], seal_at: Sequence[int] = (), *, code: str = "a") -> Log:
    """A log whose entry `i` is by `writers[i]`, with checkpoints at the sizes `seal_at`."""
    log = Log()
    chains: dict[str, Chain] = {}
    if 0 in seal_at:
        log.seal()
    for i, writer in enumerate(writers):
        chain = chains.setdefault(writer, Chain(writer))
        log.entries.append(chain.append(replace(PLAIN, correlation_id=f"{code}-{i}")))
        if len(log.entries) in seal_at:
            log.seal()
    return log
