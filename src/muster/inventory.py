"""What there is to run on: read from the machine, and from the inventory file where one is given.

[machine]                     # all optional; what is not said is found
cpus = 64
memory_gib = 512
gpus = 8                      # or npus = 8; declared cards need not exist
card_model = "H200"
oversubscription = 8          # how many times CPUs and memory may be promised

[[nodes]]                     # in place of [machine]: several machines to act as
name = "node-a"
cpus = 64
memory_gib = 512
gpus = 8
card_model = "H200"

[[flavors]]
code = "gpu.1"
cpus = 8
memory_gib = 64
gpus = 1                      # or npus = 1
card_model = "H200"

[[engines]]
name = "PyTorch"
version = "PyTorch-2.9-python3.11"
interpreter = "/opt/torch/bin/python"

[[pools]]
name = "research"             # the id becomes research-PROJECT_ID
flavor = "gpu.1"              # what each of its nodes offers
count = 4                     # nodes
scope = ["Train", "Infer", "Notebook"]
project = "default"
hosts = ["node-a"]            # if it is to be made of these alone
partition = "train"           # with Slurm: where its jobs are submitted to
"""

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from muster.domain.errors import MusterError
from muster.domain.flavor import ENGINE_TYPES, OTHER_ENGINE_TYPE, AiEngine, Flavor
from muster.domain.placement import CardKind, NodeRoom, most_that_fit
from muster.domain.pool import (
    DEFAULT_LINE,
    HOSTS,
    Host,
    Pool,
    PoolLine,
    PoolPhase,
    Scope,
    pool_id_of,
)
from muster.domain.resources import Resources
from muster.engines.discovery import Machine

OVERSUBSCRIPTION_DEFAULT: Final = 8.0
SHARED_CPUS_MIN: Final = 16  # any machine takes so many 1-CPU tasks at once
SHARED_MEMORY_GIB_MIN: Final = 64
WORKERS_COUNTED_MAX: Final = 1_000

# Code, CPUs, GiB: always there, the first two on machines of any size.
CPU_FLAVORS: Final = (
    ("modelarts.vm.cpu.2u", 2, 8),
    ("modelarts.vm.cpu.1u", 1, 4),
    ("modelarts.vm.cpu.4u", 4, 16),
    ("modelarts.vm.cpu.8u", 8, 32),
)
_SMALL_CPUS: Final = 2


class InventoryInvalid(MusterError):
    """The inventory file cannot be read, or asks for more cards than there are."""


_Positive = Annotated[int, Meta(ge=1)]
_Count = Annotated[int, Meta(ge=0, le=4096)]


class _Struct(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class MachineEntry(_Struct):
    cpus: _Positive | None = None
    memory_gib: _Positive | None = None
    gpus: _Count | None = None
    npus: _Count | None = None
    card_model: str | None = None
    oversubscription: Annotated[float, Meta(ge=1)] = OVERSUBSCRIPTION_DEFAULT


class NodeEntry(_Struct):
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$")]
    cpus: _Positive
    memory_gib: _Positive
    gpus: _Count = 0
    npus: _Count = 0
    card_model: str = ""


class FlavorEntry(_Struct):
    code: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    cpus: Annotated[float, Meta(gt=0)]
    memory_gib: Annotated[float, Meta(gt=0)]
    gpus: _Count = 0
    npus: _Count = 0
    card_model: str = ""


class EngineEntry(_Struct):
    name: str
    version: str
    interpreter: str


class PoolEntry(_Struct):
    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{2,23}[a-z0-9]$")]
    flavor: str
    count: _Positive
    scope: list[Scope] = msgspec.field(default_factory=lambda: list(Scope))
    project: str = "default"
    hosts: list[str] = []  # made of these alone; []: of any
    partition: str = ""  # of Slurm, where its jobs go; "": where those of the public pool go


class InventoryFile(_Struct):
    """The TOML file, entry for entry."""

    machine: MachineEntry = msgspec.field(default_factory=MachineEntry)
    nodes: list[NodeEntry] = []
    flavors: list[FlavorEntry] = []
    engines: list[EngineEntry] = []
    pools: list[PoolEntry] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What the file and the machine come to. Ids are given by the store; here they are 0."""

    flavors: tuple[Flavor, ...]
    engines: tuple[AiEngine, ...]
    hosts: tuple[Host, ...]
    pools: tuple[PoolEntry, ...]


def read_inventory_file(path: Path) -> InventoryFile:
    """Parse the file.

    Raises:
        InventoryInvalid: says which entry is wrong, and how.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=InventoryFile)
    except FileNotFoundError as error:
        raise InventoryInvalid(f"The inventory file {path} does not exist.") from error
    except OSError as error:
        raise InventoryInvalid(f"The inventory file {path} cannot be read: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InventoryInvalid(f"The inventory file {path} is not right: {error}.") from error


def build_inventory(
    file: InventoryFile, machine: Machine, managed: Sequence[Host] | None = None
) -> Inventory:
    """What there is in all. The reconciler deals it out: to each pool its nodes.

    CPUs and memory are shared and may be promised several times over; cards never are.

    Args:
        file: what is declared.
        machine: what was found here.
        managed: the machines that a scheduler beside this one manages, in place of both. It
            promises nothing twice, so neither does muster.

    Raises:
        InventoryInvalid: a pool names an unknown flavor, there are not enough cards, or two things
            have one name.
    """
    _refuse_doubles("Node", (entry.name for entry in file.nodes))
    _refuse_doubles("Flavor", (entry.code for entry in file.flavors))
    _refuse_doubles("Pool", (f"{entry.name} of {entry.project}" for entry in file.pools))
    supply = _supply(file, machine) if managed is None else managed
    flavors = _flavors(file, machine, supply)
    factor = file.machine.oversubscription
    hosts = tuple(_oversubscribed(h, factor) if managed is None else h for h in supply)
    _refuse_doubles("Node", (*(host.name for host in hosts), *_declared_node_names(file.pools)))
    by_code = {flavor.code: flavor for flavor in flavors}
    partitions = _deal(file.pools, by_code, hosts, are_whole=managed is not None)
    return Inventory(
        flavors=tuple(_with_most(flavor, partitions) for flavor in flavors),
        engines=_engines(file),
        hosts=hosts,
        pools=tuple(file.pools),
    )


def _refuse_doubles(kind: str, names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise InventoryInvalid(
                f"{kind} {name!r} is there {times} times; each needs a name of its own. The nodes"
                " of a pool are named POOL-1, POOL-2 and so on."
            )


def _supply(file: InventoryFile, machine: Machine) -> list[Host]:
    """The machines there are, with every card they have."""
    if file.nodes:
        return [
            Host(
                name=entry.name,
                cpu_millis=entry.cpus * 1000,
                memory_mib=entry.memory_gib * 1024,
                card_kind=_kind(f"Node {entry.name!r}", entry.gpus, entry.npus),
                card_model=entry.card_model,
                cards=tuple(range(entry.gpus or entry.npus)),
            )
            for entry in file.nodes
        ]
    declared = file.machine
    kind = _kind("The machine", declared.gpus or 0, declared.npus or 0)
    cards = tuple(range(declared.gpus or declared.npus or 0))
    if declared.gpus is None and declared.npus is None:
        kind, cards = machine.card_kind, tuple(card.index for card in machine.cards)
    found = machine.cards[0].model if machine.cards else ""
    return [
        Host(
            name=machine.host_name,
            cpu_millis=(declared.cpus or machine.cpu_count) * 1000,
            memory_mib=(declared.memory_gib * 1024 if declared.memory_gib else machine.memory_mib),
            card_kind=kind,
            card_model=declared.card_model or found,
            cards=cards,
        )
    ]


def _kind(owner: str, gpus: int, npus: int) -> CardKind | None:
    if gpus and npus:
        raise InventoryInvalid(f"{owner} has either GPUs or NPUs; {gpus} and {npus} are declared.")
    if gpus:
        return CardKind.GPU
    return CardKind.NPU if npus else None


def _flavors(file: InventoryFile, machine: Machine, supply: Sequence[Host]) -> list[Flavor]:
    cpu_count = max(node.cpu_millis for node in supply) // 1000
    flavors = [
        _flavor(code, cpus, memory_gib)
        for code, cpus, memory_gib in CPU_FLAVORS
        if cpus <= max(cpu_count, _SMALL_CPUS)
    ]
    flavors += _card_flavors(file, machine, supply)
    declared = [
        _flavor(
            entry.code,
            entry.cpus,
            entry.memory_gib,
            gpus=entry.gpus,
            npus=entry.npus,
            card_model=entry.card_model,
        )
        for entry in file.flavors
    ]
    codes = {flavor.code for flavor in declared}
    return [flavor for flavor in flavors if flavor.code not in codes] + declared


def _card_flavors(
    file: InventoryFile, machine: Machine, supply: Sequence[Host]
) -> Iterable[Flavor]:
    """1, 2, 4, 8 ... cards of the largest node of each kind, with their part of CPUs and memory."""
    for kind in CardKind:
        nodes = [node for node in supply if node.card_kind is kind and node.cards]
        if nodes:
            yield from _flavors_of(max(nodes, key=lambda n: len(n.cards)), file, machine)


def _flavors_of(node: Host, file: InventoryFile, machine: Machine) -> Iterable[Flavor]:
    total = len(node.cards)
    found = machine.cards[0].model if machine.cards else ""
    declared = (entry.card_model for entry in file.nodes if entry.gpus or entry.npus)
    model = file.machine.card_model or node.card_model or next(declared, found)
    count = 1
    while count <= total:
        yield _flavor(
            f"modelarts.vm.{node.card_kind}.{count}",
            max(1, node.cpu_millis * count // total // 1000),
            max(1, node.memory_mib * count // total // 1024),
            gpus=count if node.card_kind is CardKind.GPU else 0,
            npus=count if node.card_kind is CardKind.NPU else 0,
            card_model=model,
        )
        count *= 2


def _flavor(
    code: str, cpus: float, memory_gib: float, *, gpus: int = 0, npus: int = 0, card_model: str = ""
) -> Flavor:
    _kind(f"Flavor {code!r}", gpus, npus)
    return Flavor(
        spec_id=0,
        code=code,
        task=Resources(
            cpu_millis=round(cpus * 1000),
            memory_mib=round(memory_gib * 1024),
            gpu_count=gpus,
            npu_count=npus,
        ),
        card_model=card_model,
    )


def node_prefix(pool: PoolEntry) -> str:
    """What the names of its nodes begin with: another project's pool may have the same name."""
    return pool.name if pool.project == "default" else f"{pool.name}-{pool.project}"


def _declared_node_names(pools: Iterable[PoolEntry]) -> Iterable[str]:
    for pool in pools:
        yield from (f"{node_prefix(pool)}-{number}" for number in range(1, pool.count + 1))


def _deal(
    pools: Sequence[PoolEntry],
    flavors: Mapping[str, Flavor],
    hosts: Sequence[Host],
    *,
    are_whole: bool,
) -> list[list[NodeRoom]]:
    """What each declared pool comes to, and what is left to the public one.

    Where hosts are whole, those that are named for a pool are no part of the public one.

    Raises:
        InventoryInvalid: there is no such flavor, or there are not enough cards.
    """
    left = {host.name: list(host.cards) for host in hosts}
    partitions = []
    for pool in pools:
        flavor = flavors.get(pool.flavor)
        if flavor is None:
            raise InventoryInvalid(
                f"Pool {pool.name!r} asks for the flavor {pool.flavor!r}; there are"
                f" {', '.join(sorted(flavors))}."
            )
        rooms = []
        for number in range(1, pool.count + 1):
            cards = _take_cards(pool, flavor, hosts, left)
            rooms.append(_room(f"{pool.name}-{number}", flavor.task, flavor.card_kind, cards))
        partitions.append(rooms)
    owned = {name for pool in pools for name in pool.hosts} if are_whole else set()
    public = [
        _room(
            host.name,
            Resources(cpu_millis=host.cpu_millis, memory_mib=host.memory_mib),
            host.card_kind,
            tuple(left[host.name]),
        )
        for host in hosts
        if host.name not in owned
    ]
    return [public, *partitions]


def _room(
    name: str, size: Resources, card_kind: CardKind | None, cards: tuple[int, ...]
) -> NodeRoom:
    return NodeRoom(
        name=name,
        cpu_millis=size.cpu_millis,
        memory_mib=size.memory_mib,
        card_kind=card_kind,
        free_cards=cards,
    )


def _take_cards(
    pool: PoolEntry, flavor: Flavor, hosts: Sequence[Host], left: dict[str, list[int]]
) -> tuple[int, ...]:
    wanted = flavor.task.card_count
    if not wanted:
        return ()
    fitting = [
        host
        for host in hosts
        if host.card_kind is flavor.card_kind and (not pool.hosts or host.name in pool.hosts)
    ]
    for host in fitting:
        cards = left[host.name]
        if len(cards) >= wanted:
            left[host.name] = cards[wanted:]
            return tuple(cards[:wanted])
    total = sum(len(left[host.name]) for host in fitting)
    raise InventoryInvalid(
        f"Pool {pool.name!r} asks for {pool.count} nodes with {wanted} {flavor.card_kind} cards"
        f" each; {total} are left. Declare more under [machine] or [[nodes]], or with Slurm as"
        " `Gres=` of its nodes; or lower `count`."
    )


def _oversubscribed(host: Host, factor: float) -> Host:
    return replace(
        host,
        cpu_millis=max(round(host.cpu_millis * factor), SHARED_CPUS_MIN * 1000),
        memory_mib=max(round(host.memory_mib * factor), SHARED_MEMORY_GIB_MIN * 1024),
    )


def _with_most(flavor: Flavor, partitions: Sequence[Sequence[NodeRoom]]) -> Flavor:
    """How many workers of it some partition could hold; 1 where none can, for the API's sake."""
    most = max(most_that_fit(flavor.task, rooms, bound=WORKERS_COUNTED_MAX) for rooms in partitions)
    return replace(flavor, task_count_max=max(1, most))


def _engines(file: InventoryFile) -> tuple[AiEngine, ...]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    entries = [
        EngineEntry(name="Python", version=version, interpreter=sys.executable),
        *file.engines,
    ]
    _refuse_doubles("Engine", (f"{entry.name} {entry.version}" for entry in entries))
    return tuple(
        AiEngine(
            engine_id=0,
            engine_type=ENGINE_TYPES.get(entry.name, OTHER_ENGINE_TYPE),
            name=entry.name,
            version=entry.version,
            interpreter=_interpreter(entry),
        )
        for entry in entries
    )


def _interpreter(entry: EngineEntry) -> Path:
    found = shutil.which(entry.interpreter)
    if found is None:
        raise InventoryInvalid(
            f"Engine {entry.name!r} names the interpreter {entry.interpreter!r};"
            " it is not there or cannot be executed."
        )
    return Path(found)


def declared_pools(
    inventory: Inventory, project_ids: Mapping[str, str], *, now_ms: int
) -> list[Pool]:
    """The pools that the inventory declares, without nodes yet.

    Args:
        inventory: what there is.
        project_ids: by project name.
        now_ms: the time of creation of pools that are new.

    Raises:
        InventoryInvalid: a pool is for a project that does not exist.
    """
    pools = []
    for entry in inventory.pools:
        project_id = project_ids.get(entry.project)
        if project_id is None:
            raise InventoryInvalid(
                f"Pool {entry.name!r} is for the project {entry.project!r}, which does not exist;"
                " make it with `muster project create`."
            )
        pool_id = pool_id_of(entry.name, project_id)
        pools.append(
            Pool(
                id=pool_id,
                project_id=project_id,
                display_name=entry.name,
                partition=pool_id,
                phase=PoolPhase.CREATING,
                scopes=tuple(entry.scope),
                lines=(
                    PoolLine(name=DEFAULT_LINE, flavor_code=entry.flavor, node_count=entry.count),
                ),
                settings={
                    "node_prefix": node_prefix(entry),
                    **({HOSTS: entry.hosts} if entry.hosts else {}),
                },
                declared=msgspec.json.encode(entry).decode(),
                created_at_ms=now_ms,
                phase_since_ms=now_ms,
            )
        )
    return pools
