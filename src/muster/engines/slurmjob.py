"""What runs inside a Slurm job: brings one shim a task up, and tells each what only it can know.

    main(["batch", JOB_FOLDER])      the batch script, once a job
    main(["node", JOB_FOLDER])       by srun, once a node of several

On one node the batch script is the node's agent, too: a step of its own would cost the controller
two more calls, and the job a tenth of a second and more. For the same reason nothing is asked that
the server wrote down, or that the environment tells.

Slurm may start a job twice, and a submit whose answer was lost may be made again. So the batch
script first claims the attempt, by an atomic link in the job folder: whoever comes second ends.

This file imports nothing of muster but `shim.py`, which lies beside it: it runs where only the
standard library and the shared folder are. What it and the engine keep in a job folder:

    slurm.json           what was submitted; written before the submit
    slurm-claim.json     which job runs the attempt, or that none ever may; made only once
    slurm-nodes.json     where each task is, and which cards it may use; written by the batch script
    slurm-end.json       how Slurm ended the job, once it has; written by the engine
    slurm-devices-NODE.json   the network addresses of the NPUs of a node; written by its agent
    task-N/gone.json     its shim has ended without a result
    task-N/usage.json    what its processes use, every few seconds

Source: sbatch(1), srun(1), scontrol(1), Slurm 22.05; proc_pid_stat(5), Linux man-pages 6.03; the
file of network addresses, /etc/hccn.conf, of the Ascend drivers.
"""

# pathlib takes as long to import as half of the rest together.
# ruff: noqa: PTH100, PTH110, PTH120, PTH123, S603

import _socket  # what socket is made of, in a tenth of the time
import contextlib
import json
import os
import re
import signal
import sys
import time

TYPE_CHECKING = False  # typing itself takes a tenth of the start
if TYPE_CHECKING:
    from typing import Any

try:
    from muster.engines import shim
except ImportError:  # on a node: without muster
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import shim  # type: ignore[no-redef, import-not-found]

Json = dict[str, "Any"]  # what a state file holds

PLAN_FILE = "slurm.json"
CLAIM_FILE = "slurm-claim.json"
NODES_FILE = "slurm-nodes.json"
END_FILE = "slurm-end.json"
GONE_FILE = "gone.json"
USAGE_FILE = "usage.json"
DEVICES_FILE = "slurm-devices-{node}.json"

LOOK_SECONDS = 0.25  # between two looks for a wish to stop
FIRST_USAGE_SECONDS = 1.0  # a task that ends before is not worth a look at every process
DEVICES_SECONDS = 60.0  # for the other nodes to tell the addresses of their NPUs
DEVICES_AGAIN_SECONDS = 0.05
COMMAND_TIMEOUT_SECONDS = 30
COMMAND_TRIES = 20  # a controller that is being restarted is waited for
COMMAND_AGAIN_SECONDS = 3.0
# Below the range from which the kernel hands out ports by itself (32768 to 60999).
MASTER_PORTS = range(20_000, 32_000)

# Fields 14 to 17 and 24 of /proc/PID/stat, counted from the one after the name.
_TIMES = slice(11, 15)
_REAPED_TIMES = slice(13, 15)
_RESIDENT = 21

# Patterns are compiled where they are used: few jobs need them, and all would wait for it.
_DEVICE_ADDRESS = r"(?m)^\s*address_(\d+)\s*=\s*(\S+)\s*$"
_GRES = r"(gpu|npu)(?::[^:,()]+)?:\d+\(IDX:([0-9,-]+)\)"


def main(arguments: list[str]) -> None:
    what, folder = arguments
    if what == "batch":
        run_batch(folder)
    else:
        run_node(folder, os.environ["SLURMD_NODENAME"])


def command_line(python: str, programs: object, what: str, folder: object) -> list[str]:
    """How to run this file, which lies in the folder `programs`, on a node.

    As a module: Python compiles a script anew at every start, which takes longer than the start.
    What is imported is no garbage: to look for some takes an eighth of the time.
    """
    code = (
        f"import gc, sys; gc.disable(); sys.path.insert(0, {str(programs)!r}); "
        "import slurmjob as j; gc.enable(); j.main(sys.argv[1:])"
    )
    return [python, "-I", "-S", "-c", code, what, str(folder)]


def run_batch(folder: str) -> None:
    """Claim the attempt, find out where its tasks are, and have an agent run them on each node."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # Slurm ends the agents, and waits for them
    job_id = os.environ["SLURM_JOB_ID"]
    content = {"job_id": job_id, "claimed_at_ms": shim.now_ms()}
    if not shim.claim(folder, content, CLAIM_FILE):
        return
    plan = read_json(f"{folder}/{PLAN_FILE}")
    names = find_names(plan, os.environ["SLURM_JOB_NODELIST"])
    layout = lay_out(plan, names, find_addresses(plan, names), find_cards(plan, names, job_id))
    layout["master_port"] = find_free_port(int(plan["attempt_id"][:8], 16))
    shim.write_json(f"{folder}/{NODES_FILE}", layout)
    if len(names) == 1:
        run_node(folder, names[0])
    else:
        run_agents(folder, plan, len(names))


def run_agents(folder: str, plan: Json, node_count: int) -> None:
    import subprocess  # it takes a third of the start, and few jobs need it

    command = [
        "srun",
        f"--nodes={node_count}",
        f"--ntasks={node_count}",
        "--ntasks-per-node=1",
        *plan["step_options"],  # 22.05 and later: a step does not inherit its CPUs
        "--cpu-bind=none",
        "--mpi=none",
        "--kill-on-bad-exit=0",
        "--wait=0",
        *command_line(sys.executable, os.path.dirname(os.path.abspath(__file__)), "node", folder),
    ]
    # Its own exit code says nothing: what became of each task lies in its folder.
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL)


def find_names(plan: Json, node_list: str) -> list[str]:
    """The nodes of this job."""
    asked_for = [group["host"] for group in plan["groups"]]
    if all(asked_for):
        return asked_for
    if not set("[,") & set(node_list):
        return [node_list]
    return run_command("scontrol", "show", "hostnames", node_list).split()


def find_addresses(plan: Json, names: list[str]) -> dict[str, str]:
    known = plan["addresses"]
    if all(name in known for name in names):
        return {name: resolve(known[name]) for name in names}
    return parse_addresses(run_command("scontrol", "show", "node", "-o", ",".join(names)))


def find_cards(plan: Json, names: list[str], job_id: str) -> dict[str, dict[str, list[int]]]:
    """The numbers of the cards that Slurm gave the job, by node, then kind."""
    if not plan["cards_per_task"]:
        return {}
    given = os.environ.get("SLURM_JOB_GPUS", "")
    if plan["card_kind"] == "gpu" and len(names) == 1 and re.fullmatch(r"[0-9,-]+", given):
        return {names[0]: {"gpu": expand(given)}}
    details = run_command("scontrol", "show", "job", "-d", job_id)
    cards = {}
    for nodes, found in parse_cards(details):
        several = set("[,") & set(nodes)
        for name in (
            run_command("scontrol", "show", "hostnames", nodes).split() if several else [nodes]
        ):
            cards[name] = found
    return cards


def run_command(*command: str) -> str:
    """What a command of Slurm says. One that fails is tried again for a while."""
    import subprocess  # as above

    for left in reversed(range(COMMAND_TRIES)):
        try:
            return subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_SECONDS,
            ).stdout
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{' '.join(command)}: {error}", file=sys.stderr)  # noqa: T201 - slurm.log
            if not left:
                raise
        time.sleep(COMMAND_AGAIN_SECONDS)
    raise AssertionError


def parse_addresses(text: str) -> dict[str, str]:
    """The address of each node in `scontrol show node -o`."""
    found = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "NodeName" in fields:
            name = fields["NodeName"]
            found[name] = resolve(fields.get("NodeAddr") or name)
    return found


def resolve(name: str) -> str:
    try:
        return _socket.gethostbyname(name)
    except OSError:
        return name  # better the name than nothing: other nodes may know it


def parse_cards(text: str) -> list[tuple[str, dict[str, list[int]]]]:
    """(nodes, cards by kind) of each group of nodes in `scontrol show job -d`."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s+Nodes=(\S+) .*GRES=(\S*)", line)
        if match:
            gres = {kind: expand(numbers) for kind, numbers in re.findall(_GRES, match[2])}
            found.append((match[1], gres))
    return found


def expand(numbers: str) -> list[int]:
    """`0-1,4` is 0, 1 and 4."""
    cards: list[int] = []
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        cards += range(int(first), int(last or first) + 1)
    return cards


def lay_out(
    plan: Json,
    names: list[str],
    addresses: dict[str, str],
    cards: dict[str, dict[str, list[int]]],
) -> Json:
    """Give each group of tasks its node, and each task its address and its cards.

    Args:
        plan: what was submitted.
        names: the nodes of the job, in the order of their ids.
        addresses: by node.
        cards: by node, then kind; only what Slurm numbers.
    """
    free = [name for name in names if name not in {group["host"] for group in plan["groups"]}]
    tasks = {}
    for group in plan["groups"]:
        name = group["host"] if group["host"] in names else free.pop(0)
        numbers = cards.get(name, {}).get(plan["card_kind"], [])
        width = plan["cards_per_task"]
        for place, index in enumerate(group["tasks"]):
            tasks[str(index)] = {
                "node": name,
                "address": addresses.get(name, name),
                "place": place,  # among the tasks of its node
                "cards": numbers[place * width : (place + 1) * width],
            }
    return {"tasks": tasks}


def rank_table(layout: Json, device_addresses: dict[str, dict[str, str]]) -> Json:
    """As `environment.rank_table`, of where the tasks are in truth.

    Args:
        layout: of the tasks.
        device_addresses: in the network of the cards, by node, then card; what is missing is left
            out, and the cards of one machine find each other without.
    """
    servers: dict[str, list[dict[str, str]]] = {}
    ranks = 0
    for index in sorted(layout["tasks"], key=int):
        task = layout["tasks"][index]
        known = device_addresses.get(task["node"], {})
        for card in task["cards"]:
            device = {"device_id": str(card), "rank_id": str(ranks)}
            if str(card) in known:
                device["device_ip"] = known[str(card)]
            servers.setdefault(task["address"], []).append(device)
            ranks += 1
    return {
        "version": "1.0",
        "status": "completed",
        "server_count": str(len(servers)),
        "server_list": [
            {"server_id": address, "device": devices} for address, devices in servers.items()
        ],
    }


def find_free_port(first: int) -> int:
    """One that nobody listens on here, looking from the `first`-th on."""
    for step in range(len(MASTER_PORTS)):
        port = MASTER_PORTS[(first + step) % len(MASTER_PORTS)]
        listener = _socket.socket()
        try:
            listener.bind(("", port))
        except OSError:
            continue
        else:
            return port
        finally:
            listener.close()
    raise OSError(f"No port is free from {MASTER_PORTS.start} to {MASTER_PORTS.stop - 1}.")


def run_node(folder: str, name: str) -> None:
    """Run the tasks of this node, each under a shim, until the last has ended."""
    # A SIGTERM must wait until a shim that is being forked can heed it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    shim.become_subreaper()
    plan = read_json(f"{folder}/{PLAN_FILE}")
    layout = read_json(f"{folder}/{NODES_FILE}")
    if plan["rank_table"]:
        shim.write_json(
            plan["rank_table"], rank_table(layout, share_devices(folder, name, plan, layout))
        )
    shims = {}
    for index, task in layout["tasks"].items():
        if task["node"] == name:
            task_folder = f"{folder}/task-{index}"
            write_spec(task_folder, variables_of(task, plan, layout))
            shims[fork_shim(task_folder)] = task_folder
    # Slurm signals every process of a job. The shims heed it; this one waits for them.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    watch(shims, usage_seconds=plan["usage_seconds"])


def share_devices(folder: str, name: str, plan: Json, layout: Json) -> dict[str, dict[str, str]]:
    """The network addresses of the NPUs of every node: each tells those of its own.

    So every node comes to the same rank table, and none runs a task before it is whole.
    """
    found = {name: read_devices(plan["npu_addresses"].replace("%n", name))}
    shim.write_json(f"{folder}/{DEVICES_FILE.format(node=name)}", found[name])
    others = {task["node"] for task in layout["tasks"].values()} - {name}
    deadline = time.monotonic() + DEVICES_SECONDS
    while others - found.keys() and time.monotonic() < deadline:
        for other in others - found.keys():
            told = read_json_or_none(f"{folder}/{DEVICES_FILE.format(node=other)}")
            if told is not None:
                found[other] = told
        time.sleep(DEVICES_AGAIN_SECONDS)
    if silent := others - found.keys():
        print(f"No addresses of NPUs from {sorted(silent)}.", file=sys.stderr)  # noqa: T201
    return found


def read_devices(path: str) -> dict[str, str]:
    """By the number of the card; nothing where there is no such file."""
    try:
        with open(path) as file:
            return dict(re.findall(_DEVICE_ADDRESS, file.read()))
    except OSError:
        return {}


def variables_of(task: Json, plan: Json, layout: Json) -> dict[str, str]:
    """What of a task's environment nobody knew before Slurm gave it its node."""
    tasks = [layout["tasks"][key] for key in sorted(layout["tasks"], key=int)]
    addresses = [other["address"] for other in tasks]
    cards = ",".join(map(str, task["cards"]))
    if plan["card_kind"] == "gpu":
        # Where devices are constrained, Slurm counts from 0 within the job: its word is what holds.
        given = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]
        width, place = plan["cards_per_task"], task["place"]
        cards = ",".join(given[place * width : (place + 1) * width]) or cards
    return {
        "MA_CURRENT_IP": task["address"],
        "VC_WORKER_HOSTS": ",".join(addresses),
        "MASTER_ADDR": addresses[0],
        "MASTER_PORT": str(layout["master_port"]),
        "CUDA_VISIBLE_DEVICES": cards if plan["card_kind"] == "gpu" else "",
        "ASCEND_RT_VISIBLE_DEVICES": cards if plan["card_kind"] == "npu" else "",
    }


def write_spec(task_folder: str, variables: dict[str, str]) -> None:
    spec = read_json(f"{task_folder}/{shim.SPEC_FILE}")
    spec["environment"].update(variables)
    if "serves_at" in spec:
        spec["serves_at"] = variables["MA_CURRENT_IP"]
    shim.write_json(f"{task_folder}/{shim.SPEC_FILE}", spec)


def fork_shim(task_folder: str) -> int:
    """The process id of a shim for the task. Starting Python again would cost many times as much.

    It has this process's environment; what it starts has only that of the task. A task that had
    Slurm's and calls srun by itself would end in its own step.
    """
    pid = os.fork()
    if pid:
        return pid
    is_done = False
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        shim.run_task(task_folder)
        is_done = True
    except Exception:  # noqa: BLE001 - a fork must never return into the code of its parent
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0 if is_done else 1)


def watch(shims: dict[int, str], *, usage_seconds: float) -> None:
    """Pass stops on, and write down what the tasks use, until all shims have ended.

    Args:
        shims: the folder of each one's task, by process id.
        usage_seconds: between two looks at what they use.
    """
    asked: dict[int, float] = {}
    look_at = time.monotonic() + min(FIRST_USAGE_SECONDS, usage_seconds)
    while shims:
        signal.sigtimedwait([signal.SIGCHLD], LOOK_SECONDS)
        for pid in shim.reap()[0].keys() & shims.keys():
            on_shim_ended(shims.pop(pid), shims)
        for pid, task_folder in shims.items():
            grace_seconds = shim.read_grace(task_folder)
            if grace_seconds is not None and asked.get(pid) != grace_seconds:
                asked[pid] = grace_seconds
                os.kill(pid, signal.SIGTERM)  # our child, and not reaped yet
        if time.monotonic() >= look_at:
            look_at = time.monotonic() + usage_seconds
            write_usage(shims)


def on_shim_ended(task_folder: str, others: dict[int, str]) -> None:
    """Normally it has written its result. Otherwise what it leaves behind is ended first."""
    claim = read_json_or_none(f"{task_folder}/{shim.CLAIM_FILE}")
    is_fenced = claim is not None and claim.get("fenced_at_ms") is not None
    if is_fenced or os.path.exists(f"{task_folder}/{shim.EXIT_FILE}"):
        return
    while left := find_orphans(others):
        for pid, start_ticks in left.items():
            shim.send_signal(pid, start_ticks, signal.SIGKILL)
        time.sleep(shim.KILL_AGAIN_SECONDS)
        shim.reap()
    with contextlib.suppress(OSError):  # the folder is gone: nobody will ask
        shim.write_json(f"{task_folder}/{GONE_FILE}", {"at_ms": shim.now_ms()})


def find_orphans(shims: dict[int, str]) -> dict[int, int]:
    """Start ticks of what descends from here, but not from a shim that lives."""
    processes = shim.list_processes()
    others = set(shim.find_descendants({os.getpid()}, processes))
    kept = set(shims) | set(shim.find_descendants(set(shims), processes))
    return {pid: processes[pid][1] for pid in others - kept}


def write_usage(shims: dict[int, str]) -> None:
    processes = shim.list_processes()
    for pid, task_folder in shims.items():
        # The shim itself is the platform's; it has the time of all that it has reaped.
        ticks, resident = read_use(pid, _REAPED_TIMES)[0], 0
        for member in shim.find_descendants({pid}, processes):
            more, pages = read_use(member, _TIMES)
            ticks += more
            resident += pages
        use = {
            "at_ms": shim.now_ms(),
            "cpu_ms": ticks * 1000 // os.sysconf("SC_CLK_TCK"),
            "memory_mib": resident * os.sysconf("SC_PAGE_SIZE") >> 20,
        }
        with contextlib.suppress(OSError):  # a full disk, or a folder that is gone
            shim.write_json(f"{task_folder}/{USAGE_FILE}", use)


def read_use(pid: int, times: slice) -> tuple[int, int]:
    """(ticks of CPU time, resident pages) of a process; nothing of one that has just ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    return sum(map(int, fields[times])), int(fields[_RESIDENT])


def read_json(path: str) -> "Any":
    with open(path, "rb") as file:
        return json.load(file)


def read_json_or_none(path: str) -> "Any":
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
