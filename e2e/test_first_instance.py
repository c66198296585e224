"""docs/first-instance.md, done as it says: a control plane, a machine of its own, and two people's commands."""

import os
import re
import shutil
import sys
from pathlib import Path
from re import DOTALL, MULTILINE

import pytest

from dev import PROGRAMS
from host import Host
from system import root_only, run
from test_serve import ControlPlane

pytestmark = root_only

PAGE = Path(__file__).parent.parent / "docs/first-instance.md"
BLOCKS = re.findall(r"^```sh (\S+)( fails)?\n(.*?)^```$", PAGE.read_text(), MULTILINE | DOTALL)


class Place:
    """Where the page's blocks are run: names and ports of the page become those that there are."""

    def __init__(self, control_plane, host, folder):
        self.control_plane, self.host, self.folder = control_plane, host, folder
        # What making her access key has printed.
        self.alices = None
        shutil.copy(control_plane.ca, folder / "ca.pem")

    def own(self, text):
        addresses = self.control_plane.addresses
        text = text.replace("connect.example.com:8443", addresses["public"])
        text = text.replace("connect.example.com:8444", addresses["agents"])
        text = text.replace("--host 192.0.2.10", f"--host 127.0.0.1 --port {self.host.port}")
        return re.sub(r"^ssh (.*)@192\.0\.2\.10", rf"ssh -F none -p {self.host.port} \1@127.0.0.1", text, flags=MULTILINE)

    def key_of(self, who):
        if who == "administrator":
            return self.control_plane.access_key, self.control_plane.secret
        printed = r"^Access key ID: (\w+)$.*^Secret access key, shown this once: (\S+)$"
        return re.search(printed, self.alices, MULTILINE | DOTALL).groups()

    def on_a_computer(self, who, script, check):
        access_key, secret = self.key_of(who)
        environment = {
            **os.environ,
            "PATH": f"{PROGRAMS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": f"https://{self.control_plane.addresses['public']}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CA_BUNDLE": "ca.pem",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret,
        }
        return run("bash", "-ec", self.own(script), check=check, cwd=self.folder, env=environment)

    def on_the_machine(self, script):
        """Without systemd the agent is started as its unit starts it."""
        done = []
        for part in re.split(r"^(systemctl .*)$", self.own(script), flags=MULTILINE):
            if part.startswith("systemctl"):
                assert part == "systemctl start instance-connect-agent"
                self.host.start_agent()
            elif part.strip():
                done.append(self.host.shell(f"PATH=$PATH:/opt/ic; {part}").stdout)
        return "".join(done)


@pytest.fixture
def place(tmp_path, tmp_path_factory):
    control_plane = ControlPlane(tmp_path, "--agents-names=127.0.0.1").start()
    host = Host(tmp_path_factory.mktemp("host"))
    host.add_user("alice")
    host.start_sshd()
    folder = tmp_path_factory.mktemp("computer")
    yield Place(control_plane, host, folder)
    host.close()
    control_plane.stop()


def test_the_page_does_what_it_says(place):
    logins = 0
    for who, fails, script in BLOCKS:
        if who == "control-plane":
            # The control plane has been set up and started already, on ports that were free.
            assert script.split("\n")[0] == "instance-connectd init --public-names connect.example.com"
        elif who == "machine":
            said = place.on_the_machine(script)
            if script.startswith("sed"):
                (place.folder / "hosts").write_text(said)
        else:
            done = place.on_a_computer(who, script, check=not fails)
            assert not fails or (done.returncode == 254 and "AccessDeniedException" in done.stderr)
            if "access-key create" in script:
                place.alices = done.stdout
            if "instance token" in script:
                shutil.move(place.folder / "join-token", place.host.root / "root/join-token")
            logins += who == "alice" and done.stdout.splitlines().count("alice")
    assert logins == 2
    # What was taken back is gone: the key that had logged in, and the leave to push another.
    of_alice = [script for who, _, script in BLOCKS if who == "alice"]
    login, push = (next(script for script in of_alice if words in script) for words in ("ssh -i", "--known-hosts"))
    again = place.on_a_computer("alice", login.splitlines()[-1], check=False)
    assert again.returncode == 255 and "Permission denied" in again.stderr
    assert "AuthException" in place.on_a_computer("alice", push, check=False).stderr
