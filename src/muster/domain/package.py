"""Installed packages, by what an installer leaves beside them, as lines that install them again.

Source: PyPA specifications "Recording installed projects" and "Recording the Direct URL Origin".
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

PACKAGES_MAX: Final = 1_000
LIST_BYTES_MAX: Final = 65_536  # of the lines together: one variable of a program's environment

_RECORD: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._]*)-(?P<version>[A-Za-z0-9.!+_]+)\.dist-info"
)
_LEGACY: Final = re.compile(r"(?P<name>.+)\.egg-(?:info|link)")
_URL: Final = re.compile(r"(?:https?|ssh|git)://[!-~]{1,1000}")
_WORD: Final = re.compile(r"[A-Za-z0-9._/-]{1,200}")


def list_requirements(records: Mapping[str, bytes]) -> tuple[list[str], list[str]]:
    """What installs the packages again, and which of them nothing can.

    Args:
        records: of a folder of packages: by each name in it, what `direct_url.json` below that
            says, b"" where there is none.

    Returns:
        (lines for `pip install -r`, for people: each other package and why), both sorted.
    """
    lines, others = [], []
    for entry in sorted(records):
        legacy = _LEGACY.fullmatch(entry)
        if legacy:
            others.append(f"{legacy['name']} (installed without a record of its origin)")
        if not entry.endswith(".dist-info"):
            continue
        record = _RECORD.fullmatch(entry)
        if record is None:
            others.append(f"{entry[:100]} (not the name of a record)")
            continue
        origin = _origin(records[entry])
        if origin is None:
            others.append(f"{record['name']} (from files of the notebook)")
        else:
            pinned = f" @ {origin}" if origin else f"=={record['version']}"
            lines.append(f"{record['name']}{pinned}")
    return lines, others


def _origin(direct_url: bytes) -> str | None:
    """Where it is to be fetched from; "": an index, None: nowhere that others can reach."""
    if not direct_url:
        return ""
    try:
        told = json.loads(direct_url)
    except (ValueError, RecursionError):
        return None
    url, folder = _at(told, "url"), _at(told, "subdirectory")
    fragment = f"#subdirectory={folder}" if _are_words(folder) else ""
    if not isinstance(url, str) or not _URL.fullmatch(url):
        return None
    vcs, commit = _at(told, "vcs_info", "vcs"), _at(told, "vcs_info", "commit_id")
    if _are_words(vcs, commit):
        return f"{vcs}+{url}@{commit}{fragment}"
    return f"{url}{fragment}" if isinstance(_at(told, "archive_info"), dict) else None


def _at(told: object, *place: str) -> object:
    for name in place:
        told = told.get(name) if isinstance(told, dict) else None
    return told


def _are_words(*texts: object) -> bool:
    return all(isinstance(text, str) and _WORD.fullmatch(text) for text in texts)


def joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
