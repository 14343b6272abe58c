"""Group commit: one thread writes, and each transaction takes whatever has gathered meanwhile.

Both stores write so. How a transaction begins, ends and goes wrong is their own: `Transactions`.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import structlog

from muster.domain.errors import MusterError, StoreUnavailable
from muster.store.connection import REFUSED, Connection
from muster.store.counting import Counts
from muster.store.listchanges import ListChanges
from muster.store.transaction import Transaction, is_telling_lists, marked_as, may_defer_counters

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

WRITE_BATCH_MAX: Final = 256
PATIENCE_SECONDS: Final = 0.04  # between commits that nobody waits for
# Where those come as a stream, fewer and larger ones: each lets whatever is shared be read anew.
STREAM_PATIENCE_SECONDS: Final = 0.2
STREAM_COUNT: Final = 8  # so many between two commits begin one
STREAM_PER_SECOND: Final = 100  # fewer end it
STREAM_BATCH: Final = 64  # so many wait no longer: as many as the reconciler does at once


class News(StrEnum):
    """What a commit is to be told to others for: to the reconciler, or to other servers."""

    WORK = "muster_work"
    LOGINS = "muster_logins"


class Transactions(Protocol):
    """How a store carries out one transaction of its writer. Used in the writer's thread."""

    def run(self, work: Callable[[Connection], frozenset[News]]) -> None:
        """Begin a transaction in which nobody else writes, do the work, and commit it.

        What the work or the commit raises undoes all of it. The work is run again where nothing of
        its transaction has happened, and the same may succeed a moment later.
        """

    def concerns_all(self, error: BaseException) -> bool:
        """Whether a statement failed by the disk, a lock, the memory or the connection."""
        ...

    def for_all_callers(self, error: BaseException) -> BaseException:
        """What those are told whose transaction ended with this."""
        ...

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(slots=True)
class _Write:
    work: Callable[[Transaction, Sequence[Any]], Sequence[Any]]  # one outcome an item
    item: Any
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None
    news: frozenset[News] = frozenset()
    changed_lists: Set[str] | None = None  # of these projects; None: of whichever


@dataclass(slots=True)
class _Queue:
    waiting: list[_Write] = field(default_factory=list)
    is_closing: bool = False
    broken_by: StoreUnavailable | None = None  # set: nobody takes writes from here any more
    changed: threading.Condition = field(default_factory=threading.Condition)


class GroupCommit:
    """The writer of a store that is open, and the queue before it.

    Args:
        transactions: of the store; closed by the writer.
        after_commit: told in the event loop what is new, before those who wrote are answered.
    """

    def __init__(
        self, transactions: Transactions, after_commit: Callable[[frozenset[News]], None]
    ) -> None:
        self.commit_count = 0  # goes up before the writes of that commit are acknowledged
        self.list_changes = ListChanges()  # as that goes up
        self._transactions = transactions
        self._after_commit = after_commit
        self._gathered: list[_Write] = []  # for the writer, at the end of this turn of the loop
        self._patient_since = self._patient_until = 0.0  # by the clock of the loop
        self._patient_count = 0  # since then
        self._patient_timer: tuple[float, asyncio.AbstractEventLoop] | None = None
        self._queue = _Queue()
        self._writer = threading.Thread(target=self._write_until_closed, name="database-writer")
        self._writer.start()

    def close(self) -> None:
        """Commit what was handed over, and end."""
        self._hand_over()
        with self._queue.changed:
            self._queue.is_closing = True
            self._queue.changed.notify()
        self._writer.join()

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `Database.write`."""

        def alone(tx: Transaction, _: Sequence[None]) -> tuple[T]:
            return (work(tx, *args, **kwargs),)

        done: T = await self._write(marked_as(work, alone), None)
        return done

    async def write_together(
        self,
        work: Callable[[Transaction, Sequence[Item]], Sequence[T | MusterError]],
        item: Item,
        *,
        is_patient: bool = False,
    ) -> T:
        """As `Database.write_together`."""
        done: T = await self._write(work, item, is_patient=is_patient)
        return done

    async def _write(
        self,
        work: Callable[[Transaction, Sequence[Any]], Sequence[Any]],
        item: object,
        *,
        is_patient: bool = False,
    ) -> Any:
        loop = asyncio.get_running_loop()
        write = _Write(work, item, done=loop.create_future(), loop=loop)
        if self._queue.broken_by is not None:
            raise self._queue.broken_by
        if self._queue.is_closing:
            raise StoreUnavailable("The server is shutting down; try again in a moment.")
        self._gathered.append(write)
        if is_patient:
            # Not the first after a while: that one waits for nobody. Those after it gather, and go
            # along with whatever is handed over meanwhile.
            self._patient_count += 1
            until = self._patient_until
            if len(self._gathered) >= STREAM_BATCH:
                loop.call_soon(self._hand_over_patient, until)
            elif self._patient_timer != (until, loop):  # one timer for all of them
                self._patient_timer = (until, loop)
                loop.call_at(until, self._hand_over_patient, until)
        else:
            # What one turn of the event loop asks for goes to the writer together: it shares a
            # commit, as the moves of one pass do, and the writer is woken once.
            loop.call_soon(self._hand_over)
        return await write.done

    def _hand_over_patient(self, until: float) -> None:
        if until != self._patient_until:
            return  # it has gone along with others
        now = asyncio.get_running_loop().time()
        stream_count = max(STREAM_COUNT, STREAM_PER_SECOND * (now - self._patient_since))
        is_stream = self._patient_count >= stream_count
        self._patient_since, self._patient_count = now, 0
        self._patient_until = now + (STREAM_PATIENCE_SECONDS if is_stream else PATIENCE_SECONDS)
        self._hand_over()

    def _hand_over(self) -> None:
        with self._queue.changed:
            if not self._gathered:
                return
            handed, self._gathered = self._gathered, []
            if self._queue.broken_by is None:
                self._queue.waiting += handed
                self._queue.changed.notify()
                return
        for write in handed:
            write.error = self._queue.broken_by
        self._resolve(handed)

    def _write_until_closed(self) -> None:
        """What the writer thread does. It does not end by itself, and leaves nobody waiting."""
        batch: list[_Write] = []
        try:
            try:
                while batch := self._next_batch():
                    _run_batch(self._transactions, batch)
                    self.list_changes.note(self.commit_count + 1, _changed_lists(batch))
                    self.commit_count += 1
                    self._resolve(batch)
            finally:
                self._transactions.close()
        except BaseException as error:  # noqa: BLE001 - whatever it is: those who wait must hear of it
            self._break_down(batch, error)

    def _next_batch(self) -> list[_Write]:
        """Whatever waits, without waiting for more: the next batch gathers while it commits."""
        queue = self._queue
        with queue.changed:
            while not queue.waiting and not queue.is_closing:
                queue.changed.wait()
            batch = queue.waiting[:WRITE_BATCH_MAX]
            del queue.waiting[:WRITE_BATCH_MAX]
            return batch

    def _break_down(self, batch: Sequence[_Write], error: BaseException) -> None:
        """Refuse everything from now on, as nothing can be written any more, and say so once."""
        log.critical("database_writer_ended", why=repr(error))
        broken_by = StoreUnavailable(
            f"The server cannot write any more ({error!r}); it has to be started again."
        )
        with self._queue.changed:
            self._queue.broken_by = broken_by
            left = [*batch, *self._queue.waiting]
            self._queue.waiting.clear()
        for write in left:
            write.error = write.error or broken_by
        self._resolve(left)

    def _resolve(self, batch: Sequence[_Write]) -> None:
        for loop in {write.loop for write in batch}:
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                writes = [write for write in batch if write.loop is loop]
                loop.call_soon_threadsafe(self._answer, writes)

    def _answer(self, writes: Sequence[_Write]) -> None:
        self._after_commit(_news_of(writes))
        for write in writes:
            if write.done.done():
                continue  # the caller went away; what it asked for is done all the same
            if write.error is not None:
                write.done.set_exception(write.error)
            else:
                write.done.set_result(write.result)


class WriteFailed(Exception):
    """A write ended in a way that no caller can be handed as it is, such as SystemExit."""


class _NotTogether(Exception):
    """Work that was done for several at once failed: whose fault it is shows one by one."""


class _NothingLeft(Exception):
    """The only write of a transaction failed: there is nothing to commit."""


def _run_batch(transactions: Transactions, batch: Sequence[_Write]) -> None:
    """Commit a batch in one transaction, or leave in each write why it was not."""

    def together(connection: Connection) -> frozenset[News]:
        return _run_parts(transactions, connection, _parts_of(batch), shares_counters=True)

    def apart(connection: Connection) -> frozenset[News]:
        parts = [[write] for write in batch]
        return _run_parts(transactions, connection, parts, shares_counters=False)

    try:
        try:
            transactions.run(together)
        except (*REFUSED, _NotTogether):
            # What was added up, or done at once, cannot be. One by one shows whose mistake it is.
            transactions.run(apart)
    except _NothingLeft:
        return
    except BaseException as error:  # noqa: BLE001 - the thread goes on, and the callers hear of it
        for write in batch:
            # What its own rule refused stays refused: that answer does not hang on the commit.
            if not isinstance(write.error, MusterError):
                write.error = _for_caller(transactions.for_all_callers(error))
                write.news = frozenset()


def _parts_of(batch: Sequence[_Write]) -> Sequence[Sequence[_Write]]:
    """Those that have the same work are one part; it comes where the first of them stands."""
    parts: dict[object, list[_Write]] = {}
    for write in batch:
        parts.setdefault(write.work, []).append(write)
    return list(parts.values())


def _run_parts(
    transactions: Transactions,
    connection: Connection,
    parts: Sequence[Sequence[_Write]],
    *,
    shares_counters: bool,
) -> frozenset[News]:
    gathered = Counts() if shares_counters else None
    for part in parts:
        if gathered is not None and not may_defer_counters(part[0].work):
            gathered.apply(connection)  # before its savepoint, with which they would be undone
        _run_part(transactions, connection, part, gathered, is_alone=len(parts) == 1)
    if gathered is not None:
        gathered.apply(connection)
    return frozenset().union(*(_news_of(part) for part in parts))


def _run_part(
    transactions: Transactions,
    connection: Connection,
    part: Sequence[_Write],
    gathered: Counts | None,
    *,
    is_alone: bool,
) -> None:
    """Do the work of some writes under a savepoint. What it counts is gathered, or written at once.

    Work that is alone in its transaction has no savepoint: a savepoint keeps each page that changes
    once more, which is a fifth of what it takes to move in thousands of rows.
    """
    tx = Transaction(connection, gathered)
    for write in part:
        write.result, write.error, write.news = None, None, frozenset()
        write.changed_lists = tx.changed_lists if is_telling_lists(write.work) else None
    if not is_alone:
        connection.execute("SAVEPOINT write")
    try:
        outcomes = part[0].work(tx, [write.item for write in part])
        news = _news_in(tx)
        for write, outcome in zip(part, outcomes, strict=True):
            if isinstance(outcome, MusterError):
                write.error = outcome
            else:
                write.result, write.news = outcome, news
        if gathered is None:
            tx.counts.apply(connection)
    except BaseException as error:  # whatever it is belongs to the caller who asked
        if transactions.concerns_all(error):
            raise
        if len(part) > 1:
            raise _NotTogether from error
        part[0].error, part[0].news = _for_caller(error), frozenset()
        if is_alone:
            raise _NothingLeft from error
        connection.execute("ROLLBACK TO write")
    else:
        if gathered is not None:
            gathered.take_over(tx.counts)
    if not is_alone:
        connection.execute("RELEASE write")


def _news_in(tx: Transaction) -> frozenset[News]:
    flags = {News.WORK: tx.has_work, News.LOGINS: tx.changes_logins}
    return frozenset(news for news, is_set in flags.items() if is_set)


def _news_of(writes: Sequence[_Write]) -> frozenset[News]:
    return frozenset().union(*(write.news for write in writes))


def _changed_lists(writes: Sequence[_Write]) -> Set[str] | None:
    changed: set[str] = set()
    for write in writes:
        if write.changed_lists is None:
            return None
        changed |= write.changed_lists
    return changed


def _for_caller(error: BaseException) -> BaseException:
    """The error itself, unless a future or an event loop would take it for something else."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failed = WriteFailed(f"The write ended with {error!r}.")
    failed.__cause__ = error
    return failed


def without_memory() -> StoreUnavailable:
    """What each of a group is told when the memory runs out in the middle of it."""
    return StoreUnavailable(
        "The server has no memory left for this write. Nothing was changed; try again."
    )
