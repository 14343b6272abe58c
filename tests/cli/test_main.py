import subprocess
import sys
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner

from muster import __version__
from muster.cli.main import COMMANDS, main
from muster.client.client import Client
from tests.client.fake_api import CREDENTIALS, FakeApi


def failing(response: httpx.Response) -> Client:
    return Client(CREDENTIALS, transport=httpx.MockTransport(lambda _: response))


def test_help_lists_every_command_without_importing_any() -> None:
    heavy = ("muster.cli.job", "httpx", "rich", "msgspec", "muster.server")
    program = (
        "import sys; from muster.cli.main import main; main(['--help'], standalone_mode=False);"
        f"sys.exit(bool(set({heavy!r}) & set(sys.modules)))"
    )

    done = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"muster {__version__}\n"


@pytest.mark.parametrize("group_name", ["job", "pool", "notebook", "model", "service"])
def test_every_command_has_help_with_examples(group_name: str) -> None:
    group = main.get_command(click.Context(main), group_name)
    assert isinstance(group, click.Group)

    for name in group.commands:
        result = CliRunner().invoke(main, [group_name, name, "--help"])
        assert result.exit_code == 0
        assert f"Examples: \n    muster {group_name} {name} " in result.output.replace("\n", " \n")


def test_the_demo_without_scikit_learn_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("muster.cli.demo.find_spec", lambda _: None)

    result = CliRunner().invoke(main, ["demo"])

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: The demo needs scikit-learn. Run `make demo`, or `pip install 'muster[demo]'`.\n"
    )


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["fly"])

    assert result.exit_code == 2
    assert "No such command 'fly'" in result.stderr


def test_without_credentials_one_line_says_what_to_do(tmp_path: Path) -> None:
    env = {"MUSTER_DATA": str(tmp_path), "MUSTER_CREDENTIALS": None, "MUSTER_URL": None}

    result = CliRunner().invoke(main, ["job", "list"], env=env)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: No credentials: {tmp_path}/credentials.json")
    assert result.stderr.count("\n") == 1


def test_a_server_that_is_not_there_is_one_line() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    def client() -> Client:
        return Client(CREDENTIALS, transport=httpx.MockTransport(refuse))

    result = CliRunner().invoke(main, ["pool", "list"], obj=client)

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: No server answers at http://127.0.0.1:8080. Start one with `muster serve`, or name"
        " another with MUSTER_URL.\n"
    )


def test_a_refusal_comes_with_its_code_and_the_next_step() -> None:
    body = {"error_code": "ModelArts.0208", "error_msg": "X-Sdk-Date is\n1 hour off."}

    result = CliRunner().invoke(
        main, ["pool", "list"], obj=lambda: failing(httpx.Response(401, json=body))
    )

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: X-Sdk-Date is 1 hour off (ModelArts.0208). Is the clock of this machine right?\n"
    )


def test_a_fault_of_the_server_names_the_request() -> None:
    response = httpx.Response(500, text="oops", headers={"x-request-id": "r-7"})

    result = CliRunner().invoke(main, ["pool", "list"], obj=lambda: failing(response))

    assert result.stderr == "Error: oops. The server's log has more under request r-7.\n"


def test_the_wrong_key_is_told() -> None:
    api = FakeApi()
    wrong = CREDENTIALS.__class__(
        url=CREDENTIALS.url,
        project_id=CREDENTIALS.project_id,
        access_key=CREDENTIALS.access_key,
        secret_key="another",  # noqa: S106
    )

    result = CliRunner().invoke(
        main, ["pool", "list"], obj=lambda: Client(wrong, transport=httpx.MockTransport(api.answer))
    )

    assert result.exit_code == 1
    assert "(ModelArts.0206). Are the credentials those of this server?" in result.stderr
