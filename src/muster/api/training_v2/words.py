"""The words of refusals: what v1 calls a field or an error, told as v2 calls it."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Final

from muster.api.http import Reply, Request
from muster.api.services import Services
from muster.domain import errors

Handler = Callable[[Services, Request], Awaitable[Reply]]


def in_v2_words(handler: Handler) -> Handler:
    """Refusals with the codes, statuses and field names of this API."""

    @wraps(handler)
    async def answered(services: Services, request: Request) -> Reply:
        try:
            return await handler(services, request)
        except errors.MusterError as error:
            error.message = _FIELD.sub(lambda match: _FIELDS[match[0]], error.message)
            own = _ERRORS.get(type(error))
            if own is None:
                raise
            raise own(error.message) from error

    return answered


# What the operations refuse in the words of v1, in those of this API.
_ERRORS: Final[Mapping[type[errors.MusterError], type[errors.MusterError]]] = {
    errors.InvalidRequest: errors.ParameterInvalid,
    errors.ConflictingValues: errors.ParameterInvalid,
    errors.JobUnknown: errors.TrainingJobUnknown,
    errors.NameTaken: errors.TrainingNameTaken,
    errors.QuotaExceeded: errors.TrainingQuotaExceeded,
}
_FIELDS: Final[Mapping[str, str]] = {
    "job_name": "metadata.name",
    "job_desc": "metadata.description",
    "config.app_url": "algorithm.code_dir",
    "app_url": "algorithm.code_dir",
    "config.boot_file_url": "algorithm.boot_file",
    "boot_file_url": "algorithm.boot_file",
    "config.engine_id": "algorithm.engine.engine_id",
    "config.user_image_url": "algorithm.engine.image_url",
    "config.user_command": "algorithm.command",
    "config.parameter": "algorithm.parameters",
    "config.data_url": "algorithm.inputs, data_url",
    "config.train_url": "algorithm.outputs, train_url",
    "config.inputs": "algorithm.inputs",
    "config.outputs": "algorithm.outputs",
    "config.environments": "algorithm.environments",
    "config.worker_server_num": "spec.resource.node_count",
    "config.spec_id": "spec.resource.flavor_id",
    "config.pool_id": "spec.resource.pool_id",
    "config.log_url": "spec.log_export_path.obs_url",
    "/job/resource-specs": "/training-job-flavors",
}
_FIELD: Final = re.compile(
    "|".join(rf"(?<![\w./]){re.escape(name)}\b" for name in _FIELDS if name[0] != "/")
    + "|/job/resource-specs"
)
