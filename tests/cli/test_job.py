import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

import muster.cli.job
from muster.cli.main import main
from tests.client.fake_api import COMPLETED, POOL, PROJECT, QUEUED, RUNNING, FakeApi

FAILED = 11
Run = Callable[..., Result]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    monkeypatch.setattr(muster.cli.job, "FOLLOW_SECONDS", 0)
    return FakeApi()


@pytest.fixture
def run(api: FakeApi) -> Run:
    def invoke(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, args, obj=api.client, input=stdin)

    return invoke


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "train it.py"
    file.write_text("print('hello')\n")
    return file


def newest(api: FakeApi, job_id: int = 1) -> dict[str, object]:
    return api.versions[job_id][-1]


# submit


def test_a_file_is_uploaded_and_submitted_in_one_step(api: FakeApi, run: Run, script: Path) -> None:
    result = run("job", "submit", str(script), "--arg", "epochs=3", "--arg", "path=a=b")

    assert result.exit_code == 0, result.output
    name = api.jobs[1]["job_name"]
    assert name.startswith("train-it-")
    assert f"Submitted {name} V0001 (job 1). Follow it: muster job logs {name} -f" in result.stderr
    assert result.stdout == ""
    version = newest(api)
    bucket = f"project-{PROJECT}"
    [key] = api.objects
    assert key.startswith(f"{bucket}/submitted/{name}/")
    assert version["boot_file_url"] == f"/{key}"
    assert version["app_url"] == f"/{key.removesuffix('train it.py')}"
    assert version["train_url"] == f"/{bucket}/results/{name}/"
    assert version["parameter"] == [
        {"label": "epochs", "value": "3"},
        {"label": "path", "value": "a=b"},
    ]
    assert (version["engine_id"], version["spec_id"], version["worker_server_num"]) == (1, 3, 1)
    assert version["pool_id"] is None


def test_every_flag_reaches_the_server(api: FakeApi, run: Run, script: Path) -> None:
    result = run(
        "job", "submit", str(script), "--name", "my-job", "--flavor", "demo.gpu.1",
        "--pool", "digits", "--workers", "2", "--engine", "tensorflow", "--data", "/d/in/",
        "--output", "/d/out/", "--desc", "first try", "--json",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["job_name"] == "my-job"
    assert api.jobs[1]["job_desc"] == "first try"
    sent = {
        "spec_id": 1,
        "pool_id": POOL,
        "worker_server_num": 2,
        "engine_id": 7,
        "data_url": "/d/in/",
        "train_url": "/d/out/",
    }
    assert {key: newest(api)[key] for key in sent} == sent


def test_a_pool_brings_its_own_flavor(api: FakeApi, run: Run, script: Path) -> None:
    assert run("job", "submit", str(script), "--pool", POOL).exit_code == 0

    assert newest(api)["spec_id"] is None


def test_a_folder_goes_with_all_but_its_hidden_parts(
    api: FakeApi, run: Run, tmp_path: Path
) -> None:
    for name in ("train.py", "lib/net.py", ".git/config", "lib/__pycache__/net.pyc", ".env"):
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(name)
    (tmp_path / "project" / "link.py").symlink_to("/etc/passwd")

    result = run("job", "submit", str(tmp_path / "project"), "--name", "p")

    assert result.exit_code == 0, result.output
    app_url = str(newest(api)["app_url"])
    assert newest(api)["boot_file_url"] == f"{app_url}train.py"
    assert {f"/{key}".removeprefix(app_url) for key in api.objects} == {"train.py", "lib/net.py"}


def test_the_boot_file_of_a_folder_must_be_known(run: Run, tmp_path: Path, script: Path) -> None:
    assert "Name it with --boot" in run("job", "submit", str(tmp_path)).stderr
    assert "no file x.py" in run("job", "submit", str(tmp_path), "--boot", "x.py").stderr
    assert "belongs to a folder" in run("job", "submit", str(script), "--boot", "x.py").stderr
    assert run("job", "submit", str(tmp_path), "--boot", "./train it.py").exit_code == 0


def test_a_new_version_keeps_what_is_not_given(api: FakeApi, run: Run, script: Path) -> None:
    api.add_job(
        "digits-1",
        COMPLETED,
        worker_server_num=2,
        engine_id=7,
        spec_id=1,
        pool_id=POOL,
        train_url="/b/out/",
        parameter=[{"label": "rate", "value": "1"}, {"label": "epochs", "value": 5}],
    )

    result = run("job", "submit", str(script), "--job", "digits-1", "--arg", "rate=2")

    assert result.exit_code == 0, result.output
    assert "Submitted digits-1 V0002 (job 1)" in result.stderr
    version = newest(api)
    assert version["pre_version_id"] == api.versions[1][0]["version_id"]
    kept = ("worker_server_num", "engine_id", "spec_id", "pool_id", "train_url")
    assert [version[key] for key in kept] == [2, 7, 1, POOL, "/b/out/"]
    assert version["parameter"] == [
        {"label": "rate", "value": "2"},
        {"label": "epochs", "value": "5"},
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--arg", "rate"], "must read KEY=VALUE"),
        (["--arg", "=1"], "must read KEY=VALUE"),
        (["--name", "a b"], "letters, digits"),
        (["--name", "x" * 65], "1 to 64"),
        (["--name", "a", "--job", "b"], "--job adds a version"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_sent(
    api: FakeApi, run: Run, script: Path, flags: list[str], words: str
) -> None:
    result = run("job", "submit", str(script), *flags)

    assert result.exit_code == 2
    assert words in result.stderr
    assert api.requests == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--flavor", "huge"], "no flavor 'huge'; there are modelarts.vm.cpu.1u, modelarts.vm"),
        (["--engine", "cobol"], "no engine 'cobol'; there are TensorFlow (7), python (1)"),
        (["--pool", "sea"], "no pool 'sea'. `muster pool list`"),
        (["--job", "gone"], "no job 'gone'. `muster job list`"),
    ],
)
def test_what_the_server_does_not_have_is_told_before_anything_is_uploaded(
    api: FakeApi, run: Run, script: Path, flags: list[str], words: str
) -> None:
    result = run("job", "submit", str(script), *flags)

    assert result.exit_code == 1
    assert words in result.stderr
    assert api.objects == {}


def test_a_refused_submission_leaves_no_code_behind(api: FakeApi, run: Run, script: Path) -> None:
    api.refuse_with = (400, "ModelArts.0103", "Job name:a is existed")

    result = run("job", "submit", str(script), "--name", "a")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: Job name:a is existed (ModelArts.0103)."
        " Choose another name, or add a version to that job with --job.\n"
    )
    assert api.objects == {}


def test_submit_and_follow_prints_the_log_and_tells_how_it_ended(
    api: FakeApi, run: Run, script: Path
) -> None:
    def advance(api: FakeApi, request: httpx.Request) -> None:
        if request.method == "GET" and api.versions:
            version = newest(api)
            version["status"] = {1: QUEUED, QUEUED: RUNNING, RUNNING: FAILED}.get(
                int(str(version["status"])), FAILED
            )
            api.logs[int(str(version["version_id"])), "a.0"] = b"boom\n"

    api.after = advance

    result = run("job", "submit", str(script), "--name", "a", "--follow")

    assert result.exit_code == 1
    assert result.stdout == "boom\n"
    assert result.stderr.endswith("Error: a V0001 ended Failed: Task 0 ended with exit code 1.\n")


def test_how_a_version_ended_is_told_by_any_server_of_this_api() -> None:
    version = {"job_name": "a", "version_name": "V0001", "status": FAILED}

    assert muster.cli.job._how_it_ended(version) == (
        "a V0001 ended Failed. `muster job show a` tells more."
    )


# list


def test_jobs_are_listed_for_people(api: FakeApi, run: Run) -> None:
    api.add_job("train-1", COMPLETED, RUNNING)
    api.add_job("empty")

    result = run("job", "list")

    header, first, second = (line.split() for line in result.stdout.splitlines())
    assert header == ["JOB", "NAME", "STATUS", "VERSIONS", "CREATED", "DURATION", "DESCRIPTION"]
    assert first[:4] == ["1", "train-1", "Running", "2"]
    assert first[6:] == ["1", "min", "5", "s", "-"]
    assert second[1:4] == ["empty", "Unknown", "0"]
    assert result.stderr == ""


def test_a_longer_list_says_so(api: FakeApi, run: Run) -> None:
    for number in range(3):
        api.add_job(f"train-{number}", RUNNING)

    result = run("job", "list", "--limit", "2")

    assert result.stderr == "2 of 3 jobs; --all shows every one.\n"


def test_all_means_every_page(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muster.cli.job, "PAGE_MAX", 2)
    for number in range(5):
        api.add_job(f"train-{number}", RUNNING)

    result = run("job", "list", "--all", "--json")

    assert [job["job_name"] for job in json.loads(result.stdout)["jobs"]] == [
        f"train-{number}" for number in range(5)
    ]


def test_a_list_is_filtered_by_words_and_sorted(api: FakeApi, run: Run) -> None:
    run("job", "list", "--status", "failed", "--status", "7", "--search", "x", "--sort", "status")

    params = dict(api.requests[-1].url.params)
    assert params == {
        "order": "asc",
        "page": "1",
        "per_page": "20",
        "search_content": "x",
        "sortBy": "status",
        "status": "7,11,16,17",
    }


def test_an_unknown_status_is_wrong_usage(run: Run) -> None:
    result = run("job", "list", "--status", "asleep")

    assert result.exit_code == 2
    assert "--status 'asleep' is none of Canceled, Completed" in result.stderr


# show, stop, delete


def test_a_job_is_shown_with_its_versions(api: FakeApi, run: Run) -> None:
    api.add_job("train-1", COMPLETED, RUNNING, parameter=[{"label": "rate", "value": "1"}])

    result = run("job", "show", "train-1", "--version", "v0001")

    facts, versions = result.stdout.split("\n\n")
    assert [line.split() for line in facts.splitlines()][:3] == [
        ["job", "train-1", "(id", "1)"],
        ["version", "V0001", "(id", "2)"],
        ["status", "Completed"],
    ]
    assert "rate=1" in facts
    assert [line.split()[1:3] for line in versions.splitlines()] == [
        ["VERSION", "STATUS"],
        ["V0002", "Running"],
        ["V0001", "Completed"],
    ]


WAITS = {
    "reason": "LacksCards",
    "message": "A task needs 2 cards on one node; no node has more than 1 free.",
    "position": 3,
    "predicted_start_time": None,
}


def test_a_job_that_waits_is_shown_with_why(api: FakeApi, run: Run) -> None:
    api.add_job("train", QUEUED, waiting=WAITS)

    result = run("job", "show", "train")

    shown = " ".join(result.stdout.split())
    assert "waits A task needs 2 cards on one node" in shown
    assert "place in queue 3" in shown
    assert "starts by not known" in shown


def test_a_list_tells_why_jobs_wait_if_any_do(api: FakeApi, run: Run) -> None:
    api.add_job("ends", COMPLETED)
    assert "WAITS" not in run("job", "list").stdout

    api.add_job("waits", QUEUED, waiting=WAITS)

    listed = run("job", "list").stdout
    assert "WAITS" in listed
    assert "3: LacksCards" in listed


def test_a_job_is_shown_as_the_server_answers(api: FakeApi, run: Run) -> None:
    api.add_job("train-1", COMPLETED, RUNNING)

    assert json.loads(run("job", "show", "1", "--json").stdout)["version_count"] == 2
    one = json.loads(run("job", "show", "1", "--version", "2", "--json").stdout)
    assert (one["version_name"], one["status"]) == ("V0001", COMPLETED)


def test_a_job_is_found_by_a_name_that_looks_like_an_id(api: FakeApi, run: Run) -> None:
    api.add_job("2026", RUNNING)

    assert "2026 (id 1)" in run("job", "show", "2026").stdout


def test_a_part_of_a_name_finds_nothing(api: FakeApi, run: Run) -> None:
    api.add_job("train-12", RUNNING)

    result = run("job", "show", "train-1")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: There is no job 'train-1'. `muster job list` shows what there is.\n"
    )


def test_a_job_without_versions_can_be_shown_but_not_stopped(api: FakeApi, run: Run) -> None:
    api.add_job("empty")

    assert run("job", "show", "empty").exit_code == 0
    assert "has no versions" in run("job", "stop", "empty").stderr


def test_the_newest_version_is_stopped_unless_one_is_named(api: FakeApi, run: Run) -> None:
    api.add_job("train-1", RUNNING, RUNNING, RUNNING)

    assert run("job", "stop", "train-1").stderr == "Stopping train-1 V0003.\n"
    assert run("job", "stop", "train-1", "--version", "V0001").exit_code == 0

    assert [version["status"] for version in api.versions[1]] == [9, RUNNING, 9]
    unknown = run("job", "stop", "train-1", "--version", "V0009")
    assert "no version 'V0009'; it has V0003, V0002, V0001" in unknown.stderr


def test_what_has_ended_cannot_be_stopped(api: FakeApi, run: Run) -> None:
    api.add_job("train-1", COMPLETED)

    result = run("job", "stop", "train-1")

    assert (result.exit_code, result.stderr) == (
        1,
        "Error: The version has ended (ModelArts.2796).\n",
    )


def test_deleting_asks_first(api: FakeApi, run: Run) -> None:
    api.add_job("a", COMPLETED)
    api.add_job("b", COMPLETED, COMPLETED)

    assert run("job", "delete", "a", "b", stdin="n\n").exit_code == 1
    assert len(api.jobs) == 2
    assert run("job", "delete", "b", "--version", "V0001", "--yes").exit_code == 0
    assert [version["version_name"] for version in api.versions[3]] == ["V0002"]
    assert "Deleted a, b." in run("job", "delete", "a", "b", stdin="y\n").stderr
    assert api.jobs == {}


def test_nothing_is_deleted_when_one_name_is_wrong(api: FakeApi, run: Run) -> None:
    api.add_job("a", COMPLETED)

    assert run("job", "delete", "a", "typo", "--yes").exit_code == 1
    assert run("job", "delete", "a", "b", "--version", "V0001").exit_code == 2
    assert len(api.jobs) == 1


# logs


def test_a_log_comes_out_byte_for_byte(api: FakeApi, run: Run) -> None:
    job_id = api.add_job("a", COMPLETED, worker_server_num=2)
    version_id = api.versions[job_id][0]["version_id"]
    api.logs[version_id, "a.0"] = b"zero"
    api.logs[version_id, "a.1"] = b"\xff\x00\r\n one" * 10
    api.log_chunk = 7

    assert run("job", "logs", "a", "--task", "1").stdout_bytes == b"\xff\x00\r\n one" * 10
    default = run("job", "logs", "a")
    assert default.stdout_bytes == b"zero"
    assert default.stderr == "This is task 0 of 2; --task N shows another.\n"


def test_a_log_that_is_not_there_is_told(api: FakeApi, run: Run) -> None:
    api.add_job("a", QUEUED)

    result = run("job", "logs", "a")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: a V0001 is Queued and has no log of task 0 yet."
        " With -f this command waits for it.\n"
    )


def test_a_task_that_there_is_not_is_told(api: FakeApi, run: Run) -> None:
    api.add_job("a", RUNNING, worker_server_num=2)

    result = run("job", "logs", "a", "--task", "2")

    assert result.exit_code == 1
    assert result.stderr == "Error: a V0001 has no task 2; its tasks are 0 to 1.\n"


def test_following_prints_everything_until_the_version_has_ended(api: FakeApi, run: Run) -> None:
    job_id = api.add_job("a", QUEUED)
    version = api.versions[job_id][0]
    steps = iter([(QUEUED, None), (RUNNING, b""), (RUNNING, b"one\n"), (COMPLETED, b"one\ntwo\n")])

    def advance(api: FakeApi, request: httpx.Request) -> None:
        if request.url.path.endswith(f"/versions/{version['version_id']}"):
            status, log = next(steps, (COMPLETED, None))
            version["status"] = status
            if log is not None:
                api.logs[version["version_id"], "a.0"] = log

    api.after = advance

    result = run("job", "logs", "a", "-f")

    assert (result.exit_code, result.stdout) == (0, "one\ntwo\n")


def test_ctrl_c_ends_following_with_130(api: FakeApi, run: Run) -> None:
    api.add_job("a", RUNNING)

    def interrupt(_: FakeApi, request: httpx.Request) -> None:
        if "/log/files/" in request.url.path:
            raise KeyboardInterrupt

    api.after = interrupt

    result = run("job", "logs", "a", "-f")

    assert (result.exit_code, result.output) == (130, "")
