"""What a workload that serves runs: a notebook, a TensorBoard, or one instance of a service."""

from dataclasses import dataclass, field

from muster.domain.training import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A folder whose files are objects of a bucket while the program does not run."""

    url: str  # of a folder in the bucket; ends with "/"
    folder: str  # where the files lie while it runs; absolute


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command that answers requests on a port until it is stopped.

    The port is picked where it runs, and told to it in its environment; see `Launch.serves`.
    """

    name: str  # for people: of the notebook or service
    argv: tuple[str, ...]  # never passed through a shell
    environment: dict[str, str] = field(default_factory=dict)
    code: str | None = None  # digest of a snapshot that is copied into its working directory
    folder: str | None = None  # an existing local folder to work in instead; kept when it ends
    mirror: Mirror | None = None  # fetched before it starts, stored once it has ended
    # Brought before it starts, and stored once it has ended: as those of a training job. Each is
    # named in the environment, whatever its `access` says.
    inputs: tuple[Channel, ...] = ()
    outputs: tuple[Channel, ...] = ()
    share: tuple[int, int] | None = None  # (number from 0, of how many) it needs of its inputs
    # What it needs besides, where it is kept from all else; as in the engine's launch.
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    interpreters: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
