"""docs/clients.md, block by block, against a real server: what it says to paste works."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.server import ServerProcess, own_environment

pytestmark = pytest.mark.timeout(300)

PAGE: Final = Path(__file__).parents[2] / "docs" / "clients.md"


def block(heading: str, language: str) -> str:
    """The first block of that language under a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    server = ServerProcess(tmp_path_factory.mktemp("clients"))
    try:
        server.wait_until_ready()
        yield server.data
        server.stop()
    finally:
        server.kill()


def run(data: Path, *command: str) -> str:
    """What a command prints; it must end well. The clients of this environment come first."""
    environment = own_environment() | {
        "MUSTER_DATA": str(data),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "127.0.0.1",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(  # noqa: S603 - the page's own words
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_block_for_the_official_sdk_counts_the_jobs_of_every_pool(data: Path) -> None:
    project_id = json.loads((data / "credentials.json").read_text())["project_id"]

    told = run(data, sys.executable, "-c", block("The official SDK for Python", "python"))

    assert told == f"public-{project_id} Running running: 0\n"


def test_the_block_for_the_openstack_command_lists_flavors_and_jobs(data: Path) -> None:
    told = run(data, "bash", "-euc", block("The `openstack` command", "bash"))

    assert "modelarts.vm.cpu.1u" in told


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_block_for_curl_logs_in_and_runs_a_job(data: Path) -> None:
    told = run(data, "bash", "-euc", block("curl, with a token", "bash"))

    decoder = json.JSONDecoder()
    answers = []
    while told:
        answer, end = decoder.raw_decode(told)
        answers.append(answer)
        told = told[end:].lstrip()
    stored, submitted, overview, counted = answers
    assert stored["size"] == len('print("hello from a job")\n')
    assert submitted["job_name"] == "by-curl"
    assert [version["version_name"] for version in overview["versions"]] == ["by-curl"]
    assert counted["statistics"]["items"][0]["total"] == 1
