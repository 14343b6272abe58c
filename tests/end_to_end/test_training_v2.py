"""The v2 training API through the unmodified Huawei Cloud SDK, on a real server."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts import v1 as sdk

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.test_huawei_sdk import client_of

INVENTORY = """
[machine]
cpus = 8
memory_gib = 64
gpus = 2
card_model = "T4"

[[flavors]]
code = "gpu.2"
cpus = 2
memory_gib = 8
gpus = 2
card_model = "T4"

[[pools]]
name = "line"
flavor = "modelarts.vm.cpu.1u"
count = 1

[[pools]]
name = "cards"
flavor = "gpu.2"
count = 1
"""
SLEEPER = """
import time
print("up", flush=True)
time.sleep(600)
"""
ENDED = {"Completed", "Failed", "Terminated", "Abnormal"}

pytestmark = [
    pytest.mark.timeout(300),
    # The SDK's own: it opens its log handlers and sessions without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("training-v2")
    inventory = folder / "inventory.toml"
    inventory.write_text(INVENTORY)
    with running_server(folder, "--inventory", inventory) as remote:
        yield remote


@pytest.fixture(scope="module")
def client(remote: Remote) -> Any:
    return client_of(remote)


def request_for(remote: Remote, name: str, script: str, **algorithm: Any) -> Any:
    code = remote.put_code(name, script)
    return sdk.Job(
        kind="job",
        metadata=sdk.JobMetadata(name=name, description="über", workspace_id="0"),
        algorithm=sdk.JobAlgorithm(
            code_dir=code["app_url"],
            boot_file=code["boot_file_url"],
            engine=sdk.JobEngine(engine_id=engine_id(remote)),
            **algorithm,
        ),
        spec=sdk.Spec(
            resource=sdk.SpecResource(flavor_id="modelarts.vm.cpu.1u", node_count=1),
        ),
    )


def engine_id(remote: Remote) -> str:
    reply = remote.project.http.get(f"{remote.project.v2}/training-job-engines")
    return str(reply.json()["items"][0]["engine_id"])


def create(client: Any, body: Any) -> Any:
    return client.create_training_job(sdk.CreateTrainingJobRequest(body=body))


def show(client: Any, job_id: str) -> Any:
    return client.show_training_job_details(
        sdk.ShowTrainingJobDetailsRequest(training_job_id=job_id)
    )


def wait(client: Any, job_id: str, phase: str) -> Any:
    def arrived() -> Any:
        job = show(client, job_id)
        is_there = job.status.phase == phase
        assert is_there or job.status.phase not in ENDED, job
        return job if is_there else None

    return wait_for(arrived)


def terminate(client: Any, job_id: str, action: str = "terminate") -> Any:
    body = sdk.JobActionType(action_type=action)
    return client.stop_training_job(sdk.StopTrainingJobRequest(training_job_id=job_id, body=body))


def delete(client: Any, job_id: str) -> Any:
    return client.delete_training_job(sdk.DeleteTrainingJobRequest(training_job_id=job_id))


def search(client: Any, *filters: tuple[str, str, list[str]], **body: Any) -> Any:
    given = [sdk.Filter(key=key, operator=op, value=value) for key, op, value in filters]
    return client.list_training_jobs(
        sdk.ListTrainingJobsRequest(body=sdk.JobSearches(filters=given, **body))
    )


def refusal(call: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientRequestException) as caught:
        call(*arguments)
    assert caught.value.request_id
    assert caught.value.error_msg
    return caught.value.status_code, caught.value.error_code


def v1_version(remote: Remote, name: str) -> dict[str, Any]:
    [job] = remote.project.get("/training-jobs", search_content=name)["jobs"]
    return dict(remote.project.get(f"/training-jobs/{job['job_id']}/versions/{job['version_id']}"))


def test_a_job_runs_and_both_apis_tell_the_same_of_it(remote: Remote, client: Any) -> None:
    script = """
    import json, os, sys
    print(json.dumps({"args": sys.argv[1:], "env": dict(os.environ)}))
    """
    body = request_for(
        remote,
        "v2-complete",
        script,
        parameters=[sdk.Parameters(name="rate", value="0.1")],
        environments={"GREETING": "hello"},
    )

    created = create(client, body)
    done = wait(client, created.metadata.id, "Completed")

    assert done.kind == "job"
    assert (done.metadata.name, done.metadata.description) == ("v2-complete", "über")
    assert done.metadata.user_name == remote.project.user
    assert done.status.secondary_phase == "Completed"
    assert done.status.tasks == ["worker-0"]
    assert [(s.task, s.exit_code) for s in done.status.task_statuses] == [("worker-0", 0)]
    assert done.status.running_records[0].start_at == done.status.start_time // 1000
    assert [(p.name, p.value) for p in done.algorithm.parameters] == [("rate", "0.1")]
    assert done.algorithm.environments == [{"GREETING": "hello"}]
    assert done.spec.resource.flavor_id == "modelarts.vm.cpu.1u"
    assert done.spec.resource.flavor_detail.flavor_info.cpu.core_num >= 1
    shown = v1_version(remote, "v2-complete")
    assert shown["status"] == 10
    assert shown["create_time"] == done.metadata.create_time
    assert (shown["start_time"], shown["duration"]) == (
        done.status.start_time, done.status.duration,
    )  # fmt: skip
    assert shown["boot_file_url"] == done.algorithm.boot_file
    assert shown["parameter"] == [{"label": "rate", "value": "0.1"}]
    seen = json.loads(remote.log(shown))
    assert seen["args"] == ["--rate=0.1"]
    assert seen["env"]["GREETING"] == "hello"


def test_named_inputs_and_outputs_reach_the_program_and_the_buckets(
    remote: Remote, client: Any
) -> None:
    script = """
    import os, pathlib, sys
    arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
    words = [
        pathlib.Path(arguments["left"], "part").read_text(),
        pathlib.Path(os.environ["RIGHT"], "part").read_text(),
    ]
    pathlib.Path(arguments["model"], "sum").write_text("+".join(words))
    pathlib.Path(os.environ["REPORT"], "length").write_text(str(len(words)))
    """
    for side in ("left", "right"):
        remote.project.http.put(f"/objects/bucket-default/{side}/part", content=side.encode())

    def source(name: str, folder: str, access: str) -> Any:
        place = sdk.InputDataInfo(
            obs=sdk.InputDataInfoObs(obs_url=f"obs://bucket-default/{folder}/")
        )
        return sdk.Input(name=name, access_method=access, remote=place)

    def sink(name: str, folder: str, access: str) -> Any:
        place = sdk.Remote(obs=sdk.RemoteObs(obs_url=f"/bucket-default/{folder}/"))
        return sdk.Output(name=name, access_method=access, remote=place)

    body = request_for(
        remote,
        "v2-channels",
        script,
        inputs=[source("left", "left", "parameter"), source("RIGHT", "right", "env")],
        outputs=[sink("model", "v2-model", "parameter"), sink("REPORT", "v2-report", "env")],
    )

    created = create(client, body)
    done = wait(client, created.metadata.id, "Completed")

    assert remote.output("v2-model/sum") == b"left+right"
    assert remote.output("v2-report/length") == b"2"
    assert [(i.name, i.access_method) for i in done.algorithm.inputs] == [
        ("left", "parameter"), ("RIGHT", "env"),
    ]  # fmt: skip
    assert done.algorithm.outputs[0].remote.obs.obs_url == "/bucket-default/v2-model/"
    shown = v1_version(remote, "v2-channels")
    assert shown["data_url"] == "obs://bucket-default/left/"
    assert shown["train_url"] == "/bucket-default/v2-model/"


def test_the_channels_that_v1_knows_are_its_urls(remote: Remote, client: Any) -> None:
    remote.project.http.put("/objects/bucket-default/data/part", content=b"data")
    place = sdk.InputDataInfo(obs=sdk.InputDataInfoObs(obs_url="/bucket-default/data/"))
    script = "import sys; print(sys.argv[1:])"

    created = create(
        client,
        request_for(
            remote, "v2-data-url", script, inputs=[sdk.Input(name="data_url", remote=place)]
        ),
    )
    wait(client, created.metadata.id, "Completed")

    shown = v1_version(remote, "v2-data-url")
    assert shown["data_url"] == "/bucket-default/data/"
    assert b"--data_url=" in remote.log(shown)


def test_a_version_made_by_v1_is_a_job_of_its_own_here(remote: Remote, client: Any) -> None:
    job = remote.submit("v1-made", "print('one')", parameter=[{"label": "n", "value": 1}])
    remote.wait(job, 10)
    again = remote.project.post(
        f"/training-jobs/{job['job_id']}/versions", config={"pre_version_id": job["version_id"]}
    )
    remote.wait({**again, "job_id": job["job_id"]}, 10)

    found = search(client, ("name", "like", ["V1-MADE"]), sort_by="create_time", order="asc")

    assert [item.metadata.name for item in found.items] == ["v1-made", "v1-made-V0002"]
    assert (found.total, found.count, found.offset) == (2, 2, 0)
    assert {item.status.phase for item in found.items} == {"Completed"}
    assert [p.value for p in found.items[1].algorithm.parameters] == ["1"]
    delete(client, found.items[0].metadata.id)
    [left] = remote.project.get(f"/training-jobs/{job['job_id']}/versions")["versions"]
    assert left["version_id"] == again["version_id"]
    delete(client, found.items[1].metadata.id)
    listed = remote.project.get("/training-jobs", search_content="v1-made")
    assert listed["jobs"] == []


def test_a_job_is_stopped_once(remote: Remote, client: Any) -> None:
    created = create(client, request_for(remote, "v2-stop", SLEEPER))
    job_id = created.metadata.id
    wait(client, job_id, "Running")

    stopping = terminate(client, job_id)

    assert stopping.status.phase in ("Terminating", "Terminated")
    wait(client, job_id, "Terminated")
    assert v1_version(remote, "v2-stop")["status"] == 12
    assert refusal(terminate, client, job_id) == (409, "ModelArts.2796")
    assert refusal(terminate, client, job_id, "dance") == (400, "ModelArts.2812")


def test_a_live_job_is_stopped_by_its_deletion(remote: Remote, client: Any) -> None:
    created = create(client, request_for(remote, "v2-delete", SLEEPER))
    job_id = created.metadata.id
    wait(client, job_id, "Running")

    delete(client, job_id)

    for call in (show, delete, terminate):
        assert refusal(call, client, job_id) == (400, "ModelArts.2775")
    wait_for(lambda: remote.counts().get("Running", 0) == 0)
    # The name is free at once.
    again = create(client, request_for(remote, "v2-delete", "pass"))
    wait(client, again.metadata.id, "Completed")


def test_a_name_is_taken_by_either_api(remote: Remote, client: Any) -> None:
    job = remote.submit("v1-name", "pass")
    remote.wait(job, 10)

    def is_taken(name: str) -> bool:
        answer = client.validate_training_job_name(
            sdk.ValidateTrainingJobNameRequest(job_name=name, workspace_id="0")
        )
        return bool(answer.is_duplicate)

    assert is_taken("v1-name")
    assert not is_taken("v1-no-such-name")
    body = request_for(remote, "v1-name", "pass")
    assert refusal(create, client, body) == (400, "ModelArts.2751")


def test_a_description_is_changed_in_both_apis(remote: Remote, client: Any) -> None:
    created = create(client, request_for(remote, "v2-describe", "pass"))
    body = sdk.JobUpdateRequestBody(description="new words")

    client.change_training_job_description(
        sdk.ChangeTrainingJobDescriptionRequest(training_job_id=created.metadata.id, body=body)
    )

    assert show(client, created.metadata.id).metadata.description == "new words"
    [job] = remote.project.get("/training-jobs", search_content="v2-describe")["jobs"]
    assert job["job_desc"] == "new words"


def test_the_end_of_a_log_is_shown(remote: Remote, client: Any) -> None:
    created = create(client, request_for(remote, "v2-log", "print('line')"))
    job_id = created.metadata.id
    wait(client, job_id, "Completed")

    def preview(task_id: str) -> Any:
        return client.show_training_job_logs_preview(
            sdk.ShowTrainingJobLogsPreviewRequest(training_job_id=job_id, task_id=task_id)
        )

    seen = preview("worker-0")
    assert (seen.content, seen.current_size, seen.full_size) == ("line\n", 5, 5)
    assert refusal(preview, "worker-1") == (400, "ModelArts.2820")


def test_events_tasks_and_stages_tell_what_happened(remote: Remote, client: Any) -> None:
    created = create(client, request_for(remote, "v2-events", "raise SystemExit(3)"))
    job_id = created.metadata.id
    failed = wait(client, job_id, "Failed")

    events = client.list_training_job_events(
        sdk.ListTrainingJobEventsRequest(training_job_id=job_id, order="asc", limit=100)
    )
    errors = client.list_training_job_events(
        sdk.ListTrainingJobEventsRequest(training_job_id=job_id, level="Error")
    )
    tasks = client.list_training_job_tasks(sdk.ListTrainingJobTasksRequest(training_job_id=job_id))
    stages = client.list_training_job_stages(
        sdk.ListTrainingJobStagesRequest(training_job_id=job_id)
    )

    assert (events.total, events.limit, events.offset, events.order) == (5, 100, 0, "asc")
    assert "submitted" in events.events[0].message
    assert [event.level for event in events.events] == ["Info"] * 4 + ["Error"]
    assert errors.total == 1
    assert "3" in errors.events[0].message
    assert "3" in failed.status.running_records[0].end_reason
    assert [(task.task, task.schedule_count) for task in tasks.body] == [("worker-0", 1)]
    [record] = stages.running_records
    assert [stage.name for stage in record.stages] == ["Creating", "Queuing", "Starting", "Running"]
    assert record.stages[-1].end_time


def test_a_queued_job_is_found_as_pending_and_given_another_priority(
    remote: Remote, client: Any
) -> None:
    pool_id = remote.project.pool("line")
    bodies = [request_for(remote, f"v2-line-{number}", SLEEPER) for number in range(3)]
    for body in bodies:
        body.spec.resource.pool_id = pool_id
        body.spec.schedule_policy = sdk.SchedulePolicy(priority=2)
    head, second, third = (create(client, body) for body in bodies)
    wait(client, head.metadata.id, "Running")
    for job in (second, third):
        wait(client, job.metadata.id, "Pending")

    found = search(client, ("phase", "in", ["Pending"]), ("pool_id", "in", [pool_id]))
    policy = sdk.JobUpdateRequestBodySpecSchedulePolicy(priority=3)
    client.change_training_job_description(
        sdk.ChangeTrainingJobDescriptionRequest(
            training_job_id=third.metadata.id,
            body=sdk.JobUpdateRequestBody(
                spec=sdk.JobUpdateRequestBodySpec(schedule_policy=policy)
            ),
        )
    )
    terminate(client, head.metadata.id)

    assert found.total == 2
    assert {item.status.secondary_phase for item in found.items} == {"Queuing"}
    wait(client, third.metadata.id, "Running")
    assert show(client, third.metadata.id).spec.schedule_policy.priority == 3
    assert show(client, third.metadata.id).metadata.description == "über"
    waiting = show(client, second.metadata.id)
    assert (waiting.status.phase, waiting.status.start_time) == ("Pending", 0)
    for job in (head, second, third):
        delete(client, job.metadata.id)


def test_pages_of_a_search_neither_repeat_nor_skip(remote: Remote, client: Any) -> None:
    for number in range(5):
        create(client, request_for(remote, f"v2-page-{number}", "pass"))

    pages = [
        search(client, ("name", "like", ["v2-page-"]), limit=2, offset=page) for page in range(4)
    ]

    names = [item.metadata.name for page in pages for item in page.items]
    assert names == [f"v2-page-{number}" for number in reversed(range(5))]
    assert [(page.total, page.count) for page in pages] == [(5, 2), (5, 2), (5, 1), (5, 0)]


def test_a_search_that_makes_no_sense_is_refused(client: Any) -> None:
    assert refusal(search, client, ("shoe_size", "in", ["44"])) == (400, "ModelArts.2807")
    assert refusal(search, client, ("phase", "like", ["Run"])) == (400, "ModelArts.2808")
    assert refusal(search, client, ("phase", "in", ["Dancing"])) == (400, "ModelArts.2809")
    with pytest.raises(ClientRequestException) as caught:
        search(client, sort_by="shoe_size")
    assert caught.value.error_code == "ModelArts.2790"


def test_what_there_is_to_choose_from_is_listed(remote: Remote, client: Any) -> None:
    flavors = client.show_training_job_flavors(sdk.ShowTrainingJobFlavorsRequest())
    engines = client.show_training_job_engines(sdk.ShowTrainingJobEnginesRequest())

    specs = remote.project.get("/job/resource-specs")["specs"]
    assert {f.flavor_id for f in flavors.flavors} == {spec["spec_code"] for spec in specs}
    assert flavors.total_count == len(specs)
    assert all(f.flavor_info.memory.size > 0 for f in flavors.flavors)
    assert engines.total == len(engines.items) >= 1
    assert engines.items[0].v1_compatible is True


def test_the_quota_of_jobs_is_that_of_the_older_api(remote: Remote, client: Any) -> None:
    request = sdk.ShowTrainingQuotasRequest(resource="job-num")

    def found() -> tuple[str, tuple[int, int], tuple[int, int]]:
        [quota] = client.show_training_quotas(request).quotas
        limits = remote.project.get("/training-jobs")
        left = quota.quota - quota.used
        return quota.resource, (quota.quota, left), (limits["quotas"], limits["job_count_limit"])

    def is_the_same() -> bool:  # as soon as no job of another test ends between the two
        resource, there, here = found()
        return resource == "job-num" and there == here

    wait_for(is_the_same)


def test_what_is_not_there_is_refused(remote: Remote, client: Any) -> None:
    body = request_for(remote, "v2-refused", "pass")
    body.spec.resource.flavor_id = "no.such.flavor"
    assert refusal(create, client, body) == (400, "ModelArts.2781")
    body = request_for(remote, "v2-refused", "pass")
    body.algorithm.engine = sdk.JobEngine(engine_name="Abacus", engine_version="1")
    assert refusal(create, client, body) == (400, "ModelArts.2780")
    body = request_for(remote, "v2-refused", "pass")
    body.spec.auto_stop = sdk.AutoStop(time_unit="DAYS", duration=1)
    assert refusal(create, client, body) == (400, "ModelArts.2788")
    body = request_for(remote, "v2-refused", "pass")
    body.spec.schedule_policy = sdk.SchedulePolicy(preemptible=True)
    assert refusal(create, client, body) == (400, "ModelArts.2858")
    body = request_for(remote, "v2-refused", "pass")
    body.metadata.annotations = {"fault-tolerance/job-retry-num": "4"}
    assert refusal(create, client, body) == (400, "ModelArts.2788")
    body = request_for(remote, "v2-refused", "pass")
    body.spec.resource.flavor_id = "modelarts.pool.visual.xlarge"
    assert refusal(create, client, body) == (400, "ModelArts.2763")
    body = request_for(remote, "v2-refused", "pass")
    body.algorithm = sdk.JobAlgorithm(id="7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11")
    assert refusal(create, client, body) == (400, "ModelArts.2755")
    no_such_job = "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"
    assert refusal(show, client, no_such_job) == (400, "ModelArts.2775")


def test_a_job_that_fails_is_tried_again_in_a_folder_of_its_own(
    remote: Remote, client: Any
) -> None:
    script = """
    import os, sys
    print(os.environ["MA_JOB_DIR"], flush=True)
    sys.exit(3)
    """
    body = request_for(remote, "v2-retried", script)
    body.metadata.annotations = {"fault-tolerance/job-retry-num": "1"}

    job_id = create(client, body).metadata.id
    failed = wait(client, job_id, "Failed")

    assert failed.metadata.annotations == {"fault-tolerance/job-retry-num": "1"}
    first, second = failed.status.running_records
    assert (first.start_type, first.end_recover) == ("init_or_rescheduled", "job_reschedule")
    assert first.end_reason == second.end_reason == "Task 0 ended with exit code 3."
    assert first.start_at <= first.end_at <= second.start_at <= second.end_at
    assert first.start_at == failed.status.start_time // 1000

    def places(schedule_count: int | None) -> list[tuple[str, int]]:
        answer = client.list_training_job_tasks(
            sdk.ListTrainingJobTasksRequest(training_job_id=job_id, schedule_count=schedule_count)
        )
        return [(task.task, task.schedule_count) for task in answer.body]

    assert places(None) == places(2) == [("worker-0", 2)]
    assert places(1) == [("worker-0", 1)]
    events = client.list_training_job_events(
        sdk.ListTrainingJobEventsRequest(training_job_id=job_id, pattern="tried again")
    )
    assert (events.total, events.events[0].level) == (1, "Warning")
    # The log is that of the attempt that came last; the folders of both go with the job.
    lines = log_lines(client, job_id)
    assert lines.lines == 1
    folders = [remote.data / "jobs" / name for name in attempt_ids(remote, job_id)]
    assert len(folders) == 2
    assert str(folders[1]) in lines.content
    delete(client, job_id)
    wait_for(lambda: not any(folder.exists() for folder in folders))


def attempt_ids(remote: Remote, job_id: str) -> list[str]:
    """First to last."""
    uid = job_id.replace("-", "")
    with closing(sqlite3.connect(f"file:{remote.data / 'muster.db'}?mode=ro", uri=True)) as store:
        rows = store.execute(
            "SELECT p.attempt_id FROM past_attempt AS p JOIN workload AS w ON w.id = p.workload_id"
            " WHERE w.uid = :uid UNION ALL SELECT attempt_id FROM workload WHERE uid = :uid",
            {"uid": uid},
        ).fetchall()
    return [row[0] for row in rows]


def log_lines(client: Any, job_id: str, **asked: Any) -> Any:
    return client.show_training_job_logs_from_aom(
        sdk.ShowTrainingJobLogsFromAomRequest(training_job_id=job_id, task_id="worker-0", **asked)
    )


def test_a_log_is_read_by_line_and_opened_by_a_link(remote: Remote, client: Any) -> None:
    job_id = create(client, request_for(remote, "v2-lines", "print('a'); print('b')")).metadata.id
    wait(client, job_id, "Completed")

    newest = log_lines(client, job_id, lines=1)
    before = log_lines(client, job_id, lines=1, base_line=newest.start_line, order="asc")
    path = f"{remote.project.v2}/training-jobs/{job_id}/tasks/worker-0/logs/url"
    link = remote.project.http.get(path).json()["obs_url"]

    assert (newest.content, newest.lines) == ("b\n", 1)
    assert before.content == "a\n"
    assert httpx.get(link).content == b"a\nb\n"  # without a login
    assert httpx.get(f"{link}0").status_code == 403


def test_the_kinds_of_events_are_listed(client: Any) -> None:
    answer = client.list_event_categories(sdk.ListEventCategoriesRequest())

    assert [category.id for category in answer.event_categories][:2] == [
        "JobStarted", "JobCompleted",
    ]  # fmt: skip
    assert {category.notification for category in answer.event_categories} == {False}


def test_one_card_of_a_node_is_given_and_the_next_in_line_is_told_why_it_waits(
    remote: Remote, client: Any
) -> None:
    def on_cards(name: str, flavor_id: str | None) -> Any:
        script = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)"
        body = request_for(remote, name, f"{script}; time.sleep(600)")
        body.spec.resource = sdk.SpecResource(
            flavor_id=flavor_id, node_count=1, pool_id=remote.project.pool("cards")
        )
        body.spec.auto_stop = sdk.AutoStop(time_unit="HOURS", duration=5)
        return create(client, body)

    one = on_cards("v2-one-card", "modelarts.pool.visual.xlarge")
    running = wait(client, one.metadata.id, "Running")
    whole = on_cards("v2-all-cards", None)
    wait(client, whole.metadata.id, "Pending")

    path = f"{remote.project.v2}/training-jobs/{whole.metadata.id}"
    shown = remote.project.http.get(path).json()
    waiting = shown["status"]["waiting"]

    assert running.spec.resource.flavor_id == "modelarts.pool.visual.xlarge"
    assert running.spec.resource.flavor_detail.flavor_info.gpu.unit_num == 1
    assert (waiting["reason"], waiting["position"], waiting["missing"]) == ("LacksCards", 1, 1)
    assert [w["name"] for w in waiting["waits_for"]] == ["v2-one-card"]
    assert waiting["predicted_start_time"] == running.status.start_time + 5 * 3_600_000
    assert shown["spec"]["auto_stop"] == {"time_unit": "HOURS", "duration": 5}
    terminate(client, one.metadata.id)
    wait(client, whole.metadata.id, "Running")
    for job in (one, whole):
        delete(client, job.metadata.id)
