"""What may be changed of pools whose nodes a scheduler beside muster has partitions of. Pure."""

from dataclasses import dataclass

from muster.domain.errors import Forbidden
from muster.domain.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitioning:
    """Who decides about the nodes of pools. As it is by default, muster alone does."""

    hosts_are_whole: bool = False  # the scheduler's partitions have whole hosts
    may_change: bool = True  # muster may make, change and delete some of its own

    def check_may_make(self) -> None:
        """Raise Forbidden where pools cannot be made over the API."""
        if not self.may_change:
            raise Forbidden(
                "Pools are Slurm's partitions here, and this server may not make any. Its operator"
                " can make the partition in Slurm, and it becomes a pool; or let muster make"
                " partitions of its own with the setting slurm_may_change_partitions."
            )

    def check_may_resize(self, pool: Pool) -> None:
        """Raise Forbidden where the nodes of a pool cannot be changed over the API."""
        self._check_is_not_declared(pool, "resized")
        if pool.declared is None:
            self.check_may_make()

    def check_may_delete(self, pool: Pool) -> None:
        """Raise Forbidden where a pool cannot be deleted over the API."""
        self._check_is_not_declared(pool, "deleted")

    def _check_is_not_declared(self, pool: Pool, verb: str) -> None:
        if self.hosts_are_whole and (partition := pool.declared_partition):
            raise Forbidden(
                f"Pool {pool.id} is Slurm's partition {partition!r}; it cannot be {verb} over the"
                " API. Its operator changes it in Slurm, and the pool follows: its nodes within"
                " seconds, its end when muster is started again."
            )
