"""`muster pool`: what there is, what runs on it, and how it is made, resized and deleted."""

import time
from collections.abc import Callable, Sequence
from itertools import count as counting
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.connection import connect
from muster.cli.find import find_pool, pool_id, pool_name
from muster.cli.job import json_option
from muster.cli.output import (
    ask,
    duration,
    examples,
    note,
    print_facts,
    print_json,
    print_table,
    when,
    yes_option,
)
from muster.domain.phase import StatisticsState
from muster.domain.pool import Scope

if TYPE_CHECKING:
    from muster.client.client import Client

WORKLOADS_SHOWN: Final = 20
EVENTS_SHOWN: Final = 50
WAIT_SECONDS: Final = 0.5  # between two looks at a pool that is being waited for
STALE_LOOKS_MAX: Final = 6
NODE_STATES: Final = ("available", "creating", "abnormal", "deleting")
_FAILED: Final = ("CreationFailed", "ScalingFailed", "Error")

wait_option = click.option(
    "--wait", is_flag=True, help="Come back once it is so; tell on the way how it stands."
)


@click.group()
def pool() -> None:
    """Make, resize and delete pools, and count what runs on them.

    A POOL is named by its display name or its id.
    """


@pool.command("list", epilog=examples("muster pool list", "muster pool list --json"))
@click.option("--workspace", metavar="ID", help="A part of the project.  [default: 0]")
@json_option
@click.pass_context
def list_(context: click.Context, *, workspace: str | None, as_json: bool) -> None:
    """List the pools of the project."""
    with connect(context) as client:
        answer = client.list_pools(workspace_id=workspace)
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NAME", "PHASE", "NODES", "FLAVOR", "FOR", "ID", "MESSAGE"),
        (
            (
                pool_name(entry),
                entry["status"]["phase"],
                sum(line["count"] for line in entry["spec"]["resources"]),
                ", ".join(line["flavor"] for line in entry["spec"]["resources"]),
                ", ".join(entry["spec"].get("scope") or []),
                pool_id(entry),
                entry["status"].get("message"),
            )
            for entry in answer["items"]
        ),
        right=("NODES",),
    )


@pool.command(epilog=examples("muster pool show digits", "muster pool show digits --json"))
@click.argument("pool_text", metavar="POOL")
@json_option
@click.pass_context
def show(context: click.Context, *, pool_text: str, as_json: bool) -> None:
    """Show a pool and its newest workloads."""
    with connect(context) as client:
        found = find_pool(client, pool_text)
        if as_json:
            print_json(client.get_pool(pool_id(found)))
            return
        workloads = client.list_pool_workloads(pool_id(found), limit=WORKLOADS_SHOWN)
    print_facts(
        [
            ("pool", pool_name(found)),
            ("id", pool_id(found)),
            ("phase", found["status"]["phase"]),
            ("message", found["status"].get("message")),
            ("stand", _standing(found)),
            (
                "nodes",
                ", ".join(
                    f"{line['count']} x {line['flavor'] or 'any flavor'}"
                    for line in found["spec"]["resources"]
                ),
            ),
            ("for", ", ".join(found["spec"].get("scope") or [])),
            ("created", found["metadata"]["creationTimestamp"]),
        ]
    )
    if not workloads["items"]:
        return
    click.echo()
    print_table(
        ("WORKLOAD", "TYPE", "STATUS", "FLAVOR", "RAN", "WAITED", "POSITION", "CREATED", "NODES"),
        (
            (
                entry["jobName"],
                entry["type"],
                entry["status"],
                entry["flavor"],
                _seconds(entry["runningDuration"]),
                _seconds(entry["pendingDuration"]),
                entry["pendingPosition"] if entry["pendingPosition"] >= 0 else None,
                when(entry["createTime"]),
                entry["hostIps"],
            )
            for entry in workloads["items"]
        ),
        right=("RAN", "WAITED", "POSITION"),
    )


def _seconds(value: int | None) -> str:
    return duration(None if value is None else value * 1000)


@pool.command(epilog=examples("muster pool stats digits", "muster pool stats digits --json"))
@click.argument("pool_text", metavar="POOL")
@json_option
@click.pass_context
def stats(context: click.Context, *, pool_text: str, as_json: bool) -> None:
    """Count the workloads of a pool by type and state, and what they hold."""
    with connect(context) as client:
        answer = client.pool_statistics(pool_id(find_pool(client, pool_text)))
    if as_json:
        print_json(answer)
        return
    print_statistics(answer)


def print_statistics(answer: dict[str, Any]) -> None:
    statistics = answer["statistics"]
    states = [state.value for state in StatisticsState]
    print_table(
        ("TYPE", *map(str.upper, states), "TOTAL"),
        (
            (item["type"], *(item["status"].get(state, 0) for state in states), item["total"])
            for item in statistics["items"]
        ),
        right=(*map(str.upper, states), "TOTAL"),
    )
    if resources := statistics.get("resources"):
        click.echo()
        print_table(
            ("RESOURCE", "HELD", "OF"),
            (
                (name, f"{amount['used']:.6g}", f"{amount['total']:.6g}")
                for name, amount in resources.items()
            ),
            right=("HELD", "OF"),
        )


# ---------------------------------------------------------------- making and changing


@pool.command(
    epilog=examples(
        "muster pool create vision --flavor modelarts.vm.gpu.1 --count 4 --wait",
        "muster pool create batch --flavor modelarts.vm.cpu.2u --count 8 --scope Train",
    )
)
@click.argument("name")
@click.option("--flavor", required=True, metavar="CODE", help="What each of its nodes offers.")
@click.option("--count", required=True, type=click.IntRange(min=1), help="How many nodes it has.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope], case_sensitive=False),
    help="What it may be used for; may be repeated.  [default: everything]",
)
@click.option("--workspace", default="0", metavar="ID", help="A part of the project.")
@click.option("--desc", default="", help="What it is for.")
@wait_option
@json_option
@click.pass_context
def create(
    context: click.Context,
    *,
    name: str,
    flavor: str,
    count: int,
    scopes: Sequence[str],
    workspace: str,
    desc: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Make a pool of so many nodes of one flavor."""
    with connect(context) as client:
        made = client.create_pool(
            name,
            [{"flavor": flavor, "count": count}],
            scopes=scopes or [scope.value for scope in Scope],
            description=desc,
            workspace_id=workspace,
        )
        if wait:
            made = _wait_until(client, made, lambda shown: shown["status"]["phase"] == "Running")
    _told(made, as_json=as_json)


@pool.command(
    epilog=examples(
        "muster pool resize vision --count 6 --wait",
        "muster pool resize mixed --flavor modelarts.vm.cpu.2u --count 2",
    )
)
@click.argument("pool_text", metavar="POOL")
@click.option("--count", required=True, type=click.IntRange(min=0), help="How many nodes then.")
@click.option("--flavor", metavar="CODE", help="Of which flavor, where it has several.")
@wait_option
@json_option
@click.pass_context
def resize(
    context: click.Context,
    *,
    pool_text: str,
    count: int,
    flavor: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Give a pool more nodes, or fewer. Busy nodes go once their work has ended."""
    with connect(context) as client:
        found = find_pool(client, pool_text)
        lines = _resized(found, flavor, count)
        changed = client.change_pool(pool_id(found), {"spec": {"resources": lines}})
        if wait:
            changed = _wait_until(client, changed, _is_settled, before=found)
    _told(changed, as_json=as_json)


def _resized(found: dict[str, Any], flavor: str | None, count: int) -> list[dict[str, Any]]:
    """The lines of a pool, with another count where it is meant."""
    lines = [
        {key: line[key] for key in ("flavor", "count", "nodePool") if key in line}
        for line in found["spec"]["resources"]
    ]
    meant = [line for line in lines if flavor in (None, line["flavor"], line.get("nodePool"))]
    if len(meant) > 1:
        offered = ", ".join(line.get("nodePool") or line["flavor"] for line in lines)
        raise click.UsageError(f"The pool has several node pools; name one by --flavor: {offered}.")
    if not meant:
        assert flavor is not None, "without a flavor, every line is meant"
        return [*lines, {"flavor": flavor, "count": count}]
    meant[0]["count"] = count
    return lines


@pool.command(epilog=examples("muster pool delete vision --yes --wait"))
@click.argument("pool_text", metavar="POOL")
@yes_option
@wait_option
@json_option
@click.pass_context
def delete(
    context: click.Context, *, pool_text: str, is_sure: bool, wait: bool, as_json: bool
) -> None:
    """Stop the jobs of a pool and give its nodes back."""
    with connect(context) as client:
        found = find_pool(client, pool_text)
        ask(f"Delete pool {pool_name(found)} and stop its jobs?", is_sure=is_sure)
        deleted = client.delete_pool(pool_id(found))
        if wait:
            _wait_until_gone(client, deleted)
    if as_json:
        print_json(deleted)
    else:
        click.echo(f"{pool_name(deleted)} is {'gone' if wait else 'Deleting'}")


def _told(made: dict[str, Any], *, as_json: bool) -> None:
    """The pool as it stands; exit code 1 where it cannot be what was asked for."""
    if as_json:
        print_json(made)
    else:
        click.echo(f"{pool_name(made)} is {made['status']['phase']}  {pool_id(made)}")
    if made["status"]["phase"] in _FAILED:
        raise click.ClickException(made["status"].get("message") or "It cannot be.")


def _wait_until(
    client: "Client",
    shown: dict[str, Any],
    is_so: Callable[[dict[str, Any]], bool],
    *,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Look until it is so, or never will be; tell each time that it stands otherwise.

    `before`: as it stood before the wish. What had failed then may not have been tried again yet.
    """
    told = ""
    for look in counting(1):
        shown = client.get_pool(pool_id(shown))
        is_stale = before is not None and _verdict(before) == _verdict(shown)
        has_failed = shown["status"]["phase"] in _FAILED
        if is_so(shown) or (has_failed and not (is_stale and look < STALE_LOOKS_MAX)):
            break
        told = _progress(shown, told)
        time.sleep(WAIT_SECONDS)
    return shown


def _verdict(shown: dict[str, Any]) -> tuple[str, str]:
    return shown["status"]["phase"], shown["status"].get("message", "")


def _wait_until_gone(client: "Client", shown: dict[str, Any]) -> None:
    from muster.client.errors import ApiError

    told = ""
    while True:
        try:
            shown = client.get_pool(pool_id(shown))
        except ApiError as error:
            if error.status == 404:
                return
            raise
        told = _progress(shown, told)
        time.sleep(WAIT_SECONDS)


def _progress(shown: dict[str, Any], told: str) -> str:
    """Say how it stands, unless that has been said; what has been said."""
    facts = (shown["status"]["phase"], _standing(shown), shown["status"].get("message", ""))
    line = "  ".join(fact for fact in facts if fact)
    if line != told:
        note(f"{pool_name(shown)}: {line}")
    return line


def _standing(shown: dict[str, Any]) -> str:
    """`3 available, 1 creating`."""
    counts = _counts(shown)
    return ", ".join(f"{counts[state]} {state}" for state in NODE_STATES if counts.get(state))


def _counts(shown: dict[str, Any]) -> dict[str, int]:
    found = shown["status"].get("resources") or {}
    return {state: sum(line["count"] for line in lines) for state, lines in found.items()}


def _is_settled(shown: dict[str, Any]) -> bool:
    """Nothing is to come, and nothing is leaving."""
    counts = _counts(shown)
    is_still = not counts.get("creating") and not counts.get("deleting")
    asked = sum(line["count"] for line in shown["spec"]["resources"])
    there = counts.get("available", 0) + counts.get("abnormal", 0)
    return is_still and asked == there and shown["status"]["phase"] == "Running"


# ---------------------------------------------------------------- nodes and events


@pool.command(epilog=examples("muster pool nodes vision", "muster pool nodes vision --json"))
@click.argument("pool_text", metavar="POOL")
@json_option
@click.pass_context
def nodes(context: click.Context, *, pool_text: str, as_json: bool) -> None:
    """List the nodes of a pool, and what is free on each."""
    with connect(context) as client:
        found = client.list_nodes(pool_id(find_pool(client, pool_text)))
    if as_json:
        print_json({"items": found})
        return
    print_table(
        ("NODE", "PHASE", "FLAVOR", "FREE", "OF", "NOTES"),
        (
            (
                node["metadata"]["name"],
                node["status"]["phase"],
                node["spec"]["flavor"],
                _amounts(node["status"]["availableResources"]),
                _amounts(node["status"]["resources"]),
                _notes(node),
            )
            for node in found
        ),
    )


def _amounts(resources: dict[str, str]) -> str:
    return " ".join(f"{name.rpartition('/')[2]}={amount}" for name, amount in resources.items())


_TAINTS: Final = {
    "os.modelarts.node/lock": "locked",
    "os.modelarts.node/drain": "draining",
    "os.modelarts.node/ha.redundant": "spare",
}


def _notes(node: dict[str, Any]) -> str:
    taints = (taint["key"] for taint in node["status"].get("taints") or ())
    words = [_TAINTS.get(key, key) for key in taints]
    return ", ".join([*words, *filter(None, [node["status"].get("message")])])


@pool.command(epilog=examples("muster pool lock vision vision-a1b2c"))
@click.argument("pool_text", metavar="POOL")
@click.argument("names", metavar="NODE...", nargs=-1, required=True)
@json_option
@click.pass_context
def lock(context: click.Context, *, pool_text: str, names: Sequence[str], as_json: bool) -> None:
    """Keep nodes from new work and from being removed; what runs there goes on."""
    _lock(context, pool_text, names, is_locked=True, as_json=as_json)


@pool.command(epilog=examples("muster pool unlock vision vision-a1b2c"))
@click.argument("pool_text", metavar="POOL")
@click.argument("names", metavar="NODE...", nargs=-1, required=True)
@json_option
@click.pass_context
def unlock(context: click.Context, *, pool_text: str, names: Sequence[str], as_json: bool) -> None:
    """Let locked nodes take work again."""
    _lock(context, pool_text, names, is_locked=False, as_json=as_json)


def _lock(
    context: click.Context,
    pool_text: str,
    names: Sequence[str],
    *,
    is_locked: bool,
    as_json: bool,
) -> None:
    with connect(context) as client:
        found = find_pool(client, pool_text)
        answer = client.lock_nodes(pool_id(found), names, is_locked=is_locked)
    if as_json:
        print_json(answer)
        return
    for node in answer["nodes"]:
        click.echo(f"{node['name']} is {'locked' if is_locked else 'unlocked'}")


@pool.command(
    epilog=examples("muster pool events vision", "muster pool events vision --type Warning")
)
@click.argument("pool_text", metavar="POOL")
@click.option("--type", "type_", type=click.Choice(["Normal", "Warning"]), help="Those only.")
@click.option(
    "--limit", type=click.IntRange(1, 500), default=EVENTS_SHOWN, show_default=True,
    help="How many, at most.",
)  # fmt: skip
@json_option
@click.pass_context
def events(
    context: click.Context, *, pool_text: str, type_: str | None, limit: int, as_json: bool
) -> None:
    """Show what happened to a pool and its nodes, the newest first."""
    with connect(context) as client:
        found = find_pool(client, pool_text)
        answer = client.list_pool_events(pool_id(found), type_=type_, limit=limit)
    if as_json:
        print_json(answer)
        return
    print_table(
        ("TIME", "TYPE", "REASON", "MESSAGE"),
        (
            (event["lastTimestamp"], event["type"], event["reason"], event["message"])
            for event in answer["items"]
        ),
    )
    if answer["total"] > len(answer["items"]):
        note(f"{len(answer['items'])} of {answer['total']} events; see --limit.")
