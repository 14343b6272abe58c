"""The v2 training API: the same jobs, each version one."""

from muster.api import metrics
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Login, Route, Within
from muster.api.services import Services
from muster.api.training_v2 import choices as v2_choices
from muster.api.training_v2 import jobs as v2_jobs
from muster.api.training_v2 import logs as v2_logs
from muster.api.training_v2 import reports as v2_reports
from muster.api.training_v2 import search as v2_search
from muster.api.training_v2 import timeline as v2_timeline
from muster.domain.permission import Permission
from muster.wire import metrics as metric_shapes
from muster.wire import training_v2 as v2_shapes

_TRAINING = "/v2/{project_id}/training-jobs"
_TRAINING_JOB = f"{_TRAINING}/{{training_job_id}}"


def routes(services: Services) -> list[Route]:
    v2 = table(services, Envelope.MODERN)
    return [
        v2(
            "POST", _TRAINING, v2_jobs.create_job, "Submit a training job",
            body=v2_shapes.TrainingJobRequest, reply=v2_shapes.TrainingJobView, status=201,
            needs=Permission.JOB_WRITE, within=Within.BODY,
        ),
        v2(
            "POST", "/v2/{project_id}/training-job-searches", v2_search.search_jobs,
            "Search training jobs",
            body=v2_shapes.TrainingJobSearch, query=v2_shapes.SearchQuery,
            reply=v2_shapes.TrainingJobList,
            needs=Permission.JOB_READ, within=Within.BODY,
        ),
        v2(
            "GET", _TRAINING_JOB, v2_jobs.show_job, "Show a training job",
            reply=v2_shapes.TrainingJobView,
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "PUT", _TRAINING_JOB, v2_jobs.describe_job, "Change the description of a job",
            body=v2_shapes.TrainingJobChange,
            needs=Permission.JOB_WRITE, within=Within.TRAINING_JOB,
        ),
        v2(
            "DELETE", _TRAINING_JOB, v2_jobs.delete_job,
            "Delete a training job; one that is live is stopped", status=202,
            needs=Permission.JOB_WRITE, within=Within.TRAINING_JOB,
        ),
        v2(
            "POST", f"{_TRAINING_JOB}/actions", v2_jobs.act_on_job, "Stop a training job",
            body=v2_shapes.TrainingJobAction, reply=v2_shapes.TrainingJobView, status=202,
            needs=Permission.JOB_WRITE, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/tasks/{{task_id}}/logs/preview", v2_logs.preview_log,
            "Show the end of a log, of the latest attempt; 204 while there is none",
            reply=v2_shapes.LogPreview,
            also={204: "There is no log yet."},
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/logs/{{task_id}}", v2_logs.show_lines,
            "Show lines of a log, of the latest attempt; 204 while there is none",
            query=v2_shapes.TaskLogQuery, reply=v2_shapes.TaskLogLines,
            also={204: "There is no log yet."},
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/tasks/{{task_id}}/logs/url", v2_logs.show_link,
            "Get a link to a log that opens without a login, for five minutes; 204 while there is"
            " no log",
            query=v2_shapes.LogLinkQuery, reply=v2_shapes.LogLink,
            also={204: "There is no log yet."},
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/tasks/{{task_id}}/logs/download", v2_logs.open_link,
            "Open such a link: the whole log, as it was written", login=Login.NONE,
            query=v2_shapes.LogDownloadQuery,
            also={403: "The link has expired, or is not one that this server has made."},
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/metrics/{{task_id}}", metrics.show_task_metrics,
            "Show how busy a task was, minute by minute; 204 while there is no sample",
            reply=metric_shapes.TaskMetrics, also={204: "There is no sample yet."},
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/events", v2_timeline.list_events,
            "List what happened to a job",
            query=v2_shapes.EventsQuery, reply=v2_shapes.TrainingEventList,
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "POST", f"{_TRAINING_JOB}/tasks/{{task_id}}/reports/{{report_type}}",
            v2_reports.report_event, "Report an event of a task of a job that runs",
            body=v2_shapes.TaskReport,
            needs=Permission.JOB_WRITE, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/tasks", v2_timeline.list_tasks,
            "List the nodes that its tasks were put on",
            query=v2_shapes.TasksQuery, reply=list[v2_shapes.TaskPlace],
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", f"{_TRAINING_JOB}/stages", v2_timeline.list_stages,
            "List the stages that a job went through", reply=v2_shapes.TrainingStageList,
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        v2(
            "GET", "/v2/{project_id}/training-job-flavors", v2_choices.list_flavors,
            "List flavors by their codes",
            query=v2_shapes.TrainingFlavorsQuery, reply=v2_shapes.TrainingFlavorList,
            needs=Permission.JOB_READ,
        ),
        v2(
            "GET", "/v2/{project_id}/training-job-engines", v2_choices.list_engines,
            "List AI engines by their names", reply=v2_shapes.TrainingEngineList,
            needs=Permission.JOB_READ,
        ),
        v2(
            "GET", "/v2/{project_id}/training-event-categories",
            v2_choices.list_event_categories, "List the kinds of events that jobs have",
            query=v2_shapes.EventCategoriesQuery, reply=v2_shapes.EventCategoryList,
            needs=Permission.JOB_READ,
        ),
        v2(
            "GET", "/v2/{project_id}/training-quotas", v2_choices.show_quotas,
            "Show how many live jobs a project may have",
            query=v2_shapes.TrainingQuotasQuery, reply=v2_shapes.TrainingQuotaList,
            needs=Permission.JOB_READ,
        ),
        v2(
            "GET", "/v2/{project_id}/training-job-names", v2_choices.check_name,
            "Whether a job name is taken",
            query=v2_shapes.TrainingNameQuery, reply=v2_shapes.TrainingNameCheck,
            needs=Permission.JOB_READ, within=Within.QUERY,
        ),
    ]  # fmt: skip
