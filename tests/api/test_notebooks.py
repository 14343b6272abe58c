"""Notebooks over the API: an engine in memory, and in place of JupyterLab what answers as it does.

The keeper, the proxy and the store are real; the clock stands until a test moves it.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.domain.jobfolder import code_folder, endpoint_file, log_file
from muster.domain.permission import Role
from muster.operations.notebookstart import prepare_start
from muster.reconciler import notebooks as keeper
from muster.reconciler import rounds
from muster.store.connection import Connection
from muster.store.recount import differences
from muster.store.transaction import Transaction
from tests.api.jupyter import (
    FLAVOR,
    VOLUME,
    StandIn,
    attempt_folder,
    body_of,
    bring_up,
    counted,
    create,
    delete_all,
    refusal,
    show,
    standing_in,
    wait_for,
)
from tests.api.people import AddPerson, Person, add_workspace, people_of
from tests.api.platform import Platform, Project, running_platform, wait_until
from tests.api.test_quotas import set_quotas

HOUR_MS = 3_600_000
OBS = {"category": "OBS", "ownership": "MANAGED"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with (
        pytest.MonkeyPatch.context() as patch,
        running_platform(tmp_path_factory.mktemp("platform") / "data") as platform,
    ):
        patch.setattr(keeper, "IDLE_LOOK_SECONDS", 0.02)
        patch.setattr(rounds, "REST_SECONDS", 0.05)
        yield platform


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


@pytest.fixture(scope="module")
def developer(add_person: AddPerson) -> Person:
    return add_person("notebook-developer", Role.DEVELOPER)


@pytest.fixture(autouse=True)
def _counts_are_exact(platform: Platform) -> Iterator[None]:
    yield
    delete_all(platform.project)
    assert platform.run(platform.server.database.scan(_differences)) == []


def _differences(connection: Connection) -> list[str]:
    return list(differences(connection))


class TestComingUp:
    def test_it_runs_only_once_it_answers(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        attempt_id, folder = attempt_folder(platform, made)
        wait_until(lambda: attempt_id in platform.engine.running())
        stand_in.is_silent = True
        endpoint = {"host": "127.0.0.1", "port": stand_in.port}
        endpoint_file(folder, 0).write_text(json.dumps(endpoint))
        told = {"note": "Making the environment: numpy", "failure": ""}
        (code_folder(folder, 0) / "start.json").write_text(json.dumps(told))

        wait_until(
            lambda: (
                show(project, made)["action_progress"][3]["description"]
                == "Making the environment: numpy"
            )
        )
        shown = show(project, made)
        assert shown["status"] == "CREATING"
        assert [step["status"] for step in shown["action_progress"]] == [
            "COMPLETED", "COMPLETED", "COMPLETED", "PROCESSING",
        ]  # fmt: skip
        stand_in.is_silent = False
        up = wait_for(project, made, "RUNNING")
        assert up["jupyter_version"] == "2.0-stand-in"
        assert counted(project) == {"Running": 1}

    def test_one_that_crashes_says_its_last_words_and_can_be_started_again(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        attempt_id, folder = attempt_folder(platform, made)
        log_file(folder, 0).parent.mkdir(parents=True, exist_ok=True)
        log_file(folder, 0).write_text("starting\nImportError: no module named tornado\n")
        wait_until(lambda: attempt_id in platform.engine.running())
        platform.call(platform.engine.finish, attempt_id, 0, 1)

        failed = wait_for(project, made, "CREATE_FAILED")
        assert "ImportError: no module named tornado" in failed["fail_reason"]
        assert failed["action_progress"][3]["status"] == "FAILED"
        assert counted(project) == {"Failed": 1}
        project.post(f"/notebooks/{made['id']}/start")
        again = bring_up(platform, made, stand_in)
        assert again["fail_reason"] is None
        assert counted(project) == {"Running": 1}

    def test_what_the_environment_lacks_is_its_fail_reason(
        self, platform: Platform, project: Project
    ) -> None:
        made = create(project)
        attempt_id, folder = attempt_folder(platform, made)
        wait_until(lambda: attempt_id in platform.engine.running())
        told = {"note": "", "failure": "The environment could not be made: ERROR: no index"}
        (code_folder(folder, 0) / "start.json").write_text(json.dumps(told))
        platform.call(platform.engine.finish, attempt_id, 0, 1)

        failed = wait_for(project, made, "CREATE_FAILED")
        assert failed["fail_reason"] == "The environment could not be made: ERROR: no index"

    def test_one_that_never_answers_gives_its_node_back(
        self, platform: Platform, project: Project
    ) -> None:
        made = create(project)
        attempt_id, _ = attempt_folder(platform, made)
        wait_until(lambda: counted(project) == {"Running": 1})

        platform.clock.now_ms += 1_800_000
        failed = wait_for(project, made, "CREATE_FAILED")
        assert failed["fail_reason"] == "It did not answer within 30 minutes."
        wait_until(lambda: counted(project) == {"Terminated": 1})
        assert attempt_id not in platform.engine.running()

    def test_one_without_room_waits_in_the_queue(
        self, platform: Platform, project: Project
    ) -> None:
        pool_id = project.pool("small")
        waiting = [create(project, name=f"n-{n}", pool_id=pool_id) for n in range(3)]

        wait_until(lambda: counted(project, "small") == {"Running": 2, "Queue": 1})
        assert show(project, waiting[2])["status"] == "CREATING"
        listed = project.http.get(f"{project.v2}/pools/{pool_id}/workloads?type=notebook").json()
        assert {one["jobName"] for one in listed["items"]} == {"n-0", "n-1", "n-2"}
        project.http.delete(f"{project.v1}/notebooks/{waiting[0]['id']}")
        wait_until(lambda: counted(project, "small") == {"Running": 2})

    def test_one_that_is_stopped_before_it_is_up_is_stopped(
        self, platform: Platform, project: Project
    ) -> None:
        made = create(project)

        project.post(f"/notebooks/{made['id']}/stop")
        wait_for(project, made, "STOPPED")
        assert counted(project) == {"Terminated": 1}


class TestEnding:
    def test_a_lease_ends_it_on_time_with_the_reason(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project, duration=HOUR_MS)
        platform.clock.now_ms += 10_000  # coming up costs nothing of it
        up = bring_up(platform, made, stand_in)
        assert up["lease"]["create_at"] == platform.clock.now_ms
        platform.clock.now_ms += HOUR_MS - 1
        platform.server.database  # the clock alone changes nothing  # noqa: B018
        assert show(project, made)["status"] == "RUNNING"

        platform.clock.now_ms += 1
        ended = wait_for(project, made, "STOPPED")
        assert ended["fail_reason"] == "Its lease of 60 minutes was over."
        assert counted(project) == {"Terminated": 1}

    def test_renewing_counts_from_now(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project, duration=HOUR_MS)
        bring_up(platform, made, stand_in)
        platform.clock.now_ms += HOUR_MS - 1
        path = f"{project.v1}/notebooks/{made['id']}/lease"
        renewed = project.http.patch(path, params={"duration": 2 * HOUR_MS}).json()
        assert renewed == {
            "create_at": platform.clock.now_ms, "duration": 2 * HOUR_MS, "enable": True,
            "type": "TIMING", "update_at": platform.clock.now_ms,
        }  # fmt: skip

        platform.clock.now_ms += 2 * HOUR_MS
        ended = wait_for(project, made, "STOPPED")
        assert ended["fail_reason"] == "Its lease of 120 minutes was over."

    def test_an_idle_one_goes_on_while_it_is_used_and_then_ends(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project, lease={"duration": HOUR_MS, "type": "idle"})
        bring_up(platform, made, stand_in)
        stand_in.state = "busy"
        platform.clock.now_ms += HOUR_MS
        used_at_ms = platform.clock.now_ms
        wait_until(lambda: _last_active(platform, made) == used_at_ms)
        stand_in.state, stand_in.last_active_ms = "idle", used_at_ms + 60_000
        platform.clock.now_ms += HOUR_MS
        wait_until(lambda: _last_active(platform, made) == used_at_ms + 60_000)
        assert show(project, made)["status"] == "RUNNING"

        platform.clock.now_ms += 60_000
        ended = wait_for(project, made, "STOPPED")
        assert ended["fail_reason"] == "Nothing was done in it for 60 minutes."

    def test_one_that_dies_is_in_error_and_says_why(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        attempt_id, folder = attempt_folder(platform, made)
        log_file(folder, 0).parent.mkdir(parents=True, exist_ok=True)
        log_file(folder, 0).write_text("Killed by the memory\n")
        platform.call(platform.engine.finish, attempt_id, 0, 137)

        died = wait_for(project, made, "ERROR")
        assert "Killed by the memory" in died["fail_reason"]
        stop = project.http.post(f"{project.v1}/notebooks/{made['id']}/stop")
        assert refusal(stop) == (400, "ModelArts.6327")
        assert project.post(f"/notebooks/{made['id']}/start")["status"] == "STARTING"
        bring_up(platform, made, stand_in)

    def test_its_storage_goes_with_it_and_not_before(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        work = platform.data / "notebooks" / made["id"].replace("-", "") / "work"
        work.mkdir(parents=True)
        (work / "kept.txt").write_text("kept")
        project.post(f"/notebooks/{made['id']}/stop")
        wait_for(project, made, "STOPPED")
        assert (work / "kept.txt").exists()

        project.http.delete(f"{project.v1}/notebooks/{made['id']}")
        path = f"{project.v1}/notebooks/{made['id']}"
        wait_until(lambda: project.http.get(path).status_code == 400)
        assert refusal(project.http.get(path)) == (400, "ModelArts.6309")
        assert not work.parent.exists()
        assert counted(project) == {}


def put(project: Project, key: str, content: bytes) -> None:
    reply = project.http.put(f"/objects/bucket-{project.name}/{key}", content=content)
    assert reply.status_code == 200, reply.text


def read(project: Project, key: str) -> bytes | None:
    reply = project.http.get(f"/objects/bucket-{project.name}/{key}")
    return reply.content if reply.status_code == 200 else None


def files_folder(platform: Platform, made: dict[str, Any]) -> Path:
    folder: Path = platform.data / "notebooks" / made["id"].replace("-", "") / "work"
    return folder


class TestInBuckets:
    def create(self, project: Project, folder: str) -> dict[str, Any]:
        put(project, f"{folder}/a.txt", b"a")
        uri = f"obs://bucket-{project.name}/{folder}/"
        return create(project, volume=OBS | {"uri": uri})

    def test_what_lies_there_is_in_it_and_what_it_leaves_is_stored_when_it_stops(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = self.create(project, "stopped")
        up = bring_up(platform, made, stand_in)
        work = files_folder(platform, made)

        assert up["volume"]["uri"] == f"/bucket-{project.name}/stopped/"
        assert (work / "a.txt").read_bytes() == b"a"
        (work / "b.txt").write_bytes(b"b")
        assert read(project, "stopped/b.txt") is None
        project.post(f"/notebooks/{made['id']}/stop")
        wait_for(project, made, "STOPPED")
        assert read(project, "stopped/b.txt") == b"b"
        put(project, "stopped/c.txt", b"c")
        project.post(f"/notebooks/{made['id']}/start")
        bring_up(platform, made, stand_in)
        assert (work / "c.txt").read_bytes() == b"c"

    @pytest.mark.parametrize("exit_code", [0, 137])
    def test_what_it_leaves_is_stored_however_it_ends(
        self, platform: Platform, project: Project, stand_in: StandIn, exit_code: int
    ) -> None:
        made = self.create(project, f"ended-{exit_code}")
        bring_up(platform, made, stand_in)
        (files_folder(platform, made) / "b.txt").write_bytes(b"b")

        attempt_id, _ = attempt_folder(platform, made)
        platform.call(platform.engine.finish, attempt_id, 0, exit_code)

        wait_for(project, made, "ERROR" if exit_code else "STOPPED")
        assert read(project, f"ended-{exit_code}/b.txt") == b"b"

    def test_one_that_is_deleted_while_it_runs_leaves_its_files_in_the_bucket(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = self.create(project, "deleted")
        bring_up(platform, made, stand_in)
        work = files_folder(platform, made)
        (work / "b.txt").write_bytes(b"b")

        delete_all(project)

        assert (read(project, "deleted/a.txt"), read(project, "deleted/b.txt")) == (b"a", b"b")
        assert not work.parent.exists()

    def test_files_that_cannot_be_stored_are_told_of_and_not_dropped_unasked(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = self.create(project, "unstored")
        bring_up(platform, made, stand_in)
        work = files_folder(platform, made)
        (work / "back\\slash").write_bytes(b"b")
        project.post(f"/notebooks/{made['id']}/stop")
        stopped = wait_for(project, made, "STOPPED")
        assert "could not be stored" in stopped["fail_reason"]
        assert "back" in stopped["fail_reason"]

        path = f"{project.v1}/notebooks/{made['id']}"
        project.http.delete(path)
        told = wait_for(project, made, "DELETE_FAILED")

        assert "Delete it once more" in told["fail_reason"]
        assert (work / "back\\slash").read_bytes() == b"b"
        project.http.delete(path)
        wait_until(lambda: project.http.get(path).status_code == 400)
        assert not work.parent.exists()

    def test_a_bucket_that_goes_meanwhile_is_why_it_does_not_start(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        bucket = platform.data / "objects" / f"gone-{project.name}"
        project.http.put(f"/objects/{bucket.name}/a.txt", content=b"a")
        made = create(project, volume=OBS | {"uri": f"/{bucket.name}/"})
        bring_up(platform, made, stand_in)
        project.post(f"/notebooks/{made['id']}/stop")
        wait_for(project, made, "STOPPED")
        shutil.rmtree(bucket)

        project.post(f"/notebooks/{made['id']}/start")

        failed = wait_for(project, made, "START_FAILED")
        assert f"there is no bucket '{bucket.name}'" in failed["fail_reason"]
        assert (files_folder(platform, made) / "a.txt").read_bytes() == b"a"

    def test_the_bucket_of_another_project_is_not_there(
        self, platform: Platform, project: Project
    ) -> None:
        other = platform.new_project("buckets")
        put(other, "theirs/a.txt", b"theirs")
        given = body_of(project, volume=OBS | {"uri": f"/bucket-{other.name}/theirs/"})

        reply = project.http.post(f"{project.v1}/notebooks", json=given)

        assert refusal(reply) == (400, "ModelArts.6316")
        assert f"this project has no bucket 'bucket-{other.name}'" in reply.text


class TestHanging:
    def test_one_that_answers_no_more_says_so_until_it_does_again(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)

        stand_in.is_silent = True
        wait_until(lambda: show(project, made)["fail_reason"] == keeper.NO_ANSWER)
        assert show(project, made)["status"] == "RUNNING"
        stand_in.is_silent = False

        wait_until(lambda: show(project, made)["fail_reason"] is None)


def _last_active(platform: Platform, made: dict[str, Any]) -> int:
    def read(connection: Connection) -> int:
        key = (made["id"].replace("-", ""),)
        statement = "SELECT last_active_ms FROM notebook WHERE uid = ?"
        return int(connection.execute(statement, key).fetchone()[0])

    return platform.run(platform.server.database.read(read))


def _forget_images(tx: Transaction) -> None:
    tx.execute("DELETE FROM image", {})


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "code", "told"),
        [
            ({"name": "a b"}, "ModelArts.6334", "name is 'a b'"),
            ({"description": "<b>"}, "ModelArts.6334", "description"),
            ({"flavor": "none"}, "ModelArts.6323", "flavor is 'none'"),
            ({"flavor": None}, "ModelArts.6323", "flavor is missing"),
            ({"image_id": "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"}, "ModelArts.6797", "image_id"),
            ({"volume": {"category": "NFS"}}, "ModelArts.6371", "volume.category is 'NFS'"),
            ({"volume": {"category": "OBS"}}, "ModelArts.6317", "volume.uri is missing"),
            ({"volume": OBS | {"uri": "/bucket/a"}}, "ModelArts.6318", "must be a folder"),
            ({"volume": OBS | {"uri": "bucket/a/"}}, "ModelArts.2791", "volume.uri is 'bucket/a/'"),
            ({"volume": OBS | {"uri": "/b/../a/"}}, "ModelArts.2791", "inside its bucket"),
            ({"volume": OBS | {"uri": "/none/a/"}}, "ModelArts.6316", "no bucket 'none'"),
            (
                {"volume": {"category": "EFS", "ownership": "DEDICATED"}},
                "ModelArts.6371",
                "ownership",
            ),
            ({"volume": VOLUME | {"capacity": 4097}}, "ModelArts.6331", "volume.capacity is 4097"),
            ({"volume": VOLUME | {"read_only": True}}, "ModelArts.2858", "volume.read_only"),
            ({"volume": VOLUME | {"mount_path": "/x"}}, "ModelArts.2858", "volume.mount_path"),
            ({"duration": HOUR_MS - 1}, "ModelArts.6349", "duration is 3599999"),
            ({"lease": {"type": "never"}}, "ModelArts.6332", "lease.type is 'never'"),
            ({"workspace_id": "none"}, "ModelArts.0102", "workspace_id is 'none'"),
            ({"pool_id": "none"}, "ModelArts.50015001", "pool_id is 'none'"),
            ({"endpoints": [{"service": "SSH"}]}, "ModelArts.6332", "SSH"),
            ({"user_vpc": {"vpc_id": "x"}}, "ModelArts.2858", "user_vpc"),
            ({"data_volumes": [VOLUME]}, "ModelArts.2858", "data_volumes"),
            ({"public_network_config": {"x": 1}}, "ModelArts.2858", "public_network_config"),
            (
                {"endpoints": [{"service": "NOTEBOOK", "allowed_access_ips": ["10.0.0.1"]}]},
                "ModelArts.2858",
                "endpoints.allowed_access_ips",
            ),
            (
                {"volume": VOLUME | {"dew_secret_name": "x"}},
                "ModelArts.2858",
                "volume.dew_secret_name",
            ),
            ({"custom_spec": {"cpu": 1, "memory": 1024}}, "ModelArts.6323", "dedicated pools"),
            ({"volume": None}, "ModelArts.0104", "volume"),
        ],
    )
    def test_what_makes_no_sense_is_told_and_makes_nothing(
        self, project: Project, given: dict[str, Any], code: str, told: str
    ) -> None:
        reply = project.http.post(f"{project.v1}/notebooks", json=body_of(project, **given))

        assert reply.json()["error_code"] == code, reply.text
        assert told in reply.json()["error_msg"]
        assert reply.status_code == (404 if code == "ModelArts.50015001" else 400)
        assert project.get("/notebooks")["total"] == 0

    @pytest.mark.parametrize("pool", ["cards", "serving"])
    def test_a_pool_without_the_scope_takes_none(self, project: Project, pool: str) -> None:
        given = body_of(project, pool_id=project.pool(pool))
        reply = project.http.post(f"{project.v1}/notebooks", json=given)

        assert refusal(reply) == (400, "ModelArts.6336")
        assert "without Notebook" in reply.text

    def test_a_custom_spec_is_for_dedicated_pools(
        self, platform: Platform, project: Project
    ) -> None:
        spec = {"cpu": 0.5, "memory": 1024}
        made = create(project, flavor=None, custom_spec=spec, pool_id=project.pool("small"))

        assert made["flavor"] == "custom.flavor.spec.code"
        assert made["custom_spec"]["memory"] == 1024
        attempt_id, _ = attempt_folder(platform, made)
        wait_until(lambda: attempt_id in platform.engine.started)
        task = platform.engine.started[attempt_id].task
        assert task is not None
        assert (task.cpu_millis, task.memory_mib) == (500, 1024)

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("sort_key=size", "ModelArts.6303"),
            ("status=GONE", "ModelArts.6332"),
            ("tags=key", "ModelArts.6332"),
            ("sort_key=name,name,status,owner,flavor,size", "ModelArts.6303"),
            ("sort_dir=up", "ModelArts.0104"),
            ("feature=LAB", "ModelArts.0104"),
            ("billing=FREE", "ModelArts.0104"),
            ("offset=-1", "ModelArts.0104"),
            ("limit=1001", "ModelArts.0104"),
            ("limit=0", "ModelArts.0104"),
            ("workspace_id=none", "ModelArts.0102"),
        ],
    )
    def test_a_list_says_what_it_cannot_be_asked(
        self, project: Project, query: str, code: str
    ) -> None:
        assert refusal(project.http.get(f"{project.v1}/notebooks?{query}")) == (400, code)

    def test_a_list_is_cut_to_what_is_billed_so_and_has_no_addresses(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        bring_up(platform, create(project, name="up"), stand_in)
        resting = create(project, name="resting")
        project.post(f"/notebooks/{resting['id']}/stop")
        wait_for(project, resting, "STOPPED")

        def names(**query: Any) -> list[str]:
            listed = project.get("/notebooks", sort_key="name", sort_dir="ASC", **query)["data"]
            return [one["name"] for one in listed]

        assert names(billing="COMPUTE") == ["up"]
        assert names(billing="STORAGE") == names(billing="ALL") == names() == ["resting", "up"]
        assert names(billing="COMPUTE", status="STOPPED") == []
        assert names(billing="COMPUTE", status="RUNNING,STOPPED") == ["up"]
        assert names(ip="10.0.0.1") == []

    def test_flavors_are_cut_to_their_kind_and_sorted(self, project: Project) -> None:
        def listed(**query: Any) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = project.get("/notebooks/flavors", **query)["data"]
            return found

        every = listed()
        kinds = {flavor["category"] for flavor in every}
        assert "CPU" in kinds
        for kind in kinds:
            wanted = [flavor for flavor in every if flavor["category"] == kind]
            assert listed(flavor_type=kind) == listed(category=kind) == wanted
        by_memory = listed(sort_key="memory", sort_dir="DESC")
        sizes = [flavor["memory"] for flavor in by_memory]
        assert sizes == sorted(sizes, reverse=True)
        assert listed(limit=1, offset=1) == every[1:2]
        reply = project.http.get(f"{project.v1}/notebooks/flavors?sort_key=price")
        assert refusal(reply) == (400, "ModelArts.6303")

    def test_an_image_that_goes_while_a_notebook_is_made_from_it_makes_none(
        self, platform: Platform, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [engine, *_] = project.get("/job/ai-engines")["engines"]
        path = f"local/{engine['engine_name']}:{engine['engine_version']}".lower()
        image = project.post("/images", swr_path=path.replace(" ", "-"))

        async def forget_first(*given: Any) -> Any:
            await platform.server.database.write(_forget_images)
            return await prepare_start(*given)

        monkeypatch.setattr("muster.operations.notebooks.prepare_start", forget_first)
        given = body_of(project, image_id=image["id"])
        reply = project.http.post(f"{project.v1}/notebooks", json=given)

        assert refusal(reply) == (400, "ModelArts.6797")
        assert project.get("/notebooks")["total"] == 0

    def test_flavor_and_image_are_changed_at_rest_only(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)

        path = f"{project.v1}/notebooks/{made['id']}"
        reply = project.http.put(path, json={"flavor": "modelarts.vm.cpu.2u"})
        assert refusal(reply) == (400, "ModelArts.6347")
        assert project.http.put(path, json={"name": "other"}).json()["name"] == "other"


class TestPeople:
    def test_others_see_it_without_its_token_and_leave_it_alone(
        self, platform: Platform, project: Project, developer: Person, stand_in: StandIn
    ) -> None:
        made = create(project)
        bring_up(platform, made, stand_in)
        path = f"/notebooks/{made['id']}"

        [listed] = developer.v1("GET", "/notebooks/all").json()["data"]
        assert (listed["id"], listed["token"], listed["url"]) == (made["id"], None, None)
        assert developer.v1("GET", "/notebooks").json()["total"] == 0
        for method, more in (("PUT", ""), ("POST", "/stop"), ("POST", "/start"), ("DELETE", "")):
            reply = developer.v1(method, path + more, json={"name": "mine"})
            assert refusal(reply) == (403, "ModelArts.0108"), (method, more)
            assert "notebook:manage" in reply.text
        assert show(project, made)["name"] == "one"

    def test_an_administrator_may_open_and_delete_what_others_have_made(
        self, platform: Platform, project: Project, developer: Person
    ) -> None:
        made = developer.v1("POST", "/notebooks", json=body_of(project)).json()

        shown = show(project, made)
        assert shown["token"] == made["token"]
        assert shown["user"]["name"] == developer.name
        assert project.get("/notebooks")["total"] == 0
        assert project.http.delete(f"{project.v1}/notebooks/{made['id']}").status_code == 200

    def test_another_project_knows_nothing_of_it(
        self, platform: Platform, project: Project, other: Project
    ) -> None:
        made = create(project)

        assert other.get("/notebooks/all")["total"] == 0
        for method, more in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", "/lease")):
            reply = other.http.request(method, f"{other.v1}/notebooks/{made['id']}{more}")
            assert refusal(reply) == (400, "ModelArts.6309")
        instance = other.http.get(f"{other.v1}/demanager/instances/{made['id']}")
        assert refusal(instance) == (400, "ModelArts.6309")

    def test_a_workspace_has_its_own_and_its_quota(
        self, platform: Platform, project: Project
    ) -> None:
        workspace_id = add_workspace(project, "notebook-room")
        set_quotas(project, workspace_id, devenv_instances=1)
        made = create(project, workspace_id=workspace_id)

        given = body_of(project, workspace_id=workspace_id)
        reply = project.http.post(f"{project.v1}/notebooks", json=given)
        assert refusal(reply) == (400, "ModelArts.0113")
        assert project.get("/notebooks")["total"] == 0
        assert project.get("/notebooks", workspace_id=workspace_id)["total"] == 1
        kept = project.http.delete(f"{project.v1}/workspaces/{workspace_id}")
        assert kept.json()["error_code"] == "ModelArts.7004"
        project.post(f"/notebooks/{made['id']}/stop")
        wait_for(project, made, "STOPPED")
        kept = project.http.delete(f"{project.v1}/workspaces/{workspace_id}")
        assert kept.json()["error_code"] == "ModelArts.7004"
        again = project.http.post(f"{project.v1}/notebooks", json=given)
        assert again.status_code == 200
        reply = project.http.post(f"{project.v1}/notebooks/{made['id']}/start")
        assert refusal(reply) == (400, "ModelArts.0113")
        assert show(project, made)["status"] == "STOPPED"
        for one in (made, again.json()):
            project.http.delete(f"{project.v1}/notebooks/{one['id']}")
        path = "/notebooks"
        wait_until(lambda: project.get(path, workspace_id=workspace_id)["total"] == 0)
        deleted = project.http.delete(f"{project.v1}/workspaces/{workspace_id}")
        assert deleted.status_code == 200


class TestOlderView:
    def test_the_same_notebook_is_made_shown_changed_stopped_and_started(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        body = {
            "name": "older",
            "flavor": FLAVOR,
            "profile_id": "Multi-Engine 1.0 (python3)-cpu",
            "description": "first",
            "spec": {
                "storage": {"type": "efs", "location": {"path": "/x/"}},
                "auto_stop": {"enable": True, "duration": 7200},
            },
            "workspace": {"id": "0"},
        }
        made = project.post("/demanager/instances", **body)
        assert made["status"] == "CREATING"
        bring_up(platform, made, stand_in)
        assert show(project, made)["lease"]["duration"] == 2 * HOUR_MS

        path = f"/demanager/instances/{made['id']}"
        shown = project.get(path, de_type="Notebook")
        assert shown["status"] == "RUNNING"
        assert shown["spec"]["auto_stop"]["remain_time"] == 7200
        assert shown["spec"]["annotations"]["url"].endswith(
            f"?token={show(project, made)['token']}"
        )
        change = {"description": "second", "auto_stop": {"enable": False}}
        changed = project.http.put(f"{project.v1}{path}", json=change).json()
        assert changed["description"] == "second"
        assert changed["spec"]["auto_stop"]["enable"] is False
        platform.clock.now_ms += 3 * HOUR_MS
        assert project.post(f"{path}/action", action="stop")["status"] == "STOPPING"
        wait_for(project, made, "STOPPED")
        assert project.post(f"{path}/action", action="start")["status"] == "STARTING"
        bring_up(platform, made, stand_in)
        listed = project.get("/demanager/instances", de_type="Notebook", show_self="True")
        assert [one["id"] for one in listed["instances"]] == [made["id"]]
        assert project.get("/demanager/instances", status="STOPPED")["instances"] == []

    def test_a_list_goes_on_after_the_last_that_was_seen(self, project: Project) -> None:
        ids = [create(project, name=f"n-{n}")["id"] for n in range(3)]

        def listed(**query: Any) -> list[str]:
            found = project.get("/demanager/instances", limit=2, **query)
            assert found["total_count"] == 3
            return [one["id"] for one in found["instances"]]

        assert listed() == ids[:2]
        assert listed(marker=ids[1]) == ids[2:]
        assert listed(marker=ids[2]) == []
        assert listed(marker="7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11") == []
        assert listed(marker=ids[1], order="desc") == ids[:1]
        assert listed(offset=2) == ids[2:]

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"spec": {"extend_storage": [{"type": "obs"}]}}, "spec.extend_storage"),
            ({"spec": {"extended_storage": {"type": "obs"}}}, "spec.extended_storage"),
            ({"spec": {"custom_script_path": "/b/init.sh"}}, "spec.custom_script_path"),
            ({"spec": {"repository": {"id": "x"}}}, "spec.repository"),
            ({"pool": {"type": "USER_DEFINED"}}, "pool.type is 'USER_DEFINED'"),
        ],
    )
    def test_what_is_not_offered_is_refused_rather_than_forgotten(
        self, project: Project, given: dict[str, Any], told: str
    ) -> None:
        body = {"name": "older", "flavor": FLAVOR, "profile_id": "jupyterlab", **given}

        reply = project.http.post(f"{project.v1}/demanager/instances", json=body)

        assert reply.status_code == 400
        assert told in reply.json()["error_msg"]
        assert project.get("/notebooks")["total"] == 0

    def test_its_storage_may_lie_in_a_bucket(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        put(project, "older/data.txt", b"data")
        storage = {"type": "obs", "location": {"path": f"/bucket-{project.name}/older/"}}
        body = {
            "name": "older", "flavor": FLAVOR, "profile_id": "jupyterlab",
            "spec": {"storage": storage},
        }  # fmt: skip

        made = project.post("/demanager/instances", **body)

        assert made["spec"]["storage"]["type"] == "obs"
        assert made["spec"]["storage"]["location"]["path"] == f"/bucket-{project.name}/older/"
        bring_up(platform, made, stand_in)
        assert (files_folder(platform, made) / "data.txt").read_bytes() == b"data"

    def test_a_bucket_that_is_not_there_is_told_by_the_name_of_its_field(
        self, project: Project
    ) -> None:
        storage = {"type": "obs", "location": {"path": "/none/dir/"}}
        body = {
            "name": "older", "flavor": FLAVOR, "profile_id": "jupyterlab",
            "spec": {"storage": storage},
        }  # fmt: skip
        reply = project.http.post(f"{project.v1}/demanager/instances", json=body)

        assert refusal(reply) == (400, "ModelArts.6316")
        assert "spec.storage.location.path is '/none/dir/'" in reply.text
