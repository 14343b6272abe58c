"""The server that a command talks to."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from muster.client.client import Client


def connect(context: click.Context) -> "AbstractContextManager[Client]":
    """A client of the server that the environment or the credentials file names.

    The client is imported here, so that `--help` need not wait for it.
    """
    if context.obj is not None:
        return context.obj()  # type: ignore[no-any-return]  # tests give a client of their own

    from muster.client.client import Client
    from muster.client.credentials import find_credentials

    return Client(find_credentials())
