"""What was measured, as the API shows it: of pools, of v2 tasks and of v1 versions."""

import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.api.metrics import PERIODS_MAX, parse_time_range, quantities
from muster.domain.errors import QueryInvalid
from muster.domain.metric import MINUTE_MS, NodeMetric, NodeReading, TaskMetric, TaskReading
from muster.domain.placement import CardKind
from muster.domain.resources import Resources
from muster.engines.engine import CardUsage, HostUsage
from tests.api import refusals
from tests.api.platform import Platform, Project, wait_until

HOUR_MS: Final = 60 * MINUTE_MS


def monitor(project: Project, pool: str = "small", /, **params: object) -> httpx.Response:
    path = f"{project.v2}/pools/{project.pool(pool)}/monitor"
    return project.http.get(path, params=params)  # type: ignore[arg-type]


def values_of(reply: httpx.Response, metric: str = "cpuUsage") -> list[float]:
    assert reply.status_code == 200, reply.text
    [series] = [s for s in reply.json()["metrics"] if s["metric"]["metricName"] == metric]
    return [statistic["value"] for p in series["dataPoints"] for statistic in p["statistics"]]


def add(platform: Platform, *readings: NodeReading | TaskReading, at_ms: int) -> None:
    platform.run(platform.server.sampler.metrics.add(readings, now_ms=at_ms))


def workload_of(platform: Platform, job: dict[str, Any]) -> int:
    def read(connection: Any) -> int:
        query = "SELECT workload_id FROM version WHERE id = ?"
        [workload_id] = connection.execute(query, (job["version_id"],)).fetchone()
        return int(workload_id)

    return platform.run(platform.server.database.read(read))


@pytest.fixture(scope="module")
def minutes(platform: Platform, project: Project) -> int:
    """Ten minutes up to now: node a used 1, 2 ... 10 percent, node b ten times as much."""
    now_ms = platform.clock()
    partition = project.pool("small")
    for minute in range(1, 11):
        at_ms = now_ms - (10 - minute) * MINUTE_MS
        for node, value in (("a", minute), ("b", 10 * minute)):
            reading = NodeReading(
                partition=partition, node_name=node, metric=NodeMetric.CPU, value=value
            )
            add(platform, reading, at_ms=at_ms)
    disk = NodeReading(partition=partition, node_name="a", metric=NodeMetric.DISK, value=5000.0)
    add(platform, disk, at_ms=now_ms - 2 * HOUR_MS)
    return now_ms // MINUTE_MS


class TestPoolMonitor:
    def test_the_last_hour_is_shown_by_minutes(
        self, platform: Platform, project: Project, minutes: int
    ) -> None:
        reply = monitor(project)

        cpu, disk = reply.json()["metrics"]
        assert cpu["metric"] == {
            "metricName": "cpuUsage",
            "namespace": "PAAS.AGGR",
            "dimensions": [{"name": "clusterId", "value": project.pool("small")}],
        }
        assert [point["timestamp"] for point in cpu["dataPoints"]] == [
            minute * MINUTE_MS for minute in range(minutes - 59, minutes + 1)
        ]
        assert cpu["dataPoints"][-1] == {
            "timestamp": minutes * MINUTE_MS,
            "unit": "Percent",
            "statistics": [{"statistic": "maximum", "value": 100.0}],
        }
        assert values_of(reply) == [-1.0] * 50 + [10.0 * n for n in range(1, 11)]
        assert disk["metric"]["metricName"] == "diskCapacity"
        assert disk["dataPoints"][0]["unit"] == "Megabytes"
        assert values_of(reply, "diskCapacity") == [-1.0] * 60

    @pytest.mark.parametrize(
        ("statistic", "value"),
        [
            ("maximum", 100.0),
            ("minimum", 1.0),
            ("sum", 605.0),
            ("average", 30.25),
            ("sampleCount", 20.0),
        ],
    )
    def test_each_statistic_is_that_of_all_nodes_and_minutes(
        self, platform: Platform, project: Project, minutes: int, statistic: str, value: float
    ) -> None:
        now_ms = minutes * MINUTE_MS
        time_range = f"{now_ms - 15 * MINUTE_MS}.{now_ms + MINUTE_MS}.60"

        reply = monitor(project, statistics=statistic, period=3600, time_range=time_range)

        assert max(values_of(reply)) == value
        [point, *_] = reply.json()["metrics"][0]["dataPoints"]
        assert point["statistics"][0]["statistic"] == statistic
        assert point["unit"] == ("" if statistic == "sampleCount" else "Percent")

    def test_a_metric_without_a_source_is_absent(self, project: Project) -> None:
        assert monitor(project, "cards").json() == {"metrics": []}

    def test_a_pool_of_another_project_is_not_there(self, project: Project, other: Project) -> None:
        path = f"{other.v2}/pools/{project.pool('small')}/monitor"

        refusals.modern(other.http.get(path), 404, "ModelArts.50015001")

    @pytest.mark.parametrize(
        ("params", "says"),
        [
            ({"time_range": "60"}, "time_range is '60'; it must be START.END.MINUTES"),
            ({"time_range": "-1.-1.-1"}, "time_range is '-1.-1.-1'; it must be"),
            ({"time_range": "-2.-1.60"}, "time_range is '-2.-1.60'; it must be"),
            ({"time_range": "-1.-1.1.5"}, "time_range is '-1.-1.1.5'; it must be"),
            ({"time_range": ""}, "time_range is ''; it must be"),
            ({"time_range": "-1.-1.0"}, "its minutes must be from 1 to 1440"),
            ({"time_range": "-1.-1.1441"}, "its minutes must be from 1 to 1440"),
            ({"time_range": "-1.-1.7201", "period": 300}, "from 1 to 7200"),
            ({"time_range": "600000.0.60"}, "it must end after its start"),
            ({"time_range": "9999999999999.-1.60"}, "start before now"),
            ({"time_range": "0.999999999999999.60"}, "its times must be from 0 to"),
            ({"time_range": "0.600000.8"}, "its minutes must be at least 9"),
            ({"statistics": "median"}, 'statistics is "median"; it must be'),
            ({"period": 120}, 'period is "120"; it must be'),
            ({"period": "1m"}, 'period is "1m"; it must be'),
        ],
    )
    def test_anything_else_is_refused_by_name_and_value(
        self, project: Project, params: dict[str, object], says: str
    ) -> None:
        message = refusals.modern(monitor(project, **params), 400, "ModelArts.50004000")

        assert says in message

    @pytest.mark.parametrize("time_range", ["-1.-1.1440", "0.600000.9", "0.-1.1", "-1.600000.60"])
    def test_the_edges_of_what_is_allowed_are_taken(
        self, project: Project, time_range: str
    ) -> None:
        assert monitor(project, time_range=time_range).status_code == 200


@given(
    now_ms=st.integers(10**11, 10**13),
    minutes=st.integers(1, PERIODS_MAX),
    period_minutes=st.sampled_from([1, 5, 15, 60]),
)
def test_there_are_as_many_periods_as_the_range_is_long(
    now_ms: int, minutes: int, period_minutes: int
) -> None:
    span = parse_time_range(f"-1.-1.{minutes}", period_minutes=period_minutes, now_ms=now_ms)

    assert len(span.periods) == -(-minutes // period_minutes)
    assert span.periods[-1] == (now_ms - 1) // (period_minutes * MINUTE_MS)
    assert now_ms - (minutes + 1) * MINUTE_MS <= span.first_minute * MINUTE_MS
    assert span.last_minute * MINUTE_MS < now_ms


@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**5))
def test_a_range_is_answered_with_few_periods_or_refused(
    start_ms: int, end_ms: int, minutes: int
) -> None:
    try:
        span = parse_time_range(f"{start_ms}.{end_ms}.{minutes}", period_minutes=1, now_ms=10**12)
    except QueryInvalid:
        return
    assert 0 < len(span.periods) <= PERIODS_MAX + 1


class TestRuntimeMetrics:
    def test_each_pool_shows_what_it_has_and_what_is_held(
        self, platform: Platform, project: Project
    ) -> None:
        cards = project.pool("cards")
        job = platform.submit("holds", pool_id=cards, spec_id=platform.spec_ids["gpu.2"])
        platform.wait_for(job, 8)

        reply = project.http.get(f"{project.v2}/metrics/runtime/pools")

        assert reply.status_code == 200, reply.text
        shown = reply.json()
        assert (shown["apiVersion"], shown["kind"]) == ("v2", "PoolMetricsList")
        tables = {item["metadata"]["name"]: item["table"] for item in shown["items"]}
        assert set(tables) == {project.pool(p) for p in ("public", "small", "cards", "serving")}
        timestamp = {"timestamp": "2023-11-14T22:13:20+00:00", "window": "1m"}
        two_gpus = {"cpu": "2", "memory": "8Gi", "tnt004": "2", "nvidia.com/gpu": "2"}
        assert tables[cards] == {
            "allocated": {"value": two_gpus, **timestamp},
            "capacity": {"value": two_gpus, "maxValue": two_gpus, **timestamp},
        }
        assert tables[project.pool("small")]["allocated"]["value"] == {
            "cpu": "0", "memory": "0Gi", "tnt004": "0",
        }  # fmt: skip
        platform.finish(job)
        again = project.http.get(f"{project.v2}/metrics/runtime/pools").json()["items"]
        [table] = [item["table"] for item in again if item["metadata"]["name"] == cards]
        assert table["allocated"]["value"] == {
            "cpu": "0", "memory": "0Gi", "tnt004": "0", "nvidia.com/gpu": "0",
        }  # fmt: skip

    def test_another_project_sees_its_own_pools_only(self, other: Project) -> None:
        [item] = other.http.get(f"{other.v2}/metrics/runtime/pools").json()["items"]

        assert item["metadata"]["name"] == other.pool("public")
        assert item["metadata"]["labels"] == {"os.modelarts/name": "public"}

    @pytest.mark.parametrize(
        ("resources", "expected"),
        [
            (Resources(cpu_millis=1073, memory_mib=15548),
             {"cpu": "1073m", "memory": "15548Mi", "tnt004": "0"}),
            (Resources(cpu_millis=2000, memory_mib=65536, npu_count=8),
             {"cpu": "2", "memory": "64Gi", "tnt004": "8", "huawei.com/ascend-1980": "8"}),
        ],
    )  # fmt: skip
    def test_amounts_are_written_as_quantities(
        self, resources: Resources, expected: dict[str, str]
    ) -> None:
        assert quantities(resources, of=resources) == expected


@pytest.fixture(scope="module")
def job(platform: Platform, project: Project) -> Iterator[dict[str, Any]]:
    """Two workers, measured in the minute of the start and in the second one after it."""
    job = platform.submit("measured", worker_server_num=2)
    platform.wait_for(job, 8)
    workload_id = workload_of(platform, job)
    for minute, values in ((0, (10.0, 30.0)), (2, (50.0, 70.0))):
        for index, value in enumerate(values):
            for metric, factor in ((TaskMetric.CPU, 1), (TaskMetric.MEMORY, 0.123456)):
                reading = TaskReading(
                    workload_id=workload_id,
                    task_index=index,
                    metric=metric,
                    value=value * factor,
                )
                add(platform, reading, at_ms=platform.clock() + minute * MINUTE_MS)
    platform.clock.now_ms += 3 * MINUTE_MS
    yield job
    platform.finish_all(job)


class TestTaskMetrics:
    def metrics(self, project: Project, job: dict[str, Any], task: str) -> httpx.Response:
        searched = project.http.post(
            f"{project.v2}/training-job-searches",
            json={"filters": [{"key": "name", "operator": "in", "value": [job["job_name"]]}]},
        )
        [found] = searched.json()["items"]
        uid = found["metadata"]["id"]
        return project.http.get(f"{project.v2}/training-jobs/{uid}/metrics/{task}")

    def test_every_metric_has_a_mean_a_minute(self, project: Project, job: dict[str, Any]) -> None:
        reply = self.metrics(project, job, "worker-1")

        assert reply.status_code == 200, reply.text
        nothing = [-1.0, -1.0, -1.0]
        assert reply.json() == {
            "metrics": [
                {"metric": "cpuUsage", "value": [30.0, -1.0, 70.0]},
                {"metric": "memUsage", "value": [3.7, -1.0, 8.64]},
                {"metric": "gpuUtil", "value": nothing},
                {"metric": "gpuMemUsage", "value": nothing},
                {"metric": "npuUtil", "value": nothing},
                {"metric": "npuMemUsage", "value": nothing},
            ]
        }

    def test_an_unknown_task_is_refused(self, project: Project, job: dict[str, Any]) -> None:
        message = refusals.modern(self.metrics(project, job, "worker-2"), 400, "ModelArts.2788")

        assert "task_id is 'worker-2'; this job has worker-0, worker-1" in message

    def test_an_unknown_job_is_refused(self, project: Project) -> None:
        path = f"{project.v2}/training-jobs/{'0' * 32}/metrics/worker-0"

        refusals.modern(project.http.get(path), 400, "ModelArts.2775")

    def test_a_job_without_samples_answers_so_until_it_is_over(
        self, platform: Platform, project: Project
    ) -> None:
        job = platform.submit("unmeasured")
        platform.wait_for(job, 8)
        assert self.metrics(project, job, "worker-0").status_code == 204

        platform.finish(job)

        shown = self.metrics(project, job, "worker-0").json()["metrics"]
        assert [(series["metric"], series["value"]) for series in shown] == [
            (metric.value, []) for metric in TaskMetric
        ]

    def test_a_version_shows_its_workers_together(
        self, project: Project, job: dict[str, Any]
    ) -> None:
        path = f"/training-jobs/{job['job_id']}/versions"
        expected = {
            "cpuUsage": ["20", "-1", "60"],
            "memUsage": ["2.47", "-1", "7.41"],
            "interval": 1,
        }

        detail = project.get(f"{path}/{job['version_id']}")
        [listed] = project.get(path)["versions"]

        assert detail["system_metric_list"] == expected
        assert json.loads(listed["system_metric_list"]) == expected


class TestSampling:
    def test_what_the_engine_measures_is_shown(self, platform: Platform, project: Project) -> None:
        """From the engine to the wire, with the server's own sampler."""
        [host] = platform.run(hosts_of(platform))
        platform.engine.host_usage = {
            host: HostUsage(
                cpu_percent=12.5,
                memory_used_mib=256,
                memory_total_mib=1024,
                disk_free_mib=4000,
                disk_total_mib=5000,
                cards=(
                    CardUsage(kind=CardKind.GPU, index=0, busy_percent=40.0,
                              memory_used_mib=1, memory_total_mib=4),
                ),
            )
        }  # fmt: skip
        platform.call(platform.server.sampler.wake)

        wait_until(lambda: bool(monitor(project, "public").json()["metrics"]))

        shown = {
            series["metric"]["metricName"]: series["dataPoints"][-1]["statistics"][0]["value"]
            for series in monitor(project, "public").json()["metrics"]
        }
        disk = {"diskCapacity": 5000.0, "diskAvailableCapacity": 4000.0, "diskUsedRate": 20.0}
        assert disk.items() <= shown.items()
        assert shown["cpuUsage"] == 12.5
        assert shown["memUsedRate"] == 25.0


async def hosts_of(platform: Platform) -> list[str]:
    def read(connection: Any) -> list[str]:
        return [name for (name,) in connection.execute("SELECT name FROM host")]

    return await platform.server.database.read(read)
