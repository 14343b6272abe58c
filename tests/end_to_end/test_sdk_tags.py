"""Tags, networks and reports of tasks through the unmodified Huawei Cloud SDK, on a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts import v1 as sdk

from tests.end_to_end.server import Remote, check_is_exact, running_server, wait_for
from tests.end_to_end.test_huawei_sdk import client_of
from tests.end_to_end.test_sdk_experiments import submit

INVENTORY = """
[[flavors]]
code = "cpu.small"
cpus = 1
memory_gib = 1

[machine]
cpus = 4
memory_gib = 8

[[pools]]
name = "small"
flavor = "cpu.small"
count = 1
"""

pytestmark = [
    pytest.mark.timeout(300),
    # The SDK's own: it opens its log handlers and sessions without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("tags")
    inventory: Path = folder / "inventory.toml"
    inventory.write_text(INVENTORY)
    with running_server(folder, "--inventory", inventory) as remote:
        yield remote


@pytest.fixture(scope="module")
def client(remote: Remote) -> Any:
    return client_of(remote)


def as_dict(tags: list[Any]) -> dict[str, list[str]]:
    """Of tags with several values."""
    return {tag.key: tag.values for tag in tags}


def refused(call: Callable[..., Any], request: Any) -> ClientRequestException:
    with pytest.raises(ClientRequestException) as refused:
        call(request)
    assert refused.value.request_id
    return refused.value


def test_tags_of_a_pool(remote: Remote, client: Any) -> None:
    pool = f"small-{remote.project.id}"
    shown = sdk.ShowPoolTagsRequest(pool_name=pool)
    tags = [sdk.Tag(key="team", value="vision"), sdk.Tag(key="cost", value="7")]

    made = client.batch_create_pool_tags(
        sdk.BatchCreatePoolTagsRequest(pool_name=pool, body=sdk.CreateTagRequest(tags=tags))
    )

    assert as_dict(made.tags) == {"team": ["vision"], "cost": ["7"]}
    assert as_dict(client.show_pool_tags(shown).tags) == as_dict(made.tags)
    assert as_dict(client.list_pool_tags(sdk.ListPoolTagsRequest(limit=5)).tags) == as_dict(
        made.tags
    )
    client.batch_delete_pool_tags(
        sdk.BatchDeletePoolTagsRequest(
            pool_name=pool,
            body=sdk.DeleteTagRequest(tags=[sdk.DeleteTagItem(key="cost")]),
        )
    )
    assert as_dict(client.show_pool_tags(shown).tags) == {"team": ["vision"]}
    unknown = refused(client.show_pool_tags, sdk.ShowPoolTagsRequest(pool_name="no-such"))
    assert (unknown.status_code, unknown.error_code) == (404, "ModelArts.50015001")


def test_tags_of_training_jobs_and_the_search_for_them(remote: Remote, client: Any) -> None:
    tagged, plain = (submit(remote, client, name, None) for name in ("tagged", "plain"))
    id_ = tagged.metadata.id
    tags = [sdk.TmsTag(key="team", value="vision"), sdk.TmsTag(key="stage", value="try")]

    made = client.create_train_job_tags(
        sdk.CreateTrainJobTagsRequest(training_job_id=id_, body=sdk.CreateTmsTagsRequest(tags=tags))
    )

    assert {tag.key: tag.value for tag in made.tags} == {"team": "vision", "stage": "try"}

    def found(*filters: Any) -> list[str]:
        body = sdk.JobSearches(tags=list(filters), limit=10)
        reply = client.list_training_jobs(sdk.ListTrainingJobsRequest(body=body))
        assert reply.total == len(reply.items)
        return [job.metadata.id for job in reply.items]

    assert found(sdk.ListTagFilter(key="team", values=["vision", "audio"])) == [id_]
    assert found(sdk.ListTagFilter(key="team"), sdk.ListTagFilter(key="stage")) == [id_]
    assert found(sdk.ListTagFilter(key="team", values=["audio"])) == []
    values = [sdk.MutiValueTag(key="team", values=["vision"])]
    by_tags = client.list_training_jobs_by_tags(
        sdk.ListTrainingJobsByTagsRequest(
            limit=10, body=sdk.ResourceInstancesFilterReq(workspace_id="0", tags=values)
        )
    )
    [resource] = by_tags.resources
    assert (by_tags.total_count, resource.resource_id, resource.resource_name) == (1, id_, "tagged")
    assert {tag.key: tag.value for tag in resource.tags} == {"team": "vision", "stage": "try"}
    untagged = client.count_training_jobs_by_tags(
        sdk.CountTrainingJobsByTagsRequest(
            body=sdk.CountResourceInstancesReq(workspace_id="0", without_any_tag=True)
        )
    )
    assert untagged.total_count == 1
    known = client.list_training_job_tags(sdk.ListTrainingJobTagsRequest())
    assert as_dict(known.tags) == {"team": ["vision"], "stage": ["try"]}
    client.delete_train_job_tags(
        sdk.DeleteTrainJobTagsRequest(
            training_job_id=id_,
            body=sdk.DeleteTmsTagsRequest(tags=[sdk.TmsTagForDeletion(key="stage")]),
        )
    )
    left = client.show_train_job_tags(sdk.ShowTrainJobTagsRequest(training_job_id=id_))
    assert [(tag.key, tag.value) for tag in left.tags] == [("team", "vision")]
    none = sdk.ShowTrainJobTagsRequest(training_job_id=plain.metadata.id)
    assert client.show_train_job_tags(none).tags == []
    client.delete_training_job(sdk.DeleteTrainingJobRequest(training_job_id=id_))
    assert found(sdk.ListTagFilter(key="team")) == []
    gone = refused(client.show_train_job_tags, sdk.ShowTrainJobTagsRequest(training_job_id=id_))
    assert gone.error_code == "ModelArts.2775"


def test_a_network_from_its_making_to_its_end(remote: Remote, client: Any) -> None:
    labels = sdk.NetworkMetadataLabels(os_modelarts_name="by-sdk", os_modelarts_workspace_id="0")
    made = client.create_network(
        sdk.CreateNetworkRequest(
            body=sdk.NetworkCreationRequest(
                api_version="v1",
                kind="Network",
                metadata=sdk.NetworkMetadataCreation(labels=labels),
                spec=sdk.NetworkSpec(cidr="192.168.20.0/24"),
            )
        )
    )
    name = made.metadata.name

    assert (made.spec.cidr, made.status.phase) == ("192.168.20.0/24", "Active")
    words = sdk.NetworkMetadataAnnotations(os_modelarts_description="words")
    client.patch_network(
        sdk.PatchNetworkRequest(
            network_name=name,
            body=sdk.NetworkUpdateRequest(metadata=sdk.NetworkMetadataUpdate(annotations=words)),
        )
    )
    shown = client.show_network(sdk.ShowNetworkRequest(network_name=name))
    assert shown.metadata.annotations.os_modelarts_description == "words"
    listed = client.list_networks(sdk.ListNetworksRequest(limit=10))
    assert [network.metadata.name for network in listed.items] == [name]
    addresses = client.show_network_available_ip(
        sdk.ShowNetworkAvailableIpRequest(network_name=name)
    )
    [subnet] = addresses.subnet_ip_availability
    assert (subnet.cidr, subnet.total_ips, subnet.used_ips) == ("192.168.20.0/24", 254, 0)
    quotas = client.show_os_quota(sdk.ShowOsQuotaRequest()).quotas.resources
    assert {quota.type: quota.used for quota in quotas}["network"] == "1"
    deleted = client.delete_network(sdk.DeleteNetworkRequest(network_name=name))
    assert deleted.metadata.name == name
    unknown = refused(client.show_network, sdk.ShowNetworkRequest(network_name=name))
    assert (unknown.status_code, unknown.error_code) == (404, "ModelArts.50025001")


def test_a_report_of_a_task_is_an_event_of_its_job(remote: Remote, client: Any) -> None:
    code = "import time\ntime.sleep(60)"
    id_ = submit(remote, client, "reported", None, code=code).metadata.id
    shown = sdk.ShowTrainingJobDetailsRequest(training_job_id=id_)
    wait_for(lambda: client.show_training_job_details(shown).status.phase == "Running" or None)

    client.notify_training_job_information(
        sdk.NotifyTrainingJobInformationRequest(
            training_job_id=id_,
            task_id="worker-0",
            report_type="training-event",
            body=sdk.ReportEventBody(type="hang suspected"),
        )
    )

    events = client.list_training_job_events(
        sdk.ListTrainingJobEventsRequest(training_job_id=id_, pattern="hang")
    ).events
    assert [event.message for event in events] == ["Reported of worker-0: hang suspected"]
    client.delete_training_job(sdk.DeleteTrainingJobRequest(training_job_id=id_))


def test_everything_is_counted_exactly_at_the_end(remote: Remote) -> None:
    check_is_exact(remote.data)
