"""How pools, their lines and their nodes are shown."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from muster.domain.placement import CardKind
from muster.domain.pool import Node, NodePhase, Pool, PoolLine, PoolPhase
from muster.domain.poolwish import NAME_LABEL, WORKSPACE_LABEL
from muster.domain.tag import TAGS_ANNOTATION, tags_as_text
from muster.operations.pools import own_tags
from muster.store.pool_nodes import Hold, LineCount
from muster.wire import nodes as node_shapes
from muster.wire import pools as shapes

AZ: Final = "az1"  # all hosts are in one
_CARD_NAMES: Final = {CardKind.GPU: "nvidia.com/gpu", CardKind.NPU: "huawei.com/ascend-snt9"}
_MASK_LENGTH: Final = 16
_PHASE_KEYS: Final = {
    NodePhase.CREATING: "creating",
    NodePhase.AVAILABLE: "available",
    NodePhase.ABNORMAL: "abnormal",
    NodePhase.DELETING: "deleting",
}


def timestamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---------------------------------------------------------------- pools


def labels_of(pool: Pool, account_id: str) -> dict[str, str]:
    """What the client set, and what the platform knows."""
    return {
        **pool.labels,
        NAME_LABEL: pool.display_name,
        WORKSPACE_LABEL: pool.workspace_id,
        "os.modelarts/resource.id": resource_id(pool.display_name, pool.id),
        "os.modelarts/tenant.domain.id": account_id,
        "os.modelarts/tenant.project.id": pool.project_id,
        "os.modelarts.pool/biz": "public" if pool.is_public else "private",
    }


def resource_id(name: str, full_name: str) -> str:
    """A name of its own for the bookkeeping of others; the same every time."""
    return f"maos-{name}-{sha256(full_name.encode()).hexdigest()[:5]}"


def pool_view(
    pool: Pool, counts: Sequence[LineCount], account_id: str, *, is_new: bool = False
) -> shapes.PoolView:
    """`is_new`: nothing has been counted yet."""
    is_going = pool.phase is PoolPhase.DELETING
    return shapes.PoolView(
        metadata=shapes.PoolMetadata(
            name=pool.id,
            creationTimestamp=timestamp(pool.created_at_ms),
            deletionTimestamp=timestamp(pool.phase_since_ms) if is_going else None,
            labels=labels_of(pool, account_id),
            annotations=dict(pool.annotations),
        ),
        spec=msgspec.convert(
            {
                **_settings(pool.settings, shapes.PoolSettings),
                "type": "Dedicate",
                "scope": list(pool.scopes),
                "resources": [line_view(line) for line in _lines(pool)],
            },
            shapes.PoolSpec,
        ),
        status=shapes.PoolStatus(
            phase=pool.phase,
            message=pool.message,
            scope=[shapes.ScopeState(scopeType=scope, state="Enabled") for scope in pool.scopes],
            resources={} if is_new else status_of(pool, counts),
            parent="",
            root=pool.id,
        ),
    )


def _lines(pool: Pool) -> Sequence[PoolLine]:
    """The public nodes are hosts as they are, of no flavor."""
    if pool.is_public:
        return (PoolLine(name="", flavor_code="", node_count=pool.node_count),)
    return pool.lines


def line_view(line: PoolLine) -> shapes.PoolResource:
    return msgspec.convert(
        {
            **_settings(line.settings, shapes.LineSettings),
            "flavor": line.flavor_code,
            "count": line.node_count,
            "maxCount": line.node_count,
            "nodePool": line.name or None,
        },
        shapes.PoolResource,
    )


def _settings(settings: Mapping[str, object], shape: type[msgspec.Struct]) -> dict[str, object]:
    """Those that are shown: others are notes of the platform."""
    return {key: settings[key] for key in shape.__struct_fields__ if key in settings}


def status_of(pool: Pool, counts: Sequence[LineCount]) -> dict[str, list[shapes.PoolResource]]:
    """Nodes by where they stand, a line each; what there is none of is left out."""
    found: dict[str, list[shapes.PoolResource]] = {}
    for line in pool.lines:
        if short := _to_come(pool, line, counts):
            found.setdefault("creating", []).append(_counted(line.name, line.flavor_code, short))
    for count in counts:
        entries = found.setdefault(_PHASE_KEYS[count.phase], [])
        entries.append(_counted(count.line_name, count.flavor_code, count.node_count))
    return found


def _to_come(pool: Pool, line: PoolLine, counts: Iterable[LineCount]) -> int:
    """How many nodes are asked for and not there; to a pool that goes, none come."""
    if pool.phase in (PoolPhase.DELETING, PoolPhase.CREATION_FAILED):
        return 0
    there = sum(
        count.node_count
        for count in counts
        if count.line_name == line.name and count.phase is not NodePhase.DELETING
    )
    return max(0, line.node_count - there)


def _counted(line_name: str, flavor_code: str, count: int) -> shapes.PoolResource:
    return shapes.PoolResource(
        flavor=flavor_code, count=count, maxCount=count, nodePool=line_name or None
    )


def line_status(
    pool: Pool, line_name: str, counts: Sequence[LineCount]
) -> dict[str, shapes.PoolResource]:
    """As `status_of`, for one line: only one client family knows it, and reads objects."""
    mine = [count for count in counts if count.line_name == line_name]
    return {
        key: entry
        for key, entries in status_of(pool, mine).items()
        for entry in entries
        if entry.nodePool == line_name
    }


# ---------------------------------------------------------------- nodes


def node_view(
    node: Node, pool: Pool, holds: Sequence[Hold], account_id: str
) -> node_shapes.NodeView:
    """`holds`: what tasks have of this node."""
    line = next((line for line in pool.lines if line.name == node.line_name), None)
    settings = line.settings if line else {}
    spec = {
        "os": settings.get("os"),
        "hostNetwork": settings.get("network"),
        "rootVolume": settings.get("rootVolume"),
        "dataVolumes": settings.get("dataVolumes"),
        "extendParams": settings.get("extendParams"),
    }
    taken = [card for hold in holds for card in hold.cards]
    return node_shapes.NodeView(
        metadata=node_shapes.NodeMetadata(
            name=node.name,
            creationTimestamp=timestamp(node.created_at_ms),
            labels=_node_labels(node, pool, account_id),
            annotations=_node_annotations(node, taken),
        ),
        spec=msgspec.convert({**spec, "flavor": node.flavor_code}, node_shapes.NodeSpec),
        status=node_shapes.NodeStatus(
            phase=node.phase,
            message=node.message,
            az=AZ,
            privateIp=node.name,
            resources=_amounts(node, node.cpu_millis, node.memory_mib, len(node.cards)),
            availableResources=_amounts(
                node,
                max(0, node.cpu_millis - sum(hold.cpu_millis for hold in holds)),
                max(0, node.memory_mib - sum(hold.memory_mib for hold in holds)),
                len(set(node.cards) - set(taken)),
            ),
            taints=_taints(node),
        ),
    )


def _node_labels(node: Node, pool: Pool, account_id: str) -> dict[str, str]:
    labels = {
        "os.modelarts.node/cluster": pool.id,
        "os.modelarts/resource.id": resource_id(node.name, f"{pool.id}/{node.name}"),
        "os.modelarts/tenant.domain.id": account_id,
        "os.modelarts/tenant.project.id": pool.project_id,
        "os.modelarts/billing.status": "0",
        "os.modelarts.node/ha.redundant.enabled": "true" if node.is_spare else "false",
    }
    if node.line_name:
        labels["os.modelarts.node/nodepool"] = node.line_name
        labels["os.modelarts.node/nodepoolname"] = node.line_name
    return labels


def _node_annotations(node: Node, taken: Iterable[int]) -> dict[str, str]:
    annotations = {}
    if node.card_kind is CardKind.NPU:
        annotations["os.modelarts/npu-topology-placement"] = card_mask(taken)
    if node.phase is NodePhase.DELETING:
        annotations["os.modelarts.node/drain"] = "true"
    tags = own_tags(node)
    if tags:
        annotations[TAGS_ANNOTATION] = tags_as_text(tags)
    return annotations


def card_mask(cards: Iterable[int]) -> str:
    """16 places, card 0 rightmost, 1 where the card is taken."""
    taken = set(cards)
    return "".join("1" if card in taken else "0" for card in reversed(range(_MASK_LENGTH)))


def _amounts(node: Node, cpu_millis: int, memory_mib: int, card_count: int) -> dict[str, str]:
    amounts = {"cpu": f"{cpu_millis}m", "memory": f"{memory_mib}Mi"}
    if node.card_kind is not None:
        amounts[_CARD_NAMES[node.card_kind]] = str(card_count)
    return amounts


def _taints(node: Node) -> list[shapes.Taint]:
    """Why nothing new comes to it; what runs there goes on."""
    reasons: dict[str, bool] = {
        "os.modelarts.node/lock": node.is_locked,
        "os.modelarts.node/drain": node.phase is NodePhase.DELETING,
        "os.modelarts.node/ha.redundant": node.is_spare,
    }
    return [
        shapes.Taint(key=key, value="true", effect="NoSchedule")
        for key, is_so in reasons.items()
        if is_so
    ]


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """As JSON has it, without what was not given."""
    built: dict[str, Any] = msgspec.to_builtins(struct)
    return built
