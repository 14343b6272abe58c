"""Pools, nodes, buckets, and the stable ids of flavors and AI engines."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from muster.domain.placement import CardKind
from muster.domain.pool import Node, Pool, PoolPhase, Scope
from muster.domain.resources import Resources
from muster.store.database import Connection, Transaction
from muster.store.statements import load_statements

SQL: Final = load_statements("pools")

# Each project's own bucket, where the command line puts code: nobody else can take its name.
_PROJECT_BUCKET: Final = re.compile(r"project-[0-9a-f]{32}")


def find_pool(connection: Connection, project_id: str, pool_id: str) -> Pool | None:
    row = connection.execute(
        SQL["find_pool"], {"pool_id": pool_id, "project_id": project_id}
    ).fetchone()
    return _pool(row) if row else None


def list_pools(connection: Connection, project_id: str) -> list[Pool]:
    return [_pool(row) for row in connection.execute(SQL["list_pools"], {"project_id": project_id})]


def replace_inventory(tx: Transaction, pools: Iterable[Pool], nodes: Iterable[Node]) -> None:
    """Make pools and nodes what the inventory declares.

    A pool that is declared no more goes, unless workloads point to it: then it stays without nodes.
    """
    declared = {pool.id: pool for pool in pools}
    for pool_id in [row[0] for row in tx.execute(SQL["list_pool_ids"])]:
        if pool_id in declared:
            continue
        [used] = tx.execute(SQL["count_pool_workloads"], {"pool_id": pool_id}).fetchone()
        tx.execute(SQL["withdraw_pool" if used else "delete_pool"], {"pool_id": pool_id})
    for pool in declared.values():
        put_pool(tx, pool)
    tx.execute(SQL["delete_nodes"])
    for node in nodes:
        tx.execute(
            SQL["insert_node"],
            {
                "name": node.name,
                "partition": node.partition,
                "cpu_millis": node.cpu_millis,
                "memory_mib": node.memory_mib,
                "card_kind": node.card_kind,
                "cards": json.dumps(node.cards),
            },
        )


def put_pool(tx: Transaction, pool: Pool) -> None:
    tx.execute(
        SQL["put_pool"],
        {
            "id": pool.id,
            "project_id": pool.project_id,
            "display_name": pool.display_name,
            "partition": pool.partition,
            "phase": pool.phase,
            "scopes": ",".join(pool.scopes),
            "flavor_code": pool.flavor_code,
            "node_count": pool.node_count,
            "cpu_millis": pool.capacity.cpu_millis,
            "memory_mib": pool.capacity.memory_mib,
            "gpu_count": pool.capacity.gpu_count,
            "npu_count": pool.capacity.npu_count,
            "created_at_ms": pool.created_at_ms,
        },
    )


def list_partition_nodes(connection: Connection, partition: str) -> list[Node]:
    rows = connection.execute(SQL["list_partition_nodes"], {"partition": partition})
    return [_node(row) for row in rows]


def list_nodes(connection: Connection) -> list[Node]:
    return [_node(row) for row in connection.execute(SQL["list_nodes"])]


def flavor_ids(tx: Transaction, codes: Sequence[str]) -> Mapping[str, int]:
    """The id of each flavor code: the one it had before, or the next."""
    for code in codes:
        tx.execute(SQL["put_flavor"], {"code": code})
    return dict(tx.execute(SQL["list_flavor_ids"]).fetchall())


def ai_engine_ids(
    tx: Transaction, names: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], int]:
    """The id of each (name, version): the one it had before, or the next."""
    for name, version in names:
        tx.execute(SQL["put_ai_engine"], {"name": name, "version": version})
    rows = tx.execute(SQL["list_ai_engine_ids"])
    return {(name, version): engine_id for name, version, engine_id in rows}


def may_use_bucket(connection: Connection, project_id: str, bucket: str) -> bool:
    """Whether the bucket is the project's. One that nobody has belongs to the default project."""
    owner = connection.execute(SQL["find_bucket_owner"], {"name": bucket}).fetchone()
    if owner is None:
        owner = connection.execute(SQL["default_project_id"]).fetchone()
    return owner is not None and bool(owner[0] == project_id)


def project_bucket(project_id: str) -> str:
    return f"project-{project_id}"


def claim_bucket(tx: Transaction, project_id: str, bucket: str, *, is_there: bool) -> bool:
    """Take a new bucket for the project; False when it is somebody else's.

    Args:
        tx: the transaction to do it in.
        project_id: who wants it.
        bucket: its name.
        is_there: whether its folder exists. A folder without an owner is the default project's.
    """
    owner = tx.execute(SQL["find_bucket_owner"], {"name": bucket}).fetchone()
    if owner is not None:
        return bool(owner[0] == project_id)
    if _PROJECT_BUCKET.fullmatch(bucket) and bucket != project_bucket(project_id):
        return False
    if is_there and not may_use_bucket(tx.connection, project_id, bucket):
        return False
    tx.execute(SQL["insert_bucket"], {"name": bucket, "project_id": project_id})
    return True


def list_buckets(connection: Connection, project_id: str) -> list[str]:
    rows = connection.execute(SQL["list_buckets"], {"project_id": project_id})
    return [row[0] for row in rows]


def _pool(row: Sequence[Any]) -> Pool:
    return Pool(
        id=row[0],
        project_id=row[1],
        display_name=row[2],
        partition=row[3],
        phase=PoolPhase(row[4]),
        scopes=tuple(Scope(scope) for scope in row[5].split(",") if scope),
        flavor_code=row[6],
        node_count=row[7],
        capacity=Resources(
            cpu_millis=row[8], memory_mib=row[9], gpu_count=row[10], npu_count=row[11]
        ),
        created_at_ms=row[12],
    )


def _node(row: Sequence[Any]) -> Node:
    return Node(
        name=row[0],
        partition=row[1],
        cpu_millis=row[2],
        memory_mib=row[3],
        card_kind=None if row[4] is None else CardKind(row[4]),
        cards=tuple(json.loads(row[5])),
    )
