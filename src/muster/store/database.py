"""Where store functions run: the one interface of both stores.

A store is SQLite in a file of the data folder (`store/sqlite.py`), or PostgreSQL
(`store/postgres.py`). Both keep the same promises; the tests of this interface run on each.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from muster.store.connection import Connection
from muster.store.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")


class Database(Protocol):
    """A store that is open."""

    def on_work(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, after each commit that left the reconciler something."""

    def on_logins_changed(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, when another process has changed who may do what."""

    def close(self) -> None:
        """Commit what was handed over, and close."""

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a bounded index read: it sees the last commit, and one moment only."""
        ...

    async def read_fresh(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `read`, but it sees what another process has committed just now, too."""
        ...

    async def read_shared(self, work: Callable[..., T], *args: Hashable) -> T:
        """As `read`, once for all who ask until something is committed, where the store can tell.

        `work` depends on the database and `args` alone.
        """
        ...

    async def scan(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a read that may take long, on one consistent snapshot, beside everything else."""
        ...

    def stream(
        self,
        work: Callable[Concatenate[Connection, P], Iterator[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncIterator[T]:
        """Run an iterator of chunks on one consistent snapshot.

        A slow reader keeps nobody waiting; closing it gives back what it holds.
        """
        ...

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in a transaction; return once it is committed and on disk.

        Nobody else writes between what it reads and what it writes. It may be run more than once
        where a commit was refused: it changes nothing but the database. A caller that is cancelled
        meanwhile does not undo it.

        Raises:
            StoreUnavailable: nothing was changed; the same call may work later.
        """
        ...
