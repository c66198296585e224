"""No secret is kept in clear but where it is handed to the caller, and none is ever in a log or a command line."""

import base64
import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from dev import PROGRAMS, Dev
from system import command_lines, descendants, read_of_process, root_only, run
from wire import Request


@pytest.fixture(scope="module")
def used_dev(tmp_path_factory, os_user, new_key):
    """A `dev` that has seen pushes, logins and failures, also such as name the secret where no secret belongs."""
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user)
    try:
        use(dev, new_key())
        yield dev
    finally:
        dev.close()


def use(dev, key):
    assert dev.push(key).login().succeeded
    with pytest.raises(ClientError):
        dev.push(key, dev.second, caller="limited")
    parameters = {"InstanceId": dev.first.id, "InstanceOSUser": dev.first.os_user, "SSHPublicKey": key.public}
    secret = dev.ready["admin"]["secret_access_key"]
    for mistake in [{"secret": "wrong"}, {"key_id": secret}, {"region": secret}, {"target": secret}]:
        assert Request(dev, "SendSSHPublicKey", parameters, **mistake).send().status == 400
    ready_file = {"INSTANCE_CONNECT_READY_FILE": str(dev.ready_file)}
    run(PROGRAMS / "instance-connect", "--debug", "ssh", dev.first.id, "true", env={**os.environ, **ready_file})


def forms(secret):
    """The secret as it could be found: its text, its bytes, and its text in base64 or hexadecimal."""
    text = secret.encode()
    return [text, base64.b64decode(text), base64.b64encode(text).rstrip(b"="), text.hex().encode()]


@pytest.mark.parametrize("caller, handed_out_in", [("admin", {"ready.json", "env"}), ("limited", {"ready.json"})])
def test_secrets_are_in_the_files_for_the_caller_alone(used_dev, caller, handed_out_in):
    wanted = forms(used_dev.ready[caller]["secret_access_key"])
    files = [file for file in used_dev.folder.rglob("*") if file.is_file()]
    assert any(file.suffix == ".sqlite" for file in files)
    assert any(file.name == "agent.log" for file in files)
    found = {file for file in files if any(form in file.read_bytes() for form in wanted)}
    assert found == {used_dev.folder / name for name in handed_out_in}
    for file in [*found, used_dev.ready_file]:
        assert file.stat().st_mode & 0o777 == 0o600
    assert not any(form in used_dev.output.read_bytes() for form in wanted)


def test_secrets_are_in_no_command_line_and_no_environment(used_dev):
    wanted = [form for caller in ("admin", "limited") for form in forms(used_dev.ready[caller]["secret_access_key"])]
    for _pid, words in command_lines():
        assert not any(form in " ".join(words).encode() for form in wanted), words[0]
    for pid in [used_dev.process.pid, *descendants(used_dev.process.pid)]:
        environment = read_of_process(Path(f"/proc/{pid}/environ"))
        assert not any(form in environment for form in wanted)


def test_join_tokens_are_kept_nowhere(used_dev):
    """They came through a pipe, and what the store keeps of them is a hash."""
    for file in used_dev.folder.rglob("*"):
        assert not file.is_file() or file.parent.name == "bin" or b"ict1_" not in file.read_bytes(), file


def test_files_with_keys_are_their_owners_alone(used_dev):
    master_key = used_dev.folder / "master.key"
    files = [file for file in used_dev.folder.rglob("*") if file.is_file()]
    files = [file for file in files if b"PRIVATE KEY-----\n" in file.read_bytes()]
    # Of each machine: sshd's and the agent's. Of the serial consoles' gateway: its two.
    of_machines = 2 * ["identity.pem", "ssh_host_ed25519_key"]
    assert sorted(file.name for file in files) == sorted([*of_machines, "ssh_host_ecdsa_key", "ssh_host_ed25519_key"])
    assert all(file.stat().st_mode & 0o077 == 0 for file in [*files, master_key])


def test_the_master_key_is_in_its_file_alone(used_dev):
    key = (used_dev.folder / "master.key").read_bytes()
    wanted = [key, base64.b64encode(key).rstrip(b"="), key.hex().encode()]
    files = [file for file in used_dev.folder.rglob("*") if file.is_file()]
    assert [file.name for file in files if any(form in file.read_bytes() for form in wanted)] == ["master.key"]
    for pid in [used_dev.process.pid, *descendants(used_dev.process.pid)]:
        for kind in ("environ", "cmdline"):
            told = read_of_process(Path(f"/proc/{pid}/{kind}"))
            assert not any(form in told for form in wanted)


@root_only
def test_other_accounts_see_nothing_of_it(used_dev, accounts):
    """But the machine's public parts, which sshd's command needs."""
    other = accounts[1].as_user()
    listing = run(*other, "find", used_dev.folder, "-type", "f", check=False, cwd="/")
    assert listing.stdout == ""
    for file in used_dev.folder.rglob("*"):
        if file.is_file() and run(*other, "cat", file, check=False, cwd="/", text=False).returncode == 0:
            kind = file.relative_to(used_dev.folder).parts
            assert kind[0] == "bin" or kind[2:3] == ("etc",) or kind == (".instance-connect-dev",), file
