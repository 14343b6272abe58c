"""Batch services over the API. A test answers for the instances, as their driver would."""

import json
from typing import Any, Final

import pytest

from muster.domain.jobfolder import channel_folder, code_folder
from muster.serving.batch import PROGRESS_FILE
from tests.api.people import add_workspace
from tests.api.platform import Project, wait_until
from tests.api.serving import FLAVOR, Serving, counts_stay_exact, serving

__all__ = ["counts_stay_exact", "serving"]  # fixtures

RULE: Final = {"type": "object", "properties": {"x": {"type": "number", "index": 0}}}


def part_of(serving: Serving, **more: Any) -> dict[str, Any]:
    usual = {
        "src_path": serving.source("input", a__txt=b"a"),
        "dest_path": f"/bucket-{serving.project.name}/output/",
        "mapping_type": "file",
    }
    return serving.part(serving.model()) | usual | more


def deploy(serving: Serving, name: str, count: int = 1, **more: Any) -> str:
    part = part_of(serving, instance_count=count, **more)
    return serving.deploy(name, part, infer_type="batch")


def tell(serving: Serving, attempt_id: str, *, total: int, answered: int, failed: int = 0) -> None:
    """Say how far an instance has come."""
    folder = code_folder(serving.platform.data / "jobs" / attempt_id, 0)
    folder.mkdir(parents=True, exist_ok=True)
    failures = [{"name": f"f{number}", "reason": "it is \x1b[31mbad"} for number in range(failed)]
    counts = {"total": total, "answered": answered, "failed": failed}
    (folder / PROGRESS_FILE).write_text(
        json.dumps({**counts, "is_ready": True, "failures": failures})
    )


def attempts(serving: Serving, service_id: str, count: int) -> list[str]:
    wait_until(lambda: len(serving.attempts(service_id)) == count)
    return serving.attempts(service_id)


def finish(serving: Serving, attempt_id: str, **counts: int) -> None:
    tell(serving, attempt_id, **counts)
    serving.platform.call(serving.platform.engine.finish, attempt_id, 0, 0)


def refused(serving: Serving, status: int = 400, **body: Any) -> tuple[str, str]:
    """(error code, message) of a deployment that is refused; nothing is left of it."""
    usual = {"service_name": "refused", "infer_type": "batch"}
    reply = serving.project.http.post(f"{serving.project.v1}/services", json=usual | body)
    assert reply.status_code == status, reply.text
    assert serving.project.get("/services", service_name="refused")["total_count"] == 0
    said = reply.json()
    return said["error_code"].removeprefix("ModelArts."), said["error_msg"]


class TestLife:
    def test_it_runs_counts_and_is_finished(self, serving: Serving) -> None:
        service_id = deploy(serving, "whole", count=2)
        first, second = attempts(serving, service_id, 2)

        coming = serving.show(service_id)
        tell(serving, first, total=10, answered=4, failed=1)
        wait_until(lambda: serving.show(service_id)["invocation_times"] == 5)
        running = serving.show(service_id)
        finish(serving, first, total=10, answered=9, failed=1)
        wait_until(lambda: serving.infer_counts() == {"Running": 1, "Completed": 1})
        half = serving.show(service_id)
        serving.later(60_000)
        finish(serving, second, total=2, answered=2)
        finished = serving.wait(service_id, "finished")

        assert (coming["status"], coming["progress"]) == ("deploying", 0)
        assert (running["status"], running["progress"]) == ("running", 25)
        assert (running["failed_times"], running["finished_time"]) == (1, None)
        assert (half["status"], half["running_instance_count"]) == ("running", 1)
        assert (finished["progress"], finished["running_instance_count"]) == (100, 0)
        assert (finished["invocation_times"], finished["failed_times"]) == (12, 1)
        assert finished["finished_time"] - finished["start_time"] >= 60_000
        assert "access_address" not in finished
        assert "error_msg" not in finished
        [config] = finished["config"]
        assert config["src_path"] == f"/bucket-{serving.project.name}/input/"
        assert (config["req_uri"], config["mapping_type"]) == ("/", "file")
        assert config["status"] == "finished"
        assert config["finished_time"] == finished["finished_time"]
        events = serving.events(service_id)
        assert events[-3:] == [
            "11 of 12 requests were answered.",
            "1 requests failed: f0 (it is \ufffd[31mbad).",
            "The service is finished.",
        ]
        monitor = serving.project.get(f"/services/{service_id}/monitor")["monitors"][0]
        assert (monitor["invocation_times"], monitor["failed_times"]) == (12, 1)
        serving.project.http.delete(f"{serving.project.v1}/services/{service_id}")
        assert serving.infer_counts() == {}

    def test_each_instance_is_told_what_to_do_and_where(self, serving: Serving) -> None:
        service_id = deploy(
            serving, "told", count=2, mapping_type="csv", mapping_rule=RULE, req_uri="/v1/ask",
            max_concurrency=3,
        )  # fmt: skip
        launches = [
            serving.platform.engine.started[attempt] for attempt in attempts(serving, service_id, 2)
        ]

        shares = [launch.environment["MUSTER_BATCH_SHARE"] for launch in launches]
        task = json.loads(launches[0].environment["MUSTER_BATCH"])
        assert shares == ["0/2", "1/2"]
        assert (task["req_uri"], task["mapping_rule"]) == ("/v1/ask", RULE)
        assert task["concurrency"] == 3
        assert task["command"][1].endswith("runner.py")
        assert task["health"]["path"] == "/health"
        [source] = launches[0].reads
        assert source.name == "input"
        dest = channel_folder(launches[0].folder, "MUSTER_BATCH_DEST")
        assert launches[0].environment["MUSTER_BATCH_DEST"] == str(dest)
        serving.project.http.delete(f"{serving.project.v1}/services/{service_id}")

    def test_it_is_stopped_changed_and_started_anew(self, serving: Serving) -> None:
        path = f"{serving.project.v1}/services"
        service_id = deploy(serving, "again", count=2)
        first, _ = attempts(serving, service_id, 2)
        tell(serving, first, total=10, answered=4)
        serving.wait(service_id, "running")

        busy = serving.project.http.put(
            f"{path}/{service_id}", json={"config": [{"instance_count": 1}]}
        )
        serving.project.http.put(f"{path}/{service_id}", json={"status": "stopped"})
        stopped = serving.wait(service_id, "stopped")
        changed = serving.project.http.put(
            f"{path}/{service_id}",
            json={"config": [{"instance_count": 1, "req_uri": "/other"}], "description": "new"},
        )
        serving.project.http.put(f"{path}/{service_id}", json={"status": "running"})
        [again] = attempts(serving, service_id, 1)
        anew = serving.show(service_id)
        finish(serving, again, total=3, answered=3)
        finished = serving.wait(service_id, "finished")

        assert (busy.status_code, busy.json()["error_code"]) == (400, "ModelArts.3519")
        assert "stop it, or let it finish" in busy.json()["error_msg"]
        assert (stopped["invocation_times"], stopped["progress"]) == (4, 20)
        assert changed.status_code == 200, changed.text
        assert (anew["invocation_times"], anew["progress"]) == (0, 0)
        assert finished["invocation_times"] == 3
        assert finished["config"][0]["req_uri"] == "/other"
        assert finished["config"][0]["mapping_type"] == "file"
        assert finished["description"] == "new"
        # To stop what is finished changes nothing.
        serving.project.http.put(f"{path}/{service_id}", json={"status": "stopped"})
        assert serving.show(service_id)["status"] == "finished"

    def test_one_whose_instance_tells_nothing_that_makes_sense_has_failed(
        self, serving: Serving
    ) -> None:
        service_id = deploy(serving, "liar")
        [attempt] = attempts(serving, service_id, 1)
        tell(serving, attempt, total=-1, answered=5)

        serving.crash(attempt, b"it was a lie\n", exit_code=0)

        failed = serving.wait(service_id, "failed")
        assert "no input" in failed["error_msg"]
        assert failed["invocation_times"] == 0

    def test_lists_tell_finished_ones_from_stopped_ones(self, serving: Serving) -> None:
        service_id = deploy(serving, "listed")
        finish(serving, attempts(serving, service_id, 1)[0], total=1, answered=1)
        serving.wait(service_id, "finished")

        def listed(**query: str) -> list[tuple[str, str]]:
            found = serving.project.get("/services", service_name="listed", **query)["services"]
            return [(one["infer_type"], one["status"]) for one in found]

        assert listed(status="finished") == listed(infer_type="batch") == [("batch", "finished")]
        assert listed(status="stopped") == listed(infer_type="real-time") == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("part", "code", "words"),
        [
            ({"src_path": None}, "0104", "config[0].src_path is missing"),
            ({"dest_path": ""}, "0104", "config[0].dest_path is missing"),
            ({"mapping_type": None}, "0104", "config[0].mapping_type is missing"),
            (
                {"mapping_type": "rows"}, "0104",
                "config[0].mapping_type is 'rows'; it must be 'file' or 'csv'",
            ),
            ({"mapping_type": "csv"}, "0104", "config[0].mapping_rule is missing"),
            (
                {"mapping_type": "csv", "mapping_rule": "no json"}, "0104",
                "config[0].mapping_rule is 'no json', which is no JSON",
            ),
            (
                {
                    "mapping_type": "csv",
                    "mapping_rule": {"type": "object", "properties": {"x": {"type": "number"}}},
                },
                "0104", "config[0].mapping_rule.properties.x.index is missing",
            ),
            ({"req_uri": "ask"}, "0104", "config[0].req_uri is 'ask'"),
            ({"src_type": "ManifestFile"}, "2858", "config[0].src_type is 'ManifestFile'"),
            ({"src_path": "input"}, "2791", "config[0].src_path is 'input'"),
            ({"src_path": "/nobodys-bucket/x/"}, "2791", "has no bucket 'nobodys-bucket'"),
            (
                {"src_path": "/bucket-default/nothing/"}, "2791",
                "config[0].src_path is '/bucket-default/nothing/'; there is nothing in it",
            ),
            (
                {"src_path": "/bucket-default/input/a.txt"}, "2791",
                "which is an object; it must be a folder",
            ),
            (
                {"dest_path": "/bucket-default/input"}, "2791",
                "config[0].dest_path is '/bucket-default/input'; it must be neither src_path",
            ),
            ({"dest_path": "obs://bucket-default/input/deep/"}, "2791", "nor inside it"),
            ({"src_path": "/bucket-default/"}, "2791", "nor inside it"),
            (
                {"dest_path": "/bucket-default/model/customize_service.py"}, "2791",
                "config[0].dest_path is '/bucket-default/model/customize_service.py', which is an"
                " object; it must be a folder",
            ),
            ({"scaling": {"max_instances": 2}}, "3518", "config[0].scaling is for real-time"),
            ({"nodes": ["a"]}, "3518", "config[0].nodes is for edge"),
        ],
    )  # fmt: skip
    def test_what_a_batch_cannot_be(
        self, serving: Serving, part: dict[str, Any], code: str, words: str
    ) -> None:
        assert serving.project.name == "default"

        found, said = refused(serving, config=[part_of(serving, **part)])

        assert words in said
        assert found == code

    def test_it_has_one_config_and_no_schedule(self, serving: Serving) -> None:
        part = part_of(serving)
        schedule = [{"type": "stop", "time_unit": "HOURS", "duration": 1}]

        _, two = refused(serving, config=[part | {"weight": 50}, part | {"weight": 50}])
        code, timed = refused(serving, config=[part], schedule=schedule)

        assert "config has 2 entries; a batch service has exactly one" in two
        assert (code, "schedule is for real-time services" in timed) == ("3518", True)

    def test_buckets_of_others_are_not_there(self, serving: Serving, other: Project) -> None:
        theirs = serving.source("theirs", other, a__txt=b"secret")

        _, read = refused(serving, config=[part_of(serving, src_path=theirs)])
        _, written = refused(serving, config=[part_of(serving, dest_path=theirs)])

        assert f"config[0].src_path is '{theirs}'; this project has no bucket" in read
        assert f"config[0].dest_path is '{theirs}'; this project has no bucket" in written

    def test_a_service_keeps_its_kind(self, serving: Serving) -> None:
        service_id = deploy(serving, "kind")
        finish(serving, attempts(serving, service_id, 1)[0], total=1, answered=1)
        serving.wait(service_id, "finished")
        path = f"{serving.project.v1}/services/{service_id}"

        inside = serving.project.http.put(
            path, json={"config": [{"dest_path": "/bucket-default/input/x/"}]}
        )
        two = serving.project.http.put(path, json={"config": [{"model_id": "x"}] * 2})

        assert (inside.status_code, two.status_code) == (400, 400)
        assert serving.show(service_id)["config"][0]["dest_path"] == "/bucket-default/output/"
        assert serving.show(service_id)["config"][0]["specification"] == FLAVOR

    def test_one_that_is_over_the_quota_is_refused_as_a_whole(self, serving: Serving) -> None:
        project = serving.project
        workspace = add_workspace(project, "few-batches")
        project.http.put(
            f"{project.v1}/workspaces/{workspace}/quotas",
            json={"quotas": [{"resource": "infer.instances", "quota": 1}]},
        )
        part = part_of(serving, model_id=serving.model(workspace_id=workspace), instance_count=2)

        before = serving.infer_counts()

        _, said = refused(serving, config=[part], workspace_id=workspace)

        assert "infer.instances" in said
        assert serving.infer_counts() == before
