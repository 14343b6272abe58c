"""Training jobs as JSON, for lists. One that has ended is rendered once: it changes no more.

Building the nested view of a job takes ten times as long as reading its row, and most of what a
list shows has ended. What can still change is in the row, and the row is the key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from muster.api.training_v2.views import job_view
from muster.domain.catalogue import Catalogue
from muster.store.listing import TrainingRow
from muster.store.workloads import PastAttempt
from muster.wire import training_v2 as shapes

RENDERED_MAX: Final = 4_096  # each is about 2 KB

_ENCODER: Final = msgspec.json.Encoder()
_NO_ITEMS: Final = b'"items":[]}'


@dataclass(slots=True)
class RenderedJobs:
    """Remembers the JSON of ended jobs. In the event loop only."""

    catalogue: Catalogue
    _known: dict[TrainingRow, bytes] = field(default_factory=dict)

    def render(self, row: TrainingRow, past: Sequence[PastAttempt]) -> bytes:
        """The JSON of `job_view`."""
        if row.ended_at_ms is None or past:
            return _ENCODER.encode(job_view(row, self.catalogue, past))
        known = self._known.get(row)
        if known is None:
            known = _ENCODER.encode(job_view(row, self.catalogue))
            if len(self._known) >= RENDERED_MAX:
                self._known.clear()
            self._known[row] = known
        return known


def json_of_list(page: shapes.TrainingJobList, items: Sequence[bytes]) -> bytes:
    """The JSON of the page, without items of its own, with these in their place."""
    head = _ENCODER.encode(page)
    assert head.endswith(_NO_ITEMS), "the items come last"
    return b"%s%s]}" % (head[:-2], b",".join(items))
