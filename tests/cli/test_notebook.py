"""`muster notebook` against a server in this process; what stands in for JupyterLab answers."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from click.testing import CliRunner, Result

from muster.cli.main import main
from muster.client.client import Client
from muster.domain.jobfolder import log_file
from muster.wire.credentials import Credentials
from tests.api.jupyter import StandIn, attempt_folder, bring_up, create, standing_in, wait_for
from tests.api.platform import Platform, running_platform, wait_until

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("platform") / "data") as platform:
        yield platform


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture
def run(platform: Platform) -> Run:
    project = platform.project
    credentials = Credentials(
        url=platform.url,
        project_id=project.id,
        access_key=project.access_key,
        secret_key=project.secret_key,
    )
    # The platform's clock stands still, and signatures are held against it.
    now = datetime.fromtimestamp(platform.clock() / 1000, UTC)
    return lambda *args: CliRunner().invoke(
        main, args, obj=lambda: Client(credentials, now=lambda: now)
    )


_OF_THE_SERVER = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[")


def printed(result: Result) -> str:
    """Without the log of the server, which is in the same process."""
    lines = result.stdout.splitlines(keepends=True)
    return "".join(line for line in lines if not _OF_THE_SERVER.match(line))


def test_a_notebook_is_made_listed_opened_stopped_started_and_deleted(
    platform: Platform, run: Run, stand_in: StandIn
) -> None:
    made = run("notebook", "create", "sketches", "--hours", "2", "--json")
    assert made.exit_code == 0, made.output
    notebook = json.loads(printed(made))
    assert notebook["lease"]["duration"] == 7_200_000
    helper = threading.Thread(target=bring_up, args=(platform, notebook, stand_in))
    helper.start()

    opened = run("notebook", "open", "sketches")
    helper.join()
    assert opened.exit_code == 0, opened.output
    address = printed(opened).strip()
    assert address.startswith(f"{platform.url}/notebooks/{notebook['id']}/lab?token=")
    assert httpx.get(address, trust_env=False).status_code == 200
    header, row = printed(run("notebook", "list")).splitlines()
    assert header.split()[:3] == ["NAME", "STATUS", "FLAVOR"]
    assert row.split()[:2] == ["sketches", "RUNNING"]
    shown = printed(run("notebook", "show", notebook["id"]))
    assert "local/jupyterlab:" in shown
    assert "2 h 0 min TIMING" in shown

    assert run("notebook", "stop", "sketches").exit_code == 0
    wait_until(lambda: "STOPPED" in printed(run("notebook", "list")))
    refused = run("notebook", "open", "sketches")
    assert refused.exit_code == 1
    assert "is STOPPED" in refused.stderr
    assert run("notebook", "start", "sketches").exit_code == 0
    bring_up(platform, notebook, stand_in)
    assert run("notebook", "delete", "sketches", "--yes").exit_code == 0
    wait_until(lambda: len(printed(run("notebook", "list")).splitlines()) == 1)


def test_its_files_may_lie_in_a_bucket(platform: Platform, run: Run, stand_in: StandIn) -> None:
    bucket = f"bucket-{platform.project.name}"
    platform.project.http.put(f"/objects/{bucket}/cli/a.txt", content=b"a")
    refused = run("notebook", "create", "stored", "--storage", f"/{bucket}/cli")
    assert refused.exit_code == 1
    assert "must be a folder" in refused.stderr

    made = run("notebook", "create", "stored", "--storage", f"obs://{bucket}/cli/", "--json")

    assert made.exit_code == 0, made.output
    notebook = json.loads(printed(made))
    bring_up(platform, notebook, stand_in)
    assert f"/{bucket}/cli/" in printed(run("notebook", "show", "stored"))
    assert run("notebook", "delete", "stored", "--yes").exit_code == 0
    wait_until(lambda: len(printed(run("notebook", "list")).splitlines()) == 1)
    kept = platform.project.http.get(f"/objects/{bucket}/cli/a.txt")
    assert kept.content == b"a"


def test_its_lease_is_renewed_and_its_packages_are_saved(
    platform: Platform, run: Run, stand_in: StandIn
) -> None:
    notebook = json.loads(printed(run("notebook", "create", "saved", "--json")))
    refused = run("notebook", "save", "saved", "team/mine:1")
    assert refused.exit_code == 1
    assert "only one that runs is saved" in refused.stderr
    bring_up(platform, notebook, stand_in)
    kept = platform.data / "notebooks" / notebook["id"].replace("-", "")
    (kept / "environment/lib/python3.11/site-packages/einops-0.8.0.dist-info").mkdir(parents=True)

    renewed = run("notebook", "renew", "saved", "--hours", "3")
    wrong = run("notebook", "save", "saved", "team/mine")
    saved = run("notebook", "save", "saved", "team/mine:1", "--description", "with einops")

    assert renewed.exit_code == 0, renewed.output
    assert "3 h 0 min from now on" in renewed.stderr
    assert "3 h 0 min TIMING" in printed(run("notebook", "show", "saved"))
    assert wrong.exit_code == 2
    assert "'team/mine' is not like NAMESPACE/NAME:TAG" in wrong.stderr
    assert saved.exit_code == 0, saved.output
    other = run("notebook", "create", "other", "--image", "team/mine:1", "--json")
    image = json.loads(printed(other))["image"]
    assert image["description"] == "with einops"
    for name in ("saved", "other"):
        assert run("notebook", "delete", name, "--yes").exit_code == 0
    wait_until(lambda: len(printed(run("notebook", "list")).splitlines()) == 1)
    project = platform.project
    project.http.delete(f"{project.v1}/images/{image['id']}")


def test_one_in_another_workspace_is_found(platform: Platform, run: Run) -> None:
    workspace_id = platform.project.post("/workspaces", name="sketching")["id"]
    made = create(platform.project, name="afar", workspace_id=workspace_id)

    shown = run("notebook", "show", "afar", "--json")
    deleted = run("notebook", "delete", "afar", "--yes")

    assert json.loads(printed(shown))["id"] == made["id"]
    assert deleted.exit_code == 0, deleted.output


def test_what_is_not_there_is_told(run: Run) -> None:
    result = run("notebook", "stop", "nothing")
    assert result.exit_code == 1
    assert "no notebook 'nothing'. `muster notebook list` shows what there is." in result.stderr

    result = run("notebook", "create", "one", "--image", "cuda")
    assert result.exit_code == 1
    assert "no image 'cuda'; there are local/jupyterlab:" in result.stderr


def test_the_last_words_of_one_that_crashed_stand_on_lines_of_their_own(
    platform: Platform, run: Run
) -> None:
    made = create(platform.project, name="crashed")
    attempt_id, folder = attempt_folder(platform, made)
    log_file(folder, 0).parent.mkdir(parents=True, exist_ok=True)
    log_file(folder, 0).write_text("starting\nImportError: no module named tornado\n")
    wait_until(lambda: attempt_id in platform.engine.running())
    platform.call(platform.engine.finish, attempt_id, 0, 1)
    wait_for(platform.project, made, "CREATE_FAILED")

    shown = printed(run("notebook", "show", "crashed"))

    assert run("notebook", "delete", "crashed", "--yes").exit_code == 0
    assert [line.strip() for line in shown.splitlines()][2:5] == [
        "reason    Task 0 ended with exit code 1. The end of its log:",
        "starting",
        "ImportError: no module named tornado",
    ]


def test_two_of_one_name_are_told_apart_by_their_ids(run: Run) -> None:
    for _ in range(2):
        assert run("notebook", "create", "twin").exit_code == 0

    result = run("notebook", "show", "twin")
    assert result.exit_code == 1
    assert "More than one notebook is called 'twin'" in result.stderr
    for notebook in json.loads(printed(run("notebook", "list", "--json")))["data"]:
        assert run("notebook", "delete", notebook["id"], "--yes").exit_code == 0
