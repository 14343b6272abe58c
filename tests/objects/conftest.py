from collections.abc import Iterator

import pytest

from tests.objects.s3_account import S3Account, running_s3


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        yield found
