"""The v1 training API, with the two lists at the heart."""

from muster.api import catalogue, logs, training, training_lists
from muster.api.errors import Envelope
from muster.api.pools import statistics
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import pools as pool_shapes
from muster.wire import training as shapes

_V1 = "/v1/{project_id}"
_JOB = f"{_V1}/training-jobs/{{job_id}}"
_VERSION = f"{_JOB}/versions/{{version_id}}"


def routes(services: Services) -> list[Route]:
    v1 = table(services, Envelope.V1)
    resource = table(services, Envelope.RESOURCE)
    return [
        resource(
            "GET", "/v2/{project_id}/statistics/pools/{pool_name}/workloads",
            statistics.show_workload_statistics, "Count the jobs of a pool by type and state",
            reply=pool_shapes.WorkloadStatistics,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        v1(
            "GET", f"{_V1}/training-jobs/versions", training_lists.list_versions,
            "List all job versions with their status and cards",
            query=shapes.VersionsQuery, reply=shapes.VersionOverview,
            needs=Permission.JOB_READ, within=Within.QUERY,
        ),
        v1(
            "GET", f"{_V1}/training-jobs", training_lists.list_jobs,
            "List training jobs",
            query=shapes.JobsQuery, reply=shapes.JobList,
            needs=Permission.JOB_READ, within=Within.QUERY,
        ),
        v1(
            "POST", f"{_V1}/training-jobs", training.create_job, "Submit a training job",
            body=shapes.JobSubmission, reply=shapes.SubmittedJob,
            needs=Permission.JOB_WRITE, within=Within.BODY,
        ),
        v1(
            "PUT", _JOB, training.describe_job, "Change the description of a job",
            body=shapes.JobDescription, reply=shapes.Done,
            needs=Permission.JOB_WRITE, within=Within.JOB,
        ),
        v1(
            "DELETE", _JOB, training.delete_job, "Delete a job with all its versions",
            reply=shapes.Done,
            needs=Permission.JOB_WRITE, within=Within.JOB,
        ),
        v1(
            "GET", f"{_JOB}/versions", training.list_job_versions, "List the versions of a job",
            query=shapes.JobVersionsQuery, reply=shapes.JobVersions,
            needs=Permission.JOB_READ, within=Within.JOB,
        ),
        v1(
            "POST", f"{_JOB}/versions", training.create_version, "Run a job again",
            body=shapes.VersionSubmission, reply=shapes.SubmittedJob,
            needs=Permission.JOB_WRITE, within=Within.JOB,
        ),
        v1(
            "GET", _VERSION, training.show_version, "Show a version",
            reply=shapes.VersionDetail,
            needs=Permission.JOB_READ, within=Within.JOB,
        ),
        v1(
            "DELETE", _VERSION, training.delete_version, "Delete a version", reply=shapes.Done,
            needs=Permission.JOB_WRITE, within=Within.JOB,
        ),
        v1(
            "POST", f"{_VERSION}/stop", training.stop_version, "Stop a version", reply=shapes.Done,
            needs=Permission.JOB_WRITE, within=Within.JOB,
        ),
        v1(
            "GET", f"{_VERSION}/aom-log", logs.show_log_lines, "Show lines of a log",
            query=shapes.LogQuery, reply=shapes.LogLines,
            needs=Permission.JOB_READ, within=Within.JOB,
        ),
        v1(
            "GET", f"{_VERSION}/log/file-names", logs.list_log_files, "List the logs of a version",
            reply=shapes.LogFiles,
            needs=Permission.JOB_READ, within=Within.JOB,
        ),
        v1(
            "GET", f"{_VERSION}/log/files/{{log_file}}", logs.show_log_bytes,
            "Show a log exactly as it was written (muster's own)", query=shapes.LogBytesQuery,
            needs=Permission.JOB_READ, within=Within.JOB,
        ),
        v1(
            "GET", f"{_V1}/job/resource-specs", catalogue.list_specs, "List flavors",
            query=shapes.SpecsQuery, reply=shapes.SpecList,
            needs=Permission.JOB_READ,
        ),
        v1(
            "GET", f"{_V1}/job/ai-engines", catalogue.list_engines, "List AI engines",
            query=shapes.EnginesQuery, reply=shapes.EngineList,
            needs=Permission.JOB_READ,
        ),
        v1(
            "POST", f"{_V1}/training-job-configs", catalogue.create_config,
            "Keep a job configuration", body=shapes.NewJobConfig, reply=shapes.Done,
            needs=Permission.JOB_WRITE,
        ),
        v1(
            "GET", f"{_V1}/training-job-configs", catalogue.list_configs,
            "List job configurations", query=shapes.ConfigsQuery, reply=shapes.ConfigList,
            needs=Permission.JOB_READ,
        ),
        v1(
            "GET", f"{_V1}/training-job-configs/{{config_name}}", catalogue.show_config,
            "Show a job configuration", query=shapes.ConfigQuery, reply=shapes.ConfigDetail,
            needs=Permission.JOB_READ,
        ),
        v1(
            "PUT", f"{_V1}/training-job-configs/{{config_name}}", catalogue.update_config,
            "Change a job configuration", body=shapes.JobConfigBody, reply=shapes.Done,
            needs=Permission.JOB_WRITE,
        ),
        v1(
            "DELETE", f"{_V1}/training-job-configs/{{config_name}}", catalogue.delete_config,
            "Delete a job configuration", reply=shapes.Done,
            needs=Permission.JOB_WRITE,
        ),
        v1(
            "GET", f"{_V1}/built-in-algorithms", catalogue.list_algorithms,
            "List built-in algorithms", query=shapes.AlgorithmsQuery, reply=shapes.AlgorithmList,
            needs=Permission.JOB_READ,
        ),
    ]  # fmt: skip
