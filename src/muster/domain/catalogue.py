"""What a user may choose from: flavors and AI engines, by every name the APIs give them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from muster.domain.errors import EngineUnknown, FlavorUnknown
from muster.domain.flavor import AiEngine, Flavor


@dataclass(slots=True)
class Catalogue:
    """Flavors and AI engines of this server; a cluster that grows may add flavors."""

    flavors: tuple[Flavor, ...]
    engines: tuple[AiEngine, ...]
    _flavor_by_id: dict[int, Flavor]
    _flavor_by_code: dict[str, Flavor]
    _engine_by_id: dict[int, AiEngine]

    @classmethod
    def of(cls, flavors: Iterable[Flavor], engines: Iterable[AiEngine]) -> Self:
        flavors, engines = tuple(flavors), tuple(engines)
        return cls(
            flavors,
            engines,
            {flavor.spec_id: flavor for flavor in flavors},
            {flavor.code: flavor for flavor in flavors},
            {engine.engine_id: engine for engine in engines},
        )

    def add(self, flavors: Iterable[Flavor]) -> None:
        """Take in what is new, and what has another size now; nothing goes before a restart."""
        for flavor in flavors:
            self._flavor_by_id[flavor.spec_id] = flavor
            self._flavor_by_code[flavor.code] = flavor
        self.flavors = tuple(self._flavor_by_code.values())

    @property
    def flavor_by_code(self) -> Mapping[str, Flavor]:
        """It stays the same mapping when flavors are added."""
        return self._flavor_by_code

    def flavor(self, spec_id: int) -> Flavor:
        try:
            return self._flavor_by_id[spec_id]
        except KeyError:
            offered = ", ".join(f"{flavor.spec_id} ({flavor.code})" for flavor in self.flavors)
            raise FlavorUnknown(f"spec_id is {spec_id}; there are {offered}.") from None

    def find_flavor(self, code: str) -> Flavor | None:
        """None where the inventory has dropped it since."""
        return self._flavor_by_code.get(code)

    def engine(self, engine_id: int) -> AiEngine:
        try:
            return self._engine_by_id[engine_id]
        except KeyError:
            offered = ", ".join(
                f"{engine.engine_id} ({engine.name} {engine.version})" for engine in self.engines
            )
            raise EngineUnknown(f"engine_id is {engine_id}; there are {offered}.") from None

    def find_engine(self, engine_id: int) -> AiEngine | None:
        return self._engine_by_id.get(engine_id)
