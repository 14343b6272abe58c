"""`muster service`: deploy, list, show, ask, stop, start and delete services."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.connection import connect
from muster.cli.find import everywhere, find_pool, find_workspace, only_one, pool_id
from muster.cli.model import find_model
from muster.cli.output import (
    ask,
    examples,
    lines,
    note,
    print_facts,
    print_json,
    print_table,
    when,
    yes_option,
)

if TYPE_CHECKING:
    from muster.client.client import Client

PAGE: Final = 1000
WAIT_SECONDS: Final = 0.5
COMING_UP: Final = frozenset({"deploying", "waiting"})
EVENTS_SHOWN: Final = 5

json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's answer.")


@click.group()
def service() -> None:
    """Deploy models and ask them.

    A SERVICE is named by its name or its id.
    """


@service.command(
    epilog=examples(
        "muster service deploy digits --model digits:0.0.1",
        "muster service deploy digits --model digits --instances 3 --pool cards --env LEVEL=2",
        "muster service deploy shop --model shop --min 1 --max 8",
        "muster service deploy all --model digits --batch /my-bucket/images/ /my-bucket/answers/",
    )
)
@click.argument("name")
@click.option("--model", "model_text", required=True, metavar="MODEL", help="What it runs.")
@click.option("--instances", type=click.IntRange(1, 128), default=1, show_default=True)
@click.option("--flavor", metavar="CODE", help="Shape of one instance.  [default: the smallest]")
@click.option("--pool", metavar="ID_OR_NAME", help="Where it runs.  [default: the public pool]")
@click.option("--env", "envs", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option("--min", "least", type=click.IntRange(1, 128), help="Instances without load.")
@click.option("--max", "most", type=click.IntRange(1, 128), help="Instances at most, with load.")
@click.option(
    "--batch",
    "places",
    nargs=2,
    metavar="SRC DEST",
    help="Ask about each file of one folder; the answers go to the other.",
)
@click.option("--desc", default="", help="Description.")
@click.option("--workspace", metavar="NAME_OR_ID", help="Where it is.  [default: default]")
@click.option("--no-wait", is_flag=True, help="Do not wait until it answers.")
@json_option
@click.pass_context
def deploy(
    context: click.Context,
    *,
    name: str,
    model_text: str,
    instances: int,
    flavor: str | None,
    pool: str | None,
    envs: Sequence[str],
    least: int | None,
    most: int | None,
    places: tuple[str, str] | None,
    desc: str,
    workspace: str | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Deploy a model, and wait until it answers; exit 1 if it never does.

    With --batch it is asked about every file of a folder, and waited for until all of that is done.
    """
    if places and (most or least):
        raise click.UsageError("--batch has as many instances as --instances says, at any load.")
    with connect(context) as client:
        part: dict[str, Any] = {
            "model_id": find_model(client, model_text)["model_id"],
            "specification": flavor or _smallest_flavor(client),
            "instance_count": instances,
            "envs": _variables(envs),
        }
        more: dict[str, Any] = {"infer_type": "batch" if places else "real-time"}
        if places:
            part["src_path"], part["dest_path"] = places
            part["mapping_type"] = "file"
        if most is not None:
            part["scaling"] = {"min_instances": least or 1, "max_instances": most}
        if pool is not None:
            part["pool_name"] = pool_id(find_pool(client, pool))
        if workspace:
            more["workspace_id"] = find_workspace(client, workspace)
        made = client.deploy_service(name, [part], description=desc, **more)
        shown = client.get_service(made["service_id"])
        passing = COMING_UP | {"running"} if places else COMING_UP
        while not no_wait and shown["status"] in passing:
            time.sleep(WAIT_SECONDS)
            shown = client.get_service(made["service_id"])
    if as_json:
        print_json(shown)
    elif places:
        note(f"{name} is {shown['status']}: {_calls(shown)}; the answers lie under {places[1]}")
    else:
        note(f"{name} is {shown['status']}: {shown['access_address']}")
    if shown["status"] == "failed":
        raise click.ClickException(shown["error_msg"])


def _variables(envs: Sequence[str]) -> dict[str, str]:
    variables = {}
    for env in envs:
        key, equals, value = env.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--env {env!r} must read KEY=VALUE.")
        variables[key] = value
    return variables


def _smallest_flavor(client: "Client") -> str:
    specs = client.list_flavors()["specs"]
    size = min((float(spec["core"]), float(spec["cpu"]), spec["spec_code"]) for spec in specs)
    return str(size[2])


@service.command(
    "list", epilog=examples("muster service list", "muster service list --status failed")
)
@click.option("--search", metavar="TEXT", help="Only services with this in their name.")
@click.option(
    "--status",
    type=click.Choice(["running", "deploying", "concerning", "failed", "stopped", "finished"]),
    help="Only services that are so.",
)
@click.option("--workspace", metavar="NAME_OR_ID", help="Only those in it.  [default: all]")
@json_option
@click.pass_context
def list_(
    context: click.Context,
    *,
    search: str | None,
    status: str | None,
    workspace: str | None,
    as_json: bool,
) -> None:
    """List services, the newest first."""
    with connect(context) as client:
        wanted = find_workspace(client, workspace) if workspace else None

        def listed(workspace_id: str) -> list[dict[str, Any]]:
            answer = client.list_services(
                name=search, status=status, workspace_id=workspace_id, limit=PAGE
            )
            services: list[dict[str, Any]] = answer["services"]
            return services

        found = listed(wanted) if wanted else everywhere(client, listed)
    found.sort(key=lambda one: one["publish_at"], reverse=True)
    if as_json:
        print_json({"total_count": len(found), "count": len(found), "services": found})
        return
    print_table(
        ("NAME", "STATUS", "CALLS", "FAILED", "PUBLISHED", "ID", "DESCRIPTION"),
        (
            (
                one["service_name"],
                one["status"],
                one["invocation_times"],
                one["failed_times"],
                when(one["publish_at"]),
                one["service_id"],
                one["description"],
            )
            for one in found
        ),
        right=("CALLS", "FAILED"),
    )


@service.command(epilog=examples("muster service show digits", "muster service show digits --json"))
@click.argument("service_text", metavar="SERVICE")
@json_option
@click.pass_context
def show(context: click.Context, *, service_text: str, as_json: bool) -> None:
    """Show a service, what it runs, and what happened to it last."""
    with connect(context) as client:
        shown = _find(client, service_text)
        events = client.list_service_events(shown["service_id"])["events"][:EVENTS_SHOWN]
    if as_json:
        print_json(shown)
        return
    print_facts(
        [
            ("service", f"{shown['service_name']} (id {shown['service_id']})"),
            ("description", shown["description"]),
            ("status", shown["status"]),
            ("reason", lines(shown.get("error_msg"))),
            ("address", shown.get("access_address")),
            *_batch_facts(shown),
            ("instances", _how_many_ready(shown)),
            ("calls", _calls(shown)),
            ("published", when(shown["publish_at"])),
            ("stops", when(shown["due_time"]) if shown["due_time"] else None),
        ]
    )
    print_table(
        ("MODEL", "VERSION", "WEIGHT", "INSTANCES", "FLAVOR", "POOL"),
        (
            (
                part["model_name"],
                part["model_version"],
                part["weight"],
                part["instance_count"],
                part["specification"],
                part["pool_name"] or "public",
            )
            for part in shown["config"]
        ),
        right=("WEIGHT", "INSTANCES"),
    )
    print_table(
        ("WHEN", "EVENT"), ((when(one["occur_time"]), lines(one["event_info"])) for one in events)
    )


@service.command(
    epilog=examples(
        "muster service predict digits --data '{\"images\": [[0, 0, 5, 13]]}'",
        "muster service predict digits --data @request.json",
        "muster service predict digits --file images=digits.npy",
    )
)
@click.argument("service_text", metavar="SERVICE")
@click.option("--data", metavar="JSON", help="The request; @FILE reads it from a file.")
@click.option("--file", "files", multiple=True, metavar="FIELD=FILE", help="A form with files.")
@click.option("--path", default="/", show_default=True, help="Below the service's address.")
@click.pass_context
def predict(
    context: click.Context,
    *,
    service_text: str,
    data: str | None,
    files: Sequence[str],
    path: str,
) -> None:
    """Ask a service, and print what it answers as it is."""
    if (data is None) == (not files):
        raise click.UsageError("Give either --data or --file.")
    content, content_type = _json(data) if data is not None else _form(files)
    with connect(context) as client:
        found = _find(client, service_text)
        answer = client.ask_service(
            found["service_id"], content, content_type=content_type, path=f"/{path.lstrip('/')}"
        )
    sys.stdout.buffer.write(answer)
    if not answer.endswith(b"\n"):
        click.echo()


def _json(data: str) -> tuple[bytes, str]:
    if data.startswith("@"):
        return _read(data[1:], "--data"), "application/json"
    return data.encode(), "application/json"


def _form(files: Sequence[str]) -> tuple[bytes, str]:
    """A form with files, and the type that names its boundary."""
    import httpx

    parts = []
    for file in files:
        field, equals, path = file.partition("=")
        if not equals or not field:
            raise click.UsageError(f"--file {file!r} must read FIELD=FILE.")
        parts.append((field, (Path(path).name, _read(path, "--file"))))
    form = httpx.Request("POST", "http://form", files=parts)
    return form.read(), form.headers["content-type"]


def _read(path: str, option: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{option}: {path} cannot be read ({error.strerror}).") from error


@service.command(epilog=examples("muster service stop digits"))
@click.argument("service_text", metavar="SERVICE")
@click.pass_context
def stop(context: click.Context, *, service_text: str) -> None:
    """Stop a service: its instances end, what it is stays."""
    _ask_for(context, service_text, "stopped")


@service.command(epilog=examples("muster service start digits"))
@click.argument("service_text", metavar="SERVICE")
@click.pass_context
def start(context: click.Context, *, service_text: str) -> None:
    """Start a service that was stopped, or has failed."""
    _ask_for(context, service_text, "running")


def _batch_facts(shown: dict[str, Any]) -> list[tuple[str, str]]:
    if shown["infer_type"] != "batch":
        return []
    [part] = shown["config"]
    return [
        ("reads", part["src_path"]),
        ("writes", part["dest_path"]),
        ("progress", f"{shown['progress']} %"),
    ]


def _calls(shown: dict[str, Any]) -> str:
    return f"{shown['invocation_times']}, {shown['failed_times']} of them failed"


def _how_many_ready(shown: dict[str, Any]) -> str:
    ready, wanted = shown["running_instance_count"], shown["instance_count"]
    if shown["infer_type"] == "batch":
        return f"{ready} of {wanted} at work"
    follows_load = any(part["scaling_policy"] for part in shown["config"])
    return f"{ready} ready, by load" if follows_load else f"{ready} of {wanted} ready"


def _ask_for(context: click.Context, service_text: str, status: str) -> None:
    with connect(context) as client:
        found = _find(client, service_text)
        client.change_service(found["service_id"], status=status)
        shown = client.get_service(found["service_id"])
    note(f"{shown['service_name']} is {shown['status']}.")


@service.command(epilog=examples("muster service delete digits --yes"))
@click.argument("service_text", metavar="SERVICE")
@yes_option
@click.pass_context
def delete(context: click.Context, *, service_text: str, is_sure: bool) -> None:
    """Delete a service; its instances are stopped. Its models stay."""
    with connect(context) as client:
        found = _find(client, service_text)
        ask(f"Delete service {found['service_name']}?", is_sure=is_sure)
        client.delete_service(found["service_id"])
    note(f"Deleted {found['service_name']}.")


def _find(client: "Client", text: str) -> dict[str, Any]:
    """The service of this name or id, in full."""
    from muster.client.errors import ApiError

    def listed(workspace_id: str) -> list[dict[str, Any]]:
        answer = client.list_services(name=text, workspace_id=workspace_id, limit=PAGE)
        return [one for one in answer["services"] if one["service_name"] == text]

    found = everywhere(client, listed)
    only_one(found, text, kind="service", id_key="service_id")
    try:
        return client.get_service(found[0]["service_id"] if found else text)
    except ApiError as error:
        if error.status != 404:
            raise
    raise click.ClickException(
        f"There is no service {text!r}. `muster service list` shows what there is."
    )
