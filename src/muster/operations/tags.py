"""Tags of training jobs. Those of pools and nodes are beside what else is done to them."""

from muster.domain.tag import TagChange, changed_tags
from muster.store import tags
from muster.store.database import Database
from muster.store.transaction import Transaction


async def tag_version(
    database: Database, version_id: int, change: TagChange
) -> dict[str, str] | None:
    """The tags of a version after the change; None: it is listed no more.

    Raises:
        InvalidRequest: names the tag; nothing was changed.
    """

    def tag(tx: Transaction) -> dict[str, str] | None:
        if not tags.is_listed(tx.connection, version_id):
            return None
        before = tags.list_version_tags(tx.connection, version_id)
        after = changed_tags(before, change)
        tags.put_version_tags(tx, version_id, before, after)
        return after

    return await database.write(tag)
