"""Addresses that clients claim, through two real proxies in a row: nginx, each of which adds whom it was asked by."""

import json
import socket
import subprocess

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from dev import PROGRAMS
from system import PATIENCE, eventually, run
from test_serve import INSTANCE, KEY, ControlPlane

CLIENT, OUTER, INNER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
OFFICE = "198.51.100.7"
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  server {{ listen {outer}; location / {{ proxy_pass http://{inner}; proxy_bind {outer_address}; }} }}
  server {{
    listen {inner};
    location / {{
      proxy_pass https://{service}; proxy_bind {inner_address};
      proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate {ca};
    }}
  }}
}}
"""


def free(address):
    with socket.create_server((address, 0)) as listener:
        return f"{address}:{listener.getsockname()[1]}"


class Proxied:
    """A control plane that believes these proxies, behind both of them."""

    def __init__(self, folder, *believed, allowed=OFFICE):
        self.control_plane = ControlPlane(folder)
        self.control_plane.start(f"--public-trusted-proxies={','.join(believed)}")
        self.outer = free(OUTER)
        text = NGINX.format(
            folder=folder,
            outer=self.outer,
            inner=free(INNER),
            outer_address=OUTER,
            inner_address=INNER,
            service=f"127.0.0.1:{self.control_plane.port}",
            ca=self.control_plane.ca,
        )
        (folder / "nginx.conf").write_text(text)
        words = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        self.nginx = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        eventually(self.is_open, "nginx listens")
        self.access_key, self.secret = self.bob(allowed)

    def is_open(self):
        address, port = self.outer.split(":")
        with socket.socket() as stream:
            return stream.connect_ex((address, int(port))) == 0

    def bob(self, allowed):
        """A user who may push from this address alone."""
        environment = {
            "AWS_ENDPOINT_URL": f"https://localhost:{self.control_plane.port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.control_plane.access_key,
            "AWS_SECRET_ACCESS_KEY": self.control_plane.secret,
            "AWS_CA_BUNDLE": str(self.control_plane.ca),
        }
        cli = PROGRAMS / "instance-connect"
        run(cli, "user", "create", "bob", env=environment)
        statement = {
            "Effect": "Allow",
            "Action": "ec2-instance-connect:SendSSHPublicKey",
            "Resource": "*",
            "Condition": {"IpAddress": {"aws:SourceIp": allowed}},
        }
        policy = self.control_plane.folder / "policy.json"
        policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
        run(cli, "policy", "put", "from-there", policy, "--user", "bob", env=environment)
        key = json.loads(run(cli, "access-key", "create", "--user", "bob", "--output", "json", env=environment).stdout)
        return key["AccessKey"]["AccessKeyId"], key["AccessKey"]["SecretAccessKey"]

    def push(self, claimed):
        """What bob is told who claims to be there, and from where the record says that he was."""
        client = boto3.client(
            "ec2-instance-connect",
            endpoint_url=f"http://{self.outer}",
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
        )
        client.meta.events.register("before-send", lambda request, **_: request.headers.update({"X-Forwarded-For": claimed}))
        with pytest.raises(ClientError) as refused:
            client.send_ssh_public_key(InstanceId=INSTANCE, InstanceOSUser="ec2-user", SSHPublicKey=KEY)
        return refused.value.response["Error"]["Code"], self.control_plane.records()[-1]["sourceIPAddress"]

    def close(self):
        self.nginx.terminate()
        self.nginx.wait(PATIENCE)
        self.control_plane.stop()


@pytest.fixture
def proxied(tmp_path):
    started = []

    def start(*believed, **options):
        started.append(Proxied(tmp_path, *believed, **options))
        return started[0]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize(
    "believed, where",
    [((OUTER, INNER), CLIENT), ((INNER,), OUTER), ((), INNER), ((OUTER,), INNER)],
    ids=["both are believed", "the inner one alone", "nobody", "one that is not in front"],
)
def test_an_address_that_a_client_claims_counts_for_nothing(proxied, believed, where):
    proxied = proxied(*believed)
    for claimed in (OFFICE, f"{OFFICE}, {OUTER}", f"{OFFICE}, {INNER}, {OUTER}", f"{OUTER}, {OFFICE}, unknown"):
        told = proxied.push(claimed)
        print(f"believed: {', '.join(believed) or 'nobody'}; claimed: {claimed}; told: {told[0]}, on record: {told[1]}")
        assert told == ("AccessDeniedException", where)


def test_the_address_that_the_outer_proxy_has_seen_decides(proxied):
    """Whoever is told that there is no such instance was allowed to push to it."""
    assert proxied(OUTER, INNER, allowed=CLIENT).push(OFFICE) == ("EC2InstanceNotFoundException", CLIENT)
