"""What is looked up once for all who ask in one turn of the event loop, and for nobody later."""

import asyncio
from dataclasses import dataclass

import pytest

from muster.operations.turn import SharedInTurn


@dataclass
class Outside:
    """Something that changes, and counts how often it is asked."""

    value: str = "old"
    asked: int = 0
    turns: int = 0  # of the loop that an answer takes

    async def answer(self) -> str:
        self.asked += 1
        found = self.value
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return found


@pytest.mark.asyncio
async def test_those_who_ask_in_one_turn_share_the_answer() -> None:
    shared, outside = SharedInTurn(), Outside()

    answers = await asyncio.gather(*(shared.ask("key", outside.answer) for _ in range(9)))

    assert answers == ["old"] * 9
    assert outside.asked == 1


@pytest.mark.asyncio
async def test_each_key_has_an_answer_of_its_own() -> None:
    shared, one, other = SharedInTurn(), Outside("one"), Outside("other")

    answers = await asyncio.gather(shared.ask(1, one.answer), shared.ask(2, other.answer))

    assert list(answers) == ["one", "other"]


@pytest.mark.asyncio
async def test_who_asks_in_the_next_turn_sees_what_has_changed() -> None:
    shared, outside = SharedInTurn(), Outside()
    await shared.ask("key", outside.answer)

    outside.value = "new"
    await asyncio.sleep(0)

    assert await shared.ask("key", outside.answer) == "new"


@pytest.mark.asyncio
async def test_an_answer_that_takes_longer_than_the_turn_is_for_those_who_asked_in_it() -> None:
    shared, outside = SharedInTurn(), Outside(turns=3)
    slow = [asyncio.create_task(shared.ask("key", outside.answer)) for _ in range(9)]
    await asyncio.sleep(0)

    outside.value = "new"
    later = asyncio.create_task(shared.ask("key", outside.answer))

    assert await asyncio.gather(*slow) == ["old"] * 9
    assert await later == "new"
    assert outside.asked == 2


@pytest.mark.asyncio
async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    shared, outside = SharedInTurn(), Outside(turns=3)
    first, second, third = (
        asyncio.create_task(shared.ask("key", outside.answer)) for _ in range(3)
    )
    await asyncio.sleep(0)

    first.cancel()
    second.cancel()

    assert await third == "old"


@pytest.mark.asyncio
async def test_an_error_is_for_him_alone_who_asked() -> None:
    shared, outside = SharedInTurn(), Outside()

    async def fail() -> str:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    outcomes = await asyncio.gather(
        shared.ask("key", fail),
        *(shared.ask("key", outside.answer) for _ in range(2)),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], ZeroDivisionError)
    assert outcomes[1:] == ["old", "old"]


@pytest.mark.asyncio
async def test_an_error_is_not_remembered() -> None:
    shared, outside = SharedInTurn(), Outside()

    async def fail() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await shared.ask("key", fail)

    assert await shared.ask("key", outside.answer) == "old"
