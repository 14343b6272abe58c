"""Nodes and node pools over HTTP."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from tests.api import refusals
from tests.api.platform import Platform, Project, wait_until
from tests.api.test_pool_changes import (
    CPU,
    changed,
    counts,
    delete,
    is_gone,
    make,
    path_of,
    resize,
    show,
    wait_for,
)

NUMBERS = count(1)


@pytest.fixture
def pool(project: Project) -> Iterator[dict[str, Any]]:
    """A pool of three nodes, gone at the end of the test."""
    made = make(project, f"nodes{next(NUMBERS)}", {"flavor": CPU, "count": 3})
    yield made
    project.http.delete(path_of(project, made))
    wait_until(lambda: is_gone(project, made))


def nodes(project: Project, pool: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    reply = project.http.get(f"{path_of(project, pool)}/nodes", params=params)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["items"])


def names(project: Project, pool: dict[str, Any]) -> list[str]:
    return [node["metadata"]["name"] for node in nodes(project, pool)]


def act(project: Project, pool: dict[str, Any], call: str, **body: Any) -> httpx.Response:
    return project.http.post(f"{path_of(project, pool)}/nodes/batch-{call}", json=body)


def done(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def refusal(reply: httpx.Response) -> str:
    return refusals.modern(reply, 400, "ModelArts.50004000")


def taints(node: dict[str, Any]) -> list[str]:
    return [taint["key"] for taint in node["status"]["taints"]]


class TestList:
    def test_a_node_has_exactly_the_documented_fields(self, project: Project) -> None:
        pool = {"metadata": {"name": project.pool("cards")}}
        body = project.http.get(f"{path_of(project, pool)}/nodes").json()

        assert (body["apiVersion"], body["kind"]) == ("v2", "NodeList")
        assert body["metadata"] == {"remainingItemCount": 0}
        [node] = body["items"]
        labels = node["metadata"]["labels"]
        assert node == {
            "apiVersion": "v2",
            "kind": "Node",
            "metadata": {
                "name": "cards-1",
                "creationTimestamp": "2023-11-14T22:13:20Z",
                "labels": {
                    "os.modelarts.node/cluster": project.pool("cards"),
                    "os.modelarts.node/nodepool": "default",
                    "os.modelarts.node/nodepoolname": "default",
                    "os.modelarts/resource.id": labels["os.modelarts/resource.id"],
                    "os.modelarts/tenant.domain.id": labels["os.modelarts/tenant.domain.id"],
                    "os.modelarts/tenant.project.id": project.id,
                    "os.modelarts/billing.status": "0",
                    "os.modelarts.node/ha.redundant.enabled": "false",
                },
                "annotations": {},
            },
            "spec": {"flavor": "gpu.2"},
            "status": {
                "phase": "Available",
                "az": "az1",
                "privateIp": "cards-1",
                "resources": {"cpu": "2000m", "memory": "8192Mi", "nvidia.com/gpu": "2"},
                "availableResources": {"cpu": "2000m", "memory": "8192Mi", "nvidia.com/gpu": "2"},
                "taints": [],
            },
        }
        shown = project.http.get(f"{path_of(project, pool)}/nodes/cards-1")
        assert shown.json() == node

    def test_what_tasks_hold_is_not_available(self, platform: Platform, project: Project) -> None:
        pool = {"metadata": {"name": project.pool("cards")}}
        job = platform.submit("holds", pool_id=project.pool("cards"))
        platform.wait_for(job, 8)

        [node] = nodes(project, pool)

        size, left = node["status"]["resources"], node["status"]["availableResources"]
        assert size == {"cpu": "2000m", "memory": "8192Mi", "nvidia.com/gpu": "2"}
        assert left == {"cpu": "1000m", "memory": "4096Mi", "nvidia.com/gpu": "2"}
        platform.finish(job)
        all_of_it = platform.submit(
            "holds-all", pool_id=project.pool("cards"), spec_id=platform.spec_ids["gpu.2"]
        )
        platform.wait_for(all_of_it, 8)
        left = nodes(project, pool)[0]["status"]["availableResources"]
        assert left == {"cpu": "0m", "memory": "0Mi", "nvidia.com/gpu": "0"}
        platform.finish(all_of_it)
        wait_until(lambda: nodes(project, pool)[0]["status"]["availableResources"] == size)

    def test_pages_follow_the_cursor(self, project: Project, pool: dict[str, Any]) -> None:
        path = f"{path_of(project, pool)}/nodes"
        first = project.http.get(path, params={"limit": 2}).json()
        cursor = first["metadata"]["continue"]
        second = project.http.get(path, params={"limit": 2, "continue": cursor}).json()

        assert (len(first["items"]), first["metadata"]["remainingItemCount"]) == (2, 1)
        assert second["metadata"] == {"remainingItemCount": 0}
        shown = [n["metadata"]["name"] for n in (*first["items"], *second["items"])]
        assert shown == names(project, pool) == sorted(shown)
        assert len(nodes(project, pool, limit=0)) == len(nodes(project, pool, limit="")) == 3

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("limit=1000000000", 'limit is "1000000000"; it must be a whole number from 0 to 500'),
            ("limit=-1", 'limit is "-1"'),
            ("limit=x", 'limit is "x"'),
            ("continue=x", "continue is 'x'; it must be metadata.continue of the page before"),
            ("continue=AAAA", "continue is 'AAAA'"),
            ("continue=%FF", "continue is"),
            ("continue=1000000000", "continue is '1000000000'"),
        ],
    )
    def test_anything_else_is_refused(
        self, project: Project, pool: dict[str, Any], query: str, says: str
    ) -> None:
        assert says in refusal(project.http.get(f"{path_of(project, pool)}/nodes?{query}"))

    def test_what_is_not_there_is_not_found(
        self, project: Project, other: Project, pool: dict[str, Any]
    ) -> None:
        [name, *_] = names(project, pool)
        for reply, says in (
            (project.http.get(f"{path_of(project, pool)}/nodes/nowhere"), "Node nowhere not found"),
            (project.http.get(f"{project.v2}/pools/nowhere/nodes"), "Pool nowhere not found."),
            (other.http.get(f"{path_of(other, pool)}/nodes/{name}"), "Pool "),
            (project.http.get(f"{project.v2}/pools/{project.pool('small')}/nodes/{name}"), "Node "),
        ):
            assert refusals.modern(reply, 404, "ModelArts.50015001").startswith(says)

    def test_the_public_nodes_are_shown_to_everybody(self, other: Project) -> None:
        [node] = nodes(other, {"metadata": {"name": other.pool("public")}})

        assert node["spec"]["flavor"] == ""
        assert node["metadata"]["labels"]["os.modelarts/tenant.project.id"] == other.id


class TestDelete:
    def test_a_node_goes_by_its_name_and_the_pool_is_smaller(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        first, *others = names(project, pool)

        reply = act(project, pool, "delete", deleteNodeNames=[first, first])

        assert (reply.status_code, reply.content) == (200, b"")
        wait_until(lambda: names(project, pool) == others)
        shown = show(project, pool)
        assert counts(shown) == {"available": 2}
        assert [line["count"] for line in shown["spec"]["resources"]] == [2]

    def test_a_busy_node_drains_first(
        self, platform: Platform, project: Project, pool: dict[str, Any]
    ) -> None:
        job = platform.submit("drains", pool_id=pool["metadata"]["name"])
        platform.wait_for(job, 8)
        [busy] = [
            node["metadata"]["name"]
            for node in nodes(project, pool)
            if node["status"]["availableResources"] != node["status"]["resources"]
        ]

        done_ = act(project, pool, "delete", deleteNodeNames=[busy])
        again = act(project, pool, "delete", deleteNodeNames=[busy])

        assert (done_.status_code, again.status_code) == (200, 200)
        shown = project.http.get(f"{path_of(project, pool)}/nodes/{busy}").json()
        assert shown["status"]["phase"] == "Deleting"
        assert shown["metadata"]["annotations"]["os.modelarts.node/drain"] == "true"
        assert counts(show(project, pool)) == {"available": 2, "deleting": 1}
        assert platform.status_of(job) == 8
        platform.finish(job)
        wait_until(lambda: busy not in names(project, pool))

    def test_one_must_stay(self, project: Project, pool: dict[str, Any]) -> None:
        every = names(project, pool)

        message = refusal(act(project, pool, "delete", deleteNodeNames=every))

        assert "one must stay" in message
        assert names(project, pool) == every

    def test_locked_and_unknown_ones_are_refused_by_name(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        first, second, _ = every = names(project, pool)
        done(act(project, pool, "lock", nodeNames=[first], actions=["delete"]))

        locked = refusal(act(project, pool, "delete", deleteNodeNames=[first, second]))
        unknown = refusal(act(project, pool, "delete", deleteNodeNames=[second, "no-such"]))

        assert locked == f"deleteNodeNames has locked nodes: {first}. Unlock them first."
        assert "deleteNodeNames has no-such; pool" in unknown
        assert names(project, pool) == every

    @pytest.mark.parametrize(
        "body", [{}, {"deleteNodeNames": []}, {"deleteNodeNames": "x"}, {"deleteNodeNames": [1]}]
    )
    def test_names_must_be_given(
        self, project: Project, pool: dict[str, Any], body: dict[str, Any]
    ) -> None:
        assert "deleteNodeNames" in refusal(act(project, pool, "delete", **body))


class TestLock:
    def test_a_locked_node_takes_nothing_new_until_it_is_unlocked(
        self, platform: Platform, project: Project, pool: dict[str, Any]
    ) -> None:
        every = names(project, pool)
        locked = done(act(project, pool, "lock", nodeNames=every, actions=["delete"]))
        assert locked == {"nodes": [{"name": name, "status": "success"} for name in every]}
        assert [taints(node) for node in nodes(project, pool)] == [["os.modelarts.node/lock"]] * 3

        job = platform.submit("waits-for-a-key", pool_id=pool["metadata"]["name"])
        platform.wait_for(job, 7)
        done(act(project, pool, "unlock", nodeNames=every[:1], actions=["delete"]))

        platform.wait_for(job, 8)
        platform.finish(job)

    def test_a_resize_never_takes_locked_nodes(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        every = names(project, pool)
        done(act(project, pool, "lock", nodeNames=every[1:], actions=["delete"]))

        too_small = project.http.patch(
            path_of(project, pool), json=resize({"flavor": CPU, "count": 1})
        )
        changed(project, pool, resize({"flavor": CPU, "count": 2}))

        assert f"would remove locked nodes of 'default': {every[1]}, {every[2]}" in refusal(
            too_small
        )
        wait_until(lambda: names(project, pool) == every[1:])

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"actions": ["delete"]}, "nodeNames is missing"),
            ({"nodeNames": ["x"], "actions": ["delete"]}, "nodeNames has x; pool"),
            ({"nodeNames": ["x"]}, "actions is missing"),
            ({"nodeNames": ["x"], "actions": []}, "actions"),
            ({"nodeNames": ["x"], "actions": ["reboot"]}, "it must be 'delete'"),
        ],
    )
    def test_anything_else_is_refused(
        self, project: Project, pool: dict[str, Any], body: dict[str, Any], says: str
    ) -> None:
        assert says in refusal(act(project, pool, "lock", **body))


class TestUpdate:
    def test_a_spare_node_is_kept_free(
        self, platform: Platform, project: Project, pool: dict[str, Any]
    ) -> None:
        every = names(project, pool)
        body = {"nodeNames": [*every, "no-such"], "action": "openHaRedundant"}
        assert done(act(project, pool, "update", **body)) == {
            "successNodeNames": every,
            "failNodeNames": ["no-such"],
        }
        [first, *_] = nodes(project, pool)
        label = "os.modelarts.node/ha.redundant.enabled"
        assert first["metadata"]["labels"][label] == "true"
        assert taints(first) == ["os.modelarts.node/ha.redundant"]
        job = platform.submit("waits-for-a-spare", pool_id=pool["metadata"]["name"])
        platform.wait_for(job, 7)

        done(act(project, pool, "update", nodeNames=every[:1], action="closeHaRedundant"))

        platform.wait_for(job, 8)
        platform.finish(job)

    def test_tags_come_and_go(self, project: Project, pool: dict[str, Any]) -> None:
        [name, *_] = names(project, pool)
        tags = [{"key": "cost", "value": "7"}, {"key": "team", "value": "vision"}]

        def shown() -> dict[str, str]:
            return dict(nodes(project, pool)[0]["metadata"]["annotations"])

        done(act(project, pool, "update", nodeNames=[name], action="createTags", tags=tags))
        assert shown() == {
            "os.modelarts/tms.tags": '[{"key":"cost","value":"7"},{"key":"team","value":"vision"}]'
        }
        done(act(project, pool, "update", nodeNames=[name], action="deleteTags", tags=tags[:1]))
        assert shown() == {"os.modelarts/tms.tags": '[{"key":"team","value":"vision"}]'}

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"action": "reboot"}, 'action is "reboot"'),
            ({}, "action is missing"),
            ({"action": "createTags"}, "tags is missing"),
            ({"action": "createTags", "tags": [{"key": "CCE-1", "value": ""}]}, "'CCE-1'"),
            ({"action": "createTags", "tags": [{"key": "k", "value": "v" * 256}]}, "255"),
            ({"action": "openHaRedundant", "haRedundantEffect": "NoExecute"}, "NoSchedule"),
            ({"action": "openHaRedundant", "driver": {"version": "1"}}, "installs no drivers"),
        ],
    )
    def test_anything_else_is_refused(
        self, project: Project, pool: dict[str, Any], body: dict[str, Any], says: str
    ) -> None:
        reply = act(project, pool, "update", nodeNames=names(project, pool), **body)

        assert says in refusal(reply)


class TestNotOffered:
    @pytest.mark.parametrize("call", ["reboot", "reset", "resize", "migrate", "bind"])
    def test_what_this_platform_does_not_do_is_told(
        self, project: Project, pool: dict[str, Any], call: str
    ) -> None:
        [name, *_] = names(project, pool)

        message = refusals.modern(act(project, pool, call, nodeNames=[name]), 501, "ModelArts.2858")

        assert message.endswith(".")
        nowhere = {"metadata": {"name": "nowhere"}}
        refusals.modern(act(project, nowhere, call), 404, "ModelArts.50015001")

    def test_the_description_says_so(self, project: Project) -> None:
        described = project.http.get("/openapi.json").json()["paths"]
        path = "/v2/{project_id}/pools/{pool_name}/nodes/batch-reboot"

        assert "501" in described[path]["post"]["responses"]
        assert "200" not in described[path]["post"]["responses"]

    def test_the_nodes_of_the_public_pool_are_nobodys_to_change(self, project: Project) -> None:
        public = {"metadata": {"name": project.pool("public")}}
        [name] = names(project, public)
        for reply in (
            act(project, public, "delete", deleteNodeNames=[name]),
            act(project, public, "lock", nodeNames=[name], actions=["delete"]),
            act(project, public, "update", nodeNames=[name], action="openHaRedundant"),
            project.http.post(
                f"{path_of(project, public)}/nodepools",
                json=new_node_pool("more", {"flavor": CPU, "count": 1}),
            ),
        ):
            assert "is the public one" in refusal(reply)


def new_node_pool(name: str, resources: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v2",
        "kind": "NodePool",
        "metadata": {"name": name, **metadata},
        "spec": {"resources": resources},
    }


class TestNodePools:
    def lines(self, project: Project, pool: dict[str, Any]) -> dict[str, int]:
        reply = project.http.get(f"{path_of(project, pool)}/nodepools")
        assert (reply.json()["apiVersion"], reply.json()["kind"]) == ("v2", "NodePoolList")
        return {
            item["metadata"]["name"]: item["spec"]["resources"]["count"]
            for item in reply.json()["items"]
        }

    def test_they_are_the_lines_of_the_pool(self, project: Project, pool: dict[str, Any]) -> None:
        shown = project.http.get(f"{path_of(project, pool)}/nodepools/default").json()

        line = {"flavor": CPU, "count": 3, "maxCount": 3, "nodePool": "default"}
        assert shown == {
            "apiVersion": "v2",
            "kind": "NodePool",
            "metadata": {"name": "default", "annotations": {}},
            "spec": {"resources": line},
            "status": {"resources": {"available": line}},
        }

    def test_one_comes_is_changed_and_goes(self, project: Project, pool: dict[str, Any]) -> None:
        path = f"{path_of(project, pool)}/nodepools"
        line = {"flavor": "modelarts.vm.cpu.2u", "count": 1, "os": {"name": "x", "imageId": "1"}}
        body = new_node_pool("large", line, annotations={"os.modelarts/billing.mode": "0"})
        made = done(project.http.post(path, json=body))
        assert made["metadata"] == body["metadata"]
        wait_until(lambda: counts(show(project, pool)) == {"available": 4})
        assert self.lines(project, pool) == {"default": 3, "large": 1}

        patched = done(
            project.http.patch(
                f"{path}/large",
                json={
                    "metadata": {"annotations": {"os.modelarts/billing.mode": None, "a": "b"}},
                    "spec": {"resources": {"count": 2, "os": {"imageId": None, "imageType": "y"}}},
                },
            )
        )
        assert patched["metadata"]["annotations"] == {"a": "b"}
        assert patched["spec"]["resources"]["os"] == {"name": "x", "imageType": "y"}
        wait_until(lambda: counts(show(project, pool)) == {"available": 5})
        listed = project.http.get(f"{path}/large/nodes").json()["items"]
        assert {node["spec"]["flavor"] for node in listed} == {"modelarts.vm.cpu.2u"}
        assert len(listed) == 2

        deleted = done(project.http.delete(f"{path}/large"))
        assert deleted["metadata"]["name"] == "large"
        wait_until(lambda: counts(show(project, pool)) == {"available": 3})
        assert self.lines(project, pool) == {"default": 3}
        refusals.modern(project.http.get(f"{path}/large"), 404, "ModelArts.50015001")

    def test_a_name_that_is_taken_is_refused(self, project: Project, pool: dict[str, Any]) -> None:
        body = new_node_pool("default", {"flavor": CPU, "count": 1})

        reply = project.http.post(f"{path_of(project, pool)}/nodepools", json=body)

        assert "'default'" in refusals.modern(reply, 409, "ModelArts.50015000")

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (new_node_pool("Upper", {"flavor": CPU, "count": 1}), "metadata.name is 'Upper'"),
            (new_node_pool("x" * 51, {"flavor": CPU, "count": 1}), "metadata.name is"),
            (new_node_pool("a", {"flavor": "x", "count": 1}), "spec.resources.flavor is 'x'"),
            (new_node_pool("a", {"flavor": CPU, "count": 0}), "spec.resources.count is 0"),
            (new_node_pool("a", {"flavor": CPU}), "spec.resources.count is missing"),
            (new_node_pool("a", {"flavor": CPU, "count": 1, "nodePool": "b"}), "must be metadata"),
            (new_node_pool("a", {"flavor": CPU, "count": 1}, annotations={"k": 1}), "annotations"),
            ({"metadata": {"name": "a"}}, "apiVersion is missing"),
        ],
    )
    def test_a_new_one_is_checked(
        self, project: Project, pool: dict[str, Any], body: dict[str, Any], says: str
    ) -> None:
        reply = project.http.post(f"{path_of(project, pool)}/nodepools", json=body)

        assert says in refusal(reply)

    @pytest.mark.parametrize(
        ("resources", "says"),
        [
            ({"count": 0}, "spec.resources.count is 0"),
            ({"count": None}, "spec.resources.count is null"),
            ({"count": 4097}, "4096"),
            ({"count": 2, "maxCount": 3}, "maxCount is 3"),
            ({"flavor": "modelarts.vm.cpu.2u"}, "spec.resources.flavor is"),
            ({"nodePool": "other"}, "spec.resources.nodePool cannot be changed"),
            ({"os": "Linux"}, 'spec.resources.os is "Linux"; it must be an object'),
            ({"rootVolume": {"size": "1"}}, "spec.resources.rootVolume.volumeType is missing"),
        ],
    )
    def test_a_change_is_checked(
        self, project: Project, pool: dict[str, Any], resources: dict[str, Any], says: str
    ) -> None:
        path = f"{path_of(project, pool)}/nodepools/default"

        reply = project.http.patch(path, json={"spec": {"resources": resources}})

        assert says in refusal(reply)
        assert self.lines(project, pool) == {"default": 3}

    def test_the_last_one_stays(self, project: Project, pool: dict[str, Any]) -> None:
        reply = project.http.delete(f"{path_of(project, pool)}/nodepools/default")

        assert "is the only one" in refusal(reply)

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_an_unknown_one_is_not_found(
        self, project: Project, pool: dict[str, Any], method: str
    ) -> None:
        reply = project.http.request(
            method, f"{path_of(project, pool)}/nodepools/none", json={"spec": {}}
        )

        message = refusals.modern(reply, 404, "ModelArts.50015001")
        assert message.startswith("Node pool none not found in pool ")


def test_a_host_that_goes_down_makes_its_nodes_abnormal_until_it_is_back(
    platform: Platform, project: Project, pool: dict[str, Any]
) -> None:
    [host] = nodes(project, {"metadata": {"name": project.pool("public")}})
    host_name = host["metadata"]["name"]

    platform.call(platform.engine.take_down, host_name, "No power.")
    broken = wait_for(project, pool, "Abnormal")
    platform.call(platform.engine.bring_back, host_name)
    mended = wait_for(project, pool, "Running")

    assert broken["status"]["message"] == "No power."
    assert counts(broken) == {"abnormal": 3}
    assert counts(mended) == {"available": 3}
    delete(project, pool)
