"""Notebooks and the images that they are made from, and their older view."""

from muster.api import devenv, images, notebooks
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import devenv as instance_shapes
from muster.wire import images as image_shapes
from muster.wire import notebooks as shapes
from muster.wire import tags as tag_shapes

_NOTEBOOKS = "/v1/{project_id}/notebooks"
_NOTEBOOK = f"{_NOTEBOOKS}/{{notebook_id}}"
_IMAGES = "/v1/{project_id}/images"
_IMAGE = f"{_IMAGES}/{{image_id}}"
_INSTANCES = "/v1/{project_id}/demanager/instances"
_INSTANCE = f"{_INSTANCES}/{{notebook_id}}"


def routes(services: Services) -> list[Route]:
    return [
        *_notebook_routes(services),
        *_image_routes(services),
        *_instance_routes(services),
    ]


def _notebook_routes(services: Services) -> list[Route]:
    modern = table(services, Envelope.MODERN)
    return [
        modern(
            "POST", _NOTEBOOKS, notebooks.create_notebook, "Make a notebook, and start it",
            body=shapes.NotebookRequest, reply=shapes.NotebookView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.BODY,
        ),
        modern(
            "GET", _NOTEBOOKS, notebooks.list_own_notebooks, "List one's own notebooks",
            query=shapes.NotebooksQuery, reply=shapes.NotebookViews,
            needs=Permission.NOTEBOOK_READ, within=Within.QUERY,
        ),
        modern(
            "GET", f"{_NOTEBOOKS}/all", notebooks.list_all_notebooks,
            "List everybody's notebooks, those of others without their tokens",
            query=shapes.NotebooksQuery, reply=shapes.NotebookViews,
            needs=Permission.NOTEBOOK_READ, within=Within.QUERY,
        ),
        modern(
            "GET", f"{_NOTEBOOKS}/flavors", notebooks.list_flavors, "List flavors for notebooks",
            query=shapes.NotebookFlavorsQuery, reply=shapes.NotebookFlavorViews,
            needs=Permission.NOTEBOOK_READ,
        ),
        modern(
            "GET", f"{_NOTEBOOKS}/tags", notebooks.list_tags, "List the tags of notebooks",
            query=shapes.TagsQuery, reply=tag_shapes.CombinedTags,
            needs=Permission.NOTEBOOK_READ, within=Within.QUERY,
        ),
        modern(
            "GET", _NOTEBOOK, notebooks.show_notebook, "Show a notebook",
            reply=shapes.NotebookView,
            needs=Permission.NOTEBOOK_READ, within=Within.NOTEBOOK,
        ),
        modern(
            "PUT", _NOTEBOOK, notebooks.update_notebook,
            "Change a notebook; flavor and image while it is stopped",
            body=shapes.NotebookUpdate, reply=shapes.NotebookView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "DELETE", _NOTEBOOK, notebooks.delete_notebook, "Delete a notebook and its storage",
            reply=shapes.NotebookView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "POST", f"{_NOTEBOOK}/start", notebooks.start_notebook, "Start a notebook again",
            query=shapes.StartQuery, reply=shapes.NotebookView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "POST", f"{_NOTEBOOK}/stop", notebooks.stop_notebook,
            "Stop a notebook; its storage stays",
            reply=shapes.NotebookView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "POST", f"{_NOTEBOOK}/create-image", notebooks.create_image,
            "Save what is installed in a notebook as an image",
            body=image_shapes.SavedImageRequest, reply=image_shapes.ImageView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "GET", f"{_NOTEBOOK}/lease", notebooks.show_lease, "Show how long a notebook may run",
            reply=shapes.LeaseView,
            needs=Permission.NOTEBOOK_READ, within=Within.NOTEBOOK,
        ),
        modern(
            "PATCH", f"{_NOTEBOOK}/lease", notebooks.renew_lease,
            "Let a notebook run so long from now on",
            query=shapes.LeaseQuery, body=shapes.GivenLease, reply=shapes.LeaseView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "GET", f"{_NOTEBOOK}/flavors", notebooks.list_switchable_flavors,
            "List flavors that the notebook's pool could hold",
            query=shapes.NotebookFlavorsQuery, reply=shapes.NotebookFlavorViews,
            needs=Permission.NOTEBOOK_READ, within=Within.NOTEBOOK,
        ),
        modern(
            "POST", f"{_NOTEBOOK}/tags/create", notebooks.create_tags, "Add tags to a notebook",
            body=tag_shapes.TagsRequest, status=204,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "DELETE", f"{_NOTEBOOK}/tags/delete", notebooks.delete_tags,
            "Remove tags from a notebook",
            body=tag_shapes.TagsRequest, status=204,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
    ]  # fmt: skip


def _image_routes(services: Services) -> list[Route]:
    modern = table(services, Envelope.MODERN)
    return [
        modern(
            "GET", _IMAGES, images.list_images, "List environments for notebooks",
            query=image_shapes.ImagesQuery, reply=image_shapes.ImageViews,
            needs=Permission.NOTEBOOK_READ, within=Within.QUERY,
        ),
        modern(
            "POST", _IMAGES, images.register_image, "Name an environment that is on this server",
            body=image_shapes.ImageRequest, reply=image_shapes.ImageView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.BODY,
        ),
        modern(
            "GET", f"{_IMAGES}/group", images.list_image_groups, "List environments by name",
            query=image_shapes.ImagesQuery, reply=image_shapes.ImageGroupViews,
            needs=Permission.NOTEBOOK_READ, within=Within.QUERY,
        ),
        modern(
            "DELETE", f"{_IMAGES}/group/{{group_id}}", images.delete_image_group,
            "Forget all environments of one name",
            needs=Permission.NOTEBOOK_WRITE,
        ),
        modern(
            "POST", f"{_IMAGE}/sync", images.sync_image,
            "Look again for the environment that a name stands for",
            reply=image_shapes.ImageView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.IMAGE,
        ),
        modern(
            "GET", _IMAGE, images.show_image, "Show an environment",
            reply=image_shapes.ImageView,
            needs=Permission.NOTEBOOK_READ, within=Within.IMAGE,
        ),
        modern(
            "DELETE", _IMAGE, images.delete_image,
            "Forget the name of an environment; it stays where it is",
            reply=image_shapes.ImageView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.IMAGE,
        ),
    ]  # fmt: skip


def _instance_routes(services: Services) -> list[Route]:
    modern = table(services, Envelope.MODERN)
    return [
        modern(
            "GET", _INSTANCES, devenv.list_instances, "List notebooks, as an older API shows them",
            query=instance_shapes.InstancesQuery, reply=instance_shapes.InstanceViews,
            needs=Permission.NOTEBOOK_READ, within=Within.QUERY,
        ),
        modern(
            "POST", _INSTANCES, devenv.create_instance, "Make a notebook, and start it",
            body=instance_shapes.InstanceRequest, reply=instance_shapes.InstanceView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.BODY,
        ),
        modern(
            "GET", _INSTANCE, devenv.show_instance, "Show a notebook",
            reply=instance_shapes.InstanceView,
            needs=Permission.NOTEBOOK_READ, within=Within.NOTEBOOK,
        ),
        modern(
            "PUT", _INSTANCE, devenv.update_instance,
            "Change the description of a notebook, and when it stops by itself",
            body=instance_shapes.InstanceUpdate, reply=instance_shapes.InstanceView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "DELETE", _INSTANCE, devenv.delete_instance, "Delete a notebook and its storage",
            reply=instance_shapes.InstanceView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
        modern(
            "POST", f"{_INSTANCE}/action", devenv.act_on_instance, "Start or stop a notebook",
            body=instance_shapes.ActionRequest, reply=instance_shapes.InstanceView,
            needs=Permission.NOTEBOOK_WRITE, within=Within.NOTEBOOK,
        ),
    ]  # fmt: skip
