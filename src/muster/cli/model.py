"""`muster model`: keep, list and delete models."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.connection import connect
from muster.cli.find import everywhere, find_workspace, only_one
from muster.cli.output import (
    ask,
    examples,
    note,
    print_json,
    print_table,
    when,
    yes_option,
)
from muster.cli.upload import Code, files_of, upload

if TYPE_CHECKING:
    from muster.client.client import Client

SCRIPT: Final = "customize_service.py"
PAGE: Final = 1000

json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's answer.")


@click.group()
def model() -> None:
    """Keep models, for services to run.

    A MODEL is named by its id, by NAME for its newest version, or by NAME:VERSION.
    """


@model.command(
    epilog=examples(
        "muster model create digits/ --version 0.0.1",
        "muster model create app/ --name shop --version 1.0.0 --cmd 'python app.py'",
        "muster model create /bucket/digits/ --name digits --version 0.0.2",
    )
)
@click.argument("source", metavar="FOLDER_OR_URL")
@click.option("--version", "version_text", required=True, metavar="N.N.N", help="Its version.")
@click.option("--name", help="Its name.  [default: that of the folder]")
@click.option("--cmd", help=f"What to run in place of {SCRIPT}; it listens on $PORT.")
@click.option("--runtime", metavar="VERSION", help="AI engine.  [default: the first]")
@click.option("--type", "type_", default="Custom", show_default=True, help="What to call it.")
@click.option("--desc", default="", help="Description.")
@click.option("--workspace", metavar="NAME_OR_ID", help="Where it is kept.  [default: default]")
@json_option
@click.pass_context
def create(
    context: click.Context,
    *,
    source: str,
    version_text: str,
    name: str | None,
    cmd: str | None,
    runtime: str | None,
    type_: str,
    desc: str,
    workspace: str | None,
    as_json: bool,
) -> None:
    """Keep a version of a model: a folder of this machine, or one in a bucket (/BUCKET/FOLDER/).

    The folder holds customize_service.py (and config.json, weights, ...), unless --cmd says what to
    run. It is copied: what becomes of it later changes no model.
    """
    folder = Path(source)
    is_local = folder.is_dir()
    if not is_local and not source.startswith(("/", "obs://", "s3://")):
        raise click.UsageError(f"There is no folder {source!r}.")
    name = name or (folder.resolve().name if is_local else source.rstrip("/").rpartition("/")[2])
    with connect(context) as client:
        if is_local:
            code = Code(files=files_of(folder), boot_file="", name=name)
            uploaded = upload(client, code, job_name=f"model-{name}", now=datetime.now(UTC))
            source = uploaded.app_url
        try:
            made = client.create_model(
                name,
                version_text,
                source,
                model_type=type_,
                description=desc,
                **({"cmd": cmd} if cmd else {}),
                **({"runtime": runtime} if runtime else {}),
                **({"workspace_id": find_workspace(client, workspace)} if workspace else {}),
            )
        finally:
            if is_local:
                uploaded.remove(client)  # the server has its own copy by now, or wants none
    if as_json:
        print_json(made)
    else:
        note(
            f"Kept {name} {version_text} (model {made['model_id']})."
            f" Deploy it: muster service deploy {name} --model {name}:{version_text}"
        )


@model.command("list", epilog=examples("muster model list", "muster model list --search digits"))
@click.option("--search", metavar="TEXT", help="Only models with this in their name.")
@click.option("--workspace", metavar="NAME_OR_ID", help="Only those in it.  [default: all]")
@json_option
@click.pass_context
def list_(
    context: click.Context, *, search: str | None, workspace: str | None, as_json: bool
) -> None:
    """List models, the newest first."""
    with connect(context) as client:
        wanted = find_workspace(client, workspace) if workspace else None

        def listed(workspace_id: str) -> list[dict[str, Any]]:
            answer = client.list_models(name=search, workspace_id=workspace_id, limit=PAGE)
            models: list[dict[str, Any]] = answer["models"]
            return models

        found = listed(wanted) if wanted else everywhere(client, listed)
    found.sort(key=lambda one: one["create_at"], reverse=True)
    if as_json:
        print_json({"total_count": len(found), "count": len(found), "models": found})
        return
    print_table(
        ("NAME", "VERSION", "TYPE", "SIZE", "CREATED", "ID", "DESCRIPTION"),
        (
            (
                one["model_name"],
                one["model_version"],
                one["model_type"],
                one["model_size"],
                when(one["create_at"]),
                one["model_id"],
                one["description"],
            )
            for one in found
        ),
        right=("SIZE",),
    )


@model.command(
    epilog=examples(
        "muster model delete digits:0.0.1", "muster model delete digits --all-versions --yes"
    )
)
@click.argument("model_text", metavar="MODEL")
@click.option("--all-versions", is_flag=True, help="With every other version of its name.")
@yes_option
@click.pass_context
def delete(context: click.Context, *, model_text: str, all_versions: bool, is_sure: bool) -> None:
    """Delete a version of a model. One that a service runs stays."""
    with connect(context) as client:
        found = find_model(client, model_text)
        which = "in every version" if all_versions else found["model_version"]
        ask(f"Delete model {found['model_name']} {which}?", is_sure=is_sure)
        answer = client.delete_model(found["model_id"], is_cascade=all_versions)
    note(f"Deleted {len(answer['delete_success_list'])} of {found['model_name']}.")
    failures = answer["delete_failed_list"]
    if failures:
        raise click.ClickException(" ".join(one["error_msg"] for one in failures))


def find_model(client: "Client", text: str) -> dict[str, Any]:
    """The model of this id, NAME or NAME:VERSION."""
    from muster.client.errors import ApiError

    name, _, version = text.partition(":")

    def listed(workspace_id: str) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = client.list_models(
            name=name, is_exact=True, workspace_id=workspace_id, limit=PAGE
        )["models"]
        return [one for one in models if version in ("", one["model_version"])][:1]

    found = everywhere(client, listed)
    only_one(found, text, kind="model", id_key="model_id")
    if found:
        return found[0]
    try:
        return client.get_model(text)
    except ApiError as error:
        if error.status != 404:
            raise
    raise click.ClickException(
        f"There is no model {text!r}. `muster model list` shows what there is."
    )
