"""From what people type to what the API calls it: names and ids of jobs, versions, pools, ..."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from muster.domain.training import DEFAULT_WORKSPACE_ID

if TYPE_CHECKING:
    from muster.client.client import Client

NAMES_PAGE: Final = 1000

DISPLAY_NAME: Final = "os.modelarts/name"


def everywhere(
    client: "Client", listed: Callable[[str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What a list has in every workspace that the user may enter: the API shows one at a time.

    Args:
        client: of the server.
        listed: what the list has in the workspace of an id.
    """
    there = client.list_workspaces()["workspaces"]
    ids = sorted((one["id"] for one in there), key=lambda id_: id_ != DEFAULT_WORKSPACE_ID)
    return [one for id_ in ids for one in listed(id_)]


def find_workspace(client: "Client", text: str) -> str:
    """The id of the workspace of this name or id."""
    there = client.list_workspaces()["workspaces"]
    for one in there:
        if text in (one["id"], one["name"]):
            return str(one["id"])
    known = ", ".join(one["name"] for one in there)
    raise click.ClickException(f"There is no workspace {text!r}; you may enter {known}.")


def only_one(found: list[dict[str, Any]], text: str, *, kind: str, id_key: str) -> None:
    """Names are unique in a workspace; refuse to guess between several."""
    if len(found) > 1:
        places = ", ".join(f"{one[id_key]} (workspace {one['workspace_id']})" for one in found)
        raise click.ClickException(
            f"More than one {kind} is called {text!r}: {places}. Give the id."
        )


def find_job(client: "Client", text: str) -> dict[str, Any]:
    """The job of this name or id, with all its versions, the newest first."""
    from muster.client.errors import ApiError

    if text.isdecimal():
        try:
            return _with_versions(client, int(text))
        except ApiError as error:
            if error.status != 404:
                raise
    found = everywhere(client, partial(_jobs_named, client, text))
    only_one(found, text, kind="job", id_key="job_id")
    if found:
        return _with_versions(client, found[0]["job_id"])
    raise click.ClickException(f"There is no job {text!r}. `muster job list` shows what there is.")


def _jobs_named(client: "Client", name: str, workspace_id: str) -> list[dict[str, Any]]:
    """The job of this name in a workspace, as a list of one or none."""
    page = 1
    while jobs := client.list_jobs(
        search=name, page=page, per_page=NAMES_PAGE, workspace_id=workspace_id
    )["jobs"]:
        for job in jobs:
            if job["job_name"] == name:
                return [{"job_id": job["job_id"], "workspace_id": workspace_id}]
        if len(jobs) < NAMES_PAGE:
            break
        page += 1
    return []


def _with_versions(client: "Client", job_id: int) -> dict[str, Any]:
    job = client.list_job_versions(job_id)
    job["versions"].sort(key=lambda version: version["version_id"], reverse=True)
    return job


def find_version(job: dict[str, Any], text: str | None) -> dict[str, Any]:
    """The version of a job by id or by name such as V0001; the newest, unless one is named."""
    versions: list[dict[str, Any]] = job["versions"]
    if not versions:
        raise click.ClickException(f"Job {job['job_name']} has no versions.")
    if text is None:
        return versions[0]
    for version in versions:
        if text.upper() == version["version_name"] or text == str(version["version_id"]):
            return version
    known = ", ".join(version["version_name"] for version in versions[:10])
    raise click.ClickException(f"Job {job['job_name']} has no version {text!r}; it has {known}.")


def find_pool(client: "Client", text: str) -> dict[str, Any]:
    """The pool of this id or display name."""
    from muster.client.errors import ApiError

    def listed(workspace_id: str) -> list[dict[str, Any]]:
        pools: list[dict[str, Any]] = client.list_pools(workspace_id=workspace_id)["items"]
        return [pool for pool in pools if text in (pool_id(pool), pool_name(pool))]

    named = everywhere(client, listed)
    if len(named) > 1:
        ids = ", ".join(map(pool_id, named))
        raise click.ClickException(f"More than one pool is called {text!r}: {ids}. Give the id.")
    if named:
        return named[0]
    try:
        return client.get_pool(text)
    except ApiError as error:
        if error.status != 404:
            raise
    raise click.ClickException(
        f"There is no pool {text!r}. `muster pool list` shows what there is."
    )


def pool_id(pool: dict[str, Any]) -> str:
    return str(pool["metadata"]["name"])


def pool_name(pool: dict[str, Any]) -> str:
    return str(pool["metadata"]["labels"].get(DISPLAY_NAME) or pool_id(pool))


def find_flavor(client: "Client", text: str | None) -> dict[str, Any]:
    """The flavor of this code or id; the smallest, unless one is named."""
    flavors: list[dict[str, Any]] = client.list_flavors()["specs"]
    if text is None:
        if not flavors:
            raise click.ClickException("The server offers no flavors; see its inventory.")
        return min(flavors, key=_size)
    for flavor in flavors:
        if text in (flavor["spec_code"], str(flavor["spec_id"])):
            return flavor
    known = ", ".join(flavor["spec_code"] for flavor in sorted(flavors, key=_size))
    raise click.ClickException(f"There is no flavor {text!r}; there are {known}.")


def _size(flavor: dict[str, Any]) -> tuple[bool, float, float, int]:
    has_cards = bool(flavor["gpu_num"] or flavor["gpu_type"])
    return has_cards, float(flavor["core"]), float(flavor["cpu"]), flavor["spec_id"]


def find_engine(client: "Client", text: str | None) -> dict[str, Any]:
    """The AI engine of this id, name or version; a plain Python, unless one is named."""
    engines: list[dict[str, Any]] = client.list_engines()["engines"]
    wanted = (text or "python").casefold()
    for engine in engines:
        names = (str(engine["engine_id"]), engine["engine_name"], engine["engine_version"])
        if wanted in map(str.casefold, names):
            return engine
    if text is None and engines:
        return engines[0]
    known = ", ".join(f"{engine['engine_name']} ({engine['engine_id']})" for engine in engines)
    raise click.ClickException(f"There is no engine {text!r}; there are {known or 'none at all'}.")
