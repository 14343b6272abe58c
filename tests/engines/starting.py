"""What tests of the starters share: small packages, a script on its own, what it says."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def package(folder: Path, name: str, *, needs: str = "", **modules: str) -> Path:
    """A wheel of version 0.0.1; its modules by file name."""
    path = folder / f"{name}-0.0.1-py3-none-any.whl"
    info = f"{name}-0.0.1.dist-info"
    described = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n"
    with zipfile.ZipFile(path, "w") as archive:
        for module, text in {"__init__.py": "", **modules}.items():
            archive.writestr(f"{name}/{module}", text)
        archive.writestr(
            f"{info}/METADATA", described + (f"Requires-Dist: {needs}\n" if needs else "")
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A starter, run as an engine runs it: alone, without what this process has imported."""

    path: Path
    here: Path  # where it begins, and tells how far it is
    home: Path
    environments: Path

    def begin(self, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(self.path), str(self.environments)],
            cwd=self.here,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "TMPDIR": str(self.home),
                "PIP_NO_INDEX": "1",
                "MUSTER_HOST": "127.0.0.1",
                "MUSTER_PORT": "12345",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **environment: str) -> tuple[int, str]:
        """(its exit code, all that it has printed)."""
        process = self.begin(**environment)
        output, _ = process.communicate(timeout=100)
        return process.returncode, output

    def told(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.here / "start.json").read_text())
        return found


def started(output: str) -> dict[str, Any]:
    """What the program that was started has told of its start."""
    [line] = [line for line in output.splitlines() if line.startswith("STARTED ")]
    found: dict[str, Any] = json.loads(line.removeprefix("STARTED "))
    return found
