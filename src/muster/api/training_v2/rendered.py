"""Training jobs as JSON, for lists. Each state of one is rendered once.

Building the nested view of a job takes ten times as long as reading its row. What it shows is in
the row, and the row is the key; only the duration of one that runs changes by itself, and is put
in where it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from muster.api.training_v2.views import job_view
from muster.domain.catalogue import Catalogue
from muster.store.timeline import PastAttempt
from muster.store.training_listing import TrainingRow
from muster.wire import training_v2 as shapes

RENDERED_MAX: Final = 4_096  # each is about 2 KB

_ENCODER: Final = msgspec.json.Encoder()
_NO_ITEMS: Final = b'"items":[]}'

# Two durations that differ in each of their digits: where two renderings differ, it stands.
_ONE_MS: Final = 1_111_111_111_111
_OTHER_MS: Final = 2_222_222_222_222
_DIGITS: Final = len(str(_ONE_MS))


class _Running(NamedTuple):
    before: bytes
    after: bytes  # what stands around the duration

    def render(self, duration_ms: int) -> bytes:
        return b"%s%d%s" % (self.before, duration_ms, self.after)


@dataclass(slots=True)
class RenderedJobs:
    """Remembers the JSON of jobs. In the event loop only."""

    catalogue: Catalogue
    _known: dict[tuple[TrainingRow, tuple[PastAttempt, ...]], bytes | _Running] = field(
        default_factory=dict
    )

    def render(self, row: TrainingRow, past: Sequence[PastAttempt], now_ms: int) -> bytes:
        """The JSON of `job_view`.

        Args:
            row: of a list, and so as at the moment 0.
            past: its attempts before the latest.
            now_ms: until when one that runs has run.
        """
        is_running = (row.duration_ms or 0) < 0  # it began after the moment 0
        key = (row, tuple(past))
        known = self._known.get(key)
        if known is None:
            known = self._running(row, past) if is_running else self._encode(row, past)
            if len(self._known) >= RENDERED_MAX:
                self._known.clear()
            self._known[key] = known
        if isinstance(known, bytes):
            return known
        assert row.duration_ms is not None
        return known.render(max(0, now_ms + row.duration_ms))

    def _running(self, row: TrainingRow, past: Sequence[PastAttempt]) -> _Running:
        one = self._encode(row._replace(duration_ms=_ONE_MS), past)
        other = self._encode(row._replace(duration_ms=_OTHER_MS), past)
        at = next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        return _Running(one[:at], one[at + _DIGITS :])

    def _encode(self, row: TrainingRow, past: Sequence[PastAttempt]) -> bytes:
        return _ENCODER.encode(job_view(row, self.catalogue, past))


def json_of_list(page: shapes.TrainingJobList, items: Sequence[bytes]) -> bytes:
    """The JSON of the page, without items of its own, with these in their place."""
    head = _ENCODER.encode(page)
    assert head.endswith(_NO_ITEMS), "the items come last"
    return b"%s%s]}" % (head[:-2], b",".join(items))
