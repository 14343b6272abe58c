"""What there is to run on: dealt out so that no card is promised twice."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.placement import CardKind
from muster.domain.pool import PUBLIC_PARTITION, Node, PoolLine, PoolPhase, Scope
from muster.domain.resources import Resources
from muster.engines.discovery import Card, Machine
from muster.inventory import (
    Inventory,
    InventoryFile,
    InventoryInvalid,
    build_inventory,
    declared_pools,
    read_inventory_file,
)
from muster.reconciler.poolplan import plan_pools
from muster.reconciler.poolworld import AddNode, PoolWorld

PROJECTS: Final = {"default": "1" * 32, "other": "2" * 32}


def machine(*, cpus: int = 8, gpus: int = 0, npus: int = 0) -> Machine:
    kind = CardKind.GPU if gpus else CardKind.NPU if npus else None
    return Machine(
        host_name="host",
        cpu_count=cpus,
        memory_mib=32_768,
        card_kind=kind,
        cards=tuple(Card(index=i, model="H200", memory_mib=1) for i in range(gpus or npus)),
    )


SMALL: Final = machine(cpus=1)


def parsed(tmp_path: Path, text: str) -> InventoryFile:
    file = tmp_path / "inventory.toml"
    file.write_text(text)
    return read_inventory_file(file)


def inventory_of(on: Machine, **entries: Any) -> Inventory:
    return build_inventory(msgspec.convert(entries, InventoryFile), on)


def refusal_of(on: Machine, **entries: Any) -> str:
    with pytest.raises(InventoryInvalid) as refused:
        inventory_of(on, **entries)
    return refused.value.message


def dealt(inventory: Inventory) -> list[Node]:
    """The nodes that it comes to, pools and public ones."""
    world = PoolWorld(
        now_ms=0,
        hosts=inventory.hosts,
        pools=declared_pools(inventory, PROJECTS, now_ms=0),
        flavors={flavor.code: flavor for flavor in inventory.flavors},
    )
    return [action.node for action in plan_pools(world) if isinstance(action, AddNode)]


def pool(name: str, *, flavor: str, count: int = 1, project: str = "default") -> dict[str, Any]:
    return {"name": name, "flavor": flavor, "count": count, "project": project}


# ---------------------------------------------------------------- cards


@given(
    st.integers(0, 8),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=4),
)
def test_every_card_is_dealt_out_once_or_too_many_are_refused(
    card_count: int, asked: list[tuple[int, int]]
) -> None:
    entries = {
        "flavors": [
            {"code": f"gpu-{n}", "cpus": 1, "memory_gib": 1, "gpus": n} for n in range(1, 5)
        ],
        "pools": [
            pool(f"pool{index}", flavor=f"gpu-{cards}", count=count)
            for index, (cards, count) in enumerate(asked)
        ],
    }
    wanted = sum(cards * count for cards, count in asked)

    if wanted > card_count:
        assert "cards each" in refusal_of(machine(gpus=card_count), **entries)
        return
    nodes = dealt(inventory_of(machine(gpus=card_count), **entries))

    assert Counter(card for node in nodes for card in node.cards) == Counter(range(card_count))
    assert Counter(node.partition for node in nodes if node.partition != PUBLIC_PARTITION) == {
        f"pool{index}-{PROJECTS['default']}": count for index, (_, count) in enumerate(asked)
    }
    assert all(node.card_kind is CardKind.GPU for node in nodes if node.cards)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(1, 3))
def test_a_node_of_a_pool_has_its_cards_from_one_machine(machines: list[int], wanted: int) -> None:
    count = sum(cards // wanted for cards in machines)
    nodes = [
        {"name": f"n{index}", "cpus": 4, "memory_gib": 8, "gpus": cards}
        for index, cards in enumerate(machines)
    ]
    flavors = [{"code": "g", "cpus": 1, "memory_gib": 1, "gpus": wanted}]

    if count:
        inventory = inventory_of(
            SMALL, nodes=nodes, flavors=flavors, pools=[pool("pool", flavor="g", count=count)]
        )
        public = [node for node in dealt(inventory) if node.partition == PUBLIC_PARTITION]
        assert [len(node.cards) for node in public] == [cards % wanted for cards in machines]
    too_many = [pool("pool", flavor="g", count=count + 1)]
    assert "Pool 'pool' asks for" in refusal_of(SMALL, nodes=nodes, flavors=flavors, pools=too_many)


def test_too_few_cards_are_refused_by_the_name_of_the_pool() -> None:
    message = refusal_of(
        machine(gpus=3),
        pools=[
            pool("first", flavor="modelarts.vm.gpu.2"),
            pool("second", flavor="modelarts.vm.gpu.2"),
        ],
    )

    assert message.startswith("Pool 'second' asks for 1 nodes with 2 gpu cards each; 1 are left.")


def test_declared_cards_need_not_exist() -> None:
    inventory = inventory_of(SMALL, machine={"npus": 2, "card_model": "910B"})

    [node] = inventory.hosts
    assert (node.card_kind, node.cards) == (CardKind.NPU, (0, 1))
    assert {f.card_model for f in inventory.flavors if f.card_kind} == {"910B"}


def test_cards_that_are_there_may_be_kept_back() -> None:
    [node] = inventory_of(machine(gpus=4), machine={"gpus": 0}).hosts

    assert node.cards == ()


# ---------------------------------------------------------------- flavors


def test_the_smallest_flavors_are_on_any_machine() -> None:
    codes = [flavor.code for flavor in inventory_of(SMALL).flavors]

    assert codes == ["modelarts.vm.cpu.2u", "modelarts.vm.cpu.1u"]


def test_any_machine_takes_sixteen_of_the_smallest_flavor_at_once() -> None:
    smallest = inventory_of(SMALL).flavors[1]

    assert (smallest.code, smallest.task_count_max) == ("modelarts.vm.cpu.1u", 16)


def test_cards_are_offered_in_powers_of_two_with_their_part_of_the_machine() -> None:
    flavors = {f.code: f for f in inventory_of(machine(cpus=16, gpus=6)).flavors if f.card_kind}

    assert [*flavors] == [f"modelarts.vm.gpu.{count}" for count in (1, 2, 4)]
    assert flavors["modelarts.vm.gpu.2"].task == Resources(
        cpu_millis=5_000, memory_mib=10 * 1024, gpu_count=2
    )
    assert flavors["modelarts.vm.gpu.2"].task_count_max == 3
    assert flavors["modelarts.vm.gpu.2"].card_model == "H200"


def test_the_model_of_declared_nodes_is_told_for_every_kind_of_card() -> None:
    nodes = [{"name": "a", "cpus": 8, "memory_gib": 8, "npus": 1, "card_model": "910B"}]

    models = {f.card_model for f in inventory_of(SMALL, nodes=nodes).flavors if f.card_kind}

    assert models == {"910B"}


def test_a_declared_flavor_takes_the_place_of_one_that_is_always_there() -> None:
    declared = {"code": "modelarts.vm.cpu.1u", "cpus": 0.5, "memory_gib": 0.25}

    flavors = {f.code: f for f in inventory_of(SMALL, flavors=[declared]).flavors}

    assert flavors["modelarts.vm.cpu.1u"].task == Resources(cpu_millis=500, memory_mib=256)


def test_cpus_and_memory_may_be_promised_several_times_over() -> None:
    [node] = inventory_of(machine(cpus=10), machine={"oversubscription": 3.0}).hosts

    assert (node.cpu_millis, node.memory_mib) == (30_000, 3 * 32_768)


# ---------------------------------------------------------------- engines


def test_the_interpreter_that_muster_runs_under_is_always_there() -> None:
    [engine] = inventory_of(SMALL).engines

    assert (engine.name, engine.interpreter) == ("Python", Path(sys.executable))


def test_an_engine_has_the_published_type_of_its_name() -> None:
    torch = {"name": "PyTorch", "version": "2", "interpreter": sys.executable}

    assert [e.engine_type for e in inventory_of(SMALL, engines=[torch]).engines] == [100, 10]


def test_an_interpreter_that_is_not_there_is_refused_by_the_name_of_its_engine() -> None:
    torch = {"name": "PyTorch", "version": "2", "interpreter": "/no/such/python"}

    message = refusal_of(SMALL, engines=[torch])

    assert message.startswith("Engine 'PyTorch' names the interpreter '/no/such/python'")


# ---------------------------------------------------------------- errors name the entry


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[machine\n", "is not right"),
        ("[machine]\ncpus = 0", "$.machine.cpus"),
        ("[machine]\ncpu = 4", "unknown field `cpu`"),
        ('[[nodes]]\nname = "a"\ncpus = 1', "missing required field `memory_gib`"),
        (
            '[[nodes]]\nname = "a"\ncpus = 1\nmemory_gib = 1\n'
            '[[nodes]]\nname = "b c"\ncpus = 1\nmemory_gib = 1',
            "$.nodes[1].name",
        ),
        ('[[flavors]]\ncode = "a"\ncpus = "two"\nmemory_gib = 1', "$.flavors[0].cpus"),
        ('[[pools]]\nname = "Upper"\nflavor = "f"\ncount = 1', "$.pools[0].name"),
        ('[[pools]]\nname = "pool"\nflavor = "f"\ncount = 1\nscope = ["X"]', "$.pools[0].scope[0]"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_place_in_the_file(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(InventoryInvalid) as refused:
        parsed(tmp_path, text)

    assert str(tmp_path / "inventory.toml") in refused.value.message
    assert complaint in refused.value.message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryInvalid, match=r"nothing\.toml does not exist"):
        read_inventory_file(tmp_path / "nothing.toml")
    with pytest.raises(InventoryInvalid, match="cannot be read"):
        read_inventory_file(tmp_path)


NODE: Final = {"name": "a", "cpus": 4, "memory_gib": 8}
FLAVOR: Final = {"code": "f", "cpus": 1, "memory_gib": 1}


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"pools": [pool("pool", flavor="x")]}, "Pool 'pool' asks for the flavor 'x'; there are"),
        ({"machine": {"gpus": 1, "npus": 1}}, "The machine has either GPUs or NPUs"),
        ({"nodes": [NODE, {**NODE, "name": "b", "gpus": 2, "npus": 1}]}, "Node 'b' has either"),
        ({"flavors": [{**FLAVOR, "gpus": 1, "npus": 1}]}, "Flavor 'f' has either GPUs or NPUs"),
        ({"nodes": [NODE, NODE]}, "Node 'a' is there 2 times"),
        ({"flavors": [FLAVOR, FLAVOR]}, "Flavor 'f' is there 2 times"),
        (
            {"flavors": [FLAVOR], "pools": [pool("pool", flavor="f")] * 2},
            "Pool 'pool of default' is there 2 times",
        ),
        (
            {
                "flavors": [FLAVOR],
                "nodes": [{**NODE, "name": "pool-1"}],
                "pools": [pool("pool", flavor="f")],
            },
            "Node 'pool-1' is there 2 times",
        ),
        (
            {
                "flavors": [FLAVOR],
                "pools": [
                    pool("pool-other", flavor="f"),
                    pool("pool", flavor="f", project="other"),
                ],
            },
            "Node 'pool-other-1' is there 2 times",
        ),
        (
            {"engines": [{"name": "T", "version": "1", "interpreter": sys.executable}] * 2},
            "Engine 'T 1' is there 2 times",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(
    entries: dict[str, Any], complaint: str
) -> None:
    assert refusal_of(SMALL, **entries).startswith(complaint)


# ---------------------------------------------------------------- rows for the store


def test_a_declared_pool_is_made_for_its_project(tmp_path: Path) -> None:
    file = parsed(
        tmp_path,
        """
        [[flavors]]
        code = "f"
        cpus = 1
        memory_gib = 1
        [[pools]]
        name = "research"
        flavor = "f"
        count = 2
        scope = ["Train"]
        project = "other"
        """,
    )
    inventory = build_inventory(file, SMALL)

    [own] = declared_pools(inventory, PROJECTS, now_ms=5)

    assert own.id == own.partition == f"research-{'2' * 32}"
    assert (own.phase, own.scopes, own.created_at_ms) == (PoolPhase.CREATING, (Scope.TRAIN,), 5)
    assert own.lines == (PoolLine(name="default", flavor_code="f", node_count=2),)
    assert [(node.name, node.partition) for node in dealt(inventory)] == [
        ("research-other-1", own.id),
        ("research-other-2", own.id),
        ("host", PUBLIC_PARTITION),
    ]


def test_what_a_declared_pool_says_of_itself_changes_with_its_entry() -> None:
    def declared(**entry: Any) -> str | None:
        inventory = inventory_of(SMALL, flavors=[FLAVOR], pools=[pool("pool", flavor="f") | entry])
        return declared_pools(inventory, PROJECTS, now_ms=0)[0].declared

    assert declared() == declared(count=1) != declared(count=2)


def test_a_pool_for_a_project_that_is_not_there_is_refused_by_name() -> None:
    inventory = inventory_of(
        SMALL, flavors=[FLAVOR], pools=[pool("pool", flavor="f", project="nobody")]
    )

    with pytest.raises(InventoryInvalid, match="Pool 'pool' is for the project 'nobody'"):
        declared_pools(inventory, PROJECTS, now_ms=0)
