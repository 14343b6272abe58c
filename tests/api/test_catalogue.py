"""Flavors, AI engines, built-in algorithms and job configurations over HTTP."""

from typing import Any

import pytest

from tests.api import refusals
from tests.api.platform import Platform, Project

SPECS, ENGINES, ALGORITHMS = "/job/resource-specs", "/job/ai-engines", "/built-in-algorithms"
CONFIGS = "/training-job-configs"


class TestSpecs:
    def test_the_answer_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = project.get(SPECS)

        assert set(body) == {"is_success", "spec_total_count", "specs"}
        assert body["spec_total_count"] == len(body["specs"])
        two_gpus = next(spec for spec in body["specs"] if spec["spec_code"] == "gpu.2")
        assert two_gpus == {
            "spec_id": two_gpus["spec_id"],
            "core": "2",
            "cpu": "8",
            "gpu_num": 2,
            "gpu_type": "T4",
            "npu_num": 0,
            "spec_code": "gpu.2",
            "max_num": 1,
            "unit_num": 1,
            "storage": "",
            "interface_type": 1,
            "no_resource": False,
        }

    def test_the_smallest_cpu_flavors_are_always_there(self, project: Project) -> None:
        by_code = {spec["spec_code"]: spec for spec in project.get(SPECS)["specs"]}

        two = by_code["modelarts.vm.cpu.2u"]
        assert (two["core"], two["cpu"], two["gpu_num"], two["gpu_type"]) == ("2", "8", 0, "")
        assert by_code["modelarts.vm.cpu.1u"]["core"] == "1"
        assert all(isinstance(spec["spec_id"], int) for spec in by_code.values())

    @pytest.mark.parametrize(
        "query",
        ["job_type=train", "job_type=inference", "engine_id=0", "engine_id=1", "project_type=7"],
    )
    def test_documented_parameters_are_taken(self, project: Project, query: str) -> None:
        assert project.get(f"{SPECS}?{query}") == project.get(SPECS)

    @pytest.mark.parametrize(
        ("query", "code"),
        [("job_type=x", "0104"), ("engine_id=x", "0104"), ("engine_id=999", "2780"),
         ("engine_id=-1", "2780"), ("project_type=x", "0104"), ("engine_id=1" + "0" * 30, "2780")],
    )  # fmt: skip
    def test_others_are_refused(self, project: Project, query: str, code: str) -> None:
        reply = project.http.get(f"{project.v1}{SPECS}?{query}")

        refusals.v1(reply, 400, f"ModelArts.{code}")


class TestEngines:
    def test_the_answer_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = project.get(ENGINES, job_type="train")

        assert set(body) == {"is_success", "engines"}
        [engine] = body["engines"]
        assert set(engine) == {"engine_type", "engine_id", "engine_name", "engine_version"}
        assert (engine["engine_id"], engine["engine_name"]) == (1, "Python")
        assert engine["engine_type"] >= 100

    def test_another_job_type_is_refused(self, project: Project) -> None:
        reply = project.http.get(f"{project.v1}{ENGINES}?job_type=x")

        assert "'inference' or 'train'" in refusals.v1(reply, 400, "ModelArts.0104")


class TestAlgorithms:
    def test_there_are_none_and_the_answer_says_so(self, project: Project) -> None:
        assert project.get(ALGORITHMS) == {
            "is_success": True, "model_total_count": 0, "models": [],
        }  # fmt: skip

    @pytest.mark.parametrize("key", ["engine", "model_name", "model_precision", "model_usage",
                                     "model_size", "create_time", "parameter"])  # fmt: skip
    def test_every_documented_parameter_is_taken(self, project: Project, key: str) -> None:
        for spelling in ("sortBy", "sort_by"):
            project.get(ALGORITHMS, per_page=100, page=1, order="asc", search_content="x",
                        **{spelling: key})  # fmt: skip

    @pytest.mark.parametrize(
        "query", ["per_page=0", "per_page=101", "page=0", "order=x", "sortBy=size"]
    )
    def test_others_are_refused(self, project: Project, query: str) -> None:
        reply = project.http.get(f"{project.v1}{ALGORITHMS}?{query}")

        refusals.v1(reply, 400, "ModelArts.0104")


@pytest.fixture(scope="module")
def configs(platform: Platform) -> list[str]:
    """The names of three configurations, oldest first."""
    names = ["kept-b", "kept-a", "Kept_c"]
    for index, name in enumerate(names):
        platform.clock.now_ms += 1_000
        platform.project.post(
            CONFIGS,
            config_name=name,
            config_desc="zyx"[index],
            **platform.code(),
            parameter=[{"label": "rate", "value": "0.1"}],
            train_url="/bucket-default/out/",
            pool_id=platform.project.pool("cards"),
            volumes=[{"nfs": {"id": "1", "src_path": "/a", "dest_path": "/b"}}],
        )
    return names


class TestConfigs:
    def test_creating_answers_success_only(self, project: Project) -> None:
        reply = project.http.post(f"{project.v1}{CONFIGS}", json={"config_name": "bare"})

        assert reply.json() == {"is_success": True}
        assert project.get(f"{CONFIGS}/bare")["parameter"] == []
        assert project.http.delete(f"{project.v1}{CONFIGS}/bare").json() == {"is_success": True}

    def test_the_detail_has_exactly_the_documented_fields(
        self, platform: Platform, project: Project, configs: list[str]
    ) -> None:
        shown = project.get(f"{CONFIGS}/{configs[0]}")

        assert shown == {
            "is_success": True,
            "config_name": "kept-b",
            "config_desc": "z",
            "worker_server_num": 1,
            "app_url": "/bucket-default/code/",
            "boot_file_url": "/bucket-default/code/main.py",
            "model_id": None,
            "parameter": [{"label": "rate", "value": "0.1"}],
            "spec_id": platform.spec_ids["modelarts.vm.cpu.1u"],
            "data_url": None,
            "dataset_id": None,
            "dataset_version_id": None,
            "data_source": [],
            "engine_type": 100,
            "engine_name": "Python",
            "engine_id": 1,
            "engine_version": shown["engine_version"],
            "train_url": "/bucket-default/out/",
            "log_url": None,
            "user_image_url": None,
            "user_command": None,
            "spec_code": "modelarts.vm.cpu.1u",
            "gpu_type": "",
            "create_time": shown["create_time"],
            "cpu": "4",
            "gpu_num": 0,
            "core": "1",
            "dataset_name": None,
            "dataset_version_name": None,
            "pool_id": project.pool("cards"),
            "pool_name": "cards",
            "volumes": [{"nfs": {"id": "1", "src_path": "/a", "dest_path": "/b"}}],
            "nas_mount_path": None,
            "nas_share_addr": None,
            "nas_type": None,
        }

    @pytest.mark.usefixtures("configs")
    def test_the_list_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = project.get(CONFIGS, search_content="kept-a")

        assert set(body) == {"is_success", "config_total_count", "configs"}
        assert body["config_total_count"] == 1
        assert set(body["configs"][0]) == {
            "config_name", "config_desc", "create_time", "engine_type", "engine_name", "engine_id",
            "engine_version", "user_image_url", "user_command",
        }  # fmt: skip

    @pytest.mark.usefixtures("configs")
    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ({}, ["kept-b", "kept-a", "Kept_c"]),  # by name, descending
            ({"order": "asc"}, ["Kept_c", "kept-a", "kept-b"]),
            ({"sortBy": "config_desc", "order": "asc"}, ["Kept_c", "kept-a", "kept-b"]),
            ({"sort_by": "create_time"}, ["Kept_c", "kept-a", "kept-b"]),
            ({"sortBy": "create_time", "sort_by": "config_name"}, ["Kept_c", "kept-a", "kept-b"]),
            ({"per_page": "1", "page": "2"}, ["kept-a"]),
            ({"page": "2"}, []),
            ({"search_content": "KEPT"}, ["kept-b", "kept-a", "Kept_c"]),
            ({"search_content": "_"}, ["Kept_c"]),
            ({"config_type": "sample"}, []),
            ({"config_type": "custom"}, ["kept-b", "kept-a", "Kept_c"]),
        ],
    )
    def test_the_list_is_sorted_searched_and_paged(
        self, project: Project, params: dict[str, str], expected: list[str]
    ) -> None:
        body = project.get(CONFIGS, **params)

        assert [row["config_name"] for row in body["configs"]] == expected

    @pytest.mark.parametrize(
        "query", ["per_page=0", "per_page=1001", "page=0", "page=65536", "order=x", "sortBy=size",
                  "config_type=x", "search_content=" + "x" * 101],
    )  # fmt: skip
    def test_a_query_out_of_range_is_refused(self, project: Project, query: str) -> None:
        refusals.v1(project.http.get(f"{project.v1}{CONFIGS}?{query}"), 400, "ModelArts.0104")

    def test_an_update_replaces_what_it_names_and_keeps_the_rest(
        self, platform: Platform, project: Project
    ) -> None:
        project.post(CONFIGS, config_name="updated", config_desc="old", **platform.code())
        path = f"{CONFIGS}/updated"

        done = project.http.put(
            f"{project.v1}{path}", json={"worker_server_num": 2, "log_url": "/bucket-default/l/"}
        )

        assert done.json() == {"is_success": True}
        shown = project.get(path)
        assert (shown["worker_server_num"], shown["log_url"]) == (2, "/bucket-default/l/")
        assert (shown["config_desc"], shown["app_url"]) == ("old", "/bucket-default/code/")
        project.http.delete(f"{project.v1}{path}")

    def test_a_taken_name_is_refused(self, project: Project, configs: list[str]) -> None:
        reply = project.http.post(f"{project.v1}{CONFIGS}", json={"config_name": configs[0]})

        assert "'kept-b'" in refusals.v1(reply, 400, "ModelArts.0103")

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "config_name is missing; it must be text."),
            ({"config_name": ""}, "config_name is ''; it must be 1 to 64"),
            ({"config_name": "a b"}, "config_name is 'a b'"),
            ({"config_name": "x" * 65}, "1 to 64 letters"),
            ({"config_name": 5}, "config_name is 5; it must be text."),
            ({"config_name": "n", "config_desc": "x" * 257}, "config_desc has 257 characters"),
            ({"config_name": "n", "spec_id": 10**30}, "spec_id is 1000"),
            ({"config_name": "n", "parameter": [{"label": "a", "value": {}}]}, "value is {}"),
            ([], "The body is []; it must be an object."),
        ],
    )
    def test_a_wrong_body_is_refused(self, project: Project, body: Any, says: str) -> None:
        reply = project.http.post(f"{project.v1}{CONFIGS}", json=body)

        assert says in refusals.v1(reply, 400, "ModelArts.0104")

    @pytest.mark.parametrize("name", ["nothing", "1", "a%2Fb", "%00", "%FF", "..", "%2e%2e"])
    def test_an_unknown_one_is_not_found(self, project: Project, name: str) -> None:
        path = f"{project.v1}{CONFIGS}/{name}"
        for method, body in (("GET", None), ("PUT", {"config_desc": "x"}), ("DELETE", None)):
            reply = project.http.request(method, path, json=body)
            if name == "..":  # the client itself takes it for a step up
                assert reply.status_code in (404, 405)
            else:
                refusals.v1(reply, 404, "ModelArts.2775")

    def test_samples_there_are_none(self, project: Project, configs: list[str]) -> None:
        reply = project.http.get(f"{project.v1}{CONFIGS}/{configs[0]}?config_type=sample")

        refusals.v1(reply, 404, "ModelArts.2775")

    def test_another_project_sees_none_of_them(self, other: Project, configs: list[str]) -> None:
        path = f"{other.v1}{CONFIGS}/{configs[0]}"

        assert other.get(CONFIGS)["config_total_count"] == 0
        refusals.v1(other.http.get(path), 404, "ModelArts.2775")
        refusals.v1(other.http.delete(path), 404, "ModelArts.2775")
        refusals.v1(other.http.put(path, json={"config_desc": "x"}), 404, "ModelArts.2775")
