"""Slurm's reasons for a job to wait, in words."""

import pytest

from muster.engines.slurmreasons import DETAIL_CHARACTERS_MAX, HOPELESS, explain


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Resources", "its nodes are taken by other jobs of the cluster (Resources)"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "UnavailableNodes:n[1-2])"),
        ("QOSMaxCpuPerUserLimit", "a limit of its quality of service is reached"),
        ("AssocGrpNodeLimit", "a limit of its account, or of the server's user, is reached"),
        ("InvalidQOS", HOPELESS["InvalidQOS"]),
        ("SomethingNew", "Slurm says: SomethingNew."),
    ],
)
def test_a_reason_is_told_in_words_and_in_slurms_own(reason: str, told: str) -> None:
    assert told in explain(reason)


def test_a_reason_that_names_a_thousand_nodes_is_cut() -> None:
    assert len(explain("Nodes, " + "n" * 10_000)) < 2 * DETAIL_CHARACTERS_MAX
