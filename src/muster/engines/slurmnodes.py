"""The nodes and partitions of a Slurm cluster: how they are, and how muster wants them to be.

A look reads all of them with two commands, whatever their number. `slurmchanges.py` tells what is
to be changed; each change is one command, for many nodes at once.

Slurm forgets partitions that were made by `scontrol` when its controller starts again. They are
missed at the next look, and made once more.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from muster.domain.errors import EngineUnavailable
from muster.domain.pool import PUBLIC_PARTITION, Host
from muster.engines.engine import Cluster, ClusterWish, HostCondition, HostUsage
from muster.engines.slurmchanges import (
    Change,
    locked_by,
    marks_of,
    members_of,
    partition_name,
    plan_changes,
)
from muster.engines.slurmcommands import SlurmCluster, SlurmCommands, SlurmNode

CHANGES_MAX: Final = 32  # at one look; the next one goes on
CHANGES_SECONDS_MAX: Final = 5.0  # likewise
CONFIG_SECONDS: Final = 60.0  # between two looks at Slurm's settings
TAKEN_BACK_SECONDS: Final = 15.0  # until a node that is taken back must have answered
_NOT_HEARD_YET: Final = "unknown"  # the controller has just come up: no reason to refuse work
_DOES_NOT_ANSWER: Final = "*"
_UP: Final = "up"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """How busy a node is, as Slurm's daemon there tells from time to time."""

    cpu_load: float | None  # tasks that run or would; the mean of some minutes
    memory_free_mib: int | None  # of the whole machine; what caches files counts as used


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that one look has seen."""

    cluster: SlurmCluster
    loads: Mapping[str, NodeLoad] = field(default_factory=dict)  # by node
    closed: Mapping[str, str] = field(default_factory=dict)  # states of partitions not up


class SlurmNodes:
    """What is known of a cluster's nodes, and what is to be done with them."""

    def __init__(
        self,
        commands: SlurmCommands,
        *,
        partition: str | None = None,
        may_change_partitions: bool = False,
        known: Path | None = None,
    ) -> None:
        """`partition`: where public work goes; `known`: where the last view is kept for a start."""
        self._commands = commands
        self._partition = partition
        self._may_change_partitions = may_change_partitions
        self._known = known
        self._wish: ClusterWish | None = None  # nobody has said anything yet: nothing is changed
        self._config_read_at: float | None = None  # monotonic
        self._risk = ""  # what Slurm's settings would do to the partitions that muster makes
        self._failures: dict[Change, str] = {}  # of changes that are still to be made
        self._taken_back: dict[str, float] = {}  # hosts, and when; monotonic
        self._changing = asyncio.Lock()
        self.view: View | None = None
        self._cluster: Cluster | None = None  # what the view comes to
        self._told: tuple[object, Mapping[str, HostCondition]] = (None, {})
        self._before = read_known(known) if known is not None else None

    async def look(self) -> bool:
        """Read everything again and set right what is not as wished; whether anything is new.

        Raises:
            EngineUnavailable: Slurm does not answer; what was known stays.
        """
        async with self._changing:
            before = self._seen
            await self._read()
            await self._read_config()
            await self._change()
            return self._seen != before

    def arrange(self, wish: ClusterWish) -> bool:
        """Take in what is wished from now on; whether that is anything new."""
        is_new = wish != self._wish
        self._wish = wish
        return is_new

    async def change(self) -> None:
        """Make the cluster as it is wished for, as far as that can be done now."""
        async with self._changing:
            await self._change()

    async def _change(self) -> None:
        if self.view is None or self._wish is None:
            return
        changes = plan_changes(
            self.view.cluster, self._wish, may_change_partitions=self._may_change_partitions
        )
        planned = set(changes)
        self._failures = {c: why for c, why in self._failures.items() if c in planned}
        began = time.monotonic()
        # Those that failed come last: they hold up nothing else.
        for change in sorted(changes, key=self._failures.__contains__)[:CHANGES_MAX]:
            await self._carry_out(change)
            if time.monotonic() - began > CHANGES_SECONDS_MAX:
                break  # the next look is due, and goes on with the others
        if changes:
            await self._read()

    async def _carry_out(self, change: Change) -> None:
        try:
            try:
                await self._commands.change(change.verb, *change.arguments)
            except EngineUnavailable:
                if change.verb != "create":
                    raise
                # One whose making failed halfway is there, without nodes, and shown to nobody.
                await self._commands.change("update", *change.arguments)
        except EngineUnavailable as error:
            if self._failures.get(change) != error.message:
                log.warning(
                    "slurm_not_changed", change=" ".join(change.arguments), why=error.message
                )
            self._failures[change] = error.message
        else:
            self._failures.pop(change, None)
            if change.is_resume:
                self._taken_back |= dict.fromkeys(change.hosts, time.monotonic())
            log.info("slurm_changed", verb=change.verb, change=" ".join(change.arguments))

    async def _read(self) -> None:
        cluster = await self._commands.read_cluster()
        view = parse_loads(await self._commands.read_loads(), cluster)
        has_grown = self.view is None or inventory_of(self.view.cluster) != inventory_of(cluster)
        self.view = view
        self._cluster = cluster_of(cluster)
        if has_grown and self._known is not None:
            await asyncio.to_thread(keep_known, cluster, self._known)

    async def _read_config(self) -> None:
        if not self._may_change_partitions:
            return
        now = time.monotonic()
        if self._config_read_at is None or now - self._config_read_at >= CONFIG_SECONDS:
            self._config_read_at = now
            try:
                risk = risk_of(await self._commands.read_config())
            except EngineUnavailable:
                return  # nodes and partitions were read: this alone is no reason to do without
            if risk and not self._risk:
                log.warning("slurm_would_forget_partitions", why=risk)
            self._risk = risk

    @property
    def _seen(self) -> object:
        """What others are to hear of: not the loads, which change at each look."""
        if self.view is None:
            return None
        return self.view.cluster, self.view.closed, self._risk, self._unusable()

    def cluster(self) -> Cluster | None:
        """As `engine.Engine.observe_cluster` promises."""
        return self._cluster and replace(self._cluster, unusable=self._unusable())

    def conditions(self, silence: str) -> Mapping[str, HostCondition]:
        """Of each node; `silence` says why nothing is known any more, or is ""."""
        if self.view is None:  # it has not answered since the start
            before = self._before.nodes if silence and self._before is not None else ()
            return {node.name: condition_of(node, silence=silence) for node in before}
        now = time.monotonic()
        back = {host for host, at in self._taken_back.items() if now - at < TAKEN_BACK_SECONDS}
        notes = {host: why for change, why in self._failures.items() for host in change.hosts}
        # Asked at each pass, of thousands of nodes: told again as long as nothing is new.
        wish = self._wish or ClusterWish()
        basis = (self.view, silence, back, notes, wish.made, self._risk)
        if basis != self._told[0]:
            told = self._conditions(self.view, silence, back, notes)
            if self._risk:
                told |= with_note(told, frozenset().union(*wish.made.values()), self._risk)
            self._told = basis, told
        return self._told[1]

    @staticmethod
    def _conditions(
        view: View, silence: str, back: Collection[str], notes: Mapping[str, str]
    ) -> dict[str, HostCondition]:
        return {
            node.name: condition_of(
                node,
                silence=silence,
                note=notes.get(node.name, ""),
                is_awaited=node.name in back,
            )
            for node in view.cluster.nodes
        }

    def usage(self, hosts: Iterable[str]) -> dict[str, HostUsage]:
        """How busy these hosts are, as far as Slurm tells."""
        if self.view is None:
            return {}
        by_name = {node.name: node for node in self.view.cluster.nodes}
        loads = self.view.loads
        return {
            host: usage_of(by_name[host], loads[host])
            for host in hosts
            if host in by_name and host in loads
        }

    def partition_of(self, pool_id: str) -> str | None:
        """Where jobs of a pool go; None: where those of the public one go."""
        if self._wish is None:
            return None
        if pool_id in self._wish.made and self._may_change_partitions:
            return partition_name(pool_id)
        return self._wish.partitions.get(pool_id)

    def _unusable(self) -> dict[str, str]:
        if self.view is None:
            return {}
        wish = self._wish or ClusterWish()
        found = {}
        wanted = dict(wish.partitions)
        if public := self._partition or self.view.cluster.default_partition:
            wanted[PUBLIC_PARTITION] = public
        if self._may_change_partitions:
            # Those that are missing are about to be made.
            names = {pool_id: partition_name(pool_id) for pool_id in wish.made}
            wanted |= {id_: name for id_, name in names.items() if name in self.view.closed}
        for pool_id, name in wanted.items():
            if why := _why_closed(name, self.view):
                found[pool_id] = why
        for change, why in self._failures.items():
            if not change.hosts:
                found |= dict.fromkeys(change.pools & wish.made.keys(), _not_made(why))
        return found


def cluster_of(seen: SlurmCluster) -> Cluster:
    """In the terms of every engine."""
    return Cluster(
        hosts=tuple(host_of(node) for node in seen.nodes),
        partitions={name: tuple(hosts) for name, hosts in members_of(seen).items()},
        public_partition=seen.default_partition,
        marked=frozenset(marks_of(seen)),
    )


def _why_closed(name: str, view: View) -> str:
    if name not in view.cluster.partitions:
        return (
            f"Slurm has no partition {name!r} any more, or no nodes in it. Its operator can make it"
            " again; `sinfo` shows those that there are."
        )
    if state := view.closed.get(name):
        return (
            f"Slurm's partition {name!r} is {state}: it starts no jobs. Its operator can open it:"
            f" `scontrol update PartitionName={name} State=UP`."
        )
    return ""


def _not_made(why: str) -> str:
    return f"Its partition could not be made or changed. {why}"


def host_of(node: SlurmNode) -> Host:
    condition = condition_of(node)
    return Host(
        name=node.name,
        cpu_millis=node.cpu_count * 1000,
        memory_mib=node.memory_mib,
        card_kind=node.card_kind,
        card_model=node.card_model,
        cards=tuple(range(node.card_count)),
        is_up=condition.is_up,
        message=condition.message,
    )


def condition_of(
    node: SlurmNode, *, silence: str = "", note: str = "", is_awaited: bool = False
) -> HostCondition:
    """A node that was drained because it is locked is as well as any: its lock says the rest.

    Args:
        node: as Slurm tells of it.
        silence: why nothing is known any more; "": it is.
        note: what could not be changed of it.
        is_awaited: it was taken back just now; Slurm counts it as silent until it has answered.
    """
    if silence:
        return HostCondition(is_up=False, message=silence)
    if is_awaited:
        node = replace(node, state=node.state.replace(_DOES_NOT_ANSWER, ""))
    is_only_locked = locked_by(node) is not None and _DOES_NOT_ANSWER not in node.state
    if node.is_up or is_only_locked or node.state == _NOT_HEARD_YET:
        about = "drained" if node.is_up else "taken back"
        told = f"Slurm's node {node.name!r} could not be {about}. {note}" if note else ""
        return HostCondition(is_up=True, message=told)
    return HostCondition(is_up=False, message=node.message)


def with_note(
    told: Mapping[str, HostCondition], hosts: Collection[str], note: str
) -> dict[str, HostCondition]:
    """Those of the hosts that nothing else is said of, and the note."""
    return {
        host: replace(told[host], message=note)
        for host in hosts
        if host in told and not told[host].message
    }


def risk_of(config: Mapping[str, str]) -> str:
    """What an operator is to know before the next `scontrol reconfigure`; "": nothing."""
    if "keeppartinfo" in config.get("ReconfigFlags", "").lower():
        return ""
    return (
        "`scontrol reconfigure` would end the jobs of this pool: Slurm forgets the partitions that"
        " muster makes. Set ReconfigFlags=KeepPartInfo in slurm.conf, and reconfigure while no"
        " job of such a pool runs."
    )


def inventory_of(cluster: SlurmCluster) -> object:
    """What there is, without how it is just now."""
    return cluster.partitions, [
        (n.name, n.partitions, n.cpu_count, n.memory_mib, n.card_kind, n.card_model, n.card_count)
        for n in cluster.nodes
    ]


def find_missing_partition(arguments: Iterable[str], view: View | None) -> str | None:
    """The partition that a submit names and the cluster does not have; None where all is well."""
    if view is None:
        return None
    for argument in arguments:
        name = argument.removeprefix("--partition=")
        if name != argument and name not in view.cluster.partitions:
            return name
    return None


# ---------------------------------------------------------------- how busy they are


def parse_loads(text: str, cluster: SlurmCluster) -> View:
    """What `sinfo --Node` says in the format of `SlurmCommands.read_loads`."""
    loads, closed = {}, {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 5:
            continue
        name, partition, availability, load, free = fields
        loads[name] = NodeLoad(cpu_load=_number(load), memory_free_mib=_whole(free))
        if availability != _UP:
            closed[partition.removesuffix("*")] = availability
    return View(cluster=cluster, loads=loads, closed=closed)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # N/A


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def usage_of(node: SlurmNode, load: NodeLoad) -> HostUsage:
    """In the terms of every engine; what Slurm does not tell, as how busy cards are, is None."""
    if _DOES_NOT_ANSWER in node.state:
        return HostUsage()  # what it told last is long past
    cpu_percent = None
    if load.cpu_load is not None and node.cpu_count:
        cpu_percent = min(100.0, 100 * load.cpu_load / node.cpu_count)
    used = None
    # A node may be configured with less memory than its machine has.
    if load.memory_free_mib is not None and load.memory_free_mib <= node.memory_mib:
        used = node.memory_mib - load.memory_free_mib
    return HostUsage(
        cpu_percent=cpu_percent, memory_used_mib=used, memory_total_mib=node.memory_mib
    )


# ---------------------------------------------------------------- what is known at a start


def read_known(file: Path) -> SlurmCluster | None:
    """The cluster as it was when last seen; blocks."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=SlurmCluster)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def keep_known(cluster: SlurmCluster, file: Path) -> None:
    """Keep it for a start without Slurm; blocks."""
    draft = file.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(cluster))
    draft.replace(file)
