"""`credentials.json`: the server's first start writes it, clients read it."""

from urllib.parse import urlsplit

import msgspec


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

    def __repr__(self) -> str:
        # The generated one would put the secrets into every traceback and log line.
        return f"Credentials(url={self.url!r}, project_id={self.project_id!r})"
