"""What a training job version is asked to be, and the rules for it that need no look-up."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any, Final

from muster.domain.errors import InvalidRequest, TooManyWorkers
from muster.domain.requirement import UsedAlgorithm

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
DESCRIPTION_LENGTH_MAX: Final = 256
WORKERS_MAX: Final = 1_000
PARAMETERS_MAX: Final = 500
LABEL_PATTERN: Final = re.compile(r"[^\s=\0-][^\s=\0]{0,127}")
VALUE_LENGTH_MAX: Final = 16_384
URL_LENGTH_MAX: Final = 1_100
CHANNELS_MAX: Final = 100
CHANNEL_NAME_PATTERN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
ENVIRONMENTS_MAX: Final = 100
ANNOTATIONS_MAX: Final = 100
ANNOTATION_LENGTH_MAX: Final = 4_096
VARIABLE_PATTERN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,8191}")
VARIABLE_LENGTH_MAX: Final = 4_096
RETRIES_MAX: Final = 3
RETRY_ANNOTATION: Final = "fault-tolerance/job-retry-num"
TIME_LIMIT_MINUTES_MAX: Final = 10 * 365 * 24 * 60
DEFAULT_ENGINE_ID: Final = 1
DEFAULT_WORKSPACE_ID: Final = "0"

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A hyperparameter. Clients send any scalar as its value; containers get its text."""

    label: str
    value: Scalar = None

    @property
    def text(self) -> str:
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return "" if self.value is None else str(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    type: str
    data_url: str | None = None
    dataset_id: str | None = None
    dataset_version: str | None = None


class Access(StrEnum):
    """How a program learns where a channel lies. The values are public (v2)."""

    PARAMETER = "parameter"  # the argument `--NAME=FOLDER`
    ENVIRONMENT = "env"  # the variable NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A named input or output: what the v2 API has beside `data_url` and `train_url`."""

    name: str
    url: str
    access: Access = Access.PARAMETER
    description: str = ""


class TimeUnit(StrEnum):
    """Of a time limit. The values are public (v2)."""

    HOURS = "HOURS"
    MINUTES = "MINUTES"


_MINUTES: Final = {TimeUnit.HOURS: 60, TimeUnit.MINUTES: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimit:
    """How long a job may run, from its first start on; it is stopped then."""

    time_unit: TimeUnit
    duration: int

    @property
    def minutes(self) -> int:
        return self.duration * _MINUTES[self.time_unit]

    @property
    def milliseconds(self) -> int:
        return self.minutes * 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedExperiment:
    """The experiment that a job stands in, named as it was then: it may have gone since."""

    id: str  # as it is shown: with hyphens
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class V1Config:
    """The `config` of a training job version, as the v1 API spells it. Absent is None."""

    worker_server_num: int | None = None
    app_url: str | None = None
    boot_file_url: str | None = None
    engine_id: int | None = None
    model_id: int | None = None
    user_image_url: str | None = None
    user_command: str | None = None
    spec_id: int | None = None
    pool_id: str | None = None
    parameter: tuple[Parameter, ...] | None = None
    data_url: str | None = None
    dataset_id: str | None = None
    dataset_version_id: str | None = None
    data_source: tuple[DataSource, ...] | None = None
    train_url: str | None = None
    log_url: str | None = None
    volumes: tuple[dict[str, Any], ...] | None = None

    def alone(self) -> "TrainingConfig":
        """This config, over none."""
        return TrainingConfig(**dict(zip(_V1_FIELDS, _V1_VALUES(self), strict=True)))

    def over(self, base: "TrainingConfig") -> "TrainingConfig":
        """This config where it says something, else `base`."""
        own = {name: getattr(self, name, None) for name in _config_fields()}
        merged = TrainingConfig(
            **{name: getattr(base, name) if value is None else value for name, value in own.items()}
        )
        # With something else to run it is that algorithm no more.
        is_same = all(own[name] in (None, getattr(base, name)) for name in _WHAT_TO_RUN)
        return merged if is_same else replace(merged, algorithm=None)

    @property
    def input_url(self) -> str | None:
        """The one data source, whichever way it was given."""
        if self.data_source:
            return self.data_source[0].data_url
        return self.data_url or None


# Once: to ask for the fields of a dataclass is dear, and every submit does.
_V1_FIELDS: Final = tuple(field.name for field in fields(V1Config))
_V1_VALUES: Final = attrgetter(*_V1_FIELDS)


@cache
def _config_fields() -> tuple[str, ...]:
    return tuple(field.name for field in fields(TrainingConfig))


_WHAT_TO_RUN: Final = (
    "app_url", "boot_file_url", "engine_id", "model_id", "user_image_url", "user_command",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig(V1Config):
    """All that a version may be asked to be; the fields here are what only the v2 API can say."""

    inputs: tuple[Channel, ...] | None = None
    outputs: tuple[Channel, ...] | None = None
    environments: dict[str, str] | None = None
    priority: int | None = None
    annotations: dict[str, str] | None = None
    auto_stop: TimeLimit | None = None
    elastic_flavor: str | None = None  # of domain.flavor.ELASTIC_CARDS; `spec_id` goes before it
    algorithm: UsedAlgorithm | None = None  # which one it was made from
    experiment: UsedExperiment | None = None

    @property
    def retries(self) -> int:
        """How often it is tried again when it fails; as checked by `check_config`."""
        return int((self.annotations or {}).get(RETRY_ANNOTATION) or 0)


def check_name(field: str, name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"{field} is {_shown(name)}; it must be 1 to 64 letters, digits, '_' and '-'."
        )


def check_description(field: str, text: str) -> None:
    if "\0" in text:
        raise InvalidRequest(
            f"{field} is {text[:60]!r}; the character NUL (\\u0000) must not be in it."
        )
    if len(text) > DESCRIPTION_LENGTH_MAX:
        raise InvalidRequest(
            f"{field} has {len(text)} characters; at most {DESCRIPTION_LENGTH_MAX} are allowed."
        )


def check_config(config: TrainingConfig) -> None:
    """Every rule that the config alone can break.

    Raises:
        InvalidRequest: names the field, what was given, and what is allowed.
    """
    _check_workers(config.worker_server_num)
    _check_what_to_run(config)
    _check_one_data_source(config)
    _check_parameters(config.parameter or ())
    _check_channels(config)
    _check_environments(config.environments or {})
    _check_annotations(config.annotations or {})
    _check_time_limit(config.auto_stop)
    if config.spec_id is None and not config.pool_id and not config.elastic_flavor:
        raise InvalidRequest(
            "Neither config.spec_id nor config.pool_id is given; at least one is needed: spec_id"
            " for the public pool (see GET .../job/resource-specs), pool_id for a dedicated one."
        )
    for name in ("app_url", "boot_file_url", "data_url", "train_url", "log_url"):
        _check_length(f"config.{name}", getattr(config, name) or "", URL_LENGTH_MAX)


def _check_workers(count: int | None) -> None:
    if count is None:
        raise InvalidRequest("config.worker_server_num is missing; it must be 1 or more.")
    allowed = f"config.worker_server_num is {count}; it must be from 1 to {WORKERS_MAX}"
    if count < 1:
        raise InvalidRequest(f"{allowed}.")
    if count > WORKERS_MAX:
        raise TooManyWorkers(f"{allowed}.")


def _check_what_to_run(config: TrainingConfig) -> None:
    if config.model_id is not None or config.user_image_url:
        return
    for name in ("app_url", "boot_file_url"):
        if not getattr(config, name):
            raise InvalidRequest(
                f"config.{name} is missing; a job needs app_url and boot_file_url, or model_id,"
                " or user_image_url."
            )


def _check_one_data_source(config: TrainingConfig) -> None:
    kinds = [
        name
        for name, is_given in (
            ("data_url", bool(config.data_url)),
            ("dataset_id", bool(config.dataset_id or config.dataset_version_id)),
            ("data_source", bool(config.data_source)),
        )
        if is_given
    ]
    if len(kinds) > 1:
        raise InvalidRequest(
            f"config has {' and '.join(kinds)}; only one kind of data source is allowed."
        )
    for index, source in enumerate(config.data_source or ()):
        if source.type not in ("obs", "dataset"):
            raise InvalidRequest(
                f"config.data_source[{index}].type is {_shown(source.type)};"
                " it must be 'obs' or 'dataset'."
            )
        if source.type == "obs" and not source.data_url:
            raise InvalidRequest(
                f"config.data_source[{index}].data_url is missing; type 'obs' needs it."
            )
    if len(config.data_source or ()) > 1:
        raise InvalidRequest(
            f"config.data_source has {len(config.data_source or ())} entries; muster takes one."
        )


def _check_parameters(parameters: tuple[Parameter, ...]) -> None:
    if len(parameters) > PARAMETERS_MAX:
        raise InvalidRequest(
            f"config.parameter has {len(parameters)} entries; at most {PARAMETERS_MAX} are allowed."
        )
    for index, parameter in enumerate(parameters):
        if not LABEL_PATTERN.fullmatch(parameter.label):
            raise InvalidRequest(
                f"config.parameter[{index}].label is {_shown(parameter.label)}; it must be 1 to"
                " 128 characters without blanks and '=', and not begin with '-'."
            )
        if "\0" in parameter.text:
            raise InvalidRequest(f"config.parameter[{index}].value holds a zero byte.")
        _check_length(f"config.parameter[{index}].value", parameter.text, VALUE_LENGTH_MAX)


def _check_channels(config: TrainingConfig) -> None:
    inputs, outputs = config.inputs or (), config.outputs or ()
    taken = {
        name for name in ("data_url", "train_url") if getattr(config, name)
    }  # their arguments have these names
    for field, channels in (("inputs", inputs), ("outputs", outputs)):
        if len(channels) > CHANNELS_MAX:
            raise InvalidRequest(
                f"config.{field} has {len(channels)} entries; at most {CHANNELS_MAX} are allowed."
            )
        for index, channel in enumerate(channels):
            where = f"config.{field}[{index}]"
            _check_channel_name(where, channel, taken)
            taken.add(channel.name)
            check_description(f"{where}.description", channel.description)
            _check_length(f"{where}.remote.obs.obs_url", channel.url, URL_LENGTH_MAX)


def _check_channel_name(where: str, channel: Channel, taken: Iterable[str]) -> None:
    if not CHANNEL_NAME_PATTERN.fullmatch(channel.name):
        raise InvalidRequest(
            f"{where}.name is {_shown(channel.name)}; it must be 1 to 64 letters, digits, '_' and"
            " '-', and begin with a letter or '_'."
        )
    if channel.access is Access.ENVIRONMENT and not VARIABLE_PATTERN.fullmatch(channel.name):
        raise InvalidRequest(
            f"{where}.name is {_shown(channel.name)}; with access_method 'env' it must be the name"
            " of a variable: letters, digits and '_'."
        )
    if channel.name in taken:
        raise InvalidRequest(
            f"{where}.name is {_shown(channel.name)}; another input or output has that name."
        )


def _check_environments(environments: Mapping[str, str]) -> None:
    if len(environments) > ENVIRONMENTS_MAX:
        raise InvalidRequest(
            f"config.environments has {len(environments)} entries;"
            f" at most {ENVIRONMENTS_MAX} are allowed."
        )
    for name, value in environments.items():
        if not VARIABLE_PATTERN.fullmatch(name):
            raise InvalidRequest(
                f"config.environments has the name {_shown(name)}; it must be letters, digits and"
                " '_', and not begin with a digit."
            )
        if "\0" in value:
            raise InvalidRequest(f"config.environments.{name} holds a zero byte.")
        _check_length(f"config.environments.{name}", value, VARIABLE_LENGTH_MAX)


def _check_annotations(annotations: Mapping[str, str]) -> None:
    if len(annotations) > ANNOTATIONS_MAX:
        raise InvalidRequest(
            f"metadata.annotations has {len(annotations)} entries;"
            f" at most {ANNOTATIONS_MAX} are allowed."
        )
    for name, value in annotations.items():
        _check_length("metadata.annotations, a name,", name, ANNOTATION_LENGTH_MAX)
        _check_length(f"metadata.annotations.{_shown(name)}", value, ANNOTATION_LENGTH_MAX)
    retries = annotations.get(RETRY_ANNOTATION, "")
    if retries not in _RETRIES:
        raise InvalidRequest(
            f"metadata.annotations.{RETRY_ANNOTATION} is {_shown(retries)}; it must be '1' to"
            f" '{RETRIES_MAX}', or '0' for none."
        )


_RETRIES: Final = frozenset({"", *(str(count) for count in range(RETRIES_MAX + 1))})


def _check_time_limit(limit: TimeLimit | None) -> None:
    if limit is not None and not 1 <= limit.minutes <= TIME_LIMIT_MINUTES_MAX:
        raise InvalidRequest(
            f"spec.auto_stop is {limit.duration} {limit.time_unit}; it must be from 1 minute to"
            f" {TIME_LIMIT_MINUTES_MAX // 60} hours."
        )


def _check_length(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise InvalidRequest(f"{field} has {len(text)} characters; at most {most} are allowed.")


def _shown(value: object) -> str:
    """A value as a message shows it: whole if short."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
