"""What this machine has, and how much of it this process may use.

Nothing here raises because something is missing: a machine without cards, without a driver or
without cgroups is a machine all the same.

Source: cgroups(7), Linux man-pages 6.03; NVML API reference 13; `npu-smi info -h`, CANN 8.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from muster.domain.placement import CardKind
from muster.engines.nvml import open_nvml

NPU_SMI_TIMEOUT_SECONDS: Final = 10.0
MIB: Final = 1 << 20
ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    index: int  # the number that a job's environment names it by
    model: str
    memory_mib: int  # 0: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    host_name: str
    cpu_count: int  # that this process may use at the same time
    memory_mib: int  # likewise; 0: not known
    card_kind: CardKind | None
    cards: tuple[Card, ...]


def find_machine() -> Machine:
    """Look at this machine. Blocks, for seconds where there are NPUs."""
    gpus = find_gpus()
    npus = () if gpus else find_npus()
    kind = CardKind.GPU if gpus else CardKind.NPU if npus else None
    return Machine(
        host_name=socket.gethostname(),
        cpu_count=count_cpus(),
        memory_mib=find_memory_mib(),
        card_kind=kind,
        cards=gpus or npus,
    )


def count_cpus(root: Path = ROOT) -> int:
    """CPUs by affinity, or fewer where a cgroup grants less time than they have."""
    usable = len(os.sched_getaffinity(0))
    return max(1, min([usable, *(int(share) for share in _read_cpu_shares(root))]))


def find_memory_mib(root: Path = ROOT) -> int:
    """Memory of the machine, or less where a cgroup allows less."""
    known = [*_read_total_memory(root), *_read_memory_limits(root)]
    return min(known) // MIB if known else 0


def _read_total_memory(root: Path) -> list[int]:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return [int(found[1]) * 1024] if found else []


def _read_memory_limits(root: Path) -> list[int]:
    files = [
        *(folder / "memory.max" for folder in _cgroup_folders(root, "")),
        *(folder / "memory.limit_in_bytes" for folder in _cgroup_folders(root, "memory")),
    ]
    # No limit is "max" in version 2, and more than any machine has in version 1.
    return [int(text) for file in files if (text := _read(file).strip()).isdigit()]


def _read_cpu_shares(root: Path) -> list[float]:
    shares = []
    for folder in _cgroup_folders(root, ""):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        shares += _share(quota, period)
    for folder in _cgroup_folders(root, "cpu"):
        quota = _read(folder / "cpu.cfs_quota_us").strip()
        shares += _share(quota, _read(folder / "cpu.cfs_period_us").strip())
    return shares


def _share(quota: str, period: str) -> list[float]:
    """How many CPUs a quota comes to; nothing where there is none ("max", "-1")."""
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        return [int(quota) / int(period)]
    return []


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """The cgroup of this process and all above it; `controller` is "" for version 2.

    In a container the path may be that of the host, and not be there: the top is then our own.
    """
    mount = root / "sys/fs/cgroup" / controller
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            folder = mount / path.lstrip("/")
            return [folder, *(f for f in folder.parents if f == mount or mount in f.parents)]
    return []


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def find_gpus() -> tuple[Card, ...]:
    """The GPUs that the NVIDIA driver knows, in bus order; none without a driver."""
    nvml = open_nvml()
    if nvml is None:
        return ()
    try:
        return tuple(_describe_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()
    finally:
        nvml.nvmlShutdown()


def _describe_gpu(nvml: Any, index: int) -> Card:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    # Older bindings answer bytes.
    model = name.decode() if isinstance(name, bytes) else str(name)
    return Card(index=index, model=model, memory_mib=int(memory.total) // MIB)


def find_npus() -> tuple[Card, ...]:
    """The NPUs that `npu-smi` lists; none where there is no such command, or no answer from it."""
    command = shutil.which("npu-smi")
    if command is None:
        return ()
    cards = parse_npu_list(_ask(command, "info", "-l"))
    if not cards:
        return ()
    # The cards of one machine are alike, and each question takes about a second.
    memory_mib = parse_npu_memory(_ask(command, "info", "-t", "usages", "-i", "0"))
    return tuple(Card(index=card.index, model=card.model, memory_mib=memory_mib) for card in cards)


def _ask(*command: str) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 - found on our own PATH, fixed arguments
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=NPU_SMI_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode(errors="replace")


def parse_npu_list(text: str) -> tuple[Card, ...]:
    """The cards in what `npu-smi info -l` prints.

    One block an NPU, of `Name : value` lines, beginning with its id. An NPU may hold several
    chips; jobs count chips, over all NPUs in order.
    """
    cards: list[Card] = []
    for block in _blocks(text):
        if not block.get("NPU ID", "").isdigit():
            continue
        chips = block.get("Chip Count", "")
        model = block.get("Product Name") or block.get("Chip Name") or "NPU"
        for _ in range(int(chips) if chips.isdigit() else 1):
            cards.append(Card(index=len(cards), model=model, memory_mib=0))
    return tuple(cards)


def parse_npu_memory(text: str) -> int:
    """The memory of one card, in MiB, in what `npu-smi info -t usages` prints; 0: not told."""
    found = re.search(r"^\s*(?:HBM|DDR) Capacity\(MB\)\s*:\s*([1-9]\d*)\s*$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _blocks(text: str) -> Iterable[dict[str, str]]:
    block: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = (part.strip() for part in line.partition(":"))
        if name == "NPU ID" and block:
            yield block
            block = {}
        if colon:
            block[name] = value
    yield block
