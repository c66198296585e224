"""A pushed key opens one account on one machine for 60 seconds, and nothing else."""

import time

import pytest

from system import eventually, kill, root_only, stop


def test_a_key_is_refused_before_it_is_pushed(dev, new_key):
    key = new_key()
    assert dev.first.login(key).refused
    assert dev.push(key).login().succeeded


def test_a_key_is_refused_on_the_other_machine(dev, new_key):
    push = dev.push(new_key())
    assert dev.second.login(push.key).refused
    assert push.login().succeeded


def test_another_key_is_refused(dev, new_key):
    push = dev.push(new_key())
    assert dev.first.login(new_key()).refused
    assert push.login().succeeded


@root_only
def test_a_key_is_refused_for_another_user(dev, new_key, other_user):
    push = dev.push(new_key())
    assert dev.first.login(push.key, other_user).refused
    assert push.login().succeeded


@root_only
def test_a_key_pushed_for_another_user_opens_that_account_alone(dev, new_key, other_user):
    push = dev.push(new_key(), user=other_user)
    assert push.login().succeeded
    assert dev.first.login(push.key, dev.first.os_user).refused


@root_only
def test_a_key_never_opens_root_unless_the_machine_allows_it(dev, new_key):
    client = dev.client()
    with pytest.raises(client.exceptions.AuthException, match="does not allow access to this OS user"):
        client.send_ssh_public_key(
            InstanceId=dev.first.id, InstanceOSUser="root", SSHPublicKey=new_key().public
        )


def nothing_is_wrong(dev):
    pass


def control_plane_hangs(dev):
    stop(dev.process.pid)


def agent_is_killed(dev):
    kill(dev.first.agent())


def agent_is_killed_and_control_plane_hangs(dev):
    agent_is_killed(dev)
    control_plane_hangs(dev)


FAULTS = [nothing_is_wrong, control_plane_hangs, agent_is_killed, agent_is_killed_and_control_plane_hangs]


@root_only
@pytest.mark.parametrize("fault", FAULTS)
def test_a_key_works_at_55_seconds_and_is_refused_at_61(new_dev, new_key, fault):
    """Without waiting: sshd runs our command with a boot clock that is ahead, and the deadline is on that clock."""
    dev = new_dev()
    push = dev.push(new_key())
    fault(dev)
    assert push.login(age=55).succeeded
    assert push.login(age=61).refused
    # It was the clock, and nothing else that had changed meanwhile.
    assert push.login(age=0).succeeded


@root_only
def test_the_machine_logs_that_the_deadline_has_passed(dev, new_key):
    push = dev.push(new_key())
    assert push.login(age=61).refused
    key = f"fingerprint: {push.key.fingerprint}, for user {push.user}"
    line = f"Refused the ssh key with {key}: its deadline has passed"
    eventually(lambda: line in dev.first.auth_log, "the machine logs why")


@pytest.mark.last
def test_a_key_is_refused_after_a_real_minute(pushed_first):
    """No clock is tampered with here, so that no trick carries the promise alone. The push was made before the first
    test, and this test runs after all others: it sleeps only what they have left of the minute."""
    push, login = pushed_first
    assert login.succeeded
    time.sleep(max(0, 61 - (time.monotonic() - push.at)))
    assert push.login().refused
