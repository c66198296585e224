"""Stolen tokens, copied machines, identities used where they do not belong: what happens, with our real programs."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import uuid

import pytest

from dev import PROGRAMS
from system import eventually, kill, root_only, run, shifted_wall_clock
from test_serve import DAEMON, KEY, ControlPlane

AGENT, CLI = PROGRAMS / "instance-connect-agent", PROGRAMS / "instance-connect"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Machine:
    """A folder with an agent. With `boot` it says another boot id, as another machine would."""

    def __init__(self, control_plane, folder, boot=None):
        self.control_plane, self.folder, self.agent = control_plane, folder, None
        self.boot = boot or open(BOOT_ID).read().strip()
        self.is_other = boot is not None
        folder.mkdir(exist_ok=True)
        (folder / "boot_id").write_text(self.boot + "\n")

    @property
    def places(self):
        return ["--etc", self.folder / "etc", "--state", self.folder / "state"]

    def enroll(self, token, *flags, check=True):
        address = self.control_plane.addresses["agents"]
        (self.folder / "token").write_text(token)
        words = ["enroll", "--server", f"https://{address}", "--token-file", self.folder / "token"]
        return run(AGENT, *words, *self.places, "--ssh-host-keys", self.folder, *flags, check=check)

    def copied(self, folder, same_boot):
        """Its disk, started as another machine, which may say the same boot."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("run"))
        return Machine(self.control_plane, folder, boot=None if same_boot else str(uuid.uuid4()))

    def start(self):
        words = [AGENT, "run", *self.places, "--run", self.folder / "run"]
        if self.is_other:
            mount = f"mount --bind {self.folder}/boot_id {BOOT_ID}"
            words = ["unshare", "--mount", "sh", "-ec", f'{mount}; exec "$@"', "sh", *words]
        with open(self.folder / "log", "w") as log:
            self.agent = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def stop(self):
        if self.agent and self.agent.poll() is None:
            kill(self.agent.pid)
            self.agent.wait()

    def says(self, text):
        return eventually(lambda: text in (self.folder / "log").read_text(), f"the agent says {text!r}")

    @property
    def identity(self):
        return self.folder / "state/identity.pem"


class Site:
    """A control plane, its administrator's command line, and machines."""

    def __init__(self, folder):
        self.folder, self.machines = folder, []
        self.control_plane = ControlPlane(folder).start()

    def admin(self, *words, check=True):
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"https://localhost:{self.control_plane.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.control_plane.access_key,
            "AWS_SECRET_ACCESS_KEY": self.control_plane.secret,
            "AWS_CA_BUNDLE": str(self.control_plane.ca),
        }
        done = run(CLI, *words, "--output", "json", check=check, env=environment)
        return json.loads(done.stdout or "{}") if check else done

    def create_instance(self):
        return self.admin("instance", "create", "--availability-zone", "us-east-1a")["Instance"]["InstanceId"]

    def token(self, instance):
        return self.admin("instance", "token", instance)["JoinToken"]["Token"]

    def machine(self, name):
        self.machines.append(Machine(self.control_plane, self.folder / name))
        return self.machines[-1]

    def copy_of(self, machine, name, same_boot=False):
        self.machines.append(machine.copied(self.folder / name, same_boot))
        return self.machines[-1]

    def agent_of(self, instance):
        return next(agent for agent in self.admin("agent", "list")["Agents"] if agent["InstanceId"] == instance)

    def events(self, name):
        return [record for record in self.control_plane.records() if record["eventName"] == name]

    def close(self):
        for machine in self.machines:
            machine.stop()
        self.control_plane.stop()


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()


@root_only
def test_a_copied_disk_image_suspends_the_identity_until_it_is_rearmed(site):
    instance = site.create_instance()
    machine = site.machine("machine")
    machine.enroll(site.token(instance))
    machine.start().says("the link is open")
    copy = site.copy_of(machine, "copy").start()

    for one in (machine, copy):
        one.says("identity_suspended")
    (record,) = site.events("SuspendAgent")
    assert record["requestParameters"]["reason"] == "two_links"
    assert [link["bootId"] for link in record["requestParameters"]["links"]] == [copy.boot, machine.boot]
    assert (site.agent_of(instance)["State"], site.agent_of(instance)["Link"]) == ("suspended", "closed")
    print("a copied disk image, started: both links closed;", json.dumps(record["requestParameters"]))

    # The operator ends the copy, but somebody keeps its disk.
    copy.stop()
    machine.stop()
    before = machine.identity.read_text()
    site.admin("agent", "re-arm", instance)
    machine.start().says("the certificate is renewed")
    eventually(lambda: site.agent_of(instance)["Generation"] == 3, "the new certificate is used")
    assert machine.identity.read_text() != before
    print("re-armed: the machine came back, was renewed at once, and is", site.agent_of(instance))

    machine.stop()
    copy.start().says("identity_suspended")
    record = site.events("SuspendAgent")[-1]
    assert record["requestParameters"]["reason"] == "stale_certificate"
    print("the copy started again, with nobody else there:", json.dumps(record["requestParameters"]))
    copy.stop()

    # Enrolled again, the right machine has what no copy has.
    machine.enroll(site.token(instance), "--replace")
    machine.start().says("the link is open")
    copy.start().says("identity_revoked")
    assert (site.agent_of(instance)["State"], site.agent_of(instance)["Link"]) == ("active", "open")
    assert len(site.events("SuspendAgent")) == 2
    print("enrolled again: the copy is answered identity_revoked, the machine's link is open")


def test_a_copy_on_the_same_boot_is_found_and_an_agent_that_was_killed_is_none(site):
    """The boot id is on the copied disk, too. Both say it, as the agent does that comes back after it was killed."""
    instance = site.create_instance()
    machine = site.machine("machine")
    machine.enroll(site.token(instance))
    for _ in range(2):
        machine.start().says("the link is open")
        machine.agent.kill()
        machine.agent.wait()
    machine.start().says("the link is open")
    assert not site.events("SuspendAgent")

    copy = site.copy_of(machine, "copy", same_boot=True).start()
    for one in (machine, copy):
        one.says("identity_suspended")
    (record,) = site.events("SuspendAgent")
    assert record["requestParameters"]["reason"] == "two_links"
    assert [link["bootId"] for link in record["requestParameters"]["links"]] == [machine.boot, machine.boot]


@root_only
def test_a_machine_that_is_started_anew_is_no_copy(site):
    instance = site.create_instance()
    machine = site.machine("machine")
    machine.enroll(site.token(instance))
    machine.start().says("the link is open")
    # As after a power failure: nobody says goodbye, and soon another boot is there.
    os.kill(machine.agent.pid, 19)
    again = site.copy_of(machine, "again").start()
    again.says("the link is open")
    eventually(lambda: site.agent_of(instance)["Link"] == "open", "the link is open")
    assert not site.events("SuspendAgent")
    os.kill(machine.agent.pid, 18)


def test_a_revoked_identity_is_refused_at_once(site):
    instance = site.create_instance()
    machine = site.machine("machine")
    machine.enroll(site.token(instance))
    machine.start().says("the link is open")
    site.admin("agent", "revoke", instance)
    machine.says("identity_revoked")
    assert (site.agent_of(instance)["State"], site.agent_of(instance)["Link"]) == ("revoked", "closed")
    assert "not in a state" in site.admin("agent", "re-arm", instance, check=False).stderr
    machine.stop()
    machine.enroll(site.token(instance), "--replace")
    machine.start().says("the link is open")
    assert site.agent_of(instance)["State"] == "active"


def test_a_stolen_join_token(site):
    """Whoever finds one afterwards has nothing; and one for this machine is none for another."""
    first, second = site.create_instance(), site.create_instance()
    thief, machine = site.machine("thief"), site.machine("machine")
    token = site.token(first)
    machine.enroll(token)
    used = thief.enroll(token, check=False)
    assert used.returncode == 1 and "(token_used)" in used.stderr
    moved = thief.enroll(site.token(first).replace(first, second), check=False)
    assert moved.returncode == 1 and "(token_unknown)" in moved.stderr
    late = site.token(second)
    site.control_plane.stop()
    site.control_plane.start(environment=shifted_wall_clock("+16m"))
    expired = thief.enroll(late, check=False)
    assert expired.returncode == 1 and "(token_expired)" in expired.stderr
    assert not thief.identity.exists()
    for what, done in {"used again": used, "for another instance": moved, "after 15 minutes": expired}.items():
        print(f"a join token {what}:", done.stderr.strip())
    # Refusals are answered without waiting for their records.
    expected = ["token_used", "token_unknown", "token_expired"]
    refused = lambda: [record["errorCode"] for record in site.events("EnrollAgent") if "errorCode" in record]
    eventually(lambda: refused() == expected, f"on record are {expected}")


def test_an_agents_certificate_is_good_for_nothing_but_its_link(site):
    instance = site.create_instance()
    machine = site.machine("machine")
    machine.enroll(site.token(instance))

    # The public listener does not even ask for it; a signature is all that counts there.
    context = ssl.create_default_context(cafile=site.control_plane.ca)
    context.load_cert_chain(machine.identity)
    with socket.create_connection(("127.0.0.1", site.control_plane.port)) as connection:
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            tls.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n"
                b"X-Amz-Target: InstanceConnect.ListUsers\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
            )
            answer = b"".join(iter(lambda: tls.recv(4096), b"")).decode()
    assert " 400 " in answer.splitlines()[0] and "MissingAuthenticationTokenException" in answer
    print("an agent's certificate on the public listener:", answer.splitlines()[0], answer.splitlines()[-1])

    # Nobody who trusts the authority takes it for a server's.
    pretended = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pretended.load_cert_chain(machine.identity)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pretend():
            try:
                with pretended.wrap_socket(listener.accept()[0], server_side=True):
                    pass
            except OSError:
                pass

        threading.Thread(target=pretend, daemon=True).start()
        client = ssl.create_default_context(cafile=site.control_plane.ca)
        client.check_hostname = False
        with socket.create_connection(listener.getsockname()) as connection:
            with pytest.raises(ssl.SSLCertVerificationError) as refused:
                client.wrap_socket(connection)
    assert "unsuitable certificate purpose" in str(refused.value) or "unsupported certificate purpose" in str(refused.value)
    print("an agent's certificate as a server's:", refused.value)


def test_another_anchor_without_a_refused_key(site):
    """From the first step to the last a push is taken, by a machine that follows."""
    instance = site.create_instance()
    machine = site.machine("machine")
    machine.enroll(site.token(instance))
    machine.start().says("the link is open")
    anchors = machine.folder / "etc/anchors"
    first = anchors.read_text()

    def push():
        client = site.control_plane.client()
        answer = client.send_ssh_public_key(InstanceId=instance, InstanceOSUser="daemon", SSHPublicKey=KEY)
        assert answer["Success"]

    def rotate(step, *flags, check=True):
        return run(DAEMON, "rotate-anchor", step, "--config", site.control_plane.config, *flags, check=check)

    push()
    rotate("begin")
    assert instance in rotate("status").stdout
    refused = rotate("finish", check=False)
    assert refused.returncode == 1 and instance in refused.stderr
    print("finish before the machine has followed:", refused.stderr.strip())
    eventually((machine.folder / "state/anchors.next").exists, "the agent keeps the set for root")
    assert anchors.read_text() == first
    push()
    run(AGENT, "update-anchors", *machine.places)
    assert len([line for line in anchors.read_text().splitlines() if not line.startswith("#")]) == 2
    eventually(lambda: "without this set: 0\n" in rotate("status").stdout, "the machine has said so")
    push()
    print("finish:", rotate("finish").stdout.strip())
    push()
    # Enrolled now, a machine trusts the next anchor alone.
    other = site.machine("other")
    other.enroll(site.token(site.create_instance()))
    (only,) = [line for line in (other.folder / "etc/anchors").read_text().splitlines() if not line.startswith("#")]
    assert only in anchors.read_text() and only not in first
