"""A statement with one line of values does the same for any number of rows, on every store."""

import pytest

from muster.store.counting import SQL
from muster.store.database import Database
from muster.store.manyrows import ROWS_OF_STATEMENT, change_rows, of_one_row, run_for_rows
from muster.store.postgres.rows import in_one_value
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

COUNTS = (0, 1, 2, 3, 5, 8, 9, 33, ROWS_OF_STATEMENT, ROWS_OF_STATEMENT + 3)


def add_uses(tx: Transaction, rows: list[tuple[int, str]]) -> int:
    return change_rows(tx.connection, SQL["add_to_snapshot_use"], rows)


def insert_uses(tx: Transaction, rows: list[tuple[int, str]]) -> int:
    return change_rows(tx.connection, SQL["insert_snapshot_use"], rows)


def list_uses(tx: Transaction) -> dict[str, int]:
    return dict(tx.execute(SQL["list_snapshot_uses"]).fetchall())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.asyncio
async def test_every_row_is_made_once_and_changed_each_time(empty: Database, count: int) -> None:
    rows = [(number, f"digest-{number}") for number in range(count)]

    made = await empty.write(insert_uses, rows)
    made_again = await empty.write(insert_uses, rows)
    changed = await empty.write(add_uses, rows)

    assert (made, made_again, changed) == (count, 0, count)
    assert await empty.write(list_uses) == {digest: 2 * uses for uses, digest in rows}


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.asyncio
async def test_rows_that_are_not_there_are_neither_changed_nor_counted(
    empty: Database, count: int
) -> None:
    await empty.write(insert_uses, [(1, "there")])
    rows = [(1, f"digest-{number}") for number in range(count)]

    assert await empty.write(add_uses, rows) == 0
    assert await empty.write(add_uses, [*rows, (1, "there")]) == 1
    assert await empty.write(list_uses) == {"there": 2}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.asyncio
async def test_what_a_statement_returns_comes_for_all_rows(empty: Database, count: int) -> None:
    rows = [(number, f"digest-{number}") for number in range(count)]
    await empty.write(insert_uses, rows)
    returning = f"{SQL['add_to_snapshot_use']} RETURNING snapshot_use.digest"

    def change(tx: Transaction) -> list[str]:
        return [digest for (digest,) in run_for_rows(tx.connection, returning, rows)]

    assert sorted(await empty.write(change)) == sorted(digest for _, digest in rows)


def test_a_single_row_stands_in_place_of_the_table_of_values() -> None:
    text, order = of_one_row(load_statements("moves")["insert_event"])

    assert "VALUES" not in text
    assert text.count("?") == len(order)
    assert list(order) == [0, 0, 1, 2, 3, 4, 5, 6, 7]  # the workload: in its row, and to number it


def test_in_postgres_all_rows_are_one_value_under_the_names_of_their_columns() -> None:
    text, names = in_one_value(load_statements("workloads")["insert_workload"])

    assert text.count("?") == 1
    assert {"id", "uid", "project_id", "created_at_ms"} <= set(names)
    assert "run" not in names  # the statement says it itself
    assert "m.priority, '', m.time_limit_ms" in text
