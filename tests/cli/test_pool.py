import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

import muster.cli.pool
from muster.cli.main import main
from tests.client.fake_api import POOL, FakeApi, pool_view

Run = Callable[..., Result]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.setattr(muster.cli.pool, "WAIT_SECONDS", 0)
    return FakeApi()


@pytest.fixture
def run(api: FakeApi) -> Run:
    return lambda *args: CliRunner().invoke(main, args, obj=api.client)


def sent(api: FakeApi, method: str) -> Any:
    """The body of the one request of that method."""
    [request] = [request for request in api.requests if request.method == method]
    return json.loads(request.content)


def words(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def test_pools_are_listed(run: Run) -> None:
    assert words(run("pool", "list")) == [
        ["NAME", "PHASE", "NODES", "FLAVOR", "FOR", "ID", "MESSAGE"],
        ["digits", "Running", "3", "demo.gpu.1", "Train", POOL, "-"],
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


# ---------------------------------------------------------------- making and changing


def test_a_pool_is_made_for_everything_unless_scopes_are_named(api: FakeApi, run: Run) -> None:
    lines = words(run("pool", "create", "vision", "--flavor", "f", "--count", "2"))

    assert lines == [["vision", "is", "Creating", POOL]]
    assert sent(api, "POST") == {
        "apiVersion": "v2",
        "kind": "Pool",
        "metadata": {
            "labels": {"os.modelarts/name": "vision", "os.modelarts/workspace.id": "0"},
            "annotations": {},
        },
        "spec": {
            "type": "Dedicate",
            "scope": ["Train", "Infer", "Notebook"],
            "resources": [{"flavor": "f", "count": 2}],
        },
    }


def test_scope_workspace_and_description_are_sent(api: FakeApi, run: Run) -> None:
    run("pool", "create", "vision", "--flavor", "f", "--count", "1", "--scope", "train",
        "--scope", "Infer", "--workspace", "w", "--desc", "words")  # fmt: skip

    body = sent(api, "POST")
    assert body["spec"]["scope"] == ["Train", "Infer"]
    assert body["metadata"]["labels"]["os.modelarts/workspace.id"] == "w"
    assert body["metadata"]["annotations"] == {"os.modelarts/description": "words"}


def test_waiting_tells_on_the_way_how_the_pool_stands(api: FakeApi, run: Run) -> None:
    api.pool_views = [
        pool_view("Creating", creating=3),
        pool_view("Waiting", "Waits for nodes.", creating=1, available=2),
        pool_view("Waiting", "Waits for nodes.", creating=1, available=2),
        pool_view("Running", available=3),
    ]

    result = run("pool", "create", "digits", "--flavor", "f", "--count", "3", "--wait")

    assert words(result) == [["digits", "is", "Running", POOL]]
    assert result.stderr.splitlines() == [
        "digits: Creating  3 creating",
        "digits: Waiting  2 available, 1 creating  Waits for nodes.",
    ]


def test_a_pool_that_can_never_be_is_an_error(api: FakeApi, run: Run) -> None:
    api.pool_views = [pool_view("CreationFailed", "There is not that much.")]

    result = run("pool", "create", "digits", "--flavor", "f", "--count", "3", "--wait")

    assert result.exit_code == 1
    assert "There is not that much." in result.stderr


def test_the_only_flavor_is_meant_where_none_is_named(api: FakeApi, run: Run) -> None:
    api.pool_views = [
        pool_view("Running", creating=2, available=3, resources=[{"flavor": "x", "count": 5}]),
        pool_view("Running", available=5, resources=[{"flavor": "x", "count": 5}]),
    ]

    result = run("pool", "resize", "digits", "--count", "5", "--wait")

    assert words(result) == [["digits", "is", "Running", POOL]]
    assert sent(api, "PATCH") == {"spec": {"resources": [{"flavor": "demo.gpu.1", "count": 5}]}}
    assert "3 available, 2 creating" in result.stderr


def test_another_flavor_is_added(api: FakeApi, run: Run) -> None:
    run("pool", "resize", "digits", "--flavor", "other", "--count", "1")

    assert sent(api, "PATCH")["spec"]["resources"] == [
        {"flavor": "demo.gpu.1", "count": 3},
        {"flavor": "other", "count": 1},
    ]


def test_a_resize_that_can_never_be_is_an_error(api: FakeApi, run: Run) -> None:
    api.pool_views = [
        pool_view("Running", creating=96, available=3),
        pool_view("ScalingFailed", "Too many."),
    ]

    result = run("pool", "resize", "digits", "--count", "99", "--wait")

    assert result.exit_code == 1
    assert "Too many." in result.stderr


def test_a_deletion_is_waited_for_until_the_pool_is_gone(api: FakeApi, run: Run) -> None:
    api.pool_views = [pool_view("Deleting", deleting=1), {}]

    result = run("pool", "delete", "digits", "--yes", "--wait")

    assert words(result) == [["digits", "is", "gone"]]
    assert result.stderr.splitlines() == ["digits: Deleting  1 deleting"]
    assert words(run("pool", "delete", "digits", "--yes")) == [["digits", "is", "Deleting"]]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_a_pool_is_deleted_only_after_a_yes(api: FakeApi, answer: str) -> None:
    result = CliRunner().invoke(main, ["pool", "delete", "digits"], obj=api.client, input=answer)

    assert result.exit_code == 1
    assert "Delete pool digits and stop its jobs? [y/N]" in result.stderr
    assert {request.method for request in api.requests} == {"GET"}


# ---------------------------------------------------------------- nodes and events


def test_nodes_of_every_page_are_listed(run: Run) -> None:
    assert words(run("pool", "nodes", "digits")) == [
        ["NODE", "PHASE", "FLAVOR", "FREE", "OF", "NOTES"],
        ["digits-1", "Available", "demo.gpu.1", "cpu=1000m", "gpu=1", "cpu=1000m", "gpu=1", "-"],
        ["digits-2", "Deleting", "demo.gpu.1", "cpu=0m", "gpu=1", "cpu=1000m", "gpu=1",
         "draining,", "It", "goes."],
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["lock", "unlock"])
def test_nodes_are_locked_and_unlocked(api: FakeApi, run: Run, command: str) -> None:
    lines = words(run("pool", command, "digits", "digits-1", "digits-2"))

    assert lines == [[name, "is", f"{command}ed"] for name in ("digits-1", "digits-2")]
    assert sent(api, "POST") == {"nodeNames": ["digits-1", "digits-2"], "actions": ["delete"]}


def test_events_are_a_table_that_tells_when_there_are_more(run: Run) -> None:
    result = run("pool", "events", "digits", "--type", "Warning", "--limit", "1")

    header, row = words(result)
    assert header == ["TIME", "TYPE", "REASON", "MESSAGE"]
    assert row[:3] == ["2026-11-20T20:30:00Z", "Warning", "PoolStatusChange"]
    assert "1 of 3 events" in result.stderr


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["create", "x-pool", "--flavor", "f", "--count", "1"], "spec"),
        (["resize", "digits", "--count", "1"], "spec"),
        (["delete", "digits", "--yes"], "status"),
        (["nodes", "digits"], "items"),
        (["lock", "digits", "a"], "nodes"),
        (["unlock", "digits", "a"], "nodes"),
        (["events", "digits"], "total"),
    ],
)
def test_what_changes_something_answers_in_json_too(run: Run, args: list[str], key: str) -> None:
    assert key in json.loads(run("pool", *args, "--json").stdout)


@pytest.mark.parametrize(
    "command", ["create", "resize", "delete", "nodes", "lock", "unlock", "events", "list", "show"]
)
def test_help_has_examples(run: Run, command: str) -> None:
    assert f"muster pool {command}" in run("pool", command, "--help").stdout.split("Examples:")[1]
