"""The keeper of services: asks instances whether they are well, and does what a plan says.

`domain/rollout.py` decides. One look at a service is read, plan, one guarded transaction; whoever
has changed the service meanwhile wins, and the next look sees that.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog

from muster.domain.errors import MusterError, QuotaExceeded
from muster.domain.model import Health
from muster.domain.phase import Phase
from muster.domain.rollout import (
    Action,
    Instance,
    Launch,
    Rest,
    Scaled,
    Settle,
    Situation,
    plan,
)
from muster.domain.scaling import Load, look_at_load, wanted_count
from muster.domain.service import InstancePhase, Service, ServiceConfig, Wish
from muster.proxy.endpoint import read_endpoint
from muster.reconciler.batches import BatchKeeper
from muster.reconciler.health import is_well
from muster.reconciler.rounds import PASSING, QUICK_REST_SECONDS, Rounds
from muster.reconciler.servicewrites import read_service, words_of, write_actions
from muster.store import service_records, services
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction

log = structlog.get_logger()

AT_ONCE: Final = 16  # services that are looked at before others have their turn
PLANS_MAX: Final = 8  # of one service, one following from the other, in one look


class Gauge(Protocol):
    """What is known of requests under way, by whoever passes them on."""

    def in_flight(self, service_id: int) -> Mapping[int, int]:
        """By instance."""
        ...

    def waiting(self, service_id: int) -> Mapping[str, int]:
        """Requests that wait for room, by the key of the part that they are meant for."""
        ...


@dataclass(slots=True)
class _Look:
    """What asking one instance has come to so far."""

    is_well: bool | None = None
    failures: int = 0  # in a row
    asked_at: float = float("-inf")
    asking: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class ServiceKeeper:
    """Keeps every service as it is asked to be, until it is cancelled."""

    database: Database
    jobs_folder: Path
    clock_ms: Callable[[], int]
    gauge: Gauge
    _rounds: Rounds = field(default_factory=lambda: Rounds("services"))
    _known: dict[int, Service] = field(default_factory=dict)  # as last read, by id
    _looks: dict[int, _Look] = field(default_factory=dict)  # by instance
    _loads: dict[tuple[int, str], Load] = field(default_factory=dict)  # by service and part
    _counts: dict[tuple[int, str], int] = field(default_factory=dict)  # wanted so far, likewise
    _told: dict[int, str] = field(default_factory=dict)  # what was last told of a service's trouble
    _batches: BatchKeeper = field(init=False)

    def __post_init__(self) -> None:
        self._batches = BatchKeeper(
            database=self.database, jobs_folder=self.jobs_folder, clock_ms=self.clock_ms
        )

    def on(self, database: Database) -> "ServiceKeeper":
        """One that has asked nobody yet, on another view of the store."""
        return ServiceKeeper(
            database=database,
            jobs_folder=self.jobs_folder,
            clock_ms=self.clock_ms,
            gauge=self.gauge,
        )

    def wake(self) -> None:
        """Look at once. Called in the event loop."""
        self._rounds.wake()

    async def run(self) -> None:
        """Look after look, until cancelled."""
        try:
            await self._rounds.run(self.look_once)
        finally:
            for look in self._looks.values():
                if look.asking is not None:
                    look.asking.cancel()

    async def look_once(self) -> bool:
        """Bring every service one step on; whether one of them is on its way somewhere."""
        found = await self.database.read(_read_all, self._known)
        self._known = {service.id: service for service, _ in found}
        self._forget(found)
        is_quick = False
        for index, (service, instances) in enumerate(found, start=1):
            if index % AT_ONCE == 0:
                await asyncio.sleep(0)  # requests do not wait for all of them
            try:
                is_quick |= await self._keep(service, instances)
            except PASSING as error:
                log.debug("service_overtaken", service=service.uid, why=error.message)
                is_quick = True
            except Exception:  # the others are to be kept, whatever is the matter with this one
                log.exception("service_not_kept", service=service.uid)
        return is_quick

    def _forget(self, found: Sequence[tuple[Service, tuple[Instance, ...]]]) -> None:
        """Drop what is known of instances and services that are gone."""
        there = {one.id for _, instances in found for one in instances}
        for instance_id in self._looks.keys() - there:
            asking = self._looks.pop(instance_id).asking
            if asking is not None:
                asking.cancel()
        parts = {(service.id, config.key) for service, _ in found for config in service.configs}
        self._loads = {key: load for key, load in self._loads.items() if key in parts}
        self._counts = {key: count for key, count in self._counts.items() if key in parts}
        ids = {service.id for service, _ in found}
        self._batches.forget_all_but(ids)
        self._told = {id_: told for id_, told in self._told.items() if id_ in ids}

    async def _keep(self, service: Service, instances: tuple[Instance, ...]) -> bool:
        if service.is_batch:
            return await self._batches.keep(service, instances)
        for _ in range(PLANS_MAX):
            situation = await self._situation(service, instances)
            actions = plan(situation)
            if not actions:
                break
            if not await self._carry_out(situation, actions) or Rest() in actions:
                return False
            read = await self.database.read(read_service, service.id)
            if read is None:
                return False
            service, instances = read
        else:
            return True
        return any(
            one.phase is InstancePhase.DRAINING
            or (one.phase is not InstancePhase.READY and one.workload_phase is Phase.RUNNING)
            for one in instances
        )

    async def _situation(self, service: Service, instances: tuple[Instance, ...]) -> Situation:
        now_ms = self.clock_ms()
        for one in instances:
            self._ask(service, one)
        in_flight = self.gauge.in_flight(service.id)
        wanted = {
            config.key: self._wanted(service, config, instances, in_flight, now_ms)
            for config in service.configs
        }
        return Situation(
            now_ms=now_ms,
            service=service,
            instances=instances,
            wanted=wanted,
            wanted_before=self._wanted_before(service, wanted),
            concurrency={
                config.key: load.concurrency
                for config in service.configs
                if (load := self._loads.get((service.id, config.key))) is not None
            },
            is_well={
                one.id: well
                for one in instances
                if (look := self._looks.get(one.id)) and (well := look.is_well) is not None
            },
            in_flight=in_flight,
            last_words=await self._last_words(service, instances),
        )

    def _wanted(
        self,
        service: Service,
        config: ServiceConfig,
        instances: Sequence[Instance],
        in_flight: Mapping[int, int],
        now_ms: int,
    ) -> int:
        """How many instances a part is to have, by the load of a while where it follows that."""
        if config.scaling is None:
            return config.instance_count
        load = look_at_load(
            self._loads.get((service.id, config.key)),
            service=service,
            config=config,
            instances=instances,
            in_flight=in_flight,
            waiting=self.gauge.waiting(service.id).get(config.key, 0),
            now_ms=now_ms,
        )
        self._loads[service.id, config.key] = load
        return wanted_count(config, load, now_ms=now_ms)

    def _wanted_before(self, service: Service, wanted: Mapping[str, int]) -> dict[str, int]:
        """As it has been told in the events, or as it is to begin with."""
        for key, count in wanted.items():
            if not service.is_deployed or (service.id, key) not in self._counts:
                self._counts[service.id, key] = count
        return {key: self._counts[service.id, key] for key in wanted}

    # ------------------------------------------------------------ asking

    def _ask(self, service: Service, one: Instance) -> None:
        """Ask whether it is well, if it is time for that; the answer is there at a later look."""
        config = _config_of(service, one)
        if config is None or one.attempt_id is None or one.workload_phase is not Phase.RUNNING:
            return
        health = config.health
        look = self._looks.setdefault(one.id, _Look())
        # One that comes up is asked often: whoever waits for it waits no longer than it takes.
        period = health.period_seconds if one.is_ready else QUICK_REST_SECONDS
        if look.asking is not None or time.monotonic() < look.asked_at + period:
            return
        delay_ms = 1000 * health.initial_delay_seconds
        if one.ready_at_ms is None and self.clock_ms() < (one.started_at_ms or 0) + delay_ms:
            return
        look.asked_at = time.monotonic()
        look.asking = asyncio.create_task(self._note_answer(look, one, health))

    async def _note_answer(self, look: _Look, one: Instance, health: Health) -> None:
        assert one.attempt_id is not None
        try:
            endpoint = read_endpoint(self.jobs_folder / one.attempt_id)
            answered = endpoint is not None and await is_well(*endpoint, health)
        finally:
            look.asking = None
        was_well = look.is_well
        look.failures = 0 if answered else look.failures + 1
        if answered:
            look.is_well = True
        elif look.failures >= health.failure_threshold or one.ready_at_ms is None:
            look.is_well = False
        if look.is_well is not was_well:
            self.wake()

    async def _last_words(self, service: Service, instances: Sequence[Instance]) -> dict[int, str]:
        """Of those that have ended, or have not answered yet: why they ended, their last lines."""
        if service.wish is Wish.STOPPED:
            return {}
        asked = [one for one in instances if one.has_ended]
        if not service.is_deployed:
            asked += [one for one in instances if one.ready_at_ms is None and one.started_at_ms]
        return {one.id: await words_of(self.database, self.jobs_folder, one) for one in asked}

    # ------------------------------------------------------------ doing

    async def _carry_out(self, situation: Situation, actions: Sequence[Action]) -> bool:
        """Whether all of it was done; what there is no room for is for a later look."""
        is_done = True
        try:
            await self.database.write(write_actions, situation, actions)
        except QuotaExceeded as error:
            await self._tell(situation.service, error)
            # The rest does not need to wait until there is room.
            others = [action for action in actions if not isinstance(action, Launch | Scaled)]
            if others:
                await self.database.write(write_actions, situation, others)
            is_done = False
        for action in actions:
            if isinstance(action, Settle):
                log.info("service_moved", service=situation.service.uid, status=action.status)
            elif isinstance(action, Scaled) and is_done:
                self._counts[situation.service.id, action.config.key] = action.count
        return is_done

    async def _tell(self, service: Service, error: MusterError) -> None:
        """Write trouble into the service's events, once."""
        if self._told.get(service.id) != error.message:
            self._told[service.id] = error.message

            def tell(tx: Transaction) -> None:
                if services.find_service(tx.connection, service.uid) is not None:
                    told = [(False, error.message)]
                    service_records.note_events(tx, service, told, at_ms=self.clock_ms())

            await self.database.write(tell)


def _config_of(service: Service, one: Instance) -> ServiceConfig | None:
    configs = (*service.configs, *service.configs_before)
    return next((config for config in configs if config.key == one.key), None)


def _read_all(
    connection: Connection, known: Mapping[int, Service]
) -> list[tuple[Service, tuple[Instance, ...]]]:
    """Every service to look at; those that are known as they are now are not read again."""
    kept = services.list_kept(connection)
    instances = services.list_instances(connection, list(kept))
    found = []
    for service_id, revision in kept.items():
        service = known.get(service_id)
        if service is None or service.revision != revision:
            service = services.get_service_by_id(connection, service_id)
        found.append((service, instances.get(service_id, ())))
    return found
