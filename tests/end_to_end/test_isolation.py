"""Jobs that look for what is not theirs, on a server that runs as root."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.platform import log_in
from tests.end_to_end.server import (
    Remote,
    ServerProcess,
    connect,
    end_processes_below,
    run_muster,
    running_server,
    wait_for,
)
from tests.engines.isolating import require_root

pytestmark = pytest.mark.timeout(300)

COMPLETED = 10
LOOKS = """
import argparse, glob, json, os, sys
arguments, _ = argparse.ArgumentParser(), None
for name in ("data_url", "train_url", "places"):
    arguments.add_argument(f"--{name}", default="")
given = arguments.parse_known_args()[0]
def look(path):
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read()
    except OSError as error:
        return type(error).__name__
"""


@pytest.fixture(scope="module", autouse=True)
def _is_root() -> None:
    require_root()


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("isolated")) as remote:
        yield remote


@pytest.fixture(scope="module")
def other(remote: Remote) -> Iterator[Remote]:
    """Another project of the same server."""

    def told(*arguments: str) -> Any:
        done = run_muster(*arguments, "--data", remote.data)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    project_id = told("project", "create", "other")["project_id"]
    password = told("user", "create", "ada", "--project", "other")["password"]
    project = log_in(remote.project.url, project_id, "other", "ada", password, "", "")
    other = Remote(project=project, data=remote.data, spec_ids=remote.spec_ids)
    yield other
    other.stop_everything()
    project.http.close()


def tell(remote: Remote, name: str, script: str, **config: Any) -> Any:
    """What a job of the script prints, as JSON."""
    job = remote.submit(name, LOOKS + script, **config)
    remote.wait(job, COMPLETED)
    return json.loads(remote.log(job))


def parameters(**given: object) -> list[dict[str, str]]:
    return [{"label": name, "value": str(value)} for name, value in given.items()]


def test_a_job_finds_nothing_of_the_server(remote: Remote) -> None:
    names = ("muster.db", "muster.db-wal", "credentials.json", "secret.key", "objects", "snapshots")
    places = json.dumps([str(remote.data / name) for name in names])

    told = tell(
        remote,
        "looks",
        "found = [look(place) for place in json.loads(given.places)]\n"
        "print(json.dumps([os.getuid() > 0, *found]))",
        parameter=parameters(places=places),
    )

    assert told == [True, *["FileNotFoundError"] * len(names)]


def test_a_job_reads_its_input_and_no_object_of_another_project(
    remote: Remote, other: Remote
) -> None:
    for each in (remote, other):
        reply = each.project.http.put(
            f"/objects/bucket-{each.project.name}/set/deep/file", content=each.project.name.encode()
        )
        assert reply.status_code == 200, reply.text
    theirs = remote.data / "objects" / f"bucket-{other.project.name}"
    by_hand = remote.data / "objects" / f"bucket-{remote.project.name}" / "set" / "by-hand"
    by_hand.write_text("by hand")
    by_hand.chmod(0o600)

    told = tell(
        remote,
        "reads",
        "print(json.dumps([look(given.data_url), look(given.data_url + '/deep/file'),"
        " look(given.data_url + '/by-hand'), look(given.places)]))",
        data_url=f"/bucket-{remote.project.name}/set/",
        parameter=parameters(places=theirs),
    )

    assert told == [["by-hand", "deep"], remote.project.name, "by hand", "FileNotFoundError"]


def test_results_are_stored_and_links_in_them_lead_nowhere(remote: Remote) -> None:
    script = """
data = given.places
os.makedirs(given.train_url + "/deep/er")
open(given.train_url + "/deep/er/model", "w").write("weights")
os.chmod(given.train_url + "/deep/er/model", 0o400)
os.symlink(data + "/muster.db", given.train_url + "/database")
os.symlink(data, given.train_url + "/everything")
os.symlink(data + "/credentials.json", "start.json")
os.mkfifo(given.train_url + "/pipe")
print(json.dumps("done"))
"""
    tell(
        remote,
        "leaves",
        script,
        train_url=f"/bucket-{remote.project.name}/results/",
        parameter=parameters(places=remote.data),
    )

    stored = remote.data / "objects" / f"bucket-{remote.project.name}" / "results"
    assert [path.name for path in stored.rglob("*")] == ["deep", "er", "model"]
    model = (stored / "deep" / "er" / "model").stat()
    assert (model.st_uid, model.st_mode & 0o777) == (0, 0o644)
    assert remote.output("results/deep/er/model") == b"weights"


def test_jobs_of_two_projects_are_two_users_and_cannot_meet(remote: Remote, other: Remote) -> None:
    waits = remote.submit("waits", "import time; print('up', flush=True); time.sleep(600)")
    remote.wait(waits, 8)
    wait_for(lambda: remote.log(waits) == b"up\n" or None)

    told = tell(
        other,
        "meets",
        """
others = [path for path in glob.glob("/proc/[0-9]*") if os.stat(path).st_uid != os.getuid()]
folder = os.path.dirname(os.path.dirname(os.path.dirname(os.getcwd())))
print(json.dumps([os.getuid(), len(os.listdir(folder)), [look(p + "/environ") for p in others]]))
""",
    )
    mine = tell(remote, "is", "print(os.getuid())")

    user, job_count, environments = told
    assert user != mine
    assert job_count == 1
    assert set(environments) <= {"PermissionError"}
    assert remote.stop(waits).status_code < 300
    remote.wait(waits, 12)


def test_a_project_keeps_its_user_and_its_jobs_over_a_restart(tmp_path: Path) -> None:
    script = "import os, time\nprint(os.getuid(), flush=True)\ntime.sleep({seconds})"
    server = ServerProcess(tmp_path)
    try:
        remote = connect(server, server.wait_until_ready())
        waits = remote.submit("waits", script.format(seconds=600))
        remote.wait(waits, 8)
        user = wait_for(lambda: remote.log(waits) or None)
        server.kill()
        remote.project.http.close()
        server = ServerProcess(tmp_path, name="second")
        remote = connect(server, server.wait_until_ready())

        again = remote.submit("again", script.format(seconds=0))

        remote.wait(again, COMPLETED)
        assert remote.log(again) == user
        assert remote.version(waits)["status"] == 8
        remote.stop(waits)
        remote.wait(waits, 12)
        remote.project.http.close()
        server.stop()
    finally:
        server.kill()
        end_processes_below(tmp_path)


def test_a_server_says_at_its_start_whether_jobs_are_isolated(tmp_path: Path) -> None:
    said = {}
    for word in ("auto", "off"):
        server = ServerProcess(tmp_path / word, "--isolation", word)
        try:
            server.wait_until_ready()
            said[word] = wait_for(lambda: re.search("^Jobs are .*$", server.log, re.MULTILINE))[0]  # noqa: B023
            server.stop()
        finally:
            server.kill()

    assert said["auto"].startswith("Jobs are isolated from this server: those of each project run")
    assert said["off"].startswith("Jobs are not isolated from this server: they run under its own")
    assert "`isolation` is off" in said["off"]


def test_an_isolation_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    done = run_muster("serve", "--data", tmp_path, "--port", "0", "--isolation", "bubblewrap")

    assert done.returncode == 1
    assert done.stderr == (
        "muster cannot start: isolation is 'bubblewrap', which does not work: bubblewrap is for"
        " servers that do not run as root.\n"
    )
