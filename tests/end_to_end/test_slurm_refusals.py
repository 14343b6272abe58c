"""What a real Slurm refuses, and what the job tells of it."""

from pathlib import Path

import pytest

from tests.end_to_end.server import running_server
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(300)

CREATE_FAILED = 5
# Without a database of accounts the controller knows no qualities of service by itself.
KNOWS_NO_SUCH_QOS = """
local INVALID_QOS = 2066
function slurm_job_submit(job, partitions, user)
  if job.qos == "scarce" then return INVALID_QOS end
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, user)
  return slurm.SUCCESS
end
return slurm.SUCCESS
"""


def test_a_job_of_a_refused_quality_of_service_could_not_be_started_and_names_the_setting(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "muster.toml").write_text('slurm_qos = "scarce"\n')
    (slurm.folder / "job_submit.lua").write_text(KNOWS_NO_SUCH_QOS)
    with (
        slurm.configured(lambda config: f"{config}JobSubmitPlugins=lua\n"),
        running_server(tmp_path, "--engine", "slurm") as remote,
    ):
        shown = remote.wait(remote.submit("refused", "print('never')"), CREATE_FAILED)

    assert "Invalid qos specification" in shown["status_message"]
    assert "slurm_qos" in shown["status_message"]
