"""The command line that a task runs."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.command import Run, command_line

RUN: Final = Run(job_name="digits", interpreter="/usr/bin/python3", boot_file="src/train.py")
DATA: Final = Path("/srv/objects/data/digits")
OUTPUT: Final = Path("/srv/jobs/1/output")


def test_a_boot_file_is_run_by_its_interpreter() -> None:
    assert command_line(RUN, data=None, output=OUTPUT) == ("/usr/bin/python3", "src/train.py")


def test_paths_come_first_then_the_parameters_in_the_order_given() -> None:
    run = replace(RUN, train_url="/out/", parameters=(("z", "1"), ("a", "2"), ("z", "3")))

    assert command_line(run, data=DATA, output=OUTPUT)[2:] == (
        f"--data_url={DATA}",
        f"--train_url={OUTPUT}",
        "--z=1",
        "--a=2",
        "--z=3",
    )


@given(st.lists(st.tuples(st.text(min_size=1), st.text())).map(tuple))
def test_whatever_a_user_writes_is_one_whole_argument(
    parameters: tuple[tuple[str, str], ...],
) -> None:
    run = replace(RUN, parameters=parameters)

    argv = command_line(run, data=None, output=OUTPUT)

    assert argv[2:] == tuple(f"--{label}={value}" for label, value in parameters)


def test_named_channels_stand_between_the_paths_and_the_parameters() -> None:
    run = replace(RUN, train_url="/out/", parameters=(("rate", "1"),))

    argv = command_line(
        run, data=None, output=OUTPUT, channels={"left": DATA, "model": OUTPUT / "model"}
    )

    assert argv[2:] == (
        f"--train_url={OUTPUT}",
        f"--left={DATA}",
        f"--model={OUTPUT / 'model'}",
        "--rate=1",
    )
