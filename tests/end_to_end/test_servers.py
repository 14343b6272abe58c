"""Several servers on one PostgreSQL: all of them serve, one at a time acts; any may die."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.end_to_end.server import (
    WAIT_SECONDS,
    Remote,
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    wait_for,
)
from tests.end_to_end.signs import SEES_SIGNS, Signs
from tests.postgres import PostgresServer, postgres_kinds, programs_of, running_postgres

pytestmark = pytest.mark.timeout(300)


class Site:
    """One PostgreSQL, one data folder, and servers on both."""

    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        self.folder = folder
        self.postgres = postgres
        self.url = postgres.make_database("muster")
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        (self.data / "muster.toml").write_text(f'database = "{self.url}"\n')
        self.signs = Signs(folder / "signs")
        self.signs.folder.mkdir()
        self.servers: list[ServerProcess] = []
        self.remotes: dict[int, Remote] = {}

    def add_server(self) -> Remote:
        """One more; as it is seen from outside."""
        name = f"server-{len(self.servers)}"
        server = ServerProcess(self.folder, *SEES_SIGNS, name=name)
        self.servers.append(server)
        remote = connect(server, server.wait_until_ready())
        self.remotes[server.pid] = remote
        return remote

    def leader(self) -> ServerProcess:
        """The server that acts now, as the database has it."""

        def find() -> ServerProcess | None:
            with psycopg.connect(self.url) as connection:
                row = connection.execute(
                    "SELECT pid FROM muster.lease WHERE holder <> '' AND until_ms >"
                    " extract(epoch FROM clock_timestamp()) * 1000"
                ).fetchone()
            return next((s for s in self.servers if row and s.pid == row[0]), None)

        return wait_for(find)

    def other(self, server: ServerProcess) -> Remote:
        [pid] = {s.pid for s in self.servers if s.is_alive()} - {server.pid}
        return self.remotes[pid]

    def submit(self, remote: Remote, name: str) -> dict[str, Any]:
        return remote.submit(name, self.signs.script(name))


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres(programs_of(postgres_kinds()[0])) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, postgres: PostgresServer) -> Iterator[Site]:
    site = Site(tmp_path, postgres)
    with ExitStack() as cleanup:
        cleanup.callback(postgres.drop_database, "muster")
        cleanup.callback(end_processes_below, site.data / "jobs")
        try:
            yield site
            check_is_exact(site.data)
        finally:
            for remote in site.remotes.values():
                remote.project.http.close()
            for server in site.servers:
                server.kill()


def running_on_two(site: Site, *names: str) -> dict[str, dict[str, Any]]:
    """Two servers, and jobs that were submitted to them in turn and run."""
    remotes = [site.add_server(), site.add_server()]
    jobs = {name: site.submit(remotes[i % 2], name) for i, name in enumerate(names)}
    wait_for(lambda: site.signs.starts() == Counter(names) or None)
    return jobs


@pytest.mark.parametrize("end", [ServerProcess.kill, ServerProcess.pause])
def test_another_takes_over_and_nothing_is_started_twice(
    site: Site, end: Callable[[ServerProcess], None]
) -> None:
    jobs = running_on_two(site, "goes-on", "ends-meanwhile")
    leader = site.leader()
    other = site.other(leader)

    end(leader)
    site.signs.tell("ends-meanwhile")
    waits = site.submit(other, "comes-meanwhile")

    other.wait(waits, 8)
    assert site.leader().pid != leader.pid
    other.wait(jobs["ends-meanwhile"], 10)
    assert other.version(jobs["goes-on"])["status"] == 8
    for name in ("goes-on", "comes-meanwhile"):
        site.signs.tell(name)
    other.wait(jobs["goes-on"], 10)
    other.wait(waits, 10)
    assert site.signs.starts() == Counter(["goes-on", "ends-meanwhile", "comes-meanwhile"])
    assert other.counts() == {"Completed": 3}


def test_a_leader_that_stops_in_order_is_followed_at_once_and_its_jobs_go_on(site: Site) -> None:
    jobs = running_on_two(site, "goes-on")
    leader = site.leader()
    other = site.other(leader)

    leader.stop()

    assert site.leader().pid != leader.pid
    site.signs.tell("goes-on")
    other.wait(jobs["goes-on"], 10)
    assert site.signs.starts() == Counter(["goes-on"])


def test_every_server_shows_what_any_of_them_has_acknowledged(site: Site) -> None:
    one, two = site.add_server(), site.add_server()

    for number in range(10):
        writer, reader = (one, two) if number % 2 else (two, one)
        job = writer.submit(f"job-{number}", "print('x')")
        assert reader.version(job)["job_name"] == f"job-{number}"
        assert reader.project.get("/training-jobs")["job_total_count"] == number + 1


class Clients:
    """Threads that submit for as long as they are told to, and know what was acknowledged."""

    def __init__(self, remotes: list[Remote]) -> None:
        self.acknowledged: set[str] = set()
        self.refused: Counter[int] = Counter()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._submit, args=(remote, f"c{number}"))
            for number, remote in enumerate(remotes)
        ]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) > before + 30 or None)

    def wait_for_refusal(self) -> None:
        before = self.refused[503]
        wait_for(lambda: self.refused[503] > before or None)

    def _submit(self, remote: Remote, prefix: str) -> None:
        # Nothing of it runs: the job alone is made.
        path = f"{remote.project.v1}/training-jobs"
        for number in range(100_000):
            if self._is_over.is_set():
                return
            name = f"{prefix}-{number}"
            body = {"job_name": name, "config": {"create_version": False}}
            with suppress(httpx.TransportError):  # the server was killed: nobody knows
                reply = remote.project.http.post(path, json=body)
                if reply.status_code == 200:
                    self.acknowledged.add(name)
                else:
                    self.refused[reply.status_code] += 1


def names_of(remote: Remote) -> set[str]:
    listed = remote.project.get("/training-jobs", per_page=1000, page=1)
    total = listed["job_total_count"]
    jobs = list(listed["jobs"])
    page = 2
    while len(jobs) < total:
        jobs += remote.project.get("/training-jobs", per_page=1000, page=page)["jobs"]
        page += 1
    return {job["job_name"] for job in jobs}


def test_what_was_acknowledged_is_there_after_postgres_has_crashed_under_load(site: Site) -> None:
    remotes = [site.add_server(), site.add_server()]

    with Clients(remotes) as clients:
        for _ in range(2):
            clients.wait_for_more()
            site.postgres.stop(how="immediate")
            clients.wait_for_refusal()
            site.postgres.start()
        clients.wait_for_more()

    assert set(clients.refused) <= {503}
    assert clients.acknowledged <= names_of(remotes[0])


def processes_of(postgres: PostgresServer) -> list[int]:
    main = postgres.process.pid
    below = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    return [main, *map(int, below)]


def test_what_was_acknowledged_is_there_after_postgres_was_killed_under_load(site: Site) -> None:
    """With nothing said to anybody: what it had begun it finds in its log."""
    remotes = [site.add_server(), site.add_server()]

    with Clients(remotes) as clients:
        clients.wait_for_more()
        below = processes_of(site.postgres)[1:]
        site.postgres.process.kill()
        site.postgres.process.wait()
        clients.wait_for_refusal()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
        site.postgres.start()
        clients.wait_for_more()

    assert set(clients.refused) <= {503}
    assert clients.acknowledged <= names_of(remotes[0])


def test_a_database_that_stands_still_is_waited_for_and_no_server_is_called_ready(
    site: Site,
) -> None:
    remotes = [site.add_server(), site.add_server()]

    with Clients(remotes) as clients:
        clients.wait_for_more()
        stopped = processes_of(site.postgres)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            replies = [remote.project.http.get("/readyz", timeout=15) for remote in remotes]
            alive = [remote.project.http.get("/healthz", timeout=15) for remote in remotes]
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        clients.wait_for_more()

    assert [reply.status_code for reply in replies] == [503, 503]
    assert "has not answered" in replies[0].text
    assert [reply.status_code for reply in alive] == [200, 200]
    assert set(clients.refused) <= {503}
    assert clients.acknowledged <= names_of(remotes[0])
    assert site.leader().is_alive()


def test_an_outage_that_is_longer_than_a_lease_costs_no_server_its_life(site: Site) -> None:
    """Nobody could renew it meanwhile: that tells nothing of the leader."""
    jobs = running_on_two(site, "goes-on")
    leader = site.leader()

    site.postgres.stop()
    away_until = time.monotonic() + 5
    wait_for(lambda: time.monotonic() > away_until or None)
    site.postgres.start()

    assert site.leader().pid == leader.pid
    assert all(server.is_alive() for server in site.servers)
    site.signs.tell("goes-on")
    site.other(leader).wait(jobs["goes-on"], 10)


def test_a_connection_that_is_lost_in_the_middle_of_a_write_costs_no_client_anything(
    site: Site,
) -> None:
    """The transaction is run again: nothing of it had happened."""
    remotes = [site.add_server(), site.add_server()]

    with Clients(remotes) as clients, psycopg.connect(site.url, autocommit=True) as admin:
        ended, until = 0, time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            ended += len(
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'muster' AND state = 'idle in transaction'"
                    " AND backend_xid IS NOT NULL"
                ).fetchall()
            )
            if ended >= 5:
                break
        clients.wait_for_more()

    assert ended >= 5
    assert set(clients.refused) <= {503}
    assert sum(clients.refused.values()) <= ended
    assert clients.acknowledged <= names_of(remotes[1])


def test_a_killed_server_takes_nothing_with_it_that_it_had_acknowledged(site: Site) -> None:
    remotes = [site.add_server(), site.add_server()]

    with Clients(remotes) as clients:
        wait_for(lambda: len(clients.acknowledged) > 60 or None)
        site.servers[0].kill()
        clients.wait_for_more()

    assert clients.acknowledged <= names_of(remotes[1])
