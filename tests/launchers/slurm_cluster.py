"""A Slurm of two nodes on this machine: its own daemons, each node with network, host name and hosts file of its own.

Nothing of it is seen outside. It takes the commands of Slurm and MUNGE, of iproute2 and util-linux, and root.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

from tests.processes import wait_for

COMMANDS = ("ip", "munged", "nsenter", "sbatch", "scontrol", "slurmctld", "slurmd", "squeue", "srun", "unshare")
ADDRESSES = {"node1": "10.0.0.1", "node2": "10.0.0.2"}  # of a network that has these two alone
# Of partition "first" jobs take the nodes from those of "all", which are told a minute before.
# What is queued again starts after cred_expire seconds, 120 by default.
CONFIG = """
ClusterName=loopback
SlurmctldHost=node1
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n.spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node[1-2] CPUs=1
PartitionName=all Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=first Nodes=ALL PriorityTier=2
"""


def missing():
    """Why there can be no such cluster, or nothing."""
    if absent := [command for command in COMMANDS if shutil.which(command) is None]:
        return f"needs Debian's slurm-wlm, munge and iproute2; there is no {', '.join(absent)}"
    if os.geteuid():
        return "needs root, for the networks of the nodes"
    tried = subprocess.run(["unshare", "--net", "--mount", "--uts", "true"], capture_output=True, text=True)
    return tried.stderr.strip()


class Cluster:
    """Commands run on its nodes; `close` ends what was started."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._holders = {}

    def start(self):
        for name in ("state", "node1.spool", "node2.spool"):
            (self.folder / name).mkdir()
        (self.folder / "slurm.conf").write_text(CONFIG.format(folder=self.folder))
        (self.folder / "plugstack.conf").touch()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        hosts = {"localhost": "127.0.0.1", **ADDRESSES}
        (self.folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
        for node in ADDRESSES:
            self._holders[node] = subprocess.Popen(["unshare", "--net", "--mount", "--uts", "sleep", "infinity"])
        wait_for(lambda: all(pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n" for pid in self._pids()))
        for node, other in (("node1", "node2"), ("node2", None)):
            self.run(node, "hostname", node)
            self.run(node, "mount", "--bind", self.folder / "hosts", "/etc/hosts")
            self.run(node, "ip", "link", "set", "lo", "up")
            if other:
                there = ["peer", "name", "cable", "netns", self._holders[other].pid]
                self.run(node, "ip", "link", "add", "cable", "type", "veth", *there)
            self.run(node, "ip", "address", "add", f"{ADDRESSES[node]}/24", "dev", "cable")
            self.run(node, "ip", "link", "set", "cable", "up")
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = [f"--{option}={self.folder / file}" for option, file in files.items()]
        self.run("node1", "munged", "--force", *options, f"--log-file={self.folder / 'munged.log'}")
        self.run("node1", "slurmctld", "-c")
        for node in ADDRESSES:
            self.run(node, "slurmd")
        wait_for(lambda: self.run("node1", "sinfo", "--noheader", "--format=%T %D").split("\n")[0] == "idle 2")

    def _pids(self):
        return [holder.pid for holder in self._holders.values()]

    def run(self, node, *command, **environment):
        """What the command prints on a node, as a user of the cluster runs it; of one that fails, an error."""
        entered = ["nsenter", f"--target={self._holders[node].pid}", "--net", "--mount", "--uts", *map(str, command)]
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), **environment}
        with open(self.folder / "errors.log", "a+") as errors:
            done = subprocess.run(entered, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert done.returncode == 0, (self.folder / "errors.log").read_text()[-3000:]
        return done.stdout.strip()

    def close(self):
        """Jobs first, whose processes the daemons end."""
        if (self.folder / "slurmctld.pid").exists():
            self.run("node1", "scancel", "--user=root")
            wait_for(lambda: not self.run("node1", "squeue", "--noheader"))
        for name in ("node1", "node2", "slurmctld", "munged"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pid = int((self.folder / f"{name}.pid").read_text())
                os.kill(pid, signal.SIGTERM)
                wait_for(lambda pid=pid: not pathlib.Path(f"/proc/{pid}").exists())
        for holder in self._holders.values():
            holder.kill()
            holder.wait()
