"""The nodes and partitions of a Slurm cluster: what is planned for them, and done on a real one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from muster.domain.errors import EngineUnavailable
from muster.domain.pool import PUBLIC_PARTITION
from muster.engines.engine import ClusterWish, HostUsage
from muster.engines.slurmchanges import Change, partition_name, plan_changes
from muster.engines.slurmcommands import SlurmCommands, parse_cluster
from muster.engines.slurmnodes import (
    CHANGES_MAX,
    NodeLoad,
    SlurmNodes,
    View,
    cluster_of,
    condition_of,
    find_missing_partition,
    keep_known,
    parse_loads,
    read_known,
    usage_of,
)
from muster.engines.slurmpulse import SILENCE_SECONDS, Pulse
from tests.engines.slurm_cluster import SlurmCluster

POOL: Final = "mine-" + "0" * 32
OTHER: Final = "theirs-" + "1" * 32
SEEN: Final = parse_cluster(f"""\
n1|all*|16|65536|idle|gpu:8|n1|none
n2|all*|16|65536|mixed|gpu:8|n2|none
n3|all*|16|65536|drained|gpu:8|n3|muster: locked in pool {POOL}
n4|all*|16|65536|draining|gpu:8|n4|muster: locked in pool {OTHER}
n5|all*|16|65536|drained|gpu:8|n5|bad fan
n6|all*|16|65536|drained*|gpu:8|n6|muster: locked in pool {POOL}
n2|{partition_name(POOL)}|16|65536|mixed|gpu:8|n2|none
n4|{partition_name(OTHER)}|16|65536|draining|gpu:8|n4|muster: locked in pool {OTHER}
""")
OWN: Final = frozenset({POOL})
LIMITS: Final = ("MaxTime=INFINITE", "State=UP")


def changes(wish: ClusterWish, *, may_change_partitions: bool = True) -> list[tuple[str, ...]]:
    planned = plan_changes(SEEN, wish, may_change_partitions=may_change_partitions)
    return [(change.verb, *change.arguments) for change in planned]


AS_IT_IS: Final = ClusterWish(
    drained={"n3": POOL, "n6": POOL}, made={POOL: frozenset({"n2"})}, own=OWN
)


# ---------------------------------------------------------------- what is planned


def test_a_cluster_that_is_as_wished_is_left_as_it_is() -> None:
    assert changes(AS_IT_IS) == []


def test_locked_nodes_of_a_pool_are_drained_with_one_command() -> None:
    drained = {"n1": POOL, "n2": POOL, **AS_IT_IS.drained}

    assert changes(replace(AS_IT_IS, drained=drained)) == [
        ("update", "NodeName=n1,n2", "State=DRAIN", f"Reason=muster: locked in pool {POOL}")
    ]


def test_unlocked_nodes_are_taken_back_with_one_command() -> None:
    assert changes(replace(AS_IT_IS, drained={})) == [("update", "NodeName=n3,n6", "State=RESUME")]


def test_a_node_that_somebody_else_has_drained_is_left_to_them() -> None:
    assert changes(replace(AS_IT_IS, drained={"n5": POOL, **AS_IT_IS.drained})) == []


def test_what_bears_the_mark_of_another_muster_is_left_to_it() -> None:
    touched = [change for change in changes(ClusterWish(own=OWN)) if OTHER in str(change)]

    assert touched == []
    assert ("delete", f"PartitionName={partition_name(OTHER)}") in changes(
        ClusterWish(own=frozenset({OTHER}))
    )


def test_the_partition_of_a_pool_is_changed_when_its_hosts_have() -> None:
    wish = replace(AS_IT_IS, made={POOL: frozenset({"n1", "n2"})})

    name = f"PartitionName={partition_name(POOL)}"
    assert changes(wish) == [("update", name, "Nodes=n1,n2", *LIMITS)]
    assert changes(wish, may_change_partitions=False) == []


def test_the_partition_of_a_new_pool_is_made_of_the_hosts_that_slurm_has() -> None:
    made = {**AS_IT_IS.made, "new": frozenset({"n1", "gone"}), "empty": frozenset({"gone"})}

    assert changes(replace(AS_IT_IS, made=made)) == [
        ("create", f"PartitionName={partition_name('new')}", "Nodes=n1", *LIMITS)
    ]


def test_the_partition_of_a_pool_that_is_gone_goes_after_all_else() -> None:
    wish = ClusterWish(drained={"n1": POOL}, own=OWN)

    assert [change[0] for change in changes(wish)] == ["update", "update", "delete"]
    assert changes(wish)[-1] == ("delete", f"PartitionName={partition_name(POOL)}")


# ---------------------------------------------------------------- what is told


def test_a_node_that_was_drained_for_its_lock_is_as_well_as_any() -> None:
    conditions = {node.name: condition_of(node) for node in SEEN.nodes}

    assert {name for name, condition in conditions.items() if condition.is_up} == {
        "n1", "n2", "n3", "n4",
    }  # fmt: skip
    assert conditions["n5"].message == "Slurm says that the node 'n5' is drained: bad fan."


def test_nodes_that_a_controller_has_not_heard_yet_since_it_came_up_count_as_up() -> None:
    assert condition_of(replace(SEEN.nodes[0], state="unknown")).is_up
    assert not condition_of(replace(SEEN.nodes[0], state="down*")).is_up


def test_a_drain_that_failed_is_told_of_a_node_that_works() -> None:
    condition = condition_of(SEEN.nodes[0], note="Access denied.")

    assert condition.is_up
    assert condition.message == "Slurm's node 'n1' could not be drained. Access denied."


def test_pools_that_something_bears_the_mark_of_are_told() -> None:
    assert cluster_of(SEEN).marked == {POOL, OTHER}


def test_a_submit_to_a_partition_that_is_not_there_is_found_out() -> None:
    view = View(cluster=SEEN)

    assert find_missing_partition(["--nodes=1", "--partition=gone"], view) == "gone"
    assert find_missing_partition(["--nodes=1", "--partition=all"], view) is None
    assert find_missing_partition(["--nodes=1"], view) is None
    assert find_missing_partition(["--partition=gone"], None) is None


LOADS: Final = """\
n1|all*|up|4.00|16384
n2|all*|up|N/A|N/A
n2|other|inact|N/A|N/A
n3|all*|up|99.00|70000
nonsense
"""


def test_what_slurm_does_not_tell_of_a_node_is_not_made_up() -> None:
    view = parse_loads(LOADS, SEEN)

    first, second, third = (usage_of(node, view.loads[node.name]) for node in SEEN.nodes[:3])

    assert first == HostUsage(cpu_percent=25.0, memory_used_mib=49152, memory_total_mib=65536)
    assert second == HostUsage(memory_total_mib=65536)
    assert (third.cpu_percent, third.memory_used_mib) == (100.0, None)
    assert view.closed == {"other": "inact"}


def test_of_a_node_that_does_not_answer_nothing_is_told() -> None:
    load = NodeLoad(cpu_load=1.0, memory_free_mib=1)

    assert usage_of(SEEN.nodes[5], load) == HostUsage()


# ---------------------------------------------------------------- on a real cluster


class Nodes:
    """What is looked at, and changed, on a cluster."""

    def __init__(self, cluster: SlurmCluster, known: Path) -> None:
        self.cluster = cluster
        self.commands = SlurmCommands(environ=cluster.environ)
        self.nodes = SlurmNodes(self.commands, may_change_partitions=True, known=known)

    async def wish(self, **wish: object) -> None:
        """Have it so, and see that it is."""
        self.nodes.arrange(ClusterWish(own=OWN, **wish))  # type: ignore[arg-type]
        await self.nodes.look()

    def states(self) -> Mapping[str, tuple[str, str]]:
        said = self.cluster.run("sinfo", "-h", "-N", "-p", "all", "-o", "%N|%T|%E")
        rows = (line.split("|", 2) for line in said.splitlines())
        # The mark of one that has not answered yet comes and goes.
        return {name: (state.rstrip("*"), reason) for name, state, reason in rows}

    def partitions(self) -> dict[str, str]:
        said = self.cluster.run("sinfo", "-h", "-a", "-o", "%R %N")
        return dict(line.split(" ", 1) for line in said.splitlines())

    async def until_so(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():
                await asyncio.sleep(0.2)
                await self.look()

    async def look(self) -> None:
        with suppress(EngineUnavailable):
            await self.nodes.look()


@pytest_asyncio.fixture
async def nodes(slurm: SlurmCluster, tmp_path: Path) -> AsyncIterator[Nodes]:
    found = Nodes(slurm, tmp_path / "slurm.json")
    yield found
    await found.wish()
    slurm.wait_until_idle()


@pytest.mark.asyncio
async def test_nobody_having_said_anything_nothing_is_changed(nodes: Nodes) -> None:
    await nodes.wish(drained={"n1": POOL}, made={POOL: frozenset({"n2"})})
    fresh = SlurmNodes(nodes.commands, may_change_partitions=True)

    await fresh.look()

    assert nodes.states()["n1"][0] == "drained"
    assert partition_name(POOL) in nodes.partitions()


@pytest.mark.asyncio
async def test_a_node_is_drained_and_taken_back(nodes: Nodes) -> None:
    await nodes.wish(drained={"n1": POOL, "n2": POOL})
    drained = nodes.states()
    await nodes.wish(drained={"n2": POOL})
    condition = nodes.nodes.conditions("")["n1"]  # before it has answered again

    assert condition.is_up
    assert drained["n1"] == drained["n2"] == ("drained", f"muster: locked in pool {POOL}")
    assert nodes.states()["n1"] == ("idle", "none")
    assert nodes.states()["n2"][0] == "drained"


@pytest.mark.asyncio
async def test_a_lock_that_an_operator_undoes_is_made_again(nodes: Nodes) -> None:
    await nodes.wish(drained={"n1": POOL})
    nodes.cluster.run("scontrol", "update", "NodeName=n1", "State=RESUME")

    await nodes.nodes.look()

    assert nodes.states()["n1"][0] == "drained"


@pytest.mark.asyncio
async def test_a_partition_is_made_changed_and_deleted(nodes: Nodes) -> None:
    name = partition_name(POOL)
    await nodes.wish(made={POOL: frozenset({"n1", "n3"})})
    made = nodes.partitions()
    await nodes.wish(made={POOL: frozenset({"n3", "n4"})})
    changed = nodes.partitions()
    await nodes.wish()

    assert (made[name], changed[name]) == ("n[1,3]", "n[3-4]")
    assert name not in nodes.partitions()


@pytest.mark.asyncio
async def test_a_partition_is_made_again_after_the_controller_has_forgotten_it(
    nodes: Nodes,
) -> None:
    await nodes.wish(made={POOL: frozenset({"n1"})})
    nodes.cluster.kill("slurmctld")
    nodes.cluster.start_controller()

    await nodes.until_so(lambda: partition_name(POOL) in nodes.partitions())

    assert nodes.partitions()[partition_name(POOL)] == "n1"


@pytest.mark.asyncio
async def test_a_partition_that_was_left_without_nodes_is_set_right(nodes: Nodes) -> None:
    """`scontrol create` makes the partition even where it refuses its nodes."""
    name = partition_name(POOL)
    with pytest.raises(AssertionError, match="Invalid node name"):
        nodes.cluster.run("scontrol", "create", f"PartitionName={name}", "Nodes=n99")

    await nodes.wish(made={POOL: frozenset({"n1"})})

    assert nodes.partitions()[name] == "n1"


@contextmanager
def refused(nodes: Nodes, folder: Path) -> Iterator[None]:
    """As for a user who is no operator of the cluster's."""
    script = folder / "scontrol"
    script.write_text(
        '#!/bin/sh\necho "slurm_update error: Access/permission denied" >&2\nexit 1\n'
    )
    script.chmod(0o755)
    environ = nodes.cluster.environ
    nodes.commands.environ = {**environ, "PATH": f"{folder}:{environ['PATH']}"}
    yield
    nodes.commands.environ = environ


@pytest.mark.asyncio
async def test_what_slurm_refuses_is_told_and_done_once_it_may_be(
    nodes: Nodes, tmp_path: Path
) -> None:
    with refused(nodes, tmp_path):
        await nodes.wish(drained={"n1": POOL}, made={POOL: frozenset({"n2"})})
        cluster, condition = nodes.nodes.cluster(), nodes.nodes.conditions("")["n1"]

    assert cluster is not None
    assert "Access/permission denied" in cluster.unusable[POOL]
    assert condition.is_up
    assert "could not be drained" in condition.message
    await nodes.nodes.look()
    cluster, condition = nodes.nodes.cluster(), nodes.nodes.conditions("")["n1"]
    assert cluster is not None
    assert cluster.unusable == {}
    assert condition.message == ""
    assert nodes.states()["n1"][0] == "drained"


@pytest.mark.asyncio
async def test_a_partition_that_a_pool_needs_and_slurm_has_not_is_told(nodes: Nodes) -> None:
    nodes.nodes = SlurmNodes(nodes.commands, partition="nowhere")
    await nodes.wish(partitions={POOL: "vanished"})

    cluster = nodes.nodes.cluster()

    assert cluster is not None
    assert cluster.unusable[POOL].startswith("Slurm has no partition 'vanished' any more")
    assert "'nowhere'" in cluster.unusable[PUBLIC_PARTITION]


@pytest.mark.asyncio
async def test_a_partition_that_is_closed_is_told(nodes: Nodes) -> None:
    await nodes.wish(made={POOL: frozenset({"n1"})})
    closed = ("all", "train", partition_name(POOL))
    for name in closed:
        nodes.cluster.run("scontrol", "update", f"PartitionName={name}", "State=INACTIVE")
    try:
        await nodes.wish(partitions={"other": "train"}, made={POOL: frozenset({"n1"})})
        cluster = nodes.nodes.cluster()
    finally:
        for name in closed:
            nodes.cluster.run("scontrol", "update", f"PartitionName={name}", "State=UP")

    assert cluster is not None
    assert "'train' is inact" in cluster.unusable["other"]
    assert "'all' is inact" in cluster.unusable[PUBLIC_PARTITION]
    assert f"'{partition_name(POOL)}' is inact" in cluster.unusable[POOL]


@pytest.mark.asyncio
async def test_a_cluster_that_forgets_partitions_when_reconfigured_says_so_on_their_nodes(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    await nodes.wish(made={POOL: frozenset({"n1"})})

    told = nodes.nodes.conditions("")

    assert told["n1"].is_up
    assert "ReconfigFlags=KeepPartInfo" in told["n1"].message
    assert told["n2"].message == ""
    assert "slurm_would_forget_partitions" in capsys.readouterr().out


@pytest.mark.asyncio
async def test_a_cluster_that_keeps_partitions_says_nothing_of_it(nodes: Nodes) -> None:
    config = nodes.cluster.config
    before = config.read_text()
    config.write_text(before + "ReconfigFlags=KeepPartInfo\n")
    nodes.cluster.run("scontrol", "reconfigure")
    try:
        nodes.cluster.wait_for(
            lambda: "KeepPartInfo" in nodes.cluster.run("scontrol", "show", "config")
        )
        await nodes.wish(made={POOL: frozenset({"n1"})})

        assert nodes.nodes.conditions("")["n1"].message == ""
    finally:
        config.write_text(before)
        nodes.cluster.run("scontrol", "reconfigure")


@pytest.mark.asyncio
async def test_how_busy_real_nodes_are_is_known(nodes: Nodes) -> None:
    await nodes.wish()

    usage = nodes.nodes.usage(["n1", "unknown"])

    assert list(usage) == ["n1"]
    assert usage["n1"].cpu_percent is not None
    assert 0 <= usage["n1"].cpu_percent <= 100
    assert usage["n1"].memory_total_mib == 65536


@pytest.mark.asyncio
async def test_the_last_view_is_kept_for_a_start_without_slurm(
    nodes: Nodes, tmp_path: Path
) -> None:
    await nodes.wish()

    known = read_known(tmp_path / "slurm.json")

    assert known is not None
    assert [node.name for node in known.nodes] == sorted(nodes.states())


class Counted(SlurmCommands):
    """Counts commands instead of running those that change anything."""

    calls: int = 0
    refuses: str = ""

    async def _run(self, name: str, *arguments: str, may_refuse: bool = False) -> str:
        Counted.calls += 1
        if name != "scontrol":
            return LOADS if "%O" in arguments[-1] else BIG
        if Counted.refuses in " ".join(arguments):
            raise EngineUnavailable("It is refused.")
        return ""


BIG: Final = "".join(f"n{i}|all*|16|65536|idle|gpu:8|n{i}|none\n" for i in range(2000))


@pytest.mark.asyncio
async def test_a_look_takes_few_commands_whatever_the_number_of_nodes_and_pools() -> None:
    nodes = SlurmNodes(Counted(), may_change_partitions=True)
    Counted.refuses, Counted.calls = "nobody", 0
    nodes.arrange(
        ClusterWish(
            drained={f"n{i}": "locked" for i in range(1000)},
            made={f"pool-{i}": frozenset({f"n{i}"}) for i in range(1000)},
        )
    )

    await nodes.look()

    # Nodes and loads, before and after the changes; and Slurm's settings, once a minute.
    assert Counted.calls == 2 + 1 + CHANGES_MAX + 2


@pytest.mark.asyncio
async def test_a_change_that_fails_holds_up_no_other() -> None:
    nodes = SlurmNodes(Counted(), may_change_partitions=True)
    Counted.refuses, Counted.calls = "pool-", 0
    drained = {"n0": "zzz"}
    nodes.arrange(
        ClusterWish(
            drained=drained,
            made={f"pool-{i:03}": frozenset({f"n{i}"}) for i in range(CHANGES_MAX)},
        )
    )
    await nodes.look()
    tried = set(nodes._failures)
    await nodes.look()

    assert len(tried) == CHANGES_MAX
    assert (
        Change(
            "update",
            ("NodeName=n0", "State=DRAIN", "Reason=muster: locked in pool zzz"),
            frozenset({"zzz"}),
            frozenset({"n0"}),
        )
        not in nodes._failures
    )


# ---------------------------------------------------------------- a cluster that is silent


def test_a_server_that_has_heard_nothing_since_its_start_gives_its_nodes_no_work(
    tmp_path: Path,
) -> None:
    keep_known(SEEN, tmp_path / "slurm.json")
    nodes = SlurmNodes(SlurmCommands(), known=tmp_path / "slurm.json")

    assert nodes.conditions("") == {}
    told = nodes.conditions("Slurm has not answered.")
    assert set(told) == {node.name for node in SEEN.nodes}
    assert {(c.is_up, c.message) for c in told.values()} == {(False, "Slurm has not answered.")}


@pytest.mark.parametrize(
    ("quiet", "said"),
    [(15.2, "15 s"), (29.0, "15 s"), (59.9, "45 s"), (60.1, "1 minute"), (190.0, "3 minutes")],
)
def test_how_long_slurm_is_silent_is_told_in_steps(
    monkeypatch: pytest.MonkeyPatch, quiet: float, said: str
) -> None:
    """Each word of it is written to the row of every node."""
    pulse = Pulse(answered_at=1_000.0)
    monkeypatch.setattr("muster.engines.slurmpulse.time.monotonic", lambda: 1_000.0 + quiet)

    assert quiet >= SILENCE_SECONDS
    assert pulse.silence.startswith(f"Slurm has not answered for {said}. ")
    assert "scontrol ping" in pulse.silence
