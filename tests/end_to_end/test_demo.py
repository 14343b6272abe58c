import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from muster.demo.tour import SCRIPTS, STORY, write_digits

MUSTER = [sys.executable, "-c", "from muster.cli.main import main; main(prog_name='muster')"]
PYTHON = sys.executable

pytestmark = pytest.mark.timeout(300)


def environment(tmp_path: Path) -> dict[str, str]:
    """Temporary files below `tmp_path`, so that what is left behind is found."""
    return {**os.environ, "TMPDIR": str(tmp_path)}


def processes_below(folder: Path) -> list[str]:
    """The command lines of all processes that name the folder or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = str((process / "cwd").readlink())
        except OSError:
            continue  # it has ended, or is not ours to look at
        if str(folder) in command or place.startswith(str(folder)):
            found.append(command)
    return found


def wait_for_none_below(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while (left := processes_below(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_the_demo_ends_as_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [*MUSTER, "demo"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert "All as told" in out
    statistics, versions, jobs = (
        re.search(pattern, out)
        for pattern in (
            r"\nGET /v2/(\w{32})/statistics/pools/digits-\1/workloads\nTYPE",
            r"\nGET /v1/\w{32}/training-jobs/versions\nVERSION",
            r"\nGET /v1/\w{32}/training-jobs\nJOB",
        )
    )
    assert statistics is not None
    assert versions is not None
    assert jobs is not None
    #                        queue .. creating  running completed terminated failed total
    assert re.search(r"\ntrain( +0){5} +0 +5 +1 +1 +7\n", out), out
    assert "total_count 7" in out
    assert "job_total_count 6" in out
    assert re.search(r"read V0002 +0.3 +0\.9\d* +epoch 15/15 loss", out), out
    assert "learning_rate is -1.0; it must be above 0." in out
    waiting = re.search(r"Waiting in the queue at once: up to (\d+)", out)
    assert waiting is not None
    assert int(waiting[1]) >= 1
    assert list(tmp_path.iterdir()) == []
    wait_for_none_below(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(  # noqa: S603
        [*MUSTER, "demo"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.split()[-1:] == ["Running"]:
            break
    assert processes_below(tmp_path)

    os.killpg(demo.pid, number)  # as a terminal does: to the whole foreground group
    out, err = demo.communicate(timeout=60)

    assert demo.returncode == 130, out + err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    wait_for_none_below(tmp_path)


def test_what_is_kept_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "something").touch()

    done = subprocess.run(  # noqa: S603
        [*MUSTER, "demo", "--keep", str(tmp_path / "kept")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "must be new or empty" in done.stderr


# The scripts, by themselves.


def run_script(
    name: str, *arguments: str, env: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603
        [PYTHON, str(SCRIPTS / name), *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "digits.npz")
    return folder


def test_the_script_learns_to_read(tmp_path: Path, digits: Path) -> None:
    script = run_script(
        "train_digits.py", f"--data_url={digits}", f"--train_url={tmp_path}", "--epochs=12"
    )
    out, _ = script.communicate(timeout=60)

    assert script.returncode == 0, out
    lines = out.splitlines()
    assert len(lines) == 12
    assert re.fullmatch(r"epoch 12/12 loss 0\.\d+ accuracy 0\.9\d+", lines[-1])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.npz", "metrics.json"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epoch"] == 12
    assert metrics["accuracy"] > 0.9


def test_without_a_folder_the_digits_are_those_of_scikit_learn() -> None:
    script = run_script("train_digits.py", "--epochs=1")
    out, _ = script.communicate(timeout=60)

    assert script.returncode == 0, out
    assert out.startswith("epoch 1/1 loss ")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--learning_rate=-1", "learning_rate is -1.0; it must be above 0."),
        ("--learning_rate=nan", "learning_rate is nan; it must be above 0."),
        ("--learning_rate=fast", "invalid float value: 'fast'"),
        ("--epochs=0", "epochs is 0; it must be at least 1."),
    ],
)
def test_a_hyperparameter_that_makes_no_sense_ends_the_script(argument: str, words: str) -> None:
    script = run_script("train_digits.py", argument)
    out, _ = script.communicate(timeout=60)

    assert script.returncode != 0
    assert words in out


def test_workers_share_what_they_learn(tmp_path: Path, digits: Path, unused_tcp_port: int) -> None:
    team = [
        run_script(
            "train_digits_together.py",
            f"--data_url={digits}",
            f"--train_url={tmp_path / str(rank)}",
            "--epochs=15",
            env={
                "VC_TASK_INDEX": str(rank),
                "VC_WORKER_NUM": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(unused_tcp_port),
            },
        )
        for rank in (1, 0)  # the one that calls first has to wait for the other
    ]
    outs = [script.communicate(timeout=60)[0] for script in team]

    assert [script.returncode for script in team] == [0, 0], outs
    last = [out.splitlines()[-1] for out in outs]
    assert last[0].startswith("worker 1 of 2: epoch 15/15")
    assert last[1].startswith("worker 0 of 2: epoch 15/15")
    shared = {re.sub(r".*shared accuracy ", "", line) for line in last}
    assert len(shared) == 1
    assert float(shared.pop()) > 0.85
    assert [folder.name for folder in tmp_path.iterdir()] == ["0"]


def test_the_story_has_every_kind_of_end() -> None:
    assert {chapter.ends for chapter in STORY} == {"Completed", "Failed", "Terminated"}
    assert sum(chapter.workers for chapter in STORY) > 3
    assert len({chapter.job_name for chapter in STORY}) == len(STORY) - 1
