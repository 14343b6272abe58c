"""The Huawei Cloud SDK, unmodified, against a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkmodelarts.v1 import (
    ListPoolsRequest,
    ListWorkloadsRequest,
    ModelArtsClient,
    ShowPoolRequest,
    ShowWorkloadStatisticsRequest,
)

from tests.end_to_end.server import Remote, running_server

pytestmark = pytest.mark.timeout(300)

INVENTORY = """
[machine]
cpus = 8
memory_gib = 64
npus = 2

[[pools]]
name = "small"
flavor = "modelarts.vm.cpu.1u"
count = 2

[[pools]]
name = "ascend"
flavor = "modelarts.vm.npu.2"
count = 1
scope = ["Train"]
"""
SLEEPER = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """On the pool `small`: completed, failed, running on both nodes, and two waiting."""
    folder = tmp_path_factory.mktemp("sdk")
    inventory = folder / "inventory.toml"
    inventory.write_text(INVENTORY)
    with running_server(folder, "--inventory", inventory) as remote:
        small = remote.project.pool("small")
        remote.wait(remote.submit("well", "pass", pool_id=small), 10)
        remote.wait(remote.submit("badly", "raise SystemExit(3)", pool_id=small), 11)
        remote.wait(remote.submit("runs", SLEEPER, pool_id=small, worker_server_num=2), 8)
        remote.wait(remote.submit("waits", "pass", pool_id=small), 7)
        remote.wait(remote.submit("last", "pass", pool_id=small, worker_server_num=2), 7)
        yield remote


def client_of(remote: Remote, **changes: str) -> ModelArtsClient:
    keys = {
        "ak": remote.project.access_key,
        "sk": remote.project.secret_key,
        "project_id": remote.project.id,
    } | changes
    builder = ModelArtsClient.new_builder().with_credentials(BasicCredentials(**keys))
    return builder.with_endpoint(remote.project.url).build()


@pytest.fixture(scope="module")
def client(remote: Remote) -> ModelArtsClient:
    return client_of(remote)


def names(client: ModelArtsClient, remote: Remote, **parameters: Any) -> list[str]:
    request = ListWorkloadsRequest(pool_name=remote.project.pool("small"), **parameters)
    return [item.job_name for item in client.list_workloads(request).items]


def refusal(client: ModelArtsClient, request: Any) -> exceptions.ClientRequestException:
    call = {
        ShowWorkloadStatisticsRequest: client.show_workload_statistics,
        ListWorkloadsRequest: client.list_workloads,
        ListPoolsRequest: client.list_pools,
        ShowPoolRequest: client.show_pool,
    }[type(request)]
    with pytest.raises(exceptions.ClientRequestException) as refused:
        call(request)
    assert refused.value.request_id
    return refused.value


def test_statistics_have_every_state(client: ModelArtsClient, remote: Remote) -> None:
    shown = client.show_workload_statistics(
        ShowWorkloadStatisticsRequest(remote.project.pool("small"))
    ).statistics

    assert shown.total == 3
    assert [item.type for item in shown.items] == ["train", "infer", "notebook"]
    train = shown.items[0]
    assert train.total == 5
    assert train.status.to_dict() == {
        "queue": 2, "pending": 0, "abnormal": 0, "terminating": 0, "creating": 0, "running": 1,
        "completed": 1, "terminated": 0, "failed": 1,
    }  # fmt: skip
    assert sum(train.status.to_dict().values()) == train.total


def test_workloads_are_newest_first_with_all_their_fields(
    client: ModelArtsClient, remote: Remote
) -> None:
    reply = client.list_workloads(ListWorkloadsRequest(pool_name=remote.project.pool("small")))

    assert (reply.api_version, reply.kind) == ("v1", "WorkloadList")
    assert [item.job_name for item in reply.items] == ["last", "waits", "runs", "badly", "well"]
    running = reply.items[2]
    assert (running.type, running.status) == ("train", "Running")
    assert running.namespace == remote.project.pool("small")
    assert running.flavor == "modelarts.vm.cpu.1u"
    assert running.resource_requirement.cpu == "2 Cores"
    assert running.resource_requirement.memory == "8 GiB"
    assert running.host_ips == "small-1,small-2"
    assert [node.host_ip for node in running.nodes] == ["small-1", "small-2"]
    assert running.name == f"modelarts-job-{running.job_uuid}"
    assert isinstance(running.create_time, int)
    assert isinstance(running.running_duration, int)
    assert [item.pending_position for item in reply.items[:2]] == [2, 1]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"type": "train"}, ["last", "waits", "runs", "badly", "well"]),
        ({"type": "infer"}, []),
        ({"type": ["infer", "train"]}, ["last", "waits", "runs", "badly", "well"]),
        ({"status": "Queue"}, ["last", "waits"]),
        ({"status": "Completed"}, ["well"]),
        ({"sort": "create_time", "ascend": True}, ["well", "badly", "runs", "waits", "last"]),
        ({"sort": "create_time", "ascend": False}, ["last", "waits", "runs", "badly", "well"]),
        ({"offset": 1, "limit": 2}, ["waits", "runs"]),
        ({"offset": "4", "limit": 500}, ["well"]),
        ({"offset": "0", "limit": 0}, ["last", "waits", "runs", "badly", "well"]),
        ({"hostip": ["small-1"]}, ["runs"]),
        ({"hostip": ["small-1", "small-2"], "offset": 9, "limit": 1}, ["runs"]),
        ({"hostip": ["small-1,nowhere"]}, ["runs"]),
        ({"hostip": ["nö/where +~*"]}, []),
    ],
)
def test_every_parameter_of_the_workload_list_works(
    client: ModelArtsClient, remote: Remote, parameters: dict[str, Any], expected: list[str]
) -> None:
    assert names(client, remote, **parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"type": "job"}, "type is 'job'"),
        ({"status": "done"}, "status is 'done'"),
        ({"sort": "name"}, 'sort is "name"'),
        ({"limit": 501}, 'limit is "501"; it must be a whole number from 0 to 500'),
        ({"offset": -1}, 'offset is "-1"'),
    ],
)
def test_a_wrong_parameter_reaches_the_caller_in_words(
    client: ModelArtsClient, remote: Remote, parameters: dict[str, Any], says: str
) -> None:
    request = ListWorkloadsRequest(pool_name=remote.project.pool("small"), **parameters)

    error = refusal(client, request)

    assert (error.status_code, error.error_code) == (400, "ModelArts.50004000")
    assert says in error.error_msg


def test_pools_are_listed(client: ModelArtsClient, remote: Remote) -> None:
    reply = client.list_pools(ListPoolsRequest())

    assert (reply.api_version, reply.kind) == ("v2", "PoolList")
    assert {item.metadata.name for item in reply.items} == {
        remote.project.pool(name) for name in ("public", "small", "ascend")
    }


def test_pools_are_selected(client: ModelArtsClient) -> None:
    def found(**parameters: str) -> list[str]:
        items = client.list_pools(ListPoolsRequest(**parameters)).items
        return [item.metadata.labels.os_modelarts_name for item in items]

    assert found(label_selector="os.modelarts/name=small") == ["small"]
    assert found(label_selector="os.modelarts/name in (small,ascend)") == ["ascend", "small"]
    assert len(found(status="created")) == 3
    assert found(status="failed") == []
    assert found(workspace_id="1") == []


def test_a_pool_is_shown(client: ModelArtsClient, remote: Remote) -> None:
    pool = client.show_pool(ShowPoolRequest(pool_name=remote.project.pool("ascend")))

    assert (pool.api_version, pool.kind) == ("v2", "Pool")
    assert pool.metadata.name == remote.project.pool("ascend")
    assert pool.metadata.labels.os_modelarts_name == "ascend"
    assert pool.metadata.creation_timestamp.endswith("Z")
    assert (pool.spec.type, pool.spec.scope) == ("Dedicate", ["Train"])
    [line] = pool.spec.resources
    assert (line.flavor, line.count, line.max_count) == ("modelarts.vm.npu.2", 1, 1)
    assert pool.status.phase == "Running"
    assert [scope.scope_type for scope in pool.status.scope] == ["Train"]


def test_an_unknown_pool_is_a_404_with_its_name(client: ModelArtsClient) -> None:
    for request in (
        ShowWorkloadStatisticsRequest("nowhere"),
        ListWorkloadsRequest(pool_name="nowhere"),
        ShowPoolRequest("nowhere"),
    ):
        error = refusal(client, request)
        assert (error.status_code, error.error_code) == (404, "ModelArts.50015001")
        assert error.error_msg == "Pool nowhere not found."


def test_a_name_with_anything_in_it_is_signed_and_routed(client: ModelArtsClient) -> None:
    for name in ("a/b", "ü +~*%", "a b", "名", "a?b#c&d=e", "%2F"):
        error = refusal(client, ShowPoolRequest(name))
        assert (error.status_code, error.error_msg) == (404, f"Pool {name} not found.")


def test_wrong_keys_are_refused(remote: Remote) -> None:
    for keys in ({"sk": "wrong"}, {"ak": "UNKNOWN"}):
        error = refusal(client_of(remote, **keys), ListPoolsRequest())
        assert (error.status_code, error.error_code) == (403, "ModelArts.0206")


def test_another_project_is_refused(remote: Remote) -> None:
    error = refusal(client_of(remote, project_id="f" * 32), ListPoolsRequest())

    assert (error.status_code, error.error_code) == (403, "ModelArts.0210")


def test_without_a_project_the_literal_segment_is_refused(remote: Remote) -> None:
    client = client_of(remote)
    client._credentials.project_id = None

    error = refusal(client, ListPoolsRequest())

    assert error.status_code == 400
    assert "{project_id}" in error.error_msg


def test_optional_headers_are_signed_and_ignored(client: ModelArtsClient, remote: Remote) -> None:
    request = ShowPoolRequest(
        pool_name=remote.project.pool("small"), x_model_arts_user_id="somebody"
    )

    assert client.show_pool(request).kind == "Pool"
