"""What a machine with the distributions' `ec2-instance-connect` package does for each key that sshd asks about, step by
step, with the programs that its scripts start: curl, openssl, ssh-keygen (docs/wire.md 3). The scripts are not ours and
not here. Where they stop, `Stopped` says with which status."""

import base64
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from system import shifted_wall_clock

DOMAINS = ["amazonaws.com", "amazonaws.com.cn", "c2s.ic.gov", "sc2s.sgov.gov"]


class Stopped(Exception):
    """The scripts ended here. sshd takes nothing of what they have printed unless the status is 0."""

    def __init__(self, status, why):
        super().__init__(f"{status}: {why}")
        self.status = status


@dataclass
class Provided:
    """A key that was given to sshd, with what the scripts tell syslog of it."""

    line: str
    fingerprint: str
    request: str
    caller: str


class StockHost:
    """A machine whose scripts ask `base` and trust the certificate authorities in the directory `authorities`. They look whether
    they run in EC2 where `system` says what `/sys` is. Its wall clock is `ahead` seconds ahead of ours."""

    ahead = 0

    def __init__(self, base, authorities, folder, curl=("curl",), system=None):
        self.base, self.authorities, self.folder, self.curl_command = base, Path(authorities), Path(folder), curl
        self.system = system
        self.token = None
        self.runs = 0

    def curl(self, *arguments):
        words = [*self.curl_command, "-s", "-m", "1", *arguments]
        return subprocess.run(words, capture_output=True, timeout=10)

    def get(self, path):
        done = self.curl("-f", "-H", f"X-aws-ec2-metadata-token: {self.token}", f"{self.base}/latest/{path}")
        if done.returncode != 0:
            raise Stopped(done.returncode, path)
        # The shell drops final line feeds.
        return done.stdout.decode().rstrip("\n")

    def take_token(self, seconds=5):
        ttl = f"X-aws-ec2-metadata-token-ttl-seconds: {seconds}"
        done = self.curl("-f", "-X", "PUT", f"{self.base}/latest/api/token", "-H", ttl)
        if done.returncode != 0:
            raise Stopped(done.returncode, "token")
        self.token = done.stdout.decode()
        if not self.token:
            raise Stopped(255, "an empty token")

    def served_root(self):
        """The last certificate of the chain that is served: what an administrator is given as the root to trust."""
        self.take_token()
        return certificates(self.get("meta-data/managed-ssh-keys/signer-cert"))[-1]

    def keys(self, user, fingerprint=None, token=None):
        """The keys that sshd is given for `user`; none where there are none, which is silent."""
        self.runs += 1
        work = self.folder / f"run-{self.runs}"
        work.mkdir(parents=True)
        if token:
            self.token = token
        else:
            self.take_token()
        instance = self.get("meta-data/instance-id/")
        if not re.fullmatch(r"i-[0-9a-f]{8,32}", instance.split("\n")[0]):
            return []
        if self.system and not self.is_in_ec2(instance):
            return []
        active = f"meta-data/managed-ssh-keys/active-keys/{user}/"
        head = self.curl(
            "-H", f"X-aws-ec2-metadata-token: {self.token}", "-o", work / "head", "-I", "-w", "%{http_code}",
            f"{self.base}/latest/{active}",
        )  # fmt: skip
        if head.stdout != b"200":
            return []
        zone = self.get("meta-data/placement/availability-zone/")
        if not re.fullmatch(r"([a-z]+-){2,3}[0-9][a-z]", zone):
            raise Stopped(255, f"zone {zone}")
        domain = self.get("meta-data/services/domain/")
        if domain not in DOMAINS:
            raise Stopped(255, f"domain {domain}")
        chain, staples = self.take_signer(work)
        blob = self.curl("-f", "-H", f"X-aws-ec2-metadata-token: {self.token}", f"{self.base}/latest/{active}")
        if blob.returncode != 0:
            raise Stopped(blob.returncode, "the keys")
        self.check_chain(chain, staples, work, f"managed-ssh-signer.{zone[:-1]}.{domain}")
        return self.parse(blob.stdout, instance, fingerprint, work)

    def take_signer(self, work):
        """The chain of the signer, and a directory with the proofs that none of it is revoked."""
        chain = self.get("meta-data/managed-ssh-keys/signer-cert/")
        staples = work / "staples"
        staples.mkdir(parents=True)
        for name in self.get("meta-data/managed-ssh-keys/signer-ocsp/").split():
            body = self.get(f"meta-data/managed-ssh-keys/signer-ocsp/{name}")
            (staples / name).write_bytes(base64.b64decode("".join(body.split()), validate=True))
        return chain, staples

    def is_in_ec2(self, instance):
        """By the hypervisor's id, and only where there is none by the board's."""
        uuid, tag = self.system / "hypervisor/uuid", self.system / "devices/virtual/dmi/id/board_asset_tag"
        if uuid.exists():
            return uuid.read_text().startswith("ec2")
        return tag.exists() and tag.read_text().rstrip("\n") == instance

    def check_chain(self, chain, staples, work, expected):
        """The name, the trust in it, and each staple."""
        paths = []
        for number, certificate in enumerate(certificates(chain)):
            paths.append(work / f"cert{number}.pem")
            paths[-1].write_text(certificate)
        if len(paths) < 2:
            raise Stopped(1, "a leaf alone")
        root = self.authorities / (re.sub(" +", "_", common_name(paths[-1])) + ".pem")
        if not root.exists():
            raise Stopped(1, f"no {root.name} among the authorities")
        trusted = work / "ca-trust.pem"
        trusted.write_text(paths[1].read_text() + root.read_text())
        if (name := common_name(paths[0])) != expected:
            raise Stopped(1, f"an unrecognized signer certificate: {name}")
        words = ["openssl", "verify", "-x509_strict", "-CApath", self.authorities, "-CAfile", trusted, paths[0]]
        verified = self.run_at_its_time(words)
        if verified.stdout != f"{paths[0]}: OK\n":
            raise Stopped(verified.returncode or 1, verified.stdout + verified.stderr)
        for certificate, issuer in zip(paths, paths[1:]):
            self.check_staple(certificate, issuer, staples)
        public = openssl("x509", "-pubkey", "-noout", "-in", paths[0])
        (work / "pubkey").write_text(public)

    def check_staple(self, certificate, issuer, staples):
        printed = openssl("x509", "-noout", "-fingerprint", "-sha1", "-in", certificate)
        name = printed.strip().split("=")[1].replace(":", "")
        words = ["openssl", "ocsp", "-no_nonce", "-issuer", issuer, "-cert", certificate, "-VAfile", issuer]
        checked = self.run_at_its_time([*words, "-respin", staples / name])
        if checked.returncode != 0 or not checked.stdout.startswith(f"{certificate}: good"):
            raise Stopped(1, f"{certificate.name} may be revoked: {checked.stdout} {checked.stderr}")

    def run_at_its_time(self, words):
        environment = {**os.environ, **(shifted_wall_clock(f"+{self.ahead}") if self.ahead else {})}
        return subprocess.run(words, capture_output=True, text=True, env=environment)

    def parse(self, blob, instance, fingerprint, work):
        """The blob, entry by entry. One that is right in time and instance and wrong in its signature voids them all."""
        if not blob.endswith(b"\n"):
            raise Stopped(1, "no final line feed")
        provided, status = [], 255
        for number, entry in enumerate(re.split(b"\n{2,}", blob.strip(b"\n"))):
            lines = [line.strip(b" \t") for line in entry.split(b"\n")]
            headers = [line for line in lines if line.startswith(b"#")]
            key, *signature = lines[len(headers) :] or [b""]
            if not key.startswith(b"ssh") or not headers:
                continue
            of = dict(header.decode()[1:].split("=", 1) for header in headers)
            signed, key_file = work / f"signed-{number}", work / f"key-{number}"
            signed.write_bytes(b"".join(line + b"\n" for line in [*headers, key]))
            key_file.write_bytes(key + b"\n")
            keygen = subprocess.run(["ssh-keygen", "-lf", key_file], capture_output=True, text=True, check=True)
            found = keygen.stdout.split()[1]
            if fingerprint not in (None, found):
                continue
            if of.get("Instance") != instance or int(of.get("Timestamp", 0)) <= time.time() + self.ahead:
                continue
            (work / f"signature-{number}").write_bytes(base64.b64decode(b"".join(signature), validate=True))
            words = ["openssl", "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]
            words += ["-verify", work / "pubkey", "-signature", work / f"signature-{number}", signed]
            if subprocess.run(words, capture_output=True).returncode != 0:
                raise Stopped(1, "a wrong signature, and nothing is printed for the whole blob")
            provided.append(Provided(key.decode(), found, of.get("Request", ""), of.get("Caller", "")))
            status = 0
        if status:
            raise Stopped(status, "no acceptable key")
        return provided


def certificates(chain):
    return re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", chain, re.DOTALL)


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


def common_name(certificate):
    """As the scripts cut it out of the printed subject."""
    subject = openssl("x509", "-noout", "-subject", "-in", certificate).strip()
    return re.sub(r"^.*CN[ \t]*=[ \t]*", "", subject)
