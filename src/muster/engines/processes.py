"""Processes of this machine: which one it is, whether it lives, how to end it. Linux only.

A number names a process only while that process lives; then it is given out again. What is kept
is therefore an identity, and what is signalled is a file descriptor that stands for the process.

Source: pidfd_open(2), proc_pid_environ(5), Linux man-pages 6.03.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster.domain.errors import EngineUnavailable
from muster.engines import shim

END_WAIT_SECONDS: Final = 0.05  # between two looks for what is left to end


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """Names one process for good, over the end of it and of the machine's uptime."""

    boot_id: str
    pid: int
    start_ticks: int  # since boot


def require_support() -> None:
    """Say in one line when this system cannot run the local engine.

    Raises:
        EngineUnavailable: not Linux, or a kernel before 5.3.
    """
    if sys.platform != "linux":
        raise EngineUnavailable(
            f"The local engine runs on Linux only; this is {sys.platform}."
            " Use a Linux machine or another engine."
        )
    try:
        os.close(os.pidfd_open(os.getpid()))
        Path("/proc/self/stat").read_bytes()
    except OSError as error:
        raise EngineUnavailable(
            "The local engine needs Linux 5.3 or later (pidfd_open) with /proc mounted;"
            f" this system says: {error}."
        ) from error


def find_identity(pid: int) -> ProcessIdentity | None:
    """The identity of the living process with this number; a zombie counts as dead."""
    found = shim.read_stat(pid)
    if found is None:
        return None
    return ProcessIdentity(boot_id=shim.read_boot_id(), pid=pid, start_ticks=found[1])


def is_alive(identity: ProcessIdentity) -> bool:
    return find_identity(identity.pid) == identity


def open_process(identity: ProcessIdentity) -> int | None:
    """A pidfd of exactly this process, to be closed by the caller; None when it is dead."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Checked after opening: had the number changed hands before, the start would differ.
    if is_alive(identity):
        return pidfd
    os.close(pidfd)
    return None


def send_signal(pidfd: int, number: signal.Signals) -> None:
    """Signal the process behind a pidfd; one that has ended is left in peace."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def find_ended(pidfds: Collection[int]) -> set[int]:
    """Those whose process has ended, reaped or not. Does not wait."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    return {pidfd for pidfd, _ in poll.poll(0)}


def find_marked(markers: Collection[str]) -> set[ProcessIdentity]:
    """Every process that was started with all of these `NAME=VALUE`, and what descends from it.

    One that was started with a cleared environment is found only through a marked ancestor.
    """
    wanted = {marker.encode() for marker in markers}
    processes = shim.list_processes()
    marked = {pid for pid in processes if wanted <= _read_environment(pid)}
    family = marked | set(shim.find_descendants(marked, processes))
    boot_id = shim.read_boot_id()
    return {
        ProcessIdentity(boot_id=boot_id, pid=pid, start_ticks=processes[pid][1]) for pid in family
    }


def _read_environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()  # ended, or somebody else's: not ours either way


def end_marked(markers: Collection[str], *, timeout_seconds: float) -> bool:
    """Kill what `find_marked` finds until nothing is left; False when the time is up first.

    Blocks.
    """
    end = time.monotonic() + timeout_seconds
    while found := find_marked(markers):
        if time.monotonic() > end:
            return False
        for identity in found:
            shim.send_signal(identity.pid, identity.start_ticks, signal.SIGKILL)
        time.sleep(END_WAIT_SECONDS)
    return True
