"""`muster model` and `muster service` against a real server with real instances."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from click.testing import CliRunner, Result

from muster.cli.main import main
from muster.client.client import Client
from muster.wire.credentials import Credentials
from tests.end_to_end.batches import put, results
from tests.end_to_end.inference import ECHO, Inference
from tests.end_to_end.server import Remote, processes_below, running_server, wait_for

pytestmark = pytest.mark.timeout(300)

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("cli-services")) as remote:
        yield remote
        Inference(remote=remote).delete_all()
        wait_for(lambda: not processes_below(remote.data / "jobs") or None)


@pytest.fixture
def run(remote: Remote) -> Run:
    text = (remote.data / "credentials.json").read_bytes()
    credentials = msgspec.json.decode(text, type=Credentials)

    def run_muster(*args: object, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(
            main, list(map(str, args)), obj=lambda: Client(credentials), catch_exceptions=False
        )
        assert result.exit_code == exit_code, result.output
        return result

    return run_muster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "echo"
    folder.mkdir()
    (folder / "customize_service.py").write_text(dedent(ECHO))
    return folder


def test_a_folder_becomes_a_model_and_a_service_that_answers(run: Run, folder: Path) -> None:
    run("model", "create", folder, "--version", "0.0.1")
    run("model", "create", folder, "--version", "0.0.2", "--desc", "better")
    run("service", "deploy", "echo", "--model", "echo:0.0.2", "--env", "WORD=hello")

    answer = json.loads(run("service", "predict", "echo", "--data", '{"a": 1}').stdout)

    assert (answer["word"], answer["data"]) == ("hello", {"a": 1})
    models = run("model", "list").stdout.splitlines()
    assert [line.split()[:2] for line in models] == [
        ["NAME", "VERSION"],
        ["echo", "0.0.2"],
        ["echo", "0.0.1"],
    ]
    [_, row] = run("service", "list").stdout.splitlines()
    assert row.split()[:4] == ["echo", "running", "1", "0"]
    shown = run("service", "show", "echo").stdout
    assert "1 of 1 ready" in shown
    assert "The service is running." in shown
    run("service", "stop", "echo")
    wait_for(lambda: "stopped" in run("service", "list").stdout or None)
    refused = run("service", "predict", "echo", "--data", "{}", exit_code=1)
    assert "has no instance that is ready" in refused.output
    run("service", "start", "echo")
    wait_for(lambda: "running" in run("service", "list").stdout or None)
    kept = run("model", "delete", "echo:0.0.2", "--yes", exit_code=1)
    assert "is run by the service 'echo'" in kept.output
    asked = run("service", "delete", "echo", exit_code=1)
    assert "Delete service echo? [y/N]" in asked.output
    run("service", "delete", "echo", "--yes")
    run("model", "delete", "echo", "--all-versions", "--yes")
    assert len(run("model", "list").stdout.splitlines()) == 1


def test_a_model_is_asked_about_every_file_of_a_folder(
    run: Run, folder: Path, remote: Remote
) -> None:
    inference = Inference(remote=remote)
    source = put(inference, "all-in", {"a.json": b'{"a": 1}', "b.json": b"no json"})
    run("model", "create", folder, "--name", "all", "--version", "0.0.1")

    done = run(
        "service", "deploy", "all", "--model", "all", "--batch", source, "/bucket-default/all-out"
    )

    assert (
        "all is finished: 2, 1 of them failed; the answers lie under /bucket-default/all-out"
        in (done.output)
    )
    found = results(inference, "all-out")
    assert json.loads(found["a.json_result.txt"])["data"] == {"a": 1}
    shown = run("service", "show", "all").stdout
    assert "0 of 1 at work" in shown
    assert "100 %" in shown
    assert "1 requests failed: b.json (it answered 400" in shown
    assert "all" in run("service", "list", "--status", "finished").stdout
    empty = run(
        "service", "deploy", "none", "--model", "all", "--batch", "/bucket-default/no/", "/b/out/",
        exit_code=1,
    )  # fmt: skip
    assert "config[0].src_path is '/bucket-default/no/'; there is nothing in it" in empty.output
    run("service", "deploy", "x", "--model", "all", "--batch", "a", "b", "--max", 2, exit_code=2)


def test_files_are_sent_as_a_form(run: Run, folder: Path, tmp_path: Path) -> None:
    script = """
        from model_service.python_model_service import XgSklServingBaseService

        class Sizes(XgSklServingBaseService):
            def _inference(self, data):
                return {name: len(file.read()) for name, file in data["blob"].items()}
    """
    (folder / "customize_service.py").write_text(dedent(script))
    file = tmp_path / "blob.bin"
    file.write_bytes(bytes(range(256)) * 4)
    run("model", "create", folder, "--name", "sizes", "--version", "1.0.0")
    run("service", "deploy", "sizes", "--model", "sizes")

    answer = run("service", "predict", "sizes", "--file", f"blob={file}").stdout

    assert json.loads(answer) == {"blob.bin": 1024}


def test_a_deployment_that_fails_says_why(run: Run, folder: Path) -> None:
    (folder / "customize_service.py").write_text("import no_such_package\n")
    run("model", "create", folder, "--name", "lacking", "--version", "0.0.1")

    failed = run("service", "deploy", "lacking", "--model", "lacking", exit_code=1)

    assert "No module named 'no_such_package'" in failed.output


def test_what_lies_in_another_workspace_is_found(run: Run, folder: Path, remote: Remote) -> None:
    made = remote.project.post("/workspaces", name="vision")
    run("model", "create", folder, "--name", "afar", "--version", "0.0.1", "--workspace", "vision")
    run("service", "deploy", "afar", "--model", "afar", "--workspace", made["id"])

    answer = json.loads(run("service", "predict", "afar", "--data", '{"a": 1}').stdout)
    listed = json.loads(run("service", "list", "--json").stdout)["services"]
    here = json.loads(run("service", "list", "--json", "--workspace", "default").stdout)["services"]
    twin = run("service", "deploy", "afar", "--model", "afar", "--no-wait")
    unclear = run("service", "show", "afar", exit_code=1)

    assert answer["data"] == {"a": 1}
    assert [one["workspace_id"] for one in listed if one["service_name"] == "afar"] == [made["id"]]
    assert "afar" not in [one["service_name"] for one in here]
    assert twin.exit_code == 0
    assert f"(workspace {made['id']})" in unclear.output
    assert "Give the id" in unclear.output
    for one in json.loads(run("service", "list", "--json", "--search", "afar").stdout)["services"]:
        run("service", "delete", one["service_id"], "--yes")
    unknown = run("service", "list", "--workspace", "sound", exit_code=1)
    assert "There is no workspace 'sound'; you may enter default, vision" in unknown.output


def test_what_is_not_there_is_told_in_words(run: Run, folder: Path) -> None:
    for args, words in (
        (("service", "show", "nobody"), "There is no service 'nobody'"),
        (("model", "delete", "nothing"), "There is no model 'nothing'"),
        (("service", "deploy", "x", "--model", "nothing"), "There is no model 'nothing'"),
        (("model", "create", folder, "--version", "x"), "model_version is 'x'"),
    ):
        assert words in run(*args, exit_code=1).output
    assert "either" in run("service", "predict", "x", exit_code=2).output
