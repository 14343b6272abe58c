"""The fake keeps the contract, and its faults do what they say."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from muster.domain.errors import EngineUnavailable
from muster.domain.placement import CardKind, TaskPlacement
from muster.engines.engine import Engine, EngineRef, HostCondition, Launch, TaskState
from tests.engines.contract import PROGRAMS, Bench, EngineContract, states
from tests.engines.fake import KILLED, Crash, FakeEngine, Fault

ATTEMPT = "0" * 31 + "1"


class FakeBench(Bench):
    engine: FakeEngine

    def make_engine(self) -> Engine:
        return self.engine

    def find_log(self, ref: EngineRef, task_index: int = 0) -> bytes | None:
        return self.engine.find_log(ref, task_index)

    async def wait(self) -> None:
        self.engine.advance(100)
        await asyncio.sleep(0)


class TestFakeEngine(EngineContract):
    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        bench = FakeBench(FakeEngine(programs=PROGRAMS), tmp_path)
        await bench.open()
        yield bench
        await bench.engine.close()


def launch(attempt_id: str = ATTEMPT, *, cards: tuple[int, ...] = ()) -> Launch:
    task = TaskPlacement(
        index=0, node_name="a", card_kind=CardKind.GPU if cards else None, cards=cards
    )
    return Launch(
        attempt_id=attempt_id,
        argv=("anything",),
        environment={},
        code=None,
        folder=Path("nowhere"),
        tasks=(task,),
    )


async def state_of(fake: FakeEngine) -> TaskState:
    (state,) = states((await fake.observe([EngineRef(ATTEMPT)]))[EngineRef(ATTEMPT)])
    return state


@pytest.mark.asyncio
async def test_an_unknown_command_runs_until_it_is_finished() -> None:
    fake = FakeEngine()
    await fake.start(launch())
    assert await state_of(fake) is TaskState.RUNNING

    fake.finish(ATTEMPT, 0, 4)

    assert await state_of(fake) is TaskState.ENDED
    assert fake.running() == set()


@pytest.mark.asyncio
async def test_a_lost_attempt_is_gone() -> None:
    fake = FakeEngine()
    await fake.start(launch())

    fake.lose(ATTEMPT)

    assert await state_of(fake) is TaskState.GONE


@pytest.mark.asyncio
async def test_a_host_that_dies_takes_what_runs_there_with_it() -> None:
    fake = FakeEngine(host_of_node={"a": "machine"})
    await fake.start(launch())

    fake.take_down("machine", "No answer.")

    assert await state_of(fake) is TaskState.GONE
    assert await fake.observe_hosts() == {
        "machine": HostCondition(is_up=False, message="No answer.")
    }
    assert fake.running() == set()


@pytest.mark.asyncio
async def test_nothing_comes_up_on_a_host_that_is_down() -> None:
    fake = FakeEngine()
    fake.take_down("a")

    await fake.start(launch())

    assert await state_of(fake) is TaskState.GONE


@pytest.mark.asyncio
async def test_a_host_that_is_back_takes_work_and_brings_nothing_back() -> None:
    fake = FakeEngine()
    await fake.start(launch())
    fake.take_down("a")

    fake.bring_back("a")

    assert await fake.observe_hosts() == {}
    assert await state_of(fake) is TaskState.GONE
    await fake.start(launch("0" * 31 + "2"))
    assert fake.running() == {"0" * 31 + "2"}


@pytest.mark.asyncio
async def test_an_unavailable_engine_does_nothing() -> None:
    fake = FakeEngine(is_unavailable=True)

    with pytest.raises(EngineUnavailable):
        await fake.start(launch())

    assert fake.started == {}
    assert not (await fake.health()).is_reachable


@pytest.mark.asyncio
async def test_a_lost_answer_hides_what_was_done() -> None:
    fake = FakeEngine(choose_fault=lambda method: Fault.ANSWER_LOST)

    with pytest.raises(EngineUnavailable):
        await fake.start(launch())

    assert fake.start_counts[ATTEMPT] == 1


@pytest.mark.asyncio
async def test_a_late_answer_comes_when_it_is_released() -> None:
    fake = FakeEngine(choose_fault=lambda method: Fault.ANSWER_LATE)
    starting = asyncio.create_task(fake.start(launch()))
    await asyncio.sleep(0)
    assert not starting.done()
    assert fake.start_counts[ATTEMPT] == 1

    fake.release_answers()

    assert await starting == ATTEMPT


@pytest.mark.asyncio
async def test_a_crash_comes_after_the_act() -> None:
    fake = FakeEngine(choose_fault=lambda method: Fault.CRASH)

    with pytest.raises(Crash):
        await fake.start(launch())

    assert fake.start_counts[ATTEMPT] == 1


@pytest.mark.asyncio
async def test_a_task_that_has_not_come_up_never_does_after_a_stop() -> None:
    fake = FakeEngine(comes_up_at_once=False)
    ref = await fake.start(launch())
    assert await state_of(fake) is TaskState.STARTING

    await fake.stop(ref, 10)
    fake.come_up(ATTEMPT)

    assert await state_of(fake) is TaskState.ENDED


@pytest.mark.asyncio
async def test_a_task_that_does_not_end_at_once_is_killed_when_its_time_is_up() -> None:
    fake = FakeEngine(ends_at_once=False)
    ref = await fake.start(launch())
    await fake.stop(ref, 10)

    fake.advance(9_999)
    assert await state_of(fake) is TaskState.RUNNING
    fake.advance(1)

    (task,) = (await fake.observe([ref]))[ref].tasks
    assert (task.exit_code, task.was_stopped) == (KILLED, True)


@pytest.mark.asyncio
async def test_cards_are_in_use_until_their_task_is_over() -> None:
    fake = FakeEngine()
    await fake.start(launch(cards=(0, 1)))
    await fake.start(launch("0" * 31 + "2", cards=(1,)))

    assert fake.cards_in_use() == {
        ("a", CardKind.GPU, 0): [ATTEMPT],
        ("a", CardKind.GPU, 1): [ATTEMPT, "0" * 31 + "2"],
    }
    fake.finish(ATTEMPT, 0, 0)
    assert fake.cards_in_use() == {("a", CardKind.GPU, 1): ["0" * 31 + "2"]}
