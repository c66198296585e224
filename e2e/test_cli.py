"""Our own command line against the running system: `send-key` and `ssh`."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev import PROGRAMS
from system import PATIENCE, command_lines, descendants, eventually, read_of_process, run
from test_ci import Control

CLI = PROGRAMS / "instance-connect"
AWS = Path(sys.executable).with_name("aws")


@pytest.fixture
def environment(dev):
    """Variables of a person who has nothing but the ready file."""
    return {**os.environ, "INSTANCE_CONNECT_READY_FILE": str(dev.ready_file)}


@pytest.fixture
def cli(environment):
    return lambda *arguments, **options: run(CLI, *arguments, check=False, env=environment, **options)


def test_ssh_logs_in_with_nothing_but_the_instance(dev, cli):
    done = cli("ssh", dev.first.id, "id -un")
    assert (done.returncode, done.stdout) == (0, f"{dev.first.os_user}\n"), done.stderr


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_remote_commands_exit_status_is_passed_on(dev, cli, status):
    assert cli("ssh", f"{dev.first.os_user}@{dev.first.id}", f"exit {status}").returncode == status


def test_arguments_after_the_dashes_go_to_ssh(dev, cli):
    done = cli("ssh", dev.first.id, "--", "-o", "SendEnv=NOTHING", "-T", "echo", "-n", "one  two")
    assert (done.returncode, done.stdout) == (0, "one two"), done.stderr


def test_standard_input_and_output_are_passed_through(dev, cli):
    text = "line\n" * 10_000
    assert cli("ssh", dev.first.id, "cat", stdin=None, input=text).stdout == text


def test_sftp_copies_there_and_back(dev, cli, tmp_path):
    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes(os.urandom(300_000))
    there = cli("ssh", dev.first.id, "mktemp").stdout.strip()
    batch = f"put {file} {there}\nget {there} {back}\nrm {there}\n"
    done = cli("sftp", dev.first.id, "--", "-q", "-b", "-", stdin=None, input=batch)
    assert done.returncode == 0 and back.read_bytes() == file.read_bytes(), done.stderr


def test_send_key_puts_a_key_in_place(dev, cli, new_key):
    key = new_key()
    done = cli("send-key", dev.second.id, "--ssh-public-key", f"{key.file}.pub", "--output", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["Success"] is True
    assert len(dev.audit(answer["RequestId"])) == 2
    assert dev.second.login(key).succeeded


@pytest.mark.parametrize("arguments, status, says", [
    (["ssh", "i-0fedcba9876543210"], 254, "the ready file has these instances: i-"),
    (["ssh", "--host", "127.0.77.1", "i-0fedcba9876543210"], 254, "was not found"),
    (["ssh", "root@FIRST", "true"], 254, "does not allow access to this OS user"),
    (["--endpoint-url", "http://127.0.0.1:9", "ssh", "FIRST", "true"], 253, "credentials"),
    (["ssh", "not an instance"], 252, ""),
])  # fmt: skip
def test_failures_have_the_exit_codes_of_the_aws_cli(dev, cli, arguments, status, says):
    done = cli(*(argument.replace("FIRST", dev.first.id) for argument in arguments))
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr


def test_a_service_that_is_not_there_is_an_error_of_its_own(dev, environment):
    keys = {**dev.environment(), **environment}
    done = run(CLI, "--endpoint-url", "http://127.0.0.1:9", "ssh", dev.first.id, "true", check=False, env=keys)
    assert done.returncode == 255
    assert "127.0.0.1:9" in done.stderr


def test_the_limited_users_credentials_are_enough_and_no_more(dev, environment):
    limited = {**dev.environment("limited"), **{"INSTANCE_CONNECT_READY_FILE": str(dev.ready_file)}}
    assert run(CLI, "ssh", dev.first.id, "id -un", env=limited).stdout == f"{dev.first.os_user}\n"
    done = run(CLI, "ssh", dev.second.id, "id -un", env=limited, check=False)
    assert done.returncode == 254
    assert "is not authorized to perform: ec2-instance-connect:SendSSHPublicKey" in done.stderr


def test_a_changed_host_key_is_refused(dev, environment, new_key, tmp_path):
    """The ready file names another key than the machine has: no login, and above all none with the key just pushed."""
    ready = json.loads(dev.ready_file.read_text())
    ready["instances"][0]["host_key"] = new_key().public
    changed = tmp_path / "ready.json"
    changed.write_text(json.dumps(ready))
    done = run(CLI, "--ready-file", changed, "ssh", dev.first.id, "id -un", check=False, env=environment)
    assert (done.returncode, done.stdout) == (255, "")
    assert "Host key verification failed" in done.stderr


@contextmanager
def open_session(environment, instance, *arguments):
    """A session that stays open, and the id and the words of the ssh that our command started."""
    words = [CLI, *arguments, "ssh", instance.id, "echo up; exec cat"]
    pipe = subprocess.PIPE
    session = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        assert session.stdout.readline() == "up\n", session.stderr.read()
        (ssh,) = descendants(session.pid)
        yield session, ssh, dict(command_lines())[ssh]
    finally:
        # The remote command ends with its input.
        session.stdin.close()
        session.wait(PATIENCE)


def folder_of(words):
    """The directory that our command made for one login: the one of its agent's socket."""
    return Path(re.search(r'IdentityAgent="([^"]*)"', " ".join(words))[1]).parent


def test_nothing_secret_is_in_a_command_line_or_the_environment_of_ssh(dev, environment):
    with open_session(dev.environment() | environment, dev.first) as (session, ssh, words):
        secret = dev.ready["admin"]["secret_access_key"]
        for pid in (session.pid, ssh):
            assert secret not in " ".join(dict(command_lines())[pid])
        # The private key is in our command's memory: not in a file, nor where ssh could be asked for it.
        for file in folder_of(words).iterdir():
            assert not file.is_file() or "PRIVATE" not in file.read_text()
        assert b"PRIVATE" not in read_of_process(Path(f"/proc/{ssh}/environ"))


@pytest.mark.parametrize("by", [None, signal.SIGTERM, signal.SIGHUP])
def test_its_folder_is_private_and_goes_with_the_session(dev, environment, by):
    with open_session(environment, dev.first) as (session, _ssh, words):
        folder = folder_of(words)
        assert folder.stat().st_mode & 0o777 == 0o700
        if by:
            session.send_signal(by)
        session.stdin.close()
        status = session.wait(PATIENCE)
        assert status == 0 if by is None else status != 0
        eventually(lambda: not folder.exists(), "the folder goes")


def test_the_callers_agent_and_keys_have_no_part_in_it(dev, environment, new_key, tmp_path):
    """An agent is running with a key in it, and the one key that is offered is ours."""
    socket, own = tmp_path / "agent", new_key()
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        eventually(socket.exists, "the agent listens")
        with_agent = {**environment, "SSH_AUTH_SOCK": str(socket)}
        run("ssh-add", own.file, env=with_agent)
        done = run(CLI, "ssh", dev.first.id, "--", "-v", "ssh-add -l", env=with_agent, check=False)
        offered = re.findall(r"Offering public key: .*(SHA256:\S+)", done.stderr)
        assert len(offered) == 1 and own.fingerprint not in offered
        assert offered[0] in dev.first.auth_log
        # It is not forwarded either.
        assert own.fingerprint not in done.stdout
        assert run("ssh-add", "-l", env=with_agent).stdout.count("SHA256:") == 1
    finally:
        agent.kill()
        agent.wait()


def test_the_client_signs_as_the_installed_botocore_does():
    """The file that the client's own tests compare with is what this botocore makes."""
    script = Path(__file__).parent.parent / "crates/client/tests/botocore_fixture.py"
    run(sys.executable, script, "--check")


def test_whoami_says_who_it_is(dev, cli):
    done = cli("whoami", "--output", "json")
    answer = json.loads(done.stdout)
    assert (answer["Arn"], answer["EndpointUrl"]) == (dev.ready["admin"]["arn"], f"{dev.endpoint_url}/"), done.stderr
    by_aws = run(AWS, "sts", "get-caller-identity", "--output", "text", env=dev.environment())
    assert run(CLI, "whoami", "--output", "text", env=dev.environment()).stdout == by_aws.stdout


def test_instances_are_listed_as_the_aws_cli_has_them(dev, cli):
    described = json.loads(run(AWS, "ec2", "describe-instances", env=dev.environment()).stdout)
    expected = {found["InstanceId"]: found for reservation in described["Reservations"] for found in reservation["Instances"]}
    listed = json.loads(cli("instances", "--output", "json").stdout)["Instances"]
    assert [found["InstanceId"] for found in listed] == sorted(expected)
    for found in listed:
        theirs = expected[found["InstanceId"]]
        # Of the state ours has the name alone, and of the place the zone.
        assert {name: value for name, value in found.items() if name not in ("State", "Placement", "LaunchTime")}.items() <= theirs.items()
        assert found["State"]["Name"] == theirs["State"]["Name"]
        assert found["Placement"]["AvailabilityZone"] == theirs["Placement"]["AvailabilityZone"]


@pytest.mark.parametrize("arguments, numbers", [
    (["dev-1"], [0]),
    (["dev-*"], [0, 1]),
    (["FIRST"], [0]),
    (["--filter", "tag:Name=dev-2", "--filter", "instance-state-name=running"], [1]),
    (["nobody"], []),
])  # fmt: skip
def test_which_instances_are_listed(dev, cli, arguments, numbers):
    done = cli("instances", *(argument.replace("FIRST", dev.first.id) for argument in arguments), "--output", "text")
    assert done.returncode == 0, done.stderr
    ids = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert ids == sorted(dev.instances[number].id for number in numbers)


def test_errors_of_ec2s_api_have_words(dev, cli):
    mistyped = dev.first.id[:-1] + "x"
    for words, code, said in [
        (["--instance-id", "i-0fedcba9876543210"], 254, "The instance ID 'i-0fedcba9876543210' does not exist"),
        (["--instance-id", mistyped], 252, f"error: invalid value '{mistyped}' for '--instance-id <ID>'"),
        ([mistyped], 252, f"error: {mistyped} is no instance id"),
    ]:
        done = cli("instances", *words)
        assert (done.returncode, done.stdout) == (code, "") and said in done.stderr, done.stderr
        assert code == 252 or "\nhint: check the instance id and the region" in done.stderr, done.stderr
    assert cli("user", "create", "newcomer").returncode == 0
    key = json.loads(cli("access-key", "create", "--user", "newcomer", "--output", "json").stdout)["AccessKey"]
    newcomer = {**dev.environment(), "AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    refused = run(CLI, "instances", env=newcomer, check=False)
    assert refused.returncode == 254 and "hint: ask for a policy that allows this of EC2's actions" in refused.stderr
    # Whoever it is may know who it is.
    assert ":user/newcomer" in run(CLI, "whoami", env=newcomer).stdout


def test_an_aws_cli_that_is_too_old_is_named(dev, environment, tmp_path):
    """The real one of version 1, which has no command for the credentials of others."""
    config = tmp_path / "config"
    config.write_text("[profile work]\nsso_account_id = 111122223333\nsso_role_name = reader\n")
    variables = {**environment, "AWS_CONFIG_FILE": str(config), "PATH": f"{AWS.parent}:{os.environ['PATH']}"}
    done = run(CLI, "--profile", "work", "whoami", env=variables, check=False)
    assert done.returncode == 253
    assert "`aws configure export-credentials --profile work` is unknown to the `aws` on the PATH" in done.stderr


SIGN_IN = """\
import botocore.session, os
session = botocore.session.Session(profile="work")
clients = [session.create_client(name, "us-east-1", aws_access_key_id="x", aws_secret_access_key="x") for name in ("sso", "sso-oidc", "signin", "sts")]
for client in clients:
    print(client.meta.endpoint_url, os.environ.get("AWS_CA_BUNDLE"))
"""


def test_who_signs_in_does_so_at_aws(dev, environment, tmp_path):
    """Whatever names our service: the AWS CLI that is started goes by botocore, and so does what the hint says to type."""
    config, asked, script = tmp_path / "config", tmp_path / "asked", tmp_path / "bin" / "aws"
    url = dev.ready["endpoint_url"]
    config.write_text(f"""\
[profile work]
sso_account_id = 111122223333
sso_role_name = reader
endpoint_url = {url}
services = ours
[services ours]
sso_oidc =
  endpoint_url = {url}
""")
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n'{sys.executable}' -c '{SIGN_IN}' > {asked}\necho 'Error loading SSO Token' >&2\nexit 255\n")
    script.chmod(0o755)
    ours = {"AWS_CONFIG_FILE": str(config), "AWS_ENDPOINT_URL": url, "AWS_ENDPOINT_URL_STS": url, "AWS_CA_BUNDLE": str(tmp_path / "ours.pem")}
    variables = {**environment, **ours, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    done = run(CLI, "--profile", "work", "whoami", env=variables, check=False)
    assert done.returncode == 253, done.stderr
    here = asked.read_text()
    hint = re.search(r"hint: sign in first: `(env .*?)`", done.stderr)[1]
    run("sh", "-c", hint, env=variables, check=False)
    assert asked.read_text() == here and url not in here
    lines = [line.split() for line in here.splitlines()]
    assert len(lines) == 4
    assert all(endpoint.endswith(".amazonaws.com") and authority == "None" for endpoint, authority in lines), here
    # It would, if nobody told it.
    run("aws", env=variables, check=False)
    assert asked.read_text().count(url) == 4


@pytest.mark.parametrize("is_watched", [True, False])
@pytest.mark.parametrize("lasts", ["credentials", "the service to answer"])
def test_what_lasts_says_what_is_waited_for(dev, environment, tmp_path, lasts, is_watched):
    """At a terminal, and nowhere else: what reads standard error as a program does not wait for it."""
    admin = dev.ready["admin"]
    keys = {"AccessKeyId": admin["access_key_id"], "SecretAccessKey": admin["secret_access_key"]}
    program, config = tmp_path / "program", tmp_path / "config"
    program.write_text(f"#!/bin/sh\nsleep {1.5 if lasts == 'credentials' else 0}\necho '{json.dumps({'Version': 1, **keys})}'\n")
    program.chmod(0o755)
    config.write_text(f"[profile slow]\ncredential_process = {program}\n")
    variables = {**environment, "AWS_CONFIG_FILE": str(config)}
    control = Control(dev)
    if lasts != "credentials":
        control.fault(delay_ms=1500, times=1, operation="GetCallerIdentity")
    ours, theirs = pty.openpty() if is_watched else os.pipe()
    try:
        done = subprocess.run([CLI, "--profile", "slow", "whoami"], env=variables, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=PATIENCE)
    finally:
        os.close(theirs)
        control.ask("DELETE", "/faults")
    with open(ours, "rb", buffering=0) as stream:
        try:
            said = stream.read(1000)
        except OSError:
            # A terminal at whose other end nobody is any more.
            said = b""
    assert done.returncode == 0 and dev.ready["admin"]["arn"] in done.stdout
    assert said == (f"waiting for {lasts}\r\n".encode() if is_watched else b"")
