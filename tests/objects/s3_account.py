"""An S3 server as a process of its own, and a wire to it that can be cut."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import httpx
import obstore
from obstore.store import S3Store as Client

from muster.objects.s3bucket import S3Options

ACCESS_KEY: Final = "AKIAMUSTERTEST"
SECRET_KEY: Final = "not-a-secret-of-anybody"  # noqa: S105
REGION: Final = "us-east-1"
START_SECONDS: Final = 90.0

_RUNNING = re.compile(r"Running on (http://[\d.]+:\d+)")


@dataclass(frozen=True, slots=True)
class S3Account:
    """What a test sees of the server, beside what it tests."""

    url: str

    @property
    def options(self) -> S3Options:
        return S3Options(
            endpoint=self.url, region=REGION, access_key=ACCESS_KEY, secret_key=SECRET_KEY
        )

    @property
    def environment(self) -> dict[str, str]:
        """For a server that is to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }

    def make_bucket(self, name: str) -> str:
        httpx.put(f"{self.url}/{name}").raise_for_status()
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """A new object; its key may be any that HTTP can carry."""
        httpx.put(f"{self.url}/{bucket}/{quote(key)}", content=content).raise_for_status()

    def replace(self, bucket: str, key: str, content: bytes) -> None:
        obstore.put(self._client(bucket), key, content)

    def get(self, bucket: str, key: str) -> bytes:
        return bytes(obstore.get(self._client(bucket), key).bytes())

    def _client(self, bucket: str) -> Client:
        return Client(
            bucket,
            config={
                "aws_endpoint_url_s3": self.url,
                "access_key_id": ACCESS_KEY,
                "secret_access_key": SECRET_KEY,
            },
            client_options={"allow_http": True},
        )

    def refuse_keys(self) -> None:
        """From now on, keys that it does not know are refused; all of ours are."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content="0").raise_for_status()

    def accept_keys(self) -> None:
        httpx.post(f"{self.url}/moto-api/reset-auth", content="Infinity").raise_for_status()


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Account]:
    """An empty account on loopback."""
    log = folder / "s3.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while (found := _RUNNING.search(log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the S3 server did not come up"
            time.sleep(0.05)
        yield S3Account(found[1])
    finally:
        process.kill()
        process.wait()


@dataclass(slots=True)
class Wire:
    """A proxy in front of an address. It runs in a thread of its own."""

    url: str
    to_host: str
    to_port: int
    cut_after: int | None = None  # bytes of one answer, until its connection is cut
    cuts_left: int = 0  # so many connections are cut; the others are left alone
    is_down: bool = False  # every connection is cut at once
    hold_after: int | None = None  # bytes of all answers, until each stands still
    cuts: int = 0
    bytes_sent: int = 0  # of answers, in all

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_down:
            self.cuts += 1
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self.to_host, self.to_port)
        both = [
            asyncio.ensure_future(_pump(reader, back)),
            asyncio.ensure_future(self._answer(there, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            for end in (writer, back):
                end.transport.abort()

    async def _released(self) -> None:
        # An event would not do: another thread changes what is waited for.
        while self.hold_after is not None and self.bytes_sent > self.hold_after:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while chunk := await reader.read(1 << 16):
            await self._released()
            if self.is_down:
                return
            sent += len(chunk)
            self.bytes_sent += len(chunk)
            if self.cut_after is not None and self.cuts_left and sent > self.cut_after:
                self.cuts_left -= 1
                self.cuts += 1
                return
            writer.write(chunk)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """A wire to the address, on a port of its own."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    wire = Wire("", parts.hostname, parts.port)
    loop = asyncio.new_event_loop()
    is_up = threading.Event()

    ending = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
        wire.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        is_up.set()
        await ending.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert is_up.wait(START_SECONDS)
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
