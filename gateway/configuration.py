"""The configuration in force: what files and registrations say together, compiled, and swapped as one value.

A reader takes `InForce.now` once and works with that; a swap puts the next value in its place and changes none. What can't be compiled
is not put in force: the one before stays.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from gateway.adapter_api import OutboundAdapter
from gateway.disclosure.minimize import Plan, compile_plan
from gateway.identity import PartyId
from gateway.parties.adapters import load_adapters
from gateway.parties.directory import Directory
from gateway.parties.errors import Mistake
from gateway.parties.ingest import Gate
from gateway.parties.load import Loaded, load_files
from gateway.parties.model import Policy
from gateway.parties.registration import Registrations, overlay
from gateway.settings import Settings

__all__ = ["Configuration", "Files", "InForce"]


@dataclass(frozen=True, slots=True)
class Files:
    """What the files say: the policy, and the partners' own adapters."""

    loaded: Loaded
    adapters: Mapping[PartyId, OutboundAdapter]

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Read and check all of it. Raises ConfigurationError."""
        loaded = load_files(settings.config_root, registry=settings.registry, regions=settings.regions)
        return cls(loaded, load_adapters(loaded.policy, settings.config_root, os.environ))


@dataclass(frozen=True, slots=True)
class Configuration:
    """The policy and what is compiled from it."""

    policy: Policy
    plan: Plan
    directory: Directory
    gate: Gate
    adapters: Mapping[PartyId, OutboundAdapter]
    scopes: tuple[str, ...]  # advertised: whatever any client is registered for

    @classmethod
    def of(cls, policy: Policy, adapters: Mapping[PartyId, OutboundAdapter]) -> Self:
        """Compile once."""
        scopes = tuple(sorted({scope for client in policy.clients.values() for scope in client.scopes}))
        return cls(policy, compile_plan(policy.classes), Directory.of(policy), Gate.of(policy), adapters, scopes)


class InForce:
    """Holds the configuration in force, and the two things it is made from."""

    def __init__(self, files: Files, registrations: Registrations, at: int) -> None:
        """`at`: real milliseconds."""
        self.files = files
        self.registrations = registrations
        self.left_out: tuple[Mistake, ...] = ()
        self.now = self._compiled(files, registrations, at)

    def put(self, at: int, *, files: Files | None = None, registrations: Registrations | None = None) -> bool:
        """Put other files or registrations in force, in one step. Tells whether the policy is another one now."""
        files = self.files if files is None else files
        registrations = self.registrations if registrations is None else registrations
        made = self._compiled(files, registrations, at)
        changed = made.policy.epoch != self.now.policy.epoch
        self.files, self.registrations = files, registrations
        if changed:
            self.now = made
        return changed

    def _compiled(self, files: Files, registrations: Registrations, at: int) -> Configuration:
        laid = overlay(files.loaded, registrations, at)
        self.left_out = laid.left_out
        return Configuration.of(laid.policy, files.adapters)
