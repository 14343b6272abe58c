"""Pools and the nodes in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from muster.domain.placement import CardKind, NodeRoom
from muster.domain.resources import Resources

# Nodes are scheduled by partition. A dedicated pool has one of its own; the public pools of all
# projects are views of this one.
PUBLIC_PARTITION = "public"


class PoolPhase(StrEnum):
    """Where a pool stands. The values are public."""

    WAITING = "Waiting"
    CREATING = "Creating"
    RUNNING = "Running"
    ABNORMAL = "Abnormal"
    DELETING = "Deleting"
    CREATION_FAILED = "CreationFailed"
    SCALING_FAILED = "ScalingFailed"
    ERROR = "Error"


class Scope(StrEnum):
    """What a pool may be used for. The values are public."""

    TRAIN = "Train"
    INFER = "Infer"
    NOTEBOOK = "Notebook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine, or a share of one, as a partition offers it."""

    name: str
    partition: str
    cpu_millis: int
    memory_mib: int
    card_kind: CardKind | None = None
    cards: tuple[int, ...] = ()

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
class Pool:
    """A named set of nodes, as one project sees it."""

    id: str
    project_id: str
    display_name: str
    partition: str
    phase: PoolPhase
    scopes: tuple[Scope, ...]
    flavor_code: str
    node_count: int
    capacity: Resources
    created_at_ms: int

    @property
    def is_public(self) -> bool:
        return self.partition == PUBLIC_PARTITION


def pool_id_of(display_name: str, project_id: str) -> str:
    """The id of a pool: what paths and `metadata.name` hold."""
    return f"{display_name}-{project_id}"


def public_pool(project_id: str, nodes: Sequence[Node], *, now_ms: int) -> Pool:
    """A project's view of the nodes that all projects share."""
    return pool_over(
        nodes,
        project_id=project_id,
        display_name=PUBLIC_PARTITION,
        partition=PUBLIC_PARTITION,
        scopes=tuple(Scope),
        flavor_code="",
        now_ms=now_ms,
    )


def pool_over(
    nodes: Sequence[Node],
    *,
    project_id: str,
    display_name: str,
    partition: str,
    scopes: tuple[Scope, ...],
    flavor_code: str,
    now_ms: int,
) -> Pool:
    """A running pool that offers these nodes."""
    return Pool(
        id=pool_id_of(display_name, project_id),
        project_id=project_id,
        display_name=display_name,
        partition=partition,
        phase=PoolPhase.RUNNING,
        scopes=scopes,
        flavor_code=flavor_code,
        node_count=len(nodes),
        capacity=sum((node.room.resources for node in nodes), Resources()),
        created_at_ms=now_ms,
    )


def public_pool_id(project_id: str) -> str:
    return pool_id_of(PUBLIC_PARTITION, project_id)
