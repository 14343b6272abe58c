"""What a program that serves has left in its job folder for people to read."""

import json
import re
from pathlib import Path
from typing import Final

from muster.beneath import read_beneath
from muster.domain.jobfolder import code_folder, log_file

START_FILE: Final = "start.json"  # as engines/notebook.py writes it
START_BYTES_MAX: Final = 64 << 10
NOTE_LENGTH_MAX: Final = 500
LAST_WORDS_BYTES: Final = 4_000
LAST_WORDS_LINES: Final = 8

_UNREADABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def read_start(folder: Path) -> tuple[str, str]:
    """(how far the start is, why it failed), as far as it is told."""
    try:
        # The program owns the folder: it may have put anything in the place of the file.
        text = read_beneath(code_folder(folder, 0), START_FILE, limit=START_BYTES_MAX)
        told = json.loads(text)
        return readable(str(told["note"]))[:NOTE_LENGTH_MAX], readable(str(told["failure"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def read_last_words(
    folder: Path, *, bytes_max: int = LAST_WORDS_BYTES, lines_max: int = LAST_WORDS_LINES
) -> str:
    """The last lines of the log, as far as they lie in its last bytes."""
    file = log_file(folder, 0)
    try:
        data = read_beneath(file.parent, file.name, limit=bytes_max, from_end=True)
    except OSError:
        return ""
    text = data.decode("utf-8", "replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return readable("\n".join(lines[-lines_max:]))


def readable(text: str) -> str:
    """Without what no terminal should get, and PostgreSQL does not keep."""
    return _UNREADABLE.sub("\ufffd", text)
