"""A running hub for a folder's tests, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.hub import BOUND, SmartHub, running_hub
from tests.clients.wire import Wire
from tests.integration.conftest import migrated, postgres_settings

__all__ = ["attacked_hub", "migrated", "smart_hub", "wire"]


def _running(request: pytest.FixtureRequest, folder: Path) -> Iterator[SmartHub]:
    database = {}
    if request.param == "postgres":
        database = postgres_settings(request.getfixturevalue("postgres_server"), request.getfixturevalue("migrated"))
    with running_hub(folder, database, {BOUND: {"binding": "dpop"}}) as hub:
        yield hub


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def smart_hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmartHub]:
    """`gateway serve` in a process of its own."""
    yield from _running(request, tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.ci)])
def attacked_hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmartHub]:
    """The same, for tests that ask it hundreds of things: on PostgreSQL in the full run alone."""
    yield from _running(request, tmp_path_factory.mktemp("hub"))


@pytest.fixture
def wire(smart_hub: SmartHub) -> Iterator[Wire]:
    """A connection to it."""
    opened = smart_hub.wire()
    yield opened
    opened.close()
