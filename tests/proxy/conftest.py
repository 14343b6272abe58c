from collections.abc import AsyncIterator

import pytest_asyncio

from tests.proxy.programs import (
    NOWHERE,
    Front,
    listening,
    running_front,
    serving,
    show_request,
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[Front, int]]:
    """A server, and the port of a program that shows what it was asked."""
    async with serving(show_request) as (_, port), running_front() as front:
        yield front, port


@pytest_asyncio.fixture(loop_scope="module")
async def front(running: tuple[Front, int]) -> AsyncIterator[Front]:
    """The server, with a program `echo` that shows what it was asked, and one that is not there."""
    front, port = running
    front.site.forget()
    front.site.programs["echo"] = [port]
    with listening() as closed:
        front.site.programs[NOWHERE] = [closed.getsockname()[1]]
    yield front
    front.proxied.close()  # no connection to a program of this test is left to the next
