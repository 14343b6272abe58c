"""Flavors: named shapes of resources that a task may ask for; and the AI engines to run it with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster.domain.placement import CardKind
from muster.domain.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """One row of the table that `spec_id` (v1), `flavor_id` (v2) and pools all point into."""

    spec_id: int
    code: str
    task: Resources  # what one task of this flavor holds
    card_model: str = ""
    task_count_max: int = 1

    @property
    def card_kind(self) -> CardKind | None:
        if self.task.gpu_count:
            return CardKind.GPU
        return CardKind.NPU if self.task.npu_count else None

    @property
    def type_name(self) -> str:
        """As published (v2)."""
        if self.card_kind is None:
            return "CPU"
        return "GPU" if self.card_kind is CardKind.GPU else "Ascend"


# In a dedicated pool of cards: so many of them, with their share of the node. As published (v2).
ELASTIC_CARDS: Final[Mapping[str, int]] = {
    "modelarts.pool.visual.xlarge": 1,
    "modelarts.pool.visual.2xlarge": 2,
    "modelarts.pool.visual.4xlarge": 4,
    "modelarts.pool.visual.8xlarge": 8,
    "modelarts.pool.visual.16xlarge": 16,
}


def elastic_flavor(code: str, node_flavors: Iterable[Flavor]) -> Flavor | None:
    """What an elastic flavor comes to on nodes of these flavors: a part of the smallest that do.

    None: no node has so many cards.
    """
    cards = ELASTIC_CARDS[code]
    enough = [flavor for flavor in node_flavors if flavor.task.card_count >= cards]
    if not enough:
        return None
    node = min(enough, key=lambda flavor: (flavor.task.card_count, flavor.code))
    task, whole = node.task, node.task.card_count
    return Flavor(
        spec_id=0,  # v1 has no number for it
        code=code,
        task=Resources(
            cpu_millis=task.cpu_millis * cards // whole,
            memory_mib=task.memory_mib * cards // whole,
            gpu_count=cards if task.gpu_count else 0,
            npu_count=cards if task.npu_count else 0,
        ),
        card_model=node.card_model,
        task_count_max=node.task_count_max * (whole // cards),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AiEngine:
    """An interpreter that user code runs under: what the API calls an AI engine."""

    engine_id: int
    engine_type: int
    name: str
    version: str
    interpreter: Path


# Published type codes of the v1 API, by engine name; every other engine is OTHER_ENGINE_TYPE.
ENGINE_TYPES = {
    "TensorFlow": 1,
    "MXNet": 2,
    "Ray": 3,
    "Caffe": 4,
    "Spark_MLlib": 5,
    "XGBoost-Sklearn": 9,
    "PyTorch": 10,
    "Horovod": 12,
}
OTHER_ENGINE_TYPE = 100
