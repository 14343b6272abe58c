"""Which nodes each pool gets and gives back. Pure: a PoolWorld in, actions out.

Wishes are served oldest pool first. A pool takes nodes as they become free, so that cards which are
given back one by one do not slip to others while it waits. Of surplus nodes the idle ones leave
first; a busy one is drained: it takes nothing new, and goes when its work has ended.

Where hosts are whole, one that a pool has a node on is no node of the public partition.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count
from typing import Final

from muster.domain.dealing import Share, shares_of
from muster.domain.pool import PUBLIC_PARTITION, Host, Node, NodePhase, Pool, PoolEvent, PoolPhase
from muster.reconciler.poolfit import (
    flavors_lacking,
    hosts_named,
    lacks,
    largest_first,
    share_for,
    usable_hosts,
    why_impossible,
)
from muster.reconciler.poolworld import (
    AddNode,
    DealCards,
    EndPool,
    MarkNode,
    MovePool,
    NotePool,
    PoolAction,
    PoolWorld,
    RemoveNode,
    RestSpare,
    StopWorkloads,
    UseSpare,
)

FAILED_POOL_KEPT_MS: Final = 3 * 24 * 3_600_000
NODE_PREFIX: Final = "os.modelarts/node.prefix"
_SUFFIX_LENGTH: Final = 5
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
STANDS_IN: Final = "muster/stands-in"  # the tag of a spare node that was put to use


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
    public = [node for node in nodes if node.partition == PUBLIC_PARTITION]
    for pool in world.pools:
        if pool.is_public:
            if pool.message != (why := _why_down(public)):
                actions.append(NotePool(pool, why))  # it is always there, whatever its nodes do
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
    named = hosts_named(pool) if pool.declared else set()
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
    if not any(lacks(line, nodes) for line in pool.lines if line.name in wanted):
        return
    if why_impossible(pool, world):
        return  # it would keep from others what is no use to it
    suggested = _node_names(pool, world.now_ms)
    usable = usable_hosts(pool, world)
    mine = [share for share in shares if share.host.name in usable]
    for line, flavor in largest_first(pool, world):
        for _ in range(lacks(line, nodes)):
            share = share_for(flavor, mine, pool, world)
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
    lacking = flavors_lacking(pool, nodes)
    if not lacking:
        yield MovePool(pool, PoolEvent.COMPLETED, "")
    elif why := why_impossible(pool, world):
        yield MovePool(pool, PoolEvent.IMPOSSIBLE, why)
    elif pool.phase is PoolPhase.CREATING:
        yield MovePool(pool, PoolEvent.NODES_LACKING, _waits_for(lacking))
    elif pool.message != _waits_for(lacking):
        yield NotePool(pool, _waits_for(lacking))


def _health(pool: Pool, nodes: Sequence[Node], world: PoolWorld) -> Iterable[PoolAction]:
    lacking = flavors_lacking(pool, nodes)
    has_working = any(node.phase is not NodePhase.ABNORMAL for node in nodes)
    if pool.phase is PoolPhase.ABNORMAL:
        if has_working:
            yield MovePool(pool, PoolEvent.NODES_BACK, "")
        return
    if not has_working:
        why = _why_down(nodes) or "It has no nodes."
        if not any(line.node_count for line in pool.lines):
            why = "The inventory declares it no more."
        yield MovePool(pool, PoolEvent.NODES_DOWN, why)
        return
    why = why_impossible(pool, world) if lacking else ""
    if pool.phase is PoolPhase.RUNNING and why:
        yield MovePool(pool, PoolEvent.IMPOSSIBLE, why)
    elif pool.phase is PoolPhase.SCALING_FAILED and not why:
        event = PoolEvent.NODES_LACKING if lacking else PoolEvent.COMPLETED
        yield MovePool(pool, event, _waits_for(lacking))
    elif pool.message != (why or _waits_for(lacking)):
        yield NotePool(pool, why or _waits_for(lacking))


def _why_down(nodes: Sequence[Node]) -> str:
    """What the first of them says, where none works; "": one does, or there are none."""
    if any(node.phase is not NodePhase.ABNORMAL for node in nodes):
        return ""
    return next((node.message for node in nodes if node.message), "")


def _waits_for(lacking: Mapping[str, int]) -> str:
    if not lacking:
        return ""
    what = ", ".join(f"{count} of flavor {code}" for code, count in sorted(lacking.items()))
    return f"Waits for nodes that others have: {what}."


def _spares(nodes: Sequence[Node], world: PoolWorld) -> Iterable[PoolAction]:
    """As many spare ones are in use as others are broken."""
    broken = sum(node.phase is NodePhase.ABNORMAL and not node.is_spare for node in nodes)
    in_use = [node for node in nodes if STANDS_IN in node.tags and not node.is_spare]
    spares = [node for node in nodes if node.is_spare and node.phase is NodePhase.AVAILABLE]
    yield from (UseSpare(node) for node in spares[: max(0, broken - len(in_use))])
    idle_first = sorted(in_use, key=lambda node: (node.name in world.busy, node.name))
    yield from (RestSpare(node) for node in idle_first[: max(0, len(in_use) - broken)])


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
