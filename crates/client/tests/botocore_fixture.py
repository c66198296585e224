#!/usr/bin/env python3
"""What botocore sends, how it reads its files and when it tries again, for the Rust tests to compare with.

    botocore_fixture.py            writes botocore_fixture.json next to this file
    botocore_fixture.py --check    fails when that file is not what the installed botocore makes

Made with botocore 1.44.5. Time is frozen, nothing is sent, and neither the caller's environment nor home is read.
"""

import base64
import datetime
import functools
import itertools
import json
import os
import pathlib
import sys
import tempfile
from unittest import mock

import botocore.auth
import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError
from botocore.retries.standard import ExponentialBackoff

FIXTURE = pathlib.Path(__file__).with_suffix(".json")

NOW = datetime.datetime(2026, 3, 1, 12, 34, 56)

# The example key of AWS's own documentation.
ACCESS_KEY_ID = "AKIDEXAMPLE"
SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJGMEQCIB+token/with=base64=="


def wire_string(data):
    return len(data).to_bytes(4, "big") + data


def public_key(name, *fields):
    blob = b"".join(wire_string(field) for field in (name.encode(), *fields))
    return f"{name} {base64.b64encode(blob).decode()}"


# Numbers of the right shape and size; nobody has the private halves.
ED25519 = public_key("ssh-ed25519", bytes(range(32)))
RSA = public_key("ssh-rsa", b"\x01\x00\x01", b"\x00\xc5" + bytes(i % 256 for i in range(255)))

INSTANCE = "i-0123456789abcdef0"

PUSH = {"InstanceId": INSTANCE, "InstanceOSUser": "ec2-user", "SSHPublicKey": ED25519}
SERIAL = {"InstanceId": INSTANCE, "SSHPublicKey": ED25519}


def push_case(name, changes=None, **rest):
    return {"name": name, "operation": "SendSSHPublicKey", "parameters": {**PUSH, **(changes or {})}, **rest}


def serial_case(name, parameters, **rest):
    return {"name": name, "operation": "SendSerialConsoleSSHPublicKey", "parameters": parameters, **rest}


REQUESTS = [
    push_case("ed25519"),
    push_case("rsa", {"SSHPublicKey": RSA}),
    push_case("availability zone", {"AvailabilityZone": "us-east-1a"}),
    push_case("session token", session_token=SESSION_TOKEN),
    push_case("comment", {"SSHPublicKey": ED25519 + " me@host"}),
    push_case("trailing newline", {"SSHPublicKey": ED25519 + "\n"}),
    push_case("comment to escape", {"SSHPublicKey": ED25519 + ' Zoë\t"C:\\Users\\z" 日本 😀 \x7f\x01/'}),
    push_case("odd user", {"InstanceOSUser": "9.a@b$"}),
    push_case("other region", region="eu-central-1"),
    push_case("port in the endpoint", endpoint_url="http://127.0.0.1:8080"),
    push_case("the scheme's own port", endpoint_url="https://localhost:443"),
    push_case("path in the endpoint", endpoint_url="https://example.com/base/a%20b//./c"),
    push_case("path with a slash", endpoint_url="https://example.com/base/"),
    push_case("capitals in the endpoint", endpoint_url="https://EXAMPLE.com:8443"),
    push_case("ipv6 endpoint", endpoint_url="http://[::1]:8080"),
    serial_case("serial port 0", {"InstanceId": INSTANCE, "SerialPort": 0, "SSHPublicKey": ED25519}),
    serial_case("no serial port", SERIAL),
    serial_case("serial with a token", SERIAL, session_token=SESSION_TOKEN),
]

KEYS = "aws_access_key_id = {0}_ID\naws_secret_access_key = {0}_SECRET\n"
FILE_KEYS = KEYS.format("FILE")

CONFIGS = [
    {"name": "default profile", "credentials": "[default]\n" + FILE_KEYS, "config": "[default]\nregion = eu-west-1\n"},
    {"name": "variables", "variables": {
        "AWS_ACCESS_KEY_ID": "ENV_ID", "AWS_SECRET_ACCESS_KEY": "ENV_SECRET", "AWS_SESSION_TOKEN": "ENV_TOKEN",
        "AWS_DEFAULT_REGION": "ap-south-1"}, "credentials": "[default]\n" + FILE_KEYS},
    {"name": "older name of the token", "variables": {
        "AWS_ACCESS_KEY_ID": "ENV_ID", "AWS_SECRET_ACCESS_KEY": "ENV_SECRET", "AWS_SECURITY_TOKEN": "OLD",
        "AWS_SESSION_TOKEN": "NEW"}},
    {"name": "half of a key in variables", "variables": {"AWS_ACCESS_KEY_ID": "ENV_ID"},
     "credentials": "[default]\n" + FILE_KEYS},
    {"name": "secret without id in variables", "variables": {"AWS_SECRET_ACCESS_KEY": "ENV_SECRET"},
     "credentials": "[default]\n" + FILE_KEYS},
    {"name": "chosen profile beats variables", "profile": "a", "variables": {
        "AWS_ACCESS_KEY_ID": "ENV_ID", "AWS_SECRET_ACCESS_KEY": "ENV_SECRET"}, "credentials": "[a]\n" + FILE_KEYS},
    {"name": "variables beat a profile in a variable", "variables": {
        "AWS_ACCESS_KEY_ID": "ENV_ID", "AWS_SECRET_ACCESS_KEY": "ENV_SECRET", "AWS_PROFILE": "a"},
     "credentials": "[a]\n" + FILE_KEYS},
    {"name": "profile in a variable", "variables": {"AWS_PROFILE": "a"}, "credentials": "[a]\n" + FILE_KEYS},
    {"name": "older variable for the profile", "variables": {"AWS_DEFAULT_PROFILE": "a", "AWS_PROFILE": "b"},
     "credentials": "[a]\n" + KEYS.format("A") + "[b]\n" + KEYS.format("B")},
    {"name": "no such profile", "profile": "b", "credentials": "[a]\n" + FILE_KEYS},
    {"name": "default named but missing", "profile": "default", "credentials": "[a]\n" + FILE_KEYS},
    {"name": "keys in the config file", "profile": "a",
     "config": "[profile a]\nregion = eu-west-1\naws_session_token = FILE_TOKEN\n" + FILE_KEYS},
    {"name": "credentials file before config file", "profile": "a",
     "config": "[profile a]\nregion = eu-west-1\n" + KEYS.format("CONFIG"),
     "credentials": "[a]\nregion = eu-west-2\n" + FILE_KEYS},
    {"name": "half of a key in the credentials file", "credentials": "[default]\naws_access_key_id = FILE_ID\n",
     "config": "[default]\n" + FILE_KEYS},
    {"name": "secret without id in the credentials file",
     "credentials": "[default]\naws_secret_access_key = OTHER\n", "config": "[default]\n" + FILE_KEYS},
    {"name": "profile prefix is not for the credentials file", "profile": "a",
     "credentials": "[profile a]\n" + FILE_KEYS},
    {"name": "section without prefix is no profile", "profile": "a", "config": "[a]\n" + FILE_KEYS},
    {"name": "quoted profile", "profile": "a b", "config": "[profile \"a b\"]\nregion = eu-west-1\n" + FILE_KEYS},
    {"name": "default with prefix", "config": "[profile default]\nregion = eu-west-1\n" + FILE_KEYS},
    {"name": "no files", "profile": None},
    {"name": "files elsewhere", "variables": {
        "AWS_CONFIG_FILE": "~/elsewhere/config", "AWS_SHARED_CREDENTIALS_FILE": "~/elsewhere/credentials"},
     "files": {"elsewhere/config": "[default]\nregion = eu-west-1\n",
               "elsewhere/credentials": "[default]\n" + FILE_KEYS}},
    {"name": "spelling", "config": "\n# c\n; c\n[default]\r\nREGION : eu-west-1  \nAws_Access_Key_Id=FILE_ID\n"
     "aws_secret_access_key = a#b ;c = d:e\n"},
    {"name": "indented file", "config": "  [default]\n  region = eu-west-1\n" + "  aws_access_key_id = FILE_ID\n"
     "  aws_secret_access_key = FILE_SECRET\n"},
    {"name": "doubled section", "config": "[default]\nregion = eu-west-1\n[default]\n" + FILE_KEYS},
    {"name": "doubled key", "config": "[default]\nregion = eu-west-1\nregion = eu-west-2\n" + FILE_KEYS},
    {"name": "key without section", "config": "region = eu-west-1\n[default]\n" + FILE_KEYS},
    {"name": "line without equals sign", "config": "[default]\nregion\n" + FILE_KEYS},
    {"name": "ca bundle", "config": "[default]\nca_bundle = /etc/ca.pem\n" + FILE_KEYS},
    {"name": "ca bundle in a variable", "variables": {"AWS_CA_BUNDLE": "/etc/env.pem"},
     "config": "[default]\nca_bundle = /etc/ca.pem\n" + FILE_KEYS},
]

ENDPOINT_PROFILE = (
    "[default]\nservices = mine\nendpoint_url = http://127.0.0.1:5\n" + FILE_KEYS
    + "[services mine]\nec2 =\n  endpoint_url = http://127.0.0.1:4\n"
    "ec2_instance_connect =\n  # c\n\n  endpoint_url = http://127.0.0.1:3\n  other = x\n"
)
SERVICE_VARIABLE = {"AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": "http://127.0.0.1:1"}
COMMON_VARIABLE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:2"}

CONFIGS += [
    {"name": "endpoint: none", "config": "[default]\n" + FILE_KEYS},
    {"name": "endpoint: service variable", "config": ENDPOINT_PROFILE,
     "variables": {**SERVICE_VARIABLE, **COMMON_VARIABLE}},
    {"name": "endpoint: common variable", "config": ENDPOINT_PROFILE, "variables": COMMON_VARIABLE},
    {"name": "endpoint: services section", "config": ENDPOINT_PROFILE},
    {"name": "endpoint: profile", "config": ENDPOINT_PROFILE.replace("ec2_instance_connect =", "other =")},
    {"name": "endpoint: missing services section", "config": "[default]\nservices = mine\n" + FILE_KEYS},
    {"name": "endpoint: ignored by a variable", "config": ENDPOINT_PROFILE,
     "variables": {**COMMON_VARIABLE, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}},
    {"name": "endpoint: ignored by the profile", "variables": COMMON_VARIABLE,
     "config": "[default]\nignore_configured_endpoint_urls = true\n" + FILE_KEYS},
    {"name": "endpoint: not ignored by other words", "config": ENDPOINT_PROFILE,
     "variables": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "1"}},
    {"name": "endpoint: fips", "config": "[default]\n" + FILE_KEYS, "variables": {"AWS_USE_FIPS_ENDPOINT": "true"}},
    {"name": "endpoint: dual stack", "config": "[default]\nuse_dualstack_endpoint = true\n" + FILE_KEYS},
    {"name": "endpoint: fips and custom", "config": "[default]\n" + FILE_KEYS,
     "variables": {"AWS_USE_FIPS_ENDPOINT": "true", **COMMON_VARIABLE}},
    {"name": "endpoint: fips and dual stack", "config":
     "[default]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n" + FILE_KEYS},
]

REGIONS = [
    "us-east-1", "eu-west-3", "mx-central-1", "xx-new-9", "local", "cn-north-1", "cn-nowhere", "us-gov-west-1",
    "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1", "us-isof-south-1",
]
CONFIGS += [
    {"name": f"endpoint: {region}{name}", "config": f"[default]\nregion = {region}\n{extra}" + FILE_KEYS}
    for region in REGIONS
    for name, extra in [("", ""), (", dual stack", "use_dualstack_endpoint = true\n")]
    # For these two, older data in botocore stands in the way of what its endpoint rules say.
    if not (extra and region in ("eu-isoe-west-1", "us-isof-south-1"))
]


ISSUED = '{"Version": 1, "AccessKeyId": "P_ID", "SecretAccessKey": "P_SECRET"}'


def process(command, **rest):
    return {"config": f"[default]\ncredential_process = {command}\n", **rest}


CONFIGS += [
    {"name": "process", **process(f"echo '{ISSUED}'")},
    {"name": "process: token and expiration", **process("echo '" + ISSUED.replace(
        "}", ', "SessionToken": "P_TOKEN", "Expiration": "2099-01-02T03:04:05+06:00", "Other": 1}') + "'")},
    {"name": "process: nulls", **process("echo '" + ISSUED.replace(
        "}", ', "SessionToken": null, "Expiration": null}') + "'")},
    {"name": "process: double quotes", **process(json.dumps("echo") + " " + json.dumps(ISSUED))},
    {"name": "process: a shell of its own", **process(f"sh -c 'echo \"$0\"' '{ISSUED}'")},
    {"name": "process: escaped blanks", **process("echo " + "".join(
        "\\" + c if c in ' "{}' else c for c in ISSUED))},
    {"name": "process: nothing is expanded", **process("echo '" + ISSUED.replace("P_ID", "$HOME") + "'")},
    {"name": "process: no shell runs it", **process(f"echo '{ISSUED}' | cat")},
    {"name": "process: nothing begins a comment", **process(f"echo '{ISSUED}' # comment")},
    {"name": "process: before keys of the config file", "config":
     f"[default]\ncredential_process = echo '{ISSUED}'\n" + FILE_KEYS},
    {"name": "process: after keys of the credentials file", **process(f"echo '{ISSUED}'"),
     "credentials": "[default]\n" + FILE_KEYS},
    {"name": "process: in the credentials file", "credentials":
     f"[default]\ncredential_process = echo '{ISSUED}'\n"},
    {"name": "process: after variables", **process("false"), "variables": {
        "AWS_ACCESS_KEY_ID": "ENV_ID", "AWS_SECRET_ACCESS_KEY": "ENV_SECRET"}},
    {"name": "process: fails", **process("false")},
    {"name": "process: does not exist", **process("/nowhere/at/all")},
    {"name": "process: no JSON", **process("echo hello")},
    {"name": "process: other version", **process("echo '" + ISSUED.replace("1", "2") + "'")},
    {"name": "process: version in quotes", **process("echo '" + ISSUED.replace("1", '"1"') + "'")},
    {"name": "process: no version", **process("echo '" + ISSUED.replace('"Version": 1, ', "") + "'")},
    {"name": "process: no secret", **process("echo '{\"Version\": 1, \"AccessKeyId\": \"P_ID\"}'")},
    {"name": "process: has expired", **process("echo '" + ISSUED.replace(
        "}", ', "SessionToken": "P_TOKEN", "Expiration": "2020-01-02T03:04:05Z"}') + "'")},
    {"name": "process: not a time", **process("echo '" + ISSUED.replace("}", ', "Expiration": "soon"}') + "'")},
    {"name": "process: open quote", **process("echo 'a")},
]

CONFIGS += [
    {"name": "retries: from variables", "config": "[default]\nmax_attempts = 9\nretry_mode = adaptive\n" + FILE_KEYS,
     "variables": {"AWS_MAX_ATTEMPTS": "5", "AWS_RETRY_MODE": "standard"}},
    {"name": "retries: from the profile", "config": "[default]\nmax_attempts = 2\nretry_mode = adaptive\n" + FILE_KEYS},
    {"name": "retries: legacy", "config": "[default]\nmax_attempts = 2\nretry_mode = legacy\n" + FILE_KEYS},
    {"name": "retries: none", "config": "[default]\nmax_attempts = 1\n" + FILE_KEYS},
    {"name": "retries: less than one", "config": "[default]\nmax_attempts = 0\n" + FILE_KEYS},
    {"name": "retries: no number", "config": "[default]\nmax_attempts = many\n" + FILE_KEYS},
    {"name": "retries: no mode", "config": "[default]\nretry_mode = fast\n" + FILE_KEYS},
    {"name": "retries: a mode in capitals", "config": "[default]\nretry_mode = Standard\n" + FILE_KEYS},
]

SUCCESS = {"status": 200, "body": '{"RequestId": "id", "Success": true}'}
BROKEN_OFF = None


def failure(code, status=400, **headers):
    return {"status": status, "body": json.dumps({"__type": code, "message": "m"}), "headers": headers}


def page(status, **headers):
    return {"status": status, "body": "<html>no</html>", "headers": headers}


def after(**milliseconds_or_seconds):
    return {name.replace("_", "-"): value for name, value in milliseconds_or_seconds.items()}


THROTTLED = failure("ThrottlingException")

# The answers of a server, begun again when they have all been given; calls are made one after another by one client.
CALLS = [
    {"name": "success", "answers": [SUCCESS]},
    {"name": "throttled twice", "answers": [THROTTLED, THROTTLED, SUCCESS]},
    {"name": "throttled at half the longest pause", "answers": [THROTTLED, THROTTLED, SUCCESS], "random": 0.5},
    {"name": "throttled for good", "answers": [THROTTLED]},
    {"name": "throttled, many attempts", "answers": [THROTTLED], "max_attempts": 8},
    {"name": "one attempt", "answers": [THROTTLED], "max_attempts": 1},
    {"name": "broken off", "answers": [BROKEN_OFF, SUCCESS]},
    {"name": "broken off for good", "answers": [BROKEN_OFF]},
    {"name": "many attempts", "answers": [page(500)], "max_attempts": 12},
    {"name": "kinds change", "answers": [page(502), THROTTLED, BROKEN_OFF, page(504), SUCCESS], "max_attempts": 5},
    {"name": "retry after milliseconds", "answers": [page(503, **after(x_amz_retry_after="1500")), SUCCESS]},
    {"name": "retry after less", "answers": [page(503, **after(x_amz_retry_after="0")), SUCCESS]},
    {"name": "retry after too long", "answers": [page(503, **after(x_amz_retry_after="60000")), SUCCESS]},
    {"name": "retry after nonsense", "answers": [page(503, **after(x_amz_retry_after="soon")), SUCCESS]},
    {"name": "retry after when throttled", "answers": [
        {**THROTTLED, "headers": after(x_amz_retry_after="2500")}, SUCCESS]},
    {"name": "quota runs dry", "answers": [page(500)], "calls": 20},
    {"name": "quota runs dry when throttled", "answers": [THROTTLED], "calls": 52},
    {"name": "quota is given back", "answers": [page(500), page(500), SUCCESS], "calls": 40},
    {"name": "quota comes back with successes", "answers": [page(500)] * 3 + [SUCCESS], "calls": 45},
]
CALLS += [
    {"name": f"status {status}", "answers": [page(status)]}
    for status in (307, 400, 403, 404, 408, 413, 429, 500, 501, 502, 503, 504, 509, 599)
]
CALLS += [
    {"name": code, "answers": [failure(code, 500 if fault else 400)]}
    for code, fault in [
        ("AuthException", False), ("EC2InstanceNotFoundException", False), ("EC2InstanceStateInvalidException", False),
        ("EC2InstanceTypeInvalidException", False), ("EC2InstanceUnavailableException", False),
        ("InvalidArgsException", False), ("SerialConsoleAccessDisabledException", False),
        ("SerialConsoleSessionLimitExceededException", False), ("SerialConsoleSessionUnavailableException", True),
        ("SerialConsoleSessionUnsupportedException", False), ("ServiceException", True),
        ("Throttling", False), ("ThrottledException", False), ("RequestThrottled", False),
        ("RequestThrottledException", False), ("RequestLimitExceeded", False), ("TooManyRequestsException", False),
        ("LimitExceededException", False), ("BandwidthLimitExceeded", False),
        ("ProvisionedThroughputExceededException", False), ("TransactionInProgressException", False),
        ("PriorRequestNotComplete", False), ("EC2ThrottledException", False), ("SlowDown", False),
        ("RequestTimeout", False), ("RequestTimeoutException", False), ("AccessDeniedException", False),
        ("UnrecognizedClientException", False), ("InternalFailure", True), ("SomethingNew", False),
    ]
]
CALLS += [
    {"name": "modelled, with the status of throttling", "answers": [failure("EC2InstanceUnavailableException", 429)]},
    {"name": "modelled, with a status to retry", "answers": [failure("EC2InstanceUnavailableException", 503)]},
    {"name": "unknown, with the status of throttling", "answers": [failure("SomethingNew", 429)]},
]


def isolated(variables, home):
    environment = {"HOME": home, "PATH": os.environ.get("PATH", ""), "AWS_EC2_METADATA_DISABLED": "true", **variables}
    return mock.patch.dict(os.environ, environment, clear=True)


def capture(client, operation, parameters):
    """The request botocore would send, as it stands after signing."""
    seen = {}

    def keep(request, **_):
        seen["request"] = request
        return AWSResponse(request.url, 200, {}, mock.Mock(stream=lambda *_: [b"{}"]))

    client.meta.events.register("before-send.ec2-instance-connect", keep)
    name = {api: method for method, api in client.meta.method_to_api_mapping.items()}[operation]
    with mock.patch("botocore.auth.get_current_datetime", lambda *_, **__: NOW):
        getattr(client, name)(**parameters)
    return seen["request"]


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def request_case(case):
    session = botocore.session.Session()
    client = session.create_client(
        "ec2-instance-connect",
        region_name=case.get("region", "us-east-1"),
        endpoint_url=case.get("endpoint_url"),
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        aws_session_token=case.get("session_token"),
        # The model's limits are not what is compared here.
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )
    request = capture(client, case["operation"], case["parameters"])
    headers = {name.lower(): text(value) for name, value in request.headers.items()}
    url = botocore.auth.urlsplit(request.url)
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    headers.setdefault("host", botocore.auth._host_from_url(request.url))
    return {
        **case,
        "method": request.method,
        "target": url.path + ("?" + url.query if url.query else ""),
        "headers": {name: headers[name] for name in sorted([*signed, "authorization"])},
        "body": text(request.body),
    }


def config_case(case):
    with tempfile.TemporaryDirectory() as home:
        files = {".aws/config": case.get("config"), ".aws/credentials": case.get("credentials"),
                 **case.get("files", {})}
        for name, content in files.items():
            if content is not None:
                path = pathlib.Path(home, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode())
        with isolated(case.get("variables", {}), home):
            return {**case, "found": configuration(case.get("profile"))}


def configuration(profile):
    """What a client made now would use, or None where botocore makes none."""
    try:
        session = botocore.session.Session(profile=profile)
        credentials = session.get_credentials()
        region = session.get_config_variable("region")
        client = session.create_client("ec2-instance-connect", region_name=region or "us-east-1")
        request = capture(client, "SendSSHPublicKey", PUSH)
    # Not every mistake has an exception of its own there.
    except (BotoCoreError, OSError, RuntimeError, ValueError):
        return None
    retries = client.meta.config.retries
    return {
        "region": region,
        "endpoint_url": request.url,
        "access_key_id": credentials.access_key,
        "secret_access_key": credentials.secret_key,
        "session_token": credentials.token,
        "ca_bundle": session.get_config_variable("ca_bundle"),
        "max_attempts": retries.get("total_max_attempts", 3),
        "retry_mode": retries["mode"],
    }


def call_case(case, session):
    """What one client does with these answers: of each call the pauses between attempts, and how it ended."""
    answers = itertools.cycle(case["answers"])

    def answer(request, **_):
        given = next(answers)
        if given is BROKEN_OFF:
            raise ConnectionClosedError(endpoint_url=request.url, request=request, error=None)
        body = mock.Mock(stream=lambda *_: [given["body"].encode()])
        return AWSResponse(request.url, given["status"], given.get("headers", {}), body)

    def call():
        pauses = []
        with mock.patch("time.sleep", pauses.append):
            try:
                outcome = "Success" if client.send_ssh_public_key(**PUSH)["Success"] else ""
            except ClientError as error:
                outcome = error.response["Error"]["Code"]
            except ConnectionClosedError:
                outcome = "ConnectionClosed"
        return {"pauses": pauses, "outcome": outcome}

    fixed = functools.partialmethod(ExponentialBackoff.__init__, random=lambda: case.get("random", 1))
    with mock.patch.object(ExponentialBackoff, "__init__", fixed):
        client = session.create_client(
            "ec2-instance-connect",
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=Config(retries={"mode": "standard", "total_max_attempts": case.get("max_attempts", 3)}),
        )
        client.meta.events.register("before-send.ec2-instance-connect", answer)
    return {**case, "made": [call() for _ in range(case.get("calls", 1))]}


def fixture():
    with tempfile.TemporaryDirectory() as home, isolated({}, home):
        requests = [request_case(case) for case in REQUESTS]
        session = botocore.session.Session()
        calls = [call_case(case, session) for case in CALLS]
    made = {
        "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": SECRET_ACCESS_KEY,
        "requests": requests,
        "configs": [config_case(case) for case in CONFIGS],
        "calls": calls,
    }
    return json.dumps(made, indent=1) + "\n"


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    made = fixture()
    if not arguments:
        FIXTURE.write_text(made)
    elif FIXTURE.read_text() != made:
        sys.exit(f"{FIXTURE.name} is not what botocore {botocore.__version__} makes; run this without --check and look")


main(sys.argv[1:])
