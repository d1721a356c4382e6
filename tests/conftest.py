"""Fixtures that every test may use: a real PostgreSQL, started on first use, and a wall around the machine."""

from __future__ import annotations

import ipaddress
import itertools
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from gateway.testing.postgres import DatabaseUrls, PostgresServer, create_roles

# The machines that run this are small and shared: an example may take long without anything being wrong.
settings.register_profile("gateway", deadline=None)
settings.load_profile("gateway")

_database_numbers = itertools.count(1)


def _is_local(host: object) -> bool:
    """Tell whether a host is this machine. A name other than localhost would need a lookup, so it is not."""
    if host is None or host in ("", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _stay_on_this_machine(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse lookups of other hosts and connections to them: a test that needs the network proves nothing without it."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_local(host):
        raise PermissionError("a test tried to reach another machine")


sys.addaudithook(_stay_on_this_machine)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One real PostgreSQL for the whole run, started when the first test asks for it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[DatabaseUrls]:
    """An empty database of the test's own, with the owner, reader and writer roles, dropped afterwards."""
    name = f"gateway_test_{next(_database_numbers)}"
    postgres_server.create_database(name)
    yield create_roles(postgres_server, name)
    postgres_server.drop_database(name)
