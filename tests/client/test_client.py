import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from muster.client.client import Client
from muster.client.errors import ApiError, ServerUnreachable
from tests.client.fake_api import CREDENTIALS, POOL, PROJECT, RUNNING, FakeApi


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def client(api: FakeApi) -> Client:
    return api.client()


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client(CREDENTIALS, transport=httpx.MockTransport(handler))


def sent(api: FakeApi) -> str:
    request = api.requests[-1]
    return f"{request.method} {request.url.raw_path.decode()}"


def test_a_job_is_submitted_and_listed(api: FakeApi, client: Client) -> None:
    submitted = client.submit_job("train-1", {"worker_server_num": 1}, description="für")

    assert submitted["version_name"] == "V0001"
    listed = client.list_jobs(status=[1, 7], search="train", sort_by="status", order="desc")
    assert [job["job_name"] for job in listed["jobs"]] == ["train-1"]
    assert sent(api) == (
        f"GET /v1/{PROJECT}/training-jobs"
        "?order=desc&search_content=train&sortBy=status&status=1%2C7"
    )


def test_versions_are_added_read_stopped_and_deleted(api: FakeApi, client: Client) -> None:
    job_id = api.add_job("train-1", RUNNING)

    second = client.submit_version(job_id, {"worker_server_num": 2})["version_id"]

    assert client.get_version(job_id, second)["worker_server_num"] == 2
    client.stop_version(job_id, second)
    assert client.list_job_versions(job_id)["versions"][0]["status"] == 9
    client.delete_version(job_id, second)
    assert client.list_job_versions(job_id)["version_count"] == 1
    assert client.list_versions(limit=0, pool_id=POOL)["total_count"] == 1
    client.delete_job(job_id)
    assert client.list_jobs()["job_total_count"] == 0


def test_a_log_is_read_as_bytes_from_an_offset(api: FakeApi, client: Client) -> None:
    job_id = api.add_job("train-1", RUNNING)
    version_id = api.versions[job_id][0]["version_id"]
    assert client.read_log(job_id, version_id, "train-1.0") is None

    api.logs[version_id, "train-1.0"] = b"\xff\x00line\r\n"

    assert client.list_log_files(job_id, version_id) == ["train-1.0"]
    assert client.read_log(job_id, version_id, "train-1.0", offset=1) == b"\x00line\r\n"
    assert client.read_log(job_id, version_id, "train-1.0", offset=8) == b""


def test_pools_are_listed_shown_and_counted(client: Client, api: FakeApi) -> None:
    assert client.list_pools()["items"][0]["metadata"]["name"] == POOL
    assert client.get_pool(POOL)["kind"] == "Pool"
    assert client.pool_statistics(POOL)["statistics"]["items"][0]["status"]["Queue"] == 1
    assert client.list_pool_workloads(POOL, types=["train", "infer"], ascend=True)["total"] == 1
    assert (
        sent(api) == f"GET /v2/{PROJECT}/pools/{POOL}/workloads?ascend=true&type=infer&type=train"
    )


def test_flavors_and_engines_are_listed(client: Client) -> None:
    assert client.list_flavors()["specs"]
    assert client.list_engines()["engines"]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 7])
def test_an_object_comes_back_as_it_went(
    api: FakeApi, client: Client, tmp_path: Path, size: int
) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(b"x" * size)

    client.put_object("project-1", "a b/ü+%2F.bin", file)
    client.get_object("project-1", "a b/ü+%2F.bin", tmp_path / "back.bin")

    assert (tmp_path / "back.bin").read_bytes() == file.read_bytes()
    put = api.requests[0]
    assert put.headers["content-length"] == str(size)
    assert put.headers["x-sdk-content-sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert client.list_objects("project-1", prefix="a b/")["objects"] == [
        {"key": "a b/ü+%2F.bin", "size": size, "modified": 0}
    ]
    client.delete_object("project-1", "a b/ü+%2F.bin")
    assert api.objects == {}


def test_a_download_that_fails_leaves_the_old_file(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "back.bin"
    file.write_bytes(b"old")

    with pytest.raises(ApiError) as caught:
        client.get_object("project-1", "nothing", file)

    assert (caught.value.status, caught.value.code) == (404, "ModelArts.2773")
    assert [entry.name for entry in tmp_path.iterdir()] == ["back.bin"]
    assert file.read_bytes() == b"old"


def test_a_refusal_tells_status_code_message_and_request(api: FakeApi, client: Client) -> None:
    api.refuse_with = (400, "ModelArts.0103", "Job name:train-1 is existed")

    with pytest.raises(ApiError, match="Job name:train-1 is existed") as caught:
        client.submit_job("train-1", {})

    error = caught.value
    assert (error.status, error.code, error.request_id) == (400, "ModelArts.0103", "request-1")


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(401, json={"error": {"code": 401, "message": "No."}}), "No."),
        (httpx.Response(502, text="<html>\nBad   gateway</html>"), "<html> Bad gateway</html>"),
        (httpx.Response(500), "Internal Server Error"),
        (httpx.Response(500, json=[1]), "[1]"),
        (httpx.Response(307, headers={"location": "http://elsewhere"}), "Temporary Redirect"),
    ],
)
def test_other_kinds_of_no_are_told_too(response: httpx.Response, message: str) -> None:
    client = answering(lambda _: response)

    with pytest.raises(ApiError) as caught:
        client.list_pools()

    assert caught.value.message == message
    assert caught.value.status == response.status_code


def test_an_answer_of_another_kind_of_server_is_told() -> None:
    client = answering(lambda _: httpx.Response(200, text="<html>router</html>"))

    with pytest.raises(ApiError, match="not of this API: <html>router</html>"):
        client.list_pools()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError("refused"), ("http://127.0.0.1:8080", "muster serve")),
        (httpx.ConnectTimeout("slow"), ("http://127.0.0.1:8080", "muster serve")),
        (httpx.ReadTimeout("slow"), ("http://127.0.0.1:8080", "has not answered")),
        (httpx.RemoteProtocolError("cut"), ("http://127.0.0.1:8080", "broke off: cut")),
    ],
)
def test_a_server_that_is_not_there_is_told(
    failure: httpx.HTTPError, words: tuple[str, str]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(ServerUnreachable) as caught:
        answering(fail).list_pools()

    assert all(word in caught.value.message for word in words)


def test_nothing_listens_on_a_port_that_is_closed() -> None:
    credentials = CREDENTIALS.__class__(
        url="http://127.0.0.1:1",
        project_id="p",
        access_key="a",
        secret_key="s",  # noqa: S106
    )

    with Client(credentials) as client, pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        client.list_pools()
