"""How notebooks are shown: what every reply about them is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muster.api.http import Request
from muster.api.images import image_view
from muster.domain.flavor import Flavor
from muster.domain.image import Arch, Image
from muster.domain.notebook import (
    MOUNT_PATH,
    STEPS,
    Lease,
    Notebook,
    StepStatus,
    VolumeCategory,
    billing_items,
    progress_of,
)
from muster.domain.phase import Phase
from muster.operations.notebookaccess import may_open
from muster.operations.notebookstart import Notebooks, base_path_of
from muster.store import identity, images, pools
from muster.store.connection import Connection
from muster.store.identity import Named
from muster.wire import notebooks as shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What notebooks of a project are shown with."""

    account: Named
    images: Mapping[str, Image]  # by id
    pool_names: Mapping[str, str]  # by id


def read_around(connection: Connection, desk: Notebooks, project_id: str) -> Around:
    project = identity.find_project(connection, project_id)
    assert project is not None
    known = [desk.images.built_in, *images.list_images(connection, project_id)]
    return Around(
        account=project.account,
        images={image.uid: image for image in known},
        pool_names={
            pool.id: pool.display_name for pool in pools.list_pools(connection, project_id)
        },
    )


def notebook_view(request: Request, notebook: Notebook, around: Around) -> shapes.NotebookView:
    """The token, and the address with it, only for who may open it."""
    is_open = may_open(request.caller, notebook)
    url = f"{request.base_url}{base_path_of(notebook)}lab"
    image = around.images[notebook.image_id]
    spec = notebook.custom_spec
    return shapes.NotebookView(
        id=notebook.shown_id,
        name=notebook.name,
        description=notebook.description,
        feature=notebook.feature,
        status=notebook.status,
        fail_reason=notebook.told or None,
        action_progress=_steps(notebook),
        flavor=notebook.flavor_code,
        custom_spec=None
        if spec is None
        else shapes.CustomSpecView(
            cpu=spec.cpus,
            memory=spec.memory_mib,
            gpu=spec.gpus,
            category="GPU" if spec.gpus else "CPU",
        ),
        image=image_view(image),
        lease=lease_view(notebook.lease),
        pool=shapes.NamedPool(
            id=notebook.pool_id, name=around.pool_names.get(notebook.pool_id, "")
        ),
        url=url if is_open else None,
        token=notebook.token if is_open else None,
        endpoints=[shapes.EndpointView(uri=url, key_pair_names=[])],
        volume=shapes.VolumeView(
            capacity=notebook.volume.capacity_gb,
            category=notebook.volume.category,
            mount_path=MOUNT_PATH,
            uri=notebook.volume.uri,
        ),
        data_volumes=[],
        workspace_id=notebook.workspace_id,
        billing_items=list(billing_items(notebook.status)),
        user=shapes.UserView(
            id=notebook.user_id,
            name=notebook.user_name,
            domain=shapes.DomainView(id=around.account.id, name=around.account.name),
        ),
        user_id=notebook.user_id,
        jupyter_version=notebook.server_version or None,
        tags=[shapes.TagView(key=key, value=value) for key, value in notebook.tags.items()],
        create_at=notebook.created_at_ms,
        update_at=notebook.updated_at_ms,
    )


def _steps(notebook: Notebook) -> list[shapes.StepView]:
    return [
        shapes.StepView(
            notebook_id=notebook.shown_id,
            step=number,
            status=status,
            description=_told(notebook, status) or f"Preparing the {name}",
            step_description=f"Preparing the {name}",
        )
        for number, (name, status) in enumerate(
            zip(STEPS, progress_of(notebook), strict=True), start=1
        )
    ]


def _told(notebook: Notebook, status: StepStatus) -> str:
    if status is StepStatus.PROCESSING:
        waits = notebook.phase is Phase.QUEUED
        return "Waiting for room in the pool" if waits else notebook.note or notebook.phase_message
    return notebook.fail_reason if status is StepStatus.FAILED else ""


def lease_view(lease: Lease) -> shapes.LeaseView:
    return shapes.LeaseView(
        create_at=lease.since_ms,
        duration=lease.duration_ms,
        enable=lease.is_enabled,
        type=lease.type,
        update_at=lease.updated_at_ms,
    )


def flavor_views(flavors: Sequence[Flavor], arch: Arch) -> list[shapes.NotebookFlavorView]:
    return [_flavor_view(flavor, arch) for flavor in flavors]


def _flavor_view(flavor: Flavor, arch: Arch) -> shapes.NotebookFlavorView:
    task = flavor.task
    cpus, memory_gib = task.cpu_millis / 1000, task.memory_mib / 1024
    described = f"{cpus:g} vCPUs | {memory_gib:g} GiB"
    cards = task.card_count
    return shapes.NotebookFlavorView(
        id=flavor.code,
        name=flavor.code,
        arch=arch,
        category=flavor.type_name.upper(),
        vcpus=-(-task.cpu_millis // 1000),
        memory=task.memory_mib * 1024,
        gpu=shapes.GpuView(gpu=task.gpu_count, gpu_memory="", type=flavor.card_model)
        if task.gpu_count
        else None,
        ascend=shapes.AscendView(npu=task.npu_count, npu_memory="", type=flavor.card_model)
        if task.npu_count
        else None,
        storages=list(VolumeCategory),
        billing=shapes.BillingView(code=flavor.code),
        description=f"{described} | {cards} x {flavor.card_model or 'card'}"
        if cards
        else described,
    )
