"""Models (AI applications)."""

import json
from typing import Any

import pytest

from tests.api.platform import Project
from tests.api.serving import SCRIPT, Serving, serving

__all__ = ["serving"]  # a fixture


def refused(project: Project, code: str, status: int = 400, **body: Any) -> str:
    """What a create that is refused says."""
    reply = project.http.post(f"{project.v1}/models", json=body)
    assert (reply.status_code, reply.json()["error_code"]) == (status, f"ModelArts.{code}")
    return str(reply.json()["error_msg"])


def new(serving: Serving, **more: Any) -> dict[str, Any]:
    source = serving.source("code")
    return {"model_name": "m", "model_version": "0.0.1", "source_location": source} | more


def test_a_model_is_what_its_folder_and_config_say(serving: Serving) -> None:
    config = {
        "model_algorithm": "image_classification",
        "model_type": "PyTorch",
        "apis": [{"url": "/predict", "method": "post"}],
        "health": {"url": "/alive", "timeout_seconds": "7", "protocol": "http"},
        "metrics": {"accuracy": 0.97},
        "dependencies": [
            {
                "installer": "pip",
                "packages": [
                    {"package_name": "numpy", "package_version": "1.0", "restraint": "ATLEAST"}
                ],
            }
        ],
    }
    source = serving.source(
        "described", customize_service__py=SCRIPT, config__json=json.dumps(config).encode()
    )

    model_id = serving.model(
        model_name="described", model_type="PyTorch", source_location=source, description="told"
    )

    shown = serving.project.get(f"/models/{model_id}")
    assert shown["model_status"] == "published"
    assert (shown["model_name"], shown["model_version"]) == ("described", "0.0.1")
    assert shown["model_size"] == len(SCRIPT) + len(json.dumps(config))
    assert json.loads(shown["apis"]) == config["apis"]
    assert (shown["health"]["url"], shown["health"]["timeout_seconds"]) == ("/alive", "7")
    assert json.loads(shown["config"])["health"] == shown["health"]
    assert json.loads(shown["model_metrics"]) == {"accuracy": 0.97}
    assert shown["dependencies"][0]["packages"][0]["package_name"] == "numpy"


def test_the_script_may_lie_in_the_folder_model(serving: Serving) -> None:
    serving.source("nested/model", customize_service__py=SCRIPT)

    model_id = serving.model(source_location="/bucket-default/nested/")

    assert serving.project.get(f"/models/{model_id}")["health"]["url"] == "/health"


def test_what_is_changed_in_the_folder_later_changes_no_model(serving: Serving) -> None:
    source = serving.source("kept", customize_service__py=SCRIPT)
    model_id = serving.model(source_location=source)

    serving.project.http.delete(f"/objects{source}customize_service.py")

    assert serving.project.get(f"/models/{model_id}")["source_location"] == source


def test_a_folder_without_the_script_needs_a_command(serving: Serving) -> None:
    source = serving.source("plain", readme__txt=b"hello")

    said = refused(serving.project, "3017", **new(serving, source_location=source))

    assert "holds customize_service.py" in said
    model_id = serving.model(source_location=source, cmd="python -m http.server")
    assert serving.project.get(f"/models/{model_id}")["cmd"].endswith("-m http.server")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"model_version": "1.02.3"}, "0104", "model_version is '1.02.3'"),
        ({"model_version": "1.2"}, "0104", "three numbers from 0 to 99"),
        ({"model_name": "a b"}, "0104", "model_name is 'a b'"),
        ({"description": "a<b"}, "0104", "description is 'a<b'"),
        ({"runtime": "python2.7"}, "3015", "runtime is 'python2.7'; there are Python"),
        ({"cmd": "'"}, "3015", "cmd is"),
        ({"cmd": "a\0b"}, "3015", "cmd is 'a\\x00b'"),
        ({"model_type": "x" * 65}, "0104", "model_type is"),
        ({"model_type": "a b"}, "0104", "model_type is 'a b'"),
        ({"install_type": "5"}, "0104", "install_type is 5; it must be a list"),
        ({"input_params": '"x"'}, "0104", "input_params is"),
        ({"model_metrics": "[1]"}, "0104", "model_metrics is [1]; it must be an object"),
        ({"apis": "{"}, "0104", "apis is text that is not valid JSON"),
        ({"apis": [{"url": "/" + "a" * 1000}] * 101}, "3015", "bytes together; at most 100000"),
        ({"apis": [{"url": "no"}]}, "3015", "apis[0].url is 'no'"),
        ({"health": {"url": "/h", "timeout_seconds": "x"}}, "3015", "timeout_seconds is 'x'"),
        ({"source_location": "/elsewhere/x/"}, "2791", "no bucket 'elsewhere'"),
        ({"source_location": "/bucket-default/none/"}, "2757", "there is no such folder"),
        ({"workspace_id": "f" * 32}, "0102", "workspace"),
        ({"execution_code": "/bucket-default/x/y.py"}, "3017", "execution_code is"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(
    serving: Serving, body: dict[str, Any], code: str, words: str
) -> None:
    assert words in refused(serving.project, code, **new(serving, **body))


def test_a_broken_config_is_refused(serving: Serving) -> None:
    for content, words in ((b"{", "not valid JSON"), (b"[]", "no JSON object")):
        source = serving.source("broken", customize_service__py=SCRIPT, config__json=content)
        assert words in refused(serving.project, "3015", **new(serving, source_location=source))


def test_a_version_is_there_once(serving: Serving) -> None:
    serving.model(model_name="once")

    said = refused(serving.project, "3002", 409, **new(serving, model_name="once"))

    assert "has that version of it already" in said
    serving.model(model_name="once", model_version="0.0.2")


def test_models_are_listed_by_name_version_and_page(serving: Serving) -> None:
    ids = {
        version: serving.model(model_name="listed", model_version=version)
        for version in ("0.0.9", "0.0.10", "0.1.0")
    }
    project = serving.project

    def listed(**query: object) -> list[str]:
        page = project.get("/models", model_name="LIST", **query)
        assert page["count"] == len(page["models"])
        assert page["total_count"] == 3 or "model_version" in query
        return [model["model_version"] for model in page["models"]]

    assert listed(sort_by="model_version", order="asc") == ["0.0.9", "0.0.10", "0.1.0"]
    assert listed(sort_by="model_version") == ["0.1.0", "0.0.10", "0.0.9"]
    assert listed(sort_by="model_version", limit=2, offset=1) == ["0.0.9"]
    assert listed(sort_by="model_version", marker=ids["0.0.10"]) == ["0.0.9"]
    assert listed(marker=ids["0.0.9"], sort_by="model_version") == []
    assert listed(model_version="0.0.9") == ["0.0.9"]
    exact = project.get("/models", model_name="list", exact_match="true")
    assert exact["total_count"] == 0
    assert project.get("/models", model_name="listed", model_status="failed")["models"] == []
    assert project.get("/models", model_name="listed", model_type="Custom")["total_count"] == 3
    assert project.get("/models", model_name="listed", not_model_type="Custom")["total_count"] == 0
    both = project.http.get(f"{project.v1}/models?model_type=a&not_model_type=b")
    assert both.status_code == 400


def test_a_version_or_all_of_them_are_deleted(serving: Serving) -> None:
    first, *others = [
        serving.model(model_name="doomed", model_version=f"0.0.{n}") for n in range(1, 4)
    ]
    project = serving.project

    one = project.http.delete(f"{project.v1}/models/{first}").json()
    rest = project.http.delete(f"{project.v1}/models/{others[0]}?cascade=true").json()

    assert one == {"delete_success_list": [first], "delete_failed_list": []}
    assert sorted(rest["delete_success_list"]) == sorted(others)
    gone = project.http.get(f"{project.v1}/models/{first}")
    assert (gone.status_code, gone.json()["error_code"]) == (404, "ModelArts.3001")


def test_a_model_that_a_service_runs_stays(serving: Serving) -> None:
    model_id = serving.model()
    service_id = serving.deploy("user-of-model", serving.part(model_id))
    project = serving.project

    kept = project.http.delete(f"{project.v1}/models/{model_id}").json()

    assert kept["delete_success_list"] == []
    [failure] = kept["delete_failed_list"]
    assert (failure["model_id"], failure["error_code"]) == (model_id, "ModelArts.3009")
    assert "user-of-model" in failure["error_msg"]
    project.http.delete(f"{project.v1}/services/{service_id}")
    again = project.http.delete(f"{project.v1}/models/{model_id}").json()
    assert again["delete_success_list"] == [model_id]


def test_runtimes_are_the_ai_engines(serving: Serving) -> None:
    found = serving.project.get("/models/ai-engine-runtimes")

    assert found["count"] == found["total_count"] == len(found["engine_runtimes"])
    assert "Python" in [one["ai_engine"] for one in found["engine_runtimes"]]


def test_another_project_sees_none_of_it(serving: Serving, other: Project) -> None:
    model_id = serving.model()

    assert other.get("/models")["total_count"] == 0
    assert other.http.get(f"{other.v1}/models/{model_id}").status_code == 404
    assert other.http.delete(f"{other.v1}/models/{model_id}").status_code == 404
    refused(other, "2791", **new(serving))
