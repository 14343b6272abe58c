"""Tags of pools, nodes and training jobs over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from muster.domain.permission import Role
from muster.store.connection import Connection
from muster.store.recount import differences
from tests.api import refusals
from tests.api.people import AddPerson, add_workspace, people_of
from tests.api.platform import Platform, Project, login_body, running_platform, wait_until
from tests.api.test_pool_changes import CPU, body_of, is_gone, make, path_of, wait_for
from tests.api.test_training_v2 import create, names, search

NUMBERS = count(1)
DAY_MS = 86_400_000
UNKNOWN_JOB = "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"


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


@pytest.fixture
def pool(project: Project) -> Iterator[dict[str, Any]]:
    made = make(project, f"tagged{next(NUMBERS)}", {"flavor": CPU, "count": 1})
    yield made
    project.http.delete(path_of(project, made))
    wait_until(lambda: is_gone(project, made))


def pool_tags(project: Project, pool: dict[str, Any] | str) -> str:
    name = pool if isinstance(pool, str) else pool["metadata"]["name"]
    return f"{project.v1}/pools/{name}/tags"


def node_of(project: Project, pool: dict[str, Any]) -> str:
    [node] = project.http.get(f"{path_of(project, pool)}/nodes").json()["items"]
    return str(node["metadata"]["name"])


def node_tags(project: Project, name: str) -> str:
    return f"{project.v1}/nodes/{name}/tags"


def job_tags(project: Project, job: dict[str, Any] | str) -> str:
    id_ = job if isinstance(job, str) else job["metadata"]["id"]
    return f"{project.v2}/modelarts-training-job/{id_}/tags"


def read(reply: httpx.Response) -> dict[str, str]:
    """The tags of an answer, as `key: value`."""
    assert reply.status_code == 200, reply.text
    tags = reply.json()["tags"]
    assert all(tag["values"] == [tag["value"]] for tag in tags)
    return {tag["key"]: tag["value"] for tag in tags}


def combined(reply: httpx.Response) -> dict[str, list[str]]:
    assert reply.status_code == 200, reply.text
    return {tag["key"]: tag["values"] for tag in reply.json()["tags"]}


def given(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"tags": [{"key": key, "value": value} for key, value in pairs]}


def delete(project: Project, path: str, body: dict[str, Any]) -> httpx.Response:
    """Clients send a body with it."""
    return project.http.request("DELETE", path, json=body)


def refusal(reply: httpx.Response) -> str:
    return refusals.modern(reply, 400, "ModelArts.50004000")


class TestPools:
    def test_tags_come_and_go(self, project: Project, pool: dict[str, Any]) -> None:
        path = pool_tags(project, pool)
        assert read(project.http.get(path)) == {}

        made = project.http.post(f"{path}/create", json=given(("team", "a"), ("cost", "7")))
        assert read(made) == {"team": "a", "cost": "7"}
        changed = project.http.post(path, json={"action": "create"} | given(("team", "b")))
        assert read(changed) == {"team": "b", "cost": "7"}
        assert read(delete(project, f"{path}/delete", given(("cost", "7")))) == {"team": "b"}
        reset = project.http.post(path, json={"action": "reset"} | given(("only", "")))
        assert read(reset) == read(project.http.get(path)) == {"only": ""}
        gone = project.http.post(path, json={"action": "delete", "tags": [{"key": "only"}]})
        assert read(gone) == read(project.http.get(path)) == {}

    def test_many_who_tag_a_pool_at_once_all_do(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        path = f"{pool_tags(project, pool)}/create"
        tags = {f"key-{n}": str(n) for n in range(12)}

        with ThreadPoolExecutor(6) as clients:
            replies = list(
                clients.map(lambda pair: project.http.post(path, json=given(pair)), tags.items())
            )

        assert [reply.status_code for reply in replies] == [200] * len(tags)
        assert read(project.http.get(pool_tags(project, pool))) == tags

    def test_a_pool_shows_its_tags_and_takes_them_from_its_annotation(
        self, project: Project, pool: dict[str, Any]
    ) -> None:
        project.http.post(f"{pool_tags(project, pool)}/create", json=given(("team", "a")))
        shown = project.http.get(path_of(project, pool)).json()["metadata"]["annotations"]
        assert shown["os.modelarts/tms.tags"] == '[{"key":"team","value":"a"}]'

        def annotate(text: str | None) -> httpx.Response:
            annotations = {"os.modelarts/tms.tags": text}
            return project.http.patch(
                path_of(project, pool), json={"metadata": {"annotations": annotations}}
            )

        assert "tms.tags" in refusal(annotate("no list"))
        assert annotate('[{"key": "team", "value": "b"}]').status_code == 200
        assert read(project.http.get(pool_tags(project, pool))) == {"team": "b"}
        assert annotate(None).status_code == 200
        assert read(project.http.get(pool_tags(project, pool))) == {}

    def test_all_tags_of_a_project_are_listed_by_key_and_by_page(
        self, project: Project, other: Project, pool: dict[str, Any]
    ) -> None:
        second = make(project, f"tagged{next(NUMBERS)}", {"flavor": CPU, "count": 1})
        for tagged, value in ((pool, "b"), (second, "a")):
            body = given(("team", value), ("cost", "7"))
            assert read(project.http.post(f"{pool_tags(project, tagged)}/create", json=body))

        path = f"{project.v1}/pools/tags"
        assert combined(project.http.get(path)) == {"cost": ["7"], "team": ["a", "b"]}
        page = project.http.get(path, params={"limit": 1, "offset": 1})
        assert combined(page) == {"team": ["a", "b"]}
        assert "limit" in refusal(project.http.get(path, params={"limit": 1001}))
        assert combined(other.http.get(f"{other.v1}/pools/tags")) == {}
        project.http.delete(path_of(project, second))
        wait_until(lambda: is_gone(project, second))
        assert combined(project.http.get(path)) == {"cost": ["7"], "team": ["b"]}

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"tags": [{"key": "k"}]}, "action"),
            ({"action": "change", "tags": [{"key": "k"}]}, "create"),
            ({"action": "create", "tags": []}, "tags is empty"),
            ({"action": "delete", "tags": []}, "tags is empty"),
            ({"action": "create"}, "tags"),
            ({"action": "create", "tags": {"key": "k"}}, "tags"),
            ({"action": "create", "tags": [{"value": "v"}]}, "key"),
            ({"action": "create", "tags": [{"key": ""}]}, "tags has the key ''"),
            ({"action": "reset", "tags": [{"key": "CCE-k"}]}, "'CCE-k'"),
            ({"action": "create", "tags": [{"key": "k" * 129}]}, "128"),
            ({"action": "create", "tags": [{"key": "k", "value": "v" * 256}]}, "255"),
            ({"action": "reset", "tags": [{"key": f"k{n}"} for n in range(21)]}, "at most 20"),
        ],
    )
    def test_bad_tags_change_nothing(
        self, project: Project, pool: dict[str, Any], body: dict[str, Any], says: str
    ) -> None:
        path = pool_tags(project, pool)
        before = read(project.http.post(f"{path}/create", json=given(("kept", "1"))))

        assert says in refusal(project.http.post(path, json=body))
        assert read(project.http.get(path)) == before

    def test_a_pool_that_is_not_there_or_is_everybodys_is_not_tagged(
        self, project: Project, other: Project, pool: dict[str, Any]
    ) -> None:
        for path in (pool_tags(project, "no-such"), pool_tags(other, pool)):
            caller = other if other.id in path else project
            refusals.modern(caller.http.get(path), 404, "ModelArts.50015001")
            made = caller.http.post(f"{path}/create", json=given(("k", "v")))
            refusals.modern(made, 404, "ModelArts.50015001")
        public = f"{pool_tags(project, project.pool('public'))}/create"
        assert "public" in refusal(project.http.post(public, json=given(("k", "v"))))

    def test_who_only_reads_changes_no_tag(
        self, project: Project, pool: dict[str, Any], add_person: AddPerson
    ) -> None:
        reader = add_person(f"tag-reader-{next(NUMBERS)}", Role.DEVELOPER)
        path = pool_tags(project, pool)

        assert read(reader.http.get(path)) == {}
        for reply in (
            reader.http.post(path, json={"action": "reset", "tags": []}),
            reader.http.post(f"{path}/create", json=given(("k", "v"))),
            reader.http.request("DELETE", f"{path}/delete", json=given(("k", "v"))),
        ):
            refusals.modern(reply, 403, "ModelArts.0108")

    def test_pools_where_the_caller_may_not_enter_show_no_tags(
        self, project: Project, add_person: AddPerson
    ) -> None:
        closed = add_workspace(project, f"closed{next(NUMBERS)}", auth_type="PRIVATE")
        new = body_of(f"hidden{next(NUMBERS)}")
        new["metadata"]["labels"]["os.modelarts/workspace.id"] = closed
        pool = wait_for(
            project, project.http.post(f"{project.v2}/pools", json=new).json(), "Running"
        )
        body = given(("secret", "1"))
        assert read(project.http.post(f"{pool_tags(project, pool)}/create", json=body))
        name = node_of(project, pool)
        body = {"action": "create"} | given(("hidden", "1"))
        assert read(project.http.post(node_tags(project, name), json=body))
        stranger = add_person(f"stranger-{next(NUMBERS)}", Role.RESOURCE_MANAGER)

        assert combined(stranger.http.get(f"{project.v1}/pools/tags")) == {}
        assert combined(stranger.http.get(f"{project.v1}/nodes/tags")) == {}
        assert combined(project.http.get(f"{project.v1}/nodes/tags")) == {"hidden": ["1"]}
        for path in (
            pool_tags(project, pool),
            node_tags(project, name),
            f"{project.v1}/nodes/tags?pool={pool['metadata']['name']}",
        ):
            refusals.modern(stranger.http.get(path), 404, "ModelArts.50015001")
        project.http.delete(path_of(project, pool))
        wait_until(lambda: is_gone(project, pool))


class TestNodes:
    def test_tags_come_and_go(self, project: Project, pool: dict[str, Any]) -> None:
        name = node_of(project, pool)
        path = node_tags(project, name)
        assert read(project.http.get(path)) == {}

        body = given(("team", "a"), ("rack", "3"))
        assert read(project.http.post(path, json={"action": "create"} | body)) == {
            "team": "a", "rack": "3",
        }  # fmt: skip
        removed = project.http.post(path, json={"action": "delete"} | given(("team", "a")))
        assert read(removed) == read(project.http.get(path)) == {"rack": "3"}
        shown = project.http.get(f"{path_of(project, pool)}/nodes/{name}").json()
        assert shown["metadata"]["annotations"] == {
            "os.modelarts/tms.tags": '[{"key":"rack","value":"3"}]'
        }
        own = f"{project.v1}/nodes/tags"
        assert combined(project.http.get(own)) == {"rack": ["3"]}
        pool_name = pool["metadata"]["name"]
        assert combined(project.http.get(own, params={"pool": pool_name})) == {"rack": ["3"]}
        elsewhere = project.http.get(own, params={"pool": project.pool("small")})
        assert combined(elsewhere) == {}
        assert read(project.http.post(path, json={"action": "reset", "tags": []})) == {}

    def test_a_node_is_found_in_its_own_project_only(
        self, project: Project, other: Project, pool: dict[str, Any]
    ) -> None:
        name = node_of(project, pool)
        body = {"action": "create"} | given(("k", "v"))

        for caller, node in ((other, name), (project, "no-such")):
            path = node_tags(caller, node)
            refusals.modern(caller.http.get(path), 404, "ModelArts.50015001")
            refusals.modern(caller.http.post(path, json=body), 404, "ModelArts.50015001")
        unknown = {"pool": pool["metadata"]["name"]}
        listed = other.http.get(f"{other.v1}/nodes/tags", params=unknown)
        refusals.modern(listed, 404, "ModelArts.50015001")
        assert read(project.http.get(node_tags(project, name))) == {}

    def test_everybodys_nodes_are_seen_and_not_tagged(self, project: Project) -> None:
        public = {"metadata": {"name": project.pool("public")}}
        path = node_tags(project, node_of(project, public))

        assert read(project.http.get(path)) == {}
        body = {"action": "create"} | given(("k", "v"))
        assert "public" in refusal(project.http.post(path, json=body))

    def test_what_the_platform_notes_on_a_node_is_out_of_reach(
        self, platform: Platform, project: Project, pool: dict[str, Any]
    ) -> None:
        path = node_tags(project, node_of(project, pool))
        note = given(("muster/stands-in", "true"))

        assert "muster/" in refusal(project.http.post(path, json={"action": "create"} | note))
        batch = {"nodeNames": [node_of(project, pool)], "action": "createTags"} | note
        reply = project.http.post(f"{path_of(project, pool)}/nodes/batch-update", json=batch)
        assert "muster/" in refusal(reply)


class TestJobs:
    def test_tags_come_and_go(self, platform: Platform, project: Project) -> None:
        job = create(platform, "tagged")
        path = job_tags(project, job)
        assert read(project.http.get(path)) == {}

        made = project.http.post(f"{path}/create", json=given(("team", "a"), ("cost", "7")))
        assert read(made) == {"team": "a", "cost": "7"}
        changed = project.http.post(f"{path}/create", json=given(("team", "b")))
        assert read(changed) == {"team": "b", "cost": "7"}
        left = delete(project, f"{path}/delete", {"tags": [{"key": "cost"}]})
        assert read(left) == read(project.http.get(path)) == {"team": "b"}

    def test_a_deleted_job_has_none(self, platform: Platform, project: Project) -> None:
        job = create(platform, "tagged-and-deleted")
        path = job_tags(project, job)
        project.http.post(f"{path}/create", json=given(("of-the-deleted", "1")))
        listed = f"{project.v2}/modelarts-training-job/tags"
        assert combined(project.http.get(listed))["of-the-deleted"] == ["1"]

        deleted = project.http.delete(f"{project.v2}/training-jobs/{job['metadata']['id']}")

        assert deleted.status_code == 202
        refusals.modern(project.http.get(path), 400, "ModelArts.2775")
        created = project.http.post(f"{path}/create", json=given(("k", "v")))
        refusals.modern(created, 400, "ModelArts.2775")
        assert "of-the-deleted" not in combined(project.http.get(listed))

    def test_a_job_of_another_project_is_not_there(
        self, platform: Platform, project: Project, other: Project
    ) -> None:
        job = create(platform, "mine-alone")
        project.http.post(f"{job_tags(project, job)}/create", json=given(("mine", "1")))

        for caller, id_ in ((other, job["metadata"]["id"]), (project, UNKNOWN_JOB), (project, "x")):
            path = job_tags(caller, id_)
            refusals.modern(caller.http.get(path), 400, "ModelArts.2775")
            for reply in (
                caller.http.post(f"{path}/create", json=given(("k", "v"))),
                delete(caller, f"{path}/delete", given(("mine", "1"))),
            ):
                refusals.modern(reply, 400, "ModelArts.2775")
        assert combined(other.http.get(f"{other.v2}/modelarts-training-job/tags")) == {}
        assert read(project.http.get(job_tags(project, job))) == {"mine": "1"}

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "tags is missing"),
            ({"tags": []}, "tags"),
            ({"tags": [{"key": " "}]}, "tags has the key ' '"),
            ({"tags": [{"key": "k", "value": 1}]}, "tags[0].value is 1; it must be text"),
            ({"tags": [{"key": f"k{n}"} for n in range(21)]}, "at most 20"),
        ],
    )
    def test_bad_tags_change_nothing(
        self, platform: Platform, project: Project, body: dict[str, Any], says: str
    ) -> None:
        path = job_tags(project, create(platform, f"bad-tags-{next(NUMBERS)}"))
        before = read(project.http.post(f"{path}/create", json=given(("kept", "1"))))

        reply = project.http.post(f"{path}/create", json=body)

        assert says in refusals.modern(reply, 400, "ModelArts.2788")
        assert read(project.http.get(path)) == before

    def test_who_only_reads_changes_no_tag(
        self, platform: Platform, project: Project, add_person: AddPerson
    ) -> None:
        path = job_tags(project, create(platform, "read-only"))
        reader = add_person(f"job-reader-{next(NUMBERS)}", Role.READER)

        assert read(reader.http.get(path)) == {}
        for reply in (
            reader.http.post(f"{path}/create", json=given(("k", "v"))),
            reader.http.request("DELETE", f"{path}/delete", json=given(("k", "v"))),
        ):
            refusals.modern(reply, 403, "ModelArts.0108")


@pytest.fixture(scope="module")
def tagged_jobs(platform: Platform, project: Project) -> None:
    for name, tags in {
        "found-1": {"found": "a", "kind": "x"},
        "found-2": {"found": "b", "kind": "x"},
        "found-3": {"found": "", "kind": "y"},
        "found-4": {},
    }.items():
        path = job_tags(project, create(platform, name))
        if tags:
            assert read(project.http.post(f"{path}/create", json=given(*tags.items()))) == tags


@pytest.mark.usefixtures("tagged_jobs")
class TestSearch:
    @pytest.mark.parametrize(
        ("tags", "expected"),
        [
            ([{"key": "found"}], [1, 2, 3]),
            ([{"key": "found", "values": []}], [1, 2, 3]),
            ([{"key": "found", "values": [""]}], [1, 2, 3]),
            ([{"key": "found", "values": ["a"]}], [1]),
            ([{"key": "found", "values": ["a", "b", "c"]}], [1, 2]),
            ([{"key": "found"}, {"key": "kind", "values": ["x"]}], [1, 2]),
            ([{"key": "found", "values": ["a"]}, {"key": "kind", "values": ["y"]}], []),
            ([{"key": "no-such"}], []),
            ([{"key": "' OR 1=1 --", "values": ["%"]}], []),
        ],
    )
    def test_jobs_are_found_by_their_tags(
        self, project: Project, tags: list[dict[str, Any]], expected: list[int]
    ) -> None:
        found = search(project, tags=tags, sort_by="name", order="asc")

        assert names(found) == [f"found-{number}" for number in expected]
        assert found["total"] == len(expected)

    def test_together_with_filters_and_page_by_page(self, project: Project) -> None:
        tags = [{"key": "found"}]

        page = search(project, tags=tags, sort_by="name", order="desc", limit=2, offset=1)
        named = search(project, ("name", "like", ["-2"]), tags=tags)
        other = search(project, ("name", "not", ["found-1"]), tags=tags, sort_by="name")

        assert (names(page), page["total"], page["count"]) == (["found-1"], 3, 1)
        assert names(named) == ["found-2"]
        assert sorted(names(other)) == ["found-2", "found-3"]

    @pytest.mark.parametrize(
        ("tags", "says"),
        [
            ([{"key": "k"}, {"key": "k"}], 'tags has "k" twice'),
            ([{"key": "k", "values": ["v", "v"]}], 'tags has "v" twice'),
            ([{"key": f"k{n}"} for n in range(11)], "a list of at most 10"),
            ([{"key": "k", "values": [str(n) for n in range(11)]}], "tags[0].values"),
            ([{"values": ["v"]}], "tags[0].key is missing"),
            ("k", "tags is"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, project: Project, tags: object, says: str
    ) -> None:
        reply = project.http.post(f"{project.v2}/training-job-searches", json={"tags": tags})

        assert says in refusals.modern(reply, 400, "ModelArts.2788")


def test_a_search_is_of_the_last_31_days_unless_times_are_given(tmp_path: Path) -> None:
    tags = [{"key": "found"}]
    with running_platform(tmp_path / "data") as platform:  # its clock moves, and logins end
        project = platform.project
        path = job_tags(project, create(platform, "found"))
        assert read(project.http.post(f"{path}/create", json=given(("found", "")))) == {"found": ""}
        made_ms = platform.clock.now_ms
        platform.clock.now_ms += 32 * DAY_MS
        body = login_body(project.user, project.password, project.id)
        login = project.http.post("/v3/auth/tokens", json=body)
        project.http.headers["X-Auth-Token"] = login.headers["X-Subject-Token"]

        def between(start: object, end: object) -> tuple[str, str, list[str]]:
            return ("create_time", "between", [str(start), str(end)])

        assert search(project, tags=tags)["total"] == 0
        assert search(project, between(made_ms, made_ms), tags=tags)["total"] == 1
        assert search(project, between("", made_ms), tags=tags)["total"] == 1
        assert search(project, between(made_ms + DAY_MS, ""), tags=tags)["total"] == 0
        wide = {"key": "create_time", "operator": "between", "value": [str(made_ms), ""]}
        reply = project.http.post(
            f"{project.v2}/training-job-searches", json={"tags": tags, "filters": [wide]}
        )
        assert "31 days" in refusals.modern(reply, 400, "ModelArts.2809")


@pytest.mark.usefixtures("tagged_jobs")
class TestByTags:
    def ask(
        self, project: Project, call: str = "filter", *, query: str = "", **body: Any
    ) -> dict[str, Any]:
        path = f"{project.v2}/modelarts-training-job/resource-instances/{call}{query}"
        reply = project.http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def found(self, project: Project, **body: Any) -> list[str]:
        answer = self.ask(project, **body)
        names = [resource["resource_name"] for resource in answer["resources"]]
        assert answer["total_count"] == len(names)
        assert self.ask(project, "count", **body) == {"total_count": len(names)}
        return names

    def test_jobs_are_listed_with_their_tags_newest_first(self, project: Project) -> None:
        answer = self.ask(project, tags=[{"key": "found"}], query="?limit=2")

        shown = search(project, ("name", "in", ["found-3"]))["items"][0]["metadata"]
        assert answer["total_count"] == 3
        assert [resource["resource_name"] for resource in answer["resources"]] == [
            "found-3", "found-2",
        ]  # fmt: skip
        assert answer["resources"][0] == {
            "resource_id": shown["id"],
            "resource_name": "found-3",
            "workspace_id": "0",
            "resource_detail": {},
            "tags": [{"key": "found", "value": ""}, {"key": "kind", "value": "y"}],
        }
        rest = self.ask(project, tags=[{"key": "found"}], query="?limit=2&offset=2")
        assert [resource["resource_name"] for resource in rest["resources"]] == ["found-1"]

    def test_by_tags_by_a_part_of_the_name_or_without_any_tag(
        self, platform: Platform, project: Project
    ) -> None:
        values = [{"key": "found", "values": ["a", "b"]}]
        part = [{"key": "resource_name", "value": "FOUND-"}]

        assert self.found(project, tags=values) == ["found-2", "found-1"]
        assert self.found(project, tags=values, matches=[part[0] | {"value": "-2"}]) == ["found-2"]
        assert self.found(project, matches=part, without_any_tag=True) == ["found-4"]
        assert self.found(project, matches=part) == [f"found-{n}" for n in (4, 3, 2, 1)]
        untagged = self.ask(project, without_any_tag=True, tags=values)
        everything = self.ask(project, "count")["total_count"]
        tagged = len(set(self.found(project, tags=[{"key": "found"}])))
        assert 0 < untagged["total_count"] <= everything - tagged
        assert all(resource["tags"] == [] for resource in untagged["resources"])

    @pytest.mark.parametrize(
        ("body", "query", "code"),
        [
            ({"tags": [{"key": "k"}, {"key": "k"}]}, "", "2788"),
            ({"matches": [{"key": "name", "value": "x"}]}, "", "2788"),
            ({"matches": [{"key": "resource_name", "value": ""}]}, "", "2788"),
            ({"matches": 2 * [{"key": "resource_name", "value": "x"}]}, "", "2788"),
            ({"without_any_tag": "perhaps"}, "", "2788"),
            ({}, "?limit=0", "2788"),
            ({}, "?offset=-1", "2788"),
            ({"workspace_id": "7"}, "", "0102"),
        ],
    )
    @pytest.mark.parametrize("call", ["filter", "count"])
    def test_what_makes_no_sense_is_refused(
        self, project: Project, call: str, body: dict[str, Any], query: str, code: str
    ) -> None:
        path = f"{project.v2}/modelarts-training-job/resource-instances/{call}{query}"

        refusals.modern(project.http.post(path, json=body), 400, f"ModelArts.{code}")

    def test_jobs_of_another_project_are_not_there(self, other: Project) -> None:
        assert self.found(other, tags=[{"key": "found"}]) == []
