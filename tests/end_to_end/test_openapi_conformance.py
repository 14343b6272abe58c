"""Generated requests to a real server: no 5xx, and no answer that the document does not have.

For each operation of /openapi.json a bounded number of requests that fit its description, and as
many that do not. The cases are the same in every run.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests
from hypothesis import HealthCheck, given, settings

from muster.api.routes import build_routes
from muster.api.routing import Login
from tests.end_to_end.server import Remote, running_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),  # the generator's own
]

EXAMPLES: Final = 6
NOT_OFFERED: Final = 501

# Described by hand: the description of the API itself, and pages for people.
ROUTES: Final = [
    route
    for route in build_routes(services=None)  # type: ignore[arg-type]  # no handler is called
    if route.path not in ("/openapi.json", "/docs", "/metrics") and route.method != "HEAD"
]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("conformance")) as remote:
        yield remote


@pytest.fixture(scope="module")
def document(remote: Remote) -> Any:
    return schemathesis.openapi.from_dict(remote.project.http.get("/openapi.json").json())


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


# Where there is nothing but a path, nothing can be wrong about it.
CASES: Final = [
    (route, mode)
    for route in ROUTES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or route.query or route.body
]


@pytest.mark.parametrize(
    ("route", "mode"), CASES, ids=[f"{r.method} {r.path} {mode}" for r, mode in CASES]
)
def test_every_answer_is_declared_and_none_is_a_fault(
    route: Any, mode: GenerationMode, remote: Remote, document: Any, session: requests.Session
) -> None:
    operation = document[route.path.replace("...}", "}")][route.method]
    known = {
        "project_id": remote.project.id,
        "pool_name": remote.project.pool("public"),
        "workspace_id": "0",
        "task_id": "worker-0",
    }
    headers = {}
    if route.login is not Login.NONE:
        headers["X-Auth-Token"] = remote.project.http.headers["X-Auth-Token"]
    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    if route.status != NOT_OFFERED:
        checks.append(not_a_server_error)
    seen = 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal seen
        seen += 1
        for name in known.keys() & (case.path_parameters or {}).keys():
            # Mostly what is there, so that more than the 404 is seen.
            if name == "project_id" or seen % 4:
                case.path_parameters[name] = known[name]
        response = case.call(
            base_url=remote.project.url, session=session, headers=headers, timeout=20
        )
        case.validate_response(response, checks=checks)

    ask()

    assert seen
