"""Visualization jobs on a real server, with a real TensorBoard over what a real job has written."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.required import import_needed

import_needed("tensorboard", "tensorboard")

STEPS: Final = 7
WRITES_SCALARS: Final = f"""
    import sys
    from tensorboard.summary import Writer

    [folder] = [a.partition("=")[2] for a in sys.argv if a.startswith("--train_url=")]
    writer = Writer(folder)
    for step in range({STEPS}):
        writer.add_scalar("falling-loss", 1 / (step + 1), step)
    writer.close()
"""

# As a training does: a step now and then, until it is stopped.
WRITES_AND_WAITS: Final = """
    import sys, time
    from tensorboard.summary import Writer

    [folder] = [a.partition("=")[2] for a in sys.argv if a.startswith("--train_url=")]
    writer = Writer(folder)
    for step in range(10_000):
        writer.add_scalar("live-loss", 1 / (step + 1), step)
        writer.flush()
        time.sleep(0.5)
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("visual")) as remote:
        yield remote
        for job in remote.project.get("/visualization-jobs", per_page=1000)["jobs"]:
            remote.project.http.delete(f"{remote.project.v1}/visualization-jobs/{job['job_id']}")


@pytest.fixture(scope="module")
def results(remote: Remote) -> str:
    """The train_url of a job that has written scalars."""
    train_url = "/bucket-default/visual/results/"
    job = remote.submit("writes-scalars", WRITES_SCALARS, train_url=train_url)
    remote.wait(job, 10)
    return train_url


def running(remote: Remote, job_id: int) -> dict[str, Any]:
    def up() -> dict[str, Any] | None:
        shown: dict[str, Any] = remote.project.get(f"/visualization-jobs/{job_id}")
        assert shown["status"] in (1, 7, 8), shown["status_message"]
        return shown if shown["status"] == 8 else None

    return wait_for(up, seconds=90)


def create(remote: Remote, name: str, train_url: str, **more: Any) -> dict[str, Any]:
    given = {"job_name": name, "train_url": train_url} | more
    return dict(remote.project.post("/visualization-jobs", **given))


def stopped(remote: Remote, job_id: int) -> dict[str, Any]:
    path = f"/visualization-jobs/{job_id}"
    wait_for(lambda: remote.project.get(path)["status"] == 12)
    return dict(remote.project.get(path))


class TestTensorBoard:
    def test_what_a_job_has_written_is_shown_to_who_has_the_address(
        self, remote: Remote, results: str
    ) -> None:
        made = create(remote, "shown", results)
        shown = running(remote, made["job_id"])

        with httpx.Client(follow_redirects=True, timeout=30) as browser:
            page = browser.get(made["service_url"])
            tags = browser.get(f"{page.url}data/plugin/scalars/tags")
            points = browser.get(
                f"{page.url}data/plugin/scalars/scalars",
                params={"tag": "falling-loss", "run": "."},
            )

        assert page.status_code == 200
        assert "token" not in str(page.url)
        assert "<title>TensorBoard</title>" in page.text
        assert tags.json() == {".": {"falling-loss": {"displayName": "", "description": ""}}}
        assert [point[1] for point in points.json()] == list(range(STEPS))
        assert shown["duration"] > 0

    def test_nobody_else_sees_it(self, remote: Remote, results: str) -> None:
        made = create(remote, "closed", results)
        running(remote, made["job_id"])
        address = made["service_url"].partition("?")[0]

        def status(**more: Any) -> int:
            return httpx.get(address, **more).status_code

        assert status() == 401
        assert status(params={"token": "x" * 48}) == 403
        assert status(headers={"Cookie": "muster-visualization=wrong"}) == 403
        assert status(headers={"X-Auth-Token": "wrong"}) == 401
        token = remote.project.http.headers["X-Auth-Token"]
        assert status(headers={"X-Auth-Token": token}) == 200
        unknown = httpx.get(f"{remote.project.url}/visualizations/{'0' * 32}/?token=x")
        assert unknown.status_code == 404

    def test_it_is_stopped_restarted_and_deleted(self, remote: Remote, results: str) -> None:
        made = create(remote, "again", results)
        path = f"{remote.project.v1}/visualization-jobs/{made['job_id']}"
        running(remote, made["job_id"])
        live = remote.project.http.post(f"{path}/restart")
        assert (live.status_code, live.json()["error_code"]) == (409, "ModelArts.2878")

        assert remote.project.http.post(f"{path}/stop").json() == {"is_success": True}
        stopped(remote, made["job_id"])

        closed = httpx.get(made["service_url"], follow_redirects=True)
        assert closed.status_code in (401, 503)  # the cookie is not kept here
        assert remote.project.http.post(f"{path}/stop").status_code == 409
        again = remote.project.http.post(f"{path}/restart").json()
        assert again["job_id"] == made["job_id"]
        running(remote, made["job_id"])
        assert httpx.get(again["service_url"]).status_code == 302
        assert remote.project.http.delete(path).json() == {"is_success": True}
        assert remote.project.http.get(path).status_code == 404


def test_a_job_that_still_runs_shows_what_it_has_written(remote: Remote) -> None:
    train_url = "/bucket-default/visual/underway/run-1/"
    job = remote.submit("writes-and-waits", WRITES_AND_WAITS, train_url=train_url)
    remote.wait(job, 8)
    made = create(remote, "underway", "/bucket-default/visual/underway/")
    running(remote, made["job_id"])

    with httpx.Client(follow_redirects=True, timeout=30) as browser:
        address = browser.get(made["service_url"]).url

        def steps() -> list[int]:
            query = {"tag": "live-loss", "run": "run-1"}
            reply = browser.get(f"{address}data/plugin/scalars/scalars", params=query)
            return [point[1] for point in reply.json()] if reply.status_code == 200 else []

        first = wait_for(lambda: steps() or None, seconds=90)
        more = wait_for(lambda: found if len(found := steps()) > len(first) else None, seconds=90)
        assert remote.version(job)["status"] == 8
        remote.stop(job)
        remote.wait(job, 12)
        afterwards = steps()

    assert more == list(range(len(more)))
    assert afterwards[: len(more)] == more
    # What it has shown lies where the job's results belong, and nowhere before.
    assert any("tfevents" in name for name in listed(remote, "visual/underway/run-1/"))


def listed(remote: Remote, prefix: str) -> list[str]:
    reply = remote.project.http.get("/objects/bucket-default", params={"prefix": prefix})
    assert reply.status_code == 200, reply.text
    return [str(one["key"]) for one in reply.json()["objects"]]


def test_a_scalar_that_a_job_wrote_is_seen_in_a_browser(
    remote: Remote, results: str, page: Any
) -> None:
    made = create(remote, "seen", results)
    running(remote, made["job_id"])

    page.goto(made["service_url"])

    assert made["service_url"].partition("token=")[2] not in page.url
    card = page.locator("scalar-card", has_text="falling-loss")
    card.first.wait_for()
    assert "falling-loss" in card.first.inner_text()
