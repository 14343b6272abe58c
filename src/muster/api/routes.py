"""The route table: every path that muster answers, who may call it, and what it takes and gives."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from muster.api import catalogue, health, identity, logs, objects, openapi, pools, training
from muster.api.errors import Envelope
from muster.api.http import Login, Reply, Request, Route
from muster.api.services import Services
from muster.api.training_v2 import choices as v2_choices
from muster.api.training_v2 import jobs as v2_jobs
from muster.api.training_v2 import logs as v2_logs
from muster.api.training_v2 import search as v2_search
from muster.api.training_v2 import timeline as v2_timeline
from muster.wire import identity as identity_shapes
from muster.wire import objects as object_shapes
from muster.wire import pools as pool_shapes
from muster.wire import training as shapes
from muster.wire import training_v2 as v2_shapes

_Handler = Callable[[Services, Request], Awaitable[Reply]]

_V1 = "/v1/{project_id}"
_JOB = f"{_V1}/training-jobs/{{job_id}}"
_VERSION = f"{_JOB}/versions/{{version_id}}"
_TRAINING = "/v2/{project_id}/training-jobs"
_TRAINING_JOB = f"{_TRAINING}/{{training_job_id}}"
_POOL = "/v2/{project_id}/pools/{pool_name}"


def build_routes(services: Services) -> tuple[Route, ...]:
    """The table, each handler with the services it works with."""

    def route(
        method: str, path: str, handler: _Handler, summary: str, *, envelope: Envelope, **more: Any
    ) -> Route:
        return Route(
            method=method,
            path=path,
            handler=partial(handler, services),
            summary=summary,
            envelope=envelope,
            **more,
        )

    v1 = partial(route, envelope=Envelope.V1)
    resource = partial(route, envelope=Envelope.RESOURCE)
    keystone = partial(route, envelope=Envelope.KEYSTONE)
    own = partial(route, envelope=Envelope.MODERN)
    v2 = own

    table = [
        # ---- the heart
        resource(
            "GET", "/v2/{project_id}/statistics/pools/{pool_name}/workloads",
            pools.show_workload_statistics, "Count the jobs of a pool by type and state",
            reply=pool_shapes.WorkloadStatistics,
        ),
        v1(
            "GET", f"{_V1}/training-jobs/versions", training.list_versions,
            "List all job versions with their status and cards",
            query=shapes.VersionsQuery, reply=shapes.VersionOverview,
        ),
        v1(
            "GET", f"{_V1}/training-jobs", training.list_jobs, "List training jobs",
            query=shapes.JobsQuery, reply=shapes.JobList,
        ),
        # ---- v1 training jobs
        v1(
            "POST", f"{_V1}/training-jobs", training.create_job, "Submit a training job",
            body=shapes.JobSubmission, reply=shapes.SubmittedJob,
        ),
        v1(
            "PUT", _JOB, training.describe_job, "Change the description of a job",
            body=shapes.JobDescription, reply=shapes.Done,
        ),
        v1(
            "DELETE", _JOB, training.delete_job, "Delete a job with all its versions",
            reply=shapes.Done,
        ),
        v1(
            "GET", f"{_JOB}/versions", training.list_job_versions, "List the versions of a job",
            query=shapes.JobVersionsQuery, reply=shapes.JobVersions,
        ),
        v1(
            "POST", f"{_JOB}/versions", training.create_version, "Run a job again",
            body=shapes.VersionSubmission, reply=shapes.SubmittedJob,
        ),
        v1(
            "GET", _VERSION, training.show_version, "Show a version",
            reply=shapes.VersionDetail,
        ),
        v1(
            "DELETE", _VERSION, training.delete_version, "Delete a version", reply=shapes.Done,
        ),
        v1("POST", f"{_VERSION}/stop", training.stop_version, "Stop a version", reply=shapes.Done),
        v1(
            "GET", f"{_VERSION}/aom-log", logs.show_log_lines, "Show lines of a log",
            query=shapes.LogQuery, reply=shapes.LogLines,
        ),
        v1(
            "GET", f"{_VERSION}/log/file-names", logs.list_log_files, "List the logs of a version",
            reply=shapes.LogFiles,
        ),
        v1(
            "GET", f"{_VERSION}/log/files/{{log_file}}", logs.show_log_bytes,
            "Show a log exactly as it was written (muster's own)", query=shapes.LogBytesQuery,
        ),
        v1(
            "GET", f"{_V1}/job/resource-specs", catalogue.list_specs, "List flavors",
            query=shapes.SpecsQuery, reply=shapes.SpecList,
        ),
        v1(
            "GET", f"{_V1}/job/ai-engines", catalogue.list_engines, "List AI engines",
            query=shapes.EnginesQuery, reply=shapes.EngineList,
        ),
        v1(
            "POST", f"{_V1}/training-job-configs", catalogue.create_config,
            "Keep a job configuration", body=shapes.NewJobConfig, reply=shapes.Done,
        ),
        v1(
            "GET", f"{_V1}/training-job-configs", catalogue.list_configs,
            "List job configurations", query=shapes.ConfigsQuery, reply=shapes.ConfigList,
        ),
        v1(
            "GET", f"{_V1}/training-job-configs/{{config_name}}", catalogue.show_config,
            "Show a job configuration", query=shapes.ConfigQuery, reply=shapes.ConfigDetail,
        ),
        v1(
            "PUT", f"{_V1}/training-job-configs/{{config_name}}", catalogue.update_config,
            "Change a job configuration", body=shapes.JobConfigBody, reply=shapes.Done,
        ),
        v1(
            "DELETE", f"{_V1}/training-job-configs/{{config_name}}", catalogue.delete_config,
            "Delete a job configuration", reply=shapes.Done,
        ),
        v1(
            "GET", f"{_V1}/built-in-algorithms", catalogue.list_algorithms,
            "List built-in algorithms", query=shapes.AlgorithmsQuery, reply=shapes.AlgorithmList,
        ),
        # ---- v2 training jobs: the same jobs, each version one
        v2(
            "POST", _TRAINING, v2_jobs.create_job, "Submit a training job",
            body=v2_shapes.TrainingJobRequest, reply=v2_shapes.TrainingJobView, status=201,
        ),
        v2(
            "POST", "/v2/{project_id}/training-job-searches", v2_search.search_jobs,
            "Search training jobs",
            body=v2_shapes.TrainingJobSearch, query=v2_shapes.SearchQuery,
            reply=v2_shapes.TrainingJobList,
        ),
        v2(
            "GET", _TRAINING_JOB, v2_jobs.show_job, "Show a training job",
            reply=v2_shapes.TrainingJobView,
        ),
        v2(
            "PUT", _TRAINING_JOB, v2_jobs.describe_job, "Change the description of a job",
            body=v2_shapes.TrainingJobChange,
        ),
        v2(
            "DELETE", _TRAINING_JOB, v2_jobs.delete_job,
            "Delete a training job; one that is live is stopped", status=202,
        ),
        v2(
            "POST", f"{_TRAINING_JOB}/actions", v2_jobs.act_on_job, "Stop a training job",
            body=v2_shapes.TrainingJobAction, reply=v2_shapes.TrainingJobView, status=202,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/tasks/{{task_id}}/logs/preview", v2_logs.preview_log,
            "Show the end of a log; 204 while there is none", reply=v2_shapes.LogPreview,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/events", v2_timeline.list_events,
            "List what happened to a job",
            query=v2_shapes.EventsQuery, reply=v2_shapes.TrainingEventList,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/tasks", v2_timeline.list_tasks,
            "List the nodes that its tasks were put on",
            query=v2_shapes.TasksQuery, reply=list[v2_shapes.TaskPlace],
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/stages", v2_timeline.list_stages,
            "List the stages that a job went through", reply=v2_shapes.TrainingStageList,
        ),
        v2(
            "GET", "/v2/{project_id}/training-job-flavors", v2_choices.list_flavors,
            "List flavors by their codes",
            query=v2_shapes.TrainingFlavorsQuery, reply=v2_shapes.TrainingFlavorList,
        ),
        v2(
            "GET", "/v2/{project_id}/training-job-engines", v2_choices.list_engines,
            "List AI engines by their names", reply=v2_shapes.TrainingEngineList,
        ),
        v2(
            "GET", "/v2/{project_id}/training-quotas", v2_choices.show_quotas,
            "Show how many live jobs a project may have",
            query=v2_shapes.TrainingQuotasQuery, reply=v2_shapes.TrainingQuotaList,
        ),
        v2(
            "GET", "/v2/{project_id}/training-job-names", v2_choices.check_name,
            "Whether a job name is taken",
            query=v2_shapes.TrainingNameQuery, reply=v2_shapes.TrainingNameCheck,
        ),
        # ---- pools
        resource(
            "GET", "/v2/{project_id}/pools", pools.list_pools, "List pools",
            query=pool_shapes.PoolsQuery, reply=pool_shapes.PoolList,
        ),
        resource("GET", _POOL, pools.show_pool, "Show a pool", reply=pool_shapes.PoolView),
        resource(
            "GET", f"{_POOL}/workloads", pools.list_workloads, "List the jobs in a pool",
            query=pool_shapes.WorkloadsQuery, reply=pool_shapes.WorkloadList,
        ),
        # ---- identity
        keystone(
            "GET", "/", identity.show_versions, "List the identity versions",
            login=Login.NONE, reply=identity_shapes.VersionsReply, status=300,
        ),
        keystone(
            "GET", "/v3", identity.show_version, "Show the identity version",
            login=Login.NONE, reply=identity_shapes.VersionReply,
        ),
        keystone(
            "POST", "/v3/auth/tokens", identity.create_token, "Log in: get a token",
            login=Login.NONE, body=identity_shapes.AuthRequest, reply=identity_shapes.TokenReply,
            status=201,
        ),
        keystone(
            "GET", "/v3/auth/tokens", identity.show_token, "Validate a token",
            login=Login.MEMBER, reply=identity_shapes.TokenReply,
        ),
        keystone(
            "DELETE", "/v3/auth/tokens", identity.revoke_token, "Revoke a token",
            login=Login.MEMBER, status=204,
        ),
        keystone(
            "GET", "/v3/auth/catalog", identity.show_catalog, "Show the service catalog",
            login=Login.MEMBER, reply=identity_shapes.CatalogReply,
        ),
        keystone(
            "GET", "/v3/auth/projects", identity.list_own_projects, "List the caller's projects",
            login=Login.MEMBER, reply=identity_shapes.ProjectList,
        ),
        keystone(
            "GET", "/v3/projects", identity.list_own_projects, "Find the caller's project by name",
            login=Login.MEMBER, reply=identity_shapes.ProjectList,
        ),
        keystone(
            "GET", "/v3/auth/domains", identity.list_own_domains, "List the caller's account",
            login=Login.MEMBER, reply=identity_shapes.DomainList,
        ),
        # ---- objects
        own(
            "GET", "/objects", objects.list_buckets, "List the project's buckets",
            login=Login.MEMBER, reply=object_shapes.BucketList,
        ),
        own(
            "GET", "/objects/{bucket}", objects.list_objects, "List the objects of a bucket",
            login=Login.MEMBER, query=object_shapes.ObjectsQuery, reply=object_shapes.ObjectList,
        ),
        own(
            "PUT", "/objects/{bucket}/{key...}", objects.put_object, "Store an object",
            login=Login.MEMBER, reply=object_shapes.StoredObject, takes_stream=True,
        ),
        own(
            "GET", "/objects/{bucket}/{key...}", objects.get_object, "Read an object",
            login=Login.MEMBER,
        ),
        own(
            "HEAD", "/objects/{bucket}/{key...}", objects.head_object,
            "Show the size and age of an object", login=Login.MEMBER,
        ),
        own(
            "DELETE", "/objects/{bucket}/{key...}", objects.delete_object, "Delete an object",
            login=Login.MEMBER, status=204,
        ),
        # ---- the server itself
        own("GET", "/healthz", health.show_alive, "Whether the server lives", login=Login.NONE),
        own("GET", "/readyz", health.show_ready, "Whether it is ready", login=Login.NONE),
        own("GET", "/metrics", health.show_metrics, "Metrics for Prometheus", login=Login.NONE),
    ]  # fmt: skip
    document = openapi.describe(table)
    table += [
        own(
            "GET", "/openapi.json", openapi.show_openapi(document), "This API, for machines",
            login=Login.NONE,
        ),
        own("GET", "/docs", openapi.show_docs(table), "This API, for people", login=Login.NONE),
    ]  # fmt: skip
    return tuple(table)
