"""Which stores tests run on, where PostgreSQL is missing."""

import pytest

from tests import postgres


@pytest.fixture(autouse=True)
def _nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_programs", dict)


def test_what_is_required_is_among_the_kinds_and_fails_each_test_that_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUSTER_TESTS_REQUIRE", "slurm postgres-package")

    assert postgres.postgres_kinds() == ["postgres-package"]
    with pytest.raises(pytest.fail.Exception, match="postgres-package is required"):
        postgres.programs_of("postgres-package")


def test_what_nobody_requires_skips_each_test_that_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MUSTER_TESTS_REQUIRE", raising=False)

    [kind] = postgres.postgres_kinds()
    with pytest.raises(pytest.skip.Exception, match="there is no PostgreSQL here"):
        postgres.programs_of(kind)
