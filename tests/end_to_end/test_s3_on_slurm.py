"""Jobs on a cluster whose objects lie in S3: a node of theirs moves what is worth it."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.end_to_end.server import (
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    wait_for,
)
from tests.end_to_end.signs import WAITS_FOR_A_FILE
from tests.engines.slurm_cluster import SlurmCluster
from tests.objects.s3_account import S3Account, Wire, running_s3, wire_to

pytestmark = pytest.mark.timeout(300)

BASE: Final = "muster-base"
STARTING, RUNNING, COMPLETED, TERMINATED, CREATE_FAILED = 7, 8, 10, 12, 5
MIB: Final = 1 << 20

SUMS_UP: Final = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--data_url", type=pathlib.Path)
parser.add_argument("--train_url", type=pathlib.Path)
given = parser.parse_args()
found = sorted(p for p in given.data_url.rglob("*") if p.is_file())
print("read", len(found), sum(p.stat().st_size for p in found), flush=True)
"""
LEAVES_MUCH: Final = """
for number, size in enumerate({sizes}):
    (given.train_url / f"part-{{number:02d}}").write_bytes(bytes([number]) * size)
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        found.make_bucket(BASE)
        yield found


@pytest.fixture
def wire(account: S3Account) -> Iterator[Wire]:
    with wire_to(account.url) as found:
        yield found


class Site:
    """A server on a cluster, reached by a wire that may be cut; both may be replaced."""

    def __init__(self, folder: Path, wire: Wire, slurm: SlurmCluster) -> None:
        self.folder, self.wire, self.slurm = folder, wire, slurm
        self.count = 0
        (folder / "data").mkdir(mode=0o700)
        self.set(move_mib=1)
        self.start()

    def set(self, *, move_mib: int) -> None:
        settings = f"slurm_nodes_move_mib = {move_mib}\n"
        (self.folder / "data" / "muster.toml").write_text(settings)

    def start(self) -> None:
        self.count += 1
        place = f"s3://{BASE}/{self.folder.name}"
        flags = ("--engine", "slurm", "--objects", place, "--s3-endpoint", self.wire.url)
        self.server = ServerProcess(self.folder, *flags, name=f"server-{self.count}")
        self.remote = connect(self.server, self.server.wait_until_ready())

    def kill(self) -> None:
        self.remote.project.http.close()
        self.server.kill()

    def data(self, count: int, size: int) -> dict[str, Any]:
        """The part of a config that names so many objects, and where results go."""
        for number in range(count):
            url = f"/objects/bucket-default/data/{number:02d}.bin"
            content = bytes([number % 256]) * size
            assert self.remote.project.http.put(url, content=content).status_code == 200
        return {"data_url": "/bucket-default/data/", "train_url": "/bucket-default/out/"}

    @property
    def jobs(self) -> list[Path]:
        folder = self.server.data / "jobs"
        return [path for path in folder.iterdir() if not path.name.startswith(".")]

    def moved(self, way: str) -> int:
        """Bytes that nodes have moved for the jobs, as they say."""
        files = [folder / "moves" / way / "alive.json" for folder in self.jobs]
        return sum(json.loads(file.read_text())["bytes"] for file in files if file.exists())

    @property
    def failures(self) -> int:
        """Of nodes, as all servers have noted them."""
        logs = self.folder.glob("server-*.log")
        return sum(log.read_text().count("node_has_not_moved_object") for log in logs)

    def is_idle(self) -> bool:
        return not self.slurm.run("squeue", "-h", "-t", "running,pending,completing").strip()


@pytest.fixture
def site(tmp_path: Path, account: S3Account, wire: Wire, slurm: SlurmCluster) -> Iterator[Site]:
    with ExitStack() as opened:
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        for name, value in {**account.environment, "SLURM_CONF": str(slurm.config)}.items():
            patch.setenv(name, value)
        site = Site(tmp_path, wire, slurm)
        try:
            yield site
            wire.is_down, wire.hold_after, wire.cut_after = False, None, None
            site.remote.stop_everything()
            site.server.stop()
            check_is_exact(site.server.data)
        finally:
            site.kill()
            end_processes_below(site.server.data / "jobs")
            slurm.clear()


def test_a_node_fetches_what_its_job_reads_and_stores_what_it_leaves(
    site: Site, account: S3Account
) -> None:
    sizes = [3 * MIB, 0, 7]
    script = SUMS_UP + LEAVES_MUCH.format(sizes=sizes)

    job = site.remote.submit("moves", script, **site.data(5, MIB))
    site.remote.wait(job, COMPLETED)

    assert site.remote.log(job) == f"read 5 {5 * MIB}\n".encode()
    for number, size in enumerate(sizes):
        key = f"{site.folder.name}/bucket-default/out/part-{number:02d}"
        assert account.get(BASE, key) == bytes([number]) * size
    wait_for(lambda: site.is_idle() or None)
    assert site.moved("in") == 5 * MIB
    assert site.moved("out") == sum(sizes)
    assert site.failures == 0
    [folder] = site.jobs
    assert not (folder / "fetched").exists()
    assert not list((folder / "output").rglob("part-*"))


def test_a_gang_fetches_each_object_once_and_all_of_it_sees_them(site: Site, wire: Wire) -> None:
    before = wire.bytes_sent
    config = site.data(4, 2 * MIB)

    job = site.remote.submit("gang", SUMS_UP, **config | {"worker_server_num": 2})
    site.remote.wait(job, COMPLETED)

    for index in range(2):
        assert site.remote.log(job, index) == f"read 4 {8 * MIB}\n".encode()
    assert wire.bytes_sent - before < 10 * MIB


@pytest.mark.parametrize("end", [ServerProcess.kill, ServerProcess.stop])
def test_what_a_node_moves_goes_on_without_a_server_and_is_moved_once(
    site: Site, wire: Wire, end: Callable[[ServerProcess], None]
) -> None:
    config = site.data(20, MIB)
    before = wire.bytes_sent
    wire.hold_after = before + 8 * MIB
    job = site.remote.submit("killed", SUMS_UP, **config)
    wait_for(lambda: wire.bytes_sent > before + 8 * MIB)
    site.remote.project.http.close()
    end(site.server)

    wire.hold_after = None
    site.start()
    site.remote.wait(job, COMPLETED)

    assert site.remote.log(job) == f"read 20 {20 * MIB}\n".encode()
    assert site.moved("in") == 20 * MIB
    assert wire.bytes_sent - before < 28 * MIB


def test_large_results_are_stored_in_parts_and_a_new_server_goes_on_with_them(
    site: Site, account: S3Account, wire: Wire
) -> None:
    sizes = [3 * MIB, 70 * MIB]
    script = SUMS_UP + LEAVES_MUCH.format(sizes=sizes)
    config = site.data(1, 7)
    job = site.remote.submit("large", script, **config)
    wait_for(lambda: any(f.exists() for f in _uploads(site)) or None)
    wire.is_down = True
    wait_for(lambda: site.remote.version(job)["status_message"] or None)
    site.kill()

    wire.is_down = False
    site.start()
    site.remote.wait(job, COMPLETED)

    for number, size in enumerate(sizes):
        key = f"{site.folder.name}/bucket-default/out/part-{number:02d}"
        assert account.get(BASE, key) == bytes([number]) * size


def _uploads(site: Site) -> list[Path]:
    return [file for folder in site.jobs for file in (folder / "moves" / "out").glob("upload-*")]


def test_a_job_whose_inputs_are_being_fetched_says_so_and_can_be_stopped(
    site: Site, wire: Wire
) -> None:
    config = site.data(8, MIB)
    wire.hold_after = wire.bytes_sent + 3 * MIB
    job = site.remote.submit("stopped", SUMS_UP, **config)

    told = wait_for(lambda: site.remote.version(job)["status_message"] or None)
    assert told.startswith("Fetching its inputs:")
    assert site.remote.version(job)["status"] == STARTING
    assert site.remote.stop(job).status_code == 200
    site.remote.wait(job, TERMINATED)

    wait_for(lambda: site.is_idle() or None)
    [folder] = site.jobs
    assert not (folder / "fetched").exists()
    assert not (folder / "task-0" / "exit.json").exists(), "its program has never begun"


def test_a_job_waits_for_s3_and_goes_on_when_it_answers(site: Site, wire: Wire) -> None:
    config = site.data(8, MIB)
    wire.hold_after = wire.bytes_sent + 3 * MIB
    job = site.remote.submit("waits", SUMS_UP, **config)
    wait_for(lambda: site.remote.version(job)["status_message"] or None)

    wire.is_down, wire.hold_after = True, None

    told = wait_for(lambda: _told_of_failure(site.remote.version(job)))
    assert "data_url is" in told
    assert site.remote.version(job)["status"] == STARTING
    wire.is_down = False
    site.remote.wait(job, COMPLETED)
    assert site.remote.version(job)["status_message"] == ""


def test_results_wait_for_s3_without_holding_nodes(
    site: Site, wire: Wire, account: S3Account, tmp_path: Path
) -> None:
    gate = tmp_path / "s3-is-down"
    script = WAITS_FOR_A_FILE.format(gate=str(gate)) + SUMS_UP
    job = site.remote.submit(
        "results", script + LEAVES_MUCH.format(sizes=[4 * MIB]), **site.data(1, 7)
    )
    site.remote.wait(job, RUNNING)

    wire.is_down = True
    gate.touch()
    told = wait_for(lambda: _told_of_failure(site.remote.version(job)))

    assert told.startswith("Storing its results has failed and is tried again")
    assert "train_url is" in told
    wait_for(lambda: site.is_idle() or None)
    wire.is_down = False
    site.remote.wait(job, COMPLETED)
    key = f"{site.folder.name}/bucket-default/out/part-00"
    assert account.get(BASE, key) == bytes(4 * MIB)


def test_a_cut_connection_is_made_again_from_where_it_was(site: Site, wire: Wire) -> None:
    config = site.data(2, 8 * MIB)
    before = wire.bytes_sent
    wire.cut_after, wire.cuts_left = 3 * MIB, 4

    job = site.remote.submit("cut", SUMS_UP, **config)
    site.remote.wait(job, COMPLETED)

    assert site.remote.log(job) == f"read 2 {16 * MIB}\n".encode()
    assert wire.cuts == 4
    assert wire.bytes_sent - before < 20 * MIB
    assert site.failures == 0


def test_what_a_node_cannot_move_the_server_moves(site: Site, account: S3Account) -> None:
    [program] = (site.server.data / "jobs" / ".programs").glob("*/porter.py")
    text = program.read_text()
    program.write_text(
        text.replace(
            "    def _line(",
            "    def _line(self, address):\n        raise OSError('no route')\n\n    def _unused(",
        )
    )

    job = site.remote.submit(
        "unreachable", SUMS_UP + LEAVES_MUCH.format(sizes=[2 * MIB, 40 * MIB]), **site.data(4, MIB)
    )
    site.remote.wait(job, COMPLETED)

    assert site.remote.log(job) == f"read 4 {4 * MIB}\n".encode()
    for number, size in enumerate([2 * MIB, 40 * MIB]):
        key = f"{site.folder.name}/bucket-default/out/part-{number:02d}"
        assert account.get(BASE, key) == bytes([number]) * size
    assert site.moved("in") == 0
    assert site.failures


def _told_of_failure(shown: dict[str, Any]) -> str | None:
    message: str = shown["status_message"]
    return message if "has failed and is tried again" in message else None


def test_an_input_that_is_gone_when_the_nodes_are_there_is_told_and_nothing_begins(
    site: Site, slurm: SlurmCluster
) -> None:
    config = site.data(2, MIB)
    others = _take_all_nodes(slurm)
    slurm.wait_for(lambda: "R" in slurm.run("squeue", "-h", "-j", others, "-o", "%t"))
    job = site.remote.submit("gone", SUMS_UP, **config)
    wait_for(lambda: _pending(slurm))
    for number in range(2):
        site.remote.project.http.delete(f"/objects/bucket-default/data/{number:02d}.bin")

    slurm.run("scancel", others)

    shown = site.remote.wait(job, CREATE_FAILED)
    assert "data_url is '/bucket-default/data/'; there is nothing there" in shown["status_message"]
    wait_for(lambda: site.is_idle() or None)
    [folder] = site.jobs
    assert not (folder / "task-0" / "exit.json").exists()


def _take_all_nodes(slurm: SlurmCluster) -> str:
    """The id of a job that holds them."""
    quiet = ("--output=/dev/null", "--wrap=sleep 300")
    return slurm.run("sbatch", "--parsable", "-N8", "--exclusive", *quiet).strip()


def _pending(slurm: SlurmCluster) -> str | None:
    return slurm.run("squeue", "-h", "-t", "pending", "-o", "%j").strip() or None


def test_a_mover_that_is_killed_is_followed_by_one_that_goes_on(site: Site, wire: Wire) -> None:
    config = site.data(12, MIB)
    before = wire.bytes_sent
    wire.hold_after = before + 4 * MIB
    job = site.remote.submit("mover", SUMS_UP, **config)
    wait_for(lambda: wire.bytes_sent > before + 4 * MIB)
    wait_for(lambda: site.moved("in") > MIB)

    os.kill(_find_mover(site), signal.SIGKILL)
    wire.hold_after = None
    site.remote.wait(job, COMPLETED)

    assert site.remote.log(job) == f"read 12 {12 * MIB}\n".encode()
    assert wire.bytes_sent - before < 22 * MIB


def _find_mover(site: Site) -> int:
    """The process that the agent of the job has forked to move its objects."""
    [folder] = site.jobs
    alive = json.loads((folder / "moves" / "in" / "alive.json").read_text())
    return int(alive["who"].split()[1])


def test_a_node_that_dies_while_it_fetches_costs_the_job_nothing(
    site: Site, wire: Wire, slurm: SlurmCluster
) -> None:
    config = site.data(4, MIB)
    wire.hold_after = wire.bytes_sent + 2 * MIB
    job = site.remote.submit("dies", SUMS_UP, **config)
    node = wait_for(lambda: slurm.run("squeue", "-h", "-t", "running", "-o", "%N").strip() or None)
    wait_for(lambda: site.moved("in") > 0)

    slurm.kill(node)
    try:
        wait_for(lambda: "down" in slurm.run("sinfo", "-h", "-N", "-n", node, "-o", "%T"))
        # Whatever lives on there is kept from starting it.
        wait_for((site.jobs[0] / "task-0" / "claim.json").exists)
        wire.hold_after = None
        site.remote.wait(job, COMPLETED)
    finally:
        slurm.start_node(node)
        slurm.wait_until_idle()

    assert site.remote.log(job) == f"read 4 {4 * MIB}\n".encode()
    assert len(site.jobs) == 2, "the other one was given up"


def test_a_server_that_is_killed_while_results_are_stored_finds_them_stored(
    site: Site, account: S3Account, wire: Wire
) -> None:
    sizes = [2 * MIB] * 12
    job = site.remote.submit("stored", SUMS_UP + LEAVES_MUCH.format(sizes=sizes), **site.data(1, 7))
    wait_for(lambda: site.moved("out") > 2 * MIB)
    site.kill()

    site.start()
    site.remote.wait(job, COMPLETED)

    for number, size in enumerate(sizes):
        key = f"{site.folder.name}/bucket-default/out/part-{number:02d}"
        assert account.get(BASE, key) == bytes([number]) * size


def test_where_it_is_set_so_the_server_moves_everything(site: Site) -> None:
    site.kill()
    site.set(move_mib=0)
    site.start()

    job = site.remote.submit(
        "small", SUMS_UP + LEAVES_MUCH.format(sizes=[4 * MIB]), **site.data(2, MIB)
    )
    site.remote.wait(job, COMPLETED)

    [folder] = site.jobs
    assert not (folder / "moves").exists()
    assert site.remote.output("out/part-00") == bytes(4 * MIB)
