"""Leases in the shared database. The embedded store has one server only, and needs none."""

from dataclasses import replace
from typing import Final

from muster.domain.errors import StaleWrite
from muster.domain.lease import Holder, Lease, may_take
from muster.store.connection import Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("leases")

RECONCILER: Final = "reconciler"  # who admits, starts and ends workloads


def take_lease(
    tx: Transaction, name: str, asker: Holder, *, watched_ms: int, for_ms: int, elsewhere_ms: int
) -> tuple[Lease, Lease | None] | None:
    """Take a lease, or keep it for longer; None where another server has it.

    Returns:
        The lease, and as whose it was before, if it was another's.
    """
    found, now_ms = _find(tx.connection, name)
    if not may_take(found, asker, watched_ms=watched_ms, now_ms=now_ms, elsewhere_ms=elsewhere_ms):
        return None
    revision = 1
    if found is not None:
        revision = found.revision + (found.holder != asker)
    lease = Lease(holder=asker, revision=revision, until_ms=now_ms + for_ms)
    _put(tx, name, lease)
    return lease, None if found is None or found.holder == asker else found


def keep_lease(tx: Transaction, name: str, lease: Lease, *, for_ms: int) -> None:
    """Hold it for longer, also where its time has run out and nobody else has taken it.

    Raises:
        StaleWrite: it is another's by now.
    """
    check_lease(tx, name, lease)
    [now_ms] = tx.execute(SQL["tell_time"]).fetchone()
    _put(tx, name, replace(lease, until_ms=now_ms + for_ms))


def give_lease_back(tx: Transaction, name: str, lease: Lease) -> None:
    """Let the next one have it at once, unless it is another's by now."""
    found, now_ms = _find(tx.connection, name)
    if found is not None and found.holder == lease.holder:
        _put(tx, name, replace(found, holder=replace(lease.holder, name=""), until_ms=now_ms - 1))


def check_lease(tx: Transaction, name: str, lease: Lease) -> None:
    """Raise StaleWrite unless the lease is still its holder's: nothing else is written then."""
    key = {"name": name, "holder": lease.holder.name, "revision": lease.revision}
    if tx.execute(SQL["holds_lease"], key).fetchone() is None:
        raise StaleWrite("Another server has taken over.")


def _find(connection: Connection, name: str) -> tuple[Lease | None, int]:
    row = connection.execute(SQL["find_lease"], {"name": name}).fetchone()
    if row is None:
        [now_ms] = connection.execute(SQL["tell_time"]).fetchone()
        return None, now_ms
    holder, machine, boot_id, pid, start_ticks, revision, until_ms, now_ms = row
    whose = Holder(name=holder, machine=machine, boot_id=boot_id, pid=pid, start_ticks=start_ticks)
    return Lease(holder=whose, revision=revision, until_ms=until_ms), now_ms


def _put(tx: Transaction, name: str, lease: Lease) -> None:
    holder = lease.holder
    tx.execute(
        SQL["put_lease"],
        {
            "name": name,
            "holder": holder.name,
            "machine": holder.machine,
            "boot_id": holder.boot_id,
            "pid": holder.pid,
            "start_ticks": holder.start_ticks,
            "revision": lease.revision,
            "until_ms": lease.until_ms,
        },
    )
