"""What of this machine is the server's, and must not be seen by jobs."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from muster.engines.isolation import OFF, Isolation
from muster.engines.probe import Grounds, describe, find_isolation
from muster.settings import Settings

ENVIRONMENTS = "environments"  # in the data folder: interpreters for notebooks and the like
_OF_SQLITE = ("", "-wal", "-shm", "-journal")  # what it keeps beside a database's name


def choose_isolation(settings: Settings) -> Isolation:
    """As the settings ask for, of those that work here. Blocks.

    Raises:
        EngineUnavailable: what they ask for by name does not work; says why.
    """
    if settings.engine != "local":
        return OFF
    # There before any job is: one that is made later would not be seen by those that run.
    (settings.data / ENVIRONMENTS).mkdir(parents=True, exist_ok=True)
    return find_isolation(settings.isolation, find_grounds(settings))


@contextmanager
def isolation_sought(settings: Settings) -> Iterator["Future[Isolation]"]:
    """As `choose_isolation`, in a thread that does little but wait for the task that is tried.

    The data folder must be this server's by then.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="isolation") as threads:
        yield threads.submit(choose_isolation, settings)


def find_grounds(settings: Settings) -> Grounds:
    hidden, secret = [settings.data], []
    if not settings.is_on_s3:
        hidden.append(settings.objects_folder)
    if isinstance(settings.store, Path):
        # Its folder, as files that are there later would be seen; where that is hidden as a whole.
        hidden.append(settings.store.absolute().parent)
        secret += [settings.store.with_name(settings.store.name + end) for end in _OF_SQLITE]
    if settings.tls_key is not None:
        secret.append(settings.tls_key)
    return Grounds(
        jobs_folder=settings.data / "jobs",
        hidden=tuple(path.absolute() for path in hidden),
        hidden_files=tuple(path.absolute() for path in secret),
        common=(settings.data / ENVIRONMENTS, Path(str(files("muster")))),
    )


def tell_isolation(settings: Settings, isolation: Isolation) -> str:
    """One line for whoever starts the server."""
    if settings.engine == "slurm":
        return (
            "Jobs are not isolated from this server: Slurm runs them as the user that submits"
            " them, which is this server's."
        )
    return describe(isolation)
