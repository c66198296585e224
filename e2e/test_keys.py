"""What is a key: the types a control plane accepts, the forms a key comes in, and the private key sent by mistake."""

import base64
import hashlib
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from dev import Dev, MachineCopy
from system import run
from wire import Request

ALL_TYPES = "rsa,ed25519,ecdsa,ed25519-sk,ecdsa-sk"
INVALID = "Invalid input parameter received for Illegal argument exception: SSH Public key is invalid"


@pytest.fixture(scope="module")
def open_dev(tmp_path_factory, os_user):
    """A `dev` that accepts keys of every type."""
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user, arguments=["--key-types", ALL_TYPES])
    yield dev
    dev.close()


@pytest.mark.parametrize("kind", ["ecdsa-256", "ecdsa-384", "ecdsa-521", "ed25519", "rsa-2048"])
def test_a_key_of_each_accepted_type_logs_in(open_dev, new_key, kind):
    push = open_dev.push(new_key(kind))
    assert push.login().succeeded
    assert open_dev.second.login(push.key).refused


def fido_key(name, *parts):
    """The public half of a key in a FIDO device: a real one cannot be made without the device."""
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (name.encode(), *parts, b"ssh:"))
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return SimpleNamespace(public=f"{name} {base64.b64encode(blob).decode()}", fingerprint=f"SHA256:{digest}")


def fido_keys(new_key):
    """Such keys with the points of others, which is all that tells them apart from those of a device."""
    point = lambda kind, length: base64.b64decode(new_key(kind).public.split()[1])[-length:]  # noqa: E731
    yield fido_key("sk-ssh-ed25519@openssh.com", point("ed25519", 32))
    yield fido_key("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", point("ecdsa-256", 65))


def test_a_fido_key_gets_as_far_as_sshd(open_dev, new_key, tmp_path):
    """To the line that our command prints for sshd. The login itself would need the device."""
    for number, key in enumerate(fido_keys(new_key)):
        file = tmp_path / f"{number}.pub"
        file.write_text(key.public)
        assert key.fingerprint in run("ssh-keygen", "-l", "-f", file).stdout
        push = open_dev.push(key)
        (tmp_path / str(number)).mkdir()
        answer = MachineCopy(open_dev.first, tmp_path / str(number)).ask(push.user, key)
        assert (answer.status, answer.printed) == (0, key.public + "\n")


def refusal(dev, text):
    """What a push of this text is answered with."""
    client = dev.client()
    with pytest.raises(ClientError) as raised:
        client.send_ssh_public_key(InstanceId=dev.first.id, InstanceOSUser=dev.first.os_user, SSHPublicKey=text)
    assert isinstance(raised.value, client.exceptions.InvalidArgsException)
    return raised.value.response["Error"]["Message"]


def test_other_types_are_refused_as_aws_does(dev, new_key):
    for key in [*fido_keys(new_key), new_key("ecdsa-256"), new_key("ecdsa-521")]:
        assert refusal(dev, key.public) == INVALID
    assert refusal(dev, new_key("rsa-1024").public) == INVALID.replace("SSH Public", "RSA - SSH Public")


def test_other_forms_of_a_key_log_in(dev, new_key):
    forms = [
        lambda key: run("ssh-keygen", "-e", "-f", f"{key.file}.pub").stdout,
        lambda key: run("ssh-keygen", "-e", "-f", f"{key.file}.pub").stdout.replace("\n", "\r\n"),
        lambda key: f"{key.public} me@host\r\n",
        lambda key: f"\n  {key.public}\n",
    ]
    for form in forms:
        key = new_key()
        as_made, key.public = key.public, form(key)
        push = dev.push(key)
        assert push.login().succeeded
        # What reached the machine is made anew, and nothing else of the text is.
        lines = dev.first.key_file(key).read_text().splitlines()
        assert [line for line in lines if "ssh-" in line] == [as_made]


# As PuTTY writes the private part of an ED25519 key: its length, which is how public keys begin too, and 32 bytes.
PUTTY_LINE = base64.b64encode(b"\0\0\0\x20" + hashlib.sha256(b"a PuTTY key").digest()).decode()
# Secrets that nothing marks: this line alone, the private part of a JSON Web Key (RFC 8037), a secret access key of AWS.
BARE_SECRETS = [PUTTY_LINE, "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]


def private_keys(tmp_path):
    """Private keys as people have them: of each format, with a passphrase and without."""
    for kind in ["ed25519", "rsa", "ecdsa"]:
        for number, options in enumerate([[], ["-m", "PEM"], ["-m", "PKCS8"], ["-N", "passphrase"]]):
            file = tmp_path / f"{kind}-{number}"
            options = options if "-N" in options else [*options, "-N", ""]
            run("ssh-keygen", "-q", "-t", kind, *options, "-f", file)
            yield file.read_text()
    yield f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\n{PUTTY_LINE}\n"


def test_a_private_key_sent_by_mistake_is_named_and_kept_nowhere(new_dev, tmp_path):
    dev = new_dev()
    for text in private_keys(tmp_path):
        for form in [text, text.replace("\n", " "), text.strip().replace("\n", "\\n")]:
            message = refusal(dev, form)
            assert message.startswith(f"{INVALID}. It is a private key; send the public key")
        # It may also end up in any other member.
        for member in ["InstanceId", "InstanceOSUser", "AvailabilityZone"]:
            parameters = {"InstanceId": dev.first.id, "InstanceOSUser": dev.first.os_user, "SSHPublicKey": "x" * 80}
            answer = Request(dev, "SendSSHPublicKey", {**parameters, member: text}).send()
            assert answer.status == 400 and b"'***'" in answer.body
            assert not any(line in answer.body for line in secret_lines(text))
        assert secret_lines(text)
        seen = [file.read_bytes() for file in dev.folder.rglob("*") if file.is_file()] + [dev.output.read_bytes()]
        assert not any(line in content for content in seen for line in secret_lines(text))


def test_a_secret_without_marks_is_not_repeated(new_dev):
    dev = new_dev()
    for secret in BARE_SECRETS:
        for member in ["InstanceId", "InstanceOSUser", "SSHPublicKey", "AvailabilityZone"]:
            parameters = {"InstanceId": dev.first.id, "InstanceOSUser": dev.first.os_user, "SSHPublicKey": "x" * 80}
            answer = Request(dev, "SendSSHPublicKey", {**parameters, member: secret}).send()
            assert answer.status == 400 and b"'***'" in answer.body
            assert secret.encode() not in answer.body
        seen = [file.read_bytes() for file in dev.folder.rglob("*") if file.is_file()] + [dev.output.read_bytes()]
        assert not any(secret.encode() in content for content in seen)


def secret_lines(text):
    """But the first of OpenSSH's format, which is the same in every key, that of sshd's own host included."""
    lines = [line for line in text.splitlines() if len(line) > 30 and " " not in line]
    return [line.encode() for line in lines if not line.startswith("b3BlbnNzaC1rZXktdjE")]
