import json
from dataclasses import replace
from pathlib import Path

from muster.domain.placement import CardKind, TaskPlacement
from muster.engines.engine import Launch
from muster.engines.environment import rank_table, task_environment

FOLDER = Path("/jobs/1")
TWO_ON_GPUS = Launch(
    attempt_id="00000000000000000000000000000001",
    argv=("python", "train.py"),
    environment={"GREETING": "hello"},
    code=None,
    folder=FOLDER,
    tasks=(
        TaskPlacement(index=0, node_name="a", card_kind=CardKind.GPU, cards=(0, 1)),
        TaskPlacement(index=1, node_name="b", card_kind=CardKind.GPU, cards=(4, 5)),
    ),
)
ON_NPUS = replace(
    TWO_ON_GPUS, tasks=tuple(replace(task, card_kind=CardKind.NPU) for task in TWO_ON_GPUS.tasks)
)
ON_CPU = replace(TWO_ON_GPUS, tasks=(TaskPlacement(index=0, node_name="a"),))


def variables_of(launch: Launch, index: int) -> dict[str, str]:
    return task_environment(
        launch,
        launch.tasks[index],
        addresses=["10.0.0.1", "10.0.0.2"][: len(launch.tasks)],
        master_port=20001,
        path="/usr/bin",
        language="C.UTF-8",
    )


def test_a_task_finds_these_variables_and_no_others() -> None:
    assert variables_of(TWO_ON_GPUS, 1) == {
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "GREETING": "hello",
        "MA_JOB_DIR": "/jobs/1/task-1/code",
        "MA_LOG_DIR": "/jobs/1/logs",
        "MA_CURRENT_IP": "10.0.0.2",
        "MA_NUM_GPUS": "2",
        "MA_NUM_HOSTS": "2",
        "MA_TASK_NAME": "worker",
        "MA_CURRENT_INSTANCE_NAME": ("modelarts-job-00000000-0000-0000-0000-000000000001-worker-1"),
        "VC_TASK_INDEX": "1",
        "VC_WORKER_NUM": "2",
        "VC_WORKER_HOSTS": "10.0.0.1,10.0.0.2",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "20001",
        "NODE_RANK": "1",
        "NNODES": "2",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "4,5",
        "ASCEND_RT_VISIBLE_DEVICES": "",
        "HOME": "/jobs/1/task-1/home",
        "TMPDIR": "/jobs/1/task-1/tmp",
        "MUSTER_ATTEMPT": "00000000000000000000000000000001",
        "MUSTER_TASK": "1",
    }


def test_a_task_without_cards_sees_none() -> None:
    variables = variables_of(ON_CPU, 0)

    assert variables["CUDA_VISIBLE_DEVICES"] == ""
    assert variables["ASCEND_RT_VISIBLE_DEVICES"] == ""
    assert variables["MA_NUM_GPUS"] == "0"


def test_a_task_on_npus_sees_its_own_and_a_rank_table() -> None:
    variables = variables_of(ON_NPUS, 1)

    assert variables["CUDA_VISIBLE_DEVICES"] == ""
    assert variables["ASCEND_RT_VISIBLE_DEVICES"] == "4,5"
    assert variables["RANK_TABLE_FILE"] == "/jobs/1/rank_table.json"


def test_a_job_may_replace_what_is_proposed_but_not_what_is_so() -> None:
    greedy = {"PATH": "/opt/bin", "CUDA_VISIBLE_DEVICES": "0,1,2,3", "MUSTER_ATTEMPT": "other"}

    variables = variables_of(replace(TWO_ON_GPUS, environment=greedy), 1)

    assert variables["PATH"] == "/opt/bin"
    assert variables["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert variables["MUSTER_ATTEMPT"] == TWO_ON_GPUS.attempt_id


def test_the_rank_table_ranks_the_cards_of_all_tasks() -> None:
    table = json.loads(
        rank_table(
            ON_NPUS,
            addresses=["10.0.0.1", "10.0.0.2"],
            device_addresses={("10.0.0.1", 0): "192.168.0.9"},
        )
    )

    assert table == {
        "version": "1.0",
        "status": "completed",
        "server_count": "2",
        "server_list": [
            {
                "server_id": "10.0.0.1",
                "device": [
                    {"device_id": "0", "rank_id": "0", "device_ip": "192.168.0.9"},
                    {"device_id": "1", "rank_id": "1"},
                ],
            },
            {
                "server_id": "10.0.0.2",
                "device": [
                    {"device_id": "4", "rank_id": "2"},
                    {"device_id": "5", "rank_id": "3"},
                ],
            },
        ],
    }


def test_tasks_on_one_machine_share_one_server_of_the_rank_table() -> None:
    table = json.loads(rank_table(ON_NPUS, addresses=["127.0.0.1", "127.0.0.1"]))

    (server,) = table["server_list"]
    assert [device["device_id"] for device in server["device"]] == ["0", "1", "4", "5"]
