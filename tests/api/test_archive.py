"""Every call answers of an archived job as it did before, byte for byte."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.api.platform import Platform, Project, running_platform
from tests.api.test_training_v2 import as_v1, create, path_of


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with running_platform(tmp_path / "data") as platform:
        yield platform


def archive_all(platform: Platform) -> int:
    """What has ended by now."""
    sweeper = replace(platform.server.sweeper, archive_after_ms=1, rest_seconds=0.0)
    platform.clock.now_ms += 2
    return platform.run(sweeper.archive_due())


def answers(project: Project, job: dict[str, Any], v1: dict[str, Any]) -> dict[str, bytes]:
    """What every call that tells of a job says of this one."""
    version = f"/v1/{project.id}/training-jobs/{v1['job_id']}/versions"
    one = f"{version}/{v1['version_id']}"
    log = f"{v1['job_name']}.0"
    shown = path_of(project, job)
    pool = f"/v2/{project.id}/pools/{project.pool('public')}"
    gets = [
        f"/v1/{project.id}/training-jobs",
        f"/v1/{project.id}/training-job-versions",
        version,
        one,
        f"{one}/logs/file-names",
        f"{one}/aom-log?log_file={log}&lines=9",
        shown,
        f"{shown}/events",
        f"{shown}/tasks",
        f"{shown}/stages",
        f"{shown}/tasks/worker-0/logs/preview",
        f"{pool}/workloads",
        f"{pool}/statistics",
        "/metrics",
    ]
    found = {path: project.http.get(path) for path in gets}
    found["search"] = project.http.post(f"/v2/{project.id}/training-job-searches", json={})
    return {path: str(r.status_code).encode() + r.content for path, r in found.items()}


def test_nobody_sees_that_a_job_was_archived(platform: Platform) -> None:
    project = platform.project
    job = create(platform, "digits")
    platform.write_log(as_v1(job), b"one\ntwo\n")
    platform.finish(as_v1(job), 3, after_ms=5_000)
    platform.wait_for(platform.submit("another", description="words"), 8)
    platform.clock.now_ms += 2
    before = answers(project, job, as_v1(job))

    platform.clock.now_ms -= 2
    assert archive_all(platform) == 1

    after = answers(project, job, as_v1(job))
    assert {path for path in before if before[path] != after[path]} == set()
    assert b"two" in b"".join(after.values())


def test_an_archived_job_is_run_again_and_deleted(platform: Platform) -> None:
    project = platform.project
    job = platform.submit("digits", parameter=[{"label": "epochs", "value": "3"}])
    platform.finish(job)
    archive_all(platform)

    again = project.post(
        f"/training-jobs/{job['job_id']}/versions",
        config={"pre_version_id": job["version_id"]},
    )
    shown = project.get(f"/training-jobs/{job['job_id']}/versions/{again['version_id']}")
    assert shown["parameter"] == [{"label": "epochs", "value": "3"}]
    gone = project.http.delete(f"{project.v1}/training-jobs/{job['job_id']}")

    assert gone.status_code == 200
    assert project.get("/training-jobs")["job_total_count"] == 0
