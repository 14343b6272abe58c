"""From the flags of `muster job submit` to the `config` that the v1 API takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.find import find_engine, find_flavor, find_pool, pool_id
from muster.cli.upload import project_bucket

if TYPE_CHECKING:
    from muster.client.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the flags say. None: they say nothing about it."""

    parameters: Mapping[str, str]
    flavor: str | None
    pool: str | None
    workers: int | None
    engine: str | None
    data: str | None
    output: str | None


def read_parameters(args: Sequence[str]) -> dict[str, str]:
    parameters = {}
    for arg in args:
        label, equals, value = arg.partition("=")
        if not equals or not label:
            raise click.UsageError(f"--arg {arg!r} must read KEY=VALUE.")
        parameters[label] = value
    return parameters


def new_config(client: "Client", wishes: Wishes, job_name: str) -> dict[str, Any]:
    """The config of a new job, less its code: what is not wished for gets a default."""
    config = {
        "worker_server_num": 1,
        "engine_id": find_engine(client, wishes.engine)["engine_id"],
        "train_url": f"/{project_bucket(client)}/results/{job_name}/",
        **_wished(client, wishes),
    }
    if "pool_id" not in config and "spec_id" not in config:
        config["spec_id"] = find_flavor(client, None)["spec_id"]
    return config | {"parameter": _parameter(wishes.parameters)}


# What a new version keeps of the one before it.
_KEPT: Final = (
    "worker_server_num",
    "engine_id",
    "spec_id",
    "pool_id",
    "data_url",
    "train_url",
    "log_url",
)


def next_config(client: "Client", wishes: Wishes, before: Mapping[str, Any]) -> dict[str, Any]:
    """The config of another version, less its code: what is not wished for stays as it was."""
    config = {key: before[key] for key in _KEPT if before.get(key)}
    if wishes.pool is not None:
        config.pop("spec_id", None)  # that pool has a flavor of its own
    parameters = {item["label"]: str(item["value"]) for item in before["parameter"] or ()}
    return {
        **config,
        **_wished(client, wishes),
        "pre_version_id": before["version_id"],
        "parameter": _parameter(parameters | dict(wishes.parameters)),
    }


def _wished(client: "Client", wishes: Wishes) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if wishes.workers is not None:
        config["worker_server_num"] = wishes.workers
    if wishes.engine is not None:
        config["engine_id"] = find_engine(client, wishes.engine)["engine_id"]
    if wishes.flavor is not None:
        config["spec_id"] = find_flavor(client, wishes.flavor)["spec_id"]
    if wishes.pool is not None:
        pool = find_pool(client, wishes.pool)
        config["pool_id"] = pool_id(pool)
        if wishes.flavor is None and not any(line["flavor"] for line in pool["spec"]["resources"]):
            config["spec_id"] = find_flavor(client, None)["spec_id"]  # the public pool takes any
    if wishes.data is not None:
        config["data_url"] = wishes.data
    if wishes.output is not None:
        config["train_url"] = wishes.output
    return config


def _parameter(parameters: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"label": label, "value": value} for label, value in parameters.items()]
