"""Which instance of a service gets a request."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from muster.domain.service import Balancing


@dataclass(slots=True)
class Rotation:
    """Shares turns out by weight: over each cycle of as many turns as the weights come to, exactly.

    Turns of one share lie as far apart as they can: 2 to 1 is a, b, a and not a, a, b.
    """

    _owed: dict[str, int] = field(default_factory=dict)

    def next(self, weights: Mapping[str, int]) -> str:
        """Whose turn it is. At least one weight is above 0; other weights begin a new cycle."""
        if self._owed.keys() != weights.keys():
            self._owed = dict.fromkeys(weights, 0)
        for key, weight in weights.items():
            self._owed[key] += weight
        chosen = max(weights, key=lambda key: (self._owed[key], weights[key]))
        self._owed[chosen] -= sum(weights.values())
        return chosen


def share_of_source(source: str, weights: Mapping[str, int]) -> str:
    """The share that a client's requests always go to, as long as the weights stay."""
    place = _number(source) % sum(weights.values())
    for key, weight in weights.items():
        if place < weight:
            return key
        place -= weight
    raise AssertionError("the place is below the sum of the weights")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance with room for a request."""

    id: int
    in_flight: int
    last_turn: int  # when it got its latest request, counted; 0: it has had none


def choose(candidates: Sequence[Candidate], balancing: Balancing, source: str) -> Candidate:
    """One of them; at least one there must be."""
    match balancing:
        case Balancing.ROUND_ROBIN:
            return min(candidates, key=lambda one: (one.last_turn, one.id))
        case Balancing.LEAST_CONNECTIONS:
            return min(candidates, key=lambda one: (one.in_flight, one.last_turn, one.id))
        case Balancing.SOURCE_IP:
            # When one goes, only its own clients move to others.
            return max(candidates, key=lambda one: _number(f"{source} {one.id}"))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
