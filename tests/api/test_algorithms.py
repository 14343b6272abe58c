"""The v2 algorithm API, and the jobs that are made from an algorithm."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from muster.domain.permission import Role
from tests.api import refusals
from tests.api.people import AddPerson, add_workspace, people_of, set_role
from tests.api.platform import Platform, Project

UNKNOWN_ID = "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"
OBS = {"obs": {"obs_url": "/bucket-default/place/"}}


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


@pytest.fixture(scope="module")
def listed(platform: Platform) -> list[str]:
    """The names of four algorithms, oldest first."""
    made = [f"listed-{number}" for number in range(4)]
    for name in made:
        platform.clock.now_ms += 1
        create(platform, name)
    return made


def body_for(platform: Platform, name: str, **config: Any) -> dict[str, Any]:
    """Of an algorithm that runs the usual code."""
    code = platform.code()
    return {
        "metadata": {"name": name, "description": "words", "workspace_id": "0"},
        "job_config": {
            "code_dir": code["app_url"],
            "boot_file": code["boot_file_url"],
            "engine": {"engine_id": engine_id(platform.project)},
        }
        | config,
    }


def engine_id(project: Project) -> str:
    reply = project.http.get(f"{project.v2}/training-job-engines")
    return str(reply.json()["items"][0]["engine_id"])


def post(project: Project, body: object) -> httpx.Response:
    return project.http.post(f"{project.v2}/algorithms", json=body)


def create(
    platform: Platform, name: str, *, requirements: object = None, **config: Any
) -> dict[str, Any]:
    body = body_for(platform, name, **config) | {"resource_requirements": requirements}
    reply = post(platform.project, body)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def path_of(project: Project, algorithm: dict[str, Any] | str) -> str:
    algorithm_id = algorithm if isinstance(algorithm, str) else algorithm["metadata"]["id"]
    return f"{project.v2}/algorithms/{algorithm_id}"


def show(project: Project, algorithm: dict[str, Any]) -> dict[str, Any]:
    reply = project.http.get(path_of(project, algorithm))
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def put(project: Project, algorithm: dict[str, Any], **body: object) -> httpx.Response:
    return project.http.put(path_of(project, algorithm), json=body)


def list_(project: Project, **query: object) -> dict[str, Any]:
    reply = project.http.get(f"{project.v2}/algorithms", params=query)  # type: ignore[arg-type]
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def names(found: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


def post_job(
    project: Project, algorithm: dict[str, Any] | str, *, name: str, **more: Any
) -> httpx.Response:
    algorithm_id = algorithm if isinstance(algorithm, str) else algorithm["metadata"]["id"]
    resource = {"flavor_id": "modelarts.vm.cpu.1u", "node_count": 1} | more.pop("resource", {})
    body = {
        "metadata": {"name": name},
        "algorithm": {"id": algorithm_id} | more,
        "spec": {"resource": resource},
    }
    return project.http.post(f"{project.v2}/training-jobs", json=body)


def run(project: Project, algorithm: dict[str, Any], *, name: str, **more: Any) -> dict[str, Any]:
    reply = post_job(project, algorithm, name=name, **more)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def parameter(name: str, value: object = None, **constraint: object) -> dict[str, Any]:
    return {"name": name, "value": value, "constraint": constraint}


class TestOne:
    def test_what_is_made_is_shown_with_its_code(
        self, platform: Platform, project: Project
    ) -> None:
        project.http.put("/objects/bucket-default/treecode/main.py", content=b"pass\n")
        project.http.put("/objects/bucket-default/treecode/lib/deep/a.py", content=b"a = 1\n")
        made = create(
            platform,
            "made",
            code_dir="/bucket-default/treecode/",
            boot_file="/bucket-default/treecode/main.py",
            parameters=[
                {
                    "name": "rate", "value": 0.5, "description": "how fast",
                    "constraint": {"type": "Float", "valid_type": "Range",
                                   "valid_range": ["0", "1"]},
                    "i18n_description": {"language": "zh", "description": "速率"},
                },
            ],
            inputs=[{"name": "data", "description": "digits", "remote_constraints": [
                {"data_type": "obs", "attributes": [{"isFree": "true"}]},
            ]}],
            outputs=[{"name": "model"}],
            parameters_customization=True,
            requirements=[{"key": "flavor_type", "value": ["CPU", "GPU"], "operator": "in"}],
        )  # fmt: skip

        shown = show(project, made)

        assert shown == made
        metadata, config = shown["metadata"], shown["job_config"]
        assert str(uuid.UUID(metadata["id"])) == metadata["id"]
        assert metadata["name"] == "made"
        assert metadata["description"] == "words"
        assert metadata["workspace_id"] == "0"
        assert metadata["ai_project"] == "default-ai-project"
        assert metadata["user_name"] == project.user
        assert metadata["domain_id"]
        assert metadata["is_valid"] is True
        assert metadata["size"] == 11
        assert metadata["create_time"] == metadata["update_time"] == platform.clock.now_ms
        assert config["engine"]["engine_id"] == engine_id(project)
        assert config["engine"]["engine_name"]
        assert config["parameters"] == [
            {
                "name": "rate", "value": "0.5", "description": "how fast",
                "constraint": {"type": "Float", "editable": True, "required": False,
                               "sensitive": False, "valid_type": "Range",
                               "valid_range": ["0", "1"]},
                "i18n_description": {"language": "zh", "description": "速率"},
            },
        ]  # fmt: skip
        assert config["inputs"][0]["remote_constraints"] == [
            {"data_type": "obs", "attributes": [{"isFree": "true"}]}
        ]
        assert config["outputs"] == [{"name": "model", "description": ""}]
        assert config["code_tree"] == {
            "name": "treecode",
            "children": [
                {"name": "lib", "children": [
                    {"name": "deep", "children": [{"name": "a.py", "children": []}]},
                ]},
                {"name": "main.py", "children": []},
            ],
        }  # fmt: skip
        assert shown["resource_requirements"] == [
            {"key": "flavor_type", "value": ["CPU", "GPU"], "values": ["CPU", "GPU"],
             "operator": "in"},
        ]  # fmt: skip
        assert shown["advanced_config"] == {"auto_search": None}

    def test_how_to_search_is_kept(self, platform: Platform, project: Project) -> None:
        search = {
            "skip_search_params": "",
            "reward_attrs": [{"name": "acc", "mode": "max", "regex": "acc=(.*)"}],
            "search_params": [{"name": "rate", "param_type": "discrete",
                               "discrete_values": ["1", "2"]}],
            "algo_configs": [{"name": "anneal", "params": [{"key": "k", "value": "v"}]}],
        }  # fmt: skip
        body = body_for(platform, "searches") | {"advanced_config": {"auto_search": search}}

        made = post(project, body).json()

        kept = show(project, made)["advanced_config"]["auto_search"]
        assert kept["reward_attrs"] == search["reward_attrs"]
        assert kept["search_params"][0]["discrete_values"] == "1,2"
        assert kept["algo_configs"][0]["params"] == [{"key": "k", "value": "v", "type": None}]

    def test_an_image_needs_no_code(self, platform: Platform, project: Project) -> None:
        config = {"command": "python x.py", "engine": {"image_url": "a/b:c"}}
        body = {"metadata": {"name": "image"}, "job_config": config}

        made = post(project, body).json()

        assert made["job_config"]["command"] == "python x.py"
        assert made["job_config"]["engine"]["image_url"] == "a/b:c"
        assert made["job_config"]["code_tree"] is None
        assert made["metadata"]["is_valid"] is True
        assert made["metadata"]["size"] == 0

    def test_one_whose_code_is_gone_says_so(self, platform: Platform, project: Project) -> None:
        platform.code(name="leaving")
        made = create(
            platform,
            "leaving",
            code_dir="/bucket-default/leaving/",
            boot_file="/bucket-default/leaving/main.py",
        )

        project.http.delete("/objects/bucket-default/leaving/main.py")

        shown = show(project, made)
        assert shown["metadata"]["is_valid"] is False
        assert shown["job_config"]["code_tree"] is None
        [listed] = list_(project, searches="name:leaving")["items"]
        assert listed["metadata"]["is_valid"] is False
        refusals.modern(post_job(project, made, name="refused"), 400, "ModelArts.2758")

    @pytest.mark.parametrize(
        ("part", "fields", "code", "told"),
        [
            ("metadata", {"name": "a b"}, "2788", "metadata.name"),
            ("metadata", {"name": None}, "2788", "metadata.name"),
            ("metadata", {"name": "x" * 65}, "2788", "metadata.name"),
            ("metadata", {"name": "taken"}, "2752", "taken"),
            ("metadata", {"description": "x" * 257}, "2788", "metadata.description"),
            ("metadata", {"workspace_id": "7"}, "0102", "workspace_id"),
            ("metadata", {"ai_project": "mine"}, "2788", "metadata.ai_project"),
            ("job_config", {"code_dir": None}, "2788", "job_config.code_dir"),
            ("job_config", {"boot_file": ""}, "2788", "job_config.boot_file"),
            ("job_config", {"code_dir": "code"}, "2791", "job_config.code_dir"),
            ("job_config", {"code_dir": "/bucket-default/../x/"}, "2791", "job_config.code_dir"),
            ("job_config", {"code_dir": "/no-such-bucket/x/"}, "2791", "job_config.code_dir"),
            ("job_config", {"code_dir": "/bucket-default/no/"}, "2757", "job_config.code_dir"),
            ("job_config", {"boot_file": "/bucket-default/code/no.py"}, "2758",
             "job_config.boot_file"),
            ("job_config", {"boot_file": "/bucket-default/other.py"}, "2792",
             "job_config.boot_file"),
            ("job_config", {"engine": None}, "2780", "job_config.engine"),
            ("job_config", {"engine": {"engine_id": "abacus"}}, "2780", "abacus"),
            ("job_config", {"engine": {"image_url": "a/b:c"}}, "2806", "job_config.command"),
            ("job_config", {"command": "ls"}, "2806", "image_url"),
            ("job_config", {"parameters": [{"name": "a b"}]}, "2788",
             "job_config.parameters[0].name"),
            ("job_config", {"parameters": [{"name": "a"}, {"name": "a"}]}, "2825",
             "job_config.parameters[1].name"),
            ("job_config", {"parameters": [parameter("a", "x", type="Integer")]}, "2765",
             "whole number"),
            ("job_config", {"parameters": [parameter("a", "nan", type="Float")]}, "2765",
             "a number"),
            ("job_config", {"parameters": [parameter("a", "yes", type="Boolean")]}, "2765",
             "true or false"),
            ("job_config", {"parameters": [parameter("a", type="Tensor")]}, "2788",
             "constraint.type"),
            ("job_config", {"parameters": [parameter("a", valid_type="Maybe")]}, "2788",
             "constraint.valid_type"),
            ("job_config", {"parameters": [parameter("a", valid_type="Range",
                                                     valid_range=["1"])]}, "2788", "valid_range"),
            ("job_config", {"parameters": [parameter("a", "9", valid_type="Range",
                                                     valid_range=["1", "3"])]}, "2765",
             "from 1 to 3"),
            ("job_config", {"parameters": [parameter("a", "z", valid_type="Choice",
                                                     valid_range=["x", "y"])]}, "2765", "x, y"),
            ("job_config", {"parameters": [parameter("a", required=True, editable=False)]},
             "2765", "job_config.parameters[0].value"),
            ("job_config", {"inputs": [{"name": "../d"}]}, "2753", "job_config.inputs[0].name"),
            ("job_config", {"inputs": [{"name": "d"}], "outputs": [{"name": "d"}]}, "2753",
             "job_config.outputs[0].name"),
            ("job_config", {"outputs": [{}]}, "2788", "job_config.outputs[0].name"),
            ("resource_requirements", [{"key": "colour", "values": ["red"]}], "2788",
             "resource_requirements[0].key"),
            ("resource_requirements", [{"key": "flavor_type", "values": ["TPU"]}], "2788", "TPU"),
            ("resource_requirements", [{"key": "flavor_type", "values": []}], "2788", "values"),
            ("resource_requirements", [{"key": "flavor_type", "values": ["CPU"],
                                        "operator": "out"}], "2788", "operator"),
            ("resource_requirements", 2 * [{"key": "flavor_type", "values": ["CPU"]}], "2788",
             "twice"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused_by_its_name(
        self,
        platform: Platform,
        project: Project,
        part: str,
        fields: Any,
        code: str,
        told: str,
    ) -> None:
        if "taken" not in names(list_(project, searches="taken")):
            create(platform, "taken")
        body = body_for(platform, "refused")
        body[part] = body[part] | fields if isinstance(fields, dict) else fields

        message = refusals.modern(post(project, body), 400, f"ModelArts.{code}")

        assert told in message
        assert list_(project, searches="name:refused")["total"] == 0

    @pytest.mark.parametrize("missing", ["metadata", "job_config"])
    def test_both_halves_are_needed(
        self, platform: Platform, project: Project, missing: str
    ) -> None:
        body = body_for(platform, "half")
        del body[missing]

        assert missing in refusals.modern(post(project, body), 400, "ModelArts.2788")

    def test_a_body_must_be_json(self, project: Project) -> None:
        reply = project.http.post(f"{project.v2}/algorithms", content=b"{")

        refusals.modern(reply, 400, "ModelArts.2787")

    def test_the_code_of_another_project_is_not_there(
        self, platform: Platform, other: Project
    ) -> None:
        platform.code(other)
        body = body_for(
            platform,
            "theirs",
            code_dir="/bucket-other/code/",
            boot_file="/bucket-other/code/main.py",
        )

        message = refusals.modern(post(platform.project, body), 400, "ModelArts.2791")

        assert "no bucket 'bucket-other'" in message


class TestChange:
    def test_what_is_given_changes_and_the_rest_stays(
        self, platform: Platform, project: Project
    ) -> None:
        made = create(
            platform,
            "changing",
            parameters=[{"name": "a", "value": "1"}],
            requirements=[{"key": "flavor_type", "values": ["CPU"]}],
        )
        platform.clock.now_ms += 5

        reply = put(project, made, metadata={"name": "changed", "description": ""})

        assert reply.status_code == 201
        changed = reply.json()
        assert changed == show(project, made)
        assert changed["job_config"] == made["job_config"]
        assert changed["resource_requirements"] == made["resource_requirements"]
        metadata = made["metadata"] | {
            "name": "changed", "description": "",
            "update_time": made["metadata"]["create_time"] + 5,
        }  # fmt: skip
        assert changed["metadata"] == metadata

    def test_a_config_is_taken_as_a_whole(self, platform: Platform, project: Project) -> None:
        made = create(platform, "whole", parameters=[{"name": "a"}])
        config = body_for(platform, "x", outputs=[{"name": "o"}])["job_config"]

        changed = put(project, made, job_config=config, resource_requirements=[]).json()

        assert changed["job_config"]["parameters"] == []
        assert changed["job_config"]["outputs"] == [{"name": "o", "description": ""}]
        assert changed["resource_requirements"] == []

    @pytest.mark.parametrize(
        ("body", "code", "told"),
        [
            ({"metadata": {"name": "a b"}}, "2788", "metadata.name"),
            ({"metadata": {"name": "neighbour"}}, "2752", "neighbour"),
            ({"metadata": {"workspace_id": "7"}}, "2771", "workspace"),
            ({"job_config": {}}, "2780", "job_config.engine"),
            ({"resource_requirements": [{"key": "x", "values": []}]}, "2788", "key"),
        ],
    )
    def test_what_cannot_be_leaves_it_as_it_is(
        self, platform: Platform, project: Project, body: dict[str, Any], code: str, told: str
    ) -> None:
        for name in ("neighbour", "steady"):
            if not names(list_(project, searches=f"name:{name}")):
                create(platform, name)
        [steady] = list_(project, searches="name:steady")["items"]
        before = show(project, steady)

        message = refusals.modern(put(project, steady, **body), 400, f"ModelArts.{code}")

        assert told in message
        assert show(project, steady) == before

    def test_a_deleted_one_is_gone_and_its_name_free(
        self, platform: Platform, project: Project
    ) -> None:
        made = create(platform, "gone")

        reply = project.http.delete(path_of(project, made))

        assert (reply.status_code, reply.content) == (202, b"")
        for again in (
            project.http.get(path_of(project, made)),
            project.http.delete(path_of(project, made)),
            put(project, made, metadata={"name": "x"}),
            post_job(project, made, name="refused"),
        ):
            assert made["metadata"]["id"] in refusals.modern(again, 400, "ModelArts.2755")
        create(platform, "gone")

    @pytest.mark.parametrize("id_", [UNKNOWN_ID, "1", "no-such", "%20"])
    def test_what_is_not_there_is_unknown(self, project: Project, id_: str) -> None:
        refusals.modern(project.http.get(path_of(project, id_)), 400, "ModelArts.2755")

    def test_one_of_another_project_is_unknown(self, platform: Platform, other: Project) -> None:
        made = create(platform, "private")
        path = f"{other.v2}/algorithms/{made['metadata']['id']}"

        refusals.modern(other.http.get(path), 400, "ModelArts.2755")
        refusals.modern(other.http.delete(path), 400, "ModelArts.2755")
        refusals.modern(post_job(other, made, name="theirs"), 400, "ModelArts.2755")
        assert list_(other)["items"] == []


class TestList:
    def test_the_newest_comes_first(self, project: Project, listed: list[str]) -> None:
        found = list_(project, searches="name:LISTED-")

        assert names(found) == listed[::-1]
        told = {key: found[key] for key in found if key != "items"}
        assert told == {
            "total": 4, "count": 4, "limit": 50, "offset": 0, "sort_by": "create_time",
            "order": "desc", "group_by": "",
        }  # fmt: skip

    def test_an_offset_counts_rows(self, project: Project, listed: list[str]) -> None:
        page = list_(project, searches="name:listed-", order="asc", limit=2, offset=1)

        assert names(page) == listed[1:3]
        assert (page["total"], page["count"], page["limit"], page["offset"]) == (4, 2, 2, 1)
        assert names(list_(project, searches="listed-", offset=9)) == []

    def test_names_sort_and_creators_group(self, project: Project, listed: list[str]) -> None:
        query = {"searches": "name:listed-", "group_by": "user_name"}

        found = list_(project, sort_by="name", order="asc", **query)

        assert names(found) == listed
        assert (found["sort_by"], found["group_by"]) == ("name", "user_name")

    @pytest.mark.parametrize(
        ("query", "code", "told"),
        [
            ({"limit": 0}, "2764", "limit"),
            ({"limit": 51}, "2764", "limit"),
            ({"offset": -1}, "2764", "offset"),
            ({"order": "up"}, "2764", "order"),
            ({"sort_by": "size"}, "2790", "sort_by"),
            ({"group_by": "size"}, "2790", "group_by"),
            ({"searches": "size:9"}, "2807", "searches"),
            ({"workspace_id": "7"}, "0102", "workspace_id"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, project: Project, query: dict[str, Any], code: str, told: str
    ) -> None:
        reply = project.http.get(f"{project.v2}/algorithms", params=query)

        assert told in refusals.modern(reply, 400, f"ModelArts.{code}")


class TestJobs:
    def test_a_job_takes_what_the_algorithm_has(self, platform: Platform, project: Project) -> None:
        algorithm = create(
            platform,
            "whole-job",
            parameters=[
                parameter("rate", "0.1", type="Float"),
                parameter("epochs", "3", type="Integer", required=True),
                parameter("note"),
            ],
            outputs=[{"name": "model", "description": "learned"}],
        )

        job = run(
            project, algorithm, name="whole-job",
            parameters=[{"name": "more", "value": 1}, {"name": "epochs", "value": 5}],
            outputs=[{"name": "model", "remote": OBS}],
        )  # fmt: skip

        made = job["algorithm"]
        assert (made["id"], made["name"]) == (algorithm["metadata"]["id"], "whole-job")
        for name in ("code_dir", "boot_file"):
            assert made[name] == algorithm["job_config"][name]
        assert made["engine"] == algorithm["job_config"]["engine"]
        assert made["parameters"] == [
            {"name": "rate", "value": "0.1"},
            {"name": "epochs", "value": "5"},
            {"name": "more", "value": "1"},
        ]
        assert made["outputs"][0]["description"] == "learned"

    def test_a_job_outlives_its_algorithm(self, platform: Platform, project: Project) -> None:
        algorithm = create(platform, "mortal")
        job = run(project, algorithm, name="outlives")
        put(project, algorithm, metadata={"name": "renamed"})
        project.http.delete(path_of(project, algorithm))

        shown = project.http.get(f"{project.v2}/training-jobs/{job['metadata']['id']}").json()

        assert shown["algorithm"] == job["algorithm"]
        assert shown["algorithm"]["name"] == "mortal"

    def test_jobs_are_found_by_the_name_of_their_algorithm(
        self, platform: Platform, project: Project
    ) -> None:
        job = run(project, create(platform, "Sought-After"), name="found-by-it")
        run(project, create(platform, "another"), name="not-found")

        def found(operator: str, *values: str) -> list[str]:
            asked = {"key": "algorithm_name", "operator": operator, "value": values}
            reply = project.http.post(
                f"{project.v2}/training-job-searches", json={"filters": [asked]}
            )
            assert reply.status_code == 200, reply.text
            return names(reply.json())

        assert found("like", "sought") == [job["metadata"]["name"]]
        assert found("in", "Sought-After") == ["found-by-it"]
        assert found("in", "sought-after") == []
        assert "found-by-it" not in found("not", "Sought-After")
        assert "not-found" in found("not", "Sought-After")

    def test_v1_runs_it_again_as_it_was_and_other_code_is_no_algorithm(
        self, platform: Platform, project: Project
    ) -> None:
        job = run(project, create(platform, "again"), name="by-v1")
        versions = f"/training-jobs/{job['metadata']['job_id']}/versions"

        project.post(versions, config={})
        project.post(versions, config={"app_url": "/bucket-default/", "spec_id": 1})

        reply = project.http.post(
            f"{project.v2}/training-job-searches",
            json={"filters": [{"key": "name", "operator": "like", "value": ["by-v1-V"]}]},
        )
        third, second = reply.json()["items"]
        assert second["algorithm"] == job["algorithm"]
        assert (third["algorithm"]["id"], third["algorithm"]["name"]) == (None, None)

    @pytest.mark.parametrize(
        ("config", "given", "code", "told"),
        [
            ({"parameters": [parameter("a", required=True)]}, {}, "2765", "a is missing"),
            ({"parameters": [parameter("a", required=True)]},
             {"parameters": [{"name": "a", "value": ""}]}, "2765", "a is missing"),
            ({"parameters": [parameter("a", "1", editable=False)]},
             {"parameters": [{"name": "a", "value": "2"}]}, "2771", "a is '2'"),
            ({"parameters": [parameter("a", "1", type="Integer")]},
             {"parameters": [{"name": "a", "value": "x"}]}, "2765", "whole number"),
            ({"parameters": [parameter("a", "1", valid_type="Range", valid_range=["0", "2"])]},
             {"parameters": [{"name": "a", "value": 3}]}, "2765", "from 0 to 2"),
            ({"parameters": [parameter("a", "1")]},
             {"parameters": [{"name": "a", "value": 1}, {"name": "a", "value": 2}]}, "2825",
             "algorithm.parameters[1].name"),
            ({"parameters": [parameter("a", "1")], "parameters_customization": False},
             {"parameters": [{"name": "b", "value": 1}]}, "2814", "'b'"),
            ({"inputs": [{"name": "data"}]}, {}, "2814", "lacks 'data'"),
            ({"inputs": [{"name": "data"}]},
             {"inputs": [{"name": "data", "remote": OBS}, {"name": "more", "remote": OBS}]},
             "2814", "'more'"),
            ({"inputs": [{"name": "data", "remote_constraints": [{"data_type": "dataset"}]}]},
             {"inputs": [{"name": "data", "remote": OBS}]}, "2814", "dataset"),
            ({"outputs": [{"name": "model"}]}, {"outputs": [{"name": "x", "remote": OBS}]},
             "2814", "algorithm.outputs"),
            ({}, {"code_dir": "/bucket-default/else/"}, "2814", "algorithm.code_dir"),
            ({}, {"boot_file": "/bucket-default/else.py"}, "2814", "algorithm.boot_file"),
            ({}, {"command": "ls"}, "2814", "algorithm.command"),
            ({}, {"engine": {"engine_id": "abacus"}}, "2814", "algorithm.engine.engine_id"),
            ({}, {"subscription_id": "s"}, "2755", "algorithm.subscription_id"),
            ({}, {"item_version_id": "i"}, "2755", "algorithm.item_version_id"),
            ({}, {"policies": {"auto_search": {}}}, "2858", "algorithm.policies"),
        ],
    )  # fmt: skip
    def test_a_job_that_does_not_fit_is_refused(
        self,
        platform: Platform,
        project: Project,
        config: dict[str, Any],
        given: dict[str, Any],
        code: str,
        told: str,
    ) -> None:
        algorithm = create(platform, f"fits-{uuid.uuid4().hex}", **config)

        reply = post_job(project, algorithm, name="unfit", **given)

        assert told in refusals.modern(reply, 400, f"ModelArts.{code}")

    def test_a_fixed_value_may_be_said_again(self, platform: Platform, project: Project) -> None:
        algorithm = create(platform, "fixed", parameters=[parameter("a", "1", editable=False)])

        job = run(project, algorithm, name="same", parameters=[{"name": "a", "value": 1}])

        assert job["algorithm"]["parameters"] == [{"name": "a", "value": "1"}]

    @pytest.mark.parametrize(
        ("key", "value", "resource", "told"),
        [
            ("flavor_type", "GPU", {}, "spec.resource.flavor_id"),
            ("flavor_type", "CPU", {"flavor_id": "gpu.2", "pool_id": "cards"}, "runs on CPU only"),
            ("device_distributed_mode", "singular", {"flavor_id": "gpu.2", "pool_id": "cards"},
             "2 cards"),
            ("host_distributed_mode", "singular", {"node_count": 2}, "spec.resource.node_count"),
        ],
    )  # fmt: skip
    def test_the_wrong_machines_are_refused(
        self,
        platform: Platform,
        project: Project,
        key: str,
        value: str,
        resource: dict[str, Any],
        told: str,
    ) -> None:
        requirements = [{"key": key, "values": [value]}]
        algorithm = create(platform, f"on-{uuid.uuid4().hex}", requirements=requirements)
        if "pool_id" in resource:
            resource = resource | {"pool_id": project.pool(resource["pool_id"])}

        reply = post_job(project, algorithm, name="unfit", resource=resource)

        assert told in refusals.modern(reply, 400, "ModelArts.2814")

    def test_the_right_machines_will_do(self, platform: Platform, project: Project) -> None:
        requirements = [
            {"key": "flavor_type", "values": ["CPU", "GPU"]},
            {"key": "device_distributed_mode", "values": ["singular"]},
            {"key": "host_distributed_mode", "values": ["multiple"]},
        ]
        algorithm = create(platform, "right", requirements=requirements)

        job = run(project, algorithm, name="right", resource={"node_count": 2})

        assert job["algorithm"]["name"] == "right"

    @pytest.mark.parametrize("way", ["as it is", "without hyphens"])
    def test_the_id_is_taken_either_way(
        self, platform: Platform, project: Project, way: str
    ) -> None:
        algorithm = create(platform, f"either-{uuid.uuid4().hex}")
        shown_id = algorithm["metadata"]["id"]
        asked = shown_id if way == "as it is" else shown_id.replace("-", "").upper()

        reply = post_job(project, asked, name=f"either-{uuid.uuid4().hex}")

        assert reply.json()["algorithm"]["id"] == shown_id


class TestWorkspaces:
    def test_one_in_a_closed_workspace_is_not_there(
        self, platform: Platform, project: Project, add_person: AddPerson
    ) -> None:
        outsider = add_person("outsider", Role.DEVELOPER)
        workspace_id = add_workspace(project, "closed-one", auth_type="PRIVATE")
        body = body_for(platform, "secret")
        body["metadata"]["workspace_id"] = workspace_id
        made = post(project, body).json()

        for reply in (
            outsider.http.get(path_of(project, made)),
            outsider.http.delete(path_of(project, made)),
            outsider.http.post(
                f"{project.v2}/training-jobs",
                json={
                    "metadata": {"name": "sly"},
                    "algorithm": {"id": made["metadata"]["id"]},
                    "spec": {"resource": {"flavor_id": "modelarts.vm.cpu.1u"}},
                },
            ),
        ):
            refusals.modern(reply, 400, "ModelArts.2755")
        query = {"workspace_id": workspace_id}
        reply = outsider.http.get(f"{project.v2}/algorithms", params=query)
        refusals.modern(reply, 400, "ModelArts.0102")
        refusals.modern(outsider.http.post(f"{project.v2}/algorithms", json=body), 400,
                        "ModelArts.0102")  # fmt: skip

    def test_the_role_in_the_workspace_counts(
        self, platform: Platform, project: Project, add_person: AddPerson
    ) -> None:
        reader = add_person("reads-there", Role.DEVELOPER)
        workspace_id = add_workspace(project, "read-only")
        set_role(platform, reader, Role.READER, workspace="read-only")
        body = body_for(platform, "looked-at")
        body["metadata"]["workspace_id"] = workspace_id
        made = post(project, body).json()

        assert reader.http.get(path_of(project, made)).status_code == 200
        refusals.modern(reader.http.delete(path_of(project, made)), 403, "ModelArts.0108")

    def test_a_workspace_with_an_algorithm_is_not_deleted(
        self, platform: Platform, project: Project
    ) -> None:
        workspace_id = add_workspace(project, "with-one")
        body = body_for(platform, "inhabitant")
        body["metadata"]["workspace_id"] = workspace_id
        made = post(project, body).json()

        reply = project.http.delete(f"{project.v1}/workspaces/{workspace_id}")

        assert "1 algorithm(s)" in refusals.modern(reply, 400, "ModelArts.7004")
        project.http.delete(path_of(project, made))
        assert project.http.delete(f"{project.v1}/workspaces/{workspace_id}").status_code == 200
