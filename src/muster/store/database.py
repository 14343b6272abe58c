"""Where store functions run: the one interface of both stores.

A store is SQLite in a file of the data folder (`store/sqlite.py`), or PostgreSQL
(`store/postgres/`). Both keep the same promises; the tests of this interface run on each.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from muster.domain.errors import MusterError
from muster.store.connection import Connection
from muster.store.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


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
        """As `read`, once for all who ask until something is committed.

        `work` depends on the database and `args` alone.
        """
        ...

    async def read_recent(self, work: Callable[..., T], *args: Hashable) -> T:
        """As `read_shared`, for what is made sure of later, or may be a moment old.

        All that this server has committed is seen. What others have in the last quarter of a
        second may not be: so the answer is the same for all who ask meanwhile, on any store.
        """
        ...

    async def read_lists(self, project_id: str, work: Callable[..., T], *args: Hashable) -> T:
        """As `read_shared`, until something is committed that changes lists of the project.

        `work` reads what the v1 lists of jobs and of versions show of that project, and no more;
        see `transaction.tells_lists`.
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

    async def write_together(
        self,
        work: Callable[[Transaction, Sequence[Item]], Sequence[T | MusterError]],
        item: Item,
        *,
        is_patient: bool = False,
    ) -> T:
        """As `write`, for what many ask for at once: `work` gets all items that wait with it.

        They go into one transaction in the order in which they were asked for, and in none with
        other writes of that moment. `work` returns one outcome an item; an item whose outcome is
        an error has changed nothing, and its caller is raised it. Should `work` raise anything
        itself, it is undone and done again with each item alone.

        Args:
            work: what to do; those that are equal are done together. One may have to do with a
                single item.
            item: what this caller asks for.
            is_patient: it may wait some milliseconds for others that come one by one, unless it is
                the first in a while. For what the platform does by itself: nobody waits for it,
                and commits that come less often leave more to those who read.

        Raises:
            StoreUnavailable: nothing was changed; the same call may work later.
        """
        ...
