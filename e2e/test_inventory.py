"""`export`, `apply` and `policy test --offline` against a running system."""

import json

import pytest

from test_admin import administrator, allow

EVERYTHING = """
[settings]
serial_console_access = true

[policies]
push = '''
{
  "Version": "2012-10-17",
  "Statement": {
    "Effect": "Allow",
    "Action": "ec2-instance-connect:SendSSHPublicKey",
    "Resource": "*",
    "Condition": { "StringEquals": { "aws:ResourceTag/team": "${aws:PrincipalTag/team}" } }
  }
}
'''
limit = '{"Statement":{"Effect":"Allow","NotAction":"instance-connect:*","Resource":"*"}}'

[groups.ops]
attached = ["push"]

[groups.ops.inline]
never-root = '''
{ "Statement": { "Sid": "Root", "Effect": "Deny", "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*",
    "Condition": { "StringEquals": { "ec2:osuser": "root" } } } }
'''

[users."bob@example.com"]
tags = { team = "web", "a b" = "" }
groups = ["ops"]
boundary = "limit"

[users.carol]
status = "suspended"
attached = ["push"]

[users.carol.inline]
own = '{"Statement":{"Effect":"Allow","Action":"ec2-instance-connect:*","Resource":"*"}}'

[instances.i-00000000000000aa1]
availability_zone = "%sa"
tags = { team = "web" }

[instances.i-00000000000000aa2]
availability_zone = "%sb"
state = "stopped"
host = "i-00000000000000aa1"
"""


class Account:
    """An account of its own in a running `dev`, and the command line of its root."""

    def __init__(self, dev, folder):
        made = administrator(dev).ask("account", "create")
        self.dev, self.id, self.key = dev, made["Account"]["AccountId"], made["AccessKey"]
        self.file = folder / f"{self.id}.toml"

    def __call__(self, *arguments, **options):
        return administrator(self.dev)(*arguments, key=self.key, **options)

    def apply(self, text, *flags, **options):
        self.file.write_text(text)
        return self("apply", "-f", self.file, *flags, **options)

    def export(self):
        return self("export").stdout


@pytest.fixture
def account(dev, tmp_path):
    return Account(dev, tmp_path)


def everything(dev):
    """Instance ids are the service's, so only one account has these."""
    return EVERYTHING % (dev.region, dev.region)


def of_another(text):
    """The same inventory for another account, with instances of its own."""
    return without_account(text.replace("i-00000000000000aa", "i-00000000000000bb"))


def without_account(text):
    return "".join(line for line in text.splitlines(True) if not line.startswith("account = "))


def test_what_a_file_says_becomes_so_and_once(dev, account, tmp_path):
    text = everything(dev)
    shown = account.apply(text, "--dry-run", status=2).stdout
    assert "+ policy push" in shown and "+ user bob@example.com" in shown and "7 new, 1 changed, 0 gone." in shown
    assert account("user", "list").stdout == "USER  STATUS  ARN\n", "a dry run changes nothing"
    assert "say so with --yes" in account.apply(text, status=252).stderr
    assert account("user", "list").stdout == "USER  STATUS  ARN\n", "nobody has said yes"

    assert "changes made." in account.apply(text, "--yes").stdout
    for flags in (), ("--dry-run",), ("--prune",):
        assert account.apply(text, *flags).stdout == "Everything is as the file says.\n"
    shown = account("user", "show", "bob@example.com").stdout
    assert "Groups: ops\n" in shown and f"Permissions boundary: arn:aws:iam::{account.id}:policy/limit\n" in shown

    # What is written can be read again, and makes the same elsewhere.
    exported = account.export()
    assert account.apply(exported).stdout == "Everything is as the file says.\n"
    other = Account(dev, tmp_path)
    refused = other.apply(exported, "--yes", status=252).stderr
    assert f"the file is the inventory of account {account.id}" in refused
    other.apply(of_another(exported), "--yes")
    again = other.export()
    assert without_account(again) == of_another(exported)

    # And away again.
    account.apply("", "--prune", "--yes")
    assert account.apply("", "--prune").stdout == "Everything is as the file says.\n"
    left = account.export()
    assert "[policies]" not in left and "[groups" not in left and "[instances" not in left
    assert left.count('status = "suspended"') == left.count("[users.") == 2
    # A file may go on naming what is gone for good, and cannot have it back.
    assert "is terminated, and stays so" in account.apply(text, "--yes", status=252).stderr


def test_a_terminated_instance_may_stay_in_the_file(dev, account):
    text = f'[instances.i-00000000000000ff1]\navailability_zone = "{dev.region}a"\nstate = "terminated"\n'
    assert "2 changes made." in account.apply(text, "--yes").stdout
    for flags in (), ("--prune",):
        assert account.apply(text, *flags).stdout == "Everything is as the file says.\n"
    assert "[instances" not in account.export()


def test_a_host_may_become_a_guest(dev, account):
    """Whatever the order in which the file names them."""
    one, two, three = (f"i-00000000000000ff{number}" for number in (2, 3, 4))

    def machines(hosts):
        lines = (f'[instances.{id}]\navailability_zone = "{dev.region}a"\n' for id in (one, two, three))
        return "".join(line + (f'host = "{hosts[id]}"\n' if id in hosts else "") for id, line in zip((one, two, three), lines))

    for hosts in {one: two, three: two}, {one: three, two: three}, {two: one}, {}:
        account.apply(machines(hosts), "--yes")
        seen = account("instance", "list", "--output", "json").stdout
        seen = {instance["InstanceId"]: instance["HostInstanceId"] for instance in json.loads(seen)["Instances"]}
        assert seen == {id: hosts.get(id) for id in (one, two, three)}
        assert account.apply(account.export(), "--prune").stdout == "Everything is as the file says.\n"
    refused = account.apply(machines({one: two, two: three}), "--yes", status=252).stderr
    assert f"instance {one} has the host {two}, which is a guest too" in refused


def test_what_was_changed_by_hand_is_found_and_set_right(dev, account):
    account.apply('[users.bob]\ntags = { team = "web" }\n', "--yes")
    account("user", "tag", "bob", "team=ops", "other=1")
    account("policy", "put", "more", "-", "--user", "bob", stdin=None, input=allow("*"))
    shown = account.apply('[users.bob]\ntags = { team = "web" }\n', "--yes").stdout
    for line in ("~ user bob", "    - tag other", "    ~ tag team = web", "    - inline policy more"):
        assert line in shown.splitlines(), shown
    assert "Inline policies: -\n" in account("user", "show", "bob").stdout


def test_a_failure_midway_says_what_was_done_and_the_rest_follows(dev, account):
    """The second instance is another account's, which nobody is told before it is tried."""
    zone = dev.region + "a"
    text = f'[users.bob]\n[instances.{dev.first.id}]\navailability_zone = "{zone}"\n'
    failed = account.apply(text, "--yes", status=254)
    assert f"instance {dev.first.id}: + availability_zone = {zone}: EntityAlreadyExists" in failed.stderr
    assert "1 of 2 changes were made; run it again to make the others" in failed.stderr
    assert "done: user bob: made\nfailed: instance" in failed.stdout
    assert administrator(dev).ask("instance", "show", dev.first.id)["Instances"][0]["State"] == "running"
    text = text.replace(dev.first.id, "i-00000000000000cc1")
    assert "1 new, 0 changed" in account.apply(text, "--yes").stdout


def test_nobody_prunes_themselves(dev, account):
    account.apply("", "--yes")
    account("user", "create", "ops")
    account("policy", "create", "all", "-", stdin=None, input=allow("*"))
    account("policy", "attach", "all", "--user", "ops")
    account.key = json.loads(account("access-key", "create", "--user", "ops", "--output", "json").stdout)["AccessKey"]
    pruned = account.apply("", "--prune", "--yes")
    assert "warning: the user ops is your own, and stays" in pruned.stderr
    assert "Attached policies: all\n" in account("user", "show", "ops").stdout


@pytest.mark.parametrize(
    "text, says",
    [
        ("[users.bob]\nstatsu = 'active'\n", ":2: unknown field `statsu`"),
        ("[policies]\np = '{}'\n", ":2: policy p: "),
        ("\n[users.\"bob\u001b[2J\"]\n", ":2: "),
        ("# " + "x" * 10_000_000, "it is larger than 8388608 bytes"),
        ("x = " + "[" * 100_000, ":1: "),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(account, text, says):
    refused = account.apply(text, "--yes", status=252).stderr
    assert says in refused and "\x1b" not in refused and len(refused) < 1000


def test_whoever_may_not_is_refused(dev, account):
    limited = dev.ready["limited"]
    key = {"AccessKeyId": limited["access_key_id"], "SecretAccessKey": limited["secret_access_key"]}
    assert "is not authorized to perform" in administrator(dev)("export", key=key, status=254).stderr


def test_no_secret_is_exported(dev):
    exported = administrator(dev)("export").stdout
    for caller in ("admin", "limited"):
        assert dev.ready[caller]["secret_access_key"] not in exported
        assert dev.ready[caller]["access_key_id"] not in exported
    assert f"[instances.{dev.first.id}]" in exported


def test_offline_the_answer_is_the_same(dev, account):
    text = everything(dev).replace("i-00000000000000aa", "i-00000000000000dd")
    account.apply(text, "--yes")
    account.file.write_text(account.export())
    context = ("--context", "aws:SourceIp=192.0.2.1", "--context", "aws:SecureTransport=true", "--context", "aws:UserAgent=x")
    rows = 0
    for user in ("bob@example.com", "carol"):
        for instance in ("i-00000000000000dd1", "i-00000000000000dd2", "i-00000000000000ee1"):
            for what in (("--os-user", "deploy"), ("--os-user", "root"), ("--action", "SendSerialConsoleSSHPublicKey")):
                words = ("policy", "test", "--user", user, "--instance", instance, *what, *context)
                environment = administrator(dev)
                online, offline = [], []
                for answers, flags in ((online, ()), (offline, ("--offline", "-f", account.file))):
                    done = environment(*words, *flags, key=account.key, status=None)
                    answers += [line for line in done.stdout.splitlines() if "agent has no open link" not in line]
                assert online == offline and online[0].startswith(("Allowed", "Denied")), (words, online, offline)
                rows += online[0].startswith("Allowed")
    assert rows, "all denied: nothing is compared"
