"""`instance-connectd serve` in operation: what starts, watches and replaces it, with AWS's clients at work meanwhile."""

import fcntl
import http.client
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack
from contextlib import closing as closing_of
from pathlib import Path

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from dev import PROGRAMS
from system import PATIENCE, eventually, kill, run, shifted_wall_clock
from test_serve import KEY, ControlPlane, push

CLI, AGENT = PROGRAMS / "instance-connect", PROGRAMS / "instance-connect-agent"


class Supervised(ControlPlane):
    """One that is started and told to stop as systemd does it, with a file descriptor store."""

    def __init__(self, folder, *flags):
        super().__init__(folder, *flags)
        self.kept = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.settimeout(PATIENCE)

    def start(self, *flags):
        names, sockets = list(self.kept), list(self.kept.values())

        def pass_sockets():
            for number, kept in enumerate(sockets):
                os.dup2(kept, 3 + number, inheritable=True)

        words = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", PROGRAMS / "instance-connectd", "serve"]
        words += ["--config", self.config, "--print-addresses", *flags]
        environment = {"NOTIFY_SOCKET": str(self.folder / "notify")}
        if names:
            environment |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
        self.launch(words, environment, close_fds=False, preexec_fn=pass_sockets)
        self.told("READY=1")
        self.addresses = json.loads(self.process.stdout.readline())
        return self

    def told(self, state):
        """Waits until it has said this of itself, and keeps what it asks to be kept."""
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 4)
            lines = dict(line.split("=", 1) for line in message.decode().splitlines())
            if "FDSTOREREMOVE" in lines:
                os.close(self.kept.pop(lines["FDNAME"], os.open("/dev/null", os.O_RDONLY)))
            elif "FDSTORE" in lines:
                # Out of the way of the numbers that it gets them at.
                self.kept[lines["FDNAME"]] = fcntl.fcntl(descriptors[0], fcntl.F_DUPFD_CLOEXEC, 100)
                os.close(descriptors[0])
            elif message.decode() == state:
                return

    def restart(self):
        self.process.send_signal(signal.SIGTERM)
        self.told("STOPPING=1")
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()
        self.start()

    def close(self):
        self.stop()
        self.socket.close()
        for kept in self.kept.values():
            os.close(kept)

    def administrate(self, *arguments):
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"https://localhost:{self.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_CA_BUNDLE": str(self.ca),
        }
        return run(CLI, *arguments, env=environment).stdout


class Machine:
    """An enrolled machine: a folder with its agent."""

    def __init__(self, control_plane, number):
        self.id = f"i-0123456789abcde{number:02x}"
        folder = control_plane.folder / self.id
        folder.mkdir()
        control_plane.administrate("instance", "create", "--id", self.id, "--availability-zone", "us-east-1a")
        token = folder / "token"
        token.write_text(control_plane.administrate("instance", "token", self.id))
        places = ["--etc", folder / "etc", "--state", folder / "state"]
        server = "https://" + control_plane.addresses["agents"].replace("127.0.0.1", "localhost")
        run(AGENT, "enroll", "--server", server, "--token-file", token, *places)
        words = [str(word) for word in (AGENT, "run", *places, "--run", folder / "run")]
        self.log = folder / "agent.log"
        with open(self.log, "w") as log:
            self.agent = subprocess.Popen(words, stderr=log)

    def close(self):
        kill(self.agent.pid)
        self.agent.wait(PATIENCE)


class Pushes(threading.Thread):
    """A client that pushes again and again, over one connection."""

    def __init__(self, control_plane, instance, attempts):
        super().__init__(daemon=True)
        self.instance, self.attempts = instance, attempts
        self.succeeded, self.failed = 0, []
        self.ended = threading.Event()
        retries = {"total_max_attempts": attempts} if attempts else {}
        self.client = boto3.client(
            "ec2-instance-connect",
            endpoint_url=f"https://localhost:{control_plane.port}",
            region_name="us-east-1",
            aws_access_key_id=control_plane.access_key,
            aws_secret_access_key=control_plane.secret,
            verify=str(control_plane.ca),
            config=Config(retries=retries, read_timeout=PATIENCE),
        )

    def run(self):
        while not self.ended.wait(0.03):
            try:
                self.client.send_ssh_public_key(
                    InstanceId=self.instance, InstanceOSUser="ec2-user", SSHPublicKey=KEY
                )
                self.succeeded += 1
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                self.failed.append(repr(error))


@pytest.fixture
def closing():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def supervised(tmp_path, closing):
    control_plane = Supervised(tmp_path, "--throttle-enabled=false")
    closing.callback(control_plane.close)
    return control_plane.start()


def test_restarts_under_a_stream_of_pushes_lose_none(supervised, closing):
    machines = [Machine(supervised, number) for number in range(3)]
    for machine in machines:
        closing.callback(machine.close)
    # With the SDK's own retries, and without any.
    streams = [Pushes(supervised, machine.id, attempts) for machine in machines for attempts in (None, 1)]
    for stream in streams:
        stream.start()
    for restarts in range(3):
        before = [stream.succeeded for stream in streams]
        eventually(
            lambda: all(stream.succeeded > count + 5 for stream, count in zip(streams, before)), "every client pushes"
        )
        supervised.restart()
    before = [stream.succeeded for stream in streams]
    eventually(lambda: all(stream.succeeded > count for stream, count in zip(streams, before)), "it goes on")
    for stream in streams:
        stream.ended.set()
    for stream in streams:
        stream.join(PATIENCE)
    for attempts, name in ((None, "with the SDK's retries"), (1, "without retries")):
        these = [stream for stream in streams if stream.attempts == attempts]
        failed = [error for stream in these for error in stream.failed]
        print(f"{name}: {sum(stream.succeeded for stream in these)} succeeded, {len(failed)} failed {failed[:3]}")
        assert attempts or not failed, failed
    # All that was begun is on record as it ended.
    assert not [record for record in supervised.records() if record["eventType"] == "InstanceConnectInterrupted"]


def ask(control_plane, path):
    """What the admin listener answers: status and text."""
    connection = http.client.HTTPConnection(control_plane.addresses["admin"], timeout=PATIENCE)
    with closing_of(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def metric(control_plane, name):
    status, text = ask(control_plane, "/metrics")
    assert status == 200
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return float(lines.get(name, "nan"))


def test_what_those_who_watch_are_told(supervised, closing):
    assert ask(supervised, "/healthz") == (200, "ok\n")
    assert ask(supervised, "/readyz") == (200, "ready\n")
    machine = Machine(supervised, 0)
    closing.callback(machine.close)
    eventually(lambda: metric(supervised, "instance_connect_links") == 1, "the link is counted")
    supervised.client().send_ssh_public_key(InstanceId=machine.id, InstanceOSUser="ec2-user", SSHPublicKey=KEY)
    pushes = 'instance_connect_requests_total{operation="SendSSHPublicKey",code="%s"}'
    assert metric(supervised, pushes % "Success") == 1
    assert metric(supervised, 'instance_connect_deliveries_total{outcome="delivered"}') == 1
    assert metric(supervised, 'instance_connect_enrolments_total{code="Success"}') == 1
    assert push(supervised.client()) == "EC2InstanceNotFoundException"
    assert metric(supervised, pushes % "EC2InstanceNotFoundException") == 1
    # They last a year.
    for listener in ("public", "agents"):
        left = metric(supervised, f'instance_connect_certificate_expiry_timestamp_seconds{{listener="{listener}"}}')
        assert 364 * 86400 < left - time.time() < 366 * 86400
    assert metric(supervised, "instance_connect_audit_sync_duration_seconds_count") >= 4
    # Neither users nor instances are named.
    text = ask(supervised, "/metrics")[1]
    assert not [name for name in (machine.id, "ec2-user", "admin\"", supervised.access_key) if name in text.replace('listener="admin"', "")]


def test_it_is_not_ready_when_its_audit_log_is_taken_away(supervised):
    supervised.audit_log.rename(supervised.audit_log.with_name("taken"))
    status, said = ask(supervised, "/readyz")
    assert status == 503 and said.startswith("audit: its file was moved"), said
    assert metric(supervised, "instance_connect_ready") == 0
    supervised.audit_log.with_name("taken").rename(supervised.audit_log)
    assert ask(supervised, "/readyz")[0] == 200


def test_it_is_not_ready_when_its_clock_has_jumped(tmp_path, closing):
    control_plane = ControlPlane(tmp_path)
    closing.callback(control_plane.stop)
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = shifted_wall_clock("+0")
    del environment["FAKETIME"]
    environment |= {"FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    control_plane.start(environment=environment)
    assert ask(control_plane, "/readyz") == (200, "ready\n")
    offset.write_text("-10m")
    status, said = ask(control_plane, "/readyz")
    assert status == 503 and said.startswith("clock: the clock went back"), said
    offset.write_text("+0")
    assert ask(control_plane, "/readyz")[0] == 200


def half_a_request(control_plane):
    """A connection on which a request has begun, whose body is on its way."""
    context = ssl.create_default_context(cafile=control_plane.ca)
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", control_plane.port)), server_hostname="localhost")
    stream.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{")
    return stream


def test_while_it_ends_those_who_watch_are_told(supervised):
    with half_a_request(supervised) as stream:
        supervised.process.send_signal(signal.SIGTERM)
        supervised.told("STOPPING=1")
        status, said = ask(supervised, "/readyz")
        assert (status, said) == (503, "draining: the control plane is about to end\n")
        stream.sendall(b"}")
        answer = b""
        while part := stream.recv(4096):
            answer += part
    assert b"connection: close\r\n" in answer and b"x-amzn-requestid" in answer
    assert supervised.process.wait(PATIENCE) == 0


def test_told_twice_it_ends_at_once(supervised):
    with half_a_request(supervised):
        supervised.process.send_signal(signal.SIGTERM)
        supervised.told("STOPPING=1")
        supervised.process.send_signal(signal.SIGTERM)
        assert supervised.process.wait(PATIENCE) == 1
    assert "told to stop once more" in supervised.log.read_text()


def test_a_socket_of_another_address_is_not_used(supervised):
    """Else plain http could be served where the configuration says that it is not."""
    with socket.create_server(("0.0.0.0", 0)) as other:
        supervised.stop()
        supervised.told("STOPPING=1")
        os.dup2(other.fileno(), supervised.kept["public"], inheritable=False)
        supervised.start()
        assert supervised.addresses["public"].startswith("127.0.0.1:")
        assert supervised.port != other.getsockname()[1]
    assert "another address" in supervised.log.read_text()


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_about_a_request_have_its_id(supervised, form):
    supervised.stop()
    supervised.told("STOPPING=1")
    supervised.start(f"--log-format={form}")
    instance = "i-0123456789abcdeff"
    supervised.administrate("instance", "create", "--id", instance, "--availability-zone", "us-east-1a")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        supervised.client().send_ssh_public_key(InstanceId=instance, InstanceOSUser="ec2-user", SSHPublicKey=KEY)
    request = refused.value.response["ResponseMetadata"]["RequestId"]
    [line] = [line for line in supervised.log.read_text().splitlines() if "a push was not delivered" in line]
    if form == "json":
        assert json.loads(line)["span"] == {"name": "request", "id": request}
    else:
        assert f"request{{id={request}}}: " in line


def killed_at(point, *command):
    """Runs a command of the daemon that is killed at this point."""
    program = Path(os.environ["PROGRAMS_WITH_KILL_POINTS"]) / "instance-connectd"
    environment = {**os.environ, "INSTANCE_CONNECT_KILL_AT": f"{point}:1"}
    assert run(program, *command, check=False, env=environment).returncode == -signal.SIGKILL


def test_the_master_key_is_rotated(supervised):
    key_file = supervised.folder / "etc/master.key"
    rotate = (PROGRAMS / "instance-connectd", "rotate-master-key", "--config", supervised.config)
    before = key_file.read_bytes()
    assert "another process has the database open; stop it first" in run(*rotate, check=False).stderr
    assert key_file.read_bytes() == before
    supervised.stop()
    supervised.told("STOPPING=1")
    assert "is a new master key" in run(*rotate).stdout
    after = key_file.read_bytes()
    assert before != after and oct(key_file.stat().st_mode)[-3:] == "600"
    assert not key_file.with_name("master.key.next").exists()
    supervised.start()
    assert push(supervised.client()) == "EC2InstanceNotFoundException"
    # The old one is the wrong one.
    supervised.stop()
    key_file.write_bytes(before)
    done = run(PROGRAMS / "instance-connectd", "serve", "--config", supervised.config, check=False)
    assert done.returncode == 1 and "this is not the master key the database was made with" in done.stderr


@pytest.mark.parametrize("point, is_new", [("next-key-after", False), ("rotation-after", True)])
@pytest.mark.parametrize("next_command", ["serve", "rotate"])
def test_a_rotation_that_was_interrupted_is_finished(supervised, point, is_new, next_command):
    key_file = supervised.folder / "etc/master.key"
    before = key_file.read_bytes()
    supervised.stop()
    supervised.told("STOPPING=1")
    killed_at(point, "rotate-master-key", "--config", supervised.config)
    following = key_file.with_name("master.key.next").read_bytes()
    assert key_file.read_bytes() == before
    if next_command == "rotate":
        run(PROGRAMS / "instance-connectd", "rotate-master-key", "--config", supervised.config)
        assert key_file.read_bytes() not in (before, following)
    supervised.start()
    assert push(supervised.client()) == "EC2InstanceNotFoundException"
    if next_command == "serve":
        assert key_file.read_bytes() == (following if is_new else before)


def done_by_commands(control_plane):
    """What is on record of the daemon's own commands: event names and ids, oldest first."""
    operator = {"type": "InstanceConnectOperator", "principalId": str(os.getuid())}
    return [(of["eventName"], of["eventID"]) for of in control_plane.records() if of["userIdentity"] == operator]


def test_what_commands_do_is_on_record(supervised):
    def names():
        return [name for name, _ in done_by_commands(supervised)]

    daemon, config = PROGRAMS / "instance-connectd", ("--config", supervised.config)
    expected = ["InitializeControlPlane"]
    assert names() == expected
    # Beside the service, which holds the log.
    for step in ("Begin", "Finish"):
        run(daemon, "rotate-anchor", step.lower(), *config)
        expected.append(f"{step}AnchorRotation")
        eventually(lambda: names() == expected, f"{step} is on record")
    assert run(daemon, "rotate-anchor", "finish", *config, check=False).returncode == 1
    supervised.stop()
    supervised.told("STOPPING=1")
    run(daemon, "rotate-master-key", *config)
    assert names() == expected
    # One that is killed between writing it and knowing that it is written: the next one writes the same once more.
    killed_at("operator-events-recorded", "serve", *config)
    assert names() == [*expected, "RotateMasterKey"]
    supervised.start()
    assert names() == [*expected, "RotateMasterKey", "RotateMasterKey"]
    ids = [event_id for _, event_id in done_by_commands(supervised)]
    assert ids[-1] == ids[-2] and len(set(ids)) == len(ids) - 1
    supervised.restart()
    assert len(done_by_commands(supervised)) == len(ids)
    assert run(CLI, "audit", "verify", supervised.audit_log).returncode == 0
    told = supervised.administrate("audit", "query", "--event-name", "RotateMasterKey", "--output", "json")
    assert "InstanceConnectOperator" in told


def test_a_backup_is_restored_elsewhere(supervised, closing):
    """As docs/operations.md has it: a copy that SQLite made while it ran, the master key, and the configuration."""
    machine = Machine(supervised, 0)
    closing.callback(machine.close)
    eventually(lambda: metric(supervised, "instance_connect_links") == 1, "the machine is there")
    with closing_of(sqlite3.connect(supervised.folder / "data/inventory.sqlite")) as running:
        elsewhere = supervised.folder / "elsewhere"
        elsewhere.mkdir(0o700)
        backup = elsewhere / "inventory.sqlite"
        backup.touch(0o600)
        with closing_of(sqlite3.connect(backup)) as copy:
            running.backup(copy)
    supervised.stop()
    supervised.told("STOPPING=1")
    # The names of the agents listener lead there now.
    supervised.start("--data-dir", elsewhere)
    eventually(lambda: metric(supervised, "instance_connect_links") == 1, "the machine comes back")
    answer = supervised.client().send_ssh_public_key(InstanceId=machine.id, InstanceOSUser="ec2-user", SSHPublicKey=KEY)
    assert answer["Success"] is True
