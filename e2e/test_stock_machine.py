"""A machine with the distributions' own host package, in a network of its own: its agent has the metadata service where the
scripts ask, 169.254.169.254, port 80, on a socket that it is given as systemd would.

Where the variable STOCK_SCRIPTS names a directory with the package's own scripts, as they are published
(github.com/aws/aws-ec2-instance-connect-config, src/bin), these run there, too, and have to say what the replay says, which is
how sshd hears of keys on such machines. They are not ours and not here."""

import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev import PROGRAMS, Dev
from host import AGENT, Host
from machines import Space
from stock_host import StockHost, Stopped
from system import PATIENCE, eventually, kill, root_only, run, shifted_wall_clock, stop
from test_doctor import Broken, noted

pytestmark = root_only

ADDRESS = "169.254.169.254"
SCRIPTS = "/usr/share/ec2-instance-connect"
TAG = "sys/devices/virtual/dmi/id/board_asset_tag"
SETTINGS = "etc/instance-connect/metadata.toml"
SIGNER_ROOT = "etc/ssl/certs/Instance_Connect_signer_root.pem"
WANTS = "/etc/systemd/system/multi-user.target.wants"
UNITS = Path(__file__).parent.parent / "packaging/systemd"

# What systemd does for instance-connect-metadata.socket.
PASS_SOCKET = f"""
import os, socket, sys
listener = socket.create_server(("{ADDRESS}", 80))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="metadata")
os.execvp(sys.argv[1], sys.argv[1:])
"""

needs_scripts = pytest.mark.skipif(
    "STOCK_SCRIPTS" not in os.environ,
    reason="needs STOCK_SCRIPTS: a directory with the scripts of the ec2-instance-connect package, which are not ours to bring",
)


class Network(Space):
    """A network with nothing in it but its loopback interface."""

    def __init__(self):
        super().__init__(["unshare", "--net", "sh", "-ec", "ip link set lo up; echo ready; cat"])
        self.words = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    def run(self, *words, **options):
        return run(*self.words, *words, **options)

    def join(self, other, name, own, others):
        """A cable to another network: the interface `name` here, with these addresses at its ends."""
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", other.process.pid)
        for network, address in ((self, own), (other, others)):
            network.run("ip", "address", "add", address, "dev", name)
            network.run("ip", "link", "set", name, "up")


class StockMachine(Host):
    """A host with a network and a syslog of its own, and devices that the scripts need."""

    def __init__(self, folder, network):
        self.network = network.words
        super().__init__(folder)
        (self.root / "etc/ssl/certs").mkdir(parents=True)
        self.syslog = []
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        log.bind(str(self.root / "run/syslog.sock"))
        (self.root / "run/syslog.sock").chmod(0o666)
        threading.Thread(target=self.listen, args=(log,), daemon=True).start()

    def enter_space(self):
        super().enter_space()
        self.shell("""
            mount -t tmpfs -o mode=755 tmpfs /dev
            for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "/dev/${device%:*}" c 1 "${device#*:}"; done
            mkdir -m 1777 /dev/shm
            ln -s /proc/self/fd /dev/fd
            ln -s /run/syslog.sock /dev/log
        """)

    def listen(self, log):
        while True:
            self.syslog.append(log.recv(8192).decode(errors="replace"))

    def start_agent(self, **options):
        # `nsenter`, `chroot` and `setpriv` become what they start, so it has the number of the process that has the socket.
        super().start_agent(before=("python3", "-c", PASS_SOCKET), **options)

    def send_key(self, key, user="alice", caller="admin"):
        """Pushes a key with our own client, which is in that network, and gives the request's id."""
        words = [PROGRAMS / "instance-connect", "send-key", f"{user}@{self.dev.first.id}", "--output", "json"]
        words += ["--ssh-public-key", f"{key.file}.pub"]
        return json.loads(run(*self.network, *words, env=self.dev.environment(caller)).stdout)["RequestId"]

    def run_scripts(self, user, fingerprint=None):
        """What the package's scripts print, or the status with which they end."""
        words = [f"{SCRIPTS}/eic_run_authorized_keys", user, *([fingerprint] if fingerprint else [])]
        done = self.run(*words, check=False)
        return done.returncode, done.stdout.split("\n")[:-1] if done.stdout.strip() else []

    def replay(self, user, fingerprint=None):
        """What the replay of them comes to."""
        try:
            return 0, [provided.line for provided in self.stock_host.keys(user, fingerprint)]
        except Stopped as stopped:
            return stopped.status, []


@pytest.fixture(scope="module")
def network():
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory, network):
    with stock_machine(tmp_path_factory.mktemp("dev"), tmp_path_factory.mktemp("host"), network) as machine:
        yield machine


@contextmanager
def stock_machine(dev_folder, host_folder, network):
    """An enrolled machine with the address and the service; and with the scripts, where these are given."""
    dev = Dev(dev_folder, "nobody", before=network.words)
    machine = StockMachine(host_folder, network)
    try:
        machine.dev = dev
        machine.add_user("alice")
        machine.add_user("bob")
        machine.add_user("ec2-instance-connect", "--system")
        machine.shell("usermod --password '*' alice")
        machine.take_identity(dev.first)
        (machine.root / "etc/instance-connect/host.toml").unlink(missing_ok=True)
        machine.start_sshd()
        machine.install()
        machine.await_sshd()
        stop(dev.first.agent())
        machine.write(SETTINGS, f'listen = "{ADDRESS}:80"\n')
        machine.write(TAG, f"{dev.first.id}\n")
        for name in ("instance-connect-metadata.socket", "instance-connect-metadata-address.service"):
            machine.write(f"etc/systemd/system/{name}", (UNITS / name).read_text())
        machine.shell(f"mkdir -p {WANTS}; ln -s ../instance-connect-metadata.socket {WANTS}/")
        machine.run(AGENT, "metadata-address", "add")
        machine.start_agent()
        curl = (*network.words, "curl")
        machine.stock_host = StockHost(f"http://{ADDRESS}", machine.root / "etc/ssl/certs", machine.folder, curl, machine.root / "sys")
        machine.write(SIGNER_ROOT, machine.stock_host.served_root())
        bring_scripts(machine)
        yield machine
    finally:
        machine.close()
        dev.close()


def bring_scripts(machine):
    """The package's; without them, something that doctor takes for them."""
    machine.shell(f"mkdir {SCRIPTS}; cd {SCRIPTS}; echo exit 0 > eic_run_authorized_keys; echo ca_path=/etc/ssl/certs > eic_curl_authorized_keys")
    for script in Path(os.environ.get("STOCK_SCRIPTS", "/nowhere")).glob("eic_*"):
        run(*machine.words("tee", f"{SCRIPTS}/{script.name}"), stdin=None, input=script.read_text())
    machine.shell(f"chmod 755 {SCRIPTS}/*")


def test_the_address_is_put_where_nobody_answers_and_nowhere_else():
    """The program alone, in networks of its own."""
    here, there = Network(), Network()
    try:
        agent = PROGRAMS / "instance-connect-agent"

        def change(which):
            return here.run(agent, "metadata-address", which, check=False)

        def address():
            return here.run("ip", "-oneline", "-4", "address", "show", "to", f"{ADDRESS}/32").stdout.split()[1:4]

        own = ["lo", "inet", f"{ADDRESS}/32"]
        for _ in range(2):
            assert (change("add").returncode, address()) == (0, own)
        for _ in range(2):
            assert (change("remove").returncode, address()) == (0, [])
        # Somebody has it, at the other end of a cable: whether he listens or not.
        here.join(there, "cloud", "10.99.0.1/24", "10.99.0.2/24")
        here.run("ip", "route", "add", f"{ADDRESS}/32", "via", "10.99.0.2")
        there.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        refused = change("add")
        assert (refused.returncode, address()) == (1, []) and "something answers there already" in refused.stderr
        with listener(there):
            assert (change("add").returncode, address()) == (1, [])
        # It is this machine's already, where it was not put by us.
        there.run("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")
        here.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "cloud")
        refused = change("add")
        assert refused.returncode == 1 and "is on interface cloud of this machine" in refused.stderr
        assert (change("remove").returncode, address()[0]) == (0, "cloud")
        here.run("ip", "link", "del", "cloud")
        assert (change("add").returncode, address()) == (0, own)
    finally:
        here.close()
        there.close()


LISTENER = "import socket, sys; listener = socket.create_server((sys.argv[1], int(sys.argv[2]))); print('ready', flush=True); sys.stdin.read()"


class listener:
    """Somebody who listens in a network, while this is entered."""

    def __init__(self, network, port=80):
        self.words = [*network.words, "python3", "-c", LISTENER, ADDRESS, str(port)]

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


def same(machine, user, fingerprint=None):
    """What the scripts come to, where they are there, else the replay of them: both the same."""
    replayed = machine.replay(user, fingerprint)
    if "STOCK_SCRIPTS" in os.environ:
        assert machine.run_scripts(user, fingerprint) == replayed
    return replayed


def test_a_machine_that_the_scripts_take_for_one_of_ec2s_is_given_its_keys(machine, new_key):
    assert same(machine, "nobody") == (0, [])
    keys = [new_key(), new_key("rsa-2048"), new_key("rsa-3072")]
    # `dev` allows its limited user this account alone.
    for key, caller in zip(keys, ["admin", "limited", "admin"], strict=True):
        machine.send_key(key, "nobody", caller)
    status, lines = same(machine, "nobody")
    assert status == 0 and {key.public for key in keys} <= set(lines)
    for key in keys:
        assert same(machine, "nobody", key.fingerprint) == (0, [key.public])
    assert same(machine, "bob") == (0, [])
    assert same(machine, "nobody", new_key().fingerprint) == (255, [])


@needs_scripts
def test_the_published_scripts_say_the_same_and_tell_syslog_who_pushed(machine, new_key):
    key = new_key()
    request = machine.send_key(key, "nobody", "limited")
    assert machine.run_scripts("nobody", key.fingerprint) == (0, [key.public])
    said = f"Providing ssh key from EC2 Instance Connect with fingerprint: {key.fingerprint}, request-id: {request}, for IAM principal: {machine.dev.ready['limited']['arn']}"
    eventually(lambda: any(said in line for line in machine.syslog), "syslog has it")


def test_a_machine_that_is_not_the_instance_is_told_nothing(machine, new_key):
    key = new_key()
    machine.send_key(key)
    given = (0, [key.public])
    assert same(machine, "alice", key.fingerprint) == given
    tag, uuid = machine.root / TAG, machine.root / "sys/hypervisor/uuid"
    uuid.parent.mkdir()
    try:
        for text in (None, "", machine.dev.second.id, f"{machine.dev.first.id} x"):
            tag.unlink(missing_ok=True)
            if text is not None:
                tag.write_text(text)
            assert same(machine, "alice", key.fingerprint) == (0, [])
        tag.write_text(machine.dev.first.id)
        assert same(machine, "alice", key.fingerprint) == given
        # Where there is a hypervisor's id the tag is not looked at.
        uuid.write_text("EC2e1916-9099-7caf-fd21-012345abcdef\n")
        assert same(machine, "alice", key.fingerprint) == (0, [])
        tag.unlink()
        uuid.write_text("ec2e1916-9099-7caf-fd21-012345abcdef\n")
        assert same(machine, "alice", key.fingerprint) == given
    finally:
        uuid.unlink(missing_ok=True)
        uuid.parent.rmdir()
        tag.write_text(f"{machine.dev.first.id}\n")


def test_a_root_that_the_machine_does_not_trust_opens_nothing(machine, new_key):
    key = new_key()
    machine.send_key(key)
    root = machine.root / SIGNER_ROOT
    kept = root.read_text()
    try:
        root.unlink()
        assert same(machine, "alice", key.fingerprint) == (1, [])
        root.write_text(Path(machine.dev.ready["ca_file"]).read_text())
        assert same(machine, "alice", key.fingerprint) == (2, [])
    finally:
        root.write_text(kept)
    assert same(machine, "alice", key.fingerprint) == (0, [key.public])


# What is broken while sshd asks our command: logins work on. Names and rows as in test_doctor.py.
BROKEN = {
    "nonsense in metadata.toml": Broken(
        f"cp -p /{SETTINGS} /root/; echo lisen = 1 >> /{SETTINGS}", "metadata-settings", "unknown field `lisen`", f"cp -p /root/metadata.toml /{SETTINGS}", fails=False
    ),
    "a metadata.toml that others may write to": Broken(
        f"chmod o+w /{SETTINGS}", "metadata-settings", "it must be a regular file, root's", f"chmod o-w /{SETTINGS}", fails=False
    ),
    "nobody at the service's address": noted(
        f"cp -p /{SETTINGS} /root/; sed -i s/^listen.*/'listen = \"127.0.0.1:9\"'/ /{SETTINGS}",
        "metadata-service",
        "127.0.0.1:9: Connection refused",
        f"cp -p /root/metadata.toml /{SETTINGS}",
    ),
    "another instance at the service's address": noted(
        f"cp -p /{SETTINGS} /root/; sed -i s/^listen.*/'listen = \"ANOTHER\"'/ /{SETTINGS}",
        "metadata-service",
        "somebody else answers at ANOTHER: there this is",
        f"cp -p /root/metadata.toml /{SETTINGS}",
    ),
    "no board asset tag": noted(f"mv /{TAG} /root/", "board-asset-tag", "board_asset_tag is missing", f"mv /root/board_asset_tag /{TAG}"),
    "another board asset tag": noted(
        f"cp -p /{TAG} /root/; echo Not Specified > /{TAG}", "board-asset-tag", 'is "Not Specified", and not i-', f"cp -p /root/board_asset_tag /{TAG}"
    ),
    "a hypervisor that is not EC2's": noted(
        "mkdir -p /sys/hypervisor; echo 4d2b > /sys/hypervisor/uuid", "board-asset-tag", "/sys/hypervisor/uuid does not begin with ec2", "rm -r /sys/hypervisor"
    ),
    "no root among the authorities": noted(f"mv /{SIGNER_ROOT} /root/", "signer-root", f"/{SIGNER_ROOT} is missing", f"mv /root/*.pem /{SIGNER_ROOT}"),
    "another root of that name": noted(
        f"cp -p /{SIGNER_ROOT} /root/; cp /var/lib/instance-connect-agent/server-ca.pem /{SIGNER_ROOT}",
        "signer-root",
        f"/{SIGNER_ROOT} is another certificate",
        f"mv /root/*.pem /{SIGNER_ROOT}",
    ),
    "no root in the bundle": noted(
        # The scripts are changed so when they are packed as an RPM.
        f"cp -p {SCRIPTS}/eic_curl_authorized_keys /root/; sed -i s,^ca_path=.*,ca_path=/etc/ssl/certs/ca-bundle.crt, {SCRIPTS}/eic_curl_authorized_keys;"
        "cp /var/lib/instance-connect-agent/server-ca.pem /etc/ssl/certs/ca-bundle.crt",
        "signer-root",
        "is not in /etc/ssl/certs/ca-bundle.crt",
        f"mv /root/eic_curl_authorized_keys {SCRIPTS}/; rm /etc/ssl/certs/ca-bundle.crt",
    ),
    "the socket's unit not enabled": noted(
        f"mv {WANTS}/instance-connect-metadata.socket /root/",
        "metadata-unit",
        "instance-connect-metadata.socket is not enabled",
        f"mv /root/instance-connect-metadata.socket {WANTS}/",
    ),
}


def test_status_and_doctor_see_a_machine_in_order(machine):
    def told():
        status = machine.run(AGENT, "status", check=False).stdout
        return f"listens on {ADDRESS}:80\n" in status and "generation 1 signs" in status

    eventually(told, "the service listens, and its signers are known")
    status = json.loads(machine.run(AGENT, "status", "--output", "json").stdout)
    listeners = [{"place": f"{ADDRESS}:80", "error": None}]
    assert status["metadata"]["Ok"] == {"generations": [1], "guests": 0, "listeners": listeners}
    assert machine.doctor() == {} and machine.doctor(verdict="note") == {}


@pytest.mark.parametrize("name", BROKEN)
def test_doctor_names_what_the_scripts_would_stumble_over(machine, name):
    broken = BROKEN[name]
    another = next(entry for entry in machine.dev.ready["instances"] if entry["instance_id"] == machine.dev.second.id)
    by, said = (text.replace("ANOTHER", another["metadata_url"].removeprefix("http://")) for text in (broken.by, broken.found))
    try:
        machine.shell(by)
        found = machine.doctor(verdict=broken.verdict)
        assert broken.check in found, found
        assert said in found[broken.check]["found"]
        print(f"{name}: {found[broken.check]['found']}")
    finally:
        machine.shell(broken.mend)
    assert machine.doctor() == {} and machine.doctor(verdict="note") == {}


def test_doctor_names_a_wall_clock_that_ends_keys_early(machine):
    notes = machine.doctor(environment=shifted_wall_clock("+30s"), verdict="note")
    assert notes["metadata-clock"]["found"] in ("30 s ahead of the control plane's", "29 s ahead of the control plane's")


def test_what_the_scripts_stumble_over_is_a_problem_where_sshd_asks_them(machine):
    """As the package sets sshd up, for which doctor goes by systemd's files."""
    command = f'-o "AuthorizedKeysCommand {SCRIPTS}/eic_run_authorized_keys %%u %%f" -o "AuthorizedKeysCommandUser ec2-instance-connect"'
    machine.write("etc/systemd/system/ssh.service.d/ec2-instance-connect.conf", f"[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D {command}\n")
    try:
        assert machine.doctor() == {}
        assert "ours, which is installed, is not asked" in machine.run(AGENT, "doctor").stdout
        machine.shell(f"mv /{TAG} /root/")
        assert machine.doctor()["board-asset-tag"]["found"].endswith("board_asset_tag is missing")
    finally:
        machine.shell(f"mv /root/board_asset_tag /{TAG}; rm -r /etc/systemd/system/ssh.service.d")


@needs_scripts
def test_a_pushed_key_logs_in_by_the_scripts_alone(machine, new_key):
    """sshd is started as the package has systemd start it: with its command, and so not with ours."""
    command = f"AuthorizedKeysCommand {SCRIPTS}/eic_run_authorized_keys %u %f"
    own = machine.sshd
    machine.sshd = None
    kill(own.pid)
    own.wait()
    (machine.root / "run/sshd.pid").unlink(missing_ok=True)
    try:
        machine.start_sshd("-o", command, "-o", "AuthorizedKeysCommandUser ec2-instance-connect")
        key, other = new_key(), new_key()
        request = machine.send_key(key)
        assert machine.login(key)
        uses = {"KeyOffered", "KeyUsed", "SessionOpened", "SessionClosed"}
        eventually(lambda: uses <= {record["eventName"] for record in machine.dev.events(request)}, "the login is on record")
        assert not machine.login(other) and not machine.login(key, user="bob")
        words = ["revoke", "--instance", machine.dev.first.id, "--fingerprint", key.fingerprint]
        run(*machine.network, PROGRAMS / "instance-connect", *words, env=machine.dev.environment())
        assert not machine.login(key)
    finally:
        kill(machine.sshd.pid)
        machine.sshd.wait()
        (machine.root / "run/sshd.pid").unlink(missing_ok=True)
        machine.start_sshd()
    key = new_key()
    machine.send_key(key)
    assert machine.login(key)


CONNECT = f"import socket, sys; socket.create_connection(('{ADDRESS}', int(sys.argv[1])), 5)"


def test_neighbours_are_refused(machine, network):
    """Who sends packets for the address to this machine reaches what listens there, and not the service."""
    neighbour = Network()
    try:
        network.join(neighbour, "near", "10.98.0.1/24", "10.98.0.2/24")
        neighbour.run("ip", "route", "add", f"{ADDRESS}/32", "via", "10.98.0.1")
        with listener(network, 8080):
            neighbour.run("python3", "-c", CONNECT, "8080")
            refused = neighbour.run("python3", "-c", CONNECT, "80", check=False)
            assert "ConnectionRefusedError" in refused.stderr
        network.run("python3", "-c", CONNECT, "80")
    finally:
        neighbour.close()


def test_answers_go_one_hop(machine, network):
    """Nobody beyond a router would be answered, were he let in: what comes back to him is dropped on the way."""
    found = json.loads(network.run("python3", "-c", HOPS).stdout)
    assert found["status"].endswith(" 401 Unauthorized") and found["hops"] == [1]


# Connects, asks, and prints with which time to live packets came back.
HOPS = f"""
import json, socket
packets = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
connection = socket.create_connection(("{ADDRESS}", 80), 5)
connection.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
status = connection.recv(4096).split(b"\\r\\n")[0].decode()
packets.setblocking(False)
hops = set()
while True:
    try:
        packet = packets.recv(65536)
    except BlockingIOError:
        break
    ports = packet[20:24]
    if ports == (80).to_bytes(2, "big") + connection.getsockname()[1].to_bytes(2, "big"):
        hops.add(packet[8])
print(json.dumps({{"status": status, "hops": sorted(hops)}}))
"""
