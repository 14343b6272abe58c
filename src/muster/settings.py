"""Every setting, read once, with its unit and default.

A flag wins over its `MUSTER_...` variable, that over the line in `DATA/muster.toml`, that over the
default here.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from muster.domain.errors import MusterError


class SettingInvalid(MusterError):
    """A setting has a value that makes no sense, or a name that is not known."""


def default_data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a server keeps everything, and where the command line looks for its credentials."""
    if environ.get("MUSTER_DATA"):
        return Path(environ["MUSTER_DATA"])
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "muster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `muster serve` runs with."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one
    database: str | None = None  # a file's path, or postgresql://...; None: DATA/muster.db
    objects: str | None = None  # a folder's path, s3:// or s3://BUCKET/PREFIX; None: DATA/objects
    s3_endpoint: str | None = None  # None: AWS
    s3_region: str | None = None
    s3_access_key: str | None = None
    s3_secret_key: str | None = field(default=None, repr=False)
    s3_session_token: str | None = field(default=None, repr=False)
    s3_path_style: bool | None = None  # BUCKET in the path, not the host; None: with an endpoint
    s3_allow_http: bool = False  # to other endpoints than on this machine
    engine: str = "local"  # or "slurm"
    isolation: str = "auto"  # of jobs on the local engine: or "users", "bubblewrap", "off"
    slurm_partition: str | None = None  # where jobs of the public pool go; None: Slurm's default
    slurm_account: str | None = None
    slurm_qos: str | None = None
    slurm_may_change_partitions: bool = False  # for pools that are made over the API
    slurm_python: str = "python3"  # on the nodes, 3.11 or later
    slurm_reuse_seconds: int = 30  # for which a Slurm job takes further attempts; 0: it takes none
    slurm_nodes_move_mib: int = 64  # of one job's objects in S3, from so many on; 0: never
    slurm_npu_addresses: str = "/etc/hccn.conf"  # on the nodes; %n stands for the node's name
    slurm_commands: Path | None = None  # the folder of sbatch and the others; None: on the PATH
    inventory: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allow_plain_http: bool = False  # on other addresses than loopback
    job_quota: int = 100_000  # live jobs a project may have
    pool_quota: int = 1_000  # pools a project may have
    proxied_body_mib: int = 1024  # of a request that is passed on to a notebook or service
    token_hours: int = 24
    stop_grace_seconds: float = 10.0  # between asking a task to end and killing it
    lost_timeout_seconds: int = 600  # until a lost workload counts as failed
    statistics_total: str = "entries"  # or "jobs": what `statistics.total` counts
    sample_seconds: float = 10.0  # between two looks at what nodes and tasks use
    metrics_hours: int = 168  # for how long that is kept
    archive_after_days: int = 0  # from its end until a job is archived; 0: never
    log_level: str = "info"

    @property
    def store(self) -> Path | str:
        """The file of the embedded store, or the address of a database of PostgreSQL."""
        if self.database and "://" in self.database:
            return self.database
        return Path(self.database) if self.database else self.data / "muster.db"

    @property
    def database_file(self) -> Path | None:
        """Of the embedded store; None: the store is PostgreSQL."""
        return self.store if isinstance(self.store, Path) else None

    @property
    def is_shared(self) -> bool:
        """Whether other servers may use the same store."""
        return isinstance(self.store, str)

    @property
    def hosts_are_whole(self) -> bool:
        """Whether a host has nodes of one pool only: a partition of Slurm has whole nodes."""
        return self.engine == "slurm"

    @property
    def may_make_pools(self) -> bool:
        """Whether pools can be made and resized over the API."""
        return self.engine != "slurm" or self.slurm_may_change_partitions

    @property
    def archive_after_ms(self) -> int | None:
        """None: never."""
        return self.archive_after_days * 86_400_000 or None

    @property
    def metrics_file(self) -> Path:
        return self.data / "metrics.db"

    @property
    def is_on_s3(self) -> bool:
        return (self.objects or "").startswith("s3://")

    @property
    def node_bytes(self) -> int:
        """From how many of one job on its nodes move its objects; 0: they never do."""
        is_apart = self.engine == "slurm" and self.is_on_s3
        return self.slurm_nodes_move_mib << 20 if is_apart else 0

    @property
    def objects_folder(self) -> Path:
        return Path(self.objects) if self.objects else self.data / "objects"


def load_settings(data: Path, flags: dict[str, Any]) -> Settings:
    """Settings of a data folder; `flags` holds what was given on the command line, None if not.

    Raises:
        SettingInvalid: names the setting and where it was found.
    """
    settings = Settings(data=data.absolute())
    file = data / "muster.toml"
    settings = _over(settings, _read_file(file), where=str(file))
    variables = {
        each.name: os.environ[f"MUSTER_{each.name.upper()}"]
        for each in fields(Settings)
        if each.name != "data" and f"MUSTER_{each.name.upper()}" in os.environ
    }
    settings = _over(settings, variables, where="the environment")
    given = {name: value for name, value in flags.items() if value is not None}
    settings = _over(settings, given, where="the command line")
    if settings.is_on_s3:
        settings = _over(settings, _from_aws(settings, os.environ), where="the environment")
    return _checked(settings)


_ALIKE: Final = 0.8  # of 1: half of each is MUSTER_
_OF_COMMANDS: Final = ("url", "project_id", "access_key", "secret_key", "credentials")


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The `MUSTER_...` variables that nothing reads, each with the one that may be meant.

    They are no error as unknown lines of a file are: those of other programs may be called so.
    """
    names = (*(each.name for each in fields(Settings)), *_OF_COMMANDS)
    known = [f"MUSTER_{name.upper()}" for name in names]
    unknown = [name for name in environ if name.startswith("MUSTER_") and name not in known]
    if not unknown:
        return {}
    from difflib import get_close_matches  # a start has no time for it, as a rule

    return {
        name: next(iter(get_close_matches(name, known, n=1, cutoff=_ALIKE)), None)
        for name in sorted(unknown)
    }


def _read_file(file: Path) -> dict[str, Any]:
    """What the file says; nothing where there is none."""
    try:
        if not file.is_file():
            return {}
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingInvalid(f"{file} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{file} is not valid TOML: {error}.") from error


# Where others keep what is said nowhere else; the first that is set counts.
_AWS_NAMES: Final = {
    "s3_endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "s3_access_key": ("AWS_ACCESS_KEY_ID",),
    "s3_secret_key": ("AWS_SECRET_ACCESS_KEY",),
    "s3_session_token": ("AWS_SESSION_TOKEN",),
    "s3_allow_http": ("AWS_ALLOW_HTTP",),
}


def _from_aws(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """What the variables of AWS's tools say of settings that nobody has made."""
    has_own_keys = settings.s3_access_key is not None
    found = {}
    for name, variables in _AWS_NAMES.items():
        if has_own_keys and name in ("s3_secret_key", "s3_session_token"):
            continue  # they belong to another key
        value = next((environ[v] for v in variables if environ.get(v)), None)
        if value is not None and getattr(settings, name) in (None, False):
            found[name] = value
    return found


def _whole_number(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError("it must be a whole number")
    return int(value)


def _yes_or_no(value: Any) -> bool:
    text = str(value).lower()
    if text in ("1", "true", "yes"):
        return True
    if text in ("0", "false", "no"):
        return False
    raise ValueError("it must be true or false")


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "port": _whole_number,
    "inventory": Path,
    "slurm_commands": Path,
    "slurm_reuse_seconds": _whole_number,
    "slurm_nodes_move_mib": _whole_number,
    "tls_cert": Path,
    "tls_key": Path,
    "job_quota": _whole_number,
    "pool_quota": _whole_number,
    "proxied_body_mib": _whole_number,
    "token_hours": _whole_number,
    "stop_grace_seconds": float,
    "lost_timeout_seconds": _whole_number,
    "sample_seconds": float,
    "metrics_hours": _whole_number,
    "archive_after_days": _whole_number,
    "allow_plain_http": _yes_or_no,
    "s3_path_style": _yes_or_no,
    "s3_allow_http": _yes_or_no,
    "slurm_may_change_partitions": _yes_or_no,
}


def _over(settings: Settings, values: dict[str, Any], *, where: str) -> Settings:
    known = {each.name for each in fields(Settings)} - {"data"}
    converted = {}
    for name, value in values.items():
        key = name.replace("-", "_")
        if key not in known:
            raise SettingInvalid(
                f"{where} sets {name!r}; there is no such setting."
                f" There are {', '.join(sorted(known))}."
            )
        try:
            converted[key] = _CONVERSIONS.get(key, str)(value)
        except (TypeError, ValueError) as error:
            raise SettingInvalid(f"{where} sets {name} to {value!r}: {error}.") from error
    return replace(settings, **converted)


_BOUNDS = {
    "port": (0, 65_535),
    "job_quota": (0, 1_000_000_000),
    "pool_quota": (0, 1_000_000),
    "proxied_body_mib": (1, 1_048_576),
    "token_hours": (1, 8_760),
    "stop_grace_seconds": (0, 3_600),
    "lost_timeout_seconds": (0, 31_536_000),
    "sample_seconds": (0.1, 3_600),
    "metrics_hours": (1, 8_760),
    "archive_after_days": (0, 36_500),
    "slurm_nodes_move_mib": (0, 1_048_576),
    "slurm_reuse_seconds": (0, 240),  # less than what Slurm's limit of time has on top of a job's
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


_S3_URL = re.compile(
    r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[^/\\\0-\x1f]+)*/?)?"
)
_POSTGRES_WITHOUT_SLASHES = re.compile(r"postgres(ql)?:", re.IGNORECASE)


def _checked(settings: Settings) -> Settings:
    scheme, separator, _ = (settings.database or "").partition("://")
    if separator and scheme not in ("postgresql", "postgres"):
        raise SettingInvalid(
            f"database begins with {scheme + separator!r}; it must be a file's path or an address"
            " like postgresql://USER@HOST/DATABASE. Leave --database out for a file in the data"
            " folder."
        )
    if not separator and (match := _POSTGRES_WITHOUT_SLASHES.match(settings.database or "")):
        raise SettingInvalid(
            f"database begins with {match.group()!r} without '//'; an address is like"
            " postgresql://USER@HOST/DATABASE. For a file of that name, begin with './'."
        )
    _check_objects(settings)
    if settings.engine not in ("local", "slurm"):
        raise SettingInvalid(f"engine is {settings.engine!r}; it must be 'local' or 'slurm'.")
    if settings.isolation not in ("auto", "users", "bubblewrap", "off"):
        raise SettingInvalid(
            f"isolation is {settings.isolation!r}; it must be 'auto', 'users', 'bubblewrap' or"
            " 'off'."
        )
    if settings.statistics_total not in ("entries", "jobs"):
        raise SettingInvalid(
            f"statistics_total is {settings.statistics_total!r}; it must be 'entries' or 'jobs'."
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise SettingInvalid("--tls-cert and --tls-key belong together; one of them is missing.")
    for name, (least, most) in _BOUNDS.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise SettingInvalid(f"{name} is {value}; it must be from {least} to {most}.")
    is_open = settings.host not in _LOOPBACK and settings.tls_cert is None
    if is_open and not settings.allow_plain_http:
        raise SettingInvalid(
            f"host is {settings.host!r}: keys and tokens would cross the network in the clear."
            " Give --tls-cert and --tls-key, or --allow-plain-http if something in front of"
            " muster does TLS."
        )
    return settings


def _check_objects(settings: Settings) -> None:
    if not settings.is_on_s3:
        if settings.objects and "://" in settings.objects:
            raise SettingInvalid(
                f"objects is {settings.objects!r}; it must be a folder's path, s3:// or"
                " s3://BUCKET/PREFIX. Leave --objects out for a folder in the data folder."
            )
        return
    if not _S3_URL.fullmatch(settings.objects or ""):
        raise SettingInvalid(
            f"objects is {settings.objects!r}; it must be s3:// for buckets of your account, or"
            " s3://BUCKET/PREFIX for one bucket: 3 to 63 lower-case letters, digits, '.' and '-',"
            " and a prefix without empty parts, '.' and '..'."
        )
    if (settings.s3_access_key is None) != (settings.s3_secret_key is None):
        raise SettingInvalid(
            "s3_access_key and s3_secret_key belong together; one of them is missing."
        )
    if settings.s3_endpoint is None:
        return
    parts = urlsplit(settings.s3_endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingInvalid(
            f"s3_endpoint is {settings.s3_endpoint!r}; it must be like https://HOST:PORT."
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not settings.s3_allow_http:
        raise SettingInvalid(
            f"s3_endpoint is {settings.s3_endpoint!r}: all objects would cross the network in the"
            " clear. Name an https:// one, or set s3_allow_http."
        )
