"""Which Slurm jobs may run further attempts, and how one is handed over."""

from pathlib import Path

from muster.engines import slurmreuse
from muster.engines.slurmreuse import SpareJobs, hand_over, kind_of


def test_only_what_names_the_attempt_is_no_part_of_its_kind() -> None:
    submit = [
        "--job-name=muster-1",
        "--comment=muster:1",
        "--chdir=/j/1",
        "--output=/j/1/slurm.log",
    ]

    asked = ["--nodes=1", "--mem=5M", "--nodelist=n1"]

    assert kind_of([*submit, *asked, "/j/1/slurm-batch.sh"]) == "--nodes=1 --mem=5M --nodelist=n1"


def test_the_job_that_waits_longest_is_taken_first_and_only_once() -> None:
    spare = SpareJobs()
    spare.add("a", "earlier", 10.0)
    spare.add("a", "later", 10.5)

    taken = [spare.take(kind, 10.6) for kind in ("b", "a", "a", "a")]

    assert taken == [None, "later", "earlier", None]


def test_a_job_that_waits_no_more_is_not_taken() -> None:
    spare = SpareJobs()
    spare.add("a", "earlier", 10.0)

    assert spare.take("a", 10.0 + slurmreuse.WAIT_SECONDS + 0.1) is None


def test_a_job_takes_one_attempt_and_none_once_it_has_said_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "slurm-next.json").write_text("{}")

    taken = [hand_over(tmp_path, "next", to_job_of=name) for name in ("a", "a", "b", "gone")]

    assert taken == [True, False, False, False]
