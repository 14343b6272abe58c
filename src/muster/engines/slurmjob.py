"""What runs inside a Slurm job: brings one shim a task up, and tells each what only it can know.

    main(["batch", JOB_FOLDER])      the batch script, once a job
    main(["node", JOB_FOLDER])       by srun, once a node of several

On one node the batch script is the node's agent, too: a step of its own would cost the controller
two more calls, and the job a tenth of a second and more. For the same reason nothing is asked that
the server wrote down, or that the environment tells.

Slurm may start a job twice, and a submit whose answer was lost may be made again. So the batch
script first claims the attempt, by an atomic link in the job folder: whoever comes second ends.

This file imports nothing of muster but `shim.py`, `slurmasking.py` and `porter.py`, which lie
beside it: it runs where only the standard library and the shared folder are. What it and the engine
keep in a job folder:

    slurm.json           what was submitted; written before the submit
    slurm-claim.json     which job runs the attempt, or that none ever may; made only once
    slurm-nodes.json     where each task is, and which cards it may use; written by the batch script
    slurm-next.json      what the same job runs next, or that it runs nothing more; made only once
    slurm-end.json       how Slurm ended the job, once it has; written by the engine
    slurm-devices-NODE.json   the network addresses of the NPUs of a node; written by its agent
    task-N/gone.json     its shim has ended without a result
    task-N/usage.json    what its processes use, every few seconds

Source: sbatch(1), srun(1), Slurm 22.05; proc_pid_stat(5), Linux man-pages 6.03.
"""

# pathlib takes as long to import as half of the rest together.
# ruff: noqa: PTH100, PTH110, PTH120, PTH123, PTH208, S603

import _socket  # what socket is made of, in a tenth of the time
import os
import sys
import time

TYPE_CHECKING = False  # typing itself takes a tenth of the start
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal  # as in shim.py, and for the same reason

try:
    from muster.engines import shim
except ImportError:  # on a node: without muster
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import shim  # type: ignore[no-redef, import-not-found]

Json = dict[str, "Any"]  # what a state file holds

PLAN_FILE = "slurm.json"
CLAIM_FILE = "slurm-claim.json"
NODES_FILE = "slurm-nodes.json"
NEXT_FILE = "slurm-next.json"
END_FILE = "slurm-end.json"
LOG_FILE = "slurm.log"
GONE_FILE = "gone.json"
USAGE_FILE = "usage.json"

LOOK_SECONDS = 0.25  # between two looks for a wish to stop
NEXT_SECONDS = 0.02  # between two looks for another attempt
FIRST_USAGE_SECONDS = 1.0  # a task that ends before is not worth a look at every process
# Below the range from which the kernel hands out ports by itself (32768 to 60999).
MASTER_PORTS = range(20_000, 32_000)

# Fields 14 to 17 and 24 of /proc/PID/stat, counted from the one after the name.
_TIMES = slice(11, 15)
_REAPED_TIMES = slice(13, 15)
_RESIDENT = 21


def main(arguments: list[str]) -> None:
    what, folder = arguments
    if what == "batch":
        run_batch(folder)
    else:
        run_node(folder, os.environ["SLURMD_NODENAME"])


def main_and_leave(arguments: list[str]) -> None:
    """`main`, and end at once: Python's own way out takes a tenth of what the start takes."""
    main(arguments)
    sys.stderr.flush()
    os._exit(0)


def command_line(python: str, programs: object, what: str, folder: object) -> list[str]:
    """How to run this file, which lies in the folder `programs`, on a node.

    As a module: Python compiles a script anew at every start, which takes longer than the start.
    What is imported is no garbage: to look for some takes an eighth of the time.
    """
    code = (
        f"import gc, sys; gc.disable(); sys.path.insert(0, {str(programs)!r}); "
        "import slurmjob as j; gc.enable(); j.main_and_leave(sys.argv[1:])"
    )
    return [python, "-I", "-S", "-c", code, what, str(folder)]


def run_batch(folder: str) -> None:
    """Run the attempt, and then others for a while, if the engine has any for a job like this."""
    # Slurm ends the tasks, and waits for them. That it has told us to end is kept for later.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    began = time.monotonic()
    while plan := run_attempt(folder):
        attempt_id = take_next(folder, plan, until=began + plan["reuse_seconds"])
        if attempt_id is None:
            return
        folder = f"{os.path.dirname(folder)}/{attempt_id}"
        move_to(folder)


def run_attempt(folder: str) -> Json | None:
    """Claim the attempt, find out where its tasks are, and have an agent run them on each node.

    Returns:
        What was submitted; None where somebody else has the attempt, or nothing is to follow it.
    """
    job_id = os.environ["SLURM_JOB_ID"]
    plan: Json = shim.read_json(f"{folder}/{PLAN_FILE}")
    content = {
        "job_id": job_id,
        "job_name": os.environ.get("SLURM_JOB_NAME", ""),
        "claimed_at_ms": shim.now_ms(),
        "awaits_inputs": plan.get("awaits_inputs", False),
    }
    if not shim.claim(folder, content, CLAIM_FILE):
        return None
    if content["awaits_inputs"]:
        count = sum(len(group["tasks"]) for group in plan["groups"])
        if not moving().wait_for_inputs(folder, count):
            return None
    names = find_names(plan, os.environ["SLURM_JOB_NODELIST"])
    layout = lay_out(plan, names, find_addresses(plan, names), find_cards(plan, names, job_id))
    layout["master_port"] = find_free_port(int(plan["attempt_id"][:8], 16))
    shim.write_json(f"{folder}/{NODES_FILE}", layout)
    if len(names) == 1:
        run_tasks(folder, names[0], plan, layout)
    else:
        run_agents(folder, plan, len(names))
    return None if has_stayed(folder, plan) else plan


def has_stayed(folder: str, plan: Json) -> bool:
    """Stay while results are stored from here; False: there are few, or another attempt is next."""
    if not plan.get("result_bytes") or not plan["result_folders"]:
        return False
    if not moving().has_results(folder, plan["result_folders"], plan["result_bytes"]):
        return False
    if plan["reuse_seconds"] and not shim.claim(folder, {}, NEXT_FILE):
        return False
    moving().store_results(folder)
    return True


def take_next(folder: str, plan: Json, *, until: float) -> str | None:
    """The attempt that the engine hands over to this job once its own has ended, or None.

    None is final: from then on the engine can hand nothing over. One that was handed over to a job
    which is being ended is left alone: nobody claims it, and so the engine submits it.
    """
    if not plan["reuse_seconds"]:
        return None
    until = min(until, time.monotonic() + plan["wait_seconds"])
    file = f"{folder}/{NEXT_FILE}"
    while True:
        if signal.SIGTERM in signal.sigpending():
            return None
        if os.path.exists(file):
            told = read_json_or_none(file)
            return None if told is None else told["attempt_id"]
        if time.monotonic() >= until:
            break
        signal.sigtimedwait([signal.SIGCHLD], NEXT_SECONDS)
    try:
        is_closed = shim.claim(folder, {}, NEXT_FILE)
    except OSError:
        return None  # the folder is gone
    return None if is_closed else shim.read_json(file)["attempt_id"]


def move_to(folder: str) -> None:
    """What this process writes for people goes to where they look for it."""
    os.chdir(folder)
    log_fd = os.open(LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for fd in (1, 2):
        os.dup2(log_fd, fd)
    os.close(log_fd)


def run_agents(folder: str, plan: Json, node_count: int) -> None:
    import subprocess  # it takes a third of the start, and few jobs need it

    # Here Slurm ends the agents of the nodes, which must not inherit that it is blocked.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
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


def asking() -> "Any":
    """What few jobs need, and what would cost all of them its import."""
    if "muster" in sys.modules:
        from muster.engines import slurmasking
    else:
        import slurmasking  # type: ignore[no-redef, import-not-found]
    return slurmasking


def moving() -> "Any":
    """As `asking`."""
    if "muster" in sys.modules:
        from muster.engines import porter
    else:
        import porter  # type: ignore[no-redef, import-not-found]
    return porter


def find_names(plan: Json, node_list: str) -> list[str]:
    """The nodes of this job."""
    asked_for = [group["host"] for group in plan["groups"]]
    if all(asked_for):
        return asked_for
    if not set("[,") & set(node_list):
        return [node_list]
    found: str = asking().run_command("scontrol", "show", "hostnames", node_list)
    return found.split()


def find_addresses(plan: Json, names: list[str]) -> dict[str, str]:
    known = plan["addresses"]
    if all(name in known for name in names):
        return {name: resolve(known[name]) for name in names}
    details = asking().run_command("scontrol", "show", "node", "-o", ",".join(names))
    found = asking().parse_addresses(details)
    return {name: resolve(address) for name, address in found.items()}


def find_cards(plan: Json, names: list[str], job_id: str) -> dict[str, dict[str, list[int]]]:
    """The numbers of the cards that Slurm gave the job, by node, then kind."""
    if not plan["cards_per_task"]:
        return {}
    given = os.environ.get("SLURM_JOB_GPUS", "")
    is_numbered = bool(given) and not set(given) - set("0123456789,-")
    if plan["card_kind"] == "gpu" and len(names) == 1 and is_numbered:
        return {names[0]: {"gpu": asking().expand(given)}}
    return asking().ask_for_cards(job_id)  # type: ignore[no-any-return]


def resolve(name: str) -> str:
    # Of text Python would import what international names need: as long as its own start.
    plain = name.encode() if name.isascii() else name
    try:
        return _socket.gethostbyname(plain)  # type: ignore[arg-type]
    except OSError:
        return name  # better the name than nothing: other nodes may know it


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
    plan = shim.read_json(f"{folder}/{PLAN_FILE}")
    run_tasks(folder, name, plan, shim.read_json(f"{folder}/{NODES_FILE}"))


def run_tasks(folder: str, name: str, plan: Json, layout: Json) -> None:
    """Run the tasks of this node, each under a shim, until the last has ended.

    Slurm signals every process of a job. The shims heed it; this one waits for them, and keeps in
    mind that it was told.
    """
    # A SIGTERM must wait until a shim that is being forked can heed it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    shim.become_subreaper()
    if plan["rank_table"]:
        addresses = asking().share_devices(folder, name, plan, layout)
        shim.write_json(plan["rank_table"], asking().rank_table(layout, addresses))
    shims = {}
    for index, task in layout["tasks"].items():
        if task["node"] == name:
            task_folder = f"{folder}/task-{index}"
            write_spec(task_folder, variables_of(task, plan, layout))
            shims[fork_shim(task_folder)] = task_folder
    watch(shims, usage_seconds=plan["usage_seconds"])


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
    spec = shim.read_json(f"{task_folder}/{shim.SPEC_FILE}")
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
    with shim.Suppressed(OSError):  # the folder is gone: nobody will ask
        shim.write_json(f"{task_folder}/{GONE_FILE}", {"at_ms": shim.now_ms()})


def find_orphans(shims: dict[int, str]) -> dict[int, int]:
    """Start ticks of what descends from here, but not from a shim that lives."""
    processes = shim.list_processes()
    others = set(shim.find_descendants({os.getpid()}, processes))
    kept = set(shims) | set(shim.find_descendants(set(shims), processes))
    return {pid: processes[pid][1] for pid in others - kept}


def write_usage(shims: dict[int, str]) -> None:
    for pid, task_folder in shims.items():
        # The shim itself is the platform's; it has the time of all that it has reaped.
        ticks, resident = read_use(pid, _REAPED_TIMES)[0], 0
        for member in find_members(pid):
            more, pages = read_use(member, _TIMES)
            ticks += more
            resident += pages
        use = {
            "at_ms": shim.now_ms(),
            "cpu_ms": ticks * 1000 // os.sysconf("SC_CLK_TCK"),
            "memory_mib": resident * os.sysconf("SC_PAGE_SIZE") >> 20,
        }
        with shim.Suppressed(OSError):  # a full disk, or a folder that is gone
            shim.write_json(f"{task_folder}/{USAGE_FILE}", use)


def find_members(pid: int) -> list[int]:
    """What descends from a process, found from it downwards.

    A node may run hundreds of jobs: if each looked at the processes of all, that would take more
    than they do.
    """
    if not os.path.exists("/proc/thread-self/children"):  # the kernel was built without
        return list(shim.find_descendants({pid}, shim.list_processes()))
    found: list[int] = []
    generation = [pid]
    while generation:
        generation = [child for parent in generation for child in find_children(parent)]
        found += generation
    return found


def find_children(pid: int) -> list[int]:
    found: list[int] = []
    with shim.Suppressed(OSError):  # it, or a thread of it, has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def read_use(pid: int, times: slice) -> tuple[int, int]:
    """(ticks of CPU time, resident pages) of a process; nothing of one that has just ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    return sum(map(int, fields[times])), int(fields[_RESIDENT])


def read_json_or_none(path: str) -> "Any":
    try:
        return shim.read_json(path)
    except (OSError, ValueError):
        return None
