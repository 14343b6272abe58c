"""Code on its way from this machine into a bucket of the project."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from muster.client.client import Client

FILES_MAX: Final = 1000
NAME_MAX: Final = 64
BOOT_FILES: Final = ("train.py", "main.py")  # where a folder is given without --boot

_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a job will run: files on this machine, by the keys that they get below its folder."""

    files: Sequence[tuple[str, Path]]
    boot_file: str  # one of the keys
    name: str  # what the job is called after


def read_code(path: Path, boot_file: str | None) -> Code:
    """The code at a path. Hidden files and folders stay behind, as do caches and links."""
    if path.is_file():
        if boot_file is not None:
            raise click.UsageError("--boot belongs to a folder; a single file starts itself.")
        return Code(files=[(path.name, path)], boot_file=path.name, name=path.stem)
    files = files_of(path)
    keys = {key for key, _ in files}
    if boot_file is None:
        boot_file = next((name for name in BOOT_FILES if name in keys), None)
    else:
        boot_file = Path(boot_file).as_posix()
    if boot_file is None:
        raise click.UsageError(
            f"Which file of {path} starts the job? Name it with --boot"
            f" (without it: {' or '.join(BOOT_FILES)})."
        )
    if boot_file not in keys:
        raise click.UsageError(f"There is no file {boot_file} in {path}.")
    return Code(files=files, boot_file=boot_file, name=path.resolve().name)


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """Every file of a folder, by the key that it gets; hidden ones, caches and links aside."""
    return [(file.relative_to(folder).as_posix(), file) for file in _files_below(folder)]


def _files_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    folders = [folder]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            if entry.name.startswith(".") or entry.name in _LEFT_OUT or entry.is_symlink():
                continue
            if entry.is_dir():
                folders.append(entry)
            elif entry.is_file():
                found.append(entry)
            if len(found) > FILES_MAX:
                raise click.UsageError(
                    f"{folder} holds more than {FILES_MAX} files. Keep data elsewhere and name it"
                    " with --data."
                )
    return found


def new_job_name(code: Code) -> str:
    """A name for a job, after its code; no two are alike."""
    suffix = secrets.token_hex(3)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", code.name).strip("-") or "job"
    return f"{stem[: NAME_MAX - len(suffix) - 1]}-{suffix}"


def project_bucket(client: "Client") -> str:
    return f"project-{client.credentials.project_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """Code that lies in a bucket."""

    bucket: str
    keys: Sequence[str]
    app_url: str
    boot_file_url: str

    def remove(self, client: "Client") -> None:
        for key in self.keys:
            client.delete_object(self.bucket, key)


def upload(client: "Client", code: Code, *, job_name: str, now: datetime) -> Uploaded:
    """Store code where no other submission has put its own."""
    bucket = project_bucket(client)
    folder = f"submitted/{job_name}/{now:%Y%m%dT%H%M%S%fZ}"
    keys = []
    for key, file in code.files:
        client.put_object(bucket, f"{folder}/{key}", file)
        keys.append(f"{folder}/{key}")
    return Uploaded(
        bucket=bucket,
        keys=keys,
        app_url=f"/{bucket}/{folder}/",
        boot_file_url=f"/{bucket}/{folder}/{code.boot_file}",
    )
