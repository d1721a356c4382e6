"""How a running server process follows what an operator changes: registrations, who is cut off, tokens taken back, configuration, keys.

Every quarter of a second it asks the database for four numbers. A number that moved says what to read: registrations and revoked tokens
are in force here once they are read; the configuration's files are read anew in a thread, and put in force only when all of them are
valid. What it has taken up it says in `workers`, so that the command line can wait for it. A process that has not seen the numbers for
`FRESH_SECONDS` lets nobody in (`oauth.standing`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from gateway.configuration import Files, InForce
from gateway.oauth.keys import KeyFolderError, KeyProvider, SigningKeys
from gateway.oauth.standing import FollowedRevocations, Freshness
from gateway.parties.errors import ConfigurationError
from gateway.problems import Problem
from gateway.storage.registrations import (
    Epoch,
    TallyBook,
    WorkerRow,
    forget_workers,
    read_epochs,
    read_registrations,
    report_worker,
    revoked_since,
    set_policy_epoch,
)
from gateway.storage.writer import Database, StorageError, Writer

__all__ = ["LOOK_SECONDS", "TELL_SECONDS", "Follower"]

log = structlog.get_logger("gateway.following")

LOOK_SECONDS: Final = 0.25
TELL_SECONDS: Final = 5.0
"""Between two signs of life, and two sums of how clients authenticated."""

KEYS_SECONDS: Final = 2.0
FORGET_MS: Final = 3_600_000
"""A process that was killed is off the list after this long."""

_LOST: Final = (StorageError, Problem, OSError)


class Follower:
    """One a process. `real`: seconds since 1970."""

    def __init__(
        self,
        *,
        worker: str,
        in_force: InForce,
        read_files: Callable[[], Files],
        database: Database,
        writer: Writer,
        revocations: FollowedRevocations,
        freshness: Freshness,
        tallies: TallyBook,
        keys: SigningKeys,
        provider: KeyProvider,
        real: Callable[[], float],
    ) -> None:
        self._worker = worker
        self._in_force = in_force
        self._read_files = read_files
        self._database = database
        self._writer = writer
        self._revocations = revocations
        self._freshness = freshness
        self._tallies = tallies
        self._keys = keys
        self._provider = provider
        self._real = real
        self._taken: dict[Epoch, int] = dict.fromkeys(Epoch, 0)
        self._in_database = 0  # the policy epoch there
        self._odd: int | None = None  # another process's policy epoch, for which the files were read once already
        self._key_end: int | None = None
        self._problem: str | None = None
        self._reading: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._said = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what is there, put the policy in force for commits, and begin. Raises StorageError, Problem."""
        self._taken[Epoch.CONFIGURATION] = (await read_epochs(self._database))[Epoch.CONFIGURATION]
        await self._look()
        await self._tell()
        await forget_workers(self._writer, "", int(self._real() * 1000) - FORGET_MS)
        self._tasks = [
            asyncio.create_task(each(), name=each.__name__.strip("_")) for each in (self._follow, self._keep_telling, self._follow_keys)
        ]

    async def stop(self) -> None:
        """End, and say good-bye."""
        for task in [*self._tasks, *([self._reading] if self._reading else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(*_LOST):
            await self._tallies.write()
            await forget_workers(self._writer, self._worker, int(self._real() * 1000) - FORGET_MS)

    async def catch_up(self) -> None:
        """A commit found that another process has put another policy in force: see to it now, within a second."""
        with contextlib.suppress(*_LOST, TimeoutError):
            async with asyncio.timeout(1.0):
                while True:
                    await self._look()
                    if self._in_database == self._in_force.now.policy.epoch:
                        return
                    if self._reading is not None:
                        await asyncio.wait([self._reading])
                    else:
                        await asyncio.sleep(0.02)

    async def _follow(self) -> None:
        while True:
            try:
                await self._look()
            except _LOST as error:
                log.error("following-failed", kind=type(error).__name__)
            except Exception as error:  # the supervisor's edge: what can't be followed is not known, and nobody is let in for long
                log.error("following-failed", kind=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        async with self._looking:
            began = self._freshness.now()
            there = await read_epochs(self._database)
            if there[Epoch.REVOCATIONS] != self._taken[Epoch.REVOCATIONS]:
                self._revocations.learn(await revoked_since(self._database, self._taken[Epoch.REVOCATIONS]))
                self._taken[Epoch.REVOCATIONS] = there[Epoch.REVOCATIONS]
            at = int(self._real() * 1000)
            ended = self._key_end is not None and at >= self._key_end
            if there[Epoch.REGISTRATIONS] != self._taken[Epoch.REGISTRATIONS] or ended:
                registrations = await read_registrations(self._database)
                changed = self._in_force.put(at, registrations=registrations)
                self._key_end = registrations.next_end(at)
                self._taken[Epoch.REGISTRATIONS] = there[Epoch.REGISTRATIONS]
                for mistake in self._in_force.left_out:
                    log.warning("registration-left-out", reason=mistake.reason)
                if changed:
                    log.info("policy-changed", reason="registrations")
                self._said.set()
            self._in_database = there[Epoch.POLICY]
            self._freshness.mark(began)
            self._mind_files(there)

    def _mind_files(self, there: dict[Epoch, int]) -> None:
        """Read the files anew when somebody said so, or when another process commits under a policy that is not this one's."""
        if self._reading is not None:
            return
        told = there[Epoch.CONFIGURATION] != self._taken[Epoch.CONFIGURATION]
        foreign = self._in_database not in (0, self._in_force.now.policy.epoch) and not self._said.is_set()
        if told or (foreign and self._odd != self._in_database):
            self._odd = None if told else self._in_database
            self._reading = asyncio.create_task(self._reread(there[Epoch.CONFIGURATION], told=told), name="configuration")
        elif not foreign:
            self._odd = None

    async def _reread(self, number: int, *, told: bool) -> None:
        try:
            files = await asyncio.to_thread(self._read_files)
            changed = False
            # asked for by nobody: only what the others have already put in force is taken up
            if told or self._would_match(files):
                changed = self._in_force.put(int(self._real() * 1000), files=files)
            else:
                log.error("policy-differs", reason="another process has other files")
            if told:
                self._problem = None
            if changed:
                log.info("policy-changed", reason="files")
        except (ConfigurationError, OSError) as error:
            self._problem = str(error) if isinstance(error, ConfigurationError) else f"a file can't be read ({type(error).__name__})"
            log.error("configuration-refused", count=len(error.mistakes) if isinstance(error, ConfigurationError) else 1)
        finally:
            if told:
                self._taken[Epoch.CONFIGURATION] = number
            self._reading = None
            self._said.set()

    def _would_match(self, files: Files) -> bool:
        trial = InForce(files, self._in_force.registrations, int(self._real() * 1000))
        return trial.now.policy.epoch == self._in_database

    async def _keep_telling(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._said.wait()
            try:
                await self._tell()
                await self._tallies.write()
            except _LOST as error:
                log.error("following-untold", kind=type(error).__name__)
                await asyncio.sleep(1)

    async def _tell(self) -> None:
        """Put this process's policy in force for commits (unless something newer is there), and say what it has taken up."""
        seen = self._taken[Epoch.REGISTRATIONS] + self._taken[Epoch.CONFIGURATION]
        policy = self._in_force.now.policy
        if self._problem is None and self._odd is None and self._in_database != policy.epoch:
            await set_policy_epoch(self._writer, policy.epoch, seen)
        self._said.clear()
        taken = (self._taken[Epoch.REGISTRATIONS], self._taken[Epoch.CONFIGURATION])
        await report_worker(self._writer, WorkerRow(self._worker, int(self._real() * 1000), *taken, policy.version, self._problem))

    async def _follow_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_SECONDS)
            try:
                if self._keys.follow(await asyncio.to_thread(self._provider.keys), self._real()):
                    log.info("signing-keys-changed", count=len(self._keys.jwks["keys"]))
            except (KeyFolderError, OSError) as error:
                log.error("signing-keys-refused", kind=type(error).__name__)
