"""Which commits have changed the lists of which project, so that other answers are kept."""

from collections.abc import Set
from typing import Final

PROJECTS_REMEMBERED_MAX: Final = 10_000


class ListChanges:
    """The last commit that changed the lists of each project, by its number.

    The writer's thread notes, before the commit is counted; whoever reads asks.
    """

    def __init__(self) -> None:
        self._of_all = 0
        self._of: dict[str, int] = {}

    def note(self, commit: int, project_ids: Set[str] | None) -> None:
        """`project_ids` None: of whichever project."""
        if project_ids is None or len(self._of) + len(project_ids) > PROJECTS_REMEMBERED_MAX:
            self._of_all = commit
            self._of.clear()
        else:
            self._of.update(dict.fromkeys(project_ids, commit))

    def last(self, project_id: str) -> int:
        return max(self._of.get(project_id, 0), self._of_all)
