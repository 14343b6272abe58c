"""The example of data-parallel PyTorch, on both engines. It runs where there is a torch."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.end_to_end.server import Remote, running_server
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(300)

SCRIPT = Path(__file__).parents[2] / "examples" / "pytorch-ddp" / "train.py"
TASKS = 2

INVENTORY = """
[[engines]]
name = "PyTorch"
version = "2"
interpreter = "{interpreter}"
"""


@lru_cache(maxsize=1)
def find_torch() -> str | None:
    """An interpreter that has it: this one, or the one that MUSTER_TESTS_TORCH names."""
    for name in (os.environ.get("MUSTER_TESTS_TORCH", ""), sys.executable):
        if not name or shutil.which(name) is None:
            continue
        asked = subprocess.run(  # noqa: S603
            [
                name,
                "-c",
                "import torch.distributed as d; raise SystemExit(not d.is_gloo_available())",
            ],
            capture_output=True,
            check=False,
            timeout=60,
        )
        if asked.returncode == 0:
            return name
    return None


def start(folder: Path, *flags: str) -> Iterator[Remote]:
    interpreter = find_torch()
    if interpreter is None:
        pytest.skip("there is no torch: name an interpreter that has it by MUSTER_TESTS_TORCH")
    inventory = folder / "inventory.toml"
    inventory.write_text(INVENTORY.format(interpreter=interpreter))
    with running_server(folder, "--inventory", str(inventory), *flags) as remote:
        yield remote


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Remote]:
    yield from start(tmp_path)


@pytest.fixture
def on_slurm(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Remote]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.config))
        patch.setenv("PATH", slurm.environ["PATH"])
        yield from start(tmp_path, "--engine", "slurm")


def train(remote: Remote) -> None:
    """The tasks meet, learn, and come to the same weights; the first one's are kept."""
    engines = remote.project.get("/job/ai-engines")["engines"]
    [engine] = [e["engine_id"] for e in engines if e["engine_name"].startswith("PyTorch")]
    job = remote.submit(
        "ddp",
        SCRIPT.read_text(),
        engine_id=engine,
        worker_server_num=TASKS,
        train_url="/bucket-default/ddp/",
        parameter=[{"label": "epochs", "value": "15"}],
    )

    shown = remote.wait(job, 10)

    logs = [remote.log(shown, index).decode() for index in range(TASKS)]
    losses = [float(loss) for loss in re.findall(r"task 0 of 2 loss (\S+)", logs[0])]
    assert len(losses) == 15
    assert losses[-1] < losses[0] / 10
    weights = {re.search(r"weights add up to (\S+)", log)[1] for log in logs}  # type: ignore[index]
    assert len(weights) == 1
    assert remote.output("ddp/model.pt")


def test_the_tasks_train_together_on_one_machine(local: Remote) -> None:
    train(local)


def test_the_tasks_train_together_on_slurm(on_slurm: Remote) -> None:
    train(on_slurm)
