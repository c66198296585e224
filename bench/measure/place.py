"""Where a run happens: its programs, its directories, and the servers it starts. Only what was started here is
stopped, by its own handle."""

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# `instance-connectd dev` takes no longer path, because of the Unix sockets below it.
LONGEST_DEV_DIRECTORY = 55


class NotAFigure(Exception):
    """A run with errors measures nothing."""


class Place:
    def __init__(self, arguments):
        self.programs = arguments.programs
        self.sshd = arguments.sshd
        # Where something is compared with these.
        self.aws, self.moto = (getattr(arguments, name, None) for name in ["aws", "moto"])
        self.cleanup = contextlib.ExitStack()
        self.started = 0

    def __enter__(self):
        # On a disk, for the audit log is to be synced to one; /tmp is often memory.
        below = ROOT / "target"
        if len(str(below)) + len("/bench-12345678/dev00") > LONGEST_DEV_DIRECTORY:
            below = Path("/var/tmp")
        self.disk = self.directory("bench-", below)
        # sshd starts our command as an unprivileged user.
        self.disk.chmod(0o711)
        # Where the agents' run directory is on a machine: in memory.
        memory = Path("/dev/shm")
        self.memory = self.directory("bench-", memory if os.access(memory, os.W_OK) else self.disk)
        return self

    def __exit__(self, *_):
        self.cleanup.close()

    def directory(self, prefix, below):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=below))
        self.cleanup.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def fresh(self, name):
        self.started += 1
        return f"{name}{self.started:02}"

    def program(self, name):
        return str(self.programs / name)

    def load(self, command, *arguments, environment=None):
        """Runs the load program and gives what it measured."""
        words = [self.program("instance-connect-bench-load"), command, *map(str, arguments)]
        # Nothing here takes longer than a minute.
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise NotAFigure(done.stderr.strip())
        return json.loads(done.stdout)

    def push(self, server, dev, instances, users, *arguments):
        """Pushes keys at `server` (HOST:PORT). An error makes it no figure."""
        environment = os.environ | dev.environment()
        result = self.load(
            "push", "--server", server, "--instances", instances, "--users", ",".join(users), *arguments,
            environment=environment,
        )
        if result["errors"]:
            raise NotAFigure(", ".join(f"{count} x {error}" for error, count in result["errors"].items()))
        return result


class Process:
    """A server, stopped at the end of its block."""

    def __init__(self, words, **options):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, **options)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        for stop in [signal.SIGTERM, signal.SIGKILL]:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
                return

    def wait_for(self, what, is_there, seconds=60):
        end = time.monotonic() + seconds
        while not is_there():
            if self.process.poll() is not None:
                raise RuntimeError(f"{what} ended: {self.process.returncode}")
            if time.monotonic() > end:
                raise RuntimeError(f"{what} is not ready after {seconds} s")
            time.sleep(0.05)


class Dev(Process):
    """`instance-connectd dev`."""

    # An account that everyone has, and that is not root, which machines deny.
    def __init__(self, place, machines=1, without_machine=0, options=(), os_user="nobody"):
        self.directory = place.disk / place.fresh("dev")
        ready = self.directory / "ready.json"
        words = [place.program("instance-connectd"), "dev", "--dir", self.directory, "--sshd", place.sshd,
                 "--instances", machines, "--instances-without-machine", without_machine, *options]
        if os.getuid() == 0 and os_user:
            words += ["--os-user", os_user]
        super().__init__([str(word) for word in words], stdout=subprocess.DEVNULL)
        try:
            self.wait_for("instance-connectd dev", ready.exists)
        except BaseException:
            self.__exit__()
            raise
        self.ready = json.loads(ready.read_text())
        self.server = self.ready["endpoint_url"].removeprefix("http://")
        # What is measured of it; the process that started everything sits there and waits.
        [self.control_plane] = [pid for pid in children(self.pid) if b"\0serve\0" in command_line(pid)]
        self.join_tokens = self.directory / "join-tokens"

    def environment(self):
        admin, region = self.ready["admin"], self.ready["region"]
        return {
            "AWS_ENDPOINT_URL": self.ready["endpoint_url"],
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": admin["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": admin["secret_access_key"],
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


class Agents:
    """An agent process for each instance of `dev` that has no machine, with its files in memory as on a machine."""

    def __init__(self, place, dev):
        self.program, self.cleanup = place.program("instance-connect-agent"), contextlib.ExitStack()
        self.directory = place.memory / place.fresh("agents")
        self.directory.mkdir()
        self.server, *self.tokens = dev.join_tokens.read_text().split()
        self.instances = self.directory / "instances.txt"
        self.instances.write_text("".join(token.split("_")[1] + "\n" for token in self.tokens))

    def __enter__(self):
        with contextlib.ExitStack() as cleanup:
            self.pids = [cleanup.enter_context(self.start(token)).pid for token in self.tokens]
            self.cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_):
        self.cleanup.close()

    def start(self, token):
        home = self.directory / token.split("_")[1]
        home.mkdir()
        places = ["--etc", home / "etc", "--state", home / "state"]
        enroll = [self.program, "enroll", "--server", self.server, *places, "--ssh-host-keys", home]
        subprocess.run(enroll, input=token, text=True, check=True, capture_output=True)
        run = [self.program, "run", "--exit-with-parent", *places, "--run", home / "run"]
        with open(home / "agent.log", "w") as log:
            return Process(list(map(str, run)), stderr=log)


class Swarm(Process):
    """The agents of many instances in one process."""

    def __init__(self, place, dev, users, acknowledge_only=False):
        directory = place.memory / place.fresh("swarm")
        directory.mkdir()
        words = [place.program("instance-connect-bench-load"), "swarm", "--join-tokens", dev.join_tokens,
                 "--dir", directory, "--users", ",".join(users)]
        if acknowledge_only:
            words.append("--acknowledge-only")
        super().__init__([str(word) for word in words], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            self.__exit__()
            raise RuntimeError("the swarm did not start")
        self.instances = directory / "instances.txt"
        self.instances.write_text("".join(id + "\n" for id in json.loads(line)["instances"]))


class Sshd(Process):
    """The sshd of an instance of `dev` once more, but for whom it lets in: a key that stands in a file."""

    def __init__(self, place, dev, instance):
        directory, self.port = place.disk / place.fresh("sshd"), free_port()
        directory.mkdir()
        self.key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", self.key], check=True)
        theirs = (dev.directory / "instances" / instance["instance_id"] / "ssh" / "sshd_config").read_text()
        kept = [line for line in theirs.splitlines() if not line.startswith("AuthorizedKeys")]
        own = [f"AuthorizedKeysFile {self.key}.pub", "StrictModes no", f"ListenAddress 127.0.0.1:{self.port}"]
        config = directory / "sshd_config"
        config.write_text("\n".join([*kept, *own]) + "\n")
        self.target, self.known_hosts = f"{instance['os_user']}@127.0.0.1", instance["known_hosts"]
        self.alias = instance["instance_id"]
        super().__init__([str(place.sshd), "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
        self.wait_for("sshd", lambda: accepts(f"127.0.0.1:{self.port}"))

    def command(self, *words):
        options = {"IdentitiesOnly": "yes", "IdentityAgent": "none", "BatchMode": "yes", "HostKeyAlias": self.alias,
                   "UserKnownHostsFile": self.known_hosts, "GlobalKnownHostsFile": "none"}
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port), *flags, self.target, *words]


class Attack(Process):
    """Clients that do not mean well, from their start until they are stopped."""

    def __init__(self, place, dev, kind, connections, sources):
        words = [place.program("instance-connect-bench-load"), "attack", kind, "--server", dev.server,
                 "--connections", connections, "--sources", sources]
        environment = os.environ | dev.environment()
        super().__init__(list(map(str, words)), stdout=subprocess.PIPE, text=True, env=environment)
        if not self.process.stdout.readline():
            self.__exit__()
            raise RuntimeError(f"the attack {kind} did not get under way")

    def stop(self):
        """Stops it, and gives what was done since it was under way."""
        self.process.stdin.close()
        return json.loads(self.process.stdout.readline())


class Nginx(Process):
    """nginx with one worker, answering a constant with as many bytes as ours."""

    def __init__(self, place, answer_bytes):
        directory = place.disk / place.fresh("nginx")
        directory.mkdir()
        self.server = f"127.0.0.1:{free_port()}"
        body = json.dumps({"RequestId": "00000000-0000-4000-8000-000000000000", "Success": True})
        # The head that nginx makes of the configuration below, but for the value of X-Filler.
        head = (
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
            "Content-Type: application/x-amz-json-1.1\r\n"
            f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\nX-Filler: \r\n\r\n"
        )
        filler = "0" * max(1, answer_bytes - len(head) - len(body))
        temporary = "".join(
            f"{kind}_temp_path temporary;\n" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        (directory / "nginx.conf").write_text(
            "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log error.log;\n"
            "events { worker_connections 1024; }\n"
            f"http {{\naccess_log off;\nserver_tokens off;\nkeepalive_requests 100000000;\n{temporary}"
            "default_type application/x-amz-json-1.1;\n"
            f"server {{ listen {self.server}; location / {{ add_header X-Filler {filler}; return 200 '{body}'; }} }}\n}}\n"
        )
        super().__init__(["nginx", "-p", str(directory), "-e", "error.log", "-c", "nginx.conf"])
        self.wait_for("nginx", lambda: accepts(self.server))

    def workers(self):
        return children(self.pid)


class Moto(Process):
    """moto's server."""

    def __init__(self, place):
        port = free_port()
        self.server = f"127.0.0.1:{port}"
        words = [str(place.moto), "-H", "127.0.0.1", "-p", str(port)]
        super().__init__(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_for("moto_server", lambda: accepts(self.server))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def accepts(server):
    host, port = server.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def public_key():
    """A public key nobody has, in OpenSSH's form, and its fingerprint."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + secrets.token_bytes(32)
    line = "ssh-ed25519 " + base64.b64encode(blob).decode()
    digest = hashlib.sha256(blob).digest()
    return line, "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def children(pid):
    text = ""
    for task in Path(f"/proc/{pid}/task").iterdir():
        text += (task / "children").read_text() + " "
    return [int(child) for child in text.split()]


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def memory(pid):
    """Resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def processor_seconds(pids):
    """Processor time, user and system, of these processes so far, with that of programs they ran and waited for."""
    tick, total = os.sysconf("SC_CLK_TCK"), 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        # proc(5) counts the two fields before as well.
        utime, stime, cutime, cstime = map(int, fields[11:15])
        # The same to the nanosecond, but without threads that have ended.
        tasks = Path(f"/proc/{pid}/task").iterdir()
        threads = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        total += max((utime + stime) / tick, threads) + (cutime + cstime) / tick
    return total
