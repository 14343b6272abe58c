"""Notebooks through the unmodified Huawei Cloud SDK: a real server, a real JupyterLab."""

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts import v1 as sdk
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket

from tests.end_to_end.server import (
    Remote,
    ServerProcess,
    connect,
    end_processes_below,
    running_server,
    wait_for,
)
from tests.end_to_end.test_huawei_sdk import client_of
from tests.engines.starting import package
from tests.required import import_needed

import_needed("jupyterlab", "jupyterlab")

FLAVOR = "modelarts.vm.cpu.1u"
UNKNOWN_ID = "7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11"
HOUR_MS = 3_600_000
COMING_UP = {"CREATING", "STARTING"}

pytestmark = [
    pytest.mark.timeout(300),
    # The SDK's own: it opens its log handlers and sessions without closing them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("notebooks")) as remote:
        yield remote
        delete_all(remote)


def delete_all(remote: Remote) -> None:
    """Leave no JupyterLab behind."""

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = remote.project.get("/notebooks/all", limit=1000)["data"]
        return found

    for notebook in listed():
        if notebook["status"] != "DELETING":
            remote.project.http.delete(f"{remote.project.v1}/notebooks/{notebook['id']}")
    wait_for(lambda: not listed() or None)


@pytest.fixture(scope="module")
def client(remote: Remote) -> Any:
    return client_of(remote)


def create(client: Any, name: str, **more: Any) -> Any:
    [image] = client.list_image(sdk.ListImageRequest(type="BUILD_IN")).data
    given: dict[str, Any] = {
        "name": name,
        "image_id": image.id,
        "flavor": FLAVOR,
        "volume": sdk.VolumeMountRequest(category="EFS", ownership="MANAGED", capacity=50),
    }
    body = sdk.NotebookCreateRequest(**given | more)
    return client.create_notebook(sdk.CreateNotebookRequest(body=body))


def show(client: Any, notebook_id: str) -> Any:
    return client.show_notebook(sdk.ShowNotebookRequest(id=notebook_id))


def wait_until(client: Any, notebook_id: str, *statuses: str) -> Any:
    """The notebook, once it has one of the statuses; at once an error if it cannot any more."""

    def arrived() -> Any | None:
        shown = show(client, notebook_id)
        if shown.status in statuses:
            return shown
        assert not shown.status.endswith("FAILED"), (shown.status, shown.fail_reason)
        return None

    return wait_for(arrived, seconds=60)


def delete(client: Any, notebook_id: str) -> None:
    client.delete_notebook(sdk.DeleteNotebookRequest(id=notebook_id))

    def is_gone() -> bool:
        try:
            show(client, notebook_id)
        except ClientRequestException as error:
            return bool(error.error_code == "ModelArts.6309")
        return False

    wait_for(is_gone)


def refused(call: Callable[..., Any], request: Any) -> tuple[int, str]:
    with pytest.raises(ClientRequestException) as caught:
        call(request)
    return caught.value.status_code, caught.value.error_code


def counted(remote: Remote) -> dict[str, int]:
    """The notebooks of the public pool by state, without zeros."""
    project = remote.project
    path = f"{project.v2}/statistics/pools/{project.pool('public')}/workloads"
    items = project.http.get(path).json()["statistics"]["items"]
    [found] = [item for item in items if item["type"] == "notebook"]
    return {state: count for state, count in found["status"].items() if count}


class Browser:
    """What a browser does with the address of a notebook, without one."""

    def __init__(self, shown: Any) -> None:
        self.base = shown.url.removesuffix("lab")
        self.http = httpx.Client(follow_redirects=True, timeout=30, trust_env=False)
        self.page = self.http.get(
            shown.url, params={"token": shown.token}, headers={"Accept": "text/html"}
        )

    def api(self, method: str, path: str, **more: Any) -> Any:
        reply = self.http.request(method, f"{self.base}api/{path}", **more)
        assert reply.status_code < 300, (reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def run(self, kernel_id: str, code: str, *, origin: str | None = None) -> str:
        """What a cell prints, over the kernel's websocket; `origin`: of the page that asks."""
        url = f"{self.base}api/kernels/{kernel_id}/channels".replace("http", "ws", 1)
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        message_id = uuid.uuid4().hex
        request = {
            "header": {
                "msg_id": message_id, "msg_type": "execute_request", "username": "",
                "session": uuid.uuid4().hex, "date": "", "version": "5.3",
            },
            "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
            "content": {
                "code": code, "silent": False, "store_history": True, "user_expressions": {},
                "allow_stdin": False,
            },
        }  # fmt: skip
        printed = ""
        headers = {"Cookie": cookies} | ({"Origin": origin} if origin else {})
        with open_websocket(url, additional_headers=headers, proxy=None) as socket:
            socket.send(json.dumps(request))
            while True:
                told = json.loads(socket.recv(timeout=30))
                if told["parent_header"].get("msg_id") != message_id:
                    continue
                content = told["content"]
                if told["msg_type"] == "stream":
                    printed += content["text"]
                assert told["msg_type"] != "error", content
                if told["msg_type"] == "status" and content["execution_state"] == "idle":
                    return printed

    def in_terminal(self, line: str, last: str) -> str:
        """What a terminal shows after a line was typed, until `last` is there."""
        terminal = self.api("POST", "terminals")
        url = f"{self.base}terminals/websocket/{terminal['name']}".replace("http", "ws", 1)
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        shown = ""
        with open_websocket(url, additional_headers={"Cookie": cookies}, proxy=None) as socket:
            socket.send(json.dumps(["stdin", f"{line}\r"]))
            while last not in shown:
                kind, *told = json.loads(socket.recv(timeout=30))
                shown += told[0] if kind == "stdout" else ""
        self.api("DELETE", f"terminals/{terminal['name']}")
        return shown

    def close(self) -> None:
        self.http.close()


class TestLife:
    def test_a_notebook_is_made_opened_used_stopped_started_and_deleted(
        self, remote: Remote, client: Any
    ) -> None:
        made = create(client, "whole-life", description="first")
        assert made.status == "CREATING"
        assert [step.step for step in made.action_progress] == [1, 2, 3, 4]
        up = wait_until(client, made.id, "RUNNING")
        assert counted(remote) == {"Running": 1}
        assert up.url.startswith(str(remote.project.http.base_url).rstrip("/"))
        assert up.image.name == "jupyterlab"
        assert up.jupyter_version
        assert {step.status for step in up.action_progress} == {"COMPLETED"}
        browser = Browser(up)
        assert browser.page.status_code == 200
        assert "token" not in str(browser.page.url)
        assert "JupyterLab" in browser.page.text

        saved = {"type": "file", "format": "text", "content": "it stays"}
        browser.api("PUT", "contents/kept.txt", json=saved)
        kernel = browser.api("POST", "kernels", json={"name": "python3"})
        assert browser.run(kernel["id"], "print(open('kept.txt').read(), 6 * 7)") == "it stays 42\n"
        with pytest.raises(InvalidStatus, match="403"):
            browser.run(kernel["id"], "1", origin="http://evil.example")
        browser.close()
        assert client.stop_notebook(sdk.StopNotebookRequest(id=made.id)).status == "STOPPING"
        wait_until(client, made.id, "STOPPED")
        assert counted(remote) == {"Terminated": 1}
        started = client.start_notebook(
            sdk.StartNotebookRequest(id=made.id, duration=2 * HOUR_MS, type="TIMING")
        )
        assert started.status == "STARTING"
        assert started.lease.duration == 2 * HOUR_MS
        again = wait_until(client, made.id, "RUNNING")
        assert counted(remote) == {"Running": 1}
        assert (again.url, again.token) == (up.url, up.token)

        browser = Browser(again)
        assert browser.api("GET", "contents/kept.txt")["content"] == "it stays"
        browser.close()
        folder = remote.data / "notebooks" / made.id.replace("-", "")
        assert (folder / "work" / "kept.txt").read_text() == "it stays"
        delete(client, made.id)
        assert not folder.exists()
        assert counted(remote) == {}

    def test_what_is_asked_twice_is_refused_with_its_own_code(self, client: Any) -> None:
        made = create(client, "twice")
        start, stop = (sdk.StartNotebookRequest(id=made.id), sdk.StopNotebookRequest(id=made.id))
        assert refused(client.start_notebook, start) == (400, "ModelArts.6306")
        wait_until(client, made.id, "RUNNING")

        assert refused(client.start_notebook, start) == (400, "ModelArts.6305")
        client.stop_notebook(stop)
        codes = {refused(client.stop_notebook, stop)[1]}
        wait_until(client, made.id, "STOPPED")
        codes.add(refused(client.stop_notebook, stop)[1])
        assert codes <= {"ModelArts.6307", "ModelArts.6308"}
        assert "ModelArts.6307" in codes
        delete(client, made.id)

    def test_an_unknown_one_is_told_by_every_call(self, client: Any) -> None:
        for call, request in (
            (client.show_notebook, sdk.ShowNotebookRequest(id=UNKNOWN_ID)),
            (client.start_notebook, sdk.StartNotebookRequest(id=UNKNOWN_ID)),
            (client.stop_notebook, sdk.StopNotebookRequest(id=UNKNOWN_ID)),
            (client.delete_notebook, sdk.DeleteNotebookRequest(id=UNKNOWN_ID)),
            (client.show_lease, sdk.ShowLeaseRequest(id=UNKNOWN_ID)),
            (client.renew_lease, sdk.RenewLeaseRequest(id=UNKNOWN_ID, duration=HOUR_MS)),
            (client.show_switchable_flavors, sdk.ShowSwitchableFlavorsRequest(id=UNKNOWN_ID)),
            (
                client.update_notebook,
                sdk.UpdateNotebookRequest(
                    id=UNKNOWN_ID, body=sdk.NotebookUpdateRequest(name="other")
                ),
            ),
        ):
            assert refused(call, request) == (400, "ModelArts.6309"), request


@pytest.fixture(scope="module")
def stopped(client: Any) -> Iterator[Any]:
    made = create(client, "at-rest", description="before", duration=HOUR_MS)
    client.stop_notebook(sdk.StopNotebookRequest(id=made.id))
    yield wait_until(client, made.id, "STOPPED")
    delete(client, made.id)


class TestWhatIsStopped:
    """Everything that needs no JupyterLab under way."""

    def test_it_is_found_by_every_filter_of_the_lists(
        self, remote: Remote, client: Any, stopped: Any
    ) -> None:
        matching = {
            "name": "REST",
            "description": "BEF",
            "status": "STOPPED",
            "flavor": FLAVOR,
            "image_id": stopped.image.id,
            "swr_path": stopped.image.swr_path,
            "id": stopped.id,
            "owner": stopped.user.id,
            "username": remote.project.user,
            "pool_id": remote.project.pool("public"),
            "pool_name": "public",
            "workspace_id": "0",
            "feature": "NOTEBOOK",
            "sort_key": "name,create_at",
            "sort_dir": "ASC",
        }
        others = {
            "name": "elsewhere", "description": "x", "status": "ERROR",
            "flavor": "modelarts.vm.cpu.2u", "image_id": UNKNOWN_ID, "swr_path": "local/x:1",
            "id": UNKNOWN_ID, "owner": "f" * 32, "username": "nobody", "pool_id": "none",
            "pool_name": "none", "feature": "DEFAULT", "tags": "a|b",
        }  # fmt: skip

        for call, request in (
            (client.list_notebooks, sdk.ListNotebooksRequest),
            (client.list_all_notebooks, sdk.ListAllNotebooksRequest),
        ):
            found = call(request(**matching))
            assert [one.id for one in found.data] == [stopped.id]
            assert (found.current, found.pages, found.size, found.total) == (0, 1, 1, 1)
            for name, value in others.items():
                assert call(request(**{name: value})).total == 0, name

    def test_name_description_flavor_and_size_are_changed(self, client: Any, stopped: Any) -> None:
        change = sdk.NotebookUpdateRequest(
            name="renamed", description="after", flavor="modelarts.vm.cpu.2u", storage_new_size=60
        )
        changed = client.update_notebook(sdk.UpdateNotebookRequest(id=stopped.id, body=change))

        assert (changed.name, changed.description) == ("renamed", "after")
        assert (changed.flavor, changed.volume.capacity) == ("modelarts.vm.cpu.2u", 60)
        back = sdk.NotebookUpdateRequest(name="at-rest", description="before", flavor=FLAVOR)
        client.update_notebook(sdk.UpdateNotebookRequest(id=stopped.id, body=back))
        smaller = sdk.UpdateNotebookRequest(
            id=stopped.id, body=sdk.NotebookUpdateRequest(storage_new_size=59)
        )
        assert refused(client.update_notebook, smaller) == (400, "ModelArts.6331")

    def test_its_flavors_are_those_that_its_pool_holds(self, client: Any, stopped: Any) -> None:
        every = client.list_flavors(sdk.ListFlavorsRequest(category="CPU"))
        fitting = client.show_switchable_flavors(sdk.ShowSwitchableFlavorsRequest(id=stopped.id))

        assert FLAVOR in [flavor.id for flavor in every.data]
        assert [flavor.id for flavor in every.flavors] == [flavor.id for flavor in every.data]
        assert {flavor.id for flavor in fitting.data} <= {flavor.id for flavor in every.data}
        [shown] = [flavor for flavor in fitting.data if flavor.id == FLAVOR]
        assert (shown.vcpus, shown.category) == (1, "CPU")

    def test_its_lease_is_shown_and_not_renewed_while_it_is_stopped(
        self, client: Any, stopped: Any
    ) -> None:
        lease = client.show_lease(sdk.ShowLeaseRequest(id=stopped.id))

        assert (lease.duration, lease.type, lease.enable) == (HOUR_MS, "TIMING", True)
        renew = sdk.RenewLeaseRequest(id=stopped.id, duration=HOUR_MS)
        assert refused(client.renew_lease, renew) == (400, "ModelArts.6327")

    def test_it_is_tagged_and_found_by_its_tags(self, client: Any, stopped: Any) -> None:
        tags = [sdk.TmsTag(key="team", value="vision"), sdk.TmsTag(key="stage", value="try")]
        client.create_notebook_tags(
            sdk.CreateNotebookTagsRequest(
                resource_id=stopped.id, body=sdk.CreateTmsTagsRequest(tags=tags)
            )
        )

        known = client.show_notebook_tags(sdk.ShowNotebookTagsRequest())
        assert {tag.key: tag.values for tag in known.tags} == {"team": ["vision"], "stage": ["try"]}
        found = client.list_notebooks(sdk.ListNotebooksRequest(tags="team|vision,stage|try"))
        assert [one.id for one in found.data] == [stopped.id]
        client.delete_notebook_tags(
            sdk.DeleteNotebookTagsRequest(
                resource_id=stopped.id,
                body=sdk.DeleteTmsTagsRequest(tags=[sdk.TmsTagForDeletion(key="team")]),
            )
        )
        assert [tag.key for tag in show(client, stopped.id).tags] == ["stage"]


class TestLease:
    def test_a_running_ones_lease_is_renewed_by_query_or_by_body(self, client: Any) -> None:
        made = create(client, "leased", lease=sdk.LeaseReq(duration=HOUR_MS, type="idle"))
        up = wait_until(client, made.id, "RUNNING")
        assert (up.lease.type, up.lease.duration) == ("IDLE", HOUR_MS)

        by_body = sdk.RenewLeaseRequest(
            id=made.id, body=sdk.LeaseReq(duration=3 * HOUR_MS, type="IDLE")
        )
        lease = client.renew_lease(by_body)
        assert (lease.type, lease.duration) == ("IDLE", 3 * HOUR_MS)
        assert lease.update_at >= up.lease.update_at
        lease = client.renew_lease(sdk.RenewLeaseRequest(id=made.id, duration=2 * HOUR_MS))
        assert (lease.type, lease.duration) == ("TIMING", 2 * HOUR_MS)
        too_long = sdk.RenewLeaseRequest(id=made.id, duration=259_200_001)
        assert refused(client.renew_lease, too_long) == (400, "ModelArts.6349")
        delete(client, made.id)

    def test_what_the_keeper_asks_is_no_use_of_a_notebook_and_all_else_is(
        self, client: Any
    ) -> None:
        made = create(client, "watched", lease=sdk.LeaseReq(duration=HOUR_MS, type="IDLE"))
        browser = Browser(wait_until(client, made.id, "RUNNING"))
        kernel = browser.api("POST", "kernels", json={"name": "python3"})
        browser.run(kernel["id"], "1")

        def last_activity() -> str:
            return str(browser.api("GET", "status?no_track_activity=1")["last_activity"])

        before = last_activity()
        [shown] = browser.api("GET", "kernels?no_track_activity=1")
        assert shown["execution_state"] == "idle"
        assert last_activity() == before
        browser.api("GET", "contents")
        assert last_activity() > before
        browser.close()
        delete(client, made.id)


class TestImages:
    def test_an_environment_of_the_server_is_registered_grouped_used_and_forgotten(
        self, remote: Remote, client: Any
    ) -> None:
        [engine, *_] = remote.project.get("/job/ai-engines")["engines"]
        path = f"local/{engine['engine_name']}:{engine['engine_version']}".lower()
        body = sdk.ImageRegRequest(swr_path=path, service_type="DEV", description="mine")
        registered = client.register_image(sdk.RegisterImageRequest(body=body))
        request = sdk.RegisterImageRequest(body=body)
        assert refused(client.register_image, request) == (400, "ModelArts.6737")

        assert (registered.swr_path, registered.type) == (path, "DEDICATED")
        shown = client.show_image(sdk.ShowImageRequest(id=registered.id))
        assert shown.status == "ACTIVE"
        listed = client.list_image(sdk.ListImageRequest(type="DEDICATED")).data
        assert [image.id for image in listed] == [registered.id]
        groups = client.list_image_group(sdk.ListImageGroupRequest()).data
        assert {group.name: group.version_count for group in groups} == {
            "jupyterlab": 1,
            path.split("/")[1].split(":")[0]: 1,
        }
        made = create(client, "of-mine", image_id=registered.id)
        assert wait_until(client, made.id, "RUNNING").image.id == registered.id
        in_use = sdk.DeleteImageRequest(id=registered.id, body=sdk.DeleteImageRequestBody())
        assert refused(client.delete_image, in_use)[0] == 400
        delete(client, made.id)
        client.delete_image(in_use)
        gone = sdk.ShowImageRequest(id=registered.id)
        assert refused(client.show_image, gone) == (400, "ModelArts.6797")

    def test_an_environment_of_the_operator_without_jupyterlab_fails_with_the_reason(
        self, remote: Remote, client: Any
    ) -> None:
        folder = remote.data / "environments" / "bare-1.0"
        make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(make, check=True)  # noqa: S603
        body = sdk.ImageRegRequest(swr_path="local/bare:1.0")
        image = client.register_image(sdk.RegisterImageRequest(body=body))

        made = create(client, "bare", image_id=image.id)

        def failed() -> Any | None:
            shown = show(client, made.id)
            return shown if shown.status == "CREATE_FAILED" else None

        reason = wait_for(failed).fail_reason
        assert f"{folder}/bin/python has no JupyterLab" in reason
        assert counted(remote)["Failed"] == 1
        delete(client, made.id)
        gone = sdk.DeleteImageRequest(id=image.id, body=sdk.DeleteImageRequestBody())
        client.delete_image(gone)

    def test_what_is_not_on_the_server_is_not_registered(self, client: Any) -> None:
        body = sdk.ImageRegRequest(swr_path="library/cuda:12")

        request = sdk.RegisterImageRequest(body=body)
        assert refused(client.register_image, request) == (400, "ModelArts.6771")


@pytest.fixture
def wheel_url(tmp_path: Path) -> Iterator[str]:
    """Where pip can fetch a package called `small` from."""
    package(tmp_path, "small")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/small-0.0.1-py3-none-any.whl"
        server.shutdown()
        thread.join()


class TestOwnPackages:
    IMPORT = "import small, sys; print(small.__file__.startswith(sys.prefix))"

    def test_what_a_user_installs_is_the_notebooks_own_and_is_saved_as_an_image(
        self, remote: Remote, client: Any, wheel_url: str
    ) -> None:
        pytest.importorskip("pip")
        made, plain = create(client, "installing"), create(client, "plain")
        browser = Browser(wait_until(client, made.id, "RUNNING"))
        kernel = browser.api("POST", "kernels", json={"name": "python3"})
        told = browser.run(kernel["id"], f"!pip install --no-index {wheel_url}")
        assert "Successfully installed small-0.0.1" in told
        assert browser.run(kernel["id"], self.IMPORT) == "True\n"
        terminal = browser.in_terminal(f"pip list | grep small; echo 'en''d {made.id}'", "end")
        assert "small" in terminal
        body = sdk.ImageCreateReq(name="with-small", namespace="team", tag="1", description="s")

        saved = client.create_image(sdk.CreateImageRequest(id=made.id, body=body))

        assert (saved.swr_path, saved.origin, saved.status) == (
            "team/with-small:1", "IMAGE_SAVE", "ACTIVE",
        )  # fmt: skip
        browser.close()
        delete(client, made.id)
        other = create(client, "of-the-image", image_id=saved.id)
        up = wait_until(client, other.id, "RUNNING")
        assert up.image.swr_path == "team/with-small:1"
        for notebook, is_there in ((up, True), (wait_until(client, plain.id, "RUNNING"), False)):
            browser = Browser(notebook)
            kernel = browser.api("POST", "kernels", json={"name": "python3"})
            look = "import importlib.util as u; print(u.find_spec('small') is not None)"
            assert browser.run(kernel["id"], look) == f"{is_there}\n"
            browser.close()
            delete(client, notebook.id)
        client.delete_image(
            sdk.DeleteImageRequest(id=saved.id, body=sdk.DeleteImageRequestBody(is_force=True))
        )


class TestRestart:
    def test_a_notebook_goes_on_over_a_restart_of_the_server(self, tmp_path: Path) -> None:
        server = ServerProcess(tmp_path)
        try:
            url = server.wait_until_ready()
            remote = connect(server, url)
            client = client_of(remote)
            made = create(client, "lasting")
            up = wait_until(client, made.id, "RUNNING")
            browser = Browser(up)
            kernel = browser.api("POST", "kernels", json={"name": "python3"})
            assert browser.run(kernel["id"], "kept = 41") == ""
            browser.close()
            server.kill()

            port = url.rpartition(":")[2]
            server = ServerProcess(tmp_path, "--port", port, name="again")
            assert server.wait_until_ready() == url
            assert show(client, made.id).status == "RUNNING"
            browser = Browser(up)
            assert browser.run(kernel["id"], "print(kept + 1)") == "42\n"
            browser.close()
            delete(client, made.id)
            remote.project.http.close()
            server.stop()
        finally:
            server.kill()
            end_processes_below(server.data / "jobs")
