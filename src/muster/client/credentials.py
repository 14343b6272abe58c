"""Where a server is, and the key that opens it: from the environment, else from a file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from muster.client.errors import CredentialsUnusable
from muster.settings import default_data_folder
from muster.wire.credentials import ADDRESS_FILE_NAME, Credentials, ServerAddress

FILE_NAME: Final = "credentials.json"

_VARIABLES: Final = {
    "url": "MUSTER_URL",
    "project_id": "MUSTER_PROJECT_ID",
    "access_key": "MUSTER_ACCESS_KEY",
    "secret_key": "MUSTER_SECRET_KEY",
}


def find_credentials(environ: Mapping[str, str] | None = None) -> Credentials:
    """The credentials that a command line client should use.

    `MUSTER_URL`, `MUSTER_PROJECT_ID`, `MUSTER_ACCESS_KEY` and `MUSTER_SECRET_KEY` each win over the
    same value in the file; with all four no file is read. The file is `MUSTER_CREDENTIALS`, else
    `credentials.json` in the data folder, where the server's first start puts it. An address on
    this machine in it is that of the first start: where the server runs now, at another port
    perhaps, it tells in `server.json` beside it, which wins over it.

    Args:
        environ: instead of the environment of this process.

    Raises:
        CredentialsUnusable: there are none, or what is there cannot be used.
    """
    environ = os.environ if environ is None else environ
    given = {field: environ[name] for field, name in _VARIABLES.items() if environ.get(name)}
    if len(given) == len(_VARIABLES):
        try:
            return msgspec.convert(given, Credentials)
        except msgspec.ValidationError as error:
            raise CredentialsUnusable(f"The environment is not usable: {error}.") from error
    file = _credentials_file(environ)
    if not file.exists():
        missing = ", ".join(name for field, name in _VARIABLES.items() if field not in given)
        raise CredentialsUnusable(
            f"No credentials: {file} does not exist. The first start of `muster serve` writes it;"
            f" for a server elsewhere, name a copy of its file in MUSTER_CREDENTIALS, or set"
            f" {missing}."
        )
    found = read_credentials(file, given)
    if "url" in given or not found.is_on_this_machine:
        return found
    return msgspec.structs.replace(found, url=_running_at(file.parent) or found.url)


def _running_at(folder: Path) -> str | None:
    """Where the server of that data folder answers, as far as it has told."""
    try:
        content = (folder / ADDRESS_FILE_NAME).read_bytes()
        return msgspec.json.decode(content, type=ServerAddress).url
    except (OSError, msgspec.DecodeError):
        return None


def read_credentials(file: Path, instead: Mapping[str, str] | None = None) -> Credentials:
    """The credentials in a file, with some of the values taken from `instead`.

    Raises:
        CredentialsUnusable: the file cannot be read, or does not hold credentials.
    """
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=dict[str, object])
        return msgspec.convert({**stored, **(instead or {})}, Credentials)
    except OSError as error:
        raise CredentialsUnusable(f"Cannot read {file}: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise CredentialsUnusable(f"{file} does not hold credentials: {error}.") from error


def _credentials_file(environ: Mapping[str, str]) -> Path:
    if named := environ.get("MUSTER_CREDENTIALS"):
        return Path(named).expanduser()
    return _data_folder(environ) / FILE_NAME


def _data_folder(environ: Mapping[str, str]) -> Path:
    if named := environ.get("MUSTER_DATA"):
        return Path(named).expanduser()
    return default_data_folder(environ)
