"""JSON shapes of our object API."""

from msgspec import Struct


class ObjectRow(Struct, kw_only=True):
    key: str
    size: int
    modified: int  # epoch ms


class ObjectList(Struct, kw_only=True):
    bucket: str
    prefix: str
    objects: list[ObjectRow]
    is_truncated: bool  # ask again with `after` set to the last key


class StoredObject(Struct, kw_only=True):
    bucket: str
    key: str
    size: int
    sha256: str


class BucketList(Struct):
    buckets: list[str]


class ObjectsQuery(Struct, kw_only=True):
    prefix: str = ""
    after: str = ""
