"""What a user may ask of algorithms: make, look at, change, delete."""

import uuid
from dataclasses import dataclass, replace

from muster.domain.algorithm import Algorithm, AutoSearch, Recipe, check_algorithm
from muster.domain.errors import (
    BootFileInvalid,
    BootFileOutside,
    InvalidRequest,
    NotModifiable,
    StoragePathInvalid,
)
from muster.domain.requirement import Requirement
from muster.objects.store import Files, Kind, ObjectStore
from muster.objects.url import ObjectUrl, parse_url
from muster.operations.caller import Caller
from muster.store import algorithms, buckets, jobs
from muster.store.database import Database
from muster.store.transaction import Transaction

_CODE_DIR = "job_config.code_dir"
_BOOT_FILE = "job_config.boot_file"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAlgorithm:
    """An algorithm as it is asked for."""

    workspace_id: str
    name: str
    description: str
    recipe: Recipe
    requirements: tuple[Requirement, ...]
    auto_search: AutoSearch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmChange:
    """What is to be different; None stays as it is."""

    workspace_id: str | None = None
    name: str | None = None
    description: str | None = None
    recipe: Recipe | None = None
    requirements: tuple[Requirement, ...] | None = None
    auto_search: AutoSearch | None = None


async def create_algorithm(
    database: Database, objects: ObjectStore, caller: Caller, given: NewAlgorithm, *, now_ms: int
) -> Algorithm:
    """Keep an algorithm whose code is there.

    Raises:
        InvalidRequest: names the field; nothing was made.
    """
    made = Algorithm(
        id=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=given.workspace_id,
        name=given.name,
        description=given.description,
        creator_name=caller.user_name,
        recipe=given.recipe,
        requirements=given.requirements,
        auto_search=given.auto_search,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
    check_algorithm(made)
    made = replace(made, code_bytes=await _check_code(database, objects, caller, made.recipe))

    def insert(tx: Transaction) -> None:
        jobs.check_workspace(tx.connection, caller.project_id, made.workspace_id)
        algorithms.insert_algorithm(tx, made)

    await database.write(insert)
    return made


async def update_algorithm(
    database: Database,
    objects: ObjectStore,
    caller: Caller,
    uid: str,
    change: AlgorithmChange,
    *,
    now_ms: int,
) -> Algorithm:
    """Change what is given. Jobs that were made from it stay what they are.

    Raises:
        AlgorithmUnknown: the project has none of that id.
        NotModifiable: another workspace.
        InvalidRequest: names the field; nothing was changed.
    """
    present = await database.read(algorithms.get_algorithm, caller.project_id, uid)
    check_algorithm(_changed(present, change, code_bytes=None, now_ms=now_ms))
    code_bytes = None
    if change.recipe is not None:
        code_bytes = await _check_code(database, objects, caller, change.recipe)

    def update(tx: Transaction) -> Algorithm:
        fresh = algorithms.get_algorithm(tx.connection, caller.project_id, uid)
        changed = _changed(fresh, change, code_bytes=code_bytes, now_ms=now_ms)
        algorithms.update_algorithm(tx, changed)
        return changed

    return await database.write(update)


def _changed(
    algorithm: Algorithm, change: AlgorithmChange, *, code_bytes: int | None, now_ms: int
) -> Algorithm:
    if change.workspace_id not in (None, algorithm.workspace_id):
        raise NotModifiable(
            f"metadata.workspace_id is {change.workspace_id!r}; the algorithm stays in workspace"
            f" {algorithm.workspace_id!r}."
        )
    given = {
        "name": change.name,
        "description": change.description,
        "recipe": change.recipe,
        "requirements": change.requirements,
        "auto_search": change.auto_search,
        "code_bytes": code_bytes,
    }
    said = {name: value for name, value in given.items() if value is not None}
    return replace(algorithm, **said, updated_at_ms=now_ms)  # type: ignore[arg-type]  # by name


async def delete_algorithm(database: Database, caller: Caller, uid: str) -> None:
    """Take it away. Jobs that were made from it stay what they are.

    Raises:
        AlgorithmUnknown: the project has none of that id.
    """
    await database.write(algorithms.delete_algorithm, caller.project_id, uid)


async def _check_code(
    database: Database, objects: ObjectStore, caller: Caller, recipe: Recipe
) -> int:
    """Look whether a job could take the code; its size in bytes, 0 where there is none."""
    if not recipe.code_dir:
        return 0
    code_dir = parse_url(recipe.code_dir, field=_CODE_DIR)
    is_own = await database.read(buckets.may_use_bucket, caller.project_id, code_dir.bucket)
    if not is_own or not await objects.has_bucket(code_dir.bucket):
        # A bucket of another project is answered like one that is not there.
        raise StoragePathInvalid(
            f"{_CODE_DIR} is '{code_dir}'; this project has no bucket {code_dir.bucket!r}."
        )
    files = await _look_at_code(objects, code_dir, recipe.boot_file)
    return sum(size for _, size in files)


async def _look_at_code(objects: ObjectStore, code_dir: ObjectUrl, boot_file: str) -> Files:
    files = await objects.list_code(code_dir, field=_CODE_DIR)
    if boot_file:
        boot = parse_url(boot_file, field=_BOOT_FILE)
        path = _path_below(code_dir, boot)
        if path is None:
            raise BootFileOutside(
                f"{_BOOT_FILE} is '{boot}'; it must be a file below code_dir, '{code_dir}'."
            )
        if path not in (name for name, _ in files):
            raise BootFileInvalid(f"{_BOOT_FILE} is '{boot}'; there is no such file.")
    return files


def _path_below(folder: ObjectUrl, file: ObjectUrl) -> str | None:
    """None: it does not lie below."""
    prefix = f"{folder.key.rstrip('/')}/".removeprefix("/")
    if file.bucket != folder.bucket or not file.key.startswith(prefix):
        return None
    return file.key[len(prefix) :] or None


async def find_code(objects: ObjectStore, recipe: Recipe) -> Files | None:
    """The files of its code as they are now; None: a job could not take them."""
    try:
        code_dir = parse_url(recipe.code_dir, field=_CODE_DIR)
        return await _look_at_code(objects, code_dir, recipe.boot_file)
    except InvalidRequest:
        return None


async def has_code(objects: ObjectStore, recipe: Recipe) -> bool:
    """Whether its boot file is still there, or it needs none."""
    if not recipe.boot_file:
        return True
    try:
        boot = parse_url(recipe.boot_file, field=_BOOT_FILE)
        return await objects.find(boot, field=_BOOT_FILE) is Kind.OBJECT
    except StoragePathInvalid:
        return False
