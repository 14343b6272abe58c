"""What surrounds pools over HTTP: their events, statistics, flavors, quotas, configuration."""

import re
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.api import refusals
from tests.api.platform import Platform, Project, running_platform, wait_until
from tests.api.test_pool_changes import (
    CPU,
    body_of,
    changed,
    counts,
    delete,
    is_gone,
    make,
    path_of,
    post,
    resize,
    show,
    wait_for,
)


def ask(project: Project, path: str, **params: Any) -> httpx.Response:
    return project.http.get(path, params=params)


def refusal(reply: httpx.Response) -> str:
    return refusals.modern(reply, 400, "ModelArts.50004000")


@pytest.fixture(scope="module")
def pool(project: Project) -> dict[str, Any]:
    """Made with one node, then grown to two, then to more than there can be."""
    made = make(project, "eventful")
    changed(project, made, resize({"flavor": CPU, "count": 2}))
    wait_until(lambda: counts(show(project, made)) == {"available": 2})
    changed(project, made, resize({"flavor": CPU, "count": 4000}))
    return wait_for(project, made, "ScalingFailed")


class TestEvents:
    def events(self, project: Project, pool: dict[str, Any], **params: Any) -> dict[str, Any]:
        given = {"resource": "pools", "name": pool["metadata"]["name"], **params}
        reply = ask(project, f"{project.v1}/events", **given)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def messages(self, project: Project, pool: dict[str, Any], **params: Any) -> list[str]:
        return [item["message"] for item in self.events(project, pool, **params)["items"]]

    def test_they_tell_what_happened_in_the_documented_words(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        count = "Pool resources status changed, available/abnormal/creating/deleting count from"
        told = self.messages(project, pool, ascend="true")

        assert told[:4] == [
            f"{count} 0/0/1/0 to 1/0/0/0, timestamp: 1700000000.",
            "Pool status changed, from Creating to Running.",
            f"{count} 1/0/0/0 to 1/0/1/0, timestamp: 1700000000.",
            f"{count} 1/0/1/0 to 2/0/0/0, timestamp: 1700000000.",
        ]
        assert told[5].startswith("Pool status changed, from Running to ScalingFailed. It asks")
        assert self.messages(project, pool) == told[::-1]

    def test_one_has_exactly_the_documented_fields(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        body = self.events(project, pool, type="Warning")

        assert set(body) == {"apiVersion", "kind", "metadata", "items", "total"}
        assert (body["apiVersion"], body["kind"], body["total"]) == ("v1", "EventList", 1)
        [item] = body["items"]
        assert item == {
            "apiVersion": "v1",
            "kind": "Event",
            "type": "Warning",
            "firstTimestamp": "2023-11-14T22:13:20Z",
            "lastTimestamp": "2023-11-14T22:13:20Z",
            "count": 1,
            "reason": "PoolStatusChange",
            "message": item["message"],
        }

    def test_both_ways_of_paging_show_everything_once(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        every = self.messages(project, pool)
        by_offset = [
            message
            for offset in range(0, len(every), 2)
            for message in self.messages(project, pool, limit=2, offset=offset)
        ]
        by_cursor: list[str] = []
        cursor = ""
        while True:
            page = self.events(project, pool, limit=2, **{"continue": cursor})
            by_cursor += [item["message"] for item in page["items"]]
            assert page["total"] == len(every)
            assert page["metadata"]["remainingItemCount"] == len(every) - len(by_cursor)
            if "continue" not in page["metadata"]:
                break
            cursor = page["metadata"]["continue"]
            assert UUID(cursor)

        assert by_offset == by_cursor == every

    @pytest.mark.parametrize(
        ("params", "shown"),
        [
            ({"type": "Normal"}, 5), ({"type": "Warning"}, 1), ({"type": ""}, 6),
            ({"since": 1_700_000_000_000}, 6), ({"since": 1_700_000_000_001}, 0),
            ({"until": 1_699_999_999_999}, 0), ({"until": 1_700_000_000_000, "since": 0}, 6),
            ({"limit": 0}, 6), ({"limit": "", "offset": ""}, 6), ({"offset": 5}, 1),
            ({"offset": 1_000_000_000}, 0), ({"type": "Warning", "until": 5}, 0),
        ],
    )  # fmt: skip
    def test_they_are_filtered(
        self, project: Project, pool: dict[str, Any], params: dict[str, Any], shown: int
    ) -> None:
        assert len(self.messages(project, pool, **params)) == shown

    @pytest.mark.parametrize(
        ("params", "says"),
        [
            ({"resource": "nodes"}, "resource is \"nodes\"; it must be 'pools'"),
            ({"resource": ""}, "resource"),
            ({"limit": 501}, 'limit is "501"; it must be a whole number from 0 to 500'),
            ({"limit": 10**9}, "limit is"),
            ({"limit": "x"}, 'limit is "x"'),
            ({"offset": -1}, 'offset is "-1"'),
            ({"type": "Error"}, 'type is "Error"; it must be'),
            ({"since": "yesterday"}, 'since is "yesterday"'),
            ({"until": -1}, 'until is "-1"'),
            ({"continue": "x"}, "continue is 'x'"),
            ({"ascend": "maybe"}, 'ascend is "maybe"'),
        ],
    )
    def test_anything_else_is_refused(
        self, project: Project, pool: dict[str, Any], params: dict[str, Any], says: str
    ) -> None:
        given = {"resource": "pools", "name": pool["metadata"]["name"], **params}

        assert says in refusal(ask(project, f"{project.v1}/events", **given))

    def test_resource_and_name_must_be_given(self, project: Project) -> None:
        path = f"{project.v1}/events"

        assert "resource is missing" in refusal(ask(project, path, name="x"))
        assert "name is missing" in refusal(ask(project, path, resource="pools"))

    def test_a_pool_that_is_not_there_is_not_found(
        self, project: Project, other: Project, pool: dict[str, Any]
    ) -> None:
        for caller, name in ((project, "nowhere"), (other, pool["metadata"]["name"])):
            reply = ask(caller, f"{caller.v1}/events", resource="pools", name=name)
            refusals.modern(reply, 404, "ModelArts.50015001")


class TestPoolStatistics:
    def shown(self, project: Project, **params: str) -> dict[str, int]:
        reply = ask(project, f"{project.v2}/statistics/pools", **params)
        assert reply.status_code == 200, reply.text
        assert set(reply.json()) == {"statistics", "operationTime"}
        return dict(reply.json()["statistics"]["status"])

    def test_each_pool_is_counted_in_one_place(self, platform: Platform) -> None:
        project = platform.new_project("counted-pools")
        assert self.shown(project) == {
            "creating": 0, "created": 1, "failed": 0, "pending": 0, "deleting": 0,
        }  # fmt: skip
        runs = make(project, "runs-on", {"flavor": "modelarts.vm.gpu.1", "count": 2})
        failed = post(project, body_of("fails", {"flavor": CPU, "count": 4096})).json()
        waits = post(project, body_of("waits", {"flavor": "modelarts.vm.gpu.1", "count": 2})).json()
        wait_for(project, failed, "CreationFailed")
        wait_for(project, waits, "Waiting")

        assert self.shown(project, workspaceId="0") == {
            "creating": 0, "created": 2, "failed": 1, "pending": 1, "deleting": 0,
        }  # fmt: skip
        assert sum(self.shown(project, workspaceId="1").values()) == 0
        for pool in (waits, failed, runs):
            delete(project, pool)
            wait_until(lambda: is_gone(project, pool))  # noqa: B023 - it is called at once
        assert self.shown(project)["created"] == 1
        project.http.close()

    def test_the_time_is_as_go_prints_it(self, project: Project) -> None:
        body = ask(project, f"{project.v2}/statistics/pools").json()

        assert re.fullmatch(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} \+0000 UTC", body["operationTime"]
        )


class TestFlavors:
    def items(self, project: Project, **params: Any) -> dict[str, dict[str, Any]]:
        reply = ask(project, f"{project.v1}/resourceflavors", **params)
        assert reply.status_code == 200, reply.text
        assert (reply.json()["apiVersion"], reply.json()["kind"]) == ("v1", "ResourceFlavorList")
        return {item["metadata"]["name"]: item for item in reply.json()["items"]}

    def test_one_has_exactly_the_documented_fields(self, project: Project) -> None:
        item = self.items(project)["gpu.2"]

        assert item["spec"].pop("cpuArch") in ("x86", "arm64")
        assert item == {
            "apiVersion": "v1",
            "kind": "ResourceFlavor",
            "metadata": {
                "name": "gpu.2",
                "labels": {"os.modelarts/scope": "Train,Infer,Notebook"},
                "annotations": {},
            },
            "spec": {
                "type": "Dedicate",
                "cpu": "2",
                "memory": "8Gi",
                "gpu": {"type": "T4", "size": "2"},
                "dataVolume": [],
                "dataVolumes": [],
                "billingModes": [0],
                "jobFlavors": ["gpu.2", CPU, "modelarts.vm.cpu.2u"],
            },
            "status": {"phase": {"az1": "normal"}},
        }

    def test_what_nobody_could_get_now_is_sold_out(self, project: Project) -> None:
        taken = make(project, "takes-all", {"flavor": "modelarts.vm.gpu.1", "count": 2})

        phases = {name: item["status"]["phase"] for name, item in self.items(project).items()}

        assert phases["modelarts.vm.gpu.1"] == phases["gpu.2"] == {"az1": "soldout"}
        assert phases[CPU] == {"az1": "normal"}
        delete(project, taken)
        wait_until(lambda: is_gone(project, taken))
        assert self.items(project)["gpu.2"]["status"]["phase"] == {"az1": "normal"}

    def test_pages_and_selectors(self, project: Project) -> None:
        path = f"{project.v1}/resourceflavors"
        every = list(self.items(project))
        first = ask(project, path, limit=2).json()
        rest = ask(project, path, **{"continue": first["metadata"]["continue"]}).json()

        assert first["metadata"]["remainingItemCount"] == len(every) - 2
        shown = [item["metadata"]["name"] for item in (*first["items"], *rest["items"])]
        assert shown == every == sorted(every)
        assert "continue" not in rest["metadata"]
        assert list(self.items(project, labelSelector="os.modelarts/scope")) == every
        assert self.items(project, labelSelector="!os.modelarts/scope") == {}

    @pytest.mark.parametrize("query", ["limit=501", "limit=x", "continue=x", "labelSelector==x"])
    def test_anything_else_is_refused(self, project: Project, query: str) -> None:
        refusal(project.http.get(f"{project.v1}/resourceflavors?{query}"))


class TestQuotas:
    def test_pools_and_nodes_are_counted(self, project: Project) -> None:
        def used() -> dict[str, tuple[int, int]]:
            resources = ask(project, f"{project.v1}/quotas").json()["quotas"]["resources"]
            return {entry["type"]: (entry["quota"], entry["used"]) for entry in resources}

        before = used()
        made = make(project, "counts", {"flavor": CPU, "count": 2})
        after = used()
        delete(project, made)

        assert before["pool"][0] == 1000
        assert after["pool"] == (1000, before["pool"][1] + 1)
        assert after["node"] == (-1, before["node"][1] + 2)

    def test_a_project_has_no_more_pools_than_its_quota(self, tmp_path_factory: Any) -> None:
        folder = tmp_path_factory.mktemp("quota") / "data"
        with running_platform(folder, pool_quota=4) as platform:
            project = platform.project
            last = make(project, "the-fourth")

            message = refusal(post(project, body_of("the-fifth")))

            assert "has 4 pools of 4" in message
            delete(project, last)
            wait_until(lambda: is_gone(project, last))
            make(project, "the-fifth")

    def test_a_pool_that_could_not_be_made_takes_nothing_of_the_quotas(
        self, platform: Platform
    ) -> None:
        project = platform.new_project("too-much")
        workspace = project.post("/workspaces", name="team-b")["id"]
        quota = {"quotas": [{"resource": "pool.nodes", "quota": 4000}]}
        project.http.put(f"{project.v1}/workspaces/{workspace}/quotas", json=quota)
        body = body_of("too-large", {"flavor": CPU, "count": 4000})
        body["metadata"]["labels"]["os.modelarts/workspace.id"] = workspace
        wait_for(project, post(project, body).json(), "CreationFailed")

        quotas = project.get(f"/workspaces/{workspace}/quotas")["quotas"]
        of_project = ask(project, f"{project.v1}/quotas").json()["quotas"]["resources"]

        [nodes] = [q for q in quotas if q["resource"] == "pool.nodes"]
        assert nodes["used_quota"] == 0
        assert {q["type"]: q["used"] for q in of_project}["node"] == 0

    def test_a_workspace_has_no_more_nodes_than_its_quota(self, platform: Platform) -> None:
        project = platform.new_project("bounded")
        workspace = project.post("/workspaces", name="team-a")["id"]
        quota = {"quotas": [{"resource": "pool.nodes", "quota": 3}]}
        reply = project.http.put(f"{project.v1}/workspaces/{workspace}/quotas", json=quota)
        assert reply.status_code == 200, reply.text
        body = body_of("first", {"flavor": CPU, "count": 2})
        body["metadata"]["labels"]["os.modelarts/workspace.id"] = workspace
        made = wait_for(project, post(project, body).json(), "Running")

        more = project.http.patch(path_of(project, made), json=resize({"flavor": CPU, "count": 4}))
        elsewhere = make(project, "second", {"flavor": CPU, "count": 2})
        moved = project.http.patch(
            path_of(project, elsewhere),
            json={"metadata": {"labels": {"os.modelarts/workspace.id": workspace}}},
        )

        assert "pool.nodes" in refusal(more)
        assert "pool.nodes" in refusal(moved)
        assert made["metadata"]["labels"]["os.modelarts/workspace.id"] == workspace
        listed = ask(project, f"{project.v2}/pools", workspaceId=workspace).json()["items"]
        assert [item["metadata"]["name"] for item in listed] == [made["metadata"]["name"]]
        project.http.close()


class TestConfiguration:
    def test_it_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = ask(project, f"{project.v1}/os-user-config").json()

        assert set(body) == {
            "networkCidrs", "networkQuota", "networkSubnetTypes", "poolQuota", "poolHighAvailable",
            "maxPoolFlavors", "clusterFlavorSpecs", "licenseScopeType", "nodeOSVersionSupport",
            "volumeTypes", "poolScopePlugins",
        }  # fmt: skip
        assert (body["poolQuota"], body["maxPoolFlavors"]) == (1000, 10)
        assert [entry["scope"] for entry in body["poolScopePlugins"]] == [
            "Train", "Infer", "Notebook",
        ]  # fmt: skip


class TestMaintenance:
    def test_there_are_no_such_tasks(self, project: Project) -> None:
        reply = ask(project, f"{project.v2}/jobs", type="reboot-node", limit=5, resource="pools")

        assert (reply.status_code, reply.json()) == (200, {"count": 0, "items": []})

    @pytest.mark.parametrize(
        "query", ["type=other", "limit=501", "offset=-1", "since=x", "resource=jobs"]
    )
    def test_anything_else_is_refused(self, project: Project, query: str) -> None:
        refusal(project.http.get(f"{project.v2}/jobs?{query}"))
