"""Host facts: where operators say nothing, a machine is found where its agent says; and what an agent gains by lying about it."""

import json
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dev import PROGRAMS, Dev
from system import eventually, kill, root_only, run
from test_stock_machine import Network

pytestmark = root_only

CLI = PROGRAMS / "instance-connect"
AWS = Path(sys.executable).with_name("aws")

# What is at an address, for as long as standard input is open: it leads to a port of another one.
LEADS = """
import socket, sys, threading
listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(listener.getsockname()[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), listener.close(), __import__("os")._exit(0)), daemon=True).start()
def pump(one, other):
    while data := one.recv(65536):
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)
while True:
    here, _ = listener.accept()
    there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    for pair in ((here, there), (there, here)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


class Site:
    """A `dev` in a network of its own, which has a way out: what its machines say is where that way begins."""

    def __init__(self, folder, os_user):
        self.network, self.outside = Network(), Network()
        self.network.join(self.outside, "wan", "10.77.0.9/24", "10.77.0.1/24")
        self.network.run("ip", "address", "add", "2001:db8:77::9/64", "dev", "wan", "nodad")
        self.network.run("ip", "-6", "route", "add", "default", "via", "2001:db8:77::1", "dev", "wan")
        self.network.run("ip", "route", "add", "default", "via", "10.77.0.1")
        self.dev = Dev(folder, os_user, before=self.network.words)

    def administer(self, *words, status=0, **options):
        done = self.network.run(CLI, *words, check=False, env=self.dev.environment(), **options)
        assert done.returncode == status, done.stderr
        return done

    def admin(self, *words, status=0):
        return self.administer(*words, status=status).stdout

    def answer(self, answer, *words, status):
        """The command at a terminal, where a person answers its question."""
        ours, theirs = pty.openpty()
        try:
            os.write(ours, answer)
            return self.administer(*words, status=status, stdin=theirs)
        finally:
            os.close(ours)
            os.close(theirs)

    def show(self, instance):
        return json.loads(self.admin("instance", "show", instance.id, "--output", "json"))["Instances"][0]

    def described(self, *words):
        """What the AWS CLI is told of the instances that are meant."""
        done = self.network.run(AWS, "ec2", "describe-instances", "--output", "json", *words, env=self.dev.environment())
        return [instance for each in json.loads(done.stdout)["Reservations"] for instance in each["Instances"]]

    def is_found_at(self, instance):
        [described] = self.described("--instance-ids", instance.id)
        return described.get("PrivateIpAddress"), described.get("Ipv6Address")

    def move(self, before, after):
        """The machines' network gives them another address, and the agent of the first starts again, as after a reboot."""
        self.network.run("ip", "address", "del", f"{before}/24", "dev", "wan")
        self.network.run("ip", "address", "add", f"{after}/24", "dev", "wan")
        self.network.run("ip", "route", "add", "default", "via", "10.77.0.1")
        kill(self.dev.first.agent())
        self.dev.first.start_agent(before=self.network.words)

    def close(self):
        self.dev.close()
        for network in (self.network, self.outside):
            network.close()


@pytest.fixture
def site(tmp_path_factory, os_user):
    site = Site(tmp_path_factory.mktemp("dev"), os_user)
    yield site
    site.close()


def test_an_agents_address_is_shown_where_operators_say_none_and_follows_a_change(site):
    instance, other = site.dev.first, site.dev.second
    facts = eventually(lambda: site.show(instance)["HostFacts"], "the agent has said what its machine is")
    machine = os.uname()
    said = [machine.nodename, machine.release, machine.machine]
    assert [facts[name] for name in ("HostName", "Kernel", "Architecture")] == said
    assert facts["Addresses"] == ["10.77.0.9", "2001:db8:77::9"] and facts["OsName"]
    assert f"Its agent says: addresses: 10.77.0.9, 2001:db8:77::9\n" in site.admin("instance", "show", instance.id)
    # `dev` has said where its machines are.
    assert site.is_found_at(instance) == (instance.host, None)
    site.admin("instance", "set-details", instance.id)
    assert site.is_found_at(instance) == ("10.77.0.9", "2001:db8:77::9")
    assert site.show(instance)["PrivateIpAddress"] is None
    [found] = site.described("--filters", "Name=private-ip-address,Values=10.77.0.*")
    assert (found["InstanceId"], found["PlatformDetails"]) == (instance.id, "Linux/UNIX")
    assert "PublicIpAddress" not in found
    [interface] = found["NetworkInterfaces"]
    assert interface["Ipv6Addresses"][0]["Ipv6Address"] == "2001:db8:77::9"

    site.move("10.77.0.9", "10.77.0.10")
    eventually(lambda: site.is_found_at(instance) == ("10.77.0.10", "2001:db8:77::9"), "the new address is shown")
    assert site.is_found_at(other) == (other.host, None)

    # Nobody pins by accident: there is no terminal here. Nor where a person says no.
    site.admin("instance", "pin-facts", instance.id, status=252)
    refused = site.answer(b"n\n", "instance", "pin-facts", instance.id, status=255)
    assert refused.stderr.endswith(f"Shall {instance.id} be found where its agent says? [y/N] error: nothing is changed\n")
    assert site.show(instance)["PrivateIpAddress"] is None
    # What the agent says nothing of stays as the operator has said it.
    site.admin("instance", "set-details", instance.id, "--instance-type", "t3.micro", "--public-ip", "192.0.2.1")
    done = site.answer(b"y\n", "instance", "pin-facts", instance.id, status=0)
    assert "private address: - is pinned, its agent says 10.77.0.10\n" in done.stderr
    pinned = site.show(instance)
    assert (pinned["PrivateIpAddress"], pinned["Ipv6Address"]) == ("10.77.0.10", "2001:db8:77::9")
    assert (pinned["PublicIpAddress"], pinned["InstanceType"]) == ("192.0.2.1", "t3.micro")
    site.move("10.77.0.10", "10.77.0.11")
    eventually(lambda: "10.77.0.11" in site.show(instance)["HostFacts"]["Addresses"], "the agent says another address")
    assert site.is_found_at(instance) == ("10.77.0.10", "2001:db8:77::9")

    # What is refused says nothing any more.
    site.admin("agent", "revoke", instance.id)
    assert site.show(instance)["HostFacts"] is None


def test_a_lying_agent_leads_nobody_to_another_machine(site):
    """Two instances are at one address by what their agents say. One of them is there, and is told from the other by its host key."""
    victim, liar = site.dev.first, site.dev.second
    for instance in (victim, liar):
        eventually(lambda instance=instance: site.show(instance)["HostFacts"], "the agent has said what its machine is")
        site.admin("instance", "set-details", instance.id)
        assert site.is_found_at(instance) == ("10.77.0.9", "2001:db8:77::9")
    words = [*site.network.words, "python3", "-c", LEADS, victim.host, str(victim.port)]
    place = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = place.stdout.readline().strip()
        # The path of a socket below it must be short.
        with tempfile.TemporaryDirectory(prefix="ic-", dir="/tmp") as home:
            config = Path(home, ".ssh/config")
            config.parent.mkdir(mode=0o700)
            environment = {**site.dev.environment(), "HOME": home}
            run(CLI, "ssh-config", "install", "--config", config, env=environment)

            def log_in(instance):
                words = ("ssh", "-F", config, "-o", "BatchMode=yes", "-p", port, f"{instance.os_user}@{instance.id}", "id -un")
                return site.network.run(*words, check=False, env=environment)

            done = log_in(victim)
            assert (done.returncode, done.stdout) == (0, f"{victim.os_user}\n"), done.stderr
            refused = log_in(liar)
            assert (refused.returncode, refused.stdout) == (255, ""), refused.stderr
            assert f"{liar.id} does not prove itself by a host key that the service has accepted for it" in refused.stderr
    finally:
        place.stdin.close()
        place.wait()
