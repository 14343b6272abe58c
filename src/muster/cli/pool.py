"""`muster pool`: what there is, and how many workloads stand in which state on it."""

from typing import Any, Final

import click

from muster.cli.connection import connect
from muster.cli.find import find_pool, pool_id, pool_name
from muster.cli.job import json_option
from muster.cli.output import (
    duration,
    examples,
    print_facts,
    print_json,
    print_table,
    when,
)
from muster.domain.phase import StatisticsState

WORKLOADS_SHOWN: Final = 20


@click.group()
def pool() -> None:
    """List pools and count what runs on them.

    A POOL is named by its display name or its id.
    """


@pool.command("list", epilog=examples("muster pool list", "muster pool list --json"))
@json_option
@click.pass_context
def list_(context: click.Context, *, as_json: bool) -> None:
    """List the pools of the project."""
    with connect(context) as client:
        answer = client.list_pools()
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NAME", "PHASE", "NODES", "FLAVOR", "FOR", "ID"),
        (
            (
                pool_name(entry),
                entry["status"]["phase"],
                sum(line["count"] for line in entry["spec"]["resources"]),
                ", ".join(line["flavor"] for line in entry["spec"]["resources"]),
                ", ".join(entry["spec"].get("scope") or []),
                pool_id(entry),
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
