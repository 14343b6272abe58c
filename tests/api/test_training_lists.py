"""`GET training-jobs` and `GET training-jobs/versions`: the two lists of everything."""

import itertools
import json
from typing import Any

import httpx
import pytest

from muster.store.paging import gathering, pages
from tests.api import refusals
from tests.api.platform import Platform, Project, wait_until

JOBS, VERSIONS = "/training-jobs", "/training-jobs/versions"

NO_COUNTS = [
    "", "x", "1.5", "1e1", "0x1", "null", "NaN", str(10**30),
    pytest.param("9" * 9_999, id="nines"), pytest.param("0" * 5_000 + "1", id="zeros"),
]  # fmt: skip


@pytest.fixture(scope="module")
def jobs(platform: Platform) -> dict[str, dict[str, Any]]:
    """Seven jobs, each standing somewhere else; `gamma` has two versions."""

    def submit(name: str, **more: Any) -> dict[str, Any]:
        platform.clock.now_ms += 1_000
        return platform.submit(name, **more)

    def run(name: str, **more: Any) -> dict[str, Any]:
        """Submit, and let it start before the clock goes on."""
        job = submit(name, **more)
        platform.wait_for(job, 8)
        return job

    cards, small = platform.project.pool("cards"), platform.project.pool("small")
    two_gpus = platform.spec_ids["gpu.2"]
    alpha = run("alpha-job", description="zulu")
    beta = run("Beta_job", description="yankee", pool_id=cards, spec_id=two_gpus)
    gamma = run("gamma", description="xray")
    platform.finish(alpha, after_ms=5_000)
    platform.finish(beta, 3, after_ms=2_000)
    platform.finish(gamma, after_ms=1_000)
    platform.clock.now_ms += 1_000
    again = platform.project.post(f"/training-jobs/{gamma['job_id']}/versions", config={})
    platform.wait_for(again, 8)
    delta = run("delta", spec_id=None, pool_id=small)
    epsilon = run("epsilon", pool_id=small)
    queued = submit("zeta-job", pool_id=small, worker_server_num=2)
    shell = submit("shell", create_version=False)
    platform.wait_for(queued, 7)
    return {
        "alpha-job": alpha, "Beta_job": beta, "gamma": again, "delta": delta, "epsilon": epsilon,
        "zeta-job": queued, "shell": shell, "gamma-1": gamma,
    }  # fmt: skip


def names(project: Project, path: str = JOBS, /, **params: object) -> list[str]:
    key, name = ("jobs", "job_name") if path == JOBS else ("versions", "version_name")
    return [row[name] for row in project.get(path, **params)[key]]


def refused(reply: httpx.Response, code: str = "ModelArts.0104") -> str:
    return refusals.v1(reply, 400, code)


@pytest.mark.usefixtures("jobs")
class TestJobs:
    def test_a_page_that_is_far_away_is_found_all_the_same(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "PASSED_MAX", 0)
        monkeypatch.setattr(gathering, "FEW_MAX", 0)

        assert names(project, status="7,8", per_page=99) == [
            "delta",
            "epsilon",
            "gamma",
            "zeta-job",
        ]
        assert project.get(JOBS, status="7,8", per_page=98)["job_total_count"] == 4

    def test_the_answer_has_exactly_the_documented_fields(self, project: Project) -> None:
        body = project.get(JOBS, search_content="alpha")

        assert body == {
            "is_success": True,
            "job_total_count": 1,
            "job_count_limit": 100_000 - 4,  # the others have ended, or have no version
            "quotas": 100_000,
            "jobs": [
                {
                    "job_id": 1,
                    "job_name": "alpha-job",
                    "version_id": 1,
                    "status": 10,
                    "create_time": 1_700_000_001_000,
                    "duration": 7_000,
                    "job_desc": "zulu",
                    "version_count": 1,
                    "user": {"name": "admin"},
                }
            ],
        }

    def test_a_job_without_version_shows_null_and_status_0(self, project: Project) -> None:
        [row] = project.get(JOBS, search_content="shell")["jobs"]

        assert (row["version_id"], row["status"], row["version_count"]) == (None, 0, 0)
        assert row["duration"] == 0

    def test_the_default_order_is_by_name_ascending_in_pages_of_ten(self, project: Project) -> None:
        assert names(project) == [
            "Beta_job", "alpha-job", "delta", "epsilon", "gamma", "shell", "zeta-job",
        ]  # fmt: skip

    @pytest.mark.parametrize("spelling", ["sortBy", "sort_by"])
    @pytest.mark.parametrize(
        "key",
        ["job_name", "job_desc", "status", "duration", "version_count", "create_time",
         "engine_type"],
    )  # fmt: skip
    def test_every_documented_key_sorts_both_ways_with_ties_by_id(
        self, project: Project, spelling: str, key: str
    ) -> None:
        field = {"engine_type": "status"}.get(key, key)  # not in the answer; just ask for it
        up = project.get(JOBS, **{spelling: key, "order": "asc"})["jobs"]
        down = project.get(JOBS, **{spelling: key, "order": "desc"})["jobs"]

        if key != "engine_type":
            assert up == sorted(up, key=lambda row: (row[field], row["job_id"]))
            assert down == sorted(
                sorted(up, key=lambda row: row["job_id"]), key=lambda row: row[field], reverse=True
            )
        assert {row["job_id"] for row in up} == {row["job_id"] for row in down}

    def test_the_documented_spelling_wins_over_the_other(self, project: Project) -> None:
        both = names(project, sortBy="create_time", sort_by="job_name")

        assert both == names(project, sortBy="create_time") != names(project, sortBy="job_name")

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            ("10", ["alpha-job"]),
            ("11", ["Beta_job"]),
            ("7", ["zeta-job"]),
            ("0", ["shell"]),
            ("13", []),
            ("10,11", ["Beta_job", "alpha-job"]),
            (" 10 , 11 ", ["Beta_job", "alpha-job"]),
            (["10", "11"], ["Beta_job", "alpha-job"]),
            (["10", "7,11"], ["Beta_job", "alpha-job", "zeta-job"]),
            ("10,10", ["alpha-job"]),
            ("", ["Beta_job", "alpha-job", "delta", "epsilon", "gamma", "shell", "zeta-job"]),
        ],
    )
    def test_status_filters_on_the_latest_version_by_literal_codes(
        self, project: Project, status: str | list[str], expected: list[str]
    ) -> None:
        body = project.get(JOBS, status=status)

        assert [row["job_name"] for row in body["jobs"]] == expected
        assert body["job_total_count"] == len(expected)

    @pytest.mark.parametrize(
        "status",
        ["22", "-1", "10,", ",", "10;11", "\0", *(value for value in NO_COUNTS if value != "")],
    )
    def test_a_status_that_is_no_code_is_refused(self, project: Project, status: str) -> None:
        message = refused(project.http.get(f"{project.v1}{JOBS}", params={"status": status}))

        assert "status is " in message
        assert "it must be codes from 0 to 21" in message

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("job", ["Beta_job", "alpha-job", "zeta-job"]),
            ("JOB", ["Beta_job", "alpha-job", "zeta-job"]),
            ("_", ["Beta_job"]),  # not a wildcard
            ("%", []),
            ("'", []),
            ("zulu", []),  # the description is not searched
            ("\0", []),
            ("x" * 64, []),
        ],
    )
    def test_search_is_a_part_of_the_name_in_any_case(
        self, project: Project, text: str, expected: list[str]
    ) -> None:
        body = project.get(JOBS, search_content=text)

        assert [row["job_name"] for row in body["jobs"]] == expected
        assert body["job_total_count"] == len(expected)

    def test_pages_follow_each_other_and_one_past_the_end_is_empty(self, project: Project) -> None:
        pages = [names(project, per_page=3, page=page) for page in range(1, 5)]

        assert [len(page) for page in pages] == [3, 3, 1, 0]
        assert list(itertools.chain(*pages)) == names(project)
        assert project.get(JOBS, per_page=3, page=4)["job_total_count"] == 7

    @pytest.mark.parametrize(
        ("name", "fits"),
        [("per_page", ["1", "1000"]), ("page", ["1", "65535"])],
    )
    def test_the_edges_of_a_range_are_inside(
        self, project: Project, name: str, fits: list[str]
    ) -> None:
        for value in fits:
            assert project.get(JOBS, **{name: value})["job_total_count"] == 7

    @pytest.mark.parametrize("name", ["per_page", "page"])
    @pytest.mark.parametrize(
        "value",
        ["0", "-1", "65536", "1.0", " 1", "1_0", "\N{ARABIC-INDIC DIGIT THREE}", *NO_COUNTS],
    )
    def test_outside_of_a_range_is_refused_in_words(
        self, project: Project, name: str, value: str
    ) -> None:
        message = refused(project.http.get(f"{project.v1}{JOBS}", params={name: value}))

        most = {"per_page": 1000, "page": 65535}[name]
        shown = json.dumps(value, ensure_ascii=False)
        assert message.startswith(f"{name} is {shown[:90]}")
        assert message.endswith(f"; it must be a whole number from 1 to {most}.")

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"order": "up"}, "'asc' or 'desc'"),
            ({"order": "ASC"}, "'asc' or 'desc'"),
            ({"sortBy": "size"}, "'job_desc'"),
            ({"sort_by": "job_id"}, "'version_count'"),
            ({"search_content": "x" * 101}, "text of at most 100 characters"),
            ({"workspace_id": "x" * 65}, "text of at most 64 characters"),
        ],
    )
    def test_an_unknown_word_is_refused_with_the_words_there_are(
        self, project: Project, params: dict[str, str], words: str
    ) -> None:
        message = refused(project.http.get(f"{project.v1}{JOBS}", params=params))

        assert message.startswith(f'{next(iter(params))} is "')
        assert words in message

    @pytest.mark.parametrize("workspace", ["1", "f" * 32, "nowhere"])
    def test_an_unknown_workspace_is_refused(self, project: Project, workspace: str) -> None:
        for path in (JOBS, VERSIONS):
            reply = project.http.get(f"{project.v1}{path}", params={"workspace_id": workspace})
            assert workspace in refused(reply, "ModelArts.0102")

    def test_unknown_parameters_are_ignored(self, project: Project) -> None:
        assert len(names(project, limit=1, offset=5, colour="red")) == 7


@pytest.mark.usefixtures("jobs")
class TestVersions:
    def test_the_answer_has_exactly_the_documented_fields(
        self, project: Project, jobs: dict[str, Any]
    ) -> None:
        body = project.get(VERSIONS, status="11")

        assert body == {
            "is_success": True,
            "total_count": 1,
            "offset": 0,
            "limit": 20,
            "versions": [
                {
                    "version_id": jobs["Beta_job"]["version_id"],
                    "version_name": "Beta_job",
                    "status": 11,
                    "create_time": 1_700_000_002_000,
                    "start_time": 1_700_000_002_000,
                    "end_time": 1_700_000_010_000,
                    "duration": 8_000,
                    "version_desc": "yankee",
                    "pool_id": project.pool("cards"),
                    "flavor_code": "gpu.2",
                    "npu_num": 0,
                    "gpu_num": 2,
                }
            ],
        }

    def test_the_duration_is_the_difference_of_its_times(self, project: Project) -> None:
        for row in project.get(VERSIONS, status="10,11")["versions"]:
            assert row["duration"] == row["end_time"] - row["start_time"]

    def test_a_waiting_version_has_not_started_and_a_running_one_not_ended(
        self, project: Project, platform: Platform
    ) -> None:
        [waiting] = project.get(VERSIONS, status=7)["versions"]
        running = project.get(VERSIONS, status=8)["versions"]

        assert (waiting["start_time"], waiting["end_time"], waiting["duration"]) == (None, None, 0)
        assert len(running) == 3
        for row in running:
            assert row["end_time"] is None
            assert row["duration"] == platform.clock.now_ms - row["start_time"]

    def test_what_runs_goes_on_while_nothing_is_committed(
        self, project: Project, platform: Platform
    ) -> None:
        def durations() -> list[int]:
            v1 = [row["duration"] for row in project.get(VERSIONS, status=8)["versions"]]
            asked = [{"key": "phase", "operator": "in", "value": ["Running"]}]
            reply = project.http.post(
                f"{project.v2}/training-job-searches", json={"filters": asked}
            )
            return [*v1, *(item["status"]["duration"] for item in reply.json()["items"])]

        before = durations()
        platform.clock.now_ms += 1_500
        after = durations()

        assert len(before) == 6
        assert after == [duration + 1_500 for duration in before]

    def test_without_description_and_in_the_public_pool_there_are_nulls(
        self, project: Project
    ) -> None:
        rows = {row["version_name"]: row for row in project.get(VERSIONS)["versions"]}

        assert rows["delta"]["version_desc"] is None
        assert rows["delta"]["pool_id"] == project.pool("small")
        assert rows["alpha-job"]["pool_id"] is None

    def test_cards_are_counted_over_all_workers(self, platform: Platform) -> None:
        project = platform.new_project("card-counts")
        job = platform.submit(
            "wide", project=project, worker_server_num=1, spec_id=platform.spec_ids["gpu.2"]
        )

        [row] = project.get(VERSIONS)["versions"]

        assert (row["gpu_num"], row["npu_num"]) == (2, 0)
        project.http.delete(f"{project.v1}/training-jobs/{job['job_id']}")
        project.http.close()

    def test_the_default_order_is_newest_first_in_pages_of_twenty(
        self, project: Project, jobs: dict[str, Any]
    ) -> None:
        body = project.get(VERSIONS)

        ids = [row["version_id"] for row in body["versions"]]
        assert ids == sorted(ids, reverse=True)
        assert body["total_count"] == len(ids) == 7
        assert names(project, VERSIONS).count("gamma") == 2

    @pytest.mark.parametrize("spelling", ["sort_by", "sortBy"])
    @pytest.mark.parametrize(
        ("key", "field"),
        [
            ("create_time", "create_time"),
            ("job_desc", "version_desc"),
            ("status", "status"),
            ("duration", "duration"),
            ("job_name", "version_name"),
        ],
    )
    def test_every_documented_key_sorts_both_ways(
        self, project: Project, spelling: str, key: str, field: str
    ) -> None:
        up = project.get(VERSIONS, **{spelling: key, "order": "asc"})["versions"]
        down = project.get(VERSIONS, **{spelling: key})["versions"]  # desc is the default

        blank = "" if key == "job_desc" else 0
        assert [row[field] or blank for row in up] == sorted(row[field] or blank for row in up)
        assert [row[field] or blank for row in down] == [row[field] or blank for row in up][::-1]
        tied = [row["version_id"] for row in down if row["status"] == 8]
        if key == "status":
            assert tied == sorted(tied)

    def test_the_documented_spelling_wins_over_the_other(self, project: Project) -> None:
        both = names(project, VERSIONS, sort_by="job_name", sortBy="create_time")

        assert both == names(project, VERSIONS, sort_by="job_name")

    @pytest.mark.parametrize(
        ("offset", "limit", "shown"),
        [(0, 3, 3), (5, 20, 2), (7, 20, 0), (20, 20, 0), (2**53, 1, 0), (0, 2**53, 7), (0, 7, 7)],
    )
    def test_offset_counts_rows_and_both_are_echoed(
        self, project: Project, offset: int, limit: int, shown: int
    ) -> None:
        everything = project.get(VERSIONS)["versions"]

        body = project.get(VERSIONS, offset=offset, limit=limit)

        assert (body["offset"], body["limit"], body["total_count"]) == (offset, limit, 7)
        assert body["versions"] == everything[offset : offset + limit]
        assert len(body["versions"]) == shown

    @pytest.mark.parametrize("offset", [0, 3, 7, 100])
    def test_a_limit_of_0_is_everything_from_the_offset_on(
        self, project: Project, offset: int
    ) -> None:
        everything = project.get(VERSIONS)

        body = project.get(VERSIONS, limit=0, offset=offset)

        assert body == everything | {
            "limit": 0, "offset": offset, "versions": everything["versions"][offset:],
        }  # fmt: skip

    def test_a_limit_of_0_is_written_like_a_page_whatever_the_texts_are(
        self, platform: Platform, project: Project
    ) -> None:
        # Other sort keys and other stores have it written elsewhere.
        everything = "".join(map(chr, range(1, 0x180))) + "\u2028\ufffd\U0001f600</script>"
        made = [
            platform.submit(f"odd-{number}", description=everything[start : start + 60])
            for number, start in enumerate(range(0, len(everything), 60))
        ]
        for job in made:
            platform.finish(job)

        def versions(**params: str | int) -> bytes:
            reply = project.http.get(f"{project.v1}{VERSIONS}", params=params)
            return reply.content.partition(b'"versions":')[2]

        try:
            for sort_key in ("create_time", "job_name"):
                for order in ("asc", "desc"):
                    page = versions(limit=1000, sortBy=sort_key, order=order)
                    assert versions(limit=0, sortBy=sort_key, order=order) == page
                    assert page.count(b'"odd-') == len(made)
        finally:
            for job in made:
                project.http.delete(f"{project.v1}/training-jobs/{job['job_id']}")

    @pytest.mark.parametrize("name", ["offset", "limit"])
    @pytest.mark.parametrize("value", ["-1", str(2**53 + 1), *NO_COUNTS])
    def test_outside_of_a_range_is_refused_in_words(
        self, project: Project, name: str, value: str
    ) -> None:
        message = refused(project.http.get(f"{project.v1}{VERSIONS}", params={name: value}))

        assert message.startswith(f'{name} is "{value[:90]}')
        assert "; it must be a whole number from 0 to " in message

    def test_a_pool_selects_its_versions(self, project: Project) -> None:
        assert names(project, VERSIONS, pool_id=project.pool("cards")) == ["Beta_job"]
        assert names(project, VERSIONS, pool_id="no-such-pool") == []
        assert len(names(project, VERSIONS, pool_id="")) == 7

    def test_the_public_pool_is_selected_by_its_id(self, project: Project) -> None:
        public = names(project, VERSIONS, pool_id=project.pool("public"))

        assert public == ["gamma", "gamma", "alpha-job"]

    def test_filters_combine_and_the_total_follows(self, project: Project) -> None:
        body = project.get(VERSIONS, pool_id=project.pool("small"), status="8", limit=1)

        assert body["total_count"] == 2
        assert len(body["versions"]) == 1

    def test_a_deleted_version_leaves_list_and_total(
        self, platform: Platform, project: Project
    ) -> None:
        job = platform.submit("short-lived")
        platform.finish(job)

        project.http.delete(
            f"{project.v1}/training-jobs/{job['job_id']}/versions/{job['version_id']}"
        )

        body = project.get(VERSIONS)
        assert body["total_count"] == 7
        assert "short-lived" not in names(project, VERSIONS)
        [row] = project.get(JOBS, search_content="short-lived")["jobs"]
        assert (row["version_id"], row["status"], row["version_count"]) == (None, 0, 0)
        project.http.delete(f"{project.v1}/training-jobs/{job['job_id']}")
        wait_until(lambda: project.get(JOBS)["job_total_count"] == 7)


@pytest.mark.usefixtures("jobs")
class TestParametersInTheBody:
    """Old clients send the parameters of a GET in its body."""

    def get(self, project: Project, path: str, content: bytes, query: str = "") -> httpx.Response:
        return project.http.request("GET", f"{project.v1}{path}{query}", content=content)

    def test_a_parameter_that_the_query_lacks_is_taken_from_the_body(
        self, project: Project
    ) -> None:
        reply = self.get(project, JOBS, b'{"per_page": 2, "order": "desc"}')

        assert [row["job_name"] for row in reply.json()["jobs"]] == ["zeta-job", "shell"]

    def test_numbers_may_be_text_and_lists_may_be_lists(self, project: Project) -> None:
        reply = self.get(project, JOBS, b'{"per_page": "1", "status": [10, "11"]}')

        assert reply.json()["job_total_count"] == 2
        assert len(reply.json()["jobs"]) == 1

    def test_the_query_wins(self, project: Project) -> None:
        reply = self.get(project, VERSIONS, b'{"limit": 5, "status": 10}', "?limit=1")

        assert reply.json()["limit"] == 1
        assert reply.json()["total_count"] == 2

    def test_null_is_as_good_as_absent(self, project: Project) -> None:
        reply = self.get(project, VERSIONS, b'{"limit": null, "pool_id": null, "status": null}')

        assert (reply.json()["limit"], reply.json()["total_count"]) == (20, 7)

    @pytest.mark.parametrize(
        "content",
        [b"", b"x", b"[]", b"[1]", b'"per_page"', b"null", b"{", b"\xff\xfe", b"a=b",
         b"[" * 100_000, b'{"a": 1e999}'],
    )  # fmt: skip
    def test_a_body_that_is_no_object_is_ignored(self, project: Project, content: bytes) -> None:
        for path in (JOBS, VERSIONS):
            assert self.get(project, path, content).status_code == 200

    @pytest.mark.parametrize(
        "content",
        [b'{"per_page": 0}', b'{"per_page": [1]}', b'{"per_page": {"a": 1}}', b'{"per_page": 1.5}',
         b'{"per_page": true}', b'{"per_page": 1000000000000000000000000000000}',
         b'{"per_page": "x"}'],
    )  # fmt: skip
    def test_a_wrong_value_in_it_is_refused_like_one_in_the_query(
        self, project: Project, content: bytes
    ) -> None:
        message = refused(self.get(project, JOBS, content))

        assert message.startswith("per_page is ")
        assert message.endswith("it must be a whole number from 1 to 1000.")


def test_the_quota_bounds_what_may_still_be_created(platform: Platform) -> None:
    project = platform.new_project("quota-count")
    before = project.get(JOBS)

    job = platform.submit("one", project=project)

    assert before["job_count_limit"] == before["quotas"]
    assert project.get(JOBS)["job_count_limit"] == before["quotas"] - 1
    platform.wait_for(job, 8, project)
    project.http.delete(f"{project.v1}/training-jobs/{job['job_id']}")
    assert project.get(JOBS)["job_count_limit"] == before["quotas"]
    project.http.close()


def test_no_list_holds_a_key_that_clients_would_follow(project: Project) -> None:
    for path in (
        JOBS, VERSIONS, "/training-job-configs", "/job/ai-engines", "/job/resource-specs",
        "/built-in-algorithms",
    ):  # fmt: skip
        reply = project.http.get(f"{project.v1}{path}")
        body = reply.json()
        assert not {"next", "links"} & set(body)
        assert not [key for key in body if key.endswith("_links")]
        assert "link" not in reply.headers
