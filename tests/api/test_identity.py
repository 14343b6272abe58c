"""Logging in over /v3, and who may call what: tokens and signatures."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from muster.store.transaction import Transaction
from tests.api import refusals
from tests.api.people import signed_request
from tests.api.platform import Platform, Project, login_body, wait_until

TOKENS = "/v3/auth/tokens"
DAY_MS = 24 * 3_600_000
TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")


@pytest.fixture(scope="module")
def anybody(platform: Platform) -> Iterator[httpx.Client]:
    """A client that has not logged in."""
    with httpx.Client(base_url=platform.url) as client:
        yield client


def log_in(client: httpx.Client, body: object, query: str = "") -> httpx.Response:
    return client.post(f"{TOKENS}{query}", json=body)


def with_scope(project: Project, scope: object) -> dict[str, Any]:
    body = login_body(project.user, project.password)
    body["auth"]["scope"] = scope
    return body


def get_jobs(client: httpx.Client, project: Project, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(f"{project.v1}/training-jobs", headers=named)


class TestVersions:
    def test_the_root_lists_one_version_of_identity(self, anybody: httpx.Client) -> None:
        reply = anybody.get("/")

        assert reply.status_code == 300
        [version] = reply.json()["versions"]["values"]
        assert version["id"].startswith("v3.")
        assert version["status"] == "stable"
        assert version["links"] == [{"rel": "self", "href": f"{anybody.base_url}/v3/"}]
        assert version["media-types"]

    @pytest.mark.parametrize("path", ["/v3", "/v3/"])
    def test_its_document_is_the_same(self, anybody: httpx.Client, path: str) -> None:
        reply = anybody.get(path)

        assert reply.status_code == 200
        assert reply.json() == {"version": anybody.get("/").json()["versions"]["values"][0]}

    def test_links_follow_the_host_that_was_asked(self, anybody: httpx.Client) -> None:
        reply = anybody.get("/v3", headers={"Host": "muster.example:8443"})

        assert reply.json()["version"]["links"][0]["href"] == "http://muster.example:8443/v3/"


class TestLogin:
    def test_the_answer_has_exactly_the_documented_fields(
        self, anybody: httpx.Client, project: Project
    ) -> None:
        reply = log_in(anybody, login_body(project.user, project.password, project.id))

        assert reply.status_code == 201
        assert len(reply.headers["X-Subject-Token"]) > 40
        assert set(reply.json()) == {"token"}
        token = reply.json()["token"]
        assert set(token) == {
            "methods", "user", "project", "roles", "catalog", "issued_at", "expires_at",
        }  # fmt: skip
        assert token["methods"] == ["password"]
        assert set(token["user"]) == {"id", "name", "domain", "password_expires_at"}
        assert token["user"]["name"] == project.user
        assert set(token["project"]) == {"id", "name", "domain"}
        assert (token["project"]["id"], token["project"]["name"]) == (project.id, "default")
        assert token["project"]["domain"] == token["user"]["domain"]
        assert token["roles"] == [{"id": "administrator", "name": "administrator"}]

    def test_a_token_is_valid_for_a_day(self, anybody: httpx.Client, project: Project) -> None:
        token = log_in(anybody, login_body(project.user, project.password)).json()["token"]

        assert TIMESTAMP.fullmatch(token["issued_at"])
        assert TIMESTAMP.fullmatch(token["expires_at"])
        life = datetime.fromisoformat(token["expires_at"]) - datetime.fromisoformat(
            token["issued_at"]
        )
        assert life == timedelta(hours=24)

    def test_the_catalog_has_what_each_client_looks_for(
        self, anybody: httpx.Client, project: Project
    ) -> None:
        token = log_in(anybody, login_body(project.user, project.password)).json()["token"]

        urls = {}
        for service in token["catalog"]:
            assert set(service) == {"type", "name", "id", "endpoints"}
            assert [e["interface"] for e in service["endpoints"]] == ["public", "internal", "admin"]
            for endpoint in service["endpoints"]:
                assert set(endpoint) == {"id", "interface", "region", "region_id", "url"}
                urls[service["type"]] = endpoint["url"]
        base = str(anybody.base_url)
        assert urls == {
            "identity": f"{base}/v3",
            "modelarts": base,
            "modelartsv1": f"{base}/v1/{project.id}",
            "modelartsv2": f"{base}/v2/{project.id}",
        }

    def test_nocatalog_leaves_it_out(self, anybody: httpx.Client, project: Project) -> None:
        body = login_body(project.user, project.password, project.id)

        assert "catalog" not in log_in(anybody, body, "?nocatalog").json()["token"]

    def test_every_way_to_name_user_and_project_works(
        self, anybody: httpx.Client, project: Project
    ) -> None:
        token = log_in(anybody, login_body(project.user, project.password)).json()["token"]
        account = token["user"]["domain"]
        by_id = {"id": token["user"]["id"], "password": project.password}
        by_name = {"name": project.user, "password": project.password}
        users = [
            by_id, by_name | {"domain": {"id": account["id"]}},
            by_name | {"domain": {"name": account["name"]}},
        ]  # fmt: skip
        scopes: list[object] = [
            None,
            {"project": {"id": project.id}},
            {"project": {"name": "default"}},
            {"project": {"name": "default", "domain": {"name": account["name"]}}},
            {"project": {"name": "default", "domain": {"id": account["id"]}}},
        ]
        for user in users:
            for scope in scopes:
                body: dict[str, Any] = login_body("", "")
                body["auth"]["identity"]["password"]["user"] = user
                body["auth"] |= {"scope": scope} if scope else {}

                reply = log_in(anybody, body)

                assert reply.status_code == 201, reply.text
                assert reply.json()["token"]["project"]["id"] == project.id

    def test_a_token_logs_in_too(self, anybody: httpx.Client, project: Project) -> None:
        value = project.http.headers["X-Auth-Token"]
        body = {
            "auth": {
                "identity": {"methods": ["token"], "token": {"id": value}},
                "scope": {"project": {"id": project.id}},
            }
        }

        reply = log_in(anybody, body)

        assert reply.status_code == 201
        assert reply.json()["token"]["methods"] == ["token"]
        assert get_jobs(anybody, project, x_auth_token=reply.headers["X-Subject-Token"]).is_success

    @pytest.mark.parametrize("scope", ["unscoped", {"domain": {"name": "muster"}}, {}])
    def test_a_token_for_no_project_opens_no_project(
        self, anybody: httpx.Client, project: Project, scope: object
    ) -> None:
        reply = log_in(anybody, with_scope(project, scope))

        assert reply.status_code == 201
        assert "project" not in reply.json()["token"]
        assert "catalog" not in reply.json()["token"]
        value = reply.headers["X-Subject-Token"]
        refusals.v1(get_jobs(anybody, project, x_auth_token=value), 401, "ModelArts.0212")

    @pytest.mark.parametrize(
        ("user", "password", "account"),
        [
            ("admin", "wrong", "muster"),
            ("nobody", "wrong", "muster"),
            ("admin", None, "elsewhere"),
            ("admin", "", "muster"),
            ("", "", ""),
            ("a\0b", "\0", "muster"),
            ("admin", "x" * 100_000, "muster"),
        ],
    )
    def test_wrong_credentials_are_refused_without_saying_which(
        self,
        anybody: httpx.Client,
        project: Project,
        user: str,
        password: str | None,
        account: str,
    ) -> None:
        body = login_body(user, project.password if password is None else password)
        body["auth"]["identity"]["password"]["user"]["domain"] = {"name": account}

        reply = log_in(anybody, body)

        assert refusals.keystone(reply, 401) == "The user name, domain or password is wrong."
        assert "x-subject-token" not in reply.headers

    def test_a_project_of_others_is_refused_like_an_unknown_one(
        self, anybody: httpx.Client, project: Project, other: Project
    ) -> None:
        for scope in (
            {"project": {"id": other.id}},
            {"project": {"name": "other"}},
            {"project": {"id": "f" * 32}},
            {"project": {"name": "default", "domain": {"name": "elsewhere"}}},
        ):
            refusals.keystone(log_in(anybody, with_scope(project, scope)), 401)

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({}, "auth is missing; it must be an object."),
            ([], "The body is []; it must be an object."),
            ({"auth": {}}, "auth.identity is missing; it must be an object."),
            ({"auth": {"identity": {}}}, "auth.identity.methods is missing; it must be a list."),
            (
                {"auth": {"identity": {"methods": "password"}}},
                'auth.identity.methods is "password"; it must be a list.',
            ),
            ({"auth": {"identity": {"methods": []}}}, "it must be ['password'] or ['token']"),
            ({"auth": {"identity": {"methods": ["password"]}}}, "['password'] or ['token']"),
            (
                {"auth": {"identity": {"methods": ["totp"], "totp": {}}}},
                "auth.identity.methods is ['totp']",
            ),
            (
                {"auth": {"identity": {"methods": ["password"], "password": {"user": {}}}}},
                "auth.identity.password.user.password is missing; it must be text.",
            ),
        ],
    )
    def test_a_body_that_makes_no_sense_is_refused(
        self, anybody: httpx.Client, body: object, says: str
    ) -> None:
        assert says in refusals.keystone(log_in(anybody, body), 400)

    def test_a_password_of_the_wrong_type_is_not_shown(self, anybody: httpx.Client) -> None:
        body = login_body("admin", "")
        body["auth"]["identity"]["password"]["user"]["password"] = 1234567

        message = refusals.keystone(log_in(anybody, body), 400)

        assert message == "auth.identity.password.user.password must be text."

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"\0", b"[" * 100_000])
    def test_a_body_that_is_no_json_is_refused(self, anybody: httpx.Client, content: bytes) -> None:
        refusals.keystone(anybody.post(TOKENS, content=content), 400)


class TestTokens:
    @pytest.fixture
    def token(self, anybody: httpx.Client, project: Project) -> str:
        """A token of its own, so that it may be revoked."""
        body = {
            "auth": {
                "identity": {
                    "methods": ["token"],
                    "token": {"id": project.http.headers["X-Auth-Token"]},
                }
            }
        }
        return log_in(anybody, body).headers["X-Subject-Token"]

    def test_it_is_validated_by_its_owner(
        self, project: Project, token: str, other: Project
    ) -> None:
        shown = project.http.get(TOKENS, headers={"X-Subject-Token": token})

        assert shown.status_code == 200
        assert shown.headers["X-Subject-Token"] == token
        assert shown.json()["token"]["project"]["id"] == project.id
        refusals.keystone(other.http.get(TOKENS, headers={"X-Subject-Token": token}), 404)

    def test_an_unknown_one_is_not_found(self, project: Project) -> None:
        for headers in ({}, {"X-Subject-Token": "nonsense"}):
            refusals.keystone(project.http.get(TOKENS, headers=headers), 404)
            refusals.keystone(project.http.delete(TOKENS, headers=headers), 404)

    def test_a_revoked_one_opens_nothing_any_more(
        self, anybody: httpx.Client, project: Project, token: str
    ) -> None:
        assert get_jobs(anybody, project, x_auth_token=token).status_code == 200

        revoked = anybody.delete(TOKENS, headers={"X-Auth-Token": token, "X-Subject-Token": token})

        assert (revoked.status_code, revoked.content) == (204, b"")
        reply = get_jobs(anybody, project, x_auth_token=token)
        refusals.v1(reply, 401, "ModelArts.0203")

    def test_nobody_revokes_the_token_of_another(
        self, anybody: httpx.Client, project: Project, other: Project, token: str
    ) -> None:
        refusals.keystone(other.http.delete(TOKENS, headers={"X-Subject-Token": token}), 404)

        assert get_jobs(anybody, project, x_auth_token=token).status_code == 200

    def test_an_expired_one_is_told_apart(
        self, platform: Platform, anybody: httpx.Client, project: Project, token: str
    ) -> None:
        platform.clock.now_ms += DAY_MS

        try:
            reply = get_jobs(anybody, project, x_auth_token=token)
            refusals.v1(reply, 401, "ModelArts.0202")
            pool = anybody.get(f"{project.v2}/pools", headers={"X-Auth-Token": token})
            refusals.modern(pool, 401, "ModelArts.50001000")
        finally:
            platform.clock.now_ms -= DAY_MS

    def test_catalog_and_projects_are_the_callers(self, project: Project, other: Project) -> None:
        assert {s["type"] for s in project.http.get("/v3/auth/catalog").json()["catalog"]} == {
            "identity", "modelarts", "modelartsv1", "modelartsv2",
        }  # fmt: skip
        for path in ("/v3/auth/projects", "/v3/projects"):
            [own] = other.http.get(path).json()["projects"]
            assert (own["id"], own["name"]) == (other.id, "other")
        assert other.http.get("/v3/projects?name=default").json()["projects"] == []
        assert [p["id"] for p in project.http.get("/v3/projects?name=default").json()["projects"]
                ] == [project.id]  # fmt: skip
        [account] = project.http.get("/v3/auth/domains").json()["domains"]
        assert set(account) == {"id", "name"}

    @pytest.mark.parametrize(
        "path",
        [TOKENS, "/v3/auth/catalog", "/v3/auth/projects", "/v3/projects", "/v3/auth/domains"],
    )
    def test_they_need_a_login(self, anybody: httpx.Client, path: str) -> None:
        refusals.keystone(anybody.get(path), 401)


class TestWhoMayCall:
    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({}, "ModelArts.0205"),
            ({"X-Auth-Token": "nonsense"}, "ModelArts.0203"),
            ({"X-Auth-Token": ""}, "ModelArts.0203"),
            ({"X-Auth-Token": "x" * 10_000}, "ModelArts.0203"),
            ({"X-Auth-Token": b"\xff\xfe"}, "ModelArts.0203"),
            ({"Authorization": "Bearer x"}, "ModelArts.0205"),
            ({"Authorization": "Basic x"}, "ModelArts.0205"),
            ({"Authorization": ""}, "ModelArts.0205"),
            ({"Authorization": "SDK-HMAC-SHA256"}, "ModelArts.0206"),
            ({"Authorization": "SDK-HMAC-SHA256 Access=x"}, "ModelArts.0206"),
            ({"Authorization": "SDK-HMAC-SM3 Access=x, SignedHeaders=host, Signature=1"},
             "ModelArts.0206"),
            ({"Authorization": "V11-HMAC-SHA256 Credential=x/20200101/r/s"}, "ModelArts.0206"),
            ({"Authorization": "SDK-HMAC-SHA256 Credential=x/20200101//s/sdk_request,"
              " SignedHeaders=host;x-sdk-date, Signature=" + "0" * 64}, "ModelArts.0206"),
        ],
    )  # fmt: skip
    def test_nobody_without_a_login(
        self, anybody: httpx.Client, project: Project, headers: dict[str, Any], code: str
    ) -> None:
        v1 = anybody.get(f"{project.v1}/training-jobs", headers=headers)
        v2 = anybody.get(f"{project.v2}/pools", headers=headers)
        own = anybody.get("/objects", headers=headers)

        refusals.v1(v1, 401, code)
        refusals.modern(v2, 401, "ModelArts.50001000")
        refusals.modern(own, 401, code)

    @pytest.mark.parametrize(
        ("path_project", "status"),
        [
            ("f" * 32, 403),
            ("OTHER", 403),
            ("%7Bproject_id%7D", 400),
            ("{project_id}", 400),
            ("default", 400),
            ("..", 404),
            ("%00", 400),
        ],
    )
    def test_nobody_in_another_project(
        self, project: Project, other: Project, path_project: str, status: int
    ) -> None:
        path_project = path_project.replace("OTHER", other.id)

        v1 = project.http.get(f"/v1/{path_project}/training-jobs")
        v2 = project.http.get(f"/v2/{path_project}/pools")

        if status == 404:  # the client itself takes it for a step up
            assert (v1.status_code, v2.status_code) == (404, 404)
            return
        assert path_project.strip("%{}7BDd0")[:4] in refusals.v1(v1, status, "ModelArts.0210")
        refusals.modern(v2, status, "ModelArts.0210" if status == 403 else "ModelArts.50004000")

    def test_a_login_comes_before_everything_but_the_path(
        self, anybody: httpx.Client, project: Project
    ) -> None:
        wrong = anybody.get(f"{project.v1}/training-jobs?per_page=0")
        unknown = anybody.get(f"{project.v1}/nothing")
        method = anybody.patch(f"{project.v1}/training-jobs")

        assert (wrong.status_code, unknown.status_code, method.status_code) == (401, 404, 405)


class TestSignatures:
    """What the SDK itself sends is in the end-to-end tests."""

    def test_a_signed_request_is_let_in(self, platform: Platform, project: Project) -> None:
        for path in (f"{project.v1}/training-jobs", f"{project.v2}/pools", "/objects"):
            reply = signed_request(project, path, at_ms=platform.clock.now_ms)
            assert reply.status_code == 200, reply.text

    def test_the_body_is_signed_with_it(self, platform: Platform, project: Project) -> None:
        content, path = b'{"config_name": "signed"}', f"{project.v1}/training-job-configs"
        at_ms = platform.clock.now_ms

        good = signed_request(project, path, method="POST", content=content, at_ms=at_ms)
        changed = signed_request(project, path, method="POST", content=content, at_ms=at_ms,
                               change={"x-sdk-content-sha256": "0" * 64})  # fmt: skip

        assert good.json() == {"is_success": True}
        assert changed.status_code in (401, 403)

    def test_without_a_project_header_the_path_says_it(
        self, platform: Platform, project: Project, other: Project
    ) -> None:
        at_ms = platform.clock.now_ms
        own = signed_request(project, f"{project.v1}/training-jobs", project_id=None, at_ms=at_ms)
        strange = signed_request(project, f"{other.v1}/training-jobs", project_id=None, at_ms=at_ms)

        assert own.status_code == 200
        refusals.v1(strange, 403, "ModelArts.0210")

    def test_another_project_in_header_or_path_is_refused(
        self, platform: Platform, project: Project, other: Project
    ) -> None:
        at_ms = platform.clock.now_ms
        header = signed_request(
            project, f"{project.v1}/training-jobs", project_id=other.id, at_ms=at_ms
        )
        path = signed_request(project, f"{other.v2}/pools", at_ms=at_ms)

        refusals.v1(header, 403, "ModelArts.0210")
        refusals.modern(path, 403, "ModelArts.0210")

    def test_the_literal_path_segment_is_refused(
        self, platform: Platform, project: Project
    ) -> None:
        reply = signed_request(
            project, "/v2/%7Bproject_id%7D/pools", at_ms=platform.clock.now_ms, project_id=None
        )

        refusals.modern(reply, 400, "ModelArts.50004000")

    def test_wrong_keys_are_refused(self, platform: Platform, project: Project) -> None:
        path, at_ms = f"{project.v1}/training-jobs", platform.clock.now_ms
        for keys in ((project.access_key, "wrong"), ("UNKNOWN", project.secret_key)):
            reply = signed_request(project, path, keys=keys, at_ms=at_ms)
            refusals.v1(reply, 403, "ModelArts.0206")
            assert project.secret_key not in reply.text

    def test_what_was_changed_on_its_way_is_refused(
        self, platform: Platform, project: Project
    ) -> None:
        path, at_ms = f"{project.v1}/training-jobs", platform.clock.now_ms
        for change in ({"content-type": "text/plain"}, {"host": "elsewhere"}):
            reply = signed_request(project, path, change=change, at_ms=at_ms)
            refusals.v1(reply, 403, "ModelArts.0206")

    @pytest.mark.parametrize(("minutes", "is_fresh"), [(-14, True), (14, True), (-16, False),
                                                      (16, False)])  # fmt: skip
    def test_the_clocks_may_be_a_quarter_of_an_hour_apart(
        self, platform: Platform, project: Project, minutes: int, is_fresh: bool
    ) -> None:
        at_ms = platform.clock.now_ms + minutes * 60_000

        reply = signed_request(project, f"{project.v1}/training-jobs", at_ms=at_ms)

        if is_fresh:
            assert reply.status_code == 200
        else:
            refusals.v1(reply, 401, "ModelArts.0208")

    @pytest.mark.parametrize("date", ["", "now", "20231301T000000Z", "2023-11-14T22:13:20Z"])
    def test_a_date_that_is_none_is_refused(
        self, platform: Platform, project: Project, date: str
    ) -> None:
        reply = signed_request(project, f"{project.v1}/training-jobs",
                             at_ms=platform.clock.now_ms, change={"x-sdk-date": date})  # fmt: skip

        refusals.v1(reply, 401, "ModelArts.0206")

    def test_a_signature_wins_over_a_token(self, platform: Platform, project: Project) -> None:
        token = project.http.headers["X-Auth-Token"]

        reply = signed_request(
            project,
            f"{project.v1}/training-jobs",
            keys=("UNKNOWN", "wrong"),
            at_ms=platform.clock.now_ms,
            change={"x-auth-token": token},
        )

        refusals.v1(reply, 403, "ModelArts.0206")

    def test_a_disabled_key_is_refused_soon(self, platform: Platform) -> None:
        project = platform.new_project("disabled-key")
        path = f"{project.v1}/training-jobs"
        assert signed_request(project, path, at_ms=platform.clock.now_ms).status_code == 200

        def disable(tx: Transaction) -> None:
            tx.execute(
                "UPDATE access_key SET is_enabled = 0 WHERE access = ?", (project.access_key,)
            )

        platform.run(platform.server.database.write(disable))

        wait_until(
            lambda: signed_request(project, path, at_ms=platform.clock.now_ms).status_code == 403
        )
        project.http.close()
