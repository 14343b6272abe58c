"""What passes the proxy to a notebook, and what is kept out."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from muster.domain.permission import Role
from tests.api.jupyter import StandIn, bring_up, create, delete_all, standing_in
from tests.api.people import Person, people_of
from tests.api.platform import Platform, Project


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def developer(platform: Platform) -> Iterator[Person]:
    with people_of(platform) as add:
        yield add("notebook-developer", Role.DEVELOPER)


@pytest.fixture(autouse=True)
def _nothing_is_left(platform: Platform) -> Iterator[None]:
    yield
    delete_all(platform.project)


class TestOpening:
    """What passes the proxy: `stand_in` remembers what has reached it."""

    @contextmanager
    def browser(self, platform: Platform) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=platform.url, trust_env=False) as browser:
            yield browser

    def test_the_token_becomes_a_cookie_and_never_reaches_the_program(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        up = bring_up(platform, made, stand_in)
        base = f"/notebooks/{made['id']}"

        with self.browser(platform) as browser:
            assert browser.get(f"{base}/lab").status_code == 401
            page = browser.get(
                f"{base}/lab?token={up['token']}&x=1", headers={"Accept": "text/html"}
            )
            assert page.status_code == 302
            assert page.headers["location"] == f"{base}/lab?x=1"
            cookie = page.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert f"Path={base}/" in cookie
            assert browser.get(page.headers["location"]).json() == {"asked": f"{base}/lab"}
        [(method, target, headers)] = stand_in.seen
        assert (method, target) == ("GET", f"{base}/lab?x=1")
        assert headers["authorization"] == f"token {up['token']}"
        assert "cookie" not in headers

    def test_it_opens_by_any_of_its_own_credentials(
        self, platform: Platform, project: Project, stand_in: StandIn
    ) -> None:
        made = create(project)
        token = bring_up(platform, made, stand_in)["token"]
        path = f"/notebooks/{made['id']}/api/contents"

        with self.browser(platform) as browser:
            for headers in (
                {"Authorization": f"token {token}"},
                {"Authorization": f"Bearer {token}"},
                {"Cookie": f"muster-notebook={token}"},
                {"X-Auth-Token": project.http.headers["X-Auth-Token"]},
            ):
                assert browser.get(path, headers=headers).status_code == 200, headers
            assert browser.get(f"{path}?token={token}").status_code == 200
        assert "x-auth-token" not in stand_in.seen[3][2]
        assert all("token" not in target for _, target, _ in stand_in.seen)

    def test_whoever_may_not_is_kept_out(
        self,
        platform: Platform,
        project: Project,
        other: Project,
        developer: Person,
        stand_in: StandIn,
    ) -> None:
        made = create(project)
        mine = bring_up(platform, made, stand_in)["token"]
        path = f"/notebooks/{made['id']}/lab"

        with self.browser(platform) as browser:
            by_developer = {"X-Auth-Token": developer.http.headers["X-Auth-Token"]}
            assert browser.get(path, headers=by_developer).status_code == 403
            by_other = {"X-Auth-Token": other.http.headers["X-Auth-Token"]}
            assert browser.get(path, headers=by_other).status_code == 404
            assert browser.get(f"{path}?token={'0' * 48}").status_code == 403
            cookie = {"Cookie": "muster-notebook=wrong"}
            assert browser.get(path, headers=cookie).status_code == 403
            unknown = "/notebooks/7f0f9f26-6d1c-4f4c-a0d2-5a3e6c1f1d11/lab"
            assert browser.get(f"{unknown}?token={mine}").status_code == 404
            from_elsewhere = {
                "Cookie": f"muster-notebook={mine}", "Origin": "http://evil.example",
            }  # fmt: skip
            assert browser.post(path, headers=from_elsewhere).status_code == 403
            own = from_elsewhere | {"Origin": platform.url}
            assert browser.post(path, headers=own).status_code == 200
        assert [method for method, _, _ in stand_in.seen] == ["POST"]

    def test_one_that_does_not_run_says_so(self, platform: Platform, project: Project) -> None:
        made = create(project)

        with self.browser(platform) as browser:
            reply = browser.get(f"/notebooks/{made['id']}/lab?token={made['token']}")
        assert reply.status_code == 503
        assert "is CREATING, not RUNNING" in reply.text
