"""A call of a command that hangs is over in time, and leaves nothing behind."""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from muster.engines.slurmcall import call

pytestmark = pytest.mark.asyncio

# A wrapper whose child would outlive it.
HANGS = "sleep 300 & echo $! > {file}; wait"


@pytest_asyncio.fixture
async def threads() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def is_gone(file: Path) -> bool:
    """The process whose number is in the file has ended, or waits to be reaped by its parent."""
    try:
        stat = Path(f"/proc/{file.read_text().strip()}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


async def until_gone(file: Path) -> None:
    async with asyncio.timeout(30):
        while not is_gone(file):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def test_it_tells_what_the_command_said_and_its_exit_code(
    threads: ThreadPoolExecutor,
) -> None:
    command = shell("echo out; echo bad >&2; echo $NAME; exit 3")

    answer = await call(threads, command, {"NAME": "value"}, timeout_seconds=60)

    assert (answer.exit_code, answer.out, answer.problem) == (3, "out\nvalue\n", "bad\n")


async def test_one_that_hangs_ends_with_all_that_it_has_started(
    threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    file = tmp_path / "pid"

    with pytest.raises(TimeoutError):
        await call(threads, shell(HANGS.format(file=file)), dict(os.environ), timeout_seconds=1.0)

    await until_gone(file)


async def test_one_that_nobody_waits_for_any_more_ends_too(
    threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    command = shell(HANGS.format(file=file))
    waiting = asyncio.create_task(call(threads, command, dict(os.environ), timeout_seconds=60))
    async with asyncio.timeout(30):
        while not file.exists() or not file.read_text().strip():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until_gone(file)


async def test_a_command_that_is_not_there_is_an_error_of_the_system(
    threads: ThreadPoolExecutor,
) -> None:
    with pytest.raises(FileNotFoundError):
        await call(threads, ["/no/such/command"], {}, timeout_seconds=1)
