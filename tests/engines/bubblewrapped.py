"""Jobs under bubblewrap. `test_bubblewrap.py` runs these tests as a user without rights."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from muster.engines.isolation import Isolation, Kind
from muster.engines.probe import Grounds, find_isolation
from tests.engines.contract import EngineContract, ServingContract
from tests.engines.isolating import Data, IsolatedBench, IsolationContract


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def isolation(data: Data) -> Isolation:
    found = find_isolation("auto", Grounds(jobs_folder=data.jobs, hidden=(data.folder,)))
    assert found.kind is Kind.BUBBLEWRAP, found.trouble
    return found


@pytest_asyncio.fixture
async def bench(data: Data, isolation: Isolation) -> AsyncIterator[IsolatedBench]:
    bench = IsolatedBench(data, isolation)
    await bench.open()
    yield bench
    await bench.close()


class TestIsolation(IsolationContract):
    pass


class TestIsolatedEngine(EngineContract):
    pass


class TestIsolatedServing(ServingContract):
    pass
