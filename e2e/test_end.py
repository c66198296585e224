"""However `dev` ends, nothing of it stays: no process, no listener, no file."""

import signal
import socket

import pytest

from dev import PROGRAMS
from system import PATIENCE, descendants, eventually, is_running, kill, processes_naming, run, stop


def listens(host, port):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@pytest.mark.parametrize(
    "by, status",
    [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0), (signal.SIGKILL, -signal.SIGKILL)],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_nothing_stays(new_dev, new_key, by, status):
    dev = new_dev()
    assert dev.push(new_key()).login().succeeded
    host, port = dev.endpoint_url.removeprefix("http://").split(":")
    places = [(host, int(port)), *((instance.host, instance.port) for instance in dev.instances)]
    assert all(listens(*place) for place in places)
    below = descendants(dev.process.pid)
    assert len(below) >= 4, "the control plane, two agents and what cleans up"

    assert dev.end(by) == status
    eventually(lambda: not dev.folder.exists(), "its directory goes")
    eventually(lambda: not dev.ready_file.exists(), "its ready file goes")
    eventually(lambda: not processes_naming(str(dev.folder)), "its processes end")
    eventually(lambda: not any(map(is_running, below)), "all below it end")
    assert not any(listens(*place) for place in places)


def test_an_agent_that_hangs_ends_too(new_dev):
    dev = new_dev()
    agent = dev.second.agent()
    stop(agent)
    dev.end(signal.SIGKILL)
    eventually(lambda: not is_running(agent) and not dev.folder.exists(), "the agent is killed and its files go")


def test_without_its_control_plane_it_ends_and_says_why(new_dev):
    dev = new_dev()
    below = descendants(dev.process.pid)
    with open(dev.folder / "control-plane.log", "a") as log:
        log.write("the last word\n")
    kill(dev.control_plane())
    assert dev.process.wait(PATIENCE) == 1
    said = dev.output.read_text()
    assert "the control plane ended (signal: 9 (SIGKILL)): its log ends with:\n" in said
    assert said.endswith("\nthe last word\n")
    eventually(lambda: not any(map(is_running, below)) and not dev.folder.exists(), "nothing stays")


def test_a_control_plane_that_cannot_start_says_why():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(PROGRAMS / "instance-connectd", "dev", "--listen", address, check=False)
    assert done.returncode == 1
    assert f"cannot listen on {address}: Address already in use" in done.stderr


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_an_open_session_ends_with_it(new_dev, new_key, by):
    dev = new_dev()
    push = dev.push(new_key())
    session = push.session("echo up; exec sleep 1000")
    assert session.stdout.readline() == "up\n"
    below = descendants(dev.process.pid)
    dev.end(by)
    assert session.wait(PATIENCE) == 255
    eventually(lambda: not any(map(is_running, below)), "the session's processes end, the user's own included")
    eventually(lambda: not dev.folder.exists(), "its directory goes")


def test_a_second_start_fails_where_the_first_is_and_leaves_it_alone(new_dev, new_key, dev):
    done = run(PROGRAMS / "instance-connectd", "dev", "--dir", dev.folder, check=False)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert dev.push(new_key()).login().succeeded
