"""One connection to a program: requests one after another, each with its answer.

Bounded both ways: what the program sends faster than it is taken is left in its own socket, and
what is written faster than the program reads is waited for in `drain`.

Source: RFC 9112, HTTP/1.1.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import httptools

from muster.domain.errors import ProgramBroken, ProgramTimedOut

HEAD_BYTES_MAX: Final = 256 << 10
BUFFERED_BYTES_MAX: Final = 256 << 10  # of an answer; one read of the socket may come on top

Headers = list[tuple[bytes, bytes]]

_STATUS_MAX: Final = 599
_NOT_IN_A_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: Headers  # names in lower case


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `begin` starts the next once the last one has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[["Connection"], None]):
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None  # waits for more of the answer
        self._writer: asyncio.Future[None] | None = None  # waits until more can be written
        self._write_paused = False
        self._read_paused = False
        self._failure: Exception | None = None
        self._active_at = 0.0
        self._heard_at = 0.0
        self.is_lost = False
        self._reset(has_answer_body=True)
        self._is_over = True  # nothing was asked yet
        self.has_sent_all = True

    def _reset(self, *, has_answer_body: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._has_answer_body = has_answer_body
        self._headers: Headers = []
        self._head: Head | None = None
        self._head_bytes = 0
        self._has_length = False
        self._keeps_alive = False
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._is_over = False
        self.has_heard = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def eof_received(self) -> None:
        """It closes: before that is done, nobody may send another request on it."""
        if self._is_over:
            self._keeps_alive = False
            self._on_lost(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if not self._is_over:
            # Without a length, its end is where the connection ends.
            if exc is None and self._head is not None and not self._has_length:
                self._is_over = True
                self._wake_reader()
            else:
                self.fail(ProgramBroken("The program has closed the connection."))
        self._keeps_alive = False
        self._wake_writer()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_writer()

    def data_received(self, data: bytes) -> None:
        self._active_at = self._heard_at = self._loop.time()
        if self._is_over:  # nobody asked for anything
            self.close()
            return
        self.has_heard = True
        if self._head is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_over:
                self.fail(ProgramBroken(f"What the program answers is no HTTP: {error}"))
            self.close()  # what follows a whole answer is nobody's
            self._wake_reader()
            return
        if self._head is None and self._head_bytes > HEAD_BYTES_MAX:
            self.fail(ProgramBroken(f"Its headers are longer than {HEAD_BYTES_MAX} bytes."))
        elif self._buffered > BUFFERED_BYTES_MAX and not self._read_paused:
            assert self._transport is not None
            self._read_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._headers = []
        self._has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the answer itself follows
            return
        if self._is_over:
            raise ValueError("a second answer")
        if status > _STATUS_MAX or _NOT_IN_A_VALUE.search(
            b"".join([value for _, value in self._headers])
        ):
            raise ValueError("a status or header that cannot be passed on")
        self._head = Head(status, self._headers)
        self._keeps_alive = self._parser.should_keep_alive()
        if not self._has_answer_body:
            self._is_over = True

    def on_body(self, body: bytes) -> None:
        if self._is_over:
            raise ValueError("a body where there is none")
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._is_over = True

    # What an exchange calls.

    @property
    def is_reusable(self) -> bool:
        """Whether the exchange has ended, and another may follow."""
        return self._is_over and self.has_sent_all and self._keeps_alive and not self.is_lost

    def begin(self, head: bytes, *, has_body: bool, has_answer_body: bool) -> None:
        """Send the head of a request.

        Args:
            head: request line and headers, with the empty line at their end.
            has_body: whether more is to follow; `has_sent_all` is set after the last of it.
            has_answer_body: False for HEAD.
        """
        self._reset(has_answer_body=has_answer_body)
        self._heard_at = self._loop.time()
        self.has_sent_all = not has_body
        self.write(head)

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._active_at = self._loop.time()
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the program has read most of what was written. What is lost is not waited for.

        How long that may take is for who waits for the answer.
        """
        while self._write_paused and not self.is_lost:
            self._writer = self._loop.create_future()
            await self._writer

    async def read_head(self, seconds: float) -> Head:
        """The beginning of the answer.

        Args:
            seconds: how long nothing may move, in either direction.

        Raises:
            ProgramTimedOut, ProgramBroken: there is none.
        """
        self._active_at = self._loop.time()
        while self._head is None:
            await self._wait_for_more(seconds)
        return self._head

    async def read(self, seconds: float) -> tuple[bytes, bool]:
        """(what has come of the body since the last call, whether that is its end).

        Raises:
            ProgramTimedOut, ProgramBroken: its end will not come.
        """
        # From now on: until now it may have been us who left it waiting.
        self._active_at = self._loop.time()
        while not self._chunks and not self._is_over:
            await self._wait_for_more(seconds)
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        if self._read_paused:
            self._read_paused = False
            if not self.is_lost:
                assert self._transport is not None
                self._transport.resume_reading()
        return body, self._is_over

    async def _wait_for_more(self, seconds: float) -> None:
        if self._failure is not None:
            raise self._failure
        self._reader = self._loop.create_future()
        left = self._active_at + seconds - self._loop.time()
        timer = self._loop.call_later(max(left, 0), self._on_silence, seconds)
        try:
            await self._reader
        finally:
            timer.cancel()
            self._reader = None

    def _on_silence(self, seconds: float) -> None:
        if not self.has_sent_all and not self._write_paused:
            self._active_at = self._loop.time()  # it waits for the client, not we for it
        elif self._loop.time() - self._active_at >= seconds:
            self.fail(ProgramTimedOut(f"Nothing came of the program for {seconds:g} seconds."))
        self._wake_reader()

    @property
    def silent_seconds(self) -> float:
        """How long nothing has come of the program, or since it was asked."""
        return self._loop.time() - self._heard_at

    def end_if_silent(self, seconds: float, failure: Exception) -> None:
        """Fail, where the program is waited for and nothing has moved for so long."""
        is_its_turn = self._reader is not None and (self.has_sent_all or self._write_paused)
        if is_its_turn and self._loop.time() - self._active_at >= seconds:
            self.fail(failure)

    def fail(self, failure: Exception) -> None:
        """End the exchange and the connection: whoever waits for more of the answer gets this.

        What came before is still read.
        """
        if self._failure is None:
            self._failure = failure
        self.close()
        self._wake_reader()

    def close(self) -> None:
        self._keeps_alive = False
        if self._transport is not None:
            self._transport.abort()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
