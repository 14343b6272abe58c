"""Measured metrics of real jobs on a real server, as the Huawei Cloud SDK and v1 show them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts import v1 as sdk

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.test_huawei_sdk import client_of

pytestmark = [
    pytest.mark.timeout(300),
    # The SDK's own: it opens its log handlers and sessions without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

INVENTORY = """
[machine]
cpus = 8
memory_gib = 64

[[pools]]
name = "small"
flavor = "modelarts.vm.cpu.1u"
count = 1
"""
BURNS = """
held = b"x" * (200 << 20)
print("up", flush=True)
while True:
    pass
"""
SIX_METRICS = ["cpuUsage", "memUsage", "gpuUtil", "gpuMemUsage", "npuUtil", "npuMemUsage"]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("metrics")
    inventory = folder / "inventory.toml"
    inventory.write_text(INVENTORY)
    data = folder / "data"
    data.mkdir()
    (data / "muster.toml").write_text("sample_seconds = 0.2\n")
    (data / "metrics.db").write_bytes(b"this is no database" * 1000)  # it is made anew
    with running_server(folder, "--inventory", inventory) as remote:
        yield remote


@pytest.fixture(scope="module")
def client(remote: Remote) -> Any:
    return client_of(remote)


@pytest.fixture(scope="module")
def job(remote: Remote) -> dict[str, Any]:
    """One that uses a whole CPU and 200 MiB, on the only node of its pool."""
    job = remote.submit("burns", BURNS, pool_id=remote.project.pool("small"))
    return remote.wait(job, 8) | {"job_id": job["job_id"]}


def job_id(client: Any) -> str:
    """Of the only one there is."""
    request = sdk.ListTrainingJobsRequest(body=sdk.JobSearches())
    [found] = client.list_training_jobs(request).items
    return str(found.metadata.id)


def test_a_busy_job_shows_what_it_uses_in_v1(remote: Remote, job: dict[str, Any]) -> None:
    def measured() -> dict[str, Any] | None:
        shown: dict[str, Any] = remote.version(job)["system_metric_list"]
        is_busy = max(map(float, shown.get("cpuUsage", ["-1"]))) > 20
        return shown if is_busy and float(shown["memUsage"][-1]) > 4 else None

    shown = wait_for(measured)

    assert set(shown) == {"cpuUsage", "memUsage", "interval"}
    assert shown["interval"] == 1
    [listed] = remote.project.get(f"/training-jobs/{job['job_id']}/versions")["versions"]
    assert set(json.loads(listed["system_metric_list"])) == set(shown)


def test_a_busy_job_shows_what_it_uses_in_v2(
    remote: Remote, client: Any, job: dict[str, Any]
) -> None:
    request = sdk.ShowTrainingJobMetricsRequest(job_id(client), "worker-0")

    def measured() -> dict[str, list[float]] | None:
        shown = {m.metric: m.value for m in client.show_training_job_metrics(request).metrics or []}
        return shown if max(shown.get("cpuUsage", [-1.0])) > 20 else None

    shown = wait_for(measured)

    assert list(shown) == SIX_METRICS
    assert {len(values) for values in shown.values()} == {len(shown["cpuUsage"])}
    assert 0 < max(shown["memUsage"]) <= 100
    assert set(shown["npuUtil"]) == {-1.0}


def test_an_unknown_task_is_refused(client: Any, job: dict[str, Any]) -> None:
    request = sdk.ShowTrainingJobMetricsRequest(job_id(client), "worker-7")

    with pytest.raises(ClientRequestException) as refused:
        client.show_training_job_metrics(request)

    assert (refused.value.status_code, refused.value.error_code) == (400, "ModelArts.2788")
    assert "worker-0" in refused.value.error_msg


def test_the_pool_of_a_busy_job_is_seen_to_be_busy(
    remote: Remote, client: Any, job: dict[str, Any]
) -> None:
    request = sdk.ShowPoolMonitorRequest(
        remote.project.pool("small"), time_range="-1.-1.5", statistics="maximum", period="60"
    )

    def measured() -> dict[str, Any] | None:
        metrics = client.show_pool_monitor(request).metrics
        shown = {series.metric.metric_name: series for series in metrics}
        if "cpuUsage" not in shown:
            return None
        values = [point.statistics[0].value for point in shown["cpuUsage"].data_points]
        return shown if max(values) > 20 else None

    shown = wait_for(measured)

    assert set(shown) == {
        "cpuUsage", "memUsedRate", "diskCapacity", "diskAvailableCapacity", "diskUsedRate",
    }  # fmt: skip
    cpu = shown["cpuUsage"]
    assert [(d.name, d.value) for d in cpu.metric.dimensions] == [
        ("clusterId", remote.project.pool("small"))
    ]
    assert len(cpu.data_points) == 5
    assert all(isinstance(point.timestamp, int) for point in cpu.data_points)
    assert cpu.data_points[0].unit == "Percent"
    assert shown["diskCapacity"].data_points[-1].unit == "Megabytes"
    assert shown["diskCapacity"].data_points[-1].statistics[0].value > 0


def test_the_public_pool_shows_the_machine_itself(remote: Remote, client: Any) -> None:
    request = sdk.ShowPoolMonitorRequest(remote.project.pool("public"))

    shown = {s.metric.metric_name: s for s in client.show_pool_monitor(request).metrics}

    assert {"cpuUsage", "memUsedRate", "diskUsedRate"} <= set(shown)
    memory = shown["memUsedRate"].data_points[-1].statistics[0]
    assert memory.statistic == "maximum"
    assert 0 < memory.value <= 100


def test_a_wrong_time_range_reaches_the_caller_in_words(remote: Remote, client: Any) -> None:
    request = sdk.ShowPoolMonitorRequest(remote.project.pool("small"), time_range="yesterday")

    with pytest.raises(ClientRequestException) as refused:
        client.show_pool_monitor(request)

    assert (refused.value.status_code, refused.value.error_code) == (400, "ModelArts.50004000")
    assert "time_range is 'yesterday'" in refused.value.error_msg


def test_what_pools_give_away_is_counted(remote: Remote, client: Any, job: dict[str, Any]) -> None:
    reply = client.show_pool_runtime_metrics(sdk.ShowPoolRuntimeMetricsRequest())

    assert (reply.api_version, reply.kind) == ("v2", "PoolMetricsList")
    tables = {item.metadata.name: item.table for item in reply.items}
    small = tables[remote.project.pool("small")]
    assert small.allocated.value.to_dict() == {"cpu": "1", "memory": "4Gi", "tnt004": "0"}
    assert small.capacity.value.to_dict() == {"cpu": "1", "memory": "4Gi", "tnt004": "0"}
    assert small.capacity.max_value.to_dict() == small.capacity.value.to_dict()


def test_a_job_keeps_its_metrics_when_it_has_ended(remote: Remote, job: dict[str, Any]) -> None:
    before = remote.version(job)["system_metric_list"]

    assert remote.stop(job).status_code == 200

    after = remote.wait(job, 12)["system_metric_list"]
    assert after["cpuUsage"][: len(before["cpuUsage"]) - 1] == before["cpuUsage"][:-1]
    assert set(after) == set(before)
