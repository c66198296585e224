"""A login that has nothing to do with us is neither refused nor held up by us."""

import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from dev import MachineCopy
from system import kill, root_only, stop


@pytest.fixture
def folder():
    """A folder that every account may pass through, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="ic-e2e-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def with_key_file(config, folder, key):
    """A variant of an sshd configuration in which a key file lets `key` in as well. OpenSSH 9 looks there first."""
    key_file = folder / "authorized_keys"
    key_file.write_text(key.public + "\n")
    key_file.chmod(0o644)
    variant = folder / "sshd_config"
    # StrictModes would refuse a file below a folder of everybody's, such as /tmp.
    text = config.read_text().replace("AuthorizedKeysFile none", f"AuthorizedKeysFile {key_file}\nStrictModes no")
    variant.write_text(text)
    return variant


def quickly(login):
    """The login succeeds, and took far less than any wait of ours would: the agent's and the control plane's are 2 s
    and more, and a login here takes a tenth of one."""
    started = time.monotonic()
    return login().succeeded and time.monotonic() - started < 5


def all_is_well(dev):
    pass


def agent_is_killed(dev):
    kill(dev.first.agent())


def agent_and_control_plane_hang(dev):
    stop(dev.first.agent())
    stop(dev.process.pid)


@pytest.mark.parametrize("fault", [all_is_well, agent_is_killed, agent_and_control_plane_hang])
def test_a_key_in_a_key_file_logs_in(new_dev, new_key, folder, fault):
    dev = new_dev()
    own, unknown = new_key(), new_key()
    variant = with_key_file(dev.first.sshd_config, folder, own)
    fault(dev)
    assert dev.first.login(unknown, sshd_config=variant).refused
    assert quickly(lambda: dev.first.login(own, sshd_config=variant))
    # The key before it is not in the file, so sshd asks our command; then it takes the one that is.
    assert quickly(lambda: dev.first.login(own, sshd_config=variant, keys_before=[unknown]))


def test_a_machine_outlives_all_of_us(new_dev, new_key, folder):
    """The whole of `dev` is killed. A copy of the machine's files remains, as a machine remains where its agent and the
    control plane die: pushed keys go on to their deadline, and other keys are none of our business."""
    dev = new_dev()
    push, own = dev.push(new_key()), new_key()
    machine = MachineCopy(dev.first, folder / "machine")
    known_hosts = folder / "known_hosts"
    shutil.copy(dev.first.known_hosts, known_hosts)
    dev.first.known_hosts = known_hosts
    variant = with_key_file(machine.sshd_config, folder, own)
    dev.end(signal.SIGKILL)

    assert quickly(lambda: dev.first.login(push.key, sshd_config=variant))
    assert quickly(lambda: dev.first.login(own, sshd_config=variant))
    assert quickly(lambda: dev.first.login(own, sshd_config=variant, keys_before=[new_key()]))
    assert dev.first.login(new_key(), sshd_config=variant).refused


@root_only
def test_on_a_machine_that_outlives_us_the_deadline_holds(new_dev, new_key, folder):
    dev = new_dev()
    push = dev.push(new_key())
    machine = MachineCopy(dev.first, folder / "machine")
    shutil.copy(dev.first.known_hosts, folder / "known_hosts")
    dev.first.known_hosts = folder / "known_hosts"
    dev.end(signal.SIGKILL)
    dev.first.sshd_config = machine.sshd_config
    assert push.login(age=55).succeeded
    assert push.login(age=61).refused


def test_a_broken_installation_keeps_nobody_out(new_dev, new_key, folder):
    """Our command fails; sshd logs it and goes on to the key file."""
    dev = new_dev()
    own, pushed = new_key(), dev.push(new_key())
    variant = with_key_file(dev.first.sshd_config, folder, own)
    (dev.first.folder / "etc/anchors").write_text("nonsense\n")
    assert quickly(lambda: dev.first.login(own, sshd_config=variant, keys_before=[pushed.key]))
    login = dev.first.login(pushed.key, sshd_config=variant)
    assert login.refused
    assert "failed, status 1" in login.log
