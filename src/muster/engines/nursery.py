"""The warm process that shims are forked from: a start of Python for each would take too long."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from muster.engines import shim

NURSERY_ANSWER_SECONDS: Final = 10.0
SHIMS_LOG: Final = ".shims.log"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shims:
    """The shims of one attempt, waiting for the word to go."""

    line: socket.socket
    pidfds: list[int]


class Nursery:
    """The warm process that shims are forked from; see `shim.serve`.

    Called from threads, and blocks. One request at a time: a fork takes about a millisecond.
    """

    def __init__(self, jobs_folder: Path, *, lock_fd: int) -> None:
        self._jobs_folder = jobs_folder
        self._lock_fd = lock_fd
        self._mutex = threading.Lock()
        self._start_process()

    def close(self) -> None:
        self._end_process()
        os.close(self._lock_fd)

    def _start_process(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(NURSERY_ANSWER_SECONDS)
        self._control = ours
        fds = (theirs.fileno(), self._lock_fd)
        with theirs, (self._jobs_folder / SHIMS_LOG).open("ab") as log_of_shims:
            self._process = subprocess.Popen(  # noqa: S603 - our own file, our own interpreter
                [sys.executable, "-I", "-S", shim.__file__, "--serve", *map(str, fds)],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log_of_shims,
                pass_fds=fds,
                start_new_session=True,
            )

    def _end_process(self) -> None:
        self._control.close()
        try:
            self._process.wait(NURSERY_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def spawn(self, task_folders: Collection[str]) -> Shims:
        """Fork a shim for each task. They touch nothing until they are sent GO on the line.

        Raises:
            OSError: there is none for any of them.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._mutex:
            try:
                try:
                    pidfds = self._ask(task_folders, theirs)
                except OSError as error:
                    # It was killed, or hangs. What it may have forked touches nothing without GO.
                    log.warning("nursery_replaced", reason=str(error))
                    self._process.kill()
                    self._end_process()
                    self._start_process()
                    pidfds = self._ask(task_folders, theirs)
            except BaseException:
                ours.close()
                raise
        return Shims(ours, pidfds)

    def _ask(self, task_folders: Collection[str], line: socket.socket) -> list[int]:
        request = json.dumps(list(task_folders)).encode()
        socket.send_fds(self._control, [request], [line.fileno()])
        answer, pidfds, _, _ = socket.recv_fds(
            self._control, shim.ANSWER_BYTES_MAX, shim.TASKS_MAX, socket.MSG_CMSG_CLOEXEC
        )
        if not answer:
            raise ConnectionResetError("the process that starts tasks has ended")
        if error := json.loads(answer).get("error"):
            raise OSError(error)
        if len(pidfds) < len(task_folders):  # the kernel drops what does not fit
            for pidfd in pidfds:
                os.close(pidfd)
            raise OSError(errno.EMFILE, "Too many open files")
        return pidfds
