"""What hosts have left to make nodes of. Pure.

CPUs and memory are promised, so many times as the inventory says; cards are dealt one by one, and
never twice. Where a scheduler beside this one has partitions of whole hosts, a host has nodes of
one pool only: its owner.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from muster.domain.flavor import Flavor
from muster.domain.pool import PUBLIC_PARTITION, Host, Node

ANY_NUMBER: Final = 1_000_000  # of nodes that take no cards, where only cards are counted


@dataclass(slots=True)
class Share:
    """What one host still has to deal out while a plan is made."""

    host: Host
    cpu_millis: int
    memory_mib: int
    cards: list[int]  # of no pool's node, and held by nobody
    owner: str | None = None  # the partition that its nodes are of; one of them, where several are
    is_busy: bool = False  # work of the public partition runs on it

    @classmethod
    def of_whole(cls, host: Host) -> Self:
        """With nothing dealt yet."""
        return cls(host, host.cpu_millis, host.memory_mib, list(host.cards))

    def most(self, flavor: Flavor, *, is_declared: bool = False) -> int:
        """How many nodes of the flavor it can still give.

        Declared pools are the operator's word: only cards are counted for them.
        """
        task = flavor.task
        if flavor.card_kind is not None and self.host.card_kind is not flavor.card_kind:
            return 0
        bounds = [len(self.cards) // task.card_count] if task.card_count else []
        if not is_declared:
            bounds.append(max(0, self.cpu_millis) // task.cpu_millis)
            bounds.append(max(0, self.memory_mib) // task.memory_mib)
        return min(bounds, default=ANY_NUMBER)

    def take(self, flavor: Flavor, count: int = 1) -> tuple[int, ...]:
        """Give that many nodes; the cards of them all."""
        self.cpu_millis -= flavor.task.cpu_millis * count
        self.memory_mib -= flavor.task.memory_mib * count
        taken = tuple(self.cards[: flavor.task.card_count * count])
        del self.cards[: flavor.task.card_count * count]
        return taken


def shares_of(
    hosts: Iterable[Host],
    nodes: Iterable[Node],
    held: frozenset[tuple[str, int]],
    busy: Collection[str] = (),
) -> list[Share]:
    """What each host that works has left.

    Args:
        hosts: all that are known.
        nodes: those of the pools. Those of the public partition are what pools leave over.
        held: (host, card) that a workload uses now, on whatever node.
        busy: names of nodes that a workload uses now; a public node is called as its host.
    """
    dealt: dict[str, list[Node]] = {}
    for node in nodes:
        if node.partition != PUBLIC_PARTITION:
            dealt.setdefault(node.host_name, []).append(node)
    shares = []
    for host in hosts:
        if not host.is_present or not host.is_up:
            continue
        mine = dealt.get(host.name, ())
        taken = {card for node in mine for card in node.cards}
        shares.append(
            Share(
                host,
                host.cpu_millis - sum(node.cpu_millis for node in mine),
                host.memory_mib - sum(node.memory_mib for node in mine),
                [c for c in host.cards if c not in taken and (host.name, c) not in held],
                owner=mine[0].partition if mine else None,
                is_busy=host.name in busy,
            )
        )
    return shares


def fullest_that_gives(
    flavor: Flavor, shares: Sequence[Share], *, is_declared: bool
) -> Share | None:
    """The fullest that still gives a node of it, so that whole hosts stay whole."""
    giving = [share for share in shares if share.most(flavor, is_declared=is_declared)]
    return min(giving, key=_fullness, default=None)


def deal_many(flavor: Flavor, count: int, shares: Sequence[Share], *, is_declared: bool) -> int:
    """Take up to `count` nodes of the flavor, from the fullest first; how many there were."""
    given = 0
    for share in sorted(shares, key=_fullness):
        taken = min(share.most(flavor, is_declared=is_declared), count - given)
        share.take(flavor, taken)
        given += taken
    return given


def _fullness(share: Share) -> tuple[int, int, str]:
    return (len(share.cards), share.cpu_millis, share.host.name)


def own_idle_and_busy(
    shares: Iterable[Share], partition: str
) -> tuple[list[Share], list[Share], list[Share]]:
    """Whole hosts that the partition may have nodes of: its own, idle ones, and busy ones.

    Those that others' work runs on come last: that work goes on there.
    """
    own = [share for share in shares if share.owner == partition]
    free = [share for share in shares if share.owner is None]
    return own, [s for s in free if not s.is_busy], [s for s in free if s.is_busy]
