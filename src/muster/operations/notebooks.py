"""What a user may ask of notebooks: make, change, start, stop, renew, delete.

Each is one transaction on the notebook and its workload together. What becomes of them then is for
the reconciler and the keeper (`reconciler/notebooks.py`).
"""

import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from muster.domain.errors import (
    NotebookFixed,
    NotebookNotRunning,
    VolumeBucketUnknown,
)
from muster.domain.notebook import (
    COMING_UP,
    CUSTOM_FLAVOR,
    IN_BUCKETS,
    STARTABLE,
    CustomSpec,
    Lease,
    LeaseType,
    Notebook,
    NotebookEvent,
    NotebookStatus,
    Volume,
    check_capacity,
    check_duration,
    check_notebook,
    check_volume_uri,
    next_status,
    with_tags,
)
from muster.domain.permission import Permission
from muster.domain.phase import STOPPABLE, Event, Reason
from muster.domain.pool import public_pool_id
from muster.objects.url import parse_url
from muster.operations.caller import Caller, forbidden
from muster.operations.deletion import delete_workload
from muster.operations.images import get_image
from muster.operations.notebookstart import Notebooks, prepare_start
from muster.store import jobs, notebooks, pools, workloads
from muster.store.transaction import Transaction

TOKEN_BYTES: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotebook:
    """A notebook as it is asked for."""

    workspace_id: str
    name: str
    description: str
    feature: str
    flavor: str
    custom_spec: CustomSpec | None
    image_uid: str
    pool_id: str
    volume: Volume
    volume_field: str  # what errors call its `uri`
    lease_type: LeaseType
    duration_ms: int
    has_lease: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookChange:
    """What is to be different; None stays as it is."""

    name: str | None = None
    description: str | None = None
    flavor: str | None = None
    custom_spec: CustomSpec | None = None
    image_uid: str | None = None
    capacity_gb: int | None = None
    # Of the older API: whether there is a lease, and how long it is.
    has_lease: bool | None = None
    duration_ms: int | None = None


async def create_notebook(
    desk: Notebooks, caller: Caller, given: NewNotebook, *, now_ms: int
) -> Notebook:
    """Make one and let it start. All or nothing.

    Raises:
        InvalidRequest, NotFound: names the field; nothing was made.
    """
    check_duration("duration", given.duration_ms)
    made = Notebook(
        uid=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=given.workspace_id,
        name=given.name,
        description=given.description,
        feature=given.feature,
        user_id=caller.user_id,
        user_name=caller.user_name,
        flavor_code=CUSTOM_FLAVOR if given.custom_spec else given.flavor,
        custom_spec=given.custom_spec,
        image_id=given.image_uid,
        pool_id=given.pool_id or public_pool_id(caller.project_id),
        volume=await _checked_volume(desk, caller, given),
        token=secrets.token_hex(TOKEN_BYTES),
        lease=Lease(
            type=given.lease_type,
            duration_ms=given.duration_ms,
            is_enabled=given.has_lease,
            since_ms=now_ms,
            updated_at_ms=now_ms,
        ),
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
        workload_id=0,
    )
    check_notebook(made)
    image = await get_image(desk.images, caller, given.image_uid, field="image_id")
    start = await prepare_start(desk, caller, made, image)

    def insert(tx: Transaction) -> Notebook:
        jobs.check_workspace(tx.connection, caller.project_id, made.workspace_id)
        stored = replace(made, workload_id=start.insert(tx, now_ms=now_ms))
        notebooks.insert_notebook(tx, stored)
        return notebooks.get_notebook(tx.connection, caller.project_id, made.uid)

    return await desk.database.write(insert)


async def _checked_volume(desk: Notebooks, caller: Caller, given: NewNotebook) -> Volume:
    """With its address as it is kept.

    Raises:
        InvalidRequest: it has none, or one that is no folder of a bucket of this project.
    """
    check_capacity("volume.capacity", given.volume.capacity_gb)
    check_volume_uri(given.volume_field, given.volume)
    if given.volume.category not in IN_BUCKETS:
        return replace(given.volume, uri="")
    url = parse_url(given.volume.uri, field=given.volume_field)
    may_use = await desk.database.read_recent(pools.may_use_bucket, caller.project_id, url.bucket)
    if not may_use or not await desk.objects.has_bucket(url.bucket):
        raise VolumeBucketUnknown(
            f"{given.volume_field} is '{url}'; this project has no bucket {url.bucket!r}."
        )
    return replace(given.volume, uri=str(url))


# ---------------------------------------------------------------- what is there already


async def get_notebook(desk: Notebooks, caller: Caller, shown: str) -> Notebook:
    """By its id with or without hyphens; one where the caller may not enter is not there.

    Raises:
        NotebookUnknown: the project has none of that id.
    """
    uid = shown.replace("-", "").lower()
    found = await desk.database.read(notebooks.find_notebook, uid)
    is_there = found is not None and found.project_id == caller.project_id
    if found is None or not is_there or not caller.may_enter(found.workspace_id):
        raise notebooks.notebook_unknown(shown)
    return found


def may_open(caller: Caller, notebook: Notebook) -> bool:
    """Whether it may see the notebook's token, open it, and change it."""
    if caller.project_id != notebook.project_id:
        return False
    if caller.user_id == notebook.user_id:
        return caller.may(Permission.NOTEBOOK_WRITE, notebook.workspace_id)
    return caller.may(Permission.NOTEBOOK_MANAGE, notebook.workspace_id)


def _check_may_change(caller: Caller, notebook: Notebook) -> None:
    if not may_open(caller, notebook):
        where = f"notebook {notebook.shown_id} of user {notebook.user_name!r}"
        role = caller.role_in(notebook.workspace_id)
        raise forbidden(caller, Permission.NOTEBOOK_MANAGE, role, where)


async def _change(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    change: Callable[[Transaction, Notebook], Notebook],
) -> Notebook:
    """Read it, change it and store it, in one transaction."""
    found = await get_notebook(desk, caller, shown)
    _check_may_change(caller, found)

    def write(tx: Transaction) -> Notebook:
        fresh = notebooks.get_notebook(tx.connection, caller.project_id, found.uid)
        notebooks.update_notebook(tx, change(tx, fresh))
        return notebooks.get_notebook(tx.connection, caller.project_id, found.uid)

    return await desk.database.write(write)


async def update_notebook(
    desk: Notebooks, caller: Caller, shown: str, change: NotebookChange, *, now_ms: int
) -> Notebook:
    """Change what is given. Flavor and image are changed while it is stopped, for its next start.

    Raises:
        NotebookUnknown, Forbidden: nothing was changed; nor by the next two.
        NotebookFixed: a field that cannot be changed now.
        InvalidRequest: names the field.
    """
    present = await get_notebook(desk, caller, shown)
    _check_may_change(caller, present)
    wanted = _changed(present, change, now_ms=now_ms)
    image = await get_image(desk.images, caller, wanted.image_id, field="image_id")
    if (wanted.flavor_code, wanted.custom_spec) != (present.flavor_code, present.custom_spec):
        await prepare_start(desk, caller, wanted, image)
    return await _change(
        desk, caller, shown, lambda _, fresh: _changed(fresh, change, now_ms=now_ms)
    )


def _changed(notebook: Notebook, change: NotebookChange, *, now_ms: int) -> Notebook:
    changed = replace(
        notebook,
        name=notebook.name if change.name is None else change.name,
        description=notebook.description if change.description is None else change.description,
        flavor_code=change.flavor or notebook.flavor_code,
        custom_spec=None if change.flavor else notebook.custom_spec,
        image_id=change.image_uid or notebook.image_id,
        volume=_grown(notebook.volume, change.capacity_gb),
        lease=_changed_lease(notebook.lease, change, now_ms=now_ms),
        updated_at_ms=now_ms,
    )
    if change.custom_spec is not None:
        changed = replace(changed, flavor_code=CUSTOM_FLAVOR, custom_spec=change.custom_spec)
    check_notebook(changed)
    for name, before, after in (
        ("flavor", notebook.flavor_code, changed.flavor_code),
        ("custom_spec", notebook.custom_spec, changed.custom_spec),
        ("image_id", notebook.image_id, changed.image_id),
    ):
        if before != after and notebook.status not in STARTABLE:
            raise NotebookFixed(
                f"{name} cannot be changed while the notebook is {notebook.status}; stop it first."
            )
    return changed


def _grown(volume: Volume, capacity_gb: int | None) -> Volume:
    if capacity_gb is None:
        return volume
    check_capacity("storage_new_size", capacity_gb, least=volume.capacity_gb)
    return replace(volume, capacity_gb=capacity_gb)


def _changed_lease(lease: Lease, change: NotebookChange, *, now_ms: int) -> Lease:
    if change.has_lease is None and change.duration_ms is None:
        return lease
    duration_ms = lease.duration_ms if change.duration_ms is None else change.duration_ms
    check_duration("duration", duration_ms)
    is_enabled = lease.is_enabled if change.has_lease is None else change.has_lease
    return replace(
        lease,
        is_enabled=is_enabled,
        duration_ms=duration_ms,
        since_ms=now_ms,
        updated_at_ms=now_ms,
    )


async def renew_lease(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    *,
    duration_ms: int | None,
    lease_type: LeaseType | None,
    now_ms: int,
) -> Notebook:
    """Let it run so long from now on; None: as before.

    Raises:
        NotebookNotRunning: it neither runs nor comes up.
        LeaseInvalid: nothing was changed.
    """
    if duration_ms is not None:
        check_duration("duration", duration_ms)

    def renew(_: Transaction, notebook: Notebook) -> Notebook:
        if notebook.status not in COMING_UP | {NotebookStatus.RUNNING}:
            raise NotebookNotRunning(
                f"The notebook is {notebook.status}; only the lease of one that runs is renewed."
                " Start it with the duration that you want."
            )
        lease = _begun(notebook.lease, duration_ms, lease_type, now_ms=now_ms)
        return replace(notebook, lease=lease, updated_at_ms=now_ms)

    return await _change(desk, caller, shown, renew)


def _begun(
    lease: Lease, duration_ms: int | None, lease_type: LeaseType | None, *, now_ms: int
) -> Lease:
    return replace(
        lease,
        type=lease_type or lease.type,
        duration_ms=lease.duration_ms if duration_ms is None else duration_ms,
        # Who names one wants it to count.
        is_enabled=lease.is_enabled or duration_ms is not None,
        since_ms=now_ms,
        updated_at_ms=now_ms,
    )


async def start_notebook(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    *,
    duration_ms: int | None = None,
    lease_type: LeaseType | None = None,
    now_ms: int,
) -> Notebook:
    """Start it again, with the storage that it had.

    Raises:
        NotebookStateInvalid: it runs, or is about to, or is being stopped.
        NotebookQuotaExceeded, NotebookPoolInvalid: it cannot start now; it stays as it was.
    """
    if duration_ms is not None:
        check_duration("duration", duration_ms)
    present = await get_notebook(desk, caller, shown)
    _check_may_change(caller, present)
    next_status(present.status, NotebookEvent.START_ASKED)  # before anything is looked up
    image = await get_image(desk.images, caller, present.image_id, field="image_id")
    start = await prepare_start(desk, caller, present, image)

    def begin(tx: Transaction, notebook: Notebook) -> Notebook:
        status = next_status(notebook.status, NotebookEvent.START_ASKED)
        _forget_workload(tx, notebook, caller, now_ms=now_ms)
        return replace(
            notebook,
            status=status,
            fail_reason="",
            note="",
            lease=_begun(notebook.lease, duration_ms, lease_type, now_ms=now_ms),
            updated_at_ms=now_ms,
            workload_id=start.insert(tx, now_ms=now_ms),
        )

    return await _change(desk, caller, shown, begin)


async def stop_notebook(desk: Notebooks, caller: Caller, shown: str, *, now_ms: int) -> Notebook:
    """Ask it to end. What it has written to its storage stays.

    Raises:
        NotebookStateInvalid: it does not run.
    """

    def stop(tx: Transaction, notebook: Notebook) -> Notebook:
        status = next_status(notebook.status, NotebookEvent.STOP_ASKED)
        stop_workload(
            tx,
            notebook,
            now_ms=now_ms,
            actor=caller.user_name,
            reason=Reason.STOPPED_BY_USER,
        )
        return replace(notebook, status=status, updated_at_ms=now_ms)

    return await _change(desk, caller, shown, stop)


def stop_workload(
    tx: Transaction,
    notebook: Notebook,
    *,
    now_ms: int,
    actor: str,
    reason: Reason,
    message: str = "",
) -> None:
    """Ask what runs of it to end, if anything does."""
    if notebook.phase not in STOPPABLE:
        return
    workload = workloads.get_workload(tx.connection, notebook.workload_id)
    workloads.move_workload(
        tx,
        workload,
        Event.STOP_ASKED,
        now_ms=now_ms,
        actor=actor,
        reason=reason,
        message=message,
    )


async def delete_notebook(desk: Notebooks, caller: Caller, shown: str, *, now_ms: int) -> Notebook:
    """Take it away with its storage; it is gone once the last of its processes has ended.

    Raises:
        NotebookStateInvalid: it is being deleted.
    """

    def delete(tx: Transaction, notebook: Notebook) -> Notebook:
        status = next_status(notebook.status, NotebookEvent.DELETE_ASKED)
        _forget_workload(tx, notebook, caller, now_ms=now_ms)
        return replace(notebook, status=status, fail_reason="", updated_at_ms=now_ms)

    return await _change(desk, caller, shown, delete)


def _forget_workload(tx: Transaction, notebook: Notebook, caller: Caller, *, now_ms: int) -> None:
    """Take the workload of its last start out of every count; its rows go when they can."""
    if notebook.phase is not None:
        delete_workload(tx, caller, notebook.workload_id, now_ms=now_ms)


async def set_tags(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    *,
    added: Sequence[tuple[str, str]] = (),
    removed: Sequence[tuple[str, str | None]] = (),
    now_ms: int,
) -> Notebook:
    """Add tags by key, or remove them: by key, or where a value is given, only with that.

    Raises:
        NotebookTextInvalid: nothing was changed.
    """

    def tag(_: Transaction, notebook: Notebook) -> Notebook:
        tags = with_tags(notebook.tags, added)
        for key, value in removed:
            if value in (None, "", tags.get(key)):
                tags.pop(key, None)
        return replace(notebook, tags=tags, updated_at_ms=now_ms)

    return await _change(desk, caller, shown, tag)
