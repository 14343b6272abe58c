"""The keeper of batch services: looks how far their instances have come, and does what a plan says.

Each instance leaves its progress in a file of its job folder (`serving/batch.py`); it is a job of
the project, so that what stands there is believed as far as it can be shown, and no further.
"""

import asyncio
import json
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import structlog

from muster.beneath import files_beneath, read_beneath
from muster.domain.batch import DEST_CHANNEL, FAILURES_TOLD_MAX, Progress, without_answers
from muster.domain.batchplan import BatchSituation, plan_batch
from muster.domain.jobfolder import channel_folder, code_folder
from muster.domain.phase import Phase
from muster.domain.rollout import Instance, Rest, Settle
from muster.domain.service import Service, ServiceStatus
from muster.reconciler.lastwords import readable
from muster.reconciler.servicewrites import read_service, words_of, write_actions
from muster.serving.batch import PROGRESS_FILE, RESULT_SUFFIX
from muster.store.database import Database

log = structlog.get_logger()

PLANS_MAX: Final = 4  # of one service, one following from the other, in one look
COUNT_MS: Final = 2_000  # how often the counts of one that runs are read and written
PROGRESS_BYTES_MAX: Final = 64 << 10
TEXT_LENGTH_MAX: Final = 300
NOT_STORED_MAX: Final = 10_000
COUNT_MAX: Final = 2**53  # as every reader of JSON has it


@dataclass(slots=True)
class BatchKeeper:
    """Keeps batch services as they are asked to be."""

    database: Database
    jobs_folder: Path
    clock_ms: Callable[[], int]
    _counted_at_ms: dict[int, int] = field(default_factory=dict)  # by service that runs

    async def keep(self, service: Service, instances: tuple[Instance, ...]) -> bool:
        """Bring one a step on; whether it is about to come up."""
        for _ in range(PLANS_MAX):
            if not self._is_time(service, instances):
                return False
            situation = await self._situation(service, instances)
            actions = plan_batch(situation)
            if not actions:
                break
            await self.database.write(write_actions, situation, actions)
            for action in actions:
                if isinstance(action, Settle):
                    log.info("service_moved", service=service.uid, status=action.status)
            read = await self.database.read(read_service, service.id)
            if Rest() in actions or read is None:
                return False
            service, instances = read
        is_up = any(one.is_ready for one in situation.progress.values())
        return not is_up and any(one.workload_phase is Phase.RUNNING for one in instances)

    def forget_all_but(self, service_ids: Set[int]) -> None:
        """Others are gone, or at rest."""
        for gone in self._counted_at_ms.keys() - service_ids:
            del self._counted_at_ms[gone]

    def _is_time(self, service: Service, instances: Sequence[Instance]) -> bool:
        """Whether there may be something to do: one that merely works is looked at now and then."""
        now_ms = self.clock_ms()
        is_over = all(one.has_ended for one in instances)
        has_failed = any(one.has_failed for one in instances)
        is_working = service.status is ServiceStatus.RUNNING and not is_over and not has_failed
        counted_at_ms = self._counted_at_ms.get(service.id)
        if is_working and counted_at_ms is not None and now_ms - counted_at_ms < COUNT_MS:
            return False
        self._counted_at_ms[service.id] = now_ms
        return True

    async def _situation(self, service: Service, instances: tuple[Instance, ...]) -> BatchSituation:
        begun = [one for one in instances if one.attempt_id is not None]
        found = await asyncio.to_thread(self._read_all, begun) if begun else {}
        return BatchSituation(
            now_ms=self.clock_ms(),
            service=service,
            instances=instances,
            progress={id_: progress for id_, progress in found.items() if progress is not None},
            last_words={
                one.id: await words_of(self.database, self.jobs_folder, one)
                for one in instances
                if one.has_failed
            },
        )

    def _read_all(self, instances: Sequence[Instance]) -> dict[int, Progress | None]:
        return {one.id: self._read(one) for one in instances}

    def _read(self, one: Instance) -> Progress | None:
        folder = self.jobs_folder / str(one.attempt_id)
        progress = read_progress(folder)
        if progress is None or one.workload_phase is not Phase.COMPLETED:
            return progress
        return without_answers(progress, list_not_stored(folder))


def read_progress(folder: Path) -> Progress | None:
    """How far an instance has come; None: it has not told yet, or nothing that makes sense."""
    try:
        text = read_beneath(code_folder(folder, 0), PROGRESS_FILE, limit=PROGRESS_BYTES_MAX)
        told = json.loads(text)
        failures = told["failures"][:FAILURES_TOLD_MAX]
        return Progress(
            is_ready=bool(told["is_ready"]),
            total=_count(told["total"]),
            answered=_count(told["answered"]),
            failed=_count(told["failed"]),
            failures=tuple((_text(one["name"]), _text(one["reason"])) for one in failures),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def list_not_stored(folder: Path) -> list[str]:
    """Answers of an instance that has ended: all that can be stored is not there any more."""
    try:
        found = islice(files_beneath(channel_folder(folder, DEST_CHANNEL)), NOT_STORED_MAX)
        return [_text(path) for path, _ in found if path.endswith(RESULT_SUFFIX)]
    except OSError:
        return []


def _count(told: Any) -> int:
    if not isinstance(told, int) or not 0 <= told <= COUNT_MAX:
        raise ValueError("a count is from 0 on")
    return told


def _text(told: Any) -> str:
    return readable(str(told))[:TEXT_LENGTH_MAX]
