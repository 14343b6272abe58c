"""What a task finds in its environment. Pure: a launch and a placement in, variables out.

Source: the table of preset environment variables of a ModelArts training container; the rank table
file, version 1.0, of the Ascend collective communication library; torchrun(1).
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from muster.domain.jobfolder import code_folder, log_file, task_folder
from muster.domain.placement import CardKind, TaskPlacement
from muster.engines.engine import Launch

ATTEMPT_MARKER: Final = "MUSTER_ATTEMPT"
TASK_MARKER: Final = "MUSTER_TASK"


def task_environment(
    launch: Launch,
    task: TaskPlacement,
    *,
    addresses: Sequence[str],
    master_port: int,
    path: str,
    language: str,
) -> dict[str, str]:
    """Every variable of one task. Nothing of the server's own environment is in it.

    A job may replace what the platform merely proposes (PATH, LANG, buffering), but not what tells
    the tasks apart, nor the cards it may use.

    Args:
        launch: the attempt.
        task: the one of its tasks that this is for.
        addresses: where each task runs, by index.
        master_port: a port on the first address that nobody else uses.
        path: where programs are looked for on the task's machine.
        language: the locale there.
    """
    return {
        "PATH": path,
        "LANG": language,
        "PYTHONUNBUFFERED": "1",  # so that the log shows a line when it is written
        **launch.environment,
        **_identity(launch, task, addresses),
        **_rendezvous(launch, task, addresses, master_port),
        **_visible_cards(task),
        **({RANK_TABLE: str(rank_table_file(launch.folder))} if has_npus(launch) else {}),
        "HOME": str(home_folder(launch.folder, task.index)),
        "TMPDIR": str(temporary_folder(launch.folder, task.index)),
        **markers(launch.attempt_id, task.index),
    }


def _identity(launch: Launch, task: TaskPlacement, addresses: Sequence[str]) -> dict[str, str]:
    return {
        "MA_JOB_DIR": str(work_folder(launch, task.index)),
        "MA_LOG_DIR": str(log_file(launch.folder, task.index).parent),
        "MA_CURRENT_IP": addresses[task.index],
        "MA_NUM_GPUS": str(len(task.cards)),
        "MA_NUM_HOSTS": str(len(launch.tasks)),
        "MA_TASK_NAME": "worker",
        "MA_CURRENT_INSTANCE_NAME": instance_name(launch.attempt_id, task.index),
        "VC_TASK_INDEX": str(task.index),
        "VC_WORKER_NUM": str(len(launch.tasks)),
        "VC_WORKER_HOSTS": ",".join(addresses),
    }


def instance_name(attempt_id: str, task_index: int) -> str:
    return f"modelarts-job-{uuid.UUID(attempt_id)}-worker-{task_index}"


def _rendezvous(
    launch: Launch, task: TaskPlacement, addresses: Sequence[str], master_port: int
) -> dict[str, str]:
    return {
        "MASTER_ADDR": addresses[0],
        "MASTER_PORT": str(master_port),
        "NODE_RANK": str(task.index),
        "NNODES": str(len(launch.tasks)),
    }


def _visible_cards(task: TaskPlacement) -> dict[str, str]:
    """Only its own cards. Set to nothing rather than not set: unset shows all of them."""
    cards = ",".join(str(card) for card in task.cards)
    return {
        # NVML counts cards in bus order, CUDA by default the fastest first.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": cards if task.card_kind is CardKind.GPU else "",
        "ASCEND_RT_VISIBLE_DEVICES": cards if task.card_kind is CardKind.NPU else "",
    }


def markers(attempt_id: str, task_index: int) -> dict[str, str]:
    """By these a process is still found when the shim that watched over it is gone."""
    return {ATTEMPT_MARKER: attempt_id, TASK_MARKER: str(task_index)}


def work_folder(launch: Launch, task_index: int) -> Path:
    """Where a task's program begins."""
    return launch.work_folder or code_folder(launch.folder, task_index)


def home_folder(folder: Path, task_index: int) -> Path:
    return task_folder(folder, task_index) / "home"


def temporary_folder(folder: Path, task_index: int) -> Path:
    # Short: a socket's path ends at 107 characters, and Python's multiprocessing adds 31.
    return task_folder(folder, task_index) / "tmp"


def setup_folder(folder: Path, task_index: int) -> Path:
    """The home of what the platform itself does before the task's own command."""
    return task_folder(folder, task_index) / "setup"


RANK_TABLE: Final = "RANK_TABLE_FILE"


def rank_table_file(folder: Path) -> Path:
    return folder / "rank_table.json"


def has_npus(launch: Launch) -> bool:
    return any(task.card_kind is CardKind.NPU for task in launch.tasks)


def rank_table(
    launch: Launch,
    *,
    addresses: Sequence[str],
    device_addresses: Mapping[tuple[str, int], str] | None = None,
) -> str:
    """The rank table of an attempt with NPUs: every card of every task, ranked by task, then card.

    Args:
        launch: the attempt.
        addresses: where each task runs, by index.
        device_addresses: by (address, card), the address of the card in the network of the cards.
            Left out, the table serves cards within one machine.
    """
    device_addresses = device_addresses or {}
    servers: dict[str, list[dict[str, str]]] = {}
    ranks = 0
    for task in sorted(launch.tasks, key=lambda task: task.index):
        address = addresses[task.index]
        for card in task.cards:
            device = {"device_id": str(card), "rank_id": str(ranks)}
            if (address, card) in device_addresses:
                device["device_ip"] = device_addresses[address, card]
            servers.setdefault(address, []).append(device)
            ranks += 1
    table = {
        "version": "1.0",
        "status": "completed",
        "server_count": str(len(servers)),
        "server_list": [
            {"server_id": address, "device": devices} for address, devices in servers.items()
        ],
    }
    return json.dumps(table, indent=1)
