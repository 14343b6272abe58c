"""The objects that a training config names: its code, its inputs, and places for its results."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from muster.domain.errors import (
    BootFileInvalid,
    BootFileOutside,
    StoragePathInvalid,
    StoreUnavailable,
)
from muster.domain.training import TrainingConfig
from muster.objects.store import Kind, ObjectStore
from muster.objects.url import ObjectUrl, parse_url
from muster.operations.buckets import make_bucket
from muster.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """The objects that a config names; each is None where it names none."""

    app: ObjectUrl | None
    boot: ObjectUrl | None
    data: ObjectUrl | None
    train: ObjectUrl | None
    log: ObjectUrl | None
    channels_in: tuple[tuple[str, ObjectUrl], ...] = ()
    channels_out: tuple[tuple[str, ObjectUrl], ...] = ()

    @property
    def inputs(self) -> list[tuple[str, ObjectUrl]]:
        """What must be there already, by field."""
        fields = (("app_url", self.app), ("boot_file_url", self.boot), ("data_url", self.data))
        return [*((field, url) for field, url in fields if url is not None), *self.channels_in]

    @property
    def results(self) -> list[tuple[str, ObjectUrl]]:
        """Where results go, by field."""
        fields = (("train_url", self.train), ("log_url", self.log))
        return [*((field, url) for field, url in fields if url is not None), *self.channels_out]

    @classmethod
    def of(cls, config: TrainingConfig) -> "Urls":
        def parsed(field: str, text: str | None) -> ObjectUrl | None:
            return parse_url(text, field=f"config.{field}") if text else None

        return cls(
            app=parsed("app_url", config.app_url),
            boot=parsed("boot_file_url", config.boot_file_url),
            data=parsed("data_url", config.input_url),
            train=parsed("train_url", config.train_url),
            log=parsed("log_url", config.log_url),
            channels_in=tuple(
                (f"inputs[{index}]", parse_url(channel.url, field=f"config.inputs[{index}]"))
                for index, channel in enumerate(config.inputs or ())
            ),
            channels_out=tuple(
                (f"outputs[{index}]", parse_url(channel.url, field=f"config.outputs[{index}]"))
                for index, channel in enumerate(config.outputs or ())
            ),
        )


def bucket_unknown(field: str, url: ObjectUrl) -> StoragePathInvalid:
    """A bucket of another project is answered like one that is not there."""
    return StoragePathInvalid(
        f"config.{field} is '{url}'; this project has no bucket {url.bucket!r}."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the objects tell of a config."""

    code: str | None  # digest of the snapshot
    boot_file: str | None  # relative to the code folder
    claims: tuple[tuple[str, bool], ...]


async def look_at_objects(
    objects: ObjectStore,
    urls: Urls,
    *,
    has_code: bool,
    before_copying: Callable[[], Awaitable[None]] | None,
) -> _Found:
    await _check_inputs(objects, urls)
    claims = await _result_buckets(objects, urls)
    code, boot_file = None, None
    if has_code:
        boot_file = await _boot_file(objects, urls)
        assert urls.app is not None
        code = await objects.keep_code(urls.app, before_copying=before_copying)
    return _Found(code=code, boot_file=boot_file, claims=claims)


async def _check_inputs(objects: ObjectStore, urls: Urls) -> None:
    """Look whether the inputs are there. A few questions to the store, no object is read."""
    asked = {url.bucket: (field, url) for field, url in reversed(urls.inputs)}  # each once
    for bucket, (field, url) in asked.items():
        with _naming(field, url):
            is_there = await objects.has_bucket(bucket)
        if not is_there:
            raise bucket_unknown(field, url)
    data = [("data_url", urls.data)] if urls.data is not None else []
    for field, url in (*data, *urls.channels_in):
        if await objects.find(url, field=f"config.{field}") is None:
            raise StoragePathInvalid(f"config.{field} is '{url}'; there is nothing there.")


async def _result_buckets(objects: ObjectStore, urls: Urls) -> tuple[tuple[str, bool], ...]:
    """The buckets that results go to, and whether they are there."""
    found = []
    for field, url in urls.results:
        with _naming(field, url):
            is_there = await objects.has_bucket(url.bucket)
        found.append((url.bucket, is_there))
    return tuple(found)


async def make_missing_buckets(
    database: Database,
    objects: ObjectStore,
    project_id: str,
    urls: Urls,
    claims: tuple[tuple[str, bool], ...],
) -> None:
    """Make the missing ones where no object will: results must have a place to go."""
    if objects.makes_buckets:
        return
    missing = {bucket for bucket, is_there in claims if not is_there}
    for field, url in urls.results:
        if url.bucket in missing:
            missing.remove(url.bucket)
            with _naming(field, url):
                is_own = await make_bucket(database, objects, project_id, url.bucket)
            if not is_own:
                raise bucket_unknown(field, url)


@contextmanager
def _naming(field: str, url: ObjectUrl) -> Iterator[None]:
    """Let it say what it was asked about, if the object store gives no answer."""
    try:
        yield
    except (StoreUnavailable, StoragePathInvalid) as error:
        raise type(error)(f"config.{field} is '{url}': {error.message}") from error


async def _boot_file(objects: ObjectStore, urls: Urls) -> str:
    """The boot file, relative to the code folder."""
    assert urls.app is not None
    assert urls.boot is not None
    folder = urls.app.key.rstrip("/")
    prefix = f"{folder}/" if folder else ""
    is_below = urls.boot.bucket == urls.app.bucket and urls.boot.key.startswith(prefix)
    boot_file = urls.boot.key[len(prefix) :]
    if not is_below or not boot_file:
        raise BootFileOutside(
            f"config.boot_file_url is '{urls.boot}'; it must be a file below app_url, '{urls.app}'."
        )
    if await objects.find(urls.boot, field="config.boot_file_url") is not Kind.OBJECT:
        raise BootFileInvalid(f"config.boot_file_url is '{urls.boot}'; there is no such file.")
    return boot_file
