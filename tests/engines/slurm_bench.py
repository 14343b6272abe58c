"""A Slurm engine that is open on the tests' cluster, and what a test needs around it."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from muster.engines.engine import EngineRef, Launch
from muster.engines.slurm import SlurmEngine
from muster.engines.slurmcommands import SlurmCommands
from muster.engines.slurmsubmit import SlurmOptions
from tests.engines.contract import DEADLINE_SECONDS, LOG_AGAIN_SECONDS, WAITS, Bench
from tests.engines.fake import Program
from tests.engines.slurm_cluster import SlurmCluster


class SlurmBench(Bench):
    engine: SlurmEngine
    manages_machines = True

    def __init__(self, cluster: SlurmCluster, jobs_folder: Path) -> None:
        self.cluster = cluster
        self.commands = SlurmCommands(environ=cluster.environ)
        self.jobs_folder = jobs_folder
        super().__init__(self.make_engine(), jobs_folder)

    def make_engine(self, options: SlurmOptions | None = None) -> SlurmEngine:
        options = options or SlurmOptions(usage_seconds=0.3)
        return SlurmEngine(self.jobs_folder, self.commands, options)

    def launch_on(self, *hosts: str, what: Program = WAITS) -> Launch:
        launch = self.launch(what, task_count=len(hosts))
        return replace(launch, host_names=hosts)

    async def until_so(self, is_so: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not is_so():  # noqa: ASYNC110 - Slurm tells nobody
                await asyncio.sleep(10 * LOG_AGAIN_SECONDS)

    def queued(self) -> list[str]:
        """The states of the jobs that Slurm has to run."""
        return self.cluster.run("squeue", "-h", "-t", "running,pending", "-o", "%T").split()

    def replace_sbatch(self, script: str, folder: Path) -> None:
        """Put a script in the place of sbatch, for the engine alone."""
        environ = self.cluster.environ
        program = shutil.which("sbatch", path=environ["PATH"])
        (folder / "sbatch").write_text(script.format(program=program, folder=folder))
        (folder / "sbatch").chmod(0o755)
        self.commands.environ = {**environ, "PATH": f"{folder}:{environ['PATH']}"}

    def fill(self) -> None:
        """Leave no room on any node."""
        self.cluster.run(
            "sbatch", "--nodes=8", "--exclusive", "--mem=0", "--output=/dev/null", "--wrap=sleep 99"
        )

    def processes_of(self, ref: EngineRef) -> list[str]:
        """The commands of what still runs in the name of an attempt."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                if f"MUSTER_ATTEMPT={ref}".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text())
        return found

    def count_calls(self, folder: Path) -> Callable[[], Counter[str]]:
        """Count the commands that the engine runs from now on."""
        environ, log = self.cluster.environ, folder / "calls"
        for name in ("sbatch", "squeue", "sinfo", "scancel", "scontrol"):
            program = shutil.which(name, path=environ["PATH"])
            script = f'#!/bin/sh\necho {name} >> {log}\nexec {program} "$@"\n'
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        self.commands.environ = {**environ, "PATH": f"{folder}:{environ['PATH']}"}
        return lambda: Counter(log.read_text().split())
