"""Hosts, the nodes that are dealt from them, and pools: what they are, and how they move."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from muster.domain.errors import IllegalTransition
from muster.domain.placement import CardKind, NodeRoom
from muster.domain.resources import Resources

# Nodes are scheduled by partition. A dedicated pool has one of its own; the public pools of all
# projects are views of this one.
PUBLIC_PARTITION = "public"

NODES_MAX: Final = 4096  # of one line of a pool
LINES_MAX: Final = 10  # flavors of one pool
DEFAULT_LINE: Final = "default"
HOSTS: Final = "hosts"  # setting of a declared pool: the names of those it is made of alone


class PoolPhase(StrEnum):
    """Where a pool stands. The values are public."""

    WAITING = "Waiting"  # there is what it asks for, and others have it
    CREATING = "Creating"
    RUNNING = "Running"
    ABNORMAL = "Abnormal"  # none of its nodes works
    DELETING = "Deleting"  # its jobs are being stopped and its nodes given back
    CREATION_FAILED = "CreationFailed"  # there is not, and never will be, what it asks for
    SCALING_FAILED = "ScalingFailed"  # likewise for a change of size; what it has goes on
    ERROR = "Error"


class PoolEvent(StrEnum):
    """What happened to a pool."""

    NODES_LACKING = "NodesLacking"
    COMPLETED = "Completed"  # it has every node that it asks for
    IMPOSSIBLE = "Impossible"  # it asks for more than there is in all
    NODES_DOWN = "NodesDown"
    NODES_BACK = "NodesBack"
    DELETE_ASKED = "DeleteAsked"


P, E = PoolPhase, PoolEvent

# The only place that says which moves exist.
POOL_TRANSITIONS: Final[Mapping[tuple[PoolPhase, PoolEvent], PoolPhase]] = {
    (P.CREATING, E.NODES_LACKING): P.WAITING,
    (P.CREATING, E.COMPLETED): P.RUNNING,
    (P.CREATING, E.IMPOSSIBLE): P.CREATION_FAILED,
    (P.WAITING, E.COMPLETED): P.RUNNING,
    (P.WAITING, E.IMPOSSIBLE): P.CREATION_FAILED,
    (P.RUNNING, E.IMPOSSIBLE): P.SCALING_FAILED,
    (P.RUNNING, E.NODES_DOWN): P.ABNORMAL,
    (P.SCALING_FAILED, E.COMPLETED): P.RUNNING,
    (P.SCALING_FAILED, E.NODES_LACKING): P.RUNNING,
    (P.SCALING_FAILED, E.NODES_DOWN): P.ABNORMAL,
    (P.ABNORMAL, E.NODES_BACK): P.RUNNING,
    **{(phase, E.DELETE_ASKED): P.DELETING for phase in PoolPhase if phase is not P.DELETING},
}

# Where new jobs are taken, and where the size may be changed.
USABLE: Final = frozenset({P.RUNNING, P.SCALING_FAILED})


def next_pool_phase(phase: PoolPhase, event: PoolEvent) -> PoolPhase:
    """The phase after `event`.

    Raises:
        IllegalTransition: the table has no such move.
    """
    try:
        return POOL_TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(phase, event) from None


class NodePhase(StrEnum):
    """Where a node stands. The values are public."""

    CREATING = "Creating"
    AVAILABLE = "Available"
    ABNORMAL = "Abnormal"
    DELETING = "Deleting"  # it takes nothing new, and goes once nothing runs on it


class Scope(StrEnum):
    """What a pool may be used for. The values are public."""

    TRAIN = "Train"
    INFER = "Infer"
    NOTEBOOK = "Notebook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine that nodes are dealt from. Its CPUs and memory are promised several times over."""

    name: str
    cpu_millis: int
    memory_mib: int
    card_kind: CardKind | None = None
    card_model: str = ""
    cards: tuple[int, ...] = ()
    is_present: bool = True  # the inventory still has it
    is_up: bool = True
    message: str = ""  # why it is not up


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine, or a share of one, as a partition offers it."""

    name: str
    partition: str
    cpu_millis: int
    memory_mib: int
    card_kind: CardKind | None = None
    cards: tuple[int, ...] = ()
    line_name: str = ""  # "": a node of the public partition
    flavor_code: str = ""
    host_name: str = ""
    phase: NodePhase = NodePhase.AVAILABLE
    message: str = ""
    is_locked: bool = False  # it takes nothing new, and is not deleted by name
    is_spare: bool = False  # kept free, to step in for one that breaks
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at_ms: int = 0

    @property
    def takes_work(self) -> bool:
        return self.phase is NodePhase.AVAILABLE and not self.is_locked and not self.is_spare

    @property
    def room(self) -> NodeRoom:
        """The node with nothing running on it."""
        return NodeRoom(
            name=self.name,
            cpu_millis=self.cpu_millis,
            memory_mib=self.memory_mib,
            card_kind=self.card_kind,
            free_cards=self.cards,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLine:
    """So many nodes of one flavor: what the API calls a resource, and a node pool."""

    name: str
    flavor_code: str
    node_count: int
    settings: Mapping[str, object] = field(default_factory=dict)  # as the client set them


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A named set of nodes, as one project sees it."""

    id: str
    project_id: str
    workspace_id: str = "0"
    display_name: str
    partition: str
    phase: PoolPhase
    message: str = ""
    scopes: tuple[Scope, ...]
    lines: tuple[PoolLine, ...] = ()  # what it should have
    node_count: int = 0  # what it has
    capacity: Resources = field(default_factory=Resources)  # likewise
    labels: Mapping[str, str] = field(default_factory=dict)  # as the client set them
    annotations: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    declared: str | None = None  # the inventory's last word on it
    created_at_ms: int = 0
    phase_since_ms: int = 0
    wish: int = 0  # goes up with each change that a user asks for
    revision: int = 0

    @property
    def is_public(self) -> bool:
        return self.partition == PUBLIC_PARTITION

    @property
    def is_down(self) -> bool:
        """None of its nodes works at the moment: what is submitted waits until one does."""
        return self.phase is PoolPhase.ABNORMAL and any(line.node_count for line in self.lines)

    @property
    def declared_partition(self) -> str:
        """The partition of a scheduler beside muster that the inventory made it of; "": none."""
        return str(json.loads(self.declared).get("partition", "")) if self.declared else ""

    @property
    def flavor_code(self) -> str:
        """What a job gets that names no flavor; "" where there are several."""
        return self.lines[0].flavor_code if len(self.lines) == 1 else ""


def pool_id_of(display_name: str, project_id: str) -> str:
    """The id of a pool: what paths and `metadata.name` hold."""
    return f"{display_name}-{project_id}"


def public_pool_id(project_id: str) -> str:
    return pool_id_of(PUBLIC_PARTITION, project_id)


def public_pool(project_id: str, nodes: Sequence[Node], *, now_ms: int) -> Pool:
    """A project's view of the nodes that all projects share."""
    return Pool(
        id=public_pool_id(project_id),
        project_id=project_id,
        display_name=PUBLIC_PARTITION,
        partition=PUBLIC_PARTITION,
        phase=PoolPhase.RUNNING,
        scopes=tuple(Scope),
        node_count=len(nodes),
        capacity=capacity_of(nodes),
        created_at_ms=now_ms,
        phase_since_ms=now_ms,
    )


def capacity_of(nodes: Sequence[Node]) -> Resources:
    """What the nodes offer together; one that is broken offers nothing."""
    working = (node for node in nodes if node.phase is not NodePhase.ABNORMAL)
    return sum((node.room.resources for node in working), Resources())
