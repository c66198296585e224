"""An agent that dies or hangs: pushes fail and say so, keys already there go on working, and nothing is lost."""

import os
import signal
import time

import pytest
from botocore.exceptions import ClientError

from system import eventually, kill, stop


def failed_push(dev, key):
    """A push that the machine does not acknowledge: what the caller is told, and how long that took."""
    started = time.monotonic()
    client = dev.client()
    with pytest.raises(client.exceptions.ClientError) as raised:
        client.send_ssh_public_key(
            InstanceId=dev.first.id, InstanceOSUser=dev.first.os_user, SSHPublicKey=key.public
        )
    return raised.value.response, time.monotonic() - started


def unavailable(response, seconds):
    # 2 s in all; the rest is for a busy machine.
    return response["Error"]["Code"] == "EC2InstanceUnavailableException" and 1.9 < seconds < 10


def test_without_its_agent_a_push_fails_and_nothing_is_lost(new_dev, new_key):
    dev = new_dev()
    earlier = dev.push(new_key())
    kill(dev.first.agent())

    failed = new_key()
    response, seconds = failed_push(dev, failed)
    assert unavailable(response, seconds)
    intent, record = dev.audit(response["ResponseMetadata"]["RequestId"])
    assert intent["eventType"] == "InstanceConnectIntent"
    assert record["errorCode"] == "EC2InstanceUnavailableException"
    assert record["additionalEventData"]["delivery"] == "unknown"
    # The other machine has an agent of its own; and a key that was there is still there.
    assert dev.push(new_key(), dev.second).login().succeeded
    assert earlier.login().succeeded

    dev.first.start_agent()
    assert eventually(lambda: pushes_again(dev, new_key), "the agent is back and pushes work").login().succeeded
    assert earlier.login().succeeded
    assert dev.first.login(failed).refused


def pushes_again(dev, new_key):
    try:
        return dev.push(new_key())
    except ClientError:
        return None


def test_a_push_that_was_given_up_does_not_log_in_later(new_dev, new_key):
    """The agent hangs, so the key waits in its socket; when it goes on it finds the key, and right behind it that the
    push was withdrawn."""
    dev = new_dev()
    agent = dev.first.agent()
    stop(agent)
    given_up = new_key()
    assert unavailable(*failed_push(dev, given_up))
    os.kill(agent, signal.SIGCONT)
    # Frames are handled in their order: once this one is there, the withdrawal has been.
    push = eventually(lambda: pushes_again(dev, new_key), "the agent goes on and pushes work")
    assert push.login().succeeded
    assert dev.first.login(given_up).refused
    assert not dev.first.key_file(given_up).exists()


def test_a_push_waits_for_an_agent_between_two_links(new_dev, new_key):
    """An agent that is restarted within the 2 s costs the caller a wait, and no error."""
    dev = new_dev()

    def pushed_over_a_restart():
        kill(dev.first.agent())
        dev.first.start_agent()
        return pushes_again(dev, new_key)

    # Once is enough to show it: a busy machine may need more than 2 s to start a program.
    push = next(filter(None, (pushed_over_a_restart() for _attempt in range(5))))
    assert push.login().succeeded
