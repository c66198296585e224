"""docs/cookbook.md, tried out: each of its policies is given to users of a running system, and each call of its tables is made.

The document is the source: its policies are stored as they stand there, with the ids of this system's machines in place of
its own, and its tables say who calls what and what is to come of it. Every push is made by boto3 and, by turns, by another of
AWS's clients; every command is run. `policy test` has to say the same. The run leaves what came of it in target/cookbook.md."""

import itertools
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from dev import PROGRAMS, Dev
from sdks import aws_cli, go, javascript
from system import PATIENCE, eventually, kill, run

DOCUMENT = Path(__file__).parent.parent / "docs/cookbook.md"
TABLE = Path(__file__).parent.parent / "target/cookbook.md"
EVERYTHING = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
DENIED = "AccessDeniedException"


@dataclass
class Recipe:
    """A section with a policy in it."""

    title: str
    policies: list = field(default_factory=list)
    boundaries: list = field(default_factory=list)
    rows: list = field(default_factory=list)


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def read_document():
    """The tagged things that its introduction lists, and its recipes."""
    things, recipes, fence = {}, [], None
    for line in DOCUMENT.read_text().splitlines():
        if fence is not None:
            if line == "```":
                fence = None
            else:
                fence.append(line)
        elif line.startswith("```"):
            fence = []
            if kind := {"```json": "policies", "```json boundary": "boundaries"}.get(line):
                getattr(recipes[-1], kind).append(fence)
        elif line.startswith("## "):
            recipes.append(Recipe(line.removeprefix("## ")))
        elif found := re.match(r"\| (user|machine) `([\w-]+)`(?:, `(i-\w+)`)? \| (.*) \|$", line):
            things[found[2]] = (found[3], dict(tag.split("=") for tag in re.findall(r"`([^`]*)`", found[4])))
        elif line.startswith("| `"):
            recipes[-1].rows.append(cells(line))
    for recipe in recipes:
        recipe.policies = ["\n".join(lines) for lines in recipe.policies]
        recipe.boundaries = ["\n".join(lines) for lines in recipe.boundaries]
    return things, recipes


THINGS, RECIPES = read_document()
USERS = [name for name, (instance, _) in THINGS.items() if instance is None]
MACHINES = {name: instance for name, (instance, _) in THINGS.items() if instance}
TRIED = [recipe for recipe in RECIPES if recipe.rows]
STORED = [recipe for recipe in RECIPES if not recipe.rows]


class Given:
    """What a row says about the circumstances of its call."""

    def __init__(self, text):
        self.source = self.tagged = None
        self.over_tls, self.replaced = False, ("", "")
        if found := re.fullmatch(r"from `(.+)`", text):
            self.source = found[1]
        elif found := re.fullmatch(r"`([\w-]+)` tagged `(.+)`", text):
            self.tagged = (found[1], found[2])
        elif found := re.fullmatch(r"the policy says `(.+)` for `(.+)`", text):
            self.replaced = (found[2], found[1])
        else:
            assert text in ("", "over TLS"), text
            self.over_tls = text == "over TLS"

    @property
    def in_front(self):
        """Whether it takes the system behind the load balancer."""
        return self.over_tls or self.source is not None


class System:
    """A running system with the people and machines of the document."""

    def __init__(self, dev):
        self.dev = dev
        self.ids = dict(zip(MACHINES, [dev.first.id, dev.second.id], strict=True))
        self.keys = {}
        for user in USERS:
            self.admin("user", "create", user)
            self.keys[user] = json.loads(self.admin("access-key", "create", "--user", user, "--output", "json"))["AccessKey"]
        for name in THINGS:
            self.reset_tags(name)
        for name in ("web-push", "everything"):
            self.admin("policy", "create", name, "-", stdin=None, input=EVERYTHING)

    def admin(self, *words, status=0, **options):
        done = run(PROGRAMS / "instance-connect", *words, check=False, env=self.environment(), **options)
        assert done.returncode == status, (words, done.stderr)
        return done.stdout

    def environment(self, user=None):
        """Variables for the clients of this user, or of the administrator."""
        environment = self.dev.environment()
        if "ca_file" in self.dev.ready:
            environment["AWS_CA_BUNDLE"] = self.dev.ready["ca_file"]
        if user:
            key = self.keys[user]
            environment.update(AWS_ACCESS_KEY_ID=key["AccessKeyId"], AWS_SECRET_ACCESS_KEY=key["SecretAccessKey"])
        return environment

    def own(self, text):
        """The document's text with this system's ids."""
        for name, instance in MACHINES.items():
            text = text.replace(instance, self.ids[name])
        return text

    def tag(self, name, verb, *tags):
        """Tags or untags a person or a machine."""
        kind, of = ("instance", self.ids[name]) if name in MACHINES else ("user", name)
        self.admin(kind, verb, of, *tags)

    def reset_tags(self, name):
        self.tag(name, "tag", *(f"{key}={value}" for key, value in THINGS[name][1].items()))

    def give(self, policy, boundary):
        """Both people have this policy and this boundary, if it is about one, and nothing else."""
        for user in USERS:
            self.admin("policy", "put", "recipe", "-", "--user", user, stdin=None, input=self.own(policy))
            if boundary:
                self.admin("policy", "create", f"delegated-{user}", "-", stdin=None, input=self.own(boundary))
                self.admin("user", "set-boundary", user, f"delegated-{user}")

    def take_away(self, boundary):
        for user in USERS:
            self.admin("policy", "remove", "recipe", "--user", user)
            if boundary:
                self.admin("user", "remove-boundary", user)
                self.admin("policy", "delete", f"delegated-{user}")
            # Where a row was allowed to attach it.
            if "web-push" in self.admin("user", "show", user):
                self.admin("policy", "detach", "web-push", "--user", user)

    def boto3(self, user, operation, parameters, source):
        """The code of the error that boto3 raises, or `None`."""
        environment = self.environment(user)
        client = boto3.client(
            "ec2-instance-connect",
            endpoint_url=self.dev.endpoint_url,
            region_name=self.dev.region,
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            verify=environment.get("AWS_CA_BUNDLE"),
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
        )
        if source:
            # As the load balancer adds it, behind the signature.
            client.meta.events.register("before-send", lambda request, **_: request.headers.update({"X-Forwarded-For": source}))
        try:
            assert client._make_api_call(operation, parameters)["Success"]
        except ClientError as error:
            return error.response["Error"]["Code"]


@pytest.fixture(scope="module")
def system(tmp_path_factory, os_user):
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user)
    yield System(dev)
    dev.close()


@pytest.fixture(scope="module")
def in_front(tmp_path_factory, os_user):
    """One with TLS, that believes a load balancer on this machine."""
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user, arguments=["--tls", "--restart"])
    try:
        file = dev.folder / "instance-connectd.toml"
        file.write_text(file.read_text().replace("[public]\n", '[public]\ntrusted_proxies = ["127.0.0.1"]\n'))
        before = dev.control_plane()
        kill(before)
        eventually(lambda: dev.control_plane() != before, "the control plane runs again")
        eventually(lambda: links_are_open(dev), "both machines are back")
        yield System(dev)
    finally:
        dev.close()


def links_are_open(dev):
    environment = {**dev.environment(), "AWS_CA_BUNDLE": dev.ready["ca_file"]}
    listed = run(PROGRAMS / "instance-connect", "agent", "list", "--output", "json", check=False, env=environment)
    return listed.returncode == 0 and [agent["Link"] for agent in json.loads(listed.stdout)["Agents"]] == ["open", "open"]


@pytest.fixture(scope="module")
def table():
    head = ["recipe", "who", "does", "given", "answer", "boto3 or the command", "another client", "policy test"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    yield lines
    TABLE.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def others():
    """AWS's other clients, by turns."""
    return itertools.cycle({"AWS CLI": aws_cli, "JavaScript": javascript, "Go": go}.items())


@pytest.mark.parametrize(
    "recipe, policy, boundary",
    [
        pytest.param(recipe, policy, boundary, id=recipe.title.replace(" ", "-"))
        for recipe in TRIED
        # A boundary is shown with users whose own policies allow everything.
        for policy in recipe.policies or [EVERYTHING]
        for boundary in recipe.boundaries or [None]
    ],
)
def test_a_policy_allows_and_denies_what_the_cookbook_says(request, system, table, others, new_key, recipe, policy, boundary):
    for row in recipe.rows:
        who, does, given, answer = row
        given = Given(given)
        place = request.getfixturevalue("in_front") if given.in_front else system
        said = try_out(place, who.strip("`"), does, given, policy, boundary, others, new_key())
        answers = [word for word in said if word]
        table.append("| " + " | ".join([recipe.title, *row, *(word or "" for word in said)]) + " |")
        assert all(word.startswith(answer) for word in answers), (row, said)


def try_out(place, who, does, given, policy, boundary, others, key):
    """What boto3 or the command, another client and `policy test` are told."""
    right = policy.replace(*given.replaced)
    assert given.replaced == ("", "") or right != policy, "what the policy says instead is in it"
    push = {"InstanceId": place.ids["web-1"], "InstanceOSUser": "deploy", "SSHPublicKey": key.public}
    # It is this policy that allows.
    assert place.boto3(who, "SendSSHPublicKey", push, None) == DENIED
    place.give(right, boundary)
    try:
        if given.tagged:
            place.tag(given.tagged[0], "tag", given.tagged[1])
        if does.startswith("`instance-connect "):
            return run_command(place, who, place.own(does.strip("`"))), None, None
        return push_key(place, who, does, given, others, key)
    finally:
        if given.tagged:
            name, tag = given.tagged
            place.tag(name, "untag", tag.split("=")[0])
            place.reset_tags(name)
        place.take_away(boundary)


def run_command(place, who, command):
    words = shlex.split(command)
    done = run(PROGRAMS / words[0], *words[1:], check=False, env=place.environment(who), stdin=None, input=EVERYTHING)
    # `policy test` exits with 1 where it says no, which is an answer.
    if done.returncode == 0 or (words[1:3] == ["policy", "test"] and done.returncode == 1):
        return "allowed"
    refused = re.search("is not authorized to perform: (instance-connect|ec2):", done.stderr)
    assert done.returncode == 254 and refused, done.stderr
    return "denied"


def push_key(place, who, does, given, others, key):
    if found := re.fullmatch(r"push `(.+)@(.+)`", does):
        operation, os_user, instance = "SendSSHPublicKey", found[1], place.ids[found[2]]
        parameters = {"InstanceId": instance, "InstanceOSUser": os_user, "SSHPublicKey": key.public}
        asked = ["--os-user", os_user]
    else:
        instance = place.ids[re.fullmatch(r"serial console of `(.+)`", does)[1]]
        operation = "SendSerialConsoleSSHPublicKey"
        parameters = {"InstanceId": instance, "SerialPort": 0, "SSHPublicKey": key.public}
        asked = ["--action", operation]
    first = word_for(place.boto3(who, operation, parameters, given.source))
    another = None
    if not given.in_front:
        name, client = next(others)
        outcome = client(place.environment(who), operation, parameters)
        another = f"{word_for(outcome.code)} ({name})"
    if given.source:
        asked += ["--context", f"aws:SourceIp={given.source}"]
    words = ["policy", "test", "--user", who, "--instance", instance, *asked]
    told = run(PROGRAMS / "instance-connect", *words, check=False, env=place.environment())
    assert told.stdout.startswith({0: "Allowed", 1: "Denied"}[told.returncode]), told.stdout + told.stderr
    return first, another, {0: "allowed", 1: "denied"}[told.returncode]


def word_for(code):
    return {None: "allowed", DENIED: "denied"}.get(code, code)


@pytest.mark.parametrize("recipe", STORED, ids=lambda recipe: recipe.title.replace(" ", "-"))
def test_a_policy_for_later_can_be_stored(system, recipe):
    for policy in recipe.policies:
        system.admin("policy", "put", "later", "-", "--user", "bob", stdin=None, input=system.own(policy))
        stored = system.admin("policy", "show", "later", "--user", "bob")
        assert json.loads(stored) == json.loads(system.own(policy))
        system.admin("policy", "remove", "later", "--user", "bob")


def test_the_whole_document_was_read():
    text = DOCUMENT.read_text()
    assert sum(len(recipe.policies) + len(recipe.boundaries) for recipe in RECIPES) == text.count("\n```json")
    assert sum(len(recipe.rows) for recipe in RECIPES) == len(re.findall(r"^\| .* \| (?:allowed|denied) \|$", text, re.MULTILINE))
    # Nothing is shown to work that denies nothing; each that lets nobody in says so.
    for recipe in TRIED:
        answers = {row[3] for row in recipe.rows}
        assert answers == ({"denied"} if recipe.title == "With a second factor" else {"allowed", "denied"}), recipe.title
    # What is there for later has no calls.
    assert [recipe.title for recipe in STORED] == [recipe.title for recipe in RECIPES if "Tunnel" in recipe.title]
