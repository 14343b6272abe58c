"""The published description of the API: complete, and true."""

import re
from typing import Any

import httpx
import msgspec
import pytest

from tests.api.platform import Platform, Project
from tests.api.serving import Serving


@pytest.fixture(scope="module")
def document(platform: Platform) -> dict[str, Any]:
    reply = httpx.get(f"{platform.url}/openapi.json")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    return dict(reply.json())


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*(references(child) for child in node.values()))
    if isinstance(node, list):
        return set().union(*(references(child) for child in node))
    return set()


def test_every_route_is_listed_and_nothing_else(
    platform: Platform, document: dict[str, Any]
) -> None:
    listed = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }

    served = {(r.method, r.path.replace("...}", "}")) for r in platform.server.app.routes}
    assert listed == served - {("GET", "/openapi.json"), ("GET", "/docs")}


def test_it_is_openapi_3_1_with_unique_operation_ids(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert set(document["info"]) >= {"title", "version"}
    ids = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    assert len(ids) == len(set(ids))


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_path_variables_are_declared(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            declared = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
            assert declared == re.findall(r"{(\w+)}", path)


@pytest.mark.parametrize(
    ("path", "name", "schema"),
    [
        ("/training-jobs", "per_page", {"type": "integer", "minimum": 1, "maximum": 1000,
                                        "default": 10}),
        ("/training-jobs", "page", {"type": "integer", "minimum": 1, "maximum": 65535,
                                    "default": 1}),
        ("/training-jobs", "order", {"enum": ["asc", "desc"], "default": "asc"}),
        ("/training-jobs/versions", "limit", {"type": "integer", "minimum": 0,
                                              "maximum": 2**53, "default": 20}),
        ("/training-jobs/versions", "order", {"enum": ["asc", "desc"], "default": "desc"}),
        ("/training-jobs/{job_id}/versions", "page", {"type": "integer", "minimum": 0,
                                                      "maximum": 65535, "default": 0}),
        ("/built-in-algorithms", "per_page", {"type": "integer", "minimum": 1, "maximum": 100,
                                              "default": 10}),
    ],
)  # fmt: skip
def test_query_parameters_have_their_ranges_and_defaults(
    document: dict[str, Any], path: str, name: str, schema: dict[str, Any]
) -> None:
    operation = document["paths"][f"/v1/{{project_id}}{path}"]["get"]

    [parameter] = [p for p in operation["parameters"] if p["name"] == name]

    assert (parameter["in"], parameter["required"]) == ("query", False)
    assert parameter["schema"] == schema


def test_a_needed_query_parameter_is_declared_as_such(document: dict[str, Any]) -> None:
    path = "/v1/{project_id}/training-jobs/{job_id}/versions/{version_id}/aom-log"

    needed = [p["name"] for p in document["paths"][path]["get"]["parameters"] if p["required"]]

    assert needed == ["project_id", "job_id", "version_id", "log_file"]


def test_every_body_is_declared(platform: Platform, document: dict[str, Any]) -> None:
    for route in platform.server.app.routes:
        if route.body is not None:
            operation = document["paths"][route.path][route.method.lower()]
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert schema == {"$ref": f"#/components/schemas/{route.body.__name__}"}


# What a path cannot be asked without, by its last part.
NEEDED_QUERIES = {
    "aom-log": "?log_file=described.0",
    "training-job-names": "?job_name=x",
    "training-experiment-names": "?experiment_name=x",
}


def training_job_id(project: Project, name: str) -> str:
    filters = [{"key": "name", "operator": "in", "value": [name]}]
    found = project.http.post(f"{project.v2}/training-job-searches", json={"filters": filters})
    [job] = found.json()["items"]
    return str(job["metadata"]["id"])


def new_algorithm_id(project: Project, code: dict[str, Any]) -> str:
    engines = project.http.get(f"{project.v2}/training-job-engines").json()["items"]
    config = {
        "code_dir": code["app_url"],
        "boot_file": code["boot_file_url"],
        "engine": {"engine_id": engines[0]["engine_id"]},
    }
    body = {"metadata": {"name": "described"}, "job_config": config}
    reply = project.http.post(f"{project.v2}/algorithms", json=body)
    return str(reply.json()["metadata"]["id"])


def new_notebook(project: Project) -> tuple[str, str]:
    """(its id, that of its image)."""
    [image] = project.get("/images")["data"]
    made = project.post(
        "/notebooks",
        name="described",
        image_id=image["id"],
        flavor="modelarts.vm.cpu.1u",
        volume={"category": "EFS"},
    )
    return made["id"], image["id"]


def new_service(platform: Platform) -> tuple[str, str]:
    """(its id, that of its model)."""
    serving = Serving(platform=platform)
    model_id = serving.model()
    return serving.deploy("described", serving.part(model_id)), model_id


def new_experiment_id(project: Project) -> str:
    body = {"metadata": {"name": "described"}}
    reply = project.http.post(f"{project.v2}/training-experiments", json=body)
    return str(reply.json()["metadata"]["id"])


def new_network_name(project: Project) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "Network",
        "metadata": {"labels": {"os.modelarts/name": "described"}},
        "spec": {"cidr": "192.168.0.0/24"},
    }
    return str(project.post("/networks", **body)["metadata"]["name"])


def new_visualization_id(project: Project) -> str:
    train_url = "/bucket-default/described-results/"
    project.http.put(f"/objects{train_url}events", content=b"")
    made = project.post("/visualization-jobs", job_name="described", train_url=train_url)
    return str(made["job_id"])


def test_answers_are_what_their_schemas_say(platform: Platform, project: Project) -> None:
    """Decoded strictly as the declared type and encoded again, an answer stays as it is."""
    job = platform.submit("described")
    platform.wait_for(job, 8)
    project.post("/training-job-configs", config_name="described", **platform.code())
    notebook_id, image_id = new_notebook(project)
    service_id, model_id = new_service(platform)
    values = {
        "{service_id}": service_id, "{model_id}": model_id,
        "{notebook_id}": notebook_id, "{image_id}": image_id,
        "{project_id}": project.id, "{workspace_id}": "0", "{job_id}": str(job["job_id"]),
        "{version_id}": str(job["version_id"]), "{pool_name}": project.pool("small"),
        "{node_name}": "small-1", "{nodepool_name}": "default",
        "{config_name}": "described", "{bucket}": "bucket-default", "{task_id}": "worker-0",
        "{training_job_id}": training_job_id(project, "described"),
        "{algorithm_id}": new_algorithm_id(project, platform.code()),
        "{experiment_id}": new_experiment_id(project),
        "{network_name}": new_network_name(project),
    }  # fmt: skip
    visualization = {"{job_id}": new_visualization_id(project)}
    checked = 0
    for route in platform.server.app.routes:
        if route.method != "GET" or route.reply is None:
            continue
        own = visualization if "/visualization-jobs" in route.path else {}
        path = re.sub(r"{\w+}", lambda match: (values | own)[match[0]], route.path)  # noqa: B023
        headers = {"X-Subject-Token": project.http.headers["X-Auth-Token"]}
        query = NEEDED_QUERIES.get(path.rpartition("/")[2], "")
        if route.path == "/v1/{project_id}/events":
            query = f"?resource=pools&name={project.pool('small')}"
        reply = project.http.get(path + query, headers=headers)
        if path.endswith("/aom-log") or (reply.status_code == 204 and 204 in route.also):
            continue  # nothing has been written or measured
        assert reply.status_code == route.status, reply.text
        typed = msgspec.json.decode(reply.content, type=route.reply)
        assert msgspec.json.decode(msgspec.json.encode(typed)) == reply.json(), path
        checked += 1
    assert checked > 15


def test_the_page_for_people_lists_every_path(platform: Platform) -> None:
    reply = httpx.get(f"{platform.url}/docs")

    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    for route in platform.server.app.routes:
        if route.path not in ("/openapi.json", "/docs"):
            assert f"<code>{route.path}</code>" in reply.text
    assert "http://" not in reply.text
    assert "https://" not in reply.text
