"""The visualization commands of `openstack`, and its training commands that end in the client."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.server import Remote, running_server, wait_for
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
    with running_server(tmp_path_factory.mktemp("openstack-views")) as remote:
        path = "/objects/bucket-default/otc-results/events.out.tfevents.1"
        assert remote.project.http.put(path, content=b"").status_code == 200
        yield remote


class TestVisualizationJobs:
    def status(self, command: Openstack, job_id: object) -> int:
        return int(command("visualization", "job", "show", job_id)["status"])

    def test_one_is_made_shown_described_stopped_and_deleted(
        self, remote: Remote, command: Openstack
    ) -> None:
        made = command(
            "visualization", "job", "create", "otc-board", "--description", "by command",
            "--train-url", "/bucket-default/otc-results/", "--job-type", "tensorboard",
            "--flavor", "modelarts.vm.cpu.1u", "--auto-stop-duration", 3,
        )  # fmt: skip

        job_id = made["job_id"]
        assert (made["job_name"], made["is_success"]) == ("otc-board", True)
        assert made["service_url"].startswith(f"{remote.project.url}/visualizations/")
        shown = command("visualization", "job", "show", job_id)
        assert (shown["job_desc"], shown["train_url"]) == (
            "by command", "/bucket-default/otc-results/",
        )  # fmt: skip
        assert (shown["schedule"]["duration"], shown["schedule"]["time_unit"]) == (3, "HOURS")
        assert shown["flavor"]["code"] == "modelarts.vm.cpu.1u"
        command("visualization", "job", "update", job_id, "--description", "new text")
        assert command("visualization", "job", "show", job_id)["job_desc"] == "new text"
        wait_for(lambda: self.status(command, job_id) == 8)
        # The request is made; then the client fails at printing what it has not got.
        command("visualization", "job", "stop", job_id, fails=True)
        wait_for(lambda: self.status(command, job_id) == 12)
        # It asks for a service of another kind.
        told = command("visualization", "job", "restart", job_id, fails=True)
        assert "restart_visualization_job" in told or "css" in told
        assert self.status(command, job_id) == 12
        command("visualization", "job", "delete", job_id, prints=False)
        assert remote.project.get("/visualization-jobs")["jobs"] == []
        command("visualization", "job", "delete", job_id, fails=True)

    def test_every_option_of_the_list_works(self, remote: Remote, command: Openstack) -> None:
        made = [
            remote.project.post(
                "/visualization-jobs", job_name=name, train_url="/bucket-default/otc-results/"
            )["job_id"]
            for name in ("otc-b", "otc-a")
        ]

        def listed(options: str = "") -> list[str]:
            rows = command(*f"visualization job list {options}".split())
            return [row["Job Name"] for row in rows]

        assert listed() == ["otc-b", "otc-a"]
        assert listed("--sort-by job_name --order asc") == ["otc-a", "otc-b"]
        assert listed("--search-content otc-a --workspace-id 0") == ["otc-a"]
        assert listed("--limit 1 --offset 2") == ["otc-a"]
        assert listed("--status 0") == []
        command("visualization", "job", "delete", *made, prints=False)
        assert listed() == []

    def test_errors_are_told_by_their_codes(self, command: Openstack) -> None:
        create = ("visualization", "job", "create")
        place = ("--train-url", "/bucket-default/nothing/")

        assert "ModelArts.2791" in command(*create, "otc-none", *place, fails=True)
        assert "ModelArts.0104" in command(*create, "x" * 21, *place, fails=True)
        assert "ModelArts.2775" in command("visualization", "job", "show", 999, fails=True)
        assert "ModelArts.2775" in command("visualization", "job", "stop", 999, fails=True)

    def test_the_sdk_stops_and_restarts_one(self, remote: Remote, cloud: Any) -> None:
        job = cloud.create_visualization_job(
            job_name="sdk-board", train_url="/bucket-default/otc-results/"
        )
        job_id = job.job_id

        wait_for(lambda: cloud.get_visualization_job(job_id).status == 8)
        cloud.stop_visualization_job(job_id)
        wait_for(lambda: cloud.get_visualization_job(job_id).status == 12)
        with pytest.raises(exceptions.ConflictException):
            cloud.stop_visualization_job(job_id)
        cloud.restart_visualization_job(job_id)
        wait_for(lambda: cloud.get_visualization_job(job_id).status == 8)
        assert [one.job_name for one in cloud.visualization_jobs()] == ["sdk-board"]
        cloud.delete_visualization_job(job_id)
        with pytest.raises(exceptions.NotFoundException):
            cloud.get_visualization_job(job_id)


class TestBrokenInTheClient:
    """Commands that end before any request: what they need works by other ways, see above."""

    @pytest.mark.parametrize(
        "arguments",
        [
            "training job version show {job} {version}",
            "training job version stop {job} {version}",
            "training job version delete {job} {version}",
            "training job version logfile {job} {version}",
            "training job version logs list {job} {version} --log-file x",
        ],
    )
    def test_a_command_of_a_version_fails_and_changes_nothing(
        self, remote: Remote, command: Openstack, arguments: str
    ) -> None:
        found = remote.project.get("/training-jobs", search_content="otc-broken")["jobs"]
        job = found[0] if found else remote.submit("otc-broken", "pass")
        job = remote.wait(job, 10)
        words = arguments.format(job=job["job_id"], version=job["version_id"]).split()

        command(*words, fails=True)

        versions = remote.project.get(f"/training-jobs/{job['job_id']}/versions")["versions"]
        assert [(one["version_id"], one["status"]) for one in versions] == [(job["version_id"], 10)]

    def test_a_version_is_not_created_by_command(self, remote: Remote, command: Openstack) -> None:
        job = remote.submit("otc-versionless", "pass")
        config = remote.put_code("otc-versionless", "pass")

        command(
            "training", "job", "version", "create", job["job_id"],
            "--worker-server-num", 1, "--app-url", config["app_url"],
            "--boot-file-url", config["boot_file_url"], "--engine-id", 1,
            "--spec-id", config["spec_id"], "--model-id", 0, fails=True,
        )  # fmt: skip

        shown = remote.project.get(f"/training-jobs/{job['job_id']}/versions")
        assert shown["version_count"] == 1
