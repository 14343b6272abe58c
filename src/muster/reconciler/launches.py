"""What an engine is told to start: what was asked for, as paths and a command line."""

from collections.abc import Callable
from pathlib import Path

from muster.domain.command import Run, command_line
from muster.domain.errors import EngineRefused
from muster.domain.jobfolder import channel_folder, output_folder
from muster.domain.program import Program
from muster.domain.training import Access
from muster.domain.workload import Workload
from muster.engines.engine import Launch
from muster.objects.store import ObjectStore
from muster.reconciler.channels import Inputs
from muster.serving.batch import share_of
from muster.store import pool_nodes
from muster.store.connection import Connection


def prepare_program(
    workload: Workload, program: Program, inputs: Inputs, folder: Path, objects: ObjectStore
) -> Launch:
    assert workload.attempt_id is not None
    output_names = tuple(channel.name for channel in program.outputs)
    channels = inputs.channels | {name: channel_folder(folder, name) for name in output_names}
    return Launch(
        attempt_id=workload.attempt_id,
        argv=program.argv,
        environment={
            **program.environment,
            **{name: str(path) for name, path in channels.items()},
        },
        code=None if program.code is None else objects.snapshot_folder(program.code),
        folder=folder,
        work_folder=None if program.folder is None else Path(program.folder),
        serves=True,
        reads=(*map(Path, program.reads), *inputs.channels.values()),
        writes=tuple(map(Path, program.writes)),
        output_names=output_names,
        interpreters=program.interpreters,
        before=program.before,
        project_id=workload.project_id,
        tasks=workload.placements,
        partition=workload.partition,
        task=workload.task,
        time_limit_ms=workload.time_limit_ms,
        priority=workload.priority,
    )


def prepare_run(
    workload: Workload, run: Run, inputs: Inputs, folder: Path, objects: ObjectStore
) -> Launch:
    """Turn what was asked for into paths and a command line.

    Raises:
        EngineRefused: it asks for something that this server does not have.
    """
    if run.user_image_url:
        raise EngineRefused(
            f"It asks for the image {run.user_image_url!r}: this muster runs no images yet."
            " Give app_url and boot_file_url instead."
        )
    if run.has_volumes:
        raise EngineRefused("It asks for volumes: this muster mounts none.")
    assert run.code is not None
    assert workload.attempt_id is not None
    paths = inputs.channels | {
        channel.name: channel_folder(folder, channel.name) for channel in run.outputs
    }
    return Launch(
        attempt_id=workload.attempt_id,
        argv=command_line(
            run,
            data=inputs.data,
            output=output_folder(folder),
            channels={
                channel.name: paths[channel.name]
                for channel in (*run.inputs, *run.outputs)
                if channel.access is Access.PARAMETER
            },
        ),
        environment={
            **run.environments,
            **{
                channel.name: str(paths[channel.name])
                for channel in (*run.inputs, *run.outputs)
                if channel.access is Access.ENVIRONMENT
            },
        },
        code=objects.snapshot_folder(run.code),
        folder=folder,
        reads=tuple(filter(None, (inputs.data, *inputs.channels.values()))),
        interpreters=() if run.interpreter is None else (run.interpreter,),
        project_id=workload.project_id,
        tasks=workload.placements,
        output_names=tuple(channel.name for channel in run.outputs),
        partition=workload.partition,
        task=workload.task,
        time_limit_ms=workload.time_limit_ms,
        priority=workload.priority,
    )


def moved_of(run: Run | Program) -> Run:
    """What of it names objects that are brought and stored."""
    return channels_of(run) if isinstance(run, Program) else run


def channels_of(program: Program) -> Run:
    """A run that has what is brought for a program and stored of it, and nothing else."""
    return Run(job_name=program.name, inputs=program.inputs, outputs=program.outputs)


def share_of_inputs(run: Run | Program) -> Callable[[str], bool] | None:
    """Which of the files of its inputs it needs; None: all of them."""
    if not isinstance(run, Program) or run.share is None:
        return None
    index, count = run.share
    return lambda path: share_of(path, count) == index


def read_host_names(connection: Connection, workload: Workload) -> tuple[str, ...]:
    """The host of each task's node; none where a node has left its pool meanwhile."""
    names = {placement.node_name for placement in workload.placements}
    nodes = {name: pool_nodes.find_node(connection, workload.partition, name) for name in names}
    hosts = {name: node.host_name for name, node in nodes.items() if node is not None}
    if len(hosts) < len(names):
        return ()
    return tuple(hosts[placement.node_name] for placement in workload.placements)
