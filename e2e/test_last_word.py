"""The machine has the last word: what the sshd command prints does not depend on who wrote its files."""

import hashlib
import time
import uuid

import pytest

from dev import MachineCopy
from system import root_only


@pytest.fixture
def push(dev, new_key):
    """A live key; every test alters a copy of the machine that has it. The second one: it takes 64 keys a minute for
    one user, and most other tests push to the first."""
    return dev.push(new_key(), dev.second)


@pytest.fixture
def machine(push, tmp_path):
    machine = MachineCopy(push.instance, tmp_path / "machine")
    return machine


def refused(answer, why):
    """Nothing printed, and the reason in the system log; still exit 0, so that sshd goes on to other keys."""
    return (answer.status, answer.printed) == (0, "") and why in "".join(answer.log)


def test_an_unaltered_copy_prints_the_key(machine, push):
    answer = machine.ask(push.user, push.key)
    assert (answer.status, answer.printed) == (0, push.key.public + "\n")
    assert f"request-id: {push.request_id}" in "".join(answer.log)


def test_nothing_is_said_of_a_key_that_is_not_there(machine, push, new_key):
    answer = machine.ask(push.user, new_key())
    assert (answer.status, answer.printed, answer.log) == (0, "", [])


def test_a_document_under_another_users_name_is_refused(machine, push):
    other = machine.folder / "run/live" / hashlib.sha256(b"mallory").hexdigest()
    other.mkdir()
    machine.key_file(push).rename(other / machine.key_file(push).name)
    assert refused(machine.ask("mallory", push.key), "it is for another user")


def test_a_document_under_another_keys_name_is_refused(dev, machine, push, new_key):
    other = new_key()
    name = dev.second.key_file(other).name
    machine.key_file(push).rename(machine.key_file(push).with_name(name))
    assert refused(machine.ask(push.user, other), "it is for another key")


def test_no_flipped_bit_is_accepted(machine, push):
    """One bit of every byte, below the deadline: that line is the agent's word, and no signature covers it."""
    file = machine.key_file(push)
    whole = file.read_bytes()
    for position in range(whole.index(b"\n") + 1, len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        file.write_bytes(flipped)
        answer = machine.ask(push.user, push.key, uid="4321")
        assert refused(answer, "Refused the ssh key"), f"byte {position}: {answer}"
    # It was refused for its bits, each time: its minute is not over.
    file.write_bytes(whole)
    assert machine.ask(push.user, push.key).printed


@pytest.mark.parametrize("seconds, why", [
    (-1, "its deadline has passed"),
    (65, "its deadline is further ahead than a key may live"),
])  # fmt: skip
def test_a_deadline_that_cannot_be_is_refused(machine, push, seconds, why):
    deadline = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + seconds * 1_000_000_000
    file = machine.key_file(push)
    _deadline, rest = file.read_text().split("\n", 1)
    file.write_text(f"!Deadline={deadline}\n{rest}")
    assert refused(machine.ask(push.user, push.key), why)


def test_another_machines_document_is_refused(dev, push, machine, tmp_path):
    """The other machine trusts the same anchors, and has a key of the same name."""
    other = MachineCopy(dev.first, tmp_path / "other")
    path = machine.key_file(push).relative_to(machine.folder)
    (other.folder / path).parent.mkdir(exist_ok=True)
    machine.key_file(push).rename(other.folder / path)
    assert refused(other.ask(push.user, push.key), "it is for another instance")


def test_a_signer_of_another_control_plane_is_refused(machine, push, new_dev):
    anchors = (new_dev().first.folder / "etc/anchors").read_text()
    (machine.etc / "anchors").write_text(anchors)
    assert refused(machine.ask(push.user, push.key), "its signer is not vouched for by an anchor of this machine")


def test_an_anchor_of_another_region_does_not_vouch(machine, push):
    anchors = (machine.etc / "anchors").read_text()
    (machine.etc / "anchors").write_text(anchors.replace("us-east-1 ", "eu-central-1 "))
    assert refused(machine.ask(push.user, push.key), "its signer is not vouched for by an anchor of this machine")


@pytest.mark.parametrize("host_toml, why", [
    ('deny_users = ["USER"]', "host.toml denies the user"),
    ('allow_users = ["somebody-else"]', "host.toml does not allow the user"),
    ('allow_users = ["USER"]\ndeny_users = ["USER"]', "host.toml denies the user"),
    ("max_lifetime_seconds = 1", "its deadline is further ahead than a key may live"),
])  # fmt: skip
def test_the_machines_own_veto_is_obeyed(machine, push, host_toml, why):
    (machine.etc / "host.toml").write_text(host_toml.replace("USER", push.user) + "\n")
    assert refused(machine.ask(push.user, push.key), why)


def test_root_under_another_name_is_denied(machine, push):
    (machine.etc / "host.toml").unlink(missing_ok=True)
    assert machine.ask(push.user, push.key, uid="4321").printed
    assert refused(machine.ask(push.user, push.key, uid="0"), "root is denied")


@pytest.mark.parametrize("name, text", [
    ("host.toml", "allow_user = []\n"),
    ("instance-id", "not an instance\n"),
    ("anchors", "us-east-1 rsa AAAA\n"),
])  # fmt: skip
def test_a_broken_installation_opens_nothing(machine, push, name, text):
    (machine.etc / name).write_text(text)
    answer = machine.ask(push.user, push.key)
    assert (answer.status, answer.printed) == (1, "")
    assert "Unable to run EC2 Instance Connect" in "".join(answer.log)


def test_what_others_may_write_to_is_not_trusted(machine, push):
    (machine.etc / "anchors").chmod(0o666)
    answer = machine.ask(push.user, push.key)
    assert (answer.status, answer.printed) == (1, "")


@root_only
def test_a_document_from_before_a_reboot_is_refused(new_dev, new_key, tmp_path):
    """A machine whose agent and sshd see another boot id, by a mount that only they see. To this boot, in which the
    command runs then, what that agent was given is from another boot: signed, and with its minute still running."""
    (tmp_path / "boot_id").write_text(f"{uuid.uuid4()}\n")
    other_boot = tmp_path / "other-boot"
    other_boot.write_text(
        f'#!/bin/sh\nmount --bind {tmp_path}/boot_id /proc/sys/kernel/random/boot_id && exec "$@"\n'
    )
    other_boot.chmod(0o755)
    dev = new_dev(machine_prefix=f"unshare --mount {other_boot}")
    push = dev.push(new_key())
    assert push.login().succeeded
    machine = MachineCopy(dev.first, tmp_path / "machine")
    assert refused(machine.ask(push.user, push.key), "it is from before this boot")


def test_a_veto_on_the_machine_reaches_the_caller(new_dev, new_key):
    dev = new_dev()
    earlier = dev.push(new_key())
    (dev.first.folder / "etc/host.toml").write_text(f'deny_users = ["{dev.first.os_user}"]\n')
    # What is there already is not offered any more, and nothing new is taken.
    assert earlier.login().refused
    client = dev.client()
    with pytest.raises(client.exceptions.AuthException, match="The instance does not allow access to this OS user"):
        dev.push(new_key())
    assert dev.push(new_key(), dev.second).login().succeeded
