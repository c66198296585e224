"""Administration by our own command line against a running system: what is made works, and what is taken away does not."""

import json
import os
import re
import socket
import sqlite3
import threading
import time

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from dev import PROGRAMS
from system import eventually, kill, run
from wire import Request

CLI = PROGRAMS / "instance-connect"
TARGET = "InstanceConnect.{}".format


@pytest.fixture
def admin(dev):
    """The command line of the administrator, or with `key` of somebody else."""
    return administrator(dev)


def administrator(dev):
    def call(*arguments, key=None, status=0, **options):
        environment = {**dev.environment(), "INSTANCE_CONNECT_READY_FILE": ""}
        del environment["INSTANCE_CONNECT_READY_FILE"]
        if key:
            environment.update(AWS_ACCESS_KEY_ID=key["AccessKeyId"], AWS_SECRET_ACCESS_KEY=key["SecretAccessKey"])
        done = run(CLI, *arguments, check=False, env=environment, **options)
        assert status in (None, done.returncode), done.stderr
        return done

    def ask(*arguments, **options):
        return json.loads(call(*arguments, "--output", "json", **options).stdout)

    call.ask = ask
    return call


def allow(action, resource="*"):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def request(dev, operation, parameters, **changes):
    """A request of administration, signed by hand."""
    return Request(dev, operation, parameters, target=TARGET(operation), service="instance-connect", **changes)


def test_a_user_who_is_made_and_allowed_can_push(dev, admin, new_key):
    admin("user", "create", "bob", "--tag", "team=web")
    key = admin.ask("access-key", "create", "--user", "bob")["AccessKey"]
    pushed = ("send-key", f"{dev.first.os_user}@{dev.first.id}", "--ssh-public-key", new_key().public)
    assert "is not authorized to perform" in admin(*pushed, key=key, status=254).stderr
    admin("policy", "create", "push", "-", stdin=None, input=allow("ec2-instance-connect:SendSSHPublicKey"))
    admin("policy", "attach", "push", "--user", "bob")
    pushed_key = new_key()
    admin("send-key", f"{dev.first.os_user}@{dev.first.id}", "--ssh-public-key", pushed_key.public, key=key)
    assert dev.first.login(pushed_key).succeeded
    shown = admin("user", "show", "bob").stdout
    assert "Tags: team=web\n" in shown and "Attached policies: push\n" in shown
    # Who is suspended, by key or by name, is refused in the next call.
    for off, on, says in [
        (("access-key", "deactivate", key["AccessKeyId"], "--user", "bob"),
         ("access-key", "activate", key["AccessKeyId"], "--user", "bob"), "UnrecognizedClientException"),
        (("user", "suspend", "bob"), ("user", "activate", "bob"), "AuthException"),
        (("policy", "detach", "push", "--user", "bob"), ("policy", "attach", "push", "--user", "bob"),
         "AccessDeniedException"),
    ]:
        admin(*off)
        assert says in admin(*pushed, key=key, status=254).stderr
        admin(*on)
        admin(*pushed, key=key)


def test_every_request_is_on_record_and_no_secret_is(dev, admin):
    answer = request(dev, "CreateUser", {"UserName": "carol"}).send()
    intent, record = dev.audit(answer.headers["x-amzn-requestid"])
    assert (intent["eventType"], record["eventType"]) == ("InstanceConnectIntent", "AwsApiCall")
    assert (record["eventSource"], record["requestParameters"]) == ("instance-connect", {"userName": "carol"})
    key = admin.ask("access-key", "create", "--user", "carol")["AccessKey"]
    token = admin("instance", "token", dev.first.id).stdout.strip()
    log = dev.folder.joinpath("audit.log").read_text()
    assert key["AccessKeyId"] in log and key["SecretAccessKey"] not in log and token not in log
    denied = request(dev, "CreateUser", {"UserName": "dave"}, caller="limited").send()
    [record] = dev.audit(denied.headers["x-amzn-requestid"])
    assert (record["errorCode"], record["userIdentity"]["userName"]) == ("AccessDeniedException", "limited")


def test_a_captured_request_cannot_be_sent_again(new_dev):
    dev = new_dev(arguments=["--restart"])
    captured = request(dev, "CreateUser", {"UserName": "erin"})
    assert captured.send().status == 200
    replayed = captured.send()
    assert json.loads(replayed.body)["__type"] == "RequestReplayed"
    # Nor after the control plane has been started again.
    control_plane = dev.control_plane()
    os.kill(control_plane, 9)

    def answer():
        try:
            return json.loads(captured.send().body)
        except OSError:
            return None

    assert eventually(answer, "the control plane is there again")["__type"] == "RequestReplayed"
    [name] = [user["UserName"] for user in administrator(dev).ask("user", "list")["Users"] if user["UserName"] == "erin"]
    assert name == "erin"


@pytest.mark.parametrize("service", ["ec2-instance-connect", "ec2", "iam"])
def test_a_request_for_another_service_is_refused(dev, service):
    wrong = request(dev, "CreateUser", {"UserName": "frank"})
    wrong.service = service
    assert json.loads(wrong.send().body)["__type"].endswith("InvalidSignatureException")


def test_a_push_signed_for_administration_is_refused(dev, new_key):
    parameters = {"InstanceId": dev.first.id, "InstanceOSUser": dev.first.os_user, "SSHPublicKey": new_key().public}
    push = Request(dev, "SendSSHPublicKey", parameters, service="instance-connect")
    assert json.loads(push.send().body)["__type"].endswith("InvalidSignatureException")


def test_an_oversized_request_is_refused(dev):
    large = request(dev, "PutUserPolicy", {"UserName": "admin", "PolicyName": "p", "PolicyDocument": " " * 70_000})
    assert large.send().status == 413


def test_the_limited_user_administers_nothing(dev, admin):
    key = dev.ready["limited"]
    key = {"AccessKeyId": key["access_key_id"], "SecretAccessKey": key["secret_access_key"]}
    for arguments in [
        ("user", "list"),
        ("access-key", "create"),
        ("access-key", "create", "--user", "admin"),
        ("policy", "put", "all", "-", "--user", "limited"),
        ("account", "list"),
        ("instance", "token", dev.first.id),
    ]:
        done = admin(*arguments, key=key, status=254, stdin=None, input=allow("*"))
        assert "is not authorized to perform: instance-connect:" in done.stderr
        assert "hint: ask an administrator for a policy" in done.stderr


def test_accounts_are_apart(dev, admin):
    made = admin.ask("account", "create")
    key = made["AccessKey"]
    assert admin.ask("user", "list", key=key)["Users"] == []
    admin("user", "create", "admin", key=key)
    assert "NoSuchEntity" in admin("user", "show", "limited", key=key, status=254).stderr
    assert "NoSuchEntity" in admin("instance", "show", dev.first.id, key=key, status=254).stderr
    assert "AccessDenied" in admin("account", "list", key=key, status=254).stderr
    admin("account", "suspend", made["Account"]["AccountId"])
    assert "AuthException" in admin("user", "list", key=key, status=254).stderr


def test_an_instance_is_made_and_a_machine_can_become_it(dev, admin):
    zone = dev.region + "a"
    made = admin.ask("instance", "create", "--availability-zone", zone, "--tag", "team=web")["Instance"]
    listed = admin("instance", "list").stdout
    assert re.search(rf"^{made['InstanceId']}  running  {zone}  - +-     team=web$", listed, re.MULTILINE), listed
    assert re.search(rf"^{dev.first.id}  running  {zone}  - +open  ", listed, re.MULTILINE), listed
    token = admin("instance", "token", made["InstanceId"]).stdout.strip()
    assert token.startswith(f"ict1_{made['InstanceId']}_")
    cloud_config = admin(
        "instance", "token", made["InstanceId"], "--cloud-init", "--server", "https://ic.example.com:8444"
    ).stdout
    assert cloud_config.startswith("#cloud-config\n") and f"ict1_{made['InstanceId']}_" in cloud_config
    assert made["InstanceId"] not in admin("agent", "list").stdout


def test_a_guest_is_given_a_host_by_who_may_change_both(dev, admin):
    made = [admin.ask("instance", "create", "--availability-zone", dev.region + "a")["Instance"] for _ in range(3)]
    guest, host, other = (instance["InstanceId"] for instance in made)
    admin("user", "create", "hypervisors")
    key = admin.ask("access-key", "create", "--user", "hypervisors")["AccessKey"]
    set_host = ("instance", "set-host", guest)

    def may(*instances):
        arns = [instance["Arn"] for instance in made if instance["InstanceId"] in instances]
        document = allow("instance-connect:SetInstanceHost", arns)
        admin("policy", "put", "own", "-", "--user", "hypervisors", stdin=None, input=document)

    for one in guest, host:
        may(one)
        assert "AccessDeniedException" in admin(*set_host, host, key=key, status=254).stderr
    may(guest, host)
    shown = admin(*set_host, host, key=key).stdout
    assert shown == f"instance {guest} is a guest of {host}, whose agent answers for it\n"
    assert f"\nHost: {host}\n" in admin("instance", "show", guest).stdout
    assert re.search(rf"^{guest}  running  \S+  {host}  -  ", admin("instance", "list").stdout, re.MULTILINE)
    assert "AccessDeniedException" in admin(*set_host, other, key=key, status=254).stderr
    for arguments, says in [
        ((guest, guest), "An instance is no guest of itself"),
        ((other, guest), "The host is a guest itself"),
        ((host, other), "The instance is the host of others"),
    ]:
        refused = admin("instance", "set-host", *arguments, status=254).stderr
        assert "InvalidInput" in refused and says in refused
    # To move a guest, or to take it away, asks nothing of the host that it has.
    may(guest, other)
    admin(*set_host, other, key=key)
    may(guest)
    assert admin(*set_host, "--none", key=key).stdout == f"instance {guest} is nobody's guest; its own agent answers for it\n"
    assert "\nHost: -\n" in admin("instance", "show", guest).stdout


def test_a_revoked_key_is_refused_and_others_are_not(dev, admin, new_key):
    first, second, elsewhere = dev.push(new_key()), dev.push(new_key()), dev.push(new_key(), dev.second)
    assert first.login().succeeded and second.login().succeeded and elsewhere.login().succeeded
    revoked = admin.ask("revoke", "--instance", dev.first.id, "--fingerprint", first.key.fingerprint)
    [key] = revoked["Withdrawn"]
    assert (key["PushRequestId"], key["InstanceOSUser"]) == (first.request_id, first.user)
    # The answer came when the machine had said so.
    assert first.login().refused
    assert second.login().succeeded and elsewhere.login().succeeded
    text = admin("revoke", "--user", "admin").stdout
    assert second.key.fingerprint in text and elsewhere.key.fingerprint in text
    assert second.login().refused and elsewhere.login().refused
    admin("revoke", "--instance", dev.first.id)
    assert admin("revoke", "--instance", dev.first.id).stdout == "No such key is on a machine.\n"


def test_a_captured_push_is_refused_once_its_key_is_revoked(new_dev, new_key):
    """By whoever has the private key, and the request: from a proxy's log, say."""
    dev = new_dev(arguments=["--restart"])
    admin, key = administrator(dev), new_key()
    parameters = {"InstanceId": dev.first.id, "InstanceOSUser": dev.first.os_user, "SSHPublicKey": key.public}
    captured = Request(dev, "SendSSHPublicKey", parameters)
    week = {"X-Amz-Expires": "604800"}
    presigned = Request(dev, "SendSSHPublicKey", parameters, presigned=week)
    for push in (captured, presigned):
        assert push.send().status == 200 and dev.first.login(key).succeeded
    admin("revoke", "--instance", dev.first.id, "--fingerprint", key.fingerprint)

    def refused():
        assert dev.first.login(key).refused
        for push in (captured, presigned):
            answer = push.send()
            error = json.loads(answer.body)
            assert error["__type"].endswith("#InvalidSignatureException") and "is not later than" in error["message"]
        assert dev.first.login(key).refused

    refused()
    os.kill(dev.control_plane(), 9)
    eventually(lambda: accepts(dev), "the control plane is there again")
    refused()
    # Who signs now is served, at once.
    eventually(lambda: admin.ask("instance", "show", dev.first.id)["Instances"][0]["Agent"]["Link"] == "open", "its link is open")
    admin("revoke", "--instance", dev.first.id, "--fingerprint", key.fingerprint)
    assert dev.push(key).login().succeeded


def accepts(dev):
    host, port = dev.address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


def test_an_open_session_outlives_its_key(dev, admin, new_key):
    push = dev.push(new_key())
    session = push.session("echo open; read line; echo $line")
    assert session.stdout.readline() == "open\n"
    admin("revoke", "--user", "admin")
    assert push.login().refused
    assert session.communicate("still here\n", timeout=10)[0] == "still here\n"


def test_a_machine_that_cannot_be_reached_is_said_and_told_later(new_dev, new_key):
    dev = new_dev()
    admin, push = administrator(dev), dev.push(new_key())
    kill(dev.first.agent())
    eventually(lambda: admin.ask("instance", "show", dev.first.id)["Instances"][0]["Agent"]["Link"] == "closed", "its link is closed")
    revoked = admin.ask("revoke", "--instance", dev.first.id)
    assert (revoked["Withdrawn"], len(revoked["Unreached"])) == ([], 1)
    # Without its agent the machine goes by what it has, and that is said.
    assert push.login().succeeded
    dev.first.start_agent()
    eventually(lambda: push.login().refused, "the key is withdrawn when the agent is back")


def test_a_suspended_user_whose_keys_are_revoked_is_out(dev, admin, new_key):
    admin("user", "create", "mallory")
    key = admin.ask("access-key", "create", "--user", "mallory")["AccessKey"]
    admin("policy", "put", "all", "-", "--user", "mallory", stdin=None, input=allow("*"))
    pushed = new_key()
    push = ("send-key", f"{dev.first.os_user}@{dev.first.id}", "--ssh-public-key")
    admin(*push, pushed.public, key=key)
    assert dev.first.login(pushed).succeeded
    admin("user", "suspend", "mallory")
    admin("revoke", "--user", "mallory")
    assert dev.first.login(pushed).refused
    assert "AuthException" in admin(*push, new_key().public, key=key, status=254).stderr


class Pusher(threading.Thread):
    """Somebody who pushes all the time, and when each push that succeeded had begun."""

    def __init__(self, dev, key, public):
        super().__init__(daemon=True)
        self.client = boto3.client(
            "ec2-instance-connect",
            endpoint_url=dev.endpoint_url,
            region_name=dev.region,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.push = dict(InstanceId=dev.first.id, InstanceOSUser=dev.first.os_user, SSHPublicKey=public)
        # When the pushes began that succeeded, and those that were refused, with the reason.
        self.succeeded, self.refused, self.done = [], [], threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            began = time.monotonic()
            try:
                self.client.send_ssh_public_key(**self.push)
                self.succeeded.append(began)
            except botocore.exceptions.ClientError as error:
                self.refused.append((began, error.response["Error"]["Code"]))


@pytest.mark.parametrize(
    "table, says", [("users", "AuthException"), ("access_keys", "UnrecognizedClientException")]
)
@pytest.mark.parametrize("who", ["this control plane", "another one of the same store"])
def test_whoever_is_disabled_is_refused_everywhere_within_a_second(new_dev, new_key, table, says, who):
    """Under a stream of pushes over an open link. What `who` changes in the store is all that another process would."""
    dev = new_dev()
    admin = administrator(dev)
    admin("user", "create", "bob")
    admin("policy", "put", "push", "-", "--user", "bob", stdin=None, input=allow("ec2-instance-connect:*"))
    key = admin.ask("access-key", "create", "--user", "bob")["AccessKey"]
    pusher = Pusher(dev, key, new_key().public)
    pusher.start()
    eventually(lambda: pusher.succeeded, "a push succeeds")
    if who == "this control plane":
        words = {"users": ("user", "suspend", "bob"), "access_keys": ("access-key", "deactivate", key["AccessKeyId"], "--user", "bob")}
        admin(*words[table])
        allowed = 0
    else:
        where = {"users": "name = 'bob'", "access_keys": f"id = '{key['AccessKeyId']}'"}[table]
        [file] = dev.folder.rglob("inventory.sqlite")
        database = sqlite3.connect(file)
        with database:
            database.execute(f"UPDATE {table} SET status = 'suspended' WHERE {where}")
            database.execute("UPDATE sequence SET value = value + 1")
        database.close()
        allowed = 1
    disabled = time.monotonic()

    def refused():
        """How many pushes that began when none may succeed any more were refused for what was disabled."""
        return sum(code == says and began > disabled + allowed for began, code in pusher.refused)

    eventually(lambda: refused() >= 20, "20 pushes are refused")
    pusher.done.set()
    pusher.join()
    late = [round(began - disabled, 3) for began in pusher.succeeded if began > disabled + allowed]
    print(f"{table}, {who}: the last push that succeeded began {max(pusher.succeeded) - disabled:+.3f} s after")
    assert late == []


def test_why_a_user_may_push_is_told_by_statement(dev, admin):
    test = ("policy", "test", "--user", "limited", "--os-user", dev.first.os_user, "--instance")
    assert 'Allowed by identity-based policy "dev", statement #0.' in admin(*test, dev.first.id).stdout
    denied = admin(*test, dev.second.id, status=1).stdout
    assert "Denied: no identity-based policy allows it." in denied
    assert 'policy "dev", statement #0 (Allow): is not about the resource' in denied


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (("user", "create", "a b"), 252, "a user name is"),
        (("user", "tag", "bob", "team"), 252, "a tag is written key=value"),
        (("policy", "put", "p", "/no/such/file", "--user", "bob"), 252, "No such file"),
        (("policy", "put", "p", "-"), 252, "--user <USER>|--group <GROUP>"),
        (("policy", "attach", "nothing-of-this-name", "--user", "bob"), 252, "there is no managed policy"),
        (("instance", "set-host", "i-0123456789abcdef0"), 252, "<HOST>"),
        (("instance", "set-host", "i-0123456789abcdef0", "i-0123456789abcdef1", "--none"), 252, "cannot be used with"),
        (("user", "show", "nobody-of-this-name"), 254, "NoSuchEntity"),
        (("group", "delete", "none"), 254, "NoSuchEntity"),
        (("--endpoint-url", "https://ec2-instance-connect.us-east-1.amazonaws.com", "user", "list"), 253, "AWS has no such"),
    ],
)
def test_mistakes_are_told_in_words_and_exit_codes(admin, arguments, status, says):
    assert says in admin(*arguments, status=status).stderr
