"""Why a job waits in Slurm's own queue, in words for people. Pure.

Source: squeue(1), section JOB REASON CODES, Slurm 22.05.
"""

from collections.abc import Mapping
from typing import Final

DETAIL_CHARACTERS_MAX: Final = 120  # of a reason that names nodes

# No end of another job will let one run that waits for these.
HOPELESS: Final[Mapping[str, str]] = {
    "PartitionNodeLimit": "it asks for more nodes than its partition allows a job, or has",
    "PartitionTimeLimit": "its time limit is above that of its partition",
    "PartitionConfig": "its partition does not take jobs like it",
    "BadConstraints": "no node of its partition has what it asks for",
    "InvalidAccount": "its account does not exist, or may not be used by the server's user",
    "AccountNotAllowed": "its account may not use its partition",
    "InvalidQOS": "its quality of service does not exist, or may not be used by its account",
    "QOSNotAllowed": "its quality of service may not be used in its partition",
}
_PASSING: Final[Mapping[str, str]] = {
    "Resources": "its nodes are taken by other jobs of the cluster",
    "Priority": "jobs of higher priority stand before it",
    # Slurm says so of a node that another job has whole, too.
    "ReqNodeNotAvail": "a node that it is to run on is in use, down, drained or reserved",
    "NodeDown": "a node that it is to run on is down",
    "Nodes": "nodes that it is to run on are down, drained or reserved",
    "PartitionDown": "its partition is down; an operator brings it up again",
    "PartitionInactive": "its partition is inactive; an operator brings it up again",
    "Reservation": "its reservation has not begun",
    "ReservationDeleted": "its reservation was deleted",
    "BeginTime": "Slurm starts it again only after a pause",
    "Licenses": "licenses that it needs are in use",
    "JobHeldAdmin": "an operator holds it; `scontrol release` lets it go",
    "JobHeldUser": "somebody holds it; `scontrol release` lets it go",
    "JobHoldMaxRequeue": "it was requeued too often and is held; `scontrol release` lets it go",
    "launch failed requeued held": (
        "a node could not start it and it is held; `scontrol release` lets it go"
    ),
    "Prolog": "its nodes are being prepared",
    "Cleaning": "its nodes are still being cleaned",
    "JobArrayTaskLimit": "as many of its kind run as may",
    "DeadLine": "it can not end before its deadline",
}
# Limits have a name for each resource: QOSMaxCpuPerUserLimit, AssocGrpNodeLimit ...
_BEGINNINGS: Final[Mapping[str, str]] = {
    "QOS": "a limit of its quality of service is reached",
    "Assoc": "a limit of its account, or of the server's user, is reached",
    "MaxJobs": "a limit of its account, or of the server's user, is reached",
    "Reserved": "its nodes are reserved",
}


def explain(reason: str) -> str:
    """A sentence about a reason as `squeue` tells it, with what else it says: nodes, for one."""
    word = reason.partition(",")[0].strip("()")
    told = HOPELESS.get(word) or _PASSING.get(word)
    if told is None:
        told = next((told for word, told in _BEGINNINGS.items() if reason.startswith(word)), None)
    if told is None:
        return f"It waits in Slurm's queue; Slurm says: {reason[:DETAIL_CHARACTERS_MAX]}."
    return f"It waits in Slurm's queue: {told} ({reason[:DETAIL_CHARACTERS_MAX]})."
