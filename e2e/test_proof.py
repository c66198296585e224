"""Proof of use: what became of a pushed key is on record under the request that pushed it, and nobody changes the record unseen."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dev import PROGRAMS
from host import PAM_WITH_USERS_VARIABLES, Host
from system import eventually, root_only, run, stop

CLI = PROGRAMS / "instance-connect"
PAM = "etc/pam.d/sshd"


def events(dev, push):
    """The names of the events of a push, oldest first; of the push itself, intent and record."""
    return [event["eventName"] for event in dev.events(push.request_id)]


def verify(*arguments, status=0):
    done = run(CLI, "audit", "verify", "--output", "json", *arguments, check=False)
    assert done.returncode == status, done
    return json.loads(done.stdout)


def query(dev, *arguments):
    """Events, newest first."""
    environment = {**os.environ, "INSTANCE_CONNECT_READY_FILE": str(dev.ready_file)}
    return json.loads(run(CLI, "audit", "query", "--output", "json", *arguments, env=environment).stdout)["Events"]


@pytest.fixture
def host(tmp_path_factory):
    host = Host(tmp_path_factory.mktemp("host"))
    yield host
    host.close()


def test_the_tail_of_the_log_is_a_table(dev, new_key):
    push = dev.push(new_key())
    environment = {**os.environ, "INSTANCE_CONNECT_READY_FILE": str(dev.ready_file)}
    lines = run(CLI, "audit", "tail", "-n", "3", "--event-name", "SendSSHPublicKey", env=environment).stdout.splitlines()
    assert lines[0].split()[:3] == ["TIME", "EVENT", "WHO"]
    assert push.request_id in lines[-1] and dev.first.id in lines[-1] and " ok " in lines[-1]


@root_only
def test_a_login_is_on_record_from_push_to_end(host, new_dev, new_key):
    dev, key, standing = new_dev(), new_key(), new_key()
    host.add_user("alice", standing_key=standing)
    host.take_identity(dev.first)
    before = host.state("etc/pam.d")
    said = host.install().stdout
    assert f"put at the beginning of /{PAM}" in said and "session optional pam_exec.so quiet" in said
    host.start_sshd()
    stop(dev.first.agent())
    host.start_agent()

    push = dev.push(key, user="alice")
    # A login with a key that nobody has pushed is nobody's business.
    assert host.login(standing) and host.login(key)
    eventually(lambda: "SessionClosed" in events(dev, push), "the login's end is on record")
    told = dev.events(push.request_id)
    push_itself = ["SendSSHPublicKey", "SendSSHPublicKey"]
    assert events(dev, push) == [*push_itself, "KeyOffered", "KeyUsed", "SessionOpened", "SessionClosed"]
    for event in told[2:]:
        assert event["userIdentity"]["type"] == "InstanceConnectAgent"
        assert event["requestParameters"]["instanceId"] == dev.first.id
        assert event["requestParameters"]["instanceOSUser"] == "alice"
        assert event["requestParameters"]["fingerprint"] == run("ssh-keygen", "-lf", f"{key.file}.pub").stdout.split()[1]
    sessions = {event["additionalEventData"]["sessionID"] for event in told[3:]}
    assert len(sessions) == 1
    assert {event["additionalEventData"]["remoteHost"] for event in told[3:]} == {"127.0.0.1"}

    found = query(dev, "--request-id", push.request_id)
    assert [json.loads(event["CloudTrailEvent"])["eventName"] for event in found] == list(reversed(events(dev, push)[1:]))
    from_files = query(dev, "--request-id", push.request_id, "--file", dev.ready["audit_log"])
    assert from_files == found
    opened = query(dev, "--event-name", "SessionOpened", "--instance", dev.first.id)
    assert [event["EventId"] for event in opened] == [told[4]["eventID"]]

    assert host.login(key)
    again = eventually(lambda: [e for e in dev.events(push.request_id)[6:] if e["eventName"] == "SessionClosed"], "again")
    assert again[0]["additionalEventData"]["sessionID"] not in sessions
    assert events(dev, push).count("KeyUsed") == 1

    host.write("etc/instance-connect/host.toml", "max_lifetime_seconds = 1\n")
    unused = dev.push(new_key(), user="alice")
    eventually(lambda: "KeyExpiredUnused" in events(dev, unused), "that nobody used it is on record")
    assert events(dev, unused) == [*push_itself, "KeyExpiredUnused"]

    host.uninstall()
    assert host.state("etc/pam.d") == before
    assert host.login(standing)


@root_only
def test_variables_that_users_choose_say_nothing_of_logins(host, new_dev, new_key):
    """pam_env sets them when a session opens, and when it closes they are there, before PAM's own: an attack on the record, and on root."""
    dev, key, another = new_dev(), new_key(), new_key()
    for user in ("alice", "bob"):
        host.add_user(user)
    forged = {
        "PAM_TYPE": "open_session",
        "PAM_USER": "bob",
        "PAM_RHOST": "203.0.113.9",
        "SSH_AUTH_INFO_0": " ".join(["publickey", *another.public.split()[:2]]),
        # A dynamic loader writes files of such names, as whoever runs the program.
        "LD_DEBUG": "files",
        "LD_DEBUG_OUTPUT": "/tmp/loaded",
    }
    host.write("home/alice/.pam_environment", "".join(f'{name} DEFAULT="{value}"\n' for name, value in forged.items()))
    host.write(PAM, PAM_WITH_USERS_VARIABLES)
    (host.root / "tmp").chmod(0o1777)
    host.take_identity(dev.first)
    host.install()
    host.start_sshd()
    stop(dev.first.agent())
    host.start_agent()

    to_bob, push = dev.push(another, user="bob"), dev.push(key, user="alice")
    assert host.login(key)
    eventually(lambda: "SessionClosed" in events(dev, push), "the login's end is on record")
    assert events(dev, push)[2:] == ["KeyOffered", "KeyUsed", "SessionOpened", "SessionClosed"]
    assert "SessionOpened" not in events(dev, to_bob)
    loaded = [path.stat().st_uid for path in (host.root / "tmp").glob("loaded.*")]
    assert loaded and 0 not in loaded, "the shell's loader has written, and none that root ran"


@root_only
def test_no_program_with_a_loader_gets_into_pam(host):
    before = host.state("etc", "usr")
    shutil.copy(shutil.which("true"), host.root / "opt/ic/instance-connect-session")
    refused = host.install(check=False)
    assert refused.returncode != 0 and "is not a statically linked program" in refused.stderr
    assert host.state("etc", "usr") == before


def test_nobody_changes_the_log_unseen(dev, new_key, tmp_path):
    push = [dev.push(new_key()) for _ in range(3)][0]
    live = Path(dev.ready["audit_log"])
    copy = tmp_path / "audit.log"
    shutil.copy(live, copy)
    found = verify(copy)
    assert found["Intact"] and found["FromTheBeginning"] and found["Lines"] >= 6
    newest = found["NewestValue"]
    # It goes on, and what was kept is still in it. The service takes no notice of being read.
    dev.push(new_key())
    assert verify(live, "--expect", newest)["ExpectedValueFound"]

    lines = copy.read_text().splitlines(keepends=True)
    # The service is shared with other tests, so the log may begin with anything: what is changed is the record of our own push.
    at = next(number for number, line in enumerate(lines) if push.request_id in line)
    before, line, behind = lines[:at], lines[at], lines[at + 1 :]
    edited = [*before, line.replace("SendSSHPublicKey", "SendSerialConsole", 1), *behind]
    removed = [*before, *behind]
    swapped = [*before, behind[0], line, *behind[1:]]
    doubled = [*before, line, line, *behind]
    for changed, broken in ((edited, at), (removed, at), (swapped, at), (doubled, at + 1)):
        assert changed != lines
        copy.write_text("".join(changed))
        found = verify(copy, status=1)
        assert (found["Intact"], found["FirstBrokenLine"]) == (False, f"{copy}:{broken + 1}")
    copy.write_text("".join(lines[:-1]))
    assert verify(copy)["Intact"]
    found = verify(copy, "--expect", newest, status=1)
    assert (found["Intact"], found["ExpectedValueFound"], found["FirstBrokenLine"]) == (False, False, None)
