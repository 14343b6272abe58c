"""Visualization jobs over the API: an engine in memory, and in place of TensorBoard what answers.

The keeper, the proxy and the store are real; the clock stands until a test moves it.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from muster.domain.jobfolder import (
    code_folder,
    data_folder,
    endpoint_file,
    log_file,
    output_folder,
)
from muster.domain.permission import Role
from muster.domain.visualization import START_MS_MAX
from muster.store.connection import Connection
from muster.store.recount import differences
from tests.api import refusals
from tests.api.people import AddPerson, add_workspace, people_of
from tests.api.platform import Platform, Project, wait_until

HOUR_MS = 3_600_000
RESULTS = "/bucket-default/results/"


class _Answers(BaseHTTPRequestHandler):
    seen: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012 - of the whole module

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.path, headers))
        body = b"<title>Stand-in</title>"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of what stands for every TensorBoard."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


@pytest.fixture(scope="module", autouse=True)
def _results(project: Project) -> None:
    put(project, f"{RESULTS}tfevents.out")


@pytest.fixture(autouse=True)
def _counts_are_exact(platform: Platform) -> Iterator[None]:
    yield
    for job in platform.project.get("/visualization-jobs", per_page=1000)["jobs"]:
        platform.project.http.delete(path_of(platform.project, job))
    assert platform.run(platform.server.database.scan(_differences)) == []


def _differences(connection: Connection) -> list[str]:
    return list(differences(connection))


def put(project: Project, url: str) -> None:
    reply = project.http.put(f"/objects{url}", content=b"scalars")
    assert reply.status_code == 200, reply.text


def path_of(project: Project, job: dict[str, Any]) -> str:
    return f"{project.v1}/visualization-jobs/{job['job_id']}"


def post(project: Project, **body: Any) -> httpx.Response:
    given = {"job_name": "one", "train_url": RESULTS} | body
    return project.http.post(f"{project.v1}/visualization-jobs", json=given)


def create(project: Project, **body: Any) -> dict[str, Any]:
    reply = post(project, **body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def show(project: Project, job: dict[str, Any]) -> dict[str, Any]:
    return dict(project.get(f"/visualization-jobs/{job['job_id']}"))


def attempt_of(platform: Platform, job: dict[str, Any]) -> str:
    """Once it has been placed."""

    def read(connection: Connection) -> str | None:
        [found] = connection.execute(
            "SELECT attempt_id FROM workload JOIN visualization AS v ON v.workload_id = workload.id"
            " WHERE v.id = ?",
            (job["job_id"],),
        ).fetchone()
        return None if found is None else str(found)

    def find() -> str | None:
        return platform.run(platform.server.database.read(read))

    wait_until(lambda: find() in platform.engine.running())
    attempt_id = find()
    assert attempt_id is not None
    return attempt_id


def bring_up(platform: Platform, job: dict[str, Any], port: int) -> str:
    attempt_id = attempt_of(platform, job)
    folder = platform.data / "jobs" / attempt_id
    code_folder(folder, 0).mkdir(parents=True, exist_ok=True)
    endpoint_file(folder, 0).write_text(json.dumps({"host": "127.0.0.1", "port": port}))
    wait_until(lambda: show(platform.project, job)["status"] == 8)
    return attempt_id


def counted(project: Project) -> dict[str, dict[str, int]]:
    path = f"{project.v2}/statistics/pools/{project.pool('public')}/workloads"
    items = project.http.get(path).json()["statistics"]["items"]
    return {
        item["type"]: {state: count for state, count in item["status"].items() if count}
        for item in items
    }


class TestLife:
    def test_one_is_made_comes_up_and_is_shown(
        self, platform: Platform, project: Project, port: int
    ) -> None:
        made = create(project, job_desc="words", flavor={"code": "modelarts.vm.cpu.2u"})

        assert set(made) == {
            "is_success", "job_id", "job_name", "status", "create_time", "service_url",
        }  # fmt: skip
        assert made["status"] in (1, 7)
        assert made["service_url"].startswith(f"{project.url}/visualizations/")
        bring_up(platform, made, port)
        shown = show(project, made)
        assert shown["is_success"] is True
        assert (shown["job_desc"], shown["train_url"]) == ("words", RESULTS)
        assert (shown["flavor"], shown["job_type"]) == (
            {"code": "modelarts.vm.cpu.2u"}, "tensorboard",
        )  # fmt: skip
        assert (shown["schedule"], shown["remaining_duration"]) == (None, None)

    def test_it_runs_the_smallest_flavor_over_the_folder_and_counts_as_a_tool(
        self, platform: Platform, project: Project, port: int
    ) -> None:
        made = create(project, train_url=RESULTS.rstrip("/"))
        attempt_id = bring_up(platform, made, port)

        launch = platform.engine.started[attempt_id]
        assert launch.serves
        folder = platform.data / "jobs" / attempt_id
        looked_at = code_folder(folder, 0) / launch.environment["MUSTER_VISUALIZATION_FOLDER"]
        assert looked_at.resolve() == data_folder(folder).resolve()
        assert (looked_at / "tfevents.out").read_bytes() == b"scalars"
        assert show(project, made)["flavor"] == {"code": "modelarts.vm.cpu.1u"}
        assert counted(project)["notebook"] == {"Running": 1}
        assert "Running" not in counted(project)["train"]
        project.http.delete(path_of(project, made))
        assert counted(project)["notebook"] == {}

    def test_a_whole_bucket_is_a_folder_too(self, project: Project) -> None:
        made = create(project, train_url="obs://bucket-default")

        assert show(project, made)["train_url"] == "/bucket-default/"

    def test_its_schedule_stops_it(self, platform: Platform, project: Project, port: int) -> None:
        made = create(project, schedule=[{"type": "stop", "time_unit": "HOURS", "duration": 2}])
        bring_up(platform, made, port)
        platform.clock.now_ms += HOUR_MS

        shown = show(project, made)
        assert shown["remaining_duration"] == HOUR_MS
        assert shown["schedule"] == {"type": "stop", "time_unit": "HOURS", "duration": 2}
        platform.clock.now_ms += HOUR_MS
        platform.call(platform.server.reconciler.wake)
        wait_until(lambda: show(project, made)["status"] == 12)
        assert show(project, made)["duration"] == 2 * HOUR_MS

    def test_it_is_stopped_and_restarted_over_what_is_there_then(
        self, platform: Platform, project: Project, port: int
    ) -> None:
        made = create(project)
        attempt_id = bring_up(platform, made, port)
        path = path_of(project, made)

        assert refusals.v1(project.http.post(f"{path}/restart"), 409, "ModelArts.2878")
        assert project.http.post(f"{path}/stop").json() == {"is_success": True}
        refusals.v1(project.http.post(f"{path}/stop"), 409, "ModelArts.2796")
        wait_until(lambda: show(project, made)["status"] == 12)
        refusals.v1(project.http.post(f"{path}/stop"), 409, "ModelArts.2796")
        assert counted(project)["notebook"] == {"Terminated": 1}
        again = project.http.post(f"{path}/restart").json()
        assert (again["job_id"], again["service_url"]) == (made["job_id"], made["service_url"])
        assert bring_up(platform, made, port) != attempt_id
        assert counted(project)["notebook"] == {"Running": 1}

    def test_why_it_ended_by_itself_is_told(
        self, platform: Platform, project: Project, port: int
    ) -> None:
        made = create(project)
        attempt_id = bring_up(platform, made, port)
        log = log_file(platform.data / "jobs" / attempt_id, 0)
        log.parent.mkdir(exist_ok=True)
        log.write_text("reading\nout of luck\n")

        platform.call(platform.engine.finish, attempt_id, 0, 1)

        wait_until(lambda: "out of luck" in show(project, made)["status_message"])
        assert show(project, made)["status"] == 11
        closed = project.http.get(made["service_url"].partition("?")[0])
        assert closed.status_code == 503
        wait_until(lambda: not data_folder(platform.data / "jobs" / attempt_id).exists())

    def test_it_looks_at_what_a_job_writes_that_still_runs(
        self, platform: Platform, project: Project, port: int
    ) -> None:
        job = platform.submit("writing", train_url="/bucket-default/underway/one/")
        platform.wait_for(job, 8)
        attempt_id = platform.attempt_of(job["version_id"])
        assert attempt_id is not None
        output = output_folder(platform.data / "jobs" / attempt_id)
        output.mkdir(parents=True, exist_ok=True)
        (output / "tfevents.live").write_bytes(b"so far")

        made = create(project, train_url="/bucket-default/underway/")
        board = bring_up(platform, made, port)

        copies = data_folder(platform.data / "jobs" / board)
        wait_until((copies / "one/tfevents.live").exists)
        assert show(project, made)["status_message"] == ""
        assert not (platform.data / "objects/bucket-default/underway").exists()
        platform.finish(job)
        refused = post(project, job_name="later", train_url="/bucket-default/elsewhere/")
        assert refusals.v1(refused, 400, "ModelArts.2791")

    def test_one_that_never_answers_is_stopped_and_says_why(
        self, platform: Platform, project: Project
    ) -> None:
        made = create(project)
        attempt_id = attempt_of(platform, made)
        wait_until(lambda: show(project, made)["status"] == 7)
        log = log_file(platform.data / "jobs" / attempt_id, 0)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("still importing\n")

        platform.clock.now_ms += START_MS_MAX
        platform.call(platform.server.reconciler.wake)

        wait_until(lambda: show(project, made)["status"] == 12)
        assert "did not answer within 30 minutes" in show(project, made)["status_message"]
        assert "still importing" in show(project, made)["status_message"]
        assert counted(project)["notebook"] == {"Terminated": 1}


class TestOpening:
    def test_the_address_opens_it_once_and_the_cookie_after_that(
        self, platform: Platform, project: Project, port: int
    ) -> None:
        made = create(project)
        bring_up(platform, made, port)
        address, _, token = made["service_url"].partition("?token=")
        before = len(_Answers.seen)

        with httpx.Client() as browser:
            first = browser.get(made["service_url"])
            second = browser.get(f"{address}data/x?tag=a")

        assert (first.status_code, second.status_code) == (302, 200)
        assert first.headers["location"] == address.removeprefix(project.url)
        kept = first.headers["set-cookie"]
        assert "HttpOnly" in kept
        assert "SameSite=Lax" in kept
        [(path, headers)] = _Answers.seen[before:]
        assert path == f"{address.removeprefix(project.url)}data/x?tag=a"
        assert token not in json.dumps(headers)

    def test_only_members_open_it_by_musters_own_token(
        self, platform: Platform, project: Project, other: Project, port: int,
        add_person: AddPerson,
    ) -> None:  # fmt: skip
        made = create(project)
        bring_up(platform, made, port)
        address = made["service_url"].partition("?")[0]
        reader = add_person("visual-reader", Role.READER)

        assert project.http.get(address).status_code == 200
        assert reader.http.get(address).status_code == 200
        assert other.http.get(address).status_code == 404
        refusals.modern(httpx.get(address), 401, "ModelArts.0205")
        refusals.modern(httpx.get(address, params={"token": "no"}), 403, "ModelArts.0108")
        foreign = httpx.post(
            address,
            headers={
                "Cookie": f"muster-visualization={made['service_url'].partition('=')[2]}",
                "Origin": "http://elsewhere.example",
            },
        )
        refusals.modern(foreign, 403, "ModelArts.0108")

    def test_it_waits_until_it_is_up(self, project: Project) -> None:
        made = create(project)

        reply = project.http.get(made["service_url"].partition("?")[0])

        assert refusals.modern(reply, 503, "ModelArts.0010")


class TestList:
    def test_it_is_searched_filtered_sorted_and_paged(self, project: Project) -> None:
        for name in ("b-1", "a-2", "c-3"):
            create(project, job_name=name, job_desc=f"about {name}")

        def names(**query: object) -> list[str]:
            found = project.get("/visualization-jobs", **query)
            return [job["job_name"] for job in found["jobs"]]

        assert names() == ["b-1", "a-2", "c-3"]
        assert names(sortBy="job_name") == ["a-2", "b-1", "c-3"]
        assert names(sort_by="job_name", order="desc") == ["c-3", "b-1", "a-2"]
        assert names(search_content="A-") == ["a-2"]
        assert names(status="12,10") == []
        assert names(per_page=2, page=2) == ["c-3"]
        whole = project.get("/visualization-jobs", per_page=1)
        assert (whole["is_success"], whole["job_total_count"]) == (True, 3)
        assert (whole["quotas"], whole["job_count_limit"]) == (1000, 997)

    def test_bad_queries_name_what_is_allowed(self, project: Project) -> None:
        for query in ({"per_page": 0}, {"sortBy": "color"}, {"status": "x"}, {"order": "up"}):
            reply = project.http.get(f"{project.v1}/visualization-jobs", params=query)
            message = refusals.v1(reply, 400, "ModelArts.0104")
            assert next(iter(query)) in message
        reply = project.http.get(
            f"{project.v1}/visualization-jobs", params={"workspace_id": "nowhere"}
        )
        refusals.v1(reply, 400, "ModelArts.0102")


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "code", "told"),
        [
            ({"job_name": "x" * 21}, "0104", "1 to 20"),
            ({"job_name": "a b"}, "0104", "job_name"),
            ({"job_name": ""}, "0104", "job_name"),
            ({"job_desc": "x" * 257}, "0104", "256"),
            ({"job_desc": "\0"}, "0104", "NUL"),
            ({"train_url": "no path"}, "2791", "train_url"),
            ({"train_url": ""}, "2791", "train_url"),
            ({"train_url": "/nobucket/x/"}, "2791", "no bucket 'nobucket'"),
            ({"train_url": "/bucket-default/nothing/"}, "2791", "objects in it"),
            ({"train_url": f"{RESULTS}events.out"}, "2791", "objects in it"),
            ({"train_url": "/bucket-default/../x/"}, "2791", "stay inside"),
            ({"job_type": "mindinsight"}, "2858", "tensorboard"),
            ({"flavor": {"code": "huge"}}, "2781", "modelarts.vm.cpu.1u"),
            ({"schedule": {"duration": 25}}, "0104", "24"),
            ({"schedule": {"duration": -1}}, "0104", "24"),
            ({"schedule": {"duration": "soon"}}, "0104", "hours"),
            ({"schedule": {"duration": 1, "time_unit": "DAYS"}}, "0104", "HOURS"),
            ({"workspace_id": "nowhere"}, "0102", "nowhere"),
            ({"train_url": 1}, "0104", "train_url"),
        ],
    )  # fmt: skip
    def test_bad_input_is_named_and_nothing_is_made(
        self, project: Project, body: dict[str, Any], code: str, told: str
    ) -> None:
        message = refusals.v1(post(project, **body), 400, f"ModelArts.{code}")

        assert told in message
        assert project.get("/visualization-jobs")["job_total_count"] == 0
        assert counted(project)["notebook"] == {}

    def test_a_name_is_taken_once(self, project: Project) -> None:
        create(project)

        assert "one" in refusals.v1(post(project), 400, "ModelArts.0103")
        assert project.get("/visualization-jobs")["job_total_count"] == 1

    def test_what_is_not_there_is_404_everywhere(self, project: Project, other: Project) -> None:
        made = create(project)

        for job_id, owner in ((999, project), ("one", project), (made["job_id"], other)):
            path = f"{owner.v1}/visualization-jobs/{job_id}"
            for method, more in (
                ("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("POST", "/restart"),
            ):  # fmt: skip
                reply = owner.http.request(method, path + more)
                refusals.v1(reply, 404, "ModelArts.2775")
            refusals.v1(owner.http.put(path, json={"job_desc": ""}), 404, "ModelArts.2775")
        assert show(project, made)["status"] in (1, 7)

    def test_results_of_another_project_are_not_there(
        self, project: Project, other: Project
    ) -> None:
        put(other, "/bucket-other/results/events.out")

        refused = post(project, train_url="/bucket-other/results/")

        assert "no bucket" in refusals.v1(refused, 400, "ModelArts.2791")
        assert create(other, train_url="/bucket-other/results/")["job_id"]

    def test_a_description_is_changed_and_nothing_else(self, project: Project) -> None:
        made = create(project)
        path = path_of(project, made)

        assert project.http.put(path, json={"job_desc": "new"}).json() == {"is_success": True}
        refusals.v1(project.http.put(path, json={"job_desc": "x" * 257}), 400, "ModelArts.0104")
        refusals.v1(project.http.put(path, json={}), 400, "ModelArts.0104")
        assert show(project, made)["job_desc"] == "new"

    def test_one_whose_results_have_gone_is_not_restarted(
        self, platform: Platform, project: Project, port: int
    ) -> None:
        put(project, "/bucket-default/passing/events.out")
        made = create(project, train_url="/bucket-default/passing/")
        attempt_id = bring_up(platform, made, port)
        platform.call(platform.engine.finish, attempt_id, 0, 0)
        wait_until(lambda: show(project, made)["status"] == 10)
        project.http.delete("/objects/bucket-default/passing/events.out")

        reply = project.http.post(f"{path_of(project, made)}/restart")

        refusals.v1(reply, 400, "ModelArts.2791")
        assert show(project, made)["status"] == 10


class TestWorkspaces:
    def test_one_in_a_closed_workspace_is_not_there(
        self, platform: Platform, project: Project, port: int, add_person: AddPerson
    ) -> None:
        workspace_id = add_workspace(project, "closed-visual", auth_type="PRIVATE")
        made = create(project, workspace_id=workspace_id)
        developer = add_person("visual-developer", Role.DEVELOPER)
        bring_up(platform, made, port)

        path = path_of(project, made)
        refusals.v1(developer.http.get(path), 404, "ModelArts.2775")
        refusals.v1(developer.http.delete(path), 404, "ModelArts.2775")
        address = made["service_url"].partition("?")[0]
        assert developer.http.get(address).status_code == 404
        refused = project.http.delete(f"{project.v1}/workspaces/{workspace_id}")
        assert "1 visualization job(s)" in refused.json()["error_msg"]
        project.http.delete(path)


def test_the_folder_of_results_is_never_written(
    platform: Platform, project: Project, port: int
) -> None:
    folder = Path(platform.data / "objects" / "bucket-default" / "results")
    made = create(project)
    bring_up(platform, made, port)

    assert [path.name for path in folder.iterdir()] == ["tfevents.out"]
