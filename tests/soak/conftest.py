"""The databases of the integration tests, and their hub in a process of its own."""

from __future__ import annotations

from tests.integration.conftest import database, migrated
from tests.integration.durability.conftest import hub_files

__all__ = ["database", "hub_files", "migrated"]
