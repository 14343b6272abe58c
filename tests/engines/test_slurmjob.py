"""What runs on the nodes, without a cluster around it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from muster.domain.jobfolder import task_folder
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
