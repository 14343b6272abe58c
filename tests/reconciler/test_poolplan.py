"""Which nodes each pool gets: properties of every plan, and the cases that matter most."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.flavor import Flavor
from muster.domain.placement import CardKind
from muster.domain.pool import (
    PUBLIC_PARTITION,
    Host,
    Node,
    NodePhase,
    Pool,
    PoolLine,
    PoolPhase,
    Scope,
    next_pool_phase,
    public_pool,
)
from muster.domain.resources import Resources
from muster.reconciler.poolplan import FAILED_POOL_KEPT_MS, STANDS_IN, is_at_rest, plan_pools
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

ROUNDS_MAX: Final = 12

CPU: Final = Flavor(spec_id=1, code="cpu.1", task=Resources(cpu_millis=1000, memory_mib=1024))
FLAVORS: Final[Mapping[str, Flavor]] = {
    flavor.code: flavor
    for flavor in (
        CPU,
        *(
            Flavor(
                spec_id=1 + cards,
                code=f"gpu.{cards}",
                task=Resources(cpu_millis=1000, memory_mib=1024, gpu_count=cards),
            )
            for cards in (1, 2, 4)
        ),
    )
}


def host(name: str, *, cards: int = 0, cpus: int = 8, **more: object) -> Host:
    return Host(
        name=name,
        cpu_millis=cpus * 1000,
        memory_mib=cpus * 1024,
        card_kind=CardKind.GPU if cards else None,
        cards=tuple(range(cards)),
        **more,  # type: ignore[arg-type]
    )


def pool(name: str, *lines: tuple[str, int], age: int = 0, **more: object) -> Pool:
    """One that asks for so many nodes of each flavor; the greater its age, the older."""
    made: dict[str, object] = {
        "id": name,
        "project_id": "p",
        "display_name": name,
        "partition": name,
        "phase": PoolPhase.CREATING,
        "scopes": tuple(Scope),
        "created_at_ms": 1_000 - age,
        "lines": tuple(
            PoolLine(name=f"line-{index}", flavor_code=code, node_count=count)
            for index, (code, count) in enumerate(lines)
        ),
    }
    return Pool(**{**made, **more})  # type: ignore[arg-type]


def world_of(*, hosts: Iterable[Host], pools: Iterable[Pool], **more: object) -> PoolWorld:
    return PoolWorld(
        now_ms=1_000_000,
        hosts=tuple(hosts),
        pools=sorted(pools, key=lambda p: (p.created_at_ms, p.id)),
        flavors=FLAVORS,
        **more,  # type: ignore[arg-type]
    )


def after(world: PoolWorld, actions: Sequence[PoolAction]) -> PoolWorld:
    """The world once a plan has been carried out."""
    nodes = {node.name: node for node in world.nodes}
    pools = {p.id: p for p in world.pools}
    for action in actions:
        match action:
            case AddNode(node):
                assert node.name not in nodes, "two nodes of one name"
                nodes[node.name] = node
            case RemoveNode(node):
                nodes.pop(node.name, None)
            case DealCards(node, cards):
                nodes[node.name] = replace(nodes[node.name], cards=cards)
            case MarkNode(node, phase, message):
                nodes[node.name] = replace(nodes[node.name], phase=phase, message=message)
            case UseSpare(node):
                tags = {**node.tags, STANDS_IN: "true"}
                nodes[node.name] = replace(nodes[node.name], is_spare=False, tags=tags)
            case RestSpare(node):
                nodes[node.name] = replace(nodes[node.name], is_spare=True, tags={})
            case MovePool(moved, event, message):
                pools[moved.id] = replace(
                    pools[moved.id],
                    phase=next_pool_phase(moved.phase, event),
                    message=message,
                    phase_since_ms=world.now_ms,
                )
            case NotePool(noted, message):
                pools[noted.id] = replace(pools[noted.id], message=message)
            case StopWorkloads():
                pass  # they take their time
            case EndPool(ended):
                del pools[ended.id]
    return replace(world, nodes=tuple(nodes.values()), pools=tuple(pools.values()))


def settled(world: PoolWorld) -> PoolWorld:
    """The world once there is nothing more to do."""
    for _ in range(ROUNDS_MAX):
        actions = [a for a in plan_pools(world) if not isinstance(a, StopWorkloads)]
        if not actions:
            return world
        world = after(world, actions)
    raise AssertionError(f"There is no end of things to do: {actions}")


def nodes_of(world: PoolWorld, partition: str) -> list[Node]:
    return [node for node in world.nodes if node.partition == partition]


def the(world: PoolWorld, pool_id: str) -> Pool:
    [found] = [p for p in world.pools if p.id == pool_id]
    return found


def wishing(world: PoolWorld, pool_id: str, **changes: object) -> PoolWorld:
    """The world with another wish of one pool."""
    changed = [replace(p, **changes) if p.id == pool_id else p for p in world.pools]  # type: ignore[arg-type]
    return replace(world, pools=tuple(changed))


def resized(world: PoolWorld, pool_id: str, *counts: int) -> PoolWorld:
    lines = tuple(
        replace(line, node_count=count)
        for line, count in zip(the(world, pool_id).lines, counts, strict=True)
    )
    return wishing(world, pool_id, lines=lines)


# ---------------------------------------------------------------- properties

hosts_of_any_size = st.lists(st.integers(0, 8), min_size=1, max_size=4).map(
    lambda sizes: tuple(host(f"host-{i}", cards=cards) for i, cards in enumerate(sizes))
)
lines = st.lists(
    st.tuples(st.sampled_from([*FLAVORS, "gone"]), st.integers(1, 6)), min_size=1, max_size=3
)


@st.composite
def worlds(draw: st.DrawFn) -> PoolWorld:
    """Settled once, then shaken: resized, deleted, locked, with hosts down and nodes at work."""
    wishes = draw(st.lists(lines, min_size=1, max_size=4))
    pools = [pool(f"pool-{i}", *wish, age=i) for i, wish in enumerate(wishes)]
    flag = st.booleans()
    world = world_of(hosts=draw(hosts_of_any_size), pools=pools, hosts_are_whole=draw(flag))
    world = settled(world)
    shaken: list[Pool] = []
    for p in world.pools:
        if draw(flag):
            new = (replace(line, node_count=draw(st.integers(1, 6))) for line in p.lines)
            p = replace(p, lines=tuple(new))
        if draw(st.integers(0, 4)) == 0 and p.phase is not PoolPhase.DELETING:
            p = replace(p, phase=PoolPhase.DELETING)
        shaken.append(p)
    nodes = [
        replace(
            node,
            is_locked=node.partition != PUBLIC_PARTITION and draw(flag),
            is_spare=node.partition != PUBLIC_PARTITION and draw(st.integers(0, 3)) == 0,
        )
        for node in world.nodes
    ]
    busy = frozenset(node.name for node in nodes if draw(flag))
    held = {
        (node.host_name, card)
        for node in nodes
        if node.name in busy
        for card in node.cards
        if draw(flag)
    }
    hosts = [
        replace(h, is_up=draw(st.integers(0, 3)) > 0, is_present=draw(st.integers(0, 7)) > 0)
        for h in world.hosts
    ]
    at_work = frozenset(p.id for p in shaken if p.phase is PoolPhase.DELETING and draw(flag))
    return replace(
        world,
        hosts=tuple(hosts),
        pools=tuple(shaken),
        nodes=tuple(nodes),
        busy=busy,
        held=frozenset(held),
        at_work=at_work,
        stoppable=frozenset(id_ for id_ in at_work if draw(flag)),
    )


@settings(max_examples=150)
@given(worlds())
def test_no_card_is_ever_dealt_twice(world: PoolWorld) -> None:
    for _ in range(ROUNDS_MAX):
        world = after(world, plan_pools(world))

        dealt = Counter((node.host_name, card) for node in world.nodes for card in node.cards)
        assert not [card for card, times in dealt.items() if times > 1]


@settings(max_examples=150)
@given(worlds())
def test_a_card_that_work_holds_goes_to_no_new_node(world: PoolWorld) -> None:
    for action in plan_pools(world):
        if isinstance(action, AddNode) and action.node.partition != PUBLIC_PARTITION:
            cards = {(action.node.host_name, card) for card in action.node.cards}
            assert not cards & world.held


@settings(max_examples=150)
@given(worlds())
def test_a_whole_host_has_nodes_of_one_pool_or_of_the_public_partition(world: PoolWorld) -> None:
    world = settled(replace(world, hosts_are_whole=True, nodes=(), busy=frozenset()))

    partitions: dict[str, set[str]] = {}
    for node in world.nodes:
        partitions.setdefault(node.host_name, set()).add(node.partition)
    assert all(len(of) == 1 for of in partitions.values())


@settings(max_examples=150)
@given(worlds())
def test_a_busy_node_is_never_removed(world: PoolWorld) -> None:
    for _ in range(ROUNDS_MAX):
        actions = plan_pools(world)

        assert not [a for a in actions if isinstance(a, RemoveNode) and a.node.name in world.busy]
        world = after(world, actions)


@settings(max_examples=150)
@given(worlds())
def test_a_settled_world_plans_nothing(world: PoolWorld) -> None:
    world = settled(world)

    assert [a for a in plan_pools(world) if not isinstance(a, StopWorkloads)] == []


@settings(max_examples=150)
@given(worlds(), st.randoms(use_true_random=False))
def test_what_is_at_rest_stays_so_whatever_work_comes_and_goes(
    world: PoolWorld, random: Random
) -> None:
    world = settled(replace(world, busy=frozenset(), held=frozenset(), at_work=frozenset()))
    if not is_at_rest(world):
        assert plan_pools(replace(world, stoppable=frozenset()))
        return
    nodes = [node for node in world.nodes if random.random() < 0.5]

    at_work = replace(
        world,
        busy=frozenset(node.name for node in nodes),
        held=frozenset((node.host_name, card) for node in nodes for card in node.cards),
    )

    assert plan_pools(at_work) == []


@settings(max_examples=150)
@given(worlds())
def test_no_host_promises_more_than_it_has(world: PoolWorld) -> None:
    world = settled(world)

    for h in world.hosts:
        dedicated = [
            node
            for node in world.nodes
            if node.host_name == h.name and node.partition != PUBLIC_PARTITION
        ]
        assert sum(node.cpu_millis for node in dedicated) <= h.cpu_millis
        assert sum(node.memory_mib for node in dedicated) <= h.memory_mib


@given(hosts_of_any_size, st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_older_pools_are_served_first(hosts: tuple[Host, ...], counts: list[int]) -> None:
    pools = [pool(f"pool-{i}", ("gpu.1", n), age=-i) for i, n in enumerate(counts)]

    world = settled(world_of(hosts=hosts, pools=pools))

    left = sum(len(h.cards) for h in hosts)
    total = left
    for p, count in zip(pools, counts, strict=True):
        has = len(nodes_of(world, p.id))
        assert has == (0 if count > total else min(count, left))
        left -= has


@settings(max_examples=150)
@given(hosts_of_any_size, lines)
def test_a_pool_alone_has_all_it_asks_for_or_it_can_never_be(
    hosts: tuple[Host, ...], wish: list[tuple[str, int]]
) -> None:
    world = settled(world_of(hosts=hosts, pools=[pool("only", *wish)]))

    made = the(world, "only")
    has = Counter(node.line_name for node in nodes_of(world, "only"))
    if made.phase is PoolPhase.RUNNING:
        assert has == {line.name: line.node_count for line in made.lines}
    else:
        assert made.phase is PoolPhase.CREATION_FAILED
        assert made.message
        assert not has


@settings(max_examples=150)
@given(worlds())
def test_once_there_is_room_everybody_has_what_they_asked_for(world: PoolWorld) -> None:
    """However much is dealt at odd places: what is as large again for each pool is room."""
    more = [
        host(f"more-{p.id}-{i}-{n}", cards=4, cpus=4)
        for p in world.pools
        for i, line in enumerate(p.lines)
        for n in range(line.node_count)
    ]
    calm = replace(
        world,
        hosts=(*(replace(h, is_up=True, is_present=True) for h in world.hosts), *more),
        nodes=tuple(n for n in world.nodes if n.phase is not NodePhase.DELETING),
        busy=frozenset(),
        held=frozenset(),
        at_work=frozenset(),
        stoppable=frozenset(),
    )

    calm = settled(calm)

    for p in calm.pools:
        if p.phase is PoolPhase.CREATION_FAILED or any(
            line.flavor_code == "gone" for line in p.lines
        ):
            continue
        has = Counter(node.line_name for node in nodes_of(calm, p.id))
        assert has == {line.name: line.node_count for line in p.lines}
        assert p.phase is PoolPhase.RUNNING


@settings(max_examples=150)
@given(worlds())
def test_deleting_gives_everything_back(world: PoolWorld) -> None:
    going = replace(
        world,
        hosts=tuple(replace(h, is_up=True, is_present=True) for h in world.hosts),
        pools=tuple(replace(p, phase=PoolPhase.DELETING) for p in world.pools),
        busy=frozenset(),
        held=frozenset(),
        at_work=frozenset(),
        stoppable=frozenset(),
    )

    gone = settled(going)

    assert gone.pools == ()
    assert {node.name: node.cards for node in gone.nodes} == {h.name: h.cards for h in going.hosts}


# ---------------------------------------------------------------- cases


def test_a_pool_that_can_never_be_says_why_and_takes_nothing() -> None:
    world = settled(
        world_of(
            hosts=[host("a", cards=2), host("b", cards=2)],
            pools=[pool("large", ("gpu.4", 1)), pool("fits", ("gpu.1", 4), age=-1)],
        )
    )

    large = the(world, "large")
    assert large.phase is PoolPhase.CREATION_FAILED
    assert large.message == ("It asks for 1 nodes of flavor gpu.4; the hosts can give 0 in all.")
    assert the(world, "fits").phase is PoolPhase.RUNNING


def test_lines_that_each_fit_and_together_never_do_are_no_pool() -> None:
    world = settled(
        world_of(hosts=[host("a", cards=4)], pools=[pool("both", ("gpu.1", 3), ("gpu.2", 1))])
    )

    both = the(world, "both")
    assert both.phase is PoolPhase.CREATION_FAILED
    assert both.message == (
        "It asks for 3 nodes of flavor gpu.1; the hosts can give 2 in all beside its other nodes."
    )
    assert nodes_of(world, "both") == []


def test_a_pool_that_others_are_in_the_way_of_waits_and_keeps_what_it_has() -> None:
    first, second = pool("first", ("gpu.1", 3)), pool("second", ("gpu.1", 2), age=-1)
    world = settled(world_of(hosts=[host("a", cards=4)], pools=[first, second]))

    waiting = the(world, "second")
    assert waiting.phase is PoolPhase.WAITING
    assert waiting.message == "Waits for nodes that others have: 1 of flavor gpu.1."
    assert len(nodes_of(world, "second")) == 1

    world = settled(resized(world, "first", 2))

    assert the(world, "second").phase is PoolPhase.RUNNING
    assert the(world, "second").message == ""


def test_idle_nodes_go_first_and_busy_ones_drain() -> None:
    world = settled(world_of(hosts=[host("a", cards=4)], pools=[pool("p", ("gpu.1", 3))]))
    names = sorted(node.name for node in nodes_of(world, "p"))
    busy = replace(world, busy=frozenset(names[:2]))

    smaller = settled(resized(busy, "p", 1))

    left = {node.name: node.phase for node in nodes_of(smaller, "p")}
    assert sorted(left) == names[:2]
    assert sorted(left.values()) == [NodePhase.AVAILABLE, NodePhase.DELETING]
    assert the(smaller, "p").phase is PoolPhase.RUNNING
    [drained] = [name for name, phase in left.items() if phase is NodePhase.DELETING]

    done = settled(replace(smaller, busy=frozenset(names) - {drained}))

    assert [node.name for node in nodes_of(done, "p")] == sorted(set(names[:2]) - {drained})


def test_a_locked_node_is_the_last_to_go() -> None:
    world = settled(world_of(hosts=[host("a", cards=4)], pools=[pool("p", ("gpu.1", 3))]))
    kept = sorted(node.name for node in nodes_of(world, "p"))[1]
    nodes = tuple(replace(n, is_locked=n.name == kept) for n in world.nodes)
    others = frozenset(n.name for n in nodes_of(world, "p")) - {kept}

    world = settled(resized(replace(world, nodes=nodes, busy=others), "p", 1))

    staying = [n for n in nodes_of(world, "p") if n.phase is NodePhase.AVAILABLE]
    assert [n.name for n in staying] == [kept]


def test_a_pool_without_a_working_node_is_abnormal_until_one_is_back() -> None:
    hosts = [host("a", cards=1), host("b", cards=1)]
    world = settled(world_of(hosts=hosts, pools=[pool("p", ("gpu.1", 2))]))

    one_down = settled(replace(world, hosts=(replace(hosts[0], is_up=False), hosts[1])))
    assert the(one_down, "p").phase is PoolPhase.RUNNING

    down = tuple(replace(h, is_up=False, message="No power.") for h in hosts)
    all_down = settled(replace(one_down, hosts=down))
    assert (the(all_down, "p").phase, the(all_down, "p").message) == (
        PoolPhase.ABNORMAL,
        "No power.",
    )
    assert {node.phase for node in nodes_of(all_down, "p")} == {NodePhase.ABNORMAL}

    back = settled(replace(all_down, hosts=tuple(hosts)))
    assert the(back, "p").phase is PoolPhase.RUNNING
    assert {(n.phase, n.message) for n in nodes_of(back, "p")} == {(NodePhase.AVAILABLE, "")}


def test_a_spare_node_steps_in_for_a_broken_one_and_rests_again() -> None:
    hosts = [host(name, cards=1) for name in "abc"]
    world = settled(world_of(hosts=hosts, pools=[pool("p", ("gpu.1", 3))]))
    spare = next(n.name for n in nodes_of(world, "p") if n.host_name == "c")
    nodes = tuple(replace(n, is_spare=n.name == spare) for n in world.nodes)
    world = settled(replace(world, nodes=nodes))

    broken = settled(replace(world, hosts=(replace(hosts[0], is_up=False), *hosts[1:])))
    assert [n.name for n in nodes_of(broken, "p") if n.is_spare] == []
    assert [n.name for n in nodes_of(broken, "p") if n.takes_work and n.name == spare]

    mended = settled(replace(broken, hosts=tuple(hosts)))
    assert [n.name for n in nodes_of(mended, "p") if n.is_spare] == [spare]


def test_a_broken_spare_node_calls_for_no_other() -> None:
    hosts = [host(name, cards=1) for name in "abc"]
    world = settled(world_of(hosts=hosts, pools=[pool("p", ("gpu.1", 3))]))
    nodes = tuple(
        replace(n, is_spare=n.partition == "p" and n.host_name in "bc") for n in world.nodes
    )

    down = replace(world, nodes=nodes, hosts=(*hosts[:2], replace(hosts[2], is_up=False)))

    assert not [a for a in plan_pools(down) if isinstance(a, UseSpare)]


def test_a_resize_that_can_never_be_keeps_what_there_is_and_can_be_undone() -> None:
    world = settled(world_of(hosts=[host("a", cards=4)], pools=[pool("p", ("gpu.1", 2))]))

    failed = settled(resized(world, "p", 9))
    assert the(failed, "p").phase is PoolPhase.SCALING_FAILED
    assert "asks for 9 nodes" in the(failed, "p").message
    assert len(nodes_of(failed, "p")) == 2

    undone = settled(resized(failed, "p", 3))
    assert (the(undone, "p").phase, the(undone, "p").message) == (PoolPhase.RUNNING, "")
    assert len(nodes_of(undone, "p")) == 3


def test_a_pool_that_goes_stops_its_work_then_gives_its_nodes_back_then_is_gone() -> None:
    world = settled(world_of(hosts=[host("a", cards=4)], pools=[pool("p", ("gpu.1", 2))]))
    [at_work, idle] = [node.name for node in nodes_of(world, "p")]
    going = replace(
        wishing(world, "p", phase=PoolPhase.DELETING),
        busy=frozenset({at_work}),
        at_work=frozenset({"p"}),
        stoppable=frozenset({"p"}),
    )

    first = plan_pools(going)
    assert [a.pool.id for a in first if isinstance(a, StopWorkloads)] == ["p"]
    assert [a.node.name for a in first if isinstance(a, RemoveNode)] == [idle]

    told = settled(replace(going, stoppable=frozenset()))
    assert [n.phase for n in nodes_of(told, "p")] == [NodePhase.DELETING]
    assert the(told, "p").phase is PoolPhase.DELETING

    gone = settled(replace(told, busy=frozenset(), at_work=frozenset()))
    assert gone.pools == ()
    assert [node.cards for node in gone.nodes] == [(0, 1, 2, 3)]


def test_a_failed_pool_is_forgotten_after_three_days() -> None:
    failed = pool("p", ("gpu.4", 1), phase=PoolPhase.CREATION_FAILED, phase_since_ms=1_000_000)
    world = settled(world_of(hosts=[host("a")], pools=[failed]))

    assert settled(replace(world, now_ms=1_000_000 + FAILED_POOL_KEPT_MS)).pools == (failed,)
    assert settled(replace(world, now_ms=1_000_001 + FAILED_POOL_KEPT_MS)).pools == ()


def test_a_declared_pool_is_the_operators_word_on_cpus_and_never_on_cards() -> None:
    declared = pool("cpus", ("cpu.1", 20), declared="yes")
    cards = pool("cards", ("gpu.1", 3), declared="yes", age=-1)

    world = settled(world_of(hosts=[host("a", cards=2)], pools=[declared, cards]))

    assert len(nodes_of(world, "cpus")) == 20
    assert {n.name for n in nodes_of(world, "cpus")} == {f"cpus-{i}" for i in range(1, 21)}
    assert the(world, "cards").phase is PoolPhase.CREATION_FAILED


def test_large_nodes_are_dealt_before_small_ones_fill_the_gaps() -> None:
    hosts = [host("a", cards=3), host("b", cards=3)]

    world = settled(world_of(hosts=hosts, pools=[pool("p", ("gpu.1", 2), ("gpu.2", 2))]))

    assert the(world, "p").phase is PoolPhase.RUNNING


def test_a_pool_that_asks_for_a_flavor_that_is_gone_says_so() -> None:
    world = settled(world_of(hosts=[host("a")], pools=[pool("p", ("gone", 1))]))

    assert the(world, "p").message == "There is no flavor 'gone' any more."


def test_the_public_pool_goes_on_and_says_why_none_of_its_nodes_works() -> None:
    public = replace(public_pool("p", [], now_ms=0), id="public")
    hosts = (host("a"), host("b"))
    up = settled(world_of(hosts=hosts, pools=[public]))
    down = tuple(replace(h, is_up=False, message="No power.") for h in hosts)

    all_down = settled(replace(up, hosts=down))
    one_back = settled(replace(all_down, hosts=(hosts[0], down[1])))

    assert the(up, "public").message == ""
    assert the(all_down, "public").message == "No power."
    assert the(one_back, "public").message == ""
    assert {the(w, "public").phase for w in (up, all_down, one_back)} == {PoolPhase.RUNNING}


# ---------------------------------------------------------------- whole hosts


def test_a_whole_host_leaves_the_public_partition_with_its_first_node() -> None:
    hosts = [host("cards", cards=4), host("plain")]
    world = settled(world_of(hosts=hosts, pools=[pool("mine", ("gpu.1", 1))], hosts_are_whole=True))

    assert [node.host_name for node in nodes_of(world, "mine")] == ["cards"]
    assert [node.name for node in nodes_of(world, PUBLIC_PARTITION)] == ["plain"]


def test_a_whole_host_is_public_again_once_its_pool_has_given_it_back() -> None:
    world = world_of(
        hosts=[host("cards", cards=4)], pools=[pool("mine", ("gpu.4", 1))], hosts_are_whole=True
    )
    world = settled(world)

    world = settled(wishing(world, "mine", phase=PoolPhase.DELETING))

    assert [node.name for node in nodes_of(world, PUBLIC_PARTITION)] == ["cards"]
    assert nodes_of(world, "mine") == []


def test_work_on_a_whole_host_goes_on_when_a_pool_takes_it_and_no_other_comes() -> None:
    world = settled(world_of(hosts=[host("plain")], pools=[], hosts_are_whole=True))
    busy = replace(world, pools=(pool("mine", ("cpu.1", 1)),), busy=frozenset({"plain"}))

    busy = settled(busy)
    [public] = nodes_of(busy, PUBLIC_PARTITION)
    idle = settled(replace(busy, busy=frozenset()))

    assert public.phase is NodePhase.DELETING
    assert not public.takes_work
    assert [node.host_name for node in nodes_of(busy, "mine")] == ["plain"]
    assert nodes_of(idle, PUBLIC_PARTITION) == []


def test_work_on_a_whole_host_keeps_its_cards_and_the_pool_gets_the_others() -> None:
    world = settled(world_of(hosts=[host("cards", cards=4)], pools=[], hosts_are_whole=True))
    busy = replace(
        world,
        pools=(pool("mine", ("gpu.2", 1)),),
        busy=frozenset({"cards"}),
        held=frozenset({("cards", 0)}),
    )

    busy = after(busy, plan_pools(busy))

    [public], [mine] = nodes_of(busy, PUBLIC_PARTITION), nodes_of(busy, "mine")
    assert (mine.cards, public.cards) == ((1, 2), (0, 3))
    assert plan_pools(settled(busy)) == []


def test_work_that_outlives_the_pool_of_its_host_finds_its_node_usable_again() -> None:
    world = settled(world_of(hosts=[host("plain")], pools=[], hosts_are_whole=True))
    busy = replace(world, pools=(pool("mine", ("cpu.1", 1)),), busy=frozenset({"plain"}))

    world = settled(wishing(settled(busy), "mine", phase=PoolPhase.DELETING))

    assert [node.phase for node in nodes_of(world, PUBLIC_PARTITION)] == [NodePhase.AVAILABLE]


def test_an_idle_whole_host_is_taken_before_one_that_work_runs_on() -> None:
    hosts = [host("a-busy"), host("b-idle")]
    world = settled(world_of(hosts=hosts, pools=[], hosts_are_whole=True))

    world = settled(replace(world, pools=(pool("mine", ("cpu.1", 1)),), busy=frozenset({"a-busy"})))

    assert [node.host_name for node in nodes_of(world, "mine")] == ["b-idle"]


def test_a_whole_host_that_is_named_for_a_pool_is_given_to_no_other() -> None:
    named = pool(
        "named", ("cpu.1", 1), declared="{}", settings={"hosts": ["down"]}, node_count=1, age=1
    )
    hosts = [host("down", is_up=False)]
    world = settled(
        world_of(hosts=hosts, pools=[named, pool("mine", ("cpu.1", 1))], hosts_are_whole=True)
    )
    up = replace(world, hosts=(host("down"),))

    up = settled(up)

    assert [node.host_name for node in nodes_of(up, "named")] == ["down"]
    assert the(up, "mine").phase is PoolPhase.CREATION_FAILED


def test_nodes_of_hosts_that_are_named_for_a_pool_are_spread_over_them() -> None:
    named = pool("named", ("cpu.1", 3), declared="{}", settings={"hosts": ["a", "b", "c"]})
    hosts = [host("a", cpus=16), host("b", cpus=1), host("c", cpus=2)]

    world = settled(world_of(hosts=hosts, pools=[named], hosts_are_whole=True))

    assert sorted(node.host_name for node in nodes_of(world, "named")) == ["a", "b", "c"]


def test_nodes_follow_the_hosts_that_are_named_for_their_pool() -> None:
    named = pool("named", ("cpu.1", 2), declared="{}", settings={"hosts": ["a", "b"]})
    hosts = [host("a"), host("b"), host("c")]
    world = settled(world_of(hosts=hosts, pools=[named], hosts_are_whole=True))
    [on_a, on_b] = sorted(nodes_of(world, "named"), key=lambda node: node.host_name)
    busy = replace(world, busy=frozenset({on_a.name, on_b.name}))

    busy = settled(wishing(busy, "named", settings={"hosts": ["b", "c"]}))
    idle = settled(replace(busy, busy=frozenset({on_b.name})))

    phases = {node.host_name: node.phase for node in nodes_of(busy, "named")}
    assert phases == {
        "a": NodePhase.DELETING, "b": NodePhase.AVAILABLE, "c": NodePhase.AVAILABLE,
    }  # fmt: skip
    assert {node.host_name for node in nodes_of(idle, "named")} == {"b", "c"}
    assert {node.host_name for node in nodes_of(idle, PUBLIC_PARTITION)} == {"a"}


# ---------------------------------------------------------------- what the engine says


def test_nodes_of_a_partition_that_cannot_be_used_are_abnormal_and_say_why() -> None:
    world = settled(world_of(hosts=[host("a")], pools=[pool("mine", ("cpu.1", 1))]))

    down = settled(replace(world, unusable={"mine": "It is gone."}))
    back = settled(replace(down, unusable={}))

    assert (the(down, "mine").phase, the(down, "mine").message) == (
        PoolPhase.ABNORMAL,
        "It is gone.",
    )
    assert {node.message for node in nodes_of(down, "mine")} == {"It is gone."}
    assert {node.phase for node in nodes_of(down, PUBLIC_PARTITION)} == {NodePhase.AVAILABLE}
    assert (the(back, "mine").phase, the(back, "mine").message) == (PoolPhase.RUNNING, "")


def test_a_host_that_works_may_have_something_to_say() -> None:
    world = settled(world_of(hosts=[host("a", message="It could not be drained.")], pools=[]))

    [node] = world.nodes
    assert (node.phase, node.message) == (NodePhase.AVAILABLE, "It could not be drained.")


def test_a_pool_that_asks_for_cards_of_a_kind_that_no_host_has_is_told_so() -> None:
    world = settled(world_of(hosts=[host("plain")], pools=[pool("mine", ("gpu.1", 1))]))

    assert the(world, "mine").phase is PoolPhase.CREATION_FAILED
    assert "None of them has a card of the kind gpu" in the(world, "mine").message
