"""What Slurm tells of all jobs, answer after answer. What it says again costs next to nothing.

Of ten thousand jobs that wait or run, an answer says something new of a few: the others' lines are
the same to the letter, and neither read nor looked at a second time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from muster.engines.slurmcommands import SlurmJob, name_of, parse_jobs


@dataclass(frozen=True, slots=True)
class JobTable:
    """All jobs of ours as Slurm told of them in one answer."""

    lines: frozenset[str] = frozenset()
    by_name: Mapping[str, tuple[SlurmJob, ...]] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()  # names of which the answer before said something else
    away: frozenset[str] = frozenset()  # nodes that took no work then
    is_elsewhere: bool = False  # other nodes did before: that may concern every job

    def concerns(self, attempt_id: str, job_name: str) -> bool:
        """Whether it says something new of an attempt, or of the job that runs it."""
        changed = self.changed
        return self.is_elsewhere or (
            bool(changed) and (name_of(attempt_id) in changed or job_name in changed)
        )

    def after(self, text: str, away: frozenset[str] = frozenset()) -> "JobTable":
        """As it is by a further answer. This one stays as it is.

        Args:
            text: what `squeue` has printed.
            away: nodes that take no work.
        """
        lines = frozenset(text.splitlines())
        is_elsewhere = away != self.away
        came, went = parse_jobs(lines - self.lines), set(parse_jobs(self.lines - lines))
        if not came and not went:
            return JobTable(lines, self.by_name, frozenset(), away, is_elsewhere)
        by_name = dict(self.by_name)
        for name in {job.name for job in went}:
            by_name[name] = tuple(job for job in by_name[name] if job not in went)
        for job in came:
            by_name[job.name] = (*by_name.get(job.name, ()), job)
        changed = frozenset(job.name for job in (*came, *went))
        for name in changed:
            if not by_name[name]:
                del by_name[name]
        return JobTable(lines, by_name, changed, away, is_elsewhere)
