"""Flavors: named shapes of resources that a task may ask for; and the AI engines to run it with."""

from dataclasses import dataclass
from pathlib import Path

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
