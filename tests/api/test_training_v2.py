"""The v2 training API over the same jobs: shapes, refusals, filters, and what v1 shows of them."""

import uuid
from typing import Any

import httpx
import pytest

from tests.api import refusals
from tests.api.platform import Platform, Project, wait_until

NO_SUCH_JOB = "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"


def body_for(platform: Platform, name: str, project: Project | None = None) -> dict[str, Any]:
    code = platform.code(project)
    return {
        "kind": "job",
        "metadata": {"name": name, "workspace_id": "0", "description": "words"},
        "algorithm": {
            "code_dir": code["app_url"],
            "boot_file": code["boot_file_url"],
            "engine": {"engine_id": engines(project or platform.project)[0]["engine_id"]},
        },
        "spec": {"resource": {"flavor_id": "modelarts.vm.cpu.1u", "node_count": 1}},
    }


def engines(project: Project) -> list[dict[str, Any]]:
    return list(project.http.get(f"{project.v2}/training-job-engines").json()["items"])


def post(project: Project, body: object) -> httpx.Response:
    return project.http.post(f"{project.v2}/training-jobs", json=body)


def create(platform: Platform, name: str, **changes: Any) -> dict[str, Any]:
    body = body_for(platform, name)
    for part, fields in changes.items():
        body[part] = body[part] | fields
    reply = post(platform.project, body)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def path_of(project: Project, job: dict[str, Any] | str) -> str:
    job_id = job if isinstance(job, str) else job["metadata"]["id"]
    return f"{project.v2}/training-jobs/{job_id}"


def show(project: Project, job: dict[str, Any]) -> dict[str, Any]:
    reply = project.http.get(path_of(project, job))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def search(project: Project, *filters: tuple[str, str, object], **body: Any) -> dict[str, Any]:
    body["filters"] = [{"key": key, "operator": op, "value": value} for key, op, value in filters]
    reply = project.http.post(f"{project.v2}/training-job-searches", json=body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def names(found: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


def as_v1(job: dict[str, Any]) -> dict[str, Any]:
    """The ids by which v1, and the helpers of these tests, know a job."""
    metadata = job["metadata"]
    return {
        "job_id": metadata["job_id"],
        "version_id": metadata["version_id"],
        "job_name": metadata["name"],
    }


class TestCreate:
    def test_what_is_made_is_shown(self, platform: Platform, project: Project) -> None:
        job = create(platform, "made")

        shown = show(project, job)
        assert str(uuid.UUID(job["metadata"]["id"])) == job["metadata"]["id"]
        assert shown["metadata"] == job["metadata"]
        assert shown["metadata"]["create_time"] == platform.clock.now_ms
        assert shown["algorithm"]["environments"] == []
        assert shown["spec"]["resource"]["node_count"] == 1
        assert shown["spec"]["schedule_policy"] == {"priority": 1, "preemptible": False}

    def test_a_job_may_be_named_without_the_hyphens_of_its_id(
        self, platform: Platform, project: Project
    ) -> None:
        job = create(platform, "plain-id")

        plain = path_of(project, job["metadata"]["id"].replace("-", "").upper())

        assert project.http.get(plain).json()["metadata"] == job["metadata"]

    def test_the_pair_in_v1_says_the_same(self, platform: Platform, project: Project) -> None:
        job = create(platform, "pair", algorithm={
            **body_for(platform, "x")["algorithm"],
            "parameters": [{"name": "rate", "value": 0.5}, {"name": "flag"}],
            "outputs": [
                {"name": "train_url", "remote": {"obs": {"obs_url": "/bucket-default/o/"}}},
            ],
        }, spec={"log_export_path": {"obs_url": "/bucket-default/l/"}})  # fmt: skip
        ids = as_v1(job)

        shown = project.get(f"/training-jobs/{ids['job_id']}/versions/{ids['version_id']}")

        assert shown["job_name"] == "pair"
        assert shown["job_desc"] == "words"
        assert shown["train_url"] == "/bucket-default/o/"
        assert shown["log_url"] == "/bucket-default/l/"
        assert shown["spec_code"] == "modelarts.vm.cpu.1u"
        assert [p["label"] for p in shown["parameter"]] == ["rate", "flag"]
        assert job["algorithm"]["parameters"][0] == {"name": "rate", "value": "0.5"}
        assert job["algorithm"]["outputs"][0]["name"] == "train_url"

    def test_what_is_run_again_by_v1_keeps_what_only_v2_can_say(
        self, platform: Platform, project: Project
    ) -> None:
        job = create(platform, "again", algorithm={
            **body_for(platform, "x")["algorithm"],
            "environments": {"A": "1"},
            "outputs": [{"name": "model", "remote": {"obs": {"obs_url": "/bucket-default/m/"}}}],
        }, metadata={"annotations": {"note": "mine"}})  # fmt: skip

        project.post(f"/training-jobs/{job['metadata']['job_id']}/versions", config={})

        found = search(project, ("name", "in", ["again-V0002"]))
        [again] = found["items"]
        assert again["algorithm"] == job["algorithm"]
        assert again["metadata"]["annotations"] == {"note": "mine"}

    def test_a_pool_of_one_flavor_needs_none_named(
        self, platform: Platform, project: Project
    ) -> None:
        job = create(
            platform, "pooled",
            spec={
                "resource": {"pool_id": project.pool("small")},
                "schedule_policy": {"priority": 3},
            },
        )  # fmt: skip

        assert job["spec"]["resource"]["flavor_id"] == "modelarts.vm.cpu.1u"
        assert job["spec"]["resource"]["pool_id"] == project.pool("small")
        assert job["spec"]["schedule_policy"]["priority"] == 3
        project.http.delete(path_of(project, job))  # its node is needed again

    def test_priority_zero_is_the_least(self, platform: Platform) -> None:
        resource = body_for(platform, "x")["spec"]["resource"]

        job = create(
            platform, "zero", spec={"resource": resource, "schedule_policy": {"priority": 0}}
        )

        assert job["spec"]["schedule_policy"]["priority"] == 1

    @pytest.mark.parametrize(
        ("part", "fields", "status", "code", "told"),
        [
            ("metadata", {"name": "a b"}, 400, "2788", "metadata.name"),
            ("metadata", {"name": "taken"}, 400, "2751", "taken"),
            ("metadata", {"workspace_id": "7"}, 400, "0102", "workspace"),
            ("metadata", {"description": "x" * 257}, 400, "2788", "metadata.description"),
            ("metadata", {"annotations": {"fault-tolerance/job-retry-num": "4"}}, 400, "2788",
             "job-retry-num"),
            ("metadata", {"annotations": {"fault-tolerance/job-unconditional-retry": "true"}}, 400,
             "2858", "job-unconditional-retry"),
            ("metadata", {"annotations": {"fault-tolerance/hang-retry": "true"}}, 400, "2858",
             "hang-retry"),
            ("algorithm", {"code_dir": None}, 400, "2788", "algorithm.code_dir"),
            ("algorithm", {"code_dir": "/no-such-bucket/x/"}, 400, "2791", "algorithm.code_dir"),
            ("algorithm", {"boot_file": "/bucket-default/code/no.py"}, 400, "2758", "boot_file"),
            ("algorithm", {"boot_file": "/bucket-default/other.py"}, 400, "2792", "boot_file"),
            ("algorithm", {"engine": None}, 400, "2780", "algorithm.engine"),
            ("algorithm", {"engine": {"engine_id": "1"}}, 400, "2780", "algorithm.engine"),
            ("algorithm", {"command": "sleep 1"}, 400, "2806", "image_url"),
            ("algorithm", {"engine": {"image_url": "a/b:c"}}, 400, "2806", "command"),
            ("algorithm", {"id": NO_SUCH_JOB}, 400, "2755", "algorithm.id"),
            ("algorithm", {"environments": {"1A": ""}}, 400, "2788", "algorithm.environments"),
            ("algorithm", {"environments": {"A": "x" * 4097}}, 400, "2788", "environments.A"),
            ("algorithm", {"parameters": [{"name": "a b"}]}, 400, "2788", "algorithm.parameters"),
            ("algorithm", {"inputs": [{"name": "d", "remote": {"dataset": {"id": "x"}}}]}, 400,
             "2783", "algorithm.inputs[0]"),
            ("algorithm", {"inputs": [{"name": "d", "remote": {}}]}, 400, "2788",
             "algorithm.inputs[0]"),
            ("algorithm", {"inputs": [{"name": "d", "remote": {"obs": {"obs_url": "/no/"}}}]}, 400,
             "2791", "algorithm.inputs[0]"),
            ("algorithm", {"inputs": [{"name": "d",
                                       "remote": {"obs": {"obs_url": "/bucket-default/no/"}}}]},
             400, "2791", "nothing there"),
            ("algorithm", {"outputs": 2 * [{"name": "o",
                                            "remote": {"obs": {"obs_url": "/bucket-default/"}}}]},
             400, "2788", "algorithm.outputs[1].name"),
            ("algorithm", {"outputs": [{"name": "../o",
                                        "remote": {"obs": {"obs_url": "/bucket-default/"}}}]},
             400, "2788", "algorithm.outputs[0].name"),
            ("algorithm", {"outputs": [{"name": "a-b", "access_method": "env",
                                        "remote": {"obs": {"obs_url": "/bucket-default/"}}}]},
             400, "2788", "algorithm.outputs[0].name"),
            ("spec", {"resource": {}}, 400, "2788", "spec.resource.flavor_id"),
            ("spec", {"resource": {"flavor_id": "no"}}, 400, "2781", "spec.resource.flavor_id"),
            ("spec", {"resource": {"flavor_id": "modelarts.vm.cpu.1u", "node_count": 0}}, 400,
             "2788", "spec.resource.node_count"),
            ("spec", {"resource": {"flavor_id": "modelarts.vm.cpu.1u", "node_count": 999}}, 400,
             "2793", "spec.resource.node_count"),
            ("spec", {"resource": {"pool_id": "no"}}, 404, "2890", "spec.resource.pool_id"),
            ("spec", {"schedule_policy": {"priority": 2}}, 400, "2788", "priority"),
            ("spec", {"schedule_policy": {"priority": 4}}, 400, "2788", "priority"),
            ("spec", {"schedule_policy": {"preemptible": True}}, 400, "2858", "preemptible"),
            ("spec", {"auto_stop": {"time_unit": "DAYS", "duration": 1}}, 400, "2788",
             "spec.auto_stop.time_unit"),
            ("spec", {"auto_stop": {"time_unit": "HOURS", "duration": 0}}, 400, "2788",
             "spec.auto_stop.duration"),
            ("spec", {"auto_stop": {"time_unit": "HOURS", "duration": 87601}}, 400, "2788",
             "spec.auto_stop"),
            ("spec", {"resource": {"flavor_id": "modelarts.pool.visual.xlarge"}}, 400, "2763",
             "spec.resource.flavor_id"),
            ("spec", {"volumes": [{"nfs": {}}]}, 400, "2858", "volumes"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused_by_its_own_name(
        self,
        platform: Platform,
        project: Project,
        part: str,
        fields: dict[str, Any],
        status: int,
        code: str,
        told: str,
    ) -> None:
        if not names(search(project, ("name", "in", ["taken"]))):
            create(platform, "taken")
        body = body_for(platform, "refused")
        body[part] = body[part] | fields

        message = refusals.modern(post(project, body), status, f"ModelArts.{code}")

        assert told in message
        assert "config." not in message
        assert names(search(project, ("name", "like", ["refused"]))) == []

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("kind", "hetero_job"),
            ("tasks", [{}]),
            ("endpoints", {"ssh": {}}),
            ("train_type", "SFT"),
        ],
    )
    def test_another_kind_of_job_is_refused(
        self, platform: Platform, project: Project, field: str, value: object
    ) -> None:
        body = body_for(platform, "refused") | {field: value}

        assert field in refusals.modern(post(project, body), 400, "ModelArts.2858")

    def test_a_body_must_be_a_job(self, project: Project) -> None:
        reply = project.http.post(f"{project.v2}/training-jobs", content=b"{")
        refusals.modern(reply, 400, "ModelArts.2787")
        assert "metadata" in refusals.modern(post(project, {}), 400, "ModelArts.2788")

    def test_empty_values_ask_for_nothing(self, platform: Platform) -> None:
        job = create(
            platform,
            "empties",
            metadata={"annotations": {}},
            spec=body_for(platform, "x")["spec"] | {"volumes": [], "auto_stop": None},
        )

        assert job["status"]["tasks"] == ["worker-0"]


class TestChange:
    def test_null_is_no_description(self, platform: Platform, project: Project) -> None:
        job = create(platform, "undescribed")

        reply = project.http.put(path_of(project, job), json={"description": None})

        assert (reply.status_code, reply.json()) == (200, None)
        assert show(project, job)["metadata"]["description"] == ""

    def test_only_a_job_that_waits_takes_another_priority(
        self, platform: Platform, project: Project
    ) -> None:
        spec = {"resource": {"pool_id": project.pool("small")}}
        job = create(platform, "ran", spec=spec)
        platform.finish(as_v1(job))

        reply = project.http.put(
            path_of(project, job), json={"spec": {"schedule_policy": {"priority": 2}}}
        )

        refusals.modern(reply, 409, "ModelArts.2878")
        assert show(project, job)["spec"]["schedule_policy"]["priority"] == 1

    def test_what_cannot_be_changed_is_refused(self, platform: Platform, project: Project) -> None:
        job = create(platform, "fixed")

        reply = project.http.put(path_of(project, job), json={"endpoints": {"ssh": {}}})

        refusals.modern(reply, 400, "ModelArts.2858")

    def test_a_stop_is_shown_and_comes_once(self, platform: Platform, project: Project) -> None:
        job = create(platform, "stopped")
        platform.wait_for(as_v1(job), 8)

        reply = project.http.post(
            f"{path_of(project, job)}/actions", json={"action_type": "terminate"}
        )

        assert reply.status_code == 202
        assert reply.json()["status"]["phase"] in ("Terminating", "Terminated")
        wait_until(lambda: show(project, job)["status"]["phase"] == "Terminated")
        again = project.http.post(
            f"{path_of(project, job)}/actions", json={"action_type": "terminate"}
        )
        refusals.modern(again, 409, "ModelArts.2796")

    def test_the_job_goes_with_its_last_version(self, platform: Platform, project: Project) -> None:
        job = create(platform, "gone")

        reply = project.http.delete(path_of(project, job))

        assert (reply.status_code, reply.content) == (202, b"")
        refusals.modern(project.http.delete(path_of(project, job)), 400, "ModelArts.2775")
        assert project.get("/training-jobs", search_content="gone")["jobs"] == []

    @pytest.mark.parametrize("job_id", [NO_SUCH_JOB, "1", "x", "%2e%2e", f"{NO_SUCH_JOB}0"])
    def test_a_job_that_is_not_there_is_unknown_to_every_call(
        self, project: Project, job_id: str
    ) -> None:
        path = path_of(project, job_id)
        calls = [
            ("GET", path, None), ("PUT", path, {"description": ""}), ("DELETE", path, None),
            ("POST", f"{path}/actions", {"action_type": "terminate"}),
            ("GET", f"{path}/events", None), ("GET", f"{path}/tasks", None),
            ("GET", f"{path}/stages", None), ("GET", f"{path}/tasks/worker-0/logs/preview", None),
        ]  # fmt: skip
        for method, target, body in calls:
            reply = project.http.request(method, target, json=body)
            refusals.modern(reply, 400, "ModelArts.2775")

    def test_a_job_of_another_project_is_unknown(
        self, platform: Platform, project: Project, other: Project
    ) -> None:
        job = create(platform, "mine")

        refusals.modern(other.http.get(path_of(other, job)), 400, "ModelArts.2775")
        refusals.modern(other.http.delete(path_of(other, job)), 400, "ModelArts.2775")
        assert search(other)["total"] == 0
        assert show(project, job)["metadata"]["name"] == "mine"


class TestSearch:
    def test_without_a_word_it_lists_the_newest_first(
        self, platform: Platform, project: Project
    ) -> None:
        create(platform, "newest")

        reply = project.http.post(f"{project.v2}/training-job-searches?limit=1&offset=0")

        found = reply.json()
        assert names(found) == ["newest"]
        assert (found["count"], found["limit"], found["sort_by"], found["order"]) == (
            1, 1, "create_time", "desc",
        )  # fmt: skip
        listed = project.get("/training-jobs/versions", limit=1)
        assert found["total"] == listed["total_count"]

    def test_every_filter_narrows_by_what_it_names(
        self, platform: Platform, project: Project
    ) -> None:
        platform.clock.now_ms += 1_000
        first = create(platform, "Filter-one")
        platform.clock.now_ms += 1_000
        second = create(
            platform, "filter-two", spec={"resource": {"pool_id": project.pool("small")}}
        )
        platform.finish(as_v1(second))
        start, end = (job["metadata"]["create_time"] for job in (first, second))
        mine = ("name", "like", ["FILTER-"])
        both = ["filter-two", "Filter-one"]
        cases: list[tuple[tuple[str, str, object], list[str]]] = [
            (("name", "in", ["filter-two"]), ["filter-two"]),
            (("name", "not", ["filter-two"]), ["Filter-one"]),
            (("name", "like", ["one", "two"]), both),
            (("name", "like", [""]), both),
            (("name", "like", []), both),
            (("id", "in", [first["metadata"]["id"]]), ["Filter-one"]),
            (("id", "like", [second["metadata"]["id"][:13]]), ["filter-two"]),
            (("pool_id", "in", [project.pool("small")]), ["filter-two"]),
            (("pool_id", "in", [project.pool("public")]), ["Filter-one"]),
            (("phase", "in", ["Completed", "Failed"]), ["filter-two"]),
            (("phase", "not", ["Completed"]), ["Filter-one"]),
            (("create_time", "between", [str(start), str(end)]), both),
            (("create_time", "between", ["", str(start)]), ["Filter-one"]),
            (("create_time", "between", [end, ""]), ["filter-two"]),
            (("create_time", "between", ["", ""]), both),
            (("kind", "in", ["job"]), both),
            (("kind", "in", ["edge_job"]), []),
            (("runtime_type", "not", ["debug"]), both),
            (("runtime_type", "in", ["debug"]), []),
            (("algorithm_name", "like", ["net"]), []),
            (("user_id", "in", ["nobody"]), []),
            (("user_id", "not", ["nobody"]), both),
        ]
        for wanted, expected in cases:
            found = search(project, mine, wanted)
            assert (names(found), found["total"]) == (expected, len(expected)), wanted

    def test_a_user_is_found_by_id(self, platform: Platform, project: Project) -> None:
        create(platform, "by-user")
        login = project.http.get(
            "/v3/auth/tokens", headers={"X-Subject-Token": project.http.headers["X-Auth-Token"]}
        )
        user_id = login.json()["token"]["user"]["id"]

        found = search(project, ("name", "in", ["by-user"]), ("user_id", "in", [user_id]))

        assert found["total"] == 1

    def test_other_orders_are_total_too(self, platform: Platform, project: Project) -> None:
        for name in ("order-b", "order-a", "order-c"):
            create(platform, name)

        by_name = search(project, ("name", "like", ["order-"]), sort_by="name", order="asc")
        by_time = search(project, ("name", "like", ["order-"]), order="asc")

        assert names(by_name) == ["order-a", "order-b", "order-c"]
        assert names(by_time) == ["order-b", "order-a", "order-c"]

    def test_the_total_of_a_phase_is_that_of_v1(self, platform: Platform, project: Project) -> None:
        job = create(platform, "total")
        platform.finish(as_v1(job))

        found = search(project, ("phase", "in", ["Completed"]), limit=1)

        listed = project.get("/training-jobs/versions", status=10, limit=1)
        assert found["total"] == listed["total_count"] >= 1

    def test_no_text_becomes_a_statement(self, platform: Platform, project: Project) -> None:
        create(platform, "plain")
        for text in ("' OR 1=1 --", "%", "_", '"]', "\\", "a\x00b"):
            for key in ("name", "id", "pool_id", "user_id"):
                found = search(project, ("name", "in", ["plain"]), (key, "in", [text]))
                assert found["total"] == 0, (key, text)

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"filters": [{"key": "x", "operator": "in", "value": ["a"]}]}, "2807"),
            ({"filters": [{"key": "phase", "operator": "between", "value": ["a"]}]}, "2808"),
            ({"filters": [{"key": "phase", "operator": "in", "value": ["running"]}]}, "2809"),
            ({"filters": [{"key": "create_time", "operator": "between", "value": ["1"]}]}, "2809"),
            ({"filters": [{"key": "create_time", "operator": "between", "value": ["x", ""]}]},
             "2809"),
            ({"filters": [{"key": "create_time", "operator": "between", "value": ["1" * 30, ""]}]},
             "2809"),
            ({"filters": 21 * [{"key": "kind", "operator": "in", "value": ["job"]}]}, "2809"),
            ({"sort_by": "id; DROP TABLE job"}, "2790"),
            ({"order": "up"}, "2788"),
            ({"limit": 51}, "2788"),
            ({"offset": -1}, "2788"),
            ({"workspace_id": "7"}, "0102"),
            ({"host_ips": ["1.2.3.4"]}, "2858"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(
        self, project: Project, body: dict[str, Any], code: str
    ) -> None:
        reply = project.http.post(f"{project.v2}/training-job-searches", json=body)

        refusals.modern(reply, 400, f"ModelArts.{code}")


class TestLogsAndEvents:
    def test_a_log_that_will_come_is_no_content_yet(
        self, platform: Platform, project: Project
    ) -> None:
        job = create(platform, "unwritten")
        preview = f"{path_of(project, job)}/tasks/worker-0/logs/preview"

        assert project.http.get(preview).status_code == 204
        platform.finish(as_v1(job))
        refusals.modern(project.http.get(preview), 400, "ModelArts.2818")

    def test_the_end_of_a_long_log_is_shown(self, platform: Platform, project: Project) -> None:
        job = create(platform, "long")
        platform.write_log(as_v1(job), b"first\n" + b"x" * (5 << 20) + b"\nlast \xff\n")

        seen = project.http.get(f"{path_of(project, job)}/tasks/worker-0/logs/preview").json()

        assert seen["current_size"] == 5 << 20
        assert seen["full_size"] == (5 << 20) + 14
        assert seen["content"].endswith("\nlast �\n")
        assert "first" not in seen["content"]

    def test_the_log_of_a_later_version_is_found_by_its_task(
        self, platform: Platform, project: Project
    ) -> None:
        job = create(platform, "twice")
        again = project.post(f"/training-jobs/{job['metadata']['job_id']}/versions", config={})
        platform.write_log(again, b"second\n")

        [found] = search(project, ("name", "in", ["twice-V0002"]))["items"]
        seen = project.http.get(f"{path_of(project, found)}/tasks/worker-0/logs/preview").json()

        assert seen["content"] == "second\n"

    def test_events_are_paged_and_filtered(self, platform: Platform, project: Project) -> None:
        job = create(platform, "eventful")
        platform.finish(as_v1(job), 3, after_ms=5_000)
        path = f"{path_of(project, job)}/events"
        end = platform.clock.now_ms

        def seen(**query: object) -> tuple[int, list[str]]:
            reply = project.http.get(path, params=query)  # type: ignore[arg-type]
            assert reply.status_code == 200, reply.text
            answer = reply.json()
            return answer["total"], [event["message"] for event in answer["events"]]

        total, everything = seen(order="asc")
        assert total == len(everything) == 5
        assert seen()[1] == everything[::-1]
        assert seen(order="asc", offset=1, limit=2) == (5, everything[1:3])
        assert seen(offset=9) == (5, [])
        assert seen(level="Error") == (1, everything[-1:])
        assert seen(pattern="queue", order="asc") == (1, everything[1:2])
        assert seen(source="job", order="asc")[1] == everything[:3]
        assert seen(source="Task", order="asc")[1] == everything[3:]
        assert seen(source="K8S") == (0, [])
        assert seen(start_time=str(end - 1), end_time=str(end)) == (1, everything[-1:])

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("start_time=1", "50004000"), ("start_time=2&end_time=1", "50004000"),
            ("start_time=a&end_time=b", "50004000"), ("limit=0", "2788"), ("limit=101", "2788"),
            ("order=up", "2788"), ("level=Loud", "2788"), ("offset=-1", "2788"),
            ("source=Moon", "50004000"),
        ],
    )  # fmt: skip
    def test_a_range_of_events_that_makes_no_sense_is_refused(
        self, platform: Platform, project: Project, query: str, code: str
    ) -> None:
        job = create(platform, f"range-{uuid.uuid4().hex}")

        reply = project.http.get(f"{path_of(project, job)}/events?{query}")

        refusals.modern(reply, 400, f"ModelArts.{code}")

    def test_tasks_tell_where_they_were_put(self, platform: Platform, project: Project) -> None:
        spec = {"resource": {"pool_id": project.pool("small"), "node_count": 2}}
        job = create(platform, "placed", spec=spec)
        platform.wait_for(as_v1(job), 8)
        path = f"{path_of(project, job)}/tasks"

        tasks = project.http.get(path).json()

        assert [task["task"] for task in tasks] == ["worker-0", "worker-1"]
        assert all(task["host_ip"].startswith("small") for task in tasks)
        assert project.http.get(path, params={"schedule_count": 2}).json() == []


class TestCatalogue:
    def test_flavors_are_those_of_v1_by_type(self, platform: Platform, project: Project) -> None:
        def listed(kind: str) -> list[dict[str, Any]]:
            reply = project.http.get(
                f"{project.v2}/training-job-flavors", params={"flavor_type": kind}
            )
            found = reply.json()
            assert found["total_count"] == len(found["flavors"])
            return list(found["flavors"])

        assert {flavor["flavor_id"] for flavor in listed("")} == set(platform.spec_ids)
        [cards] = [flavor for flavor in listed("GPU") if flavor["flavor_id"] == "gpu.2"]
        assert cards["flavor_info"]["gpu"] == {"unit_num": 2, "product_name": "T4"}
        assert cards["max_num"] == cards["flavor_info"]["max_num"]
        assert all(flavor["flavor_type"] == "CPU" for flavor in listed("CPU"))
        assert listed("Ascend") == []

    def test_an_engine_is_chosen_by_name_and_version(
        self, platform: Platform, project: Project
    ) -> None:
        [engine, *_] = engines(project)
        named = {key: engine[key] for key in ("engine_name", "engine_version")}

        job = create(
            platform, "by-name", algorithm=body_for(platform, "x")["algorithm"] | {"engine": named}
        )

        assert job["algorithm"]["engine"]["engine_id"] == engine["engine_id"]

    def test_the_quota_counts_live_jobs(self, platform: Platform, project: Project) -> None:
        path = f"{project.v2}/training-quotas"
        [before] = project.http.get(path).json()["quotas"]
        create(platform, "counted")

        [after] = project.http.get(path, params={"resource": "job-num"}).json()["quotas"]

        assert after["used"] == before["used"] + 1
        assert project.http.get(path, params={"resource": "moons"}).json() == {"quotas": []}

    def test_a_name_is_taken_until_its_job_is_deleted(
        self, platform: Platform, project: Project
    ) -> None:
        def is_taken() -> bool:
            reply = project.http.get(
                f"{project.v2}/training-job-names", params={"job_name": "checked"}
            )
            return bool(reply.json()["is_duplicate"])

        assert not is_taken()
        job = create(platform, "checked")
        assert is_taken()
        project.http.delete(path_of(project, job))
        assert not is_taken()

    def test_a_name_that_is_not_given_is_asked_for_as_it_is_called(self, project: Project) -> None:
        reply = project.http.get(f"{project.v2}/training-job-names")

        message = refusals.modern(reply, 400, "ModelArts.2788")
        assert message == "job_name is missing; it must be text."
