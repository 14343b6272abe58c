"""openstacksdk with otcextensions, in process and as the `openstack` command, unmodified."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import Remote, own_environment, running_server, wait_for
from tests.required import import_needed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openstack
    from openstack import exceptions
    from otcextensions import sdk
    from otcextensions.sdk.modelartsv1.v1.training_job_version import TrainingJobVersion

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # the clients' own
]

COMMAND = str(Path(sys.executable).with_name("openstack"))

Openstack = Callable[..., Any]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("openstack")) as remote:
        yield remote


def connect(auth_url: str, remote: Remote, **scope: str) -> Any:
    settings: dict[str, Any] = scope | {"load_yaml_config": False, "load_envvars": False}
    connection: Any = openstack.connect(
        auth_url=auth_url,
        username=remote.project.user,
        password=remote.project.password,
        user_domain_name="muster",
        **settings,
    )
    sdk.register_otc_extensions(connection)
    return connection


@pytest.fixture(scope="module")
def cloud(remote: Remote) -> Iterator[Any]:
    project = remote.project
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection = connect(f"{project.url}/v3", remote, project_id=project.id)
    yield connection.modelartsv1
    connection.close()


def client_environment(remote: Remote) -> dict[str, str]:
    return own_environment() | {
        "OS_AUTH_URL": f"{remote.project.url}/v3",
        "OS_USERNAME": remote.project.user,
        "OS_PASSWORD": remote.project.password,
        "OS_USER_DOMAIN_NAME": "muster",
        "OS_PROJECT_ID": remote.project.id,
        "OS_IDENTITY_API_VERSION": "3",
    }


# What the `openstack` command runs, once a line of arguments: starting it takes seconds each time.
MANY_COMMANDS = """
import contextlib, io, json, sys
from openstackclient import shell
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = shell.main(json.loads(line))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code or 0, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def command(remote: Remote) -> Iterator[Openstack]:
    """Run `openstack ma ...`: the JSON it prints, or its error text where it fails."""
    shell = subprocess.Popen(  # noqa: S603
        [sys.executable, "-W", "ignore", "-c", MANY_COMMANDS],
        env=client_environment(remote),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(*arguments: object, fails: bool = False, prints: bool = True) -> Any:
        output = ["-f", "json"] if prints and not fails else []
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(json.dumps(["ma", *map(str, arguments), *output]) + "\n")
        shell.stdin.flush()
        code, out, error = json.loads(shell.stdout.readline())
        assert (code != 0) == fails, out + error
        if fails:
            return error
        return json.loads(out) if prints else None

    with shell:
        yield run
        assert shell.stdin is not None
        shell.stdin.close()


class TestSdk:
    def submit(self, cloud: Any, remote: Remote, name: str, **config: Any) -> Any:
        given = remote.put_code(name, "print('ran')") | config
        return cloud.create_training_job(job_name=name, job_desc="by the SDK", config=given)

    def test_a_job_is_created_and_runs(self, cloud: Any, remote: Remote) -> None:
        job = self.submit(
            cloud, remote, "sdk-create", parameter=[{"label": "rate", "value": "0.1"}],
            train_url="/bucket-default/out/",
        )  # fmt: skip

        assert job.is_success is True
        assert (job.job_name, job.version_name, job.status) == ("sdk-create", "V0001", 1)
        shown = remote.wait({"job_id": job.job_id, "version_id": job.version_id}, 10)
        assert remote.log(shown) == b"ran\n"

    def test_jobs_are_listed_and_paged(self, cloud: Any, remote: Remote) -> None:
        for number in range(3):
            self.submit(cloud, remote, f"sdk-list-{number}")

        listed = list(cloud.training_jobs(search_content="sdk-list", sort_by="job_name"))
        page = list(cloud.training_jobs(search_content="sdk-list", limit=2, offset=2))

        assert [job.job_name for job in listed] == [f"sdk-list-{number}" for number in range(3)]
        assert [job.job_name for job in page] == ["sdk-list-2"]
        assert isinstance(listed[0].created_at, int)

    def test_a_job_is_described_and_deleted(self, cloud: Any, remote: Remote) -> None:
        job = self.submit(cloud, remote, "sdk-update")

        cloud.update_training_job(job.job_id, "changed")

        path = f"/training-jobs/{job.job_id}/versions"
        assert remote.project.get(path)["job_desc"] == "changed"
        cloud.delete_training_job(job.job_id)
        cloud.delete_training_job(job.job_id, ignore_missing=True)
        with pytest.raises(exceptions.NotFoundException):
            cloud.delete_training_job(job.job_id, ignore_missing=False)

    def test_versions_are_listed(self, cloud: Any, remote: Remote) -> None:
        job = self.submit(cloud, remote, "sdk-versions")

        [version] = list(cloud.training_job_versions(job.job_id))

        assert (version.version_id, version.version_name) == (job.version_id, "V0001")

    def test_the_version_class_creates_shows_stops_and_deletes(
        self, cloud: Any, remote: Remote
    ) -> None:
        """With `job_id` set by hand, as its own methods forget to."""
        job = self.submit(cloud, remote, "sdk-version-class")
        remote.wait({"job_id": job.job_id, "version_id": job.version_id}, 10)
        sleeper = remote.put_code("sdk-sleeper", "import time; time.sleep(600)")

        made = TrainingJobVersion.new(config=sleeper | {"pre_version_id": job.version_id})
        made.job_id = job.job_id
        made.create(cloud)

        assert made.version_name == "V0002"
        running = {"job_id": job.job_id, "version_id": made.version_id}
        remote.wait(running, 8)
        shown = TrainingJobVersion.new(id=made.version_id)
        shown.job_id = job.job_id
        shown.fetch(cloud)
        assert (shown.status, shown.version_name) == (8, "V0002")
        shown.stop(cloud)
        remote.wait(running, 12)
        shown.delete(cloud)
        assert [v.version_name for v in cloud.training_job_versions(job.job_id)] == ["V0001"]

    def test_a_config_is_kept_shown_found_and_deleted(self, cloud: Any, remote: Remote) -> None:
        given = remote.put_code("sdk-config", "pass")
        cloud.create_training_job_config(
            config_name="sdk-config", config_desc="kept", parameter=[], **given
        )

        shown = cloud.get_training_job_config("sdk-config")
        listed = [config.name for config in cloud.training_job_configs()]

        assert (shown.config_name or shown.name, shown.app_url) == ("sdk-config", given["app_url"])
        assert "sdk-config" in listed
        cloud.delete_training_job_config("sdk-config")
        with pytest.raises(exceptions.NotFoundException):
            cloud.get_training_job_config("sdk-config")

    def test_engines_flavors_and_algorithms_are_listed(self, cloud: Any) -> None:
        engines = list(cloud.job_engines())
        flavors = list(cloud.job_flavors())

        assert [engine.engine_name for engine in engines] == ["Python"]
        assert "modelarts.vm.cpu.2u" in [flavor.spec_code for flavor in flavors]
        assert list(cloud.builtin_models()) == []

    def test_errors_are_the_clients_own_kinds(self, cloud: Any, remote: Remote) -> None:
        self.submit(cloud, remote, "sdk-taken")

        with pytest.raises(exceptions.BadRequestException, match=r"ModelArts\.0103"):
            self.submit(cloud, remote, "sdk-taken")
        with pytest.raises(exceptions.BadRequestException, match=r"ModelArts\.2781"):
            self.submit(cloud, remote, "sdk-refused", spec_id=999)
        with pytest.raises(exceptions.NotFoundException, match=r"ModelArts\.2890"):
            self.submit(cloud, remote, "sdk-refused", pool_id="nowhere")
        ended = self.submit(cloud, remote, "sdk-ended")
        remote.wait({"job_id": ended.job_id, "version_id": ended.version_id}, 10)
        version = TrainingJobVersion.new(id=ended.version_id)
        version.job_id = ended.job_id
        with pytest.raises(exceptions.ConflictException):
            version.stop(cloud)

    def test_a_project_can_be_named(self, remote: Remote) -> None:
        connection = connect(
            remote.project.url, remote, project_name="default", project_domain_name="muster"
        )

        assert list(connection.modelartsv1.job_engines())
        assert connection.current_project_id == remote.project.id
        connection.close()


class TestCommand:
    def test_the_command_itself_works(self, remote: Remote) -> None:
        done = subprocess.run(  # noqa: S603
            [COMMAND, "ma", "job", "engine", "list", "-f", "json"],
            env=client_environment(remote), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        assert [engine["Engine Name"] for engine in json.loads(done.stdout)] == ["Python"]

    def test_engines_and_flavors_are_listed(self, command: Openstack) -> None:
        [engine] = command(*["job", "engine", "list", "--job-type", "train"])
        flavors = command(*["job", "flavor", "list", "--job-type", "train", "--engine-id", "1"])
        more = command(*["job", "flavor", "list", "--engine-id", "0", "--project-type", "0"])

        assert (engine["Engine Id"], engine["Engine Type"]) == (1, 100)
        assert "modelarts.vm.cpu.1u" in {flavor["Spec Code"] for flavor in flavors}
        assert more == flavors

    def test_built_in_models_are_listed(self, command: Openstack) -> None:
        options = "--limit 5 --offset 1 --order asc --sort-by model_name --search-content x"

        assert command(*f"builtin model list {options}".split()) == []
        assert command("builtin", "model", "list") == []
        told = command("builtin", "model", "show", "nothing", fails=True)
        assert "nothing" in told

    def test_every_option_of_the_job_list_works(self, command: Openstack, remote: Remote) -> None:
        remote.wait(remote.submit("listed-1", "pass"), 10)
        remote.wait(remote.submit("listed-2", "raise SystemExit(1)"), 11)

        def listed(options: str = "") -> list[str]:
            rows = command(*f"training job list --search-content listed- {options}".split())
            return [row["Job Name"] for row in rows]

        assert listed() == ["listed-1", "listed-2"]
        assert listed("--status 11") == ["listed-2"]
        assert listed("--status 0") == []
        assert listed("--sort-by create_time --order desc") == ["listed-2", "listed-1"]
        assert listed("--limit 1 --offset 2") == ["listed-2"]
        assert listed("--workspace-id 0") == ["listed-1", "listed-2"]
        assert "ModelArts.0102" in command(
            "training", "job", "list", "--workspace-id", "elsewhere", fails=True
        )
        assert "ModelArts.0104" in command("training", "job", "list", "--limit", 1001, fails=True)

    def test_a_job_from_create_to_delete(self, command: Openstack, remote: Remote) -> None:
        config = remote.put_code("cli", "import sys; print(sys.argv[1:])")
        options = [
            "--worker-server-num", 1, "--app-url", config["app_url"],
            "--boot-file-url", config["boot_file_url"], "--engine-id", 1,
            "--spec-id", config["spec_id"], "--train-url", "/bucket-default/cli-out/",
            "--model-id", 0,  # it insists on one, and sends none for 0
            "--parameter", "label=rate,value=0.1", "--log-url", "/bucket-default/cli-logs/",
            "--workspace-id", "0", "--description", "by command",
        ]  # fmt: skip

        made = command("training", "job", "create", "cli-job", *options)

        assert (made["job_name"], made["version_name"]) == ("cli-job", "V0001")
        remote.wait(made, 10)
        assert b"--rate=0.1" in remote.log(made)
        [row] = command("training", "job", "list", "--search-content", "cli-job")
        assert (row["Job Id"], row["Status"]) == (made["job_id"], 10)
        assert (row["Version Id"], row["Version Count"]) == (made["version_id"], 1)
        [version] = command("training", "job", "version", "list", made["job_id"])
        assert version["Version Name"] == "V0001"
        updated = command("training", "job", "update", made["job_id"], "--description", "new text")
        assert updated["is_success"] is True
        [row] = remote.project.get("/training-jobs", search_content="cli-job")["jobs"]
        assert row["job_desc"] == "new text"
        assert "ModelArts.0103" in command(
            "training", "job", "create", "cli-job", *options, fails=True
        )
        command("training", "job", "delete", made["job_id"], prints=False)
        assert remote.project.get("/training-jobs", search_content="cli-job")["jobs"] == []
        command("training", "job", "delete", made["job_id"], fails=True)

    def test_a_shell_and_volumes_are_taken_as_they_are_sent(
        self, command: Openstack, remote: Remote
    ) -> None:
        config = remote.put_code("cli", "pass")

        made = command(
            "training", "job", "create", "cli-shell", "--worker-server-num", 1,
            "--app-url", config["app_url"], "--boot-file-url", config["boot_file_url"],
            "--engine-id", 1, "--spec-id", config["spec_id"], "--model-id", 0,
            "--no-create-version",
            "--nfs", "id=1,src_path=/a,dest_path=/b,read_only=true",
            "--host-path", "src_path=/a,dest_path=/b",
        )  # fmt: skip

        assert made["job_name"] == "cli-shell"
        assert command("training", "job", "version", "list", made["job_id"]) == []

    def test_a_config_from_create_to_delete(self, command: Openstack, remote: Remote) -> None:
        given = remote.put_code("cli-config", "pass")

        made = command(
            "training", "job", "config", "create", "cli-config", "--description", "kept",
            "--worker-server-num", 1, "--app-url", given["app_url"],
            "--boot-file-url", given["boot_file_url"], "--engine-id", 1,
            "--spec-id", given["spec_id"], "--model-id", 0,
            "--parameter", "label=rate,value=0.1",
        )  # fmt: skip

        assert made["is_success"] is True
        shown = command("training", "job", "config", "show", "cli-config")
        assert shown["app_url"] == given["app_url"]
        options = "--config-type custom --limit 10 --offset 1 --order asc --sort-by config_name"
        [row] = command("training", "job", "config", "list", *options.split())
        assert (row["Config Name"], row["Engine Type"]) == ("cli-config", 100)
        command("training", "job", "config", "delete", "cli-config", prints=False)
        assert remote.project.get("/training-job-configs")["configs"] == []
        assert "ModelArts.2775" in command(
            "training", "job", "config", "show", "cli-config", fails=True
        )


class TestNotebooks:
    def test_one_is_made_listed_shown_changed_stopped_started_and_deleted(
        self, remote: Remote, command: Openstack
    ) -> None:
        command(
            "devenv", "create", "older", "--profile-id", 1, "--flavor", "modelarts.vm.cpu.1u",
            "--storage-type", "efs", "--storage-path", "/", "--autostop-duration", 7200,
            "--description", "first",
        )  # fmt: skip

        [listed] = command("devenv", "list", "--show-self")
        assert listed["Name"] == "older"
        shown = command("devenv", "show", "older")
        assert (shown["description"], shown["flavor"]) == ("first", "modelarts.vm.cpu.1u")
        notebook_id = shown["id"]
        changed = command("devenv", "update", notebook_id, "--description", "second")
        assert changed["description"] == "second"
        assert command("devenv", "stop", "older")["status"] == "STOPPING"
        path = f"/demanager/instances/{notebook_id}"
        wait_for(lambda: remote.project.get(path)["status"] == "STOPPED")
        assert command("devenv", "list", "--status", "RUNNING") == []
        assert command("devenv", "start", "older")["status"] == "STARTING"
        command("devenv", "delete", "older", prints=False)
        wait_for(lambda: remote.project.get("/notebooks")["total"] == 0)

    def test_a_list_is_fetched_page_by_page(self, remote: Remote, command: Openstack) -> None:
        for name in ("page-b", "page-a"):
            command(
                "devenv", "create", name, "--profile-id", 1, "--flavor", "modelarts.vm.cpu.1u",
                "--storage-type", "efs", "--storage-path", "/",
            )  # fmt: skip

        def listed(options: str) -> list[str]:
            whole = f"devenv list --dev-env-type Notebook --workspace-id 0 --sort-by name {options}"
            return [row["Name"] for row in command(*whole.split())]

        assert listed("") == ["page-a", "page-b"]
        assert listed("--order desc") == ["page-b", "page-a"]
        assert listed("--limit 1") == ["page-a"]
        assert listed("--limit 1 --offset 1") == ["page-b"]
        assert listed("--status STOPPED --show-self") == []
        command("devenv", "delete", "page-a", "page-b", prints=False)
        wait_for(lambda: remote.project.get("/notebooks")["total"] == 0)

    def test_its_files_come_from_a_bucket_and_go_back_there_when_it_stops(
        self, remote: Remote, command: Openstack
    ) -> None:
        import_needed("jupyterlab", "jupyterlab")
        project = remote.project
        bucket = f"bucket-{project.name}"
        project.http.put(f"/objects/{bucket}/notes/data.txt", content=b"from the bucket")
        made = command(
            "devenv", "create", "stored", "--profile-id", 1, "--flavor", "modelarts.vm.cpu.1u",
            "--storage-type", "obs", "--storage-path", f"/{bucket}/notes/",
        )  # fmt: skip
        path = f"/notebooks/{made['id']}"

        def is_up() -> bool:
            shown = project.get(path)
            assert not shown["status"].endswith("FAILED"), shown["fail_reason"]
            return bool(shown["status"] == "RUNNING")

        wait_for(is_up, seconds=60)
        page = f"{path}/api/contents"
        assert project.http.get(f"{page}/data.txt").json()["content"] == "from the bucket"
        new = {"type": "file", "format": "text", "content": "by the notebook"}
        assert project.http.put(f"{page}/made.txt", json=new).status_code == 201
        assert project.http.delete(f"{page}/data.txt").status_code == 204
        command("devenv", "stop", "stored")
        wait_for(lambda: project.get(path)["status"] == "STOPPED")
        listed = project.http.get(f"/objects/{bucket}?prefix=notes/").json()["objects"]
        assert [one["key"] for one in listed] == ["notes/made.txt"]
        assert remote.output("notes/made.txt") == b"by the notebook"
        command("devenv", "delete", "stored", prints=False)
        wait_for(lambda: project.http.get(f"{project.v1}{path}").status_code == 400)
        assert remote.output("notes/made.txt") == b"by the notebook"

    def test_a_bucket_that_is_not_there_is_told(self, command: Openstack) -> None:
        told = command(
            "devenv", "create", "older", "--profile-id", 1, "--flavor", "modelarts.vm.cpu.1u",
            "--storage-type", "obs", "--storage-path", "/nowhere/folder/", fails=True,
        )  # fmt: skip

        assert "ModelArts.6316" in told
