"""Flavors and AI engines by every name that the APIs give them."""

from pathlib import Path
from typing import Final

import pytest

from muster.domain.catalogue import Catalogue
from muster.domain.errors import EngineUnknown, FlavorUnknown
from muster.domain.flavor import AiEngine, Flavor
from muster.domain.placement import CardKind
from muster.domain.resources import Resources

SMALL: Final = Flavor(spec_id=1, code="cpu.1", task=Resources(cpu_millis=1000))
GPU: Final = Flavor(spec_id=5, code="gpu.1", task=Resources(cpu_millis=1000, gpu_count=1))
NPU: Final = Flavor(spec_id=6, code="npu.1", task=Resources(cpu_millis=1000, npu_count=1))
PYTHON: Final = AiEngine(
    engine_id=3, engine_type=100, name="Python", version="python3.11", interpreter=Path("python3")
)
CATALOGUE: Final = Catalogue.of([SMALL, GPU, NPU], [PYTHON])


def test_a_flavor_is_found_by_its_number_and_by_its_code() -> None:
    assert CATALOGUE.flavor(5) is GPU
    assert CATALOGUE.find_flavor("gpu.1") is GPU
    assert CATALOGUE.find_flavor("gone") is None


def test_an_unknown_flavor_is_refused_with_what_there_is() -> None:
    with pytest.raises(FlavorUnknown) as refused:
        CATALOGUE.flavor(2)

    assert refused.value.message == "spec_id is 2; there are 1 (cpu.1), 5 (gpu.1), 6 (npu.1)."


def test_an_engine_is_found_by_its_number() -> None:
    assert CATALOGUE.engine(3) is PYTHON
    assert CATALOGUE.find_engine(3) is PYTHON
    assert CATALOGUE.find_engine(4) is None


def test_an_unknown_engine_is_refused_with_what_there_is() -> None:
    with pytest.raises(EngineUnknown) as refused:
        CATALOGUE.engine(1)

    assert refused.value.message == "engine_id is 1; there are 3 (Python python3.11)."


def test_a_flavor_tells_the_kind_of_its_cards() -> None:
    assert [flavor.card_kind for flavor in CATALOGUE.flavors] == [
        None,
        CardKind.GPU,
        CardKind.NPU,
    ]
