"""Who may act: of several servers, one at a time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A server that asks for a lease, and the process that it is."""

    name: str  # of this start of it, used by no other
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


def may_take(lease: Lease | None, asker: Holder, *, now_ms: int, elsewhere_ms: int) -> bool:
    """Whether a server may take, or keep, a lease.

    Args:
        lease: as it stands; None: nobody ever had it.
        asker: who wants it.
        now_ms: by the clock that `until_ms` was told by.
        elsewhere_ms: for how much longer another machine keeps it: what it has started may still
            run there, where nobody else sees it.
    """
    if lease is None or lease.holder == asker:
        return True
    wait_ms = 0 if lease.holder.machine == asker.machine else elsewhere_ms
    return now_ms > lease.until_ms + wait_ms
