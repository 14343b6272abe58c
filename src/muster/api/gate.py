"""Who may open a program that has a token of its own: a notebook, or a TensorBoard.

One of these lets a request pass:
- the program's token: as `?token=`, which becomes a cookie, or, where its clients send it so, as
  `Authorization: token ...`;
- that cookie;
- muster's own token or signature, of somebody who may open it.

The program behind it sees none of them.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from muster.api.errors import Envelope
from muster.api.http import Reply, Request
from muster.api.opening import (
    SAFE_METHODS,
    check_origin,
    cookie_of,
    joined,
    set_cookie,
    token_of,
    without_token,
)
from muster.api.proxied import ProxyRequest, Redirected
from muster.api.routing import Route
from muster.domain.errors import Forbidden, PathUnknown, ProjectMismatch, Unauthenticated
from muster.domain.permission import Permission
from muster.operations.caller import Caller
from muster.wire.signature import is_signature

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One program, as far as it matters who may open it."""

    token: str
    project_id: str
    workspace_id: str
    base: str  # the path that it is reached by, without a slash at the end
    refusal: Callable[[Caller], str]  # why a member who sees it may not open it; "": may


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A request that may pass."""

    query: str  # without the token
    has_token: bool  # it came with one in its address
    cookie: Headers = ()  # for the browser to keep, in place of that token


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What programs of one kind have in common."""

    noun: str  # what one of them is called
    cookie: str  # the name of theirs
    how: str  # how to open one, for whoever comes with nothing
    right_one: str  # where the right token is found, for whoever comes with another
    needs: Permission  # of whoever comes with muster's own credentials
    takes_header: bool = False  # its clients send the token as a header

    async def let_in(
        self,
        request: ProxyRequest,
        door: Door | None,
        authenticate: Callable[[Request, Route], Awaitable[None]],
    ) -> Entry:
        """Let it pass, or say why not.

        Args:
            request: as it came.
            door: where it wants to go; None: there is no such program.
            authenticate: finds out who calls, by muster's own credentials.

        Raises:
            Unauthenticated: it has no credentials.
            Forbidden: it has the wrong ones, or comes from a page of somewhere else.
            PathUnknown: there is no such program for whoever asks.
        """
        asked = request.request
        query, token = without_token(asked.raw_query)
        authorization = asked.header("authorization") or ""
        if asked.header("x-auth-token") or is_signature(authorization):
            await self._check_caller(asked, door, authenticate)
        else:
            in_header = token_of(authorization) if self.takes_header else None
            self._check_token(request, door, token or in_header)
        assert door is not None
        if token is None:
            return Entry(query=query, has_token=False)
        kept = set_cookie(asked, self.cookie, door.token, path=door.base)
        return Entry(query=query, has_token=True, cookie=(kept,))

    def redirect(self, request: ProxyRequest, door: Door, entry: Entry) -> Redirected:
        """Let a browser ask for the program's own address, without the token.

        Raises:
            PathUnknown: that is no browser that opens a page.
        """
        asked = request.request
        if asked.method not in SAFE_METHODS or request.is_websocket:
            raise PathUnknown(f"There is nothing at {asked.raw_path}.")
        location = joined(f"{door.base}{request.path or '/'}", entry.query)
        return Redirected(location=location, reply_headers=entry.cookie)

    def _check_token(self, request: ProxyRequest, door: Door | None, token: str | None) -> None:
        given = token or cookie_of(request.request.header("cookie") or "", self.cookie)
        if given is None:
            raise Unauthenticated(f"To open a {self.noun}, {self.how}.")
        if door is None:
            raise self._unknown(request.request)
        if not hmac.compare_digest(given.encode(), door.token.encode()):
            raise Forbidden(f"The token is not this {self.noun}'s; {self.right_one}.")
        if token is None:
            check_origin(request)

    async def _check_caller(
        self,
        asked: Request,
        door: Door | None,
        authenticate: Callable[[Request, Route], Awaitable[None]],
    ) -> None:
        if door is None:
            raise self._unknown(asked)
        asked.params = [door.project_id]
        try:
            await authenticate(asked, self._route)
        except ProjectMismatch as error:
            raise self._unknown(asked) from error
        if not asked.caller.may_enter(door.workspace_id):
            raise self._unknown(asked)
        refusal = door.refusal(asked.caller)
        if refusal:
            raise Forbidden(refusal)

    @property
    def _route(self) -> Route:
        """What whoever comes with muster's own credentials is asked for. It stands in no table."""
        return Route(
            method="GET",
            path="/programs/{project_id}/{path...}",
            handler=_never,
            summary=f"Open a {self.noun}",
            envelope=Envelope.MODERN,
            needs=self.needs,
        )

    def _unknown(self, asked: Request) -> PathUnknown:
        return PathUnknown(f"There is no {self.noun} at {asked.raw_path}.")


async def _never(request: Request) -> Reply:
    raise AssertionError("requests for programs are passed on")
