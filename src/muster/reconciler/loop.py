"""The loop: read, plan, act. It runs when something has happened, and once a second anyway."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from muster.domain.flavor import Flavor
from muster.domain.phase import Phase
from muster.domain.pool import Host, Node
from muster.domain.workload import Workload
from muster.engines.engine import Cluster, EngineRef, HostCondition, Observation
from muster.reconciler.act import PASSING, Platform, carry_out, purge, tell
from muster.reconciler.clusterwish import read_wish
from muster.reconciler.plan import STORING, Action, Admit, Launch, Tell, World, plan, rests_until_ms
from muster.reconciler.poolplan import is_at_rest, plan_pools
from muster.reconciler.pools import read_pool_world, settle_pools
from muster.reconciler.transfers import Transfers
from muster.store import pool_nodes, pools, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction

log = structlog.get_logger()

PASS_INTERVAL_SECONDS: Final = 1.0  # a missed wake-up costs this much at most ...
# ... or this for each that is looked at: a pass for nothing takes a hundredth of the time, however
# many they are, and requests wait for it.
PASS_SECONDS_EACH: Final = 400e-6
GATHER_SECONDS: Final = 0.002  # what happens together is looked at together ...
GATHER_SECONDS_EACH: Final = 20e-6  # ... the longer, the more there is to be looked at
RETRY_SECONDS: Final = 1.0
TELL_AGAIN_MS: Final = 60_000
QUEUE_HEAD_MAX: Final = 64  # a pass that admits so many is followed by another at once
ACTIONS_AT_ONCE: Final = 64
TELLS_MAX: Final = 256  # of a pass: thousands may come to wait for something else at once
POOL_LOOK_MS: Final = 60_000  # pools at rest are looked at so often: some end by the clock


TakeIn = Callable[[Database, Cluster], Awaitable[None]]
Rest = tuple[Workload, Observation, int]  # as they were, and until when they may stay so, in ms


@dataclass(slots=True)
class Reconciler:
    """Runs passes until it is told to end. Slow actions do not hold up the pass after them."""

    platform: Platform
    lost_timeout_ms: int
    flavors: Mapping[str, Flavor] = field(default_factory=dict)  # what nodes are made to, by code
    hosts_are_whole: bool = False  # the engine's scheduler has partitions of whole hosts
    take_in: TakeIn | None = None  # how the store learns of an engine's cluster; None: it has none
    retry_seconds: float = RETRY_SECONDS
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _pools_at_rest: tuple[object, ...] | None = None  # the outlook that left nothing to do
    _pools_looked_at_ms: int = 0
    _taken_in: object = None  # what the store has of the engine's cluster
    _seen_hosts: object = None  # as they were in the pass before
    _arranged: object = None  # what the engine's cluster was arranged by
    _active: Mapping[int, Workload] = field(default_factory=dict)  # as read last, by id
    _queued: Mapping[int, Workload] = field(default_factory=dict)  # likewise
    # What the last plan had nothing to do for, as it was then. Of ten thousand jobs, nearly all.
    _at_rest: Mapping[int, Rest] = field(default_factory=dict)
    _told: dict[str, int] = field(default_factory=dict)  # what trouble was told a while ago, when
    _is_purging: bool = False
    _is_closing: bool = False

    def on(self, database: Database) -> "Reconciler":
        """One that has done nothing yet, on another view of the store."""
        return Reconciler(
            platform=replace(self.platform, database=database, stopping={}, transfers=Transfers()),
            lost_timeout_ms=self.lost_timeout_ms,
            flavors=self.flavors,
            hosts_are_whole=self.hosts_are_whole,
            take_in=self.take_in,
            retry_seconds=self.retry_seconds,
        )

    def wake(self) -> None:
        """Make the next pass come at once. Called in the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Pass after pass, until closed. What is under way then is finished first.

        Transfers are not waited for: whoever comes next goes on with them.
        """
        self.platform.transfers.on_end = self.wake
        try:
            async with asyncio.TaskGroup() as actions:
                while not self._is_closing:
                    self._wake.clear()
                    await self._pass_and_survive(actions)
                    with suppress(TimeoutError):
                        at_most = max(PASS_INTERVAL_SECONDS, PASS_SECONDS_EACH * len(self._active))
                        async with asyncio.timeout(at_most):
                            await self._wake.wait()
                            each = GATHER_SECONDS_EACH * len(self._active)
                            await asyncio.sleep(max(GATHER_SECONDS, each))
        finally:
            await self.platform.transfers.close()

    def close(self) -> None:
        """Begin no further pass; `run` returns once what is under way is done."""
        self._is_closing = True
        self.wake()

    async def _pass_and_survive(self, actions: asyncio.TaskGroup) -> None:
        try:
            await self.pass_once(actions)
        except PASSING as error:
            self._note_failure(error.message)
            await asyncio.sleep(self.retry_seconds)
        except Exception:  # the loop must go on: it is what keeps every job moving
            log.exception("pass_failed")
            await asyncio.sleep(self.retry_seconds)

    def _note_failure(self, why: str) -> None:
        """Passes go well while some actions fail at each: the same trouble is told now and then."""
        now_ms = self.platform.clock_ms()
        self._told = {one: at for one, at in self._told.items() if now_ms < at + TELL_AGAIN_MS}
        if why not in self._told:
            log.warning("reconciler_paused", why=why)
            self._told[why] = now_ms

    async def pass_once(self, actions: asyncio.TaskGroup) -> Sequence[Action]:
        """Read one World, plan, and set every action going. Pools first: they give room."""
        cluster = await self.platform.engine.observe_cluster()
        if cluster is not None:
            await self._take_in_cluster(cluster)
        await self._settle_pools({} if cluster is None else cluster.unusable)
        if cluster is not None:
            await self._arrange_cluster(cluster)
        world = await self.read_world()
        planned = plan(world)
        self._at_rest = _now_at_rest(world, planned, self._at_rest)
        admissions = [action for action in planned if isinstance(action, Admit)]
        tells = [action for action in planned if isinstance(action, Tell)][:TELLS_MAX]
        # Together, so that they share one commit; awaited, so that the next pass sees them.
        done = await asyncio.gather(
            *(carry_out(action, self.platform) for action in admissions),
            tell(tells, self.platform),
            return_exceptions=True,
        )
        # Only once all are done: the next pass would give their room away a second time.
        for error in done:
            if error is not None:
                raise error
        self._start_all(actions, planned)
        if not self._is_purging:
            self._is_purging = True
            actions.create_task(self._purge())
        return planned

    async def _take_in_cluster(self, cluster: Cluster) -> None:
        """Let the store know what there is to run on, where that has changed."""
        if self.take_in is None or not cluster.hosts or cluster.hosts is self._seen_hosts:
            return
        found = (
            [replace(host, is_up=True, message="") for host in cluster.hosts],
            cluster.partitions,
        )
        if found != self._taken_in:
            await self.take_in(self.platform.database, cluster)
        self._taken_in, self._seen_hosts = found, cluster.hosts

    async def _arrange_cluster(self, cluster: Cluster) -> None:
        """Tell the engine what pools and locks ask of its cluster, where that has changed."""
        outlook = await self.platform.database.read(pools.outlook)
        if self._arranged == (outlook, cluster.marked):
            return
        wish, is_held_up = await self.platform.database.read(read_wish, cluster.marked)
        await self.platform.engine.arrange(wish)
        self._arranged = None if is_held_up else (outlook, cluster.marked)

    async def _settle_pools(self, unusable: Mapping[str, str]) -> None:
        """Within the pass: what admits work is the only one that takes nodes away."""
        database, now_ms = self.platform.database, self.platform.clock_ms()
        conditions = await self.platform.engine.observe_hosts()
        changed = _changed_hosts(await database.read(pool_nodes.list_hosts), conditions)
        if changed:
            await database.write(_note_hosts, changed)
        outlook = (await database.read(pools.outlook), unusable)
        if outlook == self._pools_at_rest and now_ms < self._pools_looked_at_ms + POOL_LOOK_MS:
            return
        world = await database.read(
            read_pool_world,
            self.flavors,
            now_ms=now_ms,
            hosts_are_whole=self.hosts_are_whole,
            unusable=unusable,
            known=self._active,
        )
        if plan_pools(world):
            done = await database.write(
                settle_pools,
                self.flavors,
                now_ms=now_ms,
                hosts_are_whole=self.hosts_are_whole,
                unusable=unusable,
            )
            log.info("pools_changed", **Counter(type(action).__name__ for action in done))
        elif is_at_rest(world):
            self._pools_at_rest, self._pools_looked_at_ms = outlook, now_ms

    async def read_world(self) -> World:
        # First: the row of an action that ends from here on may be an old one.
        busy = frozenset(self._busy)
        active, queues, nodes = await self.platform.database.read(
            _read_rows, self._active, self._queued
        )
        self._active = {workload.id: workload for workload in active}
        self._queued = {workload.id: workload for queue in queues.values() for workload in queue}
        observations = await self._observe(active)
        now_ms = self.platform.clock_ms()
        return World(
            now_ms=now_ms,
            active=active,
            queues=queues,
            queue_limit=QUEUE_HEAD_MAX,
            nodes=nodes,
            observations=observations,
            busy=busy,
            at_rest=_still_at_rest(self._active, observations, self._at_rest, now_ms),
            stopping=dict(self.platform.stopping),
            lost_timeout_ms=self.lost_timeout_ms,
        )

    async def _observe(self, active: Sequence[Workload]) -> dict[int, Observation]:
        refs = {
            w.id: EngineRef(w.engine_ref)
            for w in active
            if w.engine_ref and (w.is_holding or w.phase in STORING)
        }
        if not refs:
            return {}
        seen = await self.platform.engine.observe(list(refs.values()))
        return {workload_id: seen[ref] for workload_id, ref in refs.items()}

    def _start_all(self, actions: asyncio.TaskGroup, planned: Sequence[Action]) -> None:
        """All that is planned for one workload runs as one task, in the planned order.

        Starts go last: of thousands that wait for theirs, none holds up the end of another one.
        """
        by_workload: dict[int, list[Action]] = {}
        for action in planned:
            if not isinstance(action, Admit | Tell):
                by_workload.setdefault(action.workload.id, []).append(action)
        for workload_id, mine in sorted(by_workload.items(), key=_is_start):
            if len(self._busy) >= ACTIONS_AT_ONCE:
                return  # the next pass plans them again
            if workload_id not in self._busy:
                self._busy[workload_id] = actions.create_task(self._carry_out(workload_id, mine))

    async def _carry_out(self, workload_id: int, mine: Sequence[Action]) -> None:
        try:
            for action in mine:
                await carry_out(action, self.platform)
        except PASSING as error:
            self._note_failure(error.message)
            await asyncio.sleep(self.retry_seconds)
        except Exception:  # one workload's trouble must not stop the others
            log.exception("action_failed", workload_id=workload_id)
            await asyncio.sleep(self.retry_seconds)
        finally:
            del self._busy[workload_id]
            self.wake()

    async def _purge(self) -> None:
        try:
            if await purge(self.platform):
                self.wake()
        except PASSING as error:
            self._note_failure(error.message)
        except Exception:  # as above
            log.exception("purge_failed")
        finally:
            self._is_purging = False


def _still_at_rest(
    active: Mapping[int, Workload],
    observations: Mapping[int, Observation],
    at_rest: Mapping[int, Rest],
    now_ms: int,
) -> frozenset[int]:
    """Those that are the very same: a row that was not read again, and what the engine saw then."""
    return frozenset(
        workload_id
        for workload_id, (workload, seen, until_ms) in at_rest.items()
        if active.get(workload_id) is workload
        and observations.get(workload_id) is seen
        and now_ms < until_ms
    )


def _now_at_rest(
    world: World, planned: Sequence[Action], before: Mapping[int, Rest]
) -> dict[int, Rest]:
    moving = {action.workload.id for action in planned} | world.busy
    rests = {workload_id: before[workload_id] for workload_id in world.at_rest}
    for workload in world.active:
        if workload.id in rests or workload.id in moving:
            continue
        seen, until_ms = world.observations.get(workload.id), rests_until_ms(workload)
        if seen is not None and until_ms is not None:
            rests[workload.id] = workload, seen, until_ms
    return rests


def _is_start(item: tuple[int, Sequence[Action]]) -> bool:
    return isinstance(item[1][0], Launch)


def _changed_hosts(
    hosts: Sequence[Host], conditions: Mapping[str, HostCondition]
) -> dict[str, HostCondition]:
    """The conditions that are not known yet. A host of which nothing is said is up."""
    changed = {}
    for host in hosts:
        condition = conditions.get(host.name, HostCondition(is_up=True))
        if (condition.is_up, condition.message) != (host.is_up, host.message):
            changed[host.name] = condition
    return changed


def _note_hosts(tx: Transaction, changed: Mapping[str, HostCondition]) -> None:
    for name, condition in changed.items():
        pool_nodes.set_host_condition(tx, name, is_up=condition.is_up, message=condition.message)


def _read_rows(
    connection: Connection, known: Mapping[int, Workload], queued: Mapping[int, Workload]
) -> tuple[list[Workload], dict[str, list[Workload]], dict[str, list[Node]]]:
    """What a plan looks at; its size follows what the nodes hold, not what has ever run."""
    active = workloads.list_active(connection, known)
    nodes: dict[str, list[Node]] = {}
    for node in pool_nodes.list_nodes(connection):
        nodes.setdefault(node.partition, []).append(node)
    partitions = nodes.keys() | {w.partition for w in active if w.phase is Phase.CREATING}
    queues = {
        partition: workloads.list_queue(connection, partition, limit=QUEUE_HEAD_MAX, known=queued)
        for partition in partitions
    }
    return active, queues, nodes
