"""What the handlers are given: built once, in `server.py`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from muster.api.training_v2.rendered import RenderedJobs
from muster.domain.catalogue import Catalogue
from muster.objects.store import ObjectStore
from muster.operations.identity import Identity
from muster.operations.notebookstart import Notebooks
from muster.operations.pools import Pools
from muster.operations.trainingstart import Training
from muster.operations.visualizations import Visualizations
from muster.store.database import Database
from muster.store.metrics import MetricsStore

if TYPE_CHECKING:
    from muster.api.inference import ServiceSite


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    database: Database
    metrics: MetricsStore
    training: Training
    identity: Identity
    pools: Pools
    notebooks: Notebooks
    visualizations: Visualizations
    service_site: "ServiceSite"  # requests to inference services, and their counts
    catalogue: Catalogue
    rendered_jobs: RenderedJobs
    objects: ObjectStore
    jobs_folder: Path
    clock_ms: Callable[[], int]
    job_quota: int
    counts_jobs_in_total: bool  # `statistics.total`: jobs instead of entries
    engine_trouble: Callable[[], Awaitable[str | None]]  # None: the engine answers
    forget_token: Callable[[str], None]
    forget_logins: Callable[[], None]  # after a change of who may do what
    version: str
