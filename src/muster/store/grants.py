"""What the API calls authorizations: kept for the clients that set them, and without effect here.

On the cloud they let the service act for a user; muster's jobs reach buckets as their project.
"""

from dataclasses import dataclass
from typing import Final

from muster.domain.errors import GrantTaken, GrantUnknown, QuotaExceeded
from muster.store.connection import REFUSED, Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("grants")

ALL_USERS: Final = "all-users"
GRANTS_MAX: Final = 1_000  # of one project


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceGrant:
    user_id: str
    user_name: str
    user_type: str
    type: str
    content: str
    created_at_ms: int


def insert_grant(tx: Transaction, project_id: str, grant: ServiceGrant) -> None:
    """Store one.

    Raises:
        GrantTaken: the user has one.
        QuotaExceeded: the project has as many as it may have.
    """
    [count] = tx.execute(SQL["count_grants"], {"project_id": project_id}).fetchone()
    if count >= GRANTS_MAX:
        raise QuotaExceeded(f"This project has {count} authorizations, as many as it may have.")
    try:
        tx.execute(
            SQL["insert_grant"],
            {
                "project_id": project_id,
                "user_id": grant.user_id,
                "user_name": grant.user_name,
                "user_type": grant.user_type,
                "type": grant.type,
                "content": grant.content,
                "created_at_ms": grant.created_at_ms,
            },
        )
    except REFUSED as error:
        raise GrantTaken(
            f"user_id is {grant.user_id!r}; that user has an authorization. Delete it first."
        ) from error


def list_grants(connection: Connection, project_id: str) -> list[ServiceGrant]:
    return [
        ServiceGrant(
            user_id=row[0],
            user_name=row[1],
            user_type=row[2],
            type=row[3],
            content=row[4],
            created_at_ms=row[5],
        )
        for row in connection.execute(SQL["list_grants"], {"project_id": project_id})
    ]


def delete_grants(tx: Transaction, project_id: str, user_id: str) -> None:
    """Of one user; ALL_USERS: every one.

    Raises:
        GrantUnknown: there is none.
    """
    statement = "delete_all_grants" if user_id == ALL_USERS else "delete_grant"
    key = {"project_id": project_id, "user_id": user_id}
    if tx.execute(SQL[statement], key).rowcount == 0:
        raise GrantUnknown(f"user_id is {user_id!r}; there is no such authorization.")
