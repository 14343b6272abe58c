"""Where things lie inside the folder of one attempt. Both engines and the platform read it so.

FOLDER/output/              what the tasks write under train_url; shared by all of them
FOLDER/outputs/NAME/        what they write to the output NAME (v2); likewise
FOLDER/fetched/data/        what data_url names, where it had to be fetched; gone at the end
FOLDER/fetched/inputs/NAME/ what the input NAME (v2) names; likewise
FOLDER/logs/task-0.log      standard output and error of task 0, byte for byte
FOLDER/task-0/code/         the working directory of task 0: its own copy of the code
FOLDER/task-0/endpoint.json where task 0 answers requests, if it serves: {"host", "port"}
FOLDER/task-0/...           what the engine keeps about task 0
"""

from pathlib import Path


def output_folder(folder: Path) -> Path:
    return folder / "output"


def channel_folder(folder: Path, name: str) -> Path:
    return folder / "outputs" / name


def fetched_folder(folder: Path) -> Path:
    return folder / "fetched"


def data_folder(folder: Path) -> Path:
    return fetched_folder(folder) / "data"


def input_folder(folder: Path, name: str) -> Path:
    return fetched_folder(folder) / "inputs" / name


def log_file(folder: Path, task_index: int) -> Path:
    return folder / "logs" / f"task-{task_index}.log"


def task_folder(folder: Path, task_index: int) -> Path:
    return folder / f"task-{task_index}"


def endpoint_file(folder: Path, task_index: int) -> Path:
    """Written before the program starts: it may not listen yet."""
    return task_folder(folder, task_index) / "endpoint.json"


def code_folder(folder: Path, task_index: int) -> Path:
    return task_folder(folder, task_index) / "code"
