"""What is reported of a task becomes an event of its job."""

from itertools import count
from typing import Any

import httpx
import pytest

from muster.domain.permission import Role
from muster.store import timeline
from tests.api import refusals
from tests.api.people import people_of
from tests.api.platform import Platform, Project
from tests.api.test_training_v2 import NO_SUCH_JOB, as_v1, create, path_of

NUMBERS = count(1)


@pytest.fixture
def job(platform: Platform) -> dict[str, Any]:
    """A job that runs."""
    made = create(platform, f"reported-{next(NUMBERS)}")
    platform.wait_for(as_v1(made), 8)
    return made


def report(
    project: Project, job: dict[str, Any] | str, task: str = "worker-0", **body: Any
) -> httpx.Response:
    kind = body.pop("report_type", "training-event")
    path = f"{path_of(project, job)}/tasks/{task}/reports/{kind}"
    return project.http.post(path, json=body)


def events(project: Project, job: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    reply = project.http.get(f"{path_of(project, job)}/events", params=query)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["events"])


def test_a_report_is_an_event_of_the_task_and_moves_nothing(
    platform: Platform, project: Project, job: dict[str, Any]
) -> None:
    before = events(project, job, order="asc")

    reply = report(project, job, type="hang suspected")

    assert (reply.status_code, reply.json()) == (200, {})
    *earlier, last = events(project, job, order="asc")
    assert earlier == before
    assert (last["level"], last["source"]) == ("Info", "Task")
    assert last["message"] == "Reported of worker-0: hang suspected"
    assert events(project, job, pattern="hang") == [last]
    assert platform.status_of(as_v1(job)) == 8
    stages = project.http.get(f"{path_of(project, job)}/stages").json()["running_records"]
    assert [stage["name"] for stage in stages[0]["stages"]] == [
        "Creating", "Queuing", "Starting", "Running",
    ]  # fmt: skip
    platform.finish(as_v1(job))
    assert last in events(project, job)


def test_of_a_job_that_is_over_nothing_is_reported(
    platform: Platform, project: Project, job: dict[str, Any]
) -> None:
    platform.finish(as_v1(job))
    before = events(project, job)

    message = refusals.modern(report(project, job, type="late"), 400, "ModelArts.2858")

    assert "Completed" in message
    assert events(project, job) == before


@pytest.mark.parametrize(
    ("task", "body", "says"),
    [
        ("worker-1", {"type": "x"}, "this job has worker-0"),
        ("worker-0", {"type": "x", "report_type": "other"}, "it must be training-event"),
        ("worker-0", {}, "type is missing"),
        ("worker-0", {"type": ""}, "type is"),
        ("worker-0", {"type": "x" * 257}, "type is"),
        ("worker-0", {"type": "two\nlines"}, "type is"),
        ("worker-0", {"type": 5}, "type is 5; it must be text"),
    ],
)
def test_what_makes_no_sense_is_refused(
    project: Project, job: dict[str, Any], task: str, body: dict[str, Any], says: str
) -> None:
    before = events(project, job)

    assert says in refusals.modern(report(project, job, task, **body), 400, "ModelArts.2788")
    assert events(project, job) == before


def test_who_may_not_change_the_job_reports_nothing(
    platform: Platform, project: Project, other: Project, job: dict[str, Any]
) -> None:
    unknown = report(other, job["metadata"]["id"], type="x")
    refusals.modern(unknown, 400, "ModelArts.2775")
    refusals.modern(report(project, NO_SUCH_JOB, type="x"), 400, "ModelArts.2775")
    with people_of(platform) as add:
        reader = add("reads-reports", Role.READER)
        refusals.modern(report(reader.project, job, type="x"), 403, "ModelArts.0108")


def test_there_are_so_many_reports_and_no_more(
    project: Project, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "REPORTS_MAX", 2)
    assert [report(project, job, type=f"{n}").status_code for n in (1, 2)] == [200, 200]

    message = refusals.modern(report(project, job, type="3"), 400, "ModelArts.2815")

    assert "2 reports" in message
