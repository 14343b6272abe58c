"""Jobs under bubblewrap. `test_bubblewrap.py` runs these tests as a user without rights."""

import pytest

from muster.engines.isolation import Isolation, Kind
from muster.engines.probe import Grounds, find_isolation
from tests.engines.contract import EngineContract, ServingContract
from tests.engines.isolating import Data, IsolationContract, bench, data

__all__ = ["bench", "data"]  # fixtures


@pytest.fixture(scope="module")
def isolation(data: Data) -> Isolation:
    found = find_isolation("auto", Grounds(jobs_folder=data.jobs, hidden=(data.folder,)))
    assert found.kind is Kind.BUBBLEWRAP, found.trouble
    return found


class TestIsolation(IsolationContract):
    pass


class TestIsolatedEngine(EngineContract):
    pass


class TestIsolatedServing(ServingContract):
    pass
