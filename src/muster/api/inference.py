"""Requests to services: who may ask, which instance answers, and how many wait for one.

What comes in goes to the parts of a service by their weights, and within a part to one of its ready
instances. An instance gets no more at once than it is said to take; what is beyond that waits, and
what is beyond the queue is refused.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from muster.api.authenticate import Authenticator, ProjectIdMalformed
from muster.api.authorise import Authoriser
from muster.api.callcounts import FLUSH_SECONDS, CallCounts
from muster.api.errors import Envelope
from muster.api.http import Reply, Request
from muster.api.proxied import Outcome, ProxyRequest, Redirected, Upstream
from muster.api.routing import Login, Route, Within
from muster.domain.balance import Candidate, Rotation, choose, share_of_source
from muster.domain.errors import (
    DeploymentInvalid,
    Forbidden,
    InstancesUnavailable,
    ProgramUnwell,
    ProjectMismatch,
    StoreUnavailable,
    TokenWithoutProject,
    TooBusy,
)
from muster.domain.permission import Permission
from muster.domain.service import Balancing
from muster.proxy.endpoint import Endpoints
from muster.proxy.forward import ClientLeft
from muster.proxy.upstream import Hold
from muster.store import services
from muster.store.database import Database
from muster.store.services import Backend, Share, Traffic

QUEUE_MAX: Final = 256  # requests to one service that wait for an instance
QUEUE_SECONDS: Final = 30.0
LOOK_AGAIN_SECONDS: Final = 0.1  # the first that waits looks for instances that are new
SUSPECT_SECONDS: Final = 1.0  # an instance that was not reached is passed over for so long
ANSWER_SECONDS: Final = 300.0  # for the first byte of an answer, and between two of them
STALLED_LOOK_SECONDS: Final = 1.0
STALLED_SECONDS: Final = 10.0  # that an instance has said nothing to anybody, and is not well
SERVICES_REMEMBERED_MAX: Final = 10_000
OTHERS_MAX: Final = 256  # instances of one service that were, and may not be any more

_FAILED: Final = frozenset({Outcome.UNREACHABLE, Outcome.TIMED_OUT, Outcome.BROKEN})


async def _never(request: Request) -> Reply:
    raise AssertionError("requests to services are passed on, not handled")


# What is asked of whoever asks a service. It stands in no table: any path below is the service's.
CALL: Final = Route(
    method="POST",
    path="/services/{project_id}/{service_id}",
    handler=_never,
    summary="Ask a service",
    envelope=Envelope.MODERN,
    needs=Permission.SERVICE_CALL,
    within=Within.SERVICE,
    takes_stream=True,
)
# The login alone, where there is no service that a permission could be for.
_LOGIN: Final = Route(
    method="POST",
    path="/services/{service_id}",
    handler=_never,
    summary="Ask a service that is not there",
    envelope=Envelope.MODERN,
    login=Login.MEMBER,
    takes_stream=True,
)


@dataclass(slots=True)
class _Waiting:
    """A request that waits for room."""

    share: str
    handed: "asyncio.Future[Backend]"


@dataclass(slots=True)
class _State:
    """What is under way of one service, in this server."""

    rotation: Rotation = field(default_factory=Rotation)
    in_flight: Counter[int] = field(default_factory=Counter)  # by instance
    last_turns: dict[int, int] = field(default_factory=dict)  # likewise
    suspect_until: dict[int, float] = field(default_factory=dict)  # likewise
    answered_at: dict[int, float] = field(default_factory=dict)  # likewise: a whole answer
    waiting: deque[_Waiting] = field(default_factory=deque)
    turns: int = 0

    def forget_all_but(self, instance_ids: Set[int]) -> None:
        """Others may have gone for good."""
        for known in (self.last_turns, self.suspect_until, self.answered_at):
            for gone in known.keys() - instance_ids:
                del known[gone]


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A request that has been let in."""

    service_id: int
    model_id: str
    backend: Backend
    share: str
    uid: str  # of the service
    hold: Hold = field(default_factory=Hold)


_ALL: Final = ""  # the share of all instances together, while some are being replaced


class ServiceSite:
    """The `Site` of services. Belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        authorise: Authoriser,
        jobs_folder: Path,
        clock_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._authenticate = authenticator
        self._authorise = authorise
        self._states: dict[int, _State] = {}
        self.calls: Final = CallCounts(database, clock_ms)
        self._tickets: dict[int, _Ticket] = {}  # by the identity of the upstream
        self._endpoints = Endpoints(jobs_folder)

    async def admit(self, request: ProxyRequest) -> Upstream | Redirected:
        """Where the request goes: see the head of this module.

        Raises:
            ServiceUnknown: there is none, or it is another project's.
            InstancesUnavailable: none of its instances is ready.
            TooBusy: as many wait already as may.
        """
        traffic = await self._check_caller(request.request, request.id)
        if traffic.is_batch:
            raise DeploymentInvalid(
                "This is a batch service, which answers nobody: what it was asked for lies under"
                " the dest_path of its config."
            )
        if request.is_websocket and not traffic.allows_websockets:
            raise DeploymentInvalid(
                "This service takes no websockets; deploy it with additional_properties"
                ' {"NAME": {"websocket_upgrade": true}}.'
            )
        source = (request.request.scope.get("client") or ("",))[0]
        try:
            ticket, endpoint = await self._acquire(request, traffic, source)
        except (InstancesUnavailable, TooBusy):
            self.calls.add(traffic.service_id, traffic.shares[0].model_id, is_failure=True)
            raise
        upstream = Upstream(
            host=endpoint[0],
            port=endpoint[1],
            path=request.path or "/",
            query=request.request.raw_query,
            prefix=f"/services/{request.id}",
            key=f"instance-{ticket.backend.instance_id}",
            answer_seconds=ANSWER_SECONDS,
            hold=ticket.hold,
        )
        self._tickets[id(upstream)] = ticket
        return upstream

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        ticket = self._tickets.pop(id(upstream))
        if outcome is Outcome.UNREACHABLE:
            # It counts as a call that failed, and another instance is asked for.
            state = self._state(ticket.service_id)
            until = time.monotonic() + SUSPECT_SECONDS
            state.suspect_until[ticket.backend.instance_id] = until
            self._endpoints.forget(ticket.backend.attempt_id)
        elif outcome is Outcome.ANSWERED:
            answered_at = self._state(ticket.service_id).answered_at
            answered_at[ticket.backend.instance_id] = time.monotonic()
        self.calls.add(ticket.service_id, ticket.model_id, is_failure=outcome in _FAILED)
        self._release(ticket)

    # ------------------------------------------------------------ who asks

    async def _find_traffic(self, uid: str) -> Traffic:
        traffic: Traffic | None = await self._database.read_recent(services.find_traffic, uid)
        if traffic is None:
            raise services.service_unknown(uid)
        return traffic

    async def _check_caller(self, request: Request, uid: str) -> Traffic:
        traffic: Traffic | None = await self._database.read_recent(services.find_traffic, uid)
        request.params = [traffic.project_id if traffic else "", uid]
        try:
            # Whoever has no login is not told whether there is such a service.
            await self._authenticate(request, CALL if traffic else _LOGIN)
        except (ProjectMismatch, ProjectIdMalformed, TokenWithoutProject) as error:
            raise services.service_unknown(uid) from error
        if traffic is None:
            raise services.service_unknown(uid)
        try:
            deciding = self._authorise(request, CALL)
            if deciding is not None:
                await deciding
        except Forbidden:
            if request.caller.project_id != traffic.project_id:
                raise services.service_unknown(uid) from None
            raise
        return traffic

    # ------------------------------------------------------------ which instance

    async def _acquire(
        self, request: ProxyRequest, traffic: Traffic, source: str
    ) -> tuple[_Ticket, tuple[str, int]]:
        state = self._state(traffic.service_id)
        share = self._share(state, traffic, source)
        is_first = not any(one.share == share for one in state.waiting)
        backend = self._choose(state, traffic, share, source) if is_first else None
        if backend is None:
            traffic, share, backend = await self._wait(request, state, traffic, share, source)
        ticket = _Ticket(
            traffic.service_id, _model_of(traffic, backend), backend, share, request.id
        )
        endpoint = self._endpoints.find(backend.attempt_id)
        if endpoint is None:
            self._release(ticket)
            raise InstancesUnavailable("The instance has no address yet; try again in a moment.")
        return ticket, endpoint

    def _share(self, state: _State, traffic: Traffic, source: str) -> str:
        """The part of the service whose turn it is.

        Raises:
            InstancesUnavailable: no part has an instance that is ready.
        """
        if not traffic.backends:
            raise InstancesUnavailable(
                f"The service is {traffic.status} and has no instance that is ready."
            )
        weights = _weights(traffic)
        if len(weights) == 1:
            return next(iter(weights))
        if traffic.balancing is Balancing.SOURCE_IP:
            return share_of_source(source, weights)
        return state.rotation.next(weights)

    def _choose(self, state: _State, traffic: Traffic, share: str, source: str) -> Backend | None:
        """One with room, which is taken with that; None: there is none."""
        now = time.monotonic()
        mine = [one for one in traffic.backends if share in (_ALL, one.key)]
        well = [one for one in mine if state.suspect_until.get(one.instance_id, 0.0) <= now]
        limit = _limit(traffic, share)
        candidates = [
            Candidate(
                one.instance_id,
                state.in_flight[one.instance_id],
                state.last_turns.get(one.instance_id, 0),
            )
            for one in well or mine
            if state.in_flight[one.instance_id] < limit
        ]
        if not candidates:
            return None
        chosen = choose(candidates, traffic.balancing, source).id
        if len(state.last_turns) > OTHERS_MAX + len(traffic.backends):
            state.forget_all_but({one.instance_id for one in traffic.backends})
        state.turns += 1
        state.last_turns[chosen] = state.turns
        state.in_flight[chosen] += 1
        return next(one for one in mine if one.instance_id == chosen)

    async def _wait(
        self, request: ProxyRequest, state: _State, traffic: Traffic, share: str, source: str
    ) -> tuple[Traffic, str, Backend]:
        """Stand in line until an instance has room.

        Raises:
            ClientLeft: nobody waits for the answer any more; it would take the room of others.
            TooBusy: the line is too long.
            InstancesUnavailable: it took too long, or there is no instance any more.
        """
        if len(state.waiting) >= QUEUE_MAX:
            raise TooBusy(
                f"{QUEUE_MAX} requests wait for an instance of the service already; try again"
                " later, or give it more instances."
            )
        waiting = _Waiting(share, asyncio.get_running_loop().create_future())
        state.waiting.append(waiting)
        leaving = asyncio.ensure_future(
            _never_leaves() if request.is_websocket else request.request.left()
        )
        deadline = time.monotonic() + QUEUE_SECONDS
        try:
            while True:
                _check_time(deadline)
                await _one_of(waiting.handed, leaving)
                traffic = await self._find_traffic(request.id)
                if waiting.handed.done():
                    backend = waiting.handed.result()
                    if backend in traffic.backends:
                        return traffic, share, backend
                    # It is being replaced: whoever handed it over could not know.
                    self._give_back(state, backend)
                    waiting.handed = asyncio.get_running_loop().create_future()
                    state.waiting.appendleft(waiting)
                if share != _ALL and share not in _weights(traffic):
                    share = waiting.share = self._share(state, traffic, source)
                if next(one for one in state.waiting if one.share == share) is waiting:
                    found = self._choose(state, traffic, share, source)
                    if found is not None:
                        return traffic, share, found
        except BaseException:
            if waiting.handed.done():
                self._pass_on(state, waiting.handed.result())
            raise
        finally:
            leaving.cancel()
            if waiting in state.waiting:
                state.waiting.remove(waiting)

    def _release(self, ticket: _Ticket) -> None:
        self._pass_on(self._state(ticket.service_id), ticket.backend)

    def _pass_on(self, state: _State, backend: Backend) -> None:
        """Its room goes to the first that waits for it, or is free."""
        for waiting in state.waiting:
            if waiting.share in (_ALL, backend.key) and not waiting.handed.done():
                state.waiting.remove(waiting)
                waiting.handed.set_result(backend)
                return
        self._give_back(state, backend)

    def _give_back(self, state: _State, backend: Backend) -> None:
        id_ = backend.instance_id
        state.in_flight[id_] -= 1
        if state.in_flight[id_] <= 0:
            del state.in_flight[id_]

    def _state(self, service_id: int) -> _State:
        state = self._states.get(service_id)
        if state is None:
            if len(self._states) >= SERVICES_REMEMBERED_MAX:
                for id_ in [
                    i for i, s in self._states.items() if not s.in_flight and not s.waiting
                ]:
                    del self._states[id_]
            state = self._states[service_id] = _State()
        return state

    # ------------------------------------------------------------ what others ask, and run

    def in_flight(self, service_id: int) -> Mapping[int, int]:
        """Requests under way by instance."""
        state = self._states.get(service_id)
        return state.in_flight if state else {}

    def waiting(self, service_id: int) -> Mapping[str, int]:
        """Requests that wait for room, by the key of the part that they are meant for."""
        state = self._states.get(service_id)
        return Counter(one.share for one in state.waiting) if state else {}

    async def run(self) -> None:
        """End what is left lying, and write what is counted, now and then until cancelled."""
        flushed_at = time.monotonic()
        while True:
            await asyncio.sleep(STALLED_LOOK_SECONDS)
            await self.end_stalled()
            if time.monotonic() >= flushed_at + FLUSH_SECONDS:
                await self.calls.flush()
                flushed_at = time.monotonic()

    async def end_stalled(self) -> None:
        """End requests that lie with an instance that stands still: it may never answer again.

        It does where it is not well and says nothing to anybody. One that is only slow to say that
        it is well goes on with what it has.
        """
        tickets = list(self._tickets.values())
        for uid in {ticket.uid for ticket in tickets}:
            try:
                traffic: Traffic | None = await self._database.read_recent(
                    services.find_traffic, uid
                )
            except StoreUnavailable:
                return  # nothing is known; the next look may know more
            for instance_id in traffic.unwell if traffic else ():
                left = [one for one in tickets if one.backend.instance_id == instance_id]
                if left and self._silent_seconds(left) >= STALLED_SECONDS:
                    for ticket in left:
                        ticket.hold.end_if_silent(STALLED_SECONDS, _unwell())

    def _silent_seconds(self, tickets: Sequence[_Ticket]) -> float:
        """How long the instance of these requests has said nothing, to them or to others."""
        [instance_id] = {ticket.backend.instance_id for ticket in tickets}
        answered_at = self._state(tickets[0].service_id).answered_at.get(instance_id, 0.0)
        silences = [ticket.hold.silent_seconds for ticket in tickets]
        return min(time.monotonic() - answered_at, *silences)


async def _one_of(handed: "asyncio.Future[Backend]", leaving: "asyncio.Future[None]") -> None:
    """Wait until there is room, or it is time to look again. Raises ClientLeft."""
    both: set[asyncio.Future[Any]] = {handed, leaving}
    await asyncio.wait(both, timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if leaving.done():
        leaving.result()
        raise ClientLeft("The client has left while its request waited.")


async def _never_leaves() -> None:
    """Whoever asks for a websocket is heard of once it is there."""
    await asyncio.get_running_loop().create_future()


def _unwell() -> ProgramUnwell:
    return ProgramUnwell(
        "The instance that had the request is not well, and has not answered; try again. What it"
        " was asked for may have been done."
    )


def _check_time(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise InstancesUnavailable(
            f"No instance of the service had room for the request within {QUEUE_SECONDS:g} s."
        )


def _weights(traffic: Traffic) -> dict[str, int]:
    """The weight of each part that has instances; of all together, while some are replaced."""
    keys = {one.key for one in traffic.backends}
    weights = {share.key: share.weight for share in traffic.shares if share.key in keys}
    if len(weights) < len(keys) or not any(weights.values()):
        return {_ALL: 1}
    return {key: weight for key, weight in weights.items() if weight}


def _limit(traffic: Traffic, share: str) -> int:
    return max(one.max_concurrency for one in traffic.shares if share in (_ALL, one.key))


def _model_of(traffic: Traffic, backend: Backend) -> str:
    shares: tuple[Share, ...] = traffic.shares
    return next((one.model_id for one in shares if one.key == backend.key), shares[0].model_id)
