"""How a server starts, how it refuses to, and TLS."""

import json
import os
import re
import signal
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from muster.settings import SettingInvalid, load_settings
from tests.certificates import make_certificate
from tests.end_to_end.server import (
    ServerProcess,
    connect,
    run_muster,
    running_server,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One that runs while others are refused."""
    server = ServerProcess(tmp_path_factory.mktemp("running"))
    try:
        server.wait_until_ready()
        yield server
        server.stop()
    finally:
        server.kill()


def refused(data: Path, *arguments: object) -> str:
    """The one line with which a server says that it cannot start."""
    done = run_muster("serve", "--data", data, "--port", "0", *arguments, timeout=30)
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "Traceback" not in line
    return line


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        line = refused(tmp_path / "data", "--port", port)

    assert line.startswith(f"muster cannot start: muster cannot listen on 127.0.0.1 port {port}")
    assert "--port" in line


def test_a_second_server_on_one_folder_is_refused(server: ServerProcess) -> None:
    line = refused(server.data)

    assert f"process {server.pid}" in line
    assert str(server.data) in line


def test_a_second_server_on_one_database_file_is_refused_whatever_its_folder(
    server: ServerProcess, tmp_path: Path
) -> None:
    """Both would start the same jobs."""
    file = server.data / "muster.db"
    link = tmp_path / "link.db"
    link.symlink_to(file)

    for named in (file, link):
        line = refused(tmp_path / "other", "--database", str(named))

        assert f"process {server.pid}" in line
        assert f"the database {named}" in line


def test_a_database_file_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "muster.db"

    line = refused(tmp_path / "data", "--database", str(file))

    assert f"The database {file} cannot be written (No such file or directory)" in line


def test_a_variable_that_is_no_setting_is_told_and_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {name: os.environ[name] for name in os.environ if not name.startswith("MUSTER_")}
    monkeypatch.setattr(
        "tests.end_to_end.server.own_environment", lambda: {**others, "MUSTER_PROT": "9000"}
    )

    server = ServerProcess(tmp_path)
    try:
        server.wait_until_ready()
        told = server.log.splitlines()
        server.stop()
    finally:
        server.kill()

    assert told[0] == "There is no such setting, and nothing reads it: MUSTER_PROT (MUSTER_PORT?)"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    line = refused(tmp_path / "file" / "data")

    assert f"{tmp_path}/file/data" in line
    assert "--data" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)

    assert str(tmp_path / "data") in refused(tmp_path / "data")


def test_a_newer_database_is_not_touched(tmp_path: Path) -> None:
    with running_server(tmp_path) as remote:
        database = remote.data / "muster.db"
    connection = sqlite3.connect(database)
    [version] = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.close()

    line = refused(tmp_path / "data")

    assert "newer" in line


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/muster.db").write_bytes(b"no database at all " * 1000)

    assert "muster.db" in refused(tmp_path / "data")
    assert (tmp_path / "data/muster.db").read_bytes() == b"no database at all " * 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "65536"], "port is 65536; it must be from 0 to 65535"),
        (["--inventory", "nowhere.toml"], "nowhere.toml"),
        (["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"], "nowhere.pem"),
        (["--host", "0.0.0.0"], "host is '0.0.0.0'"),  # noqa: S104 - it is refused
        (["--host", "no.such.host.invalid", "--allow-plain-http"], "no.such.host.invalid"),
        (["--log-level", "loud"], "loud"),
    ],
)
def test_a_setting_that_makes_no_sense_is_told_in_one_line(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    assert says in refused(tmp_path / "data", *arguments)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"port": -1}, "port is -1; it must be from 0 to 65535"),
        ({"engine": "mainframe"}, "engine is 'mainframe'"),
        ({"database": "mysql://x/y"}, "database begins with 'mysql://'; it must be a file's path"),
        ({"objects": "ftp://x/y"}, "objects is 'ftp://x/y'"),
        ({"tls_cert": "cert.pem"}, "--tls-cert and --tls-key belong together"),
        ({"host": "::"}, "--allow-plain-http"),
        ({"host": "192.0.2.1"}, "--tls-cert"),
        ({"statistics_total": "both"}, "it must be 'entries' or 'jobs'"),
    ],
)
def test_each_setting_says_what_it_may_be(
    tmp_path: Path, flags: dict[str, object], says: str
) -> None:
    with pytest.raises(SettingInvalid, match=re.escape(says)):
        load_settings(tmp_path, flags)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "http"], "--port"),
        (["--nonsense"], "--nonsense"),
        (["extra"], "extra"),
    ],
)
def test_a_flag_that_cannot_be_read_is_told_as_every_command_does(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = run_muster("serve", "--data", tmp_path / "data", *arguments, timeout=30)

    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = ", "muster.toml is not valid TOML"),
        ("colour = 1", "there is no such setting"),
        ('port = "x"', "sets port to 'x'"),
    ],
)
def test_a_settings_file_that_makes_no_sense_is_told(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "muster.toml").write_text(text)

    with pytest.raises(SettingInvalid, match=says):
        load_settings(tmp_path, {})


def test_an_inventory_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("[[pools]]\nname = 'pool'\nflavor = 'none'\ncount = 1\n")

    assert "flavor 'none'" in refused(tmp_path / "data", "--inventory", inventory)


def test_a_flag_wins_over_a_variable_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "muster.toml").write_text("port = 1\njob_quota = 3\n")
    monkeypatch.setenv("MUSTER_PORT", "2")

    assert load_settings(tmp_path, {"port": None}).port == 2
    assert load_settings(tmp_path, {"port": 4}).port == 4
    assert load_settings(tmp_path, {}).job_quota == 3


def test_what_the_first_start_makes_is_for_its_owner_only(server: ServerProcess) -> None:
    credentials = server.credentials()

    assert server.data.stat().st_mode & 0o077 == 0
    for name in ("credentials.json", "secret.key"):
        assert (server.data / name).stat().st_mode & 0o777 == 0o600
    assert credentials.project_name == "default"
    assert credentials.secret_key not in server.log
    assert credentials.password not in server.log


def test_the_command_line_finds_a_server_that_was_started_at_another_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ServerProcess(tmp_path)
    first_url = first.wait_until_ready()
    first.stop()
    (tmp_path / "muster").symlink_to(first.data)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", urlsplit(first_url).port or 0)):
        second = ServerProcess(tmp_path, name="second")
        try:
            second_url = second.wait_until_ready()
            found = run_muster("job", "list", "--json")
        finally:
            second.stop()

    assert second.credentials().url == first_url != second_url
    assert json.loads(found.stdout)["job_total_count"] == 0
    assert not (first.data / "server.json").exists()


def test_it_ends_in_time_with_requests_and_streams_open(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    try:
        url = server.wait_until_ready()
        remote = connect(server, url)
        host, port = remote.project.http.base_url.host, remote.project.http.base_url.port
        with (
            socket.create_connection((host, port or 80)) as idle,
            socket.create_connection((host, port or 80)) as half,
        ):
            half.sendall(b"POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            remote.project.get("/training-jobs")
            idle.sendall(b"")

            server.stop()

        with pytest.raises(httpx.TransportError):
            remote.project.http.get("/healthz")
        remote.project.http.close()
    finally:
        server.kill()


def test_an_interrupt_ends_it_too(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    try:
        server.wait_until_ready()
        os.kill(server.pid, signal.SIGINT)
        server.wait_for_end()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-made certificate for this machine, and its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_tls_is_served_with_a_self_made_certificate(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    server = ServerProcess(tmp_path, "--tls-cert", cert, "--tls-key", key)
    try:
        url = server.wait_until_ready()
        assert url.startswith("https://127.0.0.1:")
        assert server.credentials().url == url
        trusting = ssl.create_default_context(cafile=str(cert))

        remote = connect(server, url, verify=trusting)

        catalog = remote.project.http.get("/v3/auth/catalog").json()["catalog"]
        urls = {service["type"]: service["endpoints"][0]["url"] for service in catalog}
        assert urls["modelartsv1"] == f"{url}/v1/{remote.project.id}"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz")  # nobody else trusts it
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url.replace('https', 'http')}/healthz")
        remote.project.http.close()
        server.stop()
    finally:
        server.kill()


def test_a_certificate_that_does_not_fit_its_key_is_told(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, _ = certificate

    line = refused(tmp_path / "data", "--tls-cert", cert, "--tls-key", cert)

    assert str(cert) in line
