"""Ids of rows that are written many at once: handed out here, instead of one by one."""

from dataclasses import dataclass
from typing import Final

from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("ids")


@dataclass(slots=True, kw_only=True)
class Ids:
    """The last that were handed out. Read, counted up and kept within one transaction."""

    job: int = 0
    version: int = 0
    workload: int = 0

    @classmethod
    def read(cls, tx: Transaction) -> "Ids":
        return cls(**dict(tx.execute(SQL["last_ids"]).fetchall()))

    def keep(self, tx: Transaction) -> None:
        """Let no other row get them, once they are written."""
        handed_out = {
            "job_id": self.job,
            "version_id": self.version,
            "workload_id": self.workload,
        }
        tx.execute(SQL["keep_ids"], handed_out).fetchone()
