"""How a tool that pushes keys can be tested, with the fixture and boto3 alone."""

import subprocess
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError


def push(client, instance, key_file):
    """What the tool does: yours is in its place."""
    return client.send_ssh_public_key(
        InstanceId=instance.instance_id,
        InstanceOSUser=instance.os_user,
        SSHPublicKey=key_file.with_suffix(".pub").read_text(),
    )


@pytest.fixture
def key(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return tmp_path / "key"


@pytest.fixture
def instance(instance_connect):
    return instance_connect.instances[0]


@pytest.fixture
def client(instance_connect):
    """As the tool makes it: the fixture has set the variables that boto3 looks at."""
    return boto3.client("ec2-instance-connect", config=Config(retries={"mode": "standard"}))


@pytest.fixture
def impatient(instance_connect):
    """One that tries once and waits a fifth of a second."""
    return instance_connect.client(config=Config(retries={"total_max_attempts": 1}, read_timeout=0.2))


def log_in(instance, key):
    return subprocess.run(instance.ssh(key, "true"), capture_output=True, text=True)


def test_a_pushed_key_opens_a_login(client, instance, key):
    assert log_in(instance, key).returncode == 255
    assert push(client, instance, key)["Success"]
    assert log_in(instance, key).returncode == 0


def test_it_tries_again_when_it_is_throttled(instance_connect, client, instance, key):
    instance_connect.fault("ThrottlingException", operation="SendSSHPublicKey", times=2)
    assert push(client, instance, key)["Success"]
    calls = instance_connect.calls("SendSSHPublicKey")
    assert [call.error for call in calls] == ["ThrottlingException", "ThrottlingException", None]
    assert all(call.caller == instance_connect.admin.arn for call in calls)


def test_it_gives_up_in_the_end(instance_connect, instance, key):
    client = instance_connect.client(config=Config(retries={"mode": "standard", "total_max_attempts": 2}))
    with instance_connect.fault("ThrottlingException"):
        with pytest.raises(client.exceptions.ThrottlingException):
            push(client, instance, key)
    assert len(instance_connect.calls()) == 2
    assert push(client, instance, key)["Success"]


def test_an_expired_key(instance_connect, client, instance, key):
    instance_connect.fault(key_lifetime=1, times=1)
    push(client, instance, key)
    deadline = time.monotonic() + 10
    while (login := log_in(instance, key)).returncode == 0:
        assert time.monotonic() < deadline, "the key has not expired"
    assert "Permission denied" in login.stderr
    # A key that is pushed once more is good once more.
    push(client, instance, key)
    assert log_in(instance, key).returncode == 0


def test_a_stopped_instance(instance_connect, client, key):
    stopped, running = instance_connect.instances[:2]
    ec2 = boto3.client("ec2")
    ec2.stop_instances(InstanceIds=[stopped.instance_id])
    try:
        with pytest.raises(client.exceptions.EC2InstanceStateInvalidException):
            push(client, stopped, key)
        assert push(client, running, key)["Success"]
    finally:
        ec2.start_instances(InstanceIds=[stopped.instance_id])
    assert push(client, stopped, key)["Success"]


def test_an_instance_that_does_not_answer(instance_connect, client, key):
    silent, other = instance_connect.instances[:2]
    instance_connect.fault("EC2InstanceUnavailableException", instance=silent)
    with pytest.raises(client.exceptions.EC2InstanceUnavailableException):
        push(client, silent, key)
    assert push(client, other, key)["Success"]


def test_a_service_that_is_slow(instance_connect, impatient, instance, key):
    instance_connect.fault(delay=1, times=1)
    with pytest.raises(ReadTimeoutError):
        push(impatient, instance, key)


def test_a_clock_that_is_off(instance_connect, impatient, instance, key):
    instance_connect.fault(clock_offset=3600)
    with pytest.raises(ClientError, match="Signature expired"):
        push(impatient, instance, key)


def test_a_user_who_may_not(instance_connect, key):
    client = instance_connect.client(caller=instance_connect.limited)
    allowed, other = instance_connect.instances[:2]
    assert push(client, allowed, key)["Success"]
    with pytest.raises(ClientError, match="AccessDeniedException"):
        push(client, other, key)
    assert [call.caller for call in instance_connect.calls()] == [instance_connect.limited.arn] * 2


def test_a_name_that_there_is_none_of(instance_connect):
    with pytest.raises(Exception, match='no "Throttled". There are AuthException, '):
        instance_connect.fault("Throttled")
