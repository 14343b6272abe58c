"""What a training workload is to run, and the command line that comes of it.

Source: the boot file contract of the v1 training API: `--data_url`, `--train_url`, then each
hyperparameter as `--LABEL=VALUE`. The named inputs and outputs of the v2 training API stand between
them, as `--NAME=FOLDER`, or in the environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from muster.domain.training import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was asked for, with everything resolved that may change later."""

    job_name: str
    interpreter: str | None = None
    code: str | None = None  # digest of the snapshot taken at submit
    boot_file: str | None = None  # relative to the code folder
    parameters: tuple[tuple[str, str], ...] = ()  # (label, value), in the order given
    data_url: str | None = None
    train_url: str | None = None
    log_url: str | None = None
    user_image_url: str | None = None
    user_command: str | None = None
    has_volumes: bool = False
    inputs: tuple[Channel, ...] = ()
    outputs: tuple[Channel, ...] = ()
    environments: dict[str, str] = field(default_factory=dict)


def command_line(
    run: Run, *, data: Path | None, output: Path, channels: Mapping[str, Path] | None = None
) -> tuple[str, ...]:
    """The argv of every task. User text becomes whole arguments, never a piece of shell.

    Args:
        run: of a workload that runs a boot file.
        data: the local folder that `data_url` names, if it was given.
        output: the local folder whose content is stored under `train_url`.
        channels: the local path of each input and output that goes into an argument, by name.
    """
    assert run.interpreter is not None
    assert run.boot_file is not None
    argv = [run.interpreter, run.boot_file]
    if data is not None:
        argv.append(f"--data_url={data}")
    if run.train_url:
        argv.append(f"--train_url={output}")
    argv.extend(f"--{name}={path}" for name, path in (channels or {}).items())
    return (*argv, *(f"--{label}={value}" for label, value in run.parameters))
