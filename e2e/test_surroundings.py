"""Odd surroundings: what `dev` is started with must not decide whether a pushed key works."""

import botocore.exceptions
import pytest

from system import eventually, kill


@pytest.mark.parametrize("umask", ["077", "000"])
def test_the_umask_makes_no_difference(new_dev, new_key, umask):
    dev = new_dev(before=["sh", "-c", f'umask {umask}; exec "$@"', "sh"])
    assert dev.push(new_key()).login().succeeded


def test_logs_that_cannot_be_written_stop_nobody(new_dev, new_key):
    """They are devices that take no byte, as on a full disk, and there is something to say."""
    full = 'exec "$@" 2>/dev/full'
    dev = new_dev(before=["sh", "-c", full, "sh"], environment={"RUST_LOG": "debug"}, arguments=["--restart"])
    (dev.folder / "control-plane.log").unlink()
    (dev.folder / "control-plane.log").symlink_to("/dev/full")
    kill(dev.control_plane())
    eventually(lambda: pushes(dev, new_key()), "the control plane is back")
    # This machine's own rules refuse the push, of which the control plane warns.
    (dev.first.folder / "etc/host.toml").write_text(f'deny_users = ["{dev.first.os_user}"]\n')
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        dev.push(new_key())
    assert refused.value.response["Error"]["Code"] == "AuthException"
    assert dev.push(new_key(), instance=dev.second).login().succeeded
    assert dev.process.poll() is None


def pushes(dev, key):
    try:
        return dev.push(key)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
        return None


def test_a_host_file_that_the_command_would_not_trust_refuses_the_push(new_dev, new_key):
    """Never a success that cannot work: the agent judges its files as the sshd command does."""
    dev = new_dev()
    host_toml = dev.first.folder / "etc/host.toml"
    host_toml.chmod(0o664)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        dev.push(new_key())
    assert refused.value.response["Error"]["Code"] == "AuthException"
    host_toml.chmod(0o644)
    assert dev.push(new_key()).login().succeeded
