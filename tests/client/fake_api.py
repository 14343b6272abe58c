"""A small API in memory, behind `httpx.MockTransport`; signatures must be right."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from muster.client.client import Client
from muster.wire.credentials import Credentials
from muster.wire.signature import is_signed_by, parse_authorization, parse_sdk_date, payload_hash

NOW = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
CREDENTIALS = Credentials(
    url="http://127.0.0.1:8080",
    project_id=PROJECT,
    access_key="AKIDEXAMPLE0001",
    secret_key="s3cr3t",  # noqa: S106 - of the fake
)
POOL = f"digits-{PROJECT}"

COMPLETED, RUNNING, QUEUED, KILLING = 10, 8, 7, 9


@dataclass
class FakeApi:
    """Jobs, logs, pools and objects, in the shapes of the API. Tests set them up by hand."""

    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    versions: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    logs: dict[tuple[int, str], bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    refuse_with: tuple[int, str, str] | None = None  # the next POST: status, code, message
    log_chunk: int = 1 << 20
    pool_views: list[dict[str, Any]] = field(default_factory=list)  # the next answers; the last
    after: Callable[["FakeApi", httpx.Request], None] = lambda _api, _request: None
    ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def client(self) -> Client:
        return Client(CREDENTIALS, transport=httpx.MockTransport(self.answer), now=lambda: NOW)

    def add_job(self, name: str, *statuses: int, **values: Any) -> int:
        """Add a job with a version for each status; `values` go into every version."""
        job_id = next(self.ids)
        self.jobs[job_id] = {"job_id": job_id, "job_name": name, "job_desc": ""}
        self.versions[job_id] = []
        for status in statuses:
            self._add_version(job_id, status, {"worker_server_num": 1} | values)
        return job_id

    def _add_version(self, job_id: int, status: int, config: dict[str, Any]) -> dict[str, Any]:
        number = len(self.versions[job_id]) + 1
        unset = dict.fromkeys(
            ("app_url", "boot_file_url", "data_url", "train_url", "pool_id", "spec_id"), None
        )
        version = {
            **unset,
            "parameter": [],
            "engine_id": 1,
            "engine_name": "python",
            "engine_version": "python3.11",
            "spec_code": "modelarts.vm.cpu.2u",
            **config,
            "version_id": next(self.ids),
            "version_name": f"V{number:04d}",
            "status": status,
            "create_time": 1_795_206_600_000 + job_id * 1000,
            "start_time": 1_795_206_600_000,
            "duration": 65_000,
            "status_message": "Task 0 ended with exit code 1.",
        }
        self.versions[job_id].append(version)
        return version

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if not _is_signed(request):
            return _refusal(403, "ModelArts.0206", "The signature is wrong.")
        if request.method == "POST" and self.refuse_with is not None:
            return _refusal(*self.refuse_with)
        path = request.url.path
        for method, pattern, handler in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and request.method == method:
                response = handler(self, request, *match.groups())
                self.after(self, request)
                return response
        return _refusal(404, "ModelArts.2836", f"There is no {request.method} {path}.")

    # v1

    def _list_jobs(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        page, size = int(query.get("page", 1)), int(query.get("per_page", 10))
        codes = query["status"].split(",") if "status" in query else None
        found = [
            view
            for view in map(self._job_view, self.jobs.values())
            if query.get("search_content", "") in view["job_name"]
            and (codes is None or str(view["status"]) in codes)
        ]
        shown = found[(page - 1) * size : page * size]
        return _ok(job_total_count=len(found), job_count_limit=9, quotas=10, jobs=shown)

    def _job_view(self, job: dict[str, Any]) -> dict[str, Any]:
        newest = self.versions[job["job_id"]][-1] if self.versions[job["job_id"]] else {}
        return {
            **job,
            "version_id": newest.get("version_id"),
            "status": newest.get("status", 0),
            "create_time": 1_795_206_600_000,
            "duration": newest.get("duration"),
            "version_count": len(self.versions[job["job_id"]]),
        }

    def _create_job(self, request: httpx.Request) -> httpx.Response:
        body = _body(request)
        job_id = self.add_job(body["job_name"])
        self.jobs[job_id]["job_desc"] = body["job_desc"]
        return self._submitted(job_id, body["config"])

    def _create_version(self, request: httpx.Request, job_id: str) -> httpx.Response:
        return self._submitted(int(job_id), _body(request)["config"])

    def _submitted(self, job_id: int, config: dict[str, Any]) -> httpx.Response:
        version = self._add_version(job_id, 1, config)
        shown = {key: version[key] for key in ("status", "version_id", "version_name")}
        return _ok(job_id=job_id, job_name=self.jobs[job_id]["job_name"], **shown)

    def _list_versions(self, _: httpx.Request) -> httpx.Response:
        versions = [
            {**version, "version_name": self.jobs[job_id]["job_name"], "gpu_num": 0, "npu_num": 0}
            for job_id, versions in self.versions.items()
            for version in versions
        ]
        return _ok(total_count=len(versions), versions=versions)

    def _list_job_versions(self, _: httpx.Request, job_id: str) -> httpx.Response:
        if int(job_id) not in self.jobs:
            return _refusal(404, "ModelArts.2775", "The job does not exist.")
        versions = list(reversed(self.versions[int(job_id)]))
        return _ok(**self.jobs[int(job_id)], version_count=len(versions), versions=versions)

    def _get_version(self, _: httpx.Request, job_id: str, version_id: str) -> httpx.Response:
        return _ok(**self.jobs[int(job_id)], **self._version(job_id, version_id))

    def _version(self, job_id: str, version_id: str) -> dict[str, Any]:
        versions = self.versions[int(job_id)]
        return next(version for version in versions if version["version_id"] == int(version_id))

    def _stop(self, _: httpx.Request, job_id: str, version_id: str) -> httpx.Response:
        version = self._version(job_id, version_id)
        if version["status"] == COMPLETED:
            return _refusal(409, "ModelArts.2796", "The version has ended.")
        version["status"] = KILLING
        return _ok()

    def _delete_job(self, _: httpx.Request, job_id: str) -> httpx.Response:
        del self.jobs[int(job_id)], self.versions[int(job_id)]
        return _ok()

    def _delete_version(self, _: httpx.Request, job_id: str, version_id: str) -> httpx.Response:
        self.versions[int(job_id)].remove(self._version(job_id, version_id))
        return _ok()

    def _log_names(self, _: httpx.Request, job_id: str, version_id: str) -> httpx.Response:
        count = self._version(job_id, version_id)["worker_server_num"]
        name = self.jobs[int(job_id)]["job_name"]
        return _ok(log_file_list=[f"{name}.{index}" for index in range(count)])

    def _log(self, request: httpx.Request, _job: str, version: str, name: str) -> httpx.Response:
        log = self.logs.get((int(version), name))
        if log is None:
            return _refusal(400, "ModelArts.2818", "The log is not there yet.")
        offset = int(request.url.params["offset"])
        return httpx.Response(200, content=log[offset : offset + self.log_chunk])

    def _flavors(self, _: httpx.Request) -> httpx.Response:
        def spec(spec_id: int, code: str, core: str, cpu: str, cards: int) -> dict[str, Any]:
            kind = "declared" if cards else ""
            return {
                "spec_id": spec_id,
                "spec_code": code,
                "core": core,
                "cpu": cpu,
                "gpu_num": cards,
                "gpu_type": kind,
            }

        specs = [
            spec(1, "demo.gpu.1", "1", "1", 1),
            spec(2, "modelarts.vm.cpu.2u", "2", "8", 0),
            spec(3, "modelarts.vm.cpu.1u", "1", "4", 0),
            spec(4, "modelarts.vm.cpu.16u", "16", "64", 0),
        ]
        return _ok(spec_total_count=len(specs), specs=specs)

    def _engines(self, _: httpx.Request) -> httpx.Response:
        return _ok(
            engines=[
                {
                    "engine_type": 1,
                    "engine_id": 7,
                    "engine_name": "TensorFlow",
                    "engine_version": "TF-2.1",
                },
                {
                    "engine_type": 100,
                    "engine_id": 1,
                    "engine_name": "python",
                    "engine_version": "python3.11",
                },
            ]
        )

    # v2

    def _workspaces(self, _: httpx.Request) -> httpx.Response:
        return _ok(total_count=1, count=1, workspaces=[{"id": "0", "name": "default"}])

    def _pools(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"kind": "PoolList", "items": [_pool()]})

    def _get_pool(self, _: httpx.Request, pool_id: str) -> httpx.Response:
        if pool_id != POOL:
            return _modern_refusal(404, "ModelArts.50015001", f"Pool {pool_id} not found.")
        if len(self.pool_views) > 1:
            return self._pool_answer(self.pool_views.pop(0))
        return self._pool_answer(self.pool_views[0] if self.pool_views else _pool())

    def _pool_answer(self, view: dict[str, Any]) -> httpx.Response:
        if not view:
            return _modern_refusal(404, "ModelArts.50015001", f"Pool {POOL} not found.")
        return httpx.Response(200, json=view)

    def _create_pool(self, request: httpx.Request) -> httpx.Response:
        body = _body(request)
        labels = body["metadata"]["labels"]
        return httpx.Response(
            200,
            json=pool_view("Creating", labels=labels, resources=body["spec"]["resources"]),
        )

    def _change_pool(self, request: httpx.Request, pool_id: str) -> httpx.Response:
        return httpx.Response(200, json=pool_view("Running", **_body(request)["spec"]))

    def _delete_pool(self, _: httpx.Request, pool_id: str) -> httpx.Response:
        return httpx.Response(200, json=pool_view("Deleting"))

    def _nodes(self, request: httpx.Request, pool_id: str) -> httpx.Response:
        first = request.url.params.get("continue") is None
        node = {
            "metadata": {"name": "digits-1" if first else "digits-2"},
            "spec": {"flavor": "demo.gpu.1"},
            "status": {
                "phase": "Available" if first else "Deleting",
                "resources": {"cpu": "1000m", "nvidia.com/gpu": "1"},
                "availableResources": {"cpu": "1000m" if first else "0m", "nvidia.com/gpu": "1"},
                "taints": [] if first else [{"key": "os.modelarts.node/drain"}],
                **({} if first else {"message": "It goes."}),
            },
        }
        metadata = {"continue": "next", "remainingItemCount": 1} if first else {}
        return httpx.Response(200, json={"metadata": metadata, "items": [node]})

    def _change_nodes(self, request: httpx.Request, pool_id: str, call: str) -> httpx.Response:
        if call == "delete":
            return httpx.Response(200)
        names = _body(request)["nodeNames"]
        return httpx.Response(
            200, json={"nodes": [{"name": name, "status": "success"} for name in names]}
        )

    def _events(self, request: httpx.Request) -> httpx.Response:
        event = {
            "type": request.url.params.get("type", "Normal"),
            "lastTimestamp": "2026-11-20T20:30:00Z",
            "reason": "PoolStatusChange",
            "message": "Pool status changed, from Creating to Running.",
        }
        return httpx.Response(200, json={"items": [event], "total": 3})

    def _workloads(self, _: httpx.Request, pool_id: str) -> httpx.Response:
        item = {
            "type": "train",
            "jobName": "train-1",
            "status": "Running",
            "flavor": "demo.gpu.1",
            "runningDuration": 65,
            "pendingDuration": 2,
            "pendingPosition": -1,
            "createTime": 1_795_206_600_000,
            "hostIps": "127.0.0.1",
        }
        return httpx.Response(200, json={"kind": "WorkloadList", "items": [item], "total": 1})

    def _statistics(self, _: httpx.Request, pool_id: str) -> httpx.Response:
        items = [{"type": "train", "total": 3, "status": {"Running": 2, "Queue": 1}}]
        resources = {"cpu": {"used": 2, "total": 3}}
        return httpx.Response(
            200, json={"statistics": {"total": 1, "items": items, "resources": resources}}
        )

    # Objects

    def _put_object(self, request: httpx.Request, name: str) -> httpx.Response:
        self.objects[name] = request.read()
        return httpx.Response(200)

    def _get_object(self, _: httpx.Request, name: str) -> httpx.Response:
        if name not in self.objects:
            return _modern_refusal(404, "ModelArts.2773", f"There is no object {name}.")
        return httpx.Response(200, content=self.objects[name])

    def _delete_object(self, _: httpx.Request, name: str) -> httpx.Response:
        del self.objects[name]
        return httpx.Response(204)

    def _list_objects(self, request: httpx.Request, bucket: str) -> httpx.Response:
        prefix = f"{bucket}/{request.url.params['prefix']}"
        found = [
            {"key": name.removeprefix(f"{bucket}/"), "size": len(content), "modified": 0}
            for name, content in self.objects.items()
            if name.startswith(prefix)
        ]
        return httpx.Response(200, json={"objects": found, "is_truncated": False})


Handler = Callable[..., httpx.Response]

_JOBS = f"/v1/{PROJECT}/training-jobs"
_VERSION = rf"{_JOBS}/(\d+)/versions/(\d+)"
_ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", _JOBS, FakeApi._list_jobs),
    ("POST", _JOBS, FakeApi._create_job),
    ("DELETE", rf"{_JOBS}/(\d+)", FakeApi._delete_job),
    ("GET", f"{_JOBS}/versions", FakeApi._list_versions),
    ("GET", rf"{_JOBS}/(\d+)/versions", FakeApi._list_job_versions),
    ("POST", rf"{_JOBS}/(\d+)/versions", FakeApi._create_version),
    ("GET", _VERSION, FakeApi._get_version),
    ("DELETE", _VERSION, FakeApi._delete_version),
    ("POST", f"{_VERSION}/stop", FakeApi._stop),
    ("GET", f"{_VERSION}/log/file-names", FakeApi._log_names),
    ("GET", f"{_VERSION}/log/files/([^/]+)", FakeApi._log),
    ("GET", f"/v1/{PROJECT}/job/resource-specs", FakeApi._flavors),
    ("GET", f"/v1/{PROJECT}/job/ai-engines", FakeApi._engines),
    ("GET", f"/v1/{PROJECT}/workspaces", FakeApi._workspaces),
    ("GET", f"/v2/{PROJECT}/pools", FakeApi._pools),
    ("POST", f"/v2/{PROJECT}/pools", FakeApi._create_pool),
    ("GET", f"/v2/{PROJECT}/pools/([^/]+)", FakeApi._get_pool),
    ("PATCH", f"/v2/{PROJECT}/pools/([^/]+)", FakeApi._change_pool),
    ("DELETE", f"/v2/{PROJECT}/pools/([^/]+)", FakeApi._delete_pool),
    ("GET", f"/v2/{PROJECT}/pools/([^/]+)/nodes", FakeApi._nodes),
    ("POST", f"/v2/{PROJECT}/pools/([^/]+)/nodes/batch-(.+)", FakeApi._change_nodes),
    ("GET", f"/v1/{PROJECT}/events", FakeApi._events),
    ("GET", f"/v2/{PROJECT}/pools/([^/]+)/workloads", FakeApi._workloads),
    ("GET", f"/v2/{PROJECT}/statistics/pools/([^/]+)/workloads", FakeApi._statistics),
    ("GET", r"/objects/([^/]+)", FakeApi._list_objects),
    ("PUT", r"/objects/([^/]+/.+)", FakeApi._put_object),
    ("GET", r"/objects/([^/]+/.+)", FakeApi._get_object),
    ("DELETE", r"/objects/([^/]+/.+)", FakeApi._delete_object),
]


def _is_signed(request: httpx.Request) -> bool:
    authorization = parse_authorization(request.headers["authorization"])
    raw_path, _, query = request.url.raw_path.decode().partition("?")
    return (
        authorization.access_key == CREDENTIALS.access_key
        and parse_sdk_date(request.headers["x-sdk-date"]) == NOW
        and request.headers["x-project-id"] == PROJECT
        and is_signed_by(
            CREDENTIALS.secret_key,
            authorization,
            method=request.method,
            raw_path=raw_path,
            query=query,
            header=request.headers.get,
            payload_hash=payload_hash(request.read(), request.headers.get("x-sdk-content-sha256")),
        )
    )


def _pool() -> dict[str, Any]:
    return pool_view("Running")


def pool_view(
    phase: str,
    message: str = "",
    *,
    labels: dict[str, str] | None = None,
    resources: list[dict[str, Any]] | None = None,
    **counts: int,
) -> dict[str, Any]:
    """A pool as it is shown; `counts` are its nodes by where they stand."""
    lines = resources or [{"flavor": "demo.gpu.1", "count": 3}]
    return {
        "kind": "Pool",
        "metadata": {
            "name": POOL,
            "creationTimestamp": "2026-11-20T20:30:00Z",
            "labels": labels or {"os.modelarts/name": "digits"},
        },
        "spec": {"scope": ["Train"], "resources": lines},
        "status": {
            "phase": phase,
            "message": message,
            "resources": {
                state: [{"flavor": "demo.gpu.1", "count": count}] for state, count in counts.items()
            },
        },
    }


def _body(request: httpx.Request) -> dict[str, Any]:
    import msgspec

    return msgspec.json.decode(request.content, type=dict[str, Any])


def _ok(**fields: Any) -> httpx.Response:
    return httpx.Response(200, json={"is_success": True, **fields})


def _refusal(status: int, code: str, message: str) -> httpx.Response:
    body = {"is_success": False, "error_code": code, "error_message": message, "error_msg": message}
    return httpx.Response(status, json=body, headers={"X-Request-Id": "request-1"})


def _modern_refusal(status: int, code: str, message: str) -> httpx.Response:
    body = {"error_code": code, "error_msg": message}
    return httpx.Response(status, json=body, headers={"X-Request-Id": "request-1"})
