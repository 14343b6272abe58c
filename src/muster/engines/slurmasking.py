"""What a job on Slurm asks the controller, and what its nodes ask each other.

It lies beside `slurmjob.py`, which imports it where a job has cards, or nodes that nobody named: a
job without would wait for that longer than for all else. So it imports nothing of muster, either.

Source: scontrol(1), Slurm 22.05; the file of network addresses, /etc/hccn.conf, of the Ascend
drivers.
"""

# pathlib takes as long to import as half of the rest together.
# ruff: noqa: PTH123, S603

import sys
import time

TYPE_CHECKING = False  # typing itself takes a tenth of the start
if TYPE_CHECKING:
    from typing import Any

try:
    from muster.engines import shim
except ImportError:  # on a node: without muster
    import shim  # type: ignore[no-redef, import-not-found]

Json = dict[str, "Any"]  # what a state file holds

DEVICES_FILE = "slurm-devices-{node}.json"

DEVICES_SECONDS = 60.0  # for the other nodes to tell the addresses of their NPUs
DEVICES_AGAIN_SECONDS = 0.05
COMMAND_TIMEOUT_SECONDS = 30
COMMAND_TRIES = 20  # a controller that is being restarted is waited for
COMMAND_AGAIN_SECONDS = 3.0

_DEVICE_ADDRESS = r"(?m)^\s*address_(\d+)\s*=\s*(\S+)\s*$"
_GRES = r"(gpu|npu)(?::[^:,()]+)?:\d+\(IDX:([0-9,-]+)\)"


def ask_for_cards(job_id: str) -> dict[str, dict[str, list[int]]]:
    """The numbers of the cards that Slurm gave a job, by node, then kind."""
    cards = {}
    for nodes, found in parse_cards(run_command("scontrol", "show", "job", "-d", job_id)):
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
    import re

    found = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "NodeName" in fields:
            name = fields["NodeName"]
            found[name] = fields.get("NodeAddr") or name
    return found


def parse_cards(text: str) -> list[tuple[str, dict[str, list[int]]]]:
    """(nodes, cards by kind) of each group of nodes in `scontrol show job -d`."""
    import re

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
            with shim.Suppressed(OSError, ValueError):  # it has not told yet
                found[other] = shim.read_json(f"{folder}/{DEVICES_FILE.format(node=other)}")
        time.sleep(DEVICES_AGAIN_SECONDS)
    if silent := others - found.keys():
        print(f"No addresses of NPUs from {sorted(silent)}.", file=sys.stderr)  # noqa: T201
    return found


def read_devices(path: str) -> dict[str, str]:
    """By the number of the card; nothing where there is no such file."""
    import re

    try:
        with open(path) as file:
            return dict(re.findall(_DEVICE_ADDRESS, file.read()))
    except OSError:
        return {}
