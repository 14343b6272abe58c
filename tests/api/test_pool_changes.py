"""Pools that are made, changed and deleted over HTTP."""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from muster.domain.catalogue import Catalogue
from muster.domain.errors import PoolChanged
from muster.domain.permission import Role
from muster.domain.poolwish import PoolChange
from muster.operations import pools as operations
from muster.operations.caller import Caller
from muster.store.recount import differences
from tests.api import refusals
from tests.api.platform import Platform, Project, wait_until

NUMBERS = count(1)
NAME = "os.modelarts/name"
WORKSPACE = "os.modelarts/workspace.id"
DESCRIPTION = "os.modelarts/description"
CPU = "modelarts.vm.cpu.1u"
RFC7386 = {"content-type": "application/merge-patch+json"}


def body_of(name: str, *lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A new pool of one node, unless lines are given; `changes` go into its spec."""
    return {
        "apiVersion": "v2",
        "kind": "Pool",
        "metadata": {"labels": {NAME: name}},
        "spec": {
            "type": "Dedicate",
            "scope": ["Train"],
            "resources": list(lines) or [{"flavor": CPU, "count": 1}],
            **changes,
        },
    }


def post(project: Project, body: object) -> httpx.Response:
    return project.http.post(f"{project.v2}/pools", json=body)


def path_of(project: Project, pool: dict[str, Any]) -> str:
    return f"{project.v2}/pools/{pool['metadata']['name']}"


def show(project: Project, pool: dict[str, Any]) -> dict[str, Any]:
    reply = project.http.get(path_of(project, pool))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def wait_for(project: Project, pool: dict[str, Any], phase: str) -> dict[str, Any]:
    wait_until(lambda: show(project, pool)["status"]["phase"] == phase)
    return show(project, pool)


def counts(pool: dict[str, Any]) -> dict[str, int]:
    """Nodes by where they stand."""
    found = pool["status"]["resources"]
    return {key: sum(line["count"] for line in lines) for key, lines in found.items()}


def make(project: Project, name: str, *lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A new pool, once it runs."""
    reply = post(project, body_of(name, *lines, **changes))
    assert reply.status_code == 200, reply.text
    return wait_for(project, reply.json(), "Running")


def patch(project: Project, pool: dict[str, Any], body: object) -> httpx.Response:
    return project.http.patch(path_of(project, pool), json=body)


def changed(project: Project, pool: dict[str, Any], body: object) -> dict[str, Any]:
    reply = patch(project, pool, body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def resize(*lines: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"resources": list(lines)}}


def is_gone(project: Project, pool: dict[str, Any]) -> bool:
    return project.http.get(path_of(project, pool)).status_code == 404


def delete(project: Project, pool: dict[str, Any]) -> dict[str, Any]:
    reply = project.http.delete(path_of(project, pool))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


@pytest.fixture
def pool(project: Project) -> Iterator[dict[str, Any]]:
    """A pool of two nodes, gone at the end of the test."""
    made = make(project, f"pool{next(NUMBERS)}", {"flavor": CPU, "count": 2})
    yield made
    project.http.delete(path_of(project, made))
    wait_until(lambda: is_gone(project, made))


@pytest.fixture(autouse=True, scope="module")
def is_exact(platform: Platform) -> Iterator[None]:
    """Whatever the tests did, the counters are right at the end."""
    yield
    assert platform.run(platform.server.database.scan(lambda c: list(differences(c)))) == []


class TestCreate:
    def test_a_new_pool_is_creating_and_soon_runs(self, project: Project) -> None:
        reply = post(project, body_of("fresh", {"flavor": CPU, "count": 2}))

        created = reply.json()
        assert reply.status_code == 200, reply.text
        assert created["status"]["phase"] == "Creating"
        assert created["status"]["resources"] == {}
        assert created["metadata"]["name"] == project.pool("fresh")
        running = wait_for(project, created, "Running")
        lines = [{"flavor": CPU, "count": 2, "maxCount": 2, "nodePool": "default"}]
        assert running["status"]["resources"] == {"available": lines}
        assert running["spec"]["resources"] == lines
        delete(project, created)

    def test_everything_documented_is_shown_back(self, project: Project) -> None:
        line = {
            "flavor": CPU,
            "count": 1,
            "maxCount": 1,
            "nodePool": "first",
            "azs": [{"az": "az1", "count": 1}],
            "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
            "labels": {"team": "vision"},
            "tags": [{"key": "cost", "value": "7"}],
            "network": {"vpc": "v", "subnet": "s", "securityGroups": ["g"]},
            "extendParams": {"dockerBaseSize": "50", "runtime": "containerd"},
            "creatingStep": {"step": 1, "type": "rack"},
            "rootVolume": {"volumeType": "SSD", "size": "100"},
            "dataVolumes": [
                {"volumeType": "SSD", "size": "10", "count": 1,
                 "extendParams": {"volumeGroup": "default"}}
            ],
            "volumeGroupConfigs": [
                {"volumeGroup": "default", "dockerThinPool": 5, "types": ["volume"],
                 "lvmConfig": {"lvType": "linear", "path": "/x"}}
            ],
            "os": {"name": "EulerOS", "imageType": "public"},
        }  # fmt: skip
        spec = {
            "scope": ["Notebook", "Train"],
            "network": {"name": "net-1"},
            "jobFlavors": [CPU],
            "driver": {"gpuVersion": "1", "updateStrategy": "idle"},
            "containerNetwork": {"mode": "eni", "cidr": "10.0.0.0/8"},
            "kubernetesSvcIpRange": "10.1.0.0/16",
            "masters": [{"az": "az1"}],
            "clusterFlavor": "s",
            "ipv6enable": False,
        }
        given = body_of("all-of-it", line, **spec) | {"unheard": {"of": 1}}
        given["metadata"] = {
            "labels": {NAME: "all-of-it", "os.modelarts/sharing": "shared", "own": "label"},
            "annotations": {DESCRIPTION: "Für alles, 100 %", "os.modelarts/billing.mode": "0"},
        }

        created = post(project, given).json()

        shown = show(project, created)
        assert (
            created["spec"]
            == shown["spec"]
            == {
                "type": "Dedicate",
                **spec,
                "scope": ["Train", "Notebook"],
                "resources": [line],
            }
        )
        assert shown["metadata"]["annotations"] == given["metadata"]["annotations"]
        assert given["metadata"]["labels"].items() <= shown["metadata"]["labels"].items()
        delete(project, created)

    def test_a_flavor_may_come_twice_as_two_node_pools(self, project: Project) -> None:
        made = make(
            project, "twice", {"flavor": CPU, "count": 1}, {"flavor": CPU, "count": 2},
            {"flavor": CPU, "count": 1, "extendParams": {"nodePoolName": "named"}},
        )  # fmt: skip

        shown = [(line["nodePool"], line["count"]) for line in made["spec"]["resources"]]
        assert shown == [("default", 1), ("default-2", 2), ("named", 1)]
        assert counts(made) == {"available": 4}
        delete(project, made)

    def test_its_nodes_are_named_as_the_client_wishes(self, project: Project) -> None:
        body = body_of("prefixed")
        body["metadata"]["labels"]["os.modelarts/node.prefix"] = "worker"
        made = wait_for(project, post(project, body).json(), "Running")

        [node] = project.http.get(f"{path_of(project, made)}/nodes").json()["items"]
        assert node["metadata"]["name"].startswith("worker-")
        delete(project, made)

    def test_a_name_is_taken_until_its_pool_is_gone(self, project: Project, other: Project) -> None:
        first = make(project, "wanted")

        reply = post(project, body_of("wanted"))
        message = refusals.modern(reply, 409, "ModelArts.50015000")
        elsewhere = make(other, "wanted")
        delete(other, elsewhere)
        delete(project, first)
        wait_until(lambda: is_gone(project, first))
        again = make(project, "wanted")

        assert "a pool named 'wanted'" in message
        assert again["metadata"]["name"] != first["metadata"]["name"]
        assert again["metadata"]["name"].startswith("wanted-")
        assert 36 <= len(again["metadata"]["name"]) <= 63
        delete(project, again)

    def test_what_can_never_be_is_told_with_its_reason(self, project: Project) -> None:
        failed = wait_for(
            project,
            post(project, body_of("too-large", {"flavor": CPU, "count": 4096})).json(),
            "CreationFailed",
        )

        assert failed["status"]["message"] == (
            f"It asks for 4096 nodes of flavor {CPU}; the hosts can give 64 in all."
        )
        assert failed["status"]["resources"] == {}
        listed = project.http.get(f"{project.v2}/pools", params={"status": "failed"}).json()
        assert [p["metadata"]["name"] for p in listed["items"]] == [failed["metadata"]["name"]]
        delete(project, failed)
        wait_until(lambda: is_gone(project, failed))

    def test_what_others_have_is_waited_for(self, project: Project) -> None:
        first = make(project, "has-cards", {"flavor": "modelarts.vm.gpu.1", "count": 2})
        second = wait_for(
            project,
            post(project, body_of("waits", {"flavor": "modelarts.vm.gpu.1", "count": 1})).json(),
            "Waiting",
        )

        assert second["status"]["message"] == (
            "Waits for nodes that others have: 1 of flavor modelarts.vm.gpu.1."
        )
        assert counts(second) == {"creating": 1}
        for status in ("created", "creating", "failed"):
            listed = project.http.get(f"{project.v2}/pools", params={"status": status}).json()
            assert second["metadata"]["name"] not in {
                p["metadata"]["name"] for p in listed["items"]
            }
        delete(project, first)
        wait_for(project, second, "Running")
        delete(project, second)

    def test_unknown_flavors_are_refused_with_what_there_is(self, project: Project) -> None:
        message = refusals.modern(
            post(project, body_of("unknown", {"flavor": "x.large", "count": 1})),
            400, "ModelArts.50004000",
        )  # fmt: skip

        assert message.startswith("spec.resources[0].flavor is 'x.large'; there are gpu.2, ")

    @pytest.mark.parametrize(
        "name",
        ["abc", "a" * 26, "1abc", "-abc", "abc-", "Abcd", "ab_d", "ab d", "äbcd", "", "abcd\n"],
    )
    def test_a_name_of_another_form_is_refused(self, project: Project, name: str) -> None:
        message = refusals.modern(post(project, body_of(name)), 400, "ModelArts.50004000")

        assert "os.modelarts/name" in message
        assert "4 to 25" in message

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ({"count": 0}, "spec.resources[0].count is 0; it must be a whole number from 1 to"),
            ({"count": -1}, "spec.resources[0].count is -1"),
            ({"count": 1_000_000_000}, "spec.resources[0].count is 1000000000"),
            ({"count": 10**30}, "spec.resources[0].count"),
            ({"count": 1.5}, "spec.resources[0].count is 1.5"),
            ({"count": "many"}, 'spec.resources[0].count is "many"'),
            ({"count": None}, "spec.resources[0].count is null"),
            ({"flavor": 3}, "spec.resources[0].flavor is 3; it must be text"),
            ({"maxCount": 2}, "spec.resources[0].maxCount is 2"),
            ({"nodePool": "Upper"}, "spec.resources[0].nodePool is 'Upper'"),
            ({"nodePool": "x" * 51}, "1 to 50"),
            ({"tags": [{"key": "CCE-x", "value": ""}]}, "has the key 'CCE-x'"),
            ({"tags": [{"key": "x"}]}, "spec.resources[0].tags[0].value is missing"),
            ({"azs": {"az": "az1"}}, "spec.resources[0].azs is"),
        ],
    )
    def test_lines_outside_what_is_allowed_are_refused(
        self, project: Project, line: dict[str, Any], says: str
    ) -> None:
        body = body_of("refused", {"flavor": CPU, "count": 1} | line)

        assert says in refusals.modern(post(project, body), 400, "ModelArts.50004000")

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ({"resources": []}, "spec.resources is empty"),
            ({"resources": [{"flavor": CPU, "count": 1}] * 11}, "at most 10"),
            ({"resources": {"flavor": CPU}}, "spec.resources is"),
            ({"resources": [{"flavor": CPU, "count": 1, "nodePool": "a"}] * 2},
             "spec.resources[1].nodePool is 'a', as that of another one"),
            ({"scope": []}, "spec.scope is empty"),
            (
                {"scope": ["Other"]},
                "spec.scope[0] is \"Other\"; it must be 'Train', 'Infer' or 'Notebook'",
            ),
            ({"scope": "Train"}, "spec.scope is"),
            ({"type": "Logical"}, "no pools within pools"),
            ({"parent": "some-pool"}, "no pools within pools"),
            ({"type": "Physical"}, "spec.type is \"Physical\""),
            ({"network": "net"}, "spec.network is \"net\"; it must be an object"),
            ({"driver": {"updateStrategy": "later"}}, "spec.driver.updateStrategy"),
        ],
    )  # fmt: skip
    def test_a_spec_that_makes_no_sense_is_refused(
        self, project: Project, spec: dict[str, Any], says: str
    ) -> None:
        message = refusals.modern(
            post(project, body_of("refused", **spec)), 400, "ModelArts.50004000"
        )

        assert says in message

    @pytest.mark.parametrize(
        ("metadata", "says"),
        [
            ({}, "metadata.labels is missing"),
            ({"labels": {}}, "metadata.labels['os.modelarts/name'] is missing"),
            ({"labels": {NAME: 5}}, "metadata.labels[...] must be text"),
            ({"labels": {"k" * 254: "v"}}, "254 characters; 1 to 253"),
            ({"labels": {"": "v"}}, "0 characters; 1 to 253"),
            ({"labels": {"k": "v" * 1025}}, "1025 characters; at most 1024"),
            ({"labels": {f"k{i}": "v" for i in range(64)}}, "has 65 members; at most 64"),
            ({"labels": {"os.modelarts/sharing": "maybe"}}, "one of unshared, shared"),
            ({"labels": {"os.modelarts/node.prefix": "Up"}}, "os.modelarts/node.prefix"),
            ({"labels": {WORKSPACE: "nowhere"}}, "workspace_id is 'nowhere'"),
            ({"annotations": {f"k{i}": "v" for i in range(65)}}, "at most 64"),
            ({"annotations": {"k": "v" * 1025}}, "metadata.annotations['k'] has 1025"),
            ({"annotations": {"k": 1}}, "metadata.annotations"),
            ({"annotations": {"k": None}}, "metadata.annotations"),
            ({"annotations": {DESCRIPTION: "a < b & 'c'"}}, "has & ' <;"),
            ({"annotations": {"os.modelarts/billing.mode": "2"}}, "one of 0, 1"),
            ({"annotations": []}, "metadata.annotations"),
        ],
    )
    def test_labels_and_annotations_are_bounded(
        self, project: Project, metadata: dict[str, Any], says: str
    ) -> None:
        body = body_of("refused")
        labels = metadata.get("labels")
        body["metadata"] = metadata
        if labels is not None and says.find("is missing") < 0:
            body["metadata"]["labels"] = {NAME: "refused", **labels}
        elif "annotations" in metadata:
            body["metadata"]["labels"] = {NAME: "refused"}

        assert says in refusals.modern(post(project, body), 400, "ModelArts.50004000")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"[]", "The body is []; it must be an object."),
            (b'"pool"', "The body is"),
            (b"{}", "apiVersion is missing"),
            (b"{", "not valid JSON"),
            (b"", "no body"),
            (b'{"apiVersion":"v1"}', 'apiVersion is "v1"; it must be'),
            (b'{"apiVersion":"v2","kind":"Pool","metadata":{"labels":{}}}', "spec is missing"),
        ],
    )
    def test_a_body_of_another_form_is_refused(
        self, project: Project, content: bytes, says: str
    ) -> None:
        reply = project.http.post(
            f"{project.v2}/pools", content=content, headers={"content-type": "application/json"}
        )

        assert says in refusals.modern(reply, 400, "ModelArts.50004000")


class TestPatch:
    def test_an_empty_patch_changes_nothing(self, project: Project, pool: dict[str, Any]) -> None:
        assert changed(project, pool, {}) == pool
        assert changed(project, pool, {"metadata": {}, "spec": {}}) == pool

    def test_the_pool_as_it_was_read_changes_nothing(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        assert changed(project, pool, pool) == pool

    @pytest.mark.parametrize("headers", [RFC7386, {"content-type": "application/json"}])
    def test_null_takes_away_and_what_is_absent_stays(
        self, project: Project, pool: dict[str, Any], headers: dict[str, str]
    ) -> None:
        first = {
            "metadata": {
                "labels": {"os.modelarts/sharing": "shared", "own": "x"},
                "annotations": {DESCRIPTION: "words", "a": "1", "b": "2"},
            },
            "spec": {"driver": {"gpuVersion": "1", "npuVersion": "2"}, "jobFlavors": [CPU]},
        }
        changed(project, pool, first)

        second = {
            "metadata": {"labels": {"own": None}, "annotations": {DESCRIPTION: None, "a": "3"}},
            "spec": {"driver": {"gpuVersion": None}, "jobFlavors": None},
        }
        reply = project.http.patch(path_of(project, pool), json=second, headers=headers)

        assert reply.status_code == 200, reply.text
        shown = reply.json()
        assert shown["metadata"]["annotations"] == {"a": "3", "b": "2"}
        assert shown["metadata"]["labels"]["os.modelarts/sharing"] == "shared"
        assert "own" not in shown["metadata"]["labels"]
        assert shown["spec"]["driver"] == {"npuVersion": "2"}
        assert "jobFlavors" not in shown["spec"]
        cleared = changed(project, pool, {"metadata": {"annotations": None}})
        assert cleared["metadata"]["annotations"] == {}
        assert show(project, pool) == cleared

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"metadata": None}, "metadata is null; it cannot be removed."),
            ({"metadata": {"labels": None}}, "metadata.labels is null"),
            ({"metadata": {"labels": {NAME: None}}}, "cannot be removed"),
            ({"metadata": {"labels": {NAME: "other"}}}, "cannot be changed to 'other'"),
            ({"metadata": {"labels": {WORKSPACE: None}}}, "cannot be removed"),
            ({"metadata": {"labels": {WORKSPACE: "nowhere"}}}, "workspace_id is 'nowhere'"),
            ({"metadata": {"labels": {"os.modelarts/sharing": "x"}}}, "unshared, shared"),
            ({"metadata": {"annotations": {"k": 1}}}, "metadata.annotations"),
            ({"metadata": {"annotations": {f"k{i}": "" for i in range(65)}}}, "at most 64"),
            ({"metadata": {"annotations": {DESCRIPTION: "<b>"}}}, "has < >"),
            ({"spec": None}, "spec is null"),
            ({"spec": {"scope": None}}, "spec.scope is null"),
            ({"spec": {"scope": []}}, "spec.scope is empty"),
            ({"spec": {"resources": None}}, "spec.resources is null"),
            ({"spec": {"type": "Logical"}}, "spec.type cannot be changed"),
            ({"spec": {"type": None}}, "spec.type cannot be removed"),
            ({"spec": {"parent": "x"}}, "no pools within pools"),
            ({"spec": {"network": {"name": "other"}}}, "spec.network cannot be changed"),
            ({"spec": {"driver": "newest"}}, "spec.driver is"),
            (resize(), "would leave the pool without nodes"),
            (resize({"flavor": CPU, "count": 0}), "would leave the pool without nodes"),
            (resize({"flavor": CPU, "count": -1}), "spec.resources[0].count is -1"),
            (resize({"flavor": CPU, "count": 4097}), "spec.resources[0].count is 4097"),
            (resize({"flavor": "x", "count": 1}), "spec.resources[0].flavor is 'x'; there are"),
            (resize({"flavor": CPU, "count": 3, "maxCount": 5}), "maxCount is 5"),
            (resize({"flavor": CPU, "count": 1}, {"flavor": "modelarts.vm.cpu.2u", "count": 1}),
             "would grow default-2 and shrink default"),
            (resize({"flavor": "modelarts.vm.cpu.2u", "count": 2, "nodePool": "default"}),
             "the nodes of 'default' are of flavor"),
            ([], "The body is []; it must be an object."),
        ],
    )  # fmt: skip
    def test_what_cannot_be_changed_is_refused_by_name(
        self, project: Project, pool: dict[str, Any], body: Any, says: str
    ) -> None:
        message = refusals.modern(patch(project, pool, body), 400, "ModelArts.50004000")

        assert says in message
        assert show(project, pool) == pool

    def test_a_pool_grows_and_shrinks_to_absolute_counts(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        changed(project, pool, resize({"flavor": CPU, "count": 4}))
        wait_until(lambda: counts(show(project, pool)) == {"available": 4})

        changed(project, pool, resize({"flavor": CPU, "count": 1}))

        wait_until(lambda: counts(show(project, pool)) == {"available": 1})
        assert show(project, pool)["status"]["phase"] == "Running"

    def test_a_flavor_comes_and_one_that_is_not_named_goes(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        two = ({"flavor": CPU, "count": 2}, {"flavor": "modelarts.vm.cpu.2u", "count": 1})
        changed(project, pool, resize(*two))
        wait_until(lambda: counts(show(project, pool)) == {"available": 3})

        after = changed(project, pool, resize(two[1]))

        assert [line["flavor"] for line in after["spec"]["resources"]] == ["modelarts.vm.cpu.2u"]
        wait_until(lambda: counts(show(project, pool)) == {"available": 1})

    def test_more_than_there_will_ever_be_is_scaling_failed_and_can_be_undone(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        changed(project, pool, resize({"flavor": CPU, "count": 4000}))
        failed = wait_for(project, pool, "ScalingFailed")
        assert counts(failed) == {"creating": 3998, "available": 2}

        changed(project, pool, resize({"flavor": CPU, "count": 2}))

        assert counts(wait_for(project, pool, "Running")) == {"available": 2}

    def test_a_pool_below_what_runs_drains(
        self, platform: Platform, project: Project, pool: dict[str, Any]
    ) -> None:
        both = platform.submit("both", worker_server_num=2, pool_id=pool["metadata"]["name"])
        platform.wait_for(both, 8)

        changed(project, pool, resize({"flavor": CPU, "count": 1}))

        wait_until(lambda: counts(show(project, pool)) == {"available": 1, "deleting": 1})
        nodes = project.http.get(f"{path_of(project, pool)}/nodes").json()["items"]
        [drained] = [node for node in nodes if node["status"]["phase"] == "Deleting"]
        assert drained["status"]["taints"] == [
            {"key": "os.modelarts.node/drain", "value": "true", "effect": "NoSchedule"}
        ]
        assert platform.status_of(both) == 8
        platform.finish_all(both)
        wait_until(lambda: counts(show(project, pool)) == {"available": 1})

    def test_a_workspace_and_a_size_are_not_changed_together(
        self, platform: Platform, project: Project, pool: dict[str, Any]
    ) -> None:
        body = resize({"flavor": CPU, "count": 3}) | {
            "metadata": {"labels": {WORKSPACE: "elsewhere"}}
        }

        message = refusals.modern(patch(project, pool, body), 400, "ModelArts.50004000")

        assert "cannot be changed together" in message

    def test_only_a_pool_that_runs_is_resized(self, project: Project) -> None:
        failed = wait_for(
            project,
            post(project, body_of("not-yet", {"flavor": CPU, "count": 4096})).json(),
            "CreationFailed",
        )

        message = refusals.modern(
            patch(project, failed, resize({"flavor": CPU, "count": 1})), 400, "ModelArts.50004000"
        )

        assert "is CreationFailed" in message
        delete(project, failed)

    def test_the_public_pool_is_nobodys_to_change(self, project: Project) -> None:
        public = {"metadata": {"name": project.pool("public")}}
        for reply in (
            patch(project, public, {"metadata": {"annotations": {"a": "b"}}}),
            patch(project, public, resize({"flavor": CPU, "count": 1})),
            project.http.delete(path_of(project, public)),
        ):
            assert "is the public one" in refusals.modern(reply, 400, "ModelArts.50004000")

    def test_of_two_patches_from_the_same_reading_one_is_told_that_it_lost(
        self, platform: Platform, project: Project, pool: dict[str, Any]
    ) -> None:
        pool_id = pool["metadata"]["name"]
        database = platform.server.database
        caller = Caller("a" * 32, "ann", project.id, Role.ADMINISTRATOR)
        given = operations.Pools(database, Catalogue.of([], []), 10)

        async def both() -> list[object]:
            return await asyncio.gather(
                *(
                    operations.change_pool(
                        given, caller, pool_id, PoolChange(annotations={"who": who}), now_ms=0
                    )
                    for who in ("first", "second")
                ),
                return_exceptions=True,
            )

        results = platform.run(both())

        assert sorted(isinstance(result, PoolChanged) for result in results) == [False, True]
        assert show(project, pool)["metadata"]["annotations"]["who"] in ("first", "second")


class TestDelete:
    def test_an_idle_pool_is_soon_gone_and_its_cards_are_back(
        self, platform: Platform, project: Project
    ) -> None:
        made = make(project, "brief", {"flavor": "modelarts.vm.gpu.2", "count": 1})

        deleted = delete(project, made)

        assert deleted["status"]["phase"] == "Deleting"
        assert deleted["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:20Z"
        wait_until(lambda: is_gone(project, made))
        again = make(project, "brief-2", {"flavor": "modelarts.vm.gpu.2", "count": 1})
        delete(project, again)
        wait_until(lambda: is_gone(project, again))

    def test_live_jobs_are_stopped_and_new_ones_refused(
        self, platform: Platform, project: Project
    ) -> None:
        made = make(project, "stopped", {"flavor": CPU, "count": 1})
        pool_id = made["metadata"]["name"]
        running = platform.submit("runs-there", pool_id=pool_id)
        platform.wait_for(running, 8)
        waiting = platform.submit("waits-there", pool_id=pool_id)
        platform.wait_for(waiting, 7)
        attempt = platform.attempt_of(running["version_id"])
        assert attempt is not None
        platform.engine.ends_at_once = False

        deleted = delete(project, made)
        again = delete(project, made)

        assert again["metadata"] == deleted["metadata"]
        assert again["status"]["phase"] == "Deleting"
        platform.wait_for(waiting, 12)
        platform.wait_for(running, 9)
        shown = show(project, made)
        assert shown["metadata"]["deletionTimestamp"] == deleted["metadata"]["deletionTimestamp"]
        refused = project.http.post(
            f"{project.v1}/training-jobs",
            json={"job_name": "late", "config": platform.code() | {"pool_id": pool_id}},
        )
        assert "the pool is Deleting" in refusals.v1(refused, 400, "ModelArts.2887")
        refusals.modern(
            patch(project, made, {"metadata": {"annotations": {"a": "b"}}}),
            400, "ModelArts.50004000",
        )  # fmt: skip
        wait_until(lambda: platform.engine.is_ending(attempt))
        platform.call(platform.engine.finish, attempt, 0, 143)
        platform.engine.ends_at_once = True
        platform.wait_for(running, 12)
        wait_until(lambda: is_gone(project, made))
        assert is_gone(project, made)

    def test_a_pool_that_is_not_there_is_not_found(self, project: Project) -> None:
        nowhere = {"metadata": {"name": "nowhere"}}

        for reply in (
            project.http.delete(path_of(project, nowhere)),
            patch(project, nowhere, {}),
            project.http.post(f"{path_of(project, nowhere)}/retry-scope", json={"scope": "Train"}),
        ):
            message = refusals.modern(reply, 404, "ModelArts.50015001")
            assert message == "Pool nowhere not found."

    def test_the_pool_of_another_project_is_not_found(
        self, project: Project, other: Project, pool: dict[str, Any]
    ) -> None:
        refusals.modern(other.http.delete(path_of(other, pool)), 404, "ModelArts.50015001")
        refusals.modern(patch(other, pool, {}), 404, "ModelArts.50015001")
        assert show(project, pool)["status"]["phase"] == "Running"


class TestRetryScope:
    def test_there_is_nothing_to_try_again(self, project: Project, pool: dict[str, Any]) -> None:
        reply = project.http.post(f"{path_of(project, pool)}/retry-scope", json={"scope": "Train"})

        assert (reply.status_code, reply.json()) == (200, {})

    @pytest.mark.parametrize("body", [{"scope": "Infer"}, {"scope": "Other"}, {}, {"scope": 1}])
    def test_another_scope_is_refused(
        self, project: Project, pool: dict[str, Any], body: dict[str, Any]
    ) -> None:
        reply = project.http.post(f"{path_of(project, pool)}/retry-scope", json=body)

        assert "scope" in refusals.modern(reply, 400, "ModelArts.50004000")
