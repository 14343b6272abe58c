"""What is submitted of an attempt: the arguments of `sbatch`, and the files that the nodes need.

Everything here blocks: call it in a thread.
"""

import hashlib
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from muster.domain.workload import PRIORITY_MAX
from muster.engines import environment, porter, shim, slurmasking, slurmjob
from muster.engines.attemptfiles import prepare
from muster.engines.engine import Launch
from muster.engines.slurmcommands import COMMENT_PREFIX, name_of
from muster.engines.slurmfiles import Group

TIME_LIMIT_MARGIN_MINUTES: Final = 5  # Slurm's own limit is the net below the platform's
# Between two priorities of muster. Small beside what fair share and age weigh on most clusters, so
# that jobs of muster keep their place among those of others, and yet go in their order.
NICE_PER_PRIORITY: Final = 100
LEAST_MEMORY_MIB: Final = 256
FETCHED_BYTES_PER_MINUTE: Final = 5 * 60 << 20  # at least, by a node: Slurm's limit allows for that
_LEAST_TIME: Final = "--time-min="
PROGRAMS_FOLDER: Final = ".programs"
NPU_ADDRESSES_FILE: Final = "/etc/hccn.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmOptions:
    """What a cluster asks of those who use it."""

    partition: str | None = None  # None: the pool's own, else the default, else one with the nodes
    may_change_partitions: bool = False  # make some for pools that are made over the API
    known: Path | None = None  # where the cluster is kept for a start without Slurm
    account: str | None = None
    qos: str | None = None
    python: str = "python3"  # on the nodes; 3.11 or later
    npu_addresses: str = NPU_ADDRESSES_FILE  # on the nodes; `%n` stands for the node's name
    usage_seconds: float = 5.0  # between two looks of a node at what its tasks use
    reuse_seconds: int = 30  # for which a Slurm job may take further attempts; 0: it takes none

    def arguments(self) -> Iterator[str]:
        if self.account:
            yield f"--account={self.account}"
        if self.qos:
            yield f"--qos={self.qos}"


def put_program(jobs_folder: Path) -> Path:
    """Where the nodes find their program: under its digest, as queued jobs keep to theirs."""
    sources = [Path(str(module.__file__)) for module in (shim, slurmasking, porter, slurmjob)]
    texts = [source.read_bytes() for source in sources]
    digest = hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]
    folder = jobs_folder / PROGRAMS_FOLDER / digest
    folder.mkdir(parents=True, exist_ok=True)
    for source, text in zip(sources, texts, strict=True):
        draft = folder / f".{source.name}.{os.getpid()}"
        draft.write_bytes(text)
        draft.replace(folder / source.name)
    return folder / Path(slurmjob.__file__).name


def lay_out(
    launch: Launch,
    jobs_folder: Path,
    program: Path,
    options: SlurmOptions,
    *,
    partition: str | None,
    addresses: Mapping[str, str],
    wait_seconds: float,
) -> None:
    """Make the job folder, and in it what is to be submitted.

    Args:
        launch: the attempt.
        jobs_folder: where its folder is.
        program: what the nodes run.
        options: of the cluster.
        partition: where it goes; None: Slurm decides.
        addresses: of nodes, by name; one that is missing is asked for when the job runs.
        wait_seconds: for which its job then waits for another attempt to run.
    """
    prepare(launch, jobs_folder, master_port=0)
    folder = launch.folder.absolute()
    script = folder / "slurm-batch.sh"
    command = slurmjob.command_line(options.python, program.parent, "batch", folder)
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    groups = group_tasks(launch)
    step_options = task_options(launch, max(len(group.tasks) for group in groups))
    submit = [
        f"--job-name={name_of(launch.attempt_id)}",
        f"--comment={COMMENT_PREFIX}{launch.attempt_id}",
        "--no-requeue",  # the platform starts a further attempt, on nodes that are up
        f"--nodes={len(groups)}",
        f"--ntasks={len(groups)}",
        "--ntasks-per-node=1",
        f"--chdir={folder}",
        f"--output={folder / 'slurm.log'}",
        "--open-mode=append",
        *step_options,
        *options.arguments(),
        *nice(launch.priority),
        *([f"--partition={partition}"] if partition else []),
        *([f"--nodelist={','.join(group.host for group in groups)}"] if launch.host_names else []),
        *time_limit(launch.time_limit_ms, launch.awaited_bytes),
        str(script),
    ]
    first = launch.tasks[0]
    shim.write_json(
        str(folder / slurmjob.PLAN_FILE),
        {
            "attempt_id": launch.attempt_id,
            "submit": submit,
            "groups": msgspec.to_builtins(groups),
            "addresses": {
                group.host: addresses[group.host] for group in groups if group.host in addresses
            },
            "card_kind": first.card_kind or "",
            "cards_per_task": len(first.cards),
            "step_options": step_options,
            "usage_seconds": options.usage_seconds,
            "reuse_seconds": options.reuse_seconds if may_be_followed(launch, groups) else 0,
            "wait_seconds": wait_seconds,
            "npu_addresses": options.npu_addresses,
            "awaits_inputs": launch.awaited_bytes > 0,
            "result_folders": launch.result_folders,
            "result_bytes": launch.result_bytes,
            "rank_table": (
                str(environment.rank_table_file(folder)) if environment.has_npus(launch) else ""
            ),
        },
    )


def may_be_followed(launch: Launch, groups: Sequence[Group]) -> bool:
    """Its Slurm job may run another attempt after it, or it may itself follow another.

    What serves, or is worked in, may last for days: its job is to bear its own name. A fetch may
    take long, too.
    """
    is_short = not launch.serves and launch.work_folder is None and not launch.awaited_bytes
    return len(groups) == 1 and is_short


def group_tasks(launch: Launch) -> list[Group]:
    """The tasks of each node, in the order of their first ones."""
    groups: dict[str, list[int]] = {}
    for task in launch.tasks:
        where = launch.host_names[task.index] if launch.host_names else task.node_name
        groups.setdefault(where, []).append(task.index)
    return [
        Group(host=where if launch.host_names else "", tasks=tasks)
        for where, tasks in groups.items()
    ]


def task_options(launch: Launch, tasks_per_node: int) -> list[str]:
    """What each node is asked for. Where nodes get unequal numbers, as the fullest one needs."""
    first = launch.tasks[0]
    cpus, memory_mib = 1, LEAST_MEMORY_MIB
    if launch.task is not None:
        cpus, memory_mib = math.ceil(launch.task.cpu_millis / 1000), launch.task.memory_mib
    options = [
        f"--cpus-per-task={max(1, cpus) * tasks_per_node}",
        f"--mem={max(1, memory_mib) * tasks_per_node}M",
    ]
    if first.cards and first.card_kind is not None:
        options.append(f"--gres={first.card_kind}:{len(first.cards) * tasks_per_node}")
    return options


def nice(priority: int) -> list[str]:
    """The highest priority stands where any job of the server's user would, the others behind.

    Not `--priority`: that is for Slurm's operators alone, and puts age and fair share aside.
    """
    lower = (PRIORITY_MAX - priority) * NICE_PER_PRIORITY
    return [f"--nice={lower}"] if lower > 0 else []


def time_limit(time_limit_ms: int | None, awaited_bytes: int) -> list[str]:
    """That of the platform counts from the start of the tasks, and Slurm's from that of the job."""
    if time_limit_ms is None:
        return []
    least = math.ceil(time_limit_ms / 60_000) + TIME_LIMIT_MARGIN_MINUTES
    if not awaited_bytes:
        return [f"--time={least}"]
    return [
        f"--time={least + math.ceil(awaited_bytes / FETCHED_BYTES_PER_MINUTE)}",
        f"{_LEAST_TIME}{least}",
    ]


def without_fetch_time(submit: Sequence[str]) -> list[str] | None:
    """For a partition that allows no more than the limit itself; None: there is no more."""
    least = next((part for part in submit if part.startswith(_LEAST_TIME)), None)
    if least is None:
        return None
    time = f"--time={least.removeprefix(_LEAST_TIME)}"
    return [time if part.startswith("--time=") else part for part in submit if part != least]
