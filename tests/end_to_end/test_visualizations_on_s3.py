"""A TensorBoard over results in S3: they are copied, and what comes later, too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from muster.reconciler.visualizations import COPY_SECONDS
from tests.end_to_end.server import Remote, running_server, wait_for
from tests.objects.s3_account import S3Account, running_s3
from tests.required import import_needed

BASE: Final = "muster-visual"
WRITE: Final = """
    import sys
    from tensorboard.summary import Writer

    [folder] = [a.partition("=")[2] for a in sys.argv if a.startswith("--train_url=")]
    writer = Writer(folder + "/NAME")
    writer.add_scalar("NAME-loss", 0.5, 1)
    writer.close()
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        found.make_bucket(BASE)
        yield found


@pytest.fixture
def remote(tmp_path: Path, account: S3Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    with running_server(tmp_path, "--objects", f"s3://{BASE}/visual") as found:
        yield found


def train(remote: Remote, name: str, train_url: str) -> None:
    remote.wait(remote.submit(name, WRITE.replace("NAME", name), train_url=train_url), 10)


def test_results_are_shown_and_those_of_a_later_job_come_to_them(remote: Remote) -> None:
    import_needed("tensorboard", "tensorboard")
    train_url = "/bucket-default/run/"
    train(remote, "first", train_url)
    made = remote.project.post("/visualization-jobs", job_name="board", train_url=train_url)
    path = f"/visualization-jobs/{made['job_id']}"

    def up() -> bool:
        shown = remote.project.get(path)
        assert shown["status"] in (1, 7, 8), shown["status_message"]
        return bool(shown["status"] == 8)

    wait_for(up, seconds=90)
    with httpx.Client(follow_redirects=True, timeout=30) as browser:
        address = browser.get(made["service_url"]).url

        def tags() -> dict[str, Any]:
            found: dict[str, Any] = browser.get(f"{address}data/plugin/scalars/tags").json()
            return found

        wait_for(lambda: "first" in tags())
        train(remote, "second", train_url)
        wait_for(lambda: {"first", "second"} <= set(tags()), seconds=COPY_SECONDS + 30)
        assert "second-loss" in tags()["second"]
        underway = remote.submit(
            "third", WRITE.replace("NAME", "third") + "    import time; time.sleep(600)\n",
            train_url=train_url,
        )  # fmt: skip
        wait_for(lambda: "third" in tags(), seconds=COPY_SECONDS + 60)
        assert remote.version(underway)["status"] == 8
        remote.stop(underway)
        remote.wait(underway, 12)

    [fetched] = (remote.data / "jobs").glob("*/fetched/data")
    assert {child.name for child in fetched.iterdir()} == {"first", "second", "third"}
    remote.project.http.delete(f"{remote.project.v1}{path}")
    wait_for(lambda: not fetched.exists())
