"""The life of a training job: tries, limits, why it waits, its logs, and both views of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.api import refusals
from tests.api.platform import Platform, Project, wait_until
from tests.api.test_training_v2 import as_v1, body_for, create, path_of, search, show

RETRY_ONCE = {"annotations": {"fault-tolerance/job-retry-num": "1"}}
ONE_CARD = "modelarts.pool.visual.xlarge"
TWO_CARDS = "modelarts.pool.visual.2xlarge"


def on_cards(project: Project, flavor_id: str | None = None, **spec: Any) -> dict[str, Any]:
    return {"resource": {"pool_id": project.pool("cards"), "flavor_id": flavor_id}, **spec}


@contextmanager
def job_of(platform: Platform, name: str, **parts: Any) -> Iterator[dict[str, Any]]:
    """A job that is gone again afterwards: the cards are few."""
    job = create(platform, name, **parts)
    try:
        yield job
    finally:
        platform.project.http.delete(path_of(platform.project, job))
        wait_until(lambda: workload_of(platform, job) is None)


def workload_of(platform: Platform, job: dict[str, Any]) -> tuple[Any, ...] | None:
    def read(connection: Any) -> tuple[Any, ...] | None:
        uid = job["metadata"]["id"].replace("-", "")
        found: tuple[Any, ...] | None = connection.execute(
            "SELECT id FROM workload WHERE uid = ?", (uid,)
        ).fetchone()
        return found

    return platform.run(platform.server.database.read(read))


def end_task(platform: Platform, job: dict[str, Any], exit_code: int) -> str:
    """Let the attempt that runs end; return its id."""
    platform.wait_for(as_v1(job), 8)
    attempt_id = platform.attempt_of(as_v1(job)["version_id"])
    assert attempt_id is not None
    platform.call(platform.engine.finish, attempt_id, 0, exit_code)
    return attempt_id


class TestRetries:
    def test_a_job_that_fails_is_tried_again_and_shows_each_attempt(
        self, platform: Platform, project: Project
    ) -> None:
        with job_of(platform, "retried", metadata=RETRY_ONCE) as job:
            first = end_task(platform, job, 3)
            wait_until(lambda: platform.attempt_of(as_v1(job)["version_id"]) not in (None, first))
            platform.finish(as_v1(job), 4)

            shown = show(project, job)
            start_s = shown["status"]["start_time"] // 1000
            assert shown["metadata"]["annotations"] == RETRY_ONCE["annotations"]
            assert shown["status"]["phase"] == "Failed"
            assert shown["status"]["running_records"] == [
                {
                    "start_at": start_s,
                    "end_at": start_s,
                    "start_type": "init_or_rescheduled",
                    "end_reason": "Task 0 ended with exit code 3.",
                    "end_recover": "job_reschedule",
                },
                {
                    "start_at": start_s,
                    "end_at": start_s,
                    "start_type": "init_or_rescheduled",
                    "end_reason": "Task 0 ended with exit code 4.",
                    "end_recover": None,
                },
            ]
            [found] = search(project, ("name", "in", ["retried"]))["items"]
            assert found["status"]["running_records"] == shown["status"]["running_records"]

    def test_the_latest_log_is_shown_and_each_placement_is_kept(
        self, platform: Platform, project: Project
    ) -> None:
        with job_of(platform, "relogged", metadata=RETRY_ONCE) as job:
            platform.write_log(as_v1(job), b"first try\n")
            first = end_task(platform, job, 1)
            wait_until(lambda: platform.attempt_of(as_v1(job)["version_id"]) not in (None, first))
            platform.write_log(as_v1(job), b"second try\n")
            path = path_of(project, job)

            preview = project.http.get(f"{path}/tasks/worker-0/logs/preview").json()
            tasks = [
                project.http.get(f"{path}/tasks", params={"schedule_count": count}).json()
                for count in (1, 2, 3)
            ]

            assert preview["content"] == "second try\n"
            assert [[task["schedule_count"] for task in found] for found in tasks] == [[1], [2], []]
            events = project.http.get(f"{path}/events", params={"level": "Warning"}).json()
            assert [event["message"] for event in events["events"]] == [
                "The job has failed; it is tried again. Task 0 ended with exit code 1."
            ]

    def test_one_whose_host_died_waits_for_a_host_and_shows_the_log_it_had(
        self, platform: Platform, project: Project
    ) -> None:
        with job_of(platform, "orphaned", metadata=RETRY_ONCE) as job:
            platform.write_log(as_v1(job), b"so far\n")
            attempt = platform.attempt_of(as_v1(job)["version_id"])
            assert attempt is not None
            [task] = platform.engine.started[attempt].tasks

            platform.call(platform.engine.take_down, task.node_name)
            wait_until(lambda: show(project, job)["status"]["secondary_phase"] == "Queuing")
            shown = show(project, job)["status"]
            preview = project.http.get(f"{path_of(project, job)}/tasks/worker-0/logs/preview")
            platform.call(platform.engine.bring_back, task.node_name)
            platform.wait_for(as_v1(job), 8)

        assert shown["waiting"]["reason"] == "NodesUnavailable"
        assert shown["waiting"]["unavailable_nodes"] == [task.node_name]
        [record] = shown["running_records"]
        assert "neither a process nor a result" in record["end_reason"]
        assert preview.json()["content"] == "so far\n"

    def test_every_attempt_goes_with_its_job(self, platform: Platform) -> None:
        with job_of(platform, "forgotten", metadata=RETRY_ONCE) as job:
            first = end_task(platform, job, 1)
            wait_until(lambda: platform.attempt_of(as_v1(job)["version_id"]) not in (None, first))
            second = platform.attempt_of(as_v1(job)["version_id"])
            assert second is not None

        find = platform.engine.find
        assert platform.run(find(first, platform.data)) is None
        assert platform.run(find(second, platform.data)) is None


class TestTimeLimits:
    def test_a_job_is_stopped_when_its_time_is_over(
        self, platform: Platform, project: Project
    ) -> None:
        limit = {"time_unit": "MINUTES", "duration": 90}
        spec = body_for(platform, "x")["spec"] | {"auto_stop": limit}
        with job_of(platform, "limited", spec=spec) as job:
            platform.wait_for(as_v1(job), 8)

            platform.clock.now_ms += 90 * 60_000
            platform.engine.now_ms = platform.clock.now_ms
            platform.call(lambda: None)
            platform.wait_for(as_v1(job), 12)

            shown = show(project, job)
            assert shown["spec"]["auto_stop"] == limit
            assert shown["status"]["phase"] == "Terminated"
            assert shown["status"]["message"] == "Its time limit of 90 minutes is over."


class TestPreemption:
    @pytest.mark.parametrize(
        ("runs", "told"),
        [
            (True, "The job was preempted; it waits in the queue to run again."),
            (False, "The job has not begun to run; it is back in the queue of its pool."),
        ],
    )
    def test_the_events_tell_whether_it_had_begun_to_run(
        self, platform: Platform, project: Project, runs: bool, told: str
    ) -> None:
        platform.call(setattr, platform.engine, "comes_up_at_once", runs)
        try:
            with job_of(platform, f"taken-off-{runs}") as job:
                platform.wait_for(as_v1(job), 8 if runs else 7)
                wait_until(lambda: platform.attempt_of(as_v1(job)["version_id"]) is not None)
                attempt_id = platform.attempt_of(as_v1(job)["version_id"])
                wait_until(lambda: attempt_id in platform.engine.started)
                platform.call(platform.engine.preempt, attempt_id)

                def events() -> list[str]:
                    found = project.http.get(f"{path_of(project, job)}/events").json()["events"]
                    return [event["message"] for event in found]

                wait_until(lambda: told in events())
        finally:
            platform.call(setattr, platform.engine, "comes_up_at_once", True)


class TestWaiting:
    def test_one_that_lacks_cards_is_told_who_has_them_and_until_when(
        self, platform: Platform, project: Project
    ) -> None:
        limit = {"time_unit": "HOURS", "duration": 2}
        with job_of(platform, "has-them", spec=on_cards(project, auto_stop=limit)) as holder:
            platform.wait_for(as_v1(holder), 8)
            start_ms = show(project, holder)["status"]["start_time"]
            with (
                job_of(platform, "wants-one", spec=on_cards(project, ONE_CARD)) as head,
                job_of(platform, "behind", spec=on_cards(project, ONE_CARD)) as second,
            ):
                wait_until(lambda: show(project, second)["status"]["phase"] == "Pending")

                waiting = show(project, head)["status"]["waiting"]
                behind = show(project, second)["status"]["waiting"]
                ids = as_v1(head)
                in_v1 = project.get(f"/training-jobs/{ids['job_id']}/versions/{ids['version_id']}")
                listed = project.http.get(
                    f"{project.v2}/pools/{project.pool('cards')}/workloads",
                    params={"status": "Queue"},
                ).json()

        assert waiting == {
            "reason": "LacksCards",
            "message": "A task needs 1 card on one node; no node has more than 0 free."
            " It can start once these have ended: has-them.",
            "position": 1,
            "missing": 1,
            "unavailable_nodes": [],
            "waits_for": [{"id": holder["metadata"]["id"], "name": "has-them"}],
            "waits_for_others": 0,
            "predicted_start_time": start_ms + 2 * 3_600_000,
        }
        assert (behind["reason"], behind["position"]) == ("BehindOthers", 2)
        assert behind["predicted_start_time"] == start_ms + 2 * 3_600_000
        assert in_v1["waiting"] == waiting
        told = {
            item["jobName"]: (
                item["pendingPosition"], item["pendingReason"], item["predictedStartTime"],
            )
            for item in listed["items"]
        }  # fmt: skip
        assert told["wants-one"] == (1, "LacksCards", start_ms + 2 * 3_600_000)
        assert told["behind"][:2] == (2, "BehindOthers")

    def test_what_does_not_wait_is_told_nothing(self, platform: Platform, project: Project) -> None:
        with job_of(platform, "runs") as job:
            platform.wait_for(as_v1(job), 8)

            assert show(project, job)["status"]["waiting"] is None

    def test_a_workload_of_another_project_is_counted_and_not_named(
        self, platform: Platform, project: Project, other: Project
    ) -> None:
        # Eight CPUs, oversubscribed: as many large workers as fill the public pool.
        with job_of(platform, "fills", spec={"resource": {
            "flavor_id": "modelarts.vm.cpu.1u", "node_count": most_workers(platform),
        }}):  # fmt: skip
            body = body_for(platform, "stranger", other)
            posted = other.http.post(f"{other.v2}/training-jobs", json=body)
            assert posted.status_code == 201, posted.text
            stranger = posted.json()
            path = path_of(other, stranger)
            wait_until(lambda: other.http.get(path).json()["status"]["phase"] == "Pending")

            waiting = other.http.get(path).json()["status"]["waiting"]
            other.http.delete(path)

        assert waiting["waits_for"] == []
        assert waiting["waits_for_others"] == 1
        assert "fills" not in waiting["message"]
        assert waiting["message"].endswith("have ended: 1 workload of another project.")


def most_workers(platform: Platform) -> int:
    """How many of the smallest workers the public pool holds, as it says itself."""
    body = body_for(platform, "probe")
    body["spec"]["resource"]["node_count"] = 999
    project = platform.project
    reply = project.http.post(f"{project.v2}/training-jobs", json=body)
    told = reply.json()["error_msg"]
    return int(told.split("at most ")[1].split()[0])


class TestElasticFlavors:
    def test_one_card_comes_with_its_share_of_the_node(
        self, platform: Platform, project: Project
    ) -> None:
        with job_of(platform, "elastic", spec=on_cards(project, ONE_CARD)) as job:
            resource = job["spec"]["resource"]
            ids = as_v1(job)
            in_v1 = project.get(f"/training-jobs/{ids['job_id']}/versions/{ids['version_id']}")

        assert resource["flavor_id"] == ONE_CARD
        info = resource["flavor_detail"]["flavor_info"]
        assert info["gpu"]["unit_num"] == 1
        assert info["cpu"]["core_num"] == 1
        assert info["memory"] == {"size": 4, "unit": "GB"}
        assert (in_v1["spec_id"], in_v1["spec_code"]) == (None, ONE_CARD)
        assert (in_v1["gpu_num"], in_v1["core"], in_v1["cpu"]) == (1, "1", "4")

    @pytest.mark.parametrize(
        ("pool", "flavor_id", "told"),
        [
            (None, ONE_CARD, "the public one"),
            ("small", ONE_CARD, "without"),
            ("cards", "modelarts.pool.visual.8xlarge", "a node of pool 'cards' has 2"),
        ],
    )
    def test_where_there_are_not_so_many_cards_it_is_refused(
        self, platform: Platform, project: Project, pool: str | None, flavor_id: str, told: str
    ) -> None:
        body = body_for(platform, "refused")
        body["spec"]["resource"] = {
            "flavor_id": flavor_id,
            "pool_id": pool and project.pool(pool),
        }

        reply = project.http.post(f"{project.v2}/training-jobs", json=body)

        assert told in refusals.modern(reply, 400, "ModelArts.2763")


class TestLogLinks:
    def link(self, project: Project, job: dict[str, Any], **asked: Any) -> str:
        path = f"{path_of(project, job)}/tasks/worker-0/logs/url"
        reply = project.http.get(path, **asked)
        assert reply.status_code == 200, reply.text
        found = reply.json()
        assert found["shards"] == {"object_urls": [found["obs_url"]], "count": 1, "total": 1}
        return str(found["obs_url"])

    def test_a_link_opens_without_a_login_for_five_minutes(
        self, platform: Platform, project: Project
    ) -> None:
        with job_of(platform, "linked") as job:
            path = f"{path_of(project, job)}/tasks/worker-0/logs/url"
            platform.wait_for(as_v1(job), 8)
            assert project.http.get(path).status_code == 204
            platform.write_log(as_v1(job), b"bytes \xff\n")

            url = self.link(project, job)
            opened = httpx.get(url)
            platform.clock.now_ms += 5 * 60_000 + 1
            late = httpx.get(url)

            assert (opened.status_code, opened.content) == (200, b"bytes \xff\n")
            assert opened.headers["content-type"] == "text/plain; charset=utf-8"
            assert opened.headers["content-disposition"].startswith("inline;")
            assert "expired" in refusals.modern(late, 403, "ModelArts.2784")

    @pytest.mark.parametrize(
        "asked",
        [
            {"params": {"Content-Type": "application/octet-stream"}},
            {"headers": {"Content-Type": "application/octet-stream"}},
        ],
    )
    def test_a_link_may_be_one_to_download(
        self, platform: Platform, project: Project, asked: dict[str, Any]
    ) -> None:
        with job_of(platform, "downloaded") as job:
            platform.write_log(as_v1(job), b"all of it")

            opened = httpx.get(self.link(project, job, **asked))

            assert opened.headers["content-type"] == "application/octet-stream"
            assert opened.headers["content-disposition"].startswith("attachment;")

    @pytest.mark.parametrize(
        ("was", "becomes"),
        [
            ("worker-0", "worker-1"),
            ("disposition=inline", "disposition=attachment"),
            ("expires=1", "expires=2"),
            ("signature=", "signature=0"),
            ("signature=", "signature=%C3%BC"),
        ],
    )
    def test_a_link_that_was_changed_opens_nothing(
        self, platform: Platform, project: Project, was: str, becomes: str
    ) -> None:
        with job_of(platform, "forged") as job:
            platform.write_log(as_v1(job), b"secret")
            url = self.link(project, job)
            assert was in url

            forged = httpx.get(url.replace(was, becomes))

            refusals.modern(forged, 403, "ModelArts.2784")


class TestLines:
    def test_a_log_is_read_by_line_from_a_cursor(
        self, platform: Platform, project: Project
    ) -> None:
        with job_of(platform, "lines") as job:
            platform.write_log(as_v1(job), b"one\ntwo\nthree\n")
            path = f"{path_of(project, job)}/logs/worker-0"

            newest = project.http.get(path, params={"lines": 1}).json()
            before = project.http.get(
                path, params={"lines": 1, "base_line": newest["start_line"], "order": "asc"}
            ).json()

            assert (newest["content"], newest["lines"]) == ("three\n", 1)
            assert before["content"] == "two\n"
            bad = project.http.get(path, params={"base_line": "x"})
            refusals.modern(bad, 400, "ModelArts.2788")
            unknown = project.http.get(f"{path_of(project, job)}/logs/worker-7")
            refusals.modern(unknown, 400, "ModelArts.2820")


class TestEventCategories:
    def test_the_kinds_of_events_come_under_the_published_key(self, project: Project) -> None:
        reply = project.http.get(
            f"{project.v2}/training-event-categories", params={"flavor_type": "GPU"}
        )

        assert reply.status_code == 200
        categories = reply.json()["event-categories"]
        assert [category["id"] for category in categories] == [
            "JobStarted", "JobCompleted", "JobFailed", "JobTerminated", "JobRestarted",
        ]  # fmt: skip
        assert all(category["notification"] is False for category in categories)


class TestOneJobTwoViews:
    """Every pair of names under which the two APIs show one thing."""

    def test_what_v1_makes_v2_shows(self, platform: Platform, project: Project) -> None:
        spec_id = platform.spec_ids["modelarts.vm.cpu.1u"]
        submitted = platform.submit(
            "made-by-v1",
            description="from v1",
            worker_server_num=2,
            spec_id=spec_id,
            pool_id=project.pool("small"),
            parameter=[{"label": "epochs", "value": "3"}],
            data_url="/bucket-default/code/",
            train_url="/bucket-default/out/",
            log_url="/bucket-default/logs/",
        )
        platform.wait_for(submitted, 8)
        v1 = project.get(f"/training-jobs/{submitted['job_id']}/versions/{submitted['version_id']}")

        [v2] = search(project, ("name", "in", ["made-by-v1"]))["items"]

        check_pairs(platform, v1, v2)
        assert v2["metadata"]["description"] == "from v1"
        assert v2["spec"]["resource"]["node_count"] == 2
        platform.finish_all(submitted)
        project.http.delete(path_of(project, v2))

    def test_what_v2_makes_v1_shows(self, platform: Platform, project: Project) -> None:
        algorithm = body_for(platform, "x")["algorithm"] | {
            "parameters": [{"name": "epochs", "value": "3"}],
            "inputs": [
                {"name": "data_url", "remote": {"obs": {"obs_url": "/bucket-default/code/"}}}
            ],
            "outputs": [
                {"name": "train_url", "remote": {"obs": {"obs_url": "/bucket-default/o/"}}}
            ],
        }
        spec = {
            "resource": {
                "flavor_id": "modelarts.vm.cpu.1u",
                "pool_id": project.pool("small"),
                "node_count": 2,
            },
            "log_export_path": {"obs_url": "/bucket-default/logs/"},
        }
        with job_of(platform, "made-by-v2", algorithm=algorithm, spec=spec) as made:
            ids = as_v1(made)
            platform.wait_for(ids, 8)
            v1 = project.get(f"/training-jobs/{ids['job_id']}/versions/{ids['version_id']}")

            check_pairs(platform, v1, show(project, made))

            assert v1["worker_server_num"] == 2
            again = project.post(f"/training-jobs/{ids['job_id']}/versions", config={})
            [later] = search(project, ("name", "in", ["made-by-v2-V0002"]))["items"]
            assert later["metadata"]["version_id"] == again["version_id"]
            project.http.delete(path_of(project, later))

    def test_a_custom_image_is_shown_by_both(self, platform: Platform, project: Project) -> None:
        algorithm = {
            "code_dir": None, "boot_file": None, "command": "python main.py",
            "engine": {"image_url": "team/image:1"}, "environments": {"A": "1"},
        }  # fmt: skip
        with job_of(platform, "imaged", algorithm=algorithm) as made:
            ids = as_v1(made)
            v1 = project.get(f"/training-jobs/{ids['job_id']}/versions/{ids['version_id']}")

            assert (v1["user_image_url"], v1["user_command"]) == ("team/image:1", "python main.py")
            assert made["algorithm"]["engine"]["image_url"] == "team/image:1"
            assert made["algorithm"]["command"] == "python main.py"
            assert made["algorithm"]["environments"] == [{"A": "1"}]


def check_pairs(platform: Platform, v1: dict[str, Any], v2: dict[str, Any]) -> None:
    """Hold each field of the one API against its twin in the other."""
    project = platform.project
    metadata, status = v2["metadata"], v2["status"]
    algorithm, resource = v2["algorithm"], v2["spec"]["resource"]
    assert metadata["job_id"] == v1["job_id"]
    assert metadata["version_id"] == v1["version_id"]
    assert metadata["name"] == v1["job_name"]
    assert metadata["description"] == v1["job_desc"]
    assert metadata["create_time"] == v1["create_time"]
    assert status["start_time"] == (v1["start_time"] or 0)
    assert status["duration"] == v1["duration"]
    assert algorithm["code_dir"] == v1["app_url"]
    assert algorithm["boot_file"] == v1["boot_file_url"]
    assert algorithm["engine"]["engine_name"] == v1["engine_name"]
    assert algorithm["engine"]["engine_version"] == v1["engine_version"]
    assert [(p["name"], p["value"]) for p in algorithm["parameters"]] == [
        (p["label"], p["value"]) for p in v1["parameter"]
    ]
    assert [(c["name"], c["remote"]["obs"]["obs_url"]) for c in algorithm["inputs"]] == [
        ("data_url", v1["data_url"])
    ]
    assert [(c["name"], c["remote"]["obs"]["obs_url"]) for c in algorithm["outputs"]] == [
        ("train_url", v1["train_url"])
    ]
    assert v2["spec"]["log_export_path"]["obs_url"] == v1["log_url"]
    assert resource["flavor_id"] == v1["spec_code"] == v1["flavor_code"]
    assert platform.spec_ids[resource["flavor_id"]] == v1["spec_id"]
    assert resource["node_count"] == v1["worker_server_num"]
    assert resource["pool_id"] == v1["pool_id"]
    assert (status["phase"], v1["status"]) == ("Running", 8)
    logs = project.get(f"/training-jobs/{v1['job_id']}/versions/{v1['version_id']}/log/file-names")[
        "log_file_list"
    ]
    assert [name.rsplit(".", 1)[1] for name in logs] == [
        task.removeprefix("worker-") for task in status["tasks"]
    ]
    [listed] = [
        row
        for row in project.get("/training-jobs/versions", limit=0)["versions"]
        if row["version_id"] == v1["version_id"]
    ]
    detail = resource["flavor_detail"]["flavor_info"]
    cards = detail["gpu"]["unit_num"] if detail["gpu"] else 0
    assert listed["gpu_num"] == cards * resource["node_count"]
