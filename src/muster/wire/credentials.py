"""What a server leaves for its clients in the data folder: how they log in, and where it is.

`credentials.json` is written by the first start, `server.json` by each.
"""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import msgspec

ADDRESS_FILE_NAME: Final = "server.json"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A project on a server, and a key pair for it; also the shape of `credentials.json`."""

    url: str
    project_id: str
    access_key: str
    secret_key: str
    project_name: str = ""
    domain: str = ""
    user: str = ""
    password: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"url is {self.url!r}; it must read http://HOST:PORT or https://HOST")

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the address is one that only makes sense where the server runs."""
        host = urlsplit(self.url).hostname or ""
        try:
            address = ip_address(host)
        except ValueError:
            return host == "localhost"
        return address.is_loopback or address.is_unspecified

    def __repr__(self) -> str:
        # The generated one would put the secrets into every traceback and log line.
        return f"Credentials(url={self.url!r}, project_id={self.project_id!r})"


class ServerAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of `server.json`: a server that runs."""

    url: str
    process_id: int
