"""The Huawei Cloud SDK, unmodified, through everything that it can ask of pools and their nodes."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkmodelarts import v1 as sdk

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.test_huawei_sdk import client_of

pytestmark = pytest.mark.timeout(300)

CPU = "modelarts.vm.cpu.1u"
INVENTORY = """
[machine]
cpus = 4
memory_gib = 32
gpus = 4
card_model = "H200"

[[nodes]]
name = "host-a"
cpus = 4
memory_gib = 32
gpus = 4
card_model = "H200"

[[nodes]]
name = "host-b"
cpus = 4
memory_gib = 32
npus = 2
card_model = "910B"

[[flavors]]
code = "gpu.1"
cpus = 1
memory_gib = 1
gpus = 1
card_model = "H200"

[[flavors]]
code = "npu.1"
cpus = 1
memory_gib = 1
npus = 1
card_model = "910B"
"""
NUMBERS = count(10)
SLEEPER = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("sdk-pools")
    inventory = folder / "inventory.toml"
    inventory.write_text(INVENTORY)
    with running_server(folder, "--inventory", inventory) as remote:
        yield remote


@pytest.fixture(scope="module")
def client(remote: Remote) -> Any:
    return client_of(remote)


def new_pool(
    name: str, flavor: str = CPU, nodes: int = 2, *, scope: tuple[str, ...] = ("Train",)
) -> sdk.CreatePoolRequest:
    line = sdk.PoolResourceFlavor(flavor=flavor, count=nodes, max_count=nodes)
    return sdk.CreatePoolRequest(
        body=sdk.CreatePoolRequestBody(
            api_version="v2",
            kind="Pool",
            metadata=sdk.PoolMetadataCreation(
                labels=sdk.PoolLabelsCreation(
                    os_modelarts_name=name, os_modelarts_workspace_id="0"
                ),
                annotations=sdk.PoolAnnotationsCreation(
                    os_modelarts_description=f"Pool {name}", os_modelarts_billing_mode="0"
                ),
            ),
            spec=sdk.PoolSpecCreation(
                type="Dedicate",
                scope=list(scope),
                resources=[line],
                network=sdk.PoolSpecCreationNetwork(name="network-1"),
                job_flavors=[flavor],
                driver=sdk.PoolDriver(gpu_version="1", update_strategy="idle"),
            ),
        )
    )


def show(client: Any, pool_id: str) -> Any:
    return client.show_pool(sdk.ShowPoolRequest(pool_name=pool_id))


def wait_phase(client: Any, pool_id: str, phase: str) -> Any:
    return wait_for(
        lambda: found if (found := show(client, pool_id)).status.phase == phase else None
    )


def node_names(client: Any, pool_id: str, **parameters: Any) -> list[str]:
    reply = client.list_pool_nodes(sdk.ListPoolNodesRequest(pool_name=pool_id, **parameters))
    return [node.metadata.name for node in reply.items]


def wait_nodes(client: Any, pool_id: str, expected: int) -> list[str]:
    return wait_for(
        lambda: names if len(names := node_names(client, pool_id)) == expected else None
    )


def refusal(call: Callable[..., Any], request: Any) -> exceptions.ClientRequestException:
    with pytest.raises(exceptions.ClientRequestException) as refused:
        call(request)
    assert refused.value.request_id
    return refused.value


def resize(pool_id: str, nodes: int, flavor: str = CPU) -> sdk.PatchPoolRequest:
    line = sdk.PoolSpecUpdateResources(flavor=flavor, count=nodes)
    return sdk.PatchPoolRequest(
        pool_name=pool_id, body=sdk.PoolUpdateRequest(spec=sdk.PoolSpecUpdate(resources=[line]))
    )


def delete(client: Any, pool_id: str) -> Any:
    deleted = client.delete_pool(sdk.DeletePoolRequest(pool_name=pool_id))

    def is_gone() -> bool | None:
        try:
            show(client, pool_id)
        except exceptions.ClientRequestException as error:
            return error.status_code == 404 or None
        return None

    wait_for(is_gone)
    return deleted


@pytest.fixture
def pool_id(client: Any) -> Iterator[str]:
    """A pool of two nodes, gone at the end of the test."""
    made = client.create_pool(new_pool(f"sdk{next(NUMBERS)}")).metadata.name
    wait_phase(client, made, "Running")
    yield made
    delete(client, made)


# ---------------------------------------------------------------- pools


def test_a_pool_comes_is_listed_and_goes(client: Any, remote: Remote) -> None:
    made = client.create_pool(new_pool("first", scope=("Train", "Notebook")))

    assert (made.api_version, made.kind, made.status.phase) == ("v2", "Pool", "Creating")
    pool_id = made.metadata.name
    assert pool_id == f"first-{remote.project.id}"
    shown = wait_phase(client, pool_id, "Running")
    assert shown.metadata.labels.os_modelarts_name == "first"
    assert shown.metadata.labels.os_modelarts_workspace_id == "0"
    assert shown.metadata.labels.os_modelarts_tenant_project_id == remote.project.id
    assert shown.metadata.labels.os_modelarts_resource_id.startswith("maos-first-")
    assert shown.metadata.annotations.os_modelarts_description == "Pool first"
    assert shown.spec.scope == ["Train", "Notebook"]
    [line] = shown.spec.resources
    assert (line.flavor, line.count, line.max_count) == (CPU, 2, 2)
    assert shown.spec.network.name == "network-1"
    assert shown.spec.job_flavors == [CPU]
    assert shown.spec.driver.gpu_version == "1"
    assert [(s.scope_type, s.state) for s in shown.status.scope] == [
        ("Train", "Enabled"),
        ("Notebook", "Enabled"),
    ]
    assert (shown.status.root, shown.status.parent) == (pool_id, "")
    listed = client.list_pools(
        sdk.ListPoolsRequest(
            workspace_id="0", label_selector="os.modelarts/name=first", status="created"
        )
    )
    assert [pool.metadata.name for pool in listed.items] == [pool_id]
    assert client.list_pools(sdk.ListPoolsRequest(status="failed")).items == []

    deleted = delete(client, pool_id)

    assert deleted.metadata.deletion_timestamp
    assert deleted.status.phase == "Deleting"


def test_arrays_of_the_status_are_arrays_on_the_wire(remote: Remote, pool_id: str) -> None:
    """The SDK has no place for them: it shows them without fields, and raises nothing."""
    body = remote.project.http.get(f"{remote.project.v2}/pools/{pool_id}").json()

    [available] = body["status"]["resources"]["available"]
    assert (available["flavor"], available["count"]) == (CPU, 2)


def test_refusals_come_as_exceptions(client: Any, pool_id: str) -> None:
    taken = refusal(client.create_pool, new_pool(pool_id.partition("-")[0]))
    flavor = refusal(client.create_pool, new_pool("unknown", flavor="x"))
    too_many = refusal(client.create_pool, new_pool("too-many", nodes=5000))
    name = refusal(client.create_pool, new_pool("Upper"))
    unknown = refusal(client.show_pool, sdk.ShowPoolRequest(pool_name="nowhere"))

    assert (taken.status_code, taken.error_code) == (409, "ModelArts.50015000")
    assert (flavor.status_code, flavor.error_code) == (400, "ModelArts.50004000")
    assert "spec.resources[0].flavor is 'x'; there are" in flavor.error_msg
    assert "a whole number from 1 to 4096" in too_many.error_msg
    assert "4 to 25" in name.error_msg
    assert (unknown.status_code, unknown.error_code) == (404, "ModelArts.50015001")
    assert unknown.error_msg == "Pool nowhere not found."


def test_a_patch_changes_scope_description_and_size(client: Any, pool_id: str) -> None:
    body = sdk.PoolUpdateRequest(
        metadata=sdk.PoolMetadataUpdate(
            annotations=sdk.PoolMetadataUpdateAnnotations(os_modelarts_description="New words")
        ),
        spec=sdk.PoolSpecUpdate(scope=["Train", "Infer"]),
    )
    changed = client.patch_pool(sdk.PatchPoolRequest(pool_name=pool_id, body=body))
    assert changed.metadata.annotations.os_modelarts_description == "New words"
    assert changed.spec.scope == ["Train", "Infer"]

    client.patch_pool(resize(pool_id, 4))
    assert len(wait_nodes(client, pool_id, 4)) == 4
    client.patch_pool(resize(pool_id, 1))
    wait_nodes(client, pool_id, 1)

    nothing = refusal(client.patch_pool, resize(pool_id, 0))
    assert (nothing.status_code, nothing.error_code) == (400, "ModelArts.50004000")


def test_what_can_never_be_and_what_has_to_wait_say_why(client: Any, remote: Remote) -> None:
    failed = client.create_pool(new_pool("never", "gpu.1", 5)).metadata.name
    first = client.create_pool(new_pool("cards", "gpu.1", 3)).metadata.name
    wait_phase(client, first, "Running")
    second = client.create_pool(new_pool("more-cards", "gpu.1", 2)).metadata.name

    never = wait_phase(client, failed, "CreationFailed")
    waits = wait_phase(client, second, "Waiting")

    assert never.status.message == (
        "It asks for 5 nodes of flavor gpu.1; the hosts can give 4 in all."
    )
    assert waits.status.message == "Waits for nodes that others have: 1 of flavor gpu.1."
    counts = client.show_pool_statistics(sdk.ShowPoolStatisticsRequest(workspace_id="0"))
    assert counts.statistics.status.to_dict() == {
        "creating": 0, "created": 2, "failed": 1, "pending": 1,
    }  # fmt: skip
    assert counts.operation_time.endswith(" +0000 UTC")
    delete(client, first)
    wait_phase(client, second, "Running")
    delete(client, second)
    delete(client, failed)


# ---------------------------------------------------------------- jobs on them


def test_a_job_runs_on_the_nodes_of_its_pool_and_resizes_leave_it_alone(
    client: Any, remote: Remote, pool_id: str
) -> None:
    job = remote.submit("stays", SLEEPER, pool_id=pool_id, worker_server_num=2)
    remote.wait(job, 8)

    [running] = client.list_workloads(sdk.ListWorkloadsRequest(pool_name=pool_id)).items
    assert sorted(running.host_ips.split(",")) == node_names(client, pool_id)
    client.patch_pool(resize(pool_id, 3))
    names = wait_nodes(client, pool_id, 3)
    client.patch_pool(resize(pool_id, 1))

    # The idle one goes at once, one of the busy ones once its work has ended.
    left = wait_nodes(client, pool_id, 2)
    assert set(left) < set(names)
    phases = {
        node.metadata.name: node.status.phase
        for node in client.list_pool_nodes(sdk.ListPoolNodesRequest(pool_name=pool_id)).items
    }
    assert sorted(phases.values()) == ["Available", "Deleting"]
    assert remote.version(job)["status"] == 8
    remote.stop(job)
    wait_nodes(client, pool_id, 1)


def test_a_pool_that_is_deleted_stops_its_job(client: Any, remote: Remote) -> None:
    pool_id = client.create_pool(new_pool("doomed", nodes=1)).metadata.name
    wait_phase(client, pool_id, "Running")
    job = remote.submit("doomed-job", SLEEPER, pool_id=pool_id)
    remote.wait(job, 8)

    delete(client, pool_id)

    assert remote.version(job)["status"] == 12


def test_cards_of_the_inventory_need_not_exist(client: Any, remote: Remote) -> None:
    pool_id = client.create_pool(new_pool("ascend", "npu.1", 2)).metadata.name
    wait_phase(client, pool_id, "Running")
    job = remote.submit(
        "shows-cards", "import time; time.sleep(600)", pool_id=pool_id,
        spec_id=remote.spec_ids["npu.1"],
    )  # fmt: skip
    remote.wait(job, 8)

    reply = client.list_pool_nodes(sdk.ListPoolNodesRequest(pool_name=pool_id))

    free = [node.status.available_resources.huawei_com_ascend_snt9 for node in reply.items]
    assert sorted(free) == ["0", "1"]
    masks = {node.metadata.annotations.os_modelarts_npu_topology_placement for node in reply.items}
    assert len(masks) == 2
    assert all(len(mask) == 16 for mask in masks)
    delete(client, pool_id)


# ---------------------------------------------------------------- nodes


def test_nodes_are_listed_by_pages_and_shown(client: Any, remote: Remote, pool_id: str) -> None:
    first = client.list_pool_nodes(sdk.ListPoolNodesRequest(pool_name=pool_id, limit=1))
    cursor = first.metadata._continue
    second = client.list_pool_nodes(
        sdk.ListPoolNodesRequest(pool_name=pool_id, limit=1, _continue=cursor)
    )

    assert first.metadata.remaining_item_count == 1
    assert second.metadata._continue is None
    [node], [other] = first.items, second.items
    assert node.metadata.name != other.metadata.name
    shown = client.show_pool_node(
        sdk.ShowPoolNodeRequest(pool_name=pool_id, node_name=node.metadata.name)
    )
    assert shown.metadata.to_dict() == node.metadata.to_dict()
    assert shown.status.to_dict() == node.status.to_dict()
    assert shown.spec.flavor == CPU
    assert (shown.status.phase, shown.status.az) == ("Available", "az1")
    assert shown.status.resources.cpu == shown.status.available_resources.cpu == "1000m"
    assert shown.status.resources.memory == "4096Mi"
    assert shown.metadata.labels.os_modelarts_node_nodepool == "default"
    assert shown.metadata.labels.os_modelarts_billing_status == "0"
    unknown = refusal(
        client.show_pool_node, sdk.ShowPoolNodeRequest(pool_name=pool_id, node_name="nowhere")
    )
    assert (unknown.status_code, unknown.error_code) == (404, "ModelArts.50015001")


def test_nodes_are_locked_unlocked_and_deleted(client: Any, pool_id: str) -> None:
    first, second = node_names(client, pool_id)

    def lock_body(*names: str) -> sdk.BatchLockPoolNodesRequestBody:
        return sdk.BatchLockPoolNodesRequestBody(node_names=list(names), actions=["delete"])

    def deletion(*names: str) -> sdk.BatchDeletePoolNodesRequest:
        body = sdk.NodesDeletionRequest(delete_node_names=list(names))
        return sdk.BatchDeletePoolNodesRequest(pool_name=pool_id, body=body)

    locked = client.batch_lock_pool_nodes(
        sdk.BatchLockPoolNodesRequest(pool_name=pool_id, body=lock_body(first))
    )
    assert [(node.name, node.status) for node in locked.nodes] == [(first, "success")]
    refused = refusal(client.batch_delete_pool_nodes, deletion(first))
    assert (refused.status_code, refused.error_code) == (400, "ModelArts.50004000")
    assert f"locked nodes: {first}" in refused.error_msg
    client.batch_unlock_pool_nodes(
        sdk.BatchUnlockPoolNodesRequest(pool_name=pool_id, body=lock_body(first))
    )
    assert (
        "one must stay"
        in refusal(client.batch_delete_pool_nodes, deletion(first, second)).error_msg
    )

    client.batch_delete_pool_nodes(deletion(first))

    assert wait_nodes(client, pool_id, 1) == [second]


def test_nodes_are_made_spare_and_tagged(client: Any, pool_id: str) -> None:
    [name, _] = node_names(client, pool_id)

    def update(action: str, **more: Any) -> Any:
        body = sdk.BatchUpdatePoolNodesRequestBody(
            node_names=[name, "no-such"], action=action, **more
        )
        return client.batch_update_pool_nodes(
            sdk.BatchUpdatePoolNodesRequest(pool_name=pool_id, body=body)
        )

    done = update("openHaRedundant", ha_redundant_effect="NoSchedule")
    assert (done.success_node_names, done.fail_node_names) == ([name], ["no-such"])
    shown = client.show_pool_node(sdk.ShowPoolNodeRequest(pool_name=pool_id, node_name=name))
    assert shown.metadata.labels.os_modelarts_node_ha_redundant_enabled == "true"
    update("closeHaRedundant")
    update("createTags", tags=[sdk.NodeTag(key="cost", value="7")])
    update("deleteTags", tags=[sdk.NodeTag(key="cost", value="7")])


def test_what_is_not_offered_says_so(client: Any, pool_id: str) -> None:
    [name, _] = node_names(client, pool_id)
    calls: list[tuple[Callable[..., Any], Any]] = [
        (
            client.batch_reboot_pool_nodes,
            sdk.BatchRebootPoolNodesRequest(
                pool_name=pool_id, body=sdk.BatchRebootPoolNodesRequestBody(node_names=[name])
            ),
        ),
        (
            client.batch_reset_pool_nodes,
            sdk.BatchResetPoolNodesRequest(
                pool_name=pool_id,
                body=sdk.ResetNodesRequest(
                    node_names=[name],
                    rolling_config=sdk.ResetNodesRequestRollingConfig(
                        strategy="x", max_unavailable=1
                    ),
                ),
            ),
        ),
        (
            client.batch_resize_pool_nodes,
            sdk.BatchResizePoolNodesRequest(
                pool_name=pool_id,
                body=sdk.BatchResizeRequestBody(
                    nodes=[sdk.ResizeNodeInfo(batch_uid="1", delete_node_names=[name])],
                    source=sdk.NodeResizeParams(flavor=CPU),
                    target=sdk.NodeResizeParams(flavor=CPU),
                ),
            ),
        ),
        (
            client.batch_migrate_pool_nodes,
            sdk.BatchMigratePoolNodesRequest(
                pool_name=pool_id,
                body=sdk.NodeBatchMigrationRequest(
                    migrate_node_names=[name], from_cluster_name="a", to_cluster_name="b"
                ),
            ),
        ),
        (
            client.batch_bind_pool_nodes,
            sdk.BatchBindPoolNodesRequest(
                pool_name=pool_id,
                body=sdk.BatchBindPoolNodesReq(nodes=[sdk.BindNodeItem(name=name)]),
            ),
        ),
    ]
    for call, request in calls:
        with pytest.raises(exceptions.ServerResponseException) as refused:
            call(request)
        assert (refused.value.status_code, refused.value.error_code) == (501, "ModelArts.2858")
        assert refused.value.error_msg


def test_node_pools_come_are_changed_and_go(client: Any, pool_id: str) -> None:
    line = sdk.PoolResource(flavor=CPU, count=1, max_count=1, labels={"team": "vision"})
    created = client.create_node_pool(
        sdk.CreateNodePoolRequest(
            pool_name=pool_id,
            body=sdk.CreateNodePoolRequestBody(
                api_version="v2",
                kind="NodePool",
                metadata=sdk.CreateNodePoolMetaVO(name="extra"),
                spec=sdk.NodePoolSpec(resources=line),
            ),
        )
    )
    assert (created.metadata.name, created.spec.resources.count) == ("extra", 1)
    wait_nodes(client, pool_id, 3)
    listed = client.list_node_pools(sdk.ListNodePoolsRequest(pool_name=pool_id)).items
    assert [(item.metadata.name, item.spec.resources.count) for item in listed] == [
        ("default", 2),
        ("extra", 1),
    ]
    shown = client.show_node_pool(sdk.ShowNodePoolRequest(pool_name=pool_id, nodepool_name="extra"))
    assert shown.spec.resources.labels == {"team": "vision"}
    available = shown.status.resources.available
    assert (available.flavor, available.count, available.max_count) == (CPU, 1, 1)

    client.patch_node_pool(
        sdk.PatchNodePoolRequest(
            pool_name=pool_id,
            nodepool_name="extra",
            body=sdk.PatchNodePoolRequestBody(
                spec=sdk.NodePoolSpec(resources=sdk.PoolResource(flavor=CPU, count=2))
            ),
        )
    )
    wait_nodes(client, pool_id, 4)
    of_it = client.list_node_pool_nodes(
        sdk.ListNodePoolNodesRequest(pool_name=pool_id, nodepool_name="extra")
    )
    assert len(of_it.items) == 2
    deleted = client.delete_node_pool(
        sdk.DeleteNodePoolRequest(pool_name=pool_id, nodepool_name="extra")
    )
    assert deleted.metadata.name == "extra"
    wait_nodes(client, pool_id, 2)
    unknown = refusal(
        client.show_node_pool, sdk.ShowNodePoolRequest(pool_name=pool_id, nodepool_name="extra")
    )
    assert (unknown.status_code, unknown.error_code) == (404, "ModelArts.50015001")


# ---------------------------------------------------------------- what surrounds them


def test_events_tell_how_a_pool_came_to_be(client: Any, pool_id: str) -> None:
    reply = client.list_events(sdk.ListEventsRequest(resource="pools", name=pool_id, type="Normal"))

    assert (reply.api_version, reply.kind) == ("v1", "EventList")
    newest = reply.items[0]
    assert newest.message == "Pool status changed, from Creating to Running."
    assert (newest.type, newest.reason, newest.count) == ("Normal", "PoolStatusChange", 1)
    page = client.list_events(sdk.ListEventsRequest(resource="pools", name=pool_id, limit=1))
    cursor = page.metadata._continue
    rest = client.list_events(
        sdk.ListEventsRequest(resource="pools", name=pool_id, limit=500, _continue=cursor)
    )
    assert len(rest.items) == page.metadata.remaining_item_count == len(reply.items) - 1


def test_flavors_are_listed_with_what_is_free(client: Any) -> None:
    reply = client.list_resource_flavors(sdk.ListResourceFlavorsRequest(limit=500))

    flavors = {item.metadata.name: item for item in reply.items}
    gpu, npu = flavors["gpu.1"], flavors["npu.1"]
    assert (gpu.spec.gpu.type, gpu.spec.gpu.size) == ("H200", "1")
    assert (npu.spec.npu.type, npu.spec.npu.size) == ("910B", "1")
    assert (gpu.spec.cpu, gpu.spec.memory, gpu.spec.type) == ("1", "1Gi", "Dedicate")
    assert gpu.spec.cpu_arch in ("x86", "arm64")
    assert gpu.spec.billing_modes == [0]
    assert gpu.status.phase == {"az1": "normal"}
    assert gpu.metadata.labels.os_modelarts_scope == "Train,Infer,Notebook"
    first = client.list_resource_flavors(sdk.ListResourceFlavorsRequest(limit=1))
    assert first.metadata.remaining_item_count == len(flavors) - 1


def test_quotas_configuration_and_maintenance(client: Any, pool_id: str) -> None:
    quotas = client.show_os_quota(sdk.ShowOsQuotaRequest()).quotas.resources
    assert [(entry.type, entry.quota, entry.used) for entry in quotas] == [
        ("pool", "1000", "1"),
        ("node", "-1", "2"),
        ("network", "100", "0"),
    ]
    config = client.show_os_config(sdk.ShowOsConfigRequest())
    assert (config.pool_quota, config.network_quota, config.pool_high_available) == (
        1000,
        100,
        False,
    )
    jobs = client.list_jobs(
        sdk.ListJobsRequest(type="reboot-node", resource="pools", name=pool_id, limit=10)
    )
    assert (jobs.count, jobs.items) == (0, [])
    assert refusal(client.list_jobs, sdk.ListJobsRequest(limit=1000)).status_code == 400
