"""AWS's own command line for people, unmodified (PyPI's ec2instanceconnectcli): it looks the instance up at EC2, pushes a key
of its own, and runs the system's ssh or sftp."""

import json
import os
import sys
from pathlib import Path

from system import run


def program(dev, folder, name, port, *words, instance=None, caller="admin"):
    """Runs mssh or msftp with the ready file's host key, and nothing of the caller's own. It reads keys and endpoint from a
    profile, and takes words of ssh's before the target."""
    instance = instance or dev.first
    key = dev.ready[caller]
    profile = {
        "region": dev.region,
        "endpoint_url": dev.endpoint_url,
        "aws_access_key_id": key["access_key_id"],
        "aws_secret_access_key": key["secret_access_key"],
    }
    config = folder / "config"
    config.write_text("[default]\n" + "".join(f"{name} = {value}\n" for name, value in profile.items()))
    given = {
        "UserKnownHostsFile": instance.known_hosts,
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
    }
    flags = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
    target = f"{instance.os_user}@{instance.id}"
    path = Path(sys.executable).with_name(name)
    environment = {**os.environ, "AWS_CONFIG_FILE": str(config)}
    before, behind = words
    words = ["-F", "none", *flags, port, str(instance.port), *before, target, *behind]
    return run(sys.executable, path, *words, check=False, env=environment)


def pushed(dev):
    """The names of the last two operations on record."""
    records = [json.loads(line) for line in dev.audit_lines()]
    return [record["eventName"] for record in records if record["eventType"] == "AwsApiCall"][-2:]


def test_mssh_logs_in(dev, tmp_path):
    for instance in (dev.first, dev.second):
        # It reads flags behind the target, too, so `id -un` would name a profile.
        done = program(dev, tmp_path, "mssh", "-p", [], ["whoami"], instance=instance)
        assert (done.returncode, done.stdout) == (0, f"{instance.os_user}\n"), done.stdout + done.stderr
        assert pushed(dev) == ["DescribeInstances", "SendSSHPublicKey"]


def test_msftp_takes_a_file_there_and_back(dev, tmp_path):
    here, back, batch = (tmp_path / name for name in ("here", "back", "batch"))
    here.write_bytes(bytes(range(256)) * 1000)
    there = f"/tmp/msftp-{dev.first.id}"
    batch.write_text(f"put {here} {there}\nget {there} {back}\nrm {there}\n")
    done = program(dev, tmp_path, "msftp", "-P", ["-b", str(batch)], [])
    assert done.returncode == 0, done.stdout + done.stderr
    assert back.read_bytes() == here.read_bytes()
    assert pushed(dev) == ["DescribeInstances", "SendSSHPublicKey"]


def test_whoever_may_log_in_to_one_machine_logs_in_to_no_other(dev, tmp_path):
    done = program(dev, tmp_path, "mssh", "-p", [], ["whoami"], caller="limited")
    assert (done.returncode, done.stdout) == (0, f"{dev.first.os_user}\n"), done.stdout + done.stderr
    done = program(dev, tmp_path, "mssh", "-p", [], ["true"], caller="limited", instance=dev.second)
    assert done.returncode == 1 and "AccessDenied" in done.stdout + done.stderr
    assert pushed(dev) == ["DescribeInstances", "SendSSHPublicKey"]
