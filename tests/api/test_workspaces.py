"""Workspaces over the API: list, make, show, change, delete, permission checks."""

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from muster.domain.permission import Permission, Role, may
from muster.domain.workspace import WORKSPACES_MAX
from tests.api import refusals
from tests.api.people import AddPerson, Person, add_workspace, people_of, set_role
from tests.api.platform import Platform, Project

VIEW = {
    "id", "name", "description", "owner", "auth_type", "enterprise_project_id",
    "enterprise_project_name", "create_time", "update_time", "status", "status_info",
}  # fmt: skip
HEX_ID = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


@pytest.fixture(scope="module")
def developer(add_person: AddPerson) -> Person:
    return add_person("dev", Role.DEVELOPER)


def create(project: Project, **body: object) -> httpx.Response:
    return project.http.post(f"{project.v1}/workspaces", json=body)


def change(project: Project, workspace_id: str, **body: object) -> httpx.Response:
    return project.http.put(f"{project.v1}/workspaces/{workspace_id}", json=body)


def show(project: Project, workspace_id: str) -> dict[str, Any]:
    return dict(project.get(f"/workspaces/{workspace_id}"))


def names(project: Project, **query: object) -> list[str]:
    return [one["name"] for one in project.get("/workspaces", **query)["workspaces"]]


class TestCreate:
    def test_the_answer_has_exactly_the_documented_fields(
        self, platform: Platform, project: Project
    ) -> None:
        reply = create(project, name="plain")

        assert reply.status_code == 200
        made = reply.json()
        assert set(made) == VIEW | {"grants"}
        assert HEX_ID.fullmatch(made["id"])
        assert made == {
            "id": made["id"], "name": "plain", "description": "", "owner": "admin",
            "auth_type": "PUBLIC", "enterprise_project_id": "", "enterprise_project_name": "",
            "create_time": platform.clock(), "update_time": platform.clock(),
            "status": "NORMAL", "status_info": "", "grants": [],
        }  # fmt: skip
        assert show(project, made["id"]) == made

    def test_everything_that_is_given_is_kept(self, project: Project) -> None:
        grants = [
            {"user_id": "a1", "user_name": "ann", "user_type": "FEDERATE"},
            {"user_name": "eve"},
        ]

        made = create(
            project, name="whole", description="Wörter 词", enterprise_project_id="ep-7",
            auth_type="INTERNAL", grants=grants,
        ).json()  # fmt: skip

        shown = show(project, made["id"])
        assert shown["description"] == "Wörter 词"
        assert shown["enterprise_project_id"] == "ep-7"
        assert shown["auth_type"] == "INTERNAL"
        assert shown["grants"] == [
            {"user_id": "a1", "user_name": "ann", "user_type": "FEDERATE"},
            {"user_id": None, "user_name": "eve", "user_type": "IAM"},
        ]

    @pytest.mark.parametrize(
        ("body", "code", "says"),
        [
            ({}, "ModelArts.0104", "name is missing; it must be text"),
            ({"name": "abc"}, "ModelArts.0104", "name is 'abc'; it must be 4 to 64"),
            ({"name": "x" * 65}, "ModelArts.0104", "it must be 4 to 64"),
            ({"name": "sp ace"}, "ModelArts.0104", "name is 'sp ace'"),
            ({"name": 7777}, "ModelArts.0104", "name is 7777; it must be text"),
            ({"name": "default"}, "ModelArts.0103", "default workspace"),
            ({"name": "taken"}, "ModelArts.0103", "name is 'taken'"),
            ({"name": "good", "description": "x" * 257}, "ModelArts.0104",
             "description has 257 characters; at most 256"),
            ({"name": "good", "auth_type": "SECRET"}, "ModelArts.0104",
             "auth_type is \"SECRET\"; it must be 'INTERNAL', 'PRIVATE' or 'PUBLIC'"),
            ({"name": "good", "grants": [{}]}, "ModelArts.0104", "grants[0] names nobody"),
            ({"name": "good", "grants": [{"user_id": "a", "user_type": "ROBOT"}]},
             "ModelArts.0104", "grants[0].user_type is \"ROBOT\""),
            ({"name": "good", "grants": {}}, "ModelArts.0104", "grants is {}; it must be a list"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused_in_words(
        self, project: Project, body: dict[str, Any], code: str, says: str
    ) -> None:
        create(project, name="taken")

        assert says in refusals.modern(create(project, **body), 400, code)

    def test_a_project_has_only_so_many(self, platform: Platform) -> None:
        crowded = platform.new_project("crowded")

        replies = [create(crowded, name=f"number-{n}") for n in range(1, WORKSPACES_MAX)]

        assert {reply.status_code for reply in replies} == {200}
        message = refusals.modern(create(crowded, name="one-more"), 400, "ModelArts.7006")
        assert str(WORKSPACES_MAX) in message
        assert crowded.get("/workspaces")["total_count"] == WORKSPACES_MAX
        crowded.http.close()


class TestList:
    @pytest.fixture(scope="class")
    @classmethod
    def listing(cls, platform: Platform) -> Iterator[Project]:
        """A project with three workspaces beside the default one, made a second apart."""
        listing = platform.new_project("listing")
        for name, enterprise in (("beta", "ep-1"), ("Alpha", ""), ("beta-two", "ep-1")):
            platform.clock.now_ms += 1_000
            add_workspace(listing, name, enterprise_project_id=enterprise)
        yield listing
        listing.http.close()

    def test_the_default_one_is_there_from_the_start(self, other: Project) -> None:
        listed = other.get("/workspaces")

        assert (listed["total_count"], listed["count"]) == (1, 1)
        [default] = listed["workspaces"]
        assert set(default) == VIEW
        assert (default["id"], default["name"], default["auth_type"]) == ("0", "default", "PUBLIC")

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({}, ["default", "beta-two", "beta", "Alpha"]),
            ({"order": "asc"}, ["Alpha", "beta", "beta-two", "default"]),
            ({"sort_by": "update_time"}, ["beta-two", "Alpha", "beta", "default"]),
            ({"sort_by": "update_time", "order": "asc"}, ["default", "beta", "Alpha", "beta-two"]),
            ({"limit": 2}, ["default", "beta-two"]),
            ({"limit": 2, "offset": 1}, ["beta", "Alpha"]),
            ({"limit": 3, "offset": 1}, ["Alpha"]),
            ({"offset": 1}, []),
            ({"name": "BETA"}, ["beta-two", "beta"]),
            ({"name": "%"}, []),
            ({"enterprise_project_id": "ep-1"}, ["beta-two", "beta"]),
            ({"filter_accessible": "true"}, ["default", "beta-two", "beta", "Alpha"]),
        ],
    )
    def test_it_is_sorted_filtered_and_paged(
        self, listing: Project, query: dict[str, Any], expected: list[str]
    ) -> None:
        assert names(listing, **query) == expected

    def test_the_total_counts_what_matches(self, listing: Project) -> None:
        listed = listing.get("/workspaces", name="beta", limit=1)

        assert (listed["total_count"], listed["count"]) == (2, 1)

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("limit=0", "limit is \"0\"; it must be a whole number from 1 to 1000"),
            ("limit=1001", "limit is"),
            ("offset=-1", "offset is"),
            ("sort_by=owner", "sort_by is \"owner\"; it must be 'name', 'status' or 'update_time'"),
            ("order=up", "order is \"up\"; it must be 'asc' or 'desc'"),
            ("filter_accessible=maybe", "filter_accessible is \"maybe\"; it must be true or false"),
        ],
    )  # fmt: skip
    def test_a_wrong_parameter_is_told(self, listing: Project, query: str, says: str) -> None:
        reply = listing.http.get(f"{listing.v1}/workspaces?{query}")

        assert says in refusals.modern(reply, 400, "ModelArts.0104")

    def test_those_that_may_not_be_entered_are_left_out_on_request(
        self, project: Project, developer: Person
    ) -> None:
        add_workspace(project, "shut-away", auth_type="PRIVATE")

        every = names(developer.project, name="shut")
        accessible = names(developer.project, name="shut", filter_accessible=True)

        assert (every, accessible) == (["shut-away"], [])
        assert names(project, name="shut", filter_accessible=True) == ["shut-away"]


class TestChange:
    def test_what_is_not_named_stays(self, platform: Platform, project: Project) -> None:
        workspace_id = add_workspace(
            project, "before", description="Before", grants=[{"user_name": "eve"}]
        )
        before = show(project, workspace_id)
        platform.clock.now_ms += 1_000

        reply = change(project, workspace_id, description="After")

        assert reply.json() == {"workspace_id": workspace_id}
        assert show(project, workspace_id) == before | {
            "description": "After", "update_time": before["update_time"] + 1_000,
        }  # fmt: skip

    def test_everything_can_change(self, project: Project) -> None:
        workspace_id = add_workspace(project, "old-name", grants=[{"user_name": "eve"}])

        change(
            project, workspace_id, name="new-name", description="", auth_type="PRIVATE", grants=[]
        )

        shown = show(project, workspace_id)
        assert (shown["name"], shown["auth_type"], shown["grants"]) == ("new-name", "PRIVATE", [])

    @pytest.mark.parametrize(
        ("workspace", "body", "code"),
        [
            ("0", {"description": "x"}, "ModelArts.3566"),
            ("f" * 32, {"description": "x"}, "ModelArts.7005"),
            ("own", {"name": "default"}, "ModelArts.0103"),
            ("own", {"name": "xy"}, "ModelArts.0104"),
            ("own", {"name": "somebodys"}, "ModelArts.0103"),
            ("own", {"auth_type": ""}, "ModelArts.0104"),
        ],
    )
    def test_what_is_refused_changes_nothing(
        self, project: Project, workspace: str, body: dict[str, Any], code: str
    ) -> None:
        create(project, name="somebodys")
        create(project, name="own-one")
        [own] = project.get("/workspaces", name="own-one")["workspaces"]
        workspace_id = own["id"] if workspace == "own" else workspace

        refusals.modern(change(project, workspace_id, **body), 400, code)

        assert show(project, own["id"]) == own | {"grants": []}

    def test_one_of_another_project_is_unknown(self, project: Project, other: Project) -> None:
        workspace_id = add_workspace(other, "elsewhere")

        path = f"{project.v1}/workspaces/{workspace_id}"
        for reply in (
            project.http.get(path),
            project.http.put(path, json={"description": "x"}),
            project.http.delete(path),
            project.http.get(f"{path}/quotas"),
            project.http.put(f"{path}/quotas", json={"quotas": []}),
            project.http.post(f"{path}/auth", json={"requests": []}),
        ):
            assert workspace_id in refusals.modern(reply, 400, "ModelArts.7005")


class TestDelete:
    def delete(self, project: Project, workspace_id: str) -> httpx.Response:
        return project.http.delete(f"{project.v1}/workspaces/{workspace_id}")

    def test_an_empty_one_goes_with_all_that_hangs_on_it(
        self, platform: Platform, project: Project, add_person: AddPerson
    ) -> None:
        person = add_person("leaver", Role.READER)
        workspace_id = add_workspace(project, "fleeting", grants=[{"user_name": "eve"}])
        set_role(platform, person, Role.DEVELOPER, workspace="fleeting")
        quotas = {"quotas": [{"resource": "training.jobs", "quota": 1}]}
        project.http.put(f"{project.v1}/workspaces/{workspace_id}/quotas", json=quotas)

        reply = self.delete(project, workspace_id)

        assert reply.json() == {"workspace_id": workspace_id}
        refusals.modern(self.delete(project, workspace_id), 400, "ModelArts.7005")
        add_workspace(project, "fleeting")  # the name is free again

    def test_one_with_a_job_in_it_stays(self, platform: Platform, project: Project) -> None:
        workspace_id = add_workspace(project, "occupied")
        job = platform.submit("inhabitant", workspace_id=workspace_id)
        platform.wait_for(job, 8)

        message = refusals.modern(self.delete(project, workspace_id), 400, "ModelArts.7004")
        assert "1 training job(s)" in message

        project.http.delete(f"{project.v1}/training-jobs/{job['job_id']}")
        refused = self.delete(project, workspace_id)
        if refused.status_code != 200:  # its process has not ended yet
            assert "still being stopped" in refusals.modern(refused, 400, "ModelArts.7004")

    def test_one_with_a_pool_in_it_stays(self, platform: Platform, project: Project) -> None:
        workspace_id = add_workspace(project, "pooled")

        def move(to: str) -> None:
            platform.run(
                platform.server.database.write(
                    lambda tx: (
                        tx.execute(
                            "UPDATE pool SET workspace_id = ? WHERE id = ?",
                            (to, project.pool("serving")),
                        ).rowcount
                    )
                )
            )

        move(workspace_id)
        try:
            message = refusals.modern(self.delete(project, workspace_id), 400, "ModelArts.7004")
            assert "1 pool(s)" in message
        finally:
            move("0")
        assert self.delete(project, workspace_id).status_code == 200

    def test_the_default_one_is_fixed(self, project: Project) -> None:
        refusals.modern(self.delete(project, "0"), 400, "ModelArts.3566")


class TestPermissionCheck:
    def ask(self, person: Person, workspace_id: str, *actions: str) -> httpx.Response:
        body = {
            "requests": [
                {"action_id": str(n), "action": action, "resource": f"r{n}"}
                for n, action in enumerate(actions)
            ]
        }
        return person.v1("POST", f"/workspaces/{workspace_id}/auth", json=body)

    @pytest.mark.parametrize("role", list(Role))
    def test_it_answers_from_the_table(self, add_person: AddPerson, role: Role) -> None:
        person = add_person(f"asking-{role}", role)

        reply = self.ask(person, "0", *Permission)

        results = reply.json()["results"]
        assert [one["action_id"] for one in results] == [str(n) for n in range(len(Permission))]
        assert [one["resource"] for one in results] == [f"r{n}" for n in range(len(Permission))]
        for result, permission in zip(results, Permission, strict=True):
            assert result["action"] == permission
            assert (result["verdict"] == "allow") == may(role, permission)
            assert bool(result["cause"]) == (result["verdict"] == "deny")

    def test_a_refusal_tells_who_may(self, developer: Person) -> None:
        [result] = self.ask(developer, "0", "quota:manage").json()["results"]

        assert result["cause"] == [
            {
                "policy_name": "role developer",
                "condition": [
                    {
                        "key": "role", "operator": "StringEquals",
                        "value": ["administrator", "resource-manager"],
                    }
                ],
            }
        ]  # fmt: skip

    def test_where_the_caller_may_not_enter_it_denies_everything(
        self, project: Project, developer: Person
    ) -> None:
        workspace_id = add_workspace(project, "forbidden", auth_type="PRIVATE")

        results = self.ask(developer, workspace_id, *Permission).json()["results"]

        assert {one["verdict"] for one in results} == {"deny"}
        assert {one["cause"][0]["policy_name"] for one in results} == {"workspace access"}

    def test_the_role_in_the_workspace_counts(
        self, platform: Platform, project: Project, add_person: AddPerson
    ) -> None:
        person = add_person("two-faced", Role.READER)
        workspace_id = add_workspace(project, "promoted")
        set_role(platform, person, Role.DEVELOPER, workspace="promoted")

        [there] = self.ask(person, workspace_id, "job:write").json()["results"]
        [here] = self.ask(person, "0", "job:write").json()["results"]

        assert (there["verdict"], here["verdict"]) == ("allow", "deny")

    def test_an_unknown_action_is_told(self, developer: Person) -> None:
        message = refusals.modern(
            self.ask(developer, "0", "job:read", "job:fly"), 400, "ModelArts.0104"
        )

        assert "requests[1].action is 'job:fly'; there are job:read, job:write" in message

    @pytest.mark.parametrize(
        "body", [{}, {"requests": [{}]}, {"requests": [{"action": "job:read"}]}]
    )
    def test_a_body_that_lacks_something_is_told(
        self, developer: Person, body: dict[str, Any]
    ) -> None:
        reply = developer.v1("POST", "/workspaces/0/auth", json=body)

        assert "is missing" in refusals.modern(reply, 400, "ModelArts.0104")


class TestAuthorizations:
    AUTHORIZATIONS = "/authorizations"

    @pytest.fixture
    def fresh(self, platform: Platform, request: pytest.FixtureRequest) -> Iterator[Project]:
        name = f"auth{abs(hash(request.node.nodeid)) % 10**9}"
        fresh = platform.new_project(name)
        yield fresh
        fresh.http.close()

    def call(self, project: Project, method: str, query: str = "", **body: Any) -> httpx.Response:
        return project.http.request(
            method, f"{project.v2}{self.AUTHORIZATIONS}{query}", json=body or None
        )

    def test_what_is_kept_is_shown_without_its_secret(
        self, platform: Platform, fresh: Project
    ) -> None:
        secret = "s" * 40

        reply = self.call(
            fresh, "POST", content="AK7", type="credential", user_id="user-7", user_name="ann",
            secret_key=secret,
        )  # fmt: skip

        assert (reply.status_code, reply.json()) == (200, {"result": "true"})
        listed = self.call(fresh, "GET")
        assert listed.json() == {
            "total_count": 1,
            "auth": [
                {
                    "user_id": "user-7", "type": "credential", "content": "AK7",
                    "secret_key": None, "user_name": "ann", "user_type": "iam",
                    "create_time": platform.clock(),
                }
            ],
        }  # fmt: skip
        assert secret not in listed.text

    def test_no_secret_is_stored_anywhere(self, platform: Platform, fresh: Project) -> None:
        secret = "never-to-be-found-in-any-file".ljust(40, "0")

        self.call(fresh, "POST", content="AK7", type="credential", secret_key=secret)

        store = platform.server.settings.store
        if isinstance(store, str):
            pytest.skip("looks into the file")
        with sqlite3.connect(store) as connection:
            dump = "\n".join(connection.iterdump())
        connection.close()
        assert "AK7" in dump
        assert secret not in dump

    def test_lists_are_sorted_and_paged(self, platform: Platform, fresh: Project) -> None:
        for name in ("bea", "ann", "cat"):
            platform.clock.now_ms += 1_000
            self.call(fresh, "POST", content="agency", user_id=f"id-{name}", user_name=name)

        def listed(query: str = "") -> list[str]:
            return [one["user_name"] for one in self.call(fresh, "GET", query).json()["auth"]]

        assert listed() == ["ann", "bea", "cat"]
        assert listed("?order=DESC") == ["cat", "bea", "ann"]
        assert listed("?sort_by=create_time&order=asc") == ["bea", "ann", "cat"]
        assert listed("?limit=1&offset=1") == ["bea"]
        refusals.modern(self.call(fresh, "GET", "?limit=0"), 400, "ModelArts.0104")
        refusals.modern(self.call(fresh, "GET", "?order=up"), 400, "ModelArts.0104")

    def test_one_a_user_and_one_for_all(self, fresh: Project) -> None:
        assert self.call(fresh, "POST", content="a", user_id="all").status_code == 200
        assert self.call(fresh, "POST", content="a", user_id="user-1").status_code == 200

        for user_id in ("all", "all-users", "user-1"):
            reply = self.call(fresh, "POST", content="b", user_id=user_id)
            refusals.modern(reply, 400, "ModelArts.0424")
        assert [one["user_id"] for one in self.call(fresh, "GET").json()["auth"]] == [
            "all-users", "user-1",
        ]  # fmt: skip

    def test_they_are_deleted_by_user_or_all_at_once(self, fresh: Project) -> None:
        for user_id in ("user-1", "user-2", "user-3"):
            self.call(fresh, "POST", content="a", user_id=user_id)

        assert self.call(fresh, "DELETE", "?user_id=user-1").json() == {"result": "true"}
        refusals.modern(self.call(fresh, "DELETE", "?user_id=user-1"), 400, "ModelArts.0429")
        assert self.call(fresh, "DELETE", "?user_id=all").json() == {"result": "true"}
        assert self.call(fresh, "GET").json()["total_count"] == 0
        refusals.modern(self.call(fresh, "DELETE", "?user_id=all-users"), 400, "ModelArts.0429")

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "content is missing"),
            ({"content": ""}, "content is"),
            ({"content": "x" * 65}, "content is"),
            ({"content": "a", "type": "magic"}, "type is \"magic\""),
            ({"content": "a", "user_id": "ab"}, "user_id is 'ab'; it must have 3 to 32"),
            ({"content": "a", "user_type": "robot"}, "user_type is \"robot\""),
            ({"content": "a", "type": "credential"}, "secret_key must be 40 characters"),
            ({"content": "a", "type": "credential", "secret_key": "topsecret"},
             "secret_key must be 40 characters"),
            ({"content": "a", "secret_key": "topsecret"}, "for the type 'credential' only"),
            ({"content": "a", "secret_key": {"is": "topsecret"}}, "secret_key must be text"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_told_and_no_secret_repeated(
        self, project: Project, body: dict[str, Any], says: str
    ) -> None:
        reply = project.http.post(f"{project.v2}{self.AUTHORIZATIONS}", json=body)

        message = refusals.modern(reply, 400, "ModelArts.0104")
        assert says in message
        assert "topsecret" not in message

    def test_a_delete_names_whose(self, project: Project) -> None:
        message = refusals.modern(self.call(project, "DELETE"), 400, "ModelArts.0104")

        assert message == "user_id is missing; it must be text."
