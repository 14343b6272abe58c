"""What an algorithm asks of the machines it runs on, and what a job keeps of its algorithm."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from muster.domain.errors import AlgorithmMismatch, InvalidRequest
from muster.domain.flavor import Flavor

REQUIREMENTS_MAX: Final = 100
OPERATOR: Final = "in"


class RequirementKey(StrEnum):
    """What there may be a requirement about. The values are public (v2)."""

    FLAVOR_TYPE = "flavor_type"
    CARDS = "device_distributed_mode"  # several cards a worker
    WORKERS = "host_distributed_mode"  # several workers


MULTIPLE: Final = "multiple"  # takes one as well
SINGULAR: Final = "singular"

_MODES: Final = (MULTIPLE, SINGULAR)
REQUIREMENT_VALUES: Final[Mapping[RequirementKey, tuple[str, ...]]] = {
    RequirementKey.FLAVOR_TYPE: ("CPU", "GPU", "Ascend"),
    RequirementKey.CARDS: _MODES,
    RequirementKey.WORKERS: _MODES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """That the key is one of the values."""

    key: RequirementKey
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedAlgorithm:
    """An algorithm as it was when a job was made from it: it may have changed or gone since."""

    id: str  # as it is shown: with hyphens
    name: str
    requirements: tuple[Requirement, ...] = ()


def parse_requirement(
    where: str, *, key: str, values: tuple[str, ...], operator: str
) -> Requirement:
    """A requirement as it is given; `where` names it.

    Raises:
        InvalidRequest: names the field, what was given, and what is allowed.
    """
    if key not in tuple(RequirementKey):
        raise InvalidRequest(
            f"{where}.key is {key[:100]!r}; it must be one of {', '.join(RequirementKey)}."
        )
    if operator != OPERATOR:
        raise InvalidRequest(f"{where}.operator is {operator[:100]!r}; it must be {OPERATOR!r}.")
    allowed = REQUIREMENT_VALUES[RequirementKey(key)]
    if not values:
        raise InvalidRequest(f"{where}.values is empty; there are {', '.join(allowed)}.")
    for value in values:
        if value not in allowed:
            raise InvalidRequest(
                f"{where}.values has {value[:100]!r}; for {key} there are {', '.join(allowed)}."
            )
    return Requirement(key=RequirementKey(key), values=tuple(dict.fromkeys(values)))


def check_fits(algorithm: UsedAlgorithm, flavor: Flavor, worker_count: int) -> None:
    """Raise AlgorithmMismatch unless the algorithm can run on so many workers of that flavor."""
    asked = {requirement.key: requirement.values for requirement in algorithm.requirements}
    types = asked.get(RequirementKey.FLAVOR_TYPE)
    if types is not None and flavor.type_name not in types:
        raise AlgorithmMismatch(
            f"config.spec_id is of the type {flavor.type_name} ({flavor.code}); algorithm"
            f" {algorithm.name!r} runs on {' or '.join(types)} only."
        )
    cards = flavor.task.card_count
    if cards > 1 and MULTIPLE not in asked.get(RequirementKey.CARDS, _MODES):
        raise AlgorithmMismatch(
            f"config.spec_id has {cards} cards ({flavor.code}); algorithm {algorithm.name!r} uses"
            " one at most."
        )
    if worker_count > 1 and MULTIPLE not in asked.get(RequirementKey.WORKERS, _MODES):
        raise AlgorithmMismatch(
            f"config.worker_server_num is {worker_count}; algorithm {algorithm.name!r} runs on one"
            " worker only."
        )
