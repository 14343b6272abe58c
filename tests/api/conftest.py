"""One server a module: starting it costs more than most tests."""

from collections.abc import Iterator

import pytest

from tests.api.platform import Platform, Project, running_platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("platform") / "data") as platform:
        yield platform


@pytest.fixture(scope="module")
def project(platform: Platform) -> Project:
    return platform.project


@pytest.fixture(scope="module")
def other(platform: Platform) -> Iterator[Project]:
    """Another project, with a user of its own."""
    other = platform.new_project("other")
    yield other
    other.http.close()
