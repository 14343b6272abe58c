"""One call of a command that may hang, and that must not be left behind.

In threads, not by the event loop: uvloop's own way to start a process holds the whole loop up for
thirty milliseconds on a busy machine, this one takes two, and elsewhere.
"""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

LAST_WORDS_SECONDS: Final = 1.0  # for the pipes of a command that was killed to close


@dataclass(frozen=True, slots=True)
class Answer:
    exit_code: int
    out: str
    problem: str


async def call(
    threads: ThreadPoolExecutor,
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    timeout_seconds: float,
) -> Answer:
    """Run it to its end, in a session of its own; kill all of that where it takes too long.

    Raises:
        OSError: it cannot be run.
        TimeoutError: it was killed.
    """
    running = _Call(command, environ)
    try:
        return await asyncio.get_running_loop().run_in_executor(
            threads, running.run, timeout_seconds
        )
    except asyncio.CancelledError:
        running.cancel()
        raise


class _Call:
    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command, self._environ = command, environ
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False

    def run(self, timeout_seconds: float) -> Answer:
        with self._mutex:
            if self._is_cancelled:
                raise TimeoutError
            self._process = process = subprocess.Popen(  # noqa: S603 - Slurm's own commands
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self._environ),
                start_new_session=True,  # so that what a wrapper starts ends with it
            )
        with process:
            try:
                out, problem = process.communicate(timeout=timeout_seconds)
            except subprocess.TimeoutExpired:
                self._kill(process)
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=LAST_WORDS_SECONDS)
                raise TimeoutError from None
        return Answer(
            process.returncode, out.decode(errors="replace"), problem.decode(errors="replace")
        )

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        with self._mutex:
            self._is_cancelled = True
            if self._process is not None:
                self._kill(self._process)

    def _kill(self, process: "subprocess.Popen[bytes]") -> None:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
