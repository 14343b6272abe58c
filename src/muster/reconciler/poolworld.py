"""What a plan for pools looks at, and the actions that it may come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from muster.domain.flavor import Flavor
from muster.domain.pool import Host, Node, NodePhase, Pool, PoolEvent


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
