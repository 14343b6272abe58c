"""Jobs that tell by files that they have started, and wait for a file to go on."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Of a server whose jobs see the folder: one that is isolated sees nothing of its test.
SEES_SIGNS: Final = ("--isolation", "off")

# Goes on once a file is there.
WAITS_FOR_A_FILE: Final = """
import time
from pathlib import Path
while not Path({gate!r}).exists():
    time.sleep(0.05)
"""

_TOLD: Final = """
import pathlib, sys, time
folder = pathlib.Path({folder!r})
with folder.joinpath("starts").open("a") as starts:
    starts.write("{name}\\n")
print("up", flush=True)
until = time.monotonic() + 240
while not folder.joinpath("{name}").is_file():
    assert time.monotonic() < until
    time.sleep(0.02)
print("told", flush=True)
folder.joinpath("{name}.told").touch()
sys.exit(int(folder.joinpath("{name}").read_text()))
"""


@dataclass(frozen=True, slots=True)
class Signs:
    """A folder that jobs and their test both see."""

    folder: Path

    def script(self, name: str) -> str:
        """Of a job that notes its start, and ends as `tell` says."""
        return _TOLD.format(folder=str(self.folder), name=name)

    def tell(self, name: str, exit_code: int = 0) -> None:
        """Let a job end. The name appears whole."""
        sign = self.folder / f".{name}"
        sign.write_text(str(exit_code))
        sign.rename(self.folder / name)

    def has_heard(self, name: str) -> bool:
        """Whether a job has read what it was told: nothing but its end is left of it."""
        return (self.folder / f"{name}.told").exists()

    def starts(self) -> Counter[str]:
        """How often each job has started."""
        file = self.folder / "starts"
        return Counter(file.read_text().split()) if file.is_file() else Counter()
