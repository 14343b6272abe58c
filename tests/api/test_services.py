"""Inference services: deploy, change, list, and where requests go. A test answers for instances."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.people import add_workspace
from tests.api.platform import Project, wait_until
from tests.api.serving import FLAVOR, Serving, counts_stay_exact, serving

__all__ = ["counts_stay_exact", "serving"]  # fixtures


def ask(serving: Serving, service_id: str, path: str = "/", **more: Any) -> httpx.Response:
    return serving.project.http.post(f"/services/{service_id}{path}", json={}, **more)


def refused(
    serving: Serving, code: str, status: int = 400, project: Project | None = None, **body: Any
) -> str:
    """What a deployment that is refused says."""
    project = project or serving.project
    reply = project.http.post(f"{project.v1}/services", json=body)
    assert (reply.status_code, reply.json()["error_code"]) == (status, f"ModelArts.{code}")
    return str(reply.json()["error_msg"])


class TestLife:
    def test_a_service_is_deploying_until_its_instances_answer(self, serving: Serving) -> None:
        service_id = serving.deploy("young", serving.part(serving.model(), instance_count=2))
        wait_until(lambda: len(serving.attempts(service_id)) == 2)

        before = serving.show(service_id)
        serving.answer(serving.attempts(service_id)[0])
        wait_until(lambda: serving.show(service_id)["running_instance_count"] == 1)
        half = serving.show(service_id)
        serving.answer(serving.attempts(service_id)[1])
        after = serving.wait(service_id, "running")

        assert (before["status"], before["progress"]) == ("deploying", 0)
        assert (half["status"], half["progress"]) == ("deploying", 50)
        assert (after["progress"], after["running_instance_count"]) == (100, 2)
        assert after["access_address"] == f"{serving.platform.url}/services/{service_id}"
        assert "error_msg" not in after
        assert serving.events(service_id)[-1] == "The service is running."

    def test_what_cannot_be_placed_waits_in_the_queue(self, serving: Serving) -> None:
        pool = serving.project.pool("serving")
        big = serving.ready("holds-it", pool_name=pool)

        service_id = serving.deploy("waits", serving.part(serving.model()), pool_name=pool)

        serving.wait(service_id, "waiting")
        listed = serving.project.get("/services", service_id=service_id)["services"]
        assert [one["status"] for one in listed] == ["deploying"]
        serving.project.http.delete(f"{serving.project.v1}/services/{big}")
        serving.bring_up(service_id)

    def test_an_instance_that_ends_before_it_answers_fails_the_service(
        self, serving: Serving
    ) -> None:
        service_id = serving.deploy("fails", serving.part(serving.model(), instance_count=2))
        wait_until(lambda: len(serving.attempts(service_id)) == 2)

        serving.crash(serving.attempts(service_id)[0], b"Loading ...\nKeyError: 'weights'\n")

        failed = serving.wait(service_id, "failed")
        assert "KeyError: 'weights'" in failed["error_msg"]
        wait_until(lambda: serving.attempts(service_id) == [])
        [update] = serving.project.get(f"/services/{service_id}/logs")["logs"]
        assert (update["result"], update["failed_num"]) == ("FAIL", 2)
        serving.project.http.put(
            f"{serving.project.v1}/services/{service_id}", json={"status": "running"}
        )
        serving.bring_up(service_id, 2)

    def test_one_that_ends_as_if_all_were_well_fails_the_service_too(
        self, serving: Serving
    ) -> None:
        service_id = serving.deploy("says-bye", serving.part(serving.model()))
        wait_until(lambda: len(serving.attempts(service_id)) == 1)

        serving.crash(serving.attempts(service_id)[0], b"bye\n", exit_code=0)

        failed = serving.wait(service_id, "failed")
        assert failed["error_msg"] == (
            "The program ended by itself, with exit code 0. The end of its log:\nbye"
        )

    def test_one_whose_last_words_no_store_keeps_fails_the_service_and_holds_up_no_other(
        self, serving: Serving
    ) -> None:
        service_id = serving.deploy("says-nothing", serving.part(serving.model()))
        other = serving.deploy("beside-it", serving.part(serving.model()))
        wait_until(lambda: len(serving.attempts(service_id)) == 1)

        serving.crash(serving.attempts(service_id)[0], b"out of\x00 luck\x1b[0m\n")

        failed = serving.wait(service_id, "failed")
        assert failed["error_msg"].endswith("The end of its log:\nout of\ufffd luck\ufffd[0m")
        serving.bring_up(other)

    def test_one_that_is_not_well_gets_no_requests_until_it_is(self, serving: Serving) -> None:
        body = {"url": "/health", "period_seconds": 1, "failure_threshold": 2}
        part = serving.part(serving.model(health=body), instance_count=2)
        service_id = serving.deploy("unwell", part)
        sick, well = serving.bring_up(service_id, 2)

        sick.is_well = False
        serving.wait(service_id, "concerning")
        numbers = {ask(serving, service_id).json()["number"] for _ in range(6)}
        sick.is_well = True
        serving.wait(service_id, "running")

        assert numbers == {well.number}
        assert "An instance does not answer any more." in serving.events(service_id)

    def test_one_that_ends_is_replaced_and_counted_once(self, serving: Serving) -> None:
        service_id = serving.ready("crashes")
        [before] = serving.attempts(service_id)
        counts = serving.infer_counts()

        serving.crash(before, b"out of memory\n")
        serving.wait(service_id, "concerning")
        serving.later(2_000)
        wait_until(lambda: serving.attempts(service_id) not in ([], [before]))
        serving.answer(serving.attempts(service_id)[0])
        serving.wait(service_id, "running")

        assert serving.infer_counts() == counts
        [told] = [event for event in serving.events(service_id) if "is replaced" in event]
        assert "out of memory" in told

    def test_a_service_stops_and_starts_again(self, serving: Serving) -> None:
        service_id = serving.ready("stops")
        path = f"{serving.project.v1}/services/{service_id}"

        assert serving.project.http.put(path, json={"status": "stopped"}).json() == {}
        serving.wait(service_id, "stopped")
        stopped = ask(serving, service_id)
        serving.project.http.put(path, json={"status": "stopped"})  # twice is as once
        serving.project.http.put(path, json={"status": "running"})
        serving.bring_up(service_id)

        assert (stopped.status_code, stopped.headers["Retry-After"]) == (503, "2")
        assert stopped.json()["error_code"] == "ModelArts.3501"
        assert ask(serving, service_id).status_code == 200

    def test_one_that_is_to_run_for_a_while_stops_then(self, serving: Serving) -> None:
        schedule = [{"type": "stop", "time_unit": "MINUTES", "duration": "5"}]
        service_id = serving.ready("scheduled", schedule=schedule)
        due = serving.show(service_id)["due_time"]

        serving.later(300_001)

        serving.wait(service_id, "stopped")
        assert due is not None
        assert serving.show(service_id)["schedule"][0]["duration"] == 5

    def test_a_deleted_service_is_gone_at_once_and_its_workloads_soon(
        self, serving: Serving
    ) -> None:
        service_id = serving.ready("deleted")
        path = f"{serving.project.v1}/services/{service_id}"

        assert serving.project.http.delete(path).json() == {}

        assert serving.project.http.get(path).status_code == 404
        assert ask(serving, service_id).status_code == 404
        assert serving.project.http.delete(path).status_code == 404
        serving.deploy("deleted", serving.part(serving.model()))  # the name is free

    def test_the_pool_under_a_service_is_deleted(self, serving: Serving) -> None:
        project = serving.project
        made = project.http.post(
            f"{project.v2}/pools",
            json={
                "apiVersion": "v2",
                "kind": "Pool",
                "metadata": {"labels": {"os.modelarts/name": "short-lived"}},
                "spec": {
                    "type": "Dedicate",
                    "scope": ["Infer"],
                    "resources": [{"flavor": FLAVOR, "count": 1}],
                },
            },
        )
        assert made.status_code == 200, made.text
        pool_id = made.json()["metadata"]["name"]
        wait_until(
            lambda: (
                project.http.get(f"{project.v2}/pools/{pool_id}").json()["status"]["phase"]
                == "Running"
            )
        )
        service_id = serving.ready("orphan", pool_name=pool_id)

        project.http.delete(f"{project.v2}/pools/{pool_id}")
        serving.wait(service_id, "concerning")
        serving.later(5_000)

        failed = serving.wait(service_id, "failed")
        assert "was deleted" in failed["error_msg"]


class TestUpdate:
    def test_new_instances_serve_before_old_ones_go(self, serving: Serving) -> None:
        service_id = serving.ready("rolls")
        [old] = serving.attempts(service_id)
        path = f"{serving.project.v1}/services/{service_id}"

        change = {"config": [{"envs": {"NEW": "1"}}]}
        assert serving.project.http.put(path, json=change).json() == {}
        wait_until(lambda: len(serving.attempts(service_id)) == 2)
        during = ask(serving, service_id)
        fresh = serving.answer(serving.attempts(service_id)[1])
        wait_until(lambda: ask(serving, service_id).json()["number"] == fresh.number)
        serving.later(1_000)
        serving.wait(service_id, "running")

        assert during.status_code == 200
        wait_until(lambda: old not in serving.attempts(service_id))
        assert serving.show(service_id)["config"][0]["envs"] == {"NEW": "1"}
        updates = serving.project.get(f"/services/{service_id}/logs")["logs"]
        assert [one["result"] for one in updates] == ["SUCCESS", "SUCCESS"]

    def test_an_update_that_does_not_come_up_is_taken_back(self, serving: Serving) -> None:
        service_id = serving.ready("back")
        [old] = serving.attempts(service_id)
        path = f"{serving.project.v1}/services/{service_id}"

        serving.project.http.put(path, json={"config": [{"envs": {"BROKEN": "1"}}]})
        wait_until(lambda: len(serving.attempts(service_id)) == 2)
        serving.crash(serving.attempts(service_id)[1], b"broken\n")
        serving.wait(service_id, "running")

        assert serving.attempts(service_id) == [old]
        assert serving.show(service_id)["config"][0]["envs"] == {}
        [failed, _] = serving.project.get(f"/services/{service_id}/logs")["logs"]
        assert failed["result"] == "FAIL"
        assert "broken" in failed["result_detail"][0]["detail"]

    def test_other_weights_restart_nothing(self, serving: Serving) -> None:
        model_id = serving.model()
        service_id = serving.deploy(
            "weights", serving.part(model_id, weight=50), serving.part(model_id, weight=50)
        )
        serving.bring_up(service_id, 2)
        before = serving.attempts(service_id)
        path = f"{serving.project.v1}/services/{service_id}"

        serving.project.http.put(path, json={"config": [{"weight": 75}, {"weight": 25}]})
        serving.wait(service_id, "running")

        assert serving.attempts(service_id) == before
        numbers = Counter(ask(serving, service_id).json()["number"] for _ in range(20))
        assert sorted(numbers.values()) == [5, 15]

    def test_more_and_fewer_instances(self, serving: Serving) -> None:
        service_id = serving.ready("grows")
        path = f"{serving.project.v1}/services/{service_id}"

        serving.project.http.put(path, json={"config": [{"instance_count": 2}]})
        wait_until(lambda: len(serving.attempts(service_id)) == 2)
        serving.answer(serving.attempts(service_id)[1])
        wait_until(lambda: serving.show(service_id)["running_instance_count"] == 2)
        serving.project.http.put(path, json={"config": [{"instance_count": 1}]})
        wait_until(lambda: serving.show(service_id)["running_instance_count"] == 1)
        serving.later(1_000)

        wait_until(lambda: len(serving.attempts(service_id)) == 1)
        serving.wait(service_id, "running")

    def test_what_is_not_said_stays(self, serving: Serving) -> None:
        service_id = serving.ready("described")
        before = serving.show(service_id)
        path = f"{serving.project.v1}/services/{service_id}"

        change = {"description": "other", "config": [{}], "load_balancer_policy": "SOURCE_IP"}
        serving.project.http.put(path, json=change)

        after = serving.show(service_id)
        assert (after["description"], after["load_balancer_policy"]) == ("other", "SOURCE_IP")
        assert after["config"] == before["config"]
        assert after["status"] == "running"

    def test_changes_at_once_are_all_kept(self, serving: Serving) -> None:
        service_id = serving.ready("changed-at-once")
        path = f"{serving.project.v1}/services/{service_id}"
        changes: list[dict[str, Any]] = [
            {"config": [{"max_concurrency": 7}]},
            {"config": [{"deploy_timeout_in_seconds": 77}]},
            {"additional_properties": {"x": {"websocket_upgrade": True}}},
            {"schedule": [{"type": "stop", "time_unit": "DAYS", "duration": 7}]},
        ]

        with ThreadPoolExecutor(len(changes)) as threads:
            done = threads.map(lambda change: serving.project.http.put(path, json=change), changes)
            assert {reply.status_code for reply in done} == {200}

        shown = serving.show(service_id)
        config = shown["config"][0]
        assert (config["max_concurrency"], config["deploy_timeout_in_seconds"]) == (7, 77)
        assert shown["additional_properties"] == {"x": {"websocket_upgrade": True}}
        assert [one["duration"] for one in shown["schedule"]] == [7]

    def test_a_schedule_that_is_taken_away_stops_nothing(self, serving: Serving) -> None:
        schedule = [{"type": "stop", "time_unit": "MINUTES", "duration": 5}]
        service_id = serving.ready("unscheduled", schedule=schedule)
        path = f"{serving.project.v1}/services/{service_id}"

        assert serving.project.http.put(path, json={"schedule": []}).status_code == 200

        shown = serving.show(service_id)
        assert (shown["due_time"], shown["schedule"]) == (None, [])

    def test_a_schedule_that_is_changed_while_stopped_counts_from_the_start(
        self, serving: Serving
    ) -> None:
        service_id = serving.ready("scheduled-later")
        path = f"{serving.project.v1}/services/{service_id}"
        serving.project.http.put(path, json={"status": "stopped"})
        serving.wait(service_id, "stopped")
        serving.later(3_600_000)
        schedule = [{"type": "stop", "time_unit": "MINUTES", "duration": 5}]

        assert serving.project.http.put(path, json={"schedule": schedule}).status_code == 200
        serving.later(3_600_000)
        serving.project.http.put(path, json={"status": "running"})

        shown = serving.show(service_id)
        assert shown["due_time"] - shown["start_time"] == 300_000


class TestRefusals:
    @pytest.mark.parametrize(
        ("part", "code", "status", "words"),
        [
            ({"model_id": "0" * 32}, "3001", 404, "config[0].model_id is '000"),
            ({"specification": "huge"}, "3518", 400, "config[0].specification is 'huge'"),
            ({"specification": "custom"}, "0104", 400, "config[0].custom_spec is missing"),
            ({"instance_count": 129}, "0104", 400, "instance_count is 129"),
            ({"instance_count": None}, "0104", 400, "config[0].instance_count is missing"),
            ({"weight": 50}, "0104", 400, "come to 50; they must come to 100"),
            ({"envs": {"1x": "y"}}, "0104", 400, "config[0].envs names '1x'"),
            ({"pool_name": "nowhere"}, "50015001", 404, "config[0].pool_name is 'nowhere'"),
            ({"scaling": True}, "0104", 400, "config[0].scaling is true"),
            (
                {"scaling": {"min_instances": 3, "max_instances": 2}}, "0104", 400,
                "min_instances is 3 and max_instances 2",
            ),
            ({"affinity": {"node_affinity": {}}}, "2858", 400, "config[0].affinity"),
            (
                {"additional_properties": {"x": {"persistent_volumes": [{}]}}}, "2858", 400,
                "persistent_volumes",
            ),
            (
                {"custom_spec": {"cpu": 1, "memory": 1, "ascend_a310": 1}},
                "2858", 400, "config[0].custom_spec.ascend_a310 is 1",
            ),
            (
                {"additional_properties": {"x": {"max_surge": "many"}}}, "0104", 400,
                'config[0].additional_properties.x.max_surge is "many"; it must be a whole number',
            ),
            ({"src_path": "/b/x/"}, "3518", 400, "config[0].src_path is for batch"),
            (
                {"specification": "custom", "custom_spec": {"cpu": 4000, "memory": 1}}, "3976",
                400, "is large enough for one such instance",
            ),
        ],
    )  # fmt: skip
    def test_what_a_part_cannot_be(
        self, serving: Serving, part: dict[str, Any], code: str, status: int, words: str
    ) -> None:
        config = [serving.part(serving.model()) | part]

        said = refused(
            serving, code, status, service_name="no", infer_type="real-time", config=config
        )

        assert words in said
        assert serving.project.get("/services", service_name="no")["total_count"] in (0, 1)

    @pytest.mark.parametrize(
        ("body", "code", "words"),
        [
            ({"service_name": "a b"}, "0104", "service_name is 'a b'"),
            ({"infer_type": "edge"}, "3518", "infer_type is 'edge'"),
            ({"description": "a=b"}, "0104", "description is 'a=b'"),
            ({"config": []}, "0104", "config is []; it must be a list of 1 to 10"),
            ({"additional_properties": {"x": 5}}, "0104", "additional_properties.x is 5"),
            (
                {"additional_properties": {"x": {"websocket_upgrade": "yes"}}},
                "0104",
                "additional_properties.x.websocket_upgrade is 'yes'",
            ),
            ({"workspace_id": "f" * 32}, "0102", "workspace"),
            ({"service_secrets": [{}]}, "2858", "service_secrets"),
            ({"priority": 4}, "0104", "priority is 4"),
            ({"additional_properties": {"smn_notification": {"a": 1}}}, "2858", "smn_notification"),
        ],
    )
    def test_what_a_service_cannot_be(
        self, serving: Serving, body: dict[str, Any], code: str, words: str
    ) -> None:
        usual = {
            "service_name": "refused",
            "infer_type": "real-time",
            "config": [serving.part(serving.model())],
        }

        assert words in refused(serving, code, **(usual | body))

    def test_a_pool_without_the_scope(self, serving: Serving) -> None:
        config = [serving.part(serving.model())]

        said = refused(
            serving, "3518", service_name="no-scope", infer_type="real-time", config=config,
            pool_name=serving.project.pool("cards"),
        )  # fmt: skip

        assert "its scope is Train, without Infer" in said

    def test_a_name_is_there_once(self, serving: Serving) -> None:
        serving.deploy("once", serving.part(serving.model()))

        config = [serving.part(serving.model())]
        body: dict[str, Any] = {
            "service_name": "once", "infer_type": "real-time", "config": config,
        }  # fmt: skip
        assert "has a service of that name" in refused(serving, "3503", 409, **body)

    def test_more_than_the_workspace_may_have(self, serving: Serving) -> None:
        workspace_id = add_workspace(serving.project, "tight")
        quotas = f"{serving.project.v1}/workspaces/{workspace_id}/quotas"
        limit = {"quotas": [{"resource": "infer.instances", "quota": 2}]}
        assert serving.project.http.put(quotas, json=limit).status_code == 200
        config = [serving.part(serving.model(workspace_id=workspace_id), instance_count=3)]
        body: dict[str, Any] = {
            "infer_type": "real-time", "config": config, "workspace_id": workspace_id,
        }  # fmt: skip

        said = refused(serving, "0118", service_name="too-much", **body)

        assert "infer.instances" in said
        listed = serving.project.get("/services", workspace_id=workspace_id)
        assert listed["total_count"] == 0

    def test_an_update_that_the_quota_leaves_no_room_for_waits_and_says_so(
        self, serving: Serving
    ) -> None:
        workspace_id = add_workspace(serving.project, "full-house")
        quotas = f"{serving.project.v1}/workspaces/{workspace_id}/quotas"
        limit = {"quotas": [{"resource": "infer.instances", "quota": 1}]}
        serving.project.http.put(quotas, json=limit)
        service_id = serving.ready("full", workspace_id=workspace_id)
        path = f"{serving.project.v1}/services/{service_id}"

        serving.project.http.put(path, json={"config": [{"envs": {"A": "1"}}]})
        wait_until(lambda: any("infer.instances" in one for one in serving.events(service_id)))
        assert ask(serving, service_id).status_code == 200
        serving.project.http.put(
            quotas, json={"quotas": [{"resource": "infer.instances", "quota": 2}]}
        )

        wait_until(lambda: len(serving.attempts(service_id)) == 2)


class TestLists:
    def test_services_are_filtered_sorted_and_paged(self, serving: Serving) -> None:
        model_id = serving.model()
        ids = {}
        for name in ("list-b", "list-a", "list-c"):
            serving.later(10)
            ids[name] = serving.deploy(name, serving.part(model_id))

        def listed(**query: object) -> list[str]:
            page = serving.project.get("/services", service_name="list-", **query)
            assert page["count"] == len(page["services"])
            return [one["service_name"] for one in page["services"]]

        assert listed() == ["list-c", "list-a", "list-b"]
        assert listed(order="asc") == ["list-b", "list-a", "list-c"]
        assert listed(sort_by="service_name", order="asc") == ["list-a", "list-b", "list-c"]
        assert listed(limit=2, offset=1) == ["list-b"]
        assert listed(marker=ids["list-c"], limit=1) == ["list-a"]
        assert listed(marker=ids["list-b"]) == []
        assert listed(model_id=model_id, service_id=ids["list-a"]) == ["list-a"]
        assert listed(model_id="other") == []
        assert listed(status="stopped") == []
        assert listed(infer_type="batch") == []
        assert listed(cluster_id=serving.project.pool("public")) == listed()
        wrong = serving.project.http.get(f"{serving.project.v1}/services?status=gone")
        assert (wrong.status_code, "status is" in wrong.text) == (400, True)

    def test_events_are_filtered(self, serving: Serving) -> None:
        service_id = serving.ready("events")

        found = serving.project.get(f"/services/{service_id}/events", event_info="DEPLOYED")
        bad = serving.project.get(f"/services/{service_id}/events", event_type="abnormal")

        assert [one["event_type"] for one in found["events"]] == ["normal"]
        assert bad["total_count"] == 0

    def test_specifications_are_the_flavors(self, serving: Serving) -> None:
        found = serving.project.get("/services/specifications")

        cards = {one["specification"]: one["gpu_info"] for one in found["specifications"]}
        assert cards["gpu.2"]["gpu"] == 2
        assert cards[FLAVOR] is None

    def test_clusters_are_the_pools_with_the_scope(self, serving: Serving) -> None:
        found = serving.project.get("/clusters")

        by_name = {one["cluster_name"]: one for one in found["clusters"]}
        assert "serving" in by_name
        assert "cards" not in by_name
        assert by_name["serving"]["status"] == "running"

    def test_the_workloads_of_the_pool_show_instances(self, serving: Serving) -> None:
        serving.ready("in-the-pool")
        project = serving.project

        found = project.http.get(
            f"{project.v2}/pools/{project.pool('public')}/workloads", params={"type": "infer"}
        ).json()["items"]

        assert "in-the-pool" in [one["jobName"] for one in found]
        assert {one["type"] for one in found} == {"infer"}


def test_a_workspace_with_models_or_services_in_it_is_not_deleted(serving: Serving) -> None:
    workspace_id = add_workspace(serving.project, "inhabited")
    model_id = serving.model(workspace_id=workspace_id)
    service_id = serving.ready("inhabitant", workspace_id=workspace_id)
    path = f"{serving.project.v1}/workspaces/{workspace_id}"

    refusal = serving.project.http.delete(path)

    assert refusal.status_code == 400
    assert "1 model(s) and 1 service(s)" in refusal.json()["error_msg"]
    serving.project.http.delete(f"{serving.project.v1}/services/{service_id}")
    serving.project.http.delete(f"{serving.project.v1}/models/{model_id}")
    wait_until(lambda: serving.project.http.delete(path).status_code == 200)
