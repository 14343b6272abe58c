"""Images over the API: registered, looked for again, saved from notebooks, and dropped by name."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.domain.permission import Role
from tests.api.jupyter import (
    StandIn,
    attempt_folder,
    body_of,
    bring_up,
    create,
    delete_all,
    refusal,
    standing_in,
    wait_for,
)
from tests.api.people import Person, add_workspace, people_of, set_role
from tests.api.platform import Platform, Project, wait_until


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def developer(platform: Platform) -> Iterator[Person]:
    with people_of(platform) as add:
        yield add("image-developer", Role.DEVELOPER)


@pytest.fixture(autouse=True)
def _nothing_is_left(project: Project) -> Iterator[None]:
    yield
    delete_all(project)
    for image in project.get("/images", type="DEDICATED", limit=1000)["data"]:
        project.http.delete(f"{project.v1}/images/{image['id']}")


def operators(platform: Platform, name: str) -> Path:
    """An environment as an operator would put there; what it is made of does not matter here."""
    folder = platform.data / "environments" / name
    interpreter = folder / "bin" / "python"
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    interpreter.write_text("#!/bin/sh\n")
    interpreter.chmod(0o755)
    return folder


def install(platform: Platform, made: dict[str, Any], *names: str, origin: str = "") -> Path:
    """As pip in a notebook does, so far as it is looked at; the folder of packages."""
    kept = platform.data / "notebooks" / made["id"].replace("-", "")
    packages: Path = kept / "environment" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name in names:
        (packages / f"{name}.dist-info").mkdir()
        if origin:
            (packages / f"{name}.dist-info" / "direct_url.json").write_text(origin)
    return packages


def saving(name: str = "mine", **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "team", "tag": "1"} | more


def save(project: Project, made: dict[str, Any], **more: Any) -> Any:
    return project.http.post(
        f"{project.v1}/notebooks/{made['id']}/create-image", json=saving(**more)
    )


class TestSaving:
    def test_what_is_installed_in_a_notebook_is_what_others_start_with(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        install(platform, made, "torch-2.4.1+cpu", "einops-0.8.0")

        saved = save(project, made, description="with torch").json()

        assert (saved["swr_path"], saved["origin"]) == ("team/mine:1", "IMAGE_SAVE")
        assert (saved["status"], saved["type"], saved["description"]) == (
            "ACTIVE", "DEDICATED", "with torch",
        )  # fmt: skip
        assert project.get(f"/images/{saved['id']}") == saved
        assert [one["id"] for one in project.get("/images", namespace="team")["data"]] == [
            saved["id"]
        ]
        other = create(project, name="other", image_id=saved["id"])
        attempt_id, _ = attempt_folder(platform, other)
        wait_until(lambda: attempt_id in platform.engine.started)
        told = platform.engine.started[attempt_id].environment
        assert told["MUSTER_NOTEBOOK_PACKAGES"] == "einops==0.8.0\ntorch==2.4.1+cpu\n"
        first, _ = attempt_folder(platform, made)
        started = platform.engine.started[first].environment
        assert started["MUSTER_NOTEBOOK_PACKAGES"] == ""
        key = "MUSTER_NOTEBOOK_INTERPRETER"
        assert told[key] == started[key]

    def test_one_that_was_saved_goes_with_its_list(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        install(platform, made, "einops-0.8.0")
        saved = save(project, made).json()
        other = create(project, name="other", image_id=saved["id"])

        path = f"{project.v1}/images/{saved['id']}"
        reply = project.http.delete(path)
        assert refusal(reply) == (400, "ModelArts.6336")
        assert len(list((platform.data / "images").iterdir())) == 1
        project.http.delete(f"{project.v1}/notebooks/{other['id']}")
        wait_until(lambda: project.http.delete(path).status_code == 200)
        assert list((platform.data / "images").iterdir()) == []

    def test_an_image_without_its_list_starts_nothing(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        install(platform, made)
        saved = save(project, made).json()
        [file] = (platform.data / "images").iterdir()
        file.unlink()

        given = body_of(project, image_id=saved["id"])
        reply = project.http.post(f"{project.v1}/notebooks", json=given)

        assert refusal(reply) == (400, "ModelArts.6771")
        assert "list of packages" in reply.text
        reply = project.http.post(f"{project.v1}/images/{saved['id']}/sync")
        assert refusal(reply) == (400, "ModelArts.6771")

    @pytest.mark.parametrize(
        ("given", "code", "told"),
        [
            ({"namespace": "local"}, "ModelArts.6771", "namespace is 'local'"),
            ({"namespace": "Team"}, "ModelArts.6771", "namespace is 'Team'"),
            ({"namespace": ".."}, "ModelArts.6771", "namespace is '..'"),
            ({"name": "a/b"}, "ModelArts.6771", "name is 'a/b'"),
            ({"name": "x" * 513}, "ModelArts.6771", "name is 'x"),
            ({"tag": "1:2"}, "ModelArts.6771", "tag is '1:2'"),
            ({"tag": "1" * 65}, "ModelArts.6771", "tag is '1"),
            ({"description": "x" * 513}, "ModelArts.0104", "description has 513"),
            ({"workspace_id": "none"}, "ModelArts.0102", "workspace_id is 'none'"),
            ({"name": None}, "ModelArts.0104", "name"),
            ({"swr_instance_id": "x"}, "ModelArts.2858", "swr_instance_id"),
        ],
    )
    def test_what_makes_no_sense_is_told_and_saves_nothing(
        self,
        platform: Platform,
        project: Project,
        stand_in: StandIn,
        given: dict[str, Any],
        code: str,
        told: str,
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        install(platform, made, "einops-0.8.0")

        reply = save(project, made, **given)

        assert refusal(reply) == (400, code)
        assert told in reply.json()["error_msg"]
        assert project.get("/images", type="DEDICATED")["total"] == 0
        assert list(platform.data.glob("images/*")) == []

    def test_a_path_is_saved_once(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        install(platform, made, "einops-0.8.0")
        save(project, made)

        assert refusal(save(project, made)) == (400, "ModelArts.6737")
        assert save(project, made, tag="2").status_code == 200
        assert len(list((platform.data / "images").iterdir())) == 2

    def test_packages_that_lie_in_the_notebook_only_are_named(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        origin = json.dumps({"url": "file:///home/me/mine", "dir_info": {"editable": True}})
        install(platform, made, "mine-0.1", origin=origin)

        reply = save(project, made)

        assert refusal(reply) == (400, "ModelArts.6771")
        assert "mine (from files of the notebook)" in reply.json()["error_msg"]

    def test_no_link_that_a_user_has_made_is_followed(
        self, platform: Platform, project: Project, stand_in: StandIn, tmp_path: Path
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        packages = install(platform, made, "seen-1")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_text(json.dumps({"url": "https://secret/x", "archive_info": {}}))
        (packages / "seen-1.dist-info" / "direct_url.json").symlink_to(elsewhere)
        os.mkfifo(packages / "held")
        (packages / "piped-1.dist-info").mkdir()
        os.mkfifo(packages / "piped-1.dist-info" / "direct_url.json")

        named = save(project, made)
        layer = packages.parents[2]
        layer.rename(layer.with_name("moved"))
        layer.symlink_to(layer.with_name("moved"))
        linked = save(project, made)

        assert refusal(named) == refusal(linked) == (400, "ModelArts.6771")
        assert "secret" not in named.text
        assert "piped (from" in named.text
        assert "seen (from" in named.text

    def test_only_one_that_runs_is_saved_and_only_by_who_may_open_it(
        self, platform: Platform, project: Project, developer: Person, stand_in: StandIn
    ) -> None:
        made = create(project)
        assert refusal(save(project, made)) == (400, "ModelArts.6327")
        bring_up(platform, made, stand_in)
        install(platform, made)

        reply = developer.v1("POST", f"/notebooks/{made['id']}/create-image", json=saving())

        assert refusal(reply) == (403, "ModelArts.0108")
        project.post(f"/notebooks/{made['id']}/stop")
        wait_for(project, made, "STOPPED")
        assert refusal(save(project, made)) == (400, "ModelArts.6327")

    def test_another_project_neither_saves_it_nor_sees_what_was_saved(
        self, platform: Platform, project: Project, other: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        install(platform, made)
        saved = save(project, made, visibility="PUBLIC").json()

        assert refusal(save(other, made)) == (400, "ModelArts.6309")
        for method, more in (("GET", ""), ("POST", "/sync"), ("DELETE", "")):
            reply = other.http.request(method, f"{other.v1}/images/{saved['id']}{more}")
            assert refusal(reply) == (400, "ModelArts.6797"), (method, more)
        given = body_of(other, image_id=saved["id"])
        assert refusal(other.http.post(f"{other.v1}/notebooks", json=given)) == (
            400, "ModelArts.6797",
        )  # fmt: skip


class TestGroups:
    def test_all_tags_of_a_name_go_together_or_not_at_all(
        self, platform: Platform, project: Project
    ) -> None:
        for name in ("torch-1", "torch-2", "jax-1"):
            operators(platform, name)
        first, second, _ = [
            project.post("/images", swr_path=path)
            for path in ("local/torch:1", "local/torch:2", "local/jax:1")
        ]

        def groups() -> dict[str, tuple[str, int]]:
            listed = project.get("/images/group", type="DEDICATED")["data"]
            return {one["name"]: (one["id"], one["version_count"]) for one in listed}

        group, count = groups()["torch"]
        assert count == 2
        project.http.delete(f"{project.v1}/images/{second['id']}")
        assert groups()["torch"] == (group, 1)
        project.post("/images", swr_path="local/torch:2")
        made = create(project, image_id=first["id"])
        path = f"{project.v1}/images/group/{group}"
        assert refusal(project.http.delete(path)) == (400, "ModelArts.6336")
        assert groups()["torch"] == (group, 2)
        project.http.delete(f"{project.v1}/notebooks/{made['id']}")

        wait_until(lambda: project.http.delete(path).status_code == 200)

        assert groups().keys() == {"jax"}
        assert refusal(project.http.delete(path)) == (400, "ModelArts.6797")

    def test_what_comes_with_muster_and_what_is_anothers_stays(
        self, platform: Platform, project: Project, other: Project
    ) -> None:
        operators(platform, "torch-1")
        project.post("/images", swr_path="local/torch:1")
        listed = project.get("/images/group")["data"]
        ids = {one["name"]: one["id"] for one in listed}

        built_in = project.http.delete(f"{project.v1}/images/group/{ids['jupyterlab']}")
        theirs = other.http.delete(f"{other.v1}/images/group/{ids['torch']}")

        assert refusal(built_in) == (400, "ModelArts.6336")
        assert refusal(theirs) == (400, "ModelArts.6797")
        assert project.get("/images/group")["data"] == listed

    def test_a_group_is_left_whole_where_the_caller_may_not_drop_all_of_it(
        self, platform: Platform, project: Project, developer: Person
    ) -> None:
        for name in ("torch-1", "torch-2"):
            operators(platform, name)
        workspace_id = add_workspace(project, "image-room")
        set_role(platform, developer, Role.READER, workspace=workspace_id)
        project.post("/images", swr_path="local/torch:1")
        project.post("/images", swr_path="local/torch:2", workspace_id=workspace_id)
        [group] = project.get("/images/group", type="DEDICATED")["data"]
        path = f"/images/group/{group['id']}"

        reply = developer.v1("DELETE", path)

        assert refusal(reply) == (403, "ModelArts.0108")
        assert len(_paths(project, "0") + _paths(project, workspace_id)) == 2
        closed = {"auth_type": "PRIVATE"}
        project.http.put(f"{project.v1}/workspaces/{workspace_id}", json=closed)
        set_role(platform, developer, None, workspace=workspace_id)
        assert developer.v1("DELETE", path).status_code == 200
        assert _paths(project, "0") == []
        assert _paths(project, workspace_id) == ["local/torch:2"]


def _paths(project: Project, workspace_id: str) -> list[str]:
    listed = project.get("/images", type="DEDICATED", workspace_id=workspace_id)["data"]
    return [image["swr_path"] for image in listed]


class TestSync:
    def test_an_environment_that_was_put_elsewhere_is_found_again(
        self, platform: Platform, project: Project
    ) -> None:
        folder = operators(platform, "torch-1")
        image = project.post("/images", swr_path="local/torch:1")
        path = f"{project.v1}/images/{image['id']}/sync"
        assert project.http.post(path).json() == image
        folder.rename(folder.with_name("moved"))

        assert refusal(project.http.post(path)) == (400, "ModelArts.6771")
        platform.clock.now_ms += 1
        renamed = operators(platform, "Torch-1")
        synced = project.http.post(path).json()

        assert synced["update_at"] == image["update_at"] + 1
        made = create(project, image_id=image["id"])
        attempt_id, _ = attempt_folder(platform, made)
        wait_until(lambda: attempt_id in platform.engine.started)
        told = platform.engine.started[attempt_id].environment
        assert told["MUSTER_NOTEBOOK_INTERPRETER"] == str(renamed / "bin" / "python")

    def test_what_comes_with_muster_is_always_there(self, project: Project) -> None:
        [image] = project.get("/images", type="BUILD_IN")["data"]

        assert project.post(f"/images/{image['id']}/sync") == image
