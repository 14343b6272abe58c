"""Experiments: what training jobs that belong together stand in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from muster.domain.training import check_description, check_name

EXPERIMENTS_MAX: Final = 1_000  # of one project


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Times are epoch milliseconds."""

    uid: str  # 32 hex digits
    project_id: str
    workspace_id: str
    name: str
    description: str = ""
    job_count: int = 0  # listed training jobs in it, as the v2 API counts them
    created_at_ms: int
    updated_at_ms: int

    @property
    def shown_id(self) -> str:
        return shown_id(self.uid)


def shown_id(uid: str) -> str:
    """As a UUID is written."""
    return f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:]}"


def uid_of(shown: str) -> str:
    return shown.replace("-", "").lower()


def check_experiment(experiment: Experiment) -> None:
    """Raise InvalidRequest unless everything that its user says of it is as it may be."""
    check_name("metadata.name", experiment.name)
    check_description("metadata.description", experiment.description)


# Fields by what a list may be sorted by.
SORT_KEYS: Final[Mapping[str, str]] = {
    "create_time": "created_at_ms",
    "update_time": "updated_at_ms",
    "name": "name",
    "description": "description",
    "job_count": "job_count",
}
