"""`instance-connect ssh-config`: OpenSSH and what runs it, by instance id and by name, with nothing but the user's own configuration."""

import json
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from dev import PROGRAMS, Dev
from system import eventually, run, shifted_wall_clock
from test_admin import administrator
from test_host_keys import change_host_key, show

CLI = PROGRAMS / "instance-connect"
ANSIBLE = Path(sys.executable).with_name("ansible")


class Person:
    """Somebody with a configuration of ssh, and the variables of their shell."""

    def __init__(self, folder, dev, environment, *options):
        self.folder = folder
        self.dev = dev
        self.config = folder / ".ssh/config"
        self.agents = folder / ".ssh/instance-connect"
        self.environment = {**environment, "HOME": str(folder)}
        self.config.parent.mkdir(mode=0o700)
        self.config.write_text("Host *\n  IdentitiesOnly yes\n")
        self.written = self.config.read_bytes()
        self.cli("ssh-config", "install", "--config", self.config, *options)

    def cli(self, *arguments):
        return run(CLI, *arguments, env=self.environment)

    def ssh(self, *arguments, status=0, **environment):
        """OpenSSH, which is not to ask anything."""
        words = ("ssh", "-F", self.config, "-o", "BatchMode=yes", *arguments)
        done = run(*words, check=False, env={**self.environment, **environment})
        assert done.returncode == status, done.stderr
        return done

    def pushes(self):
        """How many pushes were let through for each instance."""
        records = [json.loads(line) for line in self.dev.audit_lines()]
        pushes = [record for record in records if record["eventName"] == "SendSSHPublicKey" and "errorCode" not in record]
        # An intent and a record are of one request.
        instances = {record["requestID"]: record["requestParameters"]["instanceId"] for record in pushes}
        return Counter(instances.values())


@pytest.fixture(scope="module")
def four(tmp_path_factory, os_user):
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user, arguments=["--instances", "4"])
    yield dev
    dev.close()


@pytest.fixture
def home():
    """Its path is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="ic-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def person(four, home):
    """Somebody whose installed configuration names the ready file and the user."""
    return Person(home, four, os.environ, "--ready-file", four.ready_file, "--os-user", four.first.os_user)


def by_name(dev, folder, *options):
    """Somebody who has credentials and endpoints in variables, and asks for instances by EC2's API."""
    person = Person(folder, dev, dev.environment(), *options)
    ports = [f"Host dev-{number}.ec2 {instance.id}\n  Port {instance.port}\n" for number, instance in enumerate(dev.instances, start=1)]
    person.config.write_text(person.config.read_text() + "".join(ports) + f"Host *\n  User {dev.first.os_user}\n")
    return person


@pytest.fixture
def named(four, home):
    return by_name(four, home)


def test_ssh_logs_in_by_id(person):
    for instance in person.dev.instances:
        before = person.pushes()
        done = person.ssh(instance.id, "id -un")
        assert (done.stdout, done.stderr) == (f"{instance.os_user}\n", "")
        assert person.pushes() - before == {instance.id: 1}
    # Nothing is left of a login, and there never was a secret in it.
    assert list(person.agents.iterdir()) == []


def test_ssh_logs_in_by_name_with_the_host_key_that_the_service_has(named):
    for number, instance in enumerate(named.dev.instances, start=1):
        before = named.pushes()
        done = named.ssh(f"dev-{number}.ec2", "id -un")
        assert (done.stdout, done.stderr) == (f"{instance.os_user}\n", "")
        assert named.pushes() - before == {instance.id: 1}
    assert not (named.folder / ".ssh/known_hosts").exists()


def test_names_that_mean_no_machine_or_several(named):
    before = named.pushes()
    assert "no running instance has the Name tag nobody" in named.ssh("nobody.ec2", "true", status=255).stderr
    name_instances(named.dev, {3: "both", 4: "both"})
    try:
        refused = named.ssh("both.ec2", "true", status=255).stderr
    finally:
        name_instances(named.dev, {3: "dev-3", 4: "dev-4"})
    listed = [instance.id in refused for instance in named.dev.instances]
    assert "several running instances have the Name tag both" in refused and listed == [False, False, True, True]
    assert named.pushes() == before


def name_instances(dev, names):
    caller = dev.ready["admin"]
    keys = {"aws_access_key_id": caller["access_key_id"], "aws_secret_access_key": caller["secret_access_key"]}
    ec2 = boto3.client("ec2", endpoint_url=dev.endpoint_url, region_name=dev.region, **keys)
    for number, name in names.items():
        ec2.create_tags(Resources=[dev.instances[number - 1].id], Tags=[{"Key": "Name", "Value": name}])


def test_names_without_a_suffix_where_they_were_listed(four, home):
    person = by_name(four, home, "--name", "dev-*")
    instance = four.second
    assert person.ssh("-p", instance.port, "dev-2", "id -un").stdout == f"{instance.os_user}\n"


def test_files_there_and_back(person):
    instance, file = person.dev.first, person.folder / "file"
    file.write_bytes(os.urandom(3_000_000))
    there = person.ssh(instance.id, "mktemp -d").stdout.strip()
    back = [person.folder / name for name in ("scp", "sftp", "rsync")]
    ssh = f"ssh -F {person.config} -o BatchMode=yes"
    for words, batch in [
        (("scp", "-q", "-F", person.config, "-o", "BatchMode=yes", file, f"{instance.id}:{there}/scp"), None),
        (("scp", "-q", "-F", person.config, "-o", "BatchMode=yes", f"{instance.id}:{there}/scp", back[0]), None),
        (("sftp", "-q", "-F", person.config, "-b", "-", instance.id), f"put {file} {there}/sftp\nget {there}/sftp {back[1]}\n"),
        (("rsync", "-e", ssh, file, f"{instance.id}:{there}/rsync"), None),
        (("rsync", "-e", ssh, f"{instance.id}:{there}/rsync", back[2]), None),
    ]:
        source = {"stdin": None, "input": batch} if batch else {}
        run(*words, env=person.environment, **source)
    assert [path.read_bytes() == file.read_bytes() for path in back] == [True] * 3
    person.ssh(instance.id, f"rm -r {there}")


def test_several_at_a_time_to_one_machine_and_to_all(person):
    hosts = [instance.id for instance in person.dev.instances] + [person.dev.first.id] * 8
    before = person.pushes()
    with ThreadPoolExecutor(len(hosts)) as threads:
        done = list(threads.map(lambda host: person.ssh(host, "id -un").stdout, hosts))
    assert done == [f"{person.dev.first.os_user}\n"] * len(hosts)
    assert person.pushes() - before == Counter(hosts)
    assert list(person.agents.iterdir()) == []


def test_control_master(person):
    instance = person.dev.first
    control = ("-o", f"ControlPath={person.folder}/%C")
    before = person.pushes()
    person.ssh(*control, "-o", "ControlMaster=auto", "-o", "ControlPersist=60", instance.id, "true")
    for _ in range(3):
        assert person.ssh(*control, instance.id, "id -un").stdout == f"{instance.os_user}\n"
    person.ssh(*control, "-O", "exit", instance.id)
    assert person.pushes() - before == {instance.id: 1}


def test_users(named):
    """From the command line, else from the configuration; `--os-user` stands before the latter."""
    stranger = "nobody-here"
    instance = named.dev.first
    refused = named.ssh("-l", stranger, instance.id, "true", status=255).stderr
    assert f"{stranger}@{instance.id}: Permission denied (publickey" in refused
    assert named.ssh(f"{instance.os_user}@{instance.id}", "id -un").stdout == f"{instance.os_user}\n"
    named.cli("ssh-config", "install", "--config", named.config, "--os-user", stranger)
    assert "Permission denied" in named.ssh(instance.id, "true", status=255).stderr


def test_a_jump_over_an_instance(person):
    first, second = person.dev.first, person.dev.second
    options = ("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={second.known_hosts}", "-o", "IdentityFile=none")
    refused = person.ssh("-J", first.id, *options, "-p", second.port, f"{second.os_user}@{second.host}", "true", status=255).stderr
    # The way there was good; for a host of nobody's there is no key.
    assert "Permission denied (publickey" in refused, refused


@pytest.fixture
def broken(new_dev):
    return new_dev()


def test_a_changed_host_key_is_refused(broken, home):
    instance = broken.first
    person = by_name(broken, home)
    person.ssh(instance.id, "true")
    change_host_key(instance)
    accept = f"instance-connect instance set {instance.id} --accept-host-keys"
    eventually(lambda: show(administrator(broken), instance)["PendingHostKeys"], "the agent has reported its new key")
    # Also where ssh was told not to look.
    for host, options in [(instance.id, ()), ("dev-1.ec2", ()), (instance.id, ("-o", "StrictHostKeyChecking=no"))]:
        refused = person.ssh(*options, host, "true", status=255).stderr
        assert f"{host} does not prove itself by a host key that the service has accepted for it" in refused, refused
        assert f"hint: if ssh refuses the host key: it is not one that the service has accepted; if they were changed on purpose, an administrator accepts them: {accept}" in refused
    person.cli(*accept.split()[1:], "--yes")
    person.ssh(instance.id, "true")


def test_clear_words_from_within_ssh(person):
    """Credentials that are not there, and a clock that is wrong."""
    instance = person.dev.first
    done = person.ssh(instance.id, "true", **shifted_wall_clock("+10m"))
    assert "this machine's clock is 10 minutes ahead of the service's" in done.stderr
    person.cli("ssh-config", "install", "--config", person.config, "--endpoint-url", person.dev.endpoint_url, "--region", "us-east-1")
    refused = person.ssh(instance.id, "true", status=255).stderr
    assert refused.startswith("error: no credentials: AWS_ACCESS_KEY_ID is not set; "), refused


def test_removed_byte_for_byte(person):
    person.ssh(person.dev.first.id, "true")
    person.cli("ssh-config", "remove", "--config", person.config)
    assert person.config.read_bytes() == person.written
    assert list(person.config.parent.iterdir()) == [person.config]


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - tempfile: {state: directory}
      register: there
    - copy: {content: "{{ inventory_hostname }}", dest: "{{ there.path }}/name"}
    - command: cat {{ there.path }}/name
      register: read
    - assert: {that: [read.stdout == inventory_hostname]}
    - file: {path: "{{ there.path }}", state: absent}
"""


def test_ansible_over_four_machines_by_id_and_by_name(named):
    """With Ansible's own defaults for everything but where the configuration of ssh is."""
    names = [instance.id for instance in named.dev.instances] + [f"dev-{number}.ec2" for number in range(1, 5)]
    inventory = named.folder / "hosts"
    inventory.write_text("".join(f"{name}\n" for name in names))
    play = named.folder / "play.yml"
    play.write_text(PLAY)
    environment = {
        **named.environment,
        "ANSIBLE_SSH_ARGS": f"-F {named.config} -C -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_HOME": str(named.folder / "ansible"),
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(named.folder / "control"),
    }
    ping = run(ANSIBLE, "-i", inventory, "all", "-m", "ping", env=environment, timeout=300)
    assert ping.stdout.count('"ping": "pong"') == len(names), ping.stdout
    played = run(ANSIBLE.with_name("ansible-playbook"), "-i", inventory, play, env=environment, timeout=300)
    assert played.stdout.count("ok=5 ") == len(names) and played.stdout.count("failed=0") == len(names), played.stdout
