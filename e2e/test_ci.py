"""What tests of other people's programs have of `dev`: faults on demand, the calls seen, a pytest fixture, an action."""

import json
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from dev import PROGRAMS
from system import eventually, processes_naming, run

CI = Path(__file__).parent.parent / "packaging/ci"


class Control:
    """The control endpoint of a `dev`."""

    def __init__(self, dev):
        self.url = dev.ready["control_url"]

    def ask(self, method, path, body=None, **headers):
        """Status and answer of a request."""
        headers = {"Content-Type": "application/json", **headers}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def fault(self, **members):
        status, answer = self.ask("POST", "/faults", members)
        assert status == 201, answer
        return answer["id"]

    def calls(self):
        return self.ask("GET", "/calls")[1]["calls"]


@pytest.fixture
def control(dev):
    control = Control(dev)
    control.ask("DELETE", "/calls")
    yield control
    control.ask("DELETE", "/faults")


def client(dev, service="ec2-instance-connect", caller="admin", **config):
    """A boto3 client that tries again as it does by itself."""
    ready = dev.ready
    return boto3.client(
        service,
        endpoint_url=dev.endpoint_url,
        region_name=dev.region,
        aws_access_key_id=ready[caller]["access_key_id"],
        aws_secret_access_key=ready[caller]["secret_access_key"],
        config=Config(**config),
    )


def push(client, instance, key):
    return client.send_ssh_public_key(InstanceId=instance.id, InstanceOSUser=instance.os_user, SSHPublicKey=key.public)


def test_a_client_tries_again_on_throttling(dev, control, new_key):
    fault = control.fault(error="ThrottlingException", operation="SendSSHPublicKey", instance=dev.first.id, times=2)
    answer = push(client(dev, retries={"mode": "standard"}), dev.first, new_key())
    assert answer["Success"] and answer["ResponseMetadata"]["RetryAttempts"] == 2
    calls = control.calls()
    assert [call["error"] for call in calls] == ["ThrottlingException", "ThrottlingException", None]
    assert [call["status"] for call in calls] == [400, 400, 200]
    assert [call["faults"] for call in calls] == [[fault], [fault], []]
    assert [call["number"] for call in calls] == sorted(call["number"] for call in calls)
    assert calls[0]["at_ms"] <= calls[1]["at_ms"] <= calls[2]["at_ms"]
    for call in calls:
        assert call["operation"] == "SendSSHPublicKey" and call["instance_id"] == dev.first.id
        assert call["caller"] == dev.ready["admin"]["arn"]
        assert call["access_key_id"] == dev.ready["admin"]["access_key_id"]
    assert calls[2]["request_id"] == answer["RequestId"]


def test_every_modelled_error_is_had_by_name(dev, control, new_key):
    once, key = client(dev, retries={"total_max_attempts": 1}), new_key()
    names = [shape.name for shape in once.meta.service_model.error_shapes]
    assert len(names) == 12
    for name in names:
        control.fault(error=name, times=1)
        with pytest.raises(getattr(once.exceptions, name)) as raised:
            push(once, dev.first, key)
        assert raised.value.response["Error"]["Message"]
    assert push(once, dev.first, key)["Success"]


def test_errors_of_ec2_by_the_names_that_it_has(dev, control):
    """Each protocol has its own: what a push is told is nothing that EC2 says."""
    ec2 = client(dev, "ec2", retries={"mode": "standard"})
    control.fault(error="RequestLimitExceeded", operation="DescribeInstances", times=2)
    assert ec2.describe_instances()["ResponseMetadata"]["RetryAttempts"] == 2
    calls = control.calls()
    assert [(call["service"], call["operation"], call["error"]) for call in calls] == [
        ("ec2", "DescribeInstances", "RequestLimitExceeded"),
        ("ec2", "DescribeInstances", "RequestLimitExceeded"),
        ("ec2", "DescribeInstances", None),
    ]
    waiting = control.fault(error="ThrottlingException", times=1)
    control.fault(error="InvalidInstanceID.NotFound", operation="ec2:StopInstances", instance=dev.second.id, times=1)
    with pytest.raises(ClientError, match=f"{dev.second.id}' does not exist"):
        ec2.stop_instances(InstanceIds=[dev.second.id])
    assert control.calls()[-1]["instance_id"] == dev.second.id
    assert client(dev, "sts").get_caller_identity()["Account"] == dev.ready["account_id"]
    # Nothing was done, and what EC2 does not say still waits for a push.
    [described] = ec2.describe_instances(InstanceIds=[dev.second.id])["Reservations"]
    assert described["Instances"][0]["State"]["Name"] == "running"
    assert [fault["id"] for fault in control.ask("GET", "/faults")[1]["faults"]] == [waiting]


def test_a_call_that_comes_too_late(dev, control, new_key):
    control.fault(delay_ms=60_000, times=1)
    with pytest.raises(ReadTimeoutError):
        push(client(dev, read_timeout=0.2, retries={"total_max_attempts": 1}), dev.first, new_key())


def test_a_clock_that_is_off(dev, control, new_key):
    control.fault(clock_offset_seconds=-3600, times=1)
    once, key = client(dev, retries={"total_max_attempts": 1}), new_key()
    with pytest.raises(ClientError) as raised:
        push(once, dev.first, key)
    error = raised.value.response["Error"]
    assert error["Code"] == "InvalidSignatureException" and error["Message"].startswith("Signature not yet current: ")
    assert push(once, dev.first, key)["Success"]


def test_a_key_that_ends_soon(dev, control, new_key):
    """Its agent and its sshd hold it to that, as to the minute that it has otherwise."""
    control.fault(key_lifetime_seconds=1, times=1)
    key = new_key()
    pushed = dev.push(key)
    expired = pushed.instance.key_file(key)
    eventually(lambda: not expired.exists(), "the key is gone")
    assert pushed.login().refused
    assert dev.push(key).login().succeeded


def test_who_may_not_ask(dev, control):
    allowed = {"delay_ms": 1}
    assert control.ask("POST", "/faults", allowed, Origin="http://evil.example")[0] == 403
    assert control.ask("POST", "/faults", allowed, Host="evil.example")[0] == 403
    assert control.ask("GET", "/faults") == (200, {"faults": []})
    status, answer = control.ask("POST", "/faults", {"error": "Throttled"})
    assert status == 400 and '"Throttled". There are AuthException, ' in answer["error"]
    status, answer = control.ask("POST", "/faults", {"error": "AuthException", "instance": "x" * 5000})
    assert status == 400 and "4096 bytes" in answer["error"]


def test_a_dev_that_begins_with_a_fault(new_dev, new_key):
    dev = new_dev(arguments=["--fault", "error=AuthException,times=1"])
    with pytest.raises(ClientError, match="AuthException"):
        dev.push(new_key())
    assert dev.push(new_key()).body["Success"]
    done = run(PROGRAMS / "instance-connectd", "dev", "--fault", "error=Auth", check=False)
    assert done.returncode == 2 and "There are AuthException, " in done.stderr


@pytest.fixture(scope="session")
def pytest_package(tmp_path_factory):
    """Where pip has put the package, without a network and from a copy, so that nothing is written beside its source."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(CI / "python", folder / "source")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    run(*words, "--no-build-isolation", "--no-deps", "--target", folder / "installed", folder / "source")
    return folder / "installed"


def run_tests(package, folder, *arguments, **variables):
    """pytest as somebody else has it: with the package, and with nothing of ours."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    environment |= {"PYTHONPATH": str(package), "INSTANCE_CONNECTD": str(PROGRAMS / "instance-connectd"), **variables}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, *arguments, folder]
    return run(*words, check=False, env=environment, cwd=folder)


def test_tests_of_somebody_elses_tool(pytest_package, tmp_path):
    shutil.copytree(CI / "python/examples", tmp_path / "tests")
    done = run_tests(pytest_package, tmp_path / "tests")
    print(done.stdout)
    tests = (CI / "python/examples/test_tool.py").read_text().count("\ndef test_")
    assert done.returncode == 0 and re.search(rf"\b{tests} passed in", done.stdout), done.stdout + done.stderr


def test_the_fixture_keeps_tests_apart(pytest_package, tmp_path, new_key):
    (tmp_path / "pytest.ini").write_text("[pytest]\ninstance_connect_arguments = --instances 1 --region eu-west-1\n")
    (tmp_path / "test_it.py").write_text(
        """
import os

def test_first(instance_connect):
    assert len(instance_connect.instances) == 1 and os.environ["AWS_REGION"] == "eu-west-1"
    assert "AWS_PROFILE" not in os.environ and os.environ["AWS_ACCESS_KEY_ID"] == instance_connect.admin.access_key_id
    instance_connect.fault("ServiceException")

def test_second(instance_connect):
    assert instance_connect.calls() == []
    instance = instance_connect.instances[0]
    named = {"InstanceId": instance.instance_id, "InstanceOSUser": instance.os_user}
    assert instance_connect.client().send_ssh_public_key(SSHPublicKey="%s", **named)["Success"]

def test_without():
    assert os.environ["AWS_PROFILE"] == "theirs"
"""
        % new_key().public
    )
    done = run_tests(pytest_package, tmp_path, "--basetemp", tmp_path / "base", AWS_PROFILE="theirs")
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
    assert not processes_naming(str(tmp_path))


def test_a_program_that_is_not_there_is_said(pytest_package, tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(instance_connect): pass")
    done = run_tests(pytest_package, tmp_path, INSTANCE_CONNECTD="nothing")
    assert done.returncode == 1 and "there is no nothing: put instance-connectd in PATH" in done.stdout


class Job:
    """A job of a runner that takes actions of shell steps, as GitHub's does."""

    def __init__(self, folder):
        self.folder, self.environment, self.said = folder, {}, ""

    def use(self, action, **inputs):
        """Runs an action's steps. Gives its status and outputs."""
        described = yaml.safe_load((action / "action.yml").read_text())
        assert described["runs"]["using"] == "composite"
        values = {f"inputs.{name}": given["default"] for name, given in described.get("inputs", {}).items()}
        values |= {f"inputs.{name}": value for name, value in inputs.items()}

        def filled_in(text):
            return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda name: values[name[1]], text)

        for step in described["runs"]["steps"]:
            assert step["shell"] == "bash" and "${{" not in step["run"]
            files = {name: self.folder / name for name in ("GITHUB_ENV", "GITHUB_OUTPUT")}
            for file in files.values():
                file.write_text("")
            variables = {name: filled_in(value) for name, value in step.get("env", {}).items()}
            paths = {"RUNNER_TEMP": self.folder, "GITHUB_ACTION_PATH": action, **files}
            environment = {**os.environ, **self.environment, **variables}
            environment |= {name: str(path) for name, path in paths.items()}
            done = run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], check=False, env=environment)
            self.said += done.stdout + done.stderr
            if done.returncode != 0:
                return done.returncode, {}
            self.environment |= pairs(files["GITHUB_ENV"])
            values |= {f"steps.{step.get('id')}.outputs.{name}": value for name, value in pairs(files["GITHUB_OUTPUT"]).items()}
        return 0, {name: filled_in(output["value"]) for name, output in described.get("outputs", {}).items()}


def pairs(file):
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_the_action(tmp_path, new_key):
    job, key = Job(tmp_path), new_key()
    # As a step before has left them that took a role of somebody's account.
    job.environment |= {"AWS_ACCESS_KEY_ID": "ASIAEXAMPLEEXAMPLE01", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "y"}
    try:
        job.environment["AWS_PROFILE"] = "somebodys"
        status, outputs = job.use(
            CI / "action",
            program=str(PROGRAMS / "instance-connectd"),
            instances="1",
            region="eu-west-1",
            faults="error=AuthException,times=1\ndelay_ms=1\n",
        )
        assert status == 0, job.said
        ready = json.loads(Path(outputs["ready-file"]).read_text())
        assert [instance["instance_id"] for instance in ready["instances"]] == [outputs["instance-id"]]
        assert outputs["endpoint-url"] == ready["endpoint_url"] and outputs["control-url"] == ready["control_url"]
        assert "::warning::AWS_PROFILE is set" in job.said
        del job.environment["AWS_PROFILE"]
        assert f"::add-mask::{ready['admin']['secret_access_key']}\n" in job.said
        # A step that follows.
        words = ["aws", "ec2-instance-connect", "send-ssh-public-key", "--instance-id", outputs["instance-id"]]
        words += ["--instance-os-user", ready["instances"][0]["os_user"], "--ssh-public-key", key.public]
        words[0] = Path(sys.executable).with_name("aws")
        environment = {**os.environ, **job.environment}
        refused = run(*words, check=False, env=environment)
        assert refused.returncode != 0 and "AuthException" in refused.stderr
        assert json.loads(run(*words, env=environment).stdout)["Success"]
        assert job.use(CI / "action", program=str(PROGRAMS / "instance-connectd"))[0] == 1
        assert "::error::it was started already in this job" in job.said
    finally:
        status, _ = job.use(CI / "action/stop")
    assert status == 0 and not Path(outputs["ready-file"]).parent.exists(), job.said
    assert not processes_naming(str(Path(outputs["ready-file"]).parent))


def test_an_action_that_fails_says_why(tmp_path):
    daemon = str(PROGRAMS / "instance-connectd")
    for inputs, said in [
        ({"program": "nothing"}, "::error::there is no nothing: install it in a step before this one"),
        ({"program": daemon, "faults": "error=Auth"}, "There are AuthException, "),
        ({"program": daemon, "region": "$(touch here)"}, "error: invalid value '$(touch here)' for '--region <NAME>'"),
    ]:
        job = Job(tmp_path)
        assert job.use(CI / "action", **inputs)[0] == 1
        assert said in job.said, job.said
        assert job.use(CI / "action/stop")[0] == 0
        assert "Instance Connect" in job.said.splitlines()[-1] and not (tmp_path / "here").exists()
