"""`instance-connectd init` and `serve` as an operator runs them, with AWS's clients over TLS."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from dev import PROGRAMS
from system import PATIENCE, eventually, run

INSTANCE = "i-0123456789abcdef0"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp"
DAEMON = PROGRAMS / "instance-connectd"


class ControlPlane:
    """One that `init` has set up, in a folder of its own."""

    def __init__(self, folder, *flags):
        self.folder, self.process = folder, None
        self.config = folder / "etc/instance-connectd.toml"
        self.ca = folder / "etc/ca.pem"
        self.audit_log = folder / "data/audit.log"
        words = [DAEMON, "init", "--config", self.config, "--data-dir", folder / "data"]
        words += ["--public-listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]
        words += ["--public-names=localhost,127.0.0.1"]
        self.said = run(*words, *flags).stdout
        self.access_key = re.search(r"AWS_ACCESS_KEY_ID='(\w+)'", self.said)[1]
        self.secret = re.search(r"AWS_SECRET_ACCESS_KEY='([^']+)'", self.said)[1]

    def start(self, *flags, environment=None):
        self.launch([DAEMON, "serve", "--config", self.config, "--print-addresses", *flags], environment)
        self.addresses = json.loads(self.process.stdout.readline() or "{}")
        assert self.addresses, self.log.read_text()
        return self

    def launch(self, words, environment=None, **options):
        self.log = self.folder / "serve.log"
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
                **options,
            )

    @property
    def port(self):
        return int(self.addresses["public"].rsplit(":", 1)[1])

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)

    def client(self, scheme="https", ca=None):
        return boto3.client(
            "ec2-instance-connect",
            endpoint_url=f"{scheme}://localhost:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
            verify=str(ca or self.ca),
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
        )

    def records(self):
        return [json.loads(line) for line in self.audit_log.read_text().splitlines()]


def push(client):
    """Pushes to an instance that there is none of: whoever is told so was authenticated and allowed to."""
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client.send_ssh_public_key(InstanceId=INSTANCE, InstanceOSUser="ec2-user", SSHPublicKey=KEY)
    return refused.value.response["Error"]["Code"]


@pytest.fixture
def control_plane(tmp_path):
    control_plane = ControlPlane(tmp_path)
    yield control_plane
    control_plane.stop()


def test_from_nothing_to_a_call_over_tls(control_plane):
    """The first administrator's key, as init has printed it, and the authority that init has written."""
    control_plane.start()
    assert push(control_plane.client()) == "EC2InstanceNotFoundException"
    record = control_plane.records()[-1]
    assert record["userIdentity"]["userName"] == "admin"
    assert record["tlsDetails"]["tlsVersion"] in ("TLSv1.2", "TLSv1.3")
    assert record["tlsDetails"]["cipherSuite"].startswith("TLS_")
    assert record["tlsDetails"]["clientProvidedHostHeader"] == f"localhost:{control_plane.port}"
    # In clear the secret is nowhere but where it was printed.
    for file in control_plane.folder.rglob("*"):
        assert not file.is_file() or control_plane.secret.encode() not in file.read_bytes(), file


def test_the_aws_cli_over_tls(control_plane):
    control_plane.start()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": f"https://localhost:{control_plane.port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": control_plane.access_key,
        "AWS_SECRET_ACCESS_KEY": control_plane.secret,
        "AWS_CA_BUNDLE": str(control_plane.ca),
        "AWS_MAX_ATTEMPTS": "1",
    }
    aws = [Path(sys.executable).with_name("aws"), "ec2-instance-connect", "send-ssh-public-key", "--instance-id", INSTANCE]
    aws += ["--instance-os-user", "ec2-user", "--ssh-public-key", KEY]
    done = run(*aws, check=False, env=environment)
    assert "(EC2InstanceNotFoundException)" in done.stderr


def test_nobody_is_served_who_speaks_no_tls_or_trusts_another(control_plane, tmp_path):
    control_plane.start()
    with pytest.raises(botocore.exceptions.HTTPClientError):
        push_plain = control_plane.client(scheme="http")
        push_plain.send_ssh_public_key(InstanceId=INSTANCE, InstanceOSUser="ec2-user", SSHPublicKey=KEY)
    other = tmp_path / "other"
    other.mkdir()
    other = ControlPlane(other)
    with pytest.raises(botocore.exceptions.SSLError):
        client = control_plane.client(ca=other.ca)
        client.send_ssh_public_key(InstanceId=INSTANCE, InstanceOSUser="ec2-user", SSHPublicKey=KEY)
    assert [record["eventName"] for record in control_plane.records()] == ["InitializeControlPlane"]


def certificate(folder, name):
    """A certificate for localhost, made by openssl."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    # Its own authority, and not one of others: rustls takes no authority's certificate for a server's.
    words += ["-addext", "basicConstraints=critical,CA:FALSE"]
    run(*words, "-keyout", folder / "next.key", "-out", folder / "next.pem")
    (folder / "next.key").chmod(0o600)
    (folder / "next.key").rename(folder / "key.pem")
    (folder / "next.pem").rename(folder / "certificate.pem")


def test_certificates_are_reloaded_and_no_connection_is_lost(tmp_path):
    certificate(tmp_path, "first")
    files = [f"--public-certificate={tmp_path}/certificate.pem", f"--public-key={tmp_path}/key.pem"]
    control_plane = ControlPlane(tmp_path, *files).start()

    def name():
        context = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
        with socket.create_connection(("127.0.0.1", control_plane.port)) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="localhost") as stream:
                    return dict(part[0] for part in stream.getpeercert()["subject"])["commonName"]
            except ssl.SSLCertVerificationError:
                return None

    try:
        assert name() == "first"
        # This client keeps its one connection.
        client = control_plane.client(ca=tmp_path / "certificate.pem")
        assert push(client) == "EC2InstanceNotFoundException"
        certificate(tmp_path, "second")
        control_plane.process.send_signal(signal.SIGHUP)
        eventually(lambda: name() == "second", "the second certificate is served")
        assert push(client) == "EC2InstanceNotFoundException"
        good = (tmp_path / "certificate.pem").read_text()
        (tmp_path / "certificate.pem").write_text("no certificate")
        control_plane.process.send_signal(signal.SIGHUP)
        eventually(lambda: "going on with the one before it" in control_plane.log.read_text(), "it says so")
        (tmp_path / "certificate.pem").write_text(good)
        assert name() == "second"
    finally:
        control_plane.stop()


def test_there_are_no_faults_in_service(control_plane, tmp_path):
    """What `dev` gives its control plane to cause them with is not taken by any other."""
    control_plane.start()
    url = f"http://{control_plane.addresses['admin']}/dev/faults"
    assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url).stdout == "404"
    control_plane.stop()
    faults = tmp_path / "faults.json"
    faults.write_text("[]")
    done = run(DAEMON, "serve", "--config", control_plane.config, "--dev-faults", faults, check=False)
    assert done.returncode == 1 and "faults can be caused in instance-connectd dev only" in done.stderr


def test_a_second_init_is_refused(control_plane):
    before = {file: file.read_bytes() for file in control_plane.folder.rglob("*") if file.is_file()}
    done = run(DAEMON, "init", "--config", control_plane.config, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert "is initialised already" in done.stderr
    assert {file: file.read_bytes() for file in control_plane.folder.rglob("*") if file.is_file()} == before


def no_key(file):
    file.unlink()


def another_key(file):
    file.write_bytes(bytes(32))


def an_exposed_key(file):
    file.chmod(0o640)


def half_a_key(file):
    file.write_bytes(file.read_bytes()[:16])


@pytest.mark.parametrize(
    "spoil, said",
    [
        (no_key, "No such file or directory (os error 2). Put it back from where it is kept"),
        (another_key, "this is not the master key the database was made with"),
        (an_exposed_key, "has mode 0640: others may use it"),
        (half_a_key, "has to be exactly 32 bytes"),
    ],
)
def test_without_its_master_key_it_does_not_start_and_says_why(control_plane, spoil, said):
    spoil(control_plane.folder / "etc/master.key")
    done = run(DAEMON, "serve", "--config", control_plane.config, check=False)
    assert done.returncode == 1 and said in done.stderr


def test_the_master_key_can_be_a_systemd_credential(control_plane, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (control_plane.folder / "etc/master.key").rename(credentials / "master-key")
    # As systemd 254 and later give it.
    (credentials / "master-key").chmod(0o440)
    control_plane.start(environment={"CREDENTIALS_DIRECTORY": str(credentials)})
    assert push(control_plane.client()) == "EC2InstanceNotFoundException"


def test_mistakes_in_the_configuration_have_lines(control_plane):
    assert run(DAEMON, "config", "check", "--config", control_plane.config).stdout == "ok\n"
    text = control_plane.config.read_text()
    control_plane.config.write_text(text + "\n[pubic]\nlisten = 1\n")
    line = len(text.splitlines()) + 2
    for command in (["config", "check"], ["serve"]):
        done = run(DAEMON, *command, "--config", control_plane.config, check=False)
        assert done.returncode == 1
        assert done.stderr == f'{control_plane.config}:{line}: there is no key "pubic"; did you mean "public"?\n'


def test_plain_http_is_for_this_machine(control_plane):
    done = run(DAEMON, "serve", "--config", control_plane.config, "--public-tls=false", "--public-listen=0.0.0.0:0", check=False)
    assert done.returncode == 1
    assert "plain http is for loopback addresses only" in done.stderr


def test_a_push_over_tls_ends_in_a_login(new_dev, new_key):
    dev = new_dev(arguments=["--tls"])
    assert dev.endpoint_url.startswith("https://127.0.0.1:")
    client = boto3.client(
        "ec2-instance-connect",
        endpoint_url=dev.endpoint_url,
        region_name=dev.region,
        aws_access_key_id=dev.ready["limited"]["access_key_id"],
        aws_secret_access_key=dev.ready["limited"]["secret_access_key"],
        verify=dev.ready["ca_file"],
    )
    key = new_key()
    answer = client.send_ssh_public_key(
        InstanceId=dev.first.id, InstanceOSUser=dev.first.os_user, SSHPublicKey=key.public
    )
    assert answer["Success"] is True
    assert dev.first.login(key).succeeded
    record = dev.audit(answer["RequestId"])[-1]
    assert record["tlsDetails"]["clientProvidedHostHeader"] == dev.endpoint_url.removeprefix("https://")
