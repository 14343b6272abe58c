"""Jobs on a real Slurm cluster, through a real server."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.signs import WAITS_FOR_A_FILE
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(300)

TELLS_ALL = """
import json, os
from pathlib import Path
table = os.environ.get("RANK_TABLE_FILE")
print(json.dumps({
    "env": dict(os.environ), "table": json.loads(Path(table).read_text()) if table else None,
}))
"""
SLEEPER = """
import time
print("up", flush=True)
time.sleep(600)
"""
WAITS_FOR_ITS_PEER = """
import os, socket, time
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["NODE_RANK"] == "0":
    with socket.create_server(address) as listener:
        print(listener.accept()[0].recv(9).decode())
else:
    for _ in range(300):
        try:
            socket.create_connection(address).send(b"hello")
            break
        except OSError:
            time.sleep(0.1)
"""
HANGS = """#!/bin/sh
[ -e {switch} ] && exec sleep 120
exec {program} "$@"
"""


class Away:
    """Makes Slurm's commands hang, for the server alone."""

    def __init__(self, folder: Path, path: str) -> None:
        self.folder = folder
        self._switch = folder / "hang"
        for name in ("sbatch", "squeue", "sinfo", "scancel"):
            program = next(
                Path(part) / name for part in path.split(":") if (Path(part) / name).exists()
            )
            wrapper = folder / name
            wrapper.write_text(HANGS.format(switch=self._switch, program=program))
            wrapper.chmod(0o755)

    def begin(self) -> None:
        self._switch.touch()

    def end(self) -> None:
        self._switch.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def away(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Away:
    return Away(tmp_path_factory.mktemp("commands"), slurm.environ["PATH"])


@pytest.fixture(scope="module")
def remote(
    slurm: SlurmCluster, away: Away, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.config))
        patch.setenv("PATH", f"{away.folder}:{os.environ['PATH']}")
        with running_server(tmp_path_factory.mktemp("slurm"), "--engine", "slurm") as remote:
            yield remote
            away.end()


def spec(remote: Remote, code: str) -> dict[str, Any]:
    return {"spec_id": remote.spec_ids[code]}


def test_a_job_completes_on_slurm(remote: Remote) -> None:
    job = remote.submit("first", "print('hello')", train_url="/bucket-default/first/")

    shown = remote.wait(job, 10)

    assert remote.log(shown) == b"hello\n"
    assert remote.counts() == {"Completed": 1}


def test_a_program_that_fails_fails_its_job_with_its_exit_code(remote: Remote) -> None:
    shown = remote.wait(remote.submit("fails", "raise SystemExit(7)"), 11)

    assert "exit code 7" in shown["status_message"]


def test_slurms_partitions_are_pools_and_its_nodes_are_theirs(remote: Remote) -> None:
    pool = remote.project.pool("train")
    nodes = remote.project.http.get(f"{remote.project.v2}/pools/{pool}/nodes").json()["items"]

    assert sorted(node["metadata"]["name"] for node in nodes) == ["train-1", "train-2"]


def test_the_tasks_of_a_gang_meet_and_see_only_their_own_cards(remote: Remote) -> None:
    gpus = spec(remote, "modelarts.vm.gpu.4")
    meeting = remote.submit(
        "meeting", WAITS_FOR_ITS_PEER, **gpus, worker_server_num=2,
        pool_id=remote.project.pool("train"),
    )  # fmt: skip
    beside = remote.submit("beside", TELLS_ALL, **gpus, worker_server_num=2)

    assert remote.log(remote.wait(meeting, 10)) == b"hello\n"
    shown = remote.wait(beside, 10)
    told = [json.loads(remote.log(shown, index))["env"] for index in range(2)]
    assert [len(env["CUDA_VISIBLE_DEVICES"].split(",")) for env in told] == [4, 4]
    assert [env["ASCEND_RT_VISIBLE_DEVICES"] for env in told] == ["", ""]
    assert told[0]["MASTER_PORT"] == told[1]["MASTER_PORT"]
    assert not [name for env in told for name in env if name.startswith("SLURM")]


def test_npus_are_numbered_and_ranked_as_slurm_gave_them(remote: Remote) -> None:
    held = remote.submit("held", SLEEPER, **spec(remote, "modelarts.vm.npu.2"))
    remote.wait(held, 8)

    shown = remote.wait(remote.submit("npus", TELLS_ALL, **spec(remote, "modelarts.vm.npu.4")), 10)

    told = json.loads(remote.log(shown))
    assert told["env"]["ASCEND_RT_VISIBLE_DEVICES"] == "2,3,4,5"
    assert told["env"]["CUDA_VISIBLE_DEVICES"] == ""
    [server] = told["table"]["server_list"]
    assert [device["device_id"] for device in server["device"]] == ["2", "3", "4", "5"]
    remote.stop(held)
    assert remote.wait(held, 12)


def test_while_slurm_is_away_jobs_are_accepted_and_wait(
    remote: Remote, slurm: SlurmCluster, away: Away
) -> None:
    running = remote.submit("running", SLEEPER)
    remote.wait(running, 8)
    away.begin()

    def says_so() -> str | None:
        path = f"{remote.project.v2}/pools/{remote.project.pool('train')}"
        status = remote.project.http.get(path).json()["status"]
        return str(status) if status["phase"] == "Abnormal" else None

    assert wait_for(says_so, 60)
    path = f"{remote.project.v2}/pools/{remote.project.pool('public')}"
    public = remote.project.http.get(path).json()["status"]
    assert (public["phase"], "Slurm has not answered" in public["message"]) == ("Running", True)
    waiting = remote.submit("waiting", "print('late')")
    assert wait_for(lambda: remote.version(waiting)["status"] == 7 or None)
    told = remote.version(waiting)["waiting"]["message"]
    assert "n1, n2, n3, n4, n7, 1 more. Slurm has not answered" in told
    apart = remote.submit("apart", "print('later')", pool_id=remote.project.pool("train"))
    assert wait_for(lambda: remote.version(apart)["status"] == 7 or None)
    assert "Slurm has not answered" in remote.version(apart)["waiting"]["message"]
    assert remote.version(running)["status"] == 8
    assert remote.project.http.get("/readyz").status_code == 503

    away.end()
    assert remote.log(remote.wait(waiting, 10)) == b"late\n"
    assert remote.log(remote.wait(apart, 10)) == b"later\n"
    assert remote.version(running)["status"] == 8
    remote.stop(running)
    remote.wait(running, 12)
    # The shim's result comes first; Slurm notes a moment later that the job has ended.
    assert wait_for(lambda: not slurm.run("squeue", "-h", "-t", "running,pending").strip())


def test_a_gang_whose_node_dies_is_tried_again_on_nodes_that_are_up(
    remote: Remote, slurm: SlurmCluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    code = remote.put_code("gang", WAITS_FOR_A_FILE.format(gate=str(gate)))
    [engine, *_] = remote.project.http.get(f"{remote.project.v2}/training-job-engines").json()[
        "items"
    ]
    made = remote.project.http.post(
        f"{remote.project.v2}/training-jobs",
        json={
            "kind": "job",
            "metadata": {
                "name": "gang", "annotations": {"fault-tolerance/job-retry-num": "1"},
            },
            "algorithm": {
                "code_dir": code["app_url"],
                "boot_file": code["boot_file_url"],
                "engine": {"engine_id": engine["engine_id"]},
            },
            "spec": {"resource": {"flavor_id": "modelarts.vm.gpu.8", "node_count": 2}},
        },
    )  # fmt: skip
    assert made.status_code == 201, made.text
    [job] = remote.project.get("/training-jobs", search_content="gang")["jobs"]
    remote.wait(job, 8)

    def nodes() -> str:
        return slurm.run("squeue", "-h", "-t", "running", "-o", "%N").strip()

    assert nodes() == "n[1-2]"
    slurm.kill("n1")
    try:
        assert wait_for(lambda: nodes() not in ("", "n[1-2]"), 60)
        assert nodes() == "n[2-3]"
        gate.touch()
        remote.wait(job, 10)
    finally:
        slurm.start_node("n1")
        slurm.wait_until_idle()
