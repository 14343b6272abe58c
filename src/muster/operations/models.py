"""What a user may ask of models: keep one, look at it, delete it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from muster.domain.catalogue import Catalogue
from muster.domain.errors import (
    ModelConfigInvalid,
    ModelSourceInvalid,
    MusterError,
    StoragePathInvalid,
)
from muster.domain.flavor import AiEngine
from muster.domain.model import (
    CONFIG,
    MODEL_FOLDER,
    SCRIPT,
    Description,
    Health,
    Model,
    Recipe,
    check_model,
    check_recipe,
    parse_command,
    read_description,
    read_health,
)
from muster.domain.training import DEFAULT_ENGINE_ID
from muster.objects.store import Files, ObjectStore
from muster.objects.url import parse_url
from muster.operations.caller import Caller
from muster.store import buckets, jobs, models
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction

CONFIG_BYTES_MAX: Final = 1 << 20

# What clients call an engine that has none of its own: any interpreter will do.
_ANY_TYPES: Final = frozenset({"custom", "template", "image", ""})
_SOURCE: Final = "source_location"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model as it is asked for."""

    workspace_id: str
    name: str
    version: str
    type: str
    description: str
    source_location: str
    runtime: str
    command: str
    initial_config: Mapping[str, Any] | None  # in place of the folder's own config.json
    apis: Sequence[dict[str, Any]] | None  # in place of what that says of them
    dependencies: Sequence[dict[str, Any]] | None  # likewise
    health: Mapping[str, Any] | None  # likewise
    shown: dict[str, Any] = field(default_factory=dict)


async def create_model(
    database: Database,
    objects: ObjectStore,
    catalogue: Catalogue,
    caller: Caller,
    given: NewModel,
    *,
    now_ms: int,
) -> Model:
    """Keep a model: a copy of its folder as it is now, and how it is served.

    Raises:
        InvalidRequest: names the field; nothing was made.
    """
    check_model(
        name=given.name, version=given.version, type_=given.type, description=given.description
    )
    url = parse_url(given.source_location, field=_SOURCE)
    is_own = await database.read(buckets.may_use_bucket, caller.project_id, url.bucket)
    if not is_own or not await objects.has_bucket(url.bucket):
        # A bucket of another project is answered like one that is not there.
        raise StoragePathInvalid(
            f"{_SOURCE} is '{url}'; this project has no bucket {url.bucket!r}."
        )
    files = await objects.list_code(url, field=_SOURCE)
    command = parse_command(given.command) if given.command else ()
    folder = _folder_of_script(files, str(url), needs_script=not command)
    engine = _engine_for(catalogue, given.type, given.runtime)
    code = await objects.keep_code(url, field=_SOURCE)
    description = _describe(given, objects.snapshot_folder(code) / folder / CONFIG)
    model = Model(
        id=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=given.workspace_id,
        name=given.name,
        version=given.version,
        type=given.type,
        description=given.description,
        creator_name=caller.user_name,
        size_bytes=sum(size for _, size in files),
        recipe=Recipe(
            source_location=given.source_location,
            code=code,
            folder=folder,
            interpreter=str(engine.interpreter),
            runtime=f"{engine.name} {engine.version}",
            command=_with_interpreter(command, engine),
            health=_health(given, description, has_script=not command),
            apis=description.apis,
            dependencies=description.dependencies,
            shown=given.shown
            | {"model_algorithm": description.algorithm, "model_metrics": description.metrics},
        ),
        created_at_ms=now_ms,
    )

    check_recipe(model.recipe)

    def insert(tx: Transaction) -> None:
        jobs.check_workspace(tx.connection, caller.project_id, model.workspace_id)
        models.insert_model(tx, model)

    await database.write(insert)
    return model


def _folder_of_script(files: Files, shown: str, *, needs_script: bool) -> str:
    """Where the script lies below the folder: there, or in `model/`, as it is published."""
    paths = {path for path, _ in files}
    for folder in ("", f"{MODEL_FOLDER}/"):
        if f"{folder}{SCRIPT}" in paths:
            return folder.rstrip("/")
    if needs_script:
        raise ModelSourceInvalid(
            f"{_SOURCE} is {shown!r}; neither it nor {MODEL_FOLDER}/ below it holds {SCRIPT}. Put"
            " the inference script there, or give the command to run as cmd."
        )
    # The command runs in the folder itself; config.json may lie in either.
    is_below = CONFIG not in paths and f"{MODEL_FOLDER}/{CONFIG}" in paths
    return MODEL_FOLDER if is_below else ""


def _engine_for(catalogue: Catalogue, type_: str, runtime: str) -> AiEngine:
    """By the engine that the model's type names, and its version or the runtime; else any."""
    of_type = [engine for engine in catalogue.engines if engine.name.lower() == type_.lower()]
    if not of_type and type_.lower() not in _ANY_TYPES:
        # A framework is a library here: whichever interpreter has it will do.
        of_type = list(catalogue.engines)
    offered = of_type or list(catalogue.engines)
    if not runtime:
        default = catalogue.find_engine(DEFAULT_ENGINE_ID)
        return default if default is not None and default in offered else offered[0]
    wanted = runtime.lower().replace("python", "").strip(" -_")
    for engine in offered:
        if runtime.lower() in (engine.version.lower(), f"{engine.name} {engine.version}".lower()):
            return engine
    for engine in offered:
        if engine.version == wanted or engine.version.startswith(f"{wanted}."):
            return engine
    names = ", ".join(f"{engine.name} {engine.version}" for engine in catalogue.engines)
    raise ModelConfigInvalid(f"runtime is {runtime[:100]!r}; there are {names}.")


def _describe(given: NewModel, file: Path) -> Description:
    """What config.json says; what the request says itself stands in place of that."""
    content: dict[str, Any] = {}
    if given.initial_config is not None:
        content = dict(given.initial_config)
    elif file.is_file() and not file.is_symlink():
        content = _read_config(file)
    for key, value in (("apis", given.apis), ("dependencies", given.dependencies)):
        if value is not None:
            content[key] = list(value)
    return read_description(content)


def _read_config(file: Path) -> dict[str, Any]:
    if file.stat().st_size > CONFIG_BYTES_MAX:
        raise ModelConfigInvalid(f"{CONFIG} has more than {CONFIG_BYTES_MAX} bytes.")
    try:
        content = msgspec.json.decode(file.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelConfigInvalid(f"{CONFIG} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ModelConfigInvalid(f"{CONFIG} holds no JSON object.")
    return content


def _health(given: NewModel, description: Description, *, has_script: bool) -> Health:
    if given.health is not None:
        return read_health(given.health, name="health")
    if description.health is not None:
        return description.health
    # muster's runner answers here; of a command nothing is known but its port.
    return Health(path="/health") if has_script else Health()


def _with_interpreter(command: tuple[str, ...], engine: AiEngine) -> tuple[str, ...]:
    """`python` means the one that was chosen for the model."""
    if command and command[0] in ("python", "python3"):
        return (str(engine.interpreter), *command[1:])
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDeleted:
    """A model that stays, and why."""

    model_id: str
    error: MusterError


async def delete_models(
    database: Database, caller: Caller, uid: str, *, is_cascade: bool
) -> tuple[list[str], list[NotDeleted]]:
    """Take a version of a model away, or all versions of its name: each by itself.

    Raises:
        ModelUnknown: the project has none of that id.
    """

    def find(connection: Connection) -> list[str]:
        model = models.get_model(connection, caller.project_id, uid)
        return models.list_versions(connection, model) if is_cascade else [uid]

    deleted, kept = [], []
    for one in await database.read(find):
        try:
            await database.write(models.delete_model, caller.project_id, one)
        except MusterError as error:
            kept.append(NotDeleted(model_id=one, error=error))
        else:
            deleted.append(one)
    return deleted, kept
