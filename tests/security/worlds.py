"""The worlds that the tests compare are those of the integration tests."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from tests.integration.world import World

__all__ = ["OpenWorld"]

OpenWorld = AbstractAsyncContextManager[World]
