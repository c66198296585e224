"""`instance-connectd dev`, from its start to its end, and what can be asked of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

#: Seconds that it may take to start, on a machine that is busy.
START = 60

#: Seconds that it may take to end, open logins included.
END = 30


class DevError(Exception):
    """`dev` did not start, or did not take what it was asked."""


def _known(kind, members):
    """A dataclass of those members that it knows: later versions say more."""
    names = {known.name for known in fields(kind)}
    return kind(**{name: value for name, value in members.items() if name in names})


@dataclass(frozen=True)
class Credentials:
    """An access key, and whose it is."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    arn: str


@dataclass(frozen=True)
class Instance:
    """A machine that keys can be pushed to."""

    instance_id: str
    availability_zone: str
    os_user: str
    private_ip: str
    ssh_host: str
    ssh_port: int
    host_key: str
    known_hosts: str

    def ssh(self, key_file: str | os.PathLike[str], *command: str, user: str | None = None) -> list[str]:
        """The words of an `ssh` command line: with this private key alone, which trusts the machine's own host key alone and
        never asks."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "none",
        }
        words = ["ssh", "-F", "none", "-i", os.fspath(key_file)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return [*words, "-p", str(self.ssh_port), f"{user or self.os_user}@{self.ssh_host}", *command]


@dataclass(frozen=True)
class Call:
    """A call that was answered. What is not known is None."""

    number: int
    #: Milliseconds; differences say how long a client waited.
    at_ms: int
    took_ms: int
    request_id: str
    #: Whose the operation is: `ec2-instance-connect`, `ec2`, `sts` or `instance-connect`.
    service: str | None
    operation: str | None
    instance_id: str | None
    #: The ARN of who was authenticated.
    caller: str | None
    access_key_id: str | None
    status: int
    error: str | None
    #: The ids of the faults that failed or delayed it, or moved its clock.
    faults: list[int]


class Fault:
    """A fault that was asked for. As a context manager it ends with its block."""

    def __init__(self, dev: Dev, id: int):
        self._dev, self.id = dev, id

    def remove(self) -> None:
        """Ends it. One that has happened as often as it was to is gone already."""
        self._dev._ask("DELETE", f"/faults/{self.id}", accepted=(200, 404))

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Dev:
    """A running `instance-connectd dev`."""

    def __init__(self, folder: str | os.PathLike[str], *arguments: str, program: str | None = None):
        """Starts it and waits until it is ready. Its log goes to `folder`. The program is the one named, or the variable
        INSTANCE_CONNECTD, or `instance-connectd` in PATH."""
        named = program or os.environ.get("INSTANCE_CONNECTD") or "instance-connectd"
        found = shutil.which(named)
        if found is None:
            raise DevError(f"there is no {named}: put instance-connectd in PATH, or say in INSTANCE_CONNECTD where it is")
        self.ready_file, self._log = Path(folder) / "ready.json", Path(folder) / "dev.log"
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                [found, "dev", "--ready-file", str(self.ready_file), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.ready: dict[str, Any] = self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        self.endpoint_url: str = self.ready["endpoint_url"]
        self.region: str = self.ready["region"]
        self.account_id: str = self.ready["account_id"]
        self.admin: Credentials = _known(Credentials, self.ready["admin"])
        self.limited: Credentials = _known(Credentials, self.ready["limited"])
        self.instances: list[Instance] = [_known(Instance, instance) for instance in self.ready["instances"]]

    def _wait_until_ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + START
        while not self.ready_file.exists():
            if self._process.poll() is not None:
                raise DevError(f"instance-connectd dev ended:\n{self._log.read_text()}")
            if time.monotonic() > deadline:
                raise DevError(f"instance-connectd dev was not ready within {START} s:\n{self._log.read_text()}")
            time.sleep(0.02)
        return json.loads(self.ready_file.read_text())

    def close(self) -> None:
        """Ends it. It removes everything that it has made."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def environment(self, caller: Credentials | None = None) -> dict[str, str]:
        """Variables that point AWS's SDKs and command lines, and ours, to it: as the administrator, or as this caller."""
        caller = caller or self.admin
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": caller.access_key_id,
            "AWS_SECRET_ACCESS_KEY": caller.secret_access_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Of whoever runs the tests.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "INSTANCE_CONNECT_READY_FILE": str(self.ready_file),
        }
        # Python looks at the second first.
        for name in ("NO_PROXY", "no_proxy"):
            variables[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
        if self.endpoint_url.startswith("https:"):
            variables["AWS_CA_BUNDLE"] = self.ready["ca_file"]
        return variables

    def client(self, service: str = "ec2-instance-connect", caller: Credentials | None = None, **options: Any) -> Any:
        """A boto3 client: the administrator's, or this caller's. Options go to boto3, such as `config`."""
        import boto3

        caller = caller or self.admin
        defaults = {
            "endpoint_url": self.endpoint_url,
            "region_name": self.region,
            "aws_access_key_id": caller.access_key_id,
            "aws_secret_access_key": caller.secret_access_key,
        }
        if self.endpoint_url.startswith("https:"):
            defaults["verify"] = self.ready["ca_file"]
        return boto3.session.Session().client(service, **{**defaults, **options})

    def fault(
        self,
        error: str | None = None,
        *,
        delay: float | None = None,
        clock_offset: int | None = None,
        key_lifetime: int | None = None,
        operation: str | None = None,
        instance: Instance | str | None = None,
        times: int | None = None,
    ) -> Fault:
        """Asks for a fault: one of an error's name, a delay, a clock's offset and a key's lifetime, in seconds. It is for calls of
        this operation and about this instance, so many times; without these for all."""
        asked = {
            "error": error,
            "delay_ms": None if delay is None else round(delay * 1000),
            "clock_offset_seconds": clock_offset,
            "key_lifetime_seconds": key_lifetime,
            "operation": operation,
            "instance": instance.instance_id if isinstance(instance, Instance) else instance,
            "times": times,
        }
        answer = self._ask("POST", "/faults", {name: value for name, value in asked.items() if value is not None})
        return Fault(self, answer["id"])

    def calls(self, operation: str | None = None) -> list[Call]:
        """The last calls that were answered, oldest first: all, or those of an operation."""
        calls = [_known(Call, call) for call in self._ask("GET", "/calls")["calls"]]
        return [call for call in calls if operation in (None, call.operation)]

    def reset(self) -> None:
        """Removes all faults, and forgets the calls."""
        self._ask("DELETE", "/faults")
        self._ask("DELETE", "/calls")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, accepted: tuple[int, ...] = (200, 201)) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.ready["control_url"] + path, content, headers, method=method)
        # Not by a proxy that the environment names: this is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=START) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            answer = json.load(error)
            if error.code in accepted:
                return answer
            raise DevError(answer["error"]) from None
