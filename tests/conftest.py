from collections.abc import Iterator

import pytest

from tests.engines.slurm_cluster import SlurmCluster, require_slurm, running_slurm


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """One cluster for the whole session: it takes a second to come up, and memory to keep."""
    require_slurm()
    with running_slurm() as cluster:
        yield cluster
