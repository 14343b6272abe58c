"""The model and service commands of the `openstack` client, unmodified."""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.batches import put, reader, results
from tests.end_to_end.inference import ECHO, FLAVOR, Inference
from tests.end_to_end.server import Remote, processes_below, running_server, wait_for
from tests.end_to_end.test_openstack import Openstack, cloud, command

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from openstack import exceptions

__all__ = ["cloud", "command"]  # fixtures

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # the clients' own
]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("openstack-services")) as remote:
        yield remote
        Inference(remote=remote).delete_all()
        wait_for(lambda: not processes_below(remote.data / "jobs") or None)


@pytest.fixture(scope="module")
def inference(remote: Remote) -> Inference:
    return Inference(remote=remote)


@pytest.fixture(scope="module")
def source(inference: Inference) -> str:
    return inference.put("openstack", customize_service__py=ECHO)


def wait_until(command: Openstack, name: str, status: str) -> dict[str, Any]:
    def arrived() -> dict[str, Any] | None:
        shown: dict[str, Any] = command("service", "show", name)
        return shown if shown["status"] == status else None

    return wait_for(arrived)


class TestCommand:
    def test_a_model_is_created_listed_shown_and_deleted(
        self, command: Openstack, source: str
    ) -> None:
        command(
            "model", "create", "by-command", "--model-version", "0.0.1", "--model-type", "PyTorch",
            "--source-location", source, "--description", "says who it is",
            "--install-type", '["real-time"]',
            "--apis", '[{"url": "/", "method": "post", "protocol": "http"}]',
        )  # fmt: skip

        [listed] = [one for one in command("model", "list") if one["Name"] == "by-command"]
        shown = command("model", "show", "by-command")
        assert listed["Version"] == "0.0.1"
        assert (shown["model_type"], shown["description"]) == ("PyTorch", "says who it is")
        assert shown["apis"][0]["url"] == "/"
        assert shown["health"]["url"] == "/health"
        command("model", "delete", "by-command", prints=False)
        assert "by-command" not in [one["Name"] for one in command("model", "list")]
        command("model", "show", "by-command", fails=True)

    def test_a_service_goes_through_its_life(
        self, command: Openstack, inference: Inference, source: str
    ) -> None:
        model_id = inference.model(source)
        made = command(
            "service", "create", "by-command", "--infer-type", "real-time", "--model-id", model_id,
            "--weight", "100", "--specification", FLAVOR, "--instance-count", "1",
            "--env", "WORD=hello", "--description", "for the command",
            "--schedule", "type=stop,time_unit=HOURS,duration=2",
        )  # fmt: skip
        service_id = made["service_id"]

        shown = wait_until(command, "by-command", "running")
        assert shown["config"][0]["model_id"] == model_id
        assert inference.words(service_id, 1) == ["hello"]
        [listed] = [
            one for one in command("service", "list") if one["Service Name"] == "by-command"
        ]
        assert (listed["Service Id"], listed["Status"]) == (service_id, "running")
        assert command("service", "list", "--status", "failed") == []
        assert command("service", "list", "--limit", "1", "--name", "by-comm") == [listed]
        assert command("service", "events", "by-command")
        assert command("service", "logs", "by-command")

        command("service", "stop", "by-command", prints=False)
        wait_until(command, "by-command", "stopped")
        command("service", "start", "by-command", prints=False)
        wait_until(command, "by-command", "running")
        command("service", "delete", "by-command", prints=False)
        assert command("service", "list", "--name", "by-command") == []

    def test_a_batch_is_deployed_and_finished(
        self, command: Openstack, inference: Inference
    ) -> None:
        rule = {"type": "object", "properties": {"x": {"type": "number", "index": 0}}}
        rows = put(inference, "rows-in", {"rows.csv": b"1\n2\n3\n"})
        arguments = (
            "--infer-type", "batch", "--model-id", reader(inference),
            "--specification", FLAVOR, "--instance-count", "1", "--req-uri", "/",
            "--dest-path", "obs://bucket-default/rows-out/",
        )  # fmt: skip

        made = command(
            "service", "create", "by-rows", *arguments, "--src-path", rows,
            "--mapping-type", "csv", "--mapping-rule", json.dumps(rule),
        )  # fmt: skip
        shown = wait_until(command, "by-rows", "finished")

        assert (made["infer_type"], shown["infer_type"]) == ("batch", "batch")
        assert (shown["progress"], shown["invocation_times"], shown["failed_times"]) == (100, 3, 0)
        assert shown["config"][0]["mapping_rule"] == rule
        lines = results(inference, "rows-out")["rows.csv_result.txt"].splitlines()
        assert [json.loads(json.loads(line)["read"])["x"] for line in lines] == [1, 2, 3]
        [listed] = command("service", "list", "--infer-type", "batch")
        assert (listed["Service Name"], listed["Status"]) == ("by-rows", "finished")
        command("service", "start", "by-rows", prints=False)
        wait_until(command, "by-rows", "finished")
        command("service", "delete", "by-rows", prints=False)
        command(
            "service", "create", "refused", *arguments, "--src-path", "/bucket-default/empty/",
            "--mapping-type", "file", fails=True,
        )  # fmt: skip

    def test_flavors_and_clusters_are_listed(self, command: Openstack) -> None:
        flavors = command("service", "flavor", "list")

        assert FLAVOR in [flavor["Specification"] for flavor in flavors]
        assert command("service", "cluster", "list") == []


class TestSdk:
    def test_a_service_is_updated_and_waited_for(
        self, cloud: Any, inference: Inference, source: str
    ) -> None:
        model_id = inference.model(source)
        part = {"model_id": model_id, "specification": FLAVOR, "instance_count": 1, "weight": 100}
        made = cloud.create_service(service_name="by-sdk", infer_type="real-time", config=[part])
        wait_for(lambda: inference.show(made.id)["status"] == "running" or None)

        cloud.update_service(made.id, description="changed", config=[{}])

        assert cloud.get_service(made.id).description == "changed"
        assert cloud.wait_for_service(made.id)
        assert cloud.find_service("by-sdk").id == made.id
        [monitor] = list(cloud.service_monitor(made.id))
        assert (monitor.model_id, monitor.cpu_core_total) == (model_id, 1.0)
        cloud.delete_service(made.id)
        with pytest.raises(exceptions.NotFoundException):
            cloud.get_service(made.id)

    def test_a_batch_is_made_and_its_counts_are_read(
        self, cloud: Any, inference: Inference
    ) -> None:
        source = put(inference, "sdk-in", {"a.txt": b"one", "b.txt": b"bad"})
        part = {
            "model_id": reader(inference),
            "specification": FLAVOR,
            "instance_count": 1,
            "src_path": source,
            "dest_path": "/bucket-default/sdk-out/",
            "req_uri": "/",
            "mapping_type": "file",
        }

        made = cloud.create_service(service_name="sdk-batch", infer_type="batch", config=[part])
        wait_for(lambda: cloud.get_service(made.id).status == "finished" or None)

        found = cloud.get_service(made.id)
        assert (found.invocation_times, found.failed_times) == (2, 1)
        assert (found.config[0].src_path, found.config[0].request_uri) == (source, "/")
        assert found.config[0].mapping_rule is None
        assert found.config[0].finished_time >= found.config[0].start_time
        cloud.delete_service(made.id)

    def test_services_are_listed_by_name_and_followed_by_marker(
        self, cloud: Any, inference: Inference, source: str
    ) -> None:
        model_id = inference.model(source)
        for number in range(3):
            inference.deploy(f"paged-{number}", inference.part(model_id))

        found = list(cloud.services(name="paged", sort_by="service_name", order="asc"))

        assert [one.name for one in found] == ["paged-0", "paged-1", "paged-2"]
        # As other lists of the client go on: an empty page ends them.
        after = inference.http.get(
            f"{inference.v1}/services",
            params={"sort_by": "service_name", "order": "asc", "limit": 1, "marker": found[1].id},
        ).json()["services"]
        assert [one["service_name"] for one in after] == ["paged-2"]
        assert model_id in [one.id for one in cloud.models(limit=1000)]

    def test_errors_are_the_clients_own_kinds(
        self, cloud: Any, inference: Inference, source: str
    ) -> None:
        with pytest.raises(exceptions.NotFoundException, match=r"ModelArts\.3001"):
            cloud.get_model("0" * 32)
        with pytest.raises(exceptions.NotFoundException, match=r"ModelArts\.3502"):
            cloud.get_service("0" * 32)
        empty = inference.put("no-script", readme__txt="nothing to run")
        with pytest.raises(exceptions.BadRequestException, match=r"ModelArts\.3017"):
            cloud.create_model(
                model_name="broken",
                model_version="0.0.1",
                source_location=empty,
                model_type="PyTorch",
            )
