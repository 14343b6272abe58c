"""Making a bucket in an object store where the first object would not."""

from muster.objects.store import ObjectStore
from muster.store import buckets
from muster.store.database import Database


async def make_bucket(
    database: Database, objects: ObjectStore, project_id: str, bucket: str
) -> bool:
    """Make a bucket that is not there, and take it for the project.

    It is asked before whether it may be the project's, and taken at once when it is made: what
    nobody has would be the default project's.

    Returns:
        False: the name is another project's, and nothing was made.

    Raises:
        StoragePathInvalid: the object store refuses to make it.
        StoreUnavailable: it gave no answer.
    """
    if not await database.read(buckets.may_claim_bucket, project_id, bucket):
        return False
    await objects.make_bucket(bucket)
    return await database.write(buckets.claim_bucket, project_id, bucket, is_there=False)
