"""Our own command line against the running system: `send-key` and `ssh`."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev import PROGRAMS
from system import PATIENCE, command_lines, descendants, eventually, read_of_process, run

CLI = PROGRAMS / "instance-connect"


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


def test_send_key_puts_a_key_in_place(dev, cli, new_key):
    key = new_key()
    done = cli("send-key", dev.second.id, "--ssh-public-key", f"{key.file}.pub", "--output", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["Success"] is True
    assert len(dev.audit(answer["RequestId"])) == 2
    assert dev.second.login(key).succeeded


@pytest.mark.parametrize("arguments, status, says", [
    (["ssh", "i-0fedcba9876543210"], 252, "i-0fedcba9876543210"),
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
