"""What happened to a pool and its nodes."""

from muster.api.http import Reply, Request, json_reply
from muster.api.pools.cursors import number_before, numbered_cursor
from muster.api.pools.views import timestamp
from muster.api.services import Services
from muster.store import pool_events, pools
from muster.store.connection import Connection
from muster.store.pool_events import PoolEventRow
from muster.wire import resource_layer as shapes
from muster.wire.decode import decode_query
from muster.wire.nodes import PAGE_MAX, PageMetadata


async def list_events(services: Services, request: Request) -> Reply:
    """Newest first, unless `ascend` is asked for; a page by offset, or behind a cursor."""
    query = decode_query(request.query, shapes.EventsQuery)
    after = number_before(query.continue_)
    offset = query.offset or 0
    caller = request.caller

    def read(connection: Connection) -> shapes.PoolEventList:
        pool = pools.get_pool(connection, caller.project_id, query.name)
        if not caller.may_enter(pool.workspace_id):
            raise pools.pool_unknown(query.name)
        total, left, rows = pool_events.list_events(
            connection,
            pool.id,
            type_=query.type or None,
            since_ms=query.since if isinstance(query.since, int) else None,
            until_ms=query.until if isinstance(query.until, int) else None,
            is_ascending=bool(query.ascend),
            after=after,
            offset=offset,
            limit=query.limit or PAGE_MAX,
        )
        remaining = max(0, left - offset - len(rows))
        return shapes.PoolEventList(
            metadata=PageMetadata(
                continue_=numbered_cursor(rows[-1].number) if remaining and rows else None,
                remainingItemCount=remaining,
            ),
            items=[_view(row) for row in rows],
            total=total,
        )

    return json_reply(await services.database.scan(read))


def _view(row: PoolEventRow) -> shapes.PoolEventView:
    at = timestamp(row.at_ms)
    return shapes.PoolEventView(
        type=row.type,
        firstTimestamp=at,
        lastTimestamp=at,
        count=1,
        reason=row.reason,
        message=row.message,
    )
