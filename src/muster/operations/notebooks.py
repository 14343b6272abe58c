"""What a user may ask for of what a notebook is: make one, change it, tag it.

What becomes of it then is for `notebooklife.py`, the reconciler and the keeper
(`reconciler/notebooks.py`).
"""

import secrets
import uuid
from dataclasses import dataclass, replace
from typing import Final

from muster.domain.errors import NotebookFixed, NotebookTextInvalid, VolumeBucketUnknown
from muster.domain.notebook import (
    CUSTOM_FLAVOR,
    IN_BUCKETS,
    STARTABLE,
    CustomSpec,
    Lease,
    LeaseType,
    Notebook,
    Volume,
    check_capacity,
    check_duration,
    check_notebook,
    check_volume_uri,
)
from muster.domain.pool import public_pool_id
from muster.domain.tag import TagChange, changed_tags
from muster.objects.url import parse_url
from muster.operations.caller import Caller
from muster.operations.images import check_image_stays, get_image
from muster.operations.notebookaccess import change_notebook, check_may_change, get_notebook
from muster.operations.notebookstart import Notebooks, prepare_start
from muster.store import buckets, jobs, notebooks
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
        check_image_stays(tx.connection, image)
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
    may_use = await desk.database.read_recent(buckets.may_use_bucket, caller.project_id, url.bucket)
    if not may_use or not await desk.objects.has_bucket(url.bucket):
        raise VolumeBucketUnknown(
            f"{given.volume_field} is '{url}'; this project has no bucket {url.bucket!r}."
        )
    return replace(given.volume, uri=str(url))


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
    check_may_change(caller, present)
    wanted = _changed(present, change, now_ms=now_ms)
    image = await get_image(desk.images, caller, wanted.image_id, field="image_id")
    if (wanted.flavor_code, wanted.custom_spec) != (present.flavor_code, present.custom_spec):
        await prepare_start(desk, caller, wanted, image)

    def write(tx: Transaction, fresh: Notebook) -> Notebook:
        check_image_stays(tx.connection, image)
        return _changed(fresh, change, now_ms=now_ms)

    return await change_notebook(desk, caller, shown, write)


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


async def set_tags(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    change: TagChange,
    *,
    now_ms: int,
) -> Notebook:
    """Change its tags.

    Raises:
        NotebookTextInvalid: nothing was changed.
    """

    def tag(_: Transaction, notebook: Notebook) -> Notebook:
        tags = changed_tags(notebook.tags, change, refusal=NotebookTextInvalid)
        return replace(notebook, tags=tags, updated_at_ms=now_ms)

    return await change_notebook(desk, caller, shown, tag)
