"""Statistics, workloads and pools over HTTP: the resource layer of v2."""

import re
from typing import Any

import httpx
import pytest

from tests.api import refusals
from tests.api.platform import Platform, Project, running_platform

STATES = [
    "Queue", "Pending", "Abnormal", "Terminating", "Creating", "Running", "Completed", "Terminated",
    "Failed",
]  # fmt: skip


def statistics(project: Project, pool: str) -> dict[str, Any]:
    reply = project.http.get(f"{project.v2}/statistics/pools/{project.pool(pool)}/workloads")
    assert reply.status_code == 200, reply.text
    assert set(reply.json()) == {"statistics"}
    return dict(reply.json()["statistics"])


def ask(project: Project, pool: str = "small", **params: object) -> httpx.Response:
    path = f"{project.v2}/pools/{project.pool(pool)}/workloads"
    return project.http.get(path, params=params)  # type: ignore[arg-type]


def workloads(project: Project, pool: str = "small", **params: object) -> list[dict[str, Any]]:
    reply = ask(project, pool, **params)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["items"])


def names(project: Project, pool: str = "small", **params: object) -> list[str]:
    return [item["jobName"] for item in workloads(project, pool, **params)]


@pytest.fixture(scope="module")
def jobs(platform: Platform) -> dict[str, dict[str, Any]]:
    """On the pool of two nodes: one completed, one failed, one running, two waiting."""
    small = platform.project.pool("small")
    made = {}
    for name, workers, exit_code in (
        ("well", 1, 0), ("badly", 1, 3), ("runs", 2, None), ("waits", 1, None), ("last", 2, None),
    ):  # fmt: skip
        platform.clock.now_ms += 2_000
        made[name] = platform.submit(name, worker_server_num=workers, pool_id=small)
        if exit_code is not None:
            platform.finish(made[name], exit_code, after_ms=3_000)
    platform.wait_for(made["runs"], 8)
    platform.wait_for(made["last"], 7)
    return made


class TestStatistics:
    @pytest.mark.usefixtures("jobs")
    def test_every_type_has_all_nine_states(self, project: Project) -> None:
        shown = statistics(project, "small")

        assert shown["total"] == 3
        assert [item["type"] for item in shown["items"]] == ["train", "infer", "notebook"]
        for item in shown["items"]:
            assert set(item) == {"type", "total", "status"}
            assert list(item["status"]) == STATES
            assert item["total"] == sum(item["status"].values())

    @pytest.mark.usefixtures("jobs")
    def test_each_job_is_in_exactly_one_state(self, project: Project) -> None:
        train, infer, notebook = statistics(project, "small")["items"]

        assert train["total"] == 5
        assert {k: n for k, n in train["status"].items() if n} == {
            "Queue": 2, "Running": 1, "Completed": 1, "Failed": 1,
        }  # fmt: skip
        assert infer["total"] == notebook["total"] == 0

    @pytest.mark.usefixtures("jobs")
    def test_resources_are_what_is_held_and_what_there_is(self, project: Project) -> None:
        assert statistics(project, "small")["resources"] == {
            "cpu": {"used": 2.0, "total": 2.0},
            "memory": {"used": 8.0, "total": 8.0},
            "nvidia.com/gpu": {"used": 0.0, "total": 0.0},
            "huawei.com/ascend-1980": {"used": 0.0, "total": 0.0},
        }
        assert statistics(project, "cards")["resources"]["nvidia.com/gpu"] == {
            "used": 0.0, "total": 2.0,
        }  # fmt: skip

    def test_counts_follow_a_job_to_its_deletion(self, platform: Platform) -> None:
        project = platform.new_project("counted")

        def counts() -> dict[str, int]:
            status = statistics(project, "public")["items"][0]["status"]
            return {state: count for state, count in status.items() if count}

        job = platform.submit("followed", project=project)
        platform.wait_for(job, 8, project)
        running = counts()
        path = f"{project.v1}/training-jobs/{job['job_id']}"
        project.http.post(f"{path}/versions/{job['version_id']}/stop")
        platform.wait_for(job, 12, project)
        stopped = counts()
        project.http.delete(path)

        assert (running, stopped, counts()) == ({"Running": 1}, {"Terminated": 1}, {})
        project.http.close()

    def test_a_query_and_a_body_are_ignored(self, project: Project) -> None:
        path = f"{project.v2}/statistics/pools/{project.pool('small')}/workloads"

        reply = project.http.request("GET", f"{path}?type=x&limit=x", content=b"{")

        assert reply.status_code == 200

    @pytest.mark.parametrize(
        "pool", ["nowhere", "small", "x" * 300, "..%2Fsmall", "%00", "%FF", "SMALL", "a'b", "%20"]
    )
    def test_an_unknown_pool_is_not_found(self, project: Project, pool: str) -> None:
        for path in (
            f"{project.v2}/statistics/pools/{pool}/workloads",
            f"{project.v2}/pools/{pool}/workloads",
            f"{project.v2}/pools/{pool}",
        ):
            message = refusals.modern(project.http.get(path), 404, "ModelArts.50015001")
            assert message.startswith("Pool ")
            assert message.endswith(" not found.")
        if pool.isalnum():
            assert message == f"Pool {pool} not found."

    def test_the_pool_of_another_project_is_as_if_it_were_not_there(
        self, platform: Platform, other: Project
    ) -> None:
        theirs = platform.project.pool("small")
        for path in (
            f"{other.v2}/statistics/pools/{theirs}/workloads",
            f"{other.v2}/pools/{theirs}/workloads",
            f"{other.v2}/pools/{theirs}",
        ):
            message = refusals.modern(other.http.get(path), 404, "ModelArts.50015001")
            assert message == f"Pool {theirs} not found."

    def test_public_pools_share_nodes_but_no_counts(
        self, platform: Platform, other: Project
    ) -> None:
        job = platform.submit("only-mine")
        platform.wait_for(job, 8)

        assert statistics(other, "public")["items"][0]["total"] == 0
        assert statistics(platform.project, "public")["items"][0]["total"] >= 1

    def test_the_total_may_be_set_to_count_jobs(self, tmp_path_factory: Any) -> None:
        folder = tmp_path_factory.mktemp("jobs-total") / "data"
        with running_platform(folder, statistics_total="jobs") as platform:
            job = platform.submit("one")
            platform.wait_for(job, 8)

            assert statistics(platform.project, "public")["total"] == 1


@pytest.mark.usefixtures("jobs")
class TestWorkloads:
    def test_the_list_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = ask(project).json()

        assert set(body) == {"apiVersion", "kind", "metadata", "items", "total"}
        assert (body["apiVersion"], body["kind"], body["metadata"]) == ("v1", "WorkloadList", {})
        assert body["total"] == 5

    def test_a_running_workload_has_exactly_the_documented_fields(
        self, platform: Platform, project: Project
    ) -> None:
        [item] = workloads(project, status="Running")

        assert item == {
            "apiVersion": "v1",
            "kind": "Workload",
            "type": "train",
            "namespace": project.pool("small"),
            "name": f"modelarts-job-{item['jobUUID']}",
            "jobName": "runs",
            "uid": item["uid"],
            "jobUUID": item["jobUUID"],
            "flavor": "modelarts.vm.cpu.1u",
            "status": "Running",
            "resourceRequirement": {"cpu": "2 Cores", "memory": "8 GiB"},
            "priority": item["priority"],
            "runningDuration": (platform.clock.now_ms - item["createTime"]) // 1000,
            "pendingDuration": 0,
            "pendingPosition": -1,
            "createTime": item["createTime"],
            "gvk": item["gvk"],
            "hostIps": "small-1,small-2",
            "nodes": [
                {
                    "hostIp": host,
                    "npuTopologyPlacement": "",
                    "resourceRequirement": {"cpu": "1 Cores", "memory": "4 GiB"},
                }
                for host in ("small-1", "small-2")
            ],
            "isDeleted": "false",
            "pendingReason": "",
            "pendingMessage": "",
            "predictedStartTime": None,
        }
        assert item["priority"].isdigit()

    def test_waiting_ones_know_their_place(self, project: Project) -> None:
        places = {item["jobName"]: item["pendingPosition"] for item in workloads(project)}

        assert places == {"well": -1, "badly": -1, "runs": -1, "waits": 1, "last": 2}

    def test_durations_are_seconds(self, platform: Platform, project: Project) -> None:
        by_name = {item["jobName"]: item for item in workloads(project)}

        assert by_name["well"]["runningDuration"] == 3
        assert by_name["waits"]["runningDuration"] == 0
        assert by_name["waits"]["pendingDuration"] == (
            (platform.clock.now_ms - by_name["waits"]["createTime"]) // 1000
        )
        assert by_name["well"]["hostIps"] == ""

    def test_a_card_job_shows_its_cards(self, platform: Platform, project: Project) -> None:
        job = platform.submit("cards", pool_id=project.pool("cards"),
                              spec_id=platform.spec_ids["gpu.2"])  # fmt: skip
        platform.wait_for(job, 8)

        [item] = workloads(project, "cards")

        assert item["resourceRequirement"] == {
            "cpu": "2 Cores", "memory": "8 GiB", "nvidia.com/gpu": "2",
        }  # fmt: skip

    def test_the_newest_come_first_unless_ascend_is_asked_for(self, project: Project) -> None:
        newest_first = ["last", "waits", "runs", "badly", "well"]

        assert names(project) == newest_first
        assert names(project, sort="create_time") == newest_first
        assert names(project, sort="create_time", ascend="false") == newest_first
        assert names(project, sort="create_time", ascend="true") == newest_first[::-1]

    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ({"type": "train"}, 5),
            ({"type": "infer"}, 0),
            ({"type": "x-infer"}, 0),
            ({"type": ["infer", "train"]}, 5),
            ({"type": "infer,train"}, 5),
            ({"status": "Queue"}, 2),
            ({"status": "Completed"}, 1),
            ({"status": ["Completed", "Failed"]}, 2),
            ({"status": "Completed,Failed"}, 2),
            ({"status": "Pending"}, 0),
            ({"hostip": "small-1"}, 1),
            ({"hostip": "small-1,small-2"}, 1),
            ({"hostip": ["small-2", "nowhere"]}, 1),
            ({"hostip": "nowhere"}, 0),
            ({"type": "", "status": "", "sort": "", "limit": "", "hostip": ""}, 5),
        ],
    )
    def test_filters_select_and_the_total_follows(
        self, project: Project, params: dict[str, Any], expected: int
    ) -> None:
        body = ask(project, **params).json()

        assert (len(body["items"]), body["total"]) == (expected, expected)

    @pytest.mark.parametrize(
        ("offset", "limit", "shown"),
        [(0, 2, 2), (4, 2, 1), (5, 2, 0), (2_147_483_647, 500, 0), (0, 0, 5), (3, 0, 2),
         (0, 500, 5), (1, "", 4)],
    )  # fmt: skip
    def test_pages_count_rows_and_the_total_stays(
        self, project: Project, offset: int, limit: int | str, shown: int
    ) -> None:
        body = ask(project, offset=offset, limit=limit).json()

        assert (len(body["items"]), body["total"]) == (shown, 5)

    def test_paging_is_ignored_when_hosts_are_named(self, project: Project) -> None:
        assert names(project, hostip="small-1", offset=10, limit=1) == ["runs"]

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("type=job", "type is 'job'; it must be one of train, infer, notebook and x-infer"),
            ("status=Done", "status is 'Done'; it must be one of Queue,"),
            ("status=running", "status is 'running'"),
            ("sort=name", "sort is \"name\"; it must be empty or 'create_time'."),
            ("ascend=maybe", 'ascend is "maybe"; it must be true or false.'),
            ("offset=-1", 'offset is "-1"; it must be a whole number from 0 to 2147483647.'),
            ("offset=2147483648", "a whole number from 0 to 2147483647"),
            ("offset=x", 'offset is "x"'),
            ("offset=1e1", 'offset is "1e1"'),
            ("limit=501", 'limit is "501"; it must be a whole number from 0 to 500 or empty.'),
            ("limit=-1", 'limit is "-1"'),
            ("limit=x", 'limit is "x"'),
            ("limit=1e1", 'limit is "1e1"'),
            ("limit=1" + "0" * 30, "a whole number from 0 to 500"),
        ],
    )
    def test_anything_else_is_refused(self, project: Project, query: str, says: str) -> None:
        reply = project.http.get(f"{project.v2}/pools/{project.pool('small')}/workloads?{query}")

        assert says in refusals.modern(reply, 400, "ModelArts.50004000")

    def test_a_deleted_job_leaves_the_list(self, platform: Platform) -> None:
        project = platform.new_project("deleted-workloads")
        job = platform.submit("gone", project=project)
        assert names(project, "public") == ["gone"]

        project.http.delete(f"{project.v1}/training-jobs/{job['job_id']}")

        assert names(project, "public") == []
        assert statistics(project, "public")["items"][0]["total"] == 0
        project.http.close()


class TestPools:
    def test_the_list_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = project.http.get(f"{project.v2}/pools").json()

        assert set(body) == {"apiVersion", "kind", "items"}
        assert (body["apiVersion"], body["kind"]) == ("v2", "PoolList")
        assert {item["metadata"]["labels"]["os.modelarts/name"] for item in body["items"]} == {
            "public", "small", "cards", "serving",
        }  # fmt: skip

    def test_a_pool_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = project.http.get(f"{project.v2}/pools/{project.pool('cards')}").json()

        lines = [{"flavor": "gpu.2", "count": 1, "maxCount": 1, "nodePool": "default"}]
        labels = body["metadata"]["labels"]
        assert re.fullmatch("maos-cards-[0-9a-f]{5}", labels["os.modelarts/resource.id"])
        assert re.fullmatch("[0-9a-f]{32}", labels["os.modelarts/tenant.domain.id"])
        assert body == {
            "apiVersion": "v2",
            "kind": "Pool",
            "metadata": {
                "name": project.pool("cards"),
                "creationTimestamp": "2023-11-14T22:13:20Z",
                "labels": {
                    "os.modelarts/name": "cards",
                    "os.modelarts/workspace.id": "0",
                    "os.modelarts/resource.id": labels["os.modelarts/resource.id"],
                    "os.modelarts/tenant.domain.id": labels["os.modelarts/tenant.domain.id"],
                    "os.modelarts/tenant.project.id": project.id,
                    "os.modelarts.pool/biz": "private",
                },
                "annotations": {},
            },
            "spec": {"type": "Dedicate", "scope": ["Train"], "resources": lines},
            "status": {
                "phase": "Running",
                "scope": [{"scopeType": "Train", "state": "Enabled"}],
                "resources": {"available": lines},
                "parent": "",
                "root": project.pool("cards"),
            },
        }

    def test_each_pool_of_the_list_is_the_one_that_is_shown(self, project: Project) -> None:
        for item in project.http.get(f"{project.v2}/pools").json()["items"]:
            assert project.http.get(f"{project.v2}/pools/{item['metadata']['name']}").json() == item

    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ({"workspaceId": "0"}, {"public", "small", "cards", "serving"}),
            ({"workspaceId": "1"}, set()),
            ({"status": "created"}, {"public", "small", "cards", "serving"}),
            ({"status": "creating"}, set()),
            ({"status": "failed"}, set()),
            ({"status": ""}, {"public", "small", "cards", "serving"}),
            ({"parent": "some-pool"}, set()),
            ({"status": "failed", "labelSelector": "os.modelarts/name=small"}, set()),
            ({"labelSelector": "os.modelarts/name=small,os.modelarts/name=cards"}, set()),
            ({"labelSelector": ""}, {"public", "small", "cards", "serving"}),
            ({"labelSelector": "os.modelarts/name=small"}, {"small"}),
            ({"labelSelector": "os.modelarts/name==small"}, {"small"}),
            ({"labelSelector": "os.modelarts/name!=small"}, {"public", "cards", "serving"}),
            ({"labelSelector": "os.modelarts/name in (small, cards)"}, {"small", "cards"}),
            ({"labelSelector": "os.modelarts/name notin (small)"}, {"public", "cards", "serving"}),
            ({"labelSelector": "nothing notin (x)"}, {"public", "small", "cards", "serving"}),
            ({"labelSelector": "os.modelarts/name"}, {"public", "small", "cards", "serving"}),
            ({"labelSelector": "nothing"}, set()),
            ({"labelSelector": "!nothing"}, {"public", "small", "cards", "serving"}),
            ({"labelSelector": "nothing!=x"}, {"public", "small", "cards", "serving"}),
            (
                {"labelSelector": "os.modelarts.pool/biz=private , os.modelarts/name != cards"},
                {"small", "serving"},
            ),
        ],
    )
    def test_the_list_is_filtered(
        self, project: Project, params: dict[str, str], expected: set[str]
    ) -> None:
        items = project.http.get(f"{project.v2}/pools", params=params).json()["items"]

        assert {item["metadata"]["labels"]["os.modelarts/name"] for item in items} == expected

    @pytest.mark.parametrize(
        "query", ["status=done", "labelSelector=a%20in%20b", "labelSelector==b",
                  "labelSelector=a%3Db%20c", "labelSelector=a%20in%20(b"],
    )  # fmt: skip
    def test_anything_else_is_refused(self, project: Project, query: str) -> None:
        reply = project.http.get(f"{project.v2}/pools?{query}")

        refusals.modern(reply, 400, "ModelArts.50004000")

    def test_the_public_pool_is_of_every_project(self, other: Project) -> None:
        items = other.http.get(f"{other.v2}/pools").json()["items"]

        [public] = items
        assert public["metadata"]["name"] == other.pool("public")
        assert public["metadata"]["labels"]["os.modelarts.pool/biz"] == "public"
