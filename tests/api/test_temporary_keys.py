"""Temporary access keys: a token in, a key pair and its security token out, for a while."""

from typing import Any

import httpx
import pytest

from muster.domain.permission import Role
from muster.operations import identity
from tests.api import refusals
from tests.api.people import people_of, set_role, signed_request
from tests.api.platform import Platform, Project, login_body

TEMPORARY = "/v3.0/OS-CREDENTIAL/securitytokens"


def ask(project: Project, token: str | None = None, **more: Any) -> httpx.Response:
    given = {"id": token or project.http.headers["X-Auth-Token"], **more}
    body = {"auth": {"identity": {"methods": ["token"], "token": given}}}
    return httpx.post(project.url + TEMPORARY, json=body)


@pytest.fixture
def credential(project: Project) -> dict[str, str]:
    return dict(ask(project).json()["credential"])


def request(
    platform: Platform, project: Project, credential: dict[str, str], **more: Any
) -> httpx.Response:
    settings: dict[str, Any] = {
        "keys": (credential["access"], credential["secret"]),
        "headers": {"x-security-token": credential["securitytoken"]},
        "at_ms": platform.clock.now_ms,
        **more,
    }
    return signed_request(project, f"{project.v1}/training-jobs", **settings)


def test_the_answer_has_exactly_the_documented_fields(project: Project) -> None:
    reply = ask(project, duration_seconds=21_600)

    assert reply.status_code == 201
    assert set(reply.json()) == {"credential"}
    credential = reply.json()["credential"]
    assert set(credential) == {"access", "secret", "securitytoken", "expires_at"}
    assert credential["expires_at"] == "2023-11-15T04:13:20.000000Z"


def test_it_lasts_fifteen_minutes_unless_asked_otherwise(credential: dict[str, str]) -> None:
    assert credential["expires_at"] == "2023-11-14T22:28:20.000000Z"


def test_signed_requests_work_with_it(
    platform: Platform, project: Project, credential: dict[str, str]
) -> None:
    assert request(platform, project, credential).status_code == 200
    assert request(platform, project, credential, project_id=None).status_code == 200
    keys = (credential["access"], credential["secret"])
    buckets = signed_request(
        project,
        "/objects",
        keys=keys,
        headers={"x-security-token": credential["securitytoken"]},
        project_id=None,
        at_ms=platform.clock.now_ms,
    )
    assert buckets.status_code == 200


def test_it_is_for_its_project_alone(
    platform: Platform, project: Project, other: Project, credential: dict[str, str]
) -> None:
    refusals.v1(request(platform, other, credential), 403, "ModelArts.0210")


def test_without_its_token_it_is_nothing(
    platform: Platform, project: Project, credential: dict[str, str]
) -> None:
    foreign = ask(project).json()["credential"]["securitytoken"]

    missing = request(platform, project, credential, headers={})
    wrong = request(platform, project, credential, headers={"x-security-token": foreign})
    unsigned = request(
        platform,
        project,
        credential,
        headers={},
        change={"x-security-token": credential["securitytoken"]},
    )

    refusals.v1(missing, 401, "ModelArts.0203")
    refusals.v1(wrong, 401, "ModelArts.0203")
    refusals.v1(unsigned, 401, "ModelArts.0206")


def test_the_secret_must_be_right_too(
    platform: Platform, project: Project, credential: dict[str, str]
) -> None:
    wrong = credential | {"secret": "x" * 40}

    refusals.v1(request(platform, project, wrong), 403, "ModelArts.0206")


def test_it_ends_on_time(platform: Platform, project: Project, credential: dict[str, str]) -> None:
    platform.clock.now_ms += 899_999
    try:
        assert request(platform, project, credential).status_code == 200
        platform.clock.now_ms += 1
        refusals.v1(request(platform, project, credential), 401, "ModelArts.0202")
    finally:
        platform.clock.now_ms -= 900_000


def test_it_has_the_role_of_its_user_and_goes_with_that_user(platform: Platform) -> None:
    with people_of(platform) as add_person:
        person = add_person("passing", Role.READER)
        credential = ask(person.project).json()["credential"]
        assert request(platform, person.project, credential).status_code == 200
        posted = request(platform, person.project, credential, method="POST")
        refusals.v1(posted, 403, "ModelArts.0108")

        set_role(platform, person, None)
        refusals.v1(request(platform, person.project, credential), 403, "ModelArts.0210")
        set_role(platform, person, Role.READER)
        assert request(platform, person.project, credential).status_code == 200

        ident = platform.server.identity
        platform.run(identity.set_user_enabled(ident, "passing", is_enabled=False))
        platform.server.forget_logins()
        refusals.v1(request(platform, person.project, credential), 403, "ModelArts.0206")


def test_a_token_without_a_project_gives_one_for_the_default_one(
    platform: Platform, project: Project
) -> None:
    body = login_body(project.user, project.password)
    body["auth"]["scope"] = "unscoped"
    token = httpx.post(f"{platform.url}/v3/auth/tokens", json=body).headers["X-Subject-Token"]

    credential = ask(project, token).json()["credential"]

    assert request(platform, project, credential).status_code == 200


def test_the_token_may_come_in_the_header(platform: Platform, project: Project) -> None:
    body = {"auth": {"identity": {"methods": ["token"]}}}

    reply = project.http.post(TEMPORARY, json=body)

    assert reply.status_code == 201
    assert request(platform, project, reply.json()["credential"]).status_code == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"id": "nonsense"}, 401),
        ({"duration_seconds": 899}, 400),
        ({"duration_seconds": 86_401}, 400),
        ({"duration_seconds": "soon"}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(
    project: Project, given: dict[str, Any], status: int
) -> None:
    body = {"auth": {"identity": {"methods": ["token"], "token": given}}}

    reply = project.http.post(TEMPORARY, json=body)

    message = refusals.keystone(reply, status)
    if status == 400:
        assert "auth.identity.token.duration_seconds is" in message
        assert "from 900 to 86400" in message


def test_other_methods_are_not_there(project: Project) -> None:
    body = {"auth": {"identity": {"methods": ["assume_role"]}}}

    assert "it must be 'token'" in refusals.keystone(project.http.post(TEMPORARY, json=body), 400)


def test_a_token_that_has_expired_gives_none(platform: Platform, project: Project) -> None:
    platform.clock.now_ms += 24 * 3_600_000
    try:
        refusals.keystone(ask(project), 401)
    finally:
        platform.clock.now_ms -= 24 * 3_600_000
