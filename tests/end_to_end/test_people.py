"""Users, roles and keys, changed by the command line beside a running server: at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from muster.client.client import Client
from muster.client.errors import ApiError
from muster.wire.credentials import Credentials
from tests.api.platform import login_body
from tests.end_to_end.server import Remote, run_muster, running_server

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("people")) as remote:
        yield remote


def muster(remote: Remote, *arguments: str) -> str:
    done = run_muster(*arguments, "--data", remote.data)
    assert done.returncode == 0, done.stderr
    return done.stdout


def add_user(remote: Remote, name: str, role: str) -> dict[str, Any]:
    return dict(json.loads(muster(remote, "user", "create", name, "--role", role)))


def client_of(remote: Remote, user: str) -> Client:
    """With a new key of the user."""
    key = json.loads(muster(remote, "key", "create", user))
    return Client(Credentials(url=remote.project.url, project_id=remote.project.id, **key))


def refusal(client: Client) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        client.list_pools()
    return refused.value.status, refused.value.code


def test_a_disabled_key_is_dead_when_the_command_returns(remote: Remote) -> None:
    add_user(remote, "kay", "reader")

    with client_of(remote, "kay") as client:
        access = client.credentials.access_key
        for _ in range(3):
            client.list_pools()  # the server remembers the key now
            muster(remote, "key", "disable", access)
            assert refusal(client) == (403, "ModelArts.0206")
            muster(remote, "key", "enable", access)
            client.list_pools()
        muster(remote, "key", "delete", access)
        assert refusal(client) == (403, "ModelArts.0206")


def test_a_disabled_user_is_out_with_password_token_and_key(remote: Remote) -> None:
    made = add_user(remote, "lea", "reader")
    body = login_body("lea", made["password"], remote.project.id)
    tokens = f"{remote.project.url}/v3/auth/tokens"
    token = httpx.post(tokens, json=body).headers["X-Subject-Token"]
    jobs = f"{remote.project.url}{remote.project.v1}/training-jobs"
    assert httpx.get(jobs, headers={"X-Auth-Token": token}).status_code == 200

    with client_of(remote, "lea") as client:
        client.list_pools()
        muster(remote, "user", "disable", "lea")

        assert refusal(client) == (403, "ModelArts.0206")
        assert httpx.get(jobs, headers={"X-Auth-Token": token}).status_code == 401
        assert httpx.post(tokens, json=body).status_code == 401
        muster(remote, "user", "enable", "lea")
        client.list_pools()
        assert httpx.get(jobs, headers={"X-Auth-Token": token}).status_code == 200


def test_a_new_role_counts_when_the_command_returns(remote: Remote) -> None:
    add_user(remote, "max", "reader")

    with client_of(remote, "max") as client:
        for role, is_let in (("reader", False), ("developer", True), ("reader", False)):
            muster(remote, "role", "set", "max", role)
            with pytest.raises(ApiError) as refused:
                client.submit_job("x", {})
            assert (refused.value.status == 403) != is_let, refused.value
        muster(remote, "role", "remove", "max")
        assert refusal(client) == (403, "ModelArts.0210")


def test_a_role_in_one_workspace_counts_there(remote: Remote) -> None:
    nia = add_user(remote, "nia", "reader")
    project = remote.project
    body = {"name": "closed", "auth_type": "PRIVATE"}
    workspace_id = project.http.post(f"{project.v1}/workspaces", json=body).json()["id"]
    login = login_body("nia", nia["password"], project.id)
    token = httpx.post(f"{project.url}/v3/auth/tokens", json=login).headers["X-Subject-Token"]

    def list_jobs() -> int:
        path = f"{project.url}{project.v1}/training-jobs?workspace_id={workspace_id}"
        return httpx.get(path, headers={"X-Auth-Token": token}).status_code

    assert list_jobs() == 400
    muster(remote, "role", "set", "nia", "reader", "--workspace", "closed")
    assert list_jobs() == 200
    muster(remote, "role", "remove", "nia", "--workspace", workspace_id)
    assert list_jobs() == 400


def test_commands_do_not_wait_for_a_server_that_is_gone(tmp_path: Path) -> None:
    with running_server(tmp_path) as remote:
        data = remote.data

    done = run_muster("user", "create", "ora", "--data", data)

    assert done.returncode == 0, done.stderr
    assert not (data / "logins.changed").exists()
