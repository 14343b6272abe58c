"""On PostgreSQL, a page of few matches passes few rows, whatever its order."""

from itertools import product
from typing import Any, Final

import pytest

from muster.store import listing
from muster.store.connection import Cursor, Values
from muster.store.dialect import in_postgres
from muster.store.listing import JOB_SORT_KEYS
from tests.store.test_plans import list_query
from tests.store.test_postgres_plans import Watched, connection

__all__ = ["connection"]  # a fixture

LIVE: Final = (1, 7, 8, 9)  # one job of 8,000 is
PASSED_MAX: Final = 600


class Counting(Watched):
    """Counts the rows that its statements pass without taking them."""

    passed = 0

    def execute(self, sql: str, values: Values = (), /) -> Cursor:
        if sql.startswith(("SELECT", "WITH")):
            statement = in_postgres(sql)
            [[[plan]]] = self.raw.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}",
                statement.values(values) or None,
            ).fetchall()
            self.passed += passed_by(plan["Plan"])
        return super().execute(sql, values)


def passed_by(step: dict[str, Any]) -> int:
    own: int = step.get("Rows Removed by Filter", 0) * step["Actual Loops"]
    return own + sum(map(passed_by, step.get("Plans", ())))


@pytest.mark.parametrize("sort_key", sorted(JOB_SORT_KEYS))
def test_jobs_that_few_statuses_have_are_not_looked_for_among_all(
    connection: Watched, sort_key: str
) -> None:
    for is_descending, is_bounded in product([False, True], [True, False]):
        query = list_query(sort_key, is_descending, LIVE, is_bounded=is_bounded)
        counting = Counting(connection.raw)
        try:
            total, _ = listing.page_of_jobs(counting, query)
        except listing.TooFar:
            continue

        assert total == 1
        assert counting.passed <= PASSED_MAX, query
