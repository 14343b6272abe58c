"""Of several servers on one database, one reconciles: whoever has the lease.

The lease is renewed well before it ends. A leader that does not come to it, because it hangs or was
stopped, loses it; the one that takes over ends that process first where it can, as it may hold the
jobs folder, and could go on one day. Every write of the reconciler is fenced: it is refused when
the lease has gone to another server.
"""

import asyncio
import contextlib
import math
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Concatenate, Final, Generic, ParamSpec, TypeVar

import structlog

from muster.domain.errors import EngineUnavailable, MusterError, StaleWrite, StoreUnavailable
from muster.domain.lease import Holder, Lease
from muster.engines import processes
from muster.engines.processes import ProcessIdentity
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.leases import RECONCILER, check_lease, give_lease_back, keep_lease, take_lease
from muster.store.transaction import (
    Transaction,
    is_telling_lists,
    marked_as,
    may_defer_counters,
)

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

LEASE_MS: Final = 3_500  # the next one takes over within 5 seconds
RENEW_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.25
BREAK_SECONDS: Final = 1.0  # without a look: from there on it is watched anew
# What a local engine has started runs on where it is when its server has gone.
ELSEWHERE_MS: Final = 600_000


def this_server() -> Holder:
    """The process that asks, under a name that no other start has."""
    identity = processes.find_identity(os.getpid())
    assert identity is not None, "we live"
    return Holder(
        name=uuid.uuid4().hex,
        machine=socket.gethostname(),
        boot_id=identity.boot_id,
        pid=identity.pid,
        start_ticks=identity.start_ticks,
    )


@dataclass(frozen=True, slots=True)
class _Fenced(Generic[Item, T]):
    """Work for several at once that looks at the lease once. Equal where lease and work are."""

    lease: Lease
    work: Callable[[Transaction, Sequence[Item]], Sequence[T | MusterError]]

    @property
    def reads_no_counters(self) -> bool:
        """As `transaction.reads_no_counters` marks functions."""
        return may_defer_counters(self.work)

    @property
    def tells_lists(self) -> bool:
        """As `transaction.tells_lists` does."""
        return is_telling_lists(self.work)

    def __call__(self, tx: Transaction, items: Sequence[Item]) -> Sequence[T | MusterError]:
        check_lease(tx, RECONCILER, self.lease)
        return self.work(tx, items)


@dataclass(frozen=True, slots=True)
class FencedDatabase:
    """A store whose writes are refused once the lease has gone to another server."""

    database: Database
    lease: Lease

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def fenced(tx: Transaction) -> T:
            check_lease(tx, RECONCILER, self.lease)
            return work(tx, *args, **kwargs)

        # A lease is no counter, and no list shows it.
        return await self.database.write(marked_as(work, fenced))

    async def write_together(
        self,
        work: Callable[[Transaction, Sequence[Item]], Sequence[T | MusterError]],
        item: Item,
        *,
        is_patient: bool = False,
    ) -> T:
        return await self.database.write_together(
            _Fenced(self.lease, work), item, is_patient=is_patient
        )

    def on_work(self, callback: Callable[[], None]) -> None:
        self.database.on_work(callback)

    def on_logins_changed(self, callback: Callable[[], None]) -> None:
        self.database.on_logins_changed(callback)

    def close(self) -> None:
        raise AssertionError("whoever opened it closes it")

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.database.read(work, *args, **kwargs)

    async def read_fresh(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.database.read_fresh(work, *args, **kwargs)

    async def read_shared(self, work: Callable[..., T], *args: Hashable) -> T:
        return await self.database.read_shared(work, *args)

    async def read_recent(self, work: Callable[..., T], *args: Hashable) -> T:
        return await self.database.read_recent(work, *args)

    async def read_lists(self, project_id: str, work: Callable[..., T], *args: Hashable) -> T:
        return await self.database.read_lists(project_id, work, *args)

    async def scan(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.database.scan(work, *args, **kwargs)

    def stream(
        self,
        work: Callable[Concatenate[Connection, P], Iterator[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncIterator[T]:
        return self.database.stream(work, *args, **kwargs)


Lead = Callable[[Database], AbstractAsyncContextManager[None]]


@dataclass(slots=True)
class Leadership:
    """Runs what only one server may run, while this one has the lease."""

    database: Database
    lead: Lead | None = None  # on a fenced store; what it starts has ended when it is left
    elsewhere_ms: int = ELSEWHERE_MS
    server: Holder = field(default_factory=this_server)
    is_leading: bool = False
    _looked_at: float = -math.inf  # by the monotonic clock
    _watching_since: float = 0.0

    async def run(self) -> None:
        """Until cancelled: then the lease is given back."""
        while True:
            try:
                taken = await self._try_to_take()
                if taken is not None:
                    await self._lead_while_it_lasts(*taken)
            except MusterError as error:
                log.warning("cannot_lead", why=error.message)
            except Exception:  # without a leader nothing would be started any more, and nobody told
                log.exception("leading_failed")
            await asyncio.sleep(LOOK_SECONDS)

    async def _try_to_take(self) -> tuple[Lease, Lease | None] | None:
        """None as well where the store does not answer: then nobody else gets it either."""
        asked_at = time.monotonic()
        if asked_at - self._looked_at > BREAK_SECONDS:
            self._watching_since = asked_at  # the store was away, or this process stood still
        try:
            taken = await self.database.write(
                take_lease,
                RECONCILER,
                self.server,
                watched_ms=int((asked_at - self._watching_since) * 1000),
                for_ms=LEASE_MS,
                elsewhere_ms=self.elsewhere_ms,
            )
        except StoreUnavailable as error:
            log.debug("lease_unknown", why=error.message)
            return None
        if time.monotonic() - asked_at < BREAK_SECONDS:
            self._looked_at = time.monotonic()
        return taken

    async def _lead_while_it_lasts(self, lease: Lease, before: Lease | None) -> None:
        if before is not None:
            end_process_of(before.holder, self.server)
        assert self.lead is not None
        try:
            async with self.lead(FencedDatabase(self.database, lease)):
                self.is_leading = True
                log.info("leading", revision=lease.revision)
                await self._renew_until_lost(lease)
                log.warning("another_server_leads")
        except EngineUnavailable as error:
            log.warning("cannot_lead", why=error.message)
        finally:
            self.is_leading = False
            with contextlib.suppress(StoreUnavailable):
                await asyncio.shield(self.database.write(give_lease_back, RECONCILER, lease))

    async def _renew_until_lost(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self.database.write(keep_lease, RECONCILER, lease, for_ms=LEASE_MS)
            except StaleWrite:
                return
            except StoreUnavailable:
                continue  # nobody gets it without the store


def end_process_of(holder: Holder, server: Holder) -> None:
    """End a leader that has lost its lease, where it is a process of this machine.

    It has not answered for longer than its lease: it hangs, or was stopped. It keeps the lock of
    the jobs folder until it ends.
    """
    if (holder.machine, holder.boot_id) != (server.machine, server.boot_id) or not holder.name:
        return
    pidfd = processes.open_process(
        ProcessIdentity(boot_id=holder.boot_id, pid=holder.pid, start_ticks=holder.start_ticks)
    )
    if pidfd is None:
        return
    try:
        log.warning("ending_stalled_leader", pid=holder.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
