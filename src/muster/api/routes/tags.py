"""Tags of pools, nodes and training jobs. Those of notebooks are among their own routes."""

from muster.api import tags
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.api.training_v2 import tagged
from muster.domain.permission import Permission
from muster.wire import tags as shapes

_POOL_TAGS = "/v1/{project_id}/pools/{pool_name}/tags"
_NODE_TAGS = "/v1/{project_id}/nodes/{node_name}/tags"
_JOBS = "/v2/{project_id}/modelarts-training-job"
_JOB_TAGS = f"{_JOBS}/{{training_job_id}}/tags"


def routes(services: Services) -> list[Route]:
    resource = table(services, Envelope.RESOURCE)
    modern = table(services, Envelope.MODERN)
    return [
        resource(
            "GET", "/v1/{project_id}/pools/tags", tags.list_pool_tags,
            "List the tags of all pools",
            query=shapes.CombinedTagsQuery, reply=shapes.CombinedTags,
            needs=Permission.POOL_READ,
        ),
        resource(
            "GET", _POOL_TAGS, tags.show_pool_tags, "List the tags of a pool",
            reply=shapes.TagViews,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "POST", _POOL_TAGS, tags.change_pool_tags, "Add, remove or replace tags of a pool",
            body=shapes.TagChangeRequest, reply=shapes.TagViews,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "POST", f"{_POOL_TAGS}/create", tags.create_pool_tags, "Add tags to a pool",
            body=shapes.TagsRequest, reply=shapes.TagViews,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "DELETE", f"{_POOL_TAGS}/delete", tags.delete_pool_tags, "Remove tags from a pool",
            body=shapes.TagsRequest, reply=shapes.TagViews,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "GET", "/v1/{project_id}/nodes/tags", tags.list_node_tags,
            "List the tags of all nodes, or of those of a pool",
            query=shapes.NodeTagsQuery, reply=shapes.CombinedTags,
            needs=Permission.POOL_READ,
        ),
        resource(
            "GET", _NODE_TAGS, tags.show_node_tags, "List the tags of a node",
            reply=shapes.TagViews,
            needs=Permission.POOL_READ, within=Within.NODE,
        ),
        resource(
            "POST", _NODE_TAGS, tags.change_node_tags, "Add, remove or replace tags of a node",
            body=shapes.TagChangeRequest, reply=shapes.TagViews,
            needs=Permission.POOL_MANAGE, within=Within.NODE,
        ),
        modern(
            "GET", f"{_JOBS}/tags", tags.list_job_tags, "List the tags of all training jobs",
            query=shapes.CombinedTagsQuery, reply=shapes.CombinedTags,
            needs=Permission.JOB_READ,
        ),
        modern(
            "POST", f"{_JOBS}/resource-instances/filter", tagged.list_jobs,
            "List the training jobs that have some tags",
            body=shapes.TaggedJobsRequest, query=shapes.TaggedJobsQuery, reply=shapes.TaggedJobs,
            needs=Permission.JOB_READ, within=Within.BODY,
        ),
        modern(
            "POST", f"{_JOBS}/resource-instances/count", tagged.count_jobs, "Count them",
            body=shapes.TaggedJobsRequest, query=shapes.TaggedJobsQuery,
            reply=shapes.TaggedJobsCount,
            needs=Permission.JOB_READ, within=Within.BODY,
        ),
        modern(
            "GET", _JOB_TAGS, tags.show_job_tags, "List the tags of a training job",
            reply=shapes.TagViews,
            needs=Permission.JOB_READ, within=Within.TRAINING_JOB,
        ),
        modern(
            "POST", f"{_JOB_TAGS}/create", tags.create_job_tags, "Add tags to a training job",
            body=shapes.TagsRequest, reply=shapes.TagViews,
            needs=Permission.JOB_WRITE, within=Within.TRAINING_JOB,
        ),
        modern(
            "DELETE", f"{_JOB_TAGS}/delete", tags.delete_job_tags,
            "Remove tags from a training job",
            body=shapes.TagsRequest, reply=shapes.TagViews,
            needs=Permission.JOB_WRITE, within=Within.TRAINING_JOB,
        ),
    ]  # fmt: skip
