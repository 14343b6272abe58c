"""Pages at any depth of the versions list, with any filter: the slowest there is."""

import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import product

from bench.dataset import Dataset, open_dataset, pool_ids
from bench.figure import Figure
from bench.run import Run
from muster.store.listing import VERSION_SORT_KEYS, ListQuery, page_of_versions

PAGE = 20
TRIES = 3
DEPTHS = (0, 0.1, 0.5, 0.9, 0.999)
DEPTHS_QUICK = (0, 0.5, 0.999)
STATUSES = ((), (11,), (5,), (7, 8), (8, 10, 11, 12))  # all, failed, never started, live, most
QUICK_KEYS = ("create_time", "status")  # whose depth blocks of counters tell
QUICK_MS, OTHER_MS = 20, 250


def measure(run: Run) -> list[Figure]:
    dataset = open_dataset(run, run.largest)
    others = tuple(key for key in VERSION_SORT_KEYS if key not in QUICK_KEYS)
    return [
        _slowest(run, dataset, keys, at_most=at_most)
        for keys, at_most in ((QUICK_KEYS, QUICK_MS), (others, OTHER_MS))
    ]


def _slowest(run: Run, dataset: Dataset, keys: Sequence[str], *, at_most: float) -> Figure:
    """By the clock, of the read alone: without HTTP and the thread that the slow ones have."""
    file = (dataset.data / "muster.db").absolute()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        [project_id] = connection.execute("SELECT id FROM project").fetchone()
        depths = DEPTHS_QUICK if run.is_quick else DEPTHS
        found = []
        for query in run.track(list(_lists(project_id, keys)), f"pages by {', '.join(keys)}"):
            total, _ = page_of_versions(connection, query)
            found += [(_milliseconds(connection, query, int(total * d)), d, query) for d in depths]
    worst, depth, query = max(found, key=lambda one: one[0])
    return Figure(
        what=f"page of {PAGE} versions by {', '.join(keys)}: the slowest of {len(found)}",
        rows=dataset.size,
        value=worst,
        unit="ms",
        how=f"median of {TRIES}, the read alone; by {query.sort_key}"
        f" {'desc' if query.is_descending else 'asc'}, at {depth:.1%}, statuses"
        f" {list(query.statuses) or 'all'}, {'one pool' if query.pool_id else 'all pools'};"
        f" the median of all is {statistics.median(ms for ms, _, _ in found):.2g} ms",
        at_most=at_most,
    )


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


def _milliseconds(connection: sqlite3.Connection, query: ListQuery, offset: int) -> float:
    deep = replace(query, offset=offset)
    tries = []
    for _ in range(TRIES):
        began = time.perf_counter()
        page_of_versions(connection, deep)
        tries.append((time.perf_counter() - began) * 1000)
    return statistics.median(tries)
