import json
from pathlib import Path

import pytest

from muster.address import told_address
from muster.client.credentials import find_credentials
from muster.client.errors import CredentialsUnusable
from muster.wire.credentials import Credentials

STORED = {
    "url": "http://127.0.0.1:8080",
    "project_id": "p1",
    "project_name": "default",
    "domain": "default",
    "user": "admin",
    "password": "pass word",
    "access_key": "AK",
    "secret_key": "SK",
}
ENVIRONMENT = {
    "MUSTER_URL": "https://muster.example",
    "MUSTER_PROJECT_ID": "p2",
    "MUSTER_ACCESS_KEY": "AK2",
    "MUSTER_SECRET_KEY": "SK2",
}


def write(file: Path, content: object = STORED) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    found = find_credentials(ENVIRONMENT | {"MUSTER_DATA": str(tmp_path)})

    assert found == Credentials(
        url="https://muster.example",
        project_id="p2",
        access_key="AK2",
        secret_key="SK2",  # noqa: S106 - made up
    )


def test_a_named_file_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "elsewhere.json", {**STORED, "a_later_field": 1})

    found = find_credentials({"MUSTER_CREDENTIALS": str(file), "MUSTER_DATA": "/nonexistent"})

    assert (found.url, found.user, found.password) == (STORED["url"], "admin", "pass word")


def test_the_file_in_the_data_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path / "credentials.json")

    assert find_credentials({"MUSTER_DATA": str(tmp_path)}).access_key == "AK"


def test_the_default_data_folder_follows_the_xdg_variable(tmp_path: Path) -> None:
    write(tmp_path / "muster" / "credentials.json")

    assert find_credentials({"XDG_DATA_HOME": str(tmp_path)}).access_key == "AK"


def test_one_variable_changes_one_value_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "credentials.json")

    found = find_credentials({"MUSTER_DATA": str(tmp_path), "MUSTER_URL": "http://127.0.0.1:1"})

    assert (found.url, found.access_key) == ("http://127.0.0.1:1", "AK")


def test_a_server_that_runs_at_another_port_now_is_found(tmp_path: Path) -> None:
    write(tmp_path / "credentials.json")
    data = {"MUSTER_DATA": str(tmp_path)}

    with told_address(tmp_path, "http://127.0.0.1:9000"):
        now = find_credentials(data).url
        named = find_credentials(data | {"MUSTER_URL": "http://127.0.0.1:1"}).url
    afterwards = find_credentials(data).url

    assert (now, named) == ("http://127.0.0.1:9000", "http://127.0.0.1:1")
    assert afterwards == STORED["url"]


def test_the_server_that_was_started_last_stays_told_of(tmp_path: Path) -> None:
    write(tmp_path / "credentials.json")

    with told_address(tmp_path, "http://127.0.0.1:9001"):
        write(tmp_path / "server.json", {"url": "http://127.0.0.1:9002", "process_id": 1})

    assert find_credentials({"MUSTER_DATA": str(tmp_path)}).url == "http://127.0.0.1:9002"


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ("https://muster.example", {"url": "http://127.0.0.1:9000", "process_id": 1}),
        ("http://127.0.0.1:8080", {"url": 9000}),
        ("http://127.0.0.1:8080", "cut off"),
    ],
)
def test_an_address_that_somebody_has_put_there_stays(
    tmp_path: Path, stored: str, told: object
) -> None:
    write(tmp_path / "credentials.json", STORED | {"url": stored})
    write(tmp_path / "server.json", told)

    assert find_credentials({"MUSTER_DATA": str(tmp_path)}).url == stored


def test_without_any_the_message_says_where_they_come_from(tmp_path: Path) -> None:
    environ = {"MUSTER_DATA": str(tmp_path), "MUSTER_URL": "http://127.0.0.1:1"}

    with pytest.raises(CredentialsUnusable) as caught:
        find_credentials(environ)

    message = caught.value.message
    assert str(tmp_path / "credentials.json") in message
    assert "muster serve" in message
    assert "MUSTER_SECRET_KEY" in message
    assert "MUSTER_URL" not in message


@pytest.mark.parametrize(
    "content",
    [
        [],
        {**STORED, "url": 7},
        {**STORED, "url": "127.0.0.1:8080"},
        {**STORED, "url": "http://"},
        {name: value for name, value in STORED.items() if name != "secret_key"},
    ],
)
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, content: object) -> None:
    file = write(tmp_path / "credentials.json", content)

    with pytest.raises(CredentialsUnusable, match=r"credentials\.json") as caught:
        find_credentials({"MUSTER_CREDENTIALS": str(file)})

    assert "SK" not in caught.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsUnusable, match="Cannot read"):
        find_credentials({"MUSTER_CREDENTIALS": str(tmp_path)})


def test_a_bad_address_in_the_environment_is_refused() -> None:
    with pytest.raises(CredentialsUnusable, match="http://HOST:PORT"):
        find_credentials(ENVIRONMENT | {"MUSTER_URL": "muster.example"})


def test_secrets_do_not_show_in_a_traceback() -> None:
    shown = repr(Credentials(**STORED))

    assert "SK" not in shown
    assert "pass word" not in shown
