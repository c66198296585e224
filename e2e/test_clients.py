"""Unmodified AWS clients push, and plain ssh logs in through the system's own sshd."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from dev import SSHD
from sdks import aws_cli, botocore, go, javascript
from system import eventually, run


@pytest.mark.parametrize(
    "client, kind",
    [
        (botocore, "ed25519"),
        (botocore, "rsa-2048"),
        (botocore, "rsa-3072"),
        (botocore, "rsa-4096"),
        (aws_cli, "ed25519"),
        (javascript, "ed25519"),
        (go, "ed25519"),
    ],
)
def test_a_key_pushed_by_an_unmodified_client_logs_in(dev, new_key, client, kind):
    key = new_key(kind)
    parameters = {"InstanceId": dev.first.id, "InstanceOSUser": dev.first.os_user, "SSHPublicKey": key.public}
    outcome = client(dev.environment(), "SendSSHPublicKey", parameters)
    body, header_request_id = outcome.body, outcome.header_request_id
    assert body["Success"] is True
    assert dev.first.login(key).succeeded

    # One request id ties the answer, its header, the audit record and the line in the machine's log together.
    request_id = body["RequestId"]
    assert header_request_id == request_id
    intent, record = dev.audit(request_id)
    assert intent["eventType"] == "InstanceConnectIntent"
    assert (record["eventName"], record["sourceIPAddress"]) == ("SendSSHPublicKey", "127.0.0.1")
    assert record["responseElements"] == {"requestId": request_id, "success": True}
    providing = (
        f"Providing ssh key from EC2 Instance Connect with fingerprint: {key.fingerprint}, "
        f"request-id: {request_id}, for IAM principal: {dev.ready['admin']['arn']}"
    )
    eventually(lambda: providing in dev.first.auth_log, "the machine logs whose key it is")
    # sshd's own word for what it let in: this key and no other.
    user, fingerprint = re.escape(dev.first.os_user), re.escape(key.fingerprint)
    assert re.search(rf"Accepted publickey for {user} from 127\.0\.0\.1 .* {fingerprint}\n", dev.first.auth_log)


def test_sshd_looks_at_no_key_file(dev):
    settings = run(SSHD, "-T", "-f", dev.first.sshd_config).stdout.splitlines()
    assert "authorizedkeysfile none" in settings
    assert "passwordauthentication no" in settings
    assert [line for line in settings if line.startswith("authorizedkeyscommand ")]


def test_pushes_by_many_clients_at_once_all_log_in(dev, new_key):
    keys = [new_key() for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert all(push.body["Success"] for push in pool.map(lambda key: dev.push(key, dev.second), keys))
        assert all(login.succeeded for login in pool.map(dev.second.login, keys))
