"""The same worlds as the integration tests have, one or two at a time, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.fixtures import attacked_hub, smart_hub
from tests.integration.conftest import database, loud, migrated, postgres_settings, world
from tests.integration.world import open_world, settings_for
from tests.security.worlds import OpenWorld

__all__ = ["attacked_hub", "database", "loud", "migrated", "new_world", "smart_hub", "world"]


@pytest.fixture(params=["sqlite", "postgres"])
def new_world(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], OpenWorld]:
    """Opens as many hubs as a test wants, each with a database of its own and the same configuration."""

    # fetched here: what makes the template databases runs a loop of its own, which a test's own loop would not allow
    stored = (request.getfixturevalue("postgres_server"), request.getfixturevalue("migrated")) if request.param == "postgres" else None

    def opened(name: str) -> OpenWorld:
        values: dict[str, str] = {}
        if stored is not None:
            values = postgres_settings(*stored)
        return open_world(settings_for(tmp_path / name, **values))

    numbers = iter(range(100))
    return lambda: opened(f"world-{next(numbers)}")
