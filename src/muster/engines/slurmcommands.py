"""The commands of Slurm: each with a time-out, and what they answer as values.

One that hangs, is missing or cannot reach its controller raises EngineUnavailable: nothing is known
then. Text in formats of our own is asked for, not JSON: it is the same in every version, and a
fraction of the size.

Source: sbatch(1), squeue(1), sinfo(1), scancel(1), scontrol(1), Slurm 22.05.
"""

import asyncio
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Final

from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.placement import CardKind
from muster.engines.slurmcall import call

# The commands themselves wait for up to 20 s and more; nothing here may wait as long.
TIMEOUT_SECONDS: Final = 10.0
CALLS_AT_ONCE: Final = 4  # a controller serves a few fast callers better than many
SUBMITS_AT_ONCE: Final = 8  # beside them: a burst of submits holds up no question
MESSAGE_CHARACTERS_MAX: Final = 300
NAME_PREFIX: Final = "muster-"
COMMENT_PREFIX: Final = "muster:"

# What sbatch says of a job that this cluster, as it is configured, can never run. The rest passes.
_REFUSALS: Final = (
    "Requested node configuration is not available",
    "Node count specification invalid",
    "Invalid node name",
    "Invalid generic resource",
    "Requested time limit is invalid",
    "time limit exceeds",
    "More processors requested than permitted",
    "Memory specification can not be satisfied",
    "Memory required by task is not available",
    "CPU count per node can not be satisfied",
    "Invalid account",
    "Invalid qos",
    "not permitted to use this partition",
    "Requested partition configuration not available",
)
# By what a refusal speaks of: the setting that it comes from, or what is meant.
_ADVICE: Final[Mapping[str, str]] = {
    "account": ". Its account is the setting slurm_account.",
    "qos": ". Its quality of service is the setting slurm_qos.",
    "node count": ". Its partition allows a job fewer nodes, or more: `scontrol show partition`.",
    "time limit": ". Its partition allows a job less time: `scontrol show partition`.",
}
# A command whose munge is away, or has another key than the controller's.
_MUNGE_TROUBLE: Final = ("munge", "authentication", "invalid credential", "zero bytes")
_MUNGE_HINT: Final = (
    ". Is munged running here, with the same /etc/munge/munge.key and time as on the controller?"
    " `munge -n | ssh CONTROLLER unmunge` tells."
)
_VARIABLES: Final = ("PATH", "HOME", "LANG", "SLURM_CONF", "LD_LIBRARY_PATH", "TZ")
_SEPARATOR: Final = "|"
SILENT: Final = frozenset({"", "None", "(null)"})  # reasons that tell nothing
_GRES: Final = re.compile(r"(gpu|npu)(?::([^:,()]+))?:(\d+)")

# States of sinfo in which a node takes jobs; each may carry marks at its end.
_UP: Final = frozenset({"idle", "mixed", "allocated", "completing", "planned", "blocked"})
_MARKS: Final = "*~#!%$@^-+"
_DOES_NOT_ANSWER: Final = "*"

REQUEUED: Final = "REQUEUED"  # ours: it ran, and waits to run again
NODES_AWAY: Final = "NODES_AWAY"  # ours: it waits for nodes that are down or drained
NOT_LAUNCHED: Final = "NOT_LAUNCHED"  # ours: it was given nodes, and cancelled before it began
# States of squeue that a job does not leave any more.
PREEMPTED: Final = frozenset({"PREEMPTED", REQUEUED})
NODE_FAILURES: Final = frozenset({"NODE_FAIL", "BOOT_FAIL"})
VANISHED: Final = PREEMPTED | NODE_FAILURES | {NODES_AWAY, NOT_LAUNCHED}
OVER: Final = VANISHED | {
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "OUT_OF_MEMORY",
    "DEADLINE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """A job as squeue tells of it. Its id alone names nothing: ids are handed out again."""

    id: str
    name: str
    state: str  # as Slurm spells it: PENDING, RUNNING, COMPLETING ...
    nodes: str = ""  # that it was given; none: it has only waited
    reason: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in OVER


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmNode:
    """A node as sinfo tells of it."""

    name: str
    partitions: tuple[str, ...]  # in the order of sinfo
    cpu_count: int
    memory_mib: int
    state: str
    reason: str = ""  # why it is down or drained
    card_kind: CardKind | None = None
    card_model: str = ""
    card_count: int = 0
    address: str = ""  # as its configuration says: a name, or a number

    @property
    def is_up(self) -> bool:
        return self.state.rstrip(_MARKS) in _UP and _DOES_NOT_ANSWER not in self.state

    @property
    def message(self) -> str:
        """Why it is not up; "" where it is."""
        if self.is_up:
            return ""
        why = self.reason if self.reason not in ("", "none") else "Slurm gives no reason"
        return f"Slurm says that the node {self.name!r} is {self.state.rstrip(_MARKS)}: {why}."


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmCluster:
    nodes: tuple[SlurmNode, ...]
    partitions: tuple[str, ...]
    default_partition: str | None

    @property
    def addresses(self) -> dict[str, str]:
        """Of its nodes, by name."""
        return {node.name: node.address for node in self.nodes if node.address}


@dataclass(slots=True)
class SlurmCommands:
    """Runs the commands that lie in `folder`, or on the PATH."""

    folder: Path | None = None
    timeout_seconds: float = TIMEOUT_SECONDS
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CALLS_AT_ONCE))
    _submits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SUBMITS_AT_ONCE))
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(
            CALLS_AT_ONCE + SUBMITS_AT_ONCE, thread_name_prefix="slurm-command"
        )
    )

    async def submit(self, arguments: Sequence[str]) -> str:
        """Submit a job; return its id.

        Raises:
            EngineRefused: it can never run here.
            EngineUnavailable: it may have been submitted, or not.
        """
        answer = await self._run("sbatch", "--parsable", *arguments, may_refuse=True)
        return answer.strip().partition(";")[0]

    async def list_jobs(self, name: str) -> list[SlurmJob]:
        """Every job of a name that Slurm still knows, ended ones too."""
        return parse_jobs((await self.read_jobs("--name", name)).splitlines())

    async def read_jobs(self, *which: str) -> str:
        """Every job of ours, as `parse_jobs` and `JobTable` read it."""
        fields = _SEPARATOR.join(("%i", "%j", "%T", "%N", "%r"))
        return await self._run(
            "squeue", "--noheader", "--me", "--all", "--states=all", "-o", fields, *which
        )

    async def cancel(self, name: str, job_id: str | None = None) -> None:
        """End the jobs of a name; with an id, only that one, and only if it has the name."""
        await self._run("scancel", "--quiet", f"--name={name}", *([job_id] if job_id else []))

    async def rename(self, job_id: str, name: str) -> None:
        """Give a job the name and the comment of the attempt that it runs now."""
        comment = f"Comment={COMMENT_PREFIX}{attempt_of(name)}"
        await self._run("scontrol", "update", f"JobId={job_id}", f"JobName={name}", comment)

    async def read_cluster(self) -> SlurmCluster:
        fields = _SEPARATOR.join(("%N", "%P", "%c", "%m", "%T", "%G", "%o", "%E"))
        return parse_cluster(
            await self._run("sinfo", "--noheader", "--Node", "--all", "-o", fields)
        )

    async def read_loads(self) -> str:
        """A line a node and partition: both, whether the partition is up, CPU load, free MiB."""
        fields = _SEPARATOR.join(("%N", "%P", "%a", "%O", "%e"))
        return await self._run("sinfo", "--noheader", "--Node", "--all", "-o", fields)

    async def change(self, verb: str, *arguments: str) -> None:
        """Change nodes or partitions.

        Raises:
            EngineUnavailable: nothing was changed, or nobody knows; the message says why.
        """
        await self._run("scontrol", verb, *arguments)

    async def read_config(self) -> dict[str, str]:
        """The settings that the controller runs with, by their names."""
        lines = (await self._run("scontrol", "show", "config")).splitlines()
        pairs = (line.split("=", 1) for line in lines if "=" in line)
        return {name.strip(): value.strip() for name, value in pairs}

    async def read_version(self) -> str:
        return (await self._run("sinfo", "--version")).strip()

    async def _run(self, name: str, *arguments: str, may_refuse: bool = False) -> str:
        program = str(self.folder / name) if self.folder else name
        async with self._submits if may_refuse else self._gate:
            try:
                answer = await call(
                    self._threads,
                    [program, *arguments],
                    # A job inherits it: nothing of the server's own.
                    {key: self.environ[key] for key in _VARIABLES if key in self.environ},
                    timeout_seconds=self.timeout_seconds,
                )
            except TimeoutError as error:
                raise EngineUnavailable(
                    f"Slurm's {name} did not answer within {self.timeout_seconds:g} s."
                    " Is its controller up? `scontrol ping` tells."
                ) from error
            except OSError as error:
                raise EngineUnavailable(
                    f"Slurm's {name} cannot be run here ({error.strerror})."
                    " Install Slurm's commands, or set slurm_commands to the folder they are in."
                ) from error
        if answer.exit_code:
            raise _failure(name, answer.problem, may_refuse=may_refuse)
        return answer.out


def _failure(name: str, text: str, *, may_refuse: bool) -> EngineRefused | EngineUnavailable:
    said = _one_line(text)[:MESSAGE_CHARACTERS_MAX] or "nothing"
    if may_refuse and any(words.lower() in text.lower() for words in _REFUSALS):
        advice = next((advice for word, advice in _ADVICE.items() if word in text.lower()), "")
        return EngineRefused(f"Slurm refuses the job: {said}{advice}")
    hint = _MUNGE_HINT if any(words in text.lower() for words in _MUNGE_TROUBLE) else ""
    return EngineUnavailable(f"Slurm's {name} failed; it says: {said}{hint}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def parse_jobs(lines: Iterable[str]) -> list[SlurmJob]:
    """What `squeue` has of jobs whose name is one of ours."""
    found = []
    for line in lines:
        fields = line.strip().split(_SEPARATOR, 4)
        if len(fields) == 5 and fields[1].startswith(NAME_PREFIX):
            job_id, name, *words = fields
            state, nodes, reason = map(intern, words)  # of ten thousand lines, few are others
            found.append(SlurmJob(id=job_id, name=name, state=state, nodes=nodes, reason=reason))
    return found


def parse_cluster(text: str) -> SlurmCluster:
    """What `sinfo --Node` says: a line a node and partition; the default one bears a `*`."""
    nodes: dict[str, list[str]] = {}
    members: dict[str, set[str]] = {}
    default = None
    for line in text.splitlines():
        fields = line.strip().split(_SEPARATOR, 7)
        if len(fields) < 8:
            continue
        partition = fields[1].removesuffix("*")
        if partition != fields[1]:
            default = partition
        nodes[fields[0]] = fields
        members.setdefault(partition, set()).add(fields[0])
    return SlurmCluster(
        nodes=tuple(
            _node(fields, tuple(name for name, of in members.items() if fields[0] in of))
            for fields in nodes.values()
        ),
        partitions=tuple(members),
        default_partition=default,
    )


def _node(fields: Sequence[str], partitions: tuple[str, ...]) -> SlurmNode:
    name, _, cpus, memory, state, gres, address, reason = fields
    kind, model, count = parse_gres(gres)
    return SlurmNode(
        name=name,
        partitions=partitions,
        cpu_count=int(cpus.rstrip("+")),
        memory_mib=int(memory.rstrip("+")),
        state=state.lower(),
        reason=reason,
        card_kind=kind,
        card_model=model,
        card_count=count,
        address=address,
    )


def parse_gres(text: str) -> tuple[CardKind | None, str, int]:
    """(kind, model, count) of `gpu:h100:4(S:0-1),gpu:h100:4(S:2-3)`; GPUs before NPUs."""
    found = _GRES.findall(text)
    for kind in CardKind:
        counts = [int(count) for name, _, count in found if name == kind]
        if counts:
            model = next((model for name, model, _ in found if name == kind and model), "")
            return kind, model, sum(counts)
    return None, "", 0


def name_of(attempt_id: str) -> str:
    """What the Slurm job of an attempt is called."""
    return NAME_PREFIX + attempt_id


def attempt_of(name: str) -> str:
    return name.removeprefix(NAME_PREFIX)


def partition_for(hosts: Collection[str], cluster: SlurmCluster, wanted: str | None) -> str | None:
    """The partition to submit to; None leaves it to Slurm.

    Args:
        hosts: the nodes that the job is to run on; none: Slurm chooses.
        cluster: as last seen.
        wanted: by a setting; it goes first, then the default one, then the first that has them all.
    """
    if wanted is not None or not hosts:
        return wanted
    by_name = {node.name: node for node in cluster.nodes}
    if not all(host in by_name for host in hosts):
        return None
    common = [
        name
        for name in cluster.partitions
        if all(name in by_name[host].partitions for host in hosts)
    ]
    if not common or cluster.default_partition in common:
        return cluster.default_partition
    return common[0]
