"""The nodes and partitions of a Slurm cluster: how they are, and how muster wants them to be.

A look reads all of them with two commands, whatever their number. `plan_changes` compares what was
seen with what is wished for, and is pure; each change is one command, for many nodes at once.

What muster changes bears its mark, with the id of a pool: a partition of its own is named after the
pool, and a node that it drains says in its reason which pool has locked it. What others have made
or drained is left alone, and so is what another muster has on the same cluster.

Slurm forgets partitions that were made by `scontrol` when its controller starts again. They are
missed at the next look, and made once more.
"""

import asyncio
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from muster.domain.errors import EngineUnavailable
from muster.domain.pool import PUBLIC_PARTITION, Host
from muster.engines.engine import Cluster, ClusterWish, HostCondition, HostUsage
from muster.engines.slurmcommands import SlurmCluster, SlurmCommands, SlurmNode

PARTITION_PREFIX: Final = "muster-"  # of those that muster makes; the id of the pool follows
CHANGES_MAX: Final = 32  # at one look; the next one goes on
CHANGES_SECONDS_MAX: Final = 5.0  # likewise
RESUME: Final = "State=RESUME"
TAKEN_BACK_SECONDS: Final = 15.0  # until a node that is taken back must have answered
_LOCKED: Final = "muster: locked in pool {pool_id}"
_LOCKED_BY: Final = re.compile(r"muster: locked in pool (\S+)")
_NOT_HEARD_YET: Final = "unknown"  # the controller has just come up: no reason to refuse work
_DRAINED: Final = frozenset({"drained", "draining"})
_DOES_NOT_ANSWER: Final = "*"
_MARKS: Final = "*~#!%$@^-+"
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


@dataclass(frozen=True, slots=True)
class Change:
    """One command of `scontrol`, and what it is for."""

    verb: str
    arguments: tuple[str, ...]
    pools: frozenset[str]  # who waits for it
    hosts: frozenset[str] = frozenset()  # that it drains or takes back

    @property
    def is_resume(self) -> bool:
        return RESUME in self.arguments


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
        self._failures: dict[Change, str] = {}  # of changes that are still to be made
        self._taken_back: dict[str, float] = {}  # hosts, and when; monotonic
        self._changing = asyncio.Lock()
        self.view: View | None = None
        self._cluster: Cluster | None = None  # what the view comes to
        self._told: tuple[object, Mapping[str, HostCondition]] = (None, {})

    async def look(self) -> bool:
        """Read everything again and set right what is not as wished; whether anything is new.

        Raises:
            EngineUnavailable: Slurm does not answer; what was known stays.
        """
        async with self._changing:
            before = self._seen
            await self._read()
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

    @property
    def _seen(self) -> object:
        """What others are to hear of: not the loads, which change at each look."""
        if self.view is None:
            return None
        return self.view.cluster, self.view.closed, self._unusable()

    def cluster(self) -> Cluster | None:
        """As `engine.Engine.observe_cluster` promises."""
        return self._cluster and replace(self._cluster, unusable=self._unusable())

    def conditions(self, silence: str) -> Mapping[str, HostCondition]:
        """Of each node; `silence` says why nothing is known any more, or is ""."""
        if self.view is None:
            return {}
        now = time.monotonic()
        back = {host for host, at in self._taken_back.items() if now - at < TAKEN_BACK_SECONDS}
        notes = {host: why for change, why in self._failures.items() for host in change.hosts}
        # Asked at each pass, of thousands of nodes: told again as long as nothing is new.
        basis = (self.view, silence, back, notes)
        if basis != self._told[0]:
            self._told = basis, self._conditions(self.view, silence, back, notes)
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
        partitions={name: tuple(hosts) for name, hosts in _members(seen).items()},
        public_partition=seen.default_partition,
        marked=frozenset(_marks(seen)),
    )


def _members(seen: SlurmCluster) -> dict[str, list[str]]:
    """The nodes of each partition."""
    members: dict[str, list[str]] = {name: [] for name in seen.partitions}
    for node in seen.nodes:
        for name in node.partitions:
            members[name].append(node.name)
    return members


def partition_name(pool_id: str) -> str:
    """What muster calls the partition that it makes for a pool."""
    return PARTITION_PREFIX + pool_id


def pool_of_partition(name: str) -> str | None:
    """The pool that a partition was made for; None where muster has not made it."""
    return name.removeprefix(PARTITION_PREFIX) if name.startswith(PARTITION_PREFIX) else None


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


def _marks(cluster: SlurmCluster) -> Iterator[str]:
    """Pools that something in the cluster was changed for."""
    for name in cluster.partitions:
        if (pool_id := pool_of_partition(name)) is not None:
            yield pool_id
    for node in cluster.nodes:
        if (pool_id := locked_by(node)) is not None:
            yield pool_id


def locked_by(node: SlurmNode) -> str | None:
    """The pool that a node was drained for; None where muster has not drained it."""
    found = _LOCKED_BY.fullmatch(node.reason) if _is_drained(node) else None
    return found[1] if found else None


def _is_drained(node: SlurmNode) -> bool:
    return node.state.rstrip(_MARKS) in _DRAINED


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


def inventory_of(cluster: SlurmCluster) -> object:
    """What there is, without how it is just now."""
    return cluster.partitions, [
        (n.name, n.partitions, n.cpu_count, n.memory_mib, n.card_kind, n.card_model, n.card_count)
        for n in cluster.nodes
    ]


# ---------------------------------------------------------------- what is to be changed


def plan_changes(
    cluster: SlurmCluster, wish: ClusterWish, *, may_change_partitions: bool
) -> list[Change]:
    """What is to be done for the cluster to be as it is wished for. Pure.

    Partitions come first: jobs wait for them. What bears the mark of a pool that is not in
    `wish.own` is another muster's.
    """
    changes: list[Change] = []
    if may_change_partitions:
        changes += _partitions_to_set(cluster, wish)
    changes += _nodes_to_drain(cluster, wish)
    changes += _nodes_to_resume(cluster, wish)
    if may_change_partitions:
        changes += _partitions_to_drop(cluster, wish)
    return changes


def _partitions_to_set(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    known = {node.name for node in cluster.nodes}
    members = _members(cluster)
    for pool_id, hosts in sorted(wish.made.items()):
        name = partition_name(pool_id)
        wanted = hosts & known  # Slurm refuses the whole for one that it does not have
        there = set(members.get(name, ()))
        if wanted and wanted != there:
            nodes = f"Nodes={','.join(sorted(wanted))}"
            verb = "update" if there else "create"
            limits = ("MaxTime=INFINITE", "State=UP")
            yield Change(verb, (f"PartitionName={name}", nodes, *limits), frozenset({pool_id}))


def _partitions_to_drop(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    for name in cluster.partitions:
        pool_id = pool_of_partition(name)
        if pool_id in wish.own and not wish.made.get(pool_id):
            yield Change("delete", (f"PartitionName={name}",), frozenset({pool_id}))


def _nodes_to_drain(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    wanted: dict[str, list[str]] = {}
    for node in cluster.nodes:
        pool_id = wish.drained.get(node.name)
        if pool_id is not None and not _is_drained(node):
            wanted.setdefault(pool_id, []).append(node.name)
    for pool_id, hosts in sorted(wanted.items()):
        reason = f"Reason={_LOCKED.format(pool_id=pool_id)}"
        yield _update_nodes(hosts, frozenset({pool_id}), "State=DRAIN", reason)


def _nodes_to_resume(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    marked = {node.name: locked_by(node) for node in cluster.nodes}
    free = {
        name: pool_id
        for name, pool_id in marked.items()
        if pool_id in wish.own and name not in wish.drained
    }
    if free:
        pools = frozenset(pool_id for pool_id in free.values() if pool_id is not None)
        yield _update_nodes(list(free), pools, RESUME)


def _update_nodes(hosts: Sequence[str], pools: frozenset[str], *settings: str) -> Change:
    names = f"NodeName={','.join(sorted(hosts))}"
    return Change("update", (names, *settings), pools, frozenset(hosts))


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
