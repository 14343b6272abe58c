"""Pages at any depth of both lists, with any filter: the slowest there is."""

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import product

from bench.dataset import Dataset, open_dataset, pool_ids
from bench.figure import Figure
from bench.run import Run
from muster.store.connection import Connection
from muster.store.listing import (
    JOB_SORT_KEYS,
    VERSION_SORT_KEYS,
    ListQuery,
    page_of_jobs,
    page_of_versions,
)
from muster.store.postgres.connection import open_snapshot

PAGE = 20
TRIES = 3
DEPTHS = (0, 0.1, 0.5, 0.9, 0.999)
DEPTHS_QUICK = (0, 0.5, 0.999)
STATUSES = ((), (11,), (5,), (7, 8), (8, 10, 11, 12))  # all, failed, never started, live, most
QUICK_KEYS = ("create_time", "status")  # whose depth blocks of counters tell
QUICK_MS, OTHER_MS = 20, 250


def measure(run: Run) -> list[Figure]:
    dataset = open_dataset(run, run.largest, may_be_shared=True)
    figures = []
    for what, all_keys in (("versions", VERSION_SORT_KEYS), ("jobs", JOB_SORT_KEYS)):
        others = tuple(key for key in all_keys if key not in QUICK_KEYS)
        for keys, at_most in ((QUICK_KEYS, QUICK_MS), (others, OTHER_MS)):
            figures.append(_slowest(run, dataset, what, keys, at_most=at_most))
    return figures


def _slowest(
    run: Run, dataset: Dataset, what: str, keys: Sequence[str], *, at_most: float
) -> Figure:
    """By the clock, of the read alone: without HTTP and the thread that the slow ones have."""
    with _opened(dataset) as connection:
        [project_id] = connection.execute("SELECT id FROM project").fetchone()
        depths = DEPTHS_QUICK if run.is_quick else DEPTHS
        found = []
        page_of = _PAGE_OF[what]
        # Only versions are in pools.
        queries = [
            query for query in _lists(project_id, keys) if what == "versions" or not query.pool_id
        ]
        for query in run.track(queries, f"pages of {what} by {', '.join(keys)}"):
            total, _ = page_of(connection, query)
            for depth in depths:
                deep = partial(page_of, connection, replace(query, offset=int(total * depth)))
                found.append((_milliseconds(deep), depth, query))
    worst, depth, query = max(found, key=lambda one: one[0])
    return Figure(
        what=f"page of {PAGE} {what} by {', '.join(keys)}{run.on_which}:"
        f" the slowest of {len(found)}",
        rows=dataset.size,
        value=worst,
        unit="ms",
        how=f"median of {TRIES}, the read alone; by {query.sort_key}"
        f" {'desc' if query.is_descending else 'asc'}, at {depth:.1%}, statuses"
        f" {list(query.statuses) or 'all'}, {'one pool' if query.pool_id else 'all pools'};"
        f" the median of all is {statistics.median(ms for ms, _, _ in found):.2g} ms",
        at_most=run.budget(at_most),
    )


@contextmanager
def _opened(dataset: Dataset) -> Iterator[Connection]:
    if dataset.database is not None:
        # As a thread has one that reads pages which take their time.
        with open_snapshot(dataset.database, walks=True) as shared:
            yield shared
        return
    file = (dataset.data / "muster.db").absolute()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        yield connection


def _lists(project_id: str, keys: Sequence[str]) -> Iterator[ListQuery]:
    pools = (None, pool_ids(project_id)[3])
    for key, is_descending, statuses, pool_id in product(keys, (False, True), STATUSES, pools):
        yield ListQuery(
            project_id=project_id,
            workspace_id="0",
            sort_key=key,
            is_descending=is_descending,
            offset=0,
            limit=PAGE,
            now_ms=time.time_ns() // 1_000_000,
            statuses=statuses,
            pool_id=pool_id,
        )


def _milliseconds(read: Callable[[], object]) -> float:
    tries = []
    for _ in range(TRIES):
        began = time.perf_counter()
        read()
        tries.append((time.perf_counter() - began) * 1000)
    return statistics.median(tries)


_PAGE_OF = {"versions": page_of_versions, "jobs": page_of_jobs}
