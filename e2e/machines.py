"""Machines of their own for the packages: clean Debian systems, each with its own network, processes, mounts and name, on one bridge.

They hang on one process, which ends when this one does, however that ends: it reads our pipe. Its process namespace ends with it, and with
that everything that runs there and is mounted there. Nothing is left on this system but files below the test's folder."""

import fcntl
import hashlib
import os
import select
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

from system import PATIENCE, children, eventually, run

SPACES = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--propagation", "private"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def innermost(pid):
    """The last of a line of processes."""
    found = children(pid)
    return innermost(found[0]) if found else pid


class Space:
    """A process that holds namespaces, and commands that run in them."""

    def __init__(self, words):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.pid = innermost(self.process.pid)

    def within(self, *kinds):
        return ["nsenter", f"--target={self.pid}", *kinds]

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)


class Network(Space):
    """A bridge, and the machines on it."""

    def __init__(self, folder, base):
        super().__init__(["unshare", *SPACES, "--mount-proc", "sh", "-ec", "ip link add bridge type bridge; ip link set bridge up; echo ready; cat"])
        self.folder, self.base, self.addresses, self.machines = folder, base, {}, []

    def machine(self, name, address, names=()):
        """A new machine. Names are told to all that are made later, and to itself."""
        self.addresses.update({each: address for each in (name, *names)})
        machine = Machine(self, name, address)
        self.machines.append(machine)
        return machine


    def close(self):
        for machine in self.machines:
            if machine.process.poll() is None:
                machine.close()
        super().close()


class Machine(Space):
    def __init__(self, network, name, address):
        folder = network.folder / name
        for below in ("root", "upper", "work"):
            (folder / below).mkdir(parents=True)
        # Every directory above a program must be fit for sshd.
        (folder / "upper").chmod(0o755)
        script = """
            mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
            mount --rbind /dev "$2/root/dev"
            mount -t proc proc "$2/root/proc"
            mount -t tmpfs -o mode=755 tmpfs "$2/root/run"
            mkdir "$2/root/run/sshd"
            hostname "$3"
            exec chroot "$2/root" sh -c 'echo ready; cat'
        """
        words = network.within("--all", "unshare", *SPACES, "sh", "-ec", script, "sh", str(network.base), str(folder), name)
        super().__init__(words)
        self.name, self.address, self.folder, self.services = name, address, folder, []
        self.root = Path(f"/proc/{self.pid}/root")
        # The namespace of this network is named by a process as it is numbered there.
        inner = int((Path(f"/proc/{self.pid}/status").read_text().split("NSpid:")[1].splitlines()[0]).split()[1])
        link = f"ip link add {name} type veth peer name eth0 netns {inner} && ip link set {name} master bridge up"
        run(*network.within("--net", "--mount", "--pid", "sh", "-ec", link))
        # The network card goes by the address, so that a new machine in an old one's place is found at once.
        card = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
        run(*self.within("--net", "ip", "link", "set", "eth0", "address", card))
        run(*self.within("--net", "sh", "-ec", f"ip address add {address}/24 dev eth0; ip link set eth0 up; ip link set lo up"))
        hosts = "".join(f"{address} {name}\n" for name, address in network.addresses.items())
        self.write("etc/hosts", f"127.0.0.1 localhost\n{hosts}")
        self.write("etc/hostname", f"{name}\n")
        # The first account of the system, and answers to what apt asks.
        self.write("root/apt.conf", 'APT::Get::Assume-Yes "true";\nAPT::Sandbox::User "root";\n')
        self.exports = ""

    def words(self, *words):
        return [*self.within("--all", "--root", "--wd"), *(str(word) for word in words)]

    def environment(self):
        return {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "APT_CONFIG": "/root/apt.conf"}

    def shell(self, line, check=True):
        """What somebody types there. What is exported stays."""
        if line.startswith("export "):
            self.exports += f"{line}\n"
        return run(*self.words("sh", "-ec", f"cd\n{self.exports}{line}"), check=check, env=self.environment(), timeout=2 * PATIENCE)

    def write(self, name, text, mode=0o644):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def read(self, name):
        return (self.root / name).read_text()

    def state(self, *tops):
        """Everything below some directories: kinds, modes, owners, contents."""
        state = {}
        for top in tops:
            for folder, folders, files in os.walk(self.root / top):
                for path in (Path(folder, name) for name in folders + files):
                    found = path.lstat()
                    content = b""
                    if path.is_symlink():
                        content = os.readlink(path).encode()
                    elif path.is_file():
                        content = path.read_bytes()
                    name = str(path.relative_to(self.root))
                    mode = (stat.filemode(found.st_mode), found.st_uid, found.st_gid)
                    state[name] = (*mode, hashlib.sha256(content).hexdigest())
        return state

    def close(self):
        for service in self.services:
            service.close()
        super().close()

    def start_sshd(self):
        self.shell("/usr/sbin/sshd -E /var/log/sshd.log")

    def serve(self, *words, user="root", group="root", environment=None):
        service = Service(self, words, user, group, environment or {})
        self.services.append(service)
        return service


class Service:
    """What systemd does for a unit of Type=notify, for there is no systemd in these machines: it starts the program as its user, waits for
    READY=1, and keeps the sockets that it is given through restarts (sd_notify(3), FDSTORE=1)."""

    def __init__(self, machine, words, user, group, environment):
        self.machine, self.line, self.user, self.group = machine, words, user, group
        self.variables = environment
        self.stored, self.process = [], None
        self.log = machine.folder / f"{words[0]}.log"
        self.path = f"run/notify-{Path(words[0]).name}"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(machine.root / self.path))
        (machine.root / self.path).chmod(0o777)

    def start(self):
        # What came after READY=1: an unread message would keep its socket open, and nobody would accept.
        while select.select([self.notify], [], [], 0)[0]:
            self.take_message()
        sockets = [descriptor for _, descriptor in self.stored]
        names = ":".join(name for name, _ in self.stored)
        variables = {**self.machine.environment(), **self.variables, "NOTIFY_SOCKET": f"/{self.path}"}
        if sockets:
            variables.update(LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=names)

        def pass_sockets():
            for place, descriptor in enumerate(sockets):
                os.dup2(descriptor, 3 + place)

        # Only the process itself knows its number there.
        script = 'export LISTEN_PID=$$; exec setpriv --reuid "$1" --regid "$2" --clear-groups -- "${@:3}"'
        words = self.machine.words("bash", "-ec", script, "bash", self.user, self.group, *self.line)
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                pass_fds=range(3, 3 + len(sockets)),
                preexec_fn=pass_sockets if sockets else None,
            )
        self.await_ready()

    def await_ready(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(self.log.read_text())
            if select.select([self.notify], [], [], 0.05)[0] and self.take_message():
                return
        raise AssertionError(f"{self.line[0]} is not ready:\n{self.log.read_text()}")

    def take_message(self):
        message, descriptors, _, _ = socket.recv_fds(self.notify, 4096, 16)
        lines = dict(line.split("=", 1) for line in message.decode().splitlines())
        if lines.get("FDSTORE") == "1":
            # Out of the way of those numbers that they are passed on as.
            name = lines.get("FDNAME", "stored")
            self.stored += [(name, fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 100)) for each in descriptors]
        for each in descriptors:
            os.close(each)
        return lines.get("READY") == "1"

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        if self.is_running():
            # nsenter only waits for it.
            os.kill(children(self.process.pid)[0], signal.SIGTERM)
            self.process.wait(PATIENCE)
        return self.process and self.process.returncode

    def close(self):
        """A socket that we kept would keep the machine's network, address included."""
        self.stop()
        self.notify.close()
        for _, descriptor in self.stored:
            os.close(descriptor)

    def restart(self):
        self.stop()
        self.start()
