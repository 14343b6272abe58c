"""`muster import` and `export` on a data folder, and through a server that is not there."""

import asyncio
import fcntl
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner, Result

from muster.cli import history_import as command
from muster.cli import history_targets
from muster.cli.history_targets import AWAY_SECONDS
from muster.cli.main import main
from muster.client.client import Client
from muster.domain.history import ENDED
from muster.operations.identity import Identity, create_project, set_up
from muster.store import identity, listing, pools
from muster.store.connection import Connection
from muster.store.listing import ListQuery
from muster.store.recount import differences
from muster.store.sqlite import SqliteDatabase, open_snapshot
from muster.store.statements import load_migrations
from muster.store.transaction import Transaction
from muster.store.vault import Vault
from muster.wire.history import VERSION_NUMBER_MAX
from tests.client.fake_api import CREDENTIALS, NOW, FakeApi

Run = Callable[..., Result]

SACCT: Final = """\
JobID|JobName|User|State|ExitCode|Submit|Start|End|Elapsed|Partition|AllocTRES|NNodes
12|train|ann|COMPLETED|0:0|2026-01-31T10:00:00|2026-01-31T10:01:00|2026-01-31T11:01:00|01:00:00|gpu|gres/gpu=4|1
12.batch|batch||COMPLETED|0:0|2026-01-31T10:01:00|2026-01-31T10:01:00|2026-01-31T11:01:00|01:00:00|||1
13|train|ann|CANCELLED by 7|0:0|2026-01-31T10:05:00|Unknown|2026-01-31T10:06:00|00:00:00|gpu||1
14|train|ann|RUNNING|0:0|2026-01-31T10:05:00|2026-01-31T10:06:00|Unknown|00:10:00|gpu||1
"""


def make_folder(data: Path) -> Path:
    """A data folder as a server leaves it, with two projects."""

    def public_pools(tx: Transaction) -> None:
        for project in identity.list_projects(tx.connection):
            pools.ensure_public_pool(tx, project.id, now_ms=0)

    data.mkdir()

    async def begin() -> None:
        database = SqliteDatabase(data / "muster.db")
        vault = Vault(data / "secret.key")
        ident = Identity(database=database, vault=vault, token_lifetime_ms=1)
        await set_up(ident, now_ms=0)
        await create_project(ident, "research", now_ms=0)
        await database.write(public_pools)
        database.close()

    asyncio.run(begin())
    return data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


@pytest.fixture
def run(data: Path) -> Run:
    return lambda *args, **more: CliRunner().invoke(
        main, [*map(str, args), "--data", str(data)], **more
    )


def line(number: int, **changes: Any) -> str:
    row = {
        "version_id": number,
        "version_name": f"job-{number % 7}",
        "status": (10, 11, 12, 13, 16)[number % 5],
        "create_time": 1_600_000_000_000 + number,
        "start_time": 1_600_000_001_000 + number,
        "end_time": 1_600_000_054_000 + number,
        "duration": 53_000,
        "gpu_num": number % 3,
        "flavor_code": "elsewhere",
    }
    return json.dumps(row | changes)


def write(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def shown(data: Path, project_name: str = "default") -> list[Any]:
    """The lists of a project, without the ids, which may be given anew."""

    def read(connection: Connection) -> list[Any]:
        ids = {project.name: project.id for project in identity.list_projects(connection)}
        found: list[Any] = []
        for page, ids_at in ((listing.page_of_jobs, {0, 2}), (listing.page_of_versions, {0})):
            query = ListQuery(
                project_id=ids[project_name],
                workspace_id="0",
                sort_key="create_time",
                is_descending=False,
                offset=0,
                limit=10_000,
                now_ms=2_000_000_000_000,
            )
            total, rows = page(connection, query)
            plain = [[v for at, v in enumerate(row) if at not in ids_at] for row in rows]
            found.append((total, plain))
        return found

    with open_snapshot(data / "muster.db") as connection:
        assert list(differences(connection)) == []
        return read(connection)


def test_what_is_exported_and_imported_elsewhere_gives_the_same_lists(
    run: Run, data: Path, tmp_path: Path
) -> None:
    run("import", write(tmp_path / "in.jsonl", *map(line, range(1, 301))))
    another = make_folder(tmp_path / "another")
    out = tmp_path / "out.jsonl"

    exported = run("export", out)
    imported = CliRunner().invoke(main, ["import", str(out), "--data", str(another)])

    assert exported.stderr == "300 versions were exported.\n"
    assert imported.stdout == "300 versions were imported.\n"
    assert shown(another) == shown(data)
    assert shown(data)[1][0] == 300


def test_everything_that_is_exported_comes_out_elsewhere_as_it_was_but_for_the_ids(
    run: Run, tmp_path: Path
) -> None:
    run("import", write(tmp_path / "in.jsonl", *map(every_field, range(1, 301))))
    run("export", tmp_path / "first.jsonl")
    another = make_folder(tmp_path / "another")
    # So that ids are others there.
    other = write(tmp_path / "other.jsonl", line(1, job_name="other"))
    CliRunner().invoke(main, ["import", str(other), "--data", str(another)])

    for verb, name in (("import", "first.jsonl"), ("export", "second.jsonl")):
        result = CliRunner().invoke(main, [verb, str(tmp_path / name), "--data", str(another)])
        assert result.exit_code == 0, result.output

    first = (tmp_path / "first.jsonl").read_bytes().splitlines()
    second = (tmp_path / "second.jsonl").read_bytes().splitlines()
    assert len(first) == 300
    assert [without_ids(text) for text in second[1:]] == [without_ids(text) for text in first]
    assert second[1:] != first


def every_field(number: int) -> str:
    """A line with all that a line may have."""
    status = list(ENDED)[number % len(ENDED)]
    job = number % 7
    return line(
        number,
        status=status,
        start_time=None if number % 11 == 0 else 1_600_000_001_000 + number,
        duration=None,
        version_desc=f"version {number} \u00e9",
        job_desc=f"job {job}",
        job_id=f"job-{job}",
        npu_num=4 * (number % 2),
        gpu_num=0,
        worker_server_num=1 + number % 2,
        user_name="ann",
        version_number=1 + number,
        training_job_id=f"12345678-1234-8234-8234-{number:012d}",
        status_message=f"It ended as {status}.",
        job_create_time=1_600_000_000_000 + job,
    )


def without_ids(text: bytes) -> bytes:
    return re.sub(rb'"(version_id|job_id)":\d+', rb'"\1":0', text)


def test_what_came_in_once_does_not_come_in_again(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", *map(line, range(1, 11)))
    run("import", file)

    result = run("import", file)

    assert (result.exit_code, result.stdout) == (
        0,
        "0 versions were imported, 10 were here already.\n",
    )


def test_lines_in_any_order_are_listed_by_their_times(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", write(tmp_path / "in.jsonl", *map(line, reversed(range(1, 21)))))

    _, (_, versions) = shown(data)
    created = [version[2] for version in versions]
    assert created == sorted(created)


def test_bad_lines_are_told_by_number_and_kept_and_the_others_come_in(
    run: Run, data: Path, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "in.jsonl",
        line(1),
        "hello",
        "",
        line(2, status=8),
        line(3, end_time=5, duration=None),
        line(4, job_name="my job"),
        line(5, pool_id="gone"),
        line(6, workspace_id="none"),
        line(1, status=11),
        "x" * 10_000_000,
        line(7),
    )

    result = run("import", file)

    assert result.exit_code == 1
    assert result.stdout == "2 versions were imported, 8 lines were refused.\n"
    numbers = [
        int(told.split(":")[0].removeprefix("line ")) for told in result.stderr.splitlines()[:-1]
    ]
    assert sorted(numbers) == [2, 4, 5, 6, 7, 8, 9, 10]
    kept = [
        json.loads(text)
        for text in Path(f"{file}.refused.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {told["line"]: told["text"] for told in kept}[2] == "hello"
    assert all(told["error"] for told in kept)
    assert max(len(told["text"]) for told in kept) <= command.REFUSED_TEXT_MAX
    assert shown(data)[1][0] == 2


@pytest.mark.parametrize(
    ("in_the_way", "why"),
    [(Path("/"), "Is a directory"), (Path("/dev/full"), "No space left on device")],
)
def test_refused_lines_that_cannot_be_kept_are_told_and_cost_the_others_nothing(
    run: Run, tmp_path: Path, in_the_way: Path, why: str
) -> None:
    file = write(tmp_path / "in.jsonl", line(1), "no line", line(2))
    (tmp_path / "in.jsonl.refused.jsonl").symlink_to(in_the_way)

    result = run("import", file)

    assert result.exit_code == 1
    assert result.stdout == "2 versions were imported, 1 line was refused.\n"
    assert f"{file}.refused.jsonl cannot be written: {why}" in result.stderr
    assert "line 2: The line is not valid JSON" in result.stderr
    assert "All of the refused" not in result.stderr


def test_only_the_first_refusals_are_shown(run: Run, tmp_path: Path) -> None:
    result = run("import", write(tmp_path / "in.jsonl", *["hello"] * 25))

    told = result.stderr.splitlines()
    assert len([text for text in told if text.startswith("line ")]) == command.SHOWN_MAX
    assert "... and 5 more." in told


def test_what_ran_in_another_pool_counts_in_the_public_one_if_asked_to(
    run: Run, data: Path, tmp_path: Path
) -> None:
    result = run(
        "import", write(tmp_path / "in.jsonl", line(1, pool_id="gone")), "--pool-as-public"
    )

    assert result.exit_code == 0
    assert shown(data)[1][0] == 1


def test_the_output_of_sacct_comes_in_a_name_is_a_job(run: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "sacct.txt"
    file.write_text(SACCT, encoding="utf-8")

    result = run("import", file, "--pool-as-public", "--timezone", "UTC")

    assert result.stdout == "2 versions were imported, 1 line was refused.\n"
    assert "line 5: State is 'RUNNING'" in result.stderr
    (job_total, [job]), (_, versions) = shown(data)
    assert (job_total, job[0]) == (1, "train")
    assert [version[1] for version in versions] == [10, 12]


def test_sacct_without_its_header_is_told_to_be_called_otherwise_not_again(
    run: Run, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sacct.txt"
    file.write_text(SACCT.partition("\n")[2], encoding="utf-8")

    result = run("import", file, "--pool-as-public", "--timezone", "UTC")

    assert result.exit_code == 1
    assert "Call it without --noheader." in result.stderr
    assert "The same command goes on" not in result.stderr
    assert shown(data)[1][0] == 0


def test_another_project_is_named(run: Run, data: Path, tmp_path: Path) -> None:
    run("import", write(tmp_path / "in.jsonl", line(1)), "--project", "research")

    assert shown(data, "research")[1][0] == 1
    assert shown(data)[1][0] == 0


def test_an_empty_file_is_no_mistake(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").touch()

    result = run("import", tmp_path / "in.jsonl")

    assert (result.exit_code, result.stdout) == (0, "0 versions were imported.\n")


def test_ctrl_c_leaves_what_has_come_in_and_the_command_goes_on_from_there(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "in.jsonl", *map(line, range(1, 31)))
    monkeypatch.setattr(command, "STORED_AT_ONCE", 10)
    batches = command._batches

    def interrupted(*args: Any) -> Iterator[Any]:
        yield from islice(batches(*args), 2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command, "_batches", interrupted)
        first = run("import", file)
    second = run("import", file)

    assert first.exit_code == 130
    assert "Not finished: 20 versions have come in, and stay." in first.stderr
    assert "The same command goes on from there." in first.stderr
    assert second.stdout == "10 versions were imported, 20 were here already.\n"
    assert shown(data)[1][0] == 30


def test_what_a_server_has_not_answered_for_is_told_apart(tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", *map(line, range(1, 2_501)))
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        count = request.content.count(b"\n")
        asked.append(count)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return httpx.Response(200, json={"imported": count - 1, "present": 1, "refused": []})

    def connect() -> Client:
        return Client(CREDENTIALS, transport=httpx.MockTransport(answer), now=lambda: NOW)

    result = CliRunner().invoke(main, ["import", str(file)], obj=connect)

    assert asked == [1_000, 1_000, 500]
    assert "Not finished: 1,998 versions, and perhaps some of 500 more have come" in result.stderr


@pytest.mark.parametrize("failures", [2, len(AWAY_SECONDS) + 1])
def test_a_server_whose_store_is_away_is_asked_again_for_a_while(
    tmp_path: Path, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that came in all the same is there already the next time."""
    monkeypatch.setattr(history_targets, "AWAY_SECONDS", (0,) * len(AWAY_SECONDS))
    file = write(tmp_path / "in.jsonl", line(1), line(2))
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        if len(asked) <= failures:
            refusal = {"error_code": "ModelArts.0010", "error_msg": "The store is away."}
            return httpx.Response(503, json=refusal)
        return httpx.Response(200, json={"imported": 1, "present": 1, "refused": []})

    def connect() -> Client:
        return Client(CREDENTIALS, transport=httpx.MockTransport(answer), now=lambda: NOW)

    result = CliRunner().invoke(main, ["import", str(file)], obj=connect)

    assert len(set(asked)) == 1
    if failures == 2:
        assert result.stdout == "1 version was imported, 1 was here already.\n"
    else:
        assert result.exit_code == 1
        assert len(asked) == len(AWAY_SECONDS) + 1
        assert "The store is away" in result.stderr


def test_nul_in_a_line_is_one_refused_line(run: Run, data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", line(1), line(2, version_id="a\0b"), line(3))

    result = run("import", file)

    assert result.stdout == "2 versions were imported, 1 line was refused.\n"
    assert "line 2: version_id is 'a\\x00b'; the character NUL" in result.stderr
    assert shown(data)[1][0] == 2


def test_an_export_comes_in_elsewhere_though_a_job_has_used_up_its_numbers(
    run: Run, data: Path, tmp_path: Path
) -> None:
    last = {"job_name": "job", "version_number": VERSION_NUMBER_MAX}
    run("import", write(tmp_path / "in.jsonl", line(1, **last), line(2, job_name="job")))
    another = make_folder(tmp_path / "another")

    run("export", tmp_path / "out.jsonl")
    result = CliRunner().invoke(
        main, ["import", str(tmp_path / "out.jsonl"), "--data", str(another)]
    )

    assert result.stdout == "2 versions were imported.\n"
    assert shown(another) == shown(data)


def test_the_help_says_that_what_was_deleted_comes_in_again() -> None:
    text = CliRunner().invoke(main, ["import", "--help"]).output

    assert "deleted here since comes in again" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "none.jsonl"], "Error: There is no file none.jsonl.\n"),
        (["import", ".", "--project", "none"], "is a directory"),
        (["export", "none/out.jsonl"], "Error: none/out.jsonl cannot be written: No such file"),
        (["export", "out.jsonl", "--project", "none"], "There is no project 'none'"),
    ],
)
def test_what_is_not_there_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)

    result = run(*arguments)

    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_without_a_muster_is_not_made_one(tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", line(1))

    result = CliRunner().invoke(main, ["import", str(file), "--data", str(tmp_path / "none")])

    assert result.exit_code == 1
    assert "start `muster serve` on it once" in result.stderr
    assert not (tmp_path / "none").exists()


def test_a_folder_whose_server_runs_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", line(1))
    with (data / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        result = run("import", file)

    assert result.exit_code == 1
    assert "Another muster server" in result.stderr


def test_a_project_without_a_folder_is_wrong_usage(tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", line(1))

    result = CliRunner().invoke(
        main, ["import", str(file), "--project", "research"], obj=FakeApi().client
    )

    assert result.exit_code == 2
    assert "--project belongs to --data" in result.stderr


def test_an_export_of_a_newer_musters_database_is_refused_in_one_line(
    run: Run, data: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(data / "muster.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(load_migrations()) + 1}")

    result = run("export", tmp_path / "out.jsonl")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The database has schema")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()
