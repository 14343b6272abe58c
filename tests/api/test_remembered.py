"""Answers of the store that many need at once: asked for once, and never kept past their time."""

import asyncio
from dataclasses import dataclass, field

import pytest

from muster.api import remembered as remembered_module
from muster.api.remembered import Remembered
from muster.domain.errors import TokenInvalid

pytestmark = pytest.mark.asyncio


@dataclass
class Store:
    """Says what was so when it was asked, once it is let."""

    value: str = "old"
    asked: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, _key: str) -> str:
        self.asked += 1
        found = self.value
        await self.may_answer.wait()
        if found == "gone":
            raise TokenInvalid("The token is not known.")
        return found


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def answers(store: Store) -> Remembered[str, str]:
    return Remembered(store.read)


async def asking(answers: Remembered[str, str], count: int = 1) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(answers.get("key")) for _ in range(count)]
    for _ in range(3):  # until each of them waits for the store
        await asyncio.sleep(0)
    return tasks


async def test_all_who_wait_share_one_question(store: Store, answers: Remembered[str, str]) -> None:
    waiting = await asking(answers, 64)

    store.may_answer.set()

    assert set(await asyncio.gather(*waiting)) == {"old"}
    assert answers.find("key") == "old"
    assert await answers.get("key") == "old"
    assert store.asked == 1


async def test_what_is_too_old_is_asked_for_again(
    store: Store, answers: Remembered[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered_module, "REMEMBER_SECONDS", -1.0)
    store.may_answer.set()
    await answers.get("key")
    store.value = "new"

    assert answers.find("key") is None
    assert await answers.get("key") == "new"


@pytest.mark.parametrize("forgets_all", [False, True])
async def test_what_is_forgotten_while_it_is_asked_for_is_not_remembered(
    store: Store, answers: Remembered[str, str], *, forgets_all: bool
) -> None:
    [before] = await asking(answers)
    store.value = "new"

    answers.forget_all() if forgets_all else answers.forget("key")
    [after] = await asking(answers)
    store.may_answer.set()

    assert await before == "old"
    assert await after == "new"
    assert answers.find("key") == "new"


async def test_a_refusal_reaches_all_who_wait_and_is_not_remembered(
    store: Store, answers: Remembered[str, str]
) -> None:
    store.value = "gone"
    waiting = await asking(answers, 3)
    store.may_answer.set()

    refused = await asyncio.gather(*waiting, return_exceptions=True)
    store.value = "back"

    assert [type(error) for error in refused] == [TokenInvalid] * 3
    assert await answers.get("key") == "back"


async def test_who_goes_away_takes_the_answer_from_nobody(
    store: Store, answers: Remembered[str, str]
) -> None:
    first, second = await asking(answers, 2)

    first.cancel()
    store.may_answer.set()

    assert await second == "old"
    assert store.asked == 1
