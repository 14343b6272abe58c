"""What a program that serves has left in its job folder for people to read."""

import json
from pathlib import Path
from typing import Final

from muster.domain.jobfolder import code_folder, log_file

START_FILE: Final = "start.json"  # as engines/notebook.py writes it
NOTE_LENGTH_MAX: Final = 500
LAST_WORDS_BYTES: Final = 4_000
LAST_WORDS_LINES: Final = 8


def read_start(folder: Path) -> tuple[str, str]:
    """(how far the start is, why it failed), as far as it is told."""
    try:
        told = json.loads((code_folder(folder, 0) / START_FILE).read_bytes())
        return str(told["note"])[:NOTE_LENGTH_MAX], str(told["failure"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def read_last_words(
    folder: Path, *, bytes_max: int = LAST_WORDS_BYTES, lines_max: int = LAST_WORDS_LINES
) -> str:
    """The last lines of the log, as far as they lie in its last bytes."""
    try:
        with log_file(folder, 0).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - bytes_max))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-lines_max:])
