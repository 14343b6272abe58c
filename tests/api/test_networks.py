"""Networks that pools may name, over HTTP."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from muster.domain.network import NETWORKS_MAX
from muster.domain.permission import Role
from tests.api import refusals
from tests.api.people import AddPerson, add_workspace, people_of
from tests.api.platform import Platform, Project, wait_until
from tests.api.test_pool_changes import CPU, is_gone, make
from tests.api.test_pool_changes import path_of as path_of_pool

NUMBERS = count(1)
NAME = "os.modelarts/name"
WORKSPACE = "os.modelarts/workspace.id"


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


def body_of(name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Network",
        "metadata": {"labels": {NAME: name} | (labels or {})},
        "spec": {"cidr": "192.168.20.0/24"} | spec,
    }


def post(project: Project, body: object) -> httpx.Response:
    return project.http.post(f"{project.v1}/networks", json=body)


def create(project: Project, name: str = "", **more: Any) -> dict[str, Any]:
    reply = post(project, body_of(name or f"net-{next(NUMBERS)}", **more))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def path_of(project: Project, network: dict[str, Any] | str) -> str:
    name = network if isinstance(network, str) else network["metadata"]["name"]
    return f"{project.v1}/networks/{name}"


def show(project: Project, network: dict[str, Any]) -> dict[str, Any]:
    reply = project.http.get(path_of(project, network))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def names(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [item["metadata"]["labels"][NAME] for item in reply.json()["items"]]


def refusal(reply: httpx.Response) -> str:
    return refusals.modern(reply, 400, "ModelArts.50004000")


def unknown(reply: httpx.Response) -> None:
    assert "not found" in refusals.modern(reply, 404, "ModelArts.50025001")


class TestOne:
    def test_what_is_declared_is_shown(self, project: Project) -> None:
        body = body_of("declared", cidr="172.20.0.0/16", ipv6enable=True)
        body["metadata"]["annotations"] = {"os.modelarts/description": "words"}

        made = post(project, body).json()

        assert made == {
            "apiVersion": "v1",
            "kind": "Network",
            "metadata": {
                "name": f"declared-{project.id}",
                "creationTimestamp": "2023-11-14T22:13:20Z",
                "labels": {NAME: "declared", WORKSPACE: "0"},
                "annotations": {"os.modelarts/description": "words"},
            },
            "spec": {
                "cidr": "172.20.0.0/16",
                "ipv6enable": True,
                "connection": {"peerConnectionList": []},
            },
            "status": {
                "phase": "Active",
                "connectionStatus": {"peerConnectionStatus": [], "sfsTurboStatus": []},
                "pools": [],
            },
        }
        assert show(project, made) == made

    def test_it_is_changed_where_it_is_said(self, project: Project) -> None:
        network = create(project)
        path = path_of(project, network)

        def change(**body: Any) -> dict[str, Any]:
            reply = project.http.patch(path, json=body)
            assert reply.status_code == 200, reply.text
            return dict(reply.json())

        annotations = {"os.modelarts/description": "words", "own": "1"}
        changed = change(metadata={"annotations": annotations}, spec={"ipv6enable": True})
        assert changed["metadata"]["annotations"] == annotations
        assert changed["spec"]["ipv6enable"] is True
        changed = change(metadata={"annotations": {"own": None}})
        assert changed["metadata"]["annotations"] == {"os.modelarts/description": "words"}
        assert changed["spec"]["ipv6enable"] is True
        same = change(metadata={"labels": network["metadata"]["labels"]}, spec=network["spec"])
        assert same["spec"] == network["spec"]
        assert change(metadata={"annotations": None})["metadata"]["annotations"] == {}
        assert show(project, network) == network

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"spec": {"cidr": "192.168.0.0/16"}}, "spec.cidr cannot be changed"),
            ({"spec": {"cidr": None}}, "spec.cidr is null"),
            ({"spec": {"ipv6enable": "maybe"}}, "spec.ipv6enable"),
            ({"metadata": {"labels": {NAME: "other"}}}, "cannot be changed"),
            ({"metadata": {"labels": {WORKSPACE: None}}}, "cannot be removed"),
            ({"metadata": {"labels": {WORKSPACE: "nowhere"}}}, "nowhere"),
            ({"metadata": {"annotations": {"os.modelarts/description": "<"}}}, "description"),
            ({"spec": {"connection": {"peerConnectionList": [
                {"peerVpcId": "v", "peerSubnetId": "s"}]}}}, "connects no networks"),
            ({"spec": {"connection": {"sfsTurboConnectionList": [{"name": "s"}]}}},
             "spec.connection.sfsTurboConnectionList is given"),
        ],
    )  # fmt: skip
    def test_a_change_that_cannot_be_changes_nothing(
        self, project: Project, body: dict[str, Any], says: str
    ) -> None:
        network = create(project)

        assert says in refusal(project.http.patch(path_of(project, network), json=body))
        assert show(project, network) == network

    def test_it_is_deleted_once(self, project: Project) -> None:
        network = create(project)
        path = path_of(project, network)

        reply = project.http.delete(path)

        assert reply.status_code == 200
        assert reply.json()["metadata"]["name"] == network["metadata"]["name"]
        assert reply.json()["metadata"]["deletionTimestamp"]
        for again in (
            project.http.delete(path),
            project.http.get(path),
            project.http.patch(path, json={}),
            project.http.get(f"{path}/network-ip-availabilities"),
        ):
            unknown(again)

    def test_its_addresses_are_counted(self, project: Project) -> None:
        path = path_of(project, create(project, cidr="192.168.128.0/20"))
        addresses = f"{path}/network-ip-availabilities"

        assert project.http.get(addresses).json() == {
            "name": path.rsplit("/", 1)[1],
            "networkId": path.rsplit("/", 1)[1],
            "subnetIpAvailability": [
                {"cidr": "192.168.128.0/20", "ipVersion": 4, "totalIps": 4094, "usedIps": 0}
            ],
        }
        refusal(project.http.get(addresses, params={"network_id": "another"}))


class TestNew:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"spec": {"cidr": "10.0.0.0/16"}}, "it must be a part of 172.16.0.0/12"),
            ({"spec": {"cidr": "192.168.0.0/25"}}, "at most 24"),
            ({"spec": {"cidr": "192.168.0.0/15"}}, "spec.cidr"),
            ({"spec": {"cidr": "192.168.20.1/24"}}, "it must be like"),
            ({"spec": {"cidr": "192.168.20.0"}}, "spec.cidr"),
            ({"spec": {"cidr": "words"}}, "it must be like"),
            ({"spec": {}}, "spec.cidr is missing"),
            ({"spec": {"cidr": 5}}, "spec.cidr is 5; it must be text"),
            ({"metadata": {"labels": {}}}, "it names the network"),
            ({"metadata": {"labels": {NAME: "x"}}}, "4 to 32"),
            ({"metadata": {"labels": {NAME: "UPPER"}}}, "4 to 32"),
            ({"metadata": {"labels": {NAME: "some-name", WORKSPACE: "nowhere"}}}, "nowhere"),
            ({"kind": "Pool"}, "kind"),
            ({"spec": {"cidr": "192.168.0.0/24", "connection": {"peerConnectionList": [
                {"peerVpcId": "v", "peerSubnetId": "s"}]}}}, "connects no networks"),
        ],
    )  # fmt: skip
    def test_bad_input_makes_nothing(
        self, project: Project, change: dict[str, Any], says: str
    ) -> None:
        before = names(project.http.get(f"{project.v1}/networks"))

        assert says in refusal(post(project, body_of("some-name") | change))
        assert names(project.http.get(f"{project.v1}/networks")) == before

    def test_a_name_is_taken_once_in_a_project(self, project: Project, other: Project) -> None:
        create(project, "taken")

        assert "'taken'" in refusal(post(project, body_of("taken")))
        create(other, "taken")

    def test_there_are_so_many_and_no_more(self, platform: Platform) -> None:
        project = platform.new_project("networks")
        for number in range(NETWORKS_MAX):
            create(project, f"many-{number:03}")

        assert f"{NETWORKS_MAX} networks" in refusal(post(project, body_of("one-more")))
        quotas = project.get("/quotas")["quotas"]["resources"]
        assert {"type": "network", "quota": NETWORKS_MAX, "used": NETWORKS_MAX} in quotas

        def page(**query: object) -> httpx.Response:
            return project.http.get(f"{project.v1}/networks", params=query)  # type: ignore[arg-type]

        first = page(limit=60)
        assert first.json()["metadata"]["remainingItemCount"] == NETWORKS_MAX - 60
        rest = page(**{"limit": 60, "continue": first.json()["metadata"]["continue"]})
        assert rest.json()["metadata"] == {"remainingItemCount": 0}
        assert names(first) + names(rest) == [f"many-{n:03}" for n in range(NETWORKS_MAX)]
        assert names(page(labelSelector=f"{NAME}=many-007")) == ["many-007"]
        refusal(page(labelSelector="=="))
        refusal(page(limit=501))


class TestPools:
    def test_a_network_that_a_pool_names_tells_of_it_and_stays(self, project: Project) -> None:
        network = create(project)
        name = network["metadata"]["name"]
        pool = make(
            project, f"netted{next(NUMBERS)}", {"flavor": CPU, "count": 1}, network={"name": name}
        )

        assert show(project, network)["status"]["pools"] == [pool["metadata"]["name"]]
        listed = project.http.get(f"{project.v1}/networks").json()["items"]
        [item] = [item for item in listed if item["metadata"]["name"] == name]
        assert item["status"]["pools"] == [pool["metadata"]["name"]]
        refused = refusal(project.http.delete(path_of(project, network)))
        assert pool["metadata"]["name"] in refused
        project.http.delete(path_of_pool(project, pool))
        wait_until(lambda: is_gone(project, pool))
        assert show(project, network)["status"]["pools"] == []
        assert project.http.delete(path_of(project, network)).status_code == 200


class TestWho:
    def test_networks_of_another_project_are_not_there(
        self, project: Project, other: Project
    ) -> None:
        network = create(project)
        path = path_of(other, network)

        unknown(other.http.get(path))
        unknown(other.http.patch(path, json={}))
        unknown(other.http.delete(path))
        label = network["metadata"]["labels"][NAME]
        assert label not in names(other.http.get(f"{other.v1}/networks"))

    def test_who_only_reads_changes_none(self, project: Project, add_person: AddPerson) -> None:
        reader = add_person("network-reader", Role.DEVELOPER)
        path = path_of(project, create(project))

        assert reader.http.get(path).status_code == 200
        for reply in (
            post(reader.project, body_of("of-a-reader")),
            reader.http.patch(path, json={}),
            reader.http.delete(path),
        ):
            refusals.modern(reply, 403, "ModelArts.0108")

    def test_a_network_is_in_a_workspace_and_keeps_it(
        self, project: Project, add_person: AddPerson
    ) -> None:
        closed = add_workspace(project, "closed-networks", auth_type="PRIVATE")
        network = create(project, "closed-net", labels={WORKSPACE: closed})
        stranger = add_person("network-stranger", Role.RESOURCE_MANAGER)

        unknown(stranger.http.get(path_of(project, network)))
        unknown(stranger.http.delete(path_of(project, network)))
        there = {"workspaceId": closed}
        listed = stranger.http.get(f"{project.v1}/networks", params=there)
        refusals.modern(listed, 403, "ModelArts.0108")
        into = body_of("strange-net", labels={WORKSPACE: closed})
        refusals.modern(post(stranger.project, into), 403, "ModelArts.0108")
        open_one = create(project)
        move = {"metadata": {"labels": {WORKSPACE: closed}}}
        moved = stranger.http.patch(path_of(project, open_one), json=move)
        assert moved.status_code in (403, 404)
        assert show(project, open_one)["metadata"]["labels"][WORKSPACE] == "0"
        assert names(project.http.get(f"{project.v1}/networks", params=there)) == ["closed-net"]
        refused = project.http.delete(f"{project.v1}/workspaces/{closed}")
        assert "1 network(s)" in refused.json()["error_msg"]
        back = {"metadata": {"labels": {WORKSPACE: "0"}}}
        assert project.http.patch(path_of(project, network), json=back).status_code == 200
        assert project.http.delete(f"{project.v1}/workspaces/{closed}").status_code == 200
