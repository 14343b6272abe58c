"""The client: one method for each thing that the HTTP API can be asked for."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from muster.client.connection import (
    CHUNK_BYTES,
    Connection,
    FileBody,
    JsonObject,
    TypedBody,
    segment,
)
from muster.client.errors import ApiError

LOG_CHUNK_BYTES_MAX: Final = 1 << 20  # the server never answers more of a log at once
LOG_NOT_READY: Final = "ModelArts.2818"


class Client(Connection):
    """One project on one server, one method for each thing."""

    # Jobs and their versions.

    def submit_job(
        self,
        name: str,
        config: Mapping[str, Any],
        *,
        description: str = "",
        workspace_id: str = "0",
    ) -> JsonObject:
        """Make a job and, unless `config` says otherwise, its first version.

        Args:
            name: 1 to 64 of letters, digits, `-` and `_`.
            config: as the v1 API takes it: `app_url`, `boot_file_url`, `engine_id`, `spec_id`, ...
            description: at most 256 characters.
            workspace_id: a part of the project.
        """
        return self._json(
            "POST",
            self._v1("training-jobs"),
            body={
                "job_name": name,
                "job_desc": description,
                "config": config,
                "workspace_id": workspace_id,
            },
        )

    def submit_version(
        self, job_id: int, config: Mapping[str, Any], *, description: str = ""
    ) -> JsonObject:
        """Run a job again, as its next version. `config` may name a `pre_version_id`."""
        return self._json(
            "POST",
            self._v1("training-jobs", job_id, "versions"),
            body={"job_desc": description, "config": config},
        )

    def list_jobs(
        self,
        *,
        status: Sequence[int] = (),
        search: str | None = None,
        sort_by: str | None = None,
        order: str | None = None,
        page: int | None = None,
        per_page: int | None = None,
        workspace_id: str | None = None,
    ) -> JsonObject:
        """Jobs, each with the status of its latest version. `page` counts from 1."""
        return self._json(
            "GET",
            self._v1("training-jobs"),
            query={
                "status": _comma_list(status),
                "search_content": search,
                "sortBy": sort_by,
                "order": order,
                "page": page,
                "per_page": per_page,
                "workspace_id": workspace_id,
            },
        )

    def list_versions(
        self,
        *,
        status: Sequence[int] = (),
        pool_id: str | None = None,
        sort_by: str | None = None,
        order: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
        workspace_id: str | None = None,
    ) -> JsonObject:
        """Versions of every job, with their cards. `limit=0` asks for all of them at once."""
        return self._json(
            "GET",
            self._v1("training-jobs", "versions"),
            query={
                "status": _comma_list(status),
                "pool_id": pool_id,
                "sort_by": sort_by,
                "order": order,
                "offset": offset,
                "limit": limit,
                "workspace_id": workspace_id,
            },
        )

    def list_job_versions(
        self, job_id: int, *, page: int | None = None, per_page: int | None = None
    ) -> JsonObject:
        """Versions of one job, the newest first: all of them, unless a `page` is asked for."""
        return self._json(
            "GET",
            self._v1("training-jobs", job_id, "versions"),
            query={"page": page, "per_page": per_page},
        )

    def get_version(self, job_id: int, version_id: int) -> JsonObject:
        return self._json("GET", self._v1("training-jobs", job_id, "versions", version_id))

    def stop_version(self, job_id: int, version_id: int) -> JsonObject:
        """Ask for a stop. It has happened once the version's status says so."""
        return self._json("POST", self._v1("training-jobs", job_id, "versions", version_id, "stop"))

    def delete_job(self, job_id: int) -> JsonObject:
        """Delete a job with all its versions; one that still runs is stopped first."""
        return self._json("DELETE", self._v1("training-jobs", job_id))

    def delete_version(self, job_id: int, version_id: int) -> JsonObject:
        return self._json("DELETE", self._v1("training-jobs", job_id, "versions", version_id))

    # History.

    def import_history(self, lines: bytes, *, pool_as_public: bool = False) -> JsonObject:
        """Move in versions that ran elsewhere; at most 1 MiB of JSON lines, the oldest first."""
        return self._json_of(
            self._send(
                "POST",
                self._own("history"),
                query={"pool_as_public": pool_as_public or None},
                body=lines,
            )
        )

    def export_history(self) -> Iterator[bytes]:
        """Every version that has ended, as JSON lines, in pieces of any size."""
        with self._stream("GET", self._own("history")) as response, self._told_in_our_words():
            yield from response.iter_bytes(CHUNK_BYTES)

    # Logs.

    def list_log_files(self, job_id: int, version_id: int) -> list[str]:
        """The names of a version's logs, one a task, whether or not anything is in them yet."""
        path = self._v1("training-jobs", job_id, "versions", version_id, "log", "file-names")
        return list(self._json("GET", path)["log_file_list"])

    def read_log(
        self, job_id: int, version_id: int, log_file: str, *, offset: int = 0
    ) -> bytes | None:
        """What a log holds from `offset` on, byte for byte.

        Returns:
            At most LOG_CHUNK_BYTES_MAX bytes; none at the end of what has been written. None while
            there is no log: its task has not started.
        """
        path = self._v1("training-jobs", job_id, "versions", version_id, "log", "files", log_file)
        try:
            return self._send("GET", path, query={"offset": offset}).content
        except ApiError as error:
            if error.code == LOG_NOT_READY:
                return None
            raise

    # What jobs run on.

    def list_flavors(self) -> JsonObject:
        return self._json("GET", self._v1("job", "resource-specs"), query={"job_type": "train"})

    def list_engines(self) -> JsonObject:
        return self._json("GET", self._v1("job", "ai-engines"), query={"job_type": "train"})

    def list_pools(self, *, workspace_id: str | None = None) -> JsonObject:
        """Pools of one workspace; of the default one, unless another is named."""
        return self._json("GET", self._v2("pools"), query={"workspaceId": workspace_id})

    def get_pool(self, pool_id: str) -> JsonObject:
        return self._json("GET", self._v2("pools", pool_id))

    def pool_statistics(self, pool_id: str) -> JsonObject:
        """How many workloads of a pool stand in which state, by type. Exact."""
        return self._json("GET", self._v2("statistics", "pools", pool_id, "workloads"))

    def list_pool_workloads(
        self,
        pool_id: str,
        *,
        types: Sequence[str] = (),
        status: str | None = None,
        sort: str | None = None,
        ascend: bool | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> JsonObject:
        return self._json(
            "GET",
            self._v2("pools", pool_id, "workloads"),
            query={
                "type": types,
                "status": status,
                "sort": sort,
                "ascend": ascend,
                "offset": offset,
                "limit": limit,
            },
        )

    # Pools and their nodes.

    def create_pool(
        self,
        name: str,
        resources: Sequence[Mapping[str, Any]],
        *,
        scopes: Sequence[str] = ("Train", "Infer", "Notebook"),
        description: str = "",
        workspace_id: str = "0",
    ) -> JsonObject:
        """Ask for a pool. It is there once its phase is `Running`.

        Args:
            name: 4 to 25 lower-case letters, digits and hyphens.
            resources: `{"flavor": ..., "count": ...}` a flavor, or more as the API takes it.
            scopes: what it may be used for.
            description: none of `!<>=&"'`.
            workspace_id: a part of the project.
        """
        labels = {"os.modelarts/name": name, "os.modelarts/workspace.id": workspace_id}
        annotations = {"os.modelarts/description": description} if description else {}
        return self._json(
            "POST",
            self._v2("pools"),
            body={
                "apiVersion": "v2",
                "kind": "Pool",
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"type": "Dedicate", "scope": scopes, "resources": resources},
            },
        )

    def change_pool(self, pool_id: str, patch: Mapping[str, Any]) -> JsonObject:
        """Carry out a merge patch (RFC 7386): null takes away, what is absent stays."""
        return self._json("PATCH", self._v2("pools", pool_id), body=patch)

    def delete_pool(self, pool_id: str) -> JsonObject:
        """Ask for its end: its jobs are stopped. It has ended once it is not found any more."""
        return self._json("DELETE", self._v2("pools", pool_id))

    def list_nodes(self, pool_id: str) -> list[JsonObject]:
        """Every node, by name."""
        found: list[JsonObject] = []
        cursor = None
        while True:
            page = self._json(
                "GET", self._v2("pools", pool_id, "nodes"), query={"continue": cursor}
            )
            found += page["items"]
            cursor = page["metadata"].get("continue")
            if not cursor:
                return found

    def delete_nodes(self, pool_id: str, names: Sequence[str]) -> None:
        """Give nodes back by name; busy ones go once their work has ended."""
        path = self._v2("pools", pool_id, "nodes", "batch-delete")
        self._send("POST", path, body=msgspec.json.encode({"deleteNodeNames": names}))

    def lock_nodes(self, pool_id: str, names: Sequence[str], *, is_locked: bool) -> JsonObject:
        """Keep nodes from new work and from being deleted by name, or let them again."""
        call = "batch-lock" if is_locked else "batch-unlock"
        return self._json(
            "POST",
            self._v2("pools", pool_id, "nodes", call),
            body={"nodeNames": names, "actions": ["delete"]},
        )

    def list_pool_events(
        self,
        pool_id: str,
        *,
        type_: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> JsonObject:
        """What happened to a pool and its nodes, the newest first."""
        return self._json(
            "GET",
            self._v1("events"),
            query={
                "resource": "pools",
                "name": pool_id,
                "type": type_,
                "offset": offset,
                "limit": limit,
            },
        )

    def list_workspaces(self) -> JsonObject:
        """Those that the caller may enter; the default one has the id 0."""
        return self._json(
            "GET", self._v1("workspaces"), query={"filter_accessible": True, "order": "asc"}
        )

    # Models and services.

    def create_model(
        self, name: str, version: str, source_location: str, **more: object
    ) -> JsonObject:
        """Keep a version of a model: a copy of a folder in a bucket.

        Args:
            name: 1 to 64 letters, digits, `-` and `_`.
            version: three numbers, such as `0.0.1`.
            source_location: `/BUCKET/FOLDER/` with `customize_service.py`, unless `cmd` is given.
            more: as the API takes it: `runtime`, `cmd`, `description`, `workspace_id`, ...
        """
        body = {
            "model_name": name,
            "model_version": version,
            "source_location": source_location,
            **more,
        }
        return self._json("POST", self._v1("models"), body=body)

    def list_models(
        self,
        *,
        name: str | None = None,
        is_exact: bool | None = None,
        workspace_id: str | None = None,
        limit: int | None = None,
    ) -> JsonObject:
        """Models of one workspace (of the default one), the newest first."""
        query = {
            "model_name": name,
            "exact_match": is_exact,
            "workspace_id": workspace_id,
            "limit": limit,
        }
        return self._json("GET", self._v1("models"), query=query)

    def get_model(self, model_id: str) -> JsonObject:
        return self._json("GET", self._v1("models", model_id))

    def delete_model(self, model_id: str, *, is_cascade: bool = False) -> JsonObject:
        """Delete a version, or all versions of its name; those that services run stay."""
        query = {"cascade": is_cascade or None}
        return self._json("DELETE", self._v1("models", model_id), query=query)

    def deploy_service(
        self, name: str, config: Sequence[Mapping[str, Any]], **more: object
    ) -> JsonObject:
        """Deploy a service. It answers once its status is `running`.

        With `infer_type="batch"` it asks for itself, and is `finished` in the end.
        """
        body = {"service_name": name, "infer_type": "real-time", "config": config, **more}
        return self._json("POST", self._v1("services"), body=body)

    def list_services(
        self,
        *,
        name: str | None = None,
        status: str | None = None,
        workspace_id: str | None = None,
        limit: int | None = None,
    ) -> JsonObject:
        """Services of one workspace (of the default one), the newest first. `name` is a part."""
        query = {
            "service_name": name,
            "status": status,
            "workspace_id": workspace_id,
            "limit": limit,
        }
        return self._json("GET", self._v1("services"), query=query)

    def get_service(self, service_id: str) -> JsonObject:
        return self._json("GET", self._v1("services", service_id))

    def change_service(self, service_id: str, **change: object) -> JsonObject:
        """Start or stop it (`status`), or change what it is; what is not named stays."""
        return self._json("PUT", self._v1("services", service_id), body=change)

    def delete_service(self, service_id: str) -> JsonObject:
        return self._json("DELETE", self._v1("services", service_id))

    def list_service_events(self, service_id: str) -> JsonObject:
        """What happened to a service, the newest first."""
        return self._json("GET", self._v1("services", service_id, "events"))

    def ask_service(
        self, service_id: str, content: bytes, *, content_type: str, path: str = "/"
    ) -> bytes:
        """Send one request to a service; what an instance of it answers, whatever that is."""
        target = f"/services/{segment(service_id)}{path}"
        return self._send("POST", target, body=TypedBody(content, content_type)).content

    # Notebooks, and the images that they are made from.

    def create_notebook(self, body: Mapping[str, Any]) -> JsonObject:
        """Make a notebook and start it; `body` as the API takes it: `name`, `image_id`, ..."""
        return self._json("POST", self._v1("notebooks"), body=body)

    def list_notebooks(
        self, *, is_everybodys: bool = False, workspace_id: str | None = None
    ) -> JsonObject:
        """One's own, or everybody's: those of others without their tokens."""
        path = self._v1("notebooks", "all") if is_everybodys else self._v1("notebooks")
        return self._json("GET", path, query={"limit": 1000, "workspace_id": workspace_id})

    def get_notebook(self, notebook_id: str) -> JsonObject:
        return self._json("GET", self._v1("notebooks", notebook_id))

    def start_notebook(self, notebook_id: str, *, duration_ms: int | None = None) -> JsonObject:
        path = self._v1("notebooks", notebook_id, "start")
        return self._json("POST", path, query={"duration": duration_ms})

    def stop_notebook(self, notebook_id: str) -> JsonObject:
        return self._json("POST", self._v1("notebooks", notebook_id, "stop"))

    def renew_notebook(self, notebook_id: str, *, duration_ms: int | None = None) -> JsonObject:
        """Its lease, counted from now; None: as long as before."""
        path = self._v1("notebooks", notebook_id, "lease")
        return self._json("PATCH", path, query={"duration": duration_ms})

    def save_notebook(self, notebook_id: str, body: Mapping[str, Any]) -> JsonObject:
        """What is installed in it as an image; `body`: `namespace`, `name`, `tag`, ..."""
        path = self._v1("notebooks", notebook_id, "create-image")
        return self._json("POST", path, body=body)

    def delete_notebook(self, notebook_id: str) -> JsonObject:
        """Its storage goes with it."""
        return self._json("DELETE", self._v1("notebooks", notebook_id))

    def list_images(self) -> JsonObject:
        return self._json("GET", self._v1("images"), query={"limit": 1000})

    # Objects.

    def put_object(self, bucket: str, key: str, file: Path) -> None:
        """Store a file. It is read twice: its hash is signed before the first byte is sent."""
        with file.open("rb") as content:
            digest = file_digest(content, "sha256").hexdigest()
            content.seek(0)
            self._send("PUT", _object_path(bucket, key), body=FileBody(content, digest))

    def get_object(self, bucket: str, key: str, file: Path) -> None:
        """Write an object to a file, which is there once it is complete."""
        part = file.with_name(f"{file.name}.part")
        try:
            with self._stream("GET", _object_path(bucket, key)) as response, part.open("wb") as out:
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    out.write(chunk)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    def list_objects(self, bucket: str, *, prefix: str = "") -> JsonObject:
        return self._json("GET", f"/objects/{segment(bucket)}", query={"prefix": prefix})

    def delete_object(self, bucket: str, key: str) -> None:
        self._send("DELETE", _object_path(bucket, key))


def _object_path(bucket: str, key: str) -> str:
    return f"/objects/{segment(bucket)}/{quote(key, safe='/~')}"


def _comma_list(values: Sequence[int]) -> str | None:
    return ",".join(map(str, values)) or None
