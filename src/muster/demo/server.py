"""A server of the demo's own: `muster serve` as a child process, in a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from muster.client.credentials import FILE_NAME, read_credentials
from muster.client.errors import ClientError
from muster.wire.credentials import Credentials

INVENTORY: Final = Path(__file__).with_name("inventory.toml")
READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 15.0
LOOK_SECONDS: Final = 0.05
LOG_TAIL_LINES: Final = 5

_READY = re.compile(r"muster is ready on (http://\S+)")


class ServerFailed(ClientError):
    """The demo's own server did not come up."""


class OwnServer:
    """A server that nobody else knows of. What it prints goes into files beside its data."""

    def __init__(self, folder: Path) -> None:
        """Start it; `folder` is there and empty. It is not up before `wait_until_ready` returns."""
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        # A setting rather than a flag, so that a folder that is kept can be served again as it was.
        settings = f"inventory = {json.dumps(str(INVENTORY))}\n"
        (self.data / "muster.toml").write_text(settings, encoding="utf-8")
        self._out, self._log = folder / "server.out", folder / "server.log"
        program = "from muster.cli.main import main; main(prog_name='muster')"
        arguments = ("serve", "--port", "0", "--data", str(self.data))
        # What is set for somebody's own server is not meant for this one.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, no user text
                [sys.executable, "-c", program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the server
            )

    def wait_until_ready(self) -> Credentials:
        """Wait until it answers; where, and with which key.

        Raises:
            ServerFailed: it ended, or took too long; with the last lines of its log.
        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            has_ended = self._process.poll() is not None
            ready = _READY.search(self._out.read_text(encoding="utf-8"))
            if ready:
                return read_credentials(self.data / FILE_NAME, {"url": ready[1]})
            if has_ended:
                raise ServerFailed(
                    f"The server ended with exit code {self._process.returncode}: {self._last()}"
                )
            time.sleep(LOOK_SECONDS)
        raise ServerFailed(
            f"The server was not ready within {READY_SECONDS_MAX:.0f} s: {self._last()}"
        )

    def _last(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " / ".join(lines[-LOG_TAIL_LINES:]) or "it printed nothing."

    def stop(self) -> int:
        """Ask it to end, and see to it; its exit code. May be called again."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
