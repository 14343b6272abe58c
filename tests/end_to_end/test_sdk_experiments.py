"""The v2 experiment API through the unmodified Huawei Cloud SDK, on a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts import v1 as sdk

from tests.end_to_end.server import Remote, check_is_exact, running_server
from tests.end_to_end.test_huawei_sdk import client_of

pytestmark = [
    pytest.mark.timeout(300),
    # The SDK's own: it opens its log handlers and sessions without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("experiments")) as remote:
        yield remote


@pytest.fixture(scope="module")
def client(remote: Remote) -> Any:
    return client_of(remote)


def create(client: Any, name: str) -> Any:
    metadata = sdk.TrainingExperimentRequestMetadata(
        name=name, description="über", workspace_id="0"
    )
    body = sdk.CreateTrainingExperimentRequestBody(metadata=metadata)
    return client.create_training_experiment(sdk.CreateTrainingExperimentRequest(body=body))


def show(client: Any, id_: str) -> Any:
    return client.show_training_experiment_details(
        sdk.ShowTrainingExperimentDetailsRequest(experiment_id=id_)
    )


def submit(remote: Remote, client: Any, name: str, reference: Any, *, code: str = "pass") -> Any:
    stored = remote.put_code(f"code-of-{name}", code)
    engines = client.show_training_job_engines(sdk.ShowTrainingJobEnginesRequest())
    body = sdk.Job(
        kind="job",
        metadata=sdk.JobMetadata(
            name=name, workspace_id="0", training_experiment_reference=reference
        ),
        algorithm=sdk.JobAlgorithm(
            code_dir=stored["app_url"],
            boot_file=stored["boot_file_url"],
            engine=sdk.JobEngine(engine_id=engines.items[0].engine_id),
        ),
        spec=sdk.Spec(
            resource=sdk.SpecResource(flavor_id="modelarts.vm.cpu.1u", node_count=1),
        ),
    )
    return client.create_training_job(sdk.CreateTrainingJobRequest(body=body))


def test_an_experiment_from_its_making_to_its_end(remote: Remote, client: Any) -> None:
    made = create(client, "by-sdk")
    id_ = made.metadata.id
    named = sdk.CheckTrainingExperimentRequest(workspace_id="0", experiment_name="by-sdk")

    assert (made.metadata.name, made.metadata.description) == ("by-sdk", "über")
    assert made.statistic.job_count == 0
    assert client.check_training_experiment(named).is_duplicate is True
    job = submit(remote, client, "stands-in", sdk.TrainingExperimentRequest(id=id_))
    submit(remote, client, "stands-in-too", sdk.TrainingExperimentRequest(name="by-sdk"))
    reference = job.metadata.training_experiment_reference
    assert (reference.id, reference.name) == (id_, "by-sdk")
    assert show(client, id_).statistic.job_count == 2

    body = sdk.ChangeTrainingExperimentRequestBody(name="by-sdk-2", description="changed")
    changed = client.change_training_experiment(
        sdk.ChangeTrainingExperimentRequest(experiment_id=id_, body=body)
    )
    assert (changed.name, changed.description) == ("by-sdk-2", "changed")
    create(client, "other")
    listed = client.list_training_experiments(
        sdk.ListTrainingExperimentsRequest(
            workspace_id="0", limit=10, offset=0, sort_by="name", order="asc"
        )
    )
    assert (listed.total, listed.count) == (2, 2)
    assert [(one.metadata.name, one.statistic.job_count) for one in listed.items] == [
        ("by-sdk-2", 2), ("other", 0),
    ]  # fmt: skip

    client.delete_training_experiment(sdk.DeleteTrainingExperimentRequest(experiment_id=id_))

    with pytest.raises(ClientRequestException) as refusal:
        show(client, id_)
    assert refusal.value.error_code == "ModelArts.2842"
    check_is_exact(remote.data)


def test_refusals_have_their_codes(remote: Remote, client: Any) -> None:
    create(client, "once")

    with pytest.raises(ClientRequestException) as taken:
        create(client, "once")
    with pytest.raises(ClientRequestException) as unknown:
        submit(remote, client, "lost", sdk.TrainingExperimentRequest(name="none"))

    assert (taken.value.error_code, taken.value.status_code) == ("ModelArts.2841", 400)
    assert unknown.value.error_code == "ModelArts.2842"
