"""Writes down what a plan for a service has come to: one transaction, guarded by its revision."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from muster.domain.errors import StaleWrite
from muster.domain.phase import Phase
from muster.domain.pool import PoolPhase
from muster.domain.rollout import (
    Action,
    Counted,
    Deployed,
    Drop,
    End,
    Finished,
    GiveUp,
    GoBack,
    Instance,
    Launch,
    Mark,
    Rest,
    Scaled,
    Settle,
    StopAsDue,
)
from muster.domain.service import InstancePhase, Service, ServiceStatus, Wish
from muster.reconciler.act import MUSTER
from muster.reconciler.lastwords import read_last_words
from muster.store import pools, service_records, services, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction

LAST_WORDS_BYTES: Final = 2_000
LAST_WORDS_LINES: Final = 5

_GOING: Final = InstancePhase.DRAINING


class Planned(Protocol):
    """What a plan was made from."""

    @property
    def now_ms(self) -> int: ...

    @property
    def service(self) -> Service: ...

    @property
    def last_words(self) -> Mapping[int, str]: ...


def read_service(
    connection: Connection, service_id: int
) -> tuple[Service, tuple[Instance, ...]] | None:
    """None: it was deleted."""
    try:
        service = services.get_service_by_id(connection, service_id)
    except StaleWrite:
        return None
    return service, services.list_instances(connection, [service_id]).get(service_id, ())


async def words_of(database: Database, jobs_folder: Path, one: Instance) -> str:
    """Why an instance has ended, and its last lines."""
    workload = await database.read(workloads.get_workload, one.workload_id)
    said = workload.message
    if workload.phase is Phase.COMPLETED:
        said = "The program ended by itself, with exit code 0."
    if one.attempt_id is not None:
        tail = await asyncio.to_thread(
            read_last_words,
            jobs_folder / one.attempt_id,
            bytes_max=LAST_WORDS_BYTES,
            lines_max=LAST_WORDS_LINES,
        )
        if tail:
            said = f"{said} The end of its log:\n{tail}" if said else f"Its log:\n{tail}"
    return said.strip()


def write_actions(tx: Transaction, situation: Planned, actions: Sequence[Action]) -> None:
    """All of it or nothing. Raises StaleWrite where somebody else has changed the service."""
    service = services.get_service_by_id(tx.connection, situation.service.id)
    if service.revision != situation.service.revision:
        raise StaleWrite(f"Service {service.name!r} was changed meanwhile.")
    writing = _Writing(tx, situation, service)
    for action in actions:
        writing.do(action)
    writing.end()


@dataclass(slots=True)
class _Writing:
    """One transaction on one service."""

    tx: Transaction
    situation: Planned
    service: Service  # as it is to be at the end
    events: list[tuple[bool, str]] = field(default_factory=list)
    ends_update: tuple[str, str] | None = None  # (result, detail)
    is_at_rest: bool = False

    def do(self, action: Action) -> None:
        now_ms = self.situation.now_ms
        match action:
            case Launch():
                self._launch(action)
            case Mark():
                services.mark_instance(self.tx, action.instance, action.phase, now_ms=now_ms)
                if action.instance.workload_phase is Phase.LOST and action.phase is _GOING:
                    self.events.append((False, "An instance was lost, and is replaced."))
                if action.phase is InstancePhase.UNREADY:
                    self.events.append((False, "An instance does not answer any more."))
            case End():
                services.end_instance(self.tx, action.instance, now_ms=now_ms, actor=MUSTER)
                if action.why:
                    self.events.append((False, action.why))
            case Drop():
                services.drop_instance(self.tx, action.instance, now_ms=now_ms, actor=MUSTER)
            case Settle():
                self._settle(action.status)
            case Scaled():
                self.events.append((True, str(action)))
            case Deployed():
                self.service = replace(self.service, is_deployed=True, configs_before=())
                self.ends_update = ("SUCCESS", "")
            case GiveUp():
                self._fail(action.why)
            case GoBack():
                self.service = replace(
                    self.service,
                    configs=self.service.configs_before,
                    configs_before=(),
                    is_deployed=True,
                )
                self.ends_update = ("FAIL", action.why)
                self.events.append(
                    (False, f"The update failed, what ran before goes on. {action.why}")
                )
            case StopAsDue():
                self.service = replace(self.service, wish=Wish.STOPPED)
                self._settle(ServiceStatus.STOPPING)
                self.events.append((True, "The time that the service was to run for is over."))
            case Rest():
                self.is_at_rest = True
            case Counted():
                self.service = replace(self.service, tally=action.tally)
            case Finished():
                self._finish()

    def _launch(self, action: Launch) -> None:
        if self.service.error:
            return  # it was given up a moment ago
        config = self.service.config(action.key)
        assert config is not None
        now_ms = self.situation.now_ms
        pool = pools.find_pool(self.tx.connection, self.service.project_id, config.pool_id)
        if pool is None or pool.phase is PoolPhase.DELETING:
            self._fail(f"The pool {config.pool_id} was deleted.")
            return
        if action.replaces is not None:
            services.drop_instance(self.tx, action.replaces, now_ms=now_ms, actor=MUSTER)
            why = self.situation.last_words.get(action.replaces.id) or "it said nothing."
            self.events.append((False, f"An instance has ended and is replaced: {why}"))
        services.start_instance(
            self.tx,
            self.service,
            config,
            uid=uuid.uuid4().hex,
            now_ms=now_ms,
            tries=action.tries,
        )

    def _settle(self, status: ServiceStatus) -> None:
        if status is self.service.status:
            return
        is_normal = status not in (ServiceStatus.CONCERNING, ServiceStatus.FAILED)
        self.events.append((is_normal, f"The service is {status}."))
        self.service = replace(self.service, status=status, transition_at_ms=self.situation.now_ms)

    def _fail(self, why: str) -> None:
        if self.service.error:
            return
        self.service = replace(
            self.service, wish=Wish.STOPPED, error=why, configs_before=(), is_deployed=False
        )
        self.ends_update = ("FAIL", why)
        self.events.append((False, why))
        self._settle(ServiceStatus.FAILED)

    def _finish(self) -> None:
        tally = self.service.tally
        assert tally is not None, "it is counted first"
        self.service = replace(
            self.service,
            wish=Wish.STOPPED,
            is_deployed=True,
            tally=replace(tally, percent=100),
        )
        self.ends_update = ("SUCCESS", "")
        self.events.append((True, f"{tally.answered} of {tally.total} requests were answered."))
        if tally.failed:
            told = f"{tally.failed} requests failed: {tally.told_failures()}."
            self.events.append((False, told))
        self._settle(ServiceStatus.FINISHED)

    def end(self) -> None:
        now_ms = self.situation.now_ms
        if self.ends_update is not None:
            result, detail = self.ends_update
            service_records.end_updates(self.tx, self.service, result=result, detail=detail)
        if self.events:
            service_records.note_events(self.tx, self.service, self.events, at_ms=now_ms)
        services.update_service(self.tx, self.service, is_kept=not self.is_at_rest)
