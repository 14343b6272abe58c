"""The v2 experiment API, and the training jobs that stand in one."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from muster.domain.permission import Role
from muster.store.connection import Connection
from muster.store.recount import differences
from tests.api import refusals
from tests.api.people import AddPerson, add_workspace, people_of
from tests.api.platform import Platform, Project

UNKNOWN_ID = "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


@pytest.fixture(autouse=True)
def _counts_are_exact(platform: Platform) -> Iterator[None]:
    yield
    assert platform.run(platform.server.database.scan(_differences)) == []


def _differences(connection: Connection) -> list[str]:
    return list(differences(connection))


def post(project: Project, **metadata: Any) -> httpx.Response:
    return project.http.post(f"{project.v2}/training-experiments", json={"metadata": metadata})


def create(project: Project, name: str, **more: Any) -> dict[str, Any]:
    reply = post(project, name=name, **more)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def path_of(project: Project, experiment: dict[str, Any] | str) -> str:
    id_ = experiment if isinstance(experiment, str) else experiment["metadata"]["id"]
    return f"{project.v2}/training-experiments/{id_}"


def job_count(project: Project, experiment: dict[str, Any]) -> int:
    reply = project.http.get(path_of(project, experiment))
    assert reply.status_code == 200, reply.text
    return int(reply.json()["statistic"]["job_count"])


def post_job(platform: Platform, name: str, reference: object, **metadata: Any) -> httpx.Response:
    code = platform.code()
    project = platform.project
    engines = project.http.get(f"{project.v2}/training-job-engines").json()["items"]
    body = {
        "metadata": {"name": name, "training_experiment_reference": reference} | metadata,
        "algorithm": {
            "code_dir": code["app_url"],
            "boot_file": code["boot_file_url"],
            "engine": {"engine_id": engines[0]["engine_id"]},
        },
        "spec": {"resource": {"flavor_id": "modelarts.vm.cpu.1u", "node_count": 1}},
    }
    return project.http.post(f"{project.v2}/training-jobs", json=body)


def run(platform: Platform, name: str, reference: object) -> dict[str, Any]:
    reply = post_job(platform, name, reference)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


class TestOne:
    def test_what_is_made_is_shown(self, platform: Platform, project: Project) -> None:
        made = create(project, "made", description="words")

        assert made["metadata"] == {
            "id": made["metadata"]["id"],
            "name": "made",
            "description": "words",
            "workspace_id": "0",
            "create_time": platform.clock.now_ms,
            "update_time": platform.clock.now_ms,
        }
        assert made["statistic"] == {"job_count": 0}
        assert project.http.get(path_of(project, made)).json() == made
        bare = made["metadata"]["id"].replace("-", "")
        assert project.http.get(path_of(project, bare)).json() == made

    def test_it_is_changed_where_it_is_said(self, platform: Platform, project: Project) -> None:
        made = create(project, "changed", description="words")
        platform.clock.now_ms += 5

        reply = project.http.put(path_of(project, made), json={"name": "changed-2"})

        assert (reply.status_code, reply.json()) == (
            200, {"name": "changed-2", "description": "words"},
        )  # fmt: skip
        after = project.http.get(path_of(project, made)).json()["metadata"]
        assert after["update_time"] == after["create_time"] + 5
        create(project, "changed-3")
        taken = project.http.put(path_of(project, made), json={"name": "changed-3"})
        refusals.modern(taken, 400, "ModelArts.2841")

    def test_it_is_deleted(self, project: Project) -> None:
        made = create(project, "deleted")

        assert project.http.delete(path_of(project, made)).status_code == 202
        refusals.modern(project.http.get(path_of(project, made)), 400, "ModelArts.2842")
        refusals.modern(project.http.delete(path_of(project, made)), 400, "ModelArts.2842")

    def test_what_is_not_there_is_refused(self, project: Project, other: Project) -> None:
        made = create(project, "mine")

        for owner, id_ in ((project, UNKNOWN_ID), (project, "x"), (other, made["metadata"]["id"])):
            path = path_of(owner, id_)
            refusals.modern(owner.http.get(path), 400, "ModelArts.2842")
            refusals.modern(owner.http.put(path, json={}), 400, "ModelArts.2842")
            refusals.modern(owner.http.delete(path), 400, "ModelArts.2842")
        assert project.http.get(path_of(project, made)).status_code == 200

    @pytest.mark.parametrize(
        ("metadata", "code"),
        [
            ({"name": "x" * 65}, "2788"),
            ({"name": "a b"}, "2788"),
            ({}, "2788"),
            ({"name": "x", "description": "d" * 257}, "2788"),
            ({"name": "x", "workspace_id": "nowhere"}, "0102"),
        ],
    )
    def test_bad_input_makes_nothing(
        self, project: Project, metadata: dict[str, Any], code: str
    ) -> None:
        before = project.http.get(f"{project.v2}/training-experiments").json()["total"]

        refusals.modern(post(project, **metadata), 400, f"ModelArts.{code}")

        after = project.http.get(f"{project.v2}/training-experiments").json()["total"]
        assert after == before

    def test_a_name_is_taken_once_in_a_workspace(self, project: Project) -> None:
        create(project, "taken")
        elsewhere = add_workspace(project, "experiments")
        names = f"{project.v2}/training-experiment-names"

        refusals.modern(post(project, name="taken"), 400, "ModelArts.2841")
        asked = project.http.get(names, params={"experiment_name": "taken"})
        assert asked.json() == {"is_duplicate": True}
        query = {"experiment_name": "taken", "workspace_id": elsewhere}
        assert project.http.get(names, params=query).json() == {"is_duplicate": False}
        create(project, "taken", workspace_id=elsewhere)
        refused = project.http.delete(f"{project.v1}/workspaces/{elsewhere}")
        assert "1 experiment(s)" in refused.json()["error_msg"]


class TestList:
    def test_it_is_sorted_and_paged(self, platform: Platform, add_person: AddPerson) -> None:
        project = platform.project
        workspace_id = add_workspace(project, "listed-experiments")
        for name in ("b", "a", "c"):
            platform.clock.now_ms += 1
            create(project, name, workspace_id=workspace_id)

        def listed(**query: Any) -> dict[str, Any]:
            given = {"workspace_id": workspace_id} | query
            reply = project.http.get(f"{project.v2}/training-experiments", params=given)
            assert reply.status_code == 200, reply.text
            return dict(reply.json())

        def names(**query: Any) -> list[str]:
            return [item["metadata"]["name"] for item in listed(**query)["items"]]

        assert names() == ["c", "a", "b"]
        assert names(sort_by="name", order="asc") == ["a", "b", "c"]
        assert names(limit=1, offset=1) == ["a"]
        whole = listed(limit=2)
        assert {key: whole[key] for key in whole if key != "items"} == {
            "total": 3, "count": 2, "limit": 2, "offset": 0, "sort_by": "create_time",
            "order": "desc",
        }  # fmt: skip

    def test_bad_queries_are_refused(self, project: Project) -> None:
        path = f"{project.v2}/training-experiments"

        for query, code in (
            ({"sort_by": "color"}, "2790"),
            ({"limit": "0"}, "2788"),
            ({"workspace_id": "nowhere"}, "0102"),
        ):
            refusals.modern(project.http.get(path, params=query), 400, f"ModelArts.{code}")


class TestJobs:
    def test_jobs_stand_in_what_they_name_and_are_counted(self, platform: Platform) -> None:
        project = platform.project
        made = create(project, "with-jobs")
        id_ = made["metadata"]["id"]

        by_id = run(platform, "by-id", {"id": id_})
        run(platform, "by-name", {"name": "with-jobs"})
        alone = run(platform, "alone", None)

        assert by_id["metadata"]["training_experiment_reference"] == {
            "id": id_, "name": "with-jobs",
        }  # fmt: skip
        assert "training_experiment_reference" not in alone["metadata"]
        assert job_count(project, made) == 2
        path = f"{project.v2}/training-jobs/{by_id['metadata']['id']}"
        assert project.http.delete(path).status_code == 202
        assert job_count(project, made) == 1

    def test_a_further_version_stands_where_the_one_before_it_does(
        self, platform: Platform
    ) -> None:
        project = platform.project
        made = create(project, "with-versions")
        job = run(platform, "versions", {"id": made["metadata"]["id"]})
        job_id = job["metadata"]["job_id"]

        project.post(f"/training-jobs/{job_id}/versions", config={})
        assert job_count(project, made) == 2
        project.http.delete(path_of(project, made))
        project.post(f"/training-jobs/{job_id}/versions", config={})

        assert project.http.delete(f"{project.v1}/training-jobs/{job_id}").status_code == 200

    def test_all_versions_of_a_job_go_together(self, platform: Platform) -> None:
        project = platform.project
        made = create(project, "goes-together")
        job_id = run(platform, "together", {"id": made["metadata"]["id"]})["metadata"]["job_id"]
        project.post(f"/training-jobs/{job_id}/versions", config={})
        assert job_count(project, made) == 2

        project.http.delete(f"{project.v1}/training-jobs/{job_id}")

        assert job_count(project, made) == 0

    def test_its_jobs_outlive_it(self, platform: Platform) -> None:
        project = platform.project
        made = create(project, "outlived")
        job = run(platform, "outlives", {"id": made["metadata"]["id"]})

        project.http.delete(path_of(project, made))

        path = f"{project.v2}/training-jobs/{job['metadata']['id']}"
        shown = project.http.get(path).json()["metadata"]["training_experiment_reference"]
        assert shown["name"] == "outlived"

    def test_a_job_with_a_wrong_reference_is_not_made(
        self, platform: Platform, other: Project
    ) -> None:
        foreign = create(other, "foreign")["metadata"]["id"]
        elsewhere = add_workspace(platform.project, "other-place")
        away = create(platform.project, "away", workspace_id=elsewhere)["metadata"]["id"]

        for reference in ({"id": UNKNOWN_ID}, {"id": foreign}, {"name": "none"}, {"id": away}):
            reply = post_job(platform, "not-made", reference)
            message = refusals.modern(reply, 400, "ModelArts.2842")
            assert "training_experiment_reference" in message
        refusals.modern(post_job(platform, "not-made", "text"), 400, "ModelArts.2788")
        found = platform.project.get("/training-jobs", search_content="not-made")
        assert found["job_total_count"] == 0


def test_one_in_a_closed_workspace_is_not_there(platform: Platform, add_person: AddPerson) -> None:
    project = platform.project
    workspace_id = add_workspace(project, "closed-experiments", auth_type="PRIVATE")
    made = create(project, "hidden", workspace_id=workspace_id)
    developer = add_person("experimenter", Role.DEVELOPER)

    refusals.modern(developer.http.get(path_of(project, made)), 400, "ModelArts.2842")
    reply = developer.http.get(
        f"{project.v2}/training-experiments", params={"workspace_id": workspace_id}
    )
    refusals.modern(reply, 400, "ModelArts.0102")
