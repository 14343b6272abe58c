"""The client by which keepers ask the programs that the engine runs."""

import ssl

import httpx


def program_client(*, timeout_seconds: float) -> httpx.AsyncClient:
    """A client for plain HTTP on this machine or its cluster.

    It trusts no certificate at all: these programs have none, and to read the authorities that the
    world trusts takes a twentieth of a start.
    """
    # Never through a proxy that somebody has set for the rest of the world.
    return httpx.AsyncClient(
        timeout=timeout_seconds, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
