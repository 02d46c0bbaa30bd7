"""A SLURM cluster of several nodes on this machine, for as long as a test needs it.

Debian's slurmctld, slurmd and munge, with every file in one folder. As root a node is a namespace of its own (address,
host name, processes), so that it can be switched off like a machine; where that may not be made, the nodes are daemons
beside each other.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare", "nsenter", "ip")
PACKAGES = "slurmctld slurmd slurm-client munge iproute2"
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
LONELY = "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\n"
"""Name lookups inside a node: there is no server, and torch would wait ten seconds for each answer."""

CONFIGURATION = """\
ClusterName=mini
SlurmctldHost={host}({control})
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=5
KillWait=10
CompleteWait=0
MinJobAge=3600
InactiveLimit=0
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


class MiniSlurm:
    """A cluster of nodes `node1` ... `nodeN`. Jobs of its partition `urgent` requeue those of `main`."""

    def __init__(self, folder: Path, tag: str, nodes: int = 2, gpus: int = 8) -> None:
        """`tag`: at most five letters that tell this cluster's network from another's."""
        self.folder, self.tag, self.gpus = folder, tag, gpus
        self.names = [f"node{number + 1}" for number in range(nodes)]
        self.isolated = _may_make_namespaces(tag)
        self.subnet = f"10.{secrets.randbelow(120) + 64}.{secrets.randbelow(254)}"
        self.port = _free_ports(len(self.names) + 2)

    # what a test does

    def command(self, *arguments: str | Path, check: bool = True) -> str:
        """Run a command of SLURM's, or any with its configuration, and return what it prints."""
        done = subprocess.run(
            [str(argument) for argument in arguments], env=self.environment, capture_output=True, text=True, timeout=120
        )
        if check and done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SRUN"))}
        return {**kept, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def job(self, number: str) -> dict[str, str]:
        told = self.command("scontrol", "-o", "show", "job", number)
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"{what}: not after {seconds:.0f} s\n{self.command('squeue', '-a')}")
            time.sleep(0.1)

    def wait_for_end(self, number: str, seconds: float = 120.0) -> dict[str, str]:
        self.wait_for(lambda: self.job(number)["JobState"] in FINAL, f"end of job {number}", seconds)
        return self.job(number)

    def kill_node(self, number: int) -> None:
        """SIGKILL for a node's slurmd and all its tasks at once."""
        name = self.names[number]
        if self.isolated:
            os.kill(int((self.folder / f"init.{name}.pid").read_text()), signal.SIGKILL)
            self._remove_network(number)
            return
        daemon = int((self.folder / f"slurmd.{name}.pid").read_text())
        for process in [daemon, *processes(f"SLURMD_NODENAME={name}")]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def start_node(self, number: int) -> None:
        if self.isolated:
            self._start_namespace(number)
        else:
            self._start_daemon(number)

    def wait_for_nodes(self) -> None:
        def up() -> bool:
            told = self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%T", check=False).split()
            return len(told) == len(self.names) and set(told) <= {"idle", "mixed", "allocated"}

        self.wait_for(up, "nodes up", 40)

    # how it is built

    def start(self) -> None:
        self._write_configuration()
        munge = self.folder / "munge"
        _sh(
            "munged",
            *(
                f"--{name}={munge}/{name.split('-')[0]}"
                for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")
            ),
        )
        if self.isolated:
            _sh("ip", "link", "add", f"{self.tag}br", "type", "bridge")
            _sh("ip", "addr", "add", f"{self.subnet}.1/24", "dev", f"{self.tag}br")
            _sh("ip", "link", "set", f"{self.tag}br", "up")
        subprocess.run(["slurmctld", "-f", str(self.folder / "slurm.conf")], env=self.environment, check=True)
        for number in range(len(self.names)):
            self.start_node(number)
        self.wait_for_nodes()

    def stop(self) -> None:
        self.command("scancel", "--full", "-u", _user(), check=False)
        daemons = [self.folder / "slurmctld.pid", self.folder / "munge" / "pid"]
        if self.isolated:
            for number, name in enumerate(self.names):
                if (self.folder / f"init.{name}.pid").exists():
                    try:
                        self.kill_node(number)
                    except ProcessLookupError:
                        self._remove_network(number)
            _sh("ip", "link", "del", f"{self.tag}br", check=False)
        else:
            daemons += [self.folder / f"slurmd.{name}.pid" for name in self.names]
        for file in daemons:
            if file.is_file():
                try:
                    os.kill(int(file.read_text()), signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def _write_configuration(self) -> None:
        for folder in ("state", "munge", *(f"spool.{name}" for name in self.names)):
            (self.folder / folder).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o755)  # munged wants its socket to be found by all
        (self.folder / "munge" / "key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge" / "key").chmod(0o600)
        host = socket.gethostname()
        lines = []
        for number, name in enumerate(self.names):
            where = (
                f"NodeHostname={name} Port={self.port + 1}"
                if self.isolated
                else f"NodeHostname={host} Port={self.port + 2 + number}"
            )
            size = f"CPUs=64 RealMemory=200000 Gres=gpu:{self.gpus}"
            lines.append(f"NodeName={name} NodeAddr={self._address(number)} {where} {size}")
            own = f"{self.subnet}.1" if self.isolated else self._address(number)
            others = [f"{self._address(other)} {node}" for other, node in enumerate(self.names)]
            (self.folder / f"hosts.{name}").write_text("\n".join(["127.0.0.1 localhost", f"{own} {host}", *others, ""]))
        (self.folder / "nsswitch.conf").write_text(LONELY)
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self._pretended_gpus()}[0-{self.gpus - 1}]\n")
        control = f"{self.subnet}.1" if self.isolated else "127.0.0.1"
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=host, control=control, port=self.port, folder=self.folder, user=_user(), nodes="\n".join(lines)
            )
        )

    def _pretended_gpus(self) -> Path:
        """Character devices, which gres.conf wants and nobody opens."""
        try:
            for number in range(self.gpus):
                os.mknod(self.folder / f"gpu{number}", 0o020666, os.makedev(1, 3))
        except PermissionError:
            return Path("/dev/tty")
        return self.folder / "gpu"

    def _address(self, number: int) -> str:
        return f"{self.subnet}.{11 + number}" if self.isolated else f"127.0.0.{2 + number}"

    def _start_daemon(self, number: int) -> None:
        """A mount namespace only, for the node's name in /etc/hosts."""
        name = self.names[number]
        inside = (
            f"mount --bind {self.folder}/hosts.{name} /etc/hosts && exec slurmd -f {self.folder}/slurm.conf -N {name}"
        )
        user = [] if os.getuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
        unshare = ["unshare", *user, "--mount", "bash", "-c", inside]
        subprocess.run(unshare, env=self.environment, check=True)

    def _start_namespace(self, number: int) -> None:
        name, space, link = self.names[number], f"{self.tag}-{self.names[number]}", f"{self.tag}v{number}"
        _sh("ip", "netns", "add", space)
        _sh("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        _sh("ip", "link", "set", link, "master", f"{self.tag}br", "up")
        for arguments in (
            ("addr", "add", f"{self._address(number)}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", f"{self.subnet}.1"),
        ):
            _sh("ip", "-n", space, *arguments)
        inside = (
            f"hostname {name}; mount --bind {self.folder}/hosts.{name} /etc/hosts; "
            f"mount --bind {self.folder}/nsswitch.conf /etc/nsswitch.conf; "
            f"slurmd -D -f {self.folder}/slurm.conf -N {name} & while :; do sleep 3600 & wait -n; done"
        )
        enter = ["nsenter", f"--net=/run/netns/{space}"]
        unshare = [
            "unshare",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "bash",
            "-c",
            inside,
        ]
        with (self.folder / f"boot.{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*enter, *unshare], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        (self.folder / f"init.{name}.pid").write_text(str(process.pid))

    def _remove_network(self, number: int) -> None:
        _sh("ip", "link", "del", f"{self.tag}v{number}", check=False)
        _sh("ip", "netns", "del", f"{self.tag}-{self.names[number]}", check=False)


def _may_make_namespaces(tag: str) -> bool:
    """Whether nodes can be namespaces: root may, unless it is that of a container without the right to."""
    if os.getuid() != 0:
        return False
    made = subprocess.run(["ip", "netns", "add", f"{tag}-try"], capture_output=True).returncode == 0
    bridged = subprocess.run(["ip", "link", "add", f"{tag}t", "type", "bridge"], capture_output=True).returncode == 0
    _sh("ip", "netns", "del", f"{tag}-try", check=False)
    _sh("ip", "link", "del", f"{tag}t", check=False)
    return made and bridged


def _sh(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=True)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def processes(variable: str, command: str = "") -> list[int]:
    """Those with a variable (`NAME=VALUE`) in their environment and a command line that matches `command`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            mine = f"{variable}\0".encode() in (folder / "environ").read_bytes()
            if mine and re.search(command.encode(), (folder / "cmdline").read_bytes()):
                found.append(int(folder.name))
    return found


def _free_ports(count: int) -> int:
    """The first of `count` free ones in a row, below those that connections take by themselves."""
    for first in range(16800 + 100 * secrets.randbelow(20), 32000, 100):
        try:
            for port in range(first, first + count):
                with socket.create_server(("0.0.0.0", port)):
                    pass
            return first
        except OSError:
            continue
    raise RuntimeError("no free ports")
