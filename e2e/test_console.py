"""The serial console: pushed with AWS's SDK and CLI, reached by plain ssh, with a getty (or a shell) at a real terminal behind it."""

import json
import socket

import boto3
import paramiko
import pytest
from botocore.exceptions import ClientError

from console import Console
from dev import Dev
from system import PATIENCE, ROOT, command_lines, eventually, kill, run
from test_admin import administrator, request

TEARDOWN = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory, os_user):
    """A `dev` whose account has switched the serial console on. After a session its line is free in two seconds."""
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user, arguments=["--serial-console-teardown-delay", str(TEARDOWN)])
    administrator(dev)("settings", "set", "--serial-console-access", "on")
    yield dev
    dev.close()


@pytest.fixture(autouse=True)
def nobody_is_left(place):
    """A test that fails leaves the line to the next one."""
    yield
    for process in place.started:
        process.kill()
        process.wait()
    place.started.clear()


def ec2(dev, caller="admin"):
    keys = dev.ready[caller]
    return boto3.client(
        "ec2", endpoint_url=dev.endpoint_url, region_name=dev.region,
        aws_access_key_id=keys["access_key_id"], aws_secret_access_key=keys["secret_access_key"],
    )


def push(dev, key, instance=None, caller="admin"):
    answer = dev.client(caller).send_serial_console_ssh_public_key(
        InstanceId=(instance or dev.first).id, SSHPublicKey=key.public, SerialPort=0
    )
    assert answer["Success"] is True
    return answer["RequestId"]


def push_when_free(dev, key, instance=None):
    """A push as soon as the line is free."""
    def pushed():
        try:
            return push(dev, key, instance)
        except dev.client().exceptions.SerialConsoleSessionLimitExceededException:
            return None

    return eventually(pushed, "the line is free")


def ask(dev, operation, status=200, **parameters):
    """An operation of our own administration."""
    answer = request(dev, operation, parameters).send()
    assert answer.status == status, answer.body
    return json.loads(answer.body)


def attach(dev, key, instance=None, greeting="Connected to", **options):
    console = Console(dev, key, instance, **options)
    console.expect(f"{greeting} {(instance or dev.first).id}.port0 (dev-1). Leave: Ctrl-] .")
    return console


def log_in(console, os_user):
    """At the getty that root's `dev` has; an ordinary user's has a shell already."""
    if not ROOT:
        console.type("\n")
        return
    run("chpasswd", stdin=None, input=f"{os_user}:a password of tests\n")
    behind = len(console.shown)
    console.type("\n")
    console.expect("login: ", behind)
    console.type(f"{os_user}\n")
    behind = console.expect("Password: ", behind)
    console.type("a password of tests\n")
    console.expect("$ ", behind)


def test_a_session_from_the_push_to_its_end(new_dev, new_key, os_user):
    dev, key = new_dev(arguments=["--serial-console-teardown-delay", str(TEARDOWN)]), new_key()
    connect = dev.client()
    with pytest.raises(connect.exceptions.SerialConsoleAccessDisabledException):
        push(dev, key)
    ec2(dev).enable_serial_console_access()
    pushed = push(dev, key)
    console = attach(dev, key)
    log_in(console, os_user)
    console.run("echo $((6 * 7)) && tty", "42\r\n/dev/pts/")
    # While somebody is there nobody else gets in, and is told who it is.
    with pytest.raises(connect.exceptions.SerialConsoleSessionLimitExceededException, match=r":user/admin has had it since 20"):
        push(dev, new_key())
    console.run("echo still $((1 + 1))", "still 2\r\n")
    if ROOT:
        # Whoever leaves without logging out leaves their shell there.
        console.type("exit\n")
        console.expect("login: ", console.expect("exit"))
    assert console.leave() == 255
    with pytest.raises(connect.exceptions.SerialConsoleSessionLimitExceededException, match="has left it a moment ago"):
        push(dev, new_key())
    push_when_free(dev, new_key())
    opened, closed = [it for it in dev.events(pushed) if it["eventName"].startswith("SerialConsoleSession")]
    assert opened["eventName"] == "SerialConsoleSessionOpened" and opened["userIdentity"]["arn"] == dev.ready["admin"]["arn"]
    assert opened["sourceIPAddress"] == "127.0.0.1" and opened["userAgent"].startswith("SSH-2.0-OpenSSH")
    # To the gateway ssh's `~.` is a connection that ends.
    assert closed["responseElements"]["reason"] == "person_lost"
    assert closed["responseElements"]["bytesTyped"] > 10 and closed["responseElements"]["bytesShown"] > 40
    [intent, record] = dev.audit(pushed)
    assert record["requestParameters"] == {
        "instanceId": dev.first.id, "monitorMode": False, "serialPort": 0, "sSHPublicKey": key.public
    }
    assert record["responseElements"] == {"requestId": pushed, "success": True}


def test_a_key_opens_what_it_was_pushed_for_and_nothing_else(place, new_key):
    key, other = new_key(), new_key()
    push_when_free(place, key)
    for instance, address, offered in [
        (place.second, None, key),
        (None, f"{place.first.id}.port1", key),
        (None, place.first.id, key),
        (None, "root", key),
        (None, None, other),
    ]:
        assert Console(place, offered, instance, address).refused, address
    console = attach(place, key)
    # Used up, also while the session lasts.
    assert Console(place, key).refused
    assert console.leave() == 255
    assert Console(place, key).refused


def test_what_was_said_before_is_shown_on_attaching(place, new_key):
    key = new_key()
    push_when_free(place, key)
    console = attach(place, key)
    # The line echoes what is typed, so that it is said.
    console.type("\n")
    console.type("marked-for-later")
    console.expect("marked-for-later")
    console.type("\x15\n")
    assert console.leave() == 255
    key = new_key()
    push_when_free(place, key)
    again = attach(place, key)
    again.expect("marked-for-later")
    assert again.leave() == 255


def test_leaving_and_breaking_in_band(place, new_key):
    key = new_key()
    push_when_free(place, key)
    console = attach(place, key)
    console.expect("Leave: Ctrl-] .")
    console.type("\x1d.")
    assert console.ended() == 0
    eventually(lambda: "You have left the serial console" in console.shown, "it says so")


def test_who_watches_sees_all_and_types_nothing(place, new_key, os_user):
    key, watching = new_key(), new_key()
    push_when_free(place, key)
    writer = attach(place, key)
    ask(place, "WatchSerialConsole", InstanceId=place.first.id, SSHPublicKey=watching.public)
    watcher = attach(place, watching, greeting="Watching")
    shown = ask(place, "GetSerialConsoleSession", InstanceId=place.first.id)
    assert shown["Session"]["State"] == "attached" and len(shown["Watchers"]) == 1
    watcher.type("typed-by-the-watcher")
    writer.type("typed-by-the-writer")
    watcher.expect("typed-by-the-writer")
    writer.expect("typed-by-the-writer")
    assert "typed-by-the-watcher" not in writer.shown + watcher.shown
    writer.type("\x15\n")
    watcher.type("\x1d.")
    assert watcher.ended() == 0
    assert writer.leave() == 255


def test_an_administrator_breaks_and_ends_sessions(place, new_key):
    key, id = new_key(), place.first.id
    assert "Nobody has a session" in str(ask(place, "SendSerialBreak", 400, InstanceId=id))
    pushed = push_when_free(place, key)
    console = attach(place, key)
    assert ask(place, "SendSerialBreak", InstanceId=id, DurationMilliseconds=300) == {}
    ended = ask(place, "TerminateSerialConsoleSession", InstanceId=id)
    assert ended["Ended"]["PushRequestId"] == pushed
    console.expect("An administrator has ended this session.")
    assert console.ended() == 0
    eventually(lambda: place.events(pushed)[-1]["eventName"] == "SerialConsoleSessionClosed", "the end is on record")
    assert place.events(pushed)[-1]["responseElements"]["reason"] == "terminated"


def test_a_key_that_is_revoked_ends_its_session(place, new_key):
    key = new_key()
    push_when_free(place, key)
    console = attach(place, key)
    ask(place, "RevokeInstanceKeys", InstanceId=place.first.id)
    console.expect("The key of this session was revoked.")
    assert console.ended() == 1
    unused = new_key()
    push_when_free(place, unused)
    ask(place, "RevokeUserKeys", UserName="admin")
    assert Console(place, unused).refused


def test_the_limited_user_has_no_console(place, new_key):
    with pytest.raises(ClientError, match="AccessDenied"):
        push(place, new_key(), caller="limited")


def test_paramiko(place, new_key):
    key, gateway = new_key(), place.ready["serial_console"]
    push_when_free(place, key)
    client = paramiko.SSHClient()
    host_keys = place.scratch / "paramiko_known_hosts"
    host_keys.write_text(f"[{gateway['host']}]:{gateway['port']} {gateway['host_key']}\n")
    client.load_host_keys(str(host_keys))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(
        gateway["host"], gateway["port"], f"{place.first.id}.port0",
        pkey=paramiko.Ed25519Key.from_private_key_file(str(key.file)), allow_agent=False, look_for_keys=False,
        timeout=PATIENCE,
    )
    with client:
        shell = client.invoke_shell()
        shell.settimeout(PATIENCE)
        shown = b""
        while b"Connected to " not in shown:
            shown += shell.recv(4096)
        shell.send(b"by-paramiko")
        while b"by-paramiko" not in shown:
            shown += shell.recv(4096)
        shell.send(b"\x15\n\x1d.")
        while piece := shell.recv(4096):
            shown += piece
        assert shell.recv_exit_status() == 0


def test_plink(place, new_key):
    key, gateway = new_key(), place.ready["serial_console"]
    ppk = key.file.with_suffix(".ppk")
    run("puttygen", key.file, "-O", "private", "-o", ppk)
    fingerprint = run("ssh-keygen", "-lf", "-", stdin=None, input=gateway["host_key"]).stdout.split()[1]
    push_when_free(place, key)
    done = run(
        "plink", "-batch", "-ssh", "-t", "-i", ppk, "-hostkey", fingerprint, "-P", gateway["port"],
        f"{place.first.id}.port0@{gateway['host']}", stdin=None, input="\x1d.",
    )
    assert "Connected to " in done.stdout and "You have left the serial console" in done.stdout


def test_nothing_but_a_shell_is_served(place, new_key):
    key = new_key()
    push_when_free(place, key)
    assert Console(place, key, command=["id"]).ended() == 255
    assert Console(place, key, options=["RequestTTY=no"], command=["-s", "sftp"]).ended() == 255
    forwarding = Console(place, key, options=["ExitOnForwardFailure=yes", "RemoteForward=0 127.0.0.1:22"])
    assert forwarding.ended() == 255 and "remote port forwarding failed" in forwarding.errors
    # None of it was a session: the key is as good as before.
    assert attach(place, key).leave() == 255


def test_the_gateway_dies_and_logins_go_on(new_dev, new_key):
    dev, key = new_dev(arguments=["--serial-console-teardown-delay", "0"]), new_key()
    ec2(dev).enable_serial_console_access()
    pushed = push(dev, key)
    console = attach(dev, key)
    [gateway] = [pid for pid, words in command_lines() if f"{dev.folder}/console-ready.json" in words]
    kill(gateway)
    assert console.ended() == 255
    eventually(lambda: dev.events(pushed)[-1]["eventName"] == "SerialConsoleSessionClosed", "the end is on record")
    assert dev.events(pushed)[-1]["responseElements"]["reason"] == "person_lost"
    assert dev.push(new_key()).login().succeeded
    with pytest.raises(dev.client().exceptions.SerialConsoleSessionUnavailableException):
        push(dev, new_key())


def test_the_agent_dies_and_the_person_is_told(new_dev, new_key):
    dev, key = new_dev(arguments=["--serial-console-teardown-delay", "0"]), new_key()
    ec2(dev).enable_serial_console_access()
    pushed = push(dev, key)
    console = attach(dev, key)
    kill(dev.first.agent())
    console.expect("The agent that has the line has gone.")
    assert console.ended() == 1
    eventually(lambda: dev.events(pushed)[-1]["eventName"] == "SerialConsoleSessionClosed", "the end is on record")
    assert dev.events(pushed)[-1]["responseElements"]["reason"] == "agent_lost"
    with pytest.raises(dev.client().exceptions.SerialConsoleSessionUnavailableException):
        push(dev, new_key())
    dev.first.start_agent()

    def pushed_again():
        try:
            return push(dev, key)
        except ClientError:
            return None

    eventually(pushed_again, "the agent is back")
    assert attach(dev, key).leave() == 255


def test_strangers_do_not_keep_people_out(place, new_key):
    """Who connects and says nothing is sent away in ten seconds, and holds few places until then."""
    gateway, key = place.ready["serial_console"], new_key()
    push_when_free(place, key)
    silent = [socket.create_connection((gateway["host"], gateway["port"]), PATIENCE) for _ in range(3)]
    console = attach(place, key)
    assert console.leave() == 255
    for connection in silent:
        connection.settimeout(PATIENCE)
        with connection:
            while connection.recv(4096):
                pass


def test_ssh_audit_finds_nothing_to_fail(place):
    gateway = place.ready["serial_console"]
    shown = run("ssh-audit", "--no-colors", "--port", gateway["port"], gateway["host"], check=False).stdout
    assert "(kex) " in shown and "(key) ssh-ed25519" in shown
    assert "[fail]" not in shown, shown
