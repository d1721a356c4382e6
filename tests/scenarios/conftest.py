"""Scenarios that are played against a hub in this process use the fixtures of the integration tests."""

from tests.integration.conftest import database, migrated, world

__all__ = ["database", "migrated", "world"]
