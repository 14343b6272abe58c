"""Objects by bucket and key."""

from muster.api import objects
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Login, Route
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import objects as object_shapes


def routes(services: Services) -> list[Route]:
    own = table(services, Envelope.MODERN)
    return [
        own(
            "GET", "/objects", objects.list_buckets, "List the project's buckets",
            login=Login.MEMBER, reply=object_shapes.BucketList,
            needs=Permission.OBJECT_READ,
        ),
        own(
            "GET", "/objects/{bucket}", objects.list_objects, "List the objects of a bucket",
            login=Login.MEMBER, query=object_shapes.ObjectsQuery, reply=object_shapes.ObjectList,
            needs=Permission.OBJECT_READ,
        ),
        own(
            "PUT", "/objects/{bucket}/{key...}", objects.put_object, "Store an object",
            login=Login.MEMBER, reply=object_shapes.StoredObject, takes_stream=True,
            needs=Permission.OBJECT_WRITE,
        ),
        own(
            "GET", "/objects/{bucket}/{key...}", objects.get_object, "Read an object",
            login=Login.MEMBER,
            needs=Permission.OBJECT_READ,
        ),
        own(
            "HEAD", "/objects/{bucket}/{key...}", objects.head_object,
            "Show the size and age of an object", login=Login.MEMBER,
            needs=Permission.OBJECT_READ,
        ),
        own(
            "DELETE", "/objects/{bucket}/{key...}", objects.delete_object, "Delete an object",
            login=Login.MEMBER, status=204,
            needs=Permission.OBJECT_WRITE,
        ),
    ]  # fmt: skip
