"""What a pool lacks, and what the hosts could give it. Pure."""

from collections.abc import Iterable, Sequence

from muster.domain.dealing import Share, deal_many, fullest_that_gives, own_idle_and_busy
from muster.domain.flavor import Flavor
from muster.domain.pool import HOSTS, Node, NodePhase, Pool, PoolLine
from muster.reconciler.poolworld import PoolWorld


def lacks(line: PoolLine, nodes: Iterable[Node]) -> int:
    """How many nodes the line is short of."""
    staying = (node for node in nodes if node.phase is not NodePhase.DELETING)
    return max(0, line.node_count - sum(node.line_name == line.name for node in staying))


def flavors_lacking(pool: Pool, nodes: Sequence[Node]) -> dict[str, int]:
    """How many nodes each flavor is short of."""
    lacking: dict[str, int] = {}
    for line in pool.lines:
        if short := lacks(line, nodes):
            lacking[line.flavor_code] = lacking.get(line.flavor_code, 0) + short
    return lacking


def why_impossible(pool: Pool, world: PoolWorld) -> str:
    """Why the hosts could never give it its nodes, even with nothing else on them; "": they could.

    A host that is down may come back; one that has left the inventory will not.
    """
    for line in pool.lines:
        if line.flavor_code not in world.flavors:
            return f"There is no flavor {line.flavor_code!r} any more."
    usable = usable_hosts(pool, world)
    hosts = [host for host in world.hosts if host.is_present and host.name in usable]
    shares = [Share.of_whole(host) for host in hosts]
    beside = ""
    for line, flavor in largest_first(pool, world):
        most = deal_many(flavor, line.node_count, shares, is_declared=is_word(pool))
        if most < line.node_count:
            lacks_cards = flavor.card_kind and all(h.card_kind != flavor.card_kind for h in hosts)
            why = f" None of them has a card of the kind {flavor.card_kind}." if lacks_cards else ""
            return (
                f"It asks for {line.node_count} nodes of flavor {line.flavor_code};"
                f" the hosts can give {most} in all{beside}.{why}"
            )
        beside = " beside its other nodes"
    return ""


def share_for(
    flavor: Flavor, shares: Sequence[Share], pool: Pool, world: PoolWorld
) -> Share | None:
    groups = [shares]
    if world.hosts_are_whole:
        own, idle, busy = own_idle_and_busy(shares, pool.partition)
        # Hosts that are named for it are its own anyway: as few nodes as can be share one.
        groups = [idle, busy, own] if hosts_named(pool) else [own, idle, busy]
    found = (fullest_that_gives(flavor, group, is_declared=is_word(pool)) for group in groups)
    return next((share for share in found if share is not None), None)


def largest_first(pool: Pool, world: PoolWorld) -> list[tuple[PoolLine, Flavor]]:
    """The lines of flavors that are there. Small nodes fill what large ones leave over."""
    lines = [
        (line, world.flavors[line.flavor_code])
        for line in pool.lines
        if line.flavor_code in world.flavors
    ]
    return sorted(
        lines, key=lambda pair: (-pair[1].task.card_count, -pair[1].task.cpu_millis, pair[0].name)
    )


def usable_hosts(pool: Pool, world: PoolWorld) -> set[str]:
    """Those whose shares it may get. What the operator has put into a pool whole is not free."""
    names = {host.name for host in world.hosts}
    if pool.declared is not None:
        named = hosts_named(pool)
        return names & named if named else names
    if not world.hosts_are_whole:
        return names
    return names.difference(*(hosts_named(other) for other in world.pools if other.declared))


def hosts_named(pool: Pool) -> set[str]:
    hosts = pool.settings.get(HOSTS)
    return set(hosts) if isinstance(hosts, list) else set()


def is_word(pool: Pool) -> bool:
    """Whether the operator says how many nodes there are, whatever CPUs and memory the hosts have.

    One that names its hosts means whole shares of them.
    """
    return pool.declared is not None and HOSTS not in pool.settings
