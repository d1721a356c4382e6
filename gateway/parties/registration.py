"""What is registered while the hub runs: clients with their keys, addresses, and who is cut off; laid over what the files say. Pure.

A registration has the form of an entry of the registry file, and is checked by the same rules. It never replaces one of the file: a
client or shelf that both name is the file's. One that does not fit the files any more is left out and told, and stops nothing else:
whoever it stands for is simply not let in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import orjson

from gateway.identity import ClientId, ShelfId
from gateway.oauth.partner_keys import KeyProblem, read_jwk
from gateway.parties.errors import Mistake, Mistakes
from gateway.parties.load import Loaded
from gateway.parties.model import Client, Endpoint, Policy
from gateway.parties.registry import Registry, compile_registry
from gateway.parties.yaml_lines import Document

__all__ = ["ClientKey", "Overlaid", "Registered", "Registrations", "Standing", "overlay", "public_members"]

Json = dict[str, Any]

_EPOCH_DIGITS: Final = 15  # as for the files: 60 bits
_MEMBERS: Final = ("kty", "kid", "crv", "x", "y", "n", "e", "alg", "use", "key_ops")


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One public key of a client. `ends`: real milliseconds from which it is not accepted any more."""

    kid: str
    jwk: Json
    added: int
    ends: int | None = None

    def counts(self, at: int) -> bool:
        """Whether it is accepted at that time."""
        return self.ends is None or at < self.ends


@dataclass(frozen=True, slots=True)
class Registered:
    """One client or address. `entry` is as in the registry file, without a client's inline keys."""

    id: str
    party: str
    entry: Json
    changed: int = 0
    keys: tuple[ClientKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a party or client is cut off. Access tokens issued before `tokens_from` (real milliseconds) do not count."""

    disabled: bool
    tokens_from: int
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Registrations:
    """Everything that was registered while the hub runs."""

    clients: tuple[Registered, ...] = ()
    endpoints: tuple[Registered, ...] = ()
    standings: Mapping[tuple[str, str], Standing] = field(default_factory=dict)

    def next_end(self, at: int) -> int | None:
        """When the next key ends."""
        return min((key.ends for client in self.clients for key in client.keys if key.ends is not None and key.ends > at), default=None)


@dataclass(frozen=True, slots=True)
class Overlaid:
    """The policy with registrations in it, and what had to be left out."""

    policy: Policy
    left_out: tuple[Mistake, ...]


def overlay(loaded: Loaded, registrations: Registrations, at: int) -> Overlaid:
    """Lay registrations over the files' policy, as of `at` (real milliseconds)."""
    policy, left_out = loaded.policy, []
    clients: dict[ClientId, Client] = dict(policy.clients)
    endpoints: dict[ShelfId, Endpoint] = dict(policy.endpoints)
    said: list[Any] = []
    for kind, items in (("client", registrations.clients), ("endpoint", registrations.endpoints)):
        for item in items:
            taken = item.id in (policy.clients if kind == "client" else policy.endpoints)
            found, mistakes = _compile(loaded, kind, item, at)
            if taken or mistakes:
                reason = "the registry file has it too, and counts" if taken else ""
                left_out += [Mistake(f"registered {kind} {item.id}", 1, m.reason) for m in mistakes] or [
                    Mistake(f"registered {kind} {item.id}", 1, reason)
                ]
                continue
            clients.update(found.clients)
            endpoints.update(found.endpoints)
            said.append([kind, item.id, item.entry, [key.jwk for key in item.keys if key.counts(at)]])
    allowed = {}
    for id_, client in clients.items():
        standings = [s for s in (registrations.standings.get(("party", client.party)), registrations.standings.get(("client", id_))) if s]
        if not any(standing.disabled for standing in standings):
            since = max((standing.tokens_from for standing in standings), default=0) // 1000
            allowed[id_] = replace(client, tokens_from=since) if since else client
    suspended = frozenset(party for party in policy.parties if (s := registrations.standings.get(("party", party))) and s.disabled)
    said += [[*name, s.disabled, s.tokens_from] for name, s in sorted(registrations.standings.items())]
    version = policy.version if not said else hashlib.sha256(policy.version.encode() + orjson.dumps(said)).hexdigest()
    return Overlaid(
        replace(
            policy,
            version=version[:16],
            epoch=policy.epoch if not said else int(version[:_EPOCH_DIGITS], 16),
            clients=MappingProxyType(allowed),
            endpoints=MappingProxyType(endpoints),
            suspended=suspended,
        ),
        tuple(left_out),
    )


def _compile(loaded: Loaded, kind: str, item: Registered, at: int) -> tuple[Registry, tuple[Mistake, ...]]:
    """One registration as if it stood alone in a registry file, in the folder of the configuration."""
    entry = item.entry
    if kind == "client" and "jwks-url" not in entry:
        entry = {**entry, "jwks": {"keys": [key.jwk for key in item.keys if key.counts(at)]}}
    content: Json = {"clients": [], "endpoints": [], f"{kind}s": [entry]}
    document, mistakes = Document(loaded.root / "registered", content, {}), Mistakes(loaded.root)
    loaded.check_registry(document, mistakes)
    if mistakes.found:
        return Registry({}, {}), tuple(mistakes.found)
    return compile_registry(document, loaded.members, loaded.book, mistakes), tuple(mistakes.found)


def public_members(jwk: object) -> Json | KeyProblem:
    """A public key as it is stored: only the members that say which key it is, or why it can't be used.

    Weak, symmetric and private keys, keys without `kid`, and keys whose `alg` or curve does not fit are refused here.
    """
    found = read_jwk(jwk)
    if isinstance(found, KeyProblem):
        return found
    assert isinstance(jwk, Mapping)
    return {name: jwk[name] for name in _MEMBERS if name in jwk}
