"""How a server writes: in turn with the others, and once, whatever becomes of its connection."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg
import structlog

from muster.domain.errors import StoreUnavailable
from muster.store.connection import Connection
from muster.store.groupcommit import News, without_memory
from muster.store.postgres.connection import (
    OF_THE_LINE,
    OF_THE_SET_UP,
    WALKING,
    Address,
    PostgresConnection,
    connect,
    first_line,
    translated,
)

log = structlog.get_logger()

WRITE_LOCK: Final = 0x6D757374  # of pg_advisory_xact_lock; the same in every server
# A server that stops in the middle of a write must not keep the others from theirs. One that is
# slow, on a busy machine, is given longer with each attempt.
WRITER_IDLE_MS: Final = (1_000, 3_000, 10_000)
WRITE_ATTEMPTS: Final = len(WRITER_IDLE_MS)
WRITER_WAIT_MS: Final = 15_000
OUTCOME_SECONDS: Final = 5.0  # to learn what became of a commit whose answer was lost

_TAKE_TURN: Final = f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"
_TAKE_TURN_FOR_LONGER: Final = (
    f"SELECT set_config('idle_in_transaction_session_timeout', %s, true),"
    f" pg_advisory_xact_lock({WRITE_LOCK})"
)
# Part of what is committed: it is there exactly if the rest is.
_MARK_AND_TELL: Final = """
WITH marked AS (
    INSERT INTO commit_mark (writer, number) VALUES (%s, %s)
    ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = now())
SELECT pg_notify(channel, '') FROM unnest(CAST(%s AS text[])) AS channel
"""
_LAST_MARK: Final = "SELECT number FROM commit_mark WHERE writer = %s"


class Lost(Exception):
    """The connection was lost; `is_committed` is None where nobody can tell."""

    def __init__(self, cause: psycopg.Error, *, is_committed: bool | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.is_committed = is_committed


class SharedTransactions:
    """Transactions on the one connection by which a server writes."""

    def __init__(self, address: "Address") -> None:
        self._address = address
        self._connection: psycopg.Connection[Any] | None = None
        self._is_away = False
        self._name = uuid.uuid4().hex  # whose marks are ours
        self._number = 0  # of the transaction that is under way, or was the last

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def concerns_all(self, error: BaseException) -> bool:
        return isinstance(error, (*OF_THE_LINE, *OF_THE_SET_UP, MemoryError, Lost))

    def for_all_callers(self, error: BaseException) -> BaseException:
        if isinstance(error, Lost):
            return unavailable(self._address, error)
        if isinstance(error, psycopg.Error):
            return translated(error, self._address)
        return without_memory() if isinstance(error, MemoryError) else error

    def run(self, work: Callable[[Connection], frozenset[News]]) -> None:
        """A transaction that was lost is run again: nothing of it had happened."""
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                self._run_once(work, attempt)
            except Lost as lost:
                if lost.is_committed:
                    return
                if lost.is_committed is None or attempt == WRITE_ATTEMPTS:
                    raise
                self._note(lost)
            else:
                self._note(None)
                return

    def _note(self, lost: "Lost | None") -> None:
        """Tell that the database went away, and that it is back: once each."""
        if (lost is not None) != self._is_away:
            self._is_away = lost is not None
            if lost is not None:
                log.warning("database_lost", why=first_line(lost.cause))
            else:
                log.info("database_back")

    def _run_once(self, work: Callable[[Connection], frozenset[News]], attempt: int) -> None:
        self._number += 1
        is_committing = False
        connection = None
        try:
            connection = self._open()
            if attempt == 1:
                connection.execute(_TAKE_TURN)
            else:
                connection.execute(_TAKE_TURN_FOR_LONGER, (str(WRITER_IDLE_MS[attempt - 1]),))
            channels = sorted(work(PostgresConnection(connection)))
            connection.execute(_MARK_AND_TELL, (self._name, self._number, channels))
            is_committing = True
            connection.commit()
        except OF_THE_LINE as error:
            if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
                self.close()  # PostgreSQL has; a COMMIT came too late to be heard
                raise Lost(error, is_committed=False) from error
            if connection is not None and not connection.broken and not connection.closed:
                self._roll_back(connection)
                if not _is_passing(error):
                    raise
                raise Lost(error, is_committed=False) from error
            raise Lost(error, is_committed=self._outcome() if is_committing else False) from error
        except BaseException as error:
            # After an error of the database that nobody expected, begin with a new connection.
            self.close() if isinstance(error, psycopg.Error) else self._roll_back(connection)
            raise

    def _roll_back(self, connection: "psycopg.Connection[Any] | None") -> None:
        with suppress(psycopg.Error):
            if connection is not None:
                connection.rollback()

    def _open(self) -> "psycopg.Connection[Any]":
        if self._connection is None or self._connection.closed:
            self._connection = connect(
                self._address,
                idle_in_transaction_session_timeout=WRITER_IDLE_MS[0],
                lock_timeout=WRITER_WAIT_MS,
                synchronous_commit="on",
                **WALKING,
            )
        return self._connection

    def _outcome(self) -> bool | None:
        """Whether the transaction was committed whose answer was lost; None: nobody can tell.

        By its mark, and not by the number that PostgreSQL gave it: after a crash those that were
        not on disk are given out again, and may be another's that was committed.
        """
        until = time.monotonic() + OUTCOME_SECONDS
        while (left := until - time.monotonic()) > 0:
            with suppress(psycopg.Error):
                connection = self._open()
                # Its turn is over when it is ours: what it has not committed by then is undone.
                connection.execute(f"SET LOCAL lock_timeout = {int(left * 1000) + 1}")
                connection.execute(_TAKE_TURN)
                found = connection.execute(_LAST_MARK, (self._name,)).fetchone()
                connection.rollback()
                return found == (self._number,)
            if self._connection is not None:
                self._roll_back(self._connection)
            time.sleep(0.05)
        return None


def _is_passing(error: psycopg.Error) -> bool:
    """Whether the same transaction may succeed a moment later, as it is."""
    return isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure)


def unavailable(address: Address, lost: Lost) -> StoreUnavailable:
    if lost.is_committed is None:
        return StoreUnavailable(
            f"The connection to the database {address} was lost while it committed"
            f" ({first_line(lost.cause)}), and it cannot be asked: look whether this was done"
            " before you do it again."
        )
    return StoreUnavailable(
        f"The database {address} cannot be used at the moment ({first_line(lost.cause)})."
        " Nothing was changed; try again, and look at PostgreSQL if it stays."
    )
