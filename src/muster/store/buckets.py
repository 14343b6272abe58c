"""Buckets: which project each one belongs to."""

import re
from typing import Final

from muster.store.connection import Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("buckets")

# Each project's own bucket, where the command line puts code: nobody else can take its name.
_PROJECT_BUCKET: Final = re.compile(r"project-[0-9a-f]{32}")


def may_use_bucket(connection: Connection, project_id: str, bucket: str) -> bool:
    """Whether the bucket is the project's. One that nobody has belongs to the default project."""
    owner = connection.execute(SQL["find_bucket_owner"], {"name": bucket}).fetchone()
    if owner is None:
        owner = connection.execute(SQL["default_project_id"]).fetchone()
    return owner is not None and bool(owner[0] == project_id)


def project_bucket(project_id: str) -> str:
    return f"project-{project_id}"


def may_claim_bucket(connection: Connection, project_id: str, bucket: str) -> bool:
    """Whether a bucket that is not there is the project's, or could be."""
    owner = _bucket_owner(connection, bucket)
    return _is_name_for(project_id, bucket) if owner is None else owner == project_id


def claim_bucket(tx: Transaction, project_id: str, bucket: str, *, is_there: bool) -> bool:
    """Take a new bucket for the project; False when it is somebody else's.

    Args:
        tx: the transaction to do it in.
        project_id: who wants it.
        bucket: its name.
        is_there: whether it exists. One without an owner is the default project's.
    """
    owner = _bucket_owner(tx.connection, bucket)
    if owner is not None:
        return owner == project_id
    if not _is_name_for(project_id, bucket):
        return False
    if is_there and not may_use_bucket(tx.connection, project_id, bucket):
        return False
    tx.execute(SQL["insert_bucket"], {"name": bucket, "project_id": project_id})
    return True


def _bucket_owner(connection: Connection, bucket: str) -> str | None:
    owner = connection.execute(SQL["find_bucket_owner"], {"name": bucket}).fetchone()
    return None if owner is None else str(owner[0])


def _is_name_for(project_id: str, bucket: str) -> bool:
    """Whether the project may take the name; each has one that is kept for it."""
    return _PROJECT_BUCKET.fullmatch(bucket) is None or bucket == project_bucket(project_id)


def list_buckets(connection: Connection, project_id: str) -> list[str]:
    rows = connection.execute(SQL["list_buckets"], {"project_id": project_id})
    return [row[0] for row in rows]
