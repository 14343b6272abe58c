"""The v2 algorithm API through the unmodified Huawei Cloud SDK, on a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts import v1 as sdk

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.test_huawei_sdk import client_of

ENDED = {"Completed", "Failed", "Terminated", "Abnormal"}
UNKNOWN_ID = "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"
SCRIPT = """
import argparse
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("rate", "epochs", "data", "model"):
    parser.add_argument(f"--{name}")
given = parser.parse_args()
digits = (Path(given.data) / "digits.txt").read_text()
Path(given.model, "model.txt").write_text(f"{digits} {given.rate} {given.epochs}")
"""

pytestmark = [
    pytest.mark.timeout(300),
    # The SDK's own: it opens its log handlers and sessions without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("algorithms")) as remote:
        yield remote


@pytest.fixture(scope="module")
def client(remote: Remote) -> Any:
    return client_of(remote)


def body_for(remote: Remote, client: Any, name: str) -> Any:
    """An algorithm with a parameter of each kind, an input and an output."""
    code = remote.put_code("algorithm", SCRIPT)
    engines = client.show_training_job_engines(sdk.ShowTrainingJobEnginesRequest())
    return sdk.Algorithm(
        metadata=sdk.AlgorithmMetadata(name=name, description="über", workspace_id="0"),
        job_config=sdk.AlgorithmJobConfig(
            code_dir=code["app_url"],
            boot_file=code["boot_file_url"],
            engine=sdk.AlgorithmCreateEngine(
                engine_id=engines.items[0].engine_id,
                engine_name=engines.items[0].engine_name,
                engine_version=engines.items[0].engine_version,
            ),
            parameters=[
                sdk.Parameters(
                    name="rate",
                    value="0.5",
                    description="how fast",
                    constraint=sdk.ParametersConstraint(
                        type="Float", editable=False, required=True, sensitive=False,
                        valid_type="None", valid_range=[],
                    ),
                    i18n_description=sdk.I18nDescription(language="en", description="speed"),
                ),
                sdk.Parameters(
                    name="epochs",
                    constraint=sdk.ParametersConstraint(
                        type="Integer", editable=True, required=True,
                        valid_type="Range", valid_range=["1", "9"],
                    ),
                ),
            ],
            inputs=[
                sdk.AlgorithmCreateInput(
                    name="data",
                    description="digits",
                    remote_constraints=[
                        sdk.RemoteConstraint(data_type="obs", attributes=[{"a": "b"}])
                    ],
                )
            ],
            outputs=[sdk.AlgorithmCreateOutput(name="model", description="learned")],
            parameters_customization=True,
        ),
        resource_requirements=[
            sdk.ResourceRequirement(key="flavor_type", values=["CPU"], operator="in")
        ],
        advanced_config=sdk.AlgorithmAdvancedConfig(
            auto_search=sdk.AutoSearch(
                reward_attrs=[sdk.RewardAttrs(name="acc", mode="max", regex="acc=(.*)")],
                search_params=[
                    sdk.SearchParams(
                        name="rate", param_type="discrete", discrete_values=["1", "2"]
                    )
                ],
            )
        ),
    )  # fmt: skip


def create(client: Any, body: Any) -> Any:
    return client.create_algorithm(sdk.CreateAlgorithmRequest(body=body))


def show(client: Any, algorithm_id: str) -> Any:
    return client.show_algorithm_by_uuid(sdk.ShowAlgorithmByUuidRequest(algorithm_id=algorithm_id))


def change(client: Any, algorithm_id: str, body: Any) -> Any:
    return client.change_algorithm(sdk.ChangeAlgorithmRequest(algorithm_id=algorithm_id, body=body))


def delete(client: Any, algorithm_id: str) -> Any:
    return client.delete_algorithm(sdk.DeleteAlgorithmRequest(algorithm_id=algorithm_id))


def list_(client: Any, **asked: Any) -> Any:
    return client.list_algorithms(sdk.ListAlgorithmsRequest(**asked))


def job_for(remote: Remote, algorithm_id: str, name: str, **parameters: str) -> Any:
    bucket = f"/bucket-{remote.project.name}"
    return sdk.Job(
        kind="job",
        metadata=sdk.JobMetadata(name=name, workspace_id="0"),
        algorithm=sdk.JobAlgorithm(
            id=algorithm_id,
            parameters=[sdk.Parameters(name=n, value=value) for n, value in parameters.items()],
            inputs=[sdk.Input(name="data", remote=place(sdk.InputDataInfo, f"{bucket}/digits/"))],
            outputs=[sdk.Output(name="model", remote=place(sdk.Remote, f"{bucket}/{name}/"))],
        ),
        spec=sdk.Spec(resource=sdk.SpecResource(flavor_id="modelarts.vm.cpu.1u", node_count=1)),
    )


def place(kind: Any, url: str) -> Any:
    obs = sdk.InputDataInfoObs if kind is sdk.InputDataInfo else sdk.RemoteObs
    return kind(obs=obs(obs_url=url))


def submit(client: Any, body: Any) -> Any:
    return client.create_training_job(sdk.CreateTrainingJobRequest(body=body))


def wait(client: Any, job_id: str) -> Any:
    def ended() -> Any:
        asked = sdk.ShowTrainingJobDetailsRequest(training_job_id=job_id)
        job = client.show_training_job_details(asked)
        return job if job.status.phase in ENDED else None

    return wait_for(ended)


def refusal(call: Any, *arguments: Any) -> tuple[int, str]:
    """(status, code) of the exception that the SDK raises."""
    with pytest.raises(ClientRequestException) as caught:
        call(*arguments)
    return caught.value.status_code, caught.value.error_code


def test_an_algorithm_is_made_shown_changed_and_deleted(remote: Remote, client: Any) -> None:
    body = body_for(remote, client, "sdk-life")

    made = create(client, body)
    shown = show(client, made.metadata.id)

    assert made.status_code == 201
    assert shown.metadata.to_dict() == made.metadata.to_dict()
    assert shown.job_config.to_dict() == made.job_config.to_dict()
    assert (shown.metadata.name, shown.metadata.description) == ("sdk-life", "über")
    assert shown.metadata.is_valid is True
    assert shown.metadata.create_time > 0
    rate, epochs = shown.job_config.parameters
    assert (rate.value, rate.constraint.editable) == ("0.5", False)
    assert rate.i18n_description.description == "speed"
    assert epochs.constraint.valid_range == ["1", "9"]
    assert shown.job_config.inputs[0].remote_constraints[0].attributes == [{"a": "b"}]
    assert [node.name for node in shown.job_config.code_tree.children] == ["main.py"]
    assert shown.resource_requirements[0].value == ["CPU"]
    search = shown.advanced_config.auto_search
    assert search.search_params[0].discrete_values == "1,2"

    body.metadata.description = "new words"
    body.job_config.parameters_customization = False
    changed = change(client, made.metadata.id, body)

    assert changed.status_code == 201
    assert changed.metadata.description == "new words"
    assert changed.job_config.parameters_customization is False
    assert changed.metadata.update_time >= made.metadata.update_time

    assert delete(client, made.metadata.id).status_code == 202
    assert refusal(show, client, made.metadata.id) == (400, "ModelArts.2755")


def test_algorithms_are_listed_by_rows(remote: Remote, client: Any) -> None:
    for number in range(3):
        create(client, body_for(remote, client, f"sdk-listed-{number}"))

    asked = {"searches": "name:sdk-listed", "sort_by": "name", "order": "asc"}
    page = list_(client, offset=1, limit=2, workspace_id="0", **asked)

    assert [item.metadata.name for item in page.items] == ["sdk-listed-1", "sdk-listed-2"]
    assert (page.total, page.count, page.limit, page.offset) == (3, 2, 2, 1)
    assert (page.sort_by, page.order) == ("name", "asc")


def test_a_job_runs_by_the_id_of_an_algorithm_and_outlives_it(remote: Remote, client: Any) -> None:
    project = remote.project
    project.http.put(f"/objects/bucket-{project.name}/digits/digits.txt", content=b"0123")
    algorithm = create(client, body_for(remote, client, "sdk-run"))
    algorithm_id = algorithm.metadata.id

    job = submit(client, job_for(remote, algorithm_id, "sdk-job", epochs="3"))
    delete(client, algorithm_id)
    ended = wait(client, job.metadata.id)

    assert ended.status.phase == "Completed"
    assert (ended.algorithm.id, ended.algorithm.name) == (algorithm_id, "sdk-run")
    assert ended.algorithm.code_dir == algorithm.job_config.code_dir
    result = project.http.get(f"/objects/bucket-{project.name}/sdk-job/model.txt")
    assert result.text == "0123 0.5 3"


def test_what_does_not_fit_is_an_exception_with_its_code(remote: Remote, client: Any) -> None:
    project = remote.project
    project.http.put(f"/objects/bucket-{project.name}/digits/digits.txt", content=b"0123")
    body = body_for(remote, client, "sdk-refused")
    algorithm_id = create(client, body).metadata.id

    assert refusal(create, client, body) == (400, "ModelArts.2752")
    assert refusal(show, client, UNKNOWN_ID) == (400, "ModelArts.2755")
    assert refusal(delete, client, UNKNOWN_ID) == (400, "ModelArts.2755")
    for parameters, code in (
        ({}, "2765"),
        ({"epochs": "10"}, "2765"),
        ({"epochs": "3", "rate": "1"}, "2771"),
    ):
        job = job_for(remote, algorithm_id, "sdk-unfit", **parameters)
        assert refusal(submit, client, job) == (400, f"ModelArts.{code}")
    job = job_for(remote, algorithm_id, "sdk-unfit", epochs="3")
    job.algorithm.inputs[0].name = "other"
    assert refusal(submit, client, job) == (400, "ModelArts.2814")
    job = job_for(remote, UNKNOWN_ID, "sdk-unfit", epochs="3")
    assert refusal(submit, client, job) == (400, "ModelArts.2755")
    job = job_for(remote, algorithm_id, "sdk-unfit", epochs="3")
    job.algorithm = sdk.JobAlgorithm(subscription_id="s", item_version_id="i")
    assert refusal(submit, client, job) == (400, "ModelArts.2755")
    body.metadata.name = "no blanks"
    assert refusal(change, client, algorithm_id, body) == (400, "ModelArts.2788")
    with pytest.raises(ClientRequestException) as caught:
        list_(client, limit=51)
    assert caught.value.error_code == "ModelArts.2764"
