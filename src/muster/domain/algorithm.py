"""Algorithms: what to run, kept under a name, and what it asks of the jobs made from it."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from muster.domain.errors import (
    AlgorithmMismatch,
    ChannelInvalid,
    CommandInvalid,
    HyperparameterInvalid,
    HyperparameterTaken,
    InvalidRequest,
    NotModifiable,
)
from muster.domain.requirement import REQUIREMENTS_MAX, Requirement, UsedAlgorithm
from muster.domain.training import (
    CHANNEL_NAME_PATTERN,
    CHANNELS_MAX,
    LABEL_PATTERN,
    PARAMETERS_MAX,
    URL_LENGTH_MAX,
    VALUE_LENGTH_MAX,
    Parameter,
    check_description,
    check_name,
)

ALGORITHMS_MAX: Final = 1_000  # of one project
COMMAND_LENGTH_MAX: Final = 16_384
TEXT_LENGTH_MAX: Final = 4_096  # of a description or a choice that nothing else bounds
CHOICES_MAX: Final = 1_000

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_TYPES: Final = ("String", "Integer", "Float", "Boolean")
_RANGE: Final = "range"
_CHOICES: Final = ("choice", "enum")
_VALID_TYPES: Final = ("None", "Range", "Choice", "Enum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What may be said of a parameter's value. Absent is None, as in the API."""

    type: str | None = None
    editable: bool | None = None
    required: bool | None = None
    sensitive: bool | None = None
    valid_type: str | None = None
    valid_range: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedText:
    language: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredParameter:
    """A hyperparameter with its default; None: it has none."""

    name: str
    value: str | None = None
    description: str | None = None
    constraint: Constraint | None = None
    i18n_description: TranslatedText | None = None

    @property
    def rules(self) -> Constraint:
        return self.constraint or Constraint()

    @property
    def is_required(self) -> bool:
        return bool(self.rules.required)

    @property
    def is_fixed(self) -> bool:
        return self.rules.editable is False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConstraint:
    """One kind of data that an input takes."""

    data_type: str | None = None
    attributes: tuple[dict[str, str], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredOutput:
    name: str
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredInput(DeclaredOutput):
    remote_constraints: tuple[RemoteConstraint, ...] | None = None

    @property
    def takes_objects(self) -> bool:
        """Whether data in a bucket will do: whatever says nothing takes anything."""
        kinds = [kind.data_type.lower() for kind in self.remote_constraints or () if kind.data_type]
        return not kinds or "obs" in kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineName:
    """An AI engine as the v2 API names it."""

    engine_id: str
    engine_name: str
    engine_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAttribute:
    name: str | None = None
    mode: str | None = None
    regex: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameter:
    name: str | None = None
    param_type: str | None = None
    lower_bound: str | None = None
    upper_bound: str | None = None
    discrete_points_num: str | None = None
    discrete_values: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSetting:
    key: str | None = None
    value: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchMethod:
    name: str | None = None
    params: tuple[SearchSetting, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoSearch:
    """How a search for hyperparameters would go. Kept and shown: a job that asks is refused."""

    skip_search_params: str | None = None
    reward_attrs: tuple[RewardAttribute, ...] | None = None
    search_params: tuple[SearchParameter, ...] | None = None
    algo_configs: tuple[SearchMethod, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is run: code under an engine, or a command in an image."""

    code_dir: str = ""
    boot_file: str = ""
    command: str = ""
    image_url: str = ""
    engine: EngineName | None = None
    parameters: tuple[DeclaredParameter, ...] = ()
    inputs: tuple[DeclaredInput, ...] = ()
    outputs: tuple[DeclaredOutput, ...] = ()
    takes_more_parameters: bool = True  # than it declares


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One of a project's algorithms. A job keeps what it was made from, whatever comes of this."""

    id: str  # 32 hexadecimal digits
    project_id: str
    workspace_id: str
    name: str
    description: str
    creator_name: str
    recipe: Recipe
    requirements: tuple[Requirement, ...] = ()
    auto_search: AutoSearch | None = None
    code_bytes: int = 0  # when it was last changed
    created_at_ms: int
    updated_at_ms: int

    @property
    def shown_id(self) -> str:
        """With the hyphens of a UUID."""
        return str(UUID(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmList:
    """What a list of algorithms is asked for."""

    project_id: str
    workspace_id: str
    name: str = ""  # a part of it, in any case
    sort_key: str = "create_time"
    group_key: str = ""  # those with the same value stand together
    is_descending: bool = True
    offset: int = 0  # rows
    limit: int


SORT_KEYS: Final = ("create_time", "update_time", "name", "user_name", "description")


# ---------------------------------------------------------------- what an algorithm may be


def check_algorithm(algorithm: Algorithm) -> None:
    """Every rule that an algorithm alone can break.

    Raises:
        InvalidRequest: names the field, what was given, and what is allowed.
    """
    check_name("metadata.name", algorithm.name)
    check_description("metadata.description", algorithm.description)
    _check_what_to_run(algorithm.recipe)
    _check_declared_parameters(algorithm.recipe.parameters)
    _check_declared_channels(algorithm.recipe)
    _check_count("resource_requirements", algorithm.requirements, REQUIREMENTS_MAX)
    keys = [requirement.key for requirement in algorithm.requirements]
    if len(set(keys)) < len(keys):
        raise InvalidRequest(f"resource_requirements has a key twice: {', '.join(keys)}.")


def _check_what_to_run(recipe: Recipe) -> None:
    if bool(recipe.image_url) != bool(recipe.command):
        raise CommandInvalid(
            "job_config.command and job_config.engine.image_url go together; without an image,"
            " give code_dir and boot_file."
        )
    for name in () if recipe.image_url else ("code_dir", "boot_file"):
        if not getattr(recipe, name):
            raise InvalidRequest(
                f"job_config.{name} is missing; give code_dir and boot_file, or command and"
                " engine.image_url."
            )
    for name, most in (
        ("code_dir", URL_LENGTH_MAX),
        ("boot_file", URL_LENGTH_MAX),
        ("command", COMMAND_LENGTH_MAX),
        ("image_url", URL_LENGTH_MAX),
    ):
        _check_length(f"job_config.{name}", getattr(recipe, name), most)
    if "\0" in recipe.command:
        raise InvalidRequest("job_config.command holds a zero byte.")


def _check_declared_parameters(parameters: Sequence[DeclaredParameter]) -> None:
    _check_count("job_config.parameters", parameters, PARAMETERS_MAX)
    taken = set()
    for index, parameter in enumerate(parameters):
        where = f"job_config.parameters[{index}]"
        if not LABEL_PATTERN.fullmatch(parameter.name):
            raise InvalidRequest(
                f"{where}.name is {parameter.name[:100]!r}; it must be 1 to 128 characters without"
                " blanks and '=', and not begin with '-'."
            )
        if parameter.name in taken:
            raise HyperparameterTaken(
                f"{where}.name is {parameter.name!r}; another parameter has that name."
            )
        taken.add(parameter.name)
        _check_length(f"{where}.description", parameter.description or "", TEXT_LENGTH_MAX)
        _check_constraint(f"{where}.constraint", parameter.rules)
        if parameter.is_required and parameter.is_fixed and not parameter.value:
            raise HyperparameterInvalid(
                f"{where}.value is missing; the parameter is required, and a job may not set it."
            )
        _check_value(f"{where}.value", parameter.value or "", parameter.rules)


def _check_constraint(where: str, rules: Constraint) -> None:
    for name, given, allowed in (
        ("type", rules.type, _TYPES),
        ("valid_type", rules.valid_type, _VALID_TYPES),
    ):
        if given and given.lower() not in [word.lower() for word in allowed]:
            raise InvalidRequest(
                f"{where}.{name} is {given[:100]!r}; it must be one of {', '.join(allowed)}."
            )
    choices = rules.valid_range or ()
    _check_count(f"{where}.valid_range", choices, CHOICES_MAX)
    for choice in choices:
        _check_length(f"{where}.valid_range", choice, TEXT_LENGTH_MAX)
    if _word(rules.valid_type) == _RANGE:
        bounds = [_number(text) for text in choices]
        if len(bounds) != 2 or None in bounds:
            raise InvalidRequest(
                f"{where}.valid_range is {list(choices)!r:.100}; a Range needs two numbers, the"
                " least and the most."
            )


def _check_declared_channels(recipe: Recipe) -> None:
    taken = set()
    for field, channels in (("inputs", recipe.inputs), ("outputs", recipe.outputs)):
        where = f"job_config.{field}"
        _check_count(where, channels, CHANNELS_MAX)
        for index, channel in enumerate(channels):
            if not CHANNEL_NAME_PATTERN.fullmatch(channel.name):
                raise ChannelInvalid(
                    f"{where}[{index}].name is {channel.name[:100]!r}; it must be 1 to 64 letters,"
                    " digits, '_' and '-', and begin with a letter or '_'."
                )
            if channel.name in taken:
                raise ChannelInvalid(
                    f"{where}[{index}].name is {channel.name!r}; another input or output has that"
                    " name."
                )
            taken.add(channel.name)
            check_description(f"{where}[{index}].description", channel.description or "")


# ---------------------------------------------------------------- what a job makes of it


def use_of(algorithm: Algorithm) -> UsedAlgorithm:
    """What a job that is made from it keeps."""
    return UsedAlgorithm(
        id=algorithm.shown_id, name=algorithm.name, requirements=algorithm.requirements
    )


def fill_in_parameters(algorithm: Algorithm, given: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """The parameters of a job: what it gives itself, and the defaults of the others.

    Those that the algorithm declares come first, in its order.

    Raises:
        HyperparameterInvalid, HyperparameterTaken: names the parameter.
        NotModifiable: another value for one that a job may not set.
        AlgorithmMismatch: one that is not declared, where only those are taken.
    """
    own = _by_name(given)
    filled = []
    for declared in algorithm.recipe.parameters:
        chosen = own.pop(declared.name, None)
        is_given = chosen is not None and chosen.value is not None
        value = chosen.text if chosen is not None and is_given else declared.value
        _check_choice(algorithm, declared, value)
        if value is not None:
            filled.append(Parameter(label=declared.name, value=value))
    if own and not algorithm.recipe.takes_more_parameters:
        known = ", ".join(p.name for p in algorithm.recipe.parameters) or "none"
        raise AlgorithmMismatch(
            f"algorithm.parameters has {_listed(own)}; algorithm {algorithm.name!r} takes those"
            f" that it declares only: {known}."
        )
    return (*filled, *own.values())


def _by_name(given: Sequence[Parameter]) -> dict[str, Parameter]:
    named: dict[str, Parameter] = {}
    for index, parameter in enumerate(given):
        if parameter.label in named:
            raise HyperparameterTaken(
                f"algorithm.parameters[{index}].name is {parameter.label[:100]!r}, for the second"
                " time."
            )
        named[parameter.label] = parameter
    return named


def _check_choice(algorithm: Algorithm, declared: DeclaredParameter, value: str | None) -> None:
    where = f"algorithm.parameters: {declared.name}"
    if declared.is_fixed and value != declared.value:
        raise NotModifiable(
            f"{where} is {value!r:.100}; algorithm {algorithm.name!r} lets no job change it from"
            f" {declared.value!r:.100}."
        )
    if declared.is_required and not value:
        raise HyperparameterInvalid(
            f"{where} is missing; algorithm {algorithm.name!r} requires a value."
        )
    _check_value(where, value or "", declared.rules)


def check_channels(algorithm: Algorithm, field: str, names: Sequence[str]) -> None:
    """Hold the inputs or outputs of a job, in data from buckets, against those declared.

    Where it declares none of the kind, it says nothing about them.

    Raises:
        AlgorithmMismatch: names those that are missing, or not declared.
    """
    declared: Sequence[DeclaredOutput] = (
        algorithm.recipe.inputs if field == "inputs" else algorithm.recipe.outputs
    )
    if not declared:
        return
    known = [channel.name for channel in declared]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise AlgorithmMismatch(
            f"algorithm.{field} has {_listed(unknown)}; algorithm {algorithm.name!r} has the"
            f" {field} {', '.join(known)}."
        )
    missing = [name for name in known if name not in names]
    if missing:
        raise AlgorithmMismatch(
            f"algorithm.{field} lacks {_listed(missing)}; algorithm {algorithm.name!r} needs every"
            " one that it declares."
        )
    for channel in declared:
        if isinstance(channel, DeclaredInput) and not channel.takes_objects:
            kinds = [kind.data_type or "" for kind in channel.remote_constraints or ()]
            raise AlgorithmMismatch(
                f"algorithm.{field}: {channel.name} is given as remote.obs; algorithm"
                f" {algorithm.name!r} takes {', '.join(kinds)} only."
            )


def _check_value(where: str, text: str, rules: Constraint) -> None:
    """Nothing is no value: whether there must be one is asked elsewhere."""
    if "\0" in text:
        raise HyperparameterInvalid(f"{where} holds a zero byte.")
    _check_length(where, text, VALUE_LENGTH_MAX)
    if not text:
        return
    wanted = _TYPE_RULES.get(_word(rules.type))
    if wanted is not None and not wanted[0](text):
        raise HyperparameterInvalid(f"{where} is {text[:100]!r}; it must be {wanted[1]}.")
    choices = rules.valid_range or ()
    valid_type = _word(rules.valid_type)
    if valid_type in _CHOICES and text not in choices:
        raise HyperparameterInvalid(
            f"{where} is {text[:100]!r}; it must be one of {', '.join(choices)[:200]}."
        )
    if valid_type == _RANGE:
        value, (least, most) = _number(text), (float(bound) for bound in choices)
        if value is None or not least <= value <= most:
            raise HyperparameterInvalid(
                f"{where} is {text[:100]!r}; it must be a number from {choices[0]} to {choices[1]}."
            )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_TYPE_RULES: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "integer": (lambda text: bool(_INTEGER.fullmatch(text)), "a whole number"),
    "float": (lambda text: _number(text) is not None, "a number"),
    "boolean": (lambda text: text.lower() in ("true", "false"), "true or false"),
}


def _word(text: str | None) -> str:
    return (text or "").lower()


def _check_count(field: str, things: Sequence[object], most: int) -> None:
    if len(things) > most:
        raise InvalidRequest(f"{field} has {len(things)} entries; at most {most} are allowed.")


def _check_length(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise InvalidRequest(f"{field} has {len(text)} characters; at most {most} are allowed.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)[:200]
