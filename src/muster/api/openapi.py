"""The published description: made from the route table and the structs that serve."""

import html
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec

from muster import __version__
from muster.api.errors import Envelope, Failure, KeystoneFailure, V1Failure
from muster.api.http import Reply, Request, json_reply
from muster.api.routing import Login, Route, routes_by_path
from muster.api.services import Services

_VARIABLE: Final = re.compile(r"{(\w+?)(?:\.\.\.)?}")
_REF: Final = "#/components/schemas/{name}"

_FAILURES: Final[dict[Envelope, type[msgspec.Struct]]] = {
    Envelope.V1: V1Failure,
    Envelope.MODERN: Failure,
    Envelope.RESOURCE: Failure,
    Envelope.KEYSTONE: KeystoneFailure,
}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a route table."""
    types = {t for route in routes for t in (route.body, route.reply) if t is not None}
    types |= set(_FAILURES.values())
    ordered = sorted(types, key=lambda t: t.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    by_type = dict(zip(ordered, schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "muster",
            "version": __version__,
            "description": "Runs, queues and counts AI jobs; the ModelArts job and pool API.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "signature": {"type": "apiKey", "in": "header", "name": "Authorization"},
            },
        },
        "paths": {
            _VARIABLE.sub(r"{\1}", path): {
                route.method.lower(): _operation(route, by_type) for route in routes_of_path
            }
            for path, routes_of_path in routes_by_path(routes)
        },
    }


def _operation(route: Route, schemas: dict[type[Any], dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path)}",
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": _responses(route, schemas),
        "security": [] if route.login is Login.NONE else [{"token": []}, {"signature": []}],
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[route.body]}},
        }
    return operation


def _responses(route: Route, schemas: dict[type[Any], dict[str, Any]]) -> dict[str, Any]:
    """Every status that may come: none is left to a default, so that a new one is noticed."""
    failure = schemas[_FAILURES[route.envelope]]
    responses = {
        str(route.status): _response("Done.", schemas[route.reply] if route.reply else None),
        **{
            str(status): _response(why, failure if status >= 400 else None)
            for status, why in route.also.items()
        },
    }
    return responses | {
        str(status): _response(why, failure)
        for status, why in _refusals(route).items()
        if str(status) not in responses
    }


def _refusals(route: Route) -> dict[int, str]:
    refusals = {
        400: "The request makes no sense; the message names the field, and what is allowed."
    }
    if route.login is not Login.NONE or route.body is not None:
        refusals[401] = "Who is calling is not known."
    if route.login is not Login.NONE:
        refusals[403] = "The caller may not, or is of another project."
    if "{" in route.path:
        refusals[404] = "There is no such thing."
    if route.method not in ("GET", "HEAD"):
        refusals[409] = "It cannot be done as things stand, or somebody else was first."
    if route.body is not None or route.takes_stream:
        refusals[413] = "The body is too large."
        refusals[415] = "The body is not JSON."
    return refusals | {500: "muster made a mistake.", 503: "Not now; the same call may work later."}


def _response(description: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description}
    if schema is not None:
        response["content"] = {"application/json": {"schema": schema}}
    return response


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _VARIABLE.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = msgspec.json.schema(route.query)
    own = schema["$defs"][route.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in own.get("required", ()),
            "schema": property_,
        }
        for name, property_ in own["properties"].items()
    ]


def show_openapi(routes: Sequence[Route]) -> Any:
    """A handler that answers the document; it is made once, for the first who asks.

    To make it takes a tenth of a start, and most servers are never asked.
    """
    encoded = cache(lambda: msgspec.json.encode(describe(routes)))

    async def handler(services: Services, request: Request) -> Reply:
        return json_reply(msgspec.Raw(encoded()))

    return handler


def show_docs(routes: Sequence[Route]) -> Any:
    """A handler that answers the route table as one plain page, without anything from elsewhere."""
    page = _page(routes).encode()

    async def handler(services: Services, request: Request) -> Reply:
        return Reply(200, page, [(b"content-type", b"text/html; charset=utf-8")])

    return handler


def _page(routes: Sequence[Route]) -> str:
    rows = "\n".join(
        f"<tr><td>{route.method}</td><td><code>{html.escape(route.path)}</code></td>"
        f"<td>{html.escape(route.summary)}</td></tr>"
        for route in routes
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>muster API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem;
  padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ border-bottom: 1px solid #ddd; padding: .4rem .6rem; text-align: left }}
code {{ overflow-wrap: anywhere }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #111; color: #ddd }} td, th {{ border-color: #333 }} a {{ color: #8bf }}
}}
</style></head><body>
<h1>muster {html.escape(__version__)}</h1>
<p>Every path this server answers. The same with all fields, for machines:
<a href="/openapi.json">/openapi.json</a>.</p>
<table><thead><tr><th>Method</th><th>Path</th><th>What it does</th></tr></thead>
<tbody>
{rows}
</tbody></table></body></html>
"""
