"""No statement about services reads more of a table than what it is about."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from muster.domain.service import InstancePhase, ServiceStatus, Wish
from muster.store import models, services
from muster.store.sqlite import migrate

STATEMENTS = {**models.SQL, **services.SQL}

# These read an index of nothing but what they are about, or a bounded number of one project.
READ_WHOLE = ("SCAN json_each", "SCAN CONSTANT ROW", "SCAN service USING INDEX service_kept")


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        yield connection


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_it_walks_an_index(connection: sqlite3.Connection, name: str) -> None:
    statement = STATEMENTS[name]
    values = dict.fromkeys(re.findall(r":(\w+)", statement), "[]")

    steps = [
        step[3]
        for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        if step[3].startswith("SCAN") and not step[3].startswith(READ_WHOLE)
    ]

    assert steps == []


def checked_values(connection: sqlite3.Connection, table: str, column: str) -> set[str]:
    """What the schema lets into a column."""
    [[sql]] = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,))
    found = re.search(rf"\b{column}\s+TEXT NOT NULL CHECK \({column} IN \(([^)]*)\)", sql)
    assert found is not None, (table, column)
    return set(re.findall(r"'([^']*)'", found[1]))


def test_the_schema_knows_what_the_domain_knows(connection: sqlite3.Connection) -> None:
    stored = set(ServiceStatus) - {ServiceStatus.FINISHED}  # see `_stored_status`
    assert checked_values(connection, "service", "status") == {str(one) for one in stored}
    assert checked_values(connection, "service", "wish") == {str(one) for one in Wish}
    assert checked_values(connection, "service_instance", "phase") == {
        str(one) for one in InstancePhase
    }
