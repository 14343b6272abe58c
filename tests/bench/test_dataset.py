"""The stores that are made to be measured on: full, as asked for, and exact."""

import io
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from bench import dataset
from bench.dataset import QUEUED, RUNNING, copied_dataset, open_dataset
from bench.run import NotMeasured, Run
from muster.store import addressed
from muster.store.connection import Connection
from muster.store.recount import differences
from muster.store.sqlite import open_snapshot
from tests.postgres import postgres_kinds, programs_of, running_postgres

SIZE = 1_500


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(dataset, "CACHE", tmp_path)
    return Run(
        sizes=(SIZE,),
        is_quick=True,
        job_count=0,
        database=None,
        progress=Progress(console=Console(file=io.StringIO())),
    )


def test_a_store_made_to_be_measured_on_is_full_and_every_count_is_exact(run: Run) -> None:
    made = open_dataset(run, SIZE)

    with open_snapshot(made.data / "muster.db") as connection:
        assert_full_and_exact(connection)


def assert_full_and_exact(connection: Connection) -> None:
    assert list(differences(connection)) == []
    by_status = dict(
        connection.execute("SELECT status, count(*) FROM version GROUP BY status").fetchall()
    )
    assert sum(by_status.values()) == SIZE + QUEUED + RUNNING
    assert (by_status[7], by_status[8]) == (QUEUED, RUNNING)


def test_the_same_is_made_on_postgresql_once_as_long_as_its_database_is_there(
    run: Run, tmp_path: Path
) -> None:
    with running_postgres(programs_of(postgres_kinds()[0])) as server:
        shared = replace(run, database=server.make_database("bench"))
        made = open_dataset(shared, SIZE, may_be_shared=True)

        assert made.database is not None
        with addressed.open_snapshot(made.database) as connection:
            assert_full_and_exact(connection)
        file = made.data / "as it was"
        file.touch()
        assert open_dataset(shared, SIZE, may_be_shared=True) == made
        assert file.exists()

        server.drop_database(f"bench-{dataset._key()}-{SIZE}")
        assert open_dataset(shared, SIZE, may_be_shared=True) == made
        assert not file.exists()
        with addressed.open_snapshot(made.database) as connection:
            assert_full_and_exact(connection)


def test_what_is_measured_on_sqlite_alone_is_not_measured_as_postgresql(run: Run) -> None:
    with pytest.raises(NotMeasured, match="so far"):
        open_dataset(replace(run, database="postgresql:///bench"), SIZE)


def test_a_store_is_made_once_and_a_copy_of_it_leaves_nothing_behind(
    run: Run, tmp_path: Path
) -> None:
    made = open_dataset(run, SIZE)

    with copied_dataset(run, SIZE) as copy:
        with closing(sqlite3.connect(copy.data / "muster.db")) as connection, connection:
            connection.execute("UPDATE job SET description = 'changed'")
        again = open_dataset(run, SIZE)

    assert again == made
    assert [path.name for path in tmp_path.iterdir()] == [made.data.parent.name]
