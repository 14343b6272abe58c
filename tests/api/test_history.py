"""History in and out through a running server."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from muster.api.http import JSON_BODY_BYTES_MAX
from muster.domain.permission import Role
from muster.store.recount import differences
from tests.api.people import AddPerson, people_of
from tests.api.platform import START_MS, Platform


@pytest.fixture(scope="module")
def add_person(platform: Platform) -> Iterator[AddPerson]:
    with people_of(platform) as add:
        yield add


def line(name: str, version: int = 1, **changes: Any) -> bytes:
    return msgspec.json.encode(
        {
            "version_id": version,
            "version_name": name,
            "status": 10,
            "create_time": START_MS - 90_000,
            "start_time": START_MS - 80_000,
            "end_time": START_MS - 27_000,
            "duration": 53_000,
            "gpu_num": 2,
            "flavor_code": "elsewhere",
        }
        | changes
    )


def post(platform: Platform, *lines: bytes, **query: str) -> Any:
    project = platform.project
    reply = project.http.post(
        f"/muster/v1/{project.id}/history", content=b"\n".join(lines), params=query
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_lines_come_in_and_are_listed_and_counted(platform: Platform) -> None:
    answer = post(platform, line("from-elsewhere"), b"", line("from-elsewhere", 2, status=13))

    assert answer == {"imported": 2, "present": 0, "refused": []}
    [job] = platform.project.get("/training-jobs", search_content="from-elsewhere")["jobs"]
    assert (job["version_count"], job["status"], job["duration"]) == (2, 13, 53_000)
    versions = platform.project.get("/training-jobs/versions", status="13")["versions"]
    assert ("from-elsewhere", 2, "elsewhere") in [
        (version["version_name"], version["gpu_num"], version["flavor_code"])
        for version in versions
    ]
    assert platform.run(platform.server.database.scan(lambda c: list(differences(c)))) == []


def test_the_same_lines_once_more_change_nothing(platform: Platform) -> None:
    post(platform, line("only-once"))

    assert post(platform, line("only-once")) == {"imported": 0, "present": 1, "refused": []}


def test_each_bad_line_is_told_by_its_number_and_the_others_come_in(platform: Platform) -> None:
    answer = post(
        platform,
        b"hello",
        line("one-of-them"),
        b"",
        line("runs", status=8),
        line("elsewhere", workspace_id="f" * 32),
        line("one-of-them"),
        line("in-a-pool", pool_id="gone"),
    )

    assert answer["imported"] == 1
    assert [told["line"] for told in answer["refused"]] == [1, 4, 5, 6, 7]
    assert [told["error_msg"].split(";")[0] for told in answer["refused"]][1:] == [
        "status is 8, which is not the code of a version that has ended",
        f"workspace_id is '{'f' * 32}'",
        "version_id is '1'",
        "pool_id is 'gone'",
    ]


def test_a_repeated_line_names_the_earlier_one_by_its_number_in_the_request(
    platform: Platform,
) -> None:
    answer = post(platform, b"", b"hello", line("repeated"), b"", line("repeated"))

    assert [told["line"] for told in answer["refused"]] == [2, 5]
    assert "line 3 is this version of the job already" in answer["refused"][1]["error_msg"]


def test_nul_is_one_refused_line_and_the_counts_stay_exact(platform: Platform) -> None:
    answer = post(platform, line("with-nul", 1), line("with-nul", 2, version_id="a\0b"))

    assert (answer["imported"], [told["line"] for told in answer["refused"]]) == (1, [2])
    assert platform.run(platform.server.database.scan(lambda c: list(differences(c)))) == []


def test_ids_that_differ_as_texts_are_different_versions(platform: Platform) -> None:
    lines = [line("texts", version_id=text) for text in ("7", "007", "\u0663", "3")]

    assert post(platform, *lines) == {"imported": 4, "present": 0, "refused": []}
    assert post(platform, *lines)["present"] == 4


def test_what_ran_in_a_pool_that_is_gone_counts_in_the_public_one_if_asked_to(
    platform: Platform,
) -> None:
    answer = post(platform, line("was-in-a-pool", pool_id="gone"), pool_as_public="true")

    assert answer == {"imported": 1, "present": 0, "refused": []}


def test_a_body_that_is_too_large_is_refused_whole(platform: Platform) -> None:
    project = platform.project

    reply = project.http.post(
        f"/muster/v1/{project.id}/history", content=b"\n" * (JSON_BODY_BYTES_MAX + 1)
    )

    assert reply.status_code == 413


def test_all_that_has_ended_comes_out_as_it_went_in(platform: Platform) -> None:
    post(platform, line("out-again", status=17, version_desc="moved"))
    project = platform.project

    reply = project.http.get(f"/muster/v1/{project.id}/history")

    assert reply.headers["content-type"] == "application/x-ndjson"
    rows = [msgspec.json.decode(text) for text in reply.content.splitlines()]
    [row] = [row for row in rows if row["job_name"] == "out-again"]
    assert (row["status"], row["duration"], row["version_desc"]) == (17, 53_000, "moved")
    assert post(platform, *reply.content.splitlines())["present"] == len(rows)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMINISTRATOR])
def test_only_an_administrator_moves_history_in(
    platform: Platform, add_person: AddPerson, role: Role
) -> None:
    person = add_person(f"mover-{role}", role)

    reply = person.http.post(f"/muster/v1/{platform.project.id}/history", content=line("not-mine"))

    assert reply.status_code == 403
    assert "history:write" in reply.json()["error_msg"]
    assert person.http.get(f"/muster/v1/{platform.project.id}/history").status_code == 200
