"""The hub that other people's clients call."""

from __future__ import annotations

from tests.clients.fixtures import migrated, smart_hub, wire

__all__ = ["migrated", "smart_hub", "wire"]
