"""Broken hosts: what was broken, what doctor says, and that a login with a pushed key really fails by it."""

import json
from dataclasses import dataclass

import pytest
from botocore.exceptions import ClientError

from host import AGENT, DROP_IN, Host
from system import eventually, kill, root_only, shifted_wall_clock, stop

pytestmark = root_only


@dataclass
class Broken:
    """A way to break a host: lines of shell, what doctor says of it, and lines that mend it.

    `reload` has sshd read its files after either. `fails` is whether a login fails by it: some things only keep the next
    key from getting here, or stop some keys and not others. What doctor only notes has logins work on."""

    by: str
    check: str
    found: str
    mend: str
    reload: bool = False
    fails: bool = True
    user: str = "alice"
    verdict: str = "problem"


def noted(by, check, found, mend, **options):
    """Broken so that logins work, and are not on record, or stop to work later."""
    return Broken(by, check, found, mend, fails=False, verdict="note", **options)


def setting(line, check, found, **options):
    """Broken by a line of sshd's."""
    file = "/etc/ssh/sshd_config.d/10-broken.conf"
    return Broken(f"printf '{line}\\n' > {file}", check, found, f"rm {file}", reload=True, **options)


def account(by, check, found, mend, **options):
    """Broken by what is wrong with the account."""
    return Broken(by, check, found, mend, **options)


PAM = "/etc/pam.d/sshd"
PAM_BACK = f"cp -p /root/sshd {PAM}"
SESSION = "/usr/libexec/instance-connect/instance-connect-session"
UNITS = "/etc/systemd/system"
EARLIER = "/etc/ssh/sshd_config.d/00-earlier.conf"
LIVE = "/run/instance-connect"

BROKEN = {
    "PubkeyAuthentication no": setting("PubkeyAuthentication no", "public-keys", "PubkeyAuthentication is no"),
    "only other algorithms": setting("PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256", "public-keys", "refuses ED25519 and RSA"),
    "methods without a key": setting("AuthenticationMethods password", "methods", "AuthenticationMethods is password"),
    "DenyUsers": setting("DenyUsers a*", "admission", "DenyUsers has a*"),
    "AllowUsers": setting("AllowUsers bob", "admission", "AllowUsers has bob, and not alice"),
    "DenyGroups": setting("DenyGroups alice", "admission", "DenyGroups has alice"),
    "AllowGroups": setting("AllowGroups root", "admission", "AllowGroups has root"),
    "a Match with another command": setting(
        "Match User alice\\nAuthorizedKeysCommand /bin/true\\nAuthorizedKeysCommandUser nobody",
        "sshd-command",
        '10-broken.conf line 2, under "Match User alice"',
    ),
    "an earlier command": Broken(
        f"printf 'AuthorizedKeysCommand /bin/true\\nAuthorizedKeysCommandUser nobody\\n' > {EARLIER}",
        "sshd-command",
        f"{EARLIER} line 1 comes before",
        f"rm {EARLIER}",
        reload=True,
    ),
    "no Include": Broken(
        "sed -i s/^Include/#Include/ /etc/ssh/sshd_config",
        "sshd-command",
        f"no Include line has sshd read /{DROP_IN}",
        "sed -i s/^#Include/Include/ /etc/ssh/sshd_config",
        reload=True,
    ),
    "our drop-in gone": Broken(
        f"mv /{DROP_IN} /root/kept", "sshd-command", "sshd asks none", f"mv /root/kept /{DROP_IN}", reload=True
    ),
    "an option on sshd's command line": Broken(
        "mkdir -p /etc/systemd/system/ssh.service.d; printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/sshd -D -o AuthorizedKeysCommand=/bin/true\\n' > /etc/systemd/system/ssh.service.d/x.conf",
        "sshd-command",
        "ssh.service.d/x.conf starts sshd with -o AuthorizedKeysCommand=/bin/true",
        "rm -r /etc/systemd/system/ssh.service.d",
        fails=False,  # The sshd of this test is not started by that service.
    ),
    "sshd not told": Broken(
        "printf 'MaxStartups 9\\n' > /etc/ssh/sshd_config.d/90-late.conf",
        "sshd-reloaded",
        "was changed after the running sshd had read it",
        "rm /etc/ssh/sshd_config.d/90-late.conf",
        reload=True,
        fails=False,
    ),
    "a nonsense line": Broken(
        "echo NoSuchKeyword yes > /etc/ssh/sshd_config.d/90-late.conf",
        "sshd",
        "NoSuchKeyword",
        "rm /etc/ssh/sshd_config.d/90-late.conf",
        reload=True,
        fails=False,  # The one that runs goes on. None would start.
    ),
    # Debian's sshd lets root's own group write there.
    "the command writable by others": Broken(
        "chmod o+w /usr/libexec/instance-connect", "command-path", "is writable by others", "chmod o-w /usr/libexec/instance-connect"
    ),
    "the command somebody else's": Broken(
        "chown nobody /usr/libexec/instance-connect/*", "command-path", "is not root's", "chown root /usr/libexec/instance-connect/*"
    ),
    "the command gone": Broken(
        "mv /usr/libexec/instance-connect /usr/libexec/x", "command-path", "No such file", "mv /usr/libexec/x /usr/libexec/instance-connect"
    ),
    "the command's user gone": Broken(
        "cp -p /etc/passwd /root/; sed -i /^instance-connect-keys:/d /etc/passwd",
        "command-runs",
        "there is no such user",
        "cp -p /root/passwd /etc/passwd",
    ),
    "the run directory shut": Broken(f"chmod 700 {LIVE}", "run-directory", "has mode 2700", f"chmod 2750 {LIVE}"),
    "the run directory another group's": Broken(
        f"chgrp root {LIVE}", "command-runs", "Permission denied", f"chgrp instance-connect-keys {LIVE}; chmod 2750 {LIVE}"
    ),
    "no anchors": Broken(
        "mv /etc/instance-connect/anchors /root/", "installation", "anchors: it is missing", "mv /root/anchors /etc/instance-connect/"
    ),
    "anchors that others may write to": Broken(
        "chmod o+w /etc/instance-connect/anchors", "installation", "anchors: it must be a regular file", "chmod o-w /etc/instance-connect/anchors"
    ),
    "a host.toml that cannot be understood": Broken(
        "echo nonsense > /etc/instance-connect/host.toml", "installation", "host.toml: line 1", "rm /etc/instance-connect/host.toml"
    ),
    "the host's veto": Broken(
        "echo 'deny_users = [\"alice\"]' > /etc/instance-connect/host.toml",
        "veto",
        "host.toml denies the user",
        "rm /etc/instance-connect/host.toml",
    ),
    "an account that ended": account("chage --expiredate 2020-01-01 alice", "expired", "the account ended", "chage --expiredate -1 alice"),
    "a password to be changed": account("chage --lastday 0 alice", "expired", "must be changed", "chage --lastday -1 alice"),
    "a shell that is not there": account("usermod --shell /bin/zsh-x alice", "shell", "/bin/zsh-x is not there", "usermod --shell /bin/sh alice"),
    "nologin": account("usermod --shell /usr/sbin/nologin alice", "shell", "it is /usr/sbin/nologin", "usermod --shell /bin/sh alice"),
    "a shell that PAM does not know": account(
        "cp -p /etc/pam.d/sshd /root/; echo account required pam_shells.so >> /etc/pam.d/sshd; cp -p /etc/shells /root/; echo /bin/x > /etc/shells",
        "shell",
        "/bin/sh is not in /etc/shells",
        "cp -p /root/sshd /etc/pam.d/; cp -p /root/shells /etc/",
    ),
    "/etc/nologin": account("touch /etc/nologin", "nologin", "there is /etc/nologin", "rm /etc/nologin"),
    "a locked password without PAM": Broken(
        "echo UsePAM no > /etc/ssh/sshd_config.d/10-broken.conf; passwd -l alice",
        "locked",
        "the password is locked",
        "rm /etc/ssh/sshd_config.d/10-broken.conf; usermod --password '*' alice",
        reload=True,
    ),
    "no such account": account(
        "cp -p /etc/passwd /root/; sed -i /^alice:/d /etc/passwd", "account", "there is no account alice", "cp -p /root/passwd /etc/passwd"
    ),
    "root, by the host's veto": Broken("true", "veto", "root is denied unless", "true", user="root"),
    "SELinux without our policy": Broken(
        "mkdir -p /sys/fs/selinux; echo 1 > /sys/fs/selinux/enforce",
        "selinux",
        "our policy module is not loaded",
        "rm -r /sys/fs",
        fails=False,  # No SELinux is here to refuse anything: doctor is shown its file.
    ),
    "no line of ours in PAM's stack": noted(
        f"cp -p {PAM} /root/; sed -i /instance-connect-session/d {PAM}", "pam", f"{PAM} does not run {SESSION}", PAM_BACK
    ),
    "another line before ours in PAM's stack": noted(
        f"cp -p {PAM} /root/; sed -i '1i session optional pam_env.so user_readenv=1' {PAM}",
        "pam",
        f"{PAM} line 1 comes before ours: session optional pam_env.so",
        PAM_BACK,
    ),
    "our line in PAM's stack required": noted(
        f"cp -p {PAM} /root/; sed -i '/instance-connect-session/s/optional/required/' {PAM}",
        "pam",
        "begins with session required pam_exec.so",
        PAM_BACK,
    ),
    "our line required, and its program gone": Broken(
        f"cp -p {PAM} /root/; sed -i '/instance-connect-session/s/optional/required/' {PAM}; mv {SESSION} /root/",
        "session-program",
        "No such file",
        f"{PAM_BACK}; mv /root/instance-connect-session {SESSION}",
    ),
    "UsePAM no": noted(
        "echo UsePAM no > /etc/ssh/sshd_config.d/10-broken.conf",
        "pam",
        "sshd does not use PAM",
        "rm /etc/ssh/sshd_config.d/10-broken.conf",
        reload=True,
    ),
    "the session program gone": noted(f"mv {SESSION} /root/", "session-program", "No such file", f"mv /root/instance-connect-session {SESSION}"),
    "the session program not executable": noted(f"chmod 644 {SESSION}", "session-program", "may not be executed", f"chmod 755 {SESSION}"),
    # Nobody's login fails by these: somebody could become root.
    "the session program writable by others": Broken(
        f"chmod o+w {SESSION}", "session-program", "is writable by others", f"chmod o-w {SESSION}", fails=False
    ),
    "the session program linked dynamically": Broken(
        f"cp -p {SESSION} /root/; cp /bin/true {SESSION}",
        "session-program",
        "is not a statically linked program",
        f"cp -p /root/instance-connect-session {SESSION}",
        fails=False,
    ),
    "the agent's socket for logins gone": noted(
        f"mv {LIVE}/sessions.sock {LIVE}/x", "sockets", f"{LIVE}/sessions.sock: it is missing", f"mv {LIVE}/x {LIVE}/sessions.sock"
    ),
    "the agent's socket for logins open to all": noted(
        f"chmod 666 {LIVE}/sessions.sock", "sockets", "sessions.sock: it has mode 0666, and not 0600", f"chmod 600 {LIVE}/sessions.sock"
    ),
    "the agent's socket for keys another's": noted(
        f"chown nobody {LIVE}/offers.sock", "sockets", "offers.sock: it belongs to 65534:", f"chown instance-connect-agent {LIVE}/offers.sock"
    ),
    "nobody at the agent's socket for keys": noted(
        f"""cd {LIVE}; mv offers.sock x; python3 -c "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind('offers.sock')"
        chown instance-connect-agent:instance-connect-keys offers.sock; chmod 660 offers.sock""",
        "sockets",
        "offers.sock: nobody listens there: Connection refused",
        f"cd {LIVE}; mv x offers.sock",
    ),
    "the agent's service not enabled": noted(
        f"mv {UNITS}/multi-user.target.wants/instance-connect-agent.service /root/",
        "agent-unit",
        "instance-connect-agent.service is not enabled",
        f"mv /root/instance-connect-agent.service {UNITS}/multi-user.target.wants/",
    ),
    "the anchors' unit not enabled": noted(
        f"mv {UNITS}/multi-user.target.wants/instance-connect-anchors.path /root/",
        "anchors-unit",
        "instance-connect-anchors.path is not enabled",
        f"mv /root/instance-connect-anchors.path {UNITS}/multi-user.target.wants/",
    ),
    "the anchors' service masked": noted(
        f"mv {UNITS}/instance-connect-anchors.service /root/; ln -s /dev/null {UNITS}/instance-connect-anchors.service",
        "anchors-unit",
        "instance-connect-anchors.service is masked",
        f"mv /root/instance-connect-anchors.service {UNITS}/",
    ),
    "the anchors' service gone": noted(
        f"mv {UNITS}/instance-connect-anchors.service /root/",
        "anchors-unit",
        "instance-connect-anchors.service is not installed",
        f"mv /root/instance-connect-anchors.service {UNITS}/",
    ),
}


@pytest.fixture(scope="module")
def host(tmp_path_factory, new_key):
    """A host in service: installed, linked, with an account for whom keys are pushed."""
    from dev import Dev

    dev = Dev(tmp_path_factory.mktemp("dev"))
    host = Host(tmp_path_factory.mktemp("host"))
    try:
        host.dev, host.new_key = dev, new_key
        host.add_user("alice")
        host.shell("usermod --password '*' alice")
        host.take_identity(dev.first)
        # dev allows the account that it runs as; the host has no such rule.
        (host.root / "etc/instance-connect/host.toml").unlink(missing_ok=True)
        host.start_sshd()
        host.install()
        host.await_sshd()
        stop(dev.first.agent())
        host.start_agent()
        yield host
    finally:
        host.close()
        dev.close()


def push(host):
    """A pushed key, as soon as the control plane takes one: it takes so many a minute."""

    def accepted():
        try:
            return host.dev.push(host.new_key(), user="alice").key
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ThrottlingException"

    return eventually(accepted, "a push is taken")


def logs_in(host):
    """Whether a key that is pushed now, and has arrived, opens the account."""
    return host.login(push(host))


def test_a_host_in_service_is_healthy(host):
    assert host.doctor() == {} and host.doctor(verdict="note") == {}
    assert logs_in(host)
    assert "Nothing is in the way of a login as alice" in host.run(AGENT, "doctor", "--os-user", "alice").stdout
    status = json.loads(host.run(AGENT, "status", "--output", "json").stdout)
    assert (status["instance_id"], status["agent_running"], status["link"]["open"]) == (host.dev.first.id, True, True)
    assert status["live_keys"] >= 1 and status["link"]["signers"][0].startswith("ed25519 ")
    said = host.run(AGENT, "status").stdout
    assert host.dev.first.id in said and "open for" in said


@pytest.mark.parametrize("name", BROKEN)
def test_doctor_names_what_is_broken(host, name):
    broken = BROKEN[name]
    key = push(host)
    try:
        host.shell(broken.by)
        # One that is told of a nonsense line would end.
        if broken.reload and broken.check not in ("sshd", "sshd-reloaded"):
            host.reload_sshd()
        found = host.doctor(broken.user, verdict=broken.verdict)
        assert broken.check in found, found
        assert broken.found in found[broken.check]["found"]
        print(f"{name}: {found[broken.check]['found']}")
        if broken.fails and broken.user == "alice":
            assert not host.login(key)
        if broken.verdict == "note":
            assert host.doctor() == {} and host.login(key)
    finally:
        host.shell(broken.mend)
        if broken.reload:
            host.reload_sshd()
    if broken.user == "alice":
        assert host.doctor() == {} and host.doctor(verdict="note") == {}
        assert logs_in(host)


def test_a_wrong_clock_is_named(host):
    problems = host.doctor(environment=shifted_wall_clock("+1h"))
    assert problems["clock"]["found"] in ("60 min ahead of the control plane's", "59 min ahead of the control plane's")
    problems = host.doctor(environment=shifted_wall_clock("+3000d"))
    assert "expired" in problems["identity"]["found"] and "clock" in problems["control-plane"]["mend"]
    problems = host.doctor(environment=shifted_wall_clock("-30d"))
    assert "not good for another" in problems["identity"]["found"]


def test_the_link_and_who_is_at_its_other_end(host):
    kill(host.agent.pid)
    host.agent.wait()
    problems = host.doctor()
    assert problems["link"]["found"] == "the agent does not run"

    file = host.root / "var/lib/instance-connect-agent/link.json"
    link = json.loads(file.read_text())
    file.write_text(json.dumps({**link, "server": "https://127.0.0.1:9"}))
    with pytest.raises(AssertionError):
        host.start_agent(within=1)
    eventually(lambda: "refused" in host.doctor().get("link", {}).get("found", ""), "the agent has tried")
    problems = host.doctor()
    assert "https://127.0.0.1:9" in problems["control-plane"]["found"] and "refused" in problems["control-plane"]["found"]
    assert host.run(AGENT, "status", check=False).returncode == 1
    kill(host.agent.pid)
    host.agent.wait()

    file.unlink()
    (file.parent / "identity.pem").rename(file.parent / "kept")
    assert "it is missing" in host.doctor()["identity"]["found"]
    (file.parent / "kept").rename(file.parent / "identity.pem")
    file.write_text(json.dumps(link))
    host.start_agent()
    assert host.doctor() == {}
    assert logs_in(host)
