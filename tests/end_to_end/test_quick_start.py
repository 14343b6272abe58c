"""The README's quick start, as a newcomer follows it: a bare checkout, a new environment."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS_MAX = 240
# What a checkout holds; a checkout's own `.venv` and caches are not part of it.
LEFT_OUT = shutil.ignore_patterns(
    ".venv", ".git", "__pycache__", ".*_cache", ".hypothesis", "results"
)


def quick_start() -> list[str]:
    """The console blocks of the section, as scripts without their prompts."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Quick start") :]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [re.sub(r"^\$ ", "", block, flags=re.MULTILINE) for block in blocks]


@contextmanager
def serving(command: str, folder: Path, env: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen(  # noqa: S603 - likewise
        command.split(), cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("muster is ready on http://127.0.0.1:")
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0


@pytest.mark.timeout(INSTALL_SECONDS_MAX + 60)
def test_the_quick_start_of_the_readme_works_in_a_bare_environment(tmp_path: Path) -> None:
    checkout, home = tmp_path / "checkout", tmp_path / "home"
    shutil.copytree(ROOT, checkout, ignore=LEFT_OUT)
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    env |= {"HOME": str(home), "MUSTER_PORT": "0"}  # another server may have the default port
    env.pop("XDG_DATA_HOME", None)
    setup_and_serve, *rest = quick_start()
    own_pool = next(block for block in rest if "pool create" in block)
    service = next(block for block in rest if "service deploy" in block)
    first_job = rest[0]
    setup, serve = (line.partition("#")[0].strip() for line in setup_and_serve.splitlines())

    subprocess.run(  # noqa: S603 - the README's own words
        setup.split(), cwd=checkout, env=env, check=True, timeout=INSTALL_SECONDS_MAX
    )
    with serving(serve, checkout, env):
        told = subprocess.run(  # noqa: S603 - likewise
            ["/bin/bash", "-euc", first_job + own_pool + service],
            cwd=checkout,
            env=env,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    assert "learning at 0.1" in told
    assert re.search(r"first +Completed", told)
    assert re.search(r"train( +0){6} +1 +0 +0 +1", told), "the statistics count it once"
    assert "learning at 0.2" in told
    assert len(re.findall(r"^team-a-\w{5} +Available", told, re.MULTILINE)) == 2
    assert '{"hello": "world"}' in told
    assert (home / ".local/share/muster/credentials.json").stat().st_mode & 0o777 == 0o600
