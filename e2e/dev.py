"""A running `instance-connectd dev` as the tests see it: pushes, logins, and the files of its machines."""

import base64
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from system import PATIENCE, command_lines, eventually, is_running, kill, run, shifted_boot_clock

PROGRAMS = Path(os.environ["PROGRAMS"])
SSHD = os.environ["SSHD"]


class Key:
    """An SSH key pair in files of its own."""

    def __init__(self, file, kind="ed25519"):
        self.file = file
        name, _, bits = kind.partition("-")
        run("ssh-keygen", "-q", "-t", name, *(["-b", bits] if bits else []), "-N", "", "-C", "", "-f", file)
        self.public = file.with_name(file.name + ".pub").read_text().strip()
        self.fingerprint = run("ssh-keygen", "-l", "-f", file).stdout.split()[1]


@dataclass
class Login:
    """What came of an attempt to log in."""

    user: str
    status: int
    output: str
    errors: str
    log: str

    @property
    def succeeded(self):
        """A command ran over there as the user asked for."""
        return self.status == 0 and self.output == f"{self.user}\n"

    @property
    def refused(self):
        """The machine took none of the keys, and nothing ran."""
        return self.status == 255 and "Permission denied (publickey" in self.errors and self.output == ""


@dataclass
class Push:
    """A push that succeeded."""

    instance: "Instance"
    user: str
    key: Key
    body: dict
    headers: dict
    at: float

    @property
    def request_id(self):
        return self.body["RequestId"]

    def session(self, command):
        """Plain ssh in the background, running a command over there."""
        words = [*self.instance.ssh(self.key, self.user), command]
        pipe = subprocess.PIPE
        session = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.instance.dev.started.append(session)
        return session

    def login(self, age=None):
        """A login with the pushed key: now, or on a machine whose boot clock shows that `age` seconds have passed."""
        later = None if age is None else max(0, round(age - (time.monotonic() - self.at)))
        return self.instance.login(self.key, self.user, later)


class Instance:
    """One machine of a `dev`: its entry in the ready file, its files, its agent."""

    def __init__(self, dev, entry):
        self.dev = dev
        self.id = entry["instance_id"]
        self.os_user = entry["os_user"]
        self.host, self.port, self.known_hosts = entry["ssh_host"], entry["ssh_port"], entry["known_hosts"]
        self.folder = dev.folder / "instances" / self.id
        self.sshd_config = self.folder / "ssh/sshd_config"

    @property
    def auth_log(self):
        return (self.folder / "auth.log").read_text()

    def key_file(self, key, user=None):
        """Where the agent puts a key for the sshd command."""
        user = hashlib.sha256((user or self.os_user).encode()).hexdigest()
        return self.folder / "run/live" / user / base64.b64decode(key.fingerprint.removeprefix("SHA256:") + "=").hex()

    def ssh(self, key, user, keys_before=(), proxy=None):
        """A plain ssh command line: with this key and none of the caller's own, trusting the ready file's host key."""
        options = {
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "none",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "ConnectTimeout": PATIENCE,
        }
        words = ["ssh", "-F", "none"]
        for offered in (*keys_before, key):
            words += ["-i", offered.file]
        for name, value in {**options, **({"ProxyCommand": proxy} if proxy else {})}.items():
            words += ["-o", f"{name}={value}"]
        return [str(word) for word in (*words, "-p", self.port, f"{user}@{self.host}")]

    def login(self, key, user=None, later=None, sshd_config=None, keys_before=()):
        """Logs in.

        `later` and `sshd_config` start an sshd for this login, with a boot clock ahead by so many seconds or with
        another configuration; without them it is the one that `dev` runs."""
        user = user or self.os_user
        proxy = log = None
        if later is not None or sshd_config is not None:
            log = self.dev.scratch / f"sshd-{time.monotonic_ns()}.log"
            clock = shifted_boot_clock(later) if later is not None else []
            sshd = [*clock, SSHD, "-i", "-E", log, "-f", sshd_config or self.sshd_config]
            proxy = shlex.join(str(word) for word in sshd)
        done = run(*self.ssh(key, user, keys_before, proxy), "id -un", check=False)
        text = log.read_text() if log and log.exists() else self.auth_log
        return Login(user, done.returncode, done.stdout, done.stderr, text)

    def agent(self):
        """The id of the agent's process, once there is one."""

        def find():
            for pid, words in command_lines():
                if words[1:2] == ["run"] and f"{self.folder}/state" in words and is_running(pid):
                    return pid

        return eventually(find, f"the agent of {self.id} runs")

    def start_agent(self, before=()):
        """Starts the agent again as a service manager would: same directories, nothing else but `before` in front."""
        words = [*before, PROGRAMS / "instance-connect-agent", "run"]
        for name in ("etc", "state", "run"):
            words += [f"--{name}", self.folder / name]
        words += ["--ssh-host-keys", self.folder / "ssh"]
        with open(self.folder / "agent.log", "a") as log:
            agent = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.dev.started.append(agent)


class Dev:
    """`instance-connectd dev`, from its start to its end."""

    def __init__(self, scratch, os_user=None, before=(), environment=None, machine_prefix=None, arguments=()):
        """Starts it and waits until it is ready. `before` is put before the command, `arguments` at its end; `environment`
        is added to ours. What is the tests' own, such as logs, goes to `scratch`."""
        self.scratch = scratch
        self.started = []
        self.ready_file = scratch / "ready.json"
        self.output = scratch / "dev.log"
        words = [*before, PROGRAMS / "instance-connectd", "dev", "--ready-file", self.ready_file, "--sshd", SSHD]
        words += ["--os-user", os_user] if os_user else []
        words += ["--machine-prefix", machine_prefix] if machine_prefix else []
        words += arguments
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
        try:
            eventually(lambda: self.ready_file.exists() or self.process.poll() is not None, "dev is ready")
            assert self.process.poll() is None, f"dev ended:\n{self.output.read_text()}"
            self.ready = json.loads(self.ready_file.read_text())
        except BaseException:
            self.close()
            raise
        self.folder = Path(self.ready["audit_log"]).parent
        self.endpoint_url, self.region = self.ready["endpoint_url"], self.ready["region"]
        self.address = self.endpoint_url.removeprefix("http://")
        self.instances = [Instance(self, entry) for entry in self.ready["instances"]]
        self.first, self.second, *_ = self.instances

    def control_plane(self):
        """The id of the control plane's process, once there is one."""

        def find():
            for pid, words in command_lines():
                if words[1:2] == ["serve"] and f"{self.folder}/instance-connectd.toml" in words and is_running(pid):
                    return pid

        return eventually(find, "the control plane runs")

    def end(self, by):
        """Sends it a signal and gives its exit status once it has ended."""
        self.process.send_signal(by)
        return self.process.wait(PATIENCE)

    def close(self):
        """Ends it whatever state it is in."""
        for process in self.started:
            process.kill()
            process.wait()
        if self.process.poll() is None:
            # It may have been stopped.
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                kill(self.process.pid)

    def environment(self, caller="admin"):
        """Variables that point AWS's clients to it."""
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.ready[caller]["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.ready[caller]["secret_access_key"],
        }

    def client(self, caller="admin"):
        """A boto3 client that tries once, so that what it is told is what the first answer said."""
        return boto3.client(
            "ec2-instance-connect",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.ready[caller]["access_key_id"],
            aws_secret_access_key=self.ready[caller]["secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
        )

    def push(self, key, instance=None, user=None, caller="admin"):
        """Pushes a key with boto3: to the first instance and its user unless said otherwise."""
        instance = instance or self.first
        user = user or instance.os_user
        answer = self.client(caller).send_ssh_public_key(
            InstanceId=instance.id, InstanceOSUser=user, SSHPublicKey=key.public
        )
        headers = answer.pop("ResponseMetadata")["HTTPHeaders"]
        return Push(instance, user, key, answer, headers, time.monotonic())

    def audit_lines(self):
        """The audit log, oldest line first, with the files that were finished when they had become too long or too old."""
        live = Path(self.ready["audit_log"])
        files = [*sorted(live.parent.glob(f"{live.stem}-*{live.suffix}")), live]
        return [line for file in files for line in file.read_text().splitlines()]

    def events(self, request_id):
        """All that is on record about a request, oldest first."""
        return [record for record in map(json.loads, self.audit_lines()) if record.get("requestID") == request_id]

    def audit(self, request_id):
        """The records of a request itself, oldest first; not what machines say of its key."""
        return [record for record in self.events(request_id) if record["eventType"] != "InstanceConnectEvent"]


@dataclass
class Answer:
    """What the sshd command answered."""

    status: int
    printed: str
    log: list


class MachineCopy:
    """A copy of a machine's files, to alter and to ask the real sshd command about."""

    def __init__(self, instance, folder):
        self.folder = folder
        for name in ("etc", "ssh"):
            shutil.copytree(instance.folder / name, folder / name)
        shutil.copytree(instance.folder / "run", folder / "run", ignore=shutil.ignore_patterns("*.sock"))
        shutil.copytree(instance.dev.folder / "bin", folder / "bin")
        # Where dev runs as root, the account that sshd runs the command as gets here by the group of these.
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.is_dir() else 0))
        (folder / "ssh/ssh_host_ed25519_key").chmod(0o600)
        config = folder / "ssh/sshd_config"
        text = config.read_text().replace(str(instance.folder), str(folder))
        config.write_text(text.replace(str(instance.dev.folder), str(folder)))
        self.sshd_config = config
        self.syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.syslog.bind(str(folder / "syslog.sock"))
        (folder / "syslog.sock").chmod(0o666)

    @property
    def etc(self):
        return self.folder / "etc"

    def key_file(self, push):
        """The copy of what was handed over for a push."""
        return self.folder / push.instance.key_file(push.key, push.user).relative_to(push.instance.folder)

    def ask(self, user, key, uid=None):
        """Runs the command as sshd would, for this user and offered key."""
        words = [self.folder / "bin/instance-connect-authorized-keys", "--etc", self.etc]
        words += ["--run", self.folder / "run", "--syslog", self.folder / "syslog.sock", user, key.fingerprint]
        uid = uid or run("id", "--user", user, check=False).stdout.strip() or "4321"
        done = run(*words, uid, check=False)
        log = []
        while True:
            try:
                log.append(self.syslog.recv(8192).decode())
            except BlockingIOError:
                return Answer(done.returncode, done.stdout, log)
