"""Networks: declarations that pools may name. Pure.

Nodes are where they are, on a machine or in a cluster, and talk as these do: a network routes
nothing here. It is kept and shown, so that what is written for a cloud finds what it made.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Final

from muster.domain.errors import InvalidRequest
from muster.domain.poolwish import NAME_LABEL, WORKSPACE_LABEL, check_annotations

NETWORKS_MAX: Final = 100  # of a project
ANNOTATIONS_MAX: Final = 64

# What a network may be a part of, and how large a part.
RANGES: Final = (IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))
PREFIX_LENGTH_MAX: Final = 24

_DISPLAY_NAME: Final = re.compile(r"[a-z][a-z0-9-]{2,30}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    cidr: str
    ipv6enable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    name: str  # unique on this server: the display name and the project's id
    project_id: str
    workspace_id: str
    display_name: str
    spec: NetworkSpec
    annotations: Mapping[str, str] = field(default_factory=dict)
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChange:
    """A merge patch: what is None stays, but for values of annotations: None takes them away."""

    workspace_id: str | None = None
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    ipv6enable: bool | None = None


def new_network(
    *,
    project_id: str,
    workspace_id: str,
    display_name: str,
    spec: NetworkSpec,
    annotations: Mapping[str, str],
    now_ms: int,
) -> Network:
    """The network that was asked for.

    Raises:
        InvalidRequest: names the field, what was given, and what is allowed.
    """
    if not _DISPLAY_NAME.fullmatch(display_name):
        raise InvalidRequest(
            f"metadata.labels['{NAME_LABEL}'] is {display_name[:100]!r}; it must be 4 to 32"
            " lower-case letters, digits and hyphens, begin with a letter and not end with a"
            " hyphen."
        )
    _check_annotations(annotations)
    cidr = _parse_cidr(spec.cidr)
    return Network(
        name=f"{display_name}-{project_id}",
        project_id=project_id,
        workspace_id=workspace_id,
        display_name=display_name,
        spec=replace(spec, cidr=str(cidr)),
        annotations=dict(annotations),
        created_at_ms=now_ms,
    )


def _check_annotations(annotations: Mapping[str, str | None]) -> None:
    check_annotations(annotations)
    if len(annotations) > ANNOTATIONS_MAX:
        raise InvalidRequest(
            f"metadata.annotations has {len(annotations)} members; at most {ANNOTATIONS_MAX} may"
            " be."
        )


def _parse_cidr(text: str) -> IPv4Network:
    told = f"spec.cidr is {text[:100]!r}; "
    try:
        cidr = IPv4Network(text)
    except ValueError as error:
        raise InvalidRequest(f"{told}it must be like 192.168.20.0/24.") from error
    if "/" not in text or cidr.prefixlen > PREFIX_LENGTH_MAX or not _is_offered(cidr):
        raise InvalidRequest(
            f"{told}it must be a part of {' or '.join(map(str, RANGES))}, with a prefix of at most"
            f" {PREFIX_LENGTH_MAX}."
        )
    return cidr


def _is_offered(cidr: IPv4Network) -> bool:
    return any(cidr.subnet_of(whole) for whole in RANGES)


def changed_network(network: Network, change: NetworkChange) -> Network:
    """The network with the change; the same where nothing changes."""
    annotations = {**network.annotations, **change.annotations}
    _check_annotations(annotations)
    ipv6enable = network.spec.ipv6enable if change.ipv6enable is None else change.ipv6enable
    return replace(
        network,
        workspace_id=change.workspace_id or network.workspace_id,
        annotations={key: value for key, value in annotations.items() if value is not None},
        spec=replace(network.spec, ipv6enable=ipv6enable),
    )


def address_count(network: Network) -> int:
    """How many addresses it has for machines: not its own, and not that of everybody in it."""
    return IPv4Network(network.spec.cidr).num_addresses - 2


def labels_of(network: Network) -> dict[str, str]:
    return {NAME_LABEL: network.display_name, WORKSPACE_LABEL: network.workspace_id}
