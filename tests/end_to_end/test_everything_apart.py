"""Servers, database, nodes and objects each somewhere else; any may be killed or cut off."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.end_to_end.server import (
    Remote,
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    processes_below,
    wait_for,
)
from tests.engines.slurm_cluster import SlurmCluster
from tests.objects.s3_account import S3Account, Wire, running_s3, wire_to
from tests.postgres import postgres_kinds, programs_of, running_postgres

pytestmark = pytest.mark.timeout(300)

MIB: Final = 1 << 20
COMPLETED: Final = 10

SUMS_UP = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--data_url", type=pathlib.Path)
parser.add_argument("--train_url", type=pathlib.Path)
given = parser.parse_args()
size = sum(p.stat().st_size for p in given.data_url.rglob("*") if p.is_file())
print("read", size, flush=True)
(given.train_url / f"part-{os.environ['VC_TASK_INDEX']}").write_text(str(size))
"""


class Site:
    """Two servers on one database, one cluster and one account of S3, reached over a wire."""

    def __init__(self, folder: Path, url: str, s3: S3Account, wire: Wire) -> None:
        self.url, self.s3, self.wire = url, s3, wire
        data = folder / "data"
        data.mkdir(mode=0o700)
        (data / "muster.toml").write_text(f'database = "{url}"\n')
        flags = ("--engine", "slurm", "--objects", "s3://", "--s3-endpoint", wire.url)
        self.servers: dict[int, ServerProcess] = {}
        self.remotes: dict[int, Remote] = {}
        for number in range(2):
            server = ServerProcess(folder, *flags, name=f"server-{number}")
            self.servers[server.pid] = server
            self.remotes[server.pid] = connect(server, server.wait_until_ready())
        self.data = data

    def leader(self) -> ServerProcess:
        def find() -> ServerProcess | None:
            with psycopg.connect(self.url) as connection:
                row = connection.execute(
                    "SELECT pid FROM muster.lease WHERE holder <> '' AND until_ms >"
                    " extract(epoch FROM clock_timestamp()) * 1000"
                ).fetchone()
            return self.servers[row[0]] if row else None

        return wait_for(find)

    def other(self) -> Remote:
        leader = self.leader().pid
        return next(remote for pid, remote in self.remotes.items() if pid != leader)


@pytest.fixture
def site(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Site]:
    with (
        running_postgres(programs_of(postgres_kinds()[0])) as postgres,
        running_s3(tmp_path) as account,
        wire_to(account.url) as wire,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in account.environment.items():
            patch.setenv(name, value)
        patch.setenv("SLURM_CONF", str(slurm.config))
        patch.setenv("PATH", slurm.environ["PATH"])
        site = Site(tmp_path, postgres.make_database("muster"), account, wire)
        try:
            yield site
            check_is_exact(site.data)
        finally:
            for remote in site.remotes.values():
                remote.project.http.close()
            for server in site.servers.values():
                server.kill()
            end_processes_below(site.data / "jobs")
            slurm.clear()


def test_a_leader_that_is_killed_while_it_fetches_is_followed_by_one_that_goes_on(
    site: Site, slurm: SlurmCluster
) -> None:
    remote = site.other()
    for number in range(12):
        reply = remote.project.http.put(
            f"/objects/bucket-default/data/{number}.bin", content=bytes([number]) * MIB
        )
        assert reply.status_code == 200, reply.text
    code = remote.put_code("sums", SUMS_UP)
    before = site.wire.bytes_sent
    site.wire.hold_after = before + 6 * MIB
    job = remote.project.post(
        "/training-jobs",
        job_name="sums",
        config=code
        | {
            "worker_server_num": 2,
            "data_url": "/bucket-default/data/",
            "train_url": "/results-of-sums/out/",
            "log_url": "/results-of-sums/logs/",
        },
    )
    wait_for(lambda: site.wire.bytes_sent > before + 6 * MIB)

    site.leader().kill()
    check_is_exact(site.data)
    site.wire.hold_after = None

    remote.wait(job, COMPLETED)
    assert remote.log(job) == f"read {12 * MIB}\n".encode()
    for index in range(2):
        result = site.s3.get("results-of-sums", f"out/part-{index}")
        assert result == str(12 * MIB).encode()
        assert site.s3.get("results-of-sums", f"logs/sums.{index}") == remote.log(job, index)
    assert remote.counts() == {"Completed": 1}
    assert site.wire.bytes_sent - before < 22 * MIB, "what was fetched is not fetched again"
    assert not list((site.data / "jobs").glob("*/fetched"))
    wait_for(lambda: not processes_below(site.data / "jobs") or None)
    wait_for(lambda: not slurm.run("squeue", "-h", "-t", "running,pending").strip() or None)
