"""The story of the demo: which jobs are submitted, how each must end, and whether it did."""

import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from muster.client.client import Client
from muster.client.errors import ApiError
from muster.domain.phase import FINISHED, Phase, StatisticsState, view_of

SCRIPTS: Final = Path(__file__).with_name("scripts")
POOL: Final = "digits"
FLAVOR: Final = "demo.gpu.1"

LOOK_SECONDS: Final = 0.4
TOUR_SECONDS_MAX: Final = 240.0
STOP_SECONDS_MAX: Final = 20.0

_REPORT: Final = re.compile(r"epoch (\d+/\d+) .*accuracy ([0-9.]+)")
_FINISHED_STATUSES: Final = frozenset(view_of(phase).v1_status for phase in FINISHED)
_RUNNING: Final = view_of(Phase.RUNNING).v1_status
STOPPED_AFTER_EPOCHS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One submission of the story."""

    job_name: str
    tells: str
    ends: Phase
    learning_rate: float
    epochs: int = 15
    workers: int = 1
    boot_file: str = "train_digits.py"

    @property
    def is_stopped(self) -> bool:
        return self.ends is Phase.TERMINATED


# The first two fill the pool of three nodes, so that the others queue. A name that comes again is
# the next version of that job.
STORY: Final = (
    Chapter(
        job_name="read-forever",
        tells="stopped while it runs",
        ends=Phase.TERMINATED,
        learning_rate=0.01,
        epochs=1_000_000,
    ),
    Chapter(
        job_name="read-together",
        tells="two workers that talk",
        ends=Phase.COMPLETED,
        learning_rate=0.1,
        epochs=30,
        workers=2,
        boot_file="train_digits_together.py",
    ),
    Chapter(job_name="read", tells="completes", ends=Phase.COMPLETED, learning_rate=0.1),
    Chapter(
        job_name="read-badly", tells="a rate below zero", ends=Phase.FAILED, learning_rate=-1.0
    ),
    Chapter(job_name="read", tells="its second version", ends=Phase.COMPLETED, learning_rate=0.3),
    Chapter(job_name="read-slowly", tells="a low rate", ends=Phase.COMPLETED, learning_rate=0.005),
    Chapter(
        job_name="read-briefly",
        tells="few epochs",
        ends=Phase.COMPLETED,
        learning_rate=0.1,
        epochs=3,
    ),
)


@dataclass(slots=True, kw_only=True)
class Part:
    """A chapter that has been submitted, and how it stands."""

    chapter: Chapter
    job_id: int
    version_id: int
    version_name: str
    status: int
    duration_ms: int | None = None
    log_file: str | None = None
    log: bytes = b""
    is_stop_asked: bool = False

    @property
    def is_finished(self) -> bool:
        return self.status in _FINISHED_STATUSES

    @property
    def ended_as_told(self) -> bool:
        return self.status == view_of(self.chapter.ends).v1_status

    @property
    def last_line(self) -> str:
        lines = self.log.decode(errors="replace").splitlines()
        return lines[-1] if lines else ""

    @property
    def reports(self) -> list[tuple[str, str]]:
        """(epoch of how many, accuracy) of every line of the log that tells them."""
        return _REPORT.findall(self.log.decode(errors="replace"))

    @property
    def epoch(self) -> str | None:
        return self.reports[-1][0] if self.reports else None

    @property
    def accuracy(self) -> float | None:
        return float(self.reports[-1][1]) if self.reports else None


class Tour:
    """Submits the story to a server, and watches it come true."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pool_id = f"{POOL}-{client.credentials.project_id}"
        self.parts: list[Part] = []
        self.queued_most = 0  # how many were seen waiting at once

    def submit(self) -> None:
        """Upload the scripts and the digits, and submit every chapter."""
        bucket = f"project-{self.client.credentials.project_id}"
        for script in sorted(SCRIPTS.glob("*.py")):
            self.client.put_object(bucket, f"demo/code/{script.name}", script)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "digits.npz"
            write_digits(file)
            self.client.put_object(bucket, f"demo/digits/{file.name}", file)
        spec_id = self._id_of("spec_id", self.client.list_flavors()["specs"], spec_code=FLAVOR)
        engines = self.client.list_engines()["engines"]
        for chapter in STORY:
            self._submit(
                chapter,
                {
                    "app_url": f"/{bucket}/demo/code/",
                    "boot_file_url": f"/{bucket}/demo/code/{chapter.boot_file}",
                    "data_url": f"/{bucket}/demo/digits/",
                    "train_url": f"/{bucket}/demo/results/{chapter.job_name}/",
                    "engine_id": engines[0]["engine_id"],
                    "spec_id": spec_id,
                    "pool_id": self.pool_id,
                    "worker_server_num": chapter.workers,
                    "parameter": [
                        {"label": "learning_rate", "value": str(chapter.learning_rate)},
                        {"label": "epochs", "value": str(chapter.epochs)},
                    ],
                },
            )

    @staticmethod
    def _id_of(key: str, items: Sequence[dict[str, Any]], **wanted: str) -> int:
        [found] = [item[key] for item in items if wanted.items() <= item.items()]
        return int(found)

    def _submit(self, chapter: Chapter, config: dict[str, Any]) -> None:
        before = [part for part in self.parts if part.chapter.job_name == chapter.job_name]
        if before:
            config |= {"pre_version_id": before[-1].version_id}
            answer = self.client.submit_version(before[-1].job_id, config)
        else:
            answer = self.client.submit_job(chapter.job_name, config, description=chapter.tells)
        self.parts.append(
            Part(
                chapter=chapter,
                job_id=answer["job_id"],
                version_id=answer["version_id"],
                version_name=answer["version_name"],
                status=answer["status"],
            )
        )

    def watch(self) -> Iterator[None]:
        """Look again and again, until every part has ended or the time is up."""
        deadline = time.monotonic() + TOUR_SECONDS_MAX
        while time.monotonic() < deadline:
            self.look()
            yield
            if all(part.is_finished for part in self.parts):
                return
            time.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Read where every part stands; stop the one that is to be stopped once it is under way."""
        rows = self.client.list_versions(pool_id=self.pool_id, limit=0)["versions"]
        by_id = {row["version_id"]: row for row in rows}
        for part in self.parts:
            row = by_id[part.version_id]
            was_finished = part.is_finished
            part.status, part.duration_ms = row["status"], row["duration"]
            if part.status == _RUNNING or (part.is_finished and not was_finished):
                self._read_log(part)
            is_under_way = part.status == _RUNNING and len(part.reports) >= STOPPED_AFTER_EPOCHS
            if part.chapter.is_stopped and is_under_way and not part.is_stop_asked:
                self.client.stop_version(part.job_id, part.version_id)
                part.is_stop_asked = True
        counted = self.client.pool_statistics(self.pool_id)["statistics"]["items"]
        queued = sum(item["status"][StatisticsState.QUEUE] for item in counted)
        self.queued_most = max(self.queued_most, queued)

    def _read_log(self, part: Part) -> None:
        job_id, version_id = part.job_id, part.version_id
        if part.log_file is None:
            names = self.client.list_log_files(job_id, version_id)
            part.log_file = next(iter(names), None)
        if part.log_file is not None:
            more = self.client.read_log(job_id, version_id, part.log_file, offset=len(part.log))
            part.log += more or b""

    def complaints(self) -> list[str]:
        """In which points it did not come as the story tells. None: all is well."""
        found = [
            f"{part.chapter.job_name} {part.version_name} should have ended {part.chapter.ends};"
            f" its status is {part.status}"
            + (f", its log ends: {part.last_line}" if part.log else "")
            for part in self.parts
            if not part.ended_as_told
        ]
        found += [
            f"{part.chapter.job_name} {part.version_name} completed, but its log tells no accuracy"
            for part in self.parts
            if part.ended_as_told and part.chapter.ends is Phase.COMPLETED and not part.accuracy
        ]
        if len(self.parts) < len(STORY):
            found.append(f"only {len(self.parts)} of {len(STORY)} jobs were submitted")
        if not self.queued_most:
            found.append("no job was seen in the queue, though there were more than nodes")
        expected = Counter(view_of(part.chapter.ends).statistics for part in self.parts)
        if not found and (counted := self._counted()) != expected:
            found.append(f"the statistics count {dict(counted)}, not {dict(expected)}")
        return found

    def _counted(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for item in self.client.pool_statistics(self.pool_id)["statistics"]["items"]:
            counted.update({state: count for state, count in item["status"].items() if count})
        return counted


def stop_everything(client: Client) -> None:
    """Stop every version that has not ended, and wait for it: jobs outlive their server."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    asked: set[int] = set()
    while time.monotonic() < deadline:
        live = [
            (job["job_id"], version["version_id"])
            for job in client.list_jobs(per_page=1000)["jobs"]
            for version in client.list_job_versions(job["job_id"])["versions"]
            if version["status"] not in _FINISHED_STATUSES
        ]
        if not live:
            return
        for job_id, version_id in live:
            if version_id not in asked:
                asked.add(version_id)
                _stop(client, job_id, version_id)
        time.sleep(LOOK_SECONDS)


def _stop(client: Client, job_id: int, version_id: int) -> None:
    try:
        client.stop_version(job_id, version_id)
    except ApiError as error:
        if error.status != 409:  # it has ended meanwhile, which is what was wanted
            raise


def write_digits(file: Path) -> None:
    """Put the digits of scikit-learn into a file for the jobs, as people bring their own data."""
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    np.savez_compressed(file, images=images.astype(np.uint8), labels=labels.astype(np.uint8))
