"""A Slurm cluster of the tests' own: on loopback, in a folder of its own, gone afterwards."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Final

NODES: Final = tuple(f"n{number}" for number in range(1, 9))
CPUS: Final = 16  # of each node; none of them is there
MEMORY_MIB_PER_CPU: Final = 4096
CARDS: Final = 8  # of each node: GPUs on the first six, NPUs on the last two
NPU_NODES: Final = NODES[6:]
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 0.05
PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel")
_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def find_what_is_missing() -> str:
    """Why there can be no cluster here; "": there can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"Slurm is not installed: no {', '.join(missing)}" if missing else ""


def require_slurm() -> None:
    """Skip the test where there is no Slurm, unless this run must have one."""
    from tests import required  # here: measurements use the rest where no tests are installed

    missing = find_what_is_missing()
    if missing:
        required.is_missing("slurm", missing)


@dataclass(slots=True)
class SlurmCluster:
    """One that runs. Its parts can be killed and started again."""

    folder: Path
    ports: list[int]
    cpus: int = CPUS  # of each node
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environ(self) -> dict[str, str]:
        """What Slurm's commands need to find this cluster."""
        return {"PATH": _PATH, "SLURM_CONF": str(self.config), "HOME": str(self.folder)}

    def run(self, *command: str, timeout: float = 60) -> str:
        done = subprocess.run(  # noqa: S603
            command,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def launch(self, name: str, *command: str) -> None:
        program = shutil.which(command[0], path=_PATH)
        assert program is not None
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(  # noqa: S603
                [program, *command[1:]],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start_controller(self) -> None:
        self.launch("slurmctld", "slurmctld", "-D", "-i", "-f", str(self.config))

    @contextmanager
    def configured(self, change: Callable[[str], str]) -> Iterator[None]:
        """With other settings, until it is over; the controller is started again for either."""
        before = self.config.read_text()
        self.config.write_text(change(before))
        self.restart_controller()
        try:
            yield
        finally:
            self.config.write_text(before)
            self.restart_controller()

    def restart_controller(self) -> None:
        """As an operator does: it saves what it knows, and reads its configuration again."""
        process = self.processes.pop("slurmctld")
        process.terminate()
        process.wait(timeout=START_SECONDS)
        self.start_controller()

        def answers() -> bool:
            with suppress(AssertionError, subprocess.TimeoutExpired):
                return "UP" in self.run("scontrol", "ping", timeout=20)
            return False

        self.wait_for(answers)

    def start_node(self, name: str) -> None:
        self.launch(name, "slurmd", "-D", "-N", name, "-f", str(self.config))

    def end_process(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait(timeout=START_SECONDS)

    def environ_of_a_stranger(self) -> dict[str, str]:
        """What the commands find of this cluster on a machine whose munge has another key.

        It is the process `stranger`; end it afterwards.
        """
        folder = self.folder / "stranger"
        folder.mkdir(exist_ok=True)
        socket_file = folder / "munge.socket"
        config = self.config.read_text().replace(
            f"{self.folder}/run/munge.socket", str(socket_file)
        )
        (folder / "slurm.conf").write_text(config)
        self.launch_munge("stranger", folder)
        return self.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def launch_munge(self, name: str, folder: Path) -> None:
        """One with a key of its own, and its socket, in the folder."""
        key = folder / "munge.key"
        key.unlink(missing_ok=True)
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.launch(
            name,
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={folder / 'munge.socket'}",
            f"--pid-file={folder / 'munged.pid'}",
            f"--log-file={self.folder / 'log' / f'{name}.log'}",
            f"--seed-file={folder / 'munged.seed'}",
        )
        self.wait_for((folder / "munge.socket").exists)

    def kill(self, name: str) -> None:
        """As `kill -9` does: `slurmctld`, or a node's slurmd by the node's name."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def wait_until_idle(self) -> None:
        """Every node is up, and nothing runs on it."""

        def is_idle() -> bool:
            with suppress(AssertionError, subprocess.TimeoutExpired):
                said = self.run("sinfo", "-h", "-N", "-p", "all", "-o", "%N %T", timeout=20)
                return sorted(said.split("\n")[:-1]) == sorted(f"{n} idle" for n in NODES)
            return False

        self.wait_for(is_idle)

    def wait_for(self, is_so: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(LOOK_SECONDS)

    @contextmanager
    def partition(self, name: str, *settings: str) -> Iterator[None]:
        """One more of all nodes, until it is over; a restart of the controller forgets it."""
        nodes = f"Nodes={','.join(NODES)}"
        self.run("scontrol", "create", f"PartitionName={name}", nodes, *settings)
        try:
            yield
        finally:
            self.run("scancel", "--quiet", f"--partition={name}")
            self.wait_for(lambda: not self.run("squeue", "-h", "-p", name).strip())
            self.run("scontrol", "delete", f"PartitionName={name}")

    def logs(self) -> str:
        files = sorted((self.folder / "log").iterdir())
        return "\n".join(f"{f.name}:\n{f.read_text(errors='replace')[-1500:]}" for f in files)

    def clear(self) -> None:
        """End every job, and wait until all nodes are free again."""
        self.run("scancel", "--quiet", "--user", pwd.getpwuid(os.getuid()).pw_name)
        # A controller that was killed may have drained some: two jobs had the same id.
        drained = self.run("sinfo", "-h", "-N", "-p", "all", "-t", "drain", "-o", "%N").split()
        if drained:
            self.run("scontrol", "update", f"NodeName={','.join(drained)}", "State=RESUME")
        self.wait_until_idle()

    def stop(self) -> None:
        """Take everything down, jobs first."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self.clear()
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.find_left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def find_left(self) -> list[int]:
        """What the cluster has started and does not know of any more.

        The supervisor of a step whose node was killed waits for an answer that never comes.
        """
        marker = f"SLURM_CONF={self.config}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is somebody else's
                if marker in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return [pid for pid in found if pid != os.getpid()]


@contextmanager
def running_slurm(*, cpus: int = CPUS) -> Iterator[SlurmCluster]:
    """One with so many CPUs a node."""
    # Short: a socket's path ends at 107 characters.
    with ExitStack() as opened:
        folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        opened.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = SlurmCluster(folder, find_free_ports(1 + len(NODES)), cpus)
        opened.callback(cluster.stop)
        write_files(cluster)
        cluster.launch_munge("munged", folder / "run")
        cluster.start_controller()
        for name in NODES:
            cluster.start_node(name)
        cluster.wait_until_idle()
        yield cluster


def find_free_ports(count: int) -> list[int]:
    """Below those that systems give to connections: none of these takes one before it is used."""
    found: list[int] = []
    with ExitStack() as held:
        for port in SystemRandom().sample(range(20_000, 32_000), 100 * count):
            with suppress(OSError):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                break
    return found


def write_files(cluster: SlurmCluster) -> None:
    folder = cluster.folder
    folder.chmod(0o755)
    for name in ("run", "log", "state", "spool", "dev"):
        (folder / name).mkdir()
    (folder / "plugstack.conf").touch()
    gres = [
        f"NodeName={node} Name={kind} File={make_device(folder, kind, number)}"
        for node in NODES
        for kind in ["npu" if node in NPU_NODES else "gpu"]
        for number in range(CARDS)
    ]
    (folder / "gres.conf").write_text("\n".join(gres) + "\n")
    cluster.config.write_text(config_of(cluster))


def make_device(folder: Path, kind: str, number: int) -> Path:
    """What stands for a card: Slurm gives out numbers only to what is a device file."""
    if os.getuid() != 0:
        return Path(f"/dev/tty{number}")
    device = folder / "dev" / f"{kind}{number}"
    if not device.exists():
        os.mknod(device, 0o600 | 0o020000, os.makedev(1, 3))  # as /dev/null
    return device


def config_of(cluster: SlurmCluster) -> str:
    host, folder, user = socket.gethostname(), cluster.folder, pwd.getpwuid(os.getuid()).pw_name
    size = f"CPUs={cluster.cpus} RealMemory={cluster.cpus * MEMORY_MIB_PER_CPU}"
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {size}"
        f" Gres={'npu' if name in NPU_NODES else 'gpu'}:{CARDS} State=UNKNOWN"
        for name, port in zip(NODES, cluster.ports[1:], strict=True)
    )
    return f"""
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={cluster.ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/run/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
PlugStackConfig={folder}/plugstack.conf
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu,npu
ReturnToService=2
EnforcePartLimits=ALL
SlurmdTimeout=6
SlurmctldTimeout=10
MessageTimeout=20
KillWait=5
MinJobAge=300
MaxJobCount=20000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=50000,batch_sched_delay=0,bf_interval=2
{nodes}
PartitionName=all Nodes={NODES[0]},{",".join(NODES[1:])} Default=YES MaxTime=INFINITE State=UP
PartitionName=train Nodes={",".join(NODES[4:6])} MaxTime=1-0 State=UP
"""
