"""Quotas over the API: set, shown, held against whatever is submitted, by many at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from muster.domain.workspace import QUOTAS, QuotaResource
from muster.store.recount import differences
from tests.api import refusals
from tests.api.people import add_workspace
from tests.api.platform import Platform, Project, wait_until

CLIENTS = 64
VIEW = {
    "resource", "quota", "min_quota", "max_quota", "name_en", "name_cn", "unit_en", "unit_cn",
    "update_time",
}  # fmt: skip


def set_quotas(project: Project, workspace_id: str, **quotas: int) -> httpx.Response:
    """By resource, with `_` for the dot."""
    given = [{"resource": name.replace("_", "."), "quota": q} for name, q in quotas.items()]
    path = f"{project.v1}/workspaces/{workspace_id}/quotas"
    return project.http.put(path, json={"quotas": given})


def used(project: Project, workspace_id: str) -> dict[str, int | None]:
    shown = project.get(f"/workspaces/{workspace_id}/quotas")["quotas"]
    return {quota["resource"]: quota["used_quota"] for quota in shown}


def submit(platform: Platform, name: str, workspace_id: str, **config: Any) -> httpx.Response:
    project = platform.project
    body = {"job_name": name, "workspace_id": workspace_id, "config": platform.code() | config}
    return project.http.post(f"{project.v1}/training-jobs", json=body)


class TestShown:
    def test_every_resource_is_there_and_unlimited_at_first(self, project: Project) -> None:
        workspace_id = add_workspace(project, "unlimited")

        shown = project.get(f"/workspaces/{workspace_id}/quotas")["quotas"]

        assert [quota["resource"] for quota in shown] == list(QUOTAS)
        for quota in shown:
            assert set(quota) == VIEW | {"used_quota"}
            assert (quota["quota"], quota["used_quota"], quota["update_time"]) == (-1, None, None)
            assert quota["name_en"]
            assert quota["name_cn"]

    def test_a_change_answers_what_was_set(self, platform: Platform, project: Project) -> None:
        workspace_id = add_workspace(project, "limited")

        reply = set_quotas(project, workspace_id, training_gpus=8, training_jobs=2)

        assert reply.status_code == 200
        changed = reply.json()["quotas"]
        assert {quota["resource"]: quota["quota"] for quota in changed} == {
            "training.jobs": 2, "training.gpus": 8,
        }  # fmt: skip
        for quota in changed:
            assert set(quota) == VIEW
            assert quota["update_time"] == platform.clock()
        assert used(project, workspace_id)["training.jobs"] == 0
        set_quotas(project, workspace_id, training_jobs=-1)
        assert used(project, workspace_id)["training.jobs"] is None

    @pytest.mark.parametrize(
        ("quotas", "says"),
        [
            (None, "quotas is missing"),
            ([{}], "quotas[0].resource is missing"),
            ([{"resource": "training.jobs"}], "quotas[0].quota is missing"),
            ([{"resource": "training.tpus", "quota": 1}],
             "quotas[0].resource is 'training.tpus'; there are training.jobs, training.gpus"),
            ([{"resource": "training.jobs", "quota": -2}], "quotas[0].quota is -2; it must be a"),
            ([{"resource": "training.jobs", "quota": 10**10}], "quotas[0].quota is 10000000000"),
            ([{"resource": "training.jobs", "quota": 1.5}], "quotas[0].quota is 1.5"),
            ([{"resource": "training.jobs", "quota": 1}] * 2, "for the second time"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_told_and_sets_nothing(
        self, project: Project, quotas: object, says: str
    ) -> None:
        body = {} if quotas is None else {"quotas": quotas}

        reply = project.http.put(f"{project.v1}/workspaces/0/quotas", json=body)

        assert says in refusals.modern(reply, 400, "ModelArts.0104")
        assert set(used(project, "0").values()) == {None}


class TestHeld:
    def test_what_does_not_fit_is_refused_with_what_is_left(
        self, platform: Platform, project: Project
    ) -> None:
        workspace_id = add_workspace(project, "two-cpus")
        set_quotas(project, workspace_id, training_cpus=2)
        assert submit(platform, "fits", workspace_id).status_code == 200

        message = refusals.v1(
            submit(platform, "does-not", workspace_id, worker_server_num=2), 400, "ModelArts.0118"
        )

        assert "may have 2 of training.cpus and has 1 left; 2 more was asked for" in message
        assert used(project, workspace_id)["training.cpus"] == 1

    def test_v2_tells_it_in_its_own_code(self, platform: Platform, project: Project) -> None:
        workspace_id = add_workspace(project, "no-jobs")
        set_quotas(project, workspace_id, training_jobs=0)
        config = platform.code()
        engines = project.http.get(f"{project.v2}/training-job-engines").json()
        body = {
            "kind": "job",
            "metadata": {"name": "none", "workspace_id": workspace_id},
            "algorithm": {
                "code_dir": config["app_url"], "boot_file": config["boot_file_url"],
                "engine": {"engine_id": engines["items"][0]["engine_id"]},
            },
            "spec": {"resource": {"flavor_id": "modelarts.vm.cpu.1u", "node_count": 1}},
        }  # fmt: skip

        reply = project.http.post(f"{project.v2}/training-jobs", json=body)

        assert "training.jobs" in refusals.modern(reply, 400, "ModelArts.2815")

    def test_running_again_counts_too(self, platform: Platform, project: Project) -> None:
        workspace_id = add_workspace(project, "once-only")
        set_quotas(project, workspace_id, training_jobs=1)
        job = submit(platform, "again", workspace_id).json()

        path = f"{project.v1}/training-jobs/{job['job_id']}/versions"
        reply = project.http.post(path, json={"config": platform.code()})

        refusals.v1(reply, 400, "ModelArts.0118")

    @pytest.mark.parametrize("how", ["ends", "stop", "delete"])
    def test_whatever_ends_gives_back_all_that_it_took(
        self, platform: Platform, project: Project, how: str
    ) -> None:
        workspace_id = add_workspace(project, f"given-back-{how}")
        set_quotas(project, workspace_id, training_jobs=1, training_gpus=2)
        gpus = {"spec_id": platform.spec_ids["gpu.2"], "pool_id": project.pool("cards")}
        job = submit(platform, f"took-{how}", workspace_id, **gpus).json()
        platform.wait_for(job, 8)
        assert used(project, workspace_id)["training.gpus"] == 2

        path = f"{project.v1}/training-jobs/{job['job_id']}"
        if how == "ends":
            platform.finish(job)
        elif how == "stop":
            assert project.http.post(f"{path}/versions/{job['version_id']}/stop").status_code == 200
        else:
            assert project.http.delete(path).status_code == 200

        wait_until(lambda: used(project, workspace_id)["training.gpus"] == 0)
        assert used(project, workspace_id)["training.jobs"] == 0
        assert submit(platform, f"next-{how}", workspace_id).status_code == 200

    @pytest.mark.parametrize(
        ("quotas", "worker_server_num", "fits"),
        [
            ({"training_jobs": 20}, 1, 20),
            ({"training_cpus": 21}, 2, 10),
            ({"training_memory": 24, "training_jobs": 60}, 1, 6),
        ],
    )
    def test_many_at_once_never_get_one_too_many(
        self,
        platform: Platform,
        project: Project,
        quotas: dict[str, int],
        worker_server_num: int,
        fits: int,
    ) -> None:
        name = f"crowd-{fits}"
        workspace_id = add_workspace(project, name)
        set_quotas(project, workspace_id, **quotas)
        config = platform.code() | {"worker_server_num": worker_server_num}
        ready = Barrier(CLIENTS)

        def ask(number: int) -> tuple[int, str]:
            body = {"job_name": f"{name}-{number}", "workspace_id": workspace_id, "config": config}
            headers = {"X-Auth-Token": project.http.headers["X-Auth-Token"]}
            with httpx.Client(base_url=platform.url, headers=headers, timeout=60) as client:
                ready.wait()
                reply = client.post(f"{project.v1}/training-jobs", json=body)
                return reply.status_code, reply.json().get("error_code", "")

        with ThreadPoolExecutor(CLIENTS) as threads:
            answers = list(threads.map(ask, range(CLIENTS)))

        assert answers.count((200, "")) == fits
        assert answers.count((400, "ModelArts.0118")) == CLIENTS - fits
        listed = project.get("/training-jobs", workspace_id=workspace_id)
        assert listed["job_total_count"] == fits
        found = platform.run(platform.server.database.scan(lambda c: list(differences(c))))
        assert found == []

    def test_the_default_workspace_can_have_some_too(self, project: Project) -> None:
        reply = set_quotas(project, "0", **{r.replace(".", "_"): 10_000 for r in QuotaResource})

        assert reply.status_code == 200
        set_quotas(project, "0", **{r.replace(".", "_"): -1 for r in QuotaResource})
