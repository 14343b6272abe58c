from pathlib import Path

import pytest

from muster.engines.discovery import (
    Card,
    count_cpus,
    find_machine,
    find_memory_mib,
    parse_npu_list,
    parse_npu_memory,
)

TWO_NPUS = """\
\tTotal Count                    : 2

\tNPU ID                         : 0
\tProduct Name                   : IT21HMDB01
\tSerial Number                  : 1023A0001
\tChip Count                     : 1

\tNPU ID                         : 5
\tProduct Name                   : IT21HMDB01
\tSerial Number                  : 1023A0002
\tChip Count                     : 2
"""


def machine_folder(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_has_a_name_cpus_and_memory() -> None:
    machine = find_machine()

    assert machine.host_name
    assert machine.cpu_count >= 1
    assert machine.memory_mib > 0
    assert (machine.card_kind is None) == (machine.cards == ())


def test_memory_is_that_of_the_machine_without_a_limit(tmp_path: Path) -> None:
    root = machine_folder(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "max\n",
        },
    )

    assert find_memory_mib(root) == 8192


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/memory.max": f"{1 << 30}\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
        },
        {
            "proc/self/cgroup": "4:memory:/a\n1:cpu,cpuacct:/\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{1 << 30}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
        {
            "proc/self/cgroup": "4:memory:/docker/of/the/host\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{1 << 30}\n",
        },
    ],
    ids=["version 2, set above us", "version 1", "version 1 in a container"],
)
def test_memory_is_what_the_cgroup_allows(tmp_path: Path, files: dict[str, str]) -> None:
    root = machine_folder(tmp_path, {"proc/meminfo": "MemTotal: 8388608 kB\n", **files})

    assert find_memory_mib(root) == 1024


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"},
        {
            "proc/self/cgroup": "1:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
    ids=["version 2, half a CPU", "version 1, one and a half"],
)
def test_cpus_are_what_the_cgroup_grants_but_at_least_one(
    tmp_path: Path, files: dict[str, str]
) -> None:
    assert count_cpus(machine_folder(tmp_path, files)) == 1


def test_a_cgroup_without_a_quota_limits_no_cpus(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}

    assert count_cpus(machine_folder(tmp_path, files)) == count_cpus(tmp_path / "nothing")


def test_every_chip_of_every_npu_is_a_card() -> None:
    assert parse_npu_list(TWO_NPUS) == tuple(
        Card(index=index, model="IT21HMDB01", memory_mib=0) for index in range(3)
    )


@pytest.mark.parametrize("text", ["", "no such device", "NPU ID : \nChip Count : x", "::::\n"])
def test_an_answer_that_makes_no_sense_lists_no_npus(text: str) -> None:
    assert parse_npu_list(text) == ()


def test_the_memory_of_an_npu_is_the_first_that_is_not_zero() -> None:
    text = "\tDDR Capacity(MB)    : 0\n\tHBM Capacity(MB)    : 65536\n\tHBM Usage Rate(%)   : 5\n"

    assert parse_npu_memory(text) == 65536
    assert parse_npu_memory("") == 0


def test_npus_are_found_through_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = machine_folder(
        tmp_path,
        {"npu-smi": f"#!/bin/sh\n[ $2 = -l ] && cat <<'END'\n{TWO_NPUS}END\n:\n"},
    )
    (command / "npu-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("muster.engines.discovery.find_gpus", lambda: ())

    machine = find_machine()

    assert machine.card_kind == "npu"
    assert [card.index for card in machine.cards] == [0, 1, 2]
