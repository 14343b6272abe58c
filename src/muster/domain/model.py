"""Models (AI applications): what a service runs. A folder of code and weights, kept as it was."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from muster.domain.errors import InvalidRequest, ModelConfigInvalid
from muster.domain.training import DEFAULT_WORKSPACE_ID

MODELS_MAX: Final = 2_000  # of one project
NAME_LENGTH_MAX: Final = 64
DESCRIPTION_LENGTH_MAX: Final = 100
COMMAND_LENGTH_MAX: Final = 4_096
VERSION_PART_MAX: Final = 99

SCRIPT: Final = "customize_service.py"  # the published name of a model's inference script
CONFIG: Final = "config.json"
MODEL_FOLDER: Final = "model"  # where both lie, if not in the folder itself

# The operating system hands a program no single variable of more than 128 KiB.
CONFIG_TEXT_BYTES_MAX: Final = 100_000
PERIOD_SECONDS_MAX: Final = 3_600
FAILURES_MAX: Final = 100

# Letters, digits, CJK ideographs, '-' and '_'. Other scripts look alike too easily.
_NAME: Final = re.compile(rf"[A-Za-z0-9_\u3400-\u4dbf\u4e00-\u9fff-]{{1,{NAME_LENGTH_MAX}}}")
_VERSION: Final = re.compile(r"(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)")
_TYPE: Final = re.compile(rf"[A-Za-z0-9_.-]{{0,{NAME_LENGTH_MAX}}}")
_DESCRIPTION: Final = re.compile(r"[^&!'\"<>=\x00]*")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,1023}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How it is asked whether an instance is well. The names are those of `config.json`."""

    path: str = ""  # to GET; "": it is enough that a connection can be made
    initial_delay_seconds: int = 0
    timeout_seconds: int = 2
    period_seconds: int = 5
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A package that the model's interpreter must have."""

    name: str
    version: str = ""
    restraint: str = ""  # EXACT, ATLEAST or ATMOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is run to serve a model, with everything resolved that may change later."""

    source_location: str  # as the client wrote it
    code: str  # digest of the snapshot of that folder
    folder: str = ""  # below it: where the script lies
    interpreter: str
    runtime: str  # as it is shown: engine and version
    command: tuple[str, ...] = ()  # of the user's own; (): the script is run
    health: Health = field(default_factory=Health)
    apis: tuple[dict[str, Any], ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    shown: dict[str, Any] = field(default_factory=dict)  # what else the client said of it

    @property
    def config_text(self) -> str:
        """What whoever runs the script needs of `config.json`, in its form."""
        packages = [
            {"package_name": one.name, "package_version": one.version, "restraint": one.restraint}
            for one in self.dependencies
        ]
        urls = [{"url": api.get("url", "/")} for api in self.apis]
        config = {"apis": urls, "dependencies": [{"packages": packages}]}
        return json.dumps(config, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One version of a model. It is published when it is made, and never changes."""

    id: str
    project_id: str
    workspace_id: str = DEFAULT_WORKSPACE_ID
    name: str
    version: str
    type: str
    description: str = ""
    creator_name: str = ""
    size_bytes: int = 0
    recipe: Recipe
    created_at_ms: int = 0


def check_model(*, name: str, version: str, type_: str, description: str) -> None:
    """Raise InvalidRequest unless each of them is as it may be."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"model_name is {name[:100]!r}; it must be 1 to {NAME_LENGTH_MAX} letters,"
            " digits, Chinese characters, '-' and '_'."
        )
    if not _VERSION.fullmatch(version):
        raise InvalidRequest(
            f"model_version is {version[:100]!r}; it must be three numbers from 0 to"
            f" {VERSION_PART_MAX} with dots between, without leading zeros, such as '0.0.1'."
        )
    if not _TYPE.fullmatch(type_):
        raise InvalidRequest(
            f"model_type is {type_[:100]!r}; it must be at most {NAME_LENGTH_MAX} letters, digits,"
            " '-', '_' and '.', such as 'PyTorch'."
        )
    too_long = len(description) > DESCRIPTION_LENGTH_MAX
    if too_long or not _DESCRIPTION.fullmatch(description):
        raise InvalidRequest(
            f"description is {description[:120]!r}; it must have at most"
            f" {DESCRIPTION_LENGTH_MAX} characters and none of &!'\"<>=."
        )


def check_recipe(recipe: Recipe) -> None:
    """Raise ModelConfigInvalid where there is more in it than an instance can be told."""
    length = len(recipe.config_text.encode())
    if length > CONFIG_TEXT_BYTES_MAX:
        raise ModelConfigInvalid(
            f"The urls of apis and the packages of dependencies take {length} bytes together; at"
            f" most {CONFIG_TEXT_BYTES_MAX} are allowed."
        )


def version_rank(version: str) -> int:
    """A number that is greater the later a version is: '0.0.10' comes after '0.0.9'."""
    major, minor, patch = (int(part) for part in version.split("."))
    return (major * (VERSION_PART_MAX + 1) + minor) * (VERSION_PART_MAX + 1) + patch


def parse_command(text: str) -> tuple[str, ...]:
    """The arguments of a command that is given as text. No shell takes part.

    Raises:
        ModelConfigInvalid: a quotation does not end, or there is nothing in it.
    """
    if len(text) > COMMAND_LENGTH_MAX:
        raise ModelConfigInvalid(
            f"cmd has {len(text)} characters; at most {COMMAND_LENGTH_MAX} are allowed."
        )
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise ModelConfigInvalid(f"cmd is {text[:100]!r}; {error}.") from error
    if not arguments or "\0" in text:
        raise ModelConfigInvalid(f"cmd is {text[:100]!r}; it must name a program, without NUL.")
    return arguments


# ---------------------------------------------------------------- config.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `config.json` says, as far as it has a meaning here."""

    apis: tuple[dict[str, Any], ...] = ()
    health: Health | None = None
    dependencies: tuple[Dependency, ...] = ()
    algorithm: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


def read_description(content: Mapping[str, Any], *, name: str = CONFIG) -> Description:
    """Read a decoded `config.json`.

    Raises:
        ModelConfigInvalid: names the member, its value, and what it must be.
    """
    apis = _members(content, "apis", list, name) or []
    for index, api in enumerate(apis):
        if not isinstance(api, dict):
            raise _wrong(name, f"apis[{index}]", api, "an object")
        url = api.get("url", "/")
        if not isinstance(url, str) or not _PATH.fullmatch(url):
            raise _wrong(name, f"apis[{index}].url", url, "a path that begins with '/'")
    health = _members(content, "health", dict, name)
    algorithm = content.get("model_algorithm") or ""
    metrics = content.get("metrics")
    return Description(
        apis=tuple(apis),
        health=read_health(health, name=f"{name}: health") if health else None,
        dependencies=tuple(
            _dependencies(_members(content, "dependencies", list, name) or [], name)
        ),
        algorithm=algorithm if isinstance(algorithm, str) else "",
        metrics=metrics if isinstance(metrics, dict) else {},
    )


def read_health(given: Mapping[str, Any], *, name: str) -> Health:
    """Raise ModelConfigInvalid unless it says how to ask for an instance's health."""
    path = given.get("url") or ""
    if path and (not isinstance(path, str) or not _PATH.fullmatch(path)):
        raise _wrong(name, "url", path, "a path that begins with '/'")
    protocol = given.get("protocol") or "http"
    if str(protocol).lower() not in ("http", "tcp"):
        # Instances are asked in plain HTTP, by the platform and for its users.
        raise _wrong(name, "protocol", protocol, "'http' or 'tcp'")
    if str(given.get("check_method") or "HTTP").upper() not in ("HTTP", "TCP"):
        raise _wrong(name, "check_method", given["check_method"], "'HTTP' or 'TCP'")
    if str(protocol).lower() == "tcp":
        path = ""
    standard = Health()

    def number(key: str, least: int, most: int, default: int) -> int:
        value = given.get(key, default)
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", text):
            raise _wrong(name, key, value, f"a whole number from {least} to {most}")
        if not least <= int(text) <= most:
            raise _wrong(name, key, value, f"a whole number from {least} to {most}")
        return int(text)

    most = PERIOD_SECONDS_MAX
    return Health(
        path=path,
        initial_delay_seconds=number("initial_delay_seconds", 0, most, 0),
        timeout_seconds=number("timeout_seconds", 1, most, standard.timeout_seconds),
        period_seconds=number("period_seconds", 1, most, standard.period_seconds),
        failure_threshold=number("failure_threshold", 1, FAILURES_MAX, standard.failure_threshold),
    )


def _dependencies(given: Sequence[Any], name: str) -> Iterable[Dependency]:
    for index, one in enumerate(given):
        packages = one.get("packages") if isinstance(one, dict) else None
        if not isinstance(packages, list):
            raise _wrong(name, f"dependencies[{index}]", one, "an object with 'packages'")
        for package in packages:
            if not isinstance(package, dict) or not isinstance(package.get("package_name"), str):
                raise _wrong(
                    name, f"dependencies[{index}].packages", package, "objects with 'package_name'"
                )
            restraint = str(package.get("restraint") or "")
            if restraint not in ("", "EXACT", "ATLEAST", "ATMOST"):
                raise _wrong(name, "restraint", restraint, "EXACT, ATLEAST or ATMOST")
            yield Dependency(
                name=package["package_name"],
                version=str(package.get("package_version") or ""),
                restraint=restraint,
            )


def _members(content: Mapping[str, Any], key: str, kind: type[Any], name: str) -> Any:
    value = content.get(key)
    if value is None or isinstance(value, kind):
        return value
    raise _wrong(name, key, value, "a list" if kind is list else "an object")


def _wrong(name: str, member: str, value: object, expected: str) -> ModelConfigInvalid:
    return ModelConfigInvalid(f"{name}: {member} is {str(value)[:100]!r}; it must be {expected}.")


# ---------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """What a list of models is asked for."""

    project_id: str
    workspace_id: str
    name: str = ""  # a part of it in any case, or all of it
    is_exact: bool = False
    version: str = ""
    status: str = ""
    type: str = ""
    not_type: str = ""
    description: str = ""  # a part of it
    sort_by: str = "create_at"  # or "model_version", "model_size"
    is_descending: bool = True
    page: int = 0
    limit: int = 1000
    marker: str = ""  # an id: what comes after it
