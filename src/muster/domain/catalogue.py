"""What a user may choose from: flavors and AI engines, by every name the APIs give them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from muster.domain.errors import EngineUnknown, FlavorUnknown
from muster.domain.flavor import AiEngine, Flavor


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Flavors and AI engines of this server; they change only with a restart."""

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
