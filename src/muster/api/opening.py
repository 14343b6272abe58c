"""How a browser opens a program behind the proxy: a token in the address, and a cookie after it.

`?token=` comes once and is taken out of the address; the cookie holds for the program's own path.
"""

from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from muster.api.http import Request
from muster.api.proxied import ProxyRequest
from muster.domain.errors import Forbidden

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def without_token(query: str) -> tuple[str, str | None]:
    """(the query without `token`, its value): the program has no use for it."""
    kept, token = [], None
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == "token":
            token = value
        elif pair:
            kept.append(pair)
    return "&".join(kept), token


def joined(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def token_of(authorization: str) -> str | None:
    """As Jupyter's own clients send it."""
    kind, _, token = authorization.partition(" ")
    return token.strip() if kind.lower() in ("token", "bearer") else None


def cookie_of(header: str, name: str) -> str | None:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return found.value if found else None


def set_cookie(request: Request, name: str, token: str, *, path: str) -> tuple[str, str]:
    """The header that keeps the token in the browser, for that path."""
    secure = "; Secure" if request.scope["scheme"] in ("https", "wss") else ""
    return "set-cookie", f"{name}={token}; Path={path}/; HttpOnly; SameSite=Lax{secure}"


def check_origin(request: ProxyRequest) -> None:
    """A browser adds the cookie to whatever any page asks for; only this server's pages may."""
    asked = request.request
    origin = asked.header("origin")
    if origin is None or (asked.method in SAFE_METHODS and not request.is_websocket):
        return
    if urlsplit(origin).netloc.lower() != (asked.header("host") or "").lower():
        raise Forbidden(f"Origin is {origin[:100]!r}; requests from other sites are not passed on.")
