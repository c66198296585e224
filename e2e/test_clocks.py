"""Nobody's wall clock decides how long a key lives."""

import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from dev import Push
from system import PATIENCE, root_only, run, shifted_wall_clock


@root_only
@pytest.mark.parametrize("offset", ["+10m", "-10m"])
def test_wall_clocks_ten_minutes_apart_change_nothing(new_dev, new_key, offset):
    """The control plane's clock is off and the machine's is not. The caller goes by the control plane's, since a signed
    request names its time."""
    wrong = shifted_wall_clock(offset)
    dev = new_dev(environment=wrong, machine_prefix="env " + " ".join(f"-u {name}" for name in wrong))
    key = new_key()
    aws = Path(sys.executable).with_name("aws")
    done = run(
        aws, "ec2-instance-connect", "send-ssh-public-key", "--instance-id", dev.first.id,
        "--instance-os-user", dev.first.os_user, "--ssh-public-key", f"file://{key.file}.pub",
        env={**dev.environment(), **wrong},
    )  # fmt: skip
    push = Push(dev.first, dev.first.os_user, key, json.loads(done.stdout), {}, time.monotonic())
    # The clock was off indeed.
    _intent, record = dev.audit(push.request_id)
    recorded = datetime.strptime(record["eventTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    ahead = recorded - datetime.now(timezone.utc)
    assert abs(ahead.total_seconds() - int(offset.rstrip("m")) * 60) < PATIENCE

    assert push.login().succeeded
    assert push.login(age=55).succeeded
    assert push.login(age=61).refused
