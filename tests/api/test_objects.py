"""The object API: bytes in and out, names, and paths that try to climb."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest

from muster.objects.store import LIST_MAX
from tests.api import refusals
from tests.api.platform import Platform, Project

BUCKET = "/objects/things"


@pytest.fixture(scope="module")
def bucket(project: Project) -> str:
    """A bucket of the project with an object in it."""
    assert project.http.put(f"{BUCKET}/first", content=b"first").status_code == 200
    return BUCKET


@pytest.fixture(scope="module")
def folder(platform: Platform) -> Path:
    return platform.data / "objects"


class TestPutAndGet:
    @pytest.mark.parametrize("content", [b"", b"\0", b"text\n", bytes(range(256)) * 100])
    def test_what_is_put_comes_back(self, project: Project, folder: Path, content: bytes) -> None:
        path = f"{BUCKET}/a/b/c.bin"

        stored = project.http.put(path, content=content)

        assert stored.status_code == 200
        assert stored.json() == {
            "bucket": "things",
            "key": "a/b/c.bin",
            "size": len(content),
            "sha256": sha256(content).hexdigest(),
        }
        read = project.http.get(path)
        assert read.content == content
        assert read.headers["content-type"] == "application/octet-stream"
        assert int(read.headers["content-length"]) == len(content)
        assert (folder / "things/a/b/c.bin").read_bytes() == content

    def test_a_large_object_streams_both_ways(self, project: Project) -> None:
        chunk = os.urandom(1 << 20)

        def chunks() -> Iterator[bytes]:
            for _ in range(24):
                yield chunk

        stored = project.http.put(f"{BUCKET}/large", content=chunks())

        digest = sha256()
        with project.http.stream("GET", f"{BUCKET}/large") as reply:
            for part in reply.iter_bytes():
                digest.update(part)
        assert stored.json()["size"] == 24 << 20
        assert stored.json()["sha256"] == digest.hexdigest()
        assert project.http.delete(f"{BUCKET}/large").status_code == 204

    def test_head_tells_size_and_age(self, project: Project, bucket: str) -> None:
        reply = project.http.head(f"{bucket}/first")

        assert (reply.status_code, reply.content) == (200, b"")
        assert reply.headers["content-length"] == "5"
        assert reply.headers["last-modified"].endswith(" GMT")

    def test_a_second_put_replaces_the_first(self, project: Project, bucket: str) -> None:
        project.http.put(f"{bucket}/twice", content=b"one, and longer")
        project.http.put(f"{bucket}/twice", content=b"two")

        assert project.http.get(f"{bucket}/twice").content == b"two"

    def test_a_put_that_breaks_off_leaves_what_was_there(
        self, project: Project, bucket: str, folder: Path
    ) -> None:
        project.http.put(f"{bucket}/kept", content=b"whole")

        def broken() -> Iterator[bytes]:
            yield b"half"
            raise RuntimeError("the client goes away")

        with pytest.raises(RuntimeError):
            project.http.put(f"{bucket}/kept", content=broken())

        assert project.http.get(f"{bucket}/kept").content == b"whole"
        assert project.get("/training-jobs")["is_success"] is True
        for _ in range(100):
            if not list((folder / ".uploads").iterdir()):
                break
            project.get("/training-jobs")
        assert list((folder / ".uploads").iterdir()) == []

    @pytest.mark.parametrize(
        "key",
        ["plain", "with space", "ümläut/名", "a%b", "a+b", "a#b", "a?b", "a&b=c", "'\"", ".h",
         "...", "..a", "a..", "~", "-", "a" * 200],
    )  # fmt: skip
    def test_any_name_that_stays_inside_is_taken(self, project: Project, key: str) -> None:
        path = f"{BUCKET}/names/{quote(key)}"

        stored = project.raw("PUT", path, b"x")

        assert stored.json()["key"] == f"names/{key}"
        assert project.raw("GET", path).content == b"x"
        listed = project.http.get(BUCKET, params={"prefix": f"names/{key}"}).json()["objects"]
        assert f"names/{key}" in [row["key"] for row in listed]
        assert project.raw("DELETE", path).status_code == 204

    def test_a_name_that_ends_with_a_slash_is_no_object(
        self, project: Project, bucket: str
    ) -> None:
        refusals.modern(project.http.put(f"{bucket}/name/", content=b"x"), 404, "ModelArts.2773")

        refusals.modern(project.http.get(f"{bucket}/name"), 404, "ModelArts.2773")
        for call in (project.http.get, project.http.delete):
            refusals.modern(call(f"{bucket}/first/"), 404, "ModelArts.2773")
        assert project.http.get(f"{bucket}/first").content == b"first"
        assert project.http.get(f"{bucket}/").json()["bucket"] == "things"

    def test_a_folder_is_no_object(self, project: Project, bucket: str) -> None:
        project.http.put(f"{bucket}/folder/file", content=b"x")

        refusals.modern(project.http.get(f"{bucket}/folder"), 404, "ModelArts.2773")
        assert project.http.put(f"{bucket}/folder", content=b"x").status_code == 400
        assert project.http.put(f"{bucket}/folder/file/below", content=b"x").status_code == 400
        assert project.http.get(f"{bucket}/folder/file").content == b"x"

    def test_a_deleted_object_is_gone_with_its_empty_folders(
        self, project: Project, bucket: str, folder: Path
    ) -> None:
        project.http.put(f"{bucket}/deep/er/file", content=b"x")

        deleted = project.http.delete(f"{bucket}/deep/er/file")

        assert (deleted.status_code, deleted.content) == (204, b"")
        refusals.modern(project.http.get(f"{bucket}/deep/er/file"), 404, "ModelArts.2773")
        refusals.modern(project.http.delete(f"{bucket}/deep/er/file"), 404, "ModelArts.2773")
        assert not (folder / "things/deep").exists()

    def test_what_is_not_there_is_not_found(self, project: Project, bucket: str) -> None:
        for path in (f"{bucket}/nothing", "/objects/no-such-bucket/nothing"):
            for method in ("GET", "DELETE"):
                reply = project.http.request(method, path)
                refusals.modern(reply, 404, "ModelArts.2773")
            assert project.http.head(path).status_code == 404
        refusals.modern(project.http.get("/objects/no-such-bucket"), 404, "ModelArts.2773")


class TestList:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def filled(cls, project: Project) -> None:
        for key in ("a/1", "a/2", "a/b/3", "ab", "b"):
            project.http.put(f"/objects/listed/{key}", content=key.encode())

    def keys(self, project: Project, **params: str) -> list[str]:
        reply = project.http.get("/objects/listed", params=params)
        assert reply.status_code == 200, reply.text
        assert set(reply.json()) == {"bucket", "prefix", "objects", "is_truncated"}
        for row in reply.json()["objects"]:
            assert set(row) == {"key", "size", "modified"}
            assert row["size"] == len(row["key"])
        return [row["key"] for row in reply.json()["objects"]]

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["a/1", "a/2", "a/b/3", "ab", "b"]),
            ("a", ["a/1", "a/2", "a/b/3", "ab"]),
            ("a/", ["a/1", "a/2", "a/b/3"]),
            ("a/b", ["a/b/3"]),
            ("a/b/3", ["a/b/3"]),
            ("c", []),
            ("b/", []),
            ("A", []),
        ],
    )
    def test_a_prefix_selects_in_key_order(
        self, project: Project, prefix: str, expected: list[str]
    ) -> None:
        assert self.keys(project, prefix=prefix) == expected

    def test_after_begins_behind_a_key(self, project: Project) -> None:
        assert self.keys(project, after="a/2") == ["a/b/3", "ab", "b"]
        assert self.keys(project, after="b") == []
        assert self.keys(project, prefix="a/", after="a/1") == ["a/2", "a/b/3"]

    def test_a_long_list_comes_in_parts(self, project: Project, folder: Path) -> None:
        project.http.put("/objects/many/0000", content=b"")
        for number in range(1, LIST_MAX + 6):
            (folder / "many" / f"{number:04d}").touch()

        first = project.http.get("/objects/many").json()
        last = first["objects"][-1]["key"]
        rest = project.http.get("/objects/many", params={"after": last}).json()

        assert (len(first["objects"]), first["is_truncated"]) == (LIST_MAX, True)
        assert (len(rest["objects"]), rest["is_truncated"]) == (6, False)

    @pytest.mark.parametrize("prefix", ["..", "../", "a/../b", "a/./b", "\0", "..\\"])
    def test_a_prefix_that_climbs_is_refused(self, project: Project, prefix: str) -> None:
        reply = project.http.get("/objects/listed", params={"prefix": prefix})

        refusals.modern(reply, 400, "ModelArts.2791")

    def test_buckets_are_listed(self, project: Project, bucket: str) -> None:
        body = project.http.get("/objects").json()

        assert set(body) == {"buckets"}
        assert {"listed", "things"} <= set(body["buckets"])


class TestClimbing:
    @pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
    @pytest.mark.parametrize(
        "path",
        [
            "/objects/things/../other/x",
            "/objects/things/../../secret.key",
            "/objects/things/a/../../../secret.key",
            "/objects/things/%2e%2e/%2e%2e/secret.key",
            "/objects/things/%2E%2E%2Fsecret.key",
            "/objects/things/..%2f..%2fsecret.key",
            "/objects/things/a%2F..%2F..%2F..%2Fsecret.key",
            "/objects/things/..%5c..%5csecret.key",
            "/objects/things/./first",
            "/objects/things/%2e",
            "/objects/things/a%00b",
            "/objects/things/%00",
            "/objects/../secret.key",
            "/objects/%2e%2e/secret.key",
            "/objects/..%2f..%2f/secret.key",
            "/objects/.uploads/x",
            "/objects/.hidden/x",
            "/objects/%2Fetc/passwd",
            "/objects/%00/x",
            "/objects/a%2Fb/x",
            "/objects/" + "x" * 64 + "/x",
            "/objects/things/" + "x/" * 600,
        ],
    )
    def test_no_path_leads_out_of_a_bucket(
        self, platform: Platform, project: Project, bucket: str, method: str, path: str
    ) -> None:
        secret = (platform.data / "secret.key").read_bytes()

        reply = project.raw(method, path, b"overwritten" if method == "PUT" else b"")

        assert reply.status_code in (400, 404), reply.text
        assert secret not in reply.content
        assert (platform.data / "secret.key").read_bytes() == secret
        assert project.http.get(f"{bucket}/first").content == b"first"

    def test_an_absolute_key_stays_below_its_bucket(self, project: Project, folder: Path) -> None:
        reply = project.raw("PUT", "/objects/things/%2Fetc%2Fmuster-test", b"x")

        assert reply.json()["key"] == "etc/muster-test"
        assert (folder / "things/etc/muster-test").read_bytes() == b"x"
        assert not Path("/etc/muster-test").exists()

    def test_a_link_out_of_the_bucket_is_not_followed(
        self, platform: Platform, project: Project, bucket: str, folder: Path
    ) -> None:
        secret = (platform.data / "secret.key").read_bytes()
        (folder / "things/link").symlink_to(platform.data / "secret.key")
        (folder / "things/out").symlink_to(platform.data)
        try:
            for path in ("link", "out/secret.key", "out/new"):
                for method in ("GET", "PUT", "HEAD", "DELETE"):
                    reply = project.http.request(method, f"{bucket}/{path}", content=b"x")
                    assert reply.status_code in (400, 404), (method, path, reply.text)
                    assert secret not in reply.content
            keys = [row["key"] for row in project.http.get(bucket).json()["objects"]]
            assert not [key for key in keys if key.startswith(("link", "out"))]
        finally:
            for name in ("link", "out"):
                (folder / "things" / name).unlink()
        assert (platform.data / "secret.key").read_bytes() == secret
        assert not (platform.data / "new").exists()

    def test_a_link_to_itself_is_no_object(
        self, project: Project, bucket: str, folder: Path
    ) -> None:
        (folder / "things/loop").symlink_to(folder / "things/loop")
        try:
            assert project.http.get(f"{bucket}/loop").status_code in (400, 404)
        finally:
            (folder / "things/loop").unlink()

    def test_a_name_too_long_for_the_disk_is_refused(self, project: Project, bucket: str) -> None:
        for method in ("GET", "PUT", "DELETE"):
            reply = project.http.request(method, f"{bucket}/{'x' * 300}")
            assert reply.status_code in (400, 404), reply.text


class TestOtherProjects:
    def test_a_bucket_of_another_project_is_as_if_it_were_not_there(
        self, project: Project, other: Project, bucket: str
    ) -> None:
        unknown = "/objects/no-such-bucket"
        for method, path in (("GET", "first"), ("DELETE", "first"), ("GET", "")):
            theirs = other.http.request(method, f"{bucket}/{path}".rstrip("/"))
            nowhere = other.http.request(method, f"{unknown}/{path}".rstrip("/"))
            message = refusals.modern(theirs, 404, "ModelArts.2773")
            expected = refusals.modern(nowhere, 404, "ModelArts.2773")
            assert message == expected.replace("no-such-bucket", "things")
        assert other.http.head(f"{bucket}/first").status_code == 404
        assert other.http.put(f"{bucket}/first", content=b"mine").status_code == 404
        assert project.http.get(f"{bucket}/first").content == b"first"
        assert "things" not in other.http.get("/objects").json()["buckets"]

    def test_each_project_has_its_own_buckets(self, project: Project, other: Project) -> None:
        assert other.http.put("/objects/theirs/x", content=b"x").status_code == 200

        assert other.http.get("/objects").json()["buckets"] == ["theirs"]
        assert project.http.get("/objects/theirs/x").status_code == 404
        assert project.http.put("/objects/theirs/x", content=b"y").status_code == 404
        assert other.http.get("/objects/theirs/x").content == b"x"

    def test_a_folder_put_there_by_hand_is_the_default_projects(
        self, project: Project, other: Project, folder: Path
    ) -> None:
        (folder / "by-hand").mkdir()
        (folder / "by-hand/file").write_bytes(b"x")

        assert project.http.get("/objects/by-hand/file").content == b"x"
        assert other.http.get("/objects/by-hand/file").status_code == 404
        assert other.http.put("/objects/by-hand/file", content=b"y").status_code == 404
