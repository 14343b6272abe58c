"""Jobs in Slurm's queue that must never run: they were stopped before they came up.

They are named, not numbered: a controller that has crashed hands its job ids out again.
"""

import asyncio
import time
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Final

from muster.engines import slurmjob
from muster.engines.attemptfiles import read_state
from muster.engines.slurmattempt import KILL_AGAIN_SECONDS
from muster.engines.slurmcommands import SlurmCommands, SlurmJob, attempt_of
from muster.engines.slurmfiles import JobClaim
from muster.engines.slurmtable import JobTable

CANCELS_MAX: Final = 32  # at one look; what is left holds no node, and the next look goes on


class UnwantedJobs:
    def __init__(self, jobs_folder: Path, commands: SlurmCommands) -> None:
        self._jobs_folder = jobs_folder
        self._commands = commands
        self._told_at: dict[str, float] = {}  # by name; monotonic

    def __bool__(self) -> bool:
        return bool(self._told_at)

    def add(self, name: str) -> None:
        self._told_at.setdefault(name, 0.0)

    async def cancel(self, table: JobTable, *, wanted: Container[str]) -> None:
        """End those that Slurm still has.

        Args:
            table: all that Slurm has of ours.
            wanted: the attempts that are to run.

        Raises:
            EngineUnavailable: Slurm does not answer; the next look goes on.
        """
        jobs = table.by_name
        for name in table.changed:
            is_known = attempt_of(name) in wanted or name in self._told_at
            if not (is_known or _are_over(jobs.get(name, ()))):
                await self._get_to_know(name)
        now, calls = time.monotonic(), 0
        for name, told_at in list(self._told_at.items()):
            if _are_over(jobs.get(name, ())):
                del self._told_at[name]
            elif now - told_at >= KILL_AGAIN_SECONDS and calls < CANCELS_MAX:
                calls += 1
                self._told_at[name] = now
                await self._commands.cancel(name)

    async def _get_to_know(self, name: str) -> None:
        """An earlier server may have stopped it."""
        file = self._jobs_folder / attempt_of(name) / slurmjob.CLAIM_FILE
        claim = await asyncio.to_thread(read_state, file, JobClaim)
        if claim is not None and not claim.job_id:
            self.add(name)  # otherwise it is another server's, or about to end


def _are_over(rows: Sequence[SlurmJob]) -> bool:
    return all(row.is_over for row in rows)
