"""EC2's query API and STS's by AWS's own clients, unmodified: what people and tools look instances up with."""

import http.client
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import sdks
from dev import Dev
from sdks import CLIENTS, Outcome
from system import PATIENCE, run
from wire import Request

UNKNOWN = "i-0fedcba9876543210"
SERVICES = {"GetCallerIdentity": "sts"}


# A client that tries once is told what the first answer said.
ONCE = {"total_max_attempts": 1}


def client(dev, service="ec2", caller="admin", retries=ONCE):
    """A boto3 client."""
    return boto3.client(
        service,
        endpoint_url=dev.endpoint_url,
        region_name=dev.region,
        aws_access_key_id=dev.ready[caller]["access_key_id"],
        aws_secret_access_key=dev.ready[caller]["secret_access_key"],
        config=Config(retries=retries, read_timeout=PATIENCE),
    )


def by_boto3(dev, operation, parameters, caller="admin"):
    called = client(dev, SERVICES.get(operation, "ec2"), caller)
    try:
        answer = called._make_api_call(operation, parameters)
    except ClientError as error:
        details, metadata = error.response["Error"], error.response["ResponseMetadata"]
        headers = metadata["HTTPHeaders"]
        assert metadata["RequestId"] == headers["x-amzn-requestid"]
        return Outcome(headers["x-amzn-requestid"], code=details["Code"], message=details["Message"])
    metadata = answer.pop("ResponseMetadata")
    assert metadata["RequestId"] == metadata["HTTPHeaders"]["x-amzn-requestid"]
    return Outcome(metadata["RequestId"], body=answer)


def by_javascript(dev, operation, parameters, caller="admin"):
    call = sdks.program("node", CLIENTS / "call.js", SERVICES.get(operation, "ec2"))
    outcome = call(dev.environment(caller), operation, parameters)
    return replace(outcome, error_class=None, status=None)


def by_aws_cli(dev, operation, parameters, caller="admin"):
    aws = Path(sys.executable).with_name("aws")
    command = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", operation).lower()
    given = [SERVICES.get(operation, "ec2"), command, "--no-paginate", "--cli-input-json", json.dumps(parameters)]
    done = run(aws, "--debug", *given, check=False, env=dev.environment(caller))
    headers = next(line for line in done.stderr.lower().splitlines() if "response headers" in line)
    request_id = headers.split("'x-amzn-requestid': '")[1].split("'")[0]
    if done.returncode != 0:
        error = re.search(r"^An error occurred \(([\w.]+)\) when calling the \w+ operation: (.*)$", done.stderr, re.MULTILINE)
        return Outcome(request_id, code=error[1], message=error[2])
    return Outcome(request_id, body=json.loads(done.stdout or "{}"))


ASK = {"boto3": by_boto3, "JavaScript": by_javascript, "AWS CLI": by_aws_cli}


@pytest.fixture(params=ASK)
def ask(request):
    """One of the clients, as a function of a `dev`, an operation and its parameters."""
    return ASK[request.param]


@pytest.fixture(scope="module")
def other(tmp_path_factory, os_user):
    """A `dev` whose instances are tagged, stopped and terminated here; some of them have no machine."""
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user, arguments=["--instances-without-machine", "12"])
    yield dev
    dev.close()


def instances(answer):
    return [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]


def on(*found):
    return {"InstanceIds": [instance.id for instance in found]}


def state(code, name):
    return {"Code": code, "Name": name}


def test_who_calls(dev, ask):
    for caller in ("admin", "limited"):
        arn, account = dev.ready[caller]["arn"], dev.ready["account_id"]
        outcome = ask(dev, "GetCallerIdentity", {}, caller)
        assert outcome.body.pop("UserId").startswith("AIDA")
        assert outcome.body == {"Account": account, "Arn": arn}
        [record] = dev.audit(outcome.header_request_id)
        assert record["eventSource"] == "sts.amazonaws.com" and record["readOnly"] is True


def test_an_instance_is_found(dev, ask):
    outcome = ask(dev, "DescribeInstances", on(dev.first))
    [instance] = instances(outcome.body)
    assert instance["InstanceId"] == dev.first.id
    assert instance["PrivateIpAddress"] == dev.first.host
    assert instance["State"] == state(16, "running")
    assert instance["Placement"]["AvailabilityZone"] == f"{dev.region}a"
    assert instance["Tags"] == [{"Key": "Name", "Value": "dev-1"}]
    assert instance["VpcId"].startswith("vpc-") and instance["SubnetId"].startswith("subnet-")
    assert "PublicIpAddress" not in instance
    name = f"ip-{dev.first.host.replace('.', '-')}.{'ec2' if dev.region == 'us-east-1' else f'{dev.region}.compute'}.internal"
    assert instance["PrivateDnsName"] == name and instance["PlatformDetails"] == "Linux/UNIX"
    [interface] = instance["NetworkInterfaces"]
    assert (interface["Attachment"]["DeviceIndex"], interface["Attachment"]["Status"]) == (0, "attached")
    assert interface["PrivateIpAddresses"] == [{"PrivateIpAddress": dev.first.host, "PrivateDnsName": name, "Primary": True}]
    [record] = dev.audit(outcome.header_request_id)
    assert record["eventSource"] == "ec2.amazonaws.com"
    assert record["requestParameters"] == {"instancesSet": {"items": [{"instanceId": dev.first.id}]}}
    assert record["readOnly"] is True and record["responseElements"] is None


def test_instances_are_found_by_what_they_have(dev, ask):
    for name, values, expected in (
        ("tag:Name", ["dev-1"], [dev.first]),
        ("tag:Name", ["dev-?"], [dev.first, dev.second]),
        ("private-ip-address", [dev.second.host], [dev.second]),
        ("private-dns-name", [f"ip-{dev.second.host.replace('.', '-')}.*"], [dev.second]),
        ("network-interface.addresses.private-ip-address", [dev.second.host], [dev.second]),
        ("tenancy", ["default"], [dev.first, dev.second]),
        ("key-name", ["*"], []),
        ("instance-state-name", ["stopped"], []),
        ("tag-key", ["Name"], [dev.first, dev.second]),
    ):
        answer = ask(dev, "DescribeInstances", {"Filters": [{"Name": name, "Values": values}]}).body
        # Other tests have made instances, too.
        found = {found["InstanceId"] for found in instances(answer)} & {it.id for it in dev.instances}
        assert found == {it.id for it in expected}, name


def test_a_long_list_comes_in_parts(other, ask):
    seen, token = [], {}
    while True:
        answer = ask(other, "DescribeInstances", {"MaxResults": 5, **token}).body
        assert len(answer["Reservations"]) <= 5
        seen += [found["InstanceId"] for found in instances(answer)]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert len(seen) == 14 and seen == sorted(set(seen))


def test_the_sdks_own_pages(other):
    pages = client(other).get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
    assert [len(page["Reservations"]) for page in pages] == [5, 5, 4]


def test_types_and_tags_are_described(dev, ask):
    answer = ask(dev, "DescribeInstanceTypes", {"InstanceTypes": ["t3.micro", "m7i.metal-24xl"]}).body
    shown = [(it["InstanceType"], it["BareMetal"], it.get("Hypervisor")) for it in answer["InstanceTypes"]]
    assert shown == [("m7i.metal-24xl", True, None), ("t3.micro", False, "nitro")]
    answer = ask(dev, "DescribeTags", {"Filters": [{"Name": "resource-id", "Values": [dev.first.id]}]}).body
    tag = {"Key": "Name", "ResourceId": dev.first.id, "ResourceType": "instance", "Value": "dev-1"}
    assert answer["Tags"] == [tag]


def test_the_region_is_described(dev, ask):
    region = {"RegionName": dev.region, "Endpoint": dev.address, "OptInStatus": "opt-in-not-required"}
    for asked in ({}, {"AllRegions": True, "RegionNames": [dev.region]}):
        outcome = ask(dev, "DescribeRegions", asked)
        assert outcome.body == {"Regions": [region]}
    [record] = dev.audit(outcome.header_request_id)
    assert record["requestParameters"] == {"regionSet": {"items": [{"regionName": dev.region}]}}
    outcome = ask(dev, "DescribeRegions", {"RegionNames": ["eu-north-9"]})
    assert (outcome.code, outcome.message) == ("InvalidParameterValue", "Invalid region: [eu-north-9]")


def test_tags_are_set_and_taken(other, ask):
    value = "x+y&z=<é> 1"
    set_ = {"Resources": [other.first.id, other.second.id], "Tags": [{"Key": "a b", "Value": value}]}
    outcome = ask(other, "CreateTags", set_)
    intent, record = other.audit(outcome.header_request_id)
    assert intent["eventType"] == "InstanceConnectIntent"
    assert record["requestParameters"]["tagSet"] == {"items": [{"key": "a b", "value": value}]}
    by_value = {"Filters": [{"Name": "tag:a b", "Values": [value]}]}
    found = instances(ask(other, "DescribeInstances", by_value).body)
    assert {it["InstanceId"] for it in found} == {other.first.id, other.second.id}
    ask(other, "DeleteTags", {"Resources": [other.first.id, other.second.id], "Tags": [{"Key": "a b"}]})
    assert instances(ask(other, "DescribeInstances", by_value).body) == []


def test_instances_are_stopped_and_started(other, ask, new_key):
    stopped = ask(other, "StopInstances", on(other.first)).body["StoppingInstances"]
    change = {"CurrentState": state(80, "stopped"), "PreviousState": state(16, "running")}
    assert stopped == [{"InstanceId": other.first.id, **change}]
    with pytest.raises(ClientError, match="must be running"):
        other.push(new_key())
    started = ask(other, "StartInstances", on(other.first)).body["StartingInstances"]
    change = {"CurrentState": state(16, "running"), "PreviousState": state(80, "stopped")}
    assert started == [{"InstanceId": other.first.id, **change}]
    assert other.push(new_key()).login().succeeded


def test_terminated_is_for_good(other, ask):
    running = [it["InstanceId"] for it in instances(by_boto3(other, "DescribeInstances", {}).body) if it["State"]["Name"] == "running"]
    # The tests that follow push to these.
    [*_, last] = [id for id in running if id not in (other.first.id, other.second.id)]
    ids = {"InstanceIds": [last]}
    change = {"CurrentState": state(48, "terminated"), "PreviousState": state(16, "running")}
    assert ask(other, "TerminateInstances", ids).body["TerminatingInstances"] == [{**change, "InstanceId": last}]
    assert ask(other, "StartInstances", ids).code == "IncorrectInstanceState"


def test_the_switch_of_the_serial_console(other, ask, new_key):
    push = {"InstanceId": other.first.id, "SSHPublicKey": new_key().public}
    connect = other.client()
    assert ask(other, "GetSerialConsoleAccessStatus", {}).body == {"ManagedBy": "account", "SerialConsoleAccessEnabled": False}
    with pytest.raises(connect.exceptions.SerialConsoleAccessDisabledException):
        connect.send_serial_console_ssh_public_key(**push)
    assert ask(other, "EnableSerialConsoleAccess", {}).body == {"SerialConsoleAccessEnabled": True}
    assert ask(other, "GetSerialConsoleAccessStatus", {}).body["SerialConsoleAccessEnabled"] is True
    assert connect.send_serial_console_ssh_public_key(**push)["Success"] is True
    assert ask(other, "DisableSerialConsoleAccess", {}).body == {"SerialConsoleAccessEnabled": False}


@pytest.mark.parametrize("mode", ["legacy", "standard"])
def test_what_is_switched_to_and_fro_within_a_second_is_so_in_the_end(other, mode):
    """Two requests that say the same in one second have one signature: clients try the second one again."""
    switch = client(other, retries={"mode": mode})
    for _ in range(3):
        assert switch.enable_serial_console_access()["SerialConsoleAccessEnabled"] is True
        assert switch.get_serial_console_access_status()["SerialConsoleAccessEnabled"] is True
        assert switch.disable_serial_console_access()["SerialConsoleAccessEnabled"] is False
        assert switch.get_serial_console_access_status()["SerialConsoleAccessEnabled"] is False


def test_errors_as_clients_show_them(dev, ask):
    limited, instance = dev.ready["limited"]["arn"], dev.first.id
    arn = f"arn:aws:ec2:{dev.region}:{dev.ready['account_id']}:instance/{instance}"
    denied = f"You are not authorized to perform this operation. User: {limited} is not authorized to perform: "
    why = "because no identity-based policy allows the"
    for operation, parameters, caller, code, message in (
        ("DescribeTags", {}, "limited", "UnauthorizedOperation", f"{denied}ec2:DescribeTags {why} ec2:DescribeTags action"),
        ("StopInstances", {"InstanceIds": [instance]}, "limited", "UnauthorizedOperation", f"{denied}ec2:StopInstances on resource: {arn} {why} ec2:StopInstances action"),
        ("DescribeInstances", {"InstanceIds": [UNKNOWN]}, "admin", "InvalidInstanceID.NotFound", f"The instance ID '{UNKNOWN}' does not exist"),
        ("DescribeInstances", {"InstanceIds": ["x"]}, "admin", "InvalidInstanceID.Malformed", 'Invalid id: "x"'),
        ("DescribeInstances", {"Filters": [{"Name": "nope", "Values": ["x"]}]}, "admin", "InvalidParameterValue", "The filter 'nope' is invalid"),
        ("StopInstances", {"InstanceIds": [instance], "DryRun": True}, "admin", "DryRunOperation", "Request would have succeeded, but DryRun flag is set."),
        ("DescribeVpcs", {}, "admin", "InvalidAction", "The action DescribeVpcs is not valid for this web service."),
    ):
        outcome = ask(dev, operation, parameters, caller)
        assert (outcome.code, outcome.message) == (code, message)


def form(dev, action="DescribeInstances", version="2016-11-15", service="ec2", **changed):
    """A request by hand. The JSON protocol's target is in it, and changes nothing."""
    body = urlencode({"Action": action, "Version": version}).encode()
    changed = {"body": body, "content_type": "application/x-www-form-urlencoded", "service": service, **changed}
    return Request(dev, action, {}, **changed)


def test_what_clients_never_send(dev):
    for request, status, code in (
        (form(dev, authorization=lambda _: None), 403, "MissingAuthenticationToken"),
        (form(dev, key_id="AKIAEXAMPLEEXAMPLE99"), 401, "AuthFailure"),
        (form(dev, secret="x" * 40), 401, "AuthFailure"),
        (form(dev, region="eu-north-9"), 401, "AuthFailure"),
        (form(dev, service="ec2-instance-connect"), 401, "AuthFailure"),
        (form(dev, body=b"Action=DescribeInstances&Action=DescribeTags"), 400, "MalformedQueryString"),
        (form(dev, body=b"%"), 400, "MalformedQueryString"),
        (form(dev, body=b""), 400, "MissingAction"),
        (form(dev, version="2010-01-01"), 400, "NoSuchVersion"),
        (form(dev, body=b"x=" + b"y" * 65536), 413, "RequestEntityTooLarge"),
        (form(dev, "GetCallerIdentity"), 400, "InvalidAction"),
        (form(dev, "GetCallerIdentity", "2011-06-15", "sts", secret="x" * 40), 403, "SignatureDoesNotMatch"),
        (form(dev, "GetCallerIdentity", "2011-06-15", "sts", key_id="AKIAEXAMPLEEXAMPLE99"), 403, "InvalidClientTokenId"),
    ):
        answer = request.send()
        body = answer.body.decode()
        request_id = answer.headers["x-amzn-requestid"]
        assert (answer.status, f"<Code>{code}</Code>" in body, request_id in body) == (status, True, True), body
    expired = form(dev)
    expired.later(minutes=-6)
    assert b"<Code>RequestExpired</Code>" in expired.send().body
    assert form(dev).send().status == 200


def test_a_change_is_not_presigned_for_long(dev):
    """Whoever has seen one that is good for a week could wait for the moment."""
    week = {"X-Amz-Expires": "604800"}
    for action, status in (("DescribeInstances", 200), ("DisableSerialConsoleAccess", 400)):
        presigned = form(dev, action, presigned=week)
        assert presigned.send().status == 200
        presigned.later(minutes=-6)
        answer = presigned.send()
        assert (answer.status, b"<Code>RequestExpired</Code>" in answer.body) == (status, status == 400), answer.body


def test_a_presigned_request_says_who_its_signer_is(dev):
    """Tools prove by it who their user is: whoever holds it asks, and needs no key."""
    url = client(dev, "sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    path = url.removeprefix(dev.endpoint_url)
    for changed, status in ((path, 200), (path.replace("GetCallerIdentity", "GetCallerIdentitz"), 400), (f"{path}&a=b", 403)):
        connection = http.client.HTTPConnection(dev.address, timeout=PATIENCE)
        connection.request("GET", changed)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == status, body
        assert (dev.ready["admin"]["arn"] in body) == (status == 200)
