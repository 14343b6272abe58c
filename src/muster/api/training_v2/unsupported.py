"""What a request may ask for that this server cannot do, refused by its field."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from muster.domain import errors
from muster.domain.training import RETRY_ANNOTATION
from muster.wire import training_v2 as shapes
from muster.wire.decode import shown


def refuse(unsupported: Iterable[tuple[str, object]]) -> None:
    """Of (field, value), whatever asks for something: empty values do not."""
    for field, value in unsupported:
        if value:
            raise errors.Unsupported(f"{field} is {shown(value)}; this server cannot do that.")


def unsupported_fields(body: shapes.TrainingJobRequest) -> Iterator[tuple[str, object]]:
    """(field, value) of what cannot be had."""
    asked: list[tuple[str, object]] = [
        ("kind", body.kind if body.kind != "job" else None),
        ("tasks", body.tasks),
        ("endpoints", body.endpoints),
        ("train_type", body.train_type),
        ("ftjob_config", body.ftjob_config),
    ]
    asked += (
        (f"metadata.annotations.{name}", value)
        for name, value in (body.metadata.annotations or {}).items()
        if name.startswith(_ACTIVE_ANNOTATIONS)
        and name != RETRY_ANNOTATION
        and value not in ("", "0", "false")
    )
    if algorithm := body.algorithm:
        asked += _fields_of("algorithm", algorithm, _ACTIVE_ALGORITHMS)
        if algorithm.engine:
            asked += _fields_of("algorithm.engine", algorithm.engine, ("install_sys_packages",))
    if spec := body.spec:
        asked += _fields_of("spec", spec, _ACTIVE_SPECS)
        if isinstance(spec.retention, dict) and spec.retention.get("policy") != "disabled":
            asked.append(("spec.retention", spec.retention))
        if spec.log_export_path:
            asked += _fields_of("spec.log_export_path", spec.log_export_path, ("host_path",))
        if spec.schedule_policy:
            asked += _fields_of("spec.schedule_policy", spec.schedule_policy, _ACTIVE_POLICIES)
        if spec.resource:
            asked += _fields_of("spec.resource", spec.resource, _ACTIVE_RESOURCES)
    return iter(asked)


def _fields_of(
    path: str, given: msgspec.Struct, names: Sequence[str]
) -> Iterator[tuple[str, object]]:
    return ((f"{path}.{name}", getattr(given, name)) for name in names)


# Other annotations are notes; these ask the platform to do something.
_ACTIVE_ANNOTATIONS: Final = (
    "fault-tolerance/", "jupyter-lab/", "tensorboard/", "mindstudio-insight/",
)  # fmt: skip
_ACTIVE_ALGORITHMS: Final = (
    "policies", "autosearch_config_path", "autosearch_framework_path", "summary",
)  # fmt: skip
_ACTIVE_SPECS: Final = (
    "volumes", "notification", "custom_metrics", "output_model", "asset_model",
    "asset_id", "reserved_time", "log_export_config",
)  # fmt: skip
_ACTIVE_POLICIES: Final = ("preemptible", "required_affinity", "preferred_affinity")
_ACTIVE_RESOURCES: Final = ("pool_group_id", "main_container_customized_flavor")
