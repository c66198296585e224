"""From packages to the first login, and back: docs/install.md as an operator types it, in clean Debian systems with a network each.

No systemd runs in these machines: where the page says `systemctl`, `Service` does what systemd would do for that unit. What is carried
from one machine to another (`ca.pem`, a join token, access keys), is carried by us."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from machines import Network
from system import PATIENCE, eventually, root_only, run

DOCS = Path(__file__).parent.parent / "docs/install.md"
# What `packaging/build` has made: this version, and below `next` a higher one.
PACKAGES = Path(os.environ.get("PACKAGES", "/nonexistent"))
CLEAN_ROOT = os.environ.get("CLEAN_ROOT")
NAME = "connect.example.com"
HOSTS = {"web-1": "i-0123456789abcdef1", "web-2": "i-0123456789abcdef2", "web-3": "i-0123456789abcdef3"}
CONTROL_PLANE = ["instance-connectd", "serve", "--config", "/etc/instance-connect/instance-connectd.toml"]
GATEWAY = ["instance-connect-console", "serve", "--listen", "0.0.0.0:2022"]
USERS = ["instance-connect", "instance-connect-agent", "instance-connect-console", "instance-connect-keys"]

pytestmark = [root_only, pytest.mark.skipif(not CLEAN_ROOT, reason="the clean system and the packages are made by ./test packages")]


def sections():
    """The page's commands, section by section: machine, `#` or `$`, command."""
    found = {}
    for section in DOCS.read_text().split("\n## ")[1:]:
        blocks = re.findall(r"```console\n(.*?)```", section, re.S)
        lines = [re.fullmatch(r"([\w-]+)([#$]) (.*)", line) for block in blocks for line in block.splitlines()]
        assert all(lines), section
        found[section.splitlines()[0]] = [line.groups() for line in lines]
    return found


class Site:
    """A control plane, three machines to log in to, and a laptop."""

    def __init__(self, folder):
        self.commands = sections()
        self.network = Network(folder, CLEAN_ROOT)
        self.control_plane = self.new_control_plane("control-plane", "10.77.0.1")
        self.machines = {"control-plane": self.control_plane}
        for number, name in enumerate(HOSTS, 11):
            self.machines[name] = self.network.machine(name, f"10.77.0.{number}")
        self.laptop = self.machines["laptop"] = self.network.machine("laptop", "10.77.0.99")
        # One of the machines has nothing of systemd's.
        self.machines["web-3"].shell("apt-get purge systemd")
        for name in HOSTS:
            machine = self.machines[name]
            machine.shell("useradd --create-home --shell /bin/sh alice")
            # All are copies of one image: with its host keys, only the first would be believed.
            machine.shell("rm /etc/ssh/ssh_host_* && ssh-keygen -A")
            machine.start_sshd()
        for machine in self.machines.values():
            self.bring_packages(machine, "*_amd64.deb")
        self.before = {name: machine.state("etc") for name, machine in self.machines.items()}
        self.keys = {}

    def new_control_plane(self, name, address):
        machine = self.network.machine(name, address, [NAME])
        machine.service = machine.serve(
            *CONTROL_PLANE, user="instance-connect", group="instance-connect", environment={"CREDENTIALS_DIRECTORY": "/run/credentials"}
        )
        machine.gateway = machine.serve(*GATEWAY, user="instance-connect-console", group="instance-connect-console")
        return machine

    @staticmethod
    def bring_packages(machine, pattern, folder=PACKAGES):
        for package in (machine.root / "root").glob("*.deb"):
            package.unlink()
        for package in folder.glob(pattern):
            shutil.copy(package, machine.root / "root")

    def follow(self, section, **replaced):
        """Types a section's commands, with other names in place of the page's."""
        said = []
        for name, _, line in self.commands[section]:
            for old, new in replaced.items():
                name, line = name.replace(old, new), line.replace(old, new)
            said.append(self.type(self.machines[name], line))
        return said

    def type(self, machine, line):
        units = {
            "systemctl enable --now instance-connectd": lambda: start_control_plane(machine),
            "systemctl restart instance-connectd": lambda: machine.service.restart(),
            "systemctl enable --now instance-connect-console": lambda: machine.gateway.start(),
            "systemctl start instance-connect-agent": lambda: start_agent(machine),
        }
        if line in units:
            return units[line]()
        return machine.shell(line).stdout

    def close(self):
        self.network.close()


def start_control_plane(machine):
    # LoadCredential= of the unit: root's file, for the service alone.
    folder = machine.root / "run/credentials"
    folder.mkdir(exist_ok=True)
    key = machine.root / "etc/instance-connect/master.key"
    if key.exists():
        shutil.copy(key, folder / "master-key")
        (folder / "master-key").chmod(0o440)
        machine.shell("chown -R instance-connect:instance-connect /run/credentials && chmod 0500 /run/credentials")
    machine.service.start()


def start_agent(machine):
    machine.agent = machine.serve("instance-connect-agent", "run", user="instance-connect-agent", group="instance-connect-keys")
    machine.agent.start()


def exports(text):
    return "\n".join(line.strip() for line in text.splitlines() if line.strip().startswith("export "))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Everything up to the first login."""
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        # Nothing starts before it is configured, and no sshd is touched: only then is anything run.
        said = site.follow("The control plane")
        site.administrator = exports(said[1])
        shutil.copy(site.control_plane.root / "etc/instance-connect/ca.pem", site.laptop.root / "root")
        site.follow("The administrator")
        site.base = site.laptop.exports
        as_whom(site, site.administrator)
        for host, instance in HOSTS.items():
            follow_host(site, host, instance)
        site.laptop.write("root/push.json", re.search(r"```json\n(.*?)```", DOCS.read_text(), re.S)[1])
        said = site.follow("The first user")
        site.alice = access_key(said[-1])
        as_whom(site, site.alice)
        site.first_login = site.follow("The first login")[-1]
        yield site
    finally:
        site.close()


def follow_host(site, host, instance):
    machine = site.machines[host]
    for name, _, line in site.commands["The first instance"]:
        line = line.replace(HOSTS["web-1"], instance)
        if name == "laptop":
            site.type(site.laptop, line)
            token = site.laptop.root / "root/join-token"
            if token.exists():
                shutil.move(token, machine.root / "root/join-token")
                (machine.root / "root/join-token").chmod(0o600)
        else:
            site.type(machine, line)


def as_whom(site, exported):
    site.laptop.exports = f"{site.base}{exported}\n"


def access_key(said):
    key, secret = re.search(r"\b(AKIA\w{16})\b", said)[1], re.search(r"(?<![\w/+])([\w/+]{40})(?![\w/+])", said)[1]
    return f"export AWS_ACCESS_KEY_ID='{key}' AWS_SECRET_ACCESS_KEY='{secret}' AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1"


PUSHES = """
import boto3, json, os, sys, time
client, key = boto3.client("ec2-instance-connect"), open(sys.argv[2]).read()
outcomes = []
while not os.path.exists(sys.argv[3]):
    try:
        answer = client.send_ssh_public_key(InstanceId=sys.argv[1], InstanceOSUser="alice", SSHPublicKey=key)
        outcomes.append(["pushed", answer["ResponseMetadata"]["RetryAttempts"]])
    except Exception as error:
        outcomes.append([str(error), 0])
    if len(outcomes) == 1:
        print(outcomes[0][0], flush=True)
    # An instance takes 5 a second. What is refused for that has nothing to do with what else goes on.
    time.sleep(0.25)
print(json.dumps(outcomes))
"""


def on_the_laptop(site, folder, script, *arguments):
    """A process of boto3 as it comes, in the laptop's network and as whoever the laptop is."""
    exported = run("sh", "-c", f"{site.laptop.exports}\nenv").stdout
    environment = dict(line.split("=", 1) for line in exported.splitlines() if line.startswith("AWS_"))
    environment["AWS_CA_BUNDLE"] = str(site.laptop.root / "root/ca.pem")
    # The names are known on the laptop only.
    shutil.copy(site.laptop.root / "etc/hosts", folder / "hosts")
    words = ["nsenter", f"--target={site.laptop.pid}", "--net", "--pid", "unshare", "--mount", "sh", "-ec"]
    words += ['mount --bind "$1" /etc/hosts; shift; exec "$@"', "sh", folder / "hosts"]
    words += [sys.executable, "-c", script, *arguments]
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def stream_of_pushes(site, folder, instance):
    """Pushes from the laptop, one after another, until the file that is given exists."""
    key = folder / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    process = on_the_laptop(site, folder, PUSHES, instance, f"{key}.pub", folder / "stop")
    assert process.stdout.readline() == "pushed\n"
    return process


def outcomes(process, folder):
    (folder / "stop").touch()
    return json.loads(process.communicate(timeout=PATIENCE)[0])


def login(site, host, check=True):
    return site.laptop.shell(f"instance-connect ssh alice@{HOSTS[host]} --host {host} -- id -un", check=check)


def test_the_metadata_service_comes_with_the_agent_and_waits_for_the_operator(site):
    units = "instance-connect-metadata.socket instance-connect-metadata-address.service"
    machine = site.machines["web-1"]
    enabled = machine.shell(f"systemctl is-enabled {units}", check=False).stdout.split()
    assert enabled == ["disabled", "static"]
    machine.shell(f"systemd-analyze verify {units}")


def test_a_login_on_each_machine(site):
    assert site.first_login == "alice\n"
    for host in HOSTS:
        assert login(site, host).stdout == "alice\n"


def test_what_is_revoked_is_refused_at_once(site):
    # Plain ssh is told no host keys.
    site.laptop.shell("mkdir -p -m 700 .ssh && ssh-keyscan -t ed25519 web-1 >>.ssh/known_hosts")
    site.laptop.shell("rm -f key key.pub; ssh-keygen -q -t ed25519 -N '' -f key")
    site.laptop.shell(f"instance-connect send-key {HOSTS['web-1']} --os-user alice --ssh-public-key key.pub")
    ssh = "ssh -o BatchMode=yes -o IdentitiesOnly=yes -i key alice@web-1 id -un"
    assert site.laptop.shell(ssh).stdout == "alice\n"
    as_whom(site, site.administrator)
    (_, _, suspend), (_, _, revoke) = site.commands["Taking a way in away"]
    site.type(site.laptop, suspend)

    def log_in_until_refused():
        """One login after another. When the one that was refused began."""
        while True:
            began, done = time.monotonic(), site.laptop.shell(ssh, check=False)
            if done.returncode != 0:
                assert "Permission denied" in done.stderr
                return began

    with ThreadPoolExecutor() as pool:
        stream = pool.submit(log_in_until_refused)
        asked = time.monotonic()
        said = site.type(site.laptop, revoke)
        answered = time.monotonic()
        # What the answer says is so: the first login that begins after it is refused.
        after = site.laptop.shell(ssh, check=False)
        first = stream.result()
    assert "Permission denied" in after.stderr
    assert "Withdrawn, and refused from now on:" in said and HOSTS["web-1"] in said and "Not reached" not in said
    print(f"\nrevoke took {answered - asked:.2f} s, program and all; the first login that was refused began {first - answered:+.2f} s after its answer")
    as_whom(site, site.alice)
    assert login(site, "web-1", check=False).returncode != 0
    as_whom(site, site.administrator)
    site.laptop.shell("instance-connect user activate alice")
    as_whom(site, site.alice)
    assert login(site, "web-1").stdout == "alice\n"


PUSH_FOR_THE_CONSOLE = """
import boto3, sys
client, key = boto3.client("ec2-instance-connect"), open(sys.argv[2]).read()
print(client.send_serial_console_ssh_public_key(InstanceId=sys.argv[1], SerialPort=0, SSHPublicKey=key)["Success"])
"""


def test_a_serial_console(site, tmp_path):
    """The gateway as its package has it, by its own user; the line is a program of the machine that says everything twice."""
    as_whom(site, site.administrator)
    said = site.follow("The serial console")
    control_plane, web = site.control_plane, site.machines["web-1"]
    control_plane.shell("systemd-analyze verify instance-connect-console.service")
    assert control_plane.shell("systemctl is-enabled instance-connect-console", check=False).stdout == "disabled\n"
    modes = control_plane.shell("cd /run/instance-connect-console && stat -c '%a %U %G %n' . control-plane.sock").stdout
    assert modes == "2750 instance-connect instance-connect-console .\n660 instance-connect instance-connect-console control-plane.sock\n"
    assert control_plane.shell("cd /var/lib && stat -c '%a %U' instance-connect-console instance-connect-console/ssh_host_ed25519_key").stdout == (
        "700 instance-connect-console\n600 instance-connect-console\n"
    )
    # Nobody but the control plane and the gateway gets at the socket, and the gateway gets at nothing else.
    socket = "-w /run/instance-connect-console/control-plane.sock"
    for user, group, path, reaches in [
        ("instance-connect-console", "instance-connect-console", socket, True),
        ("nobody", "nogroup", socket, False),
        ("instance-connect-console", "instance-connect-console", "-w /run/instance-connect-console", False),
        ("instance-connect-console", "instance-connect-console", "-r /etc/instance-connect/master.key", False),
        ("instance-connect-console", "instance-connect-console", "-r /etc/instance-connect/instance-connectd.toml", False),
        ("instance-connect-console", "instance-connect-console", "-r /var/lib/instance-connect", False),
    ]:
        asked = f"setpriv --reuid {user} --regid {group} --clear-groups test {path}"
        assert (control_plane.shell(asked, check=False).returncode == 0) == reaches, asked

    web.write("etc/instance-connect/lines.toml", '[[line]]\ncommand = ["sed", "-u", "s/.*/& &/"]\n')
    # Its last command shows the fingerprint.
    key = control_plane.read("var/lib/instance-connect-console/ssh_host_ed25519_key.pub")
    assert run("ssh-keygen", "-lf", "-", input=key, stdin=None).stdout.split()[1] in said[-1]
    site.laptop.write("root/.ssh/known_hosts.console", f"[{NAME}]:2022 {key}")
    site.laptop.shell("rm -f key key.pub; ssh-keygen -q -t ed25519 -N '' -f key")
    public = site.laptop.root / "root/key.pub"

    def is_pushed():
        process = on_the_laptop(site, tmp_path, PUSH_FOR_THE_CONSOLE, HOSTS["web-1"], public)
        return process.communicate(timeout=PATIENCE)[0] == "True\n"

    # The agent looks at its file every now and then, and says over its link which lines it has.
    eventually(is_pushed, "the agent has told of its line")
    options = "-o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=/root/.ssh/known_hosts.console -p 2022 -i /root/key"
    words = site.laptop.words("ssh", "-T", *options.split(), f"{HOSTS['web-1']}.port0@{NAME}")
    ssh = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=site.laptop.environment())
    ssh.stdin.write(b"hello\n")
    ssh.stdin.flush()
    shown = b""
    while b"hello hello" not in shown:
        more = os.read(ssh.stdout.fileno(), 4096)
        assert more, shown
        shown += more
    on_record = "instance-connect audit query --output json --event-name SerialConsoleSession"
    assert HOSTS["web-1"] in site.laptop.shell(f"{on_record}Opened").stdout
    ssh.stdin.write(b"\x1d.")
    ssh.stdin.close()
    assert b"You have left the serial console." in ssh.stdout.read() and ssh.wait(PATIENCE) == 0
    eventually(lambda: HOSTS["web-1"] in site.laptop.shell(f"{on_record}Closed").stdout, "its end is on record, too")
    as_whom(site, site.alice)


def test_an_upgrade_under_a_stream_of_pushes(site, tmp_path):
    stream = stream_of_pushes(site, tmp_path, HOSTS["web-1"])
    for name in ["control-plane", *HOSTS]:
        site.bring_packages(site.machines[name], "*_amd64.deb", PACKAGES / "next")
    configuration = site.control_plane.state("etc/instance-connect")
    control_plane, gateway, agent = site.commands["Upgrading"]
    site.type(site.control_plane, control_plane[2])
    # What the package's script does where systemd runs: systemctl try-restart.
    site.control_plane.service.restart()
    host_keys = site.control_plane.state("var/lib/instance-connect-console")
    site.type(site.control_plane, gateway[2])
    site.control_plane.gateway.restart()
    assert site.control_plane.state("var/lib/instance-connect-console") == host_keys
    for host in HOSTS:
        site.type(site.machines[host], agent[2])
        site.machines[host].agent.restart()
    found = outcomes(stream, tmp_path)
    failed = [outcome for outcome, _ in found if outcome != "pushed"]
    print(f"\n{len(found)} pushes during the upgrade, {sum(retries for _, retries in found)} tried again, {len(failed)} failed")
    assert not failed, failed
    assert site.control_plane.state("etc/instance-connect") == configuration
    for name in ["control-plane", *HOSTS]:
        assert "+1" in site.machines[name].shell("dpkg-query -W 'instance-connect*'").stdout
    for host in HOSTS:
        assert login(site, host).stdout == "alice\n"


def test_a_backup_restored_onto_a_new_machine(site):
    site.follow("Backup and restore")
    old = site.control_plane
    kept = {name: (old.root / "etc/instance-connect" / name).read_bytes() for name in ("instance-connectd.toml", "ca.pem", "master.key")}
    inventory = (old.root / "root/inventory.sqlite").read_bytes()
    audit = (old.root / "var/lib/instance-connect/audit.log").read_bytes()
    old.service.stop()
    old.gateway.stop()
    old.close()

    new = site.control_plane = site.machines["control-plane"] = site.new_control_plane("control-plane-2", "10.77.0.1")
    site.before["control-plane"] = new.state("etc")
    site.bring_packages(new, "*_amd64.deb", PACKAGES / "next")
    site.type(new, site.commands["The control plane"][0][2])
    site.type(new, site.commands["The serial console"][0][2])
    for name in ("instance-connectd.toml", "ca.pem"):
        (new.root / "etc/instance-connect" / name).write_bytes(kept[name])
    for name, content in {"inventory.sqlite": inventory, "audit.log": audit}.items():
        (new.root / "var/lib/instance-connect" / name).write_bytes(content)
    new.shell("chown root:instance-connect /etc/instance-connect/instance-connectd.toml; chmod 0640 /etc/instance-connect/instance-connectd.toml")
    new.shell("chown -R instance-connect: /var/lib/instance-connect; chmod 0600 /var/lib/instance-connect/*")

    key = new.root / "etc/instance-connect/master.key"
    for content, said in [(None, "No such file or directory"), (os.urandom(32), "not the master key the database was made with")]:
        if content:
            key.write_bytes(content)
            key.chmod(0o600)
        with pytest.raises(AssertionError, match=said):
            start_control_plane(new)
    key.write_bytes(kept["master.key"])
    start_control_plane(new)
    for host in HOSTS:
        eventually(lambda host=host: login(site, host, check=False).stdout == "alice\n", f"the agent of {host} is back, and keys and policies work")


def test_what_is_removed_leaves_sshd_as_it_was(site):
    for host in HOSTS:
        machine = site.machines[host]
        before = {name: found for name, found in site.before[host].items() if name.startswith("etc/ssh/")}
        assert machine.state("etc/ssh") != before
        site.type(machine, "apt remove instance-connect-agent")
        assert machine.state("etc/ssh") == before
        assert not (machine.root / "usr/bin/instance-connect-agent").exists()
        assert login(site, host, check=False).returncode != 0
        machine.agent.stop()
        said = site.type(machine, "apt purge instance-connect-agent")
        assert "kept: the users instance-connect-agent and instance-connect-keys" in said
        assert_left_as_before(site, host)
        assert not (machine.root / "var/lib/instance-connect-agent").exists()
    site.control_plane.service.stop()
    site.control_plane.shell("touch /etc/instance-connect/master.key.next")
    site.control_plane.shell("cd /var/lib/instance-connect && mkdir -p before empty && touch before/audit.log before/inventory.sqlite")
    said = site.type(site.control_plane, "apt purge instance-connect-console")
    assert "kept: the user instance-connect-console" in said
    assert not (site.control_plane.root / "var/lib/instance-connect-console").exists()
    said = site.type(site.control_plane, "apt purge instance-connectd")
    assert "kept: the audit log in /var/lib/instance-connect" in said
    kept = site.control_plane.root / "var/lib/instance-connect"
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*")) == ["audit.log", "before", "before/audit.log"]
    assert_left_as_before(site, "control-plane")
    site.laptop.shell("apt purge instance-connect")
    assert_left_as_before(site, "laptop")


def test_the_rpm_packages_scripts(site):
    """rpm installs, upgrades and removes them in a clean Debian system: there is no Fedora here, so what they require is not looked at."""
    machine = site.network.machine("rpm-1", "10.77.0.50")
    machine.start_sshd()
    before = {name: found for name, found in machine.state("etc").items() if name.startswith("etc/ssh/")}

    def rpm(*words):
        root = machine.folder / "root"
        return run(*machine.within("--mount", "--pid", "--net"), "rpm", "--root", root, "--force-debian", "--nodeps", *words)

    rpm("--install", *PACKAGES.glob("*.rpm"))
    passwd = machine.read("etc/passwd")
    assert all(f"\n{user}:" in passwd for user in USERS)
    machine.shell("instance-connect --version; instance-connectd --version; instance-connect-agent install")
    assert (machine.root / "etc/ssh/sshd_config.d/00-instance-connect.conf").exists()
    rpm("--upgrade", *(PACKAGES / "next").glob("*.rpm"))
    assert "/usr/libexec/instance-connect/" in machine.shell("sshd -T").stdout
    rpm("--erase", "instance-connect-agent", "instance-connect-console", "instance-connectd", "instance-connect")
    assert {name: found for name, found in machine.state("etc").items() if name.startswith("etc/ssh/")} == before
    assert not list((machine.root / "usr/bin").glob("instance-connect*"))


def assert_left_as_before(site, name):
    """/etc is as before, byte for byte, but for the accounts, and the copies that tools make of these files."""
    accounts = {f"etc/{file}{copy}" for file in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid") for copy in ("", "-")}
    accounts |= {"etc/.pwd.lock", "etc/ld.so.cache"}
    before, after = site.before[name], site.machines[name].state("etc")
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= accounts
