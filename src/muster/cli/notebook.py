"""`muster notebook`: make, list, open, stop, start, renew, save and delete notebooks."""

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.connection import connect
from muster.cli.find import everywhere, find_flavor, find_pool, only_one, pool_id
from muster.cli.output import (
    ask,
    duration,
    examples,
    lines,
    note,
    print_facts,
    print_json,
    print_table,
    printable,
    when,
    yes_option,
)

if TYPE_CHECKING:
    from muster.client.client import Client

LOOK_SECONDS: Final = 0.2  # between two looks at one that comes up
HOUR_MS: Final = 3_600_000
COMING_UP: Final = ("INIT", "CREATING", "STARTING")
HOURS: Final = click.FloatRange(1, 72)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's answer.")
notebook_argument = click.argument("text", metavar="NOTEBOOK")


@click.group()
def notebook() -> None:
    """Make, open and stop notebooks: JupyterLab on a node.

    A NOTEBOOK is named by its name or its id.
    """


@notebook.command(
    epilog=examples(
        "muster notebook create sketches --wait",
        "muster notebook create big --flavor modelarts.vm.gpu.1 --pool digits --hours 8",
        "muster notebook create quiet --hours 2 --idle   # ends after two hours without use",
        "muster notebook create mine --storage obs://digits/notes/",
    )
)
@click.argument("name")
@click.option("--flavor", metavar="CODE", help="What it gets.  [default: the smallest]")
@click.option("--pool", metavar="ID_OR_NAME", help="Where it runs.  [default: the public pool]")
@click.option("--image", metavar="NAME_OR_ID", help="Its environment.  [default: jupyterlab]")
@click.option(
    "--storage",
    metavar="URL",
    help="The folder of a bucket that its files come from, and go to when it stops."
    "  [default: a folder of its own]",
)
@click.option("--hours", type=HOURS, default=1, show_default=True, help="How long it may run.")
@click.option("--idle", "is_idle", is_flag=True, help="Count the hours from its last use.")
@click.option("--desc", default="", help="Description.")
@click.option("--wait", "is_awaited", is_flag=True, help="Wait until it is up; print its address.")
@json_option
@click.pass_context
def create(
    context: click.Context,
    *,
    name: str,
    flavor: str | None,
    pool: str | None,
    image: str | None,
    storage: str | None,
    hours: float,
    is_idle: bool,
    desc: str,
    is_awaited: bool,
    as_json: bool,
) -> None:
    """Make a notebook and start it."""
    with connect(context) as client:
        body: dict[str, Any] = {
            "name": name,
            "description": desc,
            "flavor": find_flavor(client, flavor)["spec_code"],
            "image_id": _find_image(client, image or "jupyterlab"),
            "volume": {"category": "OBS", "uri": storage} if storage else {"category": "EFS"},
            "lease": {"duration": round(hours * HOUR_MS), "type": "IDLE" if is_idle else "TIMING"},
        }
        if pool is not None:
            body["pool_id"] = pool_id(find_pool(client, pool))
        made = client.create_notebook(body)
        if is_awaited:
            made = _wait(client, made)
    if as_json:
        print_json(made)
    elif is_awaited:
        click.echo(_address(made))
    else:
        note(f"Made {name} ({made['id']}). Open it: muster notebook open {name}")


def _find_image(client: "Client", text: str) -> str:
    images = client.list_images()["data"]
    for image in images:
        if text in (image["id"], image["name"], image["swr_path"]):
            return str(image["id"])
    known = ", ".join(image["swr_path"] for image in images)
    raise click.ClickException(f"There is no image {text!r}; there are {known}.")


def _listed(client: "Client", is_everybodys: bool, workspace_id: str) -> list[dict[str, Any]]:
    answer = client.list_notebooks(is_everybodys=is_everybodys, workspace_id=workspace_id)
    found: list[dict[str, Any]] = answer["data"]
    return found


def _find(client: "Client", text: str) -> dict[str, Any]:
    """By id, or by name: one's own first. Names are not unique."""
    for is_everybodys in (False, True):
        listed = everywhere(client, partial(_listed, client, is_everybodys))
        found = [one for one in listed if text in (one["id"], one["name"])]
        only_one(found, text, kind="notebook", id_key="id")
        if found:
            return found[0]
    raise click.ClickException(
        f"There is no notebook {text!r}. `muster notebook list` shows what there is."
    )


def _wait(client: "Client", found: dict[str, Any]) -> dict[str, Any]:
    """Until it is up; what it waits for is told as it changes."""
    told = ""
    while found["status"] in COMING_UP:
        steps = found["action_progress"]
        doing = next((s["description"] for s in steps if s["status"] == "PROCESSING"), "")
        if doing != told:
            note(printable(doing))
            told = doing
        time.sleep(LOOK_SECONDS)
        found = client.get_notebook(found["id"])
    if found["status"] != "RUNNING":
        why = found["fail_reason"] or "`muster notebook start` starts it."
        raise click.ClickException(f"Notebook {found['name']} is {found['status']}. {why}")
    return found


def _address(found: dict[str, Any]) -> str:
    if found["token"] is None:
        raise click.ClickException(
            f"Notebook {found['name']} belongs to user {found['user']['name']!r}; only that one may"
            " open it."
        )
    return f"{found['url']}?token={found['token']}"


@notebook.command(
    "list", epilog=examples("muster notebook list", "muster notebook list --everybody --json")
)
@click.option("--everybody", "is_everybodys", is_flag=True, help="Those of others, too.")
@json_option
@click.pass_context
def list_(context: click.Context, *, is_everybodys: bool, as_json: bool) -> None:
    """List notebooks, the newest first."""
    with connect(context) as client:
        answer = client.list_notebooks(is_everybodys=is_everybodys)
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NAME", "STATUS", "FLAVOR", "POOL", "OWNER", "CREATED", "ID"),
        (
            (
                one["name"],
                one["status"],
                one["flavor"],
                one["pool"]["name"],
                one["user"]["name"],
                when(one["create_at"]),
                one["id"],
            )
            for one in answer["data"]
        ),
    )


@notebook.command(epilog=examples("muster notebook show sketches"))
@notebook_argument
@json_option
@click.pass_context
def show(context: click.Context, *, text: str, as_json: bool) -> None:
    """Show a notebook."""
    with connect(context) as client:
        found = _find(client, text)
    if as_json:
        print_json(found)
        return
    lease = found["lease"]
    print_facts(
        [
            ("notebook", f"{found['name']} ({found['id']})"),
            ("description", found["description"]),
            ("status", found["status"]),
            ("reason", lines(found["fail_reason"])),
            ("owner", found["user"]["name"]),
            ("pool", found["pool"]["name"]),
            ("flavor", found["flavor"]),
            ("image", found["image"]["swr_path"]),
            ("created", when(found["create_at"])),
            ("lease", f"{duration(lease['duration'])} {lease['type']}" if lease["enable"] else ""),
            ("storage", found["volume"]["uri"]),
            ("address", found["url"]),
        ]
    )


@notebook.command(
    epilog=examples("muster notebook open sketches", 'xdg-open "$(muster notebook open sketches)"')
)
@notebook_argument
@click.pass_context
def open(context: click.Context, *, text: str) -> None:
    """Print the address of a notebook with its token, once it is up."""
    with connect(context) as client:
        click.echo(_address(_wait(client, _find(client, text))))


@notebook.command(
    epilog=examples("muster notebook start sketches", "muster notebook start sketches --hours 8")
)
@notebook_argument
@click.option("--hours", type=HOURS, help="How long it may run.  [default: as before]")
@click.option("--wait", "is_awaited", is_flag=True, help="Wait until it is up; print its address.")
@click.pass_context
def start(context: click.Context, *, text: str, hours: float | None, is_awaited: bool) -> None:
    """Start a notebook again, with the files that it had."""
    with connect(context) as client:
        duration_ms = None if hours is None else round(hours * HOUR_MS)
        started = client.start_notebook(_find(client, text)["id"], duration_ms=duration_ms)
        if is_awaited:
            click.echo(_address(_wait(client, started)))
        else:
            note(f"Starting {started['name']}.")


@notebook.command(epilog=examples("muster notebook stop sketches"))
@notebook_argument
@click.pass_context
def stop(context: click.Context, *, text: str) -> None:
    """Stop a notebook. Its files stay; those of a bucket are stored there."""
    with connect(context) as client:
        stopped = client.stop_notebook(_find(client, text)["id"])
    note(f"Stopping {stopped['name']}.")


@notebook.command(
    epilog=examples("muster notebook renew sketches", "muster notebook renew sketches --hours 8")
)
@notebook_argument
@click.option("--hours", type=HOURS, help="How long, from now on.  [default: as before]")
@click.pass_context
def renew(context: click.Context, *, text: str, hours: float | None) -> None:
    """Let a notebook that runs go on, counted from now."""
    with connect(context) as client:
        found = _find(client, text)
        duration_ms = None if hours is None else round(hours * HOUR_MS)
        lease = client.renew_notebook(found["id"], duration_ms=duration_ms)
    note(f"{found['name']} may run for {duration(lease['duration'])} from now on.")


@notebook.command(
    epilog=examples(
        "muster notebook save sketches team/torch:1",
        "muster notebook create another --image team/torch:1",
    )
)
@notebook_argument
@click.argument("image", metavar="NAMESPACE/NAME:TAG")
@click.option("--description", default="", help="Shown with the image.")
@click.pass_context
def save(context: click.Context, *, text: str, image: str, description: str) -> None:
    """Save the packages that are installed in a notebook as an image, for others to start with."""
    namespace, _, rest = image.partition("/")
    name, _, tag = rest.partition(":")
    if not (namespace and name and tag):
        raise click.UsageError(f"{image!r} is not like NAMESPACE/NAME:TAG.")
    body = {"namespace": namespace, "name": name, "tag": tag, "description": description}
    with connect(context) as client:
        saved = client.save_notebook(_find(client, text)["id"], body)
    note(f"Saved {saved['swr_path']}. Use it: muster notebook create NAME --image {image}")


@notebook.command(epilog=examples("muster notebook delete sketches --yes"))
@notebook_argument
@yes_option
@click.pass_context
def delete(context: click.Context, *, text: str, is_sure: bool) -> None:
    """Delete a notebook and its files; what lies in a bucket stays there."""
    with connect(context) as client:
        found = _find(client, text)
        uri = found["volume"]["uri"]
        files = f"; its files stay under {uri}" if uri else " and all its files"
        ask(f"Delete notebook {found['name']}{files}?", is_sure=is_sure)
        client.delete_notebook(found["id"])
    note(f"Deleting {found['name']}.")
