import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from muster.cli.main import main
from tests.client.fake_api import POOL, FakeApi

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    api = FakeApi()
    return lambda *args: CliRunner().invoke(main, args, obj=api.client)


def words(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def test_pools_are_listed(run: Run) -> None:
    assert words(run("pool", "list")) == [
        ["NAME", "PHASE", "NODES", "FLAVOR", "FOR", "ID"],
        ["digits", "Running", "3", "demo.gpu.1", "Train", POOL],
    ]


@pytest.mark.parametrize("name", ["digits", POOL])
def test_a_pool_is_shown_by_name_or_id_with_what_runs_on_it(run: Run, name: str) -> None:
    lines = words(run("pool", "show", name))

    assert ["nodes", "3", "x", "demo.gpu.1"] in lines
    assert lines[-1][:8] == ["train-1", "train", "Running", "demo.gpu.1", "1", "min", "5", "s"]


def test_the_counts_of_a_pool_are_a_table_of_all_nine_states(run: Run) -> None:
    header, row, _, _, resource = words(run("pool", "stats", "digits"))

    assert header == [
        "TYPE", "QUEUE", "PENDING", "ABNORMAL", "TERMINATING", "CREATING", "RUNNING", "COMPLETED",
        "TERMINATED", "FAILED", "TOTAL",
    ]  # fmt: skip
    assert row == ["train", "1", "0", "0", "0", "0", "2", "0", "0", "0", "3"]
    assert resource == ["cpu", "2", "3"]


@pytest.mark.parametrize(
    ("args", "key"),
    [(["list"], "items"), (["show", POOL], "spec"), (["stats", POOL], "statistics")],
)
def test_each_can_be_had_as_the_server_answers(run: Run, args: list[str], key: str) -> None:
    assert key in json.loads(run("pool", *args, "--json").stdout)


def test_an_unknown_pool_is_told(run: Run) -> None:
    result = run("pool", "stats", "sea")

    assert result.exit_code == 1
    assert "no pool 'sea'. `muster pool list` shows what there is." in result.stderr
