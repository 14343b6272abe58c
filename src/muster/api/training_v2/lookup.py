"""Finds a training job by its `metadata.id`, the uid of the version's workload."""

import re
from typing import Final

from muster.api.http import Request
from muster.api.services import Services
from muster.domain import errors
from muster.store import training_listing
from muster.store.training_listing import TrainingRow


async def find_row(services: Services, request: Request, uid: str | None = None) -> TrainingRow:
    """Of the job with this uid; without one, of the job that the path names."""
    uid = uid or _uid(request)
    row = await services.database.read(
        training_listing.find_training_job,
        project_id=request.caller.project_id,
        uid=uid,
        now_ms=services.clock_ms(),
    )
    if row is None:
        raise training_job_unknown(request.params[1])
    return row


def _uid(request: Request) -> str:
    """Of the path: as it is shown, or without its hyphens."""
    text = request.params[1]
    if not _UUID.fullmatch(text):
        raise training_job_unknown(text)
    return text.replace("-", "").lower()


_HEX: Final = "[0-9a-fA-F]"
_UUID: Final = re.compile(f"{_HEX}{{32}}|{_HEX}{{8}}-({_HEX}{{4}}-){{3}}{_HEX}{{12}}")


def training_job_unknown(shown: str) -> errors.TrainingJobUnknown:
    return errors.TrainingJobUnknown(
        f"training_job_id is {shown[:100]!r}; this project has no such training job."
    )
