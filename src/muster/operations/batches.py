"""What a batch service is asked to work through, held against what there is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Final

import msgspec

from muster.domain.batch import (
    DEST_CHANNEL,
    SRC_CHANNEL,
    BatchJob,
    MappingType,
    check_uri,
    form_field,
    read_mapping_rule,
    read_mapping_type,
)
from muster.domain.errors import DeploymentInvalid, InvalidRequest, StoragePathInvalid, Unsupported
from muster.domain.model import Recipe
from muster.domain.service import ServiceConfig
from muster.domain.training import Access, Channel
from muster.objects.store import Kind, ObjectStore
from muster.objects.url import ObjectUrl, parse_url
from muster.operations.buckets import make_bucket
from muster.operations.caller import Caller
from muster.store import buckets
from muster.store.database import Database
from muster.store.transaction import Transaction

DRIVER: Final = "muster.serving.batch"
TASK_VARIABLE: Final = "MUSTER_BATCH"  # what the driver is told to do


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPart:
    """What a part is asked to work through; None: as before, or as is usual."""

    src_path: str | None = None
    dest_path: str | None = None
    req_uri: str | None = None
    mapping_type: str | None = None
    mapping_rule: Any = None
    src_type: str | None = None

    @property
    def given(self) -> list[str]:
        """The fields that were given."""
        return [name for name in self.__slots__ if getattr(self, name)]


def refuse_batch(part: BatchPart, name: str) -> None:
    """Raise DeploymentInvalid where a real-time service is asked to work through something."""
    for field in part.given:
        raise DeploymentInvalid(f"{name}.{field} is for batch services.")


def resolve_batch(part: BatchPart, before: BatchJob | None, name: str) -> BatchJob:
    """What is to be worked through, as far as that can be told without a look at the objects.

    Raises:
        InvalidRequest: names the field, and what it may be.
    """
    if part.src_type:
        raise Unsupported(
            f"{name}.src_type is {part.src_type[:100]!r}; this server reads no manifests: name a"
            " folder as src_path, and leave src_type out."
        )
    src_path = _given(part.src_path, before.src_path if before else None, f"{name}.src_path")
    dest_path = _given(part.dest_path, before.dest_path if before else None, f"{name}.dest_path")
    _check_apart(
        parse_url(src_path, field=f"{name}.src_path"),
        parse_url(dest_path, field=f"{name}.dest_path"),
        name,
    )
    req_uri = part.req_uri or (before.req_uri if before else "/")
    check_uri(req_uri, field_name=f"{name}.req_uri")
    kind = MappingType.FILE if before is None else before.mapping_type
    if part.mapping_type or before is None:
        given = _given(part.mapping_type, None, f"{name}.mapping_type")
        kind = read_mapping_type(given, field_name=f"{name}.mapping_type")
    return BatchJob(
        src_path=src_path,
        dest_path=dest_path,
        req_uri=req_uri,
        mapping_type=kind,
        mapping_rule=_rule(part, before, name) if kind is MappingType.CSV else None,
    )


def _rule(part: BatchPart, before: BatchJob | None, name: str) -> dict[str, Any]:
    if part.mapping_rule:
        return read_mapping_rule(part.mapping_rule, field_name=f"{name}.mapping_rule")
    if before is not None and before.mapping_rule is not None:
        return before.mapping_rule
    raise InvalidRequest(
        f"{name}.mapping_rule is missing; mapping_type 'csv' needs it: a JSON schema of the request"
        " whose values have an index, the number of their column."
    )


def _given(value: str | None, before: str | None, name: str) -> str:
    found = value or before
    if not found:
        raise InvalidRequest(f"{name} is missing; a batch service needs it.")
    return found


def _check_apart(src: ObjectUrl, dest: ObjectUrl, name: str) -> None:
    """What is written must not be read again."""
    inside = f"{dest.key.strip('/')}/".startswith(f"{src.key.strip('/')}/".lstrip("/"))
    if dest.bucket == src.bucket and inside:
        raise StoragePathInvalid(
            f"{name}.dest_path is '{dest}'; it must be neither src_path, '{src}', nor inside it."
        )


def as_batch(config: ServiceConfig, batch: BatchJob, recipe: Recipe) -> ServiceConfig:
    """A part whose instances run the driver, and that in turn what they would run else."""
    spec = find_spec(DRIVER)
    assert spec is not None
    assert spec.origin is not None
    health = config.health
    task = {
        "command": config.program.argv,
        "health": {
            "path": health.path,
            "initial_delay_seconds": health.initial_delay_seconds,
            "timeout_seconds": health.timeout_seconds,
        },
        "deploy_timeout_seconds": config.deploy_timeout_seconds,
        "req_uri": batch.req_uri,
        "form_field": form_field(recipe.apis, batch.req_uri),
        "mapping_rule": batch.mapping_rule,
        "concurrency": config.max_concurrency,
    }
    program = replace(
        config.program,
        argv=(recipe.interpreter, spec.origin),
        environment={
            **config.program.environment,
            TASK_VARIABLE: msgspec.json.encode(task).decode(),
        },
        inputs=(_channel(SRC_CHANNEL, batch.src_path),),
        outputs=(_channel(DEST_CHANNEL, batch.dest_path),),
    )
    return replace(config, program=program, batch=batch)


def _channel(name: str, url: str) -> Channel:
    return Channel(name=name, url=url, access=Access.ENVIRONMENT)


# ---------------------------------------------------------------- what there is


async def look_at_places(
    database: Database, objects: ObjectStore, caller: Caller, configs: Sequence[ServiceConfig]
) -> Callable[[Transaction], None]:
    """Look whether the input is there, and whether the answers have a place to go.

    Returns:
        What is to be done in the transaction that stores the service: it takes new buckets.

    Raises:
        StoragePathInvalid: names the field.
    """
    claims: list[tuple[str, ObjectUrl, bool]] = []
    for index, config in enumerate(configs):
        if config.batch is None:
            continue
        field = f"config[{index}].src_path"
        await _check_input(
            database, objects, caller, parse_url(config.batch.src_path, field=field), field
        )
        field = f"config[{index}].dest_path"
        dest = parse_url(config.batch.dest_path, field=field)
        is_there = await objects.has_bucket(dest.bucket)
        if is_there and dest.key and await objects.find(dest, field=field) is Kind.OBJECT:
            raise _no_folder(field, dest)
        if not is_there and not objects.makes_buckets:
            is_own = await make_bucket(database, objects, caller.project_id, dest.bucket)
            if not is_own:
                raise _bucket_unknown(field, dest)
        claims.append((field, dest, is_there))

    def claim(tx: Transaction) -> None:
        for field, dest, is_there in claims:
            if not buckets.claim_bucket(tx, caller.project_id, dest.bucket, is_there=is_there):
                raise _bucket_unknown(field, dest)

    return claim


async def _check_input(
    database: Database, objects: ObjectStore, caller: Caller, src: ObjectUrl, field: str
) -> None:
    is_own = await database.read(buckets.may_use_bucket, caller.project_id, src.bucket)
    if not is_own or not await objects.has_bucket(src.bucket):
        raise _bucket_unknown(field, src)
    folder = src.key.rstrip("/")
    if folder and await objects.find(src, field=field) is Kind.OBJECT:
        raise _no_folder(field, src)
    found = await objects.list_objects(src.bucket, f"{folder}/" if folder else "")
    if not any(not one.key.endswith("/") for one in found):
        raise StoragePathInvalid(
            f"{field} is '{src}'; there is nothing in it: it must be a folder that holds the input."
        )


def _no_folder(field: str, url: ObjectUrl) -> StoragePathInvalid:
    return StoragePathInvalid(f"{field} is '{url}', which is an object; it must be a folder.")


def _bucket_unknown(field: str, url: ObjectUrl) -> StoragePathInvalid:
    """A bucket of another project is answered like one that is not there."""
    return StoragePathInvalid(f"{field} is '{url}'; this project has no bucket {url.bucket!r}.")
