"""What the files of an attempt come to, look after look."""

from pathlib import Path

from muster.domain.jobfolder import task_folder
from muster.engines import shim, slurmjob
from muster.engines.slurmfiles import JobEnd, JobFiles, read_files, read_many, read_more, write_end

END = JobEnd(state="NODE_FAIL", at_ms=9, message="Slurm ended the job: NODE_FAIL.")


def begin(folder: Path, job_id: str = "7") -> Path:
    """A job of Slurm's has the attempt, and its one task is up."""
    task = task_folder(folder, 0)
    task.mkdir(parents=True)
    shim.claim(str(folder), {"job_id": job_id}, slurmjob.CLAIM_FILE)
    shim.claim(str(task), {"pid": 1, "started_at_ms": 5})
    return task


def test_a_look_that_finds_nothing_new_gives_back_what_was_known(tmp_path: Path) -> None:
    begin(tmp_path)
    known = read_files(tmp_path, 1)
    assert known.has_begun

    assert read_more(tmp_path, known, 1) is known


def test_a_result_that_has_come_is_found_by_the_next_look(tmp_path: Path) -> None:
    task = begin(tmp_path)
    known = read_files(tmp_path, 1)
    result = {"exit_code": 3, "was_stopped": False, "message": ""}
    shim.write_result(str(task), {**result, "started_at_ms": 5, "ended_at_ms": 6})

    seen = read_more(tmp_path, known, 1)

    assert seen.is_complete
    assert [task.result.exit_code for task in seen.tasks if task.result] == [3]
    assert read_more(tmp_path, seen, 1) is seen


def test_what_nobody_has_claimed_has_not_begun(tmp_path: Path) -> None:
    known = JobFiles()

    assert read_more(tmp_path, known, 1) is known


def test_an_end_keeps_what_has_not_begun_from_it(tmp_path: Path) -> None:
    assert write_end(tmp_path, END, has_begun=False)

    assert not shim.claim(str(tmp_path), {"job_id": "7"}, slurmjob.CLAIM_FILE)
    seen = read_files(tmp_path, 1)
    assert (seen.has_begun, seen.end) == (False, END)


def test_an_end_that_a_server_did_not_get_to_write_is_written_by_the_next(tmp_path: Path) -> None:
    shim.claim(str(tmp_path), {"ended_at_ms": 9}, slurmjob.CLAIM_FILE)

    assert write_end(tmp_path, END, has_begun=False)

    assert read_files(tmp_path, 1).end == END


def test_what_has_begun_meanwhile_is_not_ended(tmp_path: Path) -> None:
    begin(tmp_path)

    assert not write_end(tmp_path, END, has_begun=False)

    assert read_files(tmp_path, 1).end is None


def test_one_folder_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    begin(tmp_path / "good")
    too_long = tmp_path / ("x" * 300)

    broken, good = read_many([(too_long, JobFiles(), 1), (tmp_path / "good", JobFiles(), 1)])

    assert isinstance(broken, OSError)
    assert isinstance(good, JobFiles)
    assert good.has_begun
