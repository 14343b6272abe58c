"""Which nodes each pool gets and gives back. Pure: a PoolWorld in, actions out.

Wishes are served oldest pool first. A pool takes nodes as they become free, so that cards which are
given back one by one do not slip to others while it waits. Of surplus nodes the idle ones leave
first; a busy one is drained: it takes nothing new, and goes when its work has ended.

Where hosts are whole, one that a pool has a node on is no node of the public partition.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from typing import Final

from muster.domain.dealing import (
    Share,
    deal_many,
    fullest_that_gives,
    own_idle_and_busy,
    shares_of,
)
from muster.domain.flavor import Flavor
from muster.domain.pool import (
    HOSTS,
    PUBLIC_PARTITION,
    Host,
    Node,
    NodePhase,
    Pool,
    PoolEvent,
    PoolLine,
    PoolPhase,
)

FAILED_POOL_KEPT_MS: Final = 3 * 24 * 3_600_000
NODE_PREFIX: Final = "os.modelarts/node.prefix"
_SUFFIX_LENGTH: Final = 5
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWorld:
    """Everything that a plan for pools may look at, read at one moment."""

    now_ms: int
    hosts: Sequence[Host] = ()
    pools: Sequence[Pool] = ()  # all that are there, oldest first
    nodes: Sequence[Node] = ()
    flavors: Mapping[str, Flavor] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()  # nodes that a workload holds
    held: frozenset[tuple[str, int]] = frozenset()  # (host, card) that a workload holds
    at_work: frozenset[str] = frozenset()  # pools that are Deleting, and still have workloads
    stoppable: frozenset[str] = frozenset()  # those of them that have any left to stop
    hosts_are_whole: bool = False  # a host has nodes of one pool only
    unusable: Mapping[str, str] = field(default_factory=dict)  # by partition: why


@dataclass(frozen=True, slots=True)
class AddNode:
    node: Node


@dataclass(frozen=True, slots=True)
class DealCards:
    """Give the public node of a host these cards, and no others."""

    node: Node
    cards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RemoveNode:
    node: Node


@dataclass(frozen=True, slots=True)
class MarkNode:
    node: Node
    phase: NodePhase
    message: str


@dataclass(frozen=True, slots=True)
class UseSpare:
    """A node has broken: let a spare one take work in its place."""

    node: Node


@dataclass(frozen=True, slots=True)
class RestSpare:
    """The broken node is back: let the one that stood in for it be spare again."""

    node: Node


@dataclass(frozen=True, slots=True)
class MovePool:
    pool: Pool
    event: PoolEvent
    message: str


@dataclass(frozen=True, slots=True)
class NotePool:
    """Nothing moves; what the pool waits for has changed."""

    pool: Pool
    message: str


@dataclass(frozen=True, slots=True)
class StopWorkloads:
    pool: Pool


@dataclass(frozen=True, slots=True)
class EndPool:
    pool: Pool


PoolAction = (
    AddNode
    | DealCards
    | RemoveNode
    | MarkNode
    | UseSpare
    | RestSpare
    | MovePool
    | NotePool
    | StopWorkloads
    | EndPool
)


def plan_pools(world: PoolWorld) -> list[PoolAction]:
    """Decide what to do for every pool and node; nothing, where all is as it should be."""
    hosts = {host.name: host for host in world.hosts}
    conditions = [
        mark
        for node in world.nodes
        if (mark := _condition(node, hosts, world.unusable)) is not None
    ]
    marked = {mark.node.name: mark for mark in conditions}
    nodes = [_as_marked(node, marked.get(node.name)) for node in world.nodes]
    dedicated: dict[str, list[Node]] = {pool.id: [] for pool in world.pools}
    for node in nodes:
        if node.partition != PUBLIC_PARTITION:
            dedicated.setdefault(node.partition, []).append(node)

    actions: list[PoolAction] = list(conditions)
    leaving: set[str] = set()
    for pool in world.pools:
        if not pool.is_public:
            for action in _departures(pool, dedicated[pool.id], world):
                actions.append(action)
                if isinstance(action, RemoveNode):
                    leaving.add(action.node.name)
    for node in _orphans(nodes, world):
        actions.append(RemoveNode(node))
        leaving.add(node.name)
    staying = {
        pool_id: [node for node in members if node.name not in leaving]
        for pool_id, members in dedicated.items()
    }
    remaining = [node for members in staying.values() for node in members]
    shares = shares_of(world.hosts, remaining, world.held, world.busy)
    # A host is a node of the public partition under its own name, if not yet.
    names = {node.name for node in nodes} - leaving | {host.name for host in world.hosts}
    for pool in world.pools:
        if pool.is_public:
            continue
        arrivals = list(_arrivals(pool, staying[pool.id], shares, names, world))
        actions += (AddNode(node) for node in arrivals)
        staying[pool.id] += arrivals
        actions += _pool_moves(pool, staying[pool.id], world)
    actions += _public_nodes(world, [node for members in staying.values() for node in members])
    return actions


def is_at_rest(world: PoolWorld) -> bool:
    """Whether nothing is to be done, whatever work comes and goes: nothing waits for any to end."""
    idle = replace(
        world, busy=frozenset(), held=frozenset(), at_work=frozenset(), stoppable=frozenset()
    )
    return not plan_pools(idle)


def _condition(
    node: Node, hosts: Mapping[str, Host], unusable: Mapping[str, str]
) -> MarkNode | None:
    """A node is as its host and its partition are; one that is to go stays so."""
    if node.phase is NodePhase.DELETING:
        return None
    host = hosts.get(node.host_name)
    if host is None or not host.is_present:
        why = f"The host {node.host_name!r} is no longer in the inventory."
    elif not host.is_up:
        why = host.message or f"The host {node.host_name!r} does not answer."
    elif node.partition != PUBLIC_PARTITION and not set(node.cards) <= set(host.cards):
        lost = sorted(set(node.cards) - set(host.cards))
        why = f"The host {node.host_name!r} has lost {_cards(lost)}."
    else:
        why = unusable.get(node.partition, "")
    phase = NodePhase.ABNORMAL if why else NodePhase.AVAILABLE
    message = why or (host.message if host is not None else "")
    if (phase, message) == (node.phase, node.message):
        return None
    return MarkNode(node, phase, message)


def _as_marked(node: Node, mark: MarkNode | None) -> Node:
    return node if mark is None else replace(node, phase=mark.phase, message=mark.message)


def _cards(cards: Sequence[int]) -> str:
    return f"card{'s' if len(cards) > 1 else ''} {', '.join(map(str, cards))}"


def _departures(pool: Pool, nodes: Sequence[Node], world: PoolWorld) -> Iterable[PoolAction]:
    """Surplus nodes, those that were asked to go, and those on hosts that are not its own now."""
    wanted = _wanted(pool)
    named = _hosts_named(pool) if pool.declared else set()
    for line_name in sorted({node.line_name for node in nodes}):
        members = [node for node in nodes if node.line_name == line_name]
        staying = [node for node in members if node.phase is not NodePhase.DELETING]
        placed = [node for node in staying if not named or node.host_name in named]
        surplus = max(0, len(placed) - wanted.get(line_name, 0))
        doomed = [node for node in staying if node not in placed]
        doomed += sorted(placed, key=lambda node: _departs_first(node, world))[:surplus]
        for node in doomed:
            if node.name in world.busy:
                why = "It goes once what runs on it has ended."
                yield MarkNode(node, NodePhase.DELETING, why)
        asked = [node for node in members if node.phase is NodePhase.DELETING]
        for node in (*doomed, *asked):
            if node.name not in world.busy:
                yield RemoveNode(node)


def _orphans(nodes: Sequence[Node], world: PoolWorld) -> Iterable[Node]:
    """Idle nodes of pools that are there no more."""
    present = {pool.partition for pool in world.pools}
    for node in nodes:
        is_of_a_pool = node.partition == PUBLIC_PARTITION or node.partition in present
        if not is_of_a_pool and node.name not in world.busy:
            yield node


def _departs_first(node: Node, world: PoolWorld) -> tuple[bool, bool, bool, int, str]:
    """Locked ones last; idle ones before busy ones, broken ones before those, the newest first."""
    is_broken = node.phase is NodePhase.ABNORMAL
    is_busy = node.name in world.busy
    return (node.is_locked, is_busy, not is_broken, -node.created_at_ms, node.name)


def _wanted(pool: Pool) -> dict[str, int]:
    """Nodes by line; a pool that goes, or never came to be, wants none."""
    if pool.phase in (PoolPhase.DELETING, PoolPhase.CREATION_FAILED):
        return {}
    return {line.name: line.node_count for line in pool.lines}


def _arrivals(
    pool: Pool,
    nodes: Sequence[Node],
    shares: Sequence[Share],
    names: set[str],
    world: PoolWorld,
) -> Iterable[Node]:
    """The nodes that the pool lacks, as far as there is something to make them of."""
    wanted = _wanted(pool)
    if not any(_lacks(line, nodes) for line in pool.lines if line.name in wanted):
        return
    if _why_impossible(pool, world):
        return  # it would keep from others what is no use to it
    suggested = _node_names(pool, world.now_ms)
    usable = _usable_hosts(pool, world)
    mine = [share for share in shares if share.host.name in usable]
    for line, flavor in _largest_first(pool, world):
        for _ in range(_lacks(line, nodes)):
            share = _share_for(flavor, mine, pool, world)
            if share is None:
                break
            share.owner = pool.partition
            name = next(name for name in suggested if name not in names)
            names.add(name)
            yield Node(
                name=name,
                partition=pool.partition,
                cpu_millis=flavor.task.cpu_millis,
                memory_mib=flavor.task.memory_mib,
                card_kind=flavor.card_kind,
                cards=share.take(flavor),
                line_name=line.name,
                flavor_code=line.flavor_code,
                host_name=share.host.name,
                created_at_ms=world.now_ms,
            )


def _share_for(
    flavor: Flavor, shares: Sequence[Share], pool: Pool, world: PoolWorld
) -> Share | None:
    groups = [shares]
    if world.hosts_are_whole:
        own, idle, busy = own_idle_and_busy(shares, pool.partition)
        # Hosts that are named for it are its own anyway: as few nodes as can be share one.
        groups = [idle, busy, own] if _hosts_named(pool) else [own, idle, busy]
    found = (fullest_that_gives(flavor, group, is_declared=_is_word(pool)) for group in groups)
    return next((share for share in found if share is not None), None)


def _lacks(line: PoolLine, nodes: Iterable[Node]) -> int:
    """How many nodes the line is short of."""
    staying = (node for node in nodes if node.phase is not NodePhase.DELETING)
    return max(0, line.node_count - sum(node.line_name == line.name for node in staying))


def _largest_first(pool: Pool, world: PoolWorld) -> list[tuple[PoolLine, Flavor]]:
    """The lines of flavors that are there. Small nodes fill what large ones leave over."""
    lines = [
        (line, world.flavors[line.flavor_code])
        for line in pool.lines
        if line.flavor_code in world.flavors
    ]
    return sorted(
        lines, key=lambda pair: (-pair[1].task.card_count, -pair[1].task.cpu_millis, pair[0].name)
    )


def _node_names(pool: Pool, now_ms: int) -> Iterator[str]:
    """POOL-1, POOL-2 where the inventory declares the pool; else PREFIX and five characters."""
    for number in count(1):
        if pool.declared is not None:
            yield f"{pool.settings.get('node_prefix', pool.display_name)}-{number}"
            continue
        digest = sha256(f"{pool.id} {pool.created_at_ms} {now_ms} {number}".encode()).digest()
        suffix = "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:_SUFFIX_LENGTH])
        yield f"{pool.labels.get(NODE_PREFIX) or pool.display_name}-{suffix}"


def _pool_moves(pool: Pool, nodes: Sequence[Node], world: PoolWorld) -> Iterable[PoolAction]:
    match pool.phase:
        case PoolPhase.DELETING:
            if pool.id in world.stoppable:
                yield StopWorkloads(pool)
            elif not nodes and pool.id not in world.at_work:
                yield EndPool(pool)
        case PoolPhase.CREATION_FAILED:
            if world.now_ms - pool.phase_since_ms > FAILED_POOL_KEPT_MS:
                yield EndPool(pool)
        case PoolPhase.CREATING | PoolPhase.WAITING:
            yield from _creation(pool, nodes, world)
        case PoolPhase.RUNNING | PoolPhase.SCALING_FAILED | PoolPhase.ABNORMAL:
            yield from _health(pool, nodes, world)
            yield from _spares(nodes, world)
        case PoolPhase.ERROR:
            pass


def _creation(pool: Pool, nodes: Sequence[Node], world: PoolWorld) -> Iterable[PoolAction]:
    lacking = _lacking(pool, nodes)
    if not lacking:
        yield MovePool(pool, PoolEvent.COMPLETED, "")
    elif why := _why_impossible(pool, world):
        yield MovePool(pool, PoolEvent.IMPOSSIBLE, why)
    elif pool.phase is PoolPhase.CREATING:
        yield MovePool(pool, PoolEvent.NODES_LACKING, _waits_for(lacking))
    elif pool.message != _waits_for(lacking):
        yield NotePool(pool, _waits_for(lacking))


def _health(pool: Pool, nodes: Sequence[Node], world: PoolWorld) -> Iterable[PoolAction]:
    lacking = _lacking(pool, nodes)
    has_working = any(node.phase is not NodePhase.ABNORMAL for node in nodes)
    if pool.phase is PoolPhase.ABNORMAL:
        if has_working:
            yield MovePool(pool, PoolEvent.NODES_BACK, "")
        return
    if not has_working:
        why = next((node.message for node in nodes if node.message), "It has no nodes.")
        if not any(line.node_count for line in pool.lines):
            why = "The inventory declares it no more."
        yield MovePool(pool, PoolEvent.NODES_DOWN, why)
        return
    why = _why_impossible(pool, world) if lacking else ""
    if pool.phase is PoolPhase.RUNNING and why:
        yield MovePool(pool, PoolEvent.IMPOSSIBLE, why)
    elif pool.phase is PoolPhase.SCALING_FAILED and not why:
        event = PoolEvent.NODES_LACKING if lacking else PoolEvent.COMPLETED
        yield MovePool(pool, event, _waits_for(lacking))
    elif pool.message != (why or _waits_for(lacking)):
        yield NotePool(pool, why or _waits_for(lacking))


def _lacking(pool: Pool, nodes: Sequence[Node]) -> dict[str, int]:
    """How many nodes each flavor is short of."""
    lacking: dict[str, int] = {}
    for line in pool.lines:
        if short := _lacks(line, nodes):
            lacking[line.flavor_code] = lacking.get(line.flavor_code, 0) + short
    return lacking


def _waits_for(lacking: Mapping[str, int]) -> str:
    if not lacking:
        return ""
    what = ", ".join(f"{count} of flavor {code}" for code, count in sorted(lacking.items()))
    return f"Waits for nodes that others have: {what}."


def _why_impossible(pool: Pool, world: PoolWorld) -> str:
    """Why the hosts could never give it its nodes, even with nothing else on them; "": they could.

    A host that is down may come back; one that has left the inventory will not.
    """
    for line in pool.lines:
        if line.flavor_code not in world.flavors:
            return f"There is no flavor {line.flavor_code!r} any more."
    usable = _usable_hosts(pool, world)
    hosts = [host for host in world.hosts if host.is_present and host.name in usable]
    shares = [Share.of_whole(host) for host in hosts]
    beside = ""
    for line, flavor in _largest_first(pool, world):
        most = deal_many(flavor, line.node_count, shares, is_declared=_is_word(pool))
        if most < line.node_count:
            lacks_cards = flavor.card_kind and all(h.card_kind != flavor.card_kind for h in hosts)
            why = f" None of them has a card of the kind {flavor.card_kind}." if lacks_cards else ""
            return (
                f"It asks for {line.node_count} nodes of flavor {line.flavor_code};"
                f" the hosts can give {most} in all{beside}.{why}"
            )
        beside = " beside its other nodes"
    return ""


def _usable_hosts(pool: Pool, world: PoolWorld) -> set[str]:
    """Those whose shares it may get. What the operator has put into a pool whole is not free."""
    names = {host.name for host in world.hosts}
    if pool.declared is not None:
        named = _hosts_named(pool)
        return names & named if named else names
    if not world.hosts_are_whole:
        return names
    return names.difference(*(_hosts_named(other) for other in world.pools if other.declared))


def _hosts_named(pool: Pool) -> set[str]:
    hosts = pool.settings.get(HOSTS)
    return set(hosts) if isinstance(hosts, list) else set()


def _is_word(pool: Pool) -> bool:
    """Whether the operator says how many nodes there are, whatever CPUs and memory the hosts have.

    One that names its hosts means whole shares of them.
    """
    return pool.declared is not None and HOSTS not in pool.settings


def _spares(nodes: Sequence[Node], world: PoolWorld) -> Iterable[PoolAction]:
    """As many spare ones are in use as others are broken."""
    broken = sum(node.phase is NodePhase.ABNORMAL and not node.is_spare for node in nodes)
    in_use = [node for node in nodes if STANDS_IN in node.tags and not node.is_spare]
    spares = [node for node in nodes if node.is_spare and node.phase is NodePhase.AVAILABLE]
    yield from (UseSpare(node) for node in spares[: max(0, broken - len(in_use))])
    idle_first = sorted(in_use, key=lambda node: (node.name in world.busy, node.name))
    yield from (RestSpare(node) for node in idle_first[: max(0, len(in_use) - broken)])


STANDS_IN: Final = "muster/stands-in"  # the tag of a spare node that was put to use


def _public_nodes(world: PoolWorld, dealt: Sequence[Node]) -> Iterable[PoolAction]:
    """Every host is a node of the public partition, with the cards that no pool has."""
    present = {node.name: node for node in world.nodes if node.partition == PUBLIC_PARTITION}
    owned = {node.host_name for node in dealt} if world.hosts_are_whole else set()
    for host in world.hosts:
        taken = {card for node in dealt if node.host_name == host.name for card in node.cards}
        cards = tuple(card for card in host.cards if card not in taken)
        node = present.pop(host.name, None)
        if host.name in owned:
            if node is not None:
                yield from _leave_to_pool(node, cards, world)
        elif node is None and host.is_present:
            yield AddNode(
                Node(
                    name=host.name,
                    partition=PUBLIC_PARTITION,
                    cpu_millis=host.cpu_millis,
                    memory_mib=host.memory_mib,
                    card_kind=host.card_kind,
                    cards=cards,
                    host_name=host.name,
                    created_at_ms=world.now_ms,
                )
            )
        elif node is not None and host.is_present and node.phase is NodePhase.DELETING:
            yield MarkNode(node, NodePhase.AVAILABLE, "")  # no pool has its host any more
        elif node is not None and host.is_present and node.cards != cards:
            yield DealCards(node, cards)
        elif node is not None and not host.is_present and node.name not in world.busy:
            yield RemoveNode(node)
    # A host that is not even known any more.
    yield from (RemoveNode(node) for node in present.values() if node.name not in world.busy)


def _leave_to_pool(node: Node, cards: tuple[int, ...], world: PoolWorld) -> Iterable[PoolAction]:
    """What runs there goes on, on the cards that are left; nothing new comes."""
    if node.name not in world.busy:
        yield RemoveNode(node)
        return
    if node.cards != cards:
        yield DealCards(node, cards)
    if node.phase is not NodePhase.DELETING:
        why = "A pool has its host; it goes once what runs on it has ended."
        yield MarkNode(node, NodePhase.DELETING, why)
