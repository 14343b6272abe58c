"""What one answer of Slurm says that the one before did not."""

from hypothesis import given
from hypothesis import strategies as st

from muster.engines.slurmcommands import parse_jobs
from muster.engines.slurmtable import JobTable

A, B = "muster-" + "a" * 32, "muster-" + "b" * 32


def text_of(*rows: tuple[str, str, str]) -> str:
    return "".join(f"{job_id}|{name}|{state}||None\n" for job_id, name, state in rows)


def test_the_same_answer_again_says_nothing_new() -> None:
    text = text_of(("1", A, "PENDING"), ("2", B, "RUNNING"))
    first = JobTable().after(text)

    second = first.after(text)

    assert first.changed == {A, B}
    assert second.changed == frozenset()
    assert second.by_name is first.by_name


def test_only_jobs_that_came_went_or_changed_are_new() -> None:
    before = JobTable().after(text_of(("1", A, "PENDING"), ("2", B, "RUNNING")))

    after = before.after(text_of(("1", A, "RUNNING"), ("2", B, "RUNNING")))
    gone = after.after(text_of(("2", B, "RUNNING")))

    assert after.changed == {A}
    assert [job.state for job in after.by_name[A]] == ["RUNNING"]
    assert [job.state for job in before.by_name[A]] == ["PENDING"]
    assert gone.changed == {A}
    assert A not in gone.by_name


def test_an_answer_concerns_those_that_it_says_something_new_of() -> None:
    table = JobTable().after(text_of(("1", A, "RUNNING"), ("2", B, "RUNNING")))
    after = table.after(text_of(("1", A, "COMPLETED"), ("2", B, "RUNNING")))

    assert after.concerns("a" * 32, A)
    assert not after.concerns("b" * 32, B)
    assert after.concerns("b" * 32, A)  # it runs on in the job of another one


def test_nodes_that_go_or_come_concern_everybody() -> None:
    text = text_of(("1", A, "RUNNING"))
    down = JobTable().after(text).after(text, frozenset({"n1"}))
    still_down = down.after(text, frozenset({"n1"}))

    assert down.concerns("a" * 32, A)
    assert not still_down.concerns("a" * 32, A)
    assert still_down.after(text).concerns("a" * 32, A)


ANSWERS = st.lists(
    st.lists(
        st.tuples(st.sampled_from("123"), st.sampled_from([A, B, "other"]), st.sampled_from("PR")),
        unique_by=lambda row: row[0],
    ),
    max_size=4,
)


@given(ANSWERS)
def test_a_table_has_what_the_last_answer_says_whatever_came_before(
    answers: list[list[tuple[str, str, str]]],
) -> None:
    table = JobTable()
    for rows in answers:
        table, before = table.after(text_of(*rows)), table

        jobs = parse_jobs(text_of(*rows).splitlines())
        assert sorted(map(repr, jobs)) == sorted(map(repr, sum(table.by_name.values(), ())))
        names = {*table.by_name, *before.by_name}
        different = {
            n for n in names if {*table.by_name.get(n, ())} != {*before.by_name.get(n, ())}
        }
        assert different == table.changed
