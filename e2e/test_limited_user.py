"""The limited user may push to the first machine for its OS user, and for nothing else."""

import pytest
from botocore.exceptions import ClientError


def denied(dev, call, operation, instance):
    """The call is refused, in the words of AWS (wire.md 1.7)."""
    with pytest.raises(ClientError) as raised:
        call()
    error = raised.value.response["Error"]
    expected = (
        f"User: arn:aws:iam::{dev.ready['account_id']}:user/limited is not authorized to perform: "
        f"ec2-instance-connect:{operation} on resource: "
        f"arn:aws:ec2:{dev.region}:{dev.ready['account_id']}:instance/{instance.id} because no identity-based policy "
        f"allows the ec2-instance-connect:{operation} action"
    )
    return (error["Code"], error["Message"]) == ("AccessDeniedException", expected)


def test_allowed_for_the_first_machine_and_its_user(dev, new_key):
    assert dev.push(new_key(), caller="limited").login().succeeded


def test_denied_for_the_second_machine(dev, new_key):
    key = new_key()
    assert denied(dev, lambda: dev.push(key, dev.second, caller="limited"), "SendSSHPublicKey", dev.second)
    assert dev.second.login(key).refused


@pytest.mark.parametrize("user", ["root", "somebody-else"])
def test_denied_for_another_os_user(dev, new_key, user):
    assert denied(dev, lambda: dev.push(new_key(), user=user, caller="limited"), "SendSSHPublicKey", dev.first)


def test_denied_for_the_serial_console(dev, new_key):
    client, key = dev.client("limited"), new_key()
    call = lambda: client.send_serial_console_ssh_public_key(InstanceId=dev.first.id, SSHPublicKey=key.public)
    assert denied(dev, call, "SendSerialConsoleSSHPublicKey", dev.first)
