"""What runs on the nodes, without a cluster around it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

from muster.domain.jobfolder import task_folder
from muster.engines import shim
from muster.engines.slurmjob import find_members
from muster.engines.slurmsubmit import SlurmOptions, lay_out, put_program
from tests.engines.contract import SUCCEEDS, Bench
from tests.engines.fake import FakeEngine

# Each takes longer to import than all that the nodes need, or imports one that does.
SLOW = ("contextlib", "ctypes", "encodings.idna", "enum", "json", "re", "signal", "subprocess")
RUNS_AND_TELLS = """
import sys
sys.path.insert(0, sys.argv[1])
import slurmjob
slurmjob.main(["batch", sys.argv[2]])
print(*sys.modules, sep="\\n")
"""

# A child of another thread than the first, and one that leaves its session; each then says so.
STARTS_OTHERS = """
import subprocess, threading
def start():
    left = subprocess.Popen(["sh", "-c", "setsid sleep 300 & echo; wait"], stdout=subprocess.PIPE)
    left.stdout.readline()
    print(flush=True)
    left.wait()
threading.Thread(target=start).start()
"""


def test_a_job_on_one_node_needs_no_module_that_is_slow_to_import(tmp_path: Path) -> None:
    program = put_program(tmp_path)
    (tmp_path / ".live").mkdir()
    launch = replace(Bench(FakeEngine(), tmp_path).launch(SUCCEEDS), host_names=("n1",))
    lay_out(
        launch,
        tmp_path,
        program,
        SlurmOptions(),
        partition=None,
        addresses={"n1": "localhost"},
        wait_seconds=0.0,
    )

    told = subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-S", "-c", RUNS_AND_TELLS, str(program.parent), str(launch.folder)],
        env={"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "muster-7", "SLURM_JOB_NODELIST": "n1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()

    result = json.loads((task_folder(launch.folder, 0) / "exit.json").read_text())
    assert result["exit_code"] == 0
    assert not set(told) & set(SLOW)


def test_everything_that_a_task_has_started_is_measured_with_it() -> None:
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", STARTS_OTHERS], stdout=subprocess.PIPE, text=True
    ) as task:
        assert task.stdout is not None
        task.stdout.readline()
        found = find_members(task.pid)
        try:
            assert len(found) >= 2
            assert set(found) == set(shim.find_descendants({task.pid}, shim.list_processes()))
        finally:
            for pid in (*found, task.pid):
                processes = shim.list_processes()
                if pid in processes:
                    shim.send_signal(pid, processes[pid][1], SIGKILL)
