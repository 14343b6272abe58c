"""Training jobs and their versions over HTTP: create, show, run again, describe, stop, delete."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api import refusals
from tests.api.platform import Platform, Project, wait_until

INT64_MAX = 2**63 - 1
JOBS = "/training-jobs"


def post(project: Project, path: str, body: Any) -> httpx.Response:
    return project.http.post(f"{project.v1}{path}", json=body)


def put(project: Project, path: str, body: Any) -> httpx.Response:
    return project.http.put(f"{project.v1}{path}", json=body)


def delete(project: Project, path: str) -> httpx.Response:
    return project.http.delete(f"{project.v1}{path}")


def path_of(job: dict[str, Any], *more: str) -> str:
    return "/".join([JOBS, str(job["job_id"]), *more])


def version_path(job: dict[str, Any], *more: str) -> str:
    return path_of(job, "versions", str(job["version_id"]), *more)


def job_count(project: Project) -> int:
    return int(project.get(JOBS)["job_total_count"])


class TestCreate:
    def test_the_answer_has_exactly_the_documented_fields(self, platform: Platform) -> None:
        body = platform.submit("created")

        assert body == {
            "is_success": True,
            "job_id": body["job_id"],
            "job_name": "created",
            "status": 1,
            "create_time": platform.clock.now_ms,
            "version_id": body["version_id"],
            "version_name": "V0001",
            "resource_id": body["resource_id"],
        }
        assert isinstance(body["job_id"], int)
        assert isinstance(body["version_id"], int)
        assert body["resource_id"].startswith("job")
        assert len(body["resource_id"]) == len("job") + 8

    def test_ids_ascend(self, platform: Platform) -> None:
        first, second = platform.submit("ascends-1"), platform.submit("ascends-2")

        assert second["job_id"] > first["job_id"]
        assert second["version_id"] > first["version_id"]

    def test_without_a_version_its_fields_are_absent(self, platform: Platform) -> None:
        body = platform.submit("shell", create_version=False)

        assert set(body) == {"is_success", "job_id", "job_name", "status", "create_time"}

    def test_a_taken_name_is_told_in_the_documented_words(self, platform: Platform) -> None:
        platform.submit("taken")
        body = {"job_name": "taken", "config": platform.code()}

        message = refusals.v1(post(platform.project, JOBS, body), 400, "ModelArts.0103")

        assert message == "Job name:taken is existed"

    def test_a_deleted_job_gives_its_name_back(self, platform: Platform) -> None:
        job = platform.submit("name-again")
        platform.finish(job)
        assert delete(platform.project, path_of(job)).json() == {"is_success": True}

        assert platform.submit("name-again")["job_id"] > job["job_id"]

    @pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64, "-", "0"])
    def test_every_allowed_name_is_taken(self, platform: Platform, name: str) -> None:
        assert platform.submit(name)["job_name"] == name

    @pytest.mark.parametrize(
        "name",
        ["", "x" * 65, "a b", "a/b", "ä", "a.b", "a\n", "a\0", "a'", "..",
         "\N{FULLWIDTH DIGIT NINE}"],
    )  # fmt: skip
    def test_any_other_name_is_refused(self, platform: Platform, name: str) -> None:
        reply = post(platform.project, JOBS, {"job_name": name, "config": platform.code()})

        message = refusals.v1(reply, 400, "ModelArts.0104")
        assert message.startswith("job_name is ")
        assert "1 to 64 letters, digits, '_' and '-'" in message

    def test_a_description_may_be_256_characters_long(self, platform: Platform) -> None:
        text = "ü" * 256
        job = platform.submit("long-description", description=text)
        body = {"job_name": "too-long", "job_desc": text + "x", "config": platform.code()}

        message = refusals.v1(post(platform.project, JOBS, body), 400, "ModelArts.0104")

        assert platform.project.get(path_of(job, "versions"))["job_desc"] == text
        assert message.startswith("job_desc has 257 characters")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"job_name": None}, "job_name is null; it must be text."),
            ({"job_name": 5}, "job_name is 5; it must be text."),
            ({"job_name": ["a"]}, 'job_name is ["a"]; it must be text.'),
            ({"job_desc": 5}, "job_desc is 5; it must be text."),
            ({"config": None}, "config is null; it must be an object."),
            ({"config": []}, "config is []; it must be an object."),
            ({"config": "x"}, 'config is "x"; it must be an object.'),
            ({"workspace_id": {}}, "workspace_id is {}; it must be text."),
        ],
    )
    def test_a_wrong_type_is_told_by_field_value_and_rule(
        self, platform: Platform, change: dict[str, Any], says: str
    ) -> None:
        before = job_count(platform.project)
        body = {"job_name": "wrong-type", "config": platform.code()} | change

        assert refusals.v1(post(platform.project, JOBS, body), 400, "ModelArts.0104") == says
        assert job_count(platform.project) == before

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "job_name is missing; it must be text."),
            ({"job_name": "x"}, "config is missing; it must be an object."),
            ([], "The body is []; it must be an object."),
            ("text", 'The body is "text"; it must be an object.'),
        ],
    )
    def test_a_body_without_what_it_needs_is_refused(
        self, project: Project, body: Any, says: str
    ) -> None:
        assert refusals.v1(post(project, JOBS, body), 400, "ModelArts.0104") == says

    @pytest.mark.parametrize(
        ("change", "code", "says"),
        [
            ({"worker_server_num": None}, "0104", "config.worker_server_num is missing"),
            ({"worker_server_num": 0}, "0104", "config.worker_server_num is 0"),
            ({"worker_server_num": -1}, "0104", "config.worker_server_num is -1"),
            ({"worker_server_num": "x"}, "0104", "must be a whole number"),
            ({"worker_server_num": 1.5}, "0104", "config.worker_server_num is 1.5"),
            ({"worker_server_num": 10**30}, "0104", "config.worker_server_num is 1000"),
            ({"worker_server_num": INT64_MAX}, "2793", "must be from 1 to 1000"),
            ({"worker_server_num": 999}, "2793", "can hold at most"),
            ({"spec_id": 999}, "2781", "spec_id is 999; there are 1 ("),
            ({"spec_id": 0}, "2781", "spec_id is 0"),
            ({"spec_id": -1}, "2781", "spec_id is -1"),
            ({"spec_id": INT64_MAX}, "2781", "spec_id is 9223372036854775807"),
            ({"spec_id": 10**30}, "0104", "config.spec_id is 1000"),
            ({"spec_id": None}, "0104", "Neither config.spec_id nor config.pool_id"),
            ({"engine_id": 999}, "2780", "engine_id is 999; there are 1 (Python"),
            ({"engine_id": 10**30}, "0104", "config.engine_id is 1000"),
            ({"model_id": 1}, "2755", "config.model_id is 1"),
            ({"app_url": None}, "0104", "config.app_url is missing"),
            ({"boot_file_url": ""}, "0104", "config.boot_file_url is missing"),
            ({"app_url": "/bucket-default/nowhere/"}, "2792", "must be a file below app_url"),
            ({"boot_file_url": "/bucket-default/code/other.py"}, "2758", "there is no such file"),
            ({"boot_file_url": "/bucket-default/code/"}, "2792", "must be a file below app_url"),
            ({"boot_file_url": "/bucket-default/code"}, "2792", "must be a file below app_url"),
            ({"app_url": "/no-bucket/code/"}, "2791", "no bucket 'no-bucket'"),
            ({"app_url": "bucket-default/code/"}, "2791", "must be /BUCKET/KEY"),
            ({"app_url": "/bucket-default/../x/"}, "2791", "must stay inside its bucket"),
            ({"app_url": "/../etc/"}, "2791", "config.app_url is '/../etc/'"),
            ({"app_url": "/bucket-default/a\0b/"}, "2791", "zero byte"),
            ({"boot_file_url": "/bucket-default/code/../main.py"}, "2791", "inside its bucket"),
            ({"train_url": "/bucket-default/../../etc/"}, "2791", "config.train_url is"),
            ({"log_url": "/bucket-default/./x"}, "2791", "config.log_url is"),
            ({"data_url": "/bucket-default/nothing/"}, "2791", "there is nothing there"),
            ({"data_url": "/bucket-default/" + "x" * 2_000}, "0104", "at most 1100"),
            ({"pool_id": "nowhere"}, "2890", "this project has no such pool"),
            ({"dataset_id": "d"}, "2783", "keeps no datasets"),
            ({"data_url": "/bucket-default/code/", "dataset_id": "d"}, "0104", "only one kind"),
            ({"data_source": [{"type": "ftp"}]}, "0104", "config.data_source[0].type is 'ftp'"),
            ({"data_source": [{}]}, "0104", "config.data_source[0].type is missing"),
            ({"data_source": {}}, "0104", "config.data_source is {}; it must be a list."),
            ({"parameter": {}}, "0104", "config.parameter is {}; it must be a list."),
            ({"parameter": [{"value": "1"}]}, "0104", "config.parameter[0].label is missing"),
            ({"parameter": [{"label": "a", "value": []}]}, "0104", "parameter[0].value is []"),
            ({"parameter": [{"label": "a", "value": 10**30}]}, "0104", "[0].value is 1000"),
            ({"parameter": [{"label": "a b"}]}, "0104", "config.parameter[0].label is 'a b'"),
            ({"parameter": [{"label": "--a"}]}, "0104", "config.parameter[0].label is '--a'"),
            ({"parameter": [{"label": ""}]}, "0104", "config.parameter[0].label is ''"),
            ({"parameter": [{"label": "a", "value": "\0"}]}, "0104", "zero byte"),
            ({"parameter": [{"label": "a"}] * 501}, "0104", "501 entries"),
            ({"parameter": [1]}, "0104", "config.parameter[0] is 1; it must be an object."),
            ({"volumes": [1]}, "0104", "config.volumes[0] is 1; it must be an object."),
            ({"create_version": "maybe"}, "0104", "it must be true or false"),
        ],
    )  # fmt: skip
    def test_a_config_that_cannot_be_run_is_refused_and_leaves_nothing(
        self, platform: Platform, change: dict[str, Any], code: str, says: str
    ) -> None:
        before = job_count(platform.project)
        config = {
            name: value for name, value in (platform.code() | change).items() if value is not None
        }

        reply = post(platform.project, JOBS, {"job_name": "refused", "config": config})

        status = 404 if code == "2890" else 400
        assert says in refusals.v1(reply, status, f"ModelArts.{code}")
        assert job_count(platform.project) == before

    def test_a_pool_for_services_takes_no_training(self, platform: Platform) -> None:
        config = platform.code() | {"pool_id": platform.project.pool("serving")}

        reply = post(platform.project, JOBS, {"job_name": "refused", "config": config})

        assert "without Train" in refusals.v1(reply, 400, "ModelArts.2886")

    def test_what_a_pool_can_never_hold_names_the_most_that_it_can(
        self, platform: Platform
    ) -> None:
        small = {"pool_id": platform.project.pool("small")}
        too_many = platform.code() | small | {"worker_server_num": 3}
        too_large = platform.code() | small | {"spec_id": platform.spec_ids["gpu.2"]}

        many = post(platform.project, JOBS, {"job_name": "refused", "config": too_many})
        large = post(platform.project, JOBS, {"job_name": "refused", "config": too_large})

        assert "can hold at most 2 workers" in refusals.v1(many, 400, "ModelArts.2793")
        assert "What fits: modelarts.vm.cpu.1u" in refusals.v1(large, 400, "ModelArts.2793")

    def test_the_bucket_of_another_project_is_as_if_it_were_not_there(
        self, platform: Platform, other: Project
    ) -> None:
        theirs = platform.code(other)
        mine = platform.code()
        nowhere = dict(theirs) | {"app_url": "/no-such-bucket/code/",
                                  "boot_file_url": "/no-such-bucket/code/main.py"}  # fmt: skip

        answers = [
            post(platform.project, JOBS, {"job_name": "spy", "config": config})
            for config in (theirs, nowhere, mine | {"data_url": "/bucket-other/code/"})
        ]

        for reply in answers:
            message = refusals.v1(reply, 400, "ModelArts.2791")
            assert "this project has no bucket" in message

    def test_results_cannot_go_into_the_bucket_of_another_project(
        self, platform: Platform, other: Project
    ) -> None:
        platform.code(other)
        before = job_count(platform.project)
        for name in ("train_url", "log_url"):
            config = platform.code() | {name: "/bucket-other/results/"}

            reply = post(platform.project, JOBS, {"job_name": "spy", "config": config})

            assert "no such bucket" in refusals.v1(reply, 400, "ModelArts.2791")
        assert job_count(platform.project) == before

    def test_unknown_fields_are_ignored_and_numbers_may_be_text(self, platform: Platform) -> None:
        config = platform.code() | {"worker_server_num": "1", "spec_id": "2", "colour": {"a": [1]}}
        body = {"job_name": "lenient", "config": config, "nonsense": [1], "job_id": 5}

        assert post(platform.project, JOBS, body).status_code == 200

    def test_without_an_engine_the_first_one_runs_it(self, platform: Platform) -> None:
        config = platform.code()
        del config["engine_id"]

        job = platform.project.post(JOBS, job_name="no-engine", config=config)

        assert platform.project.get(version_path(job))["engine_id"] == 1


@pytest.fixture(scope="module")
def shown_job(platform: Platform) -> dict[str, Any]:
    parameters = [
        {"label": "rate", "value": "0.10"}, {"label": "steps", "value": 5},
        {"label": "decay", "value": 0.5}, {"label": "verbose", "value": True},
        {"label": "empty", "value": ""}, {"label": "none", "value": None},
    ]  # fmt: skip
    job = platform.submit(
        "shown",
        description="to be looked at",
        parameter=parameters,
        pool_id=platform.project.pool("cards"),
        spec_id=platform.spec_ids["gpu.2"],
        train_url="/bucket-default/results/",
        log_url="obs://bucket-default/logs/",
        data_url="s3://bucket-default/code/",
    )
    platform.finish(job, after_ms=1_500)
    return job


class TestShow:
    DETAIL_ONLY = frozenset({"is_success", "job_id", "job_name", "job_desc", "spec_code"})
    LIST_ONLY = frozenset({"gpu"})
    VERSION_FIELDS = frozenset(
        {
            "version_id", "version_name", "pre_version_id", "engine_type", "engine_name",
            "engine_id", "engine_version", "status", "app_url", "boot_file_url", "create_time",
            "start_time", "duration", "parameter", "spec_id", "core", "cpu", "gpu_num", "gpu_type",
            "worker_server_num", "data_url", "train_url", "log_url", "dataset_id",
            "dataset_version_id", "dataset_name", "dataset_version_name", "data_source", "model_id",
            "model_metric_list", "system_metric_list", "user_image_url", "user_command",
            "resource_id", "volumes", "pool_id", "pool_name", "nas_mount_path", "nas_share_addr",
            "nas_type",
        }
    )  # fmt: skip
    OURS = frozenset({"npu_num", "flavor_code", "status_message"})

    def test_the_detail_has_exactly_the_documented_fields(
        self, project: Project, shown_job: dict[str, Any]
    ) -> None:
        shown = project.get(version_path(shown_job))

        assert set(shown) == self.VERSION_FIELDS | self.DETAIL_ONLY | self.OURS | {"waiting"}

    def test_the_detail_says_what_was_asked_for_and_what_came_of_it(
        self, project: Project, shown_job: dict[str, Any]
    ) -> None:
        shown = project.get(version_path(shown_job))

        expected = {
            "is_success": True,
            "job_id": shown_job["job_id"],
            "job_name": "shown",
            "job_desc": "to be looked at",
            "version_id": shown_job["version_id"],
            "version_name": "V0001",
            "pre_version_id": None,
            "engine_type": 100,
            "engine_name": "Python",
            "engine_id": 1,
            "status": 10,
            "app_url": "/bucket-default/code/",
            "boot_file_url": "/bucket-default/code/main.py",
            "create_time": shown_job["create_time"],
            "start_time": shown_job["create_time"],
            "duration": 1_500,
            "spec_code": "gpu.2",
            "flavor_code": "gpu.2",
            "core": "2",
            "cpu": "8",
            "gpu_num": 2,
            "gpu_type": "T4",
            "npu_num": 0,
            "worker_server_num": 1,
            "data_url": "s3://bucket-default/code/",
            "train_url": "/bucket-default/results/",
            "log_url": "obs://bucket-default/logs/",
            "data_source": [],
            "dataset_id": None,
            "model_id": None,
            "model_metric_list": "",
            "system_metric_list": {},
            "user_image_url": None,
            "user_command": None,
            "volumes": [],
            "resource_id": shown_job["resource_id"],
            "pool_id": project.pool("cards"),
            "pool_name": "cards",
            "nas_type": None,
        }
        assert {name: shown[name] for name in expected} == expected

    def test_parameters_are_echoed_as_they_were_given(
        self, project: Project, shown_job: dict[str, Any]
    ) -> None:
        values = {p["label"]: p["value"] for p in project.get(version_path(shown_job))["parameter"]}

        assert values == {
            "rate": "0.10", "steps": 5, "decay": 0.5, "verbose": True, "empty": "", "none": None,
        }  # fmt: skip
        assert values["verbose"] is True

    def test_the_list_has_exactly_the_documented_fields(
        self, project: Project, shown_job: dict[str, Any]
    ) -> None:
        listed = project.get(path_of(shown_job, "versions"))

        assert set(listed) == {
            "is_success", "job_id", "job_name", "job_desc", "version_count", "versions",
        }  # fmt: skip
        [version] = listed["versions"]
        assert set(version) == self.VERSION_FIELDS | self.LIST_ONLY | self.OURS
        assert version["gpu"] is True
        assert version["system_metric_list"] == "{}"
        detail = project.get(version_path(shown_job))
        for name in self.VERSION_FIELDS - {"system_metric_list"}:
            assert version[name] == detail[name]

    def test_metric_texts_of_the_list_are_json(
        self, project: Project, shown_job: dict[str, Any]
    ) -> None:
        [version] = project.get(path_of(shown_job, "versions"))["versions"]

        assert version["model_metric_list"] == ""
        assert version["system_metric_list"] == "{}"

    @pytest.mark.parametrize("unknown", ["0", "999999", "9" * 18, "9" * 30, "shown", "-1", "1.0",
                                         "%20", "1%2F2", "%00", "٣", "%FF"])  # fmt: skip
    def test_an_unknown_job_or_version_is_not_found(
        self, project: Project, shown_job: dict[str, Any], unknown: str
    ) -> None:
        own = str(shown_job["job_id"])
        for method, path in (
            ("GET", f"{JOBS}/{unknown}/versions"),
            ("GET", f"{JOBS}/{unknown}/versions/{shown_job['version_id']}"),
            ("GET", f"{JOBS}/{own}/versions/{unknown}"),
            ("DELETE", f"{JOBS}/{unknown}"),
            ("DELETE", f"{JOBS}/{own}/versions/{unknown}"),
            ("POST", f"{JOBS}/{own}/versions/{unknown}/stop"),
            ("GET", f"{JOBS}/{own}/versions/{unknown}/log/file-names"),
            ("GET", f"{JOBS}/{own}/versions/{unknown}/aom-log?log_file=x"),
        ):
            reply = project.http.request(method, f"{project.v1}{path}")
            refusals.v1(reply, 404, "ModelArts.2775")

    def test_a_version_of_another_job_is_not_found(
        self, platform: Platform, project: Project, shown_job: dict[str, Any]
    ) -> None:
        strange = platform.submit("strange")

        reply = project.http.get(
            f"{project.v1}{path_of(shown_job, 'versions')}/{strange['version_id']}"
        )

        refusals.v1(reply, 404, "ModelArts.2775")


class TestDescribe:
    def test_the_description_changes_everywhere(self, platform: Platform) -> None:
        job = platform.submit("described", description="before")

        done = put(platform.project, path_of(job), {"job_desc": "after"})

        assert done.json() == {"is_success": True}
        assert platform.project.get(version_path(job))["job_desc"] == "after"
        assert platform.project.get(path_of(job, "versions"))["job_desc"] == "after"
        [row] = platform.project.get(JOBS, search_content="described")["jobs"]
        assert row["job_desc"] == "after"
        overview = platform.project.get(f"{JOBS}/versions", limit=1000)["versions"]
        assert [r["version_desc"] for r in overview if r["version_id"] == job["version_id"]] == [
            "after"
        ]

    def test_it_may_be_emptied(self, platform: Platform) -> None:
        job = platform.submit("emptied", description="before")

        assert put(platform.project, path_of(job), {"job_desc": ""}).status_code == 200
        assert platform.project.get(version_path(job))["job_desc"] == ""

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "job_desc is missing; it must be text."),
            ({"job_desc": None}, "job_desc is null; it must be text."),
            ({"job_desc": "x" * 257}, "job_desc has 257 characters; at most 256 are allowed."),
            ([], "The body is []; it must be an object."),
        ],
    )
    def test_anything_else_is_refused(self, platform: Platform, body: Any, says: str) -> None:
        job = platform.submit(f"refused-{uuid4().hex}")

        message = refusals.v1(put(platform.project, path_of(job), body), 400, "ModelArts.0104")

        assert message == says

    def test_an_unknown_job_is_not_found(self, project: Project) -> None:
        reply = put(project, f"{JOBS}/999999", {"job_desc": "x"})

        refusals.v1(reply, 404, "ModelArts.2775")


class TestVersions:
    def test_a_version_inherits_what_it_does_not_say(self, platform: Platform) -> None:
        job = platform.submit(
            "inherits", parameter=[{"label": "a", "value": "1"}], train_url="/bucket-default/out/"
        )
        platform.finish(job)

        body = platform.project.post(
            path_of(job, "versions"), config={"pre_version_id": job["version_id"], "parameter": []}
        )

        assert set(body) >= {
            "is_success", "job_id", "job_name", "status", "create_time", "version_id",
            "version_name",
        }  # fmt: skip
        assert (body["job_id"], body["job_name"]) == (job["job_id"], "inherits")
        assert (body["version_name"], body["status"]) == ("V0002", 1)
        shown = platform.project.get(version_path(body))
        assert shown["pre_version_id"] == job["version_id"]
        assert shown["train_url"] == "/bucket-default/out/"
        assert shown["parameter"] == []

    def test_without_a_base_the_latest_version_is_it(self, platform: Platform) -> None:
        job = platform.submit("latest")
        first = platform.project.post(path_of(job, "versions"), config={"log_url": "/logs/x/"})

        second = platform.project.post(path_of(job, "versions"), config={})

        shown = platform.project.get(version_path(second))
        assert (shown["pre_version_id"], shown["log_url"]) == (first["version_id"], "/logs/x/")

    def test_an_older_base_may_be_named(self, platform: Platform) -> None:
        job = platform.submit("older-base", data_url="/bucket-default/code/")
        platform.project.post(path_of(job, "versions"), config={"log_url": "/logs/x/"})

        third = platform.project.post(
            path_of(job, "versions"), config={"pre_version_id": str(job["version_id"])}
        )

        assert platform.project.get(version_path(third))["log_url"] is None

    def test_a_number_is_never_used_again(self, platform: Platform) -> None:
        job = platform.submit("numbers")
        second = platform.project.post(path_of(job, "versions"), config={})
        delete(platform.project, version_path(second))

        third = platform.project.post(path_of(job, "versions"), config={})

        assert third["version_name"] == "V0003"

    def test_a_shell_gets_its_first_version_from_a_whole_config(self, platform: Platform) -> None:
        job = platform.submit("shell-filled", create_version=False)
        nothing = post(platform.project, path_of(job, "versions"), {"config": {}})

        first = platform.project.post(path_of(job, "versions"), config=platform.code())

        refusals.v1(nothing, 400, "ModelArts.0104")
        assert first["version_name"] == "V0001"
        assert platform.project.get(version_path(first))["pre_version_id"] is None

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({}, 400, "0104"),
            ({"config": []}, 400, "0104"),
            ({"config": {"pre_version_id": 999_999}}, 404, "2775"),
            ({"config": {"pre_version_id": 10**30}}, 400, "0104"),
            ({"config": {"pre_version_id": "x"}}, 400, "0104"),
            ({"config": {}, "job_desc": "x" * 257}, 400, "0104"),
            ({"config": {"worker_server_num": 0}}, 400, "0104"),
        ],
    )
    def test_a_wrong_submission_leaves_no_version(
        self, platform: Platform, body: Any, status: int, code: str
    ) -> None:
        [job] = platform.project.get(JOBS, search_content="no-more")["jobs"] or [
            platform.submit("no-more")
        ]

        reply = post(platform.project, path_of(job, "versions"), body)

        refusals.v1(reply, status, f"ModelArts.{code}")
        assert platform.project.get(path_of(job, "versions"))["version_count"] == 1

    def test_they_are_listed_newest_first_and_by_page(self, platform: Platform) -> None:
        job = platform.submit("paged")
        for _ in range(11):
            platform.project.post(path_of(job, "versions"), config={})
        path = path_of(job, "versions")

        everything = platform.project.get(path)
        pages = [platform.project.get(path, page=page, per_page=5) for page in (1, 2, 3, 4)]

        numbers = [version["version_name"] for version in everything["versions"]]
        assert numbers == [f"V{number:04d}" for number in range(12, 0, -1)]
        assert everything["version_count"] == 12
        assert [len(page["versions"]) for page in pages] == [5, 5, 2, 0]
        assert len(platform.project.get(path, page=1)["versions"]) == 10
        assert len(platform.project.get(path, page=0, per_page=1)["versions"]) == 12
        assert delete(platform.project, path_of(job)).status_code == 200

    @pytest.mark.parametrize(
        "query", ["per_page=0", "per_page=1001", "page=-1", "page=65536", "page=x", "per_page="]
    )
    def test_a_page_out_of_range_is_refused(self, platform: Platform, query: str) -> None:
        reply = platform.project.http.get(f"{platform.project.v1}{JOBS}/1/versions?{query}")

        assert "it must be a whole number from " in refusals.v1(reply, 400, "ModelArts.0104")


class TestStop:
    def test_a_running_version_is_stopped(self, platform: Platform) -> None:
        job = platform.submit("stopped")
        platform.wait_for(job, 8)

        done = post(platform.project, version_path(job, "stop"), None)

        assert done.json() == {"is_success": True}
        platform.wait_for(job, 12)

    def test_a_bodyless_post_stops_too(self, platform: Platform) -> None:
        job = platform.submit("stopped-bodyless")
        platform.wait_for(job, 8)

        path = f"{platform.project.v1}{version_path(job, 'stop')}"
        done = platform.project.http.post(path, headers={"Content-Type": "application/json"})

        assert done.json() == {"is_success": True}
        platform.wait_for(job, 12)

    def test_a_queued_version_is_stopped_and_never_starts(self, platform: Platform) -> None:
        small: dict[str, Any] = {"worker_server_num": 2}
        small["pool_id"] = platform.project.pool("small")
        ahead = platform.submit("ahead", **small)
        platform.wait_for(ahead, 8)
        queued = platform.submit("queued", **small)
        platform.wait_for(queued, 7)

        assert post(platform.project, version_path(queued, "stop"), None).status_code == 200

        platform.wait_for(queued, 12)
        shown = platform.project.get(version_path(queued))
        assert (shown["start_time"], shown["duration"]) == (None, 0)
        platform.finish_all(ahead)

    def test_while_it_is_being_stopped_its_status_is_9(self, platform: Platform) -> None:
        platform.engine.ends_at_once = False
        job = platform.submit("stopping")
        platform.wait_for(job, 8)

        post(platform.project, version_path(job, "stop"), None)

        assert platform.status_of(job) == 9
        again = post(platform.project, version_path(job, "stop"), None)
        assert "is Terminating" in refusals.v1(again, 409, "ModelArts.2796")
        platform.engine.ends_at_once = True
        attempt = platform.attempt_of(job["version_id"])
        assert attempt is not None
        wait_until(lambda: platform.engine.is_ending(attempt))
        platform.call(platform.engine.finish, attempt, 0, 143)
        platform.wait_for(job, 12)

    def test_what_has_ended_cannot_be_stopped(self, platform: Platform) -> None:
        job = platform.submit("ended")
        platform.finish(job)

        reply = post(platform.project, version_path(job, "stop"), None)

        message = refusals.v1(reply, 409, "ModelArts.2796")
        assert "is Completed; only one that is" in message
        assert platform.status_of(job) == 10


class TestDelete:
    def test_a_deleted_job_is_gone_with_all_its_versions(self, platform: Platform) -> None:
        job = platform.submit("deleted")
        platform.project.post(path_of(job, "versions"), config={})
        before = job_count(platform.project)

        assert delete(platform.project, path_of(job)).json() == {"is_success": True}

        assert job_count(platform.project) == before - 1
        refusals.v1(delete(platform.project, path_of(job)), 404, "ModelArts.2775")
        reply = platform.project.http.get(f"{platform.project.v1}{version_path(job)}")
        refusals.v1(reply, 404, "ModelArts.2775")

    def test_a_live_one_is_stopped_first(self, platform: Platform) -> None:
        job = platform.submit("deleted-alive")
        platform.wait_for(job, 8)
        attempt = platform.attempt_of(job["version_id"])

        delete(platform.project, path_of(job))

        wait_until(lambda: attempt not in platform.engine.running())

    def test_the_job_stays_when_its_last_version_is_deleted(self, platform: Platform) -> None:
        job = platform.submit("kept")

        assert delete(platform.project, version_path(job)).json() == {"is_success": True}

        listed = platform.project.get(path_of(job, "versions"))
        assert (listed["version_count"], listed["versions"]) == (0, [])
        refusals.v1(delete(platform.project, version_path(job)), 404, "ModelArts.2775")

    def test_the_version_before_is_the_latest_then(self, platform: Platform) -> None:
        job = platform.submit("one-back")
        platform.finish(job)
        second = platform.project.post(path_of(job, "versions"), config={})

        delete(platform.project, version_path(second))

        [row] = platform.project.get(JOBS, search_content="one-back")["jobs"]
        assert (row["version_id"], row["status"]) == (job["version_id"], 10)

    def test_a_body_on_delete_is_ignored(self, platform: Platform) -> None:
        job = platform.submit("deleted-with-body")

        reply = platform.project.http.request(
            "DELETE", f"{platform.project.v1}{path_of(job)}", content=b"{not json"
        )

        assert reply.json() == {"is_success": True}


LINES = [f"line {number}\n".encode() for number in range(200)]


@pytest.fixture(scope="module")
def logged_job(platform: Platform) -> dict[str, Any]:
    job = platform.submit("logged", worker_server_num=2)
    platform.write_log(job, b"".join(LINES))
    return job


class TestLogs:
    def lines(
        self, project: Project, logged_job: dict[str, Any], /, **params: object
    ) -> dict[str, Any]:
        shown = project.get(version_path(logged_job, "aom-log"), log_file="logged.0", **params)
        assert set(shown) == {"is_success", "content", "lines", "start_line", "end_line"}
        assert isinstance(shown["lines"], int)
        assert isinstance(shown["start_line"], str)
        assert isinstance(shown["end_line"], str)
        return dict(shown)

    def text(self, first: int, last: int) -> str:
        return b"".join(LINES[first:last]).decode()

    def test_there_is_one_name_a_worker(self, project: Project, logged_job: dict[str, Any]) -> None:
        listed = project.get(version_path(logged_job, "log", "file-names"))

        assert listed == {"is_success": True, "log_file_list": ["logged.0", "logged.1"]}

    def test_the_newest_fifty_lines_come_first(
        self, project: Project, logged_job: dict[str, Any]
    ) -> None:
        shown = self.lines(project, logged_job)

        assert (shown["content"], shown["lines"]) == (self.text(150, 200), 50)

    def test_asc_goes_back_and_desc_goes_on(
        self, project: Project, logged_job: dict[str, Any]
    ) -> None:
        newest = self.lines(project, logged_job, lines=10)
        before = self.lines(
            project, logged_job, lines=10, base_line=newest["start_line"], order="asc"
        )
        again = self.lines(
            project, logged_job, lines=10, base_line=before["end_line"], order="desc"
        )

        assert newest["content"] == self.text(190, 200)
        assert before["content"] == self.text(180, 190)
        assert again["content"] == newest["content"]

    def test_a_whole_log_can_be_followed_from_its_beginning(
        self, project: Project, logged_job: dict[str, Any]
    ) -> None:
        cursor, content = "0", ""
        while (shown := self.lines(project, logged_job, lines=7, base_line=cursor))["lines"]:
            content += shown["content"]
            cursor = shown["end_line"]

        assert content == self.text(0, 200)

    def test_blanks_around_a_cursor_are_trimmed(
        self, project: Project, logged_job: dict[str, Any]
    ) -> None:
        assert self.lines(project, logged_job, base_line=" 0 ", lines=1)["content"] == "line 0\n"

    @pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, 1), (200, 200), (500, 200)])
    def test_lines_may_be_0_to_500(
        self, project: Project, logged_job: dict[str, Any], count: int, shown: int
    ) -> None:
        assert self.lines(project, logged_job, lines=count)["lines"] == shown

    @pytest.mark.parametrize(
        ("query", "code", "says"),
        [
            ("", "0104", "log_file is missing; it must be text."),
            ("log_file=", "2820", "log_file is ''; this version has logged.0, logged.1"),
            ("log_file=logged.2", "2820", "log_file is 'logged.2'"),
            ("log_file=../../secret.key", "2820", "log_file is "),
            ("log_file=logged.0%00", "2820", "log_file is "),
            ("log_file=logged.1", "2818", "is not there yet"),
            ("log_file=logged.0&lines=501", "0104", 'lines is "501"'),
            ("log_file=logged.0&lines=-1", "0104", 'lines is "-1"'),
            ("log_file=logged.0&lines=", "0104", "a whole number from 0 to 500"),
            ("log_file=logged.0&order=up", "0104", "'asc' or 'desc'"),
            ("log_file=logged.0&base_line=x", "0104", "base_line is 'x'"),
            ("log_file=logged.0&base_line=-1", "0104", "base_line is '-1'"),
            ("log_file=logged.0&base_line=" + "9" * 99, "0104", "base_line is "),
        ],
    )
    def test_anything_else_is_refused(
        self, project: Project, logged_job: dict[str, Any], query: str, code: str, says: str
    ) -> None:
        reply = project.http.get(f"{project.v1}{version_path(logged_job, 'aom-log')}?{query}")

        assert says in refusals.v1(reply, 400, f"ModelArts.{code}")

    def test_a_cursor_beyond_the_end_is_the_end(
        self, project: Project, logged_job: dict[str, Any]
    ) -> None:
        shown = self.lines(project, logged_job, base_line="9" * 18)

        assert (shown["content"], shown["lines"]) == ("", 0)

    def test_bytes_come_back_as_they_were_written(self, platform: Platform) -> None:
        job = platform.submit("bytes")
        content = bytes(range(256)) * 10 + b"\rprogress\r100 %\n\xff\xfe no newline"
        platform.write_log(job, content)
        path = f"{platform.project.v1}{version_path(job, 'log', 'files', 'bytes.0')}"

        whole = platform.project.http.get(path)
        rest = platform.project.http.get(path, params={"offset": 2_560})
        nothing = platform.project.http.get(path, params={"offset": 10**9})

        assert whole.headers["content-type"] == "application/octet-stream"
        assert whole.content == content
        assert rest.content == content[2_560:]
        assert nothing.content == b""

    def test_carriage_returns_end_no_line_in_either_direction(self, platform: Platform) -> None:
        job = platform.submit("progress")
        platform.write_log(job, b"10 %\r50 %\r100 %\ndone\n")
        path = version_path(job, "aom-log")

        back = platform.project.get(path, log_file="progress.0", lines=2)
        on = platform.project.get(path, log_file="progress.0", lines=2, base_line="0")

        assert back["content"] == on["content"] == "10 %\r50 %\r100 %\ndone\n"
        assert back["lines"] == on["lines"] == 2

    def test_the_bytes_of_another_name_are_refused(
        self, project: Project, logged_job: dict[str, Any]
    ) -> None:
        for name in ("logged.9", "..%2F..%2Fsecret.key", "logged.0%00"):
            path = f"{project.v1}{version_path(logged_job, 'log', 'files', name)}"
            refusals.v1(project.http.get(path), 400, "ModelArts.2820")


def test_another_projects_jobs_are_answered_like_unknown_ones(
    platform: Platform, other: Project
) -> None:
    job = platform.submit("hidden")
    unknown = {"job_id": 999_999, "version_id": 999_999}

    def ask(thing: dict[str, Any]) -> list[str]:
        shown = []
        for method, path, body in (
            ("GET", version_path(thing), None),
            ("GET", path_of(thing, "versions"), None),
            ("POST", path_of(thing, "versions"), {"config": {}}),
            ("PUT", path_of(thing), {"job_desc": "mine"}),
            ("DELETE", path_of(thing), None),
            ("DELETE", version_path(thing), None),
            ("POST", version_path(thing, "stop"), None),
            ("GET", version_path(thing, "log", "file-names"), None),
            ("GET", version_path(thing, "aom-log") + "?log_file=hidden.0", None),
            ("GET", version_path(thing, "log", "files", "hidden.0"), None),
        ):
            reply = other.http.request(method, f"{other.v1}{path}", json=body)
            message = refusals.v1(reply, 404, "ModelArts.2775")
            for name, id_ in thing.items():
                message = message.replace(f"{name} is {id_};", f"{name} is ID;")
            shown.append(message.replace(f"job {thing['job_id']} ", "job ID "))
        return shown

    assert ask(job) == ask(unknown)
    assert "hidden" not in [row["job_name"] for row in other.get(JOBS, per_page=1000)["jobs"]]
    assert platform.status_of(job) in (1, 7, 8)


def test_a_version_of_anothers_job_is_no_base(platform: Platform, other: Project) -> None:
    theirs = platform.submit("their-base")
    mine = platform.submit("my-job", project=other)

    reply = post(other, path_of(mine, "versions"),
                 {"config": {"pre_version_id": theirs["version_id"]}})  # fmt: skip

    refusals.v1(reply, 404, "ModelArts.2775")


def test_names_are_free_in_another_project(platform: Platform, other: Project) -> None:
    platform.submit("same-name")

    assert platform.submit("same-name", project=other)["job_name"] == "same-name"
