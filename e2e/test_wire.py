"""What every operation answers to every kind of request that is not right, byte for byte."""

import hashlib
import http.client
import json
import re
import sqlite3
import uuid
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from system import eventually
from wire import CONTENT_TYPE, SERVICE, Request, stamp

UNKNOWN_INSTANCE = "i-0fedcba9876543210"
FOREIGN_INSTANCE = "i-0aaaaaaaaaaaaaaa1"
STOPPED_INSTANCE = "i-0aaaaaaaaaaaaaaa2"

# Every operation with parameters that are right but for the instance, which is the first one.
OPERATIONS = {
    "SendSSHPublicKey": lambda dev, key: {
        "InstanceId": dev.first.id,
        "InstanceOSUser": dev.first.os_user,
        "SSHPublicKey": key.public,
    },
    "SendSerialConsoleSSHPublicKey": lambda dev, key: {
        "InstanceId": dev.first.id,
        "SSHPublicKey": key.public,
    },
}


def test_every_operation_has_its_rows():
    """Those of AWS's model, and those that our router knows."""
    model = botocore.session.get_session().get_service_model(SERVICE)
    assert set(model.operation_names) == set(OPERATIONS)
    router = Path(__file__).parent.parent / "crates/core/src/api/operation.rs"
    names = re.search(r"const fn name\(self\).*?\n    }", router.read_text(), re.DOTALL)[0]
    assert set(re.findall(r'=> "(\w+)"', names)) == set(OPERATIONS)


def framework(code, message=None):
    """A body of AWS's framework: a namespaced type and a lower-case member."""
    text = f'{{"__type":"com.amazon.coral.service#{code}"'
    return code, text + ("}" if message is None else f',"message":{json.dumps(message)}}}')


def modelled(code, message):
    """A body of the service's model: a bare type and a capital member."""
    return code, f'{{"__type":"{code}","Message":{json.dumps(message)}}}'


MISMATCH = framework(
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details.",
)
UNKNOWN_TOKEN = framework("UnrecognizedClientException", "The security token included in the request is invalid.")
NOT_JSON = framework("SerializationException")
NOT_THIS_PROTOCOL = ("UnknownOperationException", "<UnknownOperationException/>\n")

ROWS = {}


def row(expected, status=400):
    """Adds a row: the function changes a request that is right. `expected` gives code and body; `TIME` stands for any
    time in it."""

    def add(change):
        ROWS[change.__name__] = (change, status, expected if callable(expected) else lambda request: expected)
        return change

    return add


@row(framework("MissingAuthenticationTokenException", "Request is missing Authentication Token"))
def no_credentials(request):
    request.authorization = lambda right: None


@row(UNKNOWN_TOKEN)
def bogus_key(request):
    request.key_id = "AKIAAAAAAAAAAAAAAAAA"


@row(UNKNOWN_TOKEN)
def bogus_session_token(request):
    request.more_headers["x-amz-security-token"] = "token"


@row(MISMATCH)
def bad_signature(request):
    request.authorization = lambda right: right[:-1] + ("0" if right[-1] != "0" else "1")


@row(MISMATCH)
def wrong_secret(request):
    request.secret = "not the secret"


@row(MISMATCH)
def body_changed_after_signing(request):
    request.signed_body = request.content + b" "


@row(
    lambda request: framework(
        "IncompleteSignatureException",
        "Authorization header requires 'Signature' parameter. Authorization=" + incomplete(request),
    )
)
def signature_left_out(request):
    request.authorization = lambda right: incomplete(request)


def incomplete(request):
    scope = f"{stamp(request.time)[:8]}/us-east-1/{SERVICE}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential=AKIA/{scope}, SignedHeaders=host"


@row(
    lambda request: framework(
        "InvalidSignatureException",
        f"Signature expired: {stamp(request.time)} is now earlier than TIME (TIME - 5 min.)",
    )
)
def expired_signature(request):
    request.later(minutes=-6)


@row(
    lambda request: framework(
        "InvalidSignatureException",
        f"Signature not yet current: {stamp(request.time)} is still later than TIME (TIME + 5 min.)",
    )
)
def signature_from_the_future(request):
    request.later(minutes=6)


@row(framework("InvalidSignatureException", "Credential should be scoped to a valid region, not 'eu-west-1'. "))
def wrong_region(request):
    request.region = "eu-west-1"


@row(
    framework("InvalidSignatureException", "Credential should be scoped to correct service: 'ec2-instance-connect'. ")
)
def wrong_service(request):
    request.service = "ec2"


@row(
    framework(
        "InvalidSignatureException",
        "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
    )
)
def header_and_query_at_once(request):
    request.query = "X-Amz-Algorithm=AWS4-HMAC-SHA256"


@row(MISMATCH)
def unsorted_signed_headers(request):
    request.order = lambda names: sorted(names, reverse=True)


@row(MISMATCH)
def unsigned_amz_header(request):
    request.unsigned_headers.append(("x-amz-security-of-my-own", "1"))


@row(
    framework(
        "InvalidSignatureException",
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
    )
)
def host_not_signed(request):
    request.order = lambda names: sorted(set(names) - {"host"})


@row(framework("MissingAuthenticationTokenException", "Request is missing Authentication Token"))
def another_scheme(request):
    request.authorization = lambda right: "Bearer token"


def unsupported(algorithm):
    text = f"Unsupported AWS 'algorithm': '{algorithm}' (only AWS4-HMAC-SHA256 for now). "
    return framework("IncompleteSignatureException", text)


@row(unsupported("AWS4-ECDSA-P256-SHA256"))
def signature_of_the_asymmetric_kind(request):
    request.authorization = lambda right: right.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")


UNSIGNED_PAYLOAD = framework(
    "InvalidSignatureException",
    "The payload of a request to this service must be signed: 'x-amz-content-sha256' can be neither "
    "'UNSIGNED-PAYLOAD' nor 'STREAMING-...'.",
)


@row(UNSIGNED_PAYLOAD)
def unsigned_payload(request):
    request.more_headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"


@row(UNSIGNED_PAYLOAD)
def payload_signed_in_chunks(request):
    request.more_headers["x-amz-content-sha256"] = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"


@row(MISMATCH)
def body_of_which_only_a_header_says_what_it_is(request):
    request.signed_body = request.content + b" "
    request.more_headers["x-amz-content-sha256"] = hashlib.sha256(request.signed_body).hexdigest()


# Signed in the query.


@row(MISMATCH)
def presigned_with_another_secret(request):
    request.presigned, request.secret = {}, "not the secret"


@row(MISMATCH)
def presigned_for_another_body(request):
    request.presigned, request.signed_body = {}, request.content + b" "


@row(MISMATCH)
def presigned_with_something_added(request):
    request.presigned, request.signed_query = {}, lambda right: right + "&a=b"


@row(UNKNOWN_TOKEN)
def presigned_with_a_bogus_key(request):
    request.presigned, request.key_id = {}, "AKIAAAAAAAAAAAAAAAAA"


@row(UNKNOWN_TOKEN)
def presigned_with_a_bogus_session_token(request):
    request.presigned = {"X-Amz-Security-Token": "token"}


@row(
    lambda request: framework(
        "InvalidSignatureException",
        f"Signature expired: {stamp(request.time)} is now earlier than TIME (TIME - 1 min.)",
    )
)
def presigned_and_expired(request):
    request.presigned = {"X-Amz-Expires": "60"}
    request.later(minutes=-2)


@row(
    lambda request: framework(
        "InvalidSignatureException",
        f"Signature expired: {stamp(request.time)} is now earlier than TIME (TIME - 5 min.)",
    )
)
def presigned_without_end_and_too_old(request):
    request.presigned = {}
    request.later(minutes=-6)


@row(
    lambda request: framework(
        "InvalidSignatureException",
        f"Signature not yet current: {stamp(request.time)} is still later than TIME (TIME + 5 min.)",
    )
)
def presigned_in_the_future(request):
    request.presigned = {"X-Amz-Expires": "604800"}
    request.later(minutes=6)


@row(
    framework(
        "IncompleteSignatureException",
        "X-Amz-Expires must be a number of seconds from 1 to 604800. Got '604801'.",
    )
)
def presigned_for_more_than_a_week(request):
    request.presigned = {"X-Amz-Expires": "604801"}


def query_must_include(*names):
    sentences = [f"AWS query-string parameters must include '{name}'. " for name in names]
    text = "".join(sentences) + "Re-examine the query-string parameters."
    return framework("IncompleteSignatureException", text)


@row(query_must_include("X-Amz-Signature"))
def presigned_without_the_signature(request):
    request.presigned, request.signed_query = {}, lambda right: right.partition("&X-Amz-Signature=")[0]


@row(
    query_must_include(
        "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"
    )
)
def presigned_with_nothing(request):
    request.presigned, request.signed_query = {}, lambda right: "X-Amz-Algorithm"


@row(unsupported("AWS4-ECDSA-P256-SHA256"))
def presigned_with_a_signature_of_the_asymmetric_kind(request):
    request.presigned = {"X-Amz-Algorithm": "AWS4-ECDSA-P256-SHA256", "X-Amz-Region-Set": "*"}


@row(framework("InvalidSignatureException", "Credential should be scoped to a valid region, not 'eu-west-1'. "))
def presigned_for_another_region(request):
    request.presigned, request.region = {}, "eu-west-1"


@row(
    framework(
        "InvalidSignatureException",
        "Credential should be scoped to a valid region, not 'eu-west-1'. Credential should be scoped to correct "
        "service: 'ec2-instance-connect'. ",
    )
)
def presigned_for_another_region_and_service(request):
    request.presigned, request.region, request.service = {}, "eu-west-1", "ec2"


# Requests that another program may have understood differently. The connection ends with the answer.


def malformed(message):
    return framework("MalformedHttpRequestException", message)


@row(malformed("The request must not have more than one 'x-amz-target' header."))
def two_amz_headers(request):
    request.unsigned_headers.append(("X-Amz-Target", "AWSEC2InstanceConnectService.SendSSHPublicKey"))


@row(malformed("The request must not have more than one 'authorization' header."))
def two_signatures(request):
    request.unsigned_headers.append(("Authorization", "AWS4-HMAC-SHA256 Credential=a"))


@row(malformed("The request must not have more than one 'host' header."))
def two_hosts(request):
    request.unsigned_headers.append(("Host", "localhost"))


@row(malformed("The query string must not have more than one 'X-Amz-Expires' parameter."))
def two_ends(request):
    request.presigned = {"X-Amz-Expires": "60"}
    request.signed_query = lambda right: right + "&X-Amz-%45xpires=604800"


@row(malformed("The request target must be a path."))
def absolute_form(request):
    request.target_form = lambda path: request.dev.endpoint_url + path


@row(
    malformed(
        "The 'transfer-encoding' header is not supported. Send the body as it is, with its length in 'content-length'."
    )
)
def length_and_encoding(request):
    request.unsigned_headers.append(("transfer-encoding", "chunked"))


@row(
    lambda request: modelled(
        "AccessDeniedException",
        f"User: {request.dev.ready['limited']['arn']} is not authorized to perform: "
        f"ec2-instance-connect:{request.operation} on resource: "
        f"arn:aws:ec2:us-east-1:111122223333:instance/{request.dev.second.id} because no identity-based policy allows "
        f"the ec2-instance-connect:{request.operation} action",
    )
)
def not_allowed(request):
    request.caller = "limited"
    request.parameters["InstanceId"] = request.dev.second.id


@row(
    lambda request: modelled(
        "AccessDeniedException",
        f"User: {request.dev.ready['limited']['arn']} is not authorized to perform: "
        f"ec2-instance-connect:{request.operation} on resource: "
        f"arn:aws:ec2:us-east-1:111122223333:instance/{UNKNOWN_INSTANCE} because no identity-based policy allows "
        f"the ec2-instance-connect:{request.operation} action",
    )
)
def unknown_instance_and_not_allowed(request):
    # Who may not push to it does not learn whether it is there.
    request.caller = "limited"
    request.parameters["InstanceId"] = UNKNOWN_INSTANCE


@row(modelled("EC2InstanceNotFoundException", f"The instance {UNKNOWN_INSTANCE} was not found."))
def unknown_instance(request):
    request.parameters["InstanceId"] = UNKNOWN_INSTANCE


@row(modelled("EC2InstanceNotFoundException", f"The instance {FOREIGN_INSTANCE} was not found."))
def another_accounts_instance(request):
    request.parameters["InstanceId"] = FOREIGN_INSTANCE


@row(
    modelled(
        "InvalidArgsException",
        "2 validation errors detected: Value null at 'instanceId' failed to satisfy constraint: Member must not be "
        "null; Value 'key.pub' at 'sSHPublicKey' failed to satisfy constraint: Member must have length "
        "greater than or equal to 80. SSHPublicKey is the name of a file, not a key; send what is in the .pub file.",
    )
)
def wrong_members(request):
    del request.parameters["InstanceId"]
    request.parameters["SSHPublicKey"] = "key.pub"


@row(
    modelled(
        "InvalidArgsException",
        "Invalid input parameter received for Illegal argument exception: SSH Public key is invalid",
    )
)
def security_key(request):
    request.parameters["SSHPublicKey"] = "sk-ssh-ed25519@openssh.com " + "A" * 80


@row(
    modelled(
        "InvalidArgsException",
        "Invalid input parameter received for Illegal argument exception: SSH Public key is invalid. It begins with "
        "authorized_keys options; send only the key type, the base64 and a comment.",
    )
)
def authorized_keys_options(request):
    request.parameters["SSHPublicKey"] = 'command="id" ' + request.parameters["SSHPublicKey"]


@row(NOT_JSON)
def malformed_json(request):
    request.body = b'{"InstanceId":'


@row(NOT_JSON)
def no_body(request):
    request.body = b""


@row(NOT_JSON)
def not_an_object(request):
    request.body = b"[]"


@row(NOT_JSON)
def not_utf_8(request):
    request.body = b'{"InstanceId":"\xff"}'


@row(NOT_JSON)
def deep_json(request):
    request.body = b'{"a":' * 2000 + b"1" + b"}" * 2000


@row(NOT_JSON)
def member_of_another_type(request):
    request.parameters["InstanceId"] = 1


# What is malformed is said before who asks, and what is of another type after.


@row(NOT_JSON)
def malformed_json_by_nobody(request):
    malformed_json(request)
    no_credentials(request)


@row(MISMATCH)
def member_of_another_type_and_wrong_secret(request):
    member_of_another_type(request)
    wrong_secret(request)


@row(framework("RequestEntityTooLargeException", "Request entity is too large."), status=413)
def more_than_64_kib(request):
    request.parameters["Padding"] = "x" * 64 * 1024


@row(NOT_THIS_PROTOCOL, status=404)
def get(request):
    request.method, request.body = "GET", b""


@row(NOT_THIS_PROTOCOL, status=404)
def wrong_content_type(request):
    request.content_type = "application/json"


@row(framework("UnknownOperationException"))
def unknown_operation(request):
    request.target = f"AWSEC2InstanceConnectService.{request.operation}s"


@row(framework("UnknownOperationException"))
def operation_of_another_service(request):
    request.target = f"AWSEC2Service.{request.operation}"


@pytest.fixture(scope="session")
def inventory(dev):
    """Puts an instance of another account into the inventory, and one that is stopped. There is no administration yet
    to do it with, so the rows are written as the store writes them."""
    database = sqlite3.connect(dev.folder / "data/inventory.sqlite")
    with database:
        database.execute("INSERT INTO accounts VALUES ('999999999999', 'active', 0)")
        for instance, account, state in [
            (FOREIGN_INSTANCE, "999999999999", "running"),
            (STOPPED_INSTANCE, dev.ready["account_id"], "stopped"),
        ]:
            row = (instance, account, dev.region, f"{dev.region}a", state)
            database.execute("INSERT INTO instances (id, account, region, availability_zone, state) VALUES (?, ?, ?, ?, ?)", row)
        database.execute("UPDATE sequence SET value = value + 1")
    database.close()


@pytest.fixture
def request_for(dev, new_key, inventory):
    key = new_key()
    return lambda operation: Request(dev, operation, OPERATIONS[operation](dev, key))


def check(answer, status, code, body):
    """The whole of an answer (wire.md 1.8)."""
    pattern = re.escape(body).replace("TIME", r"\d{8}T\d{6}Z")
    text = answer.body.decode()
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (status, code), text
    assert re.fullmatch(pattern, text), text
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert answer.headers["content-length"] == str(len(answer.body))
    assert str(uuid.UUID(answer.headers["x-amzn-requestid"])) == answer.headers["x-amzn-requestid"]
    assert code != "MalformedHttpRequestException" or answer.headers["connection"] == "close"
    age = datetime.now(timezone.utc) - parsedate_to_datetime(answer.headers["date"])
    assert abs(age.total_seconds()) < 60


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", ROWS)
def test_answer(request_for, operation, name):
    change, status, expected = ROWS[name]
    request = request_for(operation)
    change(request)
    check(request.send(), status, *expected(request))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_request_that_is_right_is_not_any_of_these(request_for, operation):
    answer = request_for(operation).send()
    if operation == "SendSerialConsoleSSHPublicKey":
        message = "Serial console access is not enabled for this account."
        check(answer, 400, *modelled("SerialConsoleAccessDisabledException", message))
    else:
        request_id = answer.headers["x-amzn-requestid"]
        assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPE)
        assert answer.body.decode() == f'{{"RequestId":"{request_id}","Success":true}}'


@pytest.mark.parametrize("presigned", [{}, {"X-Amz-Expires": "60"}, {"X-Amz-Expires": "604800"}])
def test_a_presigned_request_that_is_right_succeeds(request_for, presigned):
    request = request_for("SendSSHPublicKey")
    request.presigned = presigned
    answer = request.send()
    request_id = answer.headers["x-amzn-requestid"]
    assert answer.status == 200, answer.body
    assert answer.body.decode() == f'{{"RequestId":"{request_id}","Success":true}}'


def test_a_date_header_says_when_a_request_was_signed(request_for):
    """botocore sends it in place of X-Amz-Date where its caller has set one."""
    request = request_for("SendSSHPublicKey")
    connection = request.connection()
    headers = {
        "content-type": CONTENT_TYPE,
        "x-amz-target": "AWSEC2InstanceConnectService.SendSSHPublicKey",
        "date": "any",
    }
    url = f"http://{connection.host}:{connection.port}/"
    signed = AWSRequest("POST", url, headers, request.content)
    admin = request.dev.ready["admin"]
    credentials = Credentials(admin["access_key_id"], admin["secret_access_key"])
    SigV4Auth(credentials, SERVICE, request.dev.region).add_auth(signed)
    assert "x-amz-date" not in signed.headers and "date" in signed.headers
    connection.request("POST", "/", request.content, dict(signed.headers))
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["Success"]) == (200, True)


def test_one_connection_takes_requests_and_errors_in_turn(request_for):
    """After whatever answer the connection stays open, and the next request is answered for itself."""
    connection = request_for("SendSSHPublicKey").connection()
    connection.connect()
    first_socket = connection.sock
    for change in [None, unknown_operation, None, deep_json, bogus_key, get, bad_signature, unknown_instance, None]:
        request = request_for("SendSSHPublicKey")
        if change:
            change(request)
        answer = request.send(connection)
        assert answer.status == (ROWS[change.__name__][1] if change else 200)
        assert connection.sock is first_socket
    connection.close()


def test_64_kib_is_the_largest_body_and_16_the_deepest(request_for):
    def answer(padding):
        request = request_for("SendSSHPublicKey")
        request.parameters["Padding"] = padding
        return request, request.send()

    request, _ = answer("")
    room = 64 * 1024 - len(request.content)
    nested = lambda levels: json.loads("[" * levels + "]" * levels)  # noqa: E731
    for padding, status in [("x" * room, 200), ("x" * (room + 1), 413), (nested(15), 200), (nested(16), 400)]:
        assert answer(padding)[1].status == status


@pytest.mark.parametrize("change", [more_than_64_kib, wrong_content_type])
def test_after_a_body_that_is_left_unread_the_next_request_is_still_answered(request_for, change):
    """What is left unread must not be taken for the next request: the server may close, but says so."""
    connection = request_for("SendSSHPublicKey").connection()
    request = request_for("SendSSHPublicKey")
    change(request)
    assert request.send(connection).status == ROWS[change.__name__][1]
    # A new connection where the answer said that this one ends; the same one otherwise.
    assert request_for("SendSSHPublicKey").send(connection).status == 200
    connection.close()


def test_nonsense_instead_of_http_is_answered_and_closed(dev):
    connection = http.client.HTTPConnection(dev.endpoint_url.removeprefix("http://"), timeout=60)
    connection.connect()
    connection.sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    answer = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    connection.close()


# As AWS's own SDK names them to a program.


def boto3_error(dev, instance, key, caller="admin", **more):
    client = dev.client(caller)
    with pytest.raises(ClientError) as raised:
        if more.pop("serial", False):
            client.send_serial_console_ssh_public_key(InstanceId=instance, SSHPublicKey=key.public)
        else:
            user = more.pop("user", dev.first.os_user)
            client.send_ssh_public_key(InstanceId=instance, InstanceOSUser=user, SSHPublicKey=key.public)
    return client.exceptions, raised.value


def test_boto3_knows_an_unknown_instance(dev, new_key):
    exceptions, error = boto3_error(dev, UNKNOWN_INSTANCE, new_key())
    assert isinstance(error, exceptions.EC2InstanceNotFoundException)
    assert error.response["Error"]["Message"] == f"The instance {UNKNOWN_INSTANCE} was not found."


def test_boto3_knows_a_stopped_instance(dev, new_key, inventory):
    def stopped():
        exceptions, error = boto3_error(dev, STOPPED_INSTANCE, new_key())
        # Until the server has read the row.
        return not isinstance(error, exceptions.EC2InstanceNotFoundException) and (exceptions, error)

    exceptions, error = eventually(stopped, "the stopped instance is known", within=10)
    assert isinstance(error, exceptions.EC2InstanceStateInvalidException)
    assert error.response["Error"]["Message"] == "The instance must be running to connect to it; it is stopped."


def test_boto3_knows_a_serial_console_that_is_not_switched_on(dev, new_key):
    exceptions, error = boto3_error(dev, dev.first.id, new_key(), serial=True)
    assert isinstance(error, exceptions.SerialConsoleAccessDisabledException)


def test_boto3_knows_arguments_that_are_wrong(dev, new_key):
    exceptions, error = boto3_error(dev, dev.first.id, new_key(), user="not a user")
    assert isinstance(error, exceptions.InvalidArgsException)


def test_boto3_knows_that_a_user_may_not(dev, new_key):
    _exceptions, error = boto3_error(dev, dev.second.id, new_key(), caller="limited")
    assert error.response["Error"]["Code"] == "AccessDeniedException"
    metadata = error.response["ResponseMetadata"]
    (record,) = dev.audit(metadata["RequestId"])
    assert (record["errorCode"], record["responseElements"]) == ("AccessDeniedException", None)
    assert record["userIdentity"]["arn"] == dev.ready["limited"]["arn"]
