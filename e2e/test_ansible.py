"""`instance-connect ansible-inventory`: the real Ansible, by tag, over what runs, with nothing but two lines of script."""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from dev import PROGRAMS, Dev
from system import run
from test_ec2 import client
from test_ssh_config import by_name

ANSIBLE = Path(sys.executable).with_name("ansible")
PAGE = Path(__file__).parent.parent / "docs/ansible.md"


class Controller:
    """The machine that Ansible is on: a configuration of ssh, and the script."""

    def __init__(self, folder, dev):
        self.dev = dev
        self.person = by_name(dev, folder)
        self.script = folder / "instances.sh"
        self.script.write_text(f'#!/bin/sh\nexec {PROGRAMS}/instance-connect ansible-inventory --filter "tag:env=*" "$@"\n')
        self.script.chmod(0o755)
        self.environment = {
            **self.person.environment,
            "ANSIBLE_SSH_ARGS": f"-F {self.person.config} -C -o ControlMaster=auto -o ControlPersist=60s",
            "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "control"),
        }

    def ansible(self, *words, program="ansible"):
        return run(ANSIBLE.with_name(program), "-i", self.script, *words, env=self.environment, timeout=300)

    def inventory(self):
        return json.loads(self.ansible("--list", program="ansible-inventory").stdout)

    def tag(self, number, **tags):
        tags = [{"Key": key, "Value": value} for key, value in tags.items()]
        client(self.dev).create_tags(Resources=[self.dev.instances[number].id], Tags=tags)


@pytest.fixture(scope="module")
def three(tmp_path_factory, os_user):
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user, arguments=["--instances", "3"])
    yield dev
    dev.close()


@pytest.fixture
def controller(three):
    with tempfile.TemporaryDirectory(prefix="ic-", dir="/tmp") as folder:
        controller = Controller(Path(folder), three)
        controller.tag(0, env="prod", role="web-a")
        controller.tag(1, env="prod")
        controller.tag(2, env="dev")
        yield controller


def test_groups_and_variables(controller):
    first, second, third = (instance.id for instance in controller.dev.instances)
    inventory = controller.inventory()
    for group, hosts in [
        ("tag_env_prod", [first, second]),
        ("tag_env_dev", [third]),
        ("tag_role_web_a", [first]),
        ("tag_Name_dev_2", [second]),
        ("state_running", [first, second, third]),
    ]:
        assert sorted(inventory[group]["hosts"]) == sorted(hosts), group
    variables = inventory["_meta"]["hostvars"][first]
    assert variables["ansible_host"] == first
    assert variables["ec2_private_ip_address"] == {"__ansible_unsafe": controller.dev.first.host}
    listed = run(PROGRAMS / "instance-connect", "ansible-inventory", "--host", first, env=controller.environment)
    assert json.loads(listed.stdout) == variables


def test_ping_by_group(controller):
    first, second, third = (instance.id for instance in controller.dev.instances)
    done = controller.ansible("tag_env_prod", "-m", "ping")
    assert done.stdout.count('"ping": "pong"') == 2 and first in done.stdout and second in done.stdout, done.stdout
    assert third not in done.stdout
    # Ansible has nothing to say against names of groups, hosts or variables.
    assert "WARNING" not in done.stderr, done.stderr


def test_a_group_has_one_key(controller, tmp_path):
    """Who may set any tag but `role` puts nothing into a group of `role`; what other keys make, the controller names itself."""
    first = controller.dev.first.id
    controller.tag(0, env="prod", role_db="", **{"role-db": "", "cost-center": "{{ 7 * 6 }}"})
    groups = tmp_path / "groups.yml"
    groups.write_text("plugin: ansible.builtin.constructed\nkeyed_groups:\n  - key: ec2_tags['cost-center']\n    prefix: cost_center\n")
    try:
        assert not [group for group in controller.inventory() if group.startswith("tag_role_db")]
        done = controller.ansible("-i", groups, "--list", program="ansible-inventory")
        [named] = [group for group in json.loads(done.stdout) if group.startswith("cost_center")]
        assert json.loads(done.stdout)[named]["hosts"] == [first] and "42" not in named
    finally:
        tags = [{"Key": key} for key in ("role_db", "role-db", "cost-center")]
        client(controller.dev).delete_tags(Resources=[first], Tags=tags)


def test_a_key_that_is_kept_from_whoever_may_tag(controller):
    """By the policy that the page has."""
    dev = controller.dev
    [deny] = re.findall(r'^{"Effect": "Deny".*?^```', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    statements = [{"Effect": "Allow", "Action": ["ec2:CreateTags", "ec2:DeleteTags"], "Resource": "*"}, json.loads(deny.removesuffix("```"))]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    run(PROGRAMS / "instance-connect", "policy", "put", "tags", "-", "--user", "limited", stdin=None, input=document, env=controller.environment)
    ec2, instance = client(dev, caller="limited"), [dev.first.id]
    ec2.create_tags(Resources=instance, Tags=[{"Key": "color", "Value": "red"}])
    ec2.delete_tags(Resources=instance, Tags=[{"Key": "color"}])
    refused = [
        (ec2.create_tags, {"Tags": [{"Key": "role", "Value": "db"}]}),
        (ec2.create_tags, {"Tags": [{"Key": "color", "Value": "red"}, {"Key": "Role", "Value": "db"}]}),
        (ec2.delete_tags, {"Tags": [{"Key": "role"}]}),
        (ec2.delete_tags, {}),
    ]
    for call, parameters in refused:
        with pytest.raises(ClientError, match="UnauthorizedOperation"):
            call(Resources=instance, **parameters)
    assert controller.inventory()["tag_role_web_a"]["hosts"] == instance


def test_what_is_stopped_is_left_out(controller):
    second = controller.dev.second.id
    ec2 = client(controller.dev)
    ec2.stop_instances(InstanceIds=[second])
    try:
        assert controller.inventory()["tag_env_prod"]["hosts"] == [controller.dev.first.id]
    finally:
        ec2.start_instances(InstanceIds=[second])


def test_a_tag_is_no_template(controller, tmp_path):
    """Who may set tags runs nothing where Ansible is, and breaks no inventory: also by keys that mean something to Ansible."""
    evil, file = "{{ lookup('pipe', 'touch FILE') }}", tmp_path / "file"
    text = evil.replace("FILE", str(file))
    controller.tag(0, env="prod", evil=text, __ansible_vault="x", __ansible_unsafe="x", __ansible_type="x")
    try:
        done = controller.ansible(controller.dev.first.id, "-c", "local", "-m", "debug", "-a", "msg={{ ec2_tags }}")
        said = json.loads(done.stdout.split("=>", 1)[1])["msg"]
        assert said["evil"] == text and not file.exists()
        assert not [key for key in said if key.startswith("__")]
    finally:
        tags = [{"Key": key} for key in ("evil", "__ansible_vault", "__ansible_unsafe", "__ansible_type")]
        client(controller.dev).delete_tags(Resources=[controller.dev.first.id], Tags=tags)


def test_no_credentials_are_said_by_ansible(controller):
    environment = {name: value for name, value in controller.environment.items() if not name.startswith("AWS_ACCESS")}
    environment["AWS_CONFIG_FILE"] = os.devnull
    done = run(ANSIBLE, "-i", controller.script, "all", "-m", "ping", env=environment, check=False, timeout=300)
    assert "no credentials: AWS_ACCESS_KEY_ID is not set" in done.stdout + done.stderr
