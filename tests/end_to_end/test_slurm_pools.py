"""Pools, nodes and locks on a real Slurm cluster, through a real server that may change it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.signs import WAITS_FOR_A_FILE
from tests.end_to_end.test_servers import Site
from tests.engines.slurm_cluster import SlurmCluster, require_slurm, running_slurm
from tests.postgres import postgres_kinds, programs_of, running_postgres

pytestmark = pytest.mark.timeout(300)

SLEEPER = """
import time
print("up", flush=True)
time.sleep(600)
"""
HELLO = "print('hello')"
GPUS = "modelarts.vm.gpu.8"


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """One of its own: its partitions come and go here."""
    require_slurm()
    with running_slurm() as cluster:
        yield cluster


@contextmanager
def server_on(slurm: SlurmCluster, folder: Path, **settings: str) -> Iterator[Remote]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.config))
        data = folder / "data"
        data.mkdir(parents=True, mode=0o700)
        written = [f"{name} = {value}\n" for name, value in settings.items()]
        (data / "muster.toml").write_text("".join(written))
        with running_server(folder, "--engine", "slurm") as remote:
            yield remote


@pytest.fixture(scope="module")
def remote(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("pools")
    with server_on(slurm, folder, slurm_may_change_partitions="true") as remote:
        yield remote


def show(remote: Remote, path: str) -> Any:
    reply = remote.project.http.get(f"{remote.project.v2}{path}")
    assert reply.status_code == 200, reply.text
    return reply.json()


def status(remote: Remote, pool_id: str) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = show(remote, f"/pools/{pool_id}")["status"]
    return shown


def nodes(remote: Remote, pool_id: str) -> dict[str, Mapping[str, Any]]:
    items = show(remote, f"/pools/{pool_id}/nodes")["items"]
    return {node["metadata"]["name"]: node["status"] for node in items}


def ask_for_pool(
    remote: Remote, name: str, *, flavor: str = GPUS, count: int = 1
) -> httpx.Response:
    return remote.project.http.post(
        f"{remote.project.v2}/pools",
        json={
            "apiVersion": "v2",
            "kind": "Pool",
            "metadata": {"labels": {"os.modelarts/name": name}},
            "spec": {
                "type": "Dedicate",
                "scope": ["Train"],
                "resources": [{"flavor": flavor, "count": count}],
            },
        },
    )


@contextmanager
def pool_of(remote: Remote, slurm: SlurmCluster, name: str, *, count: int = 1) -> Iterator[str]:
    """A pool that runs, and whose partition Slurm has; it goes in the end."""
    made = ask_for_pool(remote, name, count=count)
    assert made.status_code == 200, made.text
    pool_id: str = made.json()["metadata"]["name"]
    wait_for(lambda: f"muster-{pool_id}" in partitions(slurm))
    assert status(remote, pool_id)["phase"] == "Running"
    yield pool_id
    gone = remote.project.http.delete(f"{remote.project.v2}/pools/{pool_id}")
    assert gone.status_code == 200, gone.text
    wait_for(lambda: f"muster-{pool_id}" not in partitions(slurm))


def partitions(slurm: SlurmCluster) -> dict[str, str]:
    said = slurm.run("sinfo", "-h", "-a", "-o", "%R %N")
    return dict(line.split(" ", 1) for line in said.splitlines())


def hosts(slurm: SlurmCluster, expression: str) -> set[str]:
    return set(slurm.run("scontrol", "show", "hostnames", expression).split())


def node_state(slurm: SlurmCluster, name: str) -> tuple[str, str]:
    said = slurm.run("sinfo", "-h", "-N", "-p", "all", "-n", name, "-o", "%T|%E").strip()
    state, reason = said.split("|", 1)
    return state.rstrip("*"), reason


def change_lock(remote: Remote, pool_id: str, name: str, verb: str) -> None:
    reply = remote.project.http.post(
        f"{remote.project.v2}/pools/{pool_id}/nodes/batch-{verb}",
        json={"nodeNames": [name], "actions": ["delete"]},
    )
    assert reply.status_code == 200, reply.text


def test_a_pool_is_a_partition_of_whole_nodes_and_its_jobs_run_there(
    remote: Remote, slurm: SlurmCluster
) -> None:
    with pool_of(remote, slurm, "research", count=2) as pool_id:
        mine = hosts(slurm, partitions(slurm)[f"muster-{pool_id}"])
        public = nodes(remote, remote.project.pool("public"))
        spec = remote.spec_ids["modelarts.vm.gpu.1"]
        job = remote.submit("inside", SLEEPER, pool_id=pool_id, spec_id=spec)
        remote.wait(job, 8)
        ran = slurm.run("squeue", "-h", "-t", "running", "-o", "%P %N").strip()
        remote.stop(job)
        remote.wait(job, 12)

    assert len(mine) == 2
    assert not mine & set(public)
    partition, _, host = ran.partition(" ")
    assert partition == f"muster-{pool_id}"
    assert host in mine
    assert mine <= set(nodes(remote, remote.project.pool("public")))


def test_public_jobs_stay_off_the_nodes_of_pools(remote: Remote, slurm: SlurmCluster) -> None:
    spec = remote.spec_ids["modelarts.vm.cpu.8u"]  # two of them fill a node
    with pool_of(remote, slurm, "reserved", count=2) as pool_id:
        public = set(nodes(remote, remote.project.pool("public")))
        jobs = [
            remote.submit(f"fill-{number}", SLEEPER, spec_id=spec)
            for number in range(2 * len(public) + 1)
        ]
        for job in jobs[:-1]:
            remote.wait(job, 8)
        where = slurm.run("squeue", "-h", "-t", "running", "-o", "%N").split()
        last = remote.version(jobs[-1])["status"]
        for job in jobs:
            remote.stop(job)
        for job in jobs:
            remote.wait(job, 12)

    reserved = hosts(slurm, "n[1-8]") - public
    assert {"n5", "n6"} < reserved  # those of the partition `train`, and two more
    assert len(reserved) == 4
    assert sorted(where) == sorted([*public, *public])
    assert last == 7
    assert pool_id


def test_a_pool_grows_and_shrinks_with_its_partition(remote: Remote, slurm: SlurmCluster) -> None:
    with pool_of(remote, slurm, "growing") as pool_id:
        for count in (3, 2):
            reply = remote.project.http.patch(
                f"{remote.project.v2}/pools/{pool_id}",
                json={"spec": {"resources": [{"flavor": GPUS, "count": count}]}},
                headers={"content-type": "application/merge-patch+json"},
            )
            assert reply.status_code == 200, reply.text
            name = f"muster-{pool_id}"
            wait_for(lambda: len(hosts(slurm, partitions(slurm)[name])) == count)  # noqa: B023
            assert len(nodes(remote, pool_id)) == count


def test_a_locked_node_is_drained_and_takes_work_again_once_it_is_unlocked(
    remote: Remote, slurm: SlurmCluster
) -> None:
    with pool_of(remote, slurm, "locked") as pool_id:
        [host] = hosts(slurm, partitions(slurm)[f"muster-{pool_id}"])
        [name] = nodes(remote, pool_id)
        change_lock(remote, pool_id, name, "lock")
        wait_for(lambda: node_state(slurm, host)[0] == "drained")
        [locked] = nodes(remote, pool_id).values()
        reason = node_state(slurm, host)[1]
        waiting = remote.submit("waits", HELLO, pool_id=pool_id, spec_id=remote.spec_ids[GPUS])
        wait_for(lambda: remote.version(waiting)["status"] == 7)
        pool = status(remote, pool_id)["phase"]
        change_lock(remote, pool_id, name, "unlock")

        assert remote.log(remote.wait(waiting, 10)) == b"hello\n"
        assert node_state(slurm, host)[0] == "idle"
    assert (locked["phase"], pool) == ("Available", "Running")
    assert [taint["key"] for taint in locked["taints"]] == ["os.modelarts.node/lock"]
    assert reason == f"muster: locked in pool {pool_id}"


def test_a_lock_of_a_time_without_slurm_is_kept_to_later(
    remote: Remote, slurm: SlurmCluster
) -> None:
    with pool_of(remote, slurm, "patient") as pool_id:
        [host] = hosts(slurm, partitions(slurm)[f"muster-{pool_id}"])
        [name] = nodes(remote, pool_id)
        slurm.kill("slurmctld")
        change_lock(remote, pool_id, name, "lock")
        slurm.start_controller()
        wait_for(lambda: node_state(slurm, host)[0] == "drained")
        change_lock(remote, pool_id, name, "unlock")
        wait_for(lambda: node_state(slurm, host)[0] == "idle")


def test_the_pool_of_a_deleted_lock_leaves_no_drained_node(
    remote: Remote, slurm: SlurmCluster
) -> None:
    with pool_of(remote, slurm, "leaving") as pool_id:
        [host] = hosts(slurm, partitions(slurm)[f"muster-{pool_id}"])
        [name] = nodes(remote, pool_id)
        change_lock(remote, pool_id, name, "lock")
        wait_for(lambda: node_state(slurm, host)[0] == "drained")

    wait_for(lambda: node_state(slurm, host)[0] == "idle")


def test_a_partition_that_the_controller_forgets_is_made_again(
    remote: Remote, slurm: SlurmCluster
) -> None:
    with pool_of(remote, slurm, "forgotten") as pool_id:
        slurm.kill("slurmctld")
        slurm.start_controller()
        wait_for(lambda: f"muster-{pool_id}" in partitions(slurm))
        job = remote.submit("after", HELLO, pool_id=pool_id, spec_id=remote.spec_ids[GPUS])

        assert remote.log(remote.wait(job, 10)) == b"hello\n"


def test_a_node_that_an_operator_drains_is_seen_with_the_reason_and_comes_back(
    remote: Remote, slurm: SlurmCluster
) -> None:
    pool_id = remote.project.pool("train")

    def abnormal() -> list[str]:
        return [n["message"] for n in nodes(remote, pool_id).values() if n["phase"] == "Abnormal"]

    slurm.run("scontrol", "update", "NodeName=n5", "State=DRAIN", "Reason=bad fan")
    [message] = wait_for(lambda: [told for told in abnormal() if "bad fan" in told] or None)
    slurm.run("scontrol", "update", "NodeName=n5", "State=RESUME")
    wait_for(lambda: not abnormal())

    assert message == "Slurm says that the node 'n5' is drained: bad fan."


def test_the_pool_of_a_partition_follows_the_nodes_that_it_has(
    remote: Remote, slurm: SlurmCluster
) -> None:
    pool_id, public = remote.project.pool("train"), remote.project.pool("public")

    slurm.run("scontrol", "update", "PartitionName=train", "Nodes=n4,n5,n6")
    wait_for(lambda: len(nodes(remote, pool_id)) == 3)
    left = set(nodes(remote, public))
    slurm.run("scontrol", "update", "PartitionName=train", "Nodes=n5,n6")
    wait_for(lambda: len(nodes(remote, pool_id)) == 2)

    assert "n4" not in left
    wait_for(lambda: "n4" in nodes(remote, public))


def test_a_partition_that_vanishes_is_told_and_its_jobs_wait_until_it_is_back(
    remote: Remote, slurm: SlurmCluster
) -> None:
    pool_id = remote.project.pool("train")
    slurm.run("scontrol", "delete", "PartitionName=train")
    wait_for(lambda: status(remote, pool_id)["phase"] == "Abnormal")
    told = status(remote, pool_id)["message"]
    public = status(remote, remote.project.pool("public"))["phase"]

    slurm.run("scontrol", "create", "PartitionName=train", "Nodes=n5,n6", "State=UP")
    wait_for(lambda: status(remote, pool_id)["phase"] == "Running")
    job = remote.submit("back", HELLO, pool_id=pool_id, spec_id=remote.spec_ids[GPUS])

    assert told.startswith("Slurm has no partition 'train' any more")
    assert public == "Running"
    assert remote.log(remote.wait(job, 10)) == b"hello\n"


def test_a_new_partition_of_slurms_is_a_pool_within_seconds(
    remote: Remote, slurm: SlurmCluster
) -> None:
    slurm.run("scontrol", "create", "PartitionName=evening", "Nodes=n1", "State=UP")

    def found() -> list[str]:
        items = show(remote, "/pools")["items"]
        names = [item["metadata"]["name"] for item in items]
        return [name for name in names if name.startswith("evening-")]

    [pool_id] = wait_for(lambda: found() or None)
    wait_for(lambda: status(remote, pool_id)["phase"] == "Running")
    job = remote.submit("new", HELLO, pool_id=pool_id)

    assert remote.log(remote.wait(job, 10)) == b"hello\n"
    # The shim's result comes first; Slurm notes a moment later that the job has ended.
    slurm.wait_for(lambda: not slurm.run("squeue", "-h", "-p", "evening").strip())
    slurm.run("scontrol", "delete", "PartitionName=evening")
    wait_for(lambda: status(remote, pool_id)["phase"] == "Abnormal")


def test_pools_that_are_slurms_are_not_resized_or_deleted_over_the_api(remote: Remote) -> None:
    path = f"{remote.project.v2}/pools/{remote.project.pool('train')}"

    deleted = remote.project.http.delete(path)
    resized = remote.project.http.patch(
        path,
        json={"spec": {"resources": [{"flavor": "train.node", "count": 1}]}},
        headers={"content-type": "application/merge-patch+json"},
    )

    for reply in (deleted, resized):
        assert reply.status_code == 403, reply.text
        assert "Slurm's partition 'train'" in reply.json()["error_msg"]


def test_how_busy_nodes_are_is_in_the_monitor_call(remote: Remote) -> None:
    def measured() -> set[str] | None:
        metrics = show(remote, f"/pools/{remote.project.pool('public')}/monitor")["metrics"]
        return {metric["metric"]["metricName"] for metric in metrics} or None

    assert {"cpuUsage", "memUsedRate"} <= wait_for(measured)


def test_where_partitions_may_not_be_changed_a_new_pool_is_refused(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    with server_on(slurm, tmp_path) as remote:
        refused = ask_for_pool(remote, "wished")

        assert refused.status_code == 403
        assert "slurm_may_change_partitions" in refused.json()["error_msg"]
        assert not [name for name in partitions(slurm) if "wished" in name]


def test_a_munge_key_that_is_not_the_controllers_is_told(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    key = tmp_path / "other.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    socket = tmp_path / "munge.socket"
    config = tmp_path / "slurm.conf"
    own = f"socket={slurm.folder}/run/munge.socket"
    config.write_text(slurm.config.read_text().replace(own, f"socket={socket}"))
    (tmp_path / "gres.conf").write_text((slurm.folder / "gres.conf").read_text())
    with server_on(slurm, tmp_path / "server") as remote:
        # From here on the server alone is the one with another key.
        slurm.launch("other-munged", *munged(tmp_path, key))
        wait_for(socket.exists)
        shown = slurm.config.read_text()
        slurm.config.write_text(config.read_text())
        try:

            def trouble() -> str | None:
                reply = remote.project.http.get("/readyz")
                return reply.text if reply.status_code == 503 else None

            told = wait_for(trouble, 60)
            message = wait_for(lambda: status(remote, remote.project.pool("train")).get("message"))
        finally:
            slurm.config.write_text(shown)
            slurm.kill("other-munged")

        assert "munge.key" in told
        assert "munge.key" in message
        wait_for(lambda: remote.project.http.get("/readyz").status_code == 200)


@pytest.fixture
def shared(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Site]:
    """Two servers on one PostgreSQL and one cluster."""
    programs = programs_of(postgres_kinds()[0])
    with running_postgres(programs) as postgres, ExitStack() as ends:
        site = Site(tmp_path, postgres)
        with (site.data / "muster.toml").open("a") as file:
            file.write('engine = "slurm"\nslurm_may_change_partitions = true\n')
        ends.enter_context(pytest.MonkeyPatch.context()).setenv("SLURM_CONF", str(slurm.config))
        for _ in range(2):
            remote = site.add_server()
            ends.callback(site.servers[-1].kill)
            ends.callback(remote.project.http.close)
        yield site


def test_the_server_that_takes_over_keeps_partitions_and_locks(
    shared: Site, slurm: SlurmCluster
) -> None:
    first = shared.leader()
    remote = shared.other(first)
    with pool_of(remote, slurm, "shared") as pool_id:
        name = f"muster-{pool_id}"
        [host] = hosts(slurm, partitions(slurm)[name])
        [node] = nodes(remote, pool_id)
        first.kill()
        change_lock(remote, pool_id, node, "lock")
        slurm.run("scontrol", "delete", f"PartitionName={name}")

        wait_for(lambda: name in partitions(slurm))
        wait_for(lambda: node_state(slurm, host)[0] == "drained")
        assert node_state(slurm, host)[1] == f"muster: locked in pool {pool_id}"
        assert partitions(slurm)[name] == host
    wait_for(lambda: node_state(slurm, host)[0] == "idle")


def test_with_the_settings_that_the_docs_name_jobs_outlive_a_restart_of_the_controller(
    remote: Remote, slurm: SlurmCluster, tmp_path: Path
) -> None:
    slurm.config.write_text(slurm.config.read_text() + "ReconfigFlags=KeepPartInfo\n")
    slurm.run("scontrol", "reconfigure")
    gate = tmp_path / "gate"
    code = WAITS_FOR_A_FILE.format(gate=str(gate)) + "print('through')\n"
    with pool_of(remote, slurm, "lasting") as pool_id:
        job = remote.submit("lasts", code, pool_id=pool_id, spec_id=remote.spec_ids[GPUS])
        remote.wait(job, 8)
        slurm.run("scontrol", "reconfigure")
        controller = slurm.processes.pop("slurmctld")
        controller.terminate()
        controller.wait()
        slurm.launch("slurmctld", "slurmctld", "-R", "-D", "-i", "-f", str(slurm.config))
        wait_for(lambda: slurm_answers(slurm))
        kept = partitions(slurm)
        runs = slurm.run("squeue", "-h", "-t", "running", "-o", "%P").split()
        gate.touch()

        assert remote.log(remote.wait(job, 10)) == b"through\n"
    assert f"muster-{pool_id}" in kept
    assert runs == [f"muster-{pool_id}"]


def slurm_answers(slurm: SlurmCluster) -> bool:
    with suppress(AssertionError):
        return bool(partitions(slurm))
    return False


def munged(folder: Path, key: Path) -> list[str]:
    return [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={folder / 'munge.socket'}",
        f"--pid-file={folder / 'munged.pid'}",
        f"--log-file={folder / 'munged.log'}",
        f"--seed-file={folder / 'munged.seed'}",
    ]
