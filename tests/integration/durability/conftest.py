"""A hub in a process of its own, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.durability.hub import HubFiles, HubProcess


@pytest.fixture
def hub_files(tmp_path: Path, database: dict[str, str]) -> Callable[..., HubFiles]:
    """Makes settings, keys and a registry on an empty database."""

    def make(**more: Any) -> HubFiles:
        return HubFiles.make(tmp_path / "hub", database, **more)

    return make


@pytest.fixture
def served(hub_files: Callable[..., HubFiles]) -> Iterator[HubProcess]:
    """A running server process."""
    with HubProcess(hub_files()).running() as hub:
        yield hub
