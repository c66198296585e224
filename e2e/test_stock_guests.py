"""Guests of a hypervisor, with nothing of ours inside: the hypervisor's agent answers for each on the interface that leads to
it, and who asks there is that guest, whatever address it says it has. Networks stand in for guests: to the hypervisor a tap
and one end of a veth are the same."""

import json
import re
import time

import pytest

from dev import PROGRAMS, Dev
from stock_host import StockHost, Stopped
from system import eventually, root_only, run
from test_stock_machine import ADDRESS, Network

pytestmark = root_only

GUESTS = ["i-00000000000000a0", "i-00000000000000b0"]


class Hypervisor:
    """A machine whose agent answers for two guests on `tap0` and `tap1`."""

    def __init__(self, folder, certificates):
        self.folder = folder
        self.network = Network()
        self.guests = [Network(), Network()]
        for number in range(len(self.guests)):
            self.connect(number)
        self.filter("all", 1)
        self.dev = Dev(folder, "nobody", before=self.network.words)
        self.host = self.dev.first
        for guest in GUESTS:
            self.administer("instance", "create", "--availability-zone", "us-east-1b", "--id", guest, "--tag", f"name={guest}")
            self.administer("instance", "set-state", guest, "running")
            self.administer("instance", "set-host", guest, self.host.id)
        certificates.mkdir()
        root = self.administer("signer", "ca").stdout
        (certificates / "Instance_Connect_signer_root.pem").write_text(root)
        self.certificates = certificates
        self.set_guests(list(enumerate(GUESTS)))

    def connect(self, number):
        """A cable to a guest, as one finds it."""
        tap, guest = f"tap{number}", self.guests[number]
        self.network.join(guest, tap, f"10.1.{number}.1/24", f"10.1.{number}.2/24")
        self.network.run("ip", "address", "add", f"{ADDRESS}/32", "dev", tap)
        self.filter(tap, 1)
        guest.run("ip", "route", "add", "default", "via", f"10.1.{number}.1")

    def set_guests(self, guests, more="", own=None):
        """Writes the list of guests anew, and waits until the agent has read it."""
        read = self.log().count("metadata.toml has changed")
        settings = self.host.folder / "etc/metadata.toml"
        machine = settings.read_text().split("[[guest]]")[0]
        if own:
            machine = re.sub('listen = ".*"', f'listen = "{own}"', machine)
        tables = [f'[[guest]]\ninstance = "{guest}"\ninterface = "tap{number}"\n{more}' for number, guest in guests]
        settings.write_text(machine.rstrip() + "\n\n" + "\n".join(tables))
        eventually(lambda: self.log().count("metadata.toml has changed") > read, "the agent has read it")

    def filter(self, interface, value):
        self.network.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/{interface}/rp_filter")

    def administer(self, *words):
        return run(*self.network.words, PROGRAMS / "instance-connect", *words, env=self.dev.environment())

    def push(self, key, instance, user="nobody"):
        words = ["send-key", f"{user}@{instance}", "--output", "json", "--ssh-public-key", f"{key.file}.pub"]
        return json.loads(self.administer(*words).stdout)["RequestId"]

    def scripts(self, number, curl=()):
        """The scripts of a guest, replayed."""
        curl = (*self.guests[number].words, "curl", *curl)
        return StockHost(f"http://{ADDRESS}", self.certificates, self.folder / f"scripts-{time.monotonic_ns()}", curl)

    def log(self):
        return (self.host.folder / "agent.log").read_text()

    def close(self):
        for network in (*self.guests, self.network):
            network.close()
        self.dev.close()


@pytest.fixture(scope="module")
def hypervisor(tmp_path_factory):
    hypervisor = Hypervisor(tmp_path_factory.mktemp("dev"), tmp_path_factory.mktemp("stock") / "certs")
    try:
        for number in range(2):
            eventually(lambda: answers(hypervisor.scripts(number)), f"guest {number} is answered")
        yield hypervisor
    finally:
        hypervisor.close()


def answers(host):
    try:
        host.take_token()
        return host.get("meta-data/services/domain")
    except Stopped:
        return None


def test_each_guest_is_given_its_own_keys_and_told_who_it_is(hypervisor, new_key):
    keys = [new_key(), new_key("rsa-2048")]
    for guest, key in zip(GUESTS, keys, strict=True):
        hypervisor.push(key, guest)
    own = new_key()
    hypervisor.push(own, hypervisor.host.id)
    for number, (guest, key) in enumerate(zip(GUESTS, keys, strict=True)):
        scripts = hypervisor.scripts(number)
        assert [provided.line for provided in scripts.keys("nobody")] == [key.public]
        assert scripts.get("meta-data/instance-id") == guest
        assert scripts.get("meta-data/placement/availability-zone") == "us-east-1b"
        # What the hypervisor is and has is none of the guest's business.
        listed = scripts.get("meta-data/").split("\n")
        assert "local-hostname" not in listed and "local-ipv4" not in listed and "tags/" not in listed
        for other in (own, keys[1 - number]):
            with pytest.raises(Stopped) as stopped:
                scripts.keys("nobody", other.fingerprint)
            assert stopped.value.status == 255


def test_the_record_names_the_guest(hypervisor, new_key):
    key = new_key()
    request = hypervisor.push(key, GUESTS[0])
    assert hypervisor.scripts(0).keys("nobody", key.fingerprint)

    def offered():
        return [event for event in hypervisor.dev.events(request) if event["eventName"] == "KeyOffered"]

    [event] = eventually(offered, "the reading is on record")
    assert event["requestParameters"]["instanceId"] == GUESTS[0]
    assert hypervisor.host.id in json.dumps(event["userIdentity"])


def test_a_guest_with_anothers_address_is_told_nothing_of_it(hypervisor, new_key):
    """On the wire: B sends from A's address, with the reverse-path filter on and, as somebody might switch it off, without."""
    key = new_key()
    hypervisor.push(key, GUESTS[0])
    first = hypervisor.scripts(0)
    first.take_token(60)
    token = ("-H", f"X-aws-ec2-metadata-token: {first.token}")
    thief = hypervisor.guests[1]
    thief.run("ip", "address", "add", "10.1.0.2/32", "dev", "lo")
    spoofing = ("--interface", "10.1.0.2")
    keys = f"http://{ADDRESS}/latest/meta-data/managed-ssh-keys/active-keys/nobody/"

    def ask(*words):
        done = thief.run("curl", "-s", "-m", "3", *words, check=False)
        return done.returncode, done.stdout

    assert first.keys("nobody", key.fingerprint)
    timed_out = 28
    assert ask(*spoofing, *token, keys) == (timed_out, "")
    # A's token, from B's own address.
    status, body = ask(*token, "-o", "/dev/stderr", "-w", "%{http_code}", keys)
    assert (status, body) == (0, "401")
    try:
        hypervisor.filter("all", 0)
        hypervisor.filter("tap1", 0)
        # It gets through, and is answered as B.
        status, body = ask(*spoofing, *token, "-o", "/dev/stderr", "-w", "%{http_code}", keys)
        assert (status, body) == (0, "401")
        spoofed = hypervisor.scripts(1, spoofing)
        assert answers(spoofed) and spoofed.get("meta-data/instance-id") == GUESTS[1]
        assert key.public not in lines(spoofed)
    finally:
        hypervisor.filter("tap1", 1)
        hypervisor.filter("all", 1)
        thief.run("ip", "address", "del", "10.1.0.2/32", "dev", "lo")
    assert first.keys("nobody", key.fingerprint, token=first.token)


def test_the_hypervisors_own_service_is_not_on_the_guests_interfaces(hypervisor):
    """What listens for the machine itself is not reached by a guest, and the other guest's listener neither."""
    own = next(entry for entry in hypervisor.dev.ready["instances"] if entry["instance_id"] == hypervisor.host.id)
    port = own["metadata_url"].rsplit(":", 1)[1]
    guest = hypervisor.guests[0]
    for url in (own["metadata_url"], f"http://10.1.0.1:{port}", "http://10.1.1.1:80", "http://10.1.0.1:80"):
        done = guest.run("curl", "-s", "-m", "2", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 5", f"{url}/latest/api/token", check=False)
        assert done.returncode != 0 and done.stdout == ""


def lines(scripts):
    """The keys that a guest's scripts give sshd."""
    try:
        return [provided.line for provided in scripts.keys("nobody")]
    except Stopped as stopped:
        assert stopped.status == 255
        return []


def test_revoked_keys_leave_guests_and_others_stay(hypervisor, new_key):
    key, kept = new_key(), new_key()
    hypervisor.push(key, GUESTS[0])
    hypervisor.push(kept, GUESTS[1])
    assert key.public in lines(hypervisor.scripts(0))
    hypervisor.administer("revoke", "--instance", GUESTS[0], "--fingerprint", key.fingerprint)
    assert key.public not in lines(hypervisor.scripts(0))
    assert kept.public in lines(hypervisor.scripts(1))


def test_root_of_a_guest_is_denied_unless_its_hypervisor_allows_it(hypervisor, new_key):
    words = [*hypervisor.network.words, PROGRAMS / "instance-connect", "send-key", f"root@{GUESTS[0]}"]

    def push(key):
        return run(*words, "--ssh-public-key", f"file://{key.file}.pub", env=hypervisor.dev.environment(), check=False)

    refused = push(new_key())
    assert refused.returncode != 0 and "AuthException" in refused.stderr
    try:
        hypervisor.set_guests(list(enumerate(GUESTS)), 'allow_users = ["root"]\n')
        key = new_key()
        assert push(key).returncode == 0
        assert hypervisor.scripts(0).keys("root", key.fingerprint)
    finally:
        hypervisor.set_guests(list(enumerate(GUESTS)))


def test_guests_come_and_go_without_a_restart(hypervisor, new_key):
    agent = hypervisor.host.agent()
    key = new_key()
    push = [*hypervisor.network.words, PROGRAMS / "instance-connect", "send-key", f"nobody@{GUESTS[0]}", "--ssh-public-key", f"file://{key.file}.pub"]
    try:
        hypervisor.push(key, GUESTS[0])
        hypervisor.set_guests([(1, GUESTS[1])])
        eventually(lambda: not answers(hypervisor.scripts(0)), "the first is answered no more")
        refused = run(*push, env=hypervisor.dev.environment(), check=False)
        assert refused.returncode != 0 and "EC2InstanceUnavailableException" in refused.stderr
    finally:
        hypervisor.set_guests(list(enumerate(GUESTS)))
    eventually(lambda: answers(hypervisor.scripts(0)), "the first is answered again")
    assert hypervisor.host.agent() == agent


def test_an_interface_that_is_made_anew_is_listened_on_anew(hypervisor, new_key):
    hypervisor.network.run("ip", "link", "del", "tap0")
    hypervisor.connect(0)
    eventually(lambda: answers(hypervisor.scripts(0)), "the new one is answered")
    key = new_key()
    hypervisor.push(key, GUESTS[0])
    assert key.public in lines(hypervisor.scripts(0))


def test_a_guest_is_never_answered_as_its_hypervisor(hypervisor):
    """The hypervisor has the service for itself, too, at the same address and port. While nobody listens on a guest's
    interface, the guest is not answered at all."""
    hypervisor.network.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    settings = hypervisor.host.folder / "etc/metadata.toml"
    before = settings.read_text()
    try:
        hypervisor.set_guests(list(enumerate(GUESTS)), own=f"{ADDRESS}:80")
        own = StockHost(f"http://{ADDRESS}", hypervisor.certificates, hypervisor.folder, (*hypervisor.network.words, "curl"))
        eventually(lambda: answers(own), "the hypervisor is answered")
        assert own.get("meta-data/instance-id") == hypervisor.host.id
        for number, guest in enumerate(GUESTS):
            scripts = hypervisor.scripts(number)
            assert answers(scripts) and scripts.get("meta-data/instance-id") == guest
        hypervisor.set_guests([(1, GUESTS[1])], own=f"{ADDRESS}:80")
        with pytest.raises(Stopped) as stopped:
            while answers(hypervisor.scripts(0)):
                assert hypervisor.scripts(0).get("meta-data/instance-id") == GUESTS[0]
            hypervisor.scripts(0).take_token()
        assert stopped.value.status == 7
    finally:
        hypervisor.set_guests(list(enumerate(GUESTS)), own=re.search('listen = "(.*)"', before)[1])
        hypervisor.network.run("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")


def test_an_interface_without_a_strict_filter_is_not_served(hypervisor):
    hypervisor.network.run("ip", "link", "add", "tap2", "type", "veth", "peer", "name", "other")
    hypervisor.filter("all", 0)
    try:
        hypervisor.filter("tap2", 2)
        third = "i-00000000000000c0"
        hypervisor.set_guests([*enumerate(GUESTS), (2, third)])
        said = "its reverse-path filter is not strict: sysctl net.ipv4.conf.tap2.rp_filter=1"
        eventually(lambda: said in hypervisor.log(), "the log says what to do")
    finally:
        hypervisor.filter("all", 1)
        hypervisor.network.run("ip", "link", "del", "tap2")
        hypervisor.set_guests(list(enumerate(GUESTS)))
