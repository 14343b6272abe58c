"""What an engine does beside its callers, and how it says what the system refuses."""

import shutil
from pathlib import Path

import pytest

from muster.domain.errors import EngineUnavailable
from muster.engines.background import Background


@pytest.mark.asyncio
async def test_a_copy_that_fails_in_many_files_is_told_by_the_first_of_them(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    for name in ("a.py", "b.py"):
        (code / name).symlink_to("nowhere")
    background = Background("local", tmp_path / "jobs")

    with pytest.raises(EngineUnavailable) as refused:
        await background.in_thread(shutil.copytree, code, tmp_path / "target")
    background.close()

    said = refused.value.message
    assert said.startswith(f"The local engine cannot work in {tmp_path / 'jobs'}: [Errno ")
    assert said.count("No such file") == 1
