"""Users in every role, and requests in their names."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx

from muster.domain.permission import Role
from muster.operations import identity
from muster.wire.signature import sign_headers
from tests.api.platform import START_MS, Platform, Project, log_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user of the first project, logged in."""

    name: str
    id: str
    project: Project

    @property
    def http(self) -> httpx.Client:
        return self.project.http

    def v1(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.http.request(method, f"{self.project.v1}{path}", **more)

    def v2(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.http.request(method, f"{self.project.v2}{path}", **more)


def add_person(
    platform: Platform, name: str, role: Role, *, may_prioritise: bool = False
) -> Person:
    """Somebody new in the first project."""

    async def create() -> tuple[identity.NewUser, tuple[str, str]]:
        ident = platform.server.identity
        made = await identity.create_user(
            ident, name, platform.project.name, role=role, may_prioritise=may_prioritise
        )
        return made, await identity.create_key(ident, name, now_ms=platform.clock())

    made, (access_key, secret_key) = platform.run(create())
    project = log_in(
        platform.url, platform.project.id, platform.project.name, name, made.password,
        access_key, secret_key,
    )  # fmt: skip
    return Person(name=name, id=made.member.id, project=project)


AddPerson = Callable[..., Person]


@contextmanager
def people_of(platform: Platform) -> Iterator[AddPerson]:
    """`add_person` on a platform; everybody is logged out at the end."""
    with ExitStack() as opened:

        def add(name: str, role: Role, *, may_prioritise: bool = False) -> Person:
            person = add_person(platform, name, role, may_prioritise=may_prioritise)
            opened.enter_context(closing(person.http))
            return person

        yield add


def set_role(
    platform: Platform,
    person: Person,
    role: Role | None,
    *,
    workspace: str | None = None,
    may_prioritise: bool | None = None,
) -> None:
    """As the command line does it; None takes the role away."""

    async def change() -> None:
        ident, project_name = platform.server.identity, platform.project.name
        if role is None:
            await identity.remove_role(
                ident, person.name, project_name=project_name, workspace=workspace
            )
        else:
            await identity.set_role(
                ident,
                person.name,
                role,
                project_name=project_name,
                workspace=workspace,
                may_prioritise=may_prioritise,
            )
        platform.server.forget_logins()

    platform.run(change())


def add_workspace(project: Project, name: str, **more: Any) -> str:
    """The id of a new workspace that the project's first user owns."""
    reply = project.http.post(f"{project.v1}/workspaces", json={"name": name, **more})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["id"])


def signed_request(
    project: Project,
    path: str,
    *,
    method: str = "GET",
    content: bytes = b"",
    query: str = "",
    at_ms: int = START_MS,
    keys: tuple[str, str] | None = None,
    headers: dict[str, str] | None = None,
    change: dict[str, str] | None = None,
    project_id: str | None = "",
    signs: bytes | None = None,
) -> httpx.Response:
    """A signed request; `headers` are signed with it, `change` sets some after the signing.

    `signs` is the body that the signature is for, where that is another than what is sent.
    """
    access_key, secret_key = keys or (project.access_key, project.secret_key)
    sent = {"content-type": "application/json", **(headers or {})}
    sent["host"] = project.http.base_url.netloc.decode()
    if project_id is not None:
        sent["x-project-id"] = project_id or project.id
    sent |= sign_headers(
        access_key,
        secret_key,
        method=method,
        raw_path=path,
        query=query,
        headers=sent,
        payload_hash=sha256(content if signs is None else signs).hexdigest(),
        now=datetime.fromtimestamp(at_ms / 1000, UTC),
    )
    url = path + (f"?{query}" if query else "")
    with httpx.Client(base_url=project.http.base_url) as client:
        return client.request(method, url, headers=sent | (change or {}), content=content)
