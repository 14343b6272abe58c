"""Who may change the nodes of a pool."""

from typing import Final

import pytest

from muster.domain.errors import Forbidden
from muster.domain.partitioning import Partitioning
from muster.domain.pool import Pool, PoolPhase, Scope

ALONE: Final = Partitioning()
MAY: Final = Partitioning(hosts_are_whole=True, may_change=True)
MAY_NOT: Final = Partitioning(hosts_are_whole=True, may_change=False)


def pool(declared: str | None) -> Pool:
    return Pool(
        id="train-1",
        project_id="1",
        display_name="train",
        partition="train-1",
        phase=PoolPhase.RUNNING,
        scopes=tuple(Scope),
        declared=declared,
    )


OF_SLURM: Final = pool('{"name":"train","partition":"train"}')
OF_THE_FILE: Final = pool('{"name":"train"}')
OF_THE_API: Final = pool(None)


def test_without_a_scheduler_beside_it_muster_changes_every_pool() -> None:
    ALONE.check_may_make()
    for each in (OF_SLURM, OF_THE_FILE, OF_THE_API):
        ALONE.check_may_resize(each)
        ALONE.check_may_delete(each)


@pytest.mark.parametrize("partitioning", [MAY, MAY_NOT])
def test_a_partition_of_the_schedulers_own_is_changed_there(partitioning: Partitioning) -> None:
    with pytest.raises(Forbidden, match="cannot be resized over the API"):
        partitioning.check_may_resize(OF_SLURM)
    with pytest.raises(Forbidden, match="cannot be deleted over the API"):
        partitioning.check_may_delete(OF_SLURM)


def test_a_new_pool_needs_leave_to_make_partitions() -> None:
    MAY.check_may_make()
    with pytest.raises(Forbidden, match="slurm_may_change_partitions"):
        MAY_NOT.check_may_make()
    with pytest.raises(Forbidden, match="slurm_may_change_partitions"):
        MAY_NOT.check_may_resize(OF_THE_API)


def test_a_pool_without_a_partition_of_its_own_needs_no_leave() -> None:
    MAY_NOT.check_may_resize(OF_THE_FILE)
    MAY_NOT.check_may_delete(OF_THE_FILE)
    MAY_NOT.check_may_delete(OF_THE_API)
