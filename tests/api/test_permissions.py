"""Who may do what: every route against every role, and what is in workspaces."""

import re
from collections.abc import Iterator, Mapping

import httpx
import pytest

from muster.api.authorise import _place
from muster.api.routes import build_routes
from muster.api.routing import Login, Route, Within
from muster.domain.permission import Permission, Role, may
from muster.store.connection import Connection
from tests.api import refusals
from tests.api.people import AddPerson, Person, add_workspace, people_of, set_role, signed_request
from tests.api.platform import Platform, Project, login_body

ROUTES = [
    route
    for route in build_routes(services=None)  # type: ignore[arg-type]  # nothing is called
    if route.needs is not None
]


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


@pytest.fixture(scope="module")
def people(add_person: AddPerson) -> Mapping[Role, Person]:
    return {role: add_person(f"the-{role}", role) for role in Role}


@pytest.fixture(scope="module")
def developer(people: Mapping[Role, Person]) -> Person:
    return people[Role.DEVELOPER]


@pytest.fixture(scope="module")
def reader(people: Mapping[Role, Person]) -> Person:
    return people[Role.READER]


def path_of(route: Route, project: Project) -> str:
    """A path of the route; nothing has these ids."""
    known = {"project_id": project.id, "job_id": "999999", "version_id": "999999"}

    def value(variable: re.Match[str]) -> str:
        return known.get(variable[1], f"no-{variable[1].replace('_', '-')}")

    return re.sub(r"{(\w+)(?:\.\.\.)?}", value, route.path)


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


class TestTable:
    def test_no_route_of_a_project_is_without_a_rule(self) -> None:
        every = build_routes(services=None)  # type: ignore[arg-type]  # nothing is called

        for route in every:
            if route.login is Login.PROJECT:
                assert route.needs is not None, named(route)
                variables = [part for part in route.path.split("/") if part.startswith("{")]
                assert variables[0] == "{project_id}", named(route)  # who calls is held against it

    def test_a_route_without_a_rule_cannot_be_written(self) -> None:
        with pytest.raises(AssertionError, match=r"GET /v1/\{project_id\}/x needs no permission"):
            Route(
                method="GET",
                path="/v1/{project_id}/x",
                handler=lambda request: None,  # type: ignore[arg-type, return-value]
                summary="",
                envelope=ROUTES[0].envelope,
            )

    def test_objects_have_rules_too(self) -> None:
        objects = [route for route in ROUTES if route.path.startswith("/objects")]

        assert len(objects) == 6
        for route in objects:
            writes = route.method in ("PUT", "DELETE")
            assert route.needs is (Permission.OBJECT_WRITE if writes else Permission.OBJECT_READ), (
                named(route)
            )

    @pytest.mark.parametrize("route", ROUTES, ids=named)
    def test_what_names_a_thing_in_its_path_is_held_against_its_workspace(
        self, route: Route
    ) -> None:
        second = [*re.findall(r"{(\w+)", route.path), "", ""][1]
        expected = {
            "job_id": {
                Within.VISUALIZATION if "/visualization-jobs/" in route.path else Within.JOB
            },
            "experiment_id": {Within.EXPERIMENT},
            "training_job_id": {Within.TRAINING_JOB},
            "pool_name": {Within.POOL},
            "algorithm_id": {Within.ALGORITHM},
            "notebook_id": {Within.NOTEBOOK},
            "image_id": {Within.IMAGE},
            # The check of permissions answers for those who may not enter, too.
            "workspace_id": {Within.WORKSPACE, Within.PROJECT},
        }
        assert route.within in expected.get(second, set(Within) - {Within.JOB, Within.POOL})

    @pytest.mark.parametrize("route", ROUTES, ids=named)
    def test_what_takes_a_workspace_looks_at_it(self, route: Route) -> None:
        fields = () if route.query is None else route.query.__struct_fields__
        if {"workspace_id", "workspaceId"} & set(fields):
            assert route.within is Within.QUERY
        if route.within is Within.BODY:
            assert route.body is not None

    def test_each_body_names_its_workspace_in_its_own_way(self) -> None:
        places = {
            named(route): _place(route.body)  # type: ignore[arg-type]  # it is hashable
            for route in ROUTES
            if route.within is Within.BODY
        }

        jobs_v1 = "POST /v1/{project_id}/training-jobs"
        jobs_v2 = "POST /v2/{project_id}/training-jobs"
        search = "POST /v2/{project_id}/training-job-searches"
        assert places.pop(jobs_v1) == ("workspace_id",)
        assert places.pop(jobs_v2) == ("metadata", "workspace_id")
        assert places.pop("POST /v2/{project_id}/algorithms") == ("metadata", "workspace_id")
        experiments = "POST /v2/{project_id}/training-experiments"
        assert places.pop(experiments) == ("metadata", "workspace_id")
        assert places.pop("POST /v1/{project_id}/visualization-jobs") == ("workspace_id",)
        assert places.pop(search) == ("workspace_id",)
        assert places.pop("POST /v1/{project_id}/notebooks") == ("workspace_id",)
        assert places.pop("POST /v1/{project_id}/images") == ("workspace_id",)
        assert places.pop("POST /v1/{project_id}/models") == ("workspace_id",)
        assert places.pop("POST /v1/{project_id}/services") == ("workspace_id",)
        assert places.pop("POST /v1/{project_id}/demanager/instances") == ("workspace", "id")
        for asked in ("filter", "count"):
            tagged = f"POST /v2/{{project_id}}/modelarts-training-job/resource-instances/{asked}"
            assert places.pop(tagged) == ("workspace_id",)
        for name, place in places.items():
            assert place == ("metadata", "labels", "os.modelarts/workspace.id"), name


class TestEveryRouteAndRole:
    @pytest.mark.parametrize("route", ROUTES, ids=named)
    def test_each_role_is_refused_exactly_what_the_table_denies(
        self, people: Mapping[Role, Person], project: Project, route: Route
    ) -> None:
        assert route.needs is not None
        for role, person in people.items():
            reply = person.http.request(route.method, path_of(route, project))

            is_refused = reply.status_code == 403
            assert is_refused != may(role, route.needs), f"{role}: {reply.text}"
            if is_refused and route.method != "HEAD":
                assert reply.json()["error_code"] == "ModelArts.0108"
                assert f"is {role} in this project" in reply.text
                assert f"lacks the permission {route.needs}" in reply.text

    @pytest.mark.parametrize("route", ROUTES, ids=named)
    def test_nobody_calls_without_a_login_or_from_another_project(
        self, platform: Platform, project: Project, other: Project, route: Route
    ) -> None:
        path = path_of(route, project)

        assert httpx.request(route.method, platform.url + path).status_code == 401
        if route.login is Login.PROJECT:
            reply = other.http.request(route.method, path)
            assert reply.status_code == 403
            assert reply.json()["error_code"] == "ModelArts.0210"

    def test_a_reader_changes_nothing(self, people: Mapping[Role, Person]) -> None:
        writing = [route for route in ROUTES if route.method not in ("GET", "HEAD")]
        # These read, by POST.
        harmless = {"training-job-searches", "auth", "filter", "count"}

        for route in writing:
            if route.path.rpartition("/")[2] not in harmless:
                assert route.needs is not None
                assert not may(Role.READER, route.needs), named(route)


class TestRoles:
    def test_a_token_carries_the_role(self, platform: Platform, reader: Person) -> None:
        body = login_body(reader.name, reader.project.password, reader.project.id)

        reply = httpx.post(f"{platform.url}/v3/auth/tokens", json=body)

        assert reply.json()["token"]["roles"] == [{"id": "reader", "name": "reader"}]

    def test_the_first_user_of_a_project_administers_it_and_later_ones_develop(
        self, platform: Platform, other: Project
    ) -> None:
        from muster.operations import identity

        later = platform.run(identity.create_user(platform.server.identity, "later", "other"))

        assert later.role is Role.DEVELOPER
        assert other.http.get(f"{other.v2}/authorizations").status_code == 200

    def test_a_changed_role_counts_at_once(self, platform: Platform, add_person: AddPerson) -> None:
        person = add_person("changing", Role.READER)
        assert person.v1("POST", "/training-jobs").status_code == 403

        set_role(platform, person, Role.DEVELOPER)
        assert person.v1("POST", "/training-jobs").status_code == 400
        set_role(platform, person, None)
        assert person.v1("GET", "/training-jobs").status_code == 401  # its token is for no project

    def test_a_role_for_a_signed_request_is_the_same(self, add_person: AddPerson) -> None:
        person = add_person("signing", Role.READER)
        path = f"{person.project.v1}/training-jobs"

        assert signed_request(person.project, path).status_code == 200
        refusals.v1(signed_request(person.project, path, method="POST"), 403, "ModelArts.0108")


class TestPriority:
    def submit(self, person: Person, platform: Platform, priority: int) -> httpx.Response:
        config = platform.code()
        body = {
            "kind": "job",
            "metadata": {"name": f"prio-{person.name}-{priority}"},
            "algorithm": {
                "code_dir": config["app_url"],
                "boot_file": config["boot_file_url"],
                "engine": {"engine_id": self.engine_id(person)},
            },
            "spec": {
                "resource": {
                    "pool_id": person.project.pool("small"),
                    "flavor_id": "modelarts.vm.cpu.1u",
                    "node_count": 1,
                },
                "schedule_policy": {"priority": priority},
            },
        }
        return person.v2("POST", "/training-jobs", json=body)

    def engine_id(self, person: Person) -> str:
        return str(person.v2("GET", "/training-job-engines").json()["items"][0]["engine_id"])

    def test_a_developer_asks_for_two_and_no_more(
        self, platform: Platform, developer: Person
    ) -> None:
        assert self.submit(developer, platform, 2).status_code == 201

        message = refusals.modern(self.submit(developer, platform, 3), 403, "ModelArts.0108")
        assert "priority is 3" in message
        assert "modelarts:trainJob:setHighPriority" in message

    def test_who_was_let_asks_for_three(self, platform: Platform, add_person: AddPerson) -> None:
        person = add_person("urgent", Role.DEVELOPER, may_prioritise=True)

        assert self.submit(person, platform, 3).status_code == 201
        set_role(platform, person, Role.DEVELOPER, may_prioritise=False)
        assert self.submit(person, platform, 3).status_code == 403

    def test_a_waiting_job_is_not_raised_by_everybody(
        self, platform: Platform, developer: Person, project: Project
    ) -> None:
        full = platform.submit("full", worker_server_num=2, pool_id=project.pool("small"))
        waiting = self.submit(developer, platform, 1).json()["metadata"]["id"]
        change = {"spec": {"schedule_policy": {"priority": 3}}}

        reply = developer.v2("PUT", f"/training-jobs/{waiting}", json=change)
        assert "priority is 3" in refusals.modern(reply, 403, "ModelArts.0108")
        raised = project.http.put(f"{project.v2}/training-jobs/{waiting}", json=change)
        assert raised.status_code == 200, raised.text
        project.http.delete(f"{project.v1}/training-jobs/{full['job_id']}")


@pytest.fixture(scope="module")
def closed(project: Project) -> str:
    """A workspace that nobody but its owner and administrators may enter."""
    return add_workspace(project, "closed", auth_type="PRIVATE")


@pytest.fixture(scope="module")
def job(platform: Platform, closed: str) -> dict[str, str]:
    """A job in it."""
    job = platform.submit("hidden", workspace_id=closed)
    platform.wait_for(job, 8)

    def read(connection: Connection) -> str:
        [uid] = connection.execute("SELECT uid FROM workload WHERE name = 'hidden'").fetchone()
        return str(uid)

    uid = platform.run(platform.server.database.read(read))
    return {"id": str(job["job_id"]), "version": str(job["version_id"]), "uid": uid}


class TestWorkspaces:
    """What is in a private workspace, and who sees what of it."""

    def job_paths(self, job: Mapping[str, str]) -> Iterator[str]:
        v1 = f"/training-jobs/{job['id']}"
        yield f"v1 {v1}/versions"
        yield f"v1 {v1}/versions/{job['version']}"
        yield f"v1 {v1}/versions/{job['version']}/log/file-names"
        yield f"v2 /training-jobs/{job['uid']}"
        yield f"v2 /training-jobs/{job['uid']}/events"

    def ask(self, person: Person, path: str, method: str = "GET") -> httpx.Response:
        family, _, rest = path.partition(" ")
        return person.v1(method, rest) if family == "v1" else person.v2(method, rest)

    def test_its_jobs_are_not_there_for_others(
        self, developer: Person, job: dict[str, str]
    ) -> None:
        gone = {**job, "id": "777777", "uid": "f" * 32}

        for path, unknown in zip(self.job_paths(job), self.job_paths(gone), strict=True):
            for method in ("GET", "DELETE"):
                hidden = self.ask(developer, path, method)
                missing = self.ask(developer, unknown, method)
                if missing.status_code == 405:
                    continue
                assert hidden.status_code == missing.status_code, path
                assert hidden.json()["error_code"] == "ModelArts.2775", path
                told = hidden.json()["error_msg"]
                told = told.replace(job["uid"], "f" * 32).replace(f" {job['id']};", " 777777;")
                assert told == missing.json()["error_msg"]

    def test_its_owner_sees_them(self, project: Project, job: dict[str, str]) -> None:
        owner = Person(name="admin", id="", project=project)

        assert [self.ask(owner, path).status_code for path in self.job_paths(job)] == [200] * 5

    def test_lists_do_not_know_it(self, developer: Person, closed: str) -> None:
        unknown = "e" * 32

        def told(workspace_id: str) -> list[str]:
            replies = [
                developer.v1("GET", f"/training-jobs?workspace_id={workspace_id}"),
                developer.v1("GET", f"/training-jobs/versions?workspace_id={workspace_id}"),
                developer.v1("GET", f"/training-jobs/versions?limit=0&workspace_id={workspace_id}"),
                developer.v1("GET", "/training-jobs", json={"workspace_id": workspace_id}),
                developer.v2(
                    "GET", f"/training-job-names?job_name=hidden&workspace_id={workspace_id}"
                ),
                developer.v2(
                    "POST", "/training-job-searches", json={"workspace_id": workspace_id}
                ),
                developer.v1(
                    "POST", "/training-jobs",
                    json={"job_name": "x", "workspace_id": workspace_id, "config": {}},
                ),
                developer.v2(
                    "POST", "/training-jobs",
                    json={"kind": "job", "metadata": {"name": "x", "workspace_id": workspace_id}},
                ),
            ]  # fmt: skip
            for reply in replies[:6]:
                assert reply.status_code == 400, reply.text
                assert reply.json()["error_code"] == "ModelArts.0102", reply.text
            return [reply.json()["error_msg"].replace(workspace_id, "") for reply in replies[:6]]

        assert told(closed) == told(unknown)

    def test_nothing_is_made_in_it_by_others(
        self, platform: Platform, developer: Person, closed: str
    ) -> None:
        body = {"job_name": "x", "workspace_id": closed, "config": platform.code()}

        reply = developer.v1("POST", "/training-jobs", json=body)

        refusals.v1(reply, 400, "ModelArts.0102")

    def test_naming_an_open_one_beside_it_does_not_help(
        self, developer: Person, closed: str
    ) -> None:
        """Each API reads its own field: the check reads the same one."""
        beside = developer.v1("GET", f"/training-jobs?workspaceId=0&workspace_id={closed}")
        over = developer.v1("GET", f"/training-jobs?workspace_id={closed}&workspace_id=0")
        body = {
            "kind": "job",
            "workspace_id": "0",
            "metadata": {"name": "x", "workspace_id": closed},
        }
        inside = developer.v2("POST", "/training-jobs?workspace_id=0", json=body)

        for reply in (beside, over, inside):
            assert reply.status_code == 400, reply.text
            assert reply.json()["error_code"] == "ModelArts.0102", reply.text

    def test_the_workspace_itself_is_unknown(
        self, people: Mapping[Role, Person], closed: str
    ) -> None:
        for role in (Role.DEVELOPER, Role.READER, Role.RESOURCE_MANAGER):
            for path in ("", "/quotas"):
                reply = people[role].v1("GET", f"/workspaces/{closed}{path}")
                refusals.modern(reply, 400, "ModelArts.7005")
        assert people[Role.ADMINISTRATOR].v1("GET", f"/workspaces/{closed}").status_code == 200

    def test_what_pools_say_of_it_is_forbidden(self, developer: Person, closed: str) -> None:
        reply = developer.v2("GET", f"/pools?workspaceId={closed}")

        assert closed in refusals.modern(reply, 403, "ModelArts.0108")

    def test_its_jobs_are_missing_where_a_pool_lists_all(
        self, developer: Person, project: Project, job: dict[str, str]
    ) -> None:
        path = f"/pools/{project.pool('public')}/workloads"

        def listed(http: httpx.Client) -> tuple[int, set[str]]:
            answer = http.get(f"{project.v2}{path}").json()
            return answer["total"], {item["jobName"] for item in answer["items"]}

        total, names = listed(project.http)
        shown, seen = listed(developer.http)

        assert names - seen == {"hidden"}
        assert total - shown == 1

    def test_a_pool_in_it_is_not_there(
        self, platform: Platform, developer: Person, project: Project, closed: str
    ) -> None:
        pool_id = project.pool("serving")

        def move(workspace_id: str) -> None:
            platform.run(
                platform.server.database.write(
                    lambda tx: (
                        tx.execute(
                            "UPDATE pool SET workspace_id = ? WHERE id = ?", (workspace_id, pool_id)
                        ).rowcount
                    )
                )
            )

        statistics = f"/statistics/pools/{pool_id}/workloads"
        assert developer.v2("GET", statistics).status_code == 200
        move(closed)
        try:
            for path in (f"/pools/{pool_id}", f"/pools/{pool_id}/workloads", statistics):
                reply = developer.v2("GET", path)
                message = refusals.modern(reply, 404, "ModelArts.50015001")
                assert message == f"Pool {pool_id} not found."
            assert project.http.get(f"{project.v2}{statistics}").status_code == 200
            config = platform.code() | {"pool_id": pool_id}
            body = {"job_name": "intruder", "config": config}
            submitted = developer.v1("POST", "/training-jobs", json=body)
            refusals.v1(submitted, 404, "ModelArts.2890")
        finally:
            move("0")

    def test_a_grant_opens_an_internal_one_at_once(
        self, developer: Person, reader: Person, project: Project, job: dict[str, str], closed: str
    ) -> None:
        path = f"{project.v1}/workspaces/{closed}"
        grants = [{"user_id": developer.id}, {"user_name": reader.name}]
        change = {"auth_type": "INTERNAL", "grants": grants}
        assert project.http.put(path, json=change).status_code == 200

        try:
            for person in (developer, reader):
                for job_path in self.job_paths(job):
                    assert self.ask(person, job_path).status_code == 200, job_path
                assert person.v1("GET", f"/training-jobs?workspace_id={closed}").json()["jobs"]
        finally:
            project.http.put(path, json={"auth_type": "PRIVATE"})
        assert developer.v1("GET", f"/workspaces/{closed}").status_code == 400

    def test_a_role_in_one_workspace_counts_there_alone(
        self, platform: Platform, reader: Person, job: dict[str, str], closed: str
    ) -> None:
        stop = f"/training-jobs/{job['id']}/versions/999999/stop"
        set_role(platform, reader, Role.DEVELOPER, workspace="closed")

        try:
            refusals.v1(reader.v1("POST", stop), 404, "ModelArts.2775")
            body = {"job_name": "x", "workspace_id": closed, "config": {}}
            assert reader.v1("POST", "/training-jobs", json=body).status_code == 400
            body["workspace_id"] = "0"
            message = refusals.v1(
                reader.v1("POST", "/training-jobs", json=body), 403, "ModelArts.0108"
            )
            assert "is reader in workspace '0'" in message
        finally:
            set_role(platform, reader, None, workspace=closed)
        refusals.v1(reader.v1("POST", stop), 404, "ModelArts.2775")
