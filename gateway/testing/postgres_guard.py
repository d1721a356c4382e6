"""The process that owns a test PostgreSQL: it makes the data folder, runs the server, and ends it when its parent is gone.

Run as a script by `gateway.testing.postgres`, never imported: `python -I -S postgres_guard.py`, the standard library only. It is its
own process so that a killed test run leaves nothing behind, and so that what must happen between fork and exec (dropping to another
uid, entering a user namespace) happens where there is one thread.

It reads one line of JSON (`Plan`) on standard input, answers `ready` or `failed: REASON` in one line, and then waits. When standard
input closes, because the parent said so or because it died, the server is stopped and the whole working folder removed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_LIMIT_SECONDS: Final = 60.0
STOP_LIMIT_SECONDS: Final = 10.0
PR_SET_PDEATHSIG: Final = 1
CLONE_NEWUSER: Final = 0x10000000
SUPERUSER: Final = "postgres"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and as whom. Folders are absolute; `uid` and `gid` are set only when the guard is root."""

    work: str
    binaries: str
    password: str
    port: int
    settings: dict[str, str]
    uid: int | None
    gid: int | None
    alias_uid: int | None
    """The uid to appear as while initdb runs, when the real one has no entry in the user database."""

    @property
    def data(self) -> Path:
        """The data folder."""
        return Path(self.work) / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return Path(self.work) / "server.log"


class Failed(Exception):
    """PostgreSQL did not start; the text says why, in words for the person who runs the tests."""


def _call(libc: ctypes.CDLL, name: str, *arguments: int) -> None:
    """Call a libc function that returns 0, or raise OSError with its errno."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _die_with_parent() -> None:
    """In the child: ask the kernel for a fast shutdown if the guard itself is killed (Linux)."""
    if sys.platform == "linux":
        _call(ctypes.CDLL(None, use_errno=True), "prctl", PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


def _appear_as(uid: int) -> Callable[[], None]:
    """In the child: enter a user namespace in which the process has `uid`; outside, its files keep its real uid."""

    def enter() -> None:
        real_uid, real_gid = os.geteuid(), os.getegid()
        _call(ctypes.CDLL(None, use_errno=True), "unshare", CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {real_uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{uid} {real_gid} 1", encoding="ascii")
        _die_with_parent()

    return enter


def _spawn(plan: Plan, command: Sequence[str], output: Path, before: Callable[[], None]) -> subprocess.Popen[bytes]:
    """Start one PostgreSQL program with a clean environment, unprivileged, its output appended to a file."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    with open(output, "ab") as sink:
        if plan.uid is None:
            return subprocess.Popen(
                command, cwd=plan.work, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, preexec_fn=before
            )
        return subprocess.Popen(
            command,
            cwd=plan.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=before,
            user=plan.uid,
            group=plan.gid,
            extra_groups=[],
        )


def _tail(path: Path) -> str:
    """The last lines of a log, in one line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return " | ".join(lines[-4:]) or "no output"


def make_data(plan: Plan) -> None:
    """Run initdb. The C.UTF-8 rules built into PostgreSQL make the locale independent of the machine's."""
    secret = Path(plan.work) / "password"
    secret.touch(mode=0o600)
    secret.write_text(plan.password + "\n", encoding="ascii")
    if plan.uid is not None and plan.gid is not None:
        os.chown(secret, plan.uid, plan.gid)
    command = [
        f"{plan.binaries}/initdb", "--pgdata", str(plan.data), "--username", SUPERUSER, "--pwfile", str(secret),
        "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin",
        "--builtin-locale", "C.UTF-8", "--no-instructions", "--no-sync",
    ]  # fmt: skip
    log = Path(plan.work) / "initdb.log"
    before = _die_with_parent if plan.alias_uid is None else _appear_as(plan.alias_uid)
    try:
        code = _spawn(plan, command, log, before).wait(timeout=START_LIMIT_SECONDS)
    except (OSError, subprocess.SubprocessError) as problem:
        if plan.alias_uid is not None:
            raise Failed(
                f"the user id {os.geteuid() if plan.uid is None else plan.uid} has no entry in the user database, PostgreSQL's "
                "initdb needs one, and this machine allows no user namespace in which to give it one; add an entry to /etc/passwd"
            ) from problem
        raise Failed(f"initdb could not be run ({type(problem).__name__})") from problem
    finally:
        secret.unlink()
    if code != 0:
        raise Failed(f"initdb ended with {code}: {_tail(log)}")


def start_server(plan: Plan) -> subprocess.Popen[bytes]:
    """Start the server and wait until it accepts connections, as its own status line says."""
    command = [f"{plan.binaries}/postgres", "-D", str(plan.data)]
    for name, value in plan.settings.items():
        command += ["-c", f"{name}={value}"]
    server = _spawn(plan, [*command, "-c", f"port={plan.port}"], plan.log, _die_with_parent)
    status = plan.data / "postmaster.pid"
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise Failed(f"the server ended with {server.returncode}: {_tail(plan.log)}")
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines() if status.exists() else []
        if len(lines) >= 8 and lines[7].strip() == "ready":
            return server
        time.sleep(0.01)
    stop_server(server)
    raise Failed(f"the server was not ready within {START_LIMIT_SECONDS:.0f} s: {_tail(plan.log)}")


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Stop the server: fast (SIGINT), then at once (SIGQUIT), then by force."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is not None:
            return
        server.send_signal(number)
        try:
            server.wait(timeout=STOP_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def wait_for_the_end(server: subprocess.Popen[bytes]) -> None:
    """Return when standard input closes or the server ends by itself."""
    while server.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return


def answer(text: str) -> None:
    """Say one line to the parent, if it is still there to hear it."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="ascii")


def read_plan() -> Plan | None:
    """The plan on the first line of standard input, or nothing if the parent was gone before it gave one."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return None
        line += byte
    return Plan(**json.loads(line))


def end(number: int, frame: object) -> None:
    """On SIGTERM, end as when the parent is gone. A Ctrl-C is for the parent, which then closes standard input."""
    if number == signal.SIGTERM:
        sys.exit(0)


def main() -> int:
    """Carry out the plan to its end; the server is stopped and the folder removed whatever happens."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    plan = read_plan()
    if plan is None:
        return 1
    server: subprocess.Popen[bytes] | None = None
    try:
        make_data(plan)
        server = start_server(plan)
        answer("ready")
        wait_for_the_end(server)
    except Failed as failure:
        answer(f"failed: {failure}")
        return 1
    finally:
        if server is not None:
            stop_server(server)
        shutil.rmtree(plan.work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
