"""Who may act: of several servers, one at a time."""

from dataclasses import dataclass
from typing import Final

WATCH_MS: Final = 1_500  # the holder renews it three times meanwhile, if it can


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A server that asks for a lease, and the process that it is."""

    name: str  # of this start of it, used by no other; "": it has given the lease back
    machine: str
    boot_id: str
    pid: int
    start_ticks: int  # since boot: a number of a process is given out again


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to act, until a time. Its revision tells its holders apart."""

    holder: Holder
    revision: int
    until_ms: int


def may_take(
    lease: Lease | None, asker: Holder, *, watched_ms: int, now_ms: int, elsewhere_ms: int
) -> bool:
    """Whether a server may take, or keep, a lease.

    Args:
        lease: as it stands; None: nobody ever had it.
        asker: who wants it.
        watched_ms: for how long it has looked without a break. Where the store was away, the
            holder could not renew it, and must be given the time to.
        now_ms: by the clock that `until_ms` was told by.
        elsewhere_ms: for how much longer another machine keeps it: what it has started may still
            run there, where nobody else sees it.
    """
    if lease is None or lease.holder == asker:
        return True
    if lease.holder.name and watched_ms < WATCH_MS:
        return False
    wait_ms = 0 if lease.holder.machine == asker.machine else elsewhere_ms
    return now_ms > lease.until_ms + wait_ms
